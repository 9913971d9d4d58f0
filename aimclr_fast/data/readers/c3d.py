"""C3D files of motion capture: joints between markers, by a marker set.

Markers are told by their labels, without the subject's name (``Anna:LASI``); rate and unit are the
file's. Samples that the file marks as invalid are missing. ``labels.csv`` is as for ``folder``.
Files are read by the package c3d, which is pure Python and so safe with damaged ones.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.readers._base import MAX_FRAMES, Options, Plan, ReadError
from aimclr_fast.data.readers._files import Entry
from aimclr_fast.data.readers._markers import Markers, plan_markers

SUMMARY = "C3D: markers of motion capture (needs pip install aimclr_fast[motion])"
OPTIONS = ("max_bodies", "labels", "markers")
#: What ``folder`` says of such files among others.
FILES = "C3D files (prepare c3d reads them)"
_MOST_POINTS = 5000


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader."""
    return entry.suffix == ".c3d"


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    try:
        import c3d  # noqa: F401
    except ImportError as error:
        reason = "reading C3D needs the package c3d: pip install aimclr_fast[motion]"
        raise ReadError(str(source), reason) from error
    return plan_markers(source, options, load, ".c3d", "C3D")


def load(entry: Entry) -> Markers:
    """The markers of a file.

    Raises:
        ReadError: it is damaged, has no markers, too many, or fewer frames than it says.
    """
    import c3d

    where, data = entry.shown, entry.read()
    if data[1:2] != b"\x50":
        raise ReadError(where, "is no C3D file: its second byte is not 50 (hexadecimal)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader = c3d.Reader(io.BytesIO(data))
            count, points = int(reader.frame_count), int(reader.point_used)
            if not 1 <= points <= _MOST_POINTS or not 1 <= count <= MAX_FRAMES:
                limits = f"1 to {_MOST_POINTS:,} points and {MAX_FRAMES:,} frames are read"
                raise ReadError(where, f"POINT: {points:,} points, {count:,} frames; {limits}")
            labels = _labels(reader)
            x = _points(reader, data, count)
            rate, unit = float(reader.point_rate), _text(reader, "POINT:UNITS")
            screen = _text(reader, "POINT:Y_SCREEN")
    except ReadError:
        raise
    except Exception as error:  # the package has none of its own: damaged files fail anywhere in it
        raise ReadError(where, f"damaged: {type(error).__name__}: {error!s:.80}") from error
    if len(x) < count:
        reason = f"POINT:FRAMES: {count:,} frames, but the data of {len(x):,}: it was cut off"
        raise ReadError(where, reason)
    if not 0.1 <= rate <= 10_000:
        raise ReadError(where, f"POINT:RATE: {rate:g} frames per second")
    if len(labels) < points:
        reason = f"POINT:LABELS: {len(labels):,} labels of {points:,} points"
        raise ReadError(where, reason)
    lost = (x[..., 3] < 0) | ~x[..., :3].any(axis=2) | ~np.isfinite(x).all(axis=2)
    places = np.where(lost[..., None], np.nan, x[..., :3])
    up = screen.removeprefix("+").lower()
    known = up.removeprefix("-") in ("x", "y", "z")
    said = f"POINT:Y_SCREEN {screen}" if known else ""
    return Markers(labels[:points], places, rate, unit, up if known else None, said)


def _points(reader: Any, data: bytes, count: int) -> npt.NDArray[np.float64]:
    """The x, y, z and residual of all points ``[T, N, 4]``, of as many frames as there are.

    The package reads them frame by frame, together with the analog channels, of which other
    programs write parameters that it refuses.
    """
    points, scale = int(reader.point_used), float(reader.point_scale)
    each = 4 * points + int(reader.header.analog_count)  # words of a frame
    order = ">" if reader.proc_type == "MIPS" else "<"
    kind = np.dtype(f"{order}f4" if scale < 0 else f"{order}i2")
    start = 512 * (int(reader.header.data_block) - 1)
    have = min(count, max(len(data) - start, 0) // (each * kind.itemsize))
    words = np.frombuffer(data, kind, have * each, start if have else 0).reshape(have, each)
    x = words[:, : 4 * points].reshape(have, points, 4)
    if scale < 0 and reader.proc_type == "DEC":  # halves exchanged, and the exponent two higher
        halves = np.ascontiguousarray(x).view("<u2").reshape(-1, 2)[:, ::-1]
        x = np.ascontiguousarray(halves).view("<f4").reshape(x.shape) / 4
    out = x.astype(np.float64)
    if scale >= 0:
        out[..., :3] *= scale
    return out


def _labels(reader: Any) -> list[str]:
    """All labels; those beyond 255 are in parameters of their own."""
    found: list[str] = []
    for number in range(1, 100):
        parameter = reader.get(f"POINT:LABELS{number if number > 1 else ''}")
        if parameter is None:
            break
        found += [str(label).strip("\0 ") for label in parameter.string_array]
    return found


def _text(reader: Any, name: str) -> str:
    """A text parameter, or an empty text."""
    parameter = reader.get(name)
    if parameter is None:
        return ""
    return str(parameter.bytes_value.decode("latin-1")).strip("\0 ")
