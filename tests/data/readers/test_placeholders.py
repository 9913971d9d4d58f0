"""Numbers that stand for what is missing are called so, and neither read nor taken for a unit."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.saved_tables import LAYOUT, MOTION, text
from data.readers.test_annotations import write_arrays
from data.readers.test_ntu import read_all
from data.readers.test_strangers import refused

from aimclr_fast.data.readers import Recording
from aimclr_fast.prepare import command_line

VALUES = [-9999.0, -999.0, -1.0, 999.0, 9999.0, 1e6, -1e6, -32768.0, 1e10, 3.4028235e38]
WORDS = "times and is not a position: it seems to mark missing values; replace it with NaN"


def lost(value, x=MOTION, frames=slice(3, 6), joints=(7, 8)):
    x = x.copy()
    x[frames, list(joints)] = value
    return x


def as_array(folder, x):
    np.save(folder / "a.npy", x)
    return "folder", folder


def as_table(folder, x):
    (folder / "a.csv").write_text(
        text([list(map(repr, row)) for row in x.reshape(len(x), -1).tolist()])
    )
    return "folder", folder


def as_pyskl(folder, x):
    entry = {"frame_dir": "a", "label": 0, "keypoint": x[None]}
    (folder / "a.pkl").write_bytes(pickle.dumps([entry]))
    return "pyskl", folder / "a.pkl"


def as_json(folder, x):
    data = {"file_name": "a01_s01_e00_v01", "skeletons": x.tolist(), "label": 1}
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps(data))
    return "nw_ucla", folder


def as_official(folder, x):
    x = x.transpose(2, 0, 1)[None, ..., None]
    write_arrays(folder, {"train": x, "val": x})
    return "official", folder


@pytest.mark.parametrize(
    ("source", "value"),
    [*((as_array, value) for value in VALUES),
     *((source, -9999.0) for source in (as_table, as_pyskl, as_json, as_official))],
)  # fmt: skip
def test_placeholders_are_refused(tmp_path, source, value):
    options = {} if source is as_json else {"layout": LAYOUT, "pose": "3d"}
    assert f"{value:g} occurs 18 {WORDS}" in refused(*source(tmp_path, lost(value)), **options)


@pytest.mark.parametrize("unit", ["mm", "cm"])
def test_they_are_named_as_they_are_written(tmp_path, unit):
    factor = {"mm": 1000, "cm": 100}[unit]
    for options in ({"unit": unit}, {"unit": unit, "up": "z"}):
        error = refused(
            *as_array(tmp_path, lost(-9999.0, MOTION * factor)), layout=LAYOUT, **options
        )
        assert f"-9999 occurs 18 {WORDS}" in error


@pytest.mark.parametrize("value", [-9999.0, -1.0, 99999.0])
@pytest.mark.parametrize("whole", [False, True])
def test_in_two_dimensions(tmp_path, value, whole):
    pixels = motion(0, 20, 12)[..., :2] * 300 + 400
    pixels = lost(value, pixels.round() if whole else pixels)
    assert f"{value:g} occurs 12 {WORDS}" in refused(*as_array(tmp_path, pixels), layout=LAYOUT)
    # A joint that the scores call missing may be anywhere.
    score = np.where((pixels == value).all(axis=2), 0, 0.9)[..., None]
    place = as_array(tmp_path, np.concatenate([pixels, score], axis=2))
    assert not refused(*place, layout=LAYOUT)


def test_one_coordinate_alone(tmp_path):
    x = MOTION.copy()
    x[3:6, 7, 2] = -9999
    assert f"-9999 occurs 3 {WORDS}" in refused(*as_array(tmp_path, x), layout=LAYOUT)


def test_what_is_a_place_is_read(tmp_path):
    """Joints at the origin, at equal coordinates, whole numbers, the same extreme in two frames."""
    for x in (
        lost(0.0),
        lost(np.nan),
        lost(1.25),
        (MOTION * 1000).round(),
        lost(-3.0, (MOTION * 1000).round()),
        np.repeat(MOTION, 2, axis=0),
        np.ones_like(MOTION),
        -np.ones_like(MOTION),
        motion(0, 20, 12)[..., :2].round(2) * 300,
    ):
        place = as_array(tmp_path, x)
        options = {"layout": LAYOUT, "pose": "3d" if x.shape[2] == 3 else "auto"}
        assert not refused(*place, **options)
        assert isinstance(read_all(*place, **options)[1][0], Recording)


def test_the_command_does_not_speak_of_units(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", lost(-9999.0, joints=range(20)))
    with pytest.raises(SystemExit) as caught:
        command_line(["folder", str(tmp_path / "in"), str(tmp_path / "out"), f"--layout={LAYOUT}"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert f"-9999 occurs 180 {WORDS}" in error
    assert "unit" not in error
