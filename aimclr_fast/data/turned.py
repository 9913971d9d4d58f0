"""A store made of another: the same sequences, turned about y by an angle for each value of a
column, as if others had filmed them from elsewhere.

Its folder holds meta.json alone, with the fields ``version``; ``positions_of``, the name of a
folder beside it, whose positions and samples it takes; ``turned``, see :class:`Turn`; and, if it
has one of its own, ``source``. All else is as there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.preprocessing import Preprocessing, turn_about_y

#: Fields of meta.json.
POSITIONS_OF, TURNED = "positions_of", "turned"
FIELDS = ("version", POSITIONS_OF, TURNED, "source")
#: The column of samples that says by how much each sequence is turned.
COLUMN = "turned_deg"


@dataclass(frozen=True)
class Turn:
    """How the sequences of a store are turned.

    Attributes:
        column: of samples.csv.
        degrees: angle by the column's values, as text; right-handed about y, which is up.
    """

    column: str
    degrees: Mapping[str, float]

    @classmethod
    def from_dict(cls, fields: Any) -> Turn:
        """Of the field ``turned`` of meta.json.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(fields, Mapping) or set(fields) != {"column", "degrees"}:
            raise ValueError("expected the fields column and degrees")
        column, degrees = fields["column"], fields["degrees"]
        if not isinstance(column, str) or not isinstance(degrees, Mapping):
            raise ValueError("column: expected a name; degrees: an angle for each of its values")
        for value, angle in degrees.items():
            if type(angle) not in (int, float) or not -360 <= angle <= 360:
                raise ValueError(f"degrees: {value}: expected -360 to 360, got {angle!r}")
        return cls(column, dict(degrees))

    def of_samples(self, samples: Mapping[str, npt.NDArray[Any]]) -> list[float]:
        """Degrees of each sample.

        Raises:
            ValueError: there is no such column, or a value has no angle.
        """
        if self.column not in samples:
            raise ValueError(f"no column {self.column!r}: there is {', '.join(samples)}")
        values = [str(value) for value in samples[self.column].tolist()]
        if missing := sorted(set(values) - set(self.degrees)):
            raise ValueError(f"degrees: no angle for {self.column} {', '.join(missing[:10])}")
        return [self.degrees[value] for value in values]

    def checksums(self, of: Mapping[str, str]) -> dict[str, str]:
        """Checksums that stand for the turned store: those of its files, with the angles."""
        angles = json.dumps(asdict(self), sort_keys=True)
        return {
            name: hashlib.sha256(f"{checksum}\n{angles}".encode()).hexdigest()
            for name, checksum in of.items()
        }


def turned_positions(
    positions: npt.NDArray[Any], degrees: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Positions [S, 3, T, V, M] turned about y by degrees [S], read-only and in memory.

    They are turned in float64 and rounded once, to the dtype that they are stored in.

    Raises:
        ValueError: a coordinate is too large for that dtype then.
    """
    kept = np.empty_like(positions, subok=False)  # not mapped, though its model may be
    whole = positions.dtype.kind == "i"
    bounds = np.iinfo(positions.dtype) if whole else np.finfo(positions.dtype)
    for angle in np.unique(degrees):
        rows = np.flatnonzero(degrees == angle)
        out = turn_about_y(positions[rows].astype(np.float64), np.deg2rad(angle))
        out = np.rint(out) if whole else out
        if ((out < float(bounds.min)) | (out > float(bounds.max))).any():
            raise ValueError(f"turned by {angle:g} degrees, positions leave {positions.dtype}")
        kept[rows] = out
    kept.flags.writeable = False
    return kept


def turned_samples(
    samples: Mapping[str, npt.NDArray[Any]], degrees: list[float]
) -> dict[str, npt.NDArray[Any]]:
    """The columns of samples and :data:`COLUMN`, whose cells are text unless all are whole.

    Raises:
        ValueError: there is a column of this name.
    """
    if COLUMN in samples:
        raise ValueError(f"the samples have a column {COLUMN} already")
    whole = all(float(angle).is_integer() for angle in degrees)
    column = np.array(degrees, np.int64) if whole else np.array([f"{a:g}" for a in degrees])
    return {**samples, COLUMN: column}


def turned_preprocessing(fields: Any) -> dict[str, Any] | None:
    """Field ``preprocessing`` of the turned store: nothing tells a new recording's angle, so that
    it is taken as it was filmed.
    """
    if fields is None:
        return None
    return replace(Preprocessing.from_dict(fields), rotate="none").to_dict()
