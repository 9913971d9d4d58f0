"""The data check: sound data passes, and every kind of damage is one line with its flag."""

import json
import re

import numpy as np
import pytest

from aimclr_fast.data import measures as measuring
from aimclr_fast.data import open_embedded, write_store
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.sanity import CHECK, CHECKS, check_store, keep, likely_units
from aimclr_fast.layouts import Layout, get_layout

SAMPLES = open_embedded().samples
#: Every movement by five people, once: 50 real sequences.
ROWS = np.flatnonzero(
    (SAMPLES["episode"] == 1) & (SAMPLES["incorrect"] == 0) & (SAMPLES["subject"] <= 5)
)
LAYOUT = get_layout("ui-prmd")
STEPS, NOT_TURNED = Preprocessing(50, "exact"), Preprocessing(50, "none")


@pytest.fixture(scope="module")
def embedded():
    return open_embedded()


@pytest.fixture(scope="module")
def sound(embedded):
    """``[50, 3, 50, 22, 1]`` in meters."""
    return embedded.as_tensor(ROWS).numpy()


@pytest.fixture
def report(tmp_path):
    """Checks a store of 50 positions, labeled and split as those of `sound` are."""

    def made(x, *, layout=LAYOUT, steps=STEPS, **columns):
        samples = {
            "name": [f"s{i}" for i in range(50)],
            "label": SAMPLES["movement"][ROWS] - 1,
            "subject": SAMPLES["subject"][ROWS],
            **columns,
        }
        store = write_store(
            tmp_path / "x",
            x.astype(np.int16 if x.dtype == np.int16 else np.float32),
            {name: cells for name, cells in samples.items() if cells is not None},
            layout=layout,
            splits={"xsub": {"column": "subject", "train": "odd"}},
            preprocessing=steps,
            overwrite=True,
        )
        return check_store(store)

    return made


def test_the_embedded_data_are_sound(embedded):
    report = check_store(embedded)
    assert not report.odd
    assert report.looked_at == report.sequences == 2000
    assert {finding.check for finding in report.findings} >= {"height", "up", "bones", "frames"}
    shown = str(report)
    assert "data check of 2,000 sequences" in shown
    assert "longest side of a body 1.48 m" in shown
    assert "y, in 100%" in shown
    assert "20 classes, 100 to 100 samples each" in shown
    assert shown.endswith("nothing odd")


def axes(*order):
    """Coordinates in another order; a minus turns one around."""
    return lambda x: np.stack([np.sign(a) * x[:, abs(a) - 1] for a in order], axis=1)


def exchange(a, b):
    def damage(x):
        x = x.copy()
        x[:, :, :, [a, b]] = x[:, :, :, [b, a]]
        return x

    return damage


def at(place, value):
    def damage(x):
        x = x.copy()
        x[place] = value(x) if callable(value) else value
        return x

    return damage


def lost(x):
    """A hand is at the sensor, 2.5 m away, in some frames of some sequences."""
    x = x.copy()
    x[:5, :, 10:15, 9] = np.array([0.1, -0.2, -2.5])[:, None, None]
    return x


@pytest.mark.parametrize(
    ("damage", "check", "text", "mend"),
    [
        (lambda x: x * 1000, "height", r"bodies are 1,5\d\d m tall", "--unit mm"),
        (lambda x: x * 100, "height", r"bodies are 15\d m tall", "--unit cm"),
        (lambda x: x / 1000, "height", r"bodies are 0.0015\d m tall", "--unit"),
        (at(slice(3, 5), lambda x: x[3:5] * 1000), "height", r"in 2 of 50 .*s3\)", "--unit"),
        (axes(1, -3, 2), "up", "bodies lie along z", "or people lie"),
        (axes(1, -3, 2), "up", "bodies lie along z", "if neither helps, x points up"),
        (axes(1, 3, -2), "up", "bodies lie along z", "--up z"),
        (axes(1, -2, -3), "up", "upside down", "--up=-y"),
        (axes(2, -1, 3), "up", "bodies lie along x", "exchange axes in the files"),
        (axes(2, -1, 3), "up", "bodies lie along x", "or people lie"),
        (at([2, 9], lambda x: axes(1, -3, 2)(x[[2, 9]])), "up",
         r"2 of 50 .*first: s2, s9\) lie along another axis", "apart, with --up; or people lie"),
        (at(range(0, 50, 3), lambda x: axes(1, -2, -3)(x[::3])), "up",
         r"17 of 50 .*first: s0, s3, s6\) lie along another axis", "apart, with --up"),
        (lost, "bones", "in 5 of 50 .*the first: s0.* a bone changes its length", "--gaps fill"),
        (exchange(8, 9), "bones", "times as long as", "--layout"),
        (exchange(9, 15), "bones", "times as long as", "--layout"),
        (lambda x: x[:, :, :, ::-1], "bones", "change their length", "--layout"),
        (at(np.s_[:, :, :, 9], lambda x: x[:, :, :, 8]), "bones", "in one place", "--layout"),
        (at(np.s_[:4, :, 30:], 0), "frames", "4 of 50 .* end in empty frames, 40%", "--gaps fill"),
        (at(np.s_[7:9, :, 10:20], 0), "frames", "2 of 50 .*s7.* have empty frames, 20%", "--gaps"),
        (at(3, 0), "frames", "1 of 50 .*s3.* hold no body", "leave"),
        (at(np.s_[3], lambda x: x[3, :, :1]), "motion", "1 of 50 .*s3.* stand still", "leave"),
        (at(np.s_[3, :, 5:40], lambda x: x[3, :, 5:6]), "motion", "s3.*copies", "leave"),
        (at(6, lambda x: x[5]), "splits", "2 of 50 .*s5.* equal to others", "copies"),
        (lambda x: np.concatenate([x, 0 * x], axis=4), "bodies", "body 2 of 2", "--max-bodies 1"),
    ],
)  # fmt: skip
def test_damage_is_found(sound, report, damage, check, text, mend):
    found = [finding for finding in report(damage(sound)).odd if finding.check == check]
    named = [finding for finding in found if re.search(text, finding.text)]
    assert named, found
    assert mend in named[0].mend
    assert "\n" not in str(named[0])


def test_what_is_sound_stays_so(sound, report):
    """Not centered, not turned, in millimeters, two bodies, lengths of their own, no labels."""
    assert not report(sound).odd
    away = sound + np.array([0.5, 1.0, 3.0], dtype=np.float32)[:, None, None, None]
    assert not report(away, steps=NOT_TURNED).odd
    assert not report(np.rint(sound * 1000).astype(np.int16)).odd
    assert not report(np.concatenate([sound, np.roll(sound, 1, 0)], axis=4)).odd
    late = np.concatenate([sound, sound], axis=4)
    late[:, :, :20, :, 1] = 0
    late[5:, ..., 1] = 0
    assert not report(late).odd
    assert not report(sound, label=None).odd


def test_lengths_of_their_own_are_no_gaps(sound, report):
    padded = np.concatenate([sound, 0 * sound], axis=2)
    assert not report(padded, steps=Preprocessing(None, "exact"), frames=[50] * 50).odd
    assert not report(padded, steps=None, frames=[50] * 50).odd  # as others made it
    resized = report(padded, steps=Preprocessing(100, "exact"), frames=[50] * 50)
    assert "end in empty frames, 50%" in str(resized)


def test_a_reversed_spine_is_seen_by_its_long_bones(tmp_path, sound):
    """UTD-MHAD's order read as NW-UCLA's: head and hips exchanged, everything else in place."""
    joints = ["head_tip", "chest", "spine", "waist", "left_upper_arm", "left_forearm", "left_hand",
              "left_hand", "right_upper_arm", "right_forearm", "right_hand", "right_hand",
              "left_upper_leg", "left_lower_leg", "left_foot", "left_toes", "right_upper_leg",
              "right_lower_leg", "right_foot", "right_toes"]  # fmt: skip
    x = sound[:, :, :, [LAYOUT.joints.index(joint) for joint in joints]].copy()
    x[:, 1, :, [7, 11]] -= 0.1  # hands below wrists
    names = {"name": [f"s{i}" for i in range(50)]}
    right = write_store(tmp_path / "right", x, names, layout="kinect-v1")
    wrong = write_store(tmp_path / "wrong", x, names, layout="nw-ucla")
    assert not check_store(right).odd
    assert "% of the body's size" in str(check_store(wrong).odd[0])
    assert "--layout" in check_store(wrong).odd[0].mend


def test_2d_poses_have_no_height_and_bones_that_shorten(sound, report):
    flat = sound.copy()
    flat[:, 2] = 0
    found = report(flat, steps=NOT_TURNED)
    assert not found.odd
    assert "2D poses" in str(found)
    flat[:, 1] *= -1
    assert "upside down" in str(report(flat, steps=NOT_TURNED))


def test_skeletons_that_are_no_whole_body(sound, report):
    """A hand of 5 joints without names: nothing is said about up, and 20 cm are no oddity."""
    hand = Layout("hand", tuple("abcde"), ((1, 0), (2, 1), (3, 0), (4, 3)), 0, (0, 3, 4, 1, 2))
    x = sound[:, :, :, [2, 7, 8, 11, 12]] / 3
    found = report(x, layout=hand)
    assert not found.odd
    assert "not told" in str(found)
    alone = Layout("point", ("a",), (), 0, (0,))
    assert {finding.check for finding in report(x[:, :, :, 1:2], layout=alone).findings} >= {"up"}


def test_values_that_are_not_finite(tmp_path, sound):
    store = write_store(tmp_path / "x", sound, {"name": [f"s{i}" for i in range(50)]},
                        layout=LAYOUT)  # fmt: skip
    positions = np.load(store.path / "positions.npy")
    positions[4, 0, 0, 0] = np.nan
    positions[5] = np.inf
    np.save(store.path / "positions.npy", positions)
    assert "2 of 50 sequences (the first: s4) have values that are not finite" in str(
        check_store(type(store)(store.path, positions, store.samples, store.meta, store.layout))
    )


def test_labels(sound, report, tmp_path):
    def odd(labels, classes=None):
        store = write_store(tmp_path / "y", sound, {"name": [f"s{i}" for i in range(50)],
                            "label": labels}, layout=LAYOUT, classes=classes,
                            overwrite=True)  # fmt: skip
        return str(check_store(store))

    assert "all samples are of one class" in odd([3] * 50)
    assert "1 classes have a single sample (the first: 7)" in odd([0] * 49 + [7])
    assert "2 of 4 classes have no sample (the first: b)" in odd([0, 3] * 25, list("abcd"))
    assert "1 of 3 classes have no sample (the first: label 0)" in odd([1, 2] * 25)
    assert "2 of 4 classes have no sample (the first: c)" in odd([0, 1] * 25, list("abcd"))
    assert "labels: none" in str(report(sound, label=None))


def test_splits(tmp_path, sound):
    part = ["train"] * 30 + ["test"] * 20

    def shown(split, **columns):
        names = {"name": [f"s{i}" for i in range(50)], **columns}
        rule = {"column": "part", "train": ["train"], "test": ["test"]}
        store = write_store(tmp_path / "z", sound, {**names, "part": part}, layout=LAYOUT,
                            splits={split: rule}, overwrite=True)  # fmt: skip
        return str(check_store(store))

    mixed = np.arange(50) % 4
    assert "4 subjects are on both sides (0, 1, 2, 3)" in shown("split", subject=mixed)
    assert "another split, such as odd-even, to know" in shown("split", subject=mixed)
    words = shown("split", subject=[f"p{n}" for n in mixed])
    assert "another split to know about new people" in words
    assert "odd-even" not in words
    assert "nothing odd" in shown("xview", subject=mixed)  # other views of the same people
    assert "nothing odd" in shown("split", subject=[1] * 30 + [2] * 20)
    later = [0, 1] * 15 + [1, 2] * 10
    assert "1 are never trained (the first: 2)" in shown("split", label=later)
    sound = sound.copy()
    sound[40] = sound[2]
    assert "1 sequences have a copy on each side" in shown("split")


def test_interpolated_frames_are_counted(sound, report):
    found = report(sound, frames=[100] * 50, filled=[0, 60, 40] + [0] * 47)
    assert "2.0% are interpolated" in str(found)
    [odd] = found.odd
    assert "in 1 sequences (the first: s1) something is interpolated in more than" in odd.text
    assert not report(sound, frames=["?"] * 50, filled=[30] * 50).odd  # a column of others


def test_a_large_store_is_sampled_evenly(embedded, monkeypatch):
    monkeypatch.setattr(measuring, "SAMPLES", 100)
    report = check_store(embedded)
    assert (report.looked_at, report.sequences) == (100, 2000)
    assert "data check of 100 of 2,000 sequences" in str(report)
    assert not report.odd
    rows = measuring.measure(embedded).rows
    assert rows[0] == 0
    assert rows[-1] == 1999
    assert np.ptp(np.diff(rows)) <= 1


def test_blocks_make_no_difference(embedded, monkeypatch):
    monkeypatch.setattr(measuring, "SAMPLES", 50)
    whole = measuring.measure(embedded)
    monkeypatch.setattr(measuring, "_BLOCK", 1)
    one = measuring.measure(embedded)
    np.testing.assert_array_equal(whole.bones, one.bones)
    np.testing.assert_array_equal(whole.content, one.content)


def test_nobody_anywhere(report):
    found = report(np.zeros((50, 3, 9, 22, 2), dtype=np.float32))
    assert [finding.check for finding in found.odd] == ["frames"]
    assert "50 of 50 sequences (the first: s0) hold no body" in str(found)
    assert "nan" not in str(found)


def test_a_report_is_kept_with_its_store(tmp_path, sound):
    store = write_store(tmp_path / "x", sound * 1000, {"name": [f"s{i}" for i in range(50)]},
                        layout=LAYOUT)  # fmt: skip
    keep(store, check_store(store))
    data = json.loads((store.path / CHECK).read_text())
    assert (data["looked_at"], data["sequences"]) == (50, 50)
    assert {"check": "height", "mend": "--unit mm"}.items() <= next(
        finding for finding in data["findings"] if finding["odd"]
    ).items()


def test_checks_are_found_by_being_there():
    assert list(CHECKS) == [
        "values", "height", "up", "sides", "bones", "frames", "motion", "bodies", "labels",
        "splits",
    ]  # fmt: skip


def test_units_that_fit_depend_on_the_body():
    assert likely_units(1700, get_layout("coco")) == ["mm"]
    assert likely_units(155, get_layout("hand-21")) == ["mm", "cm"]
    assert likely_units(1e9, get_layout("coco")) == []


@pytest.mark.parametrize("how", ["names", "an axis"])
def test_exchanged_sides_are_found(how, sound, report):
    swapped = sound[:, :, :, list(LAYOUT.swap)]
    found = report(swapped if how == "names" else axes(-1, 2, 3)(sound))
    (one,) = (finding for finding in found.odd if finding.check == "sides")
    assert str(one).startswith("odd: joints called left are on the body's right in 100% of ")
    assert one.mend == "--sides swap, or --sides mirror"


@pytest.mark.parametrize("mirrored", [1, 8, 25, 49])
def test_sequences_whose_sides_contradict_the_others_are_named(mirrored, sound, report):
    x = sound.copy()
    x[:mirrored, 0] *= -1
    found = report(x)
    said = [one for one in found.findings if one.check == "sides" and "called left" in one.text]
    few = min(mirrored, 50 - mirrored)
    names = "s49" if mirrored == 49 else ", ".join(f"s{i}" for i in range(min(few, 3)))
    (one,) = (finding for finding in found.odd if "unlike in the others" in finding.text)
    assert one.text.startswith(f"in {few} of 50 sequences (the first: {names}) they are on its ")
    assert one.mend == "prepare such files apart, with --sides swap, or --sides mirror"
    assert [finding.odd for finding in said] == [mirrored == 49]


def test_along_which_horizontal_axis_is_told_where_nothing_was_turned(sound, report):
    (one,) = report(axes(1, -3, 2)(sound), steps=NOT_TURNED).odd
    assert (one.text, one.mend.split(";")[0]) == ("bodies lie along z", "--up z, or --up y after z")
    assert "people lie" in one.mend
    assert "x points" not in one.mend


def test_sides_that_do_not_show_are_said_to_be_unknown(sound, report):
    x = sound.copy()
    toes = [j for j, name in enumerate(LAYOUT.joints) if "toes" in name]
    feet = [j for j, name in enumerate(LAYOUT.joints) if name in ("left_foot", "right_foot")]
    x[:, :, :, toes] = x[:, :, :, feet]
    assert "sides: not told" in str(report(x))
