"""Skeleton text to arrays: the compiled reader where there is one, NumPy where there is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast import native
from aimclr_fast.data.readers._base import MAX_FRAMES, Positions, ReadError

BYTES_PER_JOINT = 24  # kBytesPerJoint of csrc/cpu/skeleton_text/skeleton_text.h
_INFO_COLUMNS, _JOINT_COLUMNS = 10, 12
_NUMBERS = re.compile(rb"[-+.0-9eE \t]*")


@dataclass(frozen=True)
class Bodies:
    """The bodies of a recording, frame by frame, in the order of the file.

    Attributes:
        frames: number of frames, T, those without a body included.
        positions: float32 ``[K, V, 3]``, one row per body and frame.
        frame: int64 ``[K]``, the frame of each row; never falls.
        ident: int64 ``[K]``, the tracker's id of each row.
    """

    frames: int
    positions: npt.NDArray[np.float32]
    frame: npt.NDArray[np.int64]
    ident: npt.NDArray[np.int64]

    def place(self, slot: npt.NDArray[np.intp], bodies: int) -> Positions:
        """Put row k into body ``slot[k]`` of its frame, if that is below ``bodies``.

        Returns:
            float32 ``[3, T, V, bodies]``, zeros where there is no body.
        """
        out = np.zeros((self.frames, bodies, *self.positions.shape[1:]), dtype=np.float32)
        keep = slot < bodies
        out[self.frame[keep], slot[keep]] = self.positions[keep]
        return out.transpose(3, 0, 2, 1)

    def in_order(self, bodies: int) -> Positions:
        """The first ``bodies`` of each frame in the order of the file, as published."""
        first = np.searchsorted(self.frame, self.frame)
        return self.place(np.arange(len(self.frame)) - first, bodies)


def read_skeleton(text: bytes, joints: int, where: str) -> Bodies:
    """Read an NTU RGB+D ``.skeleton`` file.

    Raises:
        ReadError: with the line that is wrong.
    """
    reader = _skeleton_native if native.available() else _skeleton_numpy
    bodies = reader(text, joints, where)
    if bodies.frames > MAX_FRAMES:
        raise ReadError(where, f"{bodies.frames} frames; at most {MAX_FRAMES} are read", 1)
    if bodies.frames == 0:
        raise ReadError(where, "no frames", 1)
    return bodies


def read_table(text: bytes, columns: int, where: str) -> npt.NDArray[np.float64]:
    """Read lines of ``columns`` numbers (blanks, tabs, commas or semicolons between them).

    Returns:
        float64 ``[rows, columns]``; empty lines are ignored.

    Raises:
        ReadError: with the line that is wrong.
    """
    return (_table_native if native.available() else _table_numpy)(text, columns, where)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _skeleton_native(text: bytes, joints: int, where: str) -> Bodies:
    capacity = len(text) // (BYTES_PER_JOINT * joints) + 1
    positions = np.empty((capacity, joints, 3), dtype=np.float32)
    frame, ident = np.empty((2, capacity), dtype=np.int64)
    report = np.zeros(3, dtype=np.int64)
    data = np.frombuffer(text or b"\n", dtype=np.uint8)  # NumPy takes no empty buffers
    try:
        native.load().read_skeleton_text(
            text=_address(data), size=len(text), joints=joints, capacity=capacity,
            positions=_address(positions), frame=_address(frame), id=_address(ident),
            report=_address(report),
        )  # fmt: skip
    except ValueError as error:
        raise ReadError(where, str(error), int(report[0])) from None
    frames, bodies = int(report[1]), int(report[2])
    return Bodies(frames, positions[:bodies], frame[:bodies], ident[:bodies])


def _table_native(text: bytes, columns: int, where: str) -> npt.NDArray[np.float64]:
    capacity = len(text) // (2 * columns) + 1
    out = np.empty((capacity, columns), dtype=np.float64)
    report = np.zeros(2, dtype=np.int64)
    data = np.frombuffer(text or b"\n", dtype=np.uint8)
    try:
        native.load().read_number_table(
            text=_address(data), size=len(text), columns=columns, capacity=capacity,
            out=_address(out), report=_address(report),
        )  # fmt: skip
    except ValueError as error:
        raise ReadError(where, str(error), int(report[0])) from None
    return out[: int(report[1])]


class _Lines:
    """Lines without their ends, and the number of the last one taken."""

    def __init__(self, text: bytes, where: str) -> None:
        self.lines = text.split(b"\n")
        if not self.lines[-1]:
            self.lines.pop()
        self.where, self.number = where, 0

    def fail(self, reason: str) -> ReadError:
        return ReadError(self.where, reason, self.number)

    def take(self, ended: str) -> list[bytes]:
        """The words of the next line."""
        if self.number == len(self.lines):
            raise self.fail(ended)
        line = self.lines[self.number].removesuffix(b"\r")
        self.number += 1
        return [word for word in line.replace(b"\t", b" ").split(b" ") if word]

    def count(self, ended: str, wrong: str) -> int:
        words = self.take(ended)
        if len(words) != 1 or not words[0].isdigit() or len(words[0]) > 18:
            raise self.fail(wrong)
        return int(words[0])


def _numbers(words: list[bytes], what: str, lines: _Lines) -> npt.NDArray[np.float64]:
    # The pattern keeps out nan, inf and 1_000, which Python would take.
    if not _NUMBERS.fullmatch(b" ".join(words)):
        raise lines.fail(what)
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        raise lines.fail(what) from None
    if not np.isfinite(values).all():
        raise lines.fail(what)
    return values


def _skeleton_numpy(text: bytes, joints: int, where: str) -> Bodies:
    lines = _Lines(text, where)
    frames = lines.count("the file is empty", "expected a count of frames")
    if frames > len(text):
        raise lines.fail("more frames than the file can hold")
    rows: list[npt.NDArray[np.float32]] = []
    frame: list[int] = []
    ident: list[int] = []
    finite = "x, y and z must be finite numbers"
    for t in range(frames):
        bodies = lines.count(
            "the file ends before a frame that its count promises", "expected a count of bodies"
        )
        if bodies > len(text) // (BYTES_PER_JOINT * joints) + 1 - len(rows):
            raise lines.fail("more bodies than the file can hold")
        for _ in range(bodies):
            info = lines.take("the file ends before a body that its count promises")
            if len(info) != _INFO_COLUMNS or not re.fullmatch(rb"-?[0-9]{1,20}", info[0]):
                raise lines.fail("a body must begin with its id and 9 more columns")
            number = int(info[0])
            if not -(2**63) <= number < 2**64:
                raise lines.fail("a body must begin with its id and 9 more columns")
            count = lines.count(
                "the file ends before a count of joints", "expected a count of joints"
            )
            if count != joints:
                raise lines.fail("wrong number of joints")
            xyz = np.empty((joints, 3))
            for joint in range(joints):
                words = lines.take("the file ends within a body")
                if len(words) < 3:
                    raise lines.fail(finite)
                xyz[joint] = _numbers(words[:3], finite, lines)
                if np.abs(xyz[joint]).max() > np.finfo(np.float32).max:
                    raise lines.fail(finite)
                if len(words) != _JOINT_COLUMNS:
                    raise lines.fail("a joint must have 12 columns")
            rows.append(xyz.astype(np.float32))
            frame.append(t)
            ident.append(number - 2**64 if number >= 2**63 else number)
    while lines.number < len(lines.lines):
        if lines.take(""):
            raise lines.fail("text after the last frame")
    positions = np.array(rows, dtype=np.float32).reshape(len(rows), joints, 3)
    return Bodies(frames, positions, np.array(frame, np.int64), np.array(ident, np.int64))


def _table_numpy(text: bytes, columns: int, where: str) -> npt.NDArray[np.float64]:
    lines = _Lines(text, where)
    rows = []
    while lines.number < len(lines.lines):
        words = lines.take("")
        if not words:
            continue
        # Blanks, or one comma or semicolon with blanks around it; one may end the line.
        line = re.sub(rb" ?[,;] ?", b",", b" ".join(words)).replace(b" ", b",")
        cells = line.removesuffix(b",").split(b",")
        if len(cells) != columns:
            raise lines.fail("too few columns" if len(cells) < columns else "too many columns")
        rows.append(_numbers(cells, "expected a finite number", lines))
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns)
