"""Shared by all tests: the Triton interpreter where there is no GPU, and the golden numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from fnmatch import fnmatch
from pathlib import Path

# Tests are small: a second thread costs more than it gives, above all under pytest-xdist, where
# the processes that tests start would wait for each other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from missing import why_skipped

from aimclr_fast import native

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported

torch.set_num_threads(1)

# What a file with tests marked `cuda` holds: the mark, or parameters that carry it.
HAS_CUDA_TESTS = re.compile(r"\bmark\.cuda\b|^from emulation import", re.MULTILINE)
TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
# Files whose tests train, compile or start processes; they are marked `slow`.
SLOW = (
    "benchmarks/*", "evaluation/*", "hostile/*", "training/*",
    "native/test_*cuda*", "native/test_launch.py", "native/test_loading.py",
    "ops/test_*_kernels.py", "ops/test_triton_*",
    "test_collection.py", "test_commands_on_a_gpu.py", "test_contributing.py", "test_encoder.py",
    "test_evaluate*", "test_export.py", "test_packaging.py", "test_prepare*", "test_shown_text.py",
    "test_train.py",
)  # fmt: skip


class Golden:
    """Arrays of one golden file as tensors; `tree("before/")` strips a prefix."""

    def __init__(self, name: str) -> None:
        self._arrays = np.load(GOLDEN / f"{name}.npz")

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._arrays[key]))

    def tree(self, prefix: str) -> dict[str, torch.Tensor]:
        names = [name for name in self.names if name.startswith(prefix)]
        return {name.removeprefix(prefix): self[name] for name in names}

    @property
    def names(self) -> list[str]:
        return list(self._arrays.files)


@pytest.fixture(params=["baseline", "v3", "v4"])
def cpu_level(request: pytest.FixtureRequest) -> Generator[str]:
    """Each level of x86-64 in turn, which the CPU kernels use during the test."""
    if not native.available():
        pytest.skip("the compiled library is not there")
    library, level = native.load(), str(request.param)
    if level not in library.cpu_levels():
        pytest.skip(f"this processor or build has no level {level}")
    before = library.cpu_level()
    library.set_cpu_level(level)
    yield level
    library.set_cpu_level(before)


@pytest.fixture
def bf16_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains and encodes in bf16 on any CPU, by the form in plain C++ where it has no other."""
    monkeypatch.setattr(native, "why_no_bf16_products", lambda: None)


@pytest.fixture(scope="session")
def golden() -> type[Golden]:
    return Golden


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small stores and checkpoints to evaluate, to be read only."""
    from small_data import write_evaluated  # imports what not every GPU machine has

    folder = tmp_path_factory.mktemp("evaluated")
    write_evaluated(folder)
    return folder


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """Float32 products of a GPU are exact, and the same bits each time, unless the test itself sets
    something else.

    torch's own default is TF32 convolutions whose gradients add in any order, and a training run
    sets precisions for the whole process.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        refuse = pytest.fail if os.environ.get("AIMCLR_EXPECT_GPU") else pytest.skip
        refuse("needs a CUDA device")


_gpu_lost = False


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a file that cannot be imported for want of Triton, say."""
    report = yield
    if report.failed and report.call.excinfo is not None:
        skip_if_something_lacks(report, collector.path, report.call.excinfo.value)
    return report


def skip_if_something_lacks(
    report: pytest.CollectReport | pytest.TestReport, file: Path, error: BaseException
) -> None:
    if reason := why_skipped(error):
        report.outcome, report.longrepr = "skipped", (str(file), 0, f"Skipped: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See whether a failure is for want of something, and whether it has cost this process the GPU:
    every later test would fail, too.
    """
    global _gpu_lost
    report = yield
    if report.failed and call.excinfo is not None:
        skip_if_something_lacks(report, item.path, call.excinfo.value)
    if report.failed and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            _gpu_lost = True
    return report


@pytest.hookimpl(trylast=True)  # the failure is reported
def pytest_runtest_logfinish() -> None:
    """End such a process where pytest-xdist replaces it."""
    if _gpu_lost and "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(70)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For `-m "cuda ..."`, import only files with such tests: a machine that measures may lack
    what the others need.
    """
    wanted = config.getoption("markexpr").startswith("cuda")
    if not wanted or collection_path.is_dir() or collection_path.suffix != ".py":
        return None
    return None if HAS_CUDA_TESTS.search(collection_path.read_text(encoding="utf-8")) else True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--few",
        type=int,
        metavar="N",
        help="run each test with at most N of its parameters, spread over them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let a file's tests stay with one worker of pytest-xdist until another has none left, so that
    what they share is seldom built twice. Its default deals them out in twos near the end.
    """
    if config.getoption("dist", "no") == "load":  # the default of -n
        config.option.dist = "worksteal"


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.is_relative_to(TESTS):
        file = item.path.relative_to(TESTS).as_posix()
        compiles = any(word in item.name for word in ("compile", "sanitizers"))
        if compiles or any(fnmatch(file, pattern) for pattern in SLOW):
            item.add_marker("slow")


@pytest.hookimpl(trylast=True)  # of those that -m and -k leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    few = config.getoption("few")
    if not few:
        return
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(of[place * len(of) // few]) for of in functions.values() for place in range(few)}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]
