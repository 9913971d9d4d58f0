"""A user's own sequences: arrays, csv files, labels, 2D poses, and all that is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from data.readers.recordings import motion, table
from data.readers.test_ntu import read_all

from aimclr_fast.data.gaps import close
from aimclr_fast.data.readers import Problem, ReadError, Recording


@pytest.fixture
def own(tmp_path):
    """One sequence of each kind, 22 joints, and labels by name."""
    np.save(tmp_path / "a.npy", motion(0, frames=10))
    np.savez(tmp_path / "b.npz", positions=motion(1, frames=11)[None], other=np.zeros(3))
    (tmp_path / "deep").mkdir()
    rows = motion(2, frames=12).reshape(12, -1)
    (tmp_path / "deep" / "c.csv").write_text(table(rows, ", "))
    heading = ",".join(f"j{i}" for i in range(66)) + "\n"
    (tmp_path / "d.csv").write_text(heading + table(rows, ";"))
    (tmp_path / "labels.csv").write_text(
        "name,label,subject\na.npy,wave,1\nb,jump,2\ndeep/c,wave,3\nd,sit,4\n"
    )
    return tmp_path


def test_all_kinds(own):
    plan, found = read_all("folder", own, layout="ui-prmd")
    assert {r.name: r.columns for r in found} == {
        "a": {"label": 2, "subject": "1"},
        "b": {"label": 0, "subject": "2"},
        "d": {"label": 1, "subject": "4"},
        "deep/c": {"label": 2, "subject": "3"},
    }
    assert plan.classes == ("jump", "sit", "wave")
    for recording in found:
        index = {"a": 0, "b": 1}.get(recording.name, 2)
        expected = motion(index, frames=10 + index).transpose(2, 0, 1)
        np.testing.assert_allclose(recording.positions[..., 0], expected, atol=1e-6)


def test_labels_are_optional(own):
    (own / "labels.csv").unlink()
    plan, found = read_all("folder", own, layout="ui-prmd")
    assert [r.columns for r in found] == [{}] * 4
    assert plan.classes is None
    assert "pretraining" in plan.notes[-1]


def test_numeric_labels_and_splits_and_a_file_of_labels_elsewhere(own, tmp_path_factory):
    file = tmp_path_factory.mktemp("x") / "my.csv"
    file.write_text("file,label,split\na.npy,7,train\nb.npz,0,test\n")
    (own / "labels.csv").unlink()
    plan, found = read_all("folder", own, layout="ui-prmd", labels=file)
    assert [r.columns["label"] for r in found] == [7, 0]
    assert plan.classes is None
    assert plan.splits == {"split": {"column": "split", "train": ["train"]}}
    assert len(plan.left_out) == 2
    assert "has no row in" in plan.left_out[0].reason


def test_unit_and_axes(own):
    reference = {r.name: r.positions for r in read_all("folder", own, layout="ui-prmd")[1]}
    for options, turn in (
        ({"unit": "mm"}, lambda x: x / 1000),
        ({"up": "z"}, lambda x: np.stack([x[0], x[2], -x[1]])),
        ({"up": "-y"}, lambda x: np.stack([x[0], -x[1], -x[2]])),
    ):
        for recording in read_all("folder", own, layout="ui-prmd", **options)[1]:
            np.testing.assert_allclose(recording.positions, turn(reference[recording.name]))


def test_bodies_are_counted(tmp_path):
    two = np.stack([motion(0, frames=8), motion(1, frames=8)])
    np.save(tmp_path / "two.npy", two)
    np.save(tmp_path / "one.npy", motion(0, frames=8))
    (tmp_path / "flat.csv").write_text(table(two.transpose(1, 0, 2, 3).reshape(8, -1), ","))
    plan, found = read_all("folder", tmp_path, layout="ui-prmd", csv_bodies=2)
    assert plan.bodies == 2
    by_name = {r.name: r.positions for r in found}
    np.testing.assert_allclose(by_name["flat"], by_name["two"], atol=1e-6)
    assert not by_name["one"][..., 1].any()
    assert (
        read_all("folder", tmp_path, layout="ui-prmd", max_bodies=1, csv_bodies=2)[1][
            0
        ].positions.shape[3]
        == 1
    )


def test_two_dimensional_poses(tmp_path):
    pixels = motion(0, 17, 9)[..., :2] * [200, -200] + 500
    confidence = np.ones((9, 17, 1))
    confidence[4, 3] = 0
    np.save(tmp_path / "with.npy", np.concatenate([pixels, confidence], axis=2))
    np.save(tmp_path / "without.npy", pixels)
    plan, found = read_all("folder", tmp_path, layout="coco")
    assert not plan.rotate
    assert "2D poses" in plan.notes[0]
    for recording in found:
        assert isinstance(recording, Recording)
        found = close(recording.positions, "fill")[0]
        assert not found[2].any()
        extent = found.max(axis=(1, 2)) - found.min(axis=(1, 2))
        assert 1 < extent[1, 0] < 2.5
    # The same numbers are positions when the user says so.
    (tmp_path / "without.npy").unlink()
    plan, found = read_all("folder", tmp_path, layout="coco", pose="3d")
    assert plan.notes == ["no labels.csv: the store is for pretraining, and has no label column"]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.ones((5, 21, 3)), r"expected \[T, 22, C\]"),
        (np.ones((5, 22, 4)), r"expected \[T, 22, C\].*; --columns .* xyz_ or, .* xyzc$"),
        (np.ones((2, 5, 22, 6)), r"got shape \[2, 5, 22, 6\]; --columns .* xyz___ \(_ is ignored"),
        (np.ones((5, 21, 4)), r"got shape \[5, 21, 4\]$"),
        (np.ones(5), r"got shape \[1?,? ?5\]"),
        (np.ones((0, 22, 3)), "is empty"),
        (np.full((5, 22, 3), np.inf), "not finite"),
        (np.full((5, 22, 3), 1e300), "not finite"),
        (np.array([None]), "not numbers"),
        (np.array(["x"]), "not numbers"),
        (np.ones((5, 22, 2)) * 50, None),
    ],
)
def test_damaged_arrays(tmp_path, array, reason):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    plan, found = read_all("folder", tmp_path, layout="ui-prmd")
    assert len(found) == 1
    if reason is None:
        assert isinstance(found[0], Recording)
    else:
        with pytest.raises(ReadError, match=reason):
            list(plan.read(plan.units[0]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("a,b,c\n", ":1: has no frames"),
        ("1,2,3\n", "3 columns, and layout ui-prmd has 22 joints"),
        (",".join(["1"] * 66) + "\n" + ",".join(["1"] * 65) + "\n", ":2: 65 columns"),
        (",".join(["x"] * 66) + "\n", "has no frames"),
        (",".join(["1"] * 65 + ["nan"]) + "\n", ":1: right_toes has some of its coordinates"),
        ("\0\0\0", "not text"),
    ],
)
def test_damaged_csv(tmp_path, text, reason):
    (tmp_path / "x.csv").write_text(text)
    plan, found = read_all("folder", tmp_path, layout="ui-prmd")
    assert isinstance(found[0], Problem)
    with pytest.raises(ReadError, match=reason):
        list(plan.read(plan.units[0]))


def test_a_header_that_promises_too_much(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 22, 3)))
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data.replace(b"(5, 22, 3)", b"(9999999999, 22, 3)"))
    _, found = read_all("folder", tmp_path, layout="ui-prmd")
    assert isinstance(found[0], Problem)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("name,label\na,-1\nb,2\n", ":2: label '-1' is not 0 or more"),
        ("name,label\na,\nb,x\n", ":2: label is empty"),
        ("name,label\na,1\na,2\nb,3\n", ":3: a is named before"),
        ("name,label\na,1,3\nb,2\n", ":2: 3 cells, expected 2"),
        ("name,label\na,1\nb,2\nzz,3\n", ":4: there is no sequence zz"),
    ],
)
def test_rows_of_labels_that_cannot_be_used(tmp_path, labels, reason):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", motion(0, frames=5))
    (tmp_path / "labels.csv").write_text(labels)
    plan, found = read_all("folder", tmp_path, layout="ui-prmd")
    assert [f"{p.where}: {p.reason}" for p in plan.left_out if reason in f"{p.where}: {p.reason}"]
    assert "b" in {r.name for r in found}


@pytest.mark.parametrize(
    ("labels", "reason"),
    [("label\n1\n", "include name"), ("name,name\n", "differ"), ("name,frames\n", "frames is a"),
     ("\0", "header|not a csv"), ('name,"x\n', "not a csv")],
)  # fmt: skip
def test_a_csv_of_labels_that_is_none(tmp_path, labels, reason):
    np.save(tmp_path / "a.npy", motion(0, frames=5))
    (tmp_path / "labels.csv").write_text(labels)
    with pytest.raises(ReadError, match=reason):
        read_all("folder", tmp_path, layout="ui-prmd")


def test_the_layout_must_be_named_and_known(own, tmp_path):
    with pytest.raises(ReadError, match="--layout"):
        read_all("folder", own)
    with pytest.raises(ReadError, match="unknown layout"):
        read_all("folder", own, layout="octopus")


def refused(folder, array, layout="ui-prmd", **options):
    """The reason why an array is not read, whether the plan or the reading says it."""
    np.save(folder / "a.npy", array)
    try:
        found = read_all("folder", folder, layout=layout, **options)[1]
    except ReadError as error:
        return str(error)
    return found[0].reason if isinstance(found[0], Problem) else ""


def test_axes_in_another_order_are_refused(tmp_path):
    one, two = motion(0, frames=12), motion(1, frames=12)
    many = np.stack([one, two] * 4)
    assert not refused(tmp_path, np.stack([one, two]))
    assert "[T, M, V, C]" in refused(tmp_path, np.stack([one, two], axis=1), max_bodies=2)
    assert "[T, M, V, C]" in refused(tmp_path, one[:, None])
    assert "[N, T, V, C]" in refused(tmp_path, many)
    assert not refused(tmp_path, many, max_bodies=2)
    assert not refused(tmp_path, many[:2, :1], max_bodies=2)
    channels = np.stack([one, two], axis=-1).transpose(2, 0, 1, 3)
    assert "channels first" in refused(tmp_path, channels)
    assert not refused(tmp_path, channels * 300, pose="2d")


def test_a_third_coordinate_that_may_be_either_is_asked_about(tmp_path):
    world = motion(0, 17, 9)
    pixels = np.concatenate([world[..., :2] * 200 + 500, np.full((9, 17, 1), 0.9)], axis=2)
    image = pixels * [1e-3, 1e-3, 1]
    near = np.concatenate([world[..., :2] * 2, 0.3 + 0.1 * world[..., :1]], axis=2)
    for layout, asked, told in (
        # coco has scores, unless the numbers deny it
        (
            "coco",
            (world, near, world - [0, 0, 2.5]),
            (pixels, image, image * [2, 2, 1] - [1, 1, 0]),
        ),
        # others have z, unless x and y are an image's
        ("h36m", (image,), (world, near, pixels)),
    ):
        for array in asked:
            assert "--pose 2d or --pose 3d" in refused(tmp_path, array, layout), layout
            assert not refused(tmp_path, array, layout, pose="3d")
        for array in told:
            assert not refused(tmp_path, array, layout, aspect=1.0)
    assert not refused(tmp_path, image, "h36m", up="z")
