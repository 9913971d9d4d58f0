"""Whole steps of the methods that extend AimCLR against the authors' numbers.

Every `step_*.npz` of a folder is a case; sizes and constants come from the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tolerances import STEP_GRADIENTS, assert_near
from torch import Tensor

from aimclr_fast.config import ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import contrast, get_method
from aimclr_fast.nn.contrast import Voting
from aimclr_fast.nn.official import from_official
from aimclr_fast.reference.skeleton_augment import STREAMS, to_stream

GOLDEN = Path(__file__).parents[1] / "golden"
NTU = get_layout("ntu-rgb+d")


def steps(folder: str, pattern: str) -> list[str]:
    return sorted(f"{folder}/{file.stem}" for file in (GOLDEN / folder).glob(f"{pattern}.npz"))


TOGETHER = [name for name in steps("aimclrpp", "step_*") if "single" not in name]
SINGLE = steps("aimclrpp", "step_single*")
MIXED, CHAINED = steps("skelemixclr", "step_*"), steps("hiclr", "step_*")


class Step(NamedTuple):
    """What a forward pass of ours gave."""

    models: Mapping[str, Any]
    rows: list[Tensor]  # as the encoders give them, query encoders first
    keys: Tensor
    output: Any
    queues: list[Tensor]  # before


def number(g: Any, name: str, usual: float) -> float:
    return g[name].item() if name in g._arrays.files else usual


def votes(g: Any) -> bool:
    """Whether positives are common: then the masks of all streams are the same."""
    masks = list(g.tree("pos_mask/").values())
    mined = number(g, "topk", 0) > 0
    return mined and len(masks) > 1 and all(torch.equal(mask, masks[0]) for mask in masks)


def recipe_of(method: str, g: Any, before: Mapping[str, Tensor], **parts: Any) -> TrainConfig:
    """The method's published numbers, and what the files say."""
    published = get_method(method).published
    sizes = {
        "channels": len(before["query_encoder.backbone.blocks.0.temporal.weight"]),
        "features": len(before["query_encoder.backbone.blocks.9.temporal.weight"]),
        "queue_size": len(before["queue"]),
        "embedding": before["queue"].shape[1],
        "temperature": number(g, "temperature", 0.0),
        "momentum": number(g, "momentum", 0.0),
    }
    model = ModelConfig(**{**published.get("model", {}), **sizes, "dropout": 0.0, **parts})
    return TrainConfig(method=method, model=model, optim=OptimConfig(**published.get("optim", {})))


def run_step(
    method: str,
    g: Any,
    state: Mapping[str, Mapping[str, Tensor]],
    views: Mapping[str, Mapping[str, Tensor]],
    *,
    dtype: torch.dtype,
    backend: str,
    encoders: str | None,
    monkeypatch: pytest.MonkeyPatch,
    **parts: Any,
) -> Step:
    """One step of ours from the state of each stream, by our names, with the views given."""
    one = get_method(method)
    recipe = recipe_of(method, g, next(iter(state.values())), **parts)
    models: dict[str, Any] = {name: one.build(NTU, recipe) for name in state}
    if len(models) > 1:
        one.join(models, recipe)
    for name, model in models.items():
        missing, unknown = model.load_state_dict(state[name], strict=False)
        assert not unknown
        assert all(key.endswith("num_batches_tracked") for key in missing)
        model.to(dtype).backend = backend
        if encoders is not None:
            model.query_encoder.backend = model.key_encoder.backend = encoders
    queues = [model.queue.clone() for model in models.values()]
    seen: list[Tensor] = []

    def units(sets: list[Tensor]) -> list[Tensor]:
        for rows in sets:
            rows.retain_grad()
            seen.append(rows)
        return plain(sets)

    plain = contrast.units
    monkeypatch.setattr(contrast, "units", units)
    topk = int(number(g, "topk", 0))
    phase = Voting(topk, int(g["vote"])) if votes(g) else topk
    typed = {
        name: {key: x.to(dtype) if x.is_floating_point() else x for key, x in own.items()}
        for name, own in views.items()
    }
    output = one.forward(models, typed, phase)
    output.loss.sum().backward()
    for model, keys in zip(models.values(), output.keys, strict=True):
        model.enqueue(keys)
    return Step(models, seen, output.keys, output, queues)


def check_rows(step: Step, g: Any, names: list[str], dtype: torch.dtype) -> None:
    """Rows, their gradients and keys; `names` in the file, with a place after a colon."""
    assert len(names) == len(step.rows)
    for name, rows in zip(names, step.rows, strict=True):
        name, _, place = name.partition(":")
        emb, grad = g[f"emb/{name}"], g[f"grad_emb/{name}"]
        if place:
            emb, grad = emb[int(place)], grad[int(place)]
        assert_near(rows, emb, dtype=dtype, what=f"emb/{name}")
        assert_near(rows.grad, grad, gradient=True, dtype=dtype, what=f"grad_emb/{name}")


def logits(step: Step, place: int, stream: int, temperature: float, *more: Tensor) -> Tensor:
    """Of rows over their key, the queue and `more`."""
    rows = torch.nn.functional.normalize(step.rows[place].detach(), dim=1)
    key, *others = more or (step.keys[stream],)
    similar = [(rows * one).sum(1, keepdim=True) for one in (key, *others)]
    return torch.cat([similar[0], rows @ step.queues[stream].T, *similar[1:]], 1) / temperature


def norm_head(model: Any) -> tuple[str, ...]:
    head = model.query_encoder.head
    return ("head.0.bias",) if isinstance(head[1], torch.nn.BatchNorm1d) else ()


def check_state(step: Step, g: Any, dtype: torch.dtype) -> None:
    """Gradients of parameters, and what a step changes."""
    check_gradients(step, g, dtype)
    check_after(step, g, dtype)


def check_gradients(step: Step, g: Any, dtype: torch.dtype) -> None:
    limit = {torch.float64: 1e-7, torch.float32: STEP_GRADIENTS[torch.float32]}[dtype]
    for stream, model in step.models.items():
        own = None if len(step.models) == 1 else stream
        parameters = dict(model.named_parameters())
        grads = from_official(g.tree("grad/"), own)
        assert grads
        for name, expected in grads.items():
            found, scale = parameters[name].grad, expected.abs().max()
            assert found is not None, name
            feeds_a_norm = (".temporal.bias", ".residual.0.bias", *norm_head(model))
            if name.endswith(feeds_a_norm):  # the exact gradient of such a bias is zero
                scale = grads[name.replace("bias", "weight")].abs().max()  # rounding alone
            difference = (found.double() - expected.double()).abs().max()
            assert difference <= limit * scale, f"grad/{name}: off by {difference / scale:.2g}"


def check_after(step: Step, g: Any, dtype: torch.dtype) -> None:
    """What a step changes: key encoders, statistics, queues."""
    for stream, model in step.models.items():
        own = None if len(step.models) == 1 else stream
        state, after = model.state_dict(), from_official(g.tree("after/"), own)
        assert {"queue", "queue_ptr"} < after.keys()
        assert any(name.startswith("key_encoder.") for name in after)
        assert any(name.endswith("running_var") for name in after)
        for name, expected in after.items():
            bound = 1e-7 if dtype == torch.float64 else 1e-5
            difference = (state[name].double() - expected.double()).abs().max()
            assert difference <= bound * expected.abs().max(), f"after/{name}: {difference:.2g}"


CASES = [
    (backend, dtype) for backend in ("reference", "cpp") for dtype in (torch.float64, torch.float32)
]


def everywhere(names: list[str], *, triton: bool = True) -> pytest.MarkDecorator:
    """Each step with each backend in both precisions; the last also with Triton's ops, which the
    interpreter takes seconds for, and the reference's encoder blocks.
    """
    cases = [(name, *case, None) for name in names for case in CASES]
    if triton:
        cases.append((names[-1], "triton", torch.float32, "reference"))
    ids = [f"{name}-{backend}-{str(dtype)[6:]}" for name, backend, dtype, _ in cases]
    return pytest.mark.parametrize(("name", "backend", "dtype", "encoders"), cases, ids=ids)


def contrast_of_views(
    golden: Any, name: str, streams: tuple[str, ...], options: dict[str, Any]
) -> None:
    """AimCLR++: query and extreme view, in one stream or several."""
    dtype = options["dtype"]
    state = golden(f"aimclrpp/{'single_state' if len(streams) == 1 else 'state'}")
    g = golden(name)
    single = len(streams) == 1
    before = {s: from_official(state.tree("before/"), None if single else s) for s in streams}
    parents = torch.tensor(NTU.parents)
    views = {
        stream: {
            ours: to_stream(state[theirs].to(dtype), stream, parents)
            for ours, theirs in (("extreme", "x_extreme"), ("query", "x_q"), ("key", "x_k"))
        }
        for stream in streams
    }
    step = run_step("aimclr++", g, before, views, **options)
    out, temperature = step.output, g["temperature"].item()
    rows = ("query", "extreme")
    check_rows(step, g, [r if single else f"{s}/{r}" for s in streams for r in rows], dtype)
    parts = [loss for s in range(len(streams)) for loss in (out.info_nce[s], out.d3m_extreme[s])]
    assert_near(torch.stack([out.loss.sum(), *parts]), g["loss"], dtype=dtype, what="loss")
    for at, stream in enumerate(streams):
        named = {
            what: g[what if single else f"{what}/{stream}"]
            for what in ("keys", "logits", "p_teacher", "p_extreme", "pos_mask")
        }
        query, extreme = (logits(step, 2 * at + row, at, temperature) for row in (0, 1))
        assert_near(out.keys[at], named["keys"], dtype=dtype, what="keys")
        assert_near(query, named["logits"], dtype=dtype, what="logits")
        assert_near(query.softmax(1), named["p_teacher"], dtype=dtype, what="p_teacher")
        assert_near(extreme.softmax(1), named["p_extreme"], dtype=dtype, what="p_extreme")
        assert torch.equal(out.positives[at], named["pos_mask"].sum(1))
        if not votes(g):
            mask = torch.zeros_like(named["pos_mask"])
            mask[:, 0] = True
            mask.scatter_(1, 1 + out.neighbors[at].flatten(1), True)
            assert torch.equal(mask, named["pos_mask"])
    check_state(step, g, dtype)


@everywhere(SINGLE)
def test_golden_aimclrpp_step(golden, name, dtype, backend, encoders, monkeypatch):
    options = {"dtype": dtype, "backend": backend, "encoders": encoders, "monkeypatch": monkeypatch}
    contrast_of_views(golden, name, ("joint",), options)


@everywhere(TOGETHER, triton=False)
def test_golden_aimclrpp_step_of_three_streams(golden, name, dtype, backend, encoders, monkeypatch):
    options = {"dtype": dtype, "backend": backend, "encoders": encoders, "monkeypatch": monkeypatch}
    contrast_of_views(golden, name, STREAMS, options)


@everywhere(MIXED)
def test_golden_skelemixclr_step(golden, name, dtype, backend, encoders, monkeypatch):
    g, state = golden(name), golden("skelemixclr/state")
    mixes = len(g["shift"])
    samples = torch.arange(len(state["x_q"]))
    partner = (samples + g["shift"][:, None]) % len(samples)
    views = {
        "query": state["x_q"],
        "key": state["x_k"],
        "mixed": g["mixed"],
        "pasted": g["mask"],
        "partner": partner,
    }
    step = run_step(
        "skelemixclr",
        g,
        {"joint": from_official(state.tree("before/"))},
        {"joint": views},
        dtype=dtype,
        backend=backend,
        encoders=encoders,
        monkeypatch=monkeypatch,
        mixes=mixes,
    )
    names = [f"{row}:{mix}" for mix in range(mixes) for row in ("trimmed", "truncated")]
    check_rows(step, g, ["query", *names], dtype)
    (out,), temperature = [step.output], g["temperature"].item()
    regional = (out.trimmed + out.truncated) / 2
    found = torch.stack([out.loss, out.info_nce, regional]).flatten()
    assert_near(found, g["loss"], dtype=dtype, what="loss")
    assert_near(torch.cat([out.trimmed, out.truncated]), g["loss_parts"].sum(0), dtype=dtype)
    keys = out.keys[0]
    assert_near(keys, g["keys"], dtype=dtype, what="keys")
    assert_near(logits(step, 0, 0, temperature), g["logits"], dtype=dtype, what="logits")
    for mix in range(mixes):
        rows = [torch.nn.functional.normalize(step.rows[1 + 2 * mix + i], dim=1) for i in (0, 1)]
        for i, (kind, key) in enumerate((("trimmed", keys[partner[mix]]), ("truncated", keys))):
            own = logits(step, 1 + 2 * mix + i, 0, temperature, key, rows[1 - i].detach())
            assert_near(own, g[f"logits_{kind}"][mix], dtype=dtype, what=kind)
    assert (out.positives == 1).all()
    check_state(step, g, dtype)


@everywhere(CHAINED)
def test_golden_hiclr_step(golden, name, dtype, backend, encoders, monkeypatch):
    g, state = golden(name), golden("hiclr/state")
    views = {
        "query": state["x_q"],
        "key": state["x_k"],
        "extreme": state["x_strong"],
        "strong": state["x_masked"],
        "hidden": g["mask"][None, None, :, :, None],
    }
    before = {"joint": from_official(state.tree("before/"))}
    value = before["joint"]["mask_value"]
    filled = torch.where(views["hidden"], value, views["strong"])
    assert torch.equal(filled, g["x_masked_filled"])
    step = run_step(
        "hiclr",
        g,
        before,
        {"joint": views},
        dtype=dtype,
        backend=backend,
        encoders=encoders,
        monkeypatch=monkeypatch,
    )
    check_rows(step, g, ["query", "strong", "masked"], dtype)
    out, temperature = step.output, g["temperature"].item()
    found = torch.cat([out.loss, out.info_nce, out.d3m_extreme, out.d3m_masked])
    assert_near(found, g["loss"], dtype=dtype, what="loss")
    assert_near(out.keys[0], g["keys"], dtype=dtype, what="keys")
    query, strong, masked = (logits(step, row, 0, temperature) for row in range(3))
    assert_near(query, g["logits"], dtype=dtype, what="logits")
    expected = {
        "p_teacher_strong": query,
        "p_strong": strong,
        "p_teacher_masked": strong,
        "p_masked": masked,
    }
    for what, ours in expected.items():
        assert_near(ours.softmax(1), g[what], dtype=dtype, what=what)
    mask = torch.zeros_like(g["pos_mask"])
    mask[:, 0] = True
    mask.scatter_(1, 1 + out.neighbors[0].flatten(1), True)
    assert torch.equal(mask, g["pos_mask"])
    assert torch.equal(out.positives[0], g["pos_mask"].sum(1))
    check_state(step, g, dtype)


def test_golden_skelemixclr_graph(golden):
    expected = golden("skelemixclr/graph")["A"]
    assert torch.equal(torch.from_numpy(NTU.adjacency("directed")), expected)
