"""What best.pt is chosen on: validation samples or training subjects, never the test samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="not on every GPU machine")

from aimclr_fast.data import open_embedded, split, splits, write_store
from aimclr_fast.evaluation.knn import knn_accuracy
from aimclr_fast.evaluation.labeled_data import open_labeled_data
from aimclr_fast.inference.features import encode
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.training.distributed import Ranks
from aimclr_fast.training.monitor import Monitor
from aimclr_fast.training.selection import open_selection

FOLDS = "the training samples, in 4 folds that part the subjects"


def store_of(folder, labels, **columns):
    positions = np.random.default_rng(0).normal(size=(len(labels), 3, 8, 22, 1))
    names = [f"s{i}" for i in range(len(labels))]
    return write_store(
        folder,
        positions.astype(np.float32),
        {"name": names, "label": labels, "side": ["train", "test"] * (len(labels) // 2), **columns},
        layout="ui-prmd",
        splits={"side": {"column": "side", "train": ["train"], "test": ["test"]}},
    )


def opened(store, name="side"):
    train, _ = split(store, name)
    return torch.from_numpy(train), open_selection(store, name, torch.from_numpy(train))


def test_folds_part_the_training_subjects():
    store = open_embedded()
    train, found = opened(store, "xsub")
    subjects = store.samples["subject"][train.numpy()]
    assert len(found.folds) == 5
    assert found.k == 20
    assert found.where == "the training samples, in 5 folds that part the subjects"
    for fit, held in found.folds:
        assert not set(subjects[fit.numpy()]) & set(subjects[held.numpy()])
    asked = torch.cat([held for _, held in found.folds])
    assert asked.sort().values.tolist() == list(range(len(train)))


@pytest.mark.parametrize("subjects", [None, [1] * 48, np.repeat(range(6), 8).tolist()])
def test_no_recording_is_on_both_sides_of_a_fold(subjects, tmp_path):
    """Windows of one recording are near copies of each other."""
    recordings = np.repeat([f"r{i}" for i in range(12)], 4)
    columns = {"recording": recordings.tolist()} | ({"subject": subjects} if subjects else {})
    store = store_of(tmp_path / "x", np.repeat([0, 1], 4).tolist() * 6, **columns)
    train, found = opened(store)
    several = subjects is not None and len(set(subjects)) > 1
    assert found.where.endswith("that part the " + ("subjects" if several else "recordings"))
    data = open_labeled_data(store, "side")  # `evaluate` parts them likewise
    own = recordings[train.numpy()]
    for folds in (found.folds, data.folds()):
        for fit, held in folds:
            assert not set(own[fit.numpy()]) & set(own[held.numpy()])


@pytest.mark.parametrize(
    "columns",
    [{}, {"subject": [1] * 48}, {"subject": ["P1"] * 48}],
    ids=["none", "one", "one by name"],
)
def test_without_subjects_folds_part_the_samples(tmp_path, columns):
    train, found = opened(store_of(tmp_path / "x", [0, 0, 1, 1] * 12, **columns))
    assert found.where == "the training samples, in 5 folds that part the samples"
    assert found.k == 1
    for _, held in found.folds:
        assert len(held) >= len(train) // 5 - 1


def test_subjects_may_have_names_and_classes_few_samples(tmp_path):
    labels, subjects = [0, 0, 0, 0, 1, 1] * 2, ["anna", "anna", "bo", "bo", "anna", "cy"] * 2
    _, found = opened(store_of(tmp_path / "x", labels, subject=subjects))
    assert "subjects" in found.where
    assert opened(store_of(tmp_path / "y", [0, 0, 1, 1, 2, 2]))[1] is None  # one of each class


def test_a_store_without_labels_chooses_nothing(tmp_path):
    x = np.ones((4, 3, 8, 22, 1), np.float32)
    store = write_store(tmp_path / "x", x, {"name": list("abcd")}, layout="ui-prmd")
    assert opened(store, "all")[1] is None


@pytest.mark.parametrize("validates", [False, True])
def test_no_test_sample_has_a_part_in_the_score(tmp_path, monkeypatch, validates):
    labels = np.random.default_rng(1).integers(0, 3, 64)
    store = store_of(tmp_path / "x", labels, subject=[i // 4 % 4 for i in range(64)])
    if validates:  # odd rows test; some of them validate here instead
        monkeypatch.setattr(splits, "validation", lambda *_: np.array([1, 5, 9]))
    train, selection = opened(store)
    assert selection.where == ("3 validation samples" if validates else FOLDS)
    test = torch.arange(3, 64, 4)
    torch.manual_seed(0)
    encoder = SkeletonEncoder(STGCN(get_layout("ui-prmd"), channels=2, features=8), embedding=4)
    data, scores = torch.from_numpy(np.array(store.positions)), []
    for shift in (0, 1):
        known = torch.from_numpy(labels.copy())
        known[test] = (known[test] + shift) % 3
        monitor = Monitor(
            data, known, train, test, stream="joint", batch_size=16, selection=selection
        )
        scores.append(monitor.score(encoder))
    assert scores[0].selection == scores[1].selection
    assert scores[0].knn_1 != scores[1].knn_1
    features, classes = encode(encoder, data), torch.from_numpy(labels)
    if validates:
        val = torch.tensor([1, 5, 9])
        by_hand = knn_accuracy(features[train], classes[train], features[val], classes[val], 20)
    else:
        right = [
            len(out) * knn_accuracy(
                features[train[fit]], classes[train[fit]],
                features[train[out]], classes[train[out]], selection.k,
            )
            for fit, out in selection.folds
        ]  # fmt: skip
        by_hand = sum(right) / len(train)
    assert scores[0].selection == pytest.approx(by_hand)


class Part(Ranks):
    """One of several processes, which hears of no other."""

    def __init__(self, rank, size):
        super().__init__()
        self.rank, self.size = rank, size

    def collect(self, value):
        return [value]


def test_several_processes_ask_each_sample_once():
    store = open_embedded()
    train, selection = opened(store, "xsub")
    features = torch.randn(len(train), 8, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(np.array(store.labels))

    def score(rank, size):
        monitor = Monitor(
            torch.zeros(0), labels, train, train, stream="joint", batch_size=1,
            ranks=Part(rank, size), selection=selection,
        )  # fmt: skip
        return monitor._select(None, features)

    parts = [score(rank, 3) for rank in range(3)]
    assert all(parts)
    assert sum(parts) == pytest.approx(score(0, 1))
