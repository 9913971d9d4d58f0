"""Which column of a table is which body, joint and coordinate.

By the headings where they name joints and coordinates, in any order; else by ``--columns``, a
letter for each column of a joint: x, y, z, c for confidence, _ for one to ignore; else in order,
where there are exactly three or two columns for each joint of the layout. Anything else is
refused, with the flag that settles it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aimclr_fast.data.readers import _headings
from aimclr_fast.data.readers._base import Options, ReadError
from aimclr_fast.data.readers._headings import Column
from aimclr_fast.data.readers._tables import LABEL, Outline, outline
from aimclr_fast.layouts import Layout

#: The third coordinate of "xy?" is z or a confidence.
UNKNOWN = "xy?"
_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks"}
_EXAMPLES = {
    4: "xyzc (confidence), xyz_ (one to ignore), or xy with --csv-bodies 2",
    6: "xyz___ (three to ignore, such as rotations), or xyz with --csv-bodies 2",
    7: "xyz____ (four to ignore, such as a quaternion)",
}


@dataclass(frozen=True)
class Columns:
    """Where the numbers of a table go.

    Attributes:
        axes: "xyz", "xy", "xyc", "xyzc", or "xy?" where the third may be z or a confidence.
        bodies: bodies side by side.
        take: the column of each body, joint and axis, bodies outermost.
        index: columns that count frames or time, and so must rise.
        times: those of them that are times, which may repeat where a clock is coarse.
        person: a column that says who it is.
        guessed: the first column is taken for such a one since there is one too many.
        unit: m, cm or mm, where the headings say so.
        notes: what the user should know.
    """

    axes: str
    bodies: int
    take: tuple[int, ...]
    index: tuple[int, ...] = ()
    guessed: bool = False
    unit: str | None = None
    notes: tuple[str, ...] = ()
    times: tuple[int, ...] = ()
    person: int | None = None


@dataclass(frozen=True)
class Table:
    """Dialect and heading of a table, and what its columns are."""

    outline: Outline
    columns: Columns


def check_spec(columns: str | None) -> None:
    """Refuse an invalid --columns.

    Raises:
        ReadError: it does not hold x and y, repeats a letter, or has another one.
    """
    if columns is None:
        return
    letters = columns.replace("_", "")
    if not set("xy") <= set(letters) <= set("xyzc") or len(set(letters)) != len(letters):
        raise ReadError(
            f"--columns {columns}",
            "expected a letter for each column of a joint: x, y, z, c (confidence) once each, "
            "_ for one to ignore; such as xyz, xyzc or xyz___",
        )


def axes_of(columns: str) -> str:
    """The coordinates of a --columns in the order xyzc."""
    return "".join(axis for axis in "xyzc" if axis in columns)


def understand(
    data: bytes,
    layout: Layout,
    options: Options,
    where: str,
    known: dict[Outline, Table],
    *,
    part: bool = False,
) -> Table:
    """Find the columns of a decoded text.

    Args:
        data: the text, or its beginning where ``part``.
        layout: the skeleton.
        options: the user's.
        where: what errors name.
        known: tables by their outline, to which this one is added: most of a folder's are alike.
        part: see ``data``.

    Raises:
        ReadError: not a table, or it is not certain what its columns are.
    """
    found = outline(data, where, part=part)
    if found not in known:
        known[found] = Table(found, assign(found, layout, options, where))
    return known[found]


def assign(found: Outline, layout: Layout, options: Options, where: str) -> Columns:
    """Assign the columns of a table to joints and coordinates.

    Raises:
        ReadError: that is not certain; with what was seen, and what would settle it.
    """
    skip = options.skip_columns
    if skip >= found.columns:
        raise ReadError(where, f"--skip-columns {skip}, but there are {found.columns} columns")
    parsed = None
    if found.heading is not None:
        parsed = [_headings.parse(text) for text in found.heading]
    kinds = [column.kind for column in parsed or ()]
    index = [i for i, kind in enumerate(kinds) if i >= skip and kind in ("index", "time")]
    left = [
        i for i in range(skip, found.columns) if i not in index and kinds[i : i + 1] != ["person"]
    ]
    keys = _headings.layout_keys(layout)
    if parsed is not None:
        numbered = _headings.with_axes_by_number([parsed[i] for i in left], keys)
        for i, column in zip(left, numbered, strict=True):
            parsed[i] = column
    named = parsed is not None and {"x", "y"} <= {parsed[i].kind for i in left}
    line = found.first  # errors about headings are about the line before the numbers
    said = [parsed[i] for i in left] if parsed else []
    for column in said:
        if column.unit in _headings.FOREIGN:
            reason = (
                f"lengths in {column.unit}, by {column.text!r:.40}: convert them to m, cm or mm"
            )
            raise _refusal(reason, where, line)
    if not named and options.columns is None and any(column.kind == "other" for column in said):
        text = next(column.text for column in said if column.kind == "other")
        raise _refusal(
            f"{text!r:.40} is no position, by its name, and no heading names x and y: say what the "
            "columns of a joint are with --columns",
            where,
            line,
        )
    if named and parsed is not None:
        given = {i: parsed[i] for i in left}
        made = _by_heading(given, layout, options, where, line)
    else:
        made = _in_order(left, layout, options, where, may_guess=not index and not skip,
                         label=found.label)  # fmt: skip
        _check_joints(parsed, made, layout, where, line)
    if not (named and parsed and any(parsed[i].joint for i in left)):
        _check_ignored(found.ignored, layout, where)
    notes = list(made.notes)
    if parsed and not named and not all(parsed[i].text.isdecimal() for i in left):
        notes.append("headings do not name joints and coordinates: columns are read in order")
    if index and parsed:
        notes.append("ignored: a column of frames or times, by its heading")
    if "person" in kinds[skip:]:
        notes.append("ignored: a column of persons, by its heading")
    if found.dialect.decimal == ",":
        notes.append(f"decimal commas, with {_MARKS[found.dialect.delimiter]} between cells")
    notes += [f"line ignored: {text!r:.60}" for text in found.ignored]
    return Columns(
        made.axes, made.bodies, made.take, (*index, *made.index), made.guessed, made.unit,
        tuple(notes), tuple(i for i in index if kinds[i] == "time"),
        kinds.index("person") if "person" in kinds else None,
    )  # fmt: skip


def _check_joints(
    parsed: list[Column] | dict[int, Column] | None,
    made: Columns,
    layout: Layout,
    where: str,
    line: int,
) -> None:
    """Refuse to read in order a column whose heading names another joint."""
    keys = _headings.layout_keys(layout)
    for place, column in enumerate(made.take if parsed else ()):
        joint = place // len(made.axes) % layout.num_joints
        text = parsed[column].text if parsed else ""
        if _headings.known_joint(text, keys) not in (None, joint):
            raise _refusal(
                f"column {column + 1}, {text!r:.40}, would be read as {layout.joints[joint]}: "
                f"order the columns as layout {layout.name} has its joints, or name joint and "
                "coordinate in each heading (left_hand_x)",
                where,
                line,
            )


def _check_ignored(lines: tuple[str, ...], layout: Layout, where: str) -> None:
    """Refuse a line that names the layout's joints in another order."""
    keys = _headings.layout_keys(layout)
    for text in lines:
        cells = max((text.split(mark) for mark in ",;\t "), key=len)
        joints = list(
            dict.fromkeys(_headings.known_joint(cell.strip(' "'), keys) for cell in cells)
        )
        known = [joint for joint in joints if joint is not None]
        if len(known) > 2 and known != sorted(known):
            raise ReadError(
                where,
                f"the line {text!r:.60} names the joints in another order than layout "
                f"{layout.name}: name joint and coordinate in each heading (left_hand_x)",
            )


def _in_order(
    left: list[int],
    layout: Layout,
    options: Options,
    where: str,
    *,
    may_guess: bool = False,
    label: bool = False,
) -> Columns:
    """Joint after joint, body after body."""
    joints, most = layout.num_joints, options.csv_bodies or 1
    specs = [options.columns] if options.columns is not None else ["xy?", "xy"]
    for guessed in (False, True) if may_guess else (False,):
        columns = left[1:] if guessed else left
        fit = [
            spec
            for spec in specs
            if len(columns) in range(joints * len(spec), (most + 1) * joints * len(spec),
                                     joints * len(spec))
        ]  # fmt: skip
        if len(fit) > 1:  # 6 a joint: two bodies in 3D, or three in 2D
            break
        for spec in fit:
            bodies = len(columns) // (joints * len(spec))
            axes = spec if spec == UNKNOWN else axes_of(spec)
            take = tuple(
                columns[group * len(spec) + spec.index(axis)]
                for group in range(bodies * joints)
                for axis in axes
            )
            if guessed:
                note = "ignored: the first column, which is one too many and rises"
                return Columns(axes, bodies, take, (left[0],), guessed=True, notes=(note,))
            return Columns(axes, bodies, take)
    raise ReadError(where, _does_not_fit(len(left), layout, options, label))


def _does_not_fit(count: int, layout: Layout, options: Options, label: bool) -> str:
    joints = layout.num_joints
    seen = f"{count} columns, and layout {layout.name} has {joints} joints"
    if options.columns is not None:
        each = joints * len(options.columns)
        many = f"to {options.csv_bodies} " if (options.csv_bodies or 1) > 1 else ""
        return f"{seen}: --columns {options.columns} takes {each} for 1 {many}bodies"
    seen += f": {3 * joints} would be x y z, {2 * joints} x y"
    per_joint, rest = divmod(count, joints)
    if label and rest in (1, 2, 3):  # one label, perhaps with columns of frames and times
        return f"{seen}; {LABEL}"
    if rest or per_joint < 2:
        return (
            f"{seen}; check --layout, skip leading columns with --skip-columns N, take out "
            "others (a label goes into labels.csv), or name joints and coordinates in a heading "
            "(left_hand_x)"
        )
    examples = _EXAMPLES.get(per_joint, f"xyz{'_' * (per_joint - 3)}, or with --csv-bodies N")
    return f"{seen}; say what the {per_joint} of a joint are with --columns: {examples}"


def _by_heading(
    given: dict[int, Column], layout: Layout, options: Options, where: str, line: int
) -> Columns:
    """By the headings; by --columns only if the layout does not have the joints' names."""
    try:
        made = _named(given, layout, where, line)
    except ReadError:
        if options.columns is None:
            raise
        made = _in_order(list(given), layout, options, where)
        _check_joints(given, made, layout, where, line)
        _check_kinds(given, options.columns, where, line)
        note = "joints in the layout's order, since --columns is given: headings ignored"
        return Columns(made.axes, made.bodies, made.take, made.index, made.guessed, notes=(note,))
    if options.columns is not None and axes_of(options.columns) != made.axes:
        raise ReadError(
            where, f"--columns {options.columns}, but the heading names {' '.join(made.axes)}", line
        )
    if options.csv_bodies is not None and made.bodies > options.csv_bodies:
        raise ReadError(
            where, f"--csv-bodies {options.csv_bodies}, but the heading names {made.bodies}", line
        )
    return made


def _check_kinds(given: dict[int, Column], spec: str, where: str, line: int) -> None:
    for place, column in enumerate(given.values()):
        says = spec[place % len(spec)]
        if says != "_" and column.kind in ("x", "y", "z", "c") and column.kind != says:
            raise ReadError(
                where,
                f"--columns {spec}, but the heading of column {place + 1}, {column.text!r:.40}, "
                f"says {column.kind}",
                line,
            )


def _named(given: dict[int, Column], layout: Layout, where: str, line: int) -> Columns:
    unknown = [column.text for column in given.values() if not column.kind]
    if unknown:
        raise _refusal(
            f"headings that name no coordinate: {_some(unknown)}; skip them with "
            f"--skip-columns N where they come first, {_pattern(given, layout)}or take the "
            "columns out",
            where,
            line,
        )
    used = {i: column for i, column in given.items() if column.kind != "other"}
    joint_of = _joints(used, layout, where, line)
    numbers = sorted(
        {column.body for column in used.values()}, key=lambda n: -1 if n is None else n
    )
    place: dict[tuple[int, int, str], int] = {}
    for i, column in used.items():
        key = (numbers.index(column.body), joint_of[i], column.kind)
        if key in place:
            reason = f"{column.text!r:.40} and another heading name the same coordinate"
            raise _refusal(f"{reason}; for several bodies give --columns and --csv-bodies", where,
                           line)  # fmt: skip
        place[key] = i
    axes = "".join(axis for axis in "xyzc" if any(key[2] == axis for key in place))
    order = [(body, joint) for body in range(len(numbers)) for joint in range(layout.num_joints)]
    for axis in axes:
        for body, joint in order:
            if (body, joint, axis) not in place:
                reason = f"no heading names {axis} of {layout.joints[joint]}"
                raise _refusal(reason, where, line)
    take = tuple(place[body, joint, axis] for body, joint in order for axis in axes)
    notes = []
    if "z" in axes and "c" in axes:
        notes.append("x, y, z by their headings; confidence or visibility is ignored in 3D")
    if len(used) < len(given):
        others = [column.text for column in given.values() if column.kind == "other"]
        notes.append(f"ignored: rotations and the like ({_some(others, 2)})")
    units = {column.unit for column in used.values() if column.unit and column.kind != "c"}
    if len(units) > 1:
        raise _refusal(f"headings name different units: {', '.join(sorted(units))}", where, line)
    unit = units.pop() if units else None
    if unit is not None:
        notes.append(f"lengths in {unit}, by the headings")
    return Columns(axes, len(numbers), take, unit=unit, notes=tuple(notes))


def _pattern(given: dict[int, Column], layout: Layout) -> str:
    """The --columns that ignores what else each joint has, if that is alike for all."""
    each, rest = divmod(len(given), layout.num_joints)
    letters = [column.kind if column.kind in tuple("xyzc") else "_" for column in given.values()]
    spec = "".join(letters[:each])
    return "" if rest or list(spec) * layout.num_joints != letters else f"say --columns {spec}, "


def _joints(used: dict[int, Column], layout: Layout, where: str, line: int) -> dict[int, int]:
    """The joint of each column: by name, by number from 0 or 1, or in order where none is named."""
    keys = _headings.layout_keys(layout)
    found: dict[int, int] = {}
    numbered: dict[int, int] = {}
    unknown = []
    nameless = all(not column.joint for column in used.values())
    seen: Counter[tuple[int | None, str]] = Counter()
    for i, column in used.items():
        key = _headings.joint_key(column.joint)
        if nameless:
            found[i] = seen[column.body, column.kind]
            seen[column.body, column.kind] += 1
        elif key in keys:
            found[i] = keys[key]
        elif not key:
            numbered[i] = 0  # "x", "x.1", "x.2": the first of equal headings has no number
        elif key.isdecimal():
            numbered[i] = int(key[:9])
        else:
            unknown.append(column.text)
    joints = layout.num_joints
    if unknown:
        raise _refusal(
            f"headings name joints that layout {layout.name} does not have: {_some(unknown)}; "
            f"--columns reads the columns in order (the layout's joints: {_some(layout.joints)})",
            where,
            line,
        )
    if numbered:
        places = set(numbered.values())
        start = min(places)
        if found or start > 1 or places != set(range(start, start + joints)):
            raise _refusal(
                f"headings number {len(places)} joints from {start} to {max(places)}, and layout "
                f"{layout.name} has {joints}", where, line,
            )  # fmt: skip
        found = {i: place - start for i, place in numbered.items()}
    elif nameless and max(seen.values()) != joints:
        raise _refusal(
            f"headings name {max(seen.values())} joints, and layout {layout.name} has {joints}",
            where, line,
        )  # fmt: skip
    return found


def _refusal(reason: str, where: str, line: int) -> ReadError:
    return ReadError(where, reason, line or None)


def _some(texts: list[str] | tuple[str, ...], most: int = 4) -> str:
    shown = ", ".join(f"{text!r:.40}" for text in texts[:most])
    return shown + (f" and {len(texts) - most} more" if len(texts) > most else "")
