"""Finds and loads the compiled library, and says why when it cannot.

Importing this module loads nothing: the library is opened by the first call that needs it. Set
``AIMCLR_NATIVE=OFF`` to do without it, and ``AIMCLR_CPU_LEVEL`` to ``baseline``, ``v3`` (AVX2),
``v4`` (AVX-512), ``v4_bf16`` (AVX512-BF16) or ``amx`` (AMX-BF16) to have the CPU kernels use no
higher level of x86-64 than that.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

__all__ = [
    "available",
    "cuda_compiled",
    "cuda_usable",
    "load",
    "source_digest",
    "why_cuda_unusable",
    "why_no_bf16_maps",
    "why_no_bf16_products",
    "why_unavailable",
]

_NAME = "aimclr_fast._native"
# csrc/bindings/levels.cpp; each with its instructions.
_LEVELS = {
    "baseline": "SSE2",
    "v3": "AVX2",
    "v4": "AVX-512",
    "v4_bf16": "AVX512-BF16",
    "amx": "AMX-BF16",
}
_BF16_LEVELS = ("v4_bf16", "amx")
_SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def load() -> ModuleType:
    """The compiled library.

    Raises:
        ImportError: it is missing or cannot be loaded; the message holds the original error and
            says what still works.
    """
    loaded = _attempt()
    if isinstance(loaded, ModuleType):
        return loaded
    raise ImportError(
        f"the compiled library {_NAME} is not available: {loaded}. The 'reference' backend (pure "
        "PyTorch) still works, and so does 'triton' on a GPU; the 'cpp' and 'cuda' backends need "
        "the library, which `pip install .` builds from the source tree",
        name=_NAME,
    ) from loaded


def available() -> bool:
    """Whether the compiled library can be loaded."""
    return isinstance(_attempt(), ModuleType)


def why_unavailable() -> str | None:
    """The error that keeps the library from loading, or None if it loads."""
    loaded = _attempt()
    return None if isinstance(loaded, ModuleType) else str(loaded)


def why_no_bf16_maps() -> str | None:
    """Why the CPU kernels cannot take bfloat16 maps, at any speed, or None."""
    reason = why_unavailable()
    if reason is None and not hasattr(load(), "stgcn_block_forward_bf16_cpu"):
        return (
            "the compiled library was built from older sources, which had no bfloat16 kernels: run "
            "pip install again"
        )
    return reason


def why_no_bf16_products() -> str | None:
    """Why bfloat16 products on the CPU are not faster than those of float32, or None if they are.

    The processor, or the level that the kernels are held at, may lack the instructions.
    """
    reason = why_no_bf16_maps()
    if reason is not None:
        return reason
    level, levels = load().cpu_level(), load().cpu_levels()
    if level in _BF16_LEVELS:
        return None
    needed = " or ".join(_LEVELS[name] for name in _BF16_LEVELS)
    there = [name for name in levels if name in _BF16_LEVELS]
    if there:
        return (
            f"the CPU kernels are held at level {level} ({_LEVELS[level]}), below {there[0]} "
            f"({_LEVELS[there[0]]}), which this processor has: unset AIMCLR_CPU_LEVEL"
        )
    return (
        f"bfloat16 products need {needed}, and the highest level of this processor and build is "
        f"{levels[-1]} ({_LEVELS[levels[-1]]})"
    )


def cuda_compiled() -> bool:
    """Whether the library is available and was built with the CUDA kernels."""
    return available() and bool(load().cuda_compiled)


def cuda_usable() -> bool:
    """Whether the CUDA kernels can run on torch's current device."""
    return why_cuda_unusable() is None


def why_cuda_unusable() -> str | None:
    """Why the CUDA kernels cannot run on torch's current device, or None if they can."""
    reason = why_unavailable()
    if reason is not None:
        return reason
    if not cuda_compiled():
        why = getattr(load(), "cuda_left_out", "it was built from older sources")
        return f"the library was built without CUDA kernels: {why}"
    import torch  # here, so that importing this module costs nothing

    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return _probe(torch.cuda.current_device())


@functools.cache
def _probe(device: int) -> str | None:
    """What the library's own CUDA runtime says of torch's current device, number `device`."""
    import torch

    library = load()
    try:
        library.probe_device()
    except RuntimeError as error:
        major, minor = torch.cuda.get_device_capability(device)
        name = torch.cuda.get_device_name(device)
        here = f"device {device} ({name}, compute capability {major}.{minor})"
        if not _has_code_for(10 * major + minor, library.cuda_archs):
            return (
                f"{here} is not among those the library was compiled for ({library.cuda_archs}): "
                f"build it with AIMCLR_CUDA_ARCHS={major}{minor} to have the kernels ({error})"
            )
        return f"{here}: {error} (compiled for {library.cuda_archs})"
    return None


def _has_code_for(capability: int, archs: str) -> bool:
    """Whether a library compiled for `archs`, such as "75,80", holds code for a capability.

    Machine code serves its major version from its minor version on, and the PTX of the last
    architecture all that are newer.
    """
    built = [int(arch) for arch in archs.split(",")]
    same_major = any(b // 10 == capability // 10 and b <= capability for b in built)
    return same_major or capability >= built[-1]


@functools.cache
def _attempt() -> ModuleType | ImportError:
    if os.environ.get("AIMCLR_NATIVE", "").upper() in {"OFF", "0", "FALSE"}:
        return ImportError("AIMCLR_NATIVE=OFF is set")
    try:
        module = _import()
    except ImportError as error:
        return error
    _warn_if_stale(module)
    _set_level(module)
    return module


def _set_level(module: ModuleType) -> None:
    level = os.environ.get("AIMCLR_CPU_LEVEL")
    if level:
        levels = module.cpu_levels()
        if level in _LEVELS and level not in levels:  # a bound, which the highest keeps
            level = levels[-1]
        try:
            module.set_cpu_level(level)
        except ValueError as error:
            raise ValueError(f"AIMCLR_CPU_LEVEL={level}: {error}") from None


def _import() -> ModuleType:
    try:
        return importlib.import_module(_NAME)
    except ModuleNotFoundError as error:
        if error.name != _NAME or _NAME in sys.modules:
            raise
    # Python started inside a source tree after `pip install .` imports the tree's aimclr_fast,
    # which has no library beside it; the installed one does.
    spec = PathFinder.find_spec(_NAME, [str(Path(path) / "aimclr_fast") for path in sys.path])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("no compiled file beside the package or on sys.path", name=_NAME)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NAME] = module
    return module


def _warn_if_stale(module: ModuleType) -> None:
    csrc = Path(__file__).resolve().parent.parent / "csrc"
    if csrc.is_dir() and module.source_digest != source_digest(csrc):
        warnings.warn(
            f"{module.__file__} was built from other sources than {csrc}; run pip install again",
            RuntimeWarning,
            stacklevel=4,
        )


def source_digest(csrc: Path) -> str:
    """A digest of the C++ and CUDA sources under `csrc`, which the build keeps in the library."""
    digest = hashlib.sha256()
    files = sorted(path for path in csrc.rglob("*") if path.suffix in _SOURCE_SUFFIXES)
    for path in files:
        digest.update(path.relative_to(csrc).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
