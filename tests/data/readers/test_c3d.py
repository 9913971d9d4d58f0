"""C3D: markers, marker sets, units, axes, gaps, and what is refused."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import struct
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data.readers.marker_files import HIP, LEGS, MEANS, RATE, walk, z_up
from data.readers.test_ntu import read_all
from missing import require

from aimclr_fast.data import open_store
from aimclr_fast.data.readers import Options, Problem, ReadError, Recording, get_reader
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers.c3d import _points, load
from aimclr_fast.prepare import command_line

BY_EZC3D = Path(__file__).parent / "motion" / "ezc3d.c3d"


@pytest.fixture(autouse=True)
def _needs_c3d(request):
    if "without_the_package" not in request.node.name:
        require(importlib.util.find_spec("c3d"), "needs c3d: pip install aimclr_fast[motion]")


def save(file: Path, markers, *, units="mm", screen=("+X", "+Z"), subject="", scale=-1.0) -> Path:
    """A file of markers ``[T, 3]`` in meters with y up; NaN for those that were not seen."""
    import c3d

    file.parent.mkdir(parents=True, exist_ok=True)
    writer = c3d.Writer(
        point_rate=RATE, analog_rate=RATE, point_scale=scale, point_units=f"{units:<4}"
    )
    writer.set_point_labels([f"{subject}{name}" for name in markers])
    factor = {"mm": 1000.0, "cm": 100.0, "m": 1.0}.get(units, 1000.0)
    x = np.stack([place * factor for place in markers.values()], axis=1)
    x = z_up(x) if screen[1] in ("+Z", "") else x
    lost = np.isnan(x).any(axis=2)
    for places, gone in zip(np.nan_to_num(x), lost, strict=True):
        points = np.zeros((len(markers), 5))
        points[:, :3] = places
        points[gone, 3] = -1
        writer.add_frames([(points, np.zeros((0, 0)))])
    if screen[1]:
        writer.set_screen_axis(*screen)
    with file.open("wb") as stream:
        writer.write(stream)
    return file


def refused(source: Path, **options) -> str:
    try:
        _, (found,) = read_all("c3d", source, **options)
    except ReadError as error:
        return str(error)
    assert isinstance(found, Problem)
    return f"{found.where}: {found.reason}"


def check_walk(recording: Recording, layout, markers, atol=1e-6) -> None:
    """The joints are the means of their markers, in meters with y up."""
    joints = {name: np.mean([markers[one] for one in own], axis=0) for name, own in MEANS.items()}
    joints["left_upper_leg"] = sum(weight * markers[name] for name, weight in HIP.items())
    for name, expected in joints.items():
        got = recording.positions[:, :, layout.joints.index(name), 0].T
        np.testing.assert_allclose(got, expected, atol=atol)


def test_a_file_by_ezc3d():
    """Its labels have a subject's name, one marker is lost in frames 3 and 4, z points up, and
    there are analog channels, points without a name and computed angles.
    """
    plan, (found,) = read_all("folder", BY_EZC3D)
    assert plan.reader == "c3d"
    assert found.rate == RATE
    check_walk(found, plan.layout, walk())
    knee = plan.layout.joints.index("left_lower_leg")
    lost = np.isnan(found.positions).all(axis=0)[..., 0]
    assert np.argwhere(lost).tolist() == [[3, knee], [4, knee]]
    said = "\n".join(plan.notes)
    assert "not used: LHipAngles" in said
    assert "up: z; POINT:Y_SCREEN +Z, and from feet to head it is z in 100%" in said
    assert plan.layout.shoulders is not None
    assert len(plan.layout.body_parts) == 5


@pytest.mark.parametrize("units", ["mm", "cm", "m"])
@pytest.mark.parametrize("screen", [("+X", "+Y"), ("+X", "+Z"), ("", "")])
def test_units_and_axes(units, screen, tmp_path):
    """Without Y_SCREEN, the axis from feet to head counts."""
    plan, (found,) = read_all("c3d", save(tmp_path / "a.c3d", walk(), units=units, screen=screen))
    check_walk(found, plan.layout, walk())
    assert ("a guess by the motion" in "\n".join(plan.notes)) == (screen == ("", ""))


def test_integers_with_a_scale(tmp_path):
    plan, (found,) = read_all("c3d", save(tmp_path / "a.c3d", walk(), scale=0.1))
    check_walk(found, plan.layout, walk(), atol=1e-4)


def test_other_processors():
    """Big-endian floats, and DEC's, in which 1 is 80 40 00 00."""

    def one(processor, words):
        header = SimpleNamespace(analog_count=1, data_block=2)
        reader = SimpleNamespace(point_used=1, point_scale=-1.0, header=header, proc_type=processor)
        return _points(reader, bytes(512) + words, 9)

    big = struct.pack(">10f", 1, 2.5, -3, 0, 99, 1, 2.5, -3, -1, 99)
    np.testing.assert_array_equal(one("MIPS", big)[:, 0], [[1, 2.5, -3, 0], [1, 2.5, -3, -1]])
    dec = bytes.fromhex("80400000 20410000 80c00000 00000000 00000000")
    np.testing.assert_array_equal(one("DEC", dec)[:, 0], [[1, 2.5, -1, 0]])


def test_an_axis_that_cannot_be(tmp_path):
    file = save(tmp_path / "a.c3d", walk(), screen=("+Y", "+X"))
    message = refused(file)
    assert "POINT:Y_SCREEN +X says x points up, but from feet to head it is y in 100%" in message
    assert "--up: y, -y or z" in message
    assert isinstance(read_all("c3d", file, up="y")[1][0], Recording)
    lying = {name: place[:, [1, 0, 2]] for name, place in walk().items()}
    assert "x points up, which is not turned" in refused(
        save(tmp_path / "b.c3d", lying, screen=("+Y", "+X"))
    )


def test_units_that_are_not_known(tmp_path):
    file = save(tmp_path / "a.c3d", walk(), units="ft")
    assert "the unit of lengths is 'ft': say it with --unit" in refused(file)
    assert isinstance(read_all("c3d", file, unit="mm")[1][0], Recording)
    known = save(tmp_path / "b.c3d", walk())
    assert "--unit m, but the file says mm: leave --unit out" in refused(known, unit="m")


@pytest.mark.parametrize(("said", "true"), [("mm", "m"), ("m", "mm"), ("mm", "cm"), ("cm", "mm")])
def test_a_unit_that_gives_no_person(said, true, tmp_path):
    """The message names the one that does, and with it --unit counts."""
    scale = {"mm": 1000.0, "cm": 100.0, "m": 1.0}
    wrong = {name: np.array(x) * scale[true] / scale[said] for name, x in walk().items()}
    file = save(tmp_path / "a.c3d", wrong, units=said)
    plan, (found,) = read_all("c3d", file, unit=true)
    check_walk(found, plan.layout, walk())
    assert f"lengths: {true}, as --unit says, and not {said}, as the files" in str(plan.notes)
    if (said, true) != ("mm", "cm"):  # 0.17 m is said by the data check
        reason = refused(file)
        assert f"the file says {said}, by which bodies are" in reason
        assert f"lengths look like {true}: --unit {true}" in reason


def test_markers_that_lack_are_gaps(tmp_path, capsys):
    markers = walk()
    markers["RKNE"][4:6] = np.nan
    markers["LFHD"][7] = np.nan  # the head cannot be told from the other three
    save(tmp_path / "in" / "a.c3d", markers)
    plan, (found,) = read_all("c3d", tmp_path / "in")
    lost = np.argwhere(np.isnan(found.positions).all(axis=0)[..., 0])
    names = [(int(frame), plan.layout.joints[joint]) for frame, joint in lost]
    assert names == [(4, "right_lower_leg"), (5, "right_lower_leg"), (7, "head")]
    command_line(["c3d", str(tmp_path / "in"), str(tmp_path / "out"), "--jobs=1"])
    assert "0 frames of a whole body and 3 single joints" in capsys.readouterr().out


def test_the_set_of_the_legs_alone(tmp_path):
    markers = walk()
    plan, (found,) = read_all(
        "c3d", save(tmp_path / "a.c3d", {name: markers[name] for name in LEGS})
    )
    assert plan.layout.name == "plug-in-gait-lower"
    assert "from feet to hips it is z in 100%" in "\n".join(plan.notes)
    got = found.positions[:, :, plan.layout.joints.index("left_toes"), 0].T
    np.testing.assert_allclose(got, markers["LTOE"], atol=1e-6)


def test_other_spellings_of_labels(tmp_path):
    names = {"LASI": "L.ASIS", "RASI": "r_asis", "LPSI": "Lpsis", "RPSI": "R PSIS", "LHEE": "lhee"}
    markers = {names.get(name, name): place for name, place in walk().items()}
    plan, (found,) = read_all("c3d", save(tmp_path / "a.c3d", markers))
    check_walk(found, plan.layout, walk())


def test_a_set_of_ones_own(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "name: arm\njoints:\n  chest: {markers: [CLAV, C7]}\n"
        "  left_shoulder: {parent: chest, markers: {LSHO: 3, LELB: 1}}\n"
        "  left_wrist: {parent: left_shoulder, markers: [NONE|LWRA, (LWRX), (LWRB)]}\n"
    )
    file = save(tmp_path / "a.c3d", walk())
    plan, (found,) = read_all("c3d", file, markers=own)
    x, m = found.positions[..., 0].transpose(2, 1, 0), walk()
    np.testing.assert_allclose(x[1], 0.75 * m["LSHO"] + 0.25 * m["LELB"], atol=1e-6)
    np.testing.assert_allclose(x[2], (m["LWRA"] + m["LWRB"]) / 2, atol=1e-6)
    assert plan.layout.parents[2] == 1
    own.write_text(own.read_text().replace("[CLAV, C7]", "[CLAV, HEART]"))
    assert "arm lacks HEART, the file has C7, CLAV" in refused(file, markers=own)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "not valid YAML"),
        ("3", "joints: expected 2 to 200 names"),
        ("joints: {a: {markers: [A]}}", "joints: expected 2 to 200 names"),
        ("joints: {a: {markers: [A]}, b: 3}", "'b': expected parent and markers"),
        ("joints: {a: {parent: b, markers: [A]}, b: {}}", "a: the first joint has no parent"),
        ("joints: {a: {markers: [A]}, b: {markers: [B]}}", "b: parent: None is not a joint above"),
        ("joints: {a: {markers: [A]}, b: {parent: [], markers: [B]}}", "b: parent: []"),
        ("joints: {a: {markers: []}, b: {}}", "a: markers: expected names"),
        ("joints: {a: {markers: [[A]]}, b: {}}", "a: markers: expected names"),
        ("joints: {a: {markers: {A: -1}}, b: {}}", "a: markers: their weights must have a sum"),
        ("joints: {a: {markers: {A: x}}, b: {}}", "a: markers: 'A': 'x': a name and its weight"),
        ("joints: {a: {markers: {A: .nan}}, b: {}}", "a name and its weight"),
        ("joints: {a: {markers: ['A|']}, b: {}}", "a name and its weight"),
        ("joints: {a: {marker: [A]}, b: {}}", "a: unknown 'marker'"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_sets_that_cannot_be_used(text, reason, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    message = refused(save(tmp_path / "a.c3d", walk()), markers=tmp_path / "own.yaml")
    assert message.startswith(f"--markers {tmp_path / 'own.yaml'}")
    assert reason in message
    assert "\n" not in message


def test_a_set_that_is_not_there(tmp_path):
    file = save(tmp_path / "a.c3d", walk())
    assert "cannot be read" in refused(file, markers=tmp_path / "none.yaml")


def test_markers_of_no_known_set(tmp_path):
    markers = {f"M{n}": place for n, place in enumerate(walk().values())}
    message = refused(save(tmp_path / "a.c3d", markers))
    assert (
        "no set of markers fits (key-points, motive-bones, plug-in-gait, plug-in-gait-lower)"
        in message
    )
    assert "say which markers each joint lies between with --markers FILE.yaml" in message


def test_a_file_that_lacks_a_marker_is_left_out(tmp_path):
    for n in range(20):
        save(tmp_path / f"{n:02}.c3d", walk(seed=n))
    whole = walk()
    del whole["LSHO"]
    save(tmp_path / "01.c3d", whole)  # not among those that are looked at
    _, found = read_all("c3d", tmp_path)
    assert found[1].reason == "lacks the markers LSHO"
    assert sum(isinstance(one, Recording) for one in found) == 19


def test_a_file_with_another_axis_is_left_out(tmp_path):
    for n in range(20):
        save(tmp_path / f"{n:02}.c3d", walk(seed=n))
    save(tmp_path / "01.c3d", walk(), screen=("+X", "+Y"))  # not among those that are looked at
    _, found = read_all("c3d", tmp_path)
    assert "POINT:Y_SCREEN +Y, while z points up in others" in found[1].reason
    assert sum(isinstance(one, Recording) for one in found) == 19


def test_several_subjects(tmp_path):
    one, other = walk(), walk(seed=3)
    both = {f"A:{name}": x for name, x in one.items()}
    both |= {f"B:{name}": np.add(x, [2.0, 0, 0]) for name, x in other.items()}
    file = save(tmp_path / "a.c3d", both)
    assert "2 subjects: say how many to keep with --max-bodies" in refused(file)
    plan, (found,) = read_all("c3d", file, max_bodies=2)
    chest = plan.layout.joints.index("chest")
    for body, markers in enumerate((both["A:CLAV"], both["B:CLAV"])):
        x = found.positions[0, :, chest, body]
        np.testing.assert_allclose(x, markers[:, 0], atol=1e-6)
    save(tmp_path / "b.c3d", one)  # of one person, beside that of two
    _, (_, single) = read_all("c3d", tmp_path, max_bodies=2)
    np.testing.assert_array_equal(single.positions[..., 0], found.positions[..., 0])
    assert not single.positions[..., 1].any()
    command_line(["c3d", str(tmp_path), str(tmp_path / "st"), "--max-bodies=2", "--jobs=1"])
    assert open_store(tmp_path / "st").samples["bodies"].tolist() == [2, 1]


def test_a_layout_keeps_some_joints(tmp_path):
    file = save(tmp_path / "a.c3d", walk())
    plan, (whole,) = read_all("c3d", file)
    store = tmp_path / "st"
    command_line(["c3d", str(file), str(store), "--jobs=1"])
    text = (store / "layout.yaml").read_text()
    text = text.replace(", left_heel", "").replace("- [left_heel, left_foot]\n", "")
    text = text.replace("- [left_heel, right_heel]\n", "").replace("plug-in-gait", "mine")
    (tmp_path / "mine.yaml").write_text(text.replace("left_leg: [left_heel", "left_leg: ["))
    plan, (some,) = read_all("c3d", file, layout=str(tmp_path / "mine.yaml"))
    assert plan.layout.name == "mine"
    names = get_reader("c3d").plan(file, Options()).layout.joints
    kept = [names.index(joint) for joint in plan.layout.joints]
    assert len(kept) == len(names) - 1
    np.testing.assert_array_equal(some.positions, whole.positions[:, :, kept])
    assert "has joints that are not in the marker set plug-in-gait: " in refused(
        file, layout="coco"
    )


def test_windows_and_rates(tmp_path):
    """The files know their rate, and a folder of them finds its format."""
    save(tmp_path / "in" / "a.c3d", walk(200))
    arguments = [str(tmp_path / "in"), str(tmp_path / "st"), "--jobs=1"]
    command_line(["folder", *arguments, "--fps=25", "--window=1s", "--to=kinect-v1"])
    store = open_store(tmp_path / "st")
    assert store.samples["frames"].tolist() == [25, 25]
    assert store.layout.name == "kinect-v1"


def test_archives_whose_paths_leave_the_folder(tmp_path):
    data = save(tmp_path / "a.c3d", walk()).read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../walk.c3d", data)
    before = sorted(tmp_path.rglob("*"))
    _, found = read_all("c3d", tmp_path / "x.zip")
    assert isinstance(found[0], Recording)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_the_package_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "c3d", None)
    (tmp_path / "a.c3d").write_bytes(b"x")
    with pytest.raises(SystemExit) as caught:
        command_line(["c3d", str(tmp_path), str(tmp_path / "st")])
    assert caught.value.code == 2
    assert "needs the package c3d: pip install aimclr_fast[motion]" in capsys.readouterr().err


WRONG = {
    "empty": (lambda data: b"", "is no C3D file"),
    "text": (lambda data: b"HIERARCHY\n" * 300, "is no C3D file"),
    "cut off": (lambda data: data[:-4096], "12 frames, but the data of"),
    "header alone": (lambda data: data[:512], "damaged"),
    "no points": (lambda data: data[:2] + bytes(2) + data[4:], "damaged: "),
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_files(how, tmp_path, capsys):
    change, reason = WRONG[how]
    (tmp_path / "a.c3d").write_bytes(change(BY_EZC3D.read_bytes()))
    message = refused(tmp_path / "a.c3d")
    assert message.startswith(f"{tmp_path / 'a.c3d'}: ")
    assert reason in message
    with pytest.raises(SystemExit) as left:
        command_line(["c3d", str(tmp_path / "a.c3d"), str(tmp_path / "out"), "--jobs=1"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_mutated_files_are_read_or_refused(tmp_path):
    whole = BY_EZC3D.read_bytes()
    file = tmp_path / "a.c3d"
    read = refusals = 0
    for seed in range(300):
        rng = random.Random(seed)
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(rng.choice([20, 520, 2000, len(data)]))
            data[at : at + 2] = rng.choice([bytes([rng.randrange(256)]) * 2, b"\xff\x7f", b"\0\0"])
        file.write_bytes(bytes(data[: rng.choice([None, None, rng.randrange(len(data))])]))
        try:
            load(Entry(file, "a.c3d"))
            read += 1
        except ReadError:
            refusals += 1
    assert min(read, refusals) > 20


def test_huge_counts_cost_no_memory(tmp_path):
    """Every word of the header and of the counts at its largest."""
    whole = BY_EZC3D.read_bytes()
    for name in (b"USED", b"FRAMES", b"RATE", b"SCALE", b"LABELS"):
        at = whole.index(name)
        for more in range(4, 14):
            data = bytearray(whole)
            data[at + more : at + more + 2] = b"\xff\xff"
            (tmp_path / "a.c3d").write_bytes(bytes(data))
            with contextlib.suppress(ReadError):
                assert load(Entry(tmp_path / "a.c3d", "a.c3d")).places.nbytes < 1 << 22
