"""What a reader returns: the plan of a data set, recordings, and problems."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aimclr_fast._errors import Error
from aimclr_fast._files import printable
from aimclr_fast.data.preprocessing import USUAL_NORMALIZATION
from aimclr_fast.layouts import Layout

#: ``[3, T, V, M]``: coordinates x, y (up), z in meters; frames; joints; bodies. Zeros: a body that
#: was not seen; zeros or NaN: a joint that was not.
Positions: TypeAlias = npt.NDArray[Any]

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
#: Axes that :func:`in_meters` turns up.
TURNS = ("y", "-y", "z")
#: Longest recording in frames: an hour at 30 per second. More is a damaged or hostile file.
MAX_FRAMES = 108_000
#: At most so many numbers that are in all coordinates of a joint are examined.
_MOST_VALUES = 8
PARTIAL = "a joint has some of its coordinates only; leave out all or none"


class ReadError(Error, ValueError):
    """A file, or a part of one, that cannot be used.

    Args:
        where: the file, and its member where it is an archive.
        reason: what is wrong.
        line: the line it is wrong at, counting from 1, where the file has lines.
    """

    def __init__(self, where: str, reason: str, line: int | None = None) -> None:
        where = printable(where)
        self.where, self.reason, self.line = where, reason, line
        super().__init__(f"{where}{'' if line is None else f':{line}'}: {reason}")


@dataclass(frozen=True)
class Problem:
    """Something that was left out.

    Attributes:
        where: the file, with its line where there is one.
        reason: why; equal reasons are counted together.
        expected: whether the data set is known to hold such things (a list of bad samples, files
            of another data set), so that ``--on-error fatal`` does not stop at it.
    """

    where: str
    reason: str
    expected: bool = False

    @classmethod
    def of(cls, error: ReadError) -> Problem:
        line = "" if error.line is None else f":{error.line}"
        return cls(f"{error.where}{line}", error.reason)


@dataclass
class Recording:
    """One sequence as it was recorded.

    Attributes:
        name: unique within the data set.
        positions: see :data:`Positions`.
        columns: its cells of samples.csv, the same columns for each recording of a data set.
        where: the file it came from.
        rate: frames per second, where they are known.
        rate_given: whether the user said the rate, since the file does not.
    """

    name: str
    positions: Positions
    columns: dict[str, int | str] = field(default_factory=dict)
    where: str = ""
    rate: float | None = None
    rate_given: bool = False


#: What reading one unit of a plan yields. May also raise :class:`ReadError`.
Readings: TypeAlias = Iterator[Recording | Problem]


@dataclass(frozen=True)
class Options:
    """What a user may choose about reading; a reader uses those that apply to it.

    Attributes:
        bodies: "order" (as each frame lists them, which is the published way) or "follow" (each
            body id keeps its place over the frames).
        drop_spurious: drop spurious bodies before bodies are chosen, which implies "follow".
        max_bodies: bodies to keep; None is the data set's own number.
        missing: a file that names samples to leave out.
        labels: a csv with the label and other columns of each sample.
        layout: a built-in layout or a YAML file, for sequences that do not imply one.
        unit: of lengths, "m", "cm", "mm" or its meters; None is the file's own, or else "m".
        up: axis that points up: "y", "-y" or "z"; None is the file's own, or else "y".
        pose: "3d", "2d", or "auto", which looks at the number of coordinates.
        min_confidence: a 2D joint with less was not seen.
        aspect: width / height of the image by whose sides coordinates were divided; 1 where x and
            y are in one unit.
        gaps: the rule for frames without a body, or "auto" for the data set's own.
        columns: what the columns of a joint are in a table, such as "xyzc"; see
            :mod:`aimclr_fast.data.readers._columns`.
        csv_bodies: most bodies side by side in a table; None is one, or those its heading names.
        skip_columns: columns at the beginning of a table to skip.
        markers: a YAML file of the markers of each joint; see
            :mod:`aimclr_fast.data.readers._marker_sets`.
        body_model: an .npz file of SMPL's family; see :mod:`aimclr_fast.data.readers.amass`.
        sides: what becomes of left and right; see :mod:`aimclr_fast.data.readers._sides`. None
            refuses motion capture in which they are exchanged.
    """

    bodies: str = "order"
    drop_spurious: bool = False
    max_bodies: int | None = None
    missing: Path | None = None
    labels: Path | None = None
    layout: str | None = None
    unit: str | None = None
    up: str | None = None
    pose: str = "auto"
    min_confidence: float = 0.05
    aspect: float | None = None
    gaps: str = "auto"
    columns: str | None = None
    csv_bodies: int | None = None
    skip_columns: int = 0
    markers: Path | None = None
    body_model: Path | None = None
    sides: str | None = None


@dataclass
class Plan:
    """How a source becomes a store.

    Attributes:
        layout: the skeleton.
        bodies: bodies per sample, M.
        units: what is read in one go, in the store's order; small, and can be pickled.
        read: makes recordings of one unit; can be pickled, too.
        classes: name of each label, or None.
        splits: rules of the splits (:mod:`aimclr_fast.data.splits`).
        source: what the data are, for meta.json.
        citation: what to cite.
        left_out: problems found while planning.
        notes: what the user should know about how the source was understood.
        exact: turn each frame by its own angle, which suits people who face the camera.
        rotate: whether turning makes sense at all (not for 2D poses).
        gaps: what becomes of frames without a body (:mod:`aimclr_fast.data.gaps`).
        normalize: by frame or by sequence (:mod:`aimclr_fast.data.preprocessing`).
        in_meters: whether reading applies the user's unit and axis that points up; where it does
            not, conversion does, but to 2D poses, which have neither.
        ready: positions are preprocessed already.
        reader: the format that reads it, where a reader handed over to another.
        tables: whether there are tables among the sequences.
        scores: whether 2D poses come with a score for each joint.
        one_process: units must be read one after the other (one long file).
        derived: the layout was made from the source and is none that the user named.
        timed: recordings know their frame rate, all or some of them.
        untimed: some may not.
        numbered: classes have the numbers of this source alone, so that those without a sample can
            be left out.
        window: seconds of the windows that recordings are cut into.
    """

    layout: Layout
    bodies: int
    units: Sequence[Any]
    read: Callable[[Any], Readings]
    classes: tuple[str, ...] | None = None
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""
    citation: str = ""
    left_out: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exact: bool = False
    rotate: bool = True
    gaps: str = "fill"
    normalize: str = USUAL_NORMALIZATION
    in_meters: bool = False
    ready: bool = False
    reader: str = ""
    tables: bool = False
    scores: bool = False
    one_process: bool = False
    derived: bool = False
    timed: bool = False
    untimed: bool = True
    numbered: bool = False
    window: float | None = None


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC): file systems and editors use two forms."""
    return unicodedata.normalize("NFC", text)


def meters(unit: str) -> float:
    """The meters of a unit: a name, or their number as text.

    Raises:
        ValueError: it is neither.
    """
    if unit in UNITS:
        return UNITS[unit]
    value = float(unit)
    if not 1e-6 <= value <= 1e6:
        raise ValueError(f"{unit} is not the length of a unit in meters")
    return value


def in_meters(x: Positions, unit: str, up: str | None) -> Positions:
    """``x [3, ...]``, recorded in another unit or with another axis up, in meters with y up.

    Turned by a rotation, so that left stays left.
    """
    if unit != "m":
        x = x * meters(unit)
    if up == "z":
        return np.stack([x[0], x[2], -x[1]])
    return np.stack([x[0], -x[1], -x[2]]) if up == "-y" else x


def check_positions(x: Positions, where: str) -> Positions:
    """Refuse an impossible recording: no frames, far too many, an infinite value, or one that
    stands for a missing value.

    NaN in all coordinates of a joint says that it is missing.

    Raises:
        ReadError: with the frame and joint of the first bad value.
    """
    if x.ndim != 4 or x.shape[0] != 3 or min(x.shape) < 1:
        raise ReadError(where, f"expected [3, T, V, M] positions, got shape {list(x.shape)}")
    if x.shape[1] > MAX_FRAMES:
        raise ReadError(where, f"{x.shape[1]} frames; at most {MAX_FRAMES} are read")
    # A sum is much cheaper than a mask, which is made only if the sum is not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(x.sum(dtype=np.float32)))
        infinite = np.array(False) if finite else np.isinf(x.astype(np.float32))
    if infinite.any():
        _, frame, joint, _ = np.argwhere(infinite)[0]
        raise ReadError(where, f"a value is not finite (frame {frame}, joint {joint})")
    if not finite:
        missing_joints(x, where)
    check_no_placeholder(x, where)
    return x


def check_no_placeholder(x: Positions, where: str) -> None:
    """Refuse a number that stands for a missing joint, such as -9999.

    Args:
        x: ``[C, T, V, M]``, C = 3 or 2; zeros and NaN are no such numbers.
        where: what errors name.

    Raises:
        ReadError: a number occurs several times and is far beyond all others, or is in all
            coordinates of several joints where no joint can be.
    """
    found = _placeholder(x)
    if found is not None:
        value, count = found
        raise ReadError(
            where,
            f"{value:g} occurs {count:,} times and is not a position: it seems to mark missing "
            "values; replace it with NaN, or in a table with an empty cell",
        )


def _placeholder(x: Positions) -> tuple[float, int] | None:
    """A number that is not a coordinate, and how often it occurs."""
    low, high = float(np.fmin.reduce(x, axis=None)), float(np.fmax.reduce(x, axis=None))
    extreme = low if -low > high else high
    alike: npt.NDArray[np.bool_] = np.asarray((x[1:] == x[0]).all(axis=0) & (x[0] != 0))
    values = {extreme, *np.unique(x[0][alike])[:_MOST_VALUES].tolist()}
    for value in values:
        same: npt.NDArray[np.bool_] = np.asarray(x == value)
        count, joints = int(same.sum()), int(same.all(axis=0).sum())
        others = x[~same & (x != 0) & np.isfinite(x)] if count > 1 else x[:0]
        if not np.isfinite(value) or not others.size:
            continue
        least, most = float(others.min()), float(others.max())
        beyond = abs(value) / max(-least, most)
        if beyond > 10 or (joints > 1 and beyond > 2):
            return value, count
        # -1 in pixels, or among meters with decimals.
        apart = least >= 0 or (len(x) == 3 and bool((others != np.rint(others)).any()))
        if joints > 1 and value < 0 and value == round(value) and apart:
            return value, count
    return None


def missing_joints(x: Positions, where: str) -> npt.NDArray[np.bool_]:
    """Which joints of ``x [C, T, V, M]`` are missing, ``[T, V, M]``: NaN in all coordinates.

    Raises:
        ReadError: a joint has some of its coordinates only.
    """
    absent = np.isnan(x)
    missing: npt.NDArray[np.bool_] = np.asarray(absent.all(axis=0))
    part: npt.NDArray[np.bool_] = np.asarray(absent.any(axis=0) & ~missing)
    if part.any():
        frame, joint, _ = np.argwhere(part)[0]
        raise ReadError(where, f"{PARTIAL} (frame {frame}, joint {joint})")
    return missing


def check_label(label: int, classes: int, where: str, line: int | None = None) -> int:
    """The 0-based ``label``, if it is one of ``classes``."""
    if not 0 <= label < classes:
        raise ReadError(where, f"label {label + 1} is not one of 1 to {classes}", line)
    return label
