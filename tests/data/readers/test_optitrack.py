"""OptiTrack's csv files: the heading, gaps, several skeletons, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from data.readers.marker_files import MEANS, walk, z_up
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store
from aimclr_fast.data.readers import Problem, ReadError
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers.optitrack import load
from aimclr_fast.prepare import command_line

RECORDED = Path(__file__).parent / "motive"
#: Where the bones of a standing person begin, in meters; left ones, and those in the middle.
_SIDE = {
    "Shoulder": (0.04, 1.35, 0.05), "UArm": (0.15, 1.35, 0.04), "FArm": (0.34, 1.17, 0.09),
    "Hand": (0.48, 1.01, 0.18), "Thigh": (0.09, 0.86, 0.02), "Shin": (0.1, 0.4, -0.04),
    "Foot": (0.1, 0.11, -0.04), "Toe": (0.08, 0.05, 0.1),
}  # fmt: skip
BONES = {
    "": (0.0, 0.86, 0.02), "Ab": (0.0, 0.93, 0.03), "Chest": (0.0, 1.16, 0.04),
    "Neck": (0.0, 1.41, 0.06), "Head": (0.0, 1.54, 0.09),
    **{f"L{name}": place for name, place in _SIDE.items()},
    **{f"R{name}": (-place[0], *place[1:]) for name, place in _SIDE.items()},
}  # fmt: skip


def skeleton(called: str = "Anna", frames: int = 9, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Where the bones of a person who walks off begin, ``[T, 3]`` in meters, by Motive's names."""
    moved = np.linspace(0, 0.5, frames)[:, None] * [1.0, 0.0, 0.5] + [shift, 0.0, 1.0]
    swing = 0.05 * np.sin(np.arange(frames) / 2)
    return {
        f"{called}:{name or called}": np.array(place) + moved
        + swing[:, None] * [0, 0, 1.0 if name.startswith("L") else -1.0]
        for name, place in BONES.items()
    }  # fmt: skip


def motive_text(
    bones: Mapping[str, np.ndarray],
    markers: Mapping[str, np.ndarray] = {},
    *,
    unit: str = "Millimeters",
    rate: float = 120.0,
    numbers: Sequence[int] | None = None,
    version: str = "1.25",
) -> str:
    """As Motive writes it: rotations beside the bones' positions, and markers behind them."""
    scale = {"Millimeters": 1000, "Centimeters": 100, "Meters": 1}[unit]
    frames = len(next(iter((*bones.values(), *markers.values()))))
    numbers = range(frames) if numbers is None else numbers
    both = [("Rotation", axis) for axis in "XYZW"] + [("Position", axis) for axis in "XYZ"]
    columns = [("Bone", name, kind, axis) for name in bones for kind, axis in both]
    columns += [("Marker", name, "Position", axis) for name in markers for axis in "XYZ"]
    parents = ["Root" if kind == "Bone" else "" for kind, *_ in columns]
    facts = (
        f"Format Version,{version},Take Name,walk,Take Notes,,Capture Frame Rate,{rate:.6f},"
        f"Export Frame Rate,{rate:.6f},Capture Start Time,2025-12-25 12.21.50.291 PM,"
        f"Total Exported Frames,{frames},Rotation Type,Quaternion,Length Units,{unit},"
        "Coordinate Space,Global"
    )
    named = "," if version < "1.23" else ",Type"
    lines = [facts, "", ",".join([named, *(kind for kind, *_ in columns)])]
    lines += [",".join([",Name" if named != "," else ",", *(name for _, name, *_ in columns)])]
    ids = [f'"{hash(name) % 10**12:012X}"' for _, name, *_ in columns]
    lines += [",".join([",ID" if named != "," else ",", *ids])]
    lines += [",".join([",Parent", *parents])] if version >= "1.25" else []
    lines += [",".join([",", *(kind for *_, kind, _ in columns)])]
    lines += [",".join(["Frame,Time (Seconds)", *(axis for *_, axis in columns)])]
    for row, number in enumerate(numbers):
        cells = [str(number), f"{number / rate:.6f}"]
        for x in bones.values():
            cells += ["0.000000", "0.000000", "0.000000", "1.000000"]
            cells += ["" if np.isnan(one) else f"{one * scale:.6f}" for one in x[row]]
        for x in markers.values():
            cells += ["" if np.isnan(one) else f"{one * scale:.6f}" for one in x[row]]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def save(file: Path, *given, **more) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(motive_text(*given, **more))
    return file


def refused(source: Path, **options) -> str:
    try:
        _, (found,) = read_all("optitrack", source, **options)
    except ReadError as error:
        return str(error)
    assert isinstance(found, Problem)
    return f"{found.where}: {found.reason}"


def check(recording, layout, bones, called="Anna", body=0, atol=1e-6) -> None:
    for joint, bone in {
        "hips": called, "chest": "Chest", "left_upper_arm": "LUArm", "right_hand": "RHand",
        "left_lower_leg": "LShin", "right_toes": "RToe",
    }.items():  # fmt: skip
        got = recording.positions[:, :, layout.joints.index(joint), body].T
        np.testing.assert_allclose(got, bones[f"{called}:{bone}"], atol=atol)


@pytest.mark.parametrize("unit", ["Millimeters", "Centimeters", "Meters"])
@pytest.mark.parametrize("version", ["1.21", "1.23", "1.25"])
def test_the_bones_of_a_skeleton(unit, version, tmp_path):
    bones = skeleton()
    file = save(tmp_path / "a.csv", bones, unit=unit, version=version)
    plan, (found,) = read_all("folder", file)
    assert plan.reader == "optitrack"
    assert plan.layout.num_joints == 21
    assert found.rate == 120
    check(found, plan.layout, bones)
    notes = "\n".join(plan.notes)
    assert "markers: motive-bones, 21 joints (--markers says otherwise)" in notes
    assert "up: y; Motive's convention, and from feet to head it is y in 100%" in notes
    assert "trunk 7, right arm 3, left arm 3, right leg 4, left leg 4" in notes


def test_a_recording(tmp_path):
    """Three rigid bodies, exported by Motive: two hands and a box, taken for a person's."""
    markers = tmp_path / "hands.yaml"
    markers.write_text(
        "name: hands\njoints:\n  hips: {markers: [Box]}\n"
        "  left_hand: {parent: hips, markers: [Left]}\n"
        "  right_hand: {parent: hips, markers: [Right]}\n"
    )
    file = RECORDED / "rigid_bodies.csv"
    plan, (found,) = read_all("folder", file, markers=markers, up="y")
    assert plan.reader == "optitrack"
    assert found.rate == 120
    assert found.positions.shape == (3, 4, 3, 1)
    lines = [line.split(",") for line in file.read_text().splitlines()[-4:]]
    rows = np.array([[float(cell) for cell in line] for line in lines])
    for joint, column in ((1, 6), (2, 25), (0, 44)):
        expected = rows[:, column : column + 3] / 1000
        np.testing.assert_allclose(found.positions[:, :, joint, 0].T, expected, atol=1e-12)
    assert "no set of markers fits" in refused(file)


REAL = sorted(Path(os.environ.get("AIMCLR_MOTIVE", "/nowhere")).glob("*.csv"))


@pytest.mark.parametrize("file", REAL or [None], ids=lambda file: file and file.stem)
def test_recordings_of_skeletons(file):
    """Exported by Motive; those that we know have no license that lets us ship them."""
    if file is None:
        pytest.skip("AIMCLR_MOTIVE names no folder with csv files of Motive, with skeletons")
    plan, (found,) = read_all("folder", file)
    assert plan.layout.name == "motive-bones"
    x = found.positions[..., 0]
    for joint, parent in plan.layout.edges:
        if "upper_leg" in plan.layout.joints[joint] or "lower" in plan.layout.joints[joint]:
            lengths = np.linalg.norm(x[:, :, joint] - x[:, :, parent], axis=0)
            assert np.ptp(lengths) < 0.01 * lengths.mean()
            assert 0.05 < lengths.mean() < 0.6


def test_labeled_markers(tmp_path):
    """Those of Plug-in Gait; markers without a label are left out, gaps are gaps."""
    markers = {f"Anna:{name}": x for name, x in walk().items()}
    markers["Anna:LKNE"] = markers["Anna:LKNE"].copy()
    markers["Anna:LKNE"][3:5] = np.nan
    markers |= {f"Unlabeled {1000 + n}": np.full((12, 3), float(n)) for n in range(60)}
    plan, (found,) = read_all("optitrack", save(tmp_path / "a.csv", {}, markers))
    assert plan.layout.name == "plug-in-gait"
    head = np.mean([walk()[name] for name in MEANS["head"]], axis=0)
    got = found.positions[:, :, plan.layout.joints.index("head"), 0].T
    np.testing.assert_allclose(got, head, atol=1e-6)
    knee = plan.layout.joints.index("left_lower_leg")
    lost = np.isnan(found.positions).all(axis=0)[..., 0]
    assert np.argwhere(lost).tolist() == [[3, knee], [4, knee]]


def test_bones_and_markers_of_one_name_stay_apart(tmp_path):
    bones = skeleton()
    markers = {"Anna:LFArm": np.zeros((9, 3)) + 7, "Anna:LShin": np.zeros((9, 3)) + 7}
    plan, (found,) = read_all("optitrack", save(tmp_path / "a.csv", bones, markers))
    check(found, plan.layout, bones)


def test_several_skeletons(tmp_path, capsys):
    bones = skeleton() | skeleton("Bert", shift=1.5)
    file = save(tmp_path / "in" / "a.csv", bones)
    assert "2 subjects: say how many to keep with --max-bodies" in refused(file)
    plan, (found,) = read_all("optitrack", file, max_bodies=2)
    check(found, plan.layout, bones)
    check(found, plan.layout, bones, "Bert", body=1)
    command_line(["optitrack", str(file), str(tmp_path / "st"), "--max-bodies=2", "--jobs=1"])
    assert open_store(tmp_path / "st").positions.shape[-1] == 2


def test_y_points_up_unless_the_motion_contradicts(tmp_path):
    bones = {name: z_up(x) for name, x in skeleton().items()}
    file = save(tmp_path / "a.csv", bones)
    said = "Motive's convention says y points up, but from feet to head it is z in 100%"
    assert said in refused(file)
    plan, (found,) = read_all("optitrack", file, up="z")
    check(found, plan.layout, skeleton())
    assert "up: z, as --up says" in "\n".join(plan.notes)


def test_frames_that_are_skipped_are_gaps(tmp_path):
    file = save(
        tmp_path / "a.csv", skeleton(), numbers=[100, 101, 102, 105, 106, 107, 108, 109, 110]
    )
    _, (found,) = read_all("optitrack", file)
    lost = np.isnan(found.positions).all(axis=(0, 2, 3))
    assert np.flatnonzero(lost).tolist() == [3, 4]


def test_a_store_with_labels_among_other_csv_files(tmp_path, capsys):
    for n in range(4):
        save(tmp_path / "in" / f"w{n}.csv", skeleton(shift=n))
    rows = "".join(f"w{n}.csv,{n % 2},{'train' if n < 2 else 'test'}\n" for n in range(4))
    (tmp_path / "in" / "labels.csv").write_text("name,label,split\n" + rows)
    (tmp_path / "in" / "notes.csv").write_text("a,b\n1,2\n")
    arguments = ["optitrack", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1", "--fps=60"]
    command_line([*arguments, "--frames=original"])
    assert "ignored: 1 files of another kind" in capsys.readouterr().out
    store = open_store(tmp_path / "st")
    assert store.samples["label"].tolist() == [0, 1, 0, 1]
    assert store.positions.shape[2] == 5


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("Global\n\n", "Global,,,,\n,,,,\n"),  # as Excel saves it again
        lambda text: text + "\n\n",
        lambda text: text.replace("Time (Seconds)", "Time"),
    ],
)
def test_forms_that_programs_write(form, tmp_path):
    (tmp_path / "a.csv").write_text(form(motive_text(skeleton())), newline="")
    plan, (found,) = read_all("optitrack", tmp_path)
    check(found, plan.layout, skeleton())


SOUND = motive_text(skeleton())
LINE = SOUND.splitlines()[-1]
BROKEN = {
    "no beginning": (
        SOUND.replace("Format Version", "Version"),
        "holds no .csv files of OptiTrack",
    ),
    "no heading": (SOUND[: SOUND.index("Frame,Time")], "expected a line that begins with Frame"),
    "no rate": (SOUND.replace("Frame Rate,120.000000", "Frame Rate,"), "Export Frame Rate: ''"),
    "another rate": (SOUND.replace("120.000000", "30.000000"), "but by their times there are 120"),
    "local": (SOUND.replace("Space,Global", "Space,Local"), ":1: Coordinate Space Local: export"),
    "another unit": (SOUND.replace("Millimeters", "Furlongs"), "unit of lengths is 'Furlongs'"),
    "no positions": (SOUND.replace("Position", "Speed"), "no positions of bones, labeled markers"),
    "a line cut off": (SOUND[:-30], r"\d+ cells, but the heading has 149"),
    "a word": (SOUND.replace(LINE[-10:], "x" * 10), "expected a number of at most"),
    "infinite": (SOUND.replace(LINE[-10:], "inf"), "expected a number of at most"),
    "a coordinate alone": (
        SOUND[: SOUND.rindex(",") + 1] + "\n",
        "has some of its coordinates only",
    ),
    "frames that fall": (SOUND.replace("\n8,", "\n3,"), "Frame: expected whole numbers that rise"),
    "far apart": (SOUND.replace("\n8,0.066667", "\n900000,"), "the numbers count 900,001 frames"),
    "no frames": (SOUND[: SOUND.index("\n0,") + 1], "0 frames; 1 to 108,000 are read"),
    "a bone less": (SOUND.replace("LShin", "Tail"), "motive-bones lacks LShin"),
    "not UTF-8": (SOUND.encode().replace(b"walk", b"\xe5"), "not UTF-8 text"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_are_errors(how, tmp_path, capsys):
    text, message = BROKEN[how]
    file = tmp_path / "a.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert re.search(message, refused(file))
    with pytest.raises(SystemExit) as left:
        command_line(["optitrack", str(file), str(tmp_path / "out"), "--jobs=1"])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert str(file) in error
    assert len(error) < 800


def test_any_damage_is_an_error_or_a_recording(tmp_path):
    rng = random.Random(0)
    parts = [",", "\n", '"', "nan", "1e999", "-", "Frame", "Bone", "Position", "X", "\x00", "0"]
    file, read = tmp_path / "a.csv", 0
    for _ in range(300):
        text = list(SOUND)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1, 40])] = rng.choice(parts)
        file.write_text("".join(text))
        with contextlib.suppress(ReadError):
            assert not np.isinf(load(Entry(file, "a.csv")).places).any()
            read += 1
    assert 0 < read < 290


def test_a_compressed_file(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(motive_text(skeleton()).encode()))
    plan, (found,) = read_all("folder", tmp_path)
    check(found, plan.layout, skeleton())
