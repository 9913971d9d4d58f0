"""Whole steps of ActCLR's second phase against the authors' numbers.

Every `step_*.npz` is a case; sizes and constants come from the files.
"""

from __future__ import annotations

import copy

import pytest
import torch
from nn.test_golden_methods import check_after, check_gradients, check_rows, steps
from nn.test_golden_places import Sides, assert_exact_gradients
from tolerances import VALUES, assert_near
from torch import Tensor

from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, SkeletonEncoder, actclr
from aimclr_fast.nn.actclr import ActCLR, ActOutput
from aimclr_fast.nn.actclr_views import ActDraws
from aimclr_fast.nn.official import build_encoder, encoder_from_official, from_official
from aimclr_fast.nn.stgcn import View
from aimclr_fast.reference.actclr import ActMix

NTU = get_layout("ntu-rgb+d")
KEPT = 1e-7  # of what the files hold in float32


def build(g, before: dict[str, Tensor]) -> ActCLR:
    """The model that the state dict `before`, by our names, is of."""
    queue = before["queue"]
    _, width, *_ = before["query_encoder.backbone.blocks.1.temporal.weight"].shape
    features = len(before["query_encoder.backbone.blocks.9.temporal.weight"])
    backbone = STGCN(NTU, channels=width, features=features, dropout=0.0)
    model = ActCLR(
        SkeletonEncoder(backbone, queue.shape[1]),
        embedding=queue.shape[1],
        queue_size=len(queue),
        momentum=g["momentum"].item(),
        neighbors=g["topk"].item(),
        across_channels=bool(g["channel_similarity"]),
    )
    missing, unknown = model.load_state_dict(before, strict=False)
    assert not unknown
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return model


def draws_of(g) -> ActDraws:
    names = {name: name for name in ActMix._fields} | {"weight": "lam"}
    blended, whole = (
        ActMix(*(g[f"mix{number}_{names[name]}"] for name in ActMix._fields)) for number in (1, 2)
    )
    return ActDraws(g["shift_transform"], blended, whole)


class Seen:
    """What a step hands from one function to the next, and the rows of its passes with gradient.

    Args:
        recorded: actionlets of key, query and weak view to take in place of the step's own; none
            takes its own.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, model: ActCLR, recorded: list[Tensor] | None
    ) -> None:
        self.models = {"joint": model}
        self.actionlets: list[Tensor] = []
        self.recorded = recorded
        self.rows: list[Tensor] = []
        self.heads: list[Tensor] = []  # of the key encoder: average, global, actionlet
        self.inputs: list[Tensor] = []
        self.results: dict[str, list] = {}
        own = actclr.actionlet
        monkeypatch.setattr(actclr, "actionlet", lambda *a, **b: self._actionlet(own(*a, **b)))
        for name in ("swap_bones", "blend", "mix", "shares", "neighbor_similarities"):
            self._record(monkeypatch, name)
        embed = model.query_encoder.embed_views
        monkeypatch.setattr(
            model.query_encoder, "embed_views", lambda views: self._pass(embed(views), views)
        )
        model.key_encoder.head.register_forward_hook(self._head)

    def _record(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        plain, found = getattr(actclr, name), self.results.setdefault(name, [])

        def recorded(*arguments, **options):
            found.append(plain(*arguments, **options))
            return found[-1]

        monkeypatch.setattr(actclr, name, recorded)

    def _actionlet(self, own: Tensor) -> Tensor:
        self.actionlets.append(own)
        if self.recorded is None:
            return own
        return self.recorded[len(self.actionlets) - 1].to(own.dtype)

    def _pass(self, found: list[Tensor], views: list[View]) -> list[Tensor]:
        for rows in found:
            rows.retain_grad()
        self.inputs += [view.x for view in views]
        self.rows += found
        return found

    def _head(self, module, arguments, rows: Tensor) -> None:
        if not rows.requires_grad:  # not the one that the actionlet's gradient is taken of
            self.heads.append(rows)


def views_of(state, dtype: torch.dtype) -> list[Tensor]:
    return [state[f"x_{name}"].to(dtype) for name in ("extreme", "q", "p", "k")]


def check_views(seen: Seen, g, most: float) -> None:
    """Sequences with swapped bones, blended and mixed, and that these are what is encoded."""
    (swapped,), (query, transformed), (_, whole) = (
        seen.results[what] for what in ("swap_bones", "blend", "mix")
    )
    expected = {
        "x_transformed": swapped,
        "x_in_q": query,
        "x_in_transformed": transformed,
        "x_mix2": whole.x,
    }
    for what, own in expected.items():
        difference = (own - g[what]).abs().max()
        assert difference <= most * g[what].abs().max(), f"{what}: {difference:.2g}"
    for own, encoded in zip((query, transformed, whole.x), seen.inputs, strict=True):
        assert torch.equal(own, encoded)


def check_values(seen: Seen, g, out: ActOutput, dtype: torch.dtype) -> None:
    heads = ("mean_feature", "emb/key_global", "emb/key_actionlet")
    found = dict(zip(heads, seen.heads, strict=True))
    (taken, left), *more = seen.results["shares"]
    assert not more
    found |= {"share_trimmed": taken, "share_truncated": left}
    student, teacher = zip(*seen.results["neighbor_similarities"], strict=True)
    found |= {"sim/student": torch.stack(student), "sim/teacher": torch.stack(teacher)}
    found |= {"keys": out.keys}
    found |= {"loss": torch.stack([out.loss, out.query, out.transformed, out.mixed])}
    for what, own in found.items():
        assert_near(own, g[what], dtype=dtype, what=what)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("name", steps("actclr", "step_*"))
def test_golden_actclr_step(golden, name, backend, monkeypatch):
    g, state = golden(name), golden("actclr/state")
    model = build(g, from_official(state.tree("before/"))).double()
    model.backend = backend
    recorded = [g[f"actionlet/{view}"] for view in ("key", "q", "p")]
    # The released ones are nothing but rounding.
    seen = Seen(monkeypatch, model, None if model.across_channels else recorded)
    out = model(*views_of(state, torch.float64), draws_of(g))
    out.loss.backward()
    model.enqueue(out.keys)
    for own, expected in zip(seen.actionlets, recorded, strict=True):
        assert (own - expected).abs().max() <= (KEPT if model.across_channels else 1e-10)
    check_views(seen, g, KEPT)
    check_values(seen, g, out, torch.float64)
    check_rows(seen, g, ["q", "transformed", "mixed"], torch.float64)
    check_gradients(seen, g, torch.float64)
    check_after(seen, g, torch.float64)


@pytest.mark.parametrize("name", steps("actclr", "step_*"))
def test_golden_actclr_step_in_float32(golden, name, monkeypatch):
    """With the recorded actionlets, and parameters' gradients beside those of the exact step that
    takes the same side at each ReLU.
    """
    g, state = golden(name), golden("actclr/state")
    model = build(g, from_official(state.tree("before/")))
    model.backend = "reference"
    exact, sides = copy.deepcopy(model).double(), Sides()
    recorded = [g[f"actionlet/{view}"] for view in ("key", "q", "p")]
    with monkeypatch.context() as patch:
        seen = Seen(patch, model, recorded)
        with sides.recorded():
            out = model(*views_of(state, torch.float32), draws_of(g))
    out.loss.backward()
    model.enqueue(out.keys)
    for own, expected in zip(seen.actionlets, recorded, strict=True):
        assert (own - expected).abs().max() <= (1e-3 if model.across_channels else 1e-2)
    check_views(seen, g, VALUES[torch.float32])
    check_values(seen, g, out, torch.float32)
    check_rows(seen, g, ["q", "transformed", "mixed"], torch.float32)
    check_after(seen, g, torch.float32)
    Seen(monkeypatch, exact, recorded)
    with sides.taken():
        exact(*views_of(state, torch.float64), draws_of(g)).loss.backward()
    assert_exact_gradients(model, exact)


def test_golden_actclr_checkpoint_is_an_encoder(golden):
    """Its head is made of 1x1 convolutions."""
    state = golden("actclr/state")
    before = state.tree("before/")
    assert before["encoder_q.fc.0.weight"].dim() == 4
    encoder = build_encoder(encoder_from_official(before))
    model = build(golden(steps("actclr", "step_*")[0]), from_official(before))
    x = state["x_q"]
    assert torch.equal(encoder(x), model.query_encoder.eval()(x))
