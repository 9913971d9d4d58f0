"""The encoder that comes with the package is what its card says, and what the command gives."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from aimclr_fast import load_encoder
from aimclr_fast.data import resolve_store, split
from aimclr_fast.data.store import sha256
from aimclr_fast.evaluation.knn import knn_accuracy
from aimclr_fast.export import command_line as export
from aimclr_fast.inference.pretrained import PRETRAINED, encoder_card, pretrained_file

SEEDS = Path(__file__).parents[2] / "benchmarks" / "results" / "unaligned_recipe.csv"


@pytest.fixture(scope="module", params=PRETRAINED)
def shipped(request):
    """Its name, card, encoder, and features and labels of the training and test samples."""
    card, encoder = encoder_card(request.param), load_encoder(request.param, device="cpu")
    store = resolve_store(card["data"]["store"])
    sides = [
        (
            encoder(store.as_tensor(rows).permute(0, 4, 2, 3, 1), preprocessed=True),
            torch.from_numpy(store.labels[rows]),
        )
        for rows in split(store, card["data"]["split"])
    ]
    return request.param, card, encoder, sides


def test_the_file_is_small_and_the_one_that_the_card_is_of(shipped):
    name, card, *_ = shipped
    file = pretrained_file(name)
    assert file is not None
    assert file.stat().st_size < 2e6
    assert sha256(file) == card["sha256"]
    assert resolve_store(card["data"]["store"]).checksums() == card["data"]["checksums"]
    assert {"licence", "citation"} <= card["data"].keys()


def test_it_scores_what_the_card_says(shipped):
    """To a few samples in a thousand, since other processors round otherwise."""
    _, card, encoder, ((train, train_labels), (test, test_labels)) = shipped
    found = card["test_scores"]["pretrained encoder"]
    for k in (1, 20):
        score = knn_accuracy(train, train_labels, test, test_labels, k)
        assert score == pytest.approx(found[f"knn_{k}"], abs=0.006)
    store = resolve_store(card["data"]["store"])
    rows = split(store, card["data"]["split"])[1]
    told = encoder.classify(store.as_tensor(rows).permute(0, 4, 2, 3, 1), preprocessed=True)
    names = [store.class_names[label] for label in store.labels[rows]]
    right = np.mean([a == b for a, b in zip(told.names, names, strict=True)])
    assert right == pytest.approx(card["classifier_test_accuracy"], abs=0.006)


def test_the_scores_are_those_of_the_command_within_the_noise_of_seeds(shipped):
    _, card, *_ = shipped
    with SEEDS.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["row"] == "pretrained encoder"]
    assert len({row["seed"] for row in rows}) >= 5
    for name, score in card["test_scores"]["pretrained encoder"].items():
        if name in rows[0]:
            known = [float(row[name]) for row in rows]
            spread = max(statistics.stdev(known), 0.01)
            assert abs(score - statistics.mean(known)) < 3 * spread, name


def test_a_file_of_that_name_is_written_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pretrained_file("./ui_prmd") is None
    with pytest.raises(Exception, match="no such"):
        load_encoder("./ui_prmd")
    with pytest.raises(ValueError, match="no encoder 'x' comes with this package: ui_prmd"):
        encoder_card("x")


def test_it_is_exported_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    export(["ui_prmd"])
    assert "ui_prmd.safetensors: 128 features" in capsys.readouterr().out
    again = load_encoder("ui_prmd.safetensors", device="cpu")
    assert again.class_names == load_encoder("ui_prmd", device="cpu").class_names
