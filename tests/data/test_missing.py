"""A joint that is missing: one rule for every source, and for every step of preprocessing."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from data.readers.recordings import motion, skeleton_text
from data.readers.saved_tables import cells, text

from aimclr_fast.data import open_store
from aimclr_fast.data.bodies import is_spurious, keep_best
from aimclr_fast.data.bodies import motion as moved
from aimclr_fast.data.gaps import close, mark
from aimclr_fast.data.preprocessing import Preprocessing, center, resize_time, rotate_about_y
from aimclr_fast.layouts import get_layout
from aimclr_fast.prepare import command_line

FRAMES = 40
UCLA, NTU = get_layout("nw-ucla"), get_layout("ntu-rgb+d")
#: Joints that are missing, each in some frames: the center, a shoulder, a hand.
LOST = {UCLA.center: slice(8, 12), UCLA.shoulders[0]: slice(20, 23), 7: slice(30, 34)}


def body(joints=20, index=0):
    """``[40, joints, 3]`` meters that move evenly, so that interpolation is exact."""
    x = np.repeat(motion(index, joints, 1), FRAMES, axis=0)
    x += 0.003 * np.arange(joints)[:, None]
    x[..., 0] += 0.01 * np.arange(FRAMES)[:, None]
    return x


def lost(x, value=np.nan):
    x = x.copy()
    for joint, frames in LOST.items():
        x[frames, joint] = value
    return x


def gone(frames=FRAMES, joints=20):
    """Where ``lost`` has nothing, ``[T, V]``."""
    return np.isnan(lost(np.ones((frames, joints, 1)))[..., 0])


def prepare(*arguments):
    command_line([*map(str, arguments), "--jobs=1", "--overwrite"])


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        prepare(*arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def as_npy(folder, x):
    np.save(folder / "a.npy", x)
    return ["folder", folder / "a.npy", "--layout=nw-ucla"]


def as_csv(folder, x):
    rows = cells(x.reshape(len(x), -1))
    rows = [["" if cell == "nan" else cell for cell in row] for row in rows]
    (folder / "a.csv").write_text(text(rows))
    return ["folder", folder / "a.csv", "--layout=nw-ucla"]


def as_pyskl(folder, x):
    entry = {"frame_dir": "a", "label": 0, "keypoint": x[None]}
    (folder / "a.pkl").write_bytes(pickle.dumps([entry]))
    return ["pyskl", folder / "a.pkl", "--layout=nw-ucla"]


def as_json(folder, x):
    data = {"file_name": "a01_s01_e00_v01", "skeletons": x.tolist(), "label": 1}
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps(data))
    return ["nw-ucla", folder / "a01_s01_e00_v01.json"]


SOURCES = [as_npy, as_csv, as_pyskl, as_json]


@pytest.fixture(params=SOURCES, ids=[source.__name__[3:] for source in SOURCES])
def source(request, tmp_path):
    (tmp_path / "in").mkdir()

    def write(x, *options):
        reader, place, *layout = request.param(tmp_path / "in", x)
        prepare(reader, place, tmp_path / "out", *layout, *options)
        return open_store(tmp_path / "out")

    return write


def test_nan_is_filled_and_counted_whatever_the_source(source, capsys):
    whole = source(body()).positions[0].copy()
    capsys.readouterr()
    store = source(lost(body()))
    np.testing.assert_allclose(store.positions[0], whole, atol=2e-4)
    assert store.samples["filled"].tolist() == [gone().any(axis=1).sum()]
    assert f"{gone().sum()} single joints" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rule", "value", "rotate"),
    [("keep", np.nan, "exact"), ("keep", 0.0, "published"), ("published", np.nan, "published")],
)  # fmt: skip
def test_what_is_not_filled_is_zero_in_the_store(source, rule, value, rotate, capsys):
    options = [f"--gaps={rule}", f"--rotate={rotate}", "--frames=original"]
    whole = source(body(), *options).positions[0, ..., 0].copy()
    capsys.readouterr()
    x = source(lost(body(), value), *options).positions[0, ..., 0]
    assert not x[:, gone()].any()
    # All others are where they are in the whole recording, also where center or shoulder lack.
    np.testing.assert_allclose(x[:, ~gone()], whole[:, ~gone()], atol=2e-4)
    assert f"{gone().sum()} single joints are missing" in capsys.readouterr().out


def test_the_published_rule_takes_a_zero_for_a_place(source):
    """As the authors' code does: the joint ends opposite the center."""
    options = ["--gaps=published", "--rotate=none", "--frames=original"]
    x = body()
    x[5:9, 7] = 0.0
    stored = source(x, *options).positions[0, :, :, 7, 0]
    np.testing.assert_allclose(stored[:, 5:9].T, -x[5:9, UCLA.center], atol=2e-4)


@pytest.mark.parametrize("rule", ["keep", "published"])
def test_a_body_without_its_center_is_refused_though_absent_in_some_frames(rule):
    x = np.stack([body(), body() + 0.5]).transpose(3, 1, 2, 0)  # [3, T, V, M]
    x[:, :, UCLA.center, 1] = np.nan
    x[:, 10:20, :, 1] = 0.0
    with pytest.raises(ValueError, match=r"is in no frame \(body 1\), and bodies are centered"):
        Preprocessing(50, "none", rule)(x, UCLA)
    x[:, :, :, 1] = 0.0  # nobody there: nothing to center
    assert not Preprocessing(50, "none", rule)(x, UCLA)[..., 1].any()


@pytest.mark.parametrize("frames", [25, 40, 50, 64])
def test_stretched_time_has_a_joint_or_has_it_not(source, frames):
    options = ["--gaps=keep", f"--frames={frames}"]
    whole = source(body(), *options).positions[0, ..., 0].copy()
    x = source(lost(body()), *options).positions[0, ..., 0]
    nearest = np.rint((np.arange(frames) + 0.5) * FRAMES / frames - 0.5).clip(0, FRAMES - 1)
    missing = ~x.any(axis=0)
    missing[:, UCLA.center] = False
    for joint in LOST:
        near = np.isin(nearest, np.arange(FRAMES)[LOST[joint]])
        if joint != UCLA.center:
            assert np.abs(missing[:, joint].astype(int) - near).sum() <= 2  # ties
    np.testing.assert_allclose(
        x[:, ~missing], np.where(missing, 0, whole)[:, ~missing], atol=0.012
    )  # a frame's way


@pytest.mark.parametrize("rule", ["fill", "keep"])
def test_infinite_values_are_refused(tmp_path, capsys, rule):
    x = body()
    x[3, 4, 1] = np.inf
    for source in (as_npy, as_pyskl, as_json):
        reader, place, *layout = source(tmp_path, x)
        error = fails(capsys, reader, place, tmp_path / "out", *layout, f"--gaps={rule}")
        assert "a value is not finite (frame 3, joint 4)" in error


@pytest.mark.parametrize("source", [as_npy, as_pyskl, as_json])
def test_a_joint_with_some_of_its_coordinates_is_refused(tmp_path, capsys, source):
    x = body()
    x[3, 4, 1] = np.nan
    reader, place, *layout = source(tmp_path, x)
    error = fails(capsys, reader, place, tmp_path / "out", *layout)
    assert "has some of its coordinates only; leave out all or none (frame 3, joint 4)" in error


@pytest.mark.parametrize("source", SOURCES)
def test_a_joint_in_no_frame_is_refused_unless_gaps_are_kept(tmp_path, capsys, source):
    x = body()
    x[:, 9] = np.nan
    reader, place, *layout = source(tmp_path, x)
    error = fails(capsys, reader, place, tmp_path / "out", *layout)
    assert f"{UCLA.joints[9]} is in no frame (body 0): --gaps keep" in error
    prepare(reader, place, tmp_path / "out", *layout, "--gaps=keep")
    assert not open_store(tmp_path / "out").positions[0, :, :, 9].any()
    x[:, UCLA.center] = np.nan
    source(tmp_path, x)
    error = fails(capsys, reader, place, tmp_path / "out", *layout, "--gaps=keep")
    assert f"{UCLA.joints[UCLA.center]} is in no frame (body 0), and bodies are" in error


def test_a_row_of_nan_is_a_frame_without_anybody(source):
    x = body()
    x[:5] = x[15:20] = np.nan
    store = source(x)
    assert store.samples["frames"].tolist() == [FRAMES - 5]
    assert store.samples["filled"].tolist() == [5]
    kept = source(x, "--gaps=keep", "--frames=original").positions[0, ..., 0]
    assert not kept[:, 15:20].any()


def still(bodies=1):
    """``[3, 40, 20, bodies]``: one pose in all frames, its center at the origin."""
    x = body()[:1] - body()[:1, [UCLA.center]]
    return np.tile(x.transpose(2, 0, 1)[..., None], (1, FRAMES, 1, bodies))


def assert_there_or_not(x, pose):
    """Each body of ``x [3, T, V, M]`` has the pose in some frames, and is zero in the others."""
    there = x.any(axis=(0, 2))
    assert there.any(axis=0).all()
    assert not there.all()
    np.testing.assert_allclose(x, np.where(there[:, None], pose[:, :1], 0), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("frames", [25, 64])
def test_whole_bodies_that_are_missing_are_blended_with_nothing(value, frames):
    gap, late = still(), still(2)
    gap[:, 11:30] = value
    late[:, :13, :, 0] = late[:, 31:, :, 1] = value
    for x, rule in ((gap, "keep"), (late, "keep"), (late, "fill")):
        steps = Preprocessing(frames, "exact", rule)
        assert_there_or_not(steps(x, UCLA), steps(still(x.shape[3]), UCLA))


# --- Bodies in no frame ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("source", [as_npy, as_pyskl])
@pytest.mark.parametrize("flat", [False, True])
def test_the_first_body_is_one_that_is_there(tmp_path, source, value, flat):
    x = body(20)[..., :2] * 300 if flat else body(20)
    nobody = np.full_like(x, value)
    stores = []
    for array in (x[None], np.stack([nobody, x]), np.stack([nobody, nobody, x])):
        if source is as_pyskl:
            entry = {"frame_dir": "a", "label": 0, "keypoint": array}
            (tmp_path / "a.pkl").write_bytes(pickle.dumps([entry]))
            arguments = ["pyskl", tmp_path / "a.pkl", "--layout=nw-ucla"]
        else:
            arguments = as_npy(tmp_path, array)
        prepare(*arguments[:2], tmp_path / "out", *arguments[2:], "--max-bodies=1")
        stores.append(open_store(tmp_path / "out").positions.copy())
    assert stores[0].any()
    np.testing.assert_array_equal(stores[1], stores[0])
    np.testing.assert_array_equal(stores[2], stores[0])


def test_a_body_whose_scores_are_all_low_is_not_the_first(tmp_path):
    pixels = np.stack([body(17, 3)[..., :2], body(17)[..., :2]]) * 300
    score = np.stack([np.full((FRAMES, 17), s) for s in (0.0, 0.9)])
    entry = {"frame_dir": "a", "label": 0, "keypoint": pixels, "keypoint_score": score}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([entry]))
    prepare("pyskl", tmp_path / "a.pkl", tmp_path / "out", "--layout=coco")
    found = open_store(tmp_path / "out").positions[0]
    assert found[..., 0].any()
    assert not found[..., 1].any()


def test_the_first_body_of_preprocessed_arrays_is_there(tmp_path):
    x = (body(25) - body(25)[:, [NTU.center]]).transpose(2, 0, 1).astype(np.float32)
    for value in (0, np.nan):
        official(tmp_path / "in", np.stack([np.full_like(x, value), x], axis=-1))
        prepare("official", tmp_path / "in", tmp_path / "out", "--layout=ntu-rgb+d")
        np.testing.assert_array_equal(open_store(tmp_path / "out").positions[0, ..., 0], x)


def test_an_encoder_has_the_body_that_is_there_first():
    x = body().transpose(2, 0, 1)[..., None]
    steps = Preprocessing(50, "exact")
    both = np.concatenate([np.full_like(x, np.nan), x], axis=-1)
    np.testing.assert_array_equal(steps(both, UCLA)[..., 0], steps(x, UCLA)[..., 0])


# --- Arrays that others preprocessed, 2D poses, NTU RGB+D ----------------------------------------


def official(folder, x):
    """``x [C, T, V]`` or ``[C, T, V, M]`` of one sample on each side."""
    folder.mkdir(exist_ok=True)
    x = x if x.ndim == 4 else x[..., None]
    for part in ("train", "val"):
        np.save(folder / f"{part}_position.npy", x[None])
        (folder / f"{part}_label.pkl").write_bytes(pickle.dumps(([part], [0])))
    return ["official", folder]


@pytest.mark.parametrize("options", [[], ["--frames=20"], ["--gaps=keep"]])
def test_nan_in_preprocessed_arrays(tmp_path, capsys, options):
    x = (body(25) - body(25)[:, [NTU.center]]).transpose(2, 0, 1).astype(np.float32)
    holes = x.copy()
    holes[:, 10:14, 5] = np.nan
    stores = []
    for name, array in (("whole", x), ("holes", holes)):
        capsys.readouterr()
        reader, place = official(tmp_path / name, array)
        prepare(reader, place, tmp_path / "out", "--layout=ntu-rgb+d", *options)
        stores.append(open_store(tmp_path / "out").positions[0, ..., 0].copy())
    shown = capsys.readouterr().out
    if "--gaps=keep" in options:
        assert not stores[1][:, 10:14, 5].any()
        assert "8 single joints are missing" in shown
        stores[0][:, 10:14, 5] = 0
    else:
        assert "8 single joints (--gaps keep" in shown
    np.testing.assert_allclose(stores[1], stores[0], atol=1e-5)
    reader, place = official(tmp_path / "inf", np.where(np.isnan(holes), np.inf, x))
    assert "not finite" in fails(capsys, reader, place, tmp_path / "out", "--layout=ntu-rgb+d")


def test_frames_of_nan_in_preprocessed_arrays(tmp_path, capsys):
    pose = still(2)[:, :, np.minimum(np.arange(25), 19)].astype(np.float32)
    x = pose.copy()
    x[:, 12:15, :, 0] = x[:, 33:, :, 1] = np.nan
    x[:, 5:8, :, 1] = 0  # others took the body away
    arguments = ["official", tmp_path / "in", tmp_path / "out", "--layout=ntu-rgb+d"]
    official(tmp_path / "in", x)
    prepare(*arguments, "--frames=64", "--gaps=keep")
    assert_there_or_not(open_store(tmp_path / "out").positions[0], pose)
    prepare(*arguments, "--frames=64")
    store = open_store(tmp_path / "out")
    np.testing.assert_allclose(store.positions[0, ..., 0], np.repeat(pose[:, :1, :, 0], 64, 1),
                               atol=1e-6)  # fmt: skip
    assert_there_or_not(store.positions[0, ..., [1]].transpose(1, 2, 3, 0), pose[..., [1]])
    assert "6 frames of a whole body" in capsys.readouterr().out


def flat_sources(folder, pixels, score):
    """2D poses ``[T, V, 2]`` as array, table, annotation and processed array."""
    three = np.concatenate([pixels, score[..., None]], axis=-1)
    for name in ("npy", "csv"):
        (folder / name).mkdir(exist_ok=True)
    np.save(folder / "npy" / "a.npy", three)
    rows = [["" if c == "nan" else c for c in row] for row in cells(three.reshape(FRAMES, -1))]
    (folder / "csv" / "a.csv").write_text(text(rows))
    entry = {"frame_dir": "a", "label": 0, "keypoint": pixels[None], "keypoint_score": score[None]}
    (folder / "a.pkl").write_bytes(pickle.dumps([entry]))
    official(folder / "official", three.transpose(2, 0, 1))
    yield "folder", folder / "npy"
    yield "folder", folder / "csv"
    yield "pyskl", folder / "a.pkl"
    yield "official", folder / "official"


@pytest.mark.parametrize("nan", [False, True])
def test_2d_joints_that_were_not_seen_follow_the_rule_and_are_counted(tmp_path, capsys, nan):
    pixels = body(17)[..., :2] * [300, -300] + 700
    score = np.full(pixels.shape[:2], 0.9)
    score[10:13, 9] = 0.0  # a wrist, for a while
    score[:, 16] = 0.0  # an ankle, in no frame
    if nan:
        pixels[score == 0] = np.nan
    for reader, place in flat_sources(tmp_path, pixels, score):
        arguments = [reader, place, tmp_path / "out", "--layout=coco"]
        prepare(*arguments, "--frames=original")
        shown = capsys.readouterr().out
        store = open_store(tmp_path / "out")
        filled = store.positions[0, ..., 0].copy()
        copies = len(store)
        assert store.samples["filled"].tolist() == [3] * copies
        assert f"{3 * copies} single joints (--gaps keep" in shown
        assert f"{copies} joints of 2D poses are in no frame" in shown
        np.testing.assert_allclose(filled[:, 11, 9], (filled[:, 9, 9] + filled[:, 13, 9]) / 2,
                                   atol=1e-4)  # fmt: skip
        assert filled[:2, :, 16].any(axis=0).all()
        prepare(*arguments, "--frames=original", "--gaps=keep")
        assert f"{43 * copies} single joints are missing" in capsys.readouterr().out
        kept = open_store(tmp_path / "out").positions[0, ..., 0]
        assert not kept[:, 10:13, 9].any()
        assert not kept[:, :, 16].any()
        there = np.ones((FRAMES, 17), dtype=bool)
        there[10:13, 9] = there[:, 16] = False
        np.testing.assert_allclose(kept[:, there], filled[:, there], atol=1e-5)


def test_an_empty_visibility_cell_of_a_3d_table_is_ignored(tmp_path, capsys):
    heading = [f"{joint}_{axis}" for joint in UCLA.joints for axis in ("x", "y", "z", "visibility")]
    numbers = np.concatenate([body(), np.full((FRAMES, 20, 1), 0.5)], axis=2)
    rows = cells(numbers.reshape(FRAMES, -1))
    rows[4][4 * 3 + 3] = ""
    (tmp_path / "a.csv").write_text(text(rows, heading=heading))
    arguments = ["folder", tmp_path / "a.csv", tmp_path / "out", "--layout=nw-ucla"]
    prepare(*arguments)
    assert open_store(tmp_path / "out").samples["filled"].tolist() == [0]
    # In 2D the score is used, so it must be there.
    error = fails(capsys, *arguments, "--pose=2d")
    assert f"a.csv:6: {UCLA.joints[3]} has some of its coordinates only" in error


@pytest.mark.parametrize(("factor", "options"), [(1000, ["--unit=mm"]), (1, ["--up=z"])])
def test_spurious_bodies_are_told_in_meters_and_upright(tmp_path, factor, options):
    person = motion(0, 25, FRAMES)
    frozen = np.repeat(motion(3, 25, 1), FRAMES, axis=0)
    frozen = frozen + 0.001 * np.random.default_rng(0).normal(size=(FRAMES, 1, 1))
    lying = motion(5, 25, FRAMES)[..., [0, 2, 1]]  # as if z pointed up
    stores = []
    for given in ([], options):
        people = [person, lying if "--up=z" in options else frozen]
        if "--up=z" in given:
            people = [np.stack([p[..., 0], -p[..., 2], p[..., 1]], axis=-1) for p in people]
        people = [p * (factor if given else 1) for p in people]
        frames = [[(1, people[1][t]), (2, people[0][t])] for t in range(FRAMES)]
        (tmp_path / "S001C001P001R001A001.skeleton").write_bytes(skeleton_text(frames))
        prepare("ntu60", tmp_path, tmp_path / "out", "--drop-spurious", *given)
        stores.append(open_store(tmp_path / "out").positions.copy())
    assert not stores[0][..., 1].any()  # the ghost is dropped
    np.testing.assert_allclose(stores[1], stores[0], atol=1e-4)


# --- Steps ---------------------------------------------------------------------------------------


def marked():
    return lost(body()).transpose(2, 0, 1)[..., None]


def test_bodies_are_measured_without_what_they_lack():
    x, whole = marked(), body().transpose(2, 0, 1)[..., None]
    np.testing.assert_allclose(moved(x), moved(whole), rtol=0.05)
    assert not is_spurious(x)[0]
    zeros = np.nan_to_num(x)
    np.testing.assert_array_equal(mark(zeros), x)
    both = np.concatenate([x * 0 + 1e-3, x], axis=3)
    np.testing.assert_array_equal(keep_best(both, 1, spurious=True)[..., 0], x[..., 0])


def test_marking_twice_is_marking_once():
    for x in (marked(), np.nan_to_num(marked())):
        once = mark(x)
        np.testing.assert_array_equal(mark(once), once)
    whole = body().transpose(2, 0, 1)[..., None]
    assert mark(whole) is whole


def test_steps_take_stacks_of_sequences():
    """As the published functions do: leading axes are sequences of their own."""
    stack = np.stack([marked(), body(index=3).transpose(2, 0, 1)[..., None]])
    shoulders = UCLA.shoulders
    for step in (
        lambda x: center(x, UCLA.center),
        lambda x: resize_time(x, 50),
        lambda x: rotate_about_y(x, shoulders, exact=True),
        lambda x: rotate_about_y(x, shoulders),
    ):
        np.testing.assert_array_equal(step(stack), np.stack([step(x) for x in stack]))


def test_a_body_without_both_shoulders_is_not_turned():
    x = marked()
    x[:, :, UCLA.shoulders[0]] = np.nan
    turned = rotate_about_y(x, UCLA.shoulders, exact=True)
    np.testing.assert_array_equal(turned, x)


def test_closing_says_what_is_left():
    assert close(marked(), "keep")[1].left == close(marked(), "published")[1].left == gone().sum()
    assert close(marked(), "fill")[1].left == 0
    steps = Preprocessing(None, "none", "keep")
    with pytest.raises(ValueError, match="must be finite, or NaN where a joint is missing"):
        steps(np.where(np.isnan(marked()), np.inf, marked()), UCLA)
