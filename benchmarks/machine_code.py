"""What a warp of a compiled kernel executes, counted in its machine code (cuobjdump -sass).

    counts = executed(listing, trips=(4, 9))

Instructions inside of loops count as often as the loops run, which the caller knows: a loop is what
lies between a backward branch and its target. Instructions that a condition switches off count,
too: they take their turn. Branches forward are taken to go both ways.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple


class Instruction(NamedTuple):
    address: int
    name: str  # with its modifiers
    operands: str


LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*(?:\.\w+)*)([^;]*);")


def instructions(listing: str) -> list[Instruction]:
    return [Instruction(int(at, 16), name, rest) for at, name, rest in LINE.findall(listing)]


def loops(code: Sequence[Instruction]) -> list[tuple[int, int]]:
    """First and last address of each loop; a branch to itself, after a kernel's end, is none."""
    found: dict[int, int] = {}
    for instruction in code:
        target = re.search(r"0x([0-9a-f]+)\s*$", instruction.operands)
        if instruction.name.startswith("BRA") and target:
            first = int(target[1], 16)
            if first < instruction.address:
                found[first] = max(instruction.address, found.get(first, 0))
    return sorted(found.items())


def nesting(code: Sequence[Instruction]) -> list[int]:
    """How many loops each instruction is in."""
    around = loops(code)
    return [sum(first <= each.address <= last for first, last in around) for each in code]


# --- What an instruction asks for ----------------------------------------------------------------

#: Lanes of a multiprocessor that finish each clock, by the first name of an instruction: the CUDA
#: programming guide's table of arithmetic throughput, for 8.0, 8.9 and 9.0 alike. All others have
#: 128, as many as a multiprocessor issues (four warps of 32).
HALF = "IADD3 LOP3 SHF LEA ISETP FSETP SEL FSEL PRMT IMNMX VIMNMX FMNMX IMAD F2FP"
QUARTER = "LDS STS LDSM STSM LDG STG LDGSTS SHFL"  # the load and store units
EIGHTH = "MUFU F2F F2I I2F FRND POPC"
LANES = {
    name: lanes
    for lanes, names in ((64, HALF), (32, QUARTER), (16, EIGHTH))
    for name in names.split()
}
ISSUED = 128


def bytes_a_lane(name: str) -> int:
    """Bytes that a copy moves for each thread, by its modifiers."""
    sizes = {"128": 16, "64": 8}
    return next((sizes[part] for part in name.split(".") if part in sizes), 4)


def product(name: str) -> tuple[str, int] | None:
    """Kind and FLOP of a matrix instruction, for one warp.

    HGMMA multiplies for four warps at once, and HMMA's shape is M16, N8 and a depth in digits.
    """
    kinds = {"BF16": "bf16", "F16": "fp16", "TF32": "tf32"}
    first, *modifiers = name.split(".")
    if first not in ("HGMMA", "HMMA"):
        return None
    # Sums come before operands; without a name the operands are float16.
    kind = next((kinds[part] for part in reversed(modifiers) if part in kinds), "fp16")
    if first == "HGMMA":
        m, n, k = map(int, modifiers[0].split("x"))
        return kind, 2 * m * n * k // 4
    return kind, 2 * 16 * 8 * int(modifiers[0][len("168") :])


@dataclass
class Executed:
    """By one warp.

    Attributes:
        instructions: issued.
        clocks: of a multiprocessor that has this warp alone, by the unit that has most to do:
            instructions that start, or those of one number of lanes.
        flop: of matrix instructions, by kind; those with "sync" are of single warps (HMMA).
        fetched: bytes copied past the first-level cache.
    """

    instructions: float = 0.0
    clocks: float = 0.0
    flop: dict[str, float] = field(default_factory=dict)
    fetched: float = 0.0


def executed(listing: str, trips: Sequence[float] = ()) -> Executed:
    """What one warp executes, in loops that run `trips` times, from the outermost inwards.

    A loop within the last of them runs once.
    """
    code = instructions(listing)
    counts = Executed()
    units: dict[int, float] = {ISSUED: 0.0}
    for instruction, depth in zip(code, nesting(code), strict=True):
        times = prod(trips[:depth])
        name = instruction.name.split(".")[0]
        counts.instructions += times
        units[ISSUED] += times
        if name in LANES:
            units[LANES[name]] = units.get(LANES[name], 0.0) + times
        if name == "LDGSTS" and "BYPASS" in instruction.name:
            counts.fetched += 32 * times * bytes_a_lane(instruction.name)
        multiplied = product(instruction.name)
        if multiplied:
            kind = multiplied[0] + (" sync" if name == "HMMA" else "")
            counts.flop[kind] = counts.flop.get(kind, 0.0) + times * multiplied[1]
    counts.clocks = max(32 * number / lanes for lanes, number in units.items())
    return counts


def loop_count(listing: str) -> int:
    """How deep loops are nested."""
    return max(nesting(instructions(listing)), default=0)
