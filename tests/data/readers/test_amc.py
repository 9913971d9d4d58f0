"""AMC and ASF: the format, the skeleton that is derived, and what is refused."""

from __future__ import annotations

import contextlib
import random
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data.readers.acclaim_files import INCH, PERSON, amc_text, asf_text, ends, values_of
from data.readers.bvh_files import bvh_text
from data.readers.test_ntu import read_all

from aimclr_fast.data import open_store
from aimclr_fast.data.joint_mapping import map_joints
from aimclr_fast.data.readers import Problem, ReadError
from aimclr_fast.data.readers._amc import AmcMotion, parse_motion, parse_skeleton
from aimclr_fast.layouts import get_layout
from aimclr_fast.prepare import command_line

RECORDED = Path(__file__).parent / "acclaim"
#: Meters of a unit of Vicon's files.
UNIT = INCH / 0.45


def save(folder: Path, name: str = "a", asf: str | None = None, amc: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.asf").write_text(asf_text() if asf is None else asf)
    (folder / f"{name}.amc").write_text(amc_text(values_of()) if amc is None else amc)
    return folder / f"{name}.amc"


def parsed(asf: str, amc: str) -> AmcMotion:
    return parse_motion(amc, parse_skeleton(asf, "x.asf"), "x.amc")


def check_ends(motion: AmcMotion, expected: dict[str, np.ndarray], atol: float = 1e-9) -> None:
    names = [bone.name for bone in motion.skeleton.bones]
    assert sorted(names) == sorted(expected)
    found = motion.positions()
    for place, name in enumerate(names):
        np.testing.assert_allclose(found[:, place], expected[name], atol=atol)


def refused(source: Path, **options) -> str:
    try:
        _, (found,) = read_all("amc", source, **options)
    except ReadError as error:
        return str(error)
    assert isinstance(found, Problem)
    return f"{found.where}: {found.reason}"


# The format.


@pytest.mark.parametrize(("skeleton", "motion"), [("deg", "deg"), ("rad", "rad"), ("deg", "rad")])
def test_bones_end_where_another_implementation_has_them(skeleton, motion):
    values = values_of(6)
    check_ends(parsed(asf_text(angle=skeleton), amc_text(values, angle=motion)), ends(values))


def test_long_files_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr("aimclr_fast.data.readers._trees._BLOCK", 5)
    values = values_of(12)
    check_ends(parsed(asf_text(), amc_text(values)), ends(values))


def test_the_order_of_the_roots_values():
    """And of lines in a frame, which may be any."""
    values = values_of(4)
    other = [
        {
            name: [*own[3:], *own[:3]] if name == "root" else own
            for name, own in reversed(of.items())
        }
        for of in values
    ]
    asf = asf_text(order="RX RY RZ TX TY TZ")
    check_ends(parsed(asf, amc_text(other)), ends(values))


def test_where_the_root_begins():
    values = values_of(3)
    moved = [{**of, "root": [*np.add(of["root"][:3], [1, 2, 3]), *of["root"][3:]]} for of in values]
    asf = asf_text(position="1 2 3")
    check_ends(parsed(asf, amc_text(values)), ends(moved))


def test_a_recording():
    """Four frames of CMU's database, written by Vicon's programs."""
    plan, (found,) = read_all("folder", RECORDED / "11_01.amc")
    assert plan.reader == "amc"
    assert found.rate is None
    layout, x = plan.layout, found.positions[..., 0]
    lines = (RECORDED / "11.asf").read_text().split()
    lengths = {
        lines[place + 1]: float(lines[place + 7])
        for place, word in enumerate(lines)
        if word == "name" and lines[place + 2] == "direction"
    }
    for name, bone in {
        ("left_upper_leg", "left_lower_leg"): "lfemur",
        ("right_lower_leg", "right_foot"): "rtibia",
        ("left_upper_arm", "left_lower_arm"): "lhumerus",
        ("head", "head_end"): "head",
    }.items():
        one, other = (x[:, :, layout.joints.index(joint)] for joint in name)
        long = np.linalg.norm(one - other, axis=0)
        np.testing.assert_allclose(long, lengths[bone] * UNIT, rtol=1e-6)
    notes = "\n".join(plan.notes)
    assert (
        "unit: 0.0564444444 m (inches / 0.45, by :units length), in which the body is 1.8" in notes
    )
    assert "up: y; from feet to head it is y in 100%" in notes
    assert "frames per second: the files do not say (--rate does" in notes
    assert "trunk 7, right arm 7, left arm 7, right leg 5, left leg 5" in notes
    named = map_joints(get_layout("ntu-rgb+d"), layout).named
    assert {
        ("spine_mid", "spine"),
        ("spine_shoulder", "chest"),
        ("neck", "neck"),
        ("left_wrist", "left_hand"),
        ("left_knee", "left_lower_leg"),
    } < set(named)


def test_a_recording_as_another_program_has_it():
    """Where the package pyacclaim puts the ends of the bones; see acclaim/README.md."""
    expected = np.load(RECORDED / "pyacclaim.npz")
    asf, amc = ((RECORDED / name).read_text() for name in ("11.asf", "11_01.amc"))
    motion = parsed(asf, amc)
    names = [bone.name for bone in motion.skeleton.bones]
    assert len(expected.files) == len(names)
    found = motion.positions() * UNIT
    for name in expected:
        np.testing.assert_allclose(found[:, names.index(name)], expected[name], atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("\n", "\n\n") + "  \n",
        lambda text: text.replace(":DEGREES", ":degrees").replace(":ROOT", ":root"),
        lambda text: text.replace("\n", "  # said\n") if ":hierarchy" in text else text,
    ],
)
def test_forms_that_programs_write(form, tmp_path):
    values = values_of(4)
    save(tmp_path, "a")
    for ending, text in (("asf", asf_text()), ("amc", amc_text(values))):
        (tmp_path / f"a.{ending}").write_text(form(text), newline="")
    plan, (found,) = read_all("amc", tmp_path)
    wrist = found.positions[:, :, plan.layout.joints.index("left_hand"), 0].T
    np.testing.assert_allclose(wrist, ends(values)["lradius"] * UNIT, atol=1e-9)


# The skeleton.


def test_joints_are_named_after_the_bones_that_begin_there(tmp_path):
    plan, (found,) = read_all("amc", save(tmp_path).parent)
    layout = plan.layout
    assert [layout.joints[joint] for joint in (0, layout.center)] == ["hips", "chest"]
    assert {"left_upper_leg", "right_foot", "left_lower_arm", "head", "head_end"} < set(
        layout.joints
    )
    assert [layout.joints[joint] for joint in layout.shoulders] == [
        "left_upper_arm",
        "right_upper_arm",
    ]
    mirrored = {layout.joints[a]: layout.joints[b] for a, b in enumerate(layout.swap)}
    for name in layout.joints:
        other = name.replace("left", "right") if "left" in name else name.replace("right", "left")
        assert mirrored[name] == other
    assert found.positions.shape == (3, 8, layout.num_joints, 1)


@pytest.mark.parametrize("layout", ["ntu-rgb+d", "smpl-22"])
def test_to_another_layout(layout, tmp_path, capsys):
    arguments = ["amc", str(save(tmp_path / "in").parent), str(tmp_path / "out"), "--jobs=1"]
    command_line([*arguments, f"--to={layout}", "--rotate=none"])
    assert f"--to {layout}: " in capsys.readouterr().out
    store = open_store(tmp_path / "out")
    x, names = np.array(store.positions[0, :, :, :, 0]) * store.scale, store.layout.joints
    knee, ankle = (x[:, :, names.index(f"right_{part}")] for part in ("knee", "ankle"))
    np.testing.assert_allclose(np.linalg.norm(knee - ankle, axis=0), 7.6 * UNIT, atol=3e-3)


@pytest.mark.parametrize(
    ("length", "scale", "said"),
    [
        (1.0, 0.45, "unit: 0.0254 m (inches / 1, by :units length)"),
        (None, 100 * UNIT, "unit: cm,"),
        (1.0, 1000 * UNIT, "unit: mm,"),
        (0.45, 1.0, "unit: 0.0564444444 m"),
    ],
)  # fmt: skip
def test_units_are_found_and_said(length, scale, said, tmp_path):
    scale = 1 / 0.45 if scale == 0.45 else scale
    person = [(*one[:3], one[3] * scale, *one[4:]) for one in PERSON]
    values = [{**of, "root": [v * (scale if k < 3 else 1) for k, v in enumerate(of["root"])]}
              for of in values_of()]  # fmt: skip
    save(tmp_path, "a", asf_text(person, length=length), amc_text(values))
    plan, (found,) = read_all("amc", tmp_path)
    assert any(note.startswith(said) for note in plan.notes)
    elbow, wrist = (found.positions[:, :, plan.layout.joints.index(f"left_{part}"), 0]
                    for part in ("lower_arm", "hand"))  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(elbow - wrist, axis=0), 4.9 * UNIT, rtol=1e-6)


# A source.


def test_each_motion_takes_its_skeleton(tmp_path):
    tall = [(*one[:3], one[3] * 1.1, *one[4:]) for one in PERSON]
    save(tmp_path / "one", "07")
    save(tmp_path / "one", "07_01")
    (tmp_path / "one" / "07_01.asf").unlink()
    (tmp_path / "one" / "07_02.amc").write_text(amc_text(values_of(seed=2)))
    save(tmp_path / "two", "08", asf_text(tall))
    (tmp_path / "two" / "08.amc").rename(tmp_path / "two" / "08_01.amc")
    (tmp_path / "two" / "deeper").mkdir()
    (tmp_path / "two" / "deeper" / "x.amc").write_text(amc_text(values_of()))
    (tmp_path / "lost.amc").write_text(amc_text(values_of()))
    plan, found = read_all("amc", tmp_path)
    assert [unit.skeleton.name for unit in plan.units] == ["07.asf"] * 3 + ["08.asf"] * 2
    assert [problem.where for problem in plan.left_out] == [str(tmp_path / "lost.amc")]
    knees = [plan.layout.joints.index(f"left_{part}_leg") for part in ("upper", "lower")]
    long = [
        float(np.linalg.norm(np.subtract(*(one.positions[:, 0, knee, 0] for knee in knees))))
        for one in found
    ]
    np.testing.assert_allclose(long, np.multiply([1, 1, 1, 1.1, 1.1], 7.3 * UNIT), rtol=1e-6)


def test_a_skeleton_of_another_name_is_told(tmp_path):
    save(tmp_path, "07")
    plan, _ = read_all("amc", tmp_path)
    assert not any("skeletons: " in note for note in plan.notes)
    (tmp_path / "11_01.amc").write_text(amc_text(values_of()))
    plan, _ = read_all("amc", tmp_path)
    (note,) = [note for note in plan.notes if note.startswith("skeletons: ")]
    assert note.startswith("skeletons: 1 files take the only .asf file there is")
    assert "11_01.amc that of" in note


def test_of_several_skeletons_the_one_with_the_name(tmp_path):
    for name in ("1", "11", "2"):
        save(tmp_path, name)
        (tmp_path / f"{name}.amc").rename(tmp_path / f"{name}_01.amc")
    (tmp_path / "walk.amc").write_text(amc_text(values_of()))
    for name in ("113_01", "22", "2b"):  # of others, whose skeletons are lost
        (tmp_path / f"{name}.amc").write_text(amc_text(values_of()))
    (tmp_path / "2-b.amc").write_text(amc_text(values_of()))
    plan, _ = read_all("amc", tmp_path)
    skeletons = {unit.name: unit.skeleton.stem for unit in plan.units}
    assert skeletons == {"11_01": "11", "1_01": "1", "2_01": "2", "2-b": "2"}
    left_out = {Path(problem.where).stem for problem in plan.left_out}
    assert left_out == {"113_01", "22", "2b", "walk"}
    assert "no .asf file in its folder or above" in plan.left_out[0].reason


def test_one_file_takes_the_skeleton_beside_it(tmp_path):
    plan, (found,) = read_all("folder", save(tmp_path, "a"))
    assert plan.reader == "amc"
    assert found.name == "a"
    (tmp_path / "a.asf").unlink()
    message = refused(tmp_path / "a.amc")
    assert "holds no .amc files with an .asf file" in message
    assert "a.amc" in message


def test_a_zip_with_labels_and_rates(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("all/07/07.asf", asf_text())
        for n in range(4):
            archive.writestr(f"all/07/07_{n}.AMC", amc_text(values_of(30, seed=n)))
        rows = [f"07_{n}.amc,{n % 2},{'train' if n < 2 else 'test'}\n" for n in range(4)]
        archive.writestr("all/07/labels.csv", "name,label,split\n" + "".join(rows))
    arguments = ["folder", str(tmp_path / "in.zip"), str(tmp_path / "st"), "--jobs=1", "--fps=30"]
    with pytest.raises(SystemExit):
        command_line(arguments)
    assert "do not say their frame rate: say it with --rate" in capsys.readouterr().err
    command_line([*arguments, "--rate=120", "--frames=original"])
    store = open_store(tmp_path / "st")
    assert store.samples["label"].tolist() == [0, 1, 0, 1]
    assert store.positions.shape[2] == 8


# What is wrong with a file.

ASF, AMC = asf_text(), amc_text(values_of(3))


def without(text: str, start: str) -> str:
    lines = text.splitlines(keepends=True)
    del lines[next(i for i, line in enumerate(lines) if line.strip().startswith(start))]
    return "".join(lines)


def asf(*replaced) -> tuple[str, str]:
    return ASF.replace(*replaced), AMC


def amc(*replaced) -> tuple[str, str]:
    return ASF, AMC.replace(*replaced)


STILL = asf_text([(*one[:-1], "") for one in PERSON], order="")
BROKEN = {
    "nothing": ("", AMC, "an .asf file has :root"),
    "another format": ("HIERARCHY\nROOT x", AMC, "an .asf file has :root"),
    "no bones": (*asf(":bonedata", ":bones"), "has :bonedata, and this has none"),
    "no tree": (ASF[: ASF.index(":hierarchy")], AMC, "has :hierarchy"),
    "a bone without a name": (without(ASF, "name lfemur"), AMC, r"asf:\d+: the bone that begins"),
    "a bone without a length": (without(ASF, "length 7.3"), AMC, "here has no length"),
    "a length in words": (*asf("length 7.3", "length x"), "expected a number of at most"),
    "a huge length": (*asf("length 7.3", "length 1e30"), "expected a number of at most"),
    "NaN": (*asf("direction 0.34", "direction nan"), "direction: expected 3 numbers"),
    "two numbers": (*asf("direction 0.7 -0.7 0.2", "direction 1 2"), "expected 3 numbers"),
    "another order": (*asf("ZYX", "ZYY"), "expected an order such as XYZ, got 'zyy'"),
    "another channel": (*asf("dof rx ry", "dof tx ry"), "'tx' is not one of rx, ry, rz"),
    "a channel twice": (*asf("dof rx ry rz", "dof rx rx rz"), "a channel twice"),
    "a bone twice": (*asf("name rfemur", "name lfemur"), "a second bone named 'lfemur'"),
    "a bone called root": (*asf("name rfemur", "name root"), "a second bone named 'root'"),
    "no end": (*asf("  end\n:hierarchy", ":hierarchy"), "has no end"),
    "words between bones": (*asf(":bonedata", ":bonedata\n x"), "expected begin, got 'x'"),
    "an unknown bone": (*asf("root lhipjoint", "root lhip"), "'lhip' is not a bone"),
    "two parents": (*asf("lfemur ltibia", "lfemur ltibia rtibia"), "hangs from two bones"),
    "a circle": (*asf("root lhipjoint", "root"), "does not hang from the root"),
    "a huge factor": (*asf("length 0.45", "length 1e99"), "length: expected|length 1e"),
    "no frames": (ASF, ":DEGREES\n", "has no frames"),
    "no number": (*amc("1\nroot", "root", 1), "expected the number of a frame, got 'root'"),
    "cut off in a frame": (
        ASF,
        AMC[: AMC.rindex("lradius")],
        "frame 3 lacks .*the file was cut off",
    ),
    "cut off in a line": (ASF, AMC[:-12], r"amc:\d+: .*values, but it has|lacks"),
    "a value too many": (*amc("\nlradius ", "\nlradius 1 ", 1), "2 values, but it has 1"),
    "a word": (*amc("\nlradius ", "\nlradius x", 1), "lradius: expected a number"),
    "infinite": (*amc("\nlradius ", "\nlradius inf #", 1), "lradius: expected a number"),
    "a bone twice in a frame": (
        *amc("\nlradius", "\nlhumerus 1 2 3\nlradius", 1),
        "twice in one frame",
    ),
    "another bone": (*amc("\nlradius", "\ntail", 1), "'tail': no bone with channels"),
    "frames that are skipped": (*amc("\n3\n", "\n4\n"), "frame 4 after frame 2"),
    "nothing moves": (STILL, ":DEGREES\n1\n2\n", "nothing moves"),
    "bytes": (bytes(range(256)).decode("latin-1"), AMC, "an .asf file has|not UTF-8"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_are_errors_with_the_line(how, tmp_path, capsys):
    asf, amc, message = BROKEN[how]
    file = save(tmp_path, "a", asf, amc)
    assert re.search(message, refused(file))
    with pytest.raises(SystemExit) as left:
        command_line(["amc", str(file), str(tmp_path / "out"), "--jobs=1"])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert str(tmp_path / "a.a") in error
    assert error.count("\n") == 1
    assert len(error) < 600


def test_any_damage_is_an_error_or_a_recording():
    rng = random.Random(0)
    parts = [
        "begin",
        "end",
        "nan",
        "1e999",
        "-",
        ":hierarchy",
        "root",
        "\n",
        "\x00",
        "dof rx",
        "0",
        "1",
    ]
    read = 0
    for round_ in range(300):
        texts = [list(ASF), list(AMC)]
        text = texts[round_ % 2]
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 1, 1, 40])] = rng.choice(parts)
        with contextlib.suppress(ReadError):
            assert np.isfinite(parsed(*("".join(text) for text in texts)).positions()).all()
            read += 1
    assert 0 < read < 250


def test_hostile_sizes_are_refused_at_once(tmp_path, monkeypatch):
    bones = "".join(f"begin\nname b{n}\ndirection 0 1 0\nlength 1\nend\n" for n in range(1100))
    many = f":root\norder TX\n:bonedata\n{bones}:hierarchy\n"
    assert "at most 1,000 bones" in refused(save(tmp_path / "a", "a", many))
    chain = [
        (f"b{n}", f"b{n - 1}" if n else "root", (0, 1, 0), 1, (0, 0, 0), "XYZ", "rx")
        for n in range(999)
    ]
    motion = parsed(
        asf_text(chain), amc_text([{"root": [0] * 6, **{f"b{n}": [1] for n in range(999)}}])
    )
    assert np.isfinite(motion.positions()).all()  # no recursion
    monkeypatch.setattr("aimclr_fast.data.readers._amc._MOST_MOTION", 1 << 20)
    assert "more than 1 MiB" in refused(save(tmp_path / "b", "a", None, "#" * (1 << 20 | 1)))


@pytest.mark.parametrize("reader", ["amc", "bvh"])
def test_joints_without_channels_do_not_fill_the_memory(reader, tmp_path, monkeypatch):
    """A thousand of them and an hour of one channel are a small file."""
    monkeypatch.setattr("aimclr_fast.data.readers._trees._MOST_PLACES", 100)
    file = save(tmp_path)
    if reader == "bvh":
        file = tmp_path / "a.bvh"
        file.write_text(bvh_text())
    _, (found,) = read_all(reader, file)
    assert isinstance(found, Problem)
    assert "joints; at most 100 places are read" in found.reason
