"""The one tolerance table: how far a backend may be from the reference or the authors' numbers."""

from __future__ import annotations

import torch

# Relative to the largest magnitude of the expected array.
VALUES = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
GRADIENTS = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.bfloat16: 2e-2,
    torch.float16: 5e-3,
}
# Of a whole step from the exact one: ten blocks of batch norm cancel much of a gradient, and
# float32 on a CPU is off by up to 2e-4.
STEP_GRADIENTS = {torch.float64: 1e-10, torch.float32: 5e-4}
# Relative to a ReLU's largest input: nearer to zero, rounding may carry an input to the other side.
RELU_BAND = VALUES[torch.float32]


def assert_near(
    actual: torch.Tensor,
    expected: torch.Tensor,
    *,
    gradient: bool = False,
    dtype: torch.dtype = torch.float32,
    what: str = "values",
) -> None:
    """Largest difference within the table's share of the largest expected magnitude."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} is not {expected.shape}"
    if expected.numel() == 0:
        return
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    assert torch.isfinite(actual).all(), f"{what}: not finite"
    limit = (GRADIENTS if gradient else VALUES)[dtype] * expected.abs().max().clamp(min=1e-30)
    difference = (actual - expected).abs().max()
    assert difference <= limit, f"{what}: off by {difference:.3g}, {limit:.3g} allowed"
