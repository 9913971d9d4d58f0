"""Structs of the ops' calls under sizes, addresses and values that cannot be right: errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from aimclr_fast import native
from aimclr_fast.ops._native import SUFFIXES

ODD = (-1, -(2**62), 2**41, 2**62, 2**63 - 1)
MEMORY = torch.zeros(1 << 18, dtype=torch.uint8)  # of sound calls: read, written, scratch
AT = -(-MEMORY.data_ptr() // 64) * 64
OUT, SCRATCH = AT + (1 << 16), AT + (1 << 17)
Members = dict[str, Any]

SETTINGS = {
    "shear_amplitude": 0.5, "spatial_flip_prob": 0.5, "rotation_main_deg": 30.0,
    "rotation_minor_deg": 1.0, "noise_prob": 0.5, "noise_std": 0.01, "blur_prob": 0.5,
    "blur_sigma_min": 0.1, "blur_sigma_range": 1.9, "axis_mask_prob": 0.5,
    "temporal_flip_prob": 0.0,
}  # fmt: skip
CHAIN = {
    "shape": {"frames": 5, "joints": 3, "bodies": 1},
    "joints": {"swap": AT, "parents": AT}, "padding": 0, "blur_taps": 15, "blur_normalize": False,
}  # fmt: skip
SOURCE = {"key0": 1, "key1": 2, "step": 3, "position": 4}


def sound() -> dict[str, Members]:
    """By function: the members of a call that works; inputs are zeros in one place."""
    shape = {"batch": 2, "channels": 3, "frames": 4, "joints": 5, "channels_last": False}
    calls: dict[str, Members] = {}
    for suffix in SUFFIXES.values():
        calls[f"eadm_pool_forward_{suffix}_cpu"] = {
            "shape": shape, "keep_prob": 0.7, "e_lambda": 1e-4, "x": AT, "pooled": OUT,
            "pooled_drop": OUT, "bits": OUT, "kept_joints": OUT, "scale": OUT, "workspace": SCRATCH,
            "threads": 1,
        }  # fmt: skip
        calls[f"eadm_pool_backward_{suffix}_cpu"] = {
            "shape": shape, "grad_pooled": AT, "grad_drop": AT, "bits": AT, "kept_joints": AT,
            "scale": AT, "dx": OUT, "workspace": SCRATCH, "threads": 1,
        }  # fmt: skip
    calls["eadm_pool_workspace_cpu"] = {**shape, "real_bytes": 4, "threads": 1}
    sizes = {"n": 2, "k": 8, "d": 16, "topk": 1}
    for suffix in ("f32", "f64"):
        calls[f"queue_contrast_{suffix}_cpu"] = {
            **dict.fromkeys(("query", "extreme", "dropped", "key", "queue"), AT), **sizes,
            "temperature": 0.07, "workspace": SCRATCH, "losses": OUT, "gradients": OUT,
            "neighbors": OUT, "threads": 1,
        }  # fmt: skip
    calls["queue_contrast_workspace_cpu"] = {**sizes, "threads": 1, "element_bytes": 4}
    calls["skeleton_augment_draws_cpu"] = {
        "settings": SETTINGS, "source": SOURCE, "view": 0, "padding": 3, "n": 2, "integers": OUT,
        "floats": OUT,
    }  # fmt: skip
    drawn = {
        "data": AT, "data_type": 0, "scale": 1.0, "sequences": 1, "index": AT, "index_bytes": 8,
        "samples": 2, "outputs": {"streams": 2, "stream": [0, 2, 0], "view": [[OUT] * 3] * 3},
        "out_type": 0, "chain": CHAIN, "settings": SETTINGS, "source": SOURCE, "step_tensor": 0,
    }  # fmt: skip
    params = (
        "crop_start", "shear", "spatial_flip", "rotation_angles", "blur_sigma", "axis_mask",
        "temporal_flip",
    )  # fmt: skip
    given = {
        "backward": False, "type": 0, "input": AT, "noise": 0, "output": OUT, "noise_output": 0,
        "stream": 1, "samples": 2, "params": dict.fromkeys(params, 0), "chain": CHAIN,
    }  # fmt: skip
    for name, call in (("skeleton_augment", drawn), ("apply_augment", given)):
        calls[f"{name}_cpu"] = {**call, "threads": 1}
        calls[f"{name}_emulated"] = {**call, "shared": False, "threads": 32}
    return calls


def changed(members: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The same members but for one, at `path`."""
    if not path:
        return value
    copy = members.copy()
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def paths(members: Any, wanted: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all members for which wanted(name, value) holds; name is that of the last dict's key."""
    items = members.items() if isinstance(members, dict) else enumerate(members)
    for name, value in items:
        if isinstance(value, dict | list):
            yield from paths(value, wanted, (*path, name))
        elif wanted(name if isinstance(name, str) else path[-1], value):
            yield (*path, name)


SIZES = {
    "batch", "channels", "frames", "joints", "n", "k", "d", "topk", "real_bytes", "samples",
    "bodies", "padding", "blur_taps",
}  # fmt: skip
CALLS = sound()


@pytest.fixture(autouse=True)
def zeroed() -> None:
    MEMORY.zero_()


@pytest.mark.parametrize("name", CALLS)
def test_sound_calls_work(name):
    getattr(native.load(), name)(**CALLS[name])


@pytest.mark.parametrize("name", CALLS)
def test_null_pointers_are_refused(name):
    """Each of the addresses, those in tables and views among them."""
    call = CALLS[name]
    found = list(paths(call, lambda _, value: value in (AT, OUT, SCRATCH)))
    assert found or name.endswith("_workspace_cpu")
    for path in found:
        if path[:1] == ("outputs",) and path[2:3] == (2,):
            continue  # the views of a third stream, of two
        with pytest.raises(ValueError, match=r"null pointer|must be aligned"):
            getattr(native.load(), name)(**changed(call, path, 0))


@pytest.mark.parametrize("name", CALLS)
def test_sizes_that_cannot_be_are_refused(name):
    found = list(paths(CALLS[name], lambda key, value: key in SIZES))
    assert found
    for path in found:
        for odd in ODD:
            with pytest.raises((ValueError, TypeError)):
                getattr(native.load(), name)(**changed(CALLS[name], path, odd))


DRAWN, GIVEN = (
    [f"{op}_{device}" for device in ("cpu", "emulated")]
    for op in ("skeleton_augment", "apply_augment")
)


@pytest.mark.parametrize(
    ("names", "path", "value", "message"),
    [
        (DRAWN, ("outputs", "streams"), 0, "one to three streams"),
        (DRAWN, ("outputs", "streams"), 4, "one to three streams"),
        (DRAWN, ("outputs", "stream", 1), 3, "a stream is joint, motion or bone"),
        (DRAWN, ("index_bytes",), 2, "bad sizes"),
        (DRAWN[:1], ("data_type",), 9, "dtype that the kernel does not take"),
        (DRAWN, ("out_type",), 1, "dtype that the kernel does not take"),
        (GIVEN, ("stream",), -1, "a stream is joint, motion or bone"),
        (GIVEN, ("type",), 4, "dtype that the kernel does not take"),
        (["skeleton_augment_draws_cpu"], ("view",), 3, "bad sizes"),
    ],
)
def test_values_that_cannot_be_are_refused(names, path, value, message):
    for name in names:
        with pytest.raises(ValueError, match=message):
            getattr(native.load(), name)(**changed(CALLS[name], path, value))


@pytest.mark.parametrize("name", ["skeleton_augment_cpu", "apply_augment_cpu"])
@pytest.mark.parametrize("table", ["swap", "parents"])
@pytest.mark.parametrize("place", [-1, 3, 2**31 - 1])
def test_tables_that_lead_outside_a_row_are_refused(name, table, place):
    joints = torch.tensor([0, 1, place], dtype=torch.int32)
    call = changed(CALLS[name], ("chain", "joints", table), joints.data_ptr())
    with pytest.raises(ValueError, match="leads outside the row"):
        getattr(native.load(), name)(**call)
