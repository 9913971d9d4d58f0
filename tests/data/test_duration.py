"""How long sequences last: kept from the source to the encoder, and compared when it is used."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from data.readers.bvh_files import bvh_text
from data.readers.recordings import motion
from encoders import checkpoint, save

from aimclr_fast import load_encoder
from aimclr_fast.config import TrainConfig
from aimclr_fast.data import StoreError, open_embedded, open_store, resolve_store
from aimclr_fast.data.duration import Duration, clearly_other, joined_duration
from aimclr_fast.data.readers import ReadError
from aimclr_fast.data.timing import Timing
from aimclr_fast.export import export
from aimclr_fast.inference.recordings import read_parts
from aimclr_fast.inference.streaming import StreamingClassifier
from aimclr_fast.prepare import command_line
from aimclr_fast.training.run_folder import data_identity, open_run

WALKS = Duration(1.0, 2.0, 4.0, fps=30.0)
WINDOWS = Duration(4.0, 4.0, 4.0, 4.0, 30.0)


def test_seconds_by_frames_and_rates():
    found = Duration.of([30, 60, 240], [30.0, 30.0, 60.0])
    assert found is not None
    assert (found.median, found.window, found.fps) == (2.0, None, None)
    assert 1.0 <= found.low < 2.0 < found.high <= 4.0
    assert Duration.of([120] * 3, [1 / 0.0333333] * 3, 4.0) == Duration(4.0, 4.0, 4.0, 4.0, 30.0)
    assert Duration.of([1], [5000.0]) is not None
    assert Duration.of([30, 30], [30.0, None]) is None
    assert Duration.of([], []) is None


@pytest.mark.parametrize(
    "changed", [{"low": 0}, {"median": "2"}, {"high": float("inf")}, {"window": -1}, {"more": 1}]
)
def test_other_fields_in_a_file_are_refused(changed):
    with pytest.raises(ValueError, match=r"must be a positive number|expected the fields"):
        Duration.from_dict({**WALKS.to_dict(), **changed})


def test_of_several_stores():
    both = joined_duration([WALKS, Duration(3.0, 5.0, 9.0, fps=60.0)], [3, 1])
    assert both == Duration(1.0, 2.0, 9.0)
    assert joined_duration([WALKS, None], [1, 1]) is None


@pytest.mark.parametrize(
    ("trained", "given", "resized", "message"),
    [
        (WINDOWS, Duration(2.0, 2.0, 2.0, 2.0, 30.0), True, r"windows of 2 s.*\(--window 4s\)"),
        (WINDOWS, Duration(9.0, 9.0, 9.0, 9.0, 30.0), True, r"windows of 9 s.*\(--window 4s\)"),
        (WINDOWS, Duration(3.0, 60.0, 60.0), True, "taken whole.*--window 4s cuts"),
        (WINDOWS, Duration(1.0, 2.0, 2.5), True, "and these 1 to 2.5 s.* whole: results suffer$"),
        (WALKS, Duration(0.3, 0.5, 0.6, fps=30.0), True, "these 0.3 to 0.6 s.*: results suffer$"),
        (WINDOWS, None, True, "not known: --rate with --window 4s"),
        (WALKS, Duration(9.0, 9.0, 9.0, 9.0), True, "last 1 to 4 s, 2 s in the median, and these"),
        (WALKS, Duration(2.0, 2.0, 2.0, fps=120.0), False, r"120 frames.*\(--fps 30\)"),
        (WALKS, Duration(2.0, 2.0, 2.0), False, "several rates"),
        (WINDOWS, Duration(1.0, 2.0, 3.0), True, ""),
        (WINDOWS, Duration(4.5, 4.5, 4.5, 4.5, 60.0), True, ""),
        (WALKS, Duration(0.9, 2.0, 5.0, fps=120.0), True, ""),
        (WALKS, Duration(2.0, 2.0, 2.0, fps=25.0), False, ""),
        (WALKS, None, True, ""),
    ],
)
def test_only_what_is_clearly_other_is_said(trained, given, resized, message):
    said = clearly_other(trained, given, resized=resized)
    if message:
        assert re.search(message, said)
    else:
        assert said == ""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Windows of 1 s of two recordings, and the checkpoint of an encoder of them."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "in").mkdir()
    for n in range(2):
        text = bvh_text(seed=n, frames=91, time="0.0333333")
        (folder / "in" / f"{n}.bvh").write_text(text)
    command_line(["bvh", str(folder / "in"), str(folder / "st"), "--window=1s", "--jobs=1"])
    save(checkpoint(open_store(folder / "st")), folder / "x.pt")
    return folder


def test_from_the_store_to_the_encoder(prepared):
    store, expected = open_store(prepared / "st"), Duration(1.0, 1.0, 1.0, 1.0, 30.0)
    assert store.duration == expected
    encoder = load_encoder(prepared / "x.pt", device="cpu")
    assert encoder.traits.duration == expected
    assert "each windows of 1 s" in repr(encoder)
    export(encoder, prepared / "x.safetensors", "safetensors")
    again = load_encoder(prepared / "x.safetensors", device="cpu")
    assert again.traits == encoder.traits


def test_files_of_versions_that_did_not_keep_it(prepared, tmp_path):
    state = checkpoint(open_embedded("ui_prmd"))
    assert "duration" not in state["data"]
    encoder = load_encoder(save(state, tmp_path / "old.pt"), device="cpu")
    assert encoder.traits.duration is None
    assert "each" not in repr(encoder)
    values = encoder.traits.to_dict()
    del values["duration"]
    assert type(encoder.traits).from_dict(values) == encoder.traits


def test_a_wrong_field_is_refused(prepared, tmp_path):
    state = checkpoint(open_store(prepared / "st"))
    state["data"]["duration"] = {"low": "1"}
    with pytest.raises(ValueError, match=r"does not say what its data were like .*fields low"):
        load_encoder(save(state, tmp_path / "x.pt"), device="cpu")
    folder = tmp_path / "st"
    folder.mkdir()
    for file in (prepared / "st").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    meta = json.loads((folder / "meta.json").read_text())
    meta["duration"]["fps"] = "fast"
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(StoreError, match=r"meta\.json: duration: fps must be a positive number"):
        open_store(folder)


def test_joined_stores_have_one(prepared):
    shutil.copytree(prepared / "st", prepared / "more")
    both = resolve_store(f"{prepared / 'st'},{prepared / 'more'}")
    assert both.duration == open_store(prepared / "st").duration


def test_a_run_goes_on_whether_or_not_it_was_known(prepared, tmp_path):
    store = open_store(prepared / "st")
    data = data_identity(store, torch.arange(len(store)))
    without = {name: value for name, value in data.items() if name != "duration"}
    assert without != data
    config = TrainConfig(output=str(tmp_path / "run"), resume="auto")
    run = open_run(config, without)
    run.describe(config, without)
    run.close()
    open_run(config, data).close()


def read(prepared, scratch, *, timing=None, source="in", **changes):
    encoder = load_encoder(prepared / "x.pt", device="cpu")
    encoder.traits = dataclasses.replace(encoder.traits, **changes)
    source = prepared / source if isinstance(source, str) else source
    return read_parts(source, encoder, scratch, timing=timing).notes


def test_other_windows_and_whole_recordings_are_said(prepared, tmp_path):
    said = read(prepared, tmp_path / "a")
    assert any("these 3 s, taken whole: results suffer (--window 1s cuts" in note for note in said)
    said = read(prepared, tmp_path / "b", timing=Timing(window=2.5))
    assert any("and these are windows of 2.5 s: results suffer" in note for note in said)
    said = read(prepared, tmp_path / "c", timing=Timing(window=1.2, hop=0.5))
    assert not any(note.startswith("length:") for note in said)
    said = read(prepared, tmp_path / "d", duration=None)
    assert not any(note.startswith("length:") for note in said)


def test_recordings_without_a_rate(prepared, tmp_path):
    layout = open_store(prepared / "st").layout
    np.save(tmp_path / "x.npy", motion(0, layout.num_joints, 30))
    said = read(prepared, tmp_path / "a", source=tmp_path / "x.npy")
    assert any("how long these last is not known: --rate with --window 1s" in n for n in said)
    said = read(prepared, tmp_path / "b", source=tmp_path / "x.npy", timing=Timing(rate=30.0))
    assert not any(note.startswith("length:") for note in said)
    with pytest.raises(ReadError, match="--rate 30: the recordings say their frame rate"):
        read(prepared, tmp_path / "c", timing=Timing(rate=30.0))


def test_the_rate_alone_is_kept(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", motion(0, frames=50))
    command_line(
        ["folder", str(tmp_path / "in"), str(tmp_path / "st"), "--layout=ui-prmd", "--rate=25",
         "--jobs=1"]
    )  # fmt: skip
    assert open_store(tmp_path / "st").duration == Duration(2.0, 2.0, 2.0, None, 25.0)
    assert "seconds of a sequence: 2 s" in capsys.readouterr().out


def test_live_windows_of_another_length_are_warned_of(prepared):
    encoder = load_encoder(prepared / "x.pt", device="cpu")
    with pytest.warns(UserWarning, match=r"last windows of 1 s, and these windows 3 s, at 30"):
        StreamingClassifier(encoder, fps=30, window=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StreamingClassifier(encoder, fps=60, window=1)
