"""Shared by all tests: the Triton interpreter where there is no GPU, and the golden numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported

# Tests are small: a second thread costs more than it gives, above all under pytest-xdist.
torch.set_num_threads(1)

GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """Arrays of one golden file as tensors; `tree("before/")` strips a prefix."""

    def __init__(self, name: str) -> None:
        self._arrays = np.load(GOLDEN / f"{name}.npz")

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._arrays[key]))

    def tree(self, prefix: str) -> dict[str, torch.Tensor]:
        names = [name for name in self._arrays.files if name.startswith(prefix)]
        return {name.removeprefix(prefix): self[name] for name in names}


@pytest.fixture(scope="session")
def golden() -> type[Golden]:
    return Golden


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
        pytest.skip("needs a CUDA device")
