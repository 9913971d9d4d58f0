"""The training step of the fast backends against the reference's, over many steps."""

from __future__ import annotations

import torch
from tolerances import assert_near

from aimclr_fast.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from aimclr_fast.data import resolve_store, split
from aimclr_fast.functional import skeleton_augment
from aimclr_fast.training.job import Job
from aimclr_fast.training.streams import build_model

STEPS = 50
BATCH = 8


def losses_over_steps(backend: str) -> torch.Tensor:
    """[STEPS, 4] of a small model on the embedded data, in float64; half of the steps mine."""
    store = resolve_store("ui_prmd")
    config = TrainConfig(
        data=DataConfig(frame_step=4),
        model=ModelConfig(channels=4, features=16, embedding=16, dropout=0.0, queue_size=64),
        optim=OptimConfig(batch_size=BATCH, lr=0.03),
        backend=backend,
    )
    torch.manual_seed(0)
    model = build_model(Job(config, torch.device("cpu")), store.layout).double()
    optim = config.optim
    optimizer = torch.optim.SGD(
        model.query_encoder.parameters(), optim.lr, optim.momentum, weight_decay=optim.weight_decay
    )
    data = torch.from_numpy(store.positions[:, :, :: config.data.frame_step].copy())
    train_index = torch.from_numpy(split(store, config.data.split)[0])
    losses = []
    for step in range(STEPS):
        index = train_index[step * BATCH % len(train_index) :][:BATCH]
        views = skeleton_augment(
            data,
            index,
            layout=store.layout,
            config=config.augment,
            seed=0,
            step=step,
            backend="reference",
        )
        out = model(*(view.double() for view in views), topk=int(step >= STEPS // 2))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        model.enqueue(out.keys)
        losses.append(
            torch.stack([out.loss, out.info_nce, out.d3m_extreme, out.d3m_dropped]).detach()
        )
    return torch.stack(losses)


def test_loss_curves_agree():
    """In float64, where rounding has not grown to anything after fifty steps."""
    expected = losses_over_steps("reference")
    assert expected[:, 0].std() > 0.1
    assert_near(losses_over_steps("cpp"), expected, dtype=torch.float64)
