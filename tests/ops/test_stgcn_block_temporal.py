"""Convolutions over time in stgcn_block: tiles of half precision in float32, groups of samples."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ops.test_stgcn_block import Case, assert_equal
from ops.test_stgcn_block_kernels import CASES, both

from aimclr_fast.triton_kernels import stgcn_block as kernels
from aimclr_fast.triton_kernels import stgcn_block_shapes as shapes

WINDOWS = [
    *CASES,
    Case(1, 16, 16, 17, 5),  # frames that fill no window
    Case(2, 16, 32, 11, 3, stride=2, residual="convolution"),
    Case(1, 64, 64, 4, 3),
    Case(1, 4, 136, 3, 3, taps=3, residual="none"),  # too wide for windows
]


@pytest.fixture
def tiles_of_bf16(monkeypatch):
    """Shapes of half precision, whatever numbers are multiplied."""
    for name, at in (("temporal", 4), ("temporal_backward", 2), ("temporal_weight", 4)):
        shape = getattr(shapes, name)

        def of_bf16(*sizes, shape=shape, at=at, **options):
            return shape(*sizes[:at], "bf16", *sizes[at + 1 :], **options)

        monkeypatch.setattr(shapes, name, of_bf16)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
@pytest.mark.usefixtures("tiles_of_bf16")
def test_tiles_of_half_precision_equal_the_reference_in_float64(case):
    got, wanted = both(case, torch.float32, "cpu")
    assert_equal(got, wanted, case, torch.float32)


def gradients_like(call):
    out = {name: torch.empty_like(getattr(call, name)) for name in ("temporal_weight", "norms")}
    return SimpleNamespace(**out)


@pytest.mark.parametrize("channels", [16, 40])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.usefixtures("tiles_of_bf16")
def test_each_group_of_samples_has_its_own_statistics(channels, stride, monkeypatch):
    """Two groups in one launch leave what two launches leave."""
    torch.manual_seed(0)
    samples, frames, joints, taps = 3, 5, 4, 3
    last = torch.channels_last
    short = -(-frames // stride)
    spatial = torch.randn(2 * samples, channels, frames, joints).contiguous(memory_format=last)
    gradient = torch.randn(2 * samples, channels, short, joints).contiguous(memory_format=last)
    statistics = torch.rand(2, 2, 2, channels) + 0.5
    norms, bias = torch.randn(2, 2, channels), torch.randn(channels)
    weight = torch.randn(channels, channels, taps, 1)
    found: list[tuple[torch.Tensor, ...]] = []

    def merge_statistics(counts, partials, _):
        found.append((counts, partials))

    def merge_gradient(b, partials, *_):
        found.append((partials,))

    monkeypatch.setattr(kernels, "_merge_statistics", merge_statistics)
    monkeypatch.setattr(kernels, "_merge_gradient", merge_gradient)

    def run(groups, chosen, statistics):
        found.clear()
        before, incoming = spatial[chosen], gradient[chosen]
        block = kernels.Block(
            groups, len(before) // groups, channels, channels, frames, short, joints, 3, taps,
            stride, 1e-5, True, 0, "ieee", 4,
        )  # fmt: skip
        out = torch.empty_like(incoming)
        kernels._convolution(
            block, before, (statistics[..., 0, :, :], norms[0]),
            weight.squeeze(3).permute(2, 0, 1).contiguous(), bias, out, statistics[..., 1, :, :],
        )  # fmt: skip
        call = SimpleNamespace(
            spatial=before, statistics=statistics, norms=norms, temporal_weight=weight
        )
        of = gradients_like(call)
        grad, _ = kernels._convolution_gradients(call, block, incoming, of)
        return out, grad, of.temporal_weight, [t for some in found for t in some]

    together = run(2, slice(None), statistics)
    apart = [
        run(1, slice(group * samples, (group + 1) * samples), statistics[group])
        for group in range(2)
    ]
    for index in range(2):
        assert torch.equal(together[index], torch.cat([each[index] for each in apart]))
    torch.testing.assert_close(together[2], apart[0][2] + apart[1][2])
    counts, statistics_parts, sums = together[3]
    for index, parts in enumerate((counts, statistics_parts)):
        assert torch.equal(parts, torch.cat([each[3][index] for each in apart]))
    for group, part in enumerate(sums.chunk(2)):
        torch.testing.assert_close(part.sum(0), apart[group][3][2].sum(0))
