"""queue_contrast's kernels: every instruction set, thread count and shape, memory and registers."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import triton_published as published
from torch import Tensor
from triton_aot import assert_no_spills, compile_launches, compile_published

from aimclr_fast import native
from aimclr_fast.ops import queue_contrast as op

MODULE = "aimclr_fast.triton_kernels.queue_contrast"
MEGABYTE = 1 << 20


def random_inputs(n: int, k: int, d: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    sizes = [(n, d)] * 4 + [(k, d)]
    return [F.normalize(torch.randn(*size), dim=1).to(dtype) for size in sizes]


def cpp(*inputs: Any) -> op.Outputs:
    """Of rows, key, queue, temperature and topk."""
    *rows, key, queue, temperature, topk = inputs
    settings = temperature, topk, 0, "cpp", None
    return op.Outputs(
        *torch.ops.aimclr_fast.queue_contrast(rows, [key], [queue], *op.AIMCLR, *settings)
    )


# --- C++ -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(5, 9000), (300, 700)])
def test_threads_do_not_change_a_bit(n, k):
    inputs = random_inputs(n, k, 24)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(cpp(*inputs, 0.07, 3))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for have, want in zip(other, results[0], strict=True):
            assert torch.equal(have, want)


@pytest.mark.parametrize(
    ("n", "k", "topk", "threads", "limit"),
    [
        (128, 32768, 1, 2, 8 * MEGABYTE),
        (128, 32768, 32, 64, 8 * MEGABYTE),
        (4096, 131072, 1, 64, 32 * MEGABYTE),  # a matrix of rows by keys takes 2 GiB
    ],
)
def test_workspace_holds_no_rows_by_keys(n, k, topk, threads, limit):
    shape = {"streams": 1, "sets": 3, "key_sets": 1, "n": n, "d": 128, "topk": topk}
    size = native.load().queue_contrast_workspace_cpu(
        **shape, k=[k, *[0] * 7], threads=threads, element_bytes=4
    )
    assert size <= limit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n and threads must be positive"),
        ({"threads": 0}, "n and threads must be positive"),
        ({"topk": 9}, "topk must lie in 0..k"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"workspace": 8}, "aligned to 64 bytes"),
        ({"streams": 9}, "too few or too many streams, sets or key sets"),
        ({"sets": 17}, "too few or too many streams, sets or key sets"),
    ],
)
def test_the_library_checks_its_arguments(changes, message):
    shape = {"streams": 1, "sets": 1, "key_sets": 1, "n": 1, "d": 4, "topk": 1}
    shape = {name: changes.get(name, value) for name, value in shape.items()}
    changes = {name: value for name, value in changes.items() if name not in shape}
    arguments = {
        "shape": {**shape, "k": [8] * 8},
        **dict.fromkeys(("rows", "keys", "workspace"), 64),
        **dict.fromkeys(("losses", "gradients", "neighbors", "counts"), 64),
        "queues": [64] * 8,
        **dict.fromkeys(("teacher", "negative"), [-1] * 16),
        **dict.fromkeys(("mines", "positives"), [True] * 16),
        "own_key": [0] * 16,
        "temperature": 0.1,
        "votes": 0,
        "threads": 1,
    }
    with pytest.raises(ValueError, match=message):
        native.load().queue_contrast_f32_cpu(**{**arguments, **changes})


# --- Triton --------------------------------------------------------------------------------------


def empty_outputs(n: int, d: int, topk: int, device: str = "cpu") -> tuple[Tensor, ...]:
    """Of the launcher, for AimCLR's three sets."""
    integers = {"dtype": torch.int64, "device": device}
    return (
        torch.empty(1, 3, n, device=device),
        torch.empty(1, n, 3, topk, **integers),
        torch.empty(1, n, **integers),
        torch.empty(1, 3, n, d, device=device),
    )


def launch(
    kernels: Any,
    inputs: list[Tensor],
    processors: int,
    outputs: tuple[Tensor, ...],
    precision: str = "ieee",
) -> None:
    *rows, key, queue = inputs
    rows, terms = torch.stack(rows)[None], kernels.Terms(*published.AIMCLR.terms)
    rest = terms, 0.07, 0, precision, processors, outputs
    kernels.queue_contrast(rows, key[None, None], [queue], *rest)


@pytest.mark.parametrize("processors", [1, 3, 50])
def test_splits_of_the_queue_do_not_matter(processors):
    """Programs as on small and large GPUs; each split merges into the same answer."""
    if torch.cuda.is_available():
        pytest.skip("Triton's interpreter is for machines without a GPU")
    kernels = importlib.import_module(MODULE)
    inputs = random_inputs(3, 300, 16)
    topk = 2
    outputs = empty_outputs(3, 16, topk)
    launch(kernels, inputs, processors, outputs)
    for have, want in zip(outputs[1:], cpp(*inputs, 0.07, topk)[1:], strict=True):
        if have.dtype == torch.int64:
            assert torch.equal(have, want)
        else:
            scale = float(want.abs().max())
            torch.testing.assert_close(have, want, rtol=0, atol=2e-6 * scale)
    losses = cpp(*inputs, 0.07, topk).losses
    torch.testing.assert_close(outputs[0].mean(2), losses, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("blocks", "tiles", "processors", "expected"),
    [
        (6, 512, 132, 22),  # N = 128, K = 32768 on an H100: one round of 132 programs
        (6, 512, 108, 18),
        (192, 512, 132, 2),  # more would cost more to merge than they gain
        (1, 3, 132, 3),  # no more parts than tiles
        (1, 1, 1, 1),
    ],
)
def test_splits_fill_the_processors(blocks, tiles, processors, expected):
    kernels = importlib.import_module(MODULE)
    assert kernels.split_count(blocks, tiles, processors) == expected


class Recorder:
    """Stands in for a kernel and keeps the tensors it would be launched with."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *arguments, **_):
        tensors = (x for x in arguments if isinstance(x, Tensor))
        self.bytes |= {id(x): x.nbytes for x in tensors}


@pytest.mark.parametrize(
    ("n", "k", "limit"), [(128, 32768, 8 * MEGABYTE), (512, 32768, 16 * MEGABYTE)]
)
def test_workspace_of_the_scan(monkeypatch, n, k, limit):
    kernels = importlib.import_module(MODULE)
    recorder = Recorder()
    for name in ("_scan_kernel", "_mine_kernel", "_combine_kernel"):
        monkeypatch.setattr(kernels, name, recorder)
    kinds = [(n, 128)] * 4 + [(k, 128)]
    inputs = [torch.empty(size, dtype=torch.bfloat16, device="meta") for size in kinds]
    outputs = empty_outputs(n, 128, 1, "meta")
    launch(kernels, inputs, 132, outputs, "bf16")
    inputs_bytes = sum(x.nbytes for x in inputs)
    assert 0 < sum(recorder.bytes.values()) - inputs_bytes <= limit


@pytest.mark.cuda
def test_extra_memory_on_a_gpu():
    inputs = [x.cuda() for x in random_inputs(128, 32768, 128, torch.bfloat16)]
    rows = [x.requires_grad_() for x in inputs[:3]]

    def step() -> None:
        sum(op.queue_contrast(*inputs, 0.07, 1, "triton")[1:4]).backward()

    step()  # leaves room for .grad
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    assert torch.cuda.max_memory_allocated() - before <= 8 * MEGABYTE
    assert rows[0].grad is not None


def loads_ahead(ptx: str) -> bool:
    """Whether the loop's products wait for no load of the same turn: it copies asynchronously, or
    stores in shared memory only what it loaded before.
    """
    loops = re.findall(r"^(\$L\w+):(.*?)bra\s+\1;", ptx, re.M | re.S)
    loop = max((code for _, code in loops), key=len)
    loads = re.findall(r"ld\.global\S*([^;]*)\[", loop)
    stores = re.findall(r"st\.shared\S*[^;]*?\]([^;]*)", loop)
    loaded, stored = (set(re.findall(r"%\w+", " ".join(each))) for each in (loads, stores))
    return "cp.async" in loop or bool(loaded and not loaded & stored)


@pytest.mark.parametrize("queue", published.QUEUES, ids=str)
def test_compiles_for_gpus_without_spills(queue):
    precision, d, topk, *_ = queue
    launches = compile_published(published.queue_contrast(*queue))
    for launch in launches:
        print(launch)  # shown by pytest -rP
    assert_no_spills(launches)
    names = {"_scan_kernel", "_combine_kernel"} | ({"_mine_kernel"} if topk else set())
    assert {launch.kernel for launch in launches} == names
    assert max(launch.shared_bytes for launch in launches) <= 99 * 1024
    scans = {launch.arch: launch.ptx for launch in launches if launch.kernel == "_scan_kernel"}
    for arch, ptx in scans.items():
        on_tensor_cores = "mma.sync" in ptx or "wgmma" in ptx
        assert on_tensor_cores == (precision != "ieee"), f"sm_{arch}"
        assert loads_ahead(ptx) == ((precision, d) != ("tf32", 256)), f"sm_{arch}"
    # A block of 64 rows is what Hopper's own matrix instruction takes.
    assert ("wgmma" in scans[90]) == (precision != "ieee" and (precision, d) != ("tf32", 256))


@pytest.mark.parametrize(("method", "topk"), [("aimclr++", 20), ("skelemixclr", 0), ("hiclr", 1)])
def test_other_methods_compile_for_gpus_without_spills(method, topk):
    program = published.queue_contrast("tf32", 128, topk, "float32", "float32", method=method)
    launches = compile_launches(*program[:2])
    for launch in launches:
        print(launch)  # shown by pytest -rP
    assert_no_spills(launches)
    assert {launch.kernel for launch in launches} >= {"_scan_kernel", "_combine_kernel"}
    assert max(launch.shared_bytes for launch in launches) <= 99 * 1024
