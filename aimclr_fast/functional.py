"""The public functions: every op as a plain function of tensors.

All take `backend`: "auto" picks the fastest one that can run, a name forces it.
"""

from __future__ import annotations

from .ops.apply_augment import apply_augment
from .ops.eadm_pool import eadm_pool
from .ops.masked_pool import masked_pool
from .ops.queue_contrast import ContrastLosses, QueueLosses, queue_contrast, queue_losses
from .ops.skelemix import Mixed, skelemix
from .ops.skeleton_augment import SomeViews, Views, skeleton_augment, skeleton_augment_streams
from .ops.stgcn_block import stgcn_block
from .reference.queue_contrast import Term
from .reference.skelemix import MixConfig
from .reference.skeleton_augment import STREAMS, AugmentConfig, AugmentParams

__all__ = [
    "STREAMS",
    "AugmentConfig",
    "AugmentParams",
    "ContrastLosses",
    "MixConfig",
    "Mixed",
    "QueueLosses",
    "SomeViews",
    "Term",
    "Views",
    "apply_augment",
    "eadm_pool",
    "masked_pool",
    "queue_contrast",
    "queue_losses",
    "skelemix",
    "skeleton_augment",
    "skeleton_augment_streams",
    "stgcn_block",
]
