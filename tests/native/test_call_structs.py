"""Structs of the ops' calls under sizes, addresses and values that cannot be right: errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from missing import require

from aimclr_fast import native
from aimclr_fast.ops import apply_augment, philox, skelemix, skeleton_augment
from aimclr_fast.ops._augment import column_table, joint_table, native_chain
from aimclr_fast.ops._native import SUFFIXES
from aimclr_fast.reference.skeleton_augment import AugmentConfig

CPU = torch.device("cpu")
ODD = (-1, -(2**62), 2**41, 2**62, 2**63 - 1)
MEMORY = torch.zeros(1 << 19, dtype=torch.uint8)  # of sound calls: read, written, scratch
AT = -(-MEMORY.data_ptr() // 64) * 64
OUT, SCRATCH = AT + (1 << 16), AT + (1 << 17)
HALF_SET = AT + (1 << 15)  # bytes of 0 and 1 in turn
Members = dict[str, Any]

SETTINGS = {
    "shear_amplitude": 0.5, "spatial_flip_prob": 0.5, "rotation_main_deg": 30.0,
    "rotation_minor_deg": 1.0, "noise_prob": 0.5, "noise_std": 0.01, "blur_prob": 0.5,
    "blur_sigma_min": 0.1, "blur_sigma_range": 1.9, "axis_mask_prob": 0.5,
    "temporal_flip_prob": 0.0, "turn_deg": 90.0,
}  # fmt: skip
CHAIN = {
    "shape": {"frames": 5, "joints": 3, "bodies": 1},
    "joints": {"swap": AT, "parents": AT}, "padding": 0, "blur_taps": 15, "blur_normalize": False,
}  # fmt: skip
MIX = {
    "count": 2, "parts_min": 1, "parts_max": 2, "blocks_min": 1, "blocks_max": 2, "block_frames": 2,
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
        calls[f"masked_pool_forward_{suffix}_cpu"] = {
            "shape": shape, "x": AT, "mask": HALF_SET, "inside": OUT, "outside": OUT, "threads": 1,
        }  # fmt: skip
        calls[f"masked_pool_backward_{suffix}_cpu"] = {
            "shape": shape, "grad_inside": AT, "grad_outside": AT, "mask": HALF_SET, "dx": OUT,
            "threads": 1,
        }  # fmt: skip
    calls["eadm_pool_workspace_cpu"] = {**shape, "real_bytes": 4, "threads": 1}
    sizes = {
        "streams": 2, "sets": 2, "key_sets": 1, "n": 2, "d": 16, "k": [8, 8, *[0] * 6], "topk": 1,
    }  # fmt: skip
    for suffix in ("f32", "f64"):
        calls[f"queue_contrast_{suffix}_cpu"] = {
            "shape": sizes, "rows": AT, "keys": AT, "queues": [AT, AT, *[0] * 6],
            "teacher": [-1, 0, *[0] * 14], "negative": [-1] * 16, "mines": [True] * 16,
            "positives": [True] * 16, "own_key": [0] * 16, "temperature": 0.07, "votes": 1,
            "workspace": SCRATCH, "losses": OUT, "gradients": OUT, "neighbors": OUT, "counts": OUT,
            "threads": 1,
        }  # fmt: skip
    calls["queue_contrast_workspace_cpu"] = {**sizes, "threads": 1, "element_bytes": 4}
    calls |= sound_stgcn_block()
    calls["philox4x32_cpu"] = {
        "counters": AT, "key0": 1, "key1": 2, "out": OUT, "n": 2, "threads": 1,
    }  # fmt: skip
    for draw, options in (("uniform", {}), ("bounded", {"bound": 9}), ("normal", {})):
        calls[f"philox_{draw}_cpu"] = {"words": AT, "out": OUT, "n": 2, **options}
    calls["skeleton_augment_draws_cpu"] = {
        "settings": SETTINGS, "source": SOURCE, "view": 0, "padding": 3, "n": 2, "integers": OUT,
        "floats": OUT,
    }  # fmt: skip
    drawn = {
        "data": AT, "data_type": 0, "scale": 1.0, "sequences": 1, "index": AT, "index_bytes": 8,
        "samples": 2, "outputs": {"streams": 2, "stream": [0, 2, 0], "view": [[OUT] * 4] * 3},
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
    mix = {
        "query": AT, "type": 0, "samples": 3, "shape": CHAIN["shape"], "parts": AT, "parents": AT,
        "settings": MIX, "streams": 2, "stream": [0, 2, 0], "view": [OUT] * 3, "mask": OUT,
        "partner": OUT, "key0": 1, "key1": 2, "step": 3, "step_tensor": 0,
    }  # fmt: skip
    calls["skelemix_cpu"] = {**mix, "threads": 1}
    calls["skelemix_emulated"] = {**mix, "threads": 32}
    for name, call in (("skeleton_augment", drawn), ("apply_augment", given)):
        calls[f"{name}_cpu"] = {**call, "threads": 1}
        calls[f"{name}_emulated"] = {**call, "shared": False, "threads": 32}
    calls["skeleton_augment_emulated"]["parts"] = 2
    calls["skeleton_augment_parts_emulated"] = {**CHAIN, "samples": 2, "room": 132}
    return calls


def sound_stgcn_block() -> dict[str, Members]:
    """Training with a residual convolution."""
    shape = {
        "batch": 1, "in": 2, "out": 4, "frames": 3, "joints": 2, "parts": 2, "taps": 3, "stride": 1,
    }  # fmt: skip
    weights = [f"{name}_{kind}" for name in ("spatial", "temporal", "residual")
               for kind in ("weight", "bias")]  # fmt: skip
    saved = ("y", "statistics", "spatial", "temporal", "shortcut")
    block = {
        "shape": shape, **dict.fromkeys(("x", "adjacency", "norms", *weights), AT), "running": 0,
        "keep": 0, "keep_bytes": 0, "identity": False, "scale": 1.0, "eps": 1e-5,
        "workspace": SCRATCH, "threads": 1,
    }  # fmt: skip
    gradients = (f"d_{name}" for name in ("x", "adjacency", "norms", *weights))
    backward = {
        **block, **dict.fromkeys(("grad_y", *saved), AT), **dict.fromkeys(gradients, OUT),
        "temporal_bias": 0, "residual_bias": 0,  # not read
    }  # fmt: skip
    calls: dict[str, Members] = {}
    for suffix in ("f32", "f64"):
        calls[f"stgcn_block_forward_{suffix}_cpu"] = {**block, **dict.fromkeys(saved, OUT)}
        calls[f"stgcn_block_backward_{suffix}_cpu"] = backward
    calls["stgcn_block_workspace_cpu"] = {
        **shape, "residual": True, "backward": True, "element_bytes": 8, "threads": 1,
    }  # fmt: skip
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
    "bodies", "padding", "blur_taps", "in", "out", "parts", "taps", "stride", "streams", "sets",
    "key_sets", *MIX,
}  # fmt: skip
CALLS = sound()


@pytest.fixture(autouse=True)
def zeroed() -> None:
    MEMORY.zero_()
    start = HALF_SET - MEMORY.data_ptr()
    MEMORY[start : start + (1 << 15) : 2] = 1


@pytest.mark.parametrize("name", CALLS)
def test_sound_calls_work(name):
    getattr(native.load(), name)(**CALLS[name])


@pytest.mark.parametrize("op", ["stgcn_block", "queue_contrast"])
def test_the_scratch_is_large_enough(op):
    call = CALLS[f"{op}_workspace_cpu"] | {"element_bytes": 8}
    size = getattr(native.load(), f"{op}_workspace_cpu")(**call)
    assert size <= MEMORY.data_ptr() + MEMORY.numel() - SCRATCH


@pytest.mark.parametrize("name", CALLS)
def test_null_pointers_are_refused(name):
    """Each of the addresses, those in tables and views among them."""
    call = CALLS[name]
    found = list(paths(call, lambda _, value: value in (AT, OUT, SCRATCH, HALF_SET)))
    assert found or name.endswith("_workspace_cpu")
    for path in found:
        if path[:1] == ("outputs",) and path[2:3] == (2,):
            continue  # the views of a third stream, of two
        if path == ("view", 2):
            continue  # likewise
        if path == ("residual_weight",):
            continue  # null where there is no residual convolution
        with pytest.raises(ValueError, match=r"null pointer|must be aligned"):
            getattr(native.load(), name)(**changed(call, path, 0))


@pytest.mark.parametrize("name", CALLS)
def test_sizes_that_cannot_be_are_refused(name):
    found = list(paths(CALLS[name], lambda key, value: key in SIZES and value < AT))
    assert found
    for path in found:
        for odd in ODD:
            with pytest.raises((ValueError, TypeError)):
                getattr(native.load(), name)(**changed(CALLS[name], path, odd))


DRAWN, GIVEN = (
    [f"{op}_{device}" for device in ("cpu", "emulated")]
    for op in ("skeleton_augment", "apply_augment")
)
CONTRAST = ["queue_contrast_f32_cpu", "queue_contrast_f64_cpu"]

MIXED = ["skelemix_cpu", "skelemix_emulated"]
POOLED = [name for name in CALLS if name.startswith("masked_pool")]


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
        (["skeleton_augment_draws_cpu"], ("view",), 4, "bad sizes"),
        (MIXED, ("streams",), 0, "one to three streams"),
        (MIXED, ("stream", 1), 3, "a stream is joint, motion or bone"),
        (MIXED, ("type",), 4, "dtype that the kernel does not take"),
        (MIXED, ("samples",), 2, "bad number of samples"),
        (MIXED, ("settings", "parts_max"), 5, "bad settings"),
        (MIXED, ("settings", "parts_min"), 3, "bad settings"),
        (MIXED, ("settings", "blocks_min"), 3, "bad settings"),
        (MIXED, ("settings", "blocks_max"), 4, "bad settings"),
        pytest.param(
            POOLED, ("mask",), AT, "must have both true and false entries", id="mask all true"
        ),  # an address would differ from worker to worker
        *(
            (CONTRAST, (name, 1), value, "teacher, negative or own_key is no set")
            for name, value in (
                ("teacher", -2),
                ("teacher", 2),
                ("negative", 2),
                ("negative", -2),
                ("own_key", 1),
                ("own_key", -1),
            )
        ),
        (CONTRAST, ("votes",), 3, r"votes must lie in 0\.\.streams"),
        (CONTRAST, ("votes",), -1, r"votes must lie in 0\.\.streams"),
        (CONTRAST, ("mines",), [False] * 16, "and sets must mine"),
        (CONTRAST, ("shape", "k", 1), 9, "votes need queues of one size"),
        (CONTRAST, ("shape", "k", 7), 2**41, "k must not be negative or too large"),
        (CONTRAST, ("temperature",), 0.0, "temperature must be positive"),
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


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("place", [-1, 5, 2**31 - 1])
def test_tables_of_a_mix_that_lead_outside_are_refused(name, place):
    parts = torch.tensor([0, 1, place])
    with pytest.raises(ValueError, match="a joint has no such body part"):
        getattr(native.load(), name)(**changed(CALLS[name], ("parts",), parts.data_ptr()))
    parents = torch.tensor([0, 1, place], dtype=torch.int32)
    with pytest.raises(ValueError, match="leads outside the row"):
        getattr(native.load(), name)(**changed(CALLS[name], ("parents",), parents.data_ptr()))


# --- The CUDA functions, which return before they launch anything where there is nothing to do ----


def empty() -> dict[str, Members]:
    """By function: the members of a call of no samples."""
    scratch = {"workspace": 0, "workspace_bytes": 0, "cuda_stream": 0}
    none = {"samples": 0, **scratch}
    calls: dict[str, Members] = {
        "skeleton_augment_cuda": {**cpu_call("skeleton_augment"), **none, "data_on_host": False},
        "skeleton_augment_workspace_cuda": {**CHAIN, "samples": 0},
        "apply_augment_cuda": {**cpu_call("apply_augment"), **none},
        "apply_augment_workspace_cuda": {**CHAIN, "samples": 0, "type": 0},
        "philox4x32_cuda": {**cpu_call("philox4x32"), "n": 0, "cuda_stream": 0},
        "skelemix_cuda": {**cpu_call("skelemix"), "samples": 0, "cuda_stream": 0},
    }
    for draw in ("uniform", "bounded", "normal"):
        calls[f"philox_{draw}_cuda"] = {**cpu_call(f"philox_{draw}"), "n": 0, "cuda_stream": 0}
    return calls


def cpu_call(op: str) -> Members:
    return {name: value for name, value in CALLS[f"{op}_cpu"].items() if name != "threads"}


EMPTY = empty()
ASKS_THE_DEVICE = [name for name in EMPTY if "workspace" in name]


def call_cuda(library: Any, name: str, members: Members) -> Any:
    """What the function returns; 0 for the bytes of a workspace that only a device knows."""
    try:
        return getattr(library, name)(**members)
    except RuntimeError:
        if name not in ASKS_THE_DEVICE or torch.cuda.is_available():
            raise
        return 0


def test_all_cuda_functions_are_called_here():
    require(native.cuda_compiled(), "the library was built without CUDA kernels")
    assert {name for name in dir(native.load()) if name.endswith("_cuda")} <= set(EMPTY)


@pytest.mark.parametrize("name", [name for name in EMPTY if name.endswith("_cuda")])
def test_cuda_functions_take_their_arguments(name):
    require(native.cuda_compiled(), "the library was built without CUDA kernels")
    library = native.load()
    call_cuda(library, name, EMPTY[name])
    for argument in EMPTY[name]:
        rest = {key: value for key, value in EMPTY[name].items() if key != argument}
        with pytest.raises(TypeError, match=f"{name} misses the argument '{argument}'"):
            getattr(library, name)(**rest)


@pytest.mark.parametrize("backward", [False, True])
def test_apply_augment_calls_the_cuda_function_as_it_is(cuda_branch, backward):
    x = torch.empty(0, 3, 6, 2, 1, device="meta")
    rest = *[None] * 7, [1, 0], [0, 0], 2, 6, 15, False, "mine"
    if backward:
        call = apply_augment.GradientCall(x, [True, True], *rest)
        apply_augment._compiled_backward(call, apply_augment.Gradients(x, x))
    else:
        apply_augment._compiled(apply_augment.Call(x, x, *rest), x)
    assert cuda_branch == ["apply_augment_workspace_cuda", "apply_augment_cuda"]


def test_skeleton_augment_calls_the_cuda_function_as_it_is(cuda_branch):
    data = torch.empty(4, 3, 6, 2, 1, device="meta")
    index = torch.empty(0, dtype=torch.int64, device="meta")
    amplitudes = [getattr(AugmentConfig(), name) for name in skeleton_augment._AMPLITUDES]
    call = skeleton_augment.Call(
        data, index, [1, 0], [0, 0], [0, 1], [0, 1, 2], torch.float32, (1, 2), 3, None, 4, 6, 15,
        False, amplitudes, "mine",
    )  # fmt: skip
    skeleton_augment._compiled(call, [data] * 6)
    assert cuda_branch == ["skeleton_augment_workspace_cuda", "skeleton_augment_cuda"]


def test_philox_calls_the_cuda_function_as_it_is(cuda_branch):
    counter = torch.empty(0, 4, dtype=torch.int64, device="meta")
    philox._cuda(philox.Call(counter, (1, 2), "cuda"))
    assert cuda_branch == ["philox4x32_cuda"]


def test_skelemix_calls_the_cuda_function_as_it_is(cuda_branch):
    query = torch.empty(0, 3, 6, 2, 1, device="meta")
    tables, mask = ([0, 4], [0, 0]), MEMORY[:4].bool()
    call = skelemix.Call(query, *tables, [0, 1], [*MIX.values()], (1, 2), 3, None, "mine")
    skelemix._compiled(call, [query, query, mask, mask])
    assert cuda_branch == ["skelemix_cuda"]


@pytest.fixture
def cuda_branch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The library as on a GPU, for calls of no samples; collects the functions that worked."""
    require(native.cuda_compiled(), "the library was built without CUDA kernels")
    library, called = native.load(), []

    class Library:
        def __getattr__(self, name: str) -> Any:
            def call(**members: Any) -> Any:
                found = call_cuda(library, name, members)
                called.append(name)
                return found

            return call

    monkeypatch.setattr(native, "load", Library)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    for op in (apply_augment, philox, skelemix, skeleton_augment):
        monkeypatch.setattr(op, "current_stream", lambda tensor: 0)
    for op in (apply_augment, skeleton_augment):  # tables that have an address
        monkeypatch.setattr(op, "native_chain", lambda *given: native_chain(*given[:-1], CPU))
    for name, table in (("joint_table", joint_table), ("column_table", column_table)):
        monkeypatch.setattr(skelemix, name, lambda *given, table=table: table(*given[:-1], CPU))
    return called
