"""Bad arguments to the public functions: a clear error that names the argument."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.functional import (
    AugmentConfig,
    AugmentParams,
    apply_augment,
    eadm_pool,
    queue_contrast,
    skeleton_augment,
)
from aimclr_fast.ops._dispatch import Backend, BackendError, explain, pick

DATA = torch.zeros(4, 3, 10, 25, 2)
INDEX = torch.tensor([0, 3])
ROWS = torch.ones(4, 8)


def augment(data=DATA, index=INDEX, **changes):
    arguments = {"layout": "ntu-rgb+d", "config": AugmentConfig(), "seed": 0, "step": 0}
    return skeleton_augment(data, index, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"data must have shape .* got \[4, 3\]", lambda: augment(torch.zeros(4, 3))),
        (ValueError, "25 joints .* 'ui-prmd' has 22", lambda: augment(layout="ui-prmd")),
        (ValueError, "no frames", lambda: augment(DATA[:, :, :0])),
        (TypeError, "data must be of dtype", lambda: augment(DATA.int())),
        (TypeError, "index must be of dtype", lambda: augment(index=INDEX.float())),
        (ValueError, r"index must lie in 0\.\.3", lambda: augment(index=torch.tensor([4]))),
        (ValueError, r"index must lie in 0\.\.3", lambda: augment(index=torch.tensor([-1]))),
        (ValueError, "stream must be one of", lambda: augment(stream="velocity")),
        (ValueError, "step must lie", lambda: augment(step=-1)),
        (ValueError, "offset must lie", lambda: augment(offset=2**32)),
        (ValueError, "seed", lambda: augment(seed=2**64)),
        (ValueError, "layout", lambda: augment(layout="centaur")),
        (ValueError, "unknown backend 'fpga'", lambda: augment(backend="fpga")),
        (
            ValueError,
            r"params\.shear must have shape \[4, 3, 3\]",
            lambda: apply_augment(DATA, AugmentParams(shear=torch.eye(3))),
        ),
        (
            ValueError,
            r"params\.crop_start must lie in 0\.\.2",
            lambda: apply_augment(DATA, AugmentParams(crop_start=torch.tensor([0, 1, 2, 3]))),
        ),
        (
            ValueError,
            r"params\.axis_mask must lie in -1\.\.2",
            lambda: apply_augment(DATA, AugmentParams(axis_mask=torch.tensor([0, 1, 2, 3]))),
        ),
        (
            ValueError,
            "noise must have shape",
            lambda: apply_augment(DATA, AugmentParams(), noise=DATA[:1]),
        ),
        (
            TypeError,
            r"params\.crop_start must be of dtype",
            lambda: apply_augment(DATA, AugmentParams(crop_start=torch.zeros(4))),
        ),
        (
            TypeError,
            r"params\.spatial_flip must be of dtype",
            lambda: apply_augment(DATA, AugmentParams(spatial_flip=torch.ones(4).long())),
        ),
        (ValueError, r"x must have shape \[B, C, T, V\]", lambda: eadm_pool(DATA)),
        (TypeError, "x must be of dtype", lambda: eadm_pool(DATA[..., 0].long())),
        (ValueError, "at least one frame", lambda: eadm_pool(torch.zeros(2, 3, 0, 4))),
        (ValueError, "keep_prob", lambda: eadm_pool(DATA[..., 0], 0.0)),
        (ValueError, "e_lambda", lambda: eadm_pool(DATA[..., 0], 0.7, 0.0)),
        (TypeError, "x must be a tensor", lambda: eadm_pool([[1.0]])),
        (
            ValueError,
            r"key must have shape \[4, 8\]",
            lambda: queue_contrast(ROWS, ROWS, ROWS, ROWS[:2], ROWS),
        ),
        (
            ValueError,
            r"queue must have shape \[K, 8\]",
            lambda: queue_contrast(ROWS, ROWS, ROWS, ROWS, ROWS[:, :4]),
        ),
        (
            ValueError,
            r"topk must lie in 0\.\.4",
            lambda: queue_contrast(ROWS, ROWS, ROWS, ROWS, ROWS, topk=5),
        ),
        (
            ValueError,
            "temperature must be positive",
            lambda: queue_contrast(ROWS, ROWS, ROWS, ROWS, ROWS, 0.0),
        ),
        (
            ValueError,
            "query has no rows",
            lambda: queue_contrast(*[ROWS[:0]] * 4, ROWS),
        ),
    ],
)
def test_bad_arguments_are_named(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "fields",
    [
        {"noise_prob": 1.5},
        {"spatial_flip_prob": -0.1},
        {"crop_ratio": 0},
        {"blur_taps": 4},
        {"blur_sigma_min": 3.0},
        {"noise_std": float("nan")},
        {"shear_amplitude": -1.0},
        {"turn_deg": -1.0},
        {"turn_deg": 180.5},
        {"turn_deg": float("nan")},
    ],
)
def test_bad_augmentation_settings_are_named(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        AugmentConfig(**fields)


def test_backend_choice_and_its_reasons():
    slow = Backend("reference", lambda: "slow", lambda _: None)
    fast = Backend("cuda", lambda: "fast", lambda x: None if x.is_cuda else "x is on the CPU")
    x = torch.zeros(1)
    assert pick("op", (fast, slow), "auto", x).run() == "slow"
    assert explain((fast, slow), x) == {"cuda": "x is on the CPU", "reference": None}
    with pytest.raises(BackendError, match="'cuda' cannot run here: x is on the CPU"):
        pick("op", (fast, slow), "cuda", x)
    with pytest.raises(ValueError, match="this op has auto, cuda, reference"):
        pick("op", (fast, slow), "metal", x)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_numbers_may_be_integers_of_any_size(backend):
    x = torch.randn(2, 3, 4, 5)
    pooled, _ = eadm_pool(x, e_lambda=2**70, backend=backend)
    torch.testing.assert_close(pooled, x.mean((2, 3)))
    with pytest.raises(ValueError, match="e_lambda must be a number that a float can hold"):
        eadm_pool(x, e_lambda=10**400, backend=backend)
