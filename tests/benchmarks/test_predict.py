"""The prediction of a step: occupancy, waves, bytes and products against numbers found by hand."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import library_kernels
import machine_code
import predict
import pytest
import torch
import triton_kernels
from gpus import GPUS, PROCESSORS
from predict import Cache, Shape, Work, predicted, total, wave_factor
from pretend_gpu import Launch, Operand

H100 = GPUS["h100"]


@pytest.mark.parametrize(
    ("registers", "warps", "shared", "blocks"),
    [
        (64, 4, 0, 8),  # 65,536 / (64 * 128)
        (65, 4, 0, 7),  # 2,080 registers of a warp are 2,304
        (128, 8, 0, 2),
        (129, 8, 0, 1),  # one register more, half as many
        (32, 8, 0, 8),  # 64 warps
        (16, 1, 0, 32),  # blocks of a multiprocessor
        (40, 4, 73_728, 3),  # 228 KiB / (72 KiB + 1 KiB)
        (255, 16, 0, 0),
    ],
)
def test_blocks_that_fit(registers, warps, shared, blocks):
    assert PROCESSORS[90].at_once(registers, warps, shared) == 132 * blocks


@pytest.mark.parametrize(
    ("blocks", "at_once", "factor"),
    [
        (264, 264, 1.0),
        (265, 264, 2 * 264 / 265),  # a second wave for one block
        (528, 264, 1.0),
        (660, 264, 3 * 264 / 660),
        (132, 264, 1.0),  # one for each multiprocessor
        (200, 264, 2 * 132 / 200),  # some have two
        (33, 264, 4.0),  # three quarters of the multiprocessors have none
    ],
)
def test_what_the_last_wave_wastes(blocks, at_once, factor):
    assert wave_factor(blocks, at_once, 132) == pytest.approx(factor)


def test_the_longest_limit_counts():
    gpu = replace(
        H100, memory=1e12, l2=1e13, bf16=1e14, tf32=1e13, sync_share=0.5, clock=1e9, launch=2e-6
    )
    work = Work(
        6e6, 2e6, bytes_cached=5e6, bytes_fetched=3e7, clocks=132e3,
        executed=(("bf16", 1e8), ("tf32 sync", 1e7)),
    )  # fmt: skip
    wanted = {"memory": 8e-6, "cache": 3e-6, "tensor": 1e-6 + 2e-6, "issue": 1e-6}
    assert work.seconds(gpu, reuse=False) == pytest.approx(wanted)
    assert work.seconds(gpu, reuse=True)["memory"] == pytest.approx(3e-6)
    assert work.microseconds(gpu, 1.5) == pytest.approx(2 + 1.5 * 8)
    assert work.microseconds(gpu, 1.5, reuse=True) == pytest.approx(2 + 1.5 * 3)


def tensor(*shape: int, dtype=torch.bfloat16, storage: int = 0) -> Operand:
    strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
    return Operand(shape, strides, dtype, storage)


def test_the_tensors_used_last_are_in_the_cache():
    a, b, c = (tensor(100, storage=i) for i in range(1, 4))  # 200 bytes each
    cache = Cache(450)
    assert cache.read([a]) == 0
    cache.use(b)
    assert cache.read([b, a]) == 400
    cache.use(c)  # and b goes
    assert cache.read([a, c]) == 400
    assert cache.read([b]) == 0
    assert cache.read([tensor(300, storage=9)]) == 0  # more than fits
    assert cache.held == {}


def aten(name: str, read: list[Operand], written: list[Operand]) -> Launch:
    moved = (sum(operand.bytes for operand in some) for some in (read, written))
    return Launch("forward", f"aten.{name}", "", tuple(read), tuple(written), *moved)


MAP, STATISTICS = tensor(256, 64, 13, 25), tensor(64, dtype=torch.float32)
MAP_BYTES = 2 * 256 * 64 * 13 * 25


def test_a_batch_norm_reads_its_input_twice():
    parts = library_kernels.kernels(
        aten("native_batch_norm", [MAP, STATISTICS], [MAP, STATISTICS, STATISTICS])
    )
    assert [part.part for part in parts] == ["statistics", "merge", "norm"]
    assert [part.bytes_read for part in parts] == [MAP_BYTES, 512, MAP_BYTES + 3 * 256]
    assert [part.bytes_written for part in parts] == [512, 512, MAP_BYTES]


@pytest.mark.parametrize("stride", [1, 2])
def test_each_gradient_of_a_convolution_is_a_kernel(stride):
    x, weight = tensor(256, 32, 25, 25), tensor(64, 32, 9, 1)
    gradient = tensor(256, 64, 26 // stride, 25)
    parts = library_kernels.kernels(
        aten("convolution_backward", [gradient, x, weight], [x, weight, tensor(64)])
    )
    flop = 2 * 256 * (26 // stride) * 25 * 64 * 32 * 9
    assert [part.part for part in parts] == ["input", "weight", "bias"]
    assert [part.flop for part in parts] == [flop, flop, 0]
    assert parts[0].bytes_read == gradient.bytes + weight.bytes
    assert parts[1].bytes_read == gradient.bytes + x.bytes
    assert parts[0].executed == 2 * flop  # 32 columns in a tile of 64


def test_matrices_and_their_blocks():
    a, b, out = tensor(12800, 25, 75), tensor(12800, 75, 16), tensor(12800, 25, 16)
    (part,) = library_kernels.kernels(aten("bmm", [a, b], [out]))
    assert part.flop == 2 * 12800 * 25 * 75 * 16
    assert part.executed == 2 * 12800 * 64 * 75 * 64
    assert (part.blocks, part.kind) == (12800, "bf16")
    (part,) = library_kernels.kernels(aten("relu", [MAP], [MAP]))
    assert (part.bytes_read, part.bytes_written, part.blocks) == (MAP_BYTES, MAP_BYTES, 10400)


def test_a_multi_tensor_operation_takes_as_many_kernels_as_its_tensors_need():
    many = [STATISTICS] * 130
    parts = library_kernels.kernels(aten("_foreach_copy_", many, many))
    assert len(parts) == 3  # of 64 tensors
    assert sum(part.bytes_read for part in parts) == 130 * 256


# --- Machine code --------------------------------------------------------------------------------

CODE = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDGSTS.E.BYPASS.128 [R5], desc[UR4][R2.64] ;
        /*0020*/                   IADD3 R2, R2, 0x10, RZ ;
        /*0030*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24 ;
        /*0040*/                   HMMA.16816.F32.BF16 R4, R8, R10, R4 ;
        /*0050*/               @P1 BRA 0x20 ;
        /*0060*/                   FFMA R3, R3, R3, R3 ;
        /*0070*/                   MUFU.EX2 R3, R3 ;
        /*0080*/              @!P2 BRA 0x10 ;
        /*0090*/                   EXIT ;
        /*00a0*/                   BRA 0xa0;
"""


def test_instructions_in_loops_count_as_often_as_these_run():
    counts = machine_code.executed(CODE, [3, 5])
    assert machine_code.loop_count(CODE) == 2
    assert counts.instructions == 1 + 3 * (1 + 5 * 4 + 3) + 2
    assert counts.flop == {"bf16": 15 * 2 * 64 * 128 * 16 / 4, "bf16 sync": 15 * 2 * 16 * 8 * 16}
    assert counts.fetched == 3 * 32 * 16
    assert counts.clocks == (1 + 3 * 24 + 2) / 4  # a warp takes a quarter of the issue slots
    slow = CODE.replace("IADD3 R2, R2, 0x10, RZ", "MUFU.EX2 R2, R2")
    assert machine_code.executed(slow, [3, 5]).clocks == 2 * (15 + 3)  # 16 lanes


SIZES = {"C_IN": 256, "C_OUT": 256, "BLOCK_C": 64, "K": 9, "TAPS": 1}
ROWS = {"batch": 256, "T_OUT": 13, "V": 25}


def test_loops_of_known_trips_are_unrolled_from_within():
    assert triton_kernels.trips("convolution_kernel", SIZES, 2) == [4, 9]
    assert triton_kernels.trips("convolution_kernel", SIZES, 1) == [4]
    assert triton_kernels.trips("convolution_kernel", SIZES | {"C_IN": 64}, 1) == [9]
    strided = SIZES | {"STRIDE": 2}
    assert triton_kernels.trips("convolution_gradient_kernel", strided, 2) == [4, 4.5]
    graph = {"frames": 3328, "BLOCK_F": 2, "programs": 132, "BLOCK_N": 64, "edge_partials": None}
    graph |= {"out": object()}  # all channels are needed, so that they are gone through
    assert triton_kernels.trips("spatial_gradients_kernel", SIZES | graph, 2) == [1664 / 132, 4]
    assert triton_kernels.trips("spatial_gradients_kernel", SIZES | graph, 1) == [1664 / 132]
    with pytest.raises(ValueError, match="0 loops in its code"):
        triton_kernels.trips("output_sums_kernel", {"steps": 3}, 0)
    with pytest.raises(ValueError, match="add it to LOOPS"):
        triton_kernels.trips("new_kernel", {}, 0)


def test_products_and_shared_reads():
    assert triton_kernels.products("convolution_kernel", SIZES | ROWS) == (
        2 * 256 * 13 * 25 * 9 * 256 * 256
    )
    assert triton_kernels.products("output_kernel", {}) == 0
    shared = {"P": 3, "BLOCK_P": 1, "BLOCK_N": 64, "out": None, "edge_partials": None}
    again = triton_kernels.read_again("spatial_gradients_kernel", SIZES | shared)
    assert again == {"x": 11, "gradient": 11, "before": 11}  # three parts, four blocks
    shared |= {"BLOCK_P": 4, "edge_partials": object()}
    again = triton_kernels.read_again("spatial_gradients_kernel", SIZES | shared)
    assert again == {"x": 0, "gradient": 3, "before": 3}


# --- Rows ----------------------------------------------------------------------------------------


def test_a_launch_that_the_gpu_cannot_hold_is_refused():
    launch = aten("relu", [MAP], [MAP])
    with pytest.raises(ValueError, match="H100 SXM cannot hold one block"):
        predicted("h100", "default", launch, "", Shape((8,), 512, 255), Work(1, 1), 0.0)


def test_sums_are_those_of_the_rows():
    launch = aten("relu", [MAP], [MAP])
    row = predicted("h100", "default", launch, "", Shape((8,), 128), Work(10, 20), 0.0)
    rows = [replace(row, count=3, us=2.0, reuse_us=1.0)]
    rows.append(replace(rows[0], count=2, us=5.0, megaflop=500.0))
    found = total(rows)
    assert found.kernels == 5
    assert found.ms == pytest.approx((3 * 2 + 2 * 5) / 1e3)
    assert found.reuse_ms == pytest.approx(5 / 1e3)
    assert found.gigabytes == pytest.approx(5 * 30 / 1e9)
    assert total(predict.grouped([*rows, *rows])).ms == pytest.approx(2 * found.ms)


def test_an_unknown_gpu_is_refused(capsys):
    with pytest.raises(SystemExit) as refused:
        predict.main(["--gpu", "v100"])
    assert refused.value.code == 2
    assert "no figures of GPU 'v100'; known are h100, a100, rtx4090" in capsys.readouterr().err
