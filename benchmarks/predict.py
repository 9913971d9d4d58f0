"""How long a training step takes on a GPU, predicted on a machine without one.

    python benchmarks/predict.py                    # an H100, both encoders: the sums, and by what
    python benchmarks/predict.py --gpu a100         # or rtx4090
    python benchmarks/predict.py --csv benchmarks/results/predict_h100.csv    # each kernel
    python benchmarks/predict.py --blocks           # the kernels of this package, by name
    python benchmarks/predict.py --blocks FILE      # beside those that --csv wrote to FILE before

The launches are those of step_walk.py. The Triton kernels are compiled for the GPU: registers,
shared memory, and what a warp executes come from their machine code, and how often loops run from
the launch (triton_kernels.py). The CUDA kernel's registers come from the native library. The
kernels of PyTorch's own operations are assumed (library_kernels.py). Nothing is fitted: the figures
of the GPUs (gpus.py) are those of the data sheets.

A kernel takes the time of a launch, and the longest of

    memory    bytes of each tensor once, over the memory's bandwidth
    cache     bytes as often as programs fetch them, over the second-level cache's bandwidth
    tensor    products, with those that pad its tiles, over the tensor cores' rate
    issue     clocks that its warps keep a multiprocessor's busiest unit, over all multiprocessors

Tensor and issue are times of the multiprocessor with most blocks: where others have fewer, these
wait. Memory and cache are shared by all, so that the last blocks can have them for themselves. Of
library kernels only memory and tensor are known, of skeleton_augment only memory (it is one launch
of a step, though its instructions take longer than its bytes).

With reuse, what a kernel reads and the kernels before have left in the second-level cache (least
recently used first out, whole tensors) comes from there instead of memory. All that is written goes
to memory, too.

Not predicted: latency (few warps, barriers, dependent instructions), bank conflicts, lines of which
a part is used, clocks below the boost clock, and how near a bandwidth or rate a kernel gets. So a
GPU takes longer than the sum with reuse, unless its cache keeps more than is assumed here, or
kernels overlap, which are taken to run one after the other. The sum says what to change first.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import ceil, prod
from pathlib import Path
from typing import Any

import torch
from gpus import GPUS, SYSTEM_SHARED, Gpu, gpu_named
from library_kernels import PRODUCT_THREADS, Kernel, kernels
from machine_code import Executed, executed, loop_count
from pretend_gpu import Launch, Operand, TritonCall
from step_walk import ENCODERS, walk_step
from triton_kernels import products, read_again, trips

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
COMPILED, ASSUMED = "compiled", "assumed"
#: What the fullest multiprocessor may have more than an average one before it is called a tail.
TAIL = 1.1


# --- The model -----------------------------------------------------------------------------------


def wave_factor(blocks: int, processors: int) -> float:
    """Blocks of the multiprocessor with most of them, over those of an average one.

    However many fit at once: a block that is alone has its multiprocessor's units for itself.
    """
    return ceil(blocks / processors) * processors / blocks


@dataclass(frozen=True)
class Work:
    """What a launch has to do.

    Attributes:
        bytes_read: of memory or cache.
        bytes_written: likewise.
        bytes_cached: of those read, what is in the second-level cache.
        bytes_fetched: of the second-level cache, as often as programs do; 0 if unknown.
        flop: of the products that are wanted.
        executed: FLOP with those that pad tiles.
        tensor: seconds of the tensor cores, if all were busy to the end.
        issue: likewise of the busiest unit of the multiprocessors; 0 if unknown.
    """

    bytes_read: float
    bytes_written: float
    bytes_cached: float = 0.0
    bytes_fetched: float = 0.0
    flop: float = 0.0
    executed: float = 0.0
    tensor: float = 0.0
    issue: float = 0.0

    def seconds(self, gpu: Gpu, factor: float, reuse: bool) -> dict[str, float]:
        """The time of each limit; `factor` as of `wave_factor`."""
        cached = self.bytes_cached if reuse else 0.0
        return {
            "memory": (self.bytes_read - cached + self.bytes_written) / gpu.memory,
            "cache": max(self.bytes_fetched, cached) / gpu.l2,
            "tensor": factor * self.tensor,
            "issue": factor * self.issue,
        }

    def microseconds(self, gpu: Gpu, factor: float, reuse: bool = False) -> float:
        return 1e6 * (gpu.launch + max(self.seconds(gpu, factor, reuse).values()))


def tensor_seconds(gpu: Gpu, executed: Mapping[str, float]) -> float:
    """Of products in FLOP by kind; "... sync" are those of single warps."""
    seconds = 0.0
    for kind, flop in executed.items():
        name, _, sync = kind.partition(" ")
        seconds += flop / (gpu.products(name) * (gpu.sync_share if sync else 1.0))
    return seconds


class Cache:
    """Which tensors are in the second-level cache: those used last, as many as fit."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.held: OrderedDict[int, int] = OrderedDict()

    def read(self, operands: Iterable[Operand]) -> int:
        """Bytes of these that are there."""
        found = 0
        for operand in operands:
            if operand.storage in self.held:
                found += min(operand.bytes, self.held[operand.storage])
            self.use(operand)
        return found

    def use(self, operand: Operand) -> None:
        self.held[operand.storage] = max(operand.bytes, self.held.pop(operand.storage, 0))
        while sum(self.held.values()) > self.size:
            self.held.popitem(last=False)


# --- Kernels -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """Kernels of one operation that are alike, in one phase of a step.

    Attributes:
        gpu: name in `GPUS`.
        encoder: as in step_walk.py.
        phase: part of the step.
        operation: as in step_walk.py, and the part of it that this kernel does.
        source: "compiled", or "assumed" of libraries.
        count: how many there are.
        grid: blocks by axis.
        threads: of a block.
        registers: of a thread; 0 if unknown.
        local_bytes: stack and spilled registers of a thread.
        shared_bytes: of a block; 0 if unknown.
        at_once: blocks that the GPU holds at a time.
        waves: blocks over `at_once`.
        factor: see `wave_factor`.
        bytes_read: of each tensor once.
        bytes_written: likewise.
        bytes_cached: of those read, what is in the second-level cache.
        bytes_fetched: of the second-level cache, as often as programs do; 0 if unknown.
        megaflop: products that are wanted.
        executed: with those that pad tiles.
        tensor_us, issue_us: what these units of the fullest multiprocessor take; 0 if unknown.
        bound: what takes longest, without reuse.
        us: predicted, of one.
        reuse_us: likewise, with reuse.
        commit, versions: what was predicted, and what compiled it.
    """

    gpu: str
    encoder: str
    phase: str
    operation: str
    source: str
    count: int
    grid: str
    threads: int
    registers: int
    local_bytes: int
    shared_bytes: int
    at_once: int
    waves: float
    factor: float
    bytes_read: int
    bytes_written: int
    bytes_cached: int
    bytes_fetched: int
    megaflop: float
    executed: float
    tensor_us: float
    issue_us: float
    bound: str
    us: float
    reuse_us: float
    commit: str = ""
    versions: str = ""

    @property
    def tail(self) -> bool:
        """Whether multiprocessors wait for the fullest, of a grid with more blocks than these."""
        blocks = prod(map(int, self.grid.split("x")))
        waits = self.bound in ("tensor", "issue") and self.factor > TAIL
        return self.source == COMPILED and waits and blocks > gpu_named(self.gpu).processors


@dataclass(frozen=True)
class Shape:
    """How a kernel lies on a GPU."""

    grid: tuple[int, ...]
    threads: int
    registers: int = 0
    local_bytes: int = 0
    shared_bytes: int = 0
    source: str = COMPILED

    def at_once(self, gpu: Gpu) -> int:
        """What is unknown limits nothing, but of products one block takes a multiprocessor."""
        if self.source == ASSUMED and self.threads == PRODUCT_THREADS:
            return gpu.processors
        registers, warps = max(self.registers, 1), self.threads // 32
        return gpu.processor.at_once(registers, warps, self.shared_bytes)


def predicted(gpu: str, encoder: str, launch: Launch, part: str, shape: Shape, work: Work) -> Row:
    """One kernel of a launch."""
    on = gpu_named(gpu)
    at_once, blocks = shape.at_once(on), prod(shape.grid)
    if at_once == 0:
        raise ValueError(f"{launch.name}: {on.name} cannot hold one block of it: {shape}")
    factor = wave_factor(blocks, on.processors)
    seconds = work.seconds(on, factor, reuse=False)
    return Row(
        gpu, encoder, launch.phase, f"{launch.name} {part}".strip(), shape.source, 1,
        "x".join(map(str, shape.grid)), shape.threads, shape.registers, shape.local_bytes,
        shape.shared_bytes, at_once, round(blocks / at_once, 3), round(factor, 3),
        int(work.bytes_read), int(work.bytes_written), int(work.bytes_cached),
        int(work.bytes_fetched), round(work.flop / 1e6, 3), round(work.executed / 1e6, 3),
        round(1e6 * seconds["tensor"], 3), round(1e6 * seconds["issue"], 3),
        max(seconds, key=seconds.__getitem__),
        round(work.microseconds(on, factor), 3), round(work.microseconds(on, factor, True), 3),
    )  # fmt: skip


@dataclass(frozen=True)
class Compiled:
    """A Triton kernel: how it lies, and what one of its warps executes."""

    shape: Shape
    executed: Executed


class Compiler:
    """Compiles each specialization of a kernel once, for one GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.binaries: dict[str, tuple[Shape, str, int]] = {}
        self.counted: dict[tuple[str | float, ...], Executed] = {}

    def __call__(self, call: TritonCall) -> Compiled:
        # Triton, and the tests' helpers, are needed for nothing else here.
        import triton
        from triton.backends.compiler import GPUTarget
        from triton_aot import key_of, listing, resources, source_of

        values = dict(call.values)
        for parameter in call.function.params:
            if parameter.has_default:
                values.setdefault(parameter.name, parameter.default)
        source = source_of(call.function, values)
        key = key_of(source, call.options, self.gpu.arch)
        if key not in self.binaries:
            target = GPUTarget("cuda", self.gpu.arch, 32)
            binary = triton.compile(source, target=target, options=call.options)
            cubin = binary.asm["cubin"]
            code = listing(cubin, "-sass")
            used = resources(cubin)
            shape = Shape(
                (), 32 * binary.metadata.num_warps, used["REG"], used["STACK"] + used["LOCAL"],
                binary.metadata.shared,
            )  # fmt: skip
            self.binaries[key] = shape, code, loop_count(code)
        shape, code, depth = self.binaries[key]
        run = trips(call.function.fn.__name__, {**values, "grid": call.grid}, depth)
        if (key, *run) not in self.counted:
            self.counted[key, *run] = executed(code, self.gpu.arch, run)
        return Compiled(replace(shape, grid=call.grid), self.counted[key, *run])

    def of_launch(self, launch: Launch) -> tuple[Shape, Work]:
        """A kernel of this package, and its work."""
        moved = Work(launch.bytes_read, launch.bytes_written)
        if launch.name == "cuda.skeleton_augment":
            return augment_shape(self.gpu, launch.written[0].shape), moved
        call = launch.call
        if call is None:
            raise ValueError(f"{launch.name}: its blocks are not known")
        one = self(call)
        warps = prod(call.grid) * one.shape.threads // 32
        name, values = call.function.fn.__name__, {**call.values, "grid": call.grid}
        again = read_again(name, values)
        repeated = sum(times * Operand.of(values[each]).bytes for each, times in again.items())
        executed = {kind: warps * flop for kind, flop in one.executed.flop.items()}
        work = replace(
            moved,
            bytes_fetched=max(warps * one.executed.fetched, launch.bytes_read + repeated),
            flop=products(name, values),
            executed=sum(executed.values()),
            tensor=tensor_seconds(self.gpu, executed),
            issue=warps * one.executed.clocks / (self.gpu.processors * self.gpu.clock),
        )
        return one.shape, work


def augment_shape(gpu: Gpu, view: Sequence[int]) -> Shape:
    """How skeleton_augment lies on a GPU: place_buffers of skeleton_augment_placement.h.

    Args:
        gpu: the GPU.
        view: shape of one view, [N, 3, T, V, M].

    Raises:
        ValueError: the native library has no code for the GPU.
    """
    from cuda_usage import cuobjdump

    from aimclr_fast import native
    from aimclr_fast.functional import AugmentConfig
    from aimclr_fast.ops._augment import native_chain

    listing = cuobjdump(Path(str(native.load().__file__)), "-res-usage")
    # float32, buffers in shared memory
    kernel = r"Function \S+skeleton_augment_kernelIfLb1E\S+:\s+REG:(\d+) STACK:\d+ SHARED:(\d+)"
    found = {}
    for section in listing.split("Fatbin elf code:")[1:]:
        of, used = re.search(r"arch = sm_(\d+)", section), re.search(kernel, section)
        if of and used and gpu.arch // 10 * 10 <= int(of[1]) <= gpu.arch:
            found[int(of[1])] = [int(number) for number in used.groups()]
    if not found:
        raise ValueError(f"the native library has no code for {gpu.name} (AIMCLR_CUDA_ARCHS)")
    arch = max(found)
    registers, shared = found[arch]
    # From 9.0 on the tool counts what the system takes.
    state = shared - (SYSTEM_SHARED if arch >= 90 else 0)
    samples, _, frames, joints, bodies = view
    elements = prod(view[1:])
    buffers = 2 * 4 * (elements + elements // 32 + 1)
    threads = 640 if samples <= gpu.processors else 320
    itself, config = tuple(range(joints)), AugmentConfig()
    chain = native_chain(
        (frames, joints, bodies), itself, itself, config.crop_ratio, config.blur_taps, False,
        torch.device("cpu"),
    )  # fmt: skip
    parts = native.load().skeleton_augment_parts_emulated(
        **chain.members, samples=samples, room=gpu.processors
    )
    grid = (samples, parts) if parts > 1 else (samples,)
    return Shape(grid, threads, registers, shared_bytes=state + buffers)


def predict(
    gpu: str, encoder: str, launches: Sequence[Launch], known: Sequence[Row] = ()
) -> list[Row]:
    """Each kernel of a walk, in order.

    Args:
        gpu: name in `GPUS`.
        encoder: that was walked.
        launches: of the walk.
        known: rows with all compiled kernels of that walk, so that nothing is compiled.

    Raises:
        ValueError: nothing is known of a GPU or a kernel.
    """
    on = gpu_named(gpu)
    cache = Cache(on.l2_bytes)
    of_launch = Known(encoder, known) if known else Compiler(on).of_launch
    found = []
    for launch in launches:
        if launch.name.startswith("aten."):
            parts = [_library(on, kernel) for kernel in kernels(launch)]
        else:
            parts = [("", *of_launch(launch), launch.read, launch.written)]
        for part, shape, work, read, written in parts:
            cached = min(work.bytes_read, cache.read(read))
            for operand in written:
                cache.use(operand)
            work = replace(work, bytes_cached=cached)
            found.append(predicted(gpu, encoder, launch, part, shape, work))
    return found


def _library(gpu: Gpu, kernel: Kernel) -> tuple[Any, ...]:
    """Part, shape, work, tensors read and written; a product splits its sums to fill the GPU."""
    blocks = max(kernel.blocks, gpu.processors) if kernel.flop else kernel.blocks
    tensor = tensor_seconds(gpu, {kernel.kind: kernel.executed}) if kernel.flop else 0.0
    work = Work(
        kernel.bytes_read, kernel.bytes_written, flop=kernel.flop, executed=kernel.executed,
        tensor=tensor,
    )  # fmt: skip
    shape = Shape((blocks,), kernel.threads, source=ASSUMED)
    return kernel.part, shape, work, kernel.read, kernel.written


class Known:
    """Kernels that were compiled before, by what tells them in a walk.

    Raises:
        ValueError: two of the rows are alike in that, and differ otherwise.
    """

    def __init__(self, encoder: str, rows: Iterable[Row]) -> None:
        self.rows: dict[tuple[object, ...], tuple[Shape, Work]] = {}
        for row in rows:
            if row.source == COMPILED and row.encoder == encoder:
                grid = row.grid if row.operation.startswith("triton.") else row.grid.split("x")[0]
                key = row.operation, grid, row.bytes_read, row.bytes_written
                found = shape_of(row), work_of(row)
                if self.rows.setdefault(key, found) != found:
                    raise ValueError(f"{row.operation}, {row.grid} blocks: two kernels are alike")

    def __call__(self, launch: Launch) -> tuple[Shape, Work]:
        """Of skeleton_augment the samples are the grid's first axis."""
        blocks = launch.call.grid if launch.call else launch.written[0].shape[:1]
        grid = "x".join(map(str, blocks))
        key = launch.name, grid, launch.bytes_read, launch.bytes_written
        if key not in self.rows:
            raise ValueError(f"{launch.name}, {grid} blocks: not among the known; write --csv anew")
        return self.rows[key]


def shape_of(row: Row) -> Shape:
    grid = tuple(map(int, row.grid.split("x")))
    return Shape(grid, row.threads, row.registers, row.local_bytes, row.shared_bytes, row.source)


def work_of(row: Row) -> Work:
    """What a row says of its kernel alone, so without what others left in the cache."""
    factor = wave_factor(prod(shape_of(row).grid), gpu_named(row.gpu).processors)
    return Work(
        row.bytes_read, row.bytes_written, bytes_fetched=row.bytes_fetched,
        flop=1e6 * row.megaflop, executed=1e6 * row.executed,
        tensor=1e-6 * row.tensor_us / factor, issue=1e-6 * row.issue_us / factor,
    )  # fmt: skip


# --- Tables --------------------------------------------------------------------------------------


def grouped(rows: Iterable[Row]) -> list[Row]:
    """Rows that are alike but for their place as one, in the order of the first."""
    counts: Counter[Row] = Counter()
    for row in rows:
        counts[replace(row, count=1)] += row.count
    return [replace(row, count=count) for row, count in counts.items()]


@dataclass(frozen=True)
class Total:
    """Sums over rows; times in milliseconds, products in GFLOP."""

    kernels: int
    gigabytes: float
    gigaflop: float
    ms: float
    reuse_ms: float


def total(rows: Iterable[Row]) -> Total:
    rows = list(rows)
    return Total(
        sum(row.count for row in rows),
        sum(row.count * (row.bytes_read + row.bytes_written) for row in rows) / 1e9,
        sum(row.count * row.megaflop for row in rows) / 1e3,
        sum(row.count * row.us for row in rows) / 1e3,
        sum(row.count * row.reuse_us for row in rows) / 1e3,
    )


def show(rows: Sequence[Row], by: str, most: int = 99) -> None:
    """Sums by a column, the largest first."""
    line = "{:<40} {:>8} {:>8} {:>9} {:>8} {:>10}".format
    print(f"\n{line(by, 'kernels', 'GB', 'GFLOP', 'ms', 'with reuse')}")
    names = {getattr(row, by) for row in rows}
    sums = {name: total(row for row in rows if getattr(row, by) == name) for name in names}
    shown = sorted(sums.items(), key=lambda item: -item[1].ms)[:most]
    for name, each in [*shown, ("all", total(rows))]:
        numbers = f"{each.gigabytes:.2f}", f"{each.gigaflop:.1f}", f"{each.ms:.2f}"
        print(line(name, each.kernels, *numbers, f"{each.reuse_ms:.2f}"))


def show_blocks(rows: Iterable[Row], before: Iterable[Row] = ()) -> None:
    """Compiled kernels by name, the longest first; below each, what it was before."""
    line = "{:<40} {:>8} {:>8} {:>10} {:>8} {:>9} {:>6} {:>5} {:>7}".format
    names = "launches", "ms", "with reuse", "MB", "registers", "local", "tails", "bound"
    print(f"\n{line('kernel', *names)}")
    now, then = _by_operation(rows), _by_operation(before)
    for name in sorted(now | then, key=lambda name: -total(now.get(name, then.get(name, []))).ms):
        lines = [(name, now.get(name))] + ([("    before", then.get(name))] if then else [])
        for title, found in lines:
            print(line(title, *(_block(found) if found else ["none", *[""] * 7])))


def _by_operation(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Compiled kernels, and all of them."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.source == COMPILED:
            found.setdefault(row.operation, []).append(row)
            found.setdefault("all", []).append(row)
    return found


def _block(rows: Sequence[Row]) -> list[str]:
    """Registers and local memory from the least to the most, and what bounds most of the time."""
    sums = total(rows)
    registers = sorted({row.registers for row in rows})
    bounds: dict[str, float] = {}
    for row in rows:
        bounds[row.bound] = bounds.get(row.bound, 0.0) + row.count * row.us
    return [
        str(sums.kernels), f"{sums.ms:.3f}", f"{sums.reuse_ms:.3f}", f"{1e3 * sums.gigabytes:.1f}",
        "-".join(map(str, registers if len(registers) == 1 else (registers[0], registers[-1]))),
        str(max(row.local_bytes for row in rows)),
        str(sum(row.count for row in rows if row.tail)), max(bounds, key=bounds.__getitem__),
    ]  # fmt: skip


def write(path: Path, rows: Iterable[Row]) -> None:
    import results
    import triton

    from aimclr_fast import native

    commit = results.this_machine().commit
    versions = f"torch {torch.__version__}, triton {triton.__version__}, {native.load().compiler}"
    told = (asdict(replace(row, commit=commit, versions=versions)) for row in rows)
    results.write_cells(path, told, [field.name for field in fields(Row)])


def read(path: Path) -> list[Row]:
    """What `write` wrote; a ValueError names the file and the column for any other."""
    types: dict[str, Any] = {"int": int, "float": float, "str": str}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {field.name for field in fields(Row)} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: no columns {', '.join(sorted(missing))}; write --csv anew")
        return [
            Row(*(types[str(field.type)](row[field.name]) for field in fields(Row)))
            for row in reader
        ]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--gpu", default="h100", help=f"one of {', '.join(GPUS)}")
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--csv", type=Path, help="where each kernel is written")
    parser.add_argument(
        "--blocks", nargs="?", const="", metavar="FILE",
        help="show the compiled kernels by name, beside those of a file that --csv wrote",
    )  # fmt: skip
    options = parser.parse_args(words)
    try:
        gpu = gpu_named(options.gpu)
        before = read(Path(options.blocks)) if options.blocks else []
        sys.path.append(str(ROOT / "tests"))  # triton_aot.py and cuda_usage.py
        found = []
        for encoder in options.encoder:
            launches = walk_step(encoder, gpu=gpu).launches
            rows = grouped(predict(options.gpu, encoder, launches))
            print(f"\n{gpu.name}, {encoder} encoder")
            if options.blocks is None:
                show(rows, "phase")
                show(rows, "operation", most=24)
                show(rows, "bound")
            else:
                same = (options.gpu, encoder)
                show_blocks(rows, [row for row in before if (row.gpu, row.encoder) == same])
            found += rows
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if options.csv:
        write(options.csv, found)


if __name__ == "__main__":
    main()
