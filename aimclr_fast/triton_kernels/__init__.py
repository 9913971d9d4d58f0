"""Triton kernels and their launchers."""

# mypy: allow-untyped-defs, allow-untyped-decorators
import triton


@triton.jit
def _probe():
    pass


INTERPRETED = not isinstance(_probe, triton.JITFunction)
"""Whether kernels run in Triton's interpreter: TRITON_INTERPRET=1 was set at import."""


def _let_scalars_index() -> None:
    """Let the interpreter of Triton before 3.7 use a scalar as the end of a range.

    It holds scalars as arrays of shape [1] and converts them with int(), which NumPy 2.4 and newer
    refuse (triton-lang/triton#9171, fixed in 3.7). GPUs are not affected.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor, *scope):
        patch(tensor, *scope)
        tensor.__index__ = lambda self: self.handle.data.item()

    interpreter._patch_lang_tensor = patched


if INTERPRETED and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7):
    _let_scalars_index()
