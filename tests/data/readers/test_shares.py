"""2D coordinates that were divided by the image's width and height are in two units."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.test_annotations import write_arrays
from data.readers.test_ntu import read_all
from data.readers.test_strangers import refused

from aimclr_fast.data import open_store
from aimclr_fast.prepare import command_line

FRAMES, JOINTS = 10, 18
IMAGE = np.array([1920.0, 1080.0])
PIXELS = motion(5, JOINTS, FRAMES)[..., :2] * [200, -200] + [900, 500]
SCORE = np.full((FRAMES, JOINTS), 0.9)
SHARES = PIXELS / IMAGE


def as_folder(folder, xy, **more):
    np.save(folder / "a.npy", xy)
    return "folder", folder


def as_table(folder, xy, **more):
    rows = xy.reshape(len(xy), -1)
    (folder / "a.csv").write_text("".join(",".join(map(repr, r)) + "\n" for r in rows.tolist()))
    return "folder", folder


def as_pyskl(folder, xy, **more):
    entry = {"frame_dir": "a", "label": 0, "keypoint": xy[None], **more}
    (folder / "a.pkl").write_bytes(pickle.dumps([entry]))
    return "pyskl", folder / "a.pkl"


def as_arrays(folder, xy, **more):
    three = np.concatenate([xy, SCORE[..., None]], axis=2).transpose(2, 0, 1)
    write_arrays(folder, dict.fromkeys(("train", "val"), three[None, ..., None]))
    return "official", folder


def as_openpose(folder, xy, **more):
    for number, points in enumerate(np.concatenate([xy, SCORE[..., None]], axis=2)):
        people = [{"pose_keypoints_2d": points.ravel().tolist()}]
        (folder / f"a_{number:012}_keypoints.json").write_text(json.dumps({"people": people}))
    return "openpose", folder


SOURCES = [as_folder, as_table, as_pyskl, as_arrays, as_openpose]


@pytest.fixture(params=SOURCES, ids=[source.__name__[3:] for source in SOURCES])
def source(request, tmp_path):
    (tmp_path / "in").mkdir()
    return lambda xy, **more: request.param(tmp_path / "in", xy, **more)


def positions(reader, place, **options):
    return read_all(reader, place, layout="openpose", **options)[1][0].positions


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_shares_need_the_aspect_ratio(source, shift):
    expected = positions(*source(PIXELS))
    place = source(SHARES - shift)
    error = refused(*place, layout="openpose")
    assert "so they are not pixels" in error
    assert "give its --aspect, such as 16:9; if both are in one unit, --aspect 1" in error
    np.testing.assert_allclose(positions(*place, aspect=16 / 9), expected, atol=1e-5)
    place = source(PIXELS / 1920 - shift)
    np.testing.assert_allclose(positions(*place, aspect=1.0), expected, atol=1e-5)


def test_pixels_are_in_one_unit(source):
    place = source(PIXELS, img_shape=(1080, 1920))
    assert "--aspect: x and y lie within" in refused(*place, layout="openpose", aspect=16 / 9)
    np.testing.assert_array_equal(positions(*place, aspect=1.0), positions(*place))


def test_what_is_not_seen_tells_nothing(tmp_path):
    xy, score = SHARES.copy(), SCORE.copy()
    xy[3, 4], score[3, 4] = 5000.0, 0.0
    reader, place = as_pyskl(tmp_path, xy, keypoint_score=score[None])
    assert "so they are not pixels" in refused(reader, place, layout="openpose")


def test_img_shape_of_an_annotation_settles_it(tmp_path):
    expected = positions(*as_pyskl(tmp_path, PIXELS))
    place = as_pyskl(tmp_path, SHARES, img_shape=(1080, 1920))
    np.testing.assert_allclose(positions(*place), expected, atol=1e-5)
    notes = " | ".join(read_all(*place, layout="openpose")[0].notes)
    assert "taken as shares of img_shape (1920x1080 in the first; --aspect 1" in notes
    assert not np.allclose(positions(*place, aspect=1.0), expected, atol=0.1)
    assert "shares" not in " ".join(read_all(*place, layout="openpose", aspect=1.0)[0].notes)


@pytest.mark.parametrize("shape", [None, (0, 1920), (1080,), "1080", (-1, 2), (1080, "w")])
def test_an_img_shape_that_is_none_does_not(tmp_path, shape):
    place = as_pyskl(tmp_path, SHARES, img_shape=shape)
    assert "give its --aspect" in refused(*place, layout="openpose")


def test_centered_shares_are_asked_about_in_spite_of_img_shape(tmp_path):
    place = as_pyskl(tmp_path, SHARES - 0.5, img_shape=(1080, 1920))
    assert "give its --aspect" in refused(*place, layout="openpose")


@pytest.mark.parametrize("aspect", ["16:9", "1920x1080", "1.7777778"])
def test_the_flag(tmp_path, capsys, aspect):
    (tmp_path / "in").mkdir()
    as_folder(tmp_path / "in", SHARES)
    arguments = ["folder", str(tmp_path / "in"), str(tmp_path / "out"), "--layout=openpose"]
    with pytest.raises(SystemExit) as caught:
        command_line([*arguments, "--jobs=1"])
    assert caught.value.code == 2
    assert "give its --aspect, such as 16:9" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    command_line([*arguments, "--jobs=1", f"--aspect={aspect}", "--frames=original"])
    found = open_store(tmp_path / "out").positions[0, :2, :, :, 0]
    expected = (PIXELS - PIXELS[:, [1]]).transpose(2, 0, 1) * [[[1]], [[-1]]]
    scale = np.abs(found).max() / np.abs(expected).max()
    np.testing.assert_allclose(found, expected * scale, atol=1e-4)


@pytest.mark.parametrize("aspect", ["0", "16:0", "wide", "-1", "nan", "1e3", "16:9:4", ""])
def test_a_flag_that_is_no_ratio(tmp_path, capsys, aspect):
    with pytest.raises(SystemExit) as caught:
        command_line(["folder", str(tmp_path), str(tmp_path / "out"), f"--aspect={aspect}"])
    assert caught.value.code == 2
    assert f"--aspect {aspect}: width and height, such as 16:9" in capsys.readouterr().err


@pytest.mark.parametrize("source", [as_folder, as_pyskl])
@pytest.mark.parametrize(("name", "joints"), [("mediapipe", 33), ("hand-21", 21)])
def test_landmarks_of_the_image(tmp_path, source, name, joints):
    """MediaPipe's: x and z as shares of the width, y of the height; legs may be out of sight."""
    world = motion(0, joints, FRAMES) * [1, -1, 1]
    world -= world.mean(axis=(0, 1))
    shown = np.add(world, [1.0, 1.3, 0.0])
    image = shown * [9 / 16, 1, 9 / 16]
    place = source(tmp_path, image)
    assert "--aspect, such as 16:9, or --aspect 1" in refused(*place, layout=name, pose="3d")
    (found,) = read_all(*place, layout=name, pose="3d", aspect=16 / 9)[1]
    np.testing.assert_allclose(found.positions[..., 0], shown.transpose(2, 0, 1), atol=1e-5)
    (found,) = read_all(*place, layout=name, pose="3d", aspect=1.0)[1]
    np.testing.assert_allclose(found.positions[..., 0], image.transpose(2, 0, 1), atol=1e-5)
    place = source(tmp_path, world)  # as landmarks of the world are
    (found,) = read_all(*place, layout=name, pose="3d")[1]
    np.testing.assert_allclose(found.positions[..., 0], world.transpose(2, 0, 1), atol=1e-5)
    assert "not shares of an image" in refused(*place, layout=name, pose="3d", aspect=16 / 9)
