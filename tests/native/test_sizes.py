"""The library's functions under sizes and addresses that cannot be right: errors, not crashes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aimclr_fast import native

ODD = (-1, -(2**62), 2**41, 2**62, 2**63 - 1)


def calls() -> dict[str, tuple[Callable[..., object], list[int], list[object], list[object]]]:
    """By name: a function, good sizes, and what comes before and after them; addresses are null."""
    library = native.load()
    found = {}
    for dtype in ("float32", "float64"):
        shape = [2, 3, 4, 5, 6, 1, 3, 1]
        forward = getattr(library, f"stgcn_block_forward_{dtype}_cpu")
        backward = getattr(library, f"stgcn_block_backward_{dtype}_cpu")
        found[f"block forward {dtype}"] = (
            forward, shape, [0] * 11, [False, 1.0, 1e-5, *[0] * 5, 64, 1, 0],
        )  # fmt: skip
        found[f"block backward {dtype}"] = (
            backward, shape, [0] * 14, [False, True, 1.0, 1e-5, *[0] * 9, 64, 1, 0],
        )  # fmt: skip
        forward = getattr(library, f"eadm_pool_forward_{dtype}_cpu")
        backward = getattr(library, f"eadm_pool_backward_{dtype}_cpu")
        shape = [2, 3, 4, 5]
        found[f"pool forward {dtype}"] = (forward, shape, [0], [False, 0.7, 1e-4, *[0] * 6, 1])
        found[f"pool backward {dtype}"] = (backward, shape, [0] * 5, [False, 0, 0, 1])
    for name in ("f32", "f64"):
        found[f"contrast {name}"] = (
            getattr(library, f"queue_contrast_{name}_cpu"), [2, 8, 16], [0] * 5,
            [0.07, 1, 64, 0, 0, 0, 1, 0],
        )  # fmt: skip
    found["philox"] = (
        lambda n: library.philox4x32_cpu(counters=0, key0=1, key1=2, out=0, n=n, threads=1),
        [3], [], [],
    )  # fmt: skip
    found["draws"] = (
        lambda *a: library.skeleton_augment_draws(settings(), *a),
        [2], [1, 2, 3, 4, 0, 3], [0, 0],
    )  # fmt: skip
    return found


def settings() -> object:
    return native.load().AugmentSettings(
        shear_amplitude=0.5, spatial_flip_prob=0.5, rotation_main_deg=30, rotation_minor_deg=1,
        noise_prob=0.5, noise_std=0.01, blur_prob=0.5, blur_sigma_min=0.1, blur_sigma_max=2,
        axis_mask_prob=0.5, temporal_flip_prob=0,
    )  # fmt: skip


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
    good = [2, 3, 4, 5, 6, 1, 3, 1]
    for place in range(len(good)):
        shape = [*good[:place], odd, *good[place + 1 :]]
        with pytest.raises(ValueError, match="stgcn_block: "):
            library.stgcn_block_workspace_cpu(True, *shape, False, 1, 4)
    for place in range(4):
        sizes = [2, 8, 16, 1]
        sizes[place] = odd
        with pytest.raises(ValueError, match="queue_contrast: "):
            library.queue_contrast_workspace_cpu(*sizes, 1, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "null pointer"),
        ({"samples": -1}, "bad"),
        ({"samples": 2**62}, "bad"),
    ],
)
def test_calls_of_augmentations(changes, message):
    library = native.load()
    chain = library.AugmentChain(10, 3, 1, 0, 0, 6, 15, False)
    given = {"samples": 2, **changes}
    drawn = library.SkeletonAugmentCall(
        data=0, data_dtype=0, scale=1.0, sequences=4, index=0, index_bytes=8, streams=[0],
        views=[0, 0, 0], dtype=0, chain=chain, settings=settings(), key=(0, 0), step=0,
        step_tensor=0, offset=0, **given,
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        library.skeleton_augment_cpu(drawn, 1)
    taken = library.ApplyAugmentCall(
        backward=False, dtype=0, input=0, noise=0, output=0, noise_output=0, stream=0,
        params=[0] * 7, chain=chain, **given,
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        library.apply_augment_cpu(taken, 1)
