"""What a machine lacks: tests that need it are skipped with a reason, but fail in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator

import pytest

from aimclr_fast import native


def all_expected() -> bool:
    """CI has everything; a machine that is to test its GPU has all that this needs."""
    return bool(os.environ.get("CI") or os.environ.get("AIMCLR_EXPECT_GPU"))


def require(there: object, reason: str) -> None:
    """Skip the test, or fail it where everything is expected, unless `there`."""
    if not there:
        (pytest.fail if all_expected() else pytest.skip)(reason)


def compiler() -> str | None:
    """The C++ compiler."""
    return shutil.which(os.environ.get("CXX") or "c++")


def nvcc() -> str | None:
    """The CUDA compiler."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which(os.environ.get("CUDACXX") or "nvcc") or shutil.which(f"{home}/bin/nvcc")


def has_triton() -> bool:
    try:
        return importlib.util.find_spec("triton") is not None
    except ModuleNotFoundError:
        return False


def why_skipped(error: BaseException) -> str | None:
    """The reason to skip a test that ended with `error`, if it did for want of Triton or of the
    native library.
    """
    if all_expected():
        return None
    lacks = {} if has_triton() else {"No module named 'triton'": "needs Triton"}
    if why := native.why_unavailable():
        lacks[why] = f"needs the native library: {why}"
    messages = [str(each) for each in _chain(error)]
    return next((why for sign, why in lacks.items() if any(sign in m for m in messages)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
