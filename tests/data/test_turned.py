"""A store that is another one, turned about y by an angle for each value of a column."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aimclr_fast.data import StoreError, open_embedded, open_store, split, write_store
from aimclr_fast.data.preprocessing import Preprocessing

ANGLES = {"column": "place", "degrees": {"hall": 90, "field": -30.5, "roof": 10}}
LAYOUT = open_embedded().layout


@pytest.fixture
def base(tmp_path):
    return store_of(tmp_path / "base")


def store_of(path, dtype=np.int16, largest=2000, **more):
    rng = np.random.default_rng(0)
    positions = rng.integers(-largest, largest, (3, 3, 4, 22, 2)).astype(dtype)
    if dtype != np.int16:
        positions /= 1000
    samples = {"name": ["a", "b", "c"], "label": [0, 1, 1], "place": ["hall", "field", "hall"]}
    how = Preprocessing(4, "exact", normalize="sequence")
    return write_store(path, positions, samples | more, layout=LAYOUT, preprocessing=how)


def turned(path, **fields):
    path.mkdir()
    meta = {"version": 1, "positions_of": "base", "turned": ANGLES, **fields}
    meta = {name: value for name, value in meta.items() if value is not ...}
    (path / "meta.json").write_text(json.dumps(meta))
    return path


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.float32])
def test_positions_are_turned_and_rounded_once(tmp_path, dtype):
    base = store_of(tmp_path / "base", dtype)
    store = open_store(turned(tmp_path / "x"), verify=True)
    assert store.positions.dtype == dtype
    assert not store.positions.flags.writeable
    for row, degrees in enumerate([90, -30.5, 90]):
        # The right-handed turn about y: z goes to x at 90 degrees.
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        matrix = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        wanted = np.einsum("ij,jtvm->itvm", matrix, base.positions[row].astype(np.float64))
        wanted = np.rint(wanted) if dtype == np.int16 else wanted.astype(dtype)
        np.testing.assert_array_equal(store.positions[row], wanted)


def test_all_else_is_the_other_stores(tmp_path, base):
    store = open_store(turned(tmp_path / "x"))
    assert store.path == tmp_path / "x"
    for name in base.samples:
        np.testing.assert_array_equal(store.samples[name], base.samples[name])
    assert store.samples["turned_deg"].tolist() == ["90", "-30.5", "90"]
    assert (store.layout, store.class_names) == (base.layout, base.class_names)
    assert store.meta["source"] == base.meta["source"]
    assert open_store(turned(tmp_path / "y", source="ours")).meta["source"] == "ours"


def test_new_recordings_are_taken_as_they_were_filmed(tmp_path, base):
    wanted = Preprocessing(4, "none", "fill", "sequence")
    assert open_store(turned(tmp_path / "x")).preprocessing == wanted


def test_preprocessing_that_nobody_knows_stays_so(tmp_path):
    store_of(tmp_path / "base")
    meta = json.loads((tmp_path / "base/meta.json").read_text())
    (tmp_path / "base/meta.json").write_text(json.dumps(meta | {"preprocessing": None}))
    assert open_store(turned(tmp_path / "x")).preprocessing is None


def test_checksums_cover_the_angles(tmp_path, base):
    other = ANGLES | {"degrees": ANGLES["degrees"] | {"field": -30}}
    found = [
        base.checksums(),
        open_store(turned(tmp_path / "x")).checksums(),
        open_store(turned(tmp_path / "y", turned=other)).checksums(),
    ]
    for name in ("positions.npy", "samples.csv"):
        assert len({sums[name] for sums in found}) == 3
    assert open_store(tmp_path / "x").meta["checksums"] == found[1]
    shutil.copytree(tmp_path / "x", tmp_path / "z")
    assert open_store(tmp_path / "z").checksums() == found[1]


def test_damage_of_the_other_store_is_found(tmp_path, base):
    turned(tmp_path / "x")
    with (tmp_path / "base/samples.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(StoreError, match=r"base/samples\.csv: sha256 differs"):
        open_store(tmp_path / "x", verify=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions_of": "nowhere"}, "positions_of: .* has no folder 'nowhere'"),
        ({"positions_of": "../base"}, "positions_of: expected the name of a folder beside"),
        ({"positions_of": ".."}, "positions_of: expected the name of a folder beside"),
        ({"positions_of": ""}, "positions_of: expected the name of a folder beside"),
        ({"positions_of": 7}, "positions_of: expected the name of a folder beside"),
        ({"positions_of": ...}, "positions_of: expected the name of a folder beside"),
        ({"positions_of": "x"}, "positions_of: 'x' has no positions of its own"),
        ({"positions_of": "linked"}, "positions_of: 'linked' is a link that leads elsewhere"),
        ({"turned": ...}, "turned: expected the fields column and degrees"),
        ({"turned": {"column": "place"}}, "turned: expected the fields column and degrees"),
        ({"turned": ANGLES | {"column": 3}}, "turned: column: expected a name"),
        ({"turned": ANGLES | {"column": "camera"}},
         "turned: no column 'camera': there is name, label, place"),
        ({"turned": ANGLES | {"degrees": {"field": 1}}}, "degrees: no angle for place hall"),
        ({"turned": ANGLES | {"degrees": {"hall": "1"}}}, "degrees: hall: expected -360 to 360"),
        ({"turned": ANGLES | {"degrees": {"hall": float("nan")}}}, "hall: expected -360 to 360"),
        ({"turned": ANGLES | {"degrees": {"hall": True}}}, "hall: expected -360 to 360"),
        ({"turned": ANGLES | {"degrees": {"hall": 10**400}}}, "hall: expected -360 to 360"),
        ({"version": 2}, "version: expected 1, got 2"),
        ({"source": 1}, "source: expected text"),
        ({"layout": "coco"}, "layout: not a field of a turned store"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_named(tmp_path, base, fields, message):
    (tmp_path / "linked").symlink_to(tmp_path.parent)
    turned(tmp_path / "x", **fields)
    with pytest.raises(StoreError, match=rf"x/meta\.json: .*{message}"):
        open_store(tmp_path / "x")


def test_a_folder_with_positions_of_its_own_is_refused(tmp_path, base):
    turned(tmp_path / "x")
    shutil.copy(tmp_path / "base/positions.npy", tmp_path / "x")
    with pytest.raises(StoreError, match=r"positions_of: the store has its own positions\.npy"):
        open_store(tmp_path / "x")


def test_a_column_that_would_be_hidden_is_refused(tmp_path):
    store_of(tmp_path / "base", turned_deg=[1, 2, 3])
    with pytest.raises(StoreError, match="the samples have a column turned_deg already"):
        open_store(turned(tmp_path / "x"))


def test_positions_that_do_not_fit_once_turned_are_refused(tmp_path):
    store_of(tmp_path / "base", largest=32767)
    angles = {"column": "place", "degrees": {"hall": 45, "field": 0}}
    with pytest.raises(StoreError, match="turned by 45 degrees, positions leave int16"):
        open_store(turned(tmp_path / "x", turned=angles))


def test_the_embedded_store_of_cameras_that_nobody_aligned():
    store, aligned = open_embedded("ui_prmd_unaligned"), open_embedded()
    subject = store.samples["subject"]
    np.testing.assert_array_equal(store.samples["turned_deg"], 36 * (subject - 1))
    train, test = split(store, "xsub")
    np.testing.assert_array_equal(train, split(aligned, "xsub")[0])
    assert not set(store.samples["turned_deg"][train]) & set(store.samples["turned_deg"][test])
    np.testing.assert_array_equal(store.positions[subject == 1], aligned.positions[subject == 1])
    # Shoulders lie along the camera's angle in each frame, but for the rounding of both ends.
    left, right = store.layout.shoulders
    across = (store.positions[:, :, :, right, 0] - store.positions[:, :, :, left, 0]).astype(float)
    angle = np.deg2rad(store.samples["turned_deg"])[:, None]
    along = across[:, 0] * np.cos(angle) - across[:, 2] * np.sin(angle)
    aside = across[:, 0] * np.sin(angle) + across[:, 2] * np.cos(angle)
    assert along.min() > 0
    assert np.abs(aside).max() <= np.sqrt(2)
    assert store.preprocessing == Preprocessing(50, "none", "fill")
    assert store.meta["citation"] == aligned.meta["citation"]
    assert store.meta["licence"] == "ODC-PDDL-1.0"


def test_the_script_places_cameras_evenly_and_overwrites_nothing(
    base, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from unalign_store import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["unalign_store.py", *map(str, arguments)])
        main()

    run(tmp_path / "base", "--column", "place")
    run(tmp_path / "base", "--column", "place")  # its own file may be written again
    store = open_store(tmp_path / "base_unaligned")
    assert store.samples["turned_deg"].tolist() == [180, 0, 180]  # field, hall
    store_of(tmp_path / "other")
    store_of(tmp_path / "other_unaligned")
    before = (tmp_path / "other_unaligned" / "meta.json").read_bytes()
    for arguments, words in (
        ([tmp_path / "other", "--column", "place"], "is there already"),
        ([tmp_path / "base_unaligned", "--column", "place"], "is another store, turned"),
        ([tmp_path / "base"], "has no column subject: name, label, place"),
        ([tmp_path / "nothing"], "nothing: no such folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "other_unaligned" / "meta.json").read_bytes() == before
