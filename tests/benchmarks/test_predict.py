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
from missing import require
from predict import Cache, Shape, Work, predicted, total, wave_factor
from pretend_gpu import Launch, Operand

from aimclr_fast import native

H100 = GPUS["h100"]
#: Multiprocessors that wait for the fullest; a kernel that no longer has them leaves the list.
TAILS = {("triton.convolution_kernel", "700x1")}


@pytest.fixture(scope="module")
def committed() -> list[predict.Row]:
    return predict.read(predict.RESULTS / "predict_h100.csv")


@pytest.mark.parametrize(
    ("registers", "warps", "shared", "blocks"),
    [
        (64, 4, 0, 8),  # 65,536 / (64 * 128)
        (65, 4, 0, 7),  # 2,080 registers of a warp are 2,304
        (128, 8, 0, 2),
        (129, 8, 0, 1),  # one register more, half as many
        (32, 8, 0, 8),  # 64 warps
        (16, 1, 0, 32),  # blocks of a multiprocessor
        (80, 1, 0, 24),  # 2,560 of a quarter's 16,384: 6 warps, not a quarter of 25
        (40, 10, 0, 4),  # likewise 12, so 48 warps
        (40, 4, 73_728, 3),  # 228 KiB / (72 KiB + 1 KiB)
        (255, 16, 0, 0),
    ],
)
def test_blocks_that_fit(registers, warps, shared, blocks):
    assert PROCESSORS[90].at_once(registers, warps, shared) == 132 * blocks


@pytest.mark.parametrize(
    ("blocks", "factor"),
    [
        (132, 1.0),  # one for each of 132 multiprocessors
        (264, 1.0),
        (265, 396 / 265),  # one has three, and the average 265 / 132
        (200, 264 / 200),  # some have two
        (2112, 1.0),
        (2113, 2244 / 2113),  # one has 17, all others 16
        (33, 4.0),  # three quarters have none
    ],
)
def test_the_fullest_multiprocessor_against_an_average_one(blocks, factor):
    assert wave_factor(blocks, 132) == pytest.approx(factor)


def test_the_longest_limit_counts():
    gpu = replace(H100, memory=1e12, l2=1e13, launch=2e-6)
    work = Work(6e6, 2e6, bytes_cached=5e6, bytes_fetched=2e7, tensor=2.5e-6, issue=1e-6)
    # A multiprocessor with more blocks than others has no more bytes to wait for.
    wanted = {"memory": 8e-6, "cache": 2e-6, "tensor": 2 * 2.5e-6, "issue": 2 * 1e-6}
    assert work.seconds(gpu, 2, reuse=False) == pytest.approx(wanted)
    assert work.seconds(gpu, 2, reuse=True) == pytest.approx({**wanted, "memory": 3e-6})
    assert work.microseconds(gpu, 1) == pytest.approx(2 + 8)
    assert work.microseconds(gpu, 2) == pytest.approx(2 + 8)
    assert work.microseconds(gpu, 4) == pytest.approx(2 + 10)
    assert work.microseconds(gpu, 2, reuse=True) == pytest.approx(2 + 5)


def test_products_of_each_kind_at_their_rate():
    gpu = replace(H100, bf16=1e14, tf32=1e13, sync_share=0.5)
    flop = {"bf16": 1e8, "tf32 sync": 1e7}
    assert predict.tensor_seconds(gpu, flop) == pytest.approx(1e-6 + 2e-6)


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
        /*00a0*/                   BRA 0x60;
        /*00b0*/                   BRA 0xb0;
        /*00c0*/                   NOP ;
"""


def code_of(*names: str) -> str:
    """Machine code of these instructions, one after the other."""
    names = (*names, "EXIT")
    return "".join(f"        /*{16 * i:04x}*/  {name} R1, R1 ;\n" for i, name in enumerate(names))


def test_instructions_in_loops_count_as_often_as_these_run():
    counts = machine_code.executed(CODE, 90, [3, 5])
    assert machine_code.loop_count(CODE) == 2
    assert counts.instructions == 1 + 3 * (1 + 5 * 4 + 3) + 1
    assert counts.flop == {"bf16": 15 * 2 * 64 * 128 * 16 / 4, "bf16 sync": 15 * 2 * 16 * 8 * 16}
    assert counts.fetched == 3 * 32 * 16
    assert counts.clocks == (1 + 3 * 24 + 1) / 4  # a warp takes a quarter of the issue slots
    slow = CODE.replace("IADD3 R2, R2, 0x10, RZ", "MUFU.EX2 R2, R2")
    assert machine_code.executed(slow, 90, [3, 5]).clocks == 2 * (15 + 3)  # 16 lanes


@pytest.mark.parametrize(
    ("arch", "names", "clocks"),
    [
        (80, ["FFMA", "FADD", "FMUL", "FFMA"], 4 / 2),  # 64 lanes: half a warp of 32 a quarter
        (80, ["FFMA", "IMAD.WIDE", "FFMA", "IMAD"], 4 / 2),  # the same unit
        (80, ["FFMA", "IADD3", "FFMA", "IADD3"], 5 / 4),  # two units: as issued, with EXIT
        (86, ["FFMA", "FADD", "FMUL", "FFMA"], 5 / 4),  # 128 lanes
        (90, ["FFMA", "FADD", "FMUL", "FFMA"], 5 / 4),
        (90, ["FFMA", "FFMA", "IMAD", "IMAD"], 5 / 4),
        (90, ["IMAD", "IADD3", "IMAD", "LOP3.LUT"], 5 / 4),
        (90, ["IMAD", "IMAD", "IMAD", "IMAD"], 4 / 2),
        (90, ["VIADD", "VIADDMNMX", "IADD3", "VIADDMNMX.U32"], 4 / 2),
        (90, ["NOP", "VIADD", "NOP", "NOP"], 2 / 4),  # padding takes nothing
    ],
)
def test_the_busiest_unit_of_a_multiprocessor(arch, names, clocks):
    assert machine_code.executed(code_of(*names), arch).clocks == clocks


def test_code_that_ends_nowhere_is_refused():
    with pytest.raises(ValueError, match="nothing exits"):
        machine_code.executed("        /*0000*/  FADD R1, R1 ;\n", 90)


SIZES = {"C_IN": 256, "C_OUT": 256, "BLOCK_C": 64, "K": 9, "TAPS": 1}
ROWS = {"batch": 256, "T_OUT": 13, "V": 25}


def test_loops_of_known_trips_are_unrolled_from_within():
    window = SIZES | {"FRAMES": 2, "STRIDE": 1, "TAPS": 2}  # 10 frames, 2 at a time
    assert triton_kernels.trips("convolution_kernel", window, 2) == [4, 5]
    assert triton_kernels.trips("convolution_kernel", window, 1) == [4]
    assert triton_kernels.trips("convolution_kernel", window | {"C_IN": 64}, 1) == [5]
    assert triton_kernels.trips("convolution_kernel", window | {"FRAMES": 1}, 1) == [4 * 5]
    strided = SIZES | {"STRIDE": 2}
    assert triton_kernels.trips("convolution_gradient_kernel", strided, 1) == [4 * 4.5]
    graph = {"frames": 3328, "BLOCK_F": 2, "programs": 132, "BLOCK_N": 64, "edge_partials": None}
    graph |= {"out": object()}  # all channels are needed, so that they are gone through
    # The fullest of 132 programs has 13 of 1,664 tiles.
    assert triton_kernels.trips("spatial_gradients_kernel", SIZES | graph, 2) == [13, 4]
    assert triton_kernels.trips("spatial_gradients_kernel", SIZES | graph, 1) == [13]
    rows = {"rows": 3 * 64, "BLOCK_R": 64, "programs": 1}
    with pytest.raises(ValueError, match="0 loops in its code"):
        triton_kernels.trips("output_sums_kernel", rows, 0)
    with pytest.raises(ValueError, match="new_kernel is not known; add it to KERNELS"):
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
        predicted("h100", "default", launch, "", Shape((8,), 512, 255), Work(1, 1))


def test_samples_that_leave_processors_idle_are_shared_by_blocks():
    require(native.cuda_compiled(), "the library was built without CUDA kernels")
    grids = {n: predict.augment_shape(H100, (n, 3, 50, 25, 2)).grid for n in (128, 64, 16)}
    assert grids == {128: (128,), 64: (64, 2), 16: (16, 3)}


def test_every_row_follows_from_its_numbers(committed):
    """So that the model and the figures of the GPUs are those that the rows were written with."""
    for row in committed:
        shape = predict.shape_of(row)
        blocks = prod(shape.grid)
        assert row.at_once == shape.at_once(H100)
        assert row.waves == round(blocks / row.at_once, 3)
        factor = wave_factor(blocks, H100.processors)
        assert row.factor == round(factor, 3)
        work = replace(predict.work_of(row), bytes_cached=row.bytes_cached)
        for reuse, us in ((False, row.us), (True, row.reuse_us)):
            assert us == pytest.approx(work.microseconds(H100, factor, reuse), abs=0.003), row
        # What pads tiles can only add.
        assert row.executed >= 0.99 * row.megaflop, row


def test_no_other_kernels_end_unevenly(committed):
    assert {(row.operation, row.grid) for row in committed if row.tail} == TAILS


def test_a_tail_is_what_multiprocessors_wait_for():
    launch = aten("relu", [MAP], [MAP])

    def row(blocks: int, source: str = "compiled", **work: float) -> predict.Row:
        shape = Shape((blocks,), 128, registers=32, source=source)
        return predicted("h100", "triton", launch, "", shape, Work(10, 20, **work))

    assert row(265, issue=1e-5).tail
    assert row(200, tensor=1e-5).tail
    assert not row(264, issue=1e-5).tail
    assert not row(2113, issue=1e-5).tail  # 6 % more than the average
    assert not row(33, issue=1e-5).tail  # less than a block for each
    assert not row(265).tail  # bound by memory, which all share
    assert not row(265, "assumed", tensor=1e-5).tail


def of_package(read: Operand, written: Operand) -> Launch:
    launch = aten("", [read], [written])
    return replace(launch, name="cuda.op")


def test_known_kernels_take_their_turn_in_the_cache():
    a, b, c = (replace(MAP, storage=i) for i in (1, 2, 3))
    launches = [of_package(a, b), aten("relu", [b], [c]), of_package(a, b)]
    work = Work(MAP_BYTES, MAP_BYTES, bytes_cached=77.0, tensor=1e-6)
    known = predicted("h100", "default", launches[0], "", Shape((256,), 128, 32), work)
    first, relu, again = predict.predict("h100", "default", launches, [known])
    assert [row.bytes_cached for row in (first, relu, again)] == [0, MAP_BYTES, MAP_BYTES]
    assert first.reuse_us == first.us == again.us == known.us
    assert again.reuse_us == pytest.approx(1.5 + 1e6 * MAP_BYTES / H100.memory, abs=0.01)
    assert known.tensor_us == pytest.approx(264 / 256, abs=0.001)
    assert (again.registers, again.tensor_us) == (32, known.tensor_us)


def test_kernels_that_are_not_known_are_refused():
    launch = of_package(MAP, MAP)
    work = Work(MAP_BYTES, MAP_BYTES)
    known = predicted("h100", "default", launch, "", Shape((256,), 128, 32), work)
    assert predict.predict("h100", "default", [launch], [known]) == [known]
    for changed in (
        replace(known, grid="255"),
        replace(known, bytes_read=1),
        replace(known, encoder="triton"),
    ):
        with pytest.raises(ValueError, match="256 blocks: not among the known"):
            predict.predict("h100", "default", [launch], [changed])
    with pytest.raises(ValueError, match="two kernels are alike"):
        predict.predict("h100", "default", [launch], [known, replace(known, registers=33)])


def test_a_product_with_few_tiles_fills_the_gpu_that_is_asked_for():
    a, b, out = tensor(120 * 128, 256), tensor(256, 128), tensor(120 * 128, 128)
    launch = aten("mm", [a, b], [out])  # 120 tiles
    grids = {gpu: predict.predict(gpu, "default", [launch])[0].grid for gpu in ("h100", "a100")}
    assert grids == {"h100": "132", "a100": "120"}


def test_sums_are_those_of_the_rows():
    launch = aten("relu", [MAP], [MAP])
    row = predicted("h100", "default", launch, "", Shape((8,), 128), Work(10, 20))
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


def test_kernels_by_name_beside_those_of_before(capsys):
    launch = of_package(MAP, MAP)
    work = Work(MAP_BYTES, MAP_BYTES, issue=1e-5)
    row = predicted("h100", "triton", launch, "", Shape((265,), 128, 64, local_bytes=8), work)
    other = replace(row, registers=96, local_bytes=0, grid="264", factor=1.0, count=3, us=2.0)
    assumed = predicted("h100", "triton", launch, "", Shape((8,), 128, source="assumed"), work)
    predict.show_blocks([row, other, assumed], [replace(row, us=7.5, reuse_us=1.5)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    ms, reuse = (row.us + 6) / 1e3, 4 * row.reuse_us / 1e3
    megabytes = f"{4 * 2 * MAP_BYTES / 1e6:.1f}"
    now = ["4", f"{ms:.3f}", f"{reuse:.3f}", megabytes, "64-96", "8", "1", "issue"]
    before = ["1", "0.007", "0.002", f"{2 * MAP_BYTES / 1e6:.1f}", "64", "8", "1", "issue"]
    assert sorted(lines) == sorted(
        [["all", *now], ["before", *before], ["cuda.op", *now], ["before", *before]]
    )


def test_a_file_of_other_columns_is_refused(tmp_path, capsys):
    (tmp_path / "old.csv").write_text("gpu,encoder\nh100,triton\n")
    for name, said in (("old.csv", "no columns at_once, bound"), ("none.csv", "No such file")):
        with pytest.raises(SystemExit) as refused:
            predict.main(["--blocks", str(tmp_path / name)])
        assert refused.value.code == 2
        told = capsys.readouterr().err
        assert said in told
        assert name in told
