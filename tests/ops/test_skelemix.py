"""skelemix: each backend, and the CUDA blocks run on the CPU, against the reference: equal bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import pytest
import torch

from aimclr_fast import native
from aimclr_fast.functional import STREAMS, MixConfig, Mixed, skelemix
from aimclr_fast.layouts import get_layout, layout_from_dict
from aimclr_fast.ops import skelemix as op
from aimclr_fast.ops._dispatch import BackendError

Mixer = Callable[..., Mixed]
LAYOUT_OF = {17: "coco", 22: "ui-prmd", 25: "ntu-rgb+d"}
# Samples, frames, joints, bodies. Planes of the third and fourth are not written in packs.
SHAPES = [(5, 64, 25, 2), (4, 50, 22, 1), (3, 47, 17, 1), (7, 45, 25, 3), (3, 60, 17, 2)]
CONFIG = MixConfig(count=3)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Emulated:
    """The native library, but that the cpp backend runs blocks of the CUDA kernel."""

    def __init__(self) -> None:
        self.library = native.load()

    def __getattr__(self, name: str) -> Any:
        if name != "skelemix_cpu":
            return getattr(self.library, name)
        return lambda threads, **members: self.library.skelemix_emulated(**members, threads=96)


@pytest.fixture(
    params=[
        pytest.param("cpp", id="cpp"),
        pytest.param("block", id="cuda-block"),
        pytest.param("cuda", id="cuda", marks=pytest.mark.cuda),
    ]
)
def mix(request, monkeypatch) -> Mixer:
    """Skelemix by one backend, moved to its device and back."""
    device = "cuda" if request.param == "cuda" else "cpu"
    if request.param == "block":
        library = Emulated()
        monkeypatch.setattr(native, "load", lambda: library)

    def run(query: torch.Tensor, **changes: Any) -> Mixed:
        if isinstance(changes.get("step"), torch.Tensor):
            changes["step"] = changes["step"].to(device)
        backend = "cuda" if device == "cuda" else "cpp"
        found = call(query.to(device), **{"backend": backend, **changes})
        assert all(one.device.type == device for one in (*found.views, found.mask, found.partner))
        views = tuple(view.cpu() for view in found.views)
        return Mixed(views, found.mask.cpu(), found.partner.cpu())

    return run


def call(query: torch.Tensor, **changes: Any) -> Mixed:
    layout = LAYOUT_OF.get(query.shape[3])
    arguments = {"layout": layout, "config": CONFIG, "seed": 11, "step": 3, "streams": STREAMS}
    return skelemix(query, **{**arguments, **changes})


def make_query(samples: int, frames: int, joints: int, bodies: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(samples, 3, frames, joints, bodies, generator=generator)


def assert_same(found: Mixed, wanted: Mixed) -> None:
    assert len(found.views) == len(wanted.views)
    for one, other in zip((*found.views, *found[1:]), (*wanted.views, *wanted[1:]), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_reference(mix, shape, dtype):
    query = make_query(*shape).to(dtype)
    for step in range(3):
        assert_same(mix(query, step=step), call(query, step=step, backend="reference"))


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        (MixConfig(count=40, parts_min=1, parts_max=4, blocks_min=1, blocks_max=13), 50),
        (MixConfig(count=5, parts_min=4, parts_max=4, blocks_min=1, blocks_max=1), 1),
        (MixConfig(count=9, blocks_min=1, blocks_max=7, block_frames=3), 20),
        (MixConfig(count=2, blocks_min=1, blocks_max=1, block_frames=2**20), 9),
    ],
)
def test_every_setting_counts(mix, config, frames):
    query = make_query(6, frames, 17, 1)
    assert_same(mix(query, config=config), call(query, config=config, backend="reference"))


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**63 + 12345])
@pytest.mark.parametrize("step", [0, 2**32 - 1])
def test_draws_agree_bit_for_bit(mix, seed, step):
    query = torch.zeros(200, 3, 13, 17, 0)
    config = MixConfig(count=60, parts_min=1, parts_max=4, blocks_min=1, blocks_max=13,
                       block_frames=1)  # fmt: skip
    arguments = {"config": config, "seed": seed, "step": step, "streams": ("joint",)}
    found = mix(query, **arguments)
    assert_same(found, call(query, **arguments, backend="reference"))
    assert len(found.partner[:, 0].unique()) > 40


def test_streams_come_in_the_order_asked_for(mix):
    query = make_query(4, 50, 25, 2)
    joint, motion, bone = mix(query).views
    assert_same(mix(query, streams=("bone", "joint")), mix(query)._replace(views=(bone, joint)))
    assert torch.equal(mix(query, streams=["motion"]).views[0], motion)


def test_the_step_may_be_a_tensor(mix):
    query = make_query(4, 50, 22, 1)
    for step in (0, 3, 2**32 - 1):
        assert_same(mix(query, step=torch.tensor(step)), mix(query, step=step))


def test_strided_and_unaligned_queries(mix):
    query = make_query(8, 64, 25, 2)
    assert_same(mix(query[::2]), mix(query[::2].contiguous()))
    turned = query.transpose(2, 3).contiguous().transpose(2, 3)
    assert_same(mix(turned), mix(query))
    storage = torch.cat([torch.zeros(1), query.flatten()])
    assert_same(mix(storage[1:].view(query.shape)), mix(query))


def test_no_bodies_still_have_a_mask(mix):
    query = make_query(4, 50, 25, 0)
    assert_same(mix(query), call(query, backend="reference"))


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    query = make_query(60, 64, 25, 2)
    wanted = call(query, backend="cpp")
    for threads in (3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert_same(call(query, backend="cpp"), wanted)


QUERY = make_query(4, 50, 25, 1)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "query", "changes"),
    [
        (ValueError, "at least 3 sequences, got 2", QUERY[:2], {}),
        (ValueError, "has 11 frames, which are 3 blocks of 4.*take 11", QUERY[:, :, :11], {}),
        (ValueError, "25 joints .*'coco' has 17", QUERY, {"layout": "coco"}),
        (ValueError, "'hand-21' has no body parts", QUERY[:, :, :, :21], {"layout": "hand-21"}),
        (ValueError, "query must have shape", QUERY[0], {"layout": "ntu-rgb+d"}),
        (ValueError, "streams must differ", QUERY, {"streams": ("joint", "joint")}),
        (ValueError, "stream must be one of", QUERY, {"streams": ("velocity",)}),
        (ValueError, "step must lie in", QUERY, {"step": -1}),
        (ValueError, "step must lie in", QUERY, {"step": torch.tensor(2**32)}),
        (ValueError, "seed", QUERY, {"seed": 2**64}),
        (ValueError, "count must make views of fewer", QUERY.expand(-1, -1, -1, -1, 10**5),
         {"config": MixConfig(count=2**20)}),
        (TypeError, "step must be of dtype int64", QUERY, {"step": torch.tensor(1.0)}),
        (TypeError, "query must be of dtype", QUERY.int(), {}),
        (TypeError, "config must be a MixConfig", QUERY, {"config": None}),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(backend, error, message, query, changes):
    with pytest.raises(error, match=message):
        call(query, **{"layout": "ntu-rgb+d", **changes}, backend=backend)


def arguments(backend: str, device: str = "cpu", step: torch.Tensor | None = None) -> list[Any]:
    """Of the op itself."""
    layout = get_layout("ntu-rgb+d")
    part_of = {joint: i for i, joints in enumerate(layout.body_parts) for joint in joints}
    return [
        QUERY.to(device), [part_of[joint] for joint in range(25)], layout.parents, [2, 0],
        astuple(CONFIG), (1, 2), 3, step, backend,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, [5] * 25, r"part_of must lie in 0\.\.4"),
        (1, [0] * 24, "part_of and parents are of 24 and 25"),
        (2, [25] * 25, r"parents must lie in 0\.\.24"),
        (3, [3], "streams must be different ones of 0, 1 and 2"),
        (4, (1, 2, 3), "settings must be count, parts_min"),
        (4, (1, 2, 5, 7, 11, 4), "parts_max must be at most 4"),
        (5, (1,), "key must be two words"),
        (8, "triton", "the op has cuda, cpp"),
    ],
)
def test_the_op_refuses_what_no_layout_and_no_config_hold(place, value, message):
    given = arguments("cpp")
    given[place] = value
    with pytest.raises(ValueError, match=message):
        torch.ops.aimclr_fast.skelemix(*given)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_opcheck(device):
    backend = "cpp" if device == "cpu" else "cuda"
    for step in (None, torch.tensor(9, device=device)):
        torch.library.opcheck(torch.ops.aimclr_fast.skelemix, arguments(backend, device, step))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_torch_compile_takes_it_as_one_graph(device):
    query = QUERY.to(device)
    layout = layout_from_dict(get_layout("ntu-rgb+d").to_dict())  # one that was never used

    def total(step: int | torch.Tensor) -> torch.Tensor:
        mixed = call(query, step=step, layout=layout)
        return mixed.views[0] + 2 * mixed.views[2]

    torch.compiler.reset()
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    for step in (0, 1, torch.tensor(3, device=device)):
        assert torch.equal(compiled(step), total(step))


def test_a_query_that_wants_a_gradient_goes_to_the_reference():
    query = QUERY.clone().requires_grad_()
    with pytest.raises(BackendError, match="it has no gradient for the query"):
        call(query, backend="cpp")
    call(query).views[0].sum().backward()
    assert query.grad.abs().sum() > 0
    with torch.no_grad():
        call(query, backend="cpp")


def test_backends():
    assert [backend.name for backend in op.BACKENDS] == ["cuda", "cpp", "reference"]
    with pytest.raises(ValueError, match="this op has auto, cuda, cpp, reference"):
        call(QUERY, backend="triton")


@pytest.mark.cuda
@pytest.mark.smoke
def test_runs_on_the_current_stream_and_in_a_graph():
    query = make_query(128, 64, 25, 2).cuda()
    step = torch.tensor(1, device="cuda")
    call(query, backend="cuda")  # makes the tables of joints
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step += 1
        captured = call(query, step=step, backend="cuda")
    for replayed in (2, 3):
        graph.replay()
        assert_same(captured, call(query, step=replayed, backend="cuda"))
