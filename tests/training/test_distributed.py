"""Several processes train as one; a process that is gone, or a mistake, ends all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aimclr_fast.nn.stgcn import STGCN, RowNorm, SkeletonEncoder, STGCNBlock
from aimclr_fast.reference import eadm_pool, stgcn_block
from aimclr_fast.training.distributed import Ranks, join

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/check_distributed.py"


def test_two_processes_are_one():
    """The script that compares up to four processes over 100 steps, with two over three steps."""
    options = ("--processes", "2", "--steps", "3", "--epochs", "3")
    result = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for statistics in ("synchronized", "frozen"):
        assert f"2 processes, {statistics} statistics, 3 steps" in result.stdout
    assert "resumed with 1: exit codes [0]" in result.stdout


def test_one_process_alone_says_nothing_to_anyone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks, rows = join("cpu"), torch.randn(6, 2)
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert torch.equal(ranks.share(rows), rows)
    assert torch.equal(ranks.gather(rows), rows)
    assert torch.equal(ranks.mean_(rows.clone()), rows)
    assert ranks.collect(3) == [3]
    assert ranks.from_first(3) == 3
    assert ranks.any(True, False) == (True, False)
    with pytest.raises(ValueError, match="mine"), ranks.together():
        raise ValueError("mine")


class Twice:
    """Stands for two processes with the same rows."""

    size = 2

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return 2 * tensor


def test_statistics_over_ranks_are_those_of_all_rows():
    """Two ranks with the same rows have the statistics of either."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    norm = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    alone, over_ranks = (stgcn_block.normalize(x, norm, None, 1e-5, o) for o in (None, Twice()))
    for mine, theirs in zip(alone, over_ranks, strict=True):
        torch.testing.assert_close(mine, theirs)
    weight = torch.randn(alone[0].shape, generator=generator, dtype=torch.float64)
    expected, actual = (torch.autograd.grad((y[0] * weight).sum(), x) for y in (alone, over_ranks))
    torch.testing.assert_close(actual, expected)
    for mine, theirs in zip(
        *(eadm_pool.eadm_pool(x, over_ranks=o) for o in (None, Twice())), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5)])
def test_norms_of_rows_are_over_ranks(shape):
    """As the batch norm of all rows: outputs, gradients and running statistics."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
    norms = [RowNorm(4).double(), torch.nn.BatchNorm1d(4).double()]
    for norm in norms:
        norm.load_state_dict({**norm.state_dict(), "weight": torch.rand(4) + 0.5})
    norms[1].weight.data.copy_(norms[0].weight.data)
    norms[0].over_ranks = Twice()
    ours, whole = norms[0](x), norms[1](torch.cat([x, x]))
    torch.testing.assert_close(torch.cat([ours, ours]), whole)
    torch.testing.assert_close(norms[0].state_dict(), norms[1].state_dict())
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    (mine,) = torch.autograd.grad((ours * weight).sum(), x)
    (theirs,) = torch.autograd.grad((whole * torch.cat([weight, weight])).sum(), x)
    torch.testing.assert_close(2 * mine, theirs)
    for norm in norms:
        norm.eval()
    torch.testing.assert_close(norms[0](x), norms[1](x))


def test_all_norms_of_an_encoder_are_over_ranks():
    encoder = SkeletonEncoder(STGCN("ui-prmd", channels=2, features=4), 4, norm_head=True)
    encoder.over_ranks = ranks = Twice()
    norms = [one for one in encoder.modules() if isinstance(one, RowNorm | STGCNBlock)]
    assert len(norms) == 12
    assert all(norm.over_ranks is ranks for norm in norms)
    assert encoder.over_ranks is ranks


def test_shares_are_the_whole():
    rows = torch.arange(12)
    ranks = [Ranks() for _ in range(3)]
    for rank, one in enumerate(ranks):
        one.rank, one.size = rank, 3
    assert torch.equal(torch.cat([one.share(rows) for one in ranks]), rows)
