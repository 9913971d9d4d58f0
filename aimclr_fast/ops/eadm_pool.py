"""eadm_pool: checks and backends."""

from __future__ import annotations

from torch import Tensor

from aimclr_fast.reference import eadm_pool as reference

from ._checks import FLOATS, check_dtype, check_shape
from ._dispatch import REFERENCE, Backend, always, choose

BACKENDS = (Backend(REFERENCE, reference.eadm_pool, always),)


def eadm_pool(
    x: Tensor, keep_prob: float, e_lambda: float, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    check_shape("x", x, "B", "C", "T", "V")
    check_dtype("x", x, *FLOATS)
    if x.shape[2] * x.shape[3] == 0:
        raise ValueError(f"x must have at least one frame and one joint, got {list(x.shape)}")
    if not 0.0 < keep_prob <= 1.0:
        raise ValueError(f"keep_prob must lie in (0, 1], got {keep_prob}")
    if not e_lambda > 0.0:
        raise ValueError(f"e_lambda must be positive, got {e_lambda}")
    pooled, pooled_drop = choose("eadm_pool", BACKENDS, backend, x)(x, keep_prob, e_lambda)
    return pooled, pooled_drop
