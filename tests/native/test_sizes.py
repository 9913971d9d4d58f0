"""The library's functions under sizes and addresses that cannot be right: errors, not crashes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aimclr_fast import native

SHAPE = {
    "batch": 2, "in": 3, "out": 4, "frames": 5, "joints": 6, "parts": 1, "taps": 3, "stride": 1,
}  # fmt: skip
INPUTS = (
    "x", "adjacency", "spatial_weight", "spatial_bias", "temporal_weight", "temporal_bias", "norms",
    "residual_weight", "residual_bias", "running", "keep",
)  # fmt: skip
MAPS = ["y", "statistics", "spatial", "temporal", "shortcut"]
GRADIENTS = [f"d_{name}" for name in INPUTS[:9]]
ODD = (-1, -(2**62), 2**41, 2**62, 2**63 - 1)


def block_call(function: Callable[..., object], tensors: list[str]) -> Callable[..., object]:
    """A pass of stgcn_block as a function of its sizes."""

    def call(*sizes: int) -> None:
        function(
            **dict.fromkeys([*INPUTS, *tensors], 0), shape=dict(zip(SHAPE, sizes, strict=True)),
            keep_bytes=0, identity=False, scale=1.0, eps=1e-5, workspace=64, threads=1,
        )  # fmt: skip

    return call


def calls() -> dict[str, tuple[Callable[..., object], list[int], list[object], list[object]]]:
    """By name: a function, good sizes, and what comes before and after them; addresses are null."""
    library = native.load()
    found = {}
    for dtype in ("f32", "f64"):
        forward, backward = (
            getattr(library, f"stgcn_block_{name}_{dtype}_cpu") for name in ("forward", "backward")
        )
        sizes = list(SHAPE.values())
        found[f"block forward {dtype}"] = (block_call(forward, MAPS), sizes, [], [])
        found[f"block backward {dtype}"] = (
            block_call(backward, ["grad_y", *MAPS, *GRADIENTS]), sizes, [], [],
        )  # fmt: skip
    found["philox"] = (
        lambda n: library.philox4x32_cpu(counters=0, key0=1, key1=2, out=0, n=n, threads=1),
        [3], [], [],
    )  # fmt: skip
    return found


def test_sizes_and_null():
    for call, sizes, before, after in calls().values():
        with pytest.raises(ValueError, match="null pointer"):
            call(*before, *sizes, *after)
        for place in range(len(sizes)):
            for odd in ODD:
                changed = [*sizes[:place], odd, *sizes[place + 1 :]]
                with pytest.raises(ValueError, match=r"size|positive|negative|large|taps|topk"):
                    call(*before, *changed, *after)


@pytest.mark.parametrize("odd", ODD)
def test_workspaces(odd):
    library = native.load()
    options = {"residual": False, "backward": True, "element_bytes": 4, "threads": 1}
    assert library.stgcn_block_workspace_cpu(**SHAPE, **options) > 0
    for name in SHAPE:
        with pytest.raises(ValueError, match="stgcn_block: "):
            library.stgcn_block_workspace_cpu(**{**SHAPE, name: odd}, **options)
