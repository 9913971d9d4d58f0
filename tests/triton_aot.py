"""What a Triton launcher launches, compiled ahead of time for GPUs that this machine lacks.

    launches = compile_launches(
        "aimclr_fast.triton_kernels.my_op",
        "kernels.forward(torch.empty(8, 64, device='meta'))",
    )
    assert_no_spills(launches)

The code runs once in another process, without the interpreter, which stays for later requests.
There, launching a kernel compiles it for each architecture instead, with the types, alignment and
constants that Triton itself derives from the arguments; tensors on the meta device have any shape
and no memory. `compile_recorded` does the same for launches that triton_recording.py wrote down.
"""

from __future__ import annotations

import atexit
import csv
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton_published import Program

ARCHS = (80, 90)
COMMITTED = Path(__file__).parents[1] / "benchmarks" / "results" / "triton_aot.csv"


@dataclass(frozen=True)
class Launch:
    """One kernel of one launch, compiled for one architecture.

    Attributes:
        kernel: name of the function.
        arch: compute capability, 80 or 90.
        warps: warps of a program.
        programs: how many the launch has; 0 if that was not recorded.
        registers: per thread.
        local_bytes: stack and local memory per thread; above 0 if registers are spilled.
        shared_bytes: shared memory of a program.
        ptx: the virtual assembly, to look for instructions in.
    """

    kernel: str
    arch: int
    warps: int
    programs: int
    registers: int
    local_bytes: int
    shared_bytes: int
    ptx: str

    def __str__(self) -> str:
        return (
            f"{self.kernel} sm_{self.arch}: {self.warps} warps, {self.registers} registers, "
            f"{self.local_bytes} B local, {self.shared_bytes} B shared"
        )


def compile_launches(module: str, code: str, archs: Iterable[int] = ARCHS) -> list[Launch]:
    """Every launch of `code`, which sees `torch` and the module as `kernels`, for each arch."""
    launches = _compile({"module": module, "code": code, "archs": list(archs)})
    assert launches, f"nothing was launched by {code}"
    return launches


def compile_published(program: Program, archs: Iterable[int] = ARCHS) -> list[Launch]:
    """Every launch of one of `triton_published.programs`, which the committed table must have."""
    launches = compile_launches(program.module, program.code, archs)
    assert_as_committed(program.name, launches)
    return launches


def distinct(launches: Iterable[Launch]) -> list[Launch]:
    """Of those that differ in nothing but their programs, the one with most."""
    found: dict[tuple[object, ...], Launch] = {}
    for launch in launches:
        key = (launch.arch, launch.kernel, launch.warps, launch.registers, launch.shared_bytes)
        if key not in found or found[key].programs < launch.programs:
            found[key] = launch
    return list(found.values())


@cache
def committed_rows() -> list[dict[str, str]]:
    """What scripts/triton_report.py wrote to `COMMITTED`."""
    with COMMITTED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_as_committed(case: str, launches: Iterable[Launch]) -> None:
    """The committed table has these launches: their kernels, and if the same Triton compiled it,
    what these take.
    """
    launches = distinct(launches)
    archs = {str(launch.arch) for launch in launches}
    rows = [row for row in committed_rows() if row["case"] == case and row["arch"] in archs]
    names = ["arch", "kernel", "warps"]
    if {row["triton"] for row in rows} == {version("triton")}:
        names += ["programs", "registers", "local_bytes", "shared_bytes"]
    wanted = {tuple(row[name] for name in names) for row in rows}
    found = {tuple(str(getattr(launch, name)) for name in names) for launch in launches}
    assert found == wanted, (
        f"{case}: run scripts/triton_report.py --csv benchmarks/results/triton_aot.csv again"
    )


RECORDED = Path(__file__).parent / "ops" / "triton_launches.jsonl.gz"


def recorded_launches() -> list[dict[str, Any]]:
    """What the `cuda` tests launch, each specialization once: triton_recording.py wrote it."""
    with gzip.open(RECORDED, "rt") as file:
        return [json.loads(line) for line in file]


def compile_recorded(
    recorded: Iterable[dict[str, Any]], archs: Iterable[int] = ARCHS
) -> list[Launch]:
    """What triton_recording.py wrote, each specialization once for each arch."""
    return _compile({"recorded": list(recorded), "archs": list(archs)})


class _Child:
    """The other process: a request and its answer are a line of JSON each.

    An error ends it, and so does the end of its input.
    """

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"},
        )
        atexit.register(self.process.communicate)  # closes its input

    def ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            _child.cache_clear()  # the next request starts another one
            self.process.wait()
            self.errors.seek(0)
            raise AssertionError(self.errors.read())
        return json.loads(answer)


_child = cache(_Child)  # importing torch and Triton takes longer than most compilations


def _compile(request: dict[str, Any]) -> list[Launch]:
    return [Launch(**fields) for fields in _child().ask(request)]


def assert_no_spills(launches: Iterable[Launch]) -> None:
    spilled = [str(launch) for launch in launches if launch.local_bytes]
    assert not spilled, "\n".join(spilled)


# --- In the other process ------------------------------------------------------------------------


def type_name(value: Any) -> Any:
    """Triton's name for the type of an argument, of a tuple those of what is in it."""
    import torch
    from triton.tools.tensor_descriptor import TensorDescriptor

    names = {
        torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16",
        torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32",
        torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "i1",
    }  # fmt: skip
    if isinstance(value, tuple):
        return tuple(map(type_name, value))
    if isinstance(value, torch.Tensor):
        return f"*{names[value.dtype]}"
    if isinstance(value, TensorDescriptor):
        return f"tensordesc<{names[value.base.dtype]}{list(value.block_shape)}>"
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    assert isinstance(value, float), f"an argument of type {type(value).__name__}"
    return "fp32"


def source_of(function: Any, values: dict[str, Any]) -> Any:
    """What Triton compiles for these arguments, specialized as its own launcher does."""
    import torch
    from triton.compiler import ASTSource

    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(function.params):
        name, value = parameter.name, values[parameter.name]
        free = parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1 > free):
            signature[name], constants[name] = "constexpr", value
            continue
        signature[name] = type_name(value)
        # Allocations are aligned; only a view could start elsewhere.
        inside = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for place, one in inside:
            divisible = isinstance(one, torch.Tensor) or (type(one) is int and one % 16 == 0)
            if divisible and not free:
                path = (index,) if place is None else (index, place)
                attributes[path] = [["tt.divisibility", 16]]
    return ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)


def listing(cubin: bytes, what: str) -> str:
    """What cuobjdump says of a kernel: "-res-usage", or "-sass" for its machine code."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), what, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and memory, as the machine code itself states them."""
    used = listing(cubin, "-res-usage")
    return {name: int(number) for name, number in re.findall(r"\b([A-Z]+):(\d+)", used)}


def key_of(source: Any, options: dict[str, Any], arch: int) -> str:
    """What tells one specialization from another."""
    parts = source.fn.__name__, source.signature, source.constants, source.attrs, options, arch
    return repr(parts)


class Compiler:
    """Compiles each specialization once."""

    def __init__(self, archs: Iterable[int]) -> None:
        self.archs = list(archs)
        self.known: dict[str, Launch] = {}

    def __call__(self, function: Any, values: dict[str, Any], options: dict[str, Any]) -> list[str]:
        """Compiles a launch for each architecture; returns the names of the results in `known`."""
        import triton
        from triton.backends.compiler import GPUTarget

        for parameter in function.params:
            if parameter.has_default:
                values.setdefault(parameter.name, parameter.default)
        keys = []
        for arch in self.archs:
            source = source_of(function, values)
            keys.append(key := key_of(source, options, arch))
            if key in self.known:
                continue
            compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
            used = resources(compiled.asm["cubin"])
            self.known[key] = Launch(
                kernel=function.fn.__name__,
                arch=arch,
                warps=compiled.metadata.num_warps,
                programs=0,
                registers=used["REG"],
                local_bytes=used["STACK"] + used["LOCAL"],
                shared_bytes=compiled.metadata.shared,
                ptx=compiled.asm["ptx"],
            )
        return keys


def of_code(compiler: Compiler, module: str, code: str) -> list[Launch]:
    """All that the code launches, in order."""
    import importlib
    import math

    import torch
    import triton

    launches: list[Launch] = []

    def compile_instead(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        values = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
        for key in compiler(self, values, options):
            launches.append(replace(compiler.known[key], programs=math.prod(grid)))

    triton.JITFunction.run = compile_instead
    kernels = importlib.import_module(module)
    exec(code, {"torch": torch, "kernels": kernels})
    return launches


def of_recorded(compiler: Compiler, recorded: list[dict[str, Any]]) -> list[Launch]:
    import importlib

    import torch
    import triton.language as tl

    def value_of(described: Any) -> Any:
        if isinstance(described, list):
            return tuple(map(value_of, described))
        if not isinstance(described, dict):
            return described
        if "dtype" in described:
            return tl.dtype(described["dtype"])
        return torch.empty(1, dtype=getattr(torch, described["tensor"]), device="meta")

    for launch in recorded:
        function = getattr(importlib.import_module(launch["module"]), launch["kernel"])
        values = {name: value_of(value) for name, value in launch["arguments"].items()}
        compiler(function, values, launch["options"])
    return list(compiler.known.values())


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        compiler = Compiler(request.pop("archs"))
        run = of_recorded if "recorded" in request else of_code
        launches = [asdict(launch) for launch in run(compiler, **request)]
        print(json.dumps(launches), file=answers, flush=True)


if __name__ == "__main__":
    main()
