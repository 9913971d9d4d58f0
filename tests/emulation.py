"""Runs the blocks of the CUDA augmentation kernels on the CPU, in place of the cpp backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from aimclr_fast import native


class Runner(NamedTuple):
    """Where a test runs an op: a backend, its device, and the block that is emulated, if any."""

    backend: str
    device: str = "cpu"
    shared: bool | None = None
    threads: int = 0
    parts: int = 1  # blocks that share a sample, of the op that can do that

    def __str__(self) -> str:
        return self.backend if self.shared is None else f"block of {self.threads}"


CPP = Runner("cpp")
CUDA = pytest.param(Runner("cuda", "cuda"), marks=pytest.mark.cuda, id="cuda")
# One thread count for each placement of the buffers, and one that leaves threads idle.
BLOCKS = [
    pytest.param(Runner("cpp", shared=True, threads=160), id="cuda-block-shared"),
    pytest.param(Runner("cpp", shared=False, threads=128, parts=3), id="cuda-block-workspace"),
]
RUNNERS = [pytest.param(CPP, id="cpp"), *BLOCKS, CUDA]


class EmulatedLibrary:
    """The native library, but that what the cpp backend calls runs as blocks of the kernels."""

    def __init__(self, runner: Runner) -> None:
        self._library = native.load()
        self._block = {"shared": runner.shared, "threads": runner.threads}
        self._parts = runner.parts
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_cpu"):
            return getattr(self._library, name)
        emulated: Callable[..., None] = getattr(self._library, name[:-4] + "_emulated")

        def run(threads: int, **members: Any) -> None:
            self.calls += 1
            parts = {"parts": self._parts} if name == "skeleton_augment_cpu" else {}
            emulated(**members, **self._block, **parts)

        return run


@pytest.fixture
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Runner of a parametrised test, ready to use."""
    wanted: Runner = request.param
    if wanted.shared is None:
        yield wanted
        return
    library = EmulatedLibrary(wanted)
    monkeypatch.setattr(native, "load", lambda: library)
    yield wanted
    assert library.calls, "nothing was emulated"
