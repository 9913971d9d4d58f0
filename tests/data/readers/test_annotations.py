"""Annotations and arrays of people's own making: splits, labels, layouts, scores, padding."""

from __future__ import annotations

import pickle
from types import MappingProxyType

import numpy as np
import pytest
from data.readers.recordings import NTU_RAW, motion
from data.readers.test_downloaded import annotation
from data.readers.test_layout_guess import as_layout
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store, split, validation
from aimclr_fast.data.conversion import make_recipe
from aimclr_fast.data.readers import Problem, ReadError, get_reader, reader_names
from aimclr_fast.prepare import command_line


def ntu_name(number: int, action: int) -> str:
    return f"S001C001P{number % 40 + 1:03}R{number // 40 + 1:03}A{action:03}"


def one_person():
    """One person before a Kinect v2 ``[T, 25, 3]``."""
    _, found = read_all("ntu120", NTU_RAW)
    whole = next(r for r in found if len(r.positions[0]) > 30).positions[..., 0]
    return whole.transpose(1, 2, 0) + np.float32([0, 0, 2])


@pytest.fixture(scope="module")
def body():
    return one_person()


def write(file, annotations, lists=MappingProxyType({})):
    data = annotations if lists is None else {"split": dict(lists), "annotations": annotations}
    file.write_bytes(pickle.dumps(data))
    return file


def labeled(body, labels, actions=None):
    """Annotations of NTU RGB+D; `actions` of their names, or those that the labels mean."""
    actions = actions or [int(label) + 1 for label in labels]
    return [
        annotation(ntu_name(number, action), label, body[None])
        for number, (label, action) in enumerate(zip(labels, actions, strict=True))
    ]


def prepare(*arguments):
    command_line([*map(str, arguments), "--jobs=1"])


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        prepare(*arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_three_lists_stay_three_in_the_store(tmp_path, capsys):
    names = [f"clip{i}" for i in range(8)]
    pixels = 300 * motion(0, 17, 12)[None, ..., :2]
    score = np.ones((1, 12, 17))
    write(
        tmp_path / "x.pkl",
        [annotation(n, i % 2, pixels, keypoint_score=score) for i, n in enumerate(names)],
        {"train": names[:4], "val": names[4:6], "test": names[6:]},
    )
    prepare("pyskl", tmp_path / "x.pkl", tmp_path / "x")
    store = open_store(tmp_path / "x")
    assert [part.tolist() for part in split(store, "split")] == [[0, 1, 2, 3], [6, 7]]
    assert validation(store, "split").tolist() == [4, 5]
    assert "split split: validation samples are kept apart from test" in capsys.readouterr().out
    command_line(["inspect", str(tmp_path / "x"), "--out", str(tmp_path)])
    assert "split split: 4 train, 2 val, 2 test" in capsys.readouterr().out


def test_three_way_column_of_own_recordings(tmp_path):
    (tmp_path / "in").mkdir()
    rows = ["name,label,split"]
    for index in range(6):
        np.save(tmp_path / "in" / f"c{index}.npy", motion(index, 20, 20))
        rows.append(f"c{index},{index % 2},{('train', 'train', 'train', 'val', 'test', '')[index]}")
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows))
    prepare("folder", tmp_path / "in", tmp_path / "x", "--layout=nw-ucla", "--frames=16")
    store = open_store(tmp_path / "x")
    assert [part.tolist() for part in split(store, "split")] == [[0, 1, 2], [4]]
    assert validation(store, "split").tolist() == [3]


def test_numbered_lists_are_splits_and_a_lone_list_is_said(tmp_path, body):
    lists = {"train1": ["a"], "test1": ["b"], "train2": ["b"], "test2": ["a"], "all_clips": ["a"]}
    file = write(tmp_path / "x.pkl", [annotation(n, 0, body[None]) for n in "ab"], lists)
    plan, found = read_all("pyskl", file)
    assert list(plan.splits) == ["split1", "split2"]
    assert [r.columns["split_split2"] for r in found] == ["test", "train"]
    assert any("all_clips: nothing to pair with" in note for note in plan.notes)


@pytest.mark.parametrize("lists", [{}, {"train": ["a"]}, {"train": ["x"], "test": ["y"]}])
def test_no_split_is_said(tmp_path, body, lists):
    file = write(tmp_path / "x.pkl", [annotation(n, 0, body[None]) for n in "ab"], lists)
    plan, _ = read_all("pyskl", file)
    assert not plan.splits
    assert any("no splits: the store has no split" in note for note in plan.notes)


def test_a_list_of_annotations_will_do(tmp_path, body):
    plan, found = read_all("pyskl", write(tmp_path / "x.pkl", labeled(body, [6, 24]), lists=None))
    assert (plan.classes[6], plan.classes[24]) == ("throw", "reach into pocket")
    assert [r.columns["label"] for r in found] == [6, 24]
    assert not plan.splits
    assert any("no splits" in note for note in plan.notes)


def test_classes_of_a_subset_numbered_anew(tmp_path, body, capsys):
    file = write(tmp_path / "x.pkl", labeled(body, [0, 1, 2, 0], [7, 25, 42, 7]))
    prepare("pyskl", file, tmp_path / "x")
    assert open_store(tmp_path / "x").class_names == ("A007", "A025", "A042")
    assert "labels are numbered anew" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array, float])
def test_labels_of_any_integer_type(tmp_path, body, kind):
    file = write(tmp_path / "x.pkl", labeled(body, [kind(n) for n in (0, 29, 60, 119)]))
    prepare("pyskl", file, tmp_path / "x")
    store = open_store(tmp_path / "x")
    assert store.labels.tolist() == [0, 29, 60, 119]
    assert len(store.class_names) == 120


def test_ids_for_labels(tmp_path, body, capsys):
    ids = [20211105000, 300_000, 20211105000]
    file = write(
        tmp_path / "x.pkl", [annotation(f"c{i}", n, body[None]) for i, n in enumerate(ids)]
    )
    prepare("pyskl", file, tmp_path / "x")
    store = open_store(tmp_path / "x")
    assert store.labels.tolist() == [1, 0, 1]
    assert store.class_names == ("300000", "20211105000")
    assert "taken as ids of 2 classes" in capsys.readouterr().out


def test_layouts_of_annotations(tmp_path, body):
    def layout(keypoint, **more):
        file = write(tmp_path / "x.pkl", [annotation("a", 0, keypoint[None], **more)])
        return read_all("pyskl", file)[0].layout.name

    assert layout(body) == "ntu-rgb+d"
    assert layout(as_layout(body, "openpose-25")[..., :2]) == "openpose-25"
    assert layout(as_layout(body, "h36m")) == "h36m"
    shuffled = body[:, np.random.default_rng(0).permutation(25)]
    with pytest.raises(ReadError, match=r"could be ntu-rgb\+d or openpose-25"):
        layout(shuffled)
    with pytest.raises(ReadError, match="could be"):
        layout(shuffled[..., :2])
    score = np.ones((1, *shuffled.shape[:2]))
    assert layout(shuffled[..., :2], keypoint_score=score) == "openpose-25"
    # Names of NTU RGB+D vouch for its layout.
    plan, _ = read_all("pyskl", write(tmp_path / "x.pkl", labeled(shuffled, [0, 1])))
    assert plan.layout.name == "ntu-rgb+d"
    assert not any("layout" in note for note in plan.notes)


def test_a_score_that_does_not_fit_and_mixed_dimensions(tmp_path, body):
    body = 300 * body
    flat = body[..., :2]
    score = np.ones((1, *flat.shape[:2]))
    entries = [
        annotation("a", 0, flat[None], keypoint_score=score),
        annotation("b", 0, flat[None], keypoint_score=score[:, 1:]),
        annotation("c", 0, body[None], keypoint_score=score),
    ]
    _, found = read_all("pyskl", write(tmp_path / "x.pkl", entries), layout="ntu-rgb+d")
    assert isinstance(found[1], Problem)
    assert "keypoint_score" in found[1].reason
    np.testing.assert_allclose(found[2].positions, found[0].positions)  # without its z
    _, found = read_all("pyskl", write(tmp_path / "x.pkl", entries[::-1]))
    assert "2D, while other annotations are 3D" in found[2].reason


def test_annotations_with_the_score_as_third_coordinate(tmp_path, body):
    pixels = as_layout(body, "coco")[..., :2] * [100, -100] + 300
    score = np.random.default_rng(0).uniform(0.2, 1, (*pixels.shape[:2], 1))
    apart, inside = (
        read_all("pyskl", write(tmp_path / "x.pkl", [entry]))
        for entry in (
            annotation("a", 0, pixels[None], keypoint_score=score[None, ..., 0]),
            annotation("a", 0, np.concatenate([pixels, score], 2)[None]),
        )
    )
    assert not inside[0].rotate
    np.testing.assert_array_equal(inside[1][0].positions, apart[1][0].positions)


def write_arrays(folder, arrays, names=None, labels=None):
    """`arrays`: {"train": [N, C, T, V, M], ...}; the authors' files of one benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, array in arrays.items():
        np.save(folder / f"{side}_position.npy", np.asarray(array, np.float32))
        own = (names or {}).get(side) or [f"{side}{i}" for i in range(len(array))]
        number = (labels or {}).get(side) or [i % 2 for i in range(len(array))]
        (folder / f"{side}_label.pkl").write_bytes(pickle.dumps((own, number)))
    return folder


def padded(body, real, frames, coordinates=3):
    """``[C, frames, V, 2]``: one body in the first `real` frames, zeros after."""
    x = np.zeros((coordinates, frames, body.shape[1], 2), np.float32)
    x[:, :real, :, 0] = body[:real].transpose(2, 0, 1)[:coordinates]
    return x


def test_padding_is_not_stretched_into_the_motion(tmp_path, body):
    source = write_arrays(
        tmp_path / "in",
        {
            "train": [padded(body, 8, 40), padded(body, 20, 40)],
            "val": [padded(body, 28, 40)],
        },
    )
    prepare("official", source, tmp_path / "x", "--frames=16")
    store = open_store(tmp_path / "x")
    assert store.positions[..., 0].any(axis=(1, 3)).all()
    assert store.samples["frames"].tolist() == [8, 20, 28]
    prepare("official", source, tmp_path / "y")
    store = open_store(tmp_path / "y")
    assert store.samples["frames"].tolist() == [8, 20, 28]
    np.testing.assert_array_equal(store.positions[0, :, :8], padded(body, 8, 8))
    assert not store.positions[0, :, 8:].any()


def prepared(plan, recording):
    """What was missing in a recording."""
    return make_recipe(plan, frames=16)(recording.positions)[1]


def test_frames_in_which_only_a_second_body_is_seen_stay(tmp_path, body):
    x = padded(body, 8, 40)
    x[:, 8:20, :, 1] = body[8:20].transpose(2, 0, 1)
    plan, found = read_all("official", write_arrays(tmp_path, {"train": [x], "val": [x]}))
    assert prepared(plan, found[0]).length == 20


def test_three_sides_of_a_benchmark(tmp_path, body):
    x = [padded(body, 20, 20)]
    source = write_arrays(tmp_path, {"train": x, "val": x, "test": x})
    plan, found = read_all("official", source)
    assert plan.splits["split"] == {
        "column": "split", "train": ["train"], "test": ["test"], "val": ["val"],
    }  # fmt: skip
    assert sorted(r.columns["split"] for r in found) == ["test", "train", "val"]


def test_arrays_of_two_dimensions_and_a_score(tmp_path, body):
    flat = as_layout(body, "openpose")[..., :2] * [0.1, -0.1]  # an image's y points down
    score = np.random.default_rng(0).uniform(0.3, 1, (*flat.shape[:2], 1))
    three = np.concatenate([flat, score], 2)
    arrays = {side: [padded(three, 20, 30)] for side in ("train", "val")}
    source = write_arrays(tmp_path / "in", arrays)
    plan, found = read_all("official", source, aspect=1.0)
    assert (plan.layout.name, plan.rotate, plan.ready) == ("openpose", False, False)
    assert any("taken as a score" in note for note in plan.notes)
    assert prepared(plan, found[0]).length == 20
    x = found[0].positions
    assert not x[2].any()
    assert np.corrcoef(x[1, :20, :, 0].ravel(), -flat[:20, :, 1].ravel())[0, 1] > 0.999
    upright = read_all("official", source, pose="3d", layout="openpose")[1][0].positions
    np.testing.assert_array_equal(upright, padded(three, 20, 30))
    two = write_arrays(
        tmp_path / "two", {s: [padded(flat, 20, 30, coordinates=2)] for s in ("train", "val")}
    )
    assert read_all("official", two, aspect=1.0)[1][0].positions.shape == x.shape


def test_names_numbered_anew_in_each_file(tmp_path, body, capsys):
    x = [padded(body, 20, 20)] * 4
    numbers = [str(i) for i in range(4)]
    source = write_arrays(
        tmp_path / "in", {"train": x, "val": x[:3]}, {"train": numbers, "val": numbers[:3]}
    )
    prepare("official", source, tmp_path / "x")
    store = open_store(tmp_path / "x")
    assert [len(part) for part in split(store, "split")] == [4, 3]
    assert {"train_0", "test_2"} <= set(store.samples["name"].tolist())
    shown = capsys.readouterr().out
    assert "names are numbered anew" in shown
    assert "left out: 0" in shown


def test_benchmarks_with_numbers_for_names_are_not_joined(tmp_path, body):
    numbers = {"train": ["0", "1"], "val": ["2"]}
    for name, frames in (("xsub", 20), ("xview", 12)):
        x = padded(body, frames, 20)
        write_arrays(tmp_path / name, {"train": [x, x], "val": [x]}, numbers)
    plan, found = read_all("official", tmp_path)
    assert len({r.name for r in found}) == 6
    assert sorted(plan.splits) == ["xsub", "xview"]
    assert found[0].columns["xview"] == "none"


def test_a_sample_that_trains_and_tests_or_changes_its_label(tmp_path, body):
    x = [padded(body, 20, 20)] * 2
    source = write_arrays(tmp_path / "a", {"train": x, "val": x}, {"val": ["train0", "b"]})
    with pytest.raises(ReadError, match="train0 is in train as well as in test"):
        read_all("official", source)
    for name, labels in (("xsub", [0, 1]), ("xview", [0, 2])):
        write_arrays(tmp_path / "b" / name, {"train": x, "val": x}, labels={"train": labels})
    with pytest.raises(ReadError, match=r"train1 has label 2, in .*xsub.* 1"):
        read_all("official", tmp_path / "b")


def test_the_files_own_sides_go_before_the_published_rule(tmp_path, body):
    x = [padded(body, 20, 20)]
    names = {side: [ntu_name(i, 1)] for i, side in enumerate(("train", "val", "test"))}
    labels = {side: [0] for side in names}
    source = write_arrays(tmp_path / "in" / "xsub", dict.fromkeys(names, x), names, labels)
    prepare("official", source.parent, tmp_path / "x")
    store = open_store(tmp_path / "x")
    named = store.samples["name"][validation(store, "xsub")].tolist()
    assert named == names["val"]
    assert store.meta["splits"]["xview"]["column"] == "camera"


def test_one_side_alone_and_one_side_twice(tmp_path, body):
    source = write_arrays(tmp_path, {"train": [padded(body, 20, 20)]})
    plan, _ = read_all("official", source)
    assert not plan.splits
    assert any("column split names no split: it holds nothing but train" in n for n in plan.notes)
    np.save(source / "train_data.npy", np.load(source / "train_position.npy"))
    with pytest.raises(ReadError, match=r"holds the train side as train_data\.npy does: keep one"):
        read_all("official", source)


def test_arrays_of_a_subset_numbered_anew(tmp_path, body):
    x = [padded(body, 20, 20)] * 2
    names = {"train": [ntu_name(0, 7), ntu_name(1, 25)], "val": [ntu_name(2, 7), ntu_name(3, 25)]}
    plan, _ = read_all("official", write_arrays(tmp_path, {"train": x, "val": x}, names))
    assert plan.classes == ("A007", "A025")
    assert plan.layout.name == "ntu-rgb+d"


@pytest.mark.parametrize(
    "data", [b"damaged " * 50, b"\x93NUMPY\x01\x00", pickle.dumps([1, 2, 3]), b""]
)
def test_a_damaged_array_gets_our_words(tmp_path, body, data):
    source = write_arrays(tmp_path, {"train": [padded(body, 20, 20)]})
    (source / "train_position.npy").write_bytes(data)
    with pytest.raises(ReadError, match=r"train_position\.npy: ") as caught:
        read_all("official", source)
    assert "pickle" not in str(caught.value)
    np.save(source / "train_position.npy", np.array([{"x": 1}]), allow_pickle=True)
    with pytest.raises(ReadError, match="holds object, not numbers"):
        read_all("official", source)


def test_flags_that_a_data_set_has_no_use_for(tmp_path, capsys):
    out = tmp_path / "x"
    error = fails(capsys, "ntu120", NTU_RAW, out, "--pose=2d")
    assert "--pose 2d: ntu120 holds 3D" in error
    error = fails(capsys, "ntu120", NTU_RAW, out, "--layout=coco")
    assert "--layout coco: ntu120 is recorded in ntu-rgb+d" in error
    error = fails(capsys, "ntu120", NTU_RAW, out, "--layout=none.yaml")
    assert "--layout none.yaml: none.yaml: cannot read" in error
    assert not out.exists()
    prepare("ntu120", NTU_RAW, out, "--pose=3d", "--layout=ntu-rgb+d")
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", motion(0, 20, 20)[..., :2])
    error = fails(
        capsys, "folder", tmp_path / "in", tmp_path / "y", "--layout=nw-ucla", "--pose=3d"
    )
    assert "2D, while --pose 3d was given" in error


@pytest.mark.parametrize("dataset", reader_names())
def test_flags_of_other_readers_are_refused(tmp_path, capsys, dataset):
    flags = {
        "bodies": "follow",
        "max_bodies": "2",
        "missing": "x.txt",
        "labels": "x.csv",
        "columns": "xyz",
        "csv_bodies": "2",
        "skip_columns": "1",
        "markers": "x.yaml",
        "body_model": "x.npz",
    }
    assert {field for name in reader_names() for field in get_reader(name).OPTIONS} == set(flags)
    for field, value in flags.items():
        flag = f"--{field.replace('_', '-')}"
        error = fails(capsys, dataset, tmp_path / "none", tmp_path / "x", f"{flag}={value}")
        assert (f"{flag}: {dataset} does not use it" in error) == (
            field not in get_reader(dataset).OPTIONS
        )


@pytest.mark.parametrize("kind", [int, np.int64, float])
@pytest.mark.parametrize("flat", [False, True])
def test_frames_beyond_total_frames_are_padding(tmp_path, body, flat, kind):
    x = (body[..., :2] * 300 if flat else body)[None]
    filled = np.concatenate([x, np.repeat(x[:, -1:], 9, axis=1) + 1], axis=1)
    score = {"keypoint_score": np.ones(filled.shape[:3])} if flat else {}
    own = {name: array[:, : x.shape[1]] for name, array in score.items()}
    (plain,) = read_all("pyskl", write(tmp_path / "x.pkl", [annotation("a", 0, x, **own)]))[1]
    entry = annotation("a", 0, filled, **score) | {"total_frames": kind(x.shape[1])}
    (cut,) = read_all("pyskl", write(tmp_path / "x.pkl", [entry]))[1]
    np.testing.assert_array_equal(cut.positions, plain.positions)
    entry["total_frames"] = kind(300)  # of a video of which every tenth frame was taken
    (longer,) = read_all("pyskl", write(tmp_path / "x.pkl", [entry]))[1]
    assert longer.positions.shape[1] == filled.shape[1]


@pytest.mark.parametrize("total", [0, -3, "12", 2.5, np.ones(3)])
def test_total_frames_that_are_no_count(tmp_path, body, total):
    entry = annotation("a", 0, body[None]) | {"total_frames": total}
    (found,) = read_all("pyskl", write(tmp_path / "x.pkl", [entry]))[1]
    assert "total_frames: " in found.reason
    assert "is not 1 or more" in found.reason
