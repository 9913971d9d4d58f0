"""What the ops should give, for ops.py: in float64, from the reference and from formulas.

One function an op, of the op's arguments by name, with what the op gave. Each returns pairs of a
result and the expected one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from aimclr_fast.functional import STREAMS, AugmentConfig, AugmentParams
from aimclr_fast.ops import queue_contrast as queue_op
from aimclr_fast.ops.skeleton_augment import _AMPLITUDES, scale_of
from aimclr_fast.reference import eadm_pool as pool
from aimclr_fast.reference import masked_pool as masked
from aimclr_fast.reference import queue_contrast as contrast
from aimclr_fast.reference import skelemix as mix
from aimclr_fast.reference import skeleton_augment as augment
from aimclr_fast.reference import stgcn_block as block

Arguments = dict[str, Any]
Pairs = Iterator[tuple[Tensor, Tensor]]
PARAMS = (
    "crop_start", "shear", "spatial_flip", "rotation_angles", "blur_sigma", "axis_mask",
    "temporal_flip",
)  # fmt: skip


def wide(value: Any) -> Any:
    """Floating-point tensors as new leaves in float64."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().contiguous().requires_grad_()
    return value


def _tables(given: Arguments) -> dict[str, Tensor]:
    return {name: torch.tensor(list(given[name])) for name in ("swap", "parents")}


def _augmented(given: Arguments, x: Tensor, noise: Tensor | None) -> Tensor:
    return augment.apply_augment(
        x,
        AugmentParams(**{name: wide(given[name]) for name in PARAMS}),
        **_tables(given),
        stream=STREAMS[given["stream"]],
        noise=noise,
        crop_ratio=given["crop_ratio"],
        blur_taps=given["blur_taps"],
        blur_normalize=given["blur_normalize"],
    )


def apply_augment(given: Arguments, found: list[Tensor]) -> Pairs:
    yield found[0], _augmented(given, wide(given["x"]), wide(given["noise"]))


def apply_augment_backward(given: Arguments, found: list[Tensor]) -> Pairs:
    grad = wide(given["grad"])
    inputs = [torch.zeros_like(grad, requires_grad=True) for _ in range(2)]
    expected = torch.autograd.grad(_augmented(given, *inputs), inputs, grad, allow_unused=True)
    for got, want, wanted in zip(found, expected, given["wanted"], strict=True):
        yield got, (want if want is not None else torch.zeros_like(grad)) if wanted else got[:0]


def _mask(bits: Tensor, frames: int) -> Tensor:
    """[B, C, T, V] of the elements' bits [B, C, octets, V]."""
    places = torch.arange(8, dtype=torch.uint8)[:, None]
    return ((bits[:, :, :, None] >> places) & 1).flatten(2, 3)[:, :, :frames].double()


def eadm_pool(given: Arguments, found: list[Tensor]) -> Pairs:
    x, keep_prob = wide(given["x"]).detach(), given["keep_prob"]
    pooled, pooled_drop, bits, kept_joints, scale = found
    yield pooled, x.mean((2, 3))
    mask = _mask(bits, x.shape[2])
    joints = kept_joints[:, None, None, :].double()
    yield pooled_drop, (x * mask * joints).mean((2, 3)) * scale.double()
    # Rounding may move what lies at the threshold.
    attention = pool.attention(x, given["e_lambda"])
    sure = (attention - keep_prob).abs() > 1e-3
    yield mask[sure], (attention < keep_prob)[sure].double()
    counts = [share.numel() / max(share.sum().item(), 1) for share in (mask, joints)]
    if x.numel():
        yield scale, torch.tensor([counts[0] * counts[1]])


def eadm_pool_backward(given: Arguments, found: list[Tensor]) -> Pairs:
    plain, drop = (wide(given[name])[:, :, None, None] for name in ("grad_pooled", "grad_drop"))
    mask = _mask(given["bits"], given["frames"]) * (given["kept_joints"] != 0)[:, None, None, :]
    (dx,) = found
    yield dx, (plain + drop * mask * given["scale"].double()) / (dx.shape[2] * dx.shape[3])


def masked_pool(given: Arguments, found: list[Tensor]) -> Pairs:
    yield from zip(found, masked.masked_pool(wide(given["features"]), given["mask"]), strict=True)


def masked_pool_backward(given: Arguments, found: list[Tensor]) -> Pairs:
    (dx,) = found
    x = torch.zeros(dx.shape, dtype=torch.float64, requires_grad=True)
    means = masked.masked_pool(x, given["mask"])
    grads = [wide(given[name]) for name in ("grad_inside", "grad_outside")]
    yield dx, torch.autograd.grad(means, x, grads)[0]


def queue_contrast(given: Arguments, found: list[Tensor]) -> Pairs:
    call = queue_op.Call(**given)
    rows = wide(call.stacked("rows", torch.float64))
    keys, queues = call.stacked("keys", torch.float64), [wide(queue) for queue in call.queues]
    settings = call.terms, call.temperature, call.topk, call.votes
    losses, neighbors, counts = contrast.queue_losses(rows, keys, queues, *settings)
    # Equally near keys may change places.
    for of_stream, queue, *indices in zip(rows, queues, found[1], neighbors, strict=True):
        for at, miner in enumerate(call.miners):
            similar = of_stream[miner] @ queue.T
            yield tuple(similar.gather(1, index[:, at]) for index in indices)
    if torch.equal(found[1].sort().values, neighbors.sort().values):
        yield found[0], losses
        yield found[2], counts
        yield found[3], torch.autograd.grad(losses.sum(), rows)[0]


def skeleton_augment(given: Arguments, found: list[Tensor]) -> Pairs:
    expected = augment.skeleton_augment_streams(
        given["data"],
        given["index"],
        **_tables(given),
        config=AugmentConfig(
            crop_ratio=given["crop_ratio"],
            blur_taps=given["blur_taps"],
            blur_normalize=given["blur_normalize"],
            **dict(zip(_AMPLITUDES, given["amplitudes"], strict=True)),
        ),
        seed=given["key"][0] | given["key"][1] << 32,
        step=given["step"] if given["step_tensor"] is None else given["step_tensor"],
        offset=given["offset"],
        streams=[STREAMS[stream] for stream in given["streams"]],
        views=[augment.VIEWS[view] for view in given["views"]],
        scale=scale_of(given["data"]),
    )
    yield from zip(found, (view for views in expected for view in views), strict=True)


def skelemix(given: Arguments, found: list[Tensor]) -> Pairs:
    part_of = list(given["part_of"])
    views, mask, partner = mix.skelemix(
        given["query"],
        body_parts=[[v for v, of in enumerate(part_of) if of == part] for part in range(5)],
        parents=torch.tensor(list(given["parents"])),
        config=mix.MixConfig(*given["settings"]),
        seed=given["key"][0] | given["key"][1] << 32,
        step=given["step"] if given["step_tensor"] is None else given["step_tensor"],
        streams=[STREAMS[stream] for stream in given["streams"]],
    )
    yield from zip(found, [*views, mask, partner], strict=True)


BLOCK = (
    "x", "adjacency", "spatial_weight", "spatial_bias", "temporal_weight", "temporal_bias",
    "norms", "residual_weight", "residual_bias", "running", "keep",
)  # fmt: skip


def _block(given: Arguments) -> tuple[dict[str, Any], Tensor, Tensor]:
    inputs = {name: wide(given[name]) for name in BLOCK}
    if inputs["running"] is not None:
        inputs["running"] = inputs["running"].detach()
    if inputs["keep"] is not None and inputs["keep"].dim() == 1:
        batch, _, frames, joints = inputs["x"].shape
        shape = batch, -(-frames // given["stride"]), joints, len(inputs["temporal_bias"])
        keep = block.unpacked(inputs["keep"], math.prod(shape)).view(shape)
        inputs["keep"] = keep.permute(0, 3, 1, 2)
    settings = [given[name] for name in ("identity", "scale", "stride", "eps")]
    return inputs, *block.stgcn_block(*inputs.values(), *settings)


def stgcn_block(given: Arguments, found: list[Tensor]) -> Pairs:
    _, y, statistics = _block(given)
    yield found[0], y
    yield found[1], statistics[None]  # of one group


def stgcn_block_backward(given: Arguments, found: list[Tensor]) -> Pairs:
    inputs, y, _ = _block(given)
    of = {name: inputs[name] for name in BLOCK[:9] if inputs[name] is not None}
    expected = torch.autograd.grad(y, list(of.values()), wide(given["grad_y"]), allow_unused=True)
    by_name = dict(zip(of, expected, strict=True))
    for name, got in zip(BLOCK, found, strict=False):
        want = by_name.get(name)
        yield got, torch.zeros_like(got) if want is None else want


#: By op. Gradients of the block are compared where single values decide less: in float64.
EXPECTED: dict[str, Callable[[Arguments, list[Tensor]], Pairs]] = {
    function.__name__: function
    for function in (
        apply_augment, apply_augment_backward, eadm_pool, eadm_pool_backward, masked_pool,
        masked_pool_backward, queue_contrast, skelemix, skeleton_augment, stgcn_block,
        stgcn_block_backward,
    )
}  # fmt: skip
