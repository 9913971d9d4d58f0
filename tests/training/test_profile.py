"""A step that fails while it is traced is an error, not a missing trace."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("rich", reason="not on every GPU machine")

from aimclr_fast.training import profile
from aimclr_fast.training.distributed import RankLostError
from aimclr_fast.training.profile import trace_steps


def failing(error: Exception) -> SimpleNamespace:
    """A training whose steps raise `error`."""

    def fail(_: object) -> None:
        raise error

    return SimpleNamespace(
        device=torch.device("cpu"),
        streams={},
        epoch=0,
        use_graphs=True,
        epoch_batches=lambda _: iter(range(5)),
        train_step=fail,
    )


@contextmanager
def stops_badly(**_: object):
    """A profiler that fails, too, when it is stopped after an error."""
    try:
        yield
    except Exception:
        raise RuntimeError("CUPTI is lost") from None


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize(
    "error",
    [RuntimeError("kernel failed"), torch.OutOfMemoryError("no memory"), OSError(5, "data lost"),
     RankLostError("gone"), ValueError("a bug")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_failed_step_is_raised(error, stops, tmp_path, monkeypatch):
    if not stops:
        monkeypatch.setattr(profile, "profile", stops_badly)
    training = failing(error)
    with pytest.raises(type(error)) as raised:
        trace_steps(training, 3, tmp_path / "trace.json")
    assert raised.value is error
    assert training.use_graphs
    assert not list(tmp_path.iterdir())
