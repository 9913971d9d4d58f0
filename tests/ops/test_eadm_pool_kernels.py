"""What is particular to one backend of eadm_pool: conversions, threads, tiles, registers."""

from __future__ import annotations

import pytest
import torch
import triton_published as published
from tolerances import assert_near
from triton_aot import ARCHS, assert_no_spills, compile_published
from triton_published import NTU_MAP as NTU

from aimclr_fast import native
from aimclr_fast.functional import eadm_pool
from aimclr_fast.reference import eadm_pool as reference
from aimclr_fast.triton_kernels import eadm_pool as kernels
from aimclr_fast.triton_kernels import eadm_pool_tiles as tiles

forward = torch.ops.aimclr_fast.eadm_pool
backward = torch.ops.aimclr_fast.eadm_pool_backward


# --- C++ -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_is_widened_exactly(dtype):
    values = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)
    pooled, *_ = forward(values.view(1, -1, 1, 1), 0.7, 1e-4, "cpp")
    assert torch.equal(pooled[0].nan_to_num(7.0), values.float().nan_to_num(7.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_are_rounded_as_torch_does(dtype):
    torch.manual_seed(0)
    bits = torch.randint(-(1 << 31), 1 << 31, (1 << 16,)).to(torch.int32)
    near_halves = torch.randint(0, 1 << 16, (1 << 14,)).to(torch.int16).view(dtype).float()
    ties = (near_halves.view(torch.int32) + (1 << 15 if dtype == torch.bfloat16 else 1 << 12)).view(
        torch.float32
    )
    special = torch.tensor([0.0, -0.0, 65504, 65519, 65520, 65536, 2**-24, 2**-25, 2**-26, 3e38])
    grad = torch.cat([bits.view(torch.float32), near_halves, ties, -ties, special])[None]
    x = torch.zeros(*grad.shape, 1, 1, dtype=dtype)
    saved = forward(x, 0.7, 1e-4, "cpp")[2:]
    dx = backward(grad, torch.zeros_like(grad), *saved, 1, False, dtype, "cpp")
    assert torch.equal(dx.flatten().nan_to_num(7.0), grad[0].to(dtype).nan_to_num(7.0))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_result_does_not_depend_on_the_threads(memory_format):
    torch.manual_seed(0)
    x = torch.randn(7, 40, 13, 25).contiguous(memory_format=memory_format)
    last = memory_format == torch.channels_last
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 64):
            torch.set_num_threads(threads)
            out = forward(x, 0.7, 1e-4, "cpp")
            results.append([*out, backward(*out, 13, last, x.dtype, "cpp")])
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], result, strict=True))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_long_rows_keep_their_accuracy(memory_format):
    torch.manual_seed(0)
    x = (1000 + torch.randn(1, 2, 3000, 25)).contiguous(memory_format=memory_format)
    pooled, *_ = forward(x, 0.7, 1e-4, "cpp")
    ulp = 2**-14  # of a float32 near 1000
    assert (pooled.double() - x.double().mean((2, 3))).abs().max() <= ulp


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "nor 0"),
        ({"batch": -1}, "must not be negative"),
        ({"threads": 0}, "must not be negative"),
        ({"keep_prob": 0.0}, "keep_prob must lie in"),
        ({"keep_prob": float("nan")}, "keep_prob must lie in"),
        ({"e_lambda": 0.0}, "e_lambda above 0"),
        ({"x": 0}, "null pointer"),
    ],
)
def test_bad_arguments(changes, message):
    x = torch.zeros(4096)
    shape = {"batch": 1, "channels": 2, "frames": 3, "joints": 4, "channels_last": False}
    call = {"keep_prob": 0.7, "e_lambda": 1e-4, "threads": 1, "workspace": x.data_ptr()}
    call |= dict.fromkeys(("x", "pooled", "pooled_drop", "bits", "kept_joints", "scale"), 64)
    for name, value in changes.items():
        (shape if name in shape else call)[name] = value
    with pytest.raises(ValueError, match=message):
        native.load().eadm_pool_forward_f32_cpu(shape=shape, **call)


# --- Triton --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", published.MAPS, ids=str)
def test_compiled_ahead_of_time_nothing_spills(shape, dtype, last):
    launches = compile_published(published.eadm_pool(shape, dtype, last))
    names = {launch.kernel for launch in launches}
    assert names == {"forward_kernel", "drop_kernel", "backward_kernel"}
    assert len(launches) == len(ARCHS) * len(names)
    assert_no_spills(launches)
    if shape != NTU:
        return
    # The map passes through registers once, and frames that pad a tile are not computed: a thread
    # has 13 of 16 frames, of one item of the plane or (channels-last) of two.
    for launch in launches:
        if launch.kernel == "forward_kernel":
            assert launch.ptx.count("ex2.approx") in (13, 26)
            assert launch.registers * 32 * 16 <= 1 << 16  # 16 warps a processor, at least


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("sizes", [(256, 13, 25), (256, 50, 17), (64, 16, 50), (3, 1, 1)])
def test_real_maps_are_read_once(sizes, last):
    assert tiles.forward_tile(sizes, last).one_tile
    assert not tiles.forward_tile((64, 100_000, 25), last).one_tile


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("joints", [1, 17, 25, 133, 1000])
@pytest.mark.parametrize("frames", [1, 13, 75, 300, 5000])
def test_tiles_stay_in_registers(frames, joints, last):
    for tile in (tiles.forward_tile, tiles.backward_tile):
        chosen = tile((256, frames, joints), last)
        assert chosen.per_thread() <= tiles.MAX_PER_THREAD
        assert chosen.block_v >= joints
        assert not chosen.one_tile or chosen.block_o * 8 >= frames
        dropped = tiles.drop_channels(256, chosen.block_v, last) * chosen.block_v
        assert dropped <= 32 * tiles.DROP_WARPS * tiles.MAX_PER_THREAD


@pytest.mark.skipif(torch.cuda.is_available(), reason="runs in Triton's interpreter")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_maps_too_long_for_one_tile(memory_format, monkeypatch):
    monkeypatch.setattr(tiles, "MAX_PER_THREAD", 2)
    torch.manual_seed(0)
    x = torch.randn(2, 5, 43, 25).contiguous(memory_format=memory_format).requires_grad_()
    last = memory_format == torch.channels_last
    assert not tiles.forward_tile(x.shape[1:], last).one_tile
    outputs, expected = eadm_pool(x, backend="triton"), reference.eadm_pool(x)
    for got, wanted in zip(outputs, expected, strict=True):
        assert_near(got, wanted)
    grads = torch.randn(2, *x.shape[:2]).unbind()
    (got,), (wanted,) = (torch.autograd.grad(out, x, grads) for out in (outputs, expected))
    assert_near(got, wanted, gradient=True)


@pytest.mark.parametrize(
    ("batch", "joints", "programs"),
    [(256, 25, 2), (4096, 25, 2), (255, 25, 4), (64, 25, 8), (1, 25, 16), (64, 7, 7), (256, 1, 1)],
)
def test_few_samples_have_more_programs(batch, joints, programs):
    assert tiles.programs_of(batch, joints) == programs


@pytest.mark.skipif(torch.cuda.is_available(), reason="runs in Triton's interpreter")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("joints", [7, 2])
def test_programs_share_the_channels_of_a_sample(joints, memory_format, monkeypatch):
    """The last one has a block without channels; all count the joints of the batch in turns."""
    monkeypatch.setattr(tiles, "COUNTED", 8)
    monkeypatch.setattr(tiles, "PROGRAMS", 24)  # four of a sample, or as many as it has joints
    torch.manual_seed(0)
    x = torch.randn(6, 70, 3, joints).contiguous(memory_format=memory_format)
    # Joints that move far get much attention: some are dropped, and some are kept.
    x[:, :, :, ::2] *= 1 + torch.arange(6)[:, None, None, None]
    got = forward(x, 0.67, 1e-4, "triton")
    wanted = forward(x, 0.67, 1e-4, "cpp")
    assert 0 < got[3].sum() < got[3].numel()
    assert torch.equal(got[2], wanted[2])
    assert torch.equal(got[3], wanted[3])
    for mine, other in zip((*got[:2], got[4]), (*wanted[:2], wanted[4]), strict=True):
        assert_near(mine, other)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1 << 16, 1 << 10, 32), r"fewer than 2\^31 values per sample"),
        ((1 << 27, 1, 1, 8), r"fewer than 2\^30 joints in all"),
    ],
)
def test_maps_beyond_32_bit_offsets_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        kernels.check_size(torch.empty(shape, device="meta"))


# --- On a GPU ------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.published
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_real_size(dtype, memory_format):
    torch.manual_seed(0)
    x = torch.randn(NTU, device="cuda").relu().to(dtype).contiguous(memory_format=memory_format)
    grads = torch.randn(2, *NTU[:2], device="cuda").unbind()
    out = forward(x, 0.7, 1e-4, "triton")
    last = memory_format == torch.channels_last
    dx = backward(*grads, *out[2:], 13, last, dtype, "triton")
    on_cpu = x.cpu()
    expected = forward(on_cpu, 0.7, 1e-4, "cpp")
    # Attention on the threshold may fall on either side, which moves the batch's counts a little.
    differing = (out[2].cpu() ^ expected[2]).count_nonzero()
    assert differing <= x.numel() * 1e-6
    assert torch.equal(out[3].cpu(), expected[3])
    assert_near(out[0].cpu(), expected[0])
    saved = (out[2].cpu(), out[3].cpu(), out[4].cpu())
    wanted = backward(*(g.cpu() for g in grads), *saved, 13, last, dtype, "cpp")
    assert_near(dx.cpu(), wanted, gradient=True, dtype=dtype)


@pytest.mark.cuda
@pytest.mark.smoke
def test_runs_on_the_current_stream_and_in_a_graph():
    torch.manual_seed(0)
    x = torch.randn(4, 32, 13, 25, device="cuda", requires_grad=True)

    def step():
        pooled, pooled_drop = eadm_pool(x, backend="triton")
        return torch.autograd.grad((pooled * pooled_drop).sum(), x)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        wanted = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = step()
    got.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(got, wanted)
