"""Stores of arrays of joint positions, by scripts/make_arrays_store.py."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data.readers.recordings import motion

from aimclr_fast.data import open_store, split
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.layouts import get_layout

SCRIPTS = Path(__file__).parents[2] / "scripts"
LENGTHS = (20, 73, 31, 50)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import make_arrays_store

    return make_arrays_store


def arrays(folder, joints, **columns):
    bodies = [motion(i, joints, frames) for i, frames in enumerate(LENGTHS)]
    xyz = np.rint(1000 * np.concatenate(bodies)).astype(np.int16)
    offsets = np.cumsum([0, *LENGTHS])
    np.savez(folder / "x.npz", xyz_mm=xyz, offsets=offsets, **columns)
    return [xyz[a:b] / 1000 for a, b in pairwise(offsets)]


def make(script, monkeypatch, folder, *flags):
    out = folder / f"store{len(list(folder.iterdir()))}"
    monkeypatch.setattr(sys, "argv", ["make", str(folder / "x.npz"), str(out), *flags])
    script.main()
    return open_store(out, verify=True)


ACTIONS = {
    "action": np.int8([1, 2, 1, 2]), "subject": np.int8([1, 1, 2, 2]), "trial": np.int8([1] * 4),
}  # fmt: skip


@pytest.mark.parametrize("normalize", ["frame", "sequence"])
@pytest.mark.parametrize("name", ["utd_mhad", "kard", "msr_action3d"])
def test_actions(script, monkeypatch, tmp_path, name, normalize):
    layout = get_layout(script.DATASETS[name].layout)
    recorded = arrays(tmp_path, layout.num_joints, **ACTIONS)
    store = make(script, monkeypatch, tmp_path, "--dataset", name, "--normalize", normalize)
    assert store.positions.dtype == np.int16
    assert store.layout == layout
    assert store.labels.tolist() == [0, 1, 0, 1]
    assert store.samples["name"].tolist() == ["a1_s1_t1", "a2_s1_t1", "a1_s2_t1", "a2_s2_t1"]
    np.testing.assert_array_equal(np.stack(split(store, "xsub")), [[0, 1], [2, 3]])
    steps = Preprocessing(50, "exact", "fill", normalize)
    assert store.preprocessing == steps
    for row, x in enumerate(recorded):
        if name == "kard":  # OpenNI's x grows to the sensor's right
            x = x * [-1, 1, 1]
        expected = steps(x.transpose(2, 0, 1)[..., None], layout)
        np.testing.assert_allclose(store.as_tensor(row), expected, rtol=0, atol=6e-4)


def test_styles_and_the_embedded_sets_columns(script, monkeypatch, tmp_path):
    arrays(
        tmp_path, 21, content=np.int8([0, 1, 1, 0]), style=np.int8([0, 0, 0, 1]),
        contents=np.array(["run", "walk"]), styles=np.array(["calm", "wild"]),
    )  # fmt: skip
    store = make(script, monkeypatch, tmp_path, "--dataset", "bandai2")
    assert store.class_names == ("run", "walk")
    assert store.samples["name"].tolist() == [
        "run_calm_001", "walk_calm_001", "walk_calm_002", "run_wild_001"
    ]  # fmt: skip
    train, test = split(store, "no-wild")
    assert (train.tolist(), test.tolist()) == ([0, 1, 2], [3])
    train, test = split(store, "no-calm")
    assert (train.tolist(), test.tolist()) == ([3], [0, 1, 2])
    columns = {
        "movement": np.int8([1, 1, 2, 10]), "incorrect": np.int8([0, 1, 0, 1]),
        "subject": np.int8([1, 2, 3, 4]), "episode": np.int8([1, 2, 3, 4]),
    }  # fmt: skip
    arrays(tmp_path, 22, **columns)
    store = make(script, monkeypatch, tmp_path, "--dataset", "ui_prmd")
    assert store.labels.tolist() == [0, 1, 2, 19]
    assert store.samples["name"][3] == "m10_s04_e04_incorrect"
    assert "public domain" in (store.path / "LICENCE").read_text()


def test_a_sequence_too_long_for_millimeters(script, monkeypatch, tmp_path):
    arrays(tmp_path, 15, **ACTIONS)
    with np.load(tmp_path / "x.npz") as file:
        data = dict(file)
    xyz = data["xyz_mm"].astype(int)
    xyz[: LENGTHS[0], :, 2] += np.linspace(-32000, 30000, LENGTHS[0]).astype(int)[:, None]
    data["xyz_mm"] = xyz.clip(-32768, 32767).astype(np.int16)
    np.savez(tmp_path / "x.npz", **data)
    with pytest.raises(SystemExit, match="sequence 0 reaches beyond 32 m"):
        make(script, monkeypatch, tmp_path, "--dataset", "kard", "--normalize", "sequence")
