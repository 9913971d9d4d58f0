"""Tables as people save them: each kind is read as it is meant, or refused with what settles it."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from data.readers.recordings import motion, table
from data.readers.test_ntu import read_all

from aimclr_fast import native
from aimclr_fast.data.readers import Problem, ReadError, Recording
from aimclr_fast.data.readers._tables import decode, outline
from aimclr_fast.layouts import get_layout

LAYOUT = "nw-ucla"
JOINTS = get_layout(LAYOUT).joints
FRAMES = 12
MOTION = motion(3, len(JOINTS), FRAMES).round(4)
ROWS = MOTION.reshape(FRAMES, -1)
PLAIN = table(ROWS, ",", 4)
COLUMNS = [f"{joint}_{axis}" for joint in JOINTS for axis in "xyz"]


def cells(rows=ROWS) -> list[list[str]]:
    return [[f"{n:.4f}" for n in row] for row in rows]


def text(rows, separator=",", heading=None) -> str:
    lines = [*([heading] if heading is not None else []), *rows]
    return "".join(separator.join(line) + "\n" for line in lines)


def wide(per_joint: np.ndarray) -> np.ndarray:
    """Position and others ``[T, V, n]`` side by side for each joint."""
    return np.concatenate([MOTION, per_joint], axis=2).reshape(FRAMES, -1)


@pytest.fixture
def read(tmp_path):
    """Writes a table and reads it; returns positions ``[M, T, V, 3]`` and notes, or raises."""

    def reader(content: str | bytes, layout=LAYOUT, **options):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "clip.csv").write_bytes(data)
        plan, found = read_all("folder", tmp_path, layout=layout, **options)
        if isinstance(found[0], Problem):
            raise ReadError(found[0].where, found[0].reason)
        assert isinstance(found[0], Recording)
        return found[0].positions.transpose(3, 1, 2, 0), " | ".join(plan.notes), found[0]

    return reader


def assert_is_motion(positions, expected=MOTION):
    np.testing.assert_allclose(positions, np.asarray(expected)[None], atol=1e-6)


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
    "empty rows at the end": PLAIN + "," * 59 + "\n" + "," * 59 + "\n",
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


def numbered(start: int, style: str) -> list[str]:
    return [style.format(joint=j + start, axis=axis) for j in range(len(JOINTS)) for axis in "xyz"]


HEADINGS = {
    "by name": COLUMNS,
    "camel case": [re.sub(r"_(\w)", lambda m: m[1].upper(), c) for c in COLUMNS],
    "upper case and blanks": [c.upper().replace("_", " ") for c in COLUMNS],
    "side last": [f"{'_'.join(c.split('_')[::-1][1:])}_{c[-1]}" if c.count("_") == 2 and
                  c[0] in "lr" else c for c in COLUMNS],
    "American spelling": [c.replace("centre", "center") for c in COLUMNS],
    "positions": [f"{c[:-2]}.Position.{c[-1].upper()}" for c in COLUMNS],
    "quoted": [f'"{c}"' for c in COLUMNS],
    "commas within quotes": [f'"{c[:-2]}, {c[-1]}"' for c in COLUMNS],
    "from 0": numbered(0, "joint {joint} {axis}"),
    "from 1": numbered(1, "j{joint}_{axis}"),
    "axis first": numbered(0, "{axis}{joint}"),
    "pandas repeats": [c.replace(".0", "") for c in numbered(0, "{axis}.{joint}")],
    "no joints": list("xyz") * len(JOINTS),
    "metres": [f"{c} (m)" for c in COLUMNS],
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADINGS)
def test_headings_that_name_joints(read, kind):
    positions, _, _ = read(text(cells(), heading=HEADINGS[kind]))
    assert_is_motion(positions)


@pytest.mark.parametrize("kind", [k for k in HEADINGS if k != "no joints"])
def test_columns_in_any_order_are_found_by_their_headings(read, kind):
    order = np.random.default_rng(0).permutation(60)
    heading = [HEADINGS[kind][i] for i in order]
    positions, _, _ = read(text(cells(ROWS[:, order]), heading=heading))
    assert_is_motion(positions)


@pytest.mark.parametrize(
    "heading",
    [
        [str(n) for n in range(60)],
        [str(n) for n in range(1, 61)],
        [f"V{n}" for n in range(1, 61)],
        [f"joint {n} x" for n in range(60)],
        [f"column {n}" for n in range(60)],
    ],
)
def test_headings_that_only_count(read, heading):
    positions, _, _ = read(text(cells(), heading=heading))
    assert_is_motion(positions)


def test_a_heading_of_several_lines_is_put_together(read):
    joints = [joint for joint in JOINTS for _ in "xyz"]
    lines = [["model"] * 60, joints, list("xyz") * 20]
    assert_is_motion(read(text([*lines, *cells()]))[0])
    # As DeepLabCut writes them, with an index.
    first = ["scorer", "bodyparts", "coords", *COUNT]
    rows = [[name, *row] for name, row in zip(first, [*lines, *cells()], strict=True)]
    assert_is_motion(read(text(rows))[0])


def test_a_title_above_the_heading_is_passed_over_and_said(read):
    positions, notes, _ = read("Recorded by hand\n" + text(cells(), heading=COLUMNS))
    assert_is_motion(positions)
    assert "Recorded by hand" in notes


def test_a_heading_in_a_comment(read):
    order = np.arange(60)[::-1]
    positions, _, _ = read("# " + text(cells(ROWS[:, order]), heading=[COLUMNS[i] for i in order]))
    assert_is_motion(positions)


def with_first(first: list[str], name: str | None, rows=None) -> str:
    rows = rows if rows is not None else cells()
    heading = None if name is None else [name, *(str(n) for n in range(60))]
    return text([[f, *row] for f, row in zip(first, rows, strict=True)], heading=heading)


COUNT = [str(n) for n in range(FRAMES)]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "frame", "Time (s)", "timestamp", None])
@pytest.mark.parametrize("first", [COUNT, [f"{n / 30:.3f}" for n in range(FRAMES)]])
def test_a_column_of_frames_or_times(read, name, first):
    positions, notes, _ = read(with_first(first, name))
    assert_is_motion(positions)
    assert "passed over" in notes


def test_an_index_that_the_heading_leaves_out(read):
    lines = with_first(COUNT, None)
    positions, _, _ = read(",".join(COLUMNS) + "\n" + lines)
    assert_is_motion(positions)


@pytest.mark.parametrize(
    ("first", "name", "reason"),
    [
        (["1"] * FRAMES, None, "--skip-columns 1"),
        (COUNT[::-1], None, "--skip-columns 1"),
        (["0", *COUNT[:-1]], None, "--skip-columns 1"),
        (["1"] * FRAMES, "frame", "one line per frame"),
        (COUNT[::-1], "time", "one line per frame"),
    ],
)
def test_a_first_column_that_does_not_count_is_refused(read, first, name, reason):
    with pytest.raises(ReadError, match=reason):
        read(with_first(first, name))


def test_a_first_column_that_rises_beside_a_last_one_that_is_constant(read):
    rows = [[*row, "3"] for row in cells(np.sort(ROWS, axis=0))]
    with pytest.raises(ReadError, match="one too many"):
        read(text(rows))


def test_columns_are_skipped_when_told(read):
    rows = [["5", "7", *row] for row in cells()]
    with pytest.raises(ReadError, match=r"62 columns.*--skip-columns N"):
        read(text(rows))
    assert_is_motion(read(text(rows), skip_columns=2)[0])
    heading = ["subject", "take", *COLUMNS]
    with pytest.raises(ReadError, match=r"'subject', 'take'"):
        read(text(rows, heading=heading))
    assert_is_motion(read(text(rows, heading=heading), skip_columns=2)[0])
    with pytest.raises(ReadError, match="--skip-columns 62"):
        read(text(rows), skip_columns=62)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["v"], "xyzc"),
        (["likelihood"], "xyz_"),
        (["rx", "ry", "rz"], "xyz___"),
        (["rotX", "rotY", "rotZ"], "xyz___"),
        (["qx", "qy", "qz", "qw"], "xyz____"),
    ],
)
def test_more_columns_a_joint_by_heading_or_when_declared(read, names, columns):
    rows = cells(wide(np.full((FRAMES, 20, len(names)), 0.5)))
    heading = [f"{joint}_{axis}" for joint in JOINTS for axis in ["x", "y", "z", *names]]
    positions, notes, _ = read(text(rows, heading=heading))
    assert_is_motion(positions)
    assert "passed over" in notes
    with pytest.raises(ReadError, match=rf"{20 * (3 + len(names))} columns.*--columns") as caught:
        read(text(rows))
    assert columns[:4] in str(caught.value)
    assert_is_motion(read(text(rows), columns=columns)[0])


def test_two_bodies_are_read_when_declared_and_never_guessed(read):
    other = motion(50, 20, FRAMES)
    rows = cells(np.concatenate([ROWS, other.reshape(FRAMES, -1)], axis=1))
    with pytest.raises(ReadError, match=r"120 columns.*xyz with --csv-bodies 2"):
        read(text(rows))
    for options in ({"csv_bodies": 2}, {"csv_bodies": 2, "columns": "xyz"}):
        positions, _, _ = read(text(rows), **options)
        np.testing.assert_allclose(positions, [MOTION, other], atol=1e-4)
    heading = [f"body {b} {c}" for b in (1, 2) for c in COLUMNS]
    np.testing.assert_allclose(read(text(rows, heading=heading))[0], positions)
    with pytest.raises(ReadError, match="--csv-bodies 1, but the heading names 2"):
        read(text(rows, heading=heading), csv_bodies=1)


@pytest.mark.parametrize("columns", ["xq", "x", "xyzz", "", "z_c"])
def test_columns_that_cannot_be_meant(read, columns):
    with pytest.raises(ReadError, match="--columns"):
        read(PLAIN, columns=columns)


def test_columns_against_the_heading(read):
    heading = [f"{joint}_{axis}" for joint in "abcdefghijklmnopqrst" for axis in "xyz"]
    with pytest.raises(ReadError, match=r"does not have: 'a_x'.*--columns"):
        read(text(cells(), heading=heading))
    assert_is_motion(read(text(cells(), heading=heading), columns="xyz")[0])
    with pytest.raises(ReadError, match=r"heading of column 2, 'a_y', says y"):
        read(text(cells(), heading=heading), columns="xzy")
    with pytest.raises(ReadError, match="but the heading names x y z"):
        read(text(cells(), heading=COLUMNS), columns="xyc")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: [*h[:-1], "label"], "name no coordinate: 'label'"),
        (lambda h: [*h[:-1], h[-2]], "name the same coordinate"),
        (lambda h: [*h[:-3], "tail_x", "tail_y", "tail_z"], "does not have: 'tail_x'"),
        (lambda h: [*h[:-1], "right_foot_visibility"], "no heading names z of right_foot"),
        (lambda h: [*(f"{c} (mm)" for c in h[:30]), *(f"{c} (m)" for c in h[30:])],
         "different units: m, mm"),
        (lambda h: numbered(2, "joint {joint} {axis}"), "number 20 joints from 2 to 21"),
    ],
)  # fmt: skip
def test_headings_that_do_not_add_up(read, change, reason):
    with pytest.raises(ReadError, match=reason):
        read(text(cells(), heading=change(COLUMNS)))


def test_a_unit_in_the_heading_is_used_and_said(read):
    rows = cells(ROWS * 1000)
    for style in ("{} (mm)", "{}_mm", "{} [mm]"):
        heading = [style.format(c) for c in COLUMNS]
        positions, notes, _ = read(text(rows, heading=heading))
        assert_is_motion(positions)
        assert "lengths in mm" in notes
        assert_is_motion(read(text(rows, heading=heading), unit="mm")[0])
    with pytest.raises(ReadError, match="--unit cm, but the headings say mm"):
        read(text(rows, heading=heading), unit="cm")


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
    ],
)
def test_what_is_no_table(read, content, reason):
    with pytest.raises(ReadError, match=reason):
        read(content)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "null"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_joints_that_are_missing_are_interpolated_and_counted(read, word, separator):
    rows = cells()
    for t in (4, 5):
        rows[t][9:12] = [word] * 3
    rows[7] = [word] * 60
    positions, _, recording = read(text(rows, separator))
    expected = MOTION.copy()
    for t, part in ((4, 1 / 3), (5, 2 / 3)):
        expected[t, 3] = MOTION[3, 3] * (1 - part) + MOTION[6, 3] * part
    expected[7] = 0  # nobody is there
    assert_is_motion(positions, expected)
    assert recording.filled == 2


def test_a_joint_with_some_of_its_coordinates_or_in_no_frame_is_refused(read):
    rows = cells()
    rows[4][10] = ""
    with pytest.raises(ReadError, match=r":5: head has some of its coordinates"):
        read(text(rows))
    rows = [[*row[:9], "", "", "", *row[12:]] for row in cells()]
    with pytest.raises(ReadError, match="head is in no frame"):
        read(text(rows))


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
    assert not positions[..., 2].any()
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
