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
    good = [2, 3, 4, 5, 6, 1, 3, 1]
    for place in range(len(good)):
        shape = [*good[:place], odd, *good[place + 1 :]]
        with pytest.raises(ValueError, match="stgcn_block: "):
            library.stgcn_block_workspace_cpu(True, *shape, False, 1, 4)
