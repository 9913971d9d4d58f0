"""The folded encoder against the one it was folded from."""

from __future__ import annotations

import copy

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder
from aimclr_fast.nn.folded import fold
from aimclr_fast.nn.readouts import READOUTS

LAYOUTS = ("coco", "nw-ucla", "ui-prmd", "ntu-rgb+d", "mediapipe")  # 17, 20, 22, 25 and 33 joints
ORDERS = {"channels last": True, "contiguous": False}


def trained(layout: str = "ui-prmd", dtype: torch.dtype = torch.float64, **sizes: int) -> STGCN:
    """In eval mode, with parameters and statistics that all differ from those of a new one."""
    torch.manual_seed(0)
    backbone = STGCN(layout, **{"channels": 4, "features": 12} | sizes).to(dtype)
    for name, tensor in backbone.named_parameters():
        if "norm" in name or "importance" in name or ".residual.1." in name:
            tensor.data.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            tensor.data.uniform_(-0.5, 0.5)
    with torch.no_grad():  # statistics of one batch, moved, so that ReLUs leave something
        backbone(sequences(layout, 6, 16, 1, dtype))
    for name, tensor in backbone.named_buffers():
        if name.endswith("running_mean"):
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return backbone.eval().requires_grad_(False)


def sequences(
    layout: str, samples: int, frames: int, bodies: int, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    return torch.randn(samples, 3, frames, get_layout(layout).num_joints, bodies, dtype=dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_maps_and_readouts_are_those_of_the_encoder(layout, order, dtype):
    """For odd lengths, one frame (both strides then keep it), one body and two."""
    backbone = trained(layout, dtype)
    encoder = SkeletonEncoder(backbone, 6)
    folded = SkeletonEncoder(backbone, 6)
    folded.backbone = fold(backbone, channels_last=ORDERS[order])
    for samples, frames, bodies in ((2, 13, 2), (1, 1, 1), (3, 16, 1), (1, 2, 2)):
        x = sequences(layout, samples, frames, bodies, dtype)
        expected = backbone(x)
        assert (expected > 0).double().mean() > 0.1
        assert_near(folded.backbone(x), expected, gradient=True, dtype=dtype)
        for pool in READOUTS:
            if pool != "parts" or backbone.layout.body_parts:
                wanted = encoder.features(x, pool)
                assert_near(folded.features(x, pool), wanted, gradient=True, dtype=dtype, what=pool)


@pytest.mark.parametrize("order", ORDERS)
def test_other_widths_coordinates_and_kernels(order):
    """More coordinates than channels, all neighbors as one part, three taps."""
    sizes = {"channels": 2, "features": 5, "in_channels": 4, "temporal_kernel": 3}
    torch.manual_seed(0)
    backbone = STGCN("coco", strategy="uniform", **sizes).double().eval()
    x = torch.randn(2, 4, 9, 17, 1, dtype=torch.float64)
    folded = fold(backbone, channels_last=ORDERS[order])
    assert_near(folded(x), backbone(x), gradient=True, dtype=torch.float64)


def test_each_norm_has_its_part():
    """A change of any one parameter or statistic changes the folded encoder alike."""
    backbone = trained()
    x = sequences("ui-prmd", 2, 9, 1)
    before = fold(backbone)(x)
    block = backbone.blocks[4]  # strided, with a residual convolution
    for module in (
        backbone.input_norm, block.spatial_norm, block.temporal_norm, block.residual[1],
        block.spatial.conv, block.temporal, block.residual[0], backbone.edge_importance,
    ):  # fmt: skip
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            kept = tensor.clone()
            tensor.data.mul_(1.3)
            after = fold(backbone)(x)
            assert_near(after, backbone(x), gradient=True, dtype=torch.float64, what=name)
            assert not torch.allclose(after, before), f"{type(module).__name__} {name}"
            tensor.data.copy_(kept)


def test_half_precision_is_as_near_as_autocast():
    """Far from the origin, too, where only the input norm brings positions to a common size."""
    backbone = trained(dtype=torch.float32, channels=16, features=32)
    backbone.input_norm.running_mean += 20.0
    x = sequences("ui-prmd", 4, 24, 1, torch.float32) + 20.0
    exact = copy.deepcopy(backbone).double()(x.double())
    folded = fold(backbone, torch.bfloat16)
    assert {buffer.dtype for buffer in folded.blocks.buffers()} == {torch.bfloat16}
    found = folded(x)
    assert found.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        usual = backbone(x)
    off = [float((y.double() - exact).abs().mean() / exact.abs().mean()) for y in (found, usual)]
    assert off[0] < 1.5 * off[1]
    assert off[0] < 0.02


def test_memory_is_not_shared_and_nothing_is_a_parameter():
    backbone = trained()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    folded = fold(backbone)
    x = sequences("ui-prmd", 1, 9, 1)
    expected = folded(x)
    assert not list(folded.parameters())
    assert not any(
        isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in folded.modules()
    )
    copied = copy.deepcopy(folded)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        tensor.zero_()
    assert torch.equal(folded(x), expected)
    for buffer in folded.buffers():
        buffer.zero_()
    assert torch.equal(copied(x), expected)
    again = fold(trained(dtype=torch.float32), torch.float64)
    again.load_state_dict(copied.state_dict())
    assert torch.equal(again(x), expected)


def test_what_cannot_be_folded():
    backbone = trained()
    with pytest.raises(ValueError, match=r"call eval\(\) first: the backbone is in training mode"):
        fold(copy.deepcopy(backbone).train())
    partly = copy.deepcopy(backbone)
    partly.blocks[3].temporal_norm.train()
    with pytest.raises(ValueError, match=r"blocks\.3\.temporal_norm is in training mode"):
        fold(partly)
    with pytest.raises(TypeError, match="expected an STGCN to fold, got SkeletonEncoder"):
        fold(SkeletonEncoder(backbone, 6))
    with pytest.raises(TypeError, match=r"floating point one, got torch\.int8"):
        fold(backbone, torch.int8)
    folded = fold(backbone)
    with pytest.raises(ValueError, match="cannot be trained"):
        folded.train()
    assert not folded.eval().training
    with pytest.raises(ValueError, match=r"of layout 'ui-prmd', got \[2, 3, 9, 17, 1\]"):
        folded(sequences("coco", 2, 9, 1))
