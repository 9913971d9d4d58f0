"""TRC: the format, its gaps, and what is refused. Marker sets and axes are tested with C3D, too."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from data.readers.marker_files import HIP, LEGS, MEANS, RATE, walk, z_up
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store
from aimclr_fast.data.readers import Options, Problem, ReadError, Recording, get_reader
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers.trc import load
from aimclr_fast.prepare import command_line

BY_OTHERS = Path(__file__).parent / "motion" / "trc_data_reader.trc"
RECORDED = Path(__file__).parent / "pose2sim"


def trc_text(markers, *, units="mm", rate=RATE, numbers=None, times=True, extra=()) -> str:
    """As Cortex writes it: names of computed markers behind those with numbers."""
    x = np.stack(list(markers.values()), axis=1) * {"mm": 1000, "m": 1}.get(units, 1000)
    frames, count = x.shape[:2]
    numbers = range(1, frames + 1) if numbers is None else numbers
    names = "".join(f"{name}\t\t\t" for name in (*markers, *extra))
    lines = [
        "PathFileType\t4\t(X/Y/Z)\tC:\\walk.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate",
        f"{rate:.2f}\t{rate:.2f}\t       {frames}\t{count}\t{units}\t{rate:.2f}",
        f"Frame#\tTime\t{names}",
        "\t\t" + "".join(f"X{n}\tY{n}\tZ{n}\t" for n in range(1, count + 1)),
        "",
    ]
    for number, row in zip(numbers, x, strict=True):
        cells = ["" if np.isnan(value) else f"{value:.5f}" for value in row.ravel()]
        time = f"{(number - 1) / rate:.3f}" if times else ""
        lines.append("\t".join([str(number), time, *cells, *[""] * 3 * len(extra)]) + "\t")
    return "\n".join(lines) + "\n"


def save(file: Path, markers, **more) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(trc_text(markers, **more))
    return file


def refused(source: Path, **options) -> str:
    try:
        _, (found,) = read_all("trc", source, **options)
    except ReadError as error:
        return str(error)
    assert isinstance(found, Problem)
    return f"{found.where}: {found.reason}"


def check_walk(recording, layout, markers, atol=1e-5) -> None:
    joints = {name: np.mean([markers[one] for one in own], axis=0) for name, own in MEANS.items()}
    joints["left_upper_leg"] = sum(weight * markers[name] for name, weight in HIP.items())
    for name, expected in joints.items():
        got = recording.positions[:, :, layout.joints.index(name), 0].T
        np.testing.assert_allclose(got, expected, atol=atol)


def test_a_file_by_another_program():
    """By trc-data-reader, whose own reader moves the markers behind an empty one."""
    plan, (found,) = read_all("folder", BY_OTHERS)
    assert plan.reader == "trc"
    assert found.rate == RATE
    check_walk(found, plan.layout, walk(), atol=1e-5)
    knee = plan.layout.joints.index("left_lower_leg")
    lost = np.isnan(found.positions).all(axis=0)[..., 0]
    assert np.argwhere(lost).tolist() == [[3, knee], [4, knee]]
    assert "up: y, a guess by the motion; from feet to head it is y in 100%" in "\n".join(
        plan.notes
    )


def test_the_names_of_cortex(tmp_path):
    """A lower body with other names, rounded times, and computed markers without numbers."""
    called = {"KNE": "Knee", "ANK": "Ankle", "HEE": "Heel", "TOE": "MT2", "ASI": "ASIS"}
    called["PSI"] = "PSIS"
    markers = walk(200)
    legs = {f"{name[0]}.{called[name[1:]]}": markers[name] for name in LEGS}
    legs["L.Knee.Medial"] = markers["LKNE"] - [0.1, 0, 0]
    file = save(tmp_path / "a.trc", legs, rate=150.0, extra=("V_Mid_ASIS", "V_R.Hip_JC"))
    plan, (found,) = read_all("trc", file)
    assert plan.layout.name == "plug-in-gait-lower"
    assert found.rate == 150
    knee = found.positions[:, :, plan.layout.joints.index("left_lower_leg"), 0].T
    np.testing.assert_allclose(knee, markers["LKNE"] - [0.05, 0, 0], atol=1e-5)


def test_key_points_that_were_triangulated(tmp_path):
    """As Pose2Sim names HALPE's 26 key points, in meters."""
    m = walk()
    places = {
        "Hip": (m["LASI"] + m["RASI"]) / 2, "Neck": m["C7"], "Head": m["LFHD"], "Nose": m["RFHD"],
    }  # fmt: skip
    for side in "LR":
        for name, marker in {
            "Hip": "ASI", "Knee": "KNE", "Ankle": "ANK", "BigToe": "TOE", "SmallToe": "TOE",
            "Heel": "HEE", "Shoulder": "SHO", "Elbow": "ELB", "Wrist": "WRA",
        }.items():  # fmt: skip
            places[f"{side}{name}"] = m[f"{side}{marker}"]
    plan, (found,) = read_all("trc", save(tmp_path / "a.trc", places, units="m"))
    assert plan.layout.name == "key-points"
    assert "19 joints, 3 of them means of several markers (" in "\n".join(plan.notes)
    elbow = found.positions[:, :, plan.layout.joints.index("right_lower_arm"), 0].T
    np.testing.assert_allclose(elbow, m["RELB"], atol=1e-5)


def test_a_recording():
    """Of Pose2Sim's demonstration: BODY_25B's 21 points, without one between the hips."""
    file = RECORDED / "participants.trc"
    plan, (found,) = read_all("folder", file)
    assert plan.reader == "trc"
    assert plan.layout.name == "key-points"
    assert found.rate == 60
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    rows = np.array([[float(cell) for cell in line[2:]] for line in lines[5:]]).reshape(4, 21, 3)
    m = dict(zip([cell for cell in lines[3][2:] if cell], rows.swapaxes(0, 1), strict=True))
    for joint, expected in {
        "hips": (m["LHip"] + m["RHip"]) / 2,
        "left_hand": m["LWrist"],
        "right_toes": (m["RBigToe"] + m["RSmallToe"]) / 2,
    }.items():
        got = found.positions[:, :, plan.layout.joints.index(joint), 0].T
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_axis_that_points_up_is_found(up, tmp_path):
    markers = {name: x if up == "y" else z_up(x) for name, x in walk().items()}
    plan, (found,) = read_all("trc", save(tmp_path / "a.trc", markers))
    check_walk(found, plan.layout, walk())
    assert f"up: {up}, a guess by the motion; from feet to head" in "\n".join(plan.notes)


def test_frames_that_are_skipped_are_gaps(tmp_path):
    numbers = [1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    _, (found,) = read_all("trc", save(tmp_path / "a.trc", walk(), numbers=numbers))
    lost = np.isnan(found.positions).all(axis=(0, 2, 3))
    assert np.flatnonzero(lost).tolist() == [3, 4]
    every_other = save(tmp_path / "b.trc", walk(), numbers=range(3, 27, 2))
    assert "DataRate: 100, but by their times there are 50 frames" in refused(every_other)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\t\n", "\n"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("       12", "12"),
        lambda text: text + "\n\n",
    ],
)
def test_forms_that_programs_write(form, tmp_path):
    (tmp_path / "a.trc").write_text(form(trc_text(walk())), newline="")
    plan, (found,) = read_all("trc", tmp_path)
    check_walk(found, plan.layout, walk())


def test_a_store_with_labels(tmp_path, capsys):
    for n in range(4):
        save(tmp_path / "in" / f"w{n}.trc", walk(seed=n))
    rows = "".join(f"w{n}.trc,{n % 2},{'train' if n < 2 else 'test'}\n" for n in range(4))
    (tmp_path / "in" / "labels.csv").write_text("name,label,split\n" + rows)
    command_line(["folder", str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1", "--fps=50"])
    assert "nothing odd" in capsys.readouterr().out
    store = open_store(tmp_path / "st")
    assert store.labels.tolist() == [0, 1, 0, 1]
    assert store.samples["frames"].tolist() == [6] * 4


SOUND = trc_text(walk())
ROW = SOUND.splitlines()[8]
WRONG = {
    "empty": ("", "begins with PathFileType"),
    "another": ("HIERARCHY\n" * 9, "begins with PathFileType"),
    "blanks": (SOUND.replace("\t", " "), "DataRate: ''"),
    "no names": (SOUND.replace("Frame#\tTime", "Frame# Time"), ":4: expected Frame#, Time"),
    "rate": (SOUND.replace("100.00", "0"), ":3: DataRate: '0'"),
    "times": (SOUND.replace("100.00", "30.00"), "by their times there are 100 frames per second"),
    "nan rate": (SOUND.replace("100.00", "nan"), ":3: DataRate: 'nan'"),
    "frames": (SOUND.replace("  12\t", "  13\t"), ":3: NumFrames: 13, but 12 lines: the file was"),
    "more frames": (SOUND.replace("  12\t", "  11\t"), "NumFrames: 11, but 12 lines: there are"),
    "huge frames": (SOUND.replace("  12\t", f"  {10**12}\t"), ":3: NumFrames: '1000000000000'"),
    "huge markers": (SOUND.replace("\t30\tmm", "\t999999\tmm"), ":3: NumMarkers: '999999'"),
    "more markers": (SOUND.replace("\t30\tmm", "\t31\tmm"), ":4: NumMarkers: 31, but 30 names"),
    "no markers": (SOUND.replace("\t30\tmm", "\t0\tmm"), ":3: NumMarkers: '0'"),
    "part": (SOUND.replace(ROW, ROW.replace(ROW.split("\t")[3], "", 1)), ":9: marker C7 has some"),
    "word": (SOUND.replace(ROW, ROW.replace(ROW.split("\t")[3], "x1", 1)), ":9: expected a number"),
    "infinite": (SOUND.replace(ROW, ROW.replace(ROW.split("\t")[3], "inf", 1)), ":9: expected a"),
    "cut": (SOUND[: SOUND.rindex("\t", 0, -9)], "cells, but the heading has 92"),
    "frame again": (SOUND.replace("\n4\t", "\n3\t"), "Frame#: expected whole numbers that rise"),
    "far frame": (SOUND.replace("\n12\t0.110", "\n1200\t11.99"), "renumber Frame#"),
    "no unit": (SOUND.replace("\tmm\t", "\t\t"), "no unit: say it with --unit"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_wrong_files(how, tmp_path, capsys):
    text, reason = WRONG[how]
    (tmp_path / "a.trc").write_text(text)
    message = refused(tmp_path / "a.trc")
    assert message.startswith(f"{tmp_path / 'a.trc'}:")
    assert reason in message
    with pytest.raises(SystemExit) as left:
        command_line(["trc", str(tmp_path / "a.trc"), str(tmp_path / "out"), "--jobs=1"])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.count("\n") == 1
    assert len(error) < 700


def test_mutated_files_are_read_or_refused(tmp_path):
    rng = random.Random(0)
    parts = ["\t", "\n", "nan", "1e999", "-", "x", "\x00", "Frame#", "12", ""]
    file = tmp_path / "a.trc"
    read = refusals = 0
    for _ in range(200):
        text = SOUND
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(rng.choice([400, len(text)]))
            text = text[:at] + rng.choice(parts) + text[at + rng.choice([0, 1, 40]) :]
        file.write_text(text[: rng.choice([None, None, rng.randrange(len(text))])])
        try:
            load(Entry(file, "a.trc"))
            read += 1
        except ReadError:
            refusals += 1
    assert min(read, refusals) > 10


def test_a_source_without_any(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ReadError, match=r"holds no \.trc files; ignored: 1 files"):
        get_reader("trc").plan(tmp_path, Options())
    whole = save(tmp_path / "b.trc", walk())
    assert isinstance(read_all("trc", whole)[1][0], Recording)


@pytest.mark.parametrize("kind", ["trc", "optitrack"])
def test_gaps_take_no_more_memory_than_a_recording(kind, tmp_path, monkeypatch):
    """Frames that are skipped are gaps, but a small file must not become gigabytes."""
    numbers = [1, *range(14, 14 * 12, 14)][:12]
    file = save(tmp_path / "a.trc", walk(), numbers=[*numbers[:11], numbers[10] + 1], times=False)
    if kind == "optitrack":
        rows = [f"{n}," + ",".join("1" for _ in range(3 * len(walk()))) for n in (0, 1, 30)]
        names = ",".join(f"{name}" for name in walk() for _ in "xyz")
        line = ",".join(["X,Y,Z"] * len(walk()))
        alike = [",".join([one] * 3 * len(walk())) for one in ("Marker", "1", "Position")]
        heading = f",Type,{alike[0]}\n,Name,{names}\n,ID,{alike[1]}\n,,{alike[2]}\n"
        file = tmp_path / "a.csv"
        file.write_text(
            "Format Version,1.25,Export Frame Rate,30,Length Units,Meters\n"
            f"{heading}Frame,Time,{line}\n" + "\n".join(row.replace(",", ",,", 1) for row in rows)
        )
    monkeypatch.setattr("aimclr_fast.data.readers._markers._MOST_POINTS", 600)
    with pytest.raises(ReadError, match=r"frames of \d+ points; at most 108,000 frames and 600"):
        get_reader(kind).load(Entry(file, file.name))
