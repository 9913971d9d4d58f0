"""Tables as people save them: every dialect is read as it is meant, or refused."""

from __future__ import annotations

import functools
import gzip
import pickle

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.saved_tables import (
    COLUMNS,
    FRAMES,
    LAYOUT,
    MOTION,
    PLAIN,
    ROWS,
    assert_is_motion,
    cells,
    read_in,
    text,
)
from data.readers.test_ntu import read_all

from aimclr_fast import native
from aimclr_fast.data.gaps import close
from aimclr_fast.data.readers import Problem, ReadError, _tables
from aimclr_fast.data.readers._tables import decode, outline
from aimclr_fast.layouts import get_layout


@pytest.fixture
def read(tmp_path):
    return functools.partial(read_in, tmp_path)


DIALECTS = {
    "commas": PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "blanks": PLAIN.replace(",", "  "),
    "comma and blank": PLAIN.replace(",", ", "),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ","),
    "decimal commas, tabs": PLAIN.replace(",", "\t").replace(".", ","),
    "decimal commas, blanks": PLAIN.replace(",", " ").replace(".", ","),
    "quotes": text([[f'"{c}"' for c in row] for row in cells()]),
    "quoted decimal commas": text([[f'"{c.replace(".", ",")}"' for c in row] for row in cells()]),
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "old Macintosh": PLAIN.replace("\n", "\r"),
    "byte-order mark": "\ufeff" + PLAIN,
    "delimiters at the ends": PLAIN.replace("\n", ",\n"),
    "semicolons at the ends": PLAIN.replace(",", ";").replace(".", ",").replace("\n", ";\n"),
    "empty lines": "\n\n" + PLAIN.replace("\n", "\n\n") + "\n   \n",
    "comments": "# taken by hand\n" + PLAIN.replace("\n", "\n# more\n", 1),
    "sep=": "sep=;\n" + PLAIN.replace(",", ";"),
    "exponents": text([[f"{n:.8e}" for n in row] for row in ROWS]),
    "Unicode minus": PLAIN.replace("-", "\N{MINUS SIGN}"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
}


@pytest.mark.parametrize("kind", DIALECTS)
def test_dialects(read, kind):
    positions, notes, _ = read(DIALECTS[kind])
    assert_is_motion(positions)
    assert ("decimal commas" in notes) == ("decimal commas" in kind or kind.startswith("semicolons "
                                           "at"))  # fmt: skip


@pytest.mark.parametrize(
    ("line", "broken", "reason"),
    [
        (3, PLAIN.splitlines()[2] + ",1.0", r":3: 61 columns, the others have 60"),
        (4, ",".join(PLAIN.splitlines()[3].split(",")[:59]), r":4: 59 columns"),
        (1, ",".join(PLAIN.splitlines()[0].split(",")[:59]), r":1: 59 columns"),
        (5, PLAIN.splitlines()[4].replace("2", "x", 1), r":5: expected a finite number, got"),
        (1, PLAIN.splitlines()[0].replace("2", "x", 1), r":1: expected a finite number, got"),
        (6, "inf," + PLAIN.splitlines()[5].partition(",")[2], r":6: .*'inf'"),
        (6, "1e999," + PLAIN.splitlines()[5].partition(",")[2], r":6: .*'1e999'"),
        (6, "0x10," + PLAIN.splitlines()[5].partition(",")[2], r":6: .*'0x10'"),
    ],
)
def test_broken_rows_are_named_with_their_line(read, line, broken, reason):
    lines = PLAIN.splitlines()
    lines[line - 1] = broken
    with pytest.raises(ReadError, match=reason):
        read("\n".join(lines) + "\n")


def test_a_heading_in_the_middle(read):
    whole = text(cells(), heading=COLUMNS)
    with pytest.raises(ReadError, match=r":14: the heading again"):
        read(whole + whole)


@pytest.mark.parametrize(
    "content",
    [
        "1,234.5;1,234.5\n" * 3,
        "1.234,5;1.234,5\n" * 3,
        '"1,234,567.5","2"\n' * 3,
        text([[f"{1 + i % 9},{234 + i}" for i in range(60)]] * 3, ";"),
    ],
)
def test_thousands_separators_are_refused(read, content):
    with pytest.raises(ReadError, match="thousands separator"):
        read(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("# only a comment\n", "is empty"),
        ("hello\nworld\n", "no line is a row of numbers"),
        (",".join(COLUMNS) + "\n", "has no frames"),
        (",".join(str(n) for n in range(60)) + "\n", "has no frames"),
        (PLAIN.encode("utf-16-le"), "not text"),
        (b"\xff\xfe\0\xd8" * 5, "not UTF-16 text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not text"),
        ('"1,2\n3,4\n', "no line is a row|columns"),
        ('"' + "7" * 140_000 + '",1\n', "no line is a row of numbers"),
    ],
)
def test_what_is_no_table(read, content, reason):
    with pytest.raises(ReadError, match=reason):
        read(content)


def test_a_carriage_return_within_a_line_is_a_blank(read):
    assert_is_motion(read(PLAIN.replace(",", ",\r", 1))[0], MOTION)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "null", "<NA>", "-nan(ind)", "-1.#IND"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_joints_that_are_missing_are_gaps(read, word, separator):
    rows = cells()
    for t in (4, 5):
        rows[t][9:12] = [word] * 3
    rows[7] = [word] * 60
    positions, _, recording = read(text(rows, separator))
    expected = MOTION.copy()
    expected[4:6, 3] = np.nan
    expected[7] = np.nan
    assert_is_motion(positions, expected)
    found = close(recording.positions, "fill")[1]
    assert (found.joints, found.frames) == (2, 1)


def test_a_joint_with_some_of_its_coordinates_or_in_no_frame_is_refused(read):
    rows = cells()
    rows[4][10] = ""
    with pytest.raises(ReadError, match=r":5: head has some of its coordinates"):
        read(text(rows))
    rows = [[*row[:9], "", "", "", *row[12:]] for row in cells()]
    positions = read(text(rows))[2].positions
    joints = get_layout(LAYOUT).joints
    with pytest.raises(ValueError, match="head is in no frame"):
        close(positions, "fill", joints)
    assert close(positions, "keep", joints)[1].left == FRAMES


def test_2d_tables(read):
    pixels = (motion(3, 17, FRAMES)[..., :2] * [200, -200] + 500).round(3)
    score = np.full((FRAMES, 17, 1), 0.9)
    score[4, 3] = 0
    with_score = np.concatenate([pixels, score], axis=2)
    coco = get_layout("coco").joints
    heading = [f"{joint}_{axis}" for joint in coco for axis in ("x", "y", "likelihood")]
    named = text(cells(with_score.reshape(FRAMES, -1)), heading=heading)
    positions, notes, _ = read(named, layout="coco")
    assert "2D poses" in notes
    assert not np.nan_to_num(positions[..., 2]).any()
    bare = text(cells(with_score.reshape(FRAMES, -1)))
    np.testing.assert_allclose(read(bare, layout="coco")[0], positions)
    np.testing.assert_allclose(read(bare, layout="coco", columns="xyc")[0], positions)
    # Where a heading says z, the layout's habit does not make it a confidence.
    heading = [f"{joint}_{axis}" for joint in coco for axis in "xyz"]
    positions, notes, _ = read(text(cells(motion(3, 17, FRAMES).reshape(FRAMES, -1)),
                                    heading=heading), layout="coco")  # fmt: skip
    assert "2D" not in notes
    assert_is_motion(positions, motion(3, 17, FRAMES).round(4))
    with pytest.raises(ReadError, match="--pose 3d was given"):
        read(named, layout="coco", pose="3d")


def test_a_fourth_coordinate_of_arrays_is_read_when_declared(tmp_path):
    array = np.concatenate([MOTION, np.ones((FRAMES, 20, 1))], axis=2)
    np.save(tmp_path / "a.npy", array)
    assert isinstance(read_all("folder", tmp_path, layout=LAYOUT)[1][0], Problem)
    found = read_all("folder", tmp_path, layout=LAYOUT, columns="xyzc")[1][0]
    assert_is_motion(found.positions.transpose(3, 1, 2, 0))


def test_tsv_and_gz(tmp_path):
    (tmp_path / "a.TSV").write_text(PLAIN.replace(",", "\t"))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    (tmp_path / "labels.csv").write_text("name,label\na.TSV,0\nb.csv.gz,1\n")
    _, found = read_all("folder", tmp_path, layout=LAYOUT)
    assert [(r.name, r.columns["label"]) for r in found] == [("a", 0), ("b", 1)]
    for recording in found:
        assert_is_motion(recording.positions.transpose(3, 1, 2, 0))


def test_the_compiled_reader_gets_plain_and_decimal_comma_tables(read, monkeypatch):
    assert native.available()
    monkeypatch.setattr("aimclr_fast.data.readers._tables._read_slowly", None)
    for kind in ("commas", "tabs", "decimal commas", "byte-order mark", "comments"):
        assert_is_motion(read(DIALECTS[kind])[0])


def test_a_line_that_is_cut_by_the_beginning_does_not_count():
    data = decode(PLAIN.encode()[:-40], "x", part=True)
    assert outline(data, "x", part=True).columns == 60


EMPTY = "," * 59 + "\n"


@pytest.mark.parametrize("heading", ["", ",".join(COLUMNS) + "\n"])
@pytest.mark.parametrize("empty", [EMPTY, ",".join(["NaN"] * 60) + "\n"])
@pytest.mark.parametrize("count", [2, 15])
def test_empty_rows_at_either_end_are_frames(read, heading, empty, count):
    positions, _, _ = read(heading + empty * count + PLAIN + EMPTY * 2)
    assert np.isnan(positions[:, :count]).all()
    assert np.isnan(positions[:, -2:]).all()
    assert_is_motion(positions[:, count:-2])


def test_a_clock_is_named(read):
    rows = [[f"12:00:01.{33 * i:03}", *row] for i, row in enumerate(cells())]
    with pytest.raises(ReadError, match=r"time as 12:00:01\.[0-9]+ is not read: write seconds"):
        read(text(rows, heading=["time", *COLUMNS]))


def test_a_table_is_understood_once(tmp_path, monkeypatch):
    """Planning finds what its columns are, without a look at each cell; reading keeps that."""
    seen = []
    best_fit, number = _tables.best_fit, _tables.Dialect.number
    monkeypatch.setattr(_tables, "best_fit", lambda lines: seen.append("fit") or best_fit(lines))
    monkeypatch.setattr(
        _tables.Dialect, "number", lambda self, cell: seen.append("cell") or number(self, cell)
    )
    positions, _, _ = read_in(tmp_path, PLAIN)
    assert_is_motion(positions)
    assert seen == ["fit"]


def test_what_planning_found_reaches_a_worker(tmp_path):
    (tmp_path / "a.csv").write_text(text(cells(ROWS[:, ::-1]), heading=COLUMNS[::-1]))
    (tmp_path / "b.csv").write_text(text(cells(ROWS[:, ::-1]), heading=COLUMNS[::-1]))
    (tmp_path / "odd.csv").write_text("x\n")
    plan, _ = read_all("folder", tmp_path, layout=LAYOUT)
    a, b, odd = plan.units
    assert a.table is b.table
    assert odd.table is None
    (sent,) = pickle.loads(pickle.dumps([a]))
    (recording,) = plan.read(sent)
    assert_is_motion(recording.positions.transpose(3, 1, 2, 0))


@pytest.mark.parametrize("cell", ["1e999", "1_0", "0x1", "inf", "-", "1e", ".", "+-1", "1 2"])
def test_cells_that_python_takes_or_that_are_no_numbers(tmp_path, cell):
    rows = cells()
    rows[5][7] = cell
    with pytest.raises(ReadError, match=r"finite number|columns"):
        read_in(tmp_path, text(rows))
