"""Actionlets (ActCLR): where a sequence moves unlike the average of its batch, and their uses.

Lin, Zhang and Liu, "Actionlet-Dependent Contrastive Learning for Unsupervised Skeleton-Based Action
Recognition", CVPR 2023. An actionlet is a map [N*M, 1, T', V] of values from 0 to 1 over the
encoder's feature map [N*M, H, T', V], for each body by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 1e-8  # what the map is divided by; a constant, whatever the batch and the width
_EPS = 1e-5


def over_bodies(pooled: Tensor, bodies: int) -> Tensor:
    """Means [N, H] of rows [N*M, H] over the M bodies of each sequence."""
    return torch.unflatten(pooled, 0, (-1, bodies)).mean(1)


def actionlet(
    features: Tensor,
    average: Tensor,
    head: Callable[[Tensor], Tensor],
    part_of: Tensor,
    *,
    bodies: int,
    across_channels: bool = True,
) -> Tensor:
    """Where the features raise the distance between a sequence and the average motion.

    Grad-CAM of 1 - the mean cosine similarity of rows and average: channels weighted by the mean of
    its gradient, what is positive, averaged over body parts. The feature map is pooled by a plain
    mean, so its gradient is that of the pooled rows, spread evenly.

    Args:
        features: [N*M, H, T', V]; gets no gradient.
        average: row [1, D] of the batch's average motion, as the head gives it.
        head: rows [N, H] to [N, D].
        part_of: [V] each joint's body part.
        bodies: M.
        across_channels: the cosine similarity of rows. False takes it number by number, as the
            released program does: then the gradient is exactly zero, and the map is what rounding
            leaves of it.

    Returns:
        [N*M, 1, T', V] from 0 to 1, float32 or wider. It depends on the batch's size and the width:
        the gradient scales with 1 / (N M T' V), and it is divided by the constant 1e-8.
    """
    features = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    with torch.enable_grad():
        pooled = features.mean((2, 3)).requires_grad_()
        rows = head(over_bodies(pooled, bodies))
        if not across_channels:
            rows, average = rows[..., None], average[..., None]
        distance = 1 - F.cosine_similarity(rows, average.detach(), dim=-1)
        (gradient,) = torch.autograd.grad(distance.mean(), pooled)
    importance = gradient[..., None, None] / features[0, 0].numel()
    found = (importance * features).mean(1, keepdim=True).relu() / _SMALLEST
    same = (part_of[:, None] == part_of).to(found.dtype)
    weights = same / same.sum(1, keepdim=True)
    # Summed and not multiplied as matrices, which a GPU may round to TF32.
    return (found[..., None, :] * weights).sum(-1).clamp(0, 1)


def actionlet_pool(features: Tensor, found: Tensor) -> Tensor:
    """Mean [N*M, H] of a feature map, weighted by the actionlet."""
    return (features * found).sum((2, 3)) / (found.sum((2, 3)) + _EPS)


def blend(x: Tensor, y: Tensor, found: Tensor) -> Tensor:
    """Sequences that are x inside the actionlet and y outside it.

    Args:
        x: [N, C, T, V, M], like y.
        y: see there.
        found: the actionlet of x, enlarged to T frames by linear interpolation, first and last
            frames aligned.
    """
    frames, joints, bodies = x.shape[2:]
    enlarged = F.interpolate(found, size=(frames, joints), mode="bilinear", align_corners=True)
    inside = torch.unflatten(enlarged, 0, (-1, bodies)).permute(0, 2, 3, 4, 1).to(x.dtype)
    return inside * x + (1 - inside) * y


def shares(
    found: Tensor, partner: Tensor, pasted: Tensor, replaced: Tensor, *, bodies: int
) -> tuple[Tensor, Tensor]:
    """How much of a mixed sequence is its partner's, and how much its own: [N] each, sum 1.

    Args:
        found: actionlets of the sequences before mixing; where they are large, a part counts more.
        partner: [N] the row that each sequence is mixed with.
        pasted: [T', V] what of the partner is in the mixed sequence, from 0 to 1.
        replaced: [T', V] what of the sequence itself is gone.
        bodies: M.
    """
    weight = torch.unflatten((found[:, 0] / 0.1).exp(), 0, (-1, bodies))
    other = weight[partner]
    pasted, replaced = (mask.to(weight.dtype) for mask in (pasted, replaced))
    taken = (pasted * other).sum((2, 3)) / (other + _EPS).sum((2, 3))
    left = ((1 - replaced) * weight).sum((2, 3)) / (weight.sum((2, 3)) + _EPS)
    taken, left = taken.mean(1), left.mean(1)
    return taken / (taken + left), left / (taken + left)


def neighbor_similarities(
    rows: Tensor, keys: Tensor, queue: Tensor, neighbors: int, limit: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Similarities of students and teachers to the teacher's nearest neighbors in the queue.

    Args:
        rows: unit rows [N, D] that learn.
        keys: unit rows [N, D] that teach; they and the queue get no gradient.
        queue: unit rows [K, D].
        neighbors: how many keys of the queue are compared.
        limit: keys more similar to the teacher than this count as opposite (-1).

    Returns:
        The students' similarities, squared, and the teachers', [N, neighbors] each, by falling
        similarity to the teacher.
    """
    with torch.no_grad():
        near = keys @ queue.T
        teacher, places = near.masked_fill_(near > limit, -1.0).topk(neighbors, dim=1)
    return (rows @ queue.T).gather(1, places).square(), teacher


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the students' distributions from the teachers'.

    Both are similarities [N, k]; the softmax has temperature 0.1 for students, 0.04 for teachers.
    """
    own, given = (student / 0.1).log_softmax(1), (teacher / 0.04).log_softmax(1)
    return F.kl_div(own, given, reduction="batchmean", log_target=True)
