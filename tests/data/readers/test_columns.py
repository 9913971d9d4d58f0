"""Which column is which joint: by headings, when declared, in order; or refused."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from data.readers.recordings import motion
from data.readers.saved_tables import (
    COLUMNS,
    FRAMES,
    JOINTS,
    MOTION,
    PLAIN,
    ROWS,
    assert_is_motion,
    cells,
    read_in,
    text,
    wide,
)

from aimclr_fast.data.readers import ReadError


@pytest.fixture
def read(tmp_path):
    return functools.partial(read_in, tmp_path)


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
    "meters": [f"{c} (m)" for c in COLUMNS],
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


def test_a_title_above_the_heading_is_ignored_and_said(read):
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
    assert "ignored" in notes


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
    heading = ["session", "take", *COLUMNS]
    with pytest.raises(ReadError, match=r"'session', 'take'"):
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
    assert "ignored" in notes
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
    with pytest.raises(ReadError, match=r"120 columns.*--columns"):  # or three bodies in 2D
        read(text(rows), csv_bodies=3)
    np.testing.assert_allclose(read(text(rows), csv_bodies=3, columns="xyz")[0], positions)
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


def two_people(names: str, first) -> str:
    """A second person's rows in some frames; ``first`` gives a row's cells before the pose."""
    rows = []
    for i, row in enumerate(cells()):
        rows.append([*first(i, 0), *row])
        if 3 <= i < 6:
            rows.append([*first(i, 1), *cells()[-1 - i]])
    return text(rows, heading=[*names.split(), *COLUMNS])


@pytest.mark.parametrize("name", ["frame", "index", "frame_idx", "Frame No."])
def test_a_frame_that_repeats_is_another_person(read, name):
    with pytest.raises(ReadError, match="one file per person"):
        read(two_people(name.replace(" ", "_"), lambda i, who: [str(i)]))


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("name", ["person_id", "id", "track_id", "TrackId", "subject"])
def test_people_told_apart_by_a_column_are_refused(read, name, skip):
    with pytest.raises(ReadError, match=r"2 people.*one file per person"):
        read(two_people(f"frame {name}", lambda i, who: [str(i), str(who)]), skip_columns=skip)


@pytest.mark.parametrize("who", [lambda i: "3", lambda i: str(i // 5)])
def test_one_person_of_a_changing_number_is_read(read, who):
    rows = [[str(i), who(i), *row] for i, row in enumerate(cells())]
    assert_is_motion(read(text(rows, heading=["frame", "person_id", *COLUMNS]))[0])


@pytest.mark.parametrize("name", ["time", "timestamp_ms", "Time [s]", "time_us"])
def test_times_may_repeat(read, name):
    rows = [[str(i - i % 3 // 2), *row] for i, row in enumerate(cells())]
    assert_is_motion(read(text(rows, heading=[name, *COLUMNS]))[0])


OTHER = [*range(10, 20), *range(10)]
NAMES = [c[:-2] for c in COLUMNS[::3]]


@pytest.mark.parametrize("start", [0, 1])
def test_axes_by_number(read, start):
    rows = [[row[3 * j + a] for j in OTHER for a in range(3)] for row in cells()]
    heading = [f"{NAMES[j]}_{a + start}" for j in OTHER for a in range(3)]
    assert_is_motion(read(text(rows, heading=heading))[0])


@pytest.mark.parametrize("columns", [None, "xyz"])
def test_names_in_another_order_without_axes_are_refused(read, columns):
    same = [name for name in NAMES for _ in range(3)]
    assert_is_motion(read(text(cells(), heading=same), columns=columns)[0])
    for heading in ([NAMES[j] for j in OTHER for _ in range(3)], NAMES * 3):
        with pytest.raises(ReadError, match=r"would be read as.*left_hand_x"):
            read(text(cells(), heading=heading), columns=columns)


@pytest.mark.parametrize("mark", [",", "\t"])
def test_names_in_a_line_above_the_axes(read, mark):
    below = mark.join(["frame", *"xyz" * 20]) + "\n"
    rows = text([[str(i), *row] for i, row in enumerate(cells())]).replace(",", mark)
    assert_is_motion(read(mark.join(["frame", *NAMES]) + "\n" + below + rows)[0])
    with pytest.raises(ReadError, match="another order"):
        read(mark.join(["frame", *(NAMES[j] for j in OTHER)]) + "\n" + below + rows)


def test_a_label_at_the_end_beside_an_x_that_rises(read):
    generator = np.random.default_rng(0)
    for first in (np.linspace(0, 1, FRAMES), np.cumsum(generator.exponential(1, FRAMES))):
        motion = ROWS.copy()
        motion[:, 0] = first
        rows = [[*row, str(int(i > 5))] for i, row in enumerate(text_cells(motion))]
        with pytest.raises(ReadError, match="one too many, and the last column holds whole") as e:
            read(text(rows))
        assert "skip" not in str(e.value)
    # In millimeters all are whole numbers; an x that rises does so by fits and starts.
    motion = np.rint(ROWS * 1000)
    motion[:, 0] = np.cumsum(generator.integers(1, 50, FRAMES))
    rows = [[f"{n:.0f}" for n in row] + [str(int(i > 5))] for i, row in enumerate(motion)]
    with pytest.raises(ReadError, match=r"--skip-columns 1, or .*\(a label goes into labels"):
        read(text(rows))


@pytest.mark.parametrize("label", ["3", "0", "3.0"])
@pytest.mark.parametrize("lead", [[], ["frame"], ["session", "frame"]])
@pytest.mark.parametrize("mark", [",", ";"])
def test_a_label_at_the_end_is_called_so(read, label, lead, mark):
    """And no flag is offered that would shift the coordinates."""
    rows = [[*[str(7 * i) for _ in lead], *row, label] for i, row in enumerate(cells())]
    content = text(rows, mark)
    content = content.replace(".", ",") if mark == ";" else content
    with pytest.raises(ReadError, match="the last column holds whole numbers, as a label") as error:
        read(content)
    assert "put the label into labels.csv" in str(error.value)
    assert "--skip-columns" not in str(error.value)


@pytest.mark.parametrize("options", [{}, {"columns": "xyz"}])
def test_columns_skipped_so_that_a_label_would_be_a_coordinate(read, options):
    rows = [[*row, "3"] for row in cells()]
    with pytest.raises(ReadError, match="column 61 would be a coordinate: the last column holds"):
        read(text(rows), skip_columns=1, **options)
    flat = [[*row, "3"] for row in cells(300 * MOTION[..., :2].reshape(FRAMES, -1))]
    with pytest.raises(ReadError, match="column 41 would be a coordinate"):
        read(text(flat), skip_columns=1)


def test_last_coordinates_that_are_whole_numbers(read):
    """Of all joints, zeros, or a score."""
    flat = MOTION.copy()
    flat[..., 2] = 0
    assert_is_motion(read(text(cells(flat.reshape(FRAMES, -1))), pose="3d")[0], flat)
    flat[..., 2] = 1
    assert_is_motion(read(text(cells(flat.reshape(FRAMES, -1))), pose="3d")[0], flat)
    lost = MOTION.copy()
    lost[:, -1] = 0
    assert_is_motion(read(text(cells(lost.reshape(FRAMES, -1))))[0], lost)
    scored = MOTION * [300, 300, 0] + np.linspace(0, 1, 20)[:, None] * [0, 0, 1]
    assert not np.nan_to_num(read(text(cells(scored.reshape(FRAMES, -1))))[0][..., 2]).any()


def text_cells(rows):
    return [[f"{n:.6f}" for n in row] for row in rows]


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("levels", [(None, None, None), ("", "", None), ("joint", "coord", "frame"),
                                    ("joint", "coord", None)])  # fmt: skip
@pytest.mark.parametrize("named", [False, True])
def test_two_levels_as_pandas_writes_them(read, levels, named, start):
    joints = [NAMES[j] if named else str(j + start) for j in range(20) for _ in range(3)]
    top, axes, index = levels
    lead = [] if top is None else [top]
    lines = [[*lead, *joints], [*([axes] if lead else []), *"xyz" * 20]]
    if index:
        lines.append([index, *[""] * 60])
    rows = [[str(i), *row] if lead else row for i, row in enumerate(cells())]
    assert_is_motion(read("".join(",".join(line) + "\n" for line in lines) + text(rows))[0])


def test_a_column_beside_each_joint_names_the_columns_to_give(read):
    heading = [name for j in NAMES for name in (f"{j}_X", f"{j}_Y", f"{j}_Z", f"{j}_TrackingState")]
    rows = [[c for j in range(20) for c in (*row[3 * j : 3 * j + 3], "2")] for row in cells()]
    with pytest.raises(ReadError, match="say --columns xyz_,"):
        read(text(rows, heading=heading))
    assert_is_motion(read(text(rows, heading=heading), columns="xyz_")[0])


@pytest.mark.parametrize("columns", [None, "xyz"])
@pytest.mark.parametrize("axes", [["_x", "_y", "_z"], ["_1", "_2", "_3"], [""] * 3])
def test_joints_with_numbers_in_their_names(read, tmp_path_factory, axes, columns):
    names = ["spine", "spine_1", "spine_2", *NAMES[3:]]
    layout = tmp_path_factory.mktemp("layout") / "mine.yaml"
    layout.write_text(
        f"name: mine\njoints: [{', '.join(names)}]\nedges: {[[j, 0] for j in range(1, 20)]}\n"
        "center: 0\nswap: names\n"
    )
    heading = [f"{name}{axis}" for name in names for axis in axes]
    positions = read(text(cells(), heading=heading), layout=str(layout), columns=columns)[0]
    assert_is_motion(positions)
