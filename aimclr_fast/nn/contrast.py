"""A step of momentum contrast, put together of parts: AimCLR and the methods that extend it.

Every method of this kind encodes sets of rows, one for each view or pooling, and compares them with
keys and a queue. `terms_of` says which sets there are and what each learns, `Contrast.rows` encodes
them, and `contrast_step` is the forward pass of one stream or of several that learn together.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aimclr_fast._devices import Fork
from aimclr_fast._sections import section
from aimclr_fast.functional import MixConfig, Term, queue_losses, skelemix
from aimclr_fast.layouts import Layout
from aimclr_fast.reference.skelemix import BLOCK_FRAMES, block_rows

from .masking import draw_hidden
from .methods import Method, Parts, Recipe, Sampled, Views, draw_views, plain_encoder
from .momentum import MomentumContrast, unit, units
from .stgcn import SkeletonEncoder, View

#: Losses in the order in which their rows are encoded, and their names in figures.
LOSSES = {
    "info_nce": "InfoNCE",
    "d3m_extreme": "D3M extreme",
    "d3m_dropped": "D3M dropped",
    "d3m_masked": "D3M masked",
    "trimmed": "InfoNCE trimmed",
    "truncated": "InfoNCE truncated",
}


class Blocks(NamedTuple):
    """Published numbers of blocks that are mixed, and the blocks of the sequences they are for."""

    blocks_min: int
    blocks_max: int
    of: int


PUBLISHED_BLOCKS = Blocks(MixConfig.blocks_min, MixConfig.blocks_max, of=16)


class StepOutput(NamedTuple):
    """What the forward pass yields: of one stream, or of several along a first axis.

    Attributes:
        loss: info_nce + d3m_weight * (d3m_extreme + d3m_dropped + d3m_masked)
            + mix_weight / 2 * (trimmed + truncated).
        info_nce: of the query rows.
        d3m_extreme: of the extreme view's rows: D3M, or their InfoNCE where D3M is off; 0 without
            the view.
        d3m_dropped: likewise after dropping; 0 without EADM.
        keys: rows [N, D] to enqueue.
        neighbors: what the query, extreme, dropped and masked rows mined that there are,
            [N, rows, topk] indices into the queue.
        positives: [N], how many positives the query row has, its key included.
        d3m_masked: as d3m_extreme, of the masked view; None, like the next, without the part.
        trimmed: InfoNCE of what was mixed in, the sum over mixes.
        truncated: InfoNCE of what is left of the query view, the sum over mixes.
    """

    loss: Tensor
    info_nce: Tensor
    d3m_extreme: Tensor
    d3m_dropped: Tensor
    keys: Tensor
    neighbors: Tensor
    positives: Tensor
    d3m_masked: Tensor | None = None
    trimmed: Tensor | None = None
    truncated: Tensor | None = None


class Voting(NamedTuple):
    """Positives by votes across streams: the neighbors that each row of a stream votes for, and the
    streams that must agree.
    """

    topk: int
    least: int


def terms_of(parts: Parts) -> list[tuple[str, Term]]:
    """The sets of rows of a step in the order in which they are encoded: the name of the loss, and
    what the rows learn. A stream's keys are that of the sample, then those of its partners.
    """
    terms = [("info_nce", Term(mines=True, key=0))]
    students = {"d3m_extreme": parts.extreme, "d3m_dropped": parts.eadm, "d3m_masked": parts.masked}
    for name in (name for name, on in students.items() if on):
        weaker = len(terms) - 1 if parts.chain else 0
        teacher = weaker if parts.d3m else None
        terms.append((name, Term(teacher=teacher, mines=True, key=0)))
    for mix in range(1, 1 + parts.mixes):
        first = len(terms)  # each has the other of the same sample as one more negative
        terms.append(("trimmed", Term(negative=first + 1, positives=False, key=mix)))
        terms.append(("truncated", Term(negative=first, positives=False, key=0)))
    return terms


class Contrast(MomentumContrast):
    """Query encoder, its momentum copy and a queue of keys, and the parts of a method.

    Args:
        encoder: query encoder; the key encoder is made from it.
        keep_prob: attention threshold; energy-based dropping (EADM) drops what reaches it.
        d3m_weight: weight of each loss of the extreme, dropped and masked rows.
        mix_weight: weight of the losses of mixed sequences, half of it for each of the two.
        parts: which parts of the method are on.
        options: as `MomentumContrast` takes them: embedding, queue_size, momentum, temperature,
            init, backend.
    """

    def __init__(
        self,
        encoder: SkeletonEncoder,
        *,
        keep_prob: float = 0.7,
        d3m_weight: float = 0.5,
        mix_weight: float = 1.0,
        parts: Parts = Parts(),  # noqa: B008  frozen
        **options: Any,
    ) -> None:
        super().__init__(encoder, **options)
        self.keep_prob = keep_prob
        self.d3m_weight = d3m_weight
        self.mix_weight = mix_weight
        self.parts = parts
        if parts.masked:  # what stands in a hidden joint's place
            self.mask_value = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        extreme: Tensor | None,
        query: Tensor,
        key: Tensor,
        topk: int = 0,
        **more: Tensor,
    ) -> StepOutput:
        """One step's loss from the views of one stream, each [N, C, T, V, M].

        Moves the key encoder first; call `enqueue(output.keys)` after the backward pass. `topk`
        neighbors of each row join the positives (0: no mining). Views and neighbors that no part
        asks for are not looked at; `more` are those of `ContrastMethod.augment`.
        """
        views = {"query": query, "key": key, **more}
        if extreme is not None:
            views["extreme"] = extreme
        output = contrast_step([self], [views], topk)
        return StepOutput._make(None if one is None else one[0] for one in output)

    def rows(self, views: Mapping[str, Tensor]) -> list[Tensor]:
        """Unit rows [N, D] of each set of `terms_of(parts)`."""
        parts, encoder = self.parts, self.query_encoder
        each = [View("query", views["query"], encoder.pool)]
        if parts.eadm:
            drop = functools.partial(
                encoder.pool_with_drop, keep_prob=self.keep_prob, backend=self.backend
            )
            each.append(View("extreme", views["extreme"], drop))
        elif parts.extreme:
            each.append(View("extreme", views["extreme"], encoder.pool))
        if parts.masked:
            value = self.mask_value.to(views["strong"].dtype)
            masked = torch.where(views["hidden"], value, views["strong"])
            each.append(View("masked", masked, encoder.pool))
        for mix in range(parts.mixes):
            mask = functools.partial(
                encoder.pool_with_mask, mask=views["pasted"][mix], backend=self.backend
            )
            each.append(View("mixed", views["mixed"][mix], mask))
        return units(encoder.embed_views(each))


def contrast_step(
    models: Sequence[Contrast],
    views: Sequence[Mapping[str, Tensor]],
    topk: int = 0,
    votes: int = 0,
) -> StepOutput:
    """The losses of one step of streams that learn together, each from its own views.

    Args:
        models: of each stream, with the same parts and numbers.
        views: of each stream, by name.
        topk: neighbors that each row mines, 0 for none.
        votes: 0 takes the union of what the rows of a stream mined; else positives are the same in
            all streams: the keys that all rows of so many streams mined.

    Returns:
        Each of StepOutput with a first axis of the streams.
    """
    first = models[0]
    names, terms = zip(*terms_of(first.parts), strict=True)
    # The key view needs nothing of the others'.
    fork = Fork(first.queue.device, aside=first.key_encoder.backend == "triton")
    rows = [model.rows(own) for model, own in zip(models, views, strict=True)]
    with fork.branch(), section("forward, key view"), torch.no_grad():
        for model in models:
            model.update_key_encoder()
        keys = [
            unit(model.key_encoder(own["key"])) for model, own in zip(models, views, strict=True)
        ]
    fork.join(*keys)
    # In float32 whatever the encoders compute in: the products of the losses make logits.
    with section("losses"), torch.autocast(keys[0].device.type, enabled=False):
        found = queue_losses(
            rows,
            [_keys(own, of) for own, of in zip(keys, views, strict=True)],
            [model.queue for model in models],
            terms,
            temperature=first.temperature,
            topk=topk if first.parts.nnm else 0,
            votes=votes if first.parts.nnm else 0,
            backend=first.backend,
        )
        losses: dict[str, Tensor] = {}
        for name, own in zip(names, found.losses.unbind(1), strict=True):
            losses[name] = losses[name] + own if name in losses else own
        loss = losses["info_nce"]
        for weight, together in (
            (first.d3m_weight, ("d3m_extreme", "d3m_dropped", "d3m_masked")),
            (first.mix_weight / 2, ("trimmed", "truncated")),
        ):
            if there := [losses[name] for name in together if name in losses]:
                loss = loss + weight * functools.reduce(torch.add, there)
        for name in {"d3m_extreme", "d3m_dropped"} - losses.keys():
            losses[name] = torch.zeros_like(loss)
    return StepOutput(
        loss,
        **losses,
        keys=torch.stack(keys) if len(keys) > 1 else keys[0][None],  # without a copy of one
        neighbors=found.neighbors,
        positives=found.positives,
    )


def _keys(own: Tensor, views: Mapping[str, Tensor]) -> list[Tensor]:
    """The keys of samples, and for each mix those of their partners."""
    return [own, *(own[partner] for partner in views.get("partner", ()))]


class ContrastMethod(Method):
    """A method that is a set of parts and the numbers that it was published with.

    Args:
        summary: one line for people.
        parts: those that are on by default.
        name: of the method; None for that of its module.
        published: as in `Method`.
        always: losses that are logged even where their part is off, besides those of `parts`.
    """

    parts: Parts

    def __init__(
        self,
        summary: str,
        parts: Parts,
        *,
        name: str | None = None,
        published: Mapping[str, Mapping[str, Any]] | None = None,
        always: Sequence[str] = (),
    ) -> None:
        self.summary, self.parts, self.name = summary, parts, name
        self.published = published or {}
        self.losses = _titles(always, parts)

    def losses_of(self, recipe: Recipe) -> Mapping[str, str]:
        return _titles(self.losses, self._parts(recipe))

    def build(self, layout: Layout, recipe: Recipe) -> Contrast:
        model, parts = recipe.model, self._parts(recipe)
        return Contrast(
            plain_encoder(layout, model, norm_head=parts.norm_head),
            embedding=model.embedding,
            queue_size=model.queue_size,
            momentum=model.momentum,
            temperature=model.temperature,
            keep_prob=model.keep_prob,
            d3m_weight=model.d3m_weight,
            mix_weight=model.mix_weight,
            parts=parts,
            init=model.init,
            backend=recipe.backend,
        )

    def joins(self, recipe: Recipe) -> bool:
        return self._parts(recipe).cross_stream and len(recipe.data.streams) > 1

    def join(self, models: Mapping[str, Any], recipe: Recipe) -> None:
        """Let the other streams' heads end in the whole head of the first, the very same weights,
        as in 3s-AimCLR++; not without model.share_head.
        """
        first, *others = models.values()
        for other in others if recipe.model.share_head else ():
            layer = other.query_encoder.head[0]
            for side in ("query_encoder", "key_encoder"):
                encoder, shared = getattr(other, side), getattr(first, side).head
                encoder.head = nn.Sequential(copy.deepcopy(layer), nn.ReLU(), shared)
            other.key_encoder.requires_grad_(False)

    def check(self, recipe: Recipe, layout: Layout, frames: int, samples: int) -> None:
        if self._parts(recipe).mixes:
            check_mixing(recipe, layout, frames, samples)

    def phase(self, recipe: Recipe, epoch: int) -> int | Voting:
        """Neighbors that a row mines, or how streams vote for them."""
        topk, votes = int(recipe.model.topk), recipe.votes
        if not (self._parts(recipe).nnm and 0 < recipe.optim.mining_epoch <= epoch and topk > 0):
            return 0
        if self.joins(recipe) and 0 < votes.epoch <= epoch:
            return Voting(votes.topk, votes.least)
        return topk

    def phases(self, recipe: Recipe) -> str:
        if not self._parts(recipe).nnm:
            return ""
        last = self.phase(recipe, recipe.optim.epochs)
        if last == 0:
            return "no mining"
        mining = f"mining from epoch {recipe.optim.mining_epoch}"
        if not self.joins(recipe):
            return mining
        votes = f"votes from epoch {recipe.votes.epoch}" if isinstance(last, Voting) else "no votes"
        return f"{mining}, {votes}"

    def augment(self, recipe: Recipe, batch: Sampled) -> Views:
        """The views that the parts ask for; besides these, in each stream,

        mixed: [R, N, 3, T, V, M] the query view with parts of others pasted in (SkeleMix), pasted:
        [R, ceil(T / 4), V] booleans, where, partner: [R, N] of which sample;
        hidden: booleans that go with [N, 3, T, V, M], what is masked of the strong view.
        """
        parts, streams = self._parts(recipe), batch.streams
        names = {"extreme": parts.extreme, "query": True, "key": True, "strong": parts.masked}
        views = draw_views(recipe, batch, [name for name, on in names.items() if on])
        if parts.mixes:
            joint = views  # sequences are mixed before they are streams
            if "joint" not in streams:
                joint = draw_views(recipe, batch._replace(streams=("joint",)), ["query"])
            mixed = skelemix(
                joint["joint"]["query"],
                layout=batch.layout,
                config=mix_config(recipe, parts.mixes, batch.data.shape[2]),
                seed=recipe.seed,
                step=batch.step,
                streams=streams,
                backend=recipe.backend,
            )
            for stream, sequences in zip(streams, mixed.views, strict=True):
                own = {"mixed": sequences, "pasted": mixed.mask, "partner": mixed.partner}
                views[stream] |= own
        if parts.masked:
            hidden = draw_hidden(recipe.mask, batch, recipe.seed)
            for stream in streams:
                views[stream]["hidden"] = hidden
        return views

    def forward(self, models: Mapping[str, Any], views: Views, phase: Any) -> StepOutput:
        topk, votes = phase if isinstance(phase, Voting) else (phase, 0)
        return contrast_step(list(models.values()), [views[s] for s in models], topk, votes)

    def _parts(self, recipe: Recipe) -> Parts:
        parts = self.parts_of(recipe)
        assert parts is not None
        return parts


def check_mixing(
    recipe: Recipe,
    layout: Layout,
    frames: int,
    samples: int,
    published: Blocks = PUBLISHED_BLOCKS,
) -> None:
    """Refuse to mix sequences as the recipe's group `mix` says where they do not allow it.

    Raises:
        ValueError: names the field and what would do.
    """
    most = mix_config(recipe, 1, frames, published).blocks_max
    if most > (blocks := block_rows(frames)):
        raise ValueError(
            f"mix.blocks_max is {most}, but must be at most {blocks}: sequences have {frames} "
            f"frames, and a block has {BLOCK_FRAMES}"
        )
    if samples < 3:
        raise ValueError(f"optim.batch_size must leave at least 3 samples to mix, not {samples}")
    _ = layout.body_parts  # raises where there are none


def mix_config(
    recipe: Recipe, mixes: int, frames: int, published: Blocks = PUBLISHED_BLOCKS
) -> MixConfig:
    """The recipe's mixes of sequences of so many frames, numbers of blocks that are left out filled
    in: the published ones, or the same share of the blocks of shorter sequences.
    """
    blocks = min(block_rows(frames), published.of)
    own = asdict(recipe.mix)
    for name in ("blocks_min", "blocks_max"):
        if own[name] is None:
            own[name] = max(1, getattr(published, name) * blocks // published.of)
    try:
        return MixConfig(count=mixes, **own)
    except ValueError as error:
        raise ValueError(f"mix.{error}") from error


def _titles(names: Iterable[str], parts: Parts) -> dict[str, str]:
    """Losses by these names or of these parts, and their names in figures."""
    own = {*names, *(name for name, _ in terms_of(parts))}
    return {name: title for name, title in LOSSES.items() if name in own}
