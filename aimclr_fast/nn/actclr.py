"""ActCLR, second phase: views blended and mixed by actionlets, taught by rows pooled by them.

It starts from the query encoder of a first phase (AimCLR's pretraining). An actionlet is the part
of a sequence, in time and body, that moves unlike the average of the batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimclr_fast._sections import section
from aimclr_fast.layouts import Layout
from aimclr_fast.reference.actclr import mix, partner_of, swap_bones
from aimclr_fast.reference.actionlet import (
    actionlet,
    actionlet_pool,
    blend,
    divergence,
    neighbor_similarities,
    over_bodies,
    shares,
)
from aimclr_fast.reference.skelemix import part_table

from .actclr_views import (
    PUBLISHED_BLOCKS,
    ActDraws,
    describe_epochs,
    draw_act_views,
    draw_augmentations,
    mixes_are_late,
)
from .contrast import check_mixing
from .methods import Method, Recipe, Sampled, Views, plain_encoder
from .momentum import MomentumContrast, unit
from .stgcn import SkeletonEncoder, View

#: The losses of a step, and their names in figures.
LOSSES = {"query": "KL query", "transformed": "KL transformed", "mixed": "KL mixed"}
#: What actionlets are the gradient of, and whether that is a similarity across channels.
FORMS = {"cosine": True, "released": False}


class ActOutput(NamedTuple):
    """What the forward pass yields.

    Attributes:
        loss: query + transformed + mixed.
        query: divergence of the query view, blended with the extreme one, from the keys.
        transformed: of the weak view with swapped bones, blended with its mix.
        mixed: of the mix of weak views, from keys mixed in proportion.
        keys: rows [N, D] to enqueue.
        positives: [N], one each: the key. Neighbors are compared, but are no positives.
    """

    loss: Tensor
    query: Tensor
    transformed: Tensor
    mixed: Tensor
    keys: Tensor
    positives: Tensor


class ActCLR(MomentumContrast):
    """ActCLR's second phase (section 3 of the paper).

    Args:
        encoder: query encoder of the first phase; the key encoder starts as its copy.
        neighbors: keys of the queue that a student is compared by: the teacher's nearest.
        across_channels: actionlets by the cosine similarity of rows; false as in the released
            program (see `reference.actionlet`), which leaves rounding of them.
        options: as `MomentumContrast` takes them; the temperature is not used.

    Raises:
        ValueError: more neighbors than the queue has keys, or a skeleton without body parts.
    """

    part_of: Tensor
    parents: Tensor

    def __init__(
        self,
        encoder: SkeletonEncoder,
        *,
        neighbors: int = 8192,
        across_channels: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(encoder, **options)
        if not 1 <= neighbors <= len(self.queue):
            raise ValueError(
                f"neighbors must lie in 1..{len(self.queue)}, the keys in the queue, got "
                f"{neighbors}"
            )
        self.neighbors = neighbors
        self.across_channels = across_channels
        layout = encoder.backbone.layout
        self.register_buffer("part_of", part_table(layout.body_parts), persistent=False)
        self.register_buffer("parents", torch.tensor(layout.parents), persistent=False)

    def forward(
        self,
        extreme: Tensor,
        query: Tensor,
        weak: Tensor,
        key: Tensor,
        draws: ActDraws,
        stream: str = "joint",
    ) -> ActOutput:
        """One step's loss from the views of one stream, each [N, C, T, V, M], N >= 3.

        Moves the key encoder first; call `enqueue(output.keys)` after the backward pass. Batch
        norm's running statistics see the passes in the order in which they are written.
        """
        encoder, bodies = self.query_encoder, query.shape[-1]
        with torch.no_grad():
            with section("forward, key view"):
                self.update_key_encoder()
                average = self.key_encoder(key.mean(0, keepdim=True))
                keys = self._keys(key, average)
            with section("forward, actionlets"):
                in_query = self._actionlet(encoder, encoder.backbone(query), average, bodies)
                in_weak = self._actionlet(encoder, encoder.backbone(weak), average, bodies)
            with section("blend and mix"):
                query = blend(query, extreme, in_query)
                partner = partner_of(len(weak), draws.swap_shift)
                swapped = swap_bones(weak, partner, self.parents, stream)
                # As released, bones of the joint stream are swapped in place.
                plain = swapped if stream == "joint" else weak
                blended = blend(swapped, mix(swapped, draws.blended, self.part_of).x, in_weak)
                whole = mix(plain, draws.whole, self.part_of)
                other, own = shares(
                    in_weak, whole.partner, whole.pasted, whole.replaced, bodies=bodies
                )
                mixed_keys = unit(own[:, None] * keys + other[:, None] * keys[whole.partner])
        rows, transformed, mixed = encoder.embed_views(
            [
                View("query", query, encoder.pool),
                View("transformed", blended, encoder.pool),
                View("mixed", whole.x, encoder.pool),
            ]
        )
        # In float32 whatever the encoders compute in.
        with section("losses"), torch.autocast(keys.device.type, enabled=False):
            found = [
                divergence(*neighbor_similarities(unit(own), teacher, self.queue, self.neighbors))
                for own, teacher in ((rows, keys), (transformed, keys), (mixed, mixed_keys))
            ]
        losses = dict(zip(LOSSES, found, strict=True))
        positives = torch.ones(len(keys), dtype=torch.int64, device=keys.device)
        return ActOutput(torch.stack(found).sum(), **losses, keys=keys, positives=positives)

    def _keys(self, key: Tensor, average: Tensor) -> Tensor:
        """Unit rows [N, D] of the key view: half of the plain mean, half of the actionlet's."""
        encoder, bodies = self.key_encoder, key.shape[-1]
        features = encoder.backbone(key)
        found = self._actionlet(encoder, features, average, bodies)
        pooled = (features.mean((2, 3)), actionlet_pool(features, found))
        plain, within = (encoder.head(over_bodies(one, bodies)) for one in pooled)
        return unit(0.5 * plain + 0.5 * within)

    def _actionlet(
        self, encoder: SkeletonEncoder, features: Tensor, average: Tensor, bodies: int
    ) -> Tensor:
        # In float32 whatever the encoders compute in: it is a gradient divided by a tiny constant.
        with torch.autocast(features.device.type, enabled=False):
            return actionlet(
                features,
                average,
                encoder.head,
                self.part_of,
                bodies=bodies,
                across_channels=self.across_channels,
            )


class ActCLRMethod(Method):
    """ActCLR's second phase as training has it."""

    summary = "ActCLR's second phase (Lin et al., CVPR 2023); --start gives the encoder of a first"
    losses = LOSSES
    published = MappingProxyType(
        {
            "model": {"queue_size": 65536},
            "optim": {"epochs": 350, "mining_epoch": 0},
        }
    )

    def build(self, layout: Layout, recipe: Recipe) -> ActCLR:
        model = recipe.model
        return ActCLR(
            plain_encoder(layout, model),
            embedding=model.embedding,
            queue_size=model.queue_size,
            neighbors=max(1, int(recipe.actionlet.neighbors_share * model.queue_size)),
            across_channels=FORMS[recipe.actionlet.form],
            momentum=model.momentum,
            init=model.init,
            backend=recipe.backend,
        )

    def check(self, recipe: Recipe, layout: Layout, frames: int, samples: int) -> None:
        if recipe.start is None:
            raise ValueError(
                "start is left out, but actclr is a second phase: give the checkpoint of a run to "
                "begin with, such as one of --method aimclr"
            )
        check_mixing(recipe, layout, frames, samples, PUBLISHED_BLOCKS)

    def augmentation(self, recipe: Recipe, epoch: int) -> Hashable:
        """What `augment` depends on: the epoch's augmentations, and whether mixes are smaller."""
        return draw_augmentations(recipe, epoch), mixes_are_late(recipe, epoch)

    def phases(self, recipe: Recipe) -> str:
        return describe_epochs(recipe)

    def augment(self, recipe: Recipe, batch: Sampled) -> Views:
        return draw_act_views(recipe, batch)

    def forward(self, models: Mapping[str, Any], views: Views, phase: Hashable) -> Any:
        ((stream, model),) = models.items()
        return model(**views[stream], stream=stream)


METHOD = ActCLRMethod()
