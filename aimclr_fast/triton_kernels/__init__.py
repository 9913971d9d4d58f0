"""Triton kernels and their launchers."""

# mypy: allow-untyped-defs, allow-untyped-decorators
import triton


@triton.jit
def _probe():
    pass


INTERPRETED = not isinstance(_probe, triton.JITFunction)
"""Whether kernels run in Triton's interpreter: TRITON_INTERPRET=1 was set at import."""
