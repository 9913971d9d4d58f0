"""What a warp of a compiled kernel executes, counted in its machine code (cuobjdump -sass).

    counts = executed(listing, arch=90, trips=(4, 9))

Instructions inside of loops count as often as the loops run, which the caller knows: a loop is what
lies between a backward branch and its target. Instructions that a condition switches off count,
too: they take their turn. Branches forward are taken to go both ways. What follows the last EXIT
(padding, and code that only rare values and divergent warps reach) does not count.
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
    """Those up to the last EXIT of a kernel, without padding."""
    code = [Instruction(int(at, 16), name, rest) for at, name, rest in LINE.findall(listing)]
    ends = [i for i, each in enumerate(code) if each.name == "EXIT"]
    if not ends:
        raise ValueError("no machine code of a kernel: nothing exits in it")
    return [each for each in code[: ends[-1] + 1] if each.name != "NOP"]


def loops(code: Sequence[Instruction]) -> list[tuple[int, int]]:
    """First and last address of each loop."""
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

#: Lanes of a multiprocessor that a unit finishes each clock, and the first names of what it takes:
#: the CUDA programming guide's table of arithmetic throughput, and Nsight Compute's list of the
#: pipelines that instructions share. All others are as fast as a multiprocessor issues them: four
#: warps of 32. So is float32 arithmetic, except on 8.0, where it shares the unit of IMAD. A lane of
#: "memory" is four bytes: what moves 16 for each thread takes four times as long.
UNITS = {
    "alu": (64, "IADD3 VIADD VIADDMNMX LOP3 SHF LEA ISETP FSETP SEL FSEL PRMT IMNMX VIMNMX FMNMX "
                "F2FP"),
    "fma": (64, "IMAD"),
    "memory": (32, "LDS STS LDSM STSM LDG STG LDGSTS SHFL"),
    "special": (16, "MUFU F2F F2I I2F FRND POPC"),
}  # fmt: skip
FLOAT = ("FADD", "FMUL", "FFMA")
ISSUED = 128


def unit_of(name: str, arch: int) -> str | None:
    """The unit that takes an instruction of this first name; None if it is as fast as issued."""
    if arch == 80 and name in FLOAT:
        return "fma"
    return next((unit for unit, (_, names) in UNITS.items() if name in names.split()), None)


def bytes_a_lane(name: str) -> int:
    """Bytes that a copy moves for each thread, by its modifiers."""
    sizes = {"128": 16, "64": 8}
    return next((sizes[part] for part in name.split(".") if part in sizes), 4)


def lanes_of(name: str) -> int:
    """Lanes of its unit that an instruction takes for each thread."""
    first, *modifiers = name.split(".")
    if first in ("LDSM", "STSM"):  # so many matrices of 8x8 halves, 128 bytes each
        return int(modifiers[-1]) if modifiers and modifiers[-1] in ("2", "4") else 1
    return bytes_a_lane(name) // 4 if first in UNITS["memory"][1].split() else 1


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
        clocks: of a multiprocessor that has this warp alone, by what has most to do: issue, or one
            of its units.
        flop: of matrix instructions, by kind; those with "sync" are of single warps (HMMA).
        fetched: bytes copied past the first-level cache.
    """

    instructions: float = 0.0
    clocks: float = 0.0
    flop: dict[str, float] = field(default_factory=dict)
    fetched: float = 0.0


def executed(listing: str, arch: int, trips: Sequence[float] = ()) -> Executed:
    """What one warp executes on a GPU of that compute capability.

    Loops run `trips` times, from the outermost inwards; one within the last of them runs once.
    """
    code = instructions(listing)
    counts = Executed()
    units: dict[str, float] = {}
    for instruction, depth in zip(code, nesting(code), strict=True):
        times = prod(trips[:depth])
        name = instruction.name.split(".")[0]
        counts.instructions += times
        unit = unit_of(name, arch)
        if unit:
            units[unit] = units.get(unit, 0.0) + times * lanes_of(instruction.name)
        if name == "LDGSTS" and "BYPASS" in instruction.name:
            counts.fetched += 32 * times * bytes_a_lane(instruction.name)
        multiplied = product(instruction.name)
        if multiplied:
            kind = multiplied[0] + (" sync" if name == "HMMA" else "")
            counts.flop[kind] = counts.flop.get(kind, 0.0) + times * multiplied[1]
    busy = [32 * number / UNITS[unit][0] for unit, number in units.items()]
    counts.clocks = max([32 * counts.instructions / ISSUED, *busy])
    return counts


def loop_count(listing: str) -> int:
    """How deep loops are nested."""
    return max(nesting(instructions(listing)), default=0)
