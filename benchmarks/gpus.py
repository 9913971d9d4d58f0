"""Figures of GPUs, for predictions without one: all numbers of a GPU stand here, and nowhere else.

Rates are those of the data sheets (dense, at boost clock): no efficiency is taken off, and nothing
is fitted. They change only when a GPU has been measured, and then for all predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

REGISTERS = 1 << 16  # of a multiprocessor, on every architecture here
SYSTEM_SHARED = 1024  # bytes that each block takes for the system


def warps_that_fit(registers: int) -> int:
    """Warps of so many registers a thread that a multiprocessor has registers for.

    A warp gets them in units of 256, from the quarter of the multiprocessor that runs it.
    """
    of_warp = -(-registers * 32 // 256) * 256
    return 4 * (REGISTERS // 4 // of_warp)


@dataclass(frozen=True)
class Processor:
    """The multiprocessors of a GPU: the CUDA programming guide's table of compute capabilities.

    Attributes:
        gpu: a common GPU of this architecture.
        processors: how many it has.
        warps: that one holds.
        blocks: likewise.
        shared: bytes of all its blocks.
        block_shared: bytes that one block can have.
    """

    gpu: str
    processors: int
    warps: int
    blocks: int
    shared: int
    block_shared: int

    def at_once(self, registers: int, warps: int, shared_bytes: int) -> int:
        """Blocks that the GPU holds at a time: of so many warps, registers a thread, and bytes."""
        by_registers = warps_that_fit(registers) // warps
        by_shared = self.shared // (shared_bytes + SYSTEM_SHARED)
        return self.processors * min(by_registers, by_shared, self.warps // warps, self.blocks)


#: By compute capability.
PROCESSORS = {
    80: Processor("A100", 108, 64, 32, 164 << 10, 163 << 10),
    86: Processor("RTX 3090", 82, 48, 16, 100 << 10, 99 << 10),
    89: Processor("RTX 4090", 128, 48, 24, 100 << 10, 99 << 10),
    90: Processor("H100", 132, 64, 32, 228 << 10, 227 << 10),
    100: Processor("B200", 148, 64, 32, 228 << 10, 227 << 10),
    120: Processor("RTX 5090", 170, 48, 24, 100 << 10, 99 << 10),
}


@dataclass(frozen=True)
class Gpu:
    """Rates of a GPU.

    Attributes:
        name: for reports.
        arch: compute capability; its multiprocessors are in `PROCESSORS`.
        clock: Hz.
        memory: bytes a second.
        l2_bytes: size of the second-level cache.
        l2: bytes a second between it and the multiprocessors.
        bf16: products with float32 sums on tensor cores, FLOP a second; fp16 is alike.
        tf32: likewise.
        fp32: without tensor cores, FLOP a second.
        sync_share: of bf16 and tf32 that warps reach which multiply by themselves (mma.sync).
        launch: seconds of a kernel of a CUDA graph in which nothing is computed.
    """

    name: str
    arch: int
    clock: float
    memory: float
    l2_bytes: float
    l2: float
    bf16: float
    tf32: float
    fp32: float
    sync_share: float = 1.0
    launch: float = 1.5e-6

    @property
    def processor(self) -> Processor:
        return PROCESSORS[self.arch]

    @property
    def processors(self) -> int:
        return self.processor.processors

    def products(self, kind: str) -> float:
        """FLOP a second of "bf16", "fp16", "tf32" or "fp32"."""
        return {"bf16": self.bf16, "fp16": self.bf16, "tf32": self.tf32, "fp32": self.fp32}[kind]


# launch: NVIDIA's "Getting Started with CUDA Graphs" finds 0.5 us between two kernels of a graph
# (V100); 1 us is assumed for the start of a kernel's blocks and the end of its last.
#
# H100 SXM: data sheet and whitepaper "NVIDIA H100 Tensor Core GPU Architecture" (tensor rates at
# 1.83 GHz, fp32 at 1.98 GHz, 50 MB, 3.35 TB/s). They do not give the bandwidth of the cache: that
# of the A100 in bytes a clock (5,120) is assumed. sync_share: Luo et al., "Benchmarking and
# Dissecting the Nvidia Hopper GPU Architecture" (arXiv 2402.13499), 62.9 % with mma on average.
#
# A100 SXM, 80 GB: data sheet and whitepaper "NVIDIA A100 Tensor Core GPU Architecture" (1.41 GHz,
# 40 MB, 5,120 bytes a clock of the cache, 2.039 TB/s).
#
# RTX 4090: whitepaper "NVIDIA Ada GPU Architecture" (2.52 GHz, 72 MB, 1.008 TB/s, tensor rates with
# float32 sums). It does not give the bandwidth of the cache: 5 TB/s are assumed.
GPUS = {
    "h100": Gpu(
        "H100 SXM", 90, 1.83e9, 3.35e12, 50e6, 5120 * 1.83e9, 989.4e12, 494.7e12, 66.9e12, 0.629
    ),
    "a100": Gpu("A100 SXM", 80, 1.41e9, 2.039e12, 40e6, 5120 * 1.41e9, 312e12, 156e12, 19.5e12),
    "rtx4090": Gpu("RTX 4090", 89, 2.52e9, 1.008e12, 72e6, 5.0e12, 165.2e12, 82.6e12, 82.6e12),
}


def gpu_named(name: str) -> Gpu:
    """The GPU of that name; a ValueError that lists the names for any other."""
    if name not in GPUS:
        raise ValueError(f"no figures of GPU {name!r}; known are {', '.join(GPUS)}")
    return GPUS[name]
