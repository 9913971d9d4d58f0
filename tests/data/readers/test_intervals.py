"""Labels by interval: what csv files, BORIS and ELAN write, and what is cut out of recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.readers.bvh_files import bvh_text

from aimclr_fast.data import open_store, split
from aimclr_fast.data.readers import Problem, ReadError, Recording, read_intervals
from aimclr_fast.data.timing import labeled
from aimclr_fast.prepare import command_line

# Written by pympi, with two tiers and an annotation without text.
EAF = Path(__file__).parent / "eaf" / "0.eaf"


def read(folder: Path, text: str, name: str = "parts.csv", tier: str | None = None):
    (folder / name).write_text(text, encoding="utf-8")
    return read_intervals(folder / name, tier)


def told(found) -> dict[str, list[tuple[float, float, str]]]:
    return {
        name: [(one.start, one.end, found.classes[one.label]) for one in some]
        for name, some in found.of.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        "name,start,end,label\na,0.5,2,walk\na,2,3.25,wave\nb,1,2,walk\n",
        "label;end;start;name\nwalk;2,0;0,5;a.bvh\nwave;3,25;2;a.bvh\nwalk;2;1;./b.bvh\n",
        "name\tstart (ms)\tend (ms)\tlabel\na\t500\t2000\twalk\na\t2000\t3250\twave\n"
        "b\t1000\t2000\twalk\n",
        'Name,Begin Time - ss.msec,End Time - ss.msec,Annotation\n"a",0.5,2.0,walk\n'
        "a,00:00:02.0,0:03.25,wave\n\nb,1,2,walk\n",
        # The columns of BORIS's aggregated events.
        "Observation id,Observation date,Description,Media file,Total length,FPS,Subject,Behavior,"
        "Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),Comment start,"
        "Comment stop\n"
        "o1,2021-12-06 13:26:24,,a.mp4,9.0,29.97,No focal subject,walk,,,STATE,0.500,2.000,1.5,,\n"
        "o1,2021-12-06 13:26:24,,a.mp4,9.0,29.97,No focal subject,wave,,,STATE,2.000,3.250,1.25,,\n"
        "o2,2021-12-06 13:26:24,,b.mp4,9.0,29.97,No focal subject,walk,,,STATE,1.000,2.000,1.0,,\n",
    ],
)
def test_the_same_intervals_in_several_forms(text, tmp_path):
    found = read(tmp_path, text)
    assert told(found) == {
        "a": [(0.5, 2.0, "walk"), (2.0, 3.25, "wave")],
        "b": [(1.0, 2.0, "walk")],
    }
    assert not found.problems


def test_an_elan_file_is_named_like_its_recording():
    with pytest.raises(ReadError, match=r"name one with --tier: action \(3\), notes \(1\)"):
        read_intervals(EAF)
    found = read_intervals(EAF, "action")
    assert told(found) == {"0": [(0.0, 1.0, "walk"), (1.0, 2.5, "wave")]}
    assert found.problems == [Problem(f"{EAF}: a4", "the interval has no label")]
    assert told(read_intervals(EAF.parent, "notes")) == {"0": [(0.1, 0.9, "blurred")]}
    with pytest.raises(ReadError, match=r"has no tier feet; it has action, notes"):
        read_intervals(EAF, "feet")


def test_a_row_that_cannot_be_used_is_left_out_with_its_line(tmp_path):
    found = read(
        tmp_path,
        "name,start,end,label\na,0,1,walk\na,x,2,walk\na,2,2,walk\na,3,4,\n,4,5,walk\na,5\n",
    )
    assert told(found) == {"a": [(0.0, 1.0, "walk")]}
    assert [(Path(one.where).name, one.reason) for one in found.problems] == [
        ("parts.csv:3", "start or end is not a time"),
        ("parts.csv:4", "the interval has no length"),
        ("parts.csv:5", "the interval has no label"),
        ("parts.csv:6", "the interval names no recording"),
        ("parts.csv:7", "start or end is not a time"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,start,label\na,1,x\n", "no column end"),
        ("", "no column start, end, label"),
        ("start,start,end,label\n1,1,2,x\n", "several columns are a start"),
        ("start,end,label\n", "holds no labeled interval"),
        ('start,end,label\n1,2,"x\n', "not a csv file"),
    ],
)
def test_a_file_that_holds_no_intervals_is_refused(text, message, tmp_path):
    with pytest.raises(ReadError, match=message):
        read(tmp_path, text)


def test_tiers_are_for_elan_files_alone(tmp_path):
    with pytest.raises(ReadError, match=r"--tier x: only \.eaf files have tiers"):
        read(tmp_path, "start,end,label\n0,1,x\n", tier="x")
    with pytest.raises(ReadError, match=r"holds no \.eaf files"):
        read_intervals(tmp_path)


BOMB = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><ANNOTATION_DOCUMENT/>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "defines a document type or entities"),
        ("<html></html>", "not an ELAN file: it is a 'html'"),
        ("<ANNOTATION_DOCUMENT>", "not XML"),
        ("", "not XML"),
        ("<ANNOTATION_DOCUMENT/>", "holds no labeled interval"),
        (
            '<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR TIME_ORIGIN="500"/></HEADER>'
            "</ANNOTATION_DOCUMENT>",
            "TIME_ORIGIN",
        ),
    ],
)
def test_other_xml_is_refused(text, message, tmp_path):
    with pytest.raises(ReadError, match=message):
        read(tmp_path, text, "x.eaf")


def test_every_cut_of_an_elan_file_is_read_or_refused(tmp_path):
    text = EAF.read_text(encoding="utf-8")
    for length in range(0, len(text), 97):
        try:
            found = read(tmp_path, text[:length], "x.eaf", tier="action")
        except ReadError:
            continue
        raise AssertionError(f"{length}: {told(found)}")


def recording(name: str = "a", frames: int = 100, **columns) -> Recording:
    x = np.arange(frames, dtype=np.float64).reshape(1, -1, 1, 1).repeat(3, axis=0)
    return Recording(name, x, columns, f"{name}.bvh", 10.0)


def test_frames_from_the_start_up_to_the_end(tmp_path):
    found = read(tmp_path, "start,end,label\n0,1,x\n1,2.5,y\n2.46,2.94,x\n")
    parts = list(labeled(recording(subject=7), found))
    assert [part.name for part in parts] == ["a@0-1s", "a@1-2.5s", "a@2.46-2.94s"]
    assert [part.positions[0, [0, -1], 0, 0].tolist() for part in parts] == [
        [0, 9],
        [10, 24],
        [25, 28],
    ]
    assert [part.columns for part in parts] == [
        {"recording": "a", "label": label, "subject": 7} for label in (0, 1, 0)
    ]
    assert found.notes == [
        f"{tmp_path / 'parts.csv'}: 1 intervals begin before the one before them ends; each is a "
        "sample of its own"
    ]


def test_what_cannot_be_cut_out_is_said(tmp_path):
    found = read(tmp_path, "start,end,label\n1,1.1,x\n9,10.1,x\n9,10.2,x\n9,10.1,y\n")
    assert [getattr(one, "reason", one.where) for one in labeled(recording(), found)] == [
        "shorter than two frames",
        "a.bvh",
        "an interval that has a label already",
        "ends after the recording: another clock, or another recording?",
    ]
    named = read(tmp_path, "name,start,end,label\nb,1,2,x\n")
    (problem,) = labeled(recording(), named)
    assert "no interval in " in problem.reason
    with pytest.raises(ReadError, match="has a label, and its intervals have others"):
        list(labeled(recording(label=1), found))


def test_paths_end_with_the_recordings_name(tmp_path):
    text = (
        "name,start,end,label\nD:\\films\\day1\\walk.mp4,0,1,x\nD:\\films\\day2\\walk.mp4,1,2,y\n"
    )
    found = read(tmp_path, text)
    (part,) = labeled(recording("day2/walk"), found)
    assert part.name == "day2/walk@1-2s"
    (problem,) = labeled(recording("alk"), found)
    assert "no interval in " in problem.reason
    with pytest.raises(
        ReadError, match=r"day1/walk and .*day2/walk may both be the recording walk"
    ):
        list(labeled(recording("walk"), found))


@pytest.fixture
def source(tmp_path):
    """Three recordings of 3 s at 30 frames per second; the csv says nothing of the last."""
    (tmp_path / "in").mkdir()
    for n in range(3):
        (tmp_path / "in" / f"{n}.bvh").write_text(bvh_text(seed=n, frames=91, time="0.0333333"))
    (tmp_path / "parts.csv").write_text(
        "name,start,end,label\n0,0,1,wave\n0,1,3,walk\n1,0.5,2.5,wave\n1,2,30,walk\nx,0,1,walk\n"
    )
    return tmp_path


def test_prepare_cuts_labeled_intervals_and_windows_of_them(source, capsys):
    def prepared(out: str, *flags: str):
        command_line(
            ["bvh", str(source / "in"), str(source / out), "--jobs=1",
             f"--intervals={source / 'parts.csv'}", *flags]
        )  # fmt: skip
        return open_store(source / out), capsys.readouterr().out

    store, said = prepared("whole")
    assert store.samples["name"].tolist() == ["0@0-1s", "0@1-3s", "1@0.5-2.5s"]
    assert store.class_names == ("walk", "wave")
    assert store.labels is not None
    assert store.labels.tolist() == [1, 0, 1]
    assert store.samples["recording"].tolist() == [0, 0, 1]
    assert store.samples["frames"].tolist() == [30, 60, 60]
    assert "5 labeled intervals of 3 recordings" in said
    assert "for pretraining" not in said
    assert "1 x ends after the recording" in said
    assert "1 x no interval in " in said
    assert "parts.csv: 1 recordings have no sample (first: x)" in said
    assert len(split(store, "all")[0]) == 3

    store, said = prepared("cut", "--window=1s", "--hop=0.5s")
    assert store.samples["name"].tolist() == [
        "0@0-1s@0s", "0@1-3s@0s", "0@1-3s@0.5s", "0@1-3s@1s",
        "1@0.5-2.5s@0s", "1@0.5-2.5s@0.5s", "1@0.5-2.5s@1s",
    ]  # fmt: skip
    assert set(store.samples["recording"].tolist()) == {0, 1}
    assert "one every 0.5 s of each interval" in said


def test_a_file_that_names_no_recording_is_for_one(source, capsys):
    (source / "one.csv").write_text("start,end,label\n0,1,wave\n1,2,walk\n")
    command = ["bvh", "", str(source / "out"), "--jobs=1", f"--intervals={source / 'one.csv'}"]
    command[1] = str(source / "in")
    with pytest.raises(SystemExit) as caught:
        command_line(command)
    assert caught.value.code == 2
    assert "no column name, and there are 3 recordings" in capsys.readouterr().err
    command[1] = str(source / "in" / "1.bvh")
    command_line(command)
    assert open_store(source / "out").samples["name"].tolist() == ["1@0-1s", "1@1-2s"]


def test_a_tier_needs_intervals(source, capsys):
    with pytest.raises(SystemExit):
        command_line(["bvh", str(source / "in"), str(source / "out"), "--tier=x"])
    assert "--tier: only with --intervals" in capsys.readouterr().err


def test_classes_without_a_sample_have_no_number(source, capsys):
    """An interval that cannot be used leaves no hole in the numbers of the classes."""
    (source / "holes.csv").write_text(
        "name,start,end,label\n0,0,1,wave\n0,1,30,jump\n1,0,2,walk\nx,0,1,bow\n"
    )
    command_line(
        ["bvh", str(source / "in"), str(source / "st"), "--jobs=1",
         f"--intervals={source / 'holes.csv'}"]
    )  # fmt: skip
    store, said = open_store(source / "st"), capsys.readouterr().out
    assert store.class_names == ("walk", "wave")
    assert store.labels.tolist() == [1, 0]
    assert "classes: 2 of 4 have samples\n  without a sample, and left out: bow, jump" in said


def test_the_cause_is_in_the_message_if_nothing_is_left(source, capsys):
    (source / "other.csv").write_text("name,start,end,label\nday1/walk.mp4,0,1,wave\n")
    with pytest.raises(SystemExit) as caught:
        command_line(
            ["bvh", str(source / "in"), str(source / "st"), "--jobs=1",
             f"--intervals={source / 'other.csv'}"]
        )  # fmt: skip
    assert caught.value.code == 2
    error = capsys.readouterr().err
    first = source / "in" / "0.bvh"
    assert f"no sample is left, 3 left out: {first}: no interval in " in error
    assert "is of this recording; it names day1/walk (and 2 more)" in error
