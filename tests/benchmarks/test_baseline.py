"""The baseline computes what the package computes, so that their times may be compared."""

from __future__ import annotations

import copy

import bench_masked_pool
import bench_queue_losses
import bench_skelemix
import numpy as np
import pytest
import torch
from baseline import augment, contrast, eadm
from baseline import skelemix as baseline_skelemix
from baseline.encoder import Encoder
from baseline.model import AimCLR as Baseline
from baseline.model import Training
from harness import Case
from tolerances import assert_near

from aimclr_fast.functional import STREAMS, AugmentConfig, AugmentParams, apply_augment
from aimclr_fast.layouts import get_layout
from aimclr_fast.nn import STGCN, AimCLR, SkeletonEncoder
from aimclr_fast.nn.official import from_official, to_official
from aimclr_fast.reference import eadm_pool as reference_eadm
from aimclr_fast.reference import masked_pool as reference_masked
from aimclr_fast.reference import queue_contrast as reference_contrast
from aimclr_fast.reference import skelemix as reference_skelemix
from aimclr_fast.reference.skeleton_augment import to_stream

LAYOUT = get_layout("ntu-rgb+d")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


class Recorder:
    """A generator that remembers what it drew, in order."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self.drawn: list = []

    def __getattr__(self, name: str):
        def draw(*args, **kwargs):
            self.drawn.append(getattr(self._random, name)(*args, **kwargs))
            return copy.copy(self.drawn[-1])

        return draw


def recorded_params(
    drawn: list, config: AugmentConfig, extreme: bool
) -> tuple[AugmentParams, np.ndarray | None]:
    """What the recorded numbers stand for, read by the order of DESIGN's chain."""
    left = iter(drawn)

    def gate(probability: float) -> bool:
        return next(left) < probability

    shear = {"crop_start": torch.tensor([int(next(left))])}
    matrix = np.array(next(left))
    np.fill_diagonal(matrix, 1.0)
    shear["shear"] = torch.tensor(matrix, dtype=torch.float32)[None]
    if not extreme:
        return AugmentParams(**shear), None
    flip = gate(config.spatial_flip_prob)
    next(left)  # the main axis, seen in the angles
    angles = torch.tensor(np.radians(next(left)), dtype=torch.float32)[None]
    noise = next(left) if gate(config.noise_prob) else None
    sigma = next(left) if gate(config.blur_prob) else 0.0
    axis = int(next(left)) if gate(config.axis_mask_prob) else -1
    reverse = gate(config.temporal_flip_prob)
    assert next(left, None) is None
    params = AugmentParams(
        **shear,
        spatial_flip=torch.tensor([flip]),
        rotation_angles=angles,
        blur_sigma=torch.tensor([sigma]),
        axis_mask=torch.tensor([axis]),
        temporal_flip=torch.tensor([reverse]),
    )
    return params, noise


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
@pytest.mark.parametrize("extreme", [True, False], ids=["extreme", "normal"])
def test_augmentation(random, extreme, stream):
    config = AugmentConfig(temporal_flip_prob=0.5)
    recorder = Recorder(random)
    view = augment.Strong(config, recorder, LAYOUT) if extreme else augment.Normal(config, recorder)
    on = set()
    for _ in range(24):
        x = random.standard_normal((3, 50, 25, 2)).astype(np.float32)
        recorder.drawn = []
        actual = augment.to_stream(view(x), stream, list(LAYOUT.parents))
        assert actual.dtype == np.float32
        params, noise = recorded_params(recorder.drawn, config, extreme)
        noise = None if noise is None else torch.tensor(noise)[None]
        expected = apply_augment(
            torch.from_numpy(x)[None],
            params,
            layout=LAYOUT,
            stream=stream,
            noise=noise,
            backend="reference",
        )
        assert_near(torch.from_numpy(np.ascontiguousarray(actual)), expected[0])
        if extreme:
            on |= {("noise", noise is not None), ("blur", bool(params.blur_sigma > 0))}
            on |= {("mask", bool(params.axis_mask >= 0)), ("flip", bool(params.spatial_flip))}
            on |= {("reverse", bool(params.temporal_flip))}
    assert len(on) == (10 if extreme else 0)  # each was seen on and off


def test_draws_have_the_recipe_s_ranges(random):
    config = AugmentConfig()
    recorder = Recorder(random)
    strong = augment.Strong(config, recorder, LAYOUT)
    x = np.zeros((3, 50, 25, 2), np.float32)
    seen = []
    for _ in range(300):
        recorder.drawn = []
        strong(x)
        seen.append(recorded_params(recorder.drawn, config, True)[0])
    start = torch.cat([p.crop_start for p in seen])
    assert (start.min(), start.max()) == (0, 16)
    shear = torch.cat([p.shear for p in seen])
    assert 0.45 < (shear - torch.eye(3)).abs().max() <= 0.5
    degrees = torch.rad2deg(torch.cat([p.rotation_angles for p in seen]))
    assert degrees.min() >= 0.0
    assert 25.0 < degrees.max() <= 30.0
    assert ((degrees > 1.0).sum(1) <= 1).all()
    sigma = torch.cat([p.blur_sigma for p in seen])
    assert 0.4 < (sigma > 0).double().mean() < 0.6
    assert sigma.max() <= 2.0


def test_loader_batches(random):
    data = random.standard_normal((10, 3, 20, 25, 1)).astype(np.float32)
    dataset = augment.AugmentedViews(data, LAYOUT)
    views = augment.batch_of(dataset, np.array([1, 4, 4]))
    assert [tuple(view.shape) for view in views] == [(3, 3, 20, 25, 1)] * 3
    assert not torch.equal(views[1][1], views[1][2])  # fresh draws
    batch = next(augment.batches(dataset, 4, workers=0))
    assert [tuple(view.shape) for view in batch] == [(4, 3, 20, 25, 1)] * 3


def test_workers_draw_apart(random):
    data = np.repeat(random.standard_normal((1, 3, 20, 25, 1)).astype(np.float32), 8, axis=0)
    loader = augment.batches(augment.AugmentedViews(data, LAYOUT), 4, workers=2)
    first, second = next(loader), next(loader)
    assert not torch.equal(first[0], second[0])
    loader.close()


@pytest.mark.parametrize("keep_prob", [0.7, 0.9])
def test_eadm_pool(keep_prob):
    x = torch.randn(4, 6, 13, 25, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 4, 6, dtype=torch.float64)
    results = []
    for pool in (eadm.eadm_pool, reference_eadm.eadm_pool):
        pooled = torch.stack(pool(x, keep_prob))
        (gradient,) = torch.autograd.grad((pooled * weights).sum(), x)
        results.append((pooled, gradient))
    (actual, gradient), (expected, expected_gradient) = results
    assert_near(actual, expected, dtype=torch.float64)
    assert_near(gradient, expected_gradient, gradient=True, dtype=torch.float64)


def test_masked_pool():
    x, mask = torch.randn(4, 6, 13, 25, dtype=torch.float64), torch.rand(13, 25) < 0.3
    pairs = zip(
        bench_masked_pool.weighted(x, mask), reference_masked.masked_pool(x, mask), strict=True
    )
    for actual, expected in pairs:
        assert_near(actual, expected, dtype=torch.float64)


@pytest.mark.parametrize("stream", STREAMS)
def test_skelemix(stream):
    """The mixes that are timed, by given draws."""
    x = torch.randn(11, *bench_skelemix.SHAPE, dtype=torch.float64)
    layout, parents = bench_skelemix.LAYOUT, torch.tensor(bench_skelemix.LAYOUT.parents)
    shifts, chosen, begins, ends = zip(*bench_skelemix.MIXES, strict=True)
    parts = torch.zeros(len(chosen), 5, dtype=torch.bool)
    for row, own in zip(parts, chosen, strict=True):
        row[list(own)] = True
    blocks = [(end - begin) // 4 for begin, end in zip(begins, ends, strict=True)]
    expected, _, _ = reference_skelemix.apply_skelemix(
        x, torch.tensor(shifts), parts, torch.tensor(begins) // 4, torch.tensor(blocks),
        body_parts=layout.body_parts,
    )  # fmt: skip
    actual = baseline_skelemix.skelemix(x, bench_skelemix.mixes(len(chosen)), [stream], parents)
    for own, theirs in zip(actual[0], expected, strict=True):
        assert torch.equal(own, to_stream(theirs, stream, parents))


@pytest.mark.parametrize("method", bench_queue_losses.METHODS)
def test_losses_of_sets(method, monkeypatch):
    """As timed, at a size of the test's own and in float64, with gradients."""
    asked = bench_queue_losses.METHODS[method]
    monkeypatch.setattr(bench_queue_losses, "WIDTH", 16)
    inputs = bench_queue_losses.Inputs(Case(method, {"N": 6, "K": 40}))
    rows = [[row.detach().double().requires_grad_() for row in of] for of in inputs.rows]
    keys = [[key.double() for key in of] for of in inputs.keys]
    queues = [queue.double() for queue in inputs.queues]
    flat = [row for of in rows for row in of]
    transposed = [queue.T.contiguous() for queue in queues]
    losses = torch.stack(
        contrast.losses_of_sets(rows, keys, transposed, asked.terms, 0.07, asked.topk, asked.votes)
    )
    stacked = torch.stack([torch.stack(of) for of in rows])
    expected, _, counts = reference_contrast.queue_losses(
        stacked, torch.stack([torch.stack(of) for of in keys]), queues, asked.terms, 0.07,
        asked.topk, asked.votes,
    )  # fmt: skip
    assert (counts.max() > 1) == (method != "skelemixclr+")
    assert_near(losses, expected.flatten(), dtype=torch.float64)
    weights = torch.rand_like(losses)
    for actual, wanted in zip(
        torch.autograd.grad((losses * weights).sum(), flat),
        torch.autograd.grad((expected.flatten() * weights).sum(), flat),
        strict=True,
    ):
        assert_near(actual, wanted, gradient=True, dtype=torch.float64)


@pytest.mark.parametrize("topk", [0, 1, 5])
def test_losses(topk):
    def rows(size: int) -> torch.Tensor:
        row = torch.randn(size, 16, dtype=torch.float64)
        return torch.nn.functional.normalize(row, dim=1)

    views = [rows(6).requires_grad_() for _ in range(3)]
    key, queue = rows(6), rows(40)
    actual = contrast.losses(*views, key, queue.T.contiguous(), 0.07, topk)
    *parts, _ = reference_contrast.queue_contrast(*views, key, queue, 0.07, topk)
    for mine, theirs in zip(actual[1:], parts, strict=True):
        assert_near(mine, theirs, dtype=torch.float64)
    loss = parts[0] + (parts[1] + parts[2]) / 2
    expected = torch.autograd.grad(loss, views)
    for mine, theirs in zip(torch.autograd.grad(actual.loss, views), expected, strict=True):
        assert_near(mine, theirs, gradient=True, dtype=torch.float64)


@pytest.mark.parametrize(("name", "topk"), [("step_ddm", 0), ("step_nnm1", 1), ("step_nnm5", 5)])
def test_step_meets_the_authors_numbers(golden, name, topk):
    g = golden(name)
    before = g.tree("before/")
    model = Baseline(
        embedding=16,
        queue_size=64,
        channels=before["encoder_q.st_gcn_networks.0.tcn.2.weight"].shape[0],
        features=before["encoder_q.fc.0.weight"].shape[0],
        dropout=0.0,
    )
    model.load_state_dict(before)
    losses = model(g["x_extreme"], g["x_q"], g["x_k"], topk)
    assert_near(torch.stack(losses), g["loss"])
    state = model.state_dict()
    for key, value in g.tree("after/").items():
        assert_near(state[key].float(), value.float(), what=key)


def test_training_step_is_the_package_s():
    """Same weights, same views: same loss, gradients, keys and queue."""
    ours = AimCLR(
        SkeletonEncoder(STGCN(channels=4, features=16, dropout=0.0), 8),
        embedding=8,
        queue_size=32,
        backend="reference",
    ).double()
    theirs = Baseline(embedding=8, queue_size=32, channels=4, features=16, dropout=0.0).double()
    theirs.load_state_dict(to_official(ours.state_dict()))
    views = [torch.randn(4, 3, 16, 25, 2, dtype=torch.float64) for _ in range(3)]

    output = ours(*views, topk=2)
    output.loss.backward()
    ours.enqueue(output.keys)
    losses = theirs(*views, topk=2)
    losses.loss.backward()

    assert_near(losses.loss, output.loss)
    gradients = {k: p.grad for k, p in theirs.named_parameters() if p.requires_grad}
    gradients = from_official(gradients)
    for name, parameter in ours.query_encoder.named_parameters():
        # Biases that a batch norm subtracts again have no gradient but rounding.
        if not name.endswith((".temporal.bias", ".residual.0.bias")):
            actual = gradients[f"query_encoder.{name}"]
            assert_near(actual, parameter.grad, gradient=True, what=name)
    state = from_official(theirs.state_dict())
    for name, value in ours.state_dict().items():
        assert_near(state[name], value, what=name)


def test_training_learns_from_the_loader(random):
    torch.manual_seed(0)
    data = random.standard_normal((8, 3, 12, 25, 1)).astype(np.float32)
    model = Baseline(embedding=8, queue_size=16, channels=2, features=8)
    before = copy.deepcopy(model.state_dict())
    training = Training(model, "cpu")
    loader = augment.batches(augment.AugmentedViews(data, LAYOUT), 4, workers=0)
    losses = [training.step(next(loader), topk=1) for _ in range(2)]
    assert np.isfinite(losses).all()
    after = model.state_dict()
    for name in ("encoder_q.fc.0.weight", "encoder_k.fc.0.weight", "queue"):
        assert not torch.equal(before[name], after[name]), name


def test_encoder_has_the_checkpoints_names(golden):
    encoder = Encoder(channels=8, features=32, embedding=16, projection=False)
    encoder.load_state_dict(golden("encoder").tree("sd/"))
