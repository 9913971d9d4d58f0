"""The store: what is written comes back, and every way it can be broken is named."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from aimclr_fast.data import StoreError, open_store, write_store
from aimclr_fast.layouts import Layout

LAYOUT = Layout("rod", ("a", "b", "c"), ((1, 0), (2, 1)), 0, (0, 1, 2))
SAMPLES = {
    "name": ["s0", "s1", "s2", "007"],
    "label": [0, 1, 1, 0],
    "subject": [1, 2, 3, 4],
    "place": ["hall", "hall, dark", "", "field"],
}
POSITIONS = np.arange(4 * 3 * 5 * 3 * 2).reshape(4, 3, 5, 3, 2)
METERS = POSITIONS.astype(np.float32)


def make(path, positions=METERS, samples=SAMPLES, **options):
    options = {"layout": LAYOUT, "classes": ["sit", "stand"], **options}
    return write_store(path, positions, samples, **options)


@pytest.fixture
def folder(tmp_path):
    make(tmp_path / "set")
    return tmp_path / "set"


def test_round_trip(folder):
    store = open_store(folder, verify=True)
    assert len(store) == store.num_samples == 4
    assert isinstance(store.positions, np.memmap)
    np.testing.assert_array_equal(store.positions, POSITIONS)
    assert store.layout == LAYOUT
    assert store.scale == 1.0
    assert store.class_names == ("sit", "stand")
    assert store.labels.dtype == np.int64
    assert {name: column.tolist() for name, column in store.samples.items()} == SAMPLES
    assert sorted(os.listdir(folder)) == ["meta.json", "positions.npy", "samples.csv"]
    assert os.listdir(folder.parent) == ["set"]


def test_positions_are_read_only(folder):
    for mmap in (True, False):
        store = open_store(folder, mmap=mmap)
        assert isinstance(store.positions, np.memmap) == mmap
        with pytest.raises(ValueError, match="read-only"):
            store.positions[0] = 0


def test_a_built_in_layout_is_kept_by_name(tmp_path):
    positions = np.zeros((4, 3, 5, 17, 1), np.float16)
    store = make(tmp_path / "set", positions, layout="coco")
    assert store.meta["layout"] == store.layout.name == "coco"


def test_a_built_in_name_with_other_joints_is_kept_whole(tmp_path):
    layout = Layout("coco", LAYOUT.joints, LAYOUT.edges, 0, LAYOUT.swap)
    assert make(tmp_path / "set", layout=layout).layout == layout


def test_float64_is_kept_as_float32(tmp_path):
    store = make(tmp_path / "set", POSITIONS.astype(np.float64))
    assert store.positions.dtype == np.float32


@pytest.mark.parametrize("compress", [False, True])
def test_millimeters(tmp_path, compress):
    store = make(tmp_path / "set", POSITIONS.astype(np.int16), compress=compress)
    assert store.meta["unit"] == "mm"
    assert store.scale == 0.001
    assert (tmp_path / "set" / "positions.npz").exists() == compress
    open_store(tmp_path / "set", verify=True)
    tensor = store.as_tensor()
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), POSITIONS / 1000, rtol=1e-6)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16])
@pytest.mark.parametrize(
    "index",
    [None, slice(1, 3), 2, [3, 0, 0], np.array([True, False, True, False]), torch.tensor([1, 2])],
    ids=str,
)
def test_as_tensor(tmp_path, mmap, dtype, index):
    make(tmp_path / "set", POSITIONS.astype(dtype))
    store = open_store(tmp_path / "set", mmap=mmap)
    rows = index.numpy() if isinstance(index, torch.Tensor) else index
    expected = POSITIONS * store.scale if rows is None else POSITIONS[rows] * store.scale
    tensor = store.as_tensor(index)
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6)
    tensor.zero_()  # a copy: writing to it leaves the store as it was
    np.testing.assert_array_equal(store.positions, POSITIONS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_as_tensor_rounds_once(tmp_path, dtype):
    store = make(tmp_path / "set", (POSITIONS * 80).astype(np.int16))
    tensor = store.as_tensor(dtype=dtype)
    assert tensor.dtype == dtype
    expected = torch.from_numpy(POSITIONS * 80 * 0.001)
    torch.testing.assert_close(tensor, expected.to(dtype), rtol=1e-6, atol=0)


def test_labels_and_classes_may_be_absent(tmp_path):
    store = make(tmp_path / "set", samples={"name": list("abcd")}, classes=None)
    assert store.labels is None
    assert store.class_names == ()
    assert store.summary() == "set: 4 sequences, 5 frames, 3 joints (rod), 2 bodies"


def test_labels_without_class_names(tmp_path):
    samples = {**SAMPLES, "label": [0, 41, 7, 7]}
    assert "42 classes" in make(tmp_path / "set", samples=samples, classes=None).summary()


def test_summary(tmp_path):
    splits = {"xsub": {"column": "subject", "train": "odd"}}
    store = make(tmp_path / "set", POSITIONS[..., :1].astype(np.float32), splits=splits)
    assert store.summary() == (
        "set: 4 sequences, 5 frames, 3 joints (rod), 1 body, 2 classes, 4 subjects, splits xsub"
    )


def test_spreadsheet_csv_is_read(folder):
    text = (folder / "samples.csv").read_text()
    (folder / "samples.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert open_store(folder).samples["name"].tolist() == SAMPLES["name"]


# ---------------------------------------------------------------- writing


def test_an_existing_store_is_replaced_only_when_asked(folder):
    with pytest.raises(StoreError, match="set: exists already"):
        make(folder)
    make(folder, POSITIONS.astype(np.int16), compress=True, overwrite=True)
    assert sorted(os.listdir(folder)) == ["meta.json", "positions.npz", "samples.csv"]
    assert os.listdir(folder.parent) == ["set"]


def test_what_is_not_a_store_is_never_replaced(tmp_path, folder):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").write_text("")
    for name in ("thesis", "link", "file"):
        with pytest.raises(StoreError, match=f"{name}: is not a store"):
            make(tmp_path / name, overwrite=True)
        assert (tmp_path / name).exists()


def test_a_failed_rename_leaves_the_old_store(folder, monkeypatch):
    rename = type(folder).rename

    def failing(self, target):
        if target == folder and not self.name.endswith(".old"):
            raise OSError("disk on fire")
        return rename(self, target)

    monkeypatch.setattr(type(folder), "rename", failing)
    with pytest.raises(OSError, match="fire"):
        make(folder, POSITIONS.astype(np.int16), overwrite=True)
    monkeypatch.undo()
    assert open_store(folder, verify=True).positions.dtype == np.float32
    assert os.listdir(folder.parent) == ["set"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((4, 5, 3, 2), np.float32)}, r"positions: shape must be.*\[4, 5"),
        ({"positions": POSITIONS.astype(np.int32)}, "positions: dtype int32"),
        ({"positions": POSITIONS[:3].astype(np.float32)}, "samples.csv: 4 rows, .* 3 samples"),
        ({"positions": np.full(POSITIONS.shape, np.inf)}, "positions: sample 0 .* not finite"),
        ({"layout": "coco"}, "positions: shape has 3 joints, but layout 'coco' has 17"),
        ({"layout": "worm"}, "unknown layout 'worm'"),
        ({"samples": {**SAMPLES, "subject": [1]}}, "samples: columns differ in length"),
        ({"samples": {"label": [0, 1, 0, 1]}}, "samples.csv: header"),
        ({"samples": {**SAMPLES, "name": list("abca")}}, "samples.csv: name: row 5: 'a'"),
        ({"samples": {**SAMPLES, "label": [0, 1, 0, 2]}}, "label: row 5: 2 is not 0 to 1"),
        ({"classes": ["sit", "sit"]}, "meta.json: classes"),
        ({"splits": {"xsub": {1, 2}}}, "not JSON serializable"),
    ],
)
def test_nothing_is_left_behind(tmp_path, changes, message):
    with pytest.raises((StoreError, ValueError, TypeError), match=message):
        make(tmp_path / "set", **changes)
    assert os.listdir(tmp_path) == []


def test_parent_folders_are_made(tmp_path):
    assert len(make(tmp_path / "not" / "yet" / "set")) == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot make .*file"):
        make(tmp_path / "file" / "set")


# ---------------------------------------------------------------- broken stores


def refuse(folder, message, **options):
    with pytest.raises(StoreError, match=message):
        open_store(folder, **options)


def test_no_folder(tmp_path):
    refuse(tmp_path / "gone", "gone: no such folder")


@pytest.mark.parametrize("name", ["positions.npy", "samples.csv", "meta.json"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refuse(folder, f"set.*{name}.*no such file")


def test_a_folder_in_the_place_of_a_file(folder):
    (folder / "samples.csv").unlink()
    (folder / "samples.csv").mkdir()
    refuse(folder, "samples.csv: not a file")


def test_both_kinds_of_positions(folder):
    np.savez(folder / "positions.npz", positions=POSITIONS)
    refuse(folder, "needs positions.npy or positions.npz: both are there")


@pytest.mark.parametrize("name", ["positions.npy", "samples.csv", "meta.json"])
def test_links_may_not_lead_outside(folder, name):
    outside = folder.parent / "elsewhere"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    refuse(folder, f"{name}: a link that leads outside the store")
    (folder / name).unlink()
    outside.rename(folder / "inside")
    (folder / name).symlink_to("inside")
    assert len(open_store(folder)) == 4


def test_a_linked_folder_is_fine(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert len(open_store(link)) == 4


@pytest.mark.parametrize("name", ["positions.npy", "samples.csv"])
def test_checksums(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    open_store(folder)
    refuse(folder, f"{name}: sha256 differs from checksums in meta.json", verify=True)


def test_a_checksum_that_is_not_there_does_not_pass(folder):
    edit_meta(folder, checksums={})
    refuse(folder, "positions.npy: sha256 differs", verify=True)


def edit_meta(folder, **changes):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: expected 1, got 2"),
        ({"version": None}, "version"),
        ({"frames": 0}, "frames: expected a count"),
        ({"frames": "5"}, "frames: expected a count"),
        ({"unit": "inch"}, "unit: expected"),
        ({"classes": "sit"}, "classes: expected"),
        ({"classes": [1, 2]}, "classes: expected"),
        ({"classes": ["sit", "sit"]}, "classes: expected"),
        ({"splits": []}, "splits: expected an object"),
        ({"protocols": []}, "protocols and splits are the same field; keep splits"),
        ({"checksums": "none"}, "checksums: expected an object"),
        ({"source": 3}, "source: expected text"),
        ({"licence": []}, "licence: expected text"),
        ({"citation": {}}, "citation: expected text"),
        ({"layout": "worm"}, "layout: unknown layout 'worm'"),
        ({"layout": "rod.yaml"}, "layout: must be a built-in name or a whole layout"),
        ({"layout": None}, "layout: must be a built-in name or a whole layout"),
        ({"layout": {**LAYOUT.to_dict(), "center": 9}}, "layout: .*center: 9"),
    ],
)
def test_invalid_meta(folder, changes, message):
    edit_meta(folder, **changes)
    refuse(folder, f"set/meta.json: {message}")


def test_the_keys_of_earlier_versions_are_read(folder):
    written = json.loads((folder / "meta.json").read_text())
    assert "splits" in written
    assert "center" in written["layout"]
    rules = {"xsub": {"column": "subject", "train": "odd"}}
    layout = {{"center": "centre"}.get(key, key): x for key, x in written.pop("layout").items()}
    del written["splits"]
    (folder / "meta.json").write_text(json.dumps({**written, "layout": layout, "protocols": rules}))
    store = open_store(folder)
    assert store.meta["splits"] == rules
    assert "protocols" not in store.meta
    assert store.layout == LAYOUT


def test_meta_that_is_not_an_object(folder):
    for text, message in (
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "top level: must be an object"),
    ):
        (folder / "meta.json").write_text(text)
        refuse(folder, f"meta.json: {message}")
    (folder / "meta.json").write_bytes(b"\xff")
    refuse(folder, "meta.json: not valid JSON")


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (METERS[0], r"shape must be \[S, 3, T, V, M\], got \[3, 5, 3, 2\]"),
        (METERS[:, :2], "shape must be"),
        (METERS[:0], "shape must be"),
        (METERS[:, :, :4], "shape has 4 frames, but frames in meta.json is 5"),
        (METERS[:, :, :, :2], "shape has 2 joints, but layout 'rod' has 3"),
        (POSITIONS.astype(np.float64), "dtype float64 in m: must be one of float32 in m"),
        (POSITIONS.astype(">f4"), "dtype >f4"),
        (POSITIONS.astype(np.int16), "dtype int16 in m"),
    ],
)
def test_invalid_positions(folder, positions, message):
    np.save(folder / "positions.npy", positions)
    refuse(folder, f"set/positions.npy: {message}")


def test_float_millimeters_are_refused(folder):
    edit_meta(folder, unit="mm")
    refuse(folder, "positions.npy: dtype float32 in mm")


@pytest.mark.parametrize("mmap", [False, True])
def test_unreadable_positions(folder, mmap):
    file = folder / "positions.npy"
    whole = file.read_bytes()
    archive = folder.parent / "archive.npz"
    np.savez(archive, positions=POSITIONS)
    for data in (b"", b"text", whole[:40], whole[:-8], archive.read_bytes(), pickle.dumps([1])):
        file.write_bytes(data)
        refuse(folder, "set/positions.npy: not a readable NumPy file", mmap=mmap)
    np.save(file, np.array([{}]), allow_pickle=True)
    refuse(folder, "set/positions.npy: not a readable NumPy file", mmap=mmap)


def test_unreadable_compressed_positions(folder):
    file = folder / "positions.npz"
    (folder / "positions.npy").rename(file)
    refuse(folder, "positions.npz: not a readable NumPy file")  # no archive
    np.savez(file, other=POSITIONS)
    refuse(folder, "positions.npz: has no array named positions")
    np.savez_compressed(file, positions=POSITIONS.astype(np.float32))
    whole = file.read_bytes()
    assert len(open_store(folder)) == 4
    file.write_bytes(whole[: len(whole) // 2])
    refuse(folder, "positions.npz: not a readable NumPy file")
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(60) + whole[middle + 60 :])
    refuse(folder, "positions.npz: not a readable NumPy file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header: columns must"),
        ("label\n0\n", "header: columns must"),
        ("name,label,label\n", "header: columns must"),
        ("name,\na,b\n", "header: columns must"),
        ("name,label\na,0\nb\n", "row 3: 1 cells, expected 2"),
        ('name,label\n"a"b,0\n', "not a readable CSV file"),
        ("name\na\nb\nc\n", "3 rows, but there are 4 samples"),
        ("name\na\nb\nc\nb\n", "name: row 5: 'b' is empty or repeated"),
        ('name,x\na,1\n"",1\nc,1\nd,1\n', "name: row 3: '' is empty"),
        ("name,label\na,0\nb,1\nc,one\nd,1\n", "label: row 4: 'one' is not an integer"),
        ("name,label\na,0\nb,1.0\nc,1\nd,1\n", "label: row 3: '1.0' is not an integer"),
        ("name,label\na,0\nb,\nc,1\nd,1\n", "label: row 3: '' is not an integer"),
        ("name,label\na,0\nb,2\nc,1\nd,1\n", "label: row 3: 2 is not 0 to 1"),
        ("name,label\na,0\nb,-1\nc,1\nd,1\n", "label: row 3: -1 is not 0 to 1"),
    ],
)
def test_invalid_samples(folder, text, message):
    (folder / "samples.csv").write_text(text)
    refuse(folder, f"set/samples.csv: {message}")


def test_negative_label_without_class_names(folder):
    edit_meta(folder, classes=None)
    (folder / "samples.csv").write_text("name,label\na,0\nb,-1\nc,1\nd,1\n")
    refuse(folder, "label: row 3: -1 is not 0 or more")


def test_samples_that_are_not_text(folder):
    (folder / "samples.csv").write_bytes(b"name\n\xff\n")
    refuse(folder, "samples.csv: not a readable CSV file")
