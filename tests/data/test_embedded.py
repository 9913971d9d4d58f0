"""The embedded UI-PRMD set, and how a command line names a store."""

import time

import numpy as np
import pytest

from aimclr_fast.data import EMBEDDED, StoreError, open_embedded, open_store, resolve_store, split


@pytest.fixture(scope="module")
def store():
    return open_embedded()


def test_contents(store):
    assert store.positions.shape == (2000, 3, 50, 22, 1)
    assert store.layout.name == "ui-prmd"
    assert np.bincount(store.labels).tolist() == [100] * 20
    assert len(store.class_names) == 20
    samples = store.samples
    assert samples.keys() == {"name", "label", "movement", "incorrect", "subject", "episode"}
    np.testing.assert_array_equal(
        store.labels, (samples["movement"] - 1) * 2 + samples["incorrect"]
    )
    for row in (0, 777, 1999):
        how = "incorrect" if samples["incorrect"][row] else "correct"
        assert store.class_names[store.labels[row]].endswith(f", {how}")
        assert samples["name"][row].startswith(f"m{samples['movement'][row]:02}_")
    assert "Vakanski" in store.meta["citation"]
    assert store.meta["licence"] == "ODC-PDDL-1.0"


def test_positions_are_preprocessed_humans_in_meters(store):
    x = store.as_tensor().numpy()
    layout = store.layout
    assert not x[:, :, :, layout.center].any()
    left, right = layout.shoulders
    across = x[:, :, :, right, 0] - x[:, :, :, left, 0]
    assert not across[:, 2].any()
    assert (across[:, 0] > 0).all()
    assert 0.25 < np.median(across[:, 0]) < 0.45
    # Bones as long as human ones, and y is up.
    bones = np.linalg.norm(x - x[:, :, :, layout.parents], axis=1)[..., 0]
    assert bones.max() < 0.7
    assert np.median(x[:, 1, :, layout.joints.index("head_tip")]) > 0.15
    assert np.median(x[:, 1, :, layout.joints.index("left_foot")]) < -0.7


def test_cross_subject_split(store):
    train, test = split(store, "xsub")
    subject = store.samples["subject"]
    assert set(subject[train]) == {1, 3, 5, 7, 9}
    assert set(subject[test]) == {2, 4, 6, 8, 10}
    assert len(train) == len(test) == 1000
    np.testing.assert_array_equal(split(store, "odd-even"), (train, test))


def test_files_are_whole_small_and_quick_to_open(store):
    open_store(store.path, verify=True)
    files = {file.name: file.stat().st_size for file in store.path.iterdir()}
    assert {"LICENCE", "CITATION"} < files.keys()
    assert sum(files.values()) < 8_000_000
    start = time.perf_counter()
    open_embedded()
    assert time.perf_counter() - start < 2  # a tenth of a second on an idle machine


def test_resolve_store(store, tmp_path, monkeypatch):
    assert EMBEDDED == ("ui_prmd", "ui_prmd_unaligned")
    assert resolve_store("ui_prmd").path == store.path
    assert resolve_store(store.path).path == store.path
    assert resolve_store(str(store.path)).num_samples == 2000
    (tmp_path / "ui_prmd").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"meta\.json: no such file"):
        resolve_store("./ui_prmd")
    assert resolve_store("ui_prmd").path == store.path


def test_resolve_store_says_what_there_is():
    with pytest.raises(ValueError, match=r"'ui_pmrd' is neither an embedded data set \(ui_prmd, "):
        resolve_store("ui_pmrd")
    with pytest.raises(ValueError, match="unknown embedded data set 'ntu'"):
        open_embedded("ntu")
