"""Augmentation against the authors' numbers, and the properties of its draws."""

from __future__ import annotations

import math

import pytest
import torch
from tolerances import assert_near

from aimclr_fast.functional import AugmentConfig, AugmentParams, apply_augment, skeleton_augment
from aimclr_fast.layouts import get_layout
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import View


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("augment")


def extreme_params(g, *, temporal_flip: bool) -> AugmentParams:
    return AugmentParams(
        crop_start=g["crop_start"],
        shear=g["shear_matrix"],
        spatial_flip=g["flip"],
        rotation_angles=torch.deg2rad(g["rot_angles_deg"]),
        blur_sigma=torch.where(g["blur_on"], g["blur_sigma"], 0.0),
        axis_mask=g["mask_axis"],
        temporal_flip=g["time_flip"] if temporal_flip else None,
    )


def test_normal_view_is_the_authors(numbers):
    params = AugmentParams(crop_start=numbers["normal_crop_start"], shear=numbers["normal_shear"])
    assert_near(apply_augment(numbers["x"], params), numbers["normal"])


@pytest.mark.parametrize("temporal_flip", [False, True])
def test_extreme_view_is_the_authors(numbers, temporal_flip):
    noise = numbers["noise"] * numbers["noise_on"][:, None, None, None, None]
    params = extreme_params(numbers, temporal_flip=temporal_flip)
    view = apply_augment(numbers["x"], params, noise=noise)
    assert_near(view, numbers["extreme_time_flip" if temporal_flip else "extreme"])


def test_streams_are_differences(numbers):
    x = numbers["x"]
    layout = get_layout("ntu-rgb+d")
    motion = apply_augment(x, AugmentParams(), stream="motion")
    assert torch.equal(motion[:, :, :-1], x[:, :, 1:] - x[:, :, :-1])
    assert (motion[:, :, -1] == 0).all()
    bone = apply_augment(x, AugmentParams(), stream="bone")
    assert (bone[:, :, :, layout.center] == 0).all()
    for joint, parent in layout.edges:
        assert torch.equal(bone[:, :, :, joint], x[:, :, :, joint] - x[:, :, :, parent])


def test_no_parameters_change_nothing(numbers):
    assert torch.equal(apply_augment(numbers["x"], AugmentParams()), numbers["x"])


def test_crop_without_shift_is_the_sequence():
    for frames in (1, 5, 7, 50, 53):
        padding = frames // 6
        source = reference.crop_frames(torch.tensor([padding]), frames, 6)
        assert source.tolist() == [list(range(frames))]
        ends = reference.crop_frames(torch.tensor([0, 2 * padding]), frames, 6)
        assert ends.min() >= 0
        assert ends.max() < frames
        # The first padded frame mirrors frame P-1, the last one frame T-P.
        if padding:
            assert ends[0, 0] == padding - 1
            assert ends[1, -1] == frames - padding


def test_normalized_blur_keeps_a_constant_inside():
    x = torch.ones(1, 3, 40, 25, 1)
    params = AugmentParams(blur_sigma=torch.tensor([1.5]))
    blurred = apply_augment(x, params, blur_normalize=True)
    assert_near(blurred[:, :, 8:-8], x[:, :, 8:-8])
    assert (blurred[:, :, 0] < 0.9).all()  # zero padding shows at the ends
    published = apply_augment(x, params)
    assert (published[:, :, 8:-8] > 3.0).all()  # sum of exp(-k^2 / 2 sigma^2)


def test_torch_noise_has_the_given_std():
    torch.manual_seed(0)
    x = torch.zeros(2, 3, 50, 25, 2)
    noisy = apply_augment(x, AugmentParams(noise_std=torch.tensor([0.0, 0.5])))
    assert (noisy[0] == 0).all()
    assert abs(float(noisy[1].std()) - 0.5) < 0.02


ON = AugmentConfig(
    spatial_flip_prob=1.0,
    noise_prob=1.0,
    blur_prob=1.0,
    axis_mask_prob=1.0,
    temporal_flip_prob=1.0,
)
LAYOUT_OF = {17: "coco", 20: "kinect-v1", 22: "ui-prmd", 25: "ntu-rgb+d"}


def draw(samples=64, view=View.EXTREME, config=ON, frames=50, seed=1, step=3) -> AugmentParams:
    positions = torch.arange(samples)
    return reference.draw_params(
        config, view, frames=frames, seed=seed, step=step, positions=positions
    )


def test_draws_lie_in_their_ranges():
    params = draw(4096)
    assert params.crop_start.min() == 0
    assert params.crop_start.max() == 16
    off_diagonal = params.shear[:, ~torch.eye(3, dtype=torch.bool)]
    assert off_diagonal.abs().max() <= 0.5
    assert off_diagonal.abs().max() > 0.49
    assert abs(float(off_diagonal.mean())) < 0.01
    assert (torch.diagonal(params.shear, dim1=1, dim2=2) == 1).all()
    degrees = torch.rad2deg(params.rotation_angles)
    assert degrees.min() >= 0
    assert degrees.max() <= 30
    assert ((degrees > 1.0001).sum(1) <= 1).all()  # at most one main axis
    assert params.blur_sigma.min() >= 0.1
    assert params.blur_sigma.max() <= 2.0
    assert set(params.axis_mask.tolist()) == {0, 1, 2}


def turn_of(view: View, limit: float, samples: int = 8000) -> torch.Tensor:
    """Drawn turns [N] in degrees, from a shear that is nothing else."""
    params = draw(samples, view, AugmentConfig(shear_amplitude=0.0, turn_deg=limit))
    angles = torch.atan2(-params.shear[:, 0, 2], params.shear[:, 0, 0])
    about_y = torch.stack([0 * angles, angles, 0 * angles], dim=1)
    assert_near(params.shear, reference.rotation_matrix(about_y))
    return torch.rad2deg(angles)


@pytest.mark.parametrize("limit", [20.0, 180.0])
def test_turns_are_uniform_and_each_view_has_its_own(limit):
    turns = torch.stack([turn_of(view, limit) for view in View])
    samples = turns.shape[1]
    assert turns.abs().max() <= limit * (1 + 1e-6)
    for drawn in turns:
        bins = ((drawn / limit + 1) * 4).long().clamp(0, 7).bincount(minlength=8)
        spread = math.sqrt(samples * (1 / 8) * (7 / 8))
        assert ((bins - samples / 8).abs() < 5 * spread).all()
    independent = torch.corrcoef(turns) - torch.eye(len(turns))
    assert independent.abs().max() < 5 / math.sqrt(samples)


@pytest.mark.parametrize("view", View)
def test_a_turn_comes_before_the_shear_and_changes_no_other_draw(view):
    plain = draw(view=view, config=AugmentConfig(temporal_flip_prob=0.5))
    turned = draw(view=view, config=AugmentConfig(temporal_flip_prob=0.5, turn_deg=90.0))
    for name, values in vars(plain).items():
        if name != "shear":
            assert values is getattr(turned, name) or torch.equal(values, getattr(turned, name))
    angle = turn_of(view, 90.0, samples=64).deg2rad()
    turn = reference.rotation_matrix(torch.stack([0 * angle, angle, 0 * angle], dim=1))
    assert_near(turned.shear, plain.shear @ turn)
    assert not torch.isclose(turned.shear, plain.shear).all(dim=(1, 2)).any()


def test_main_axes_and_gates_are_fair():
    params = draw(6000, config=AugmentConfig())
    main = torch.rad2deg(params.rotation_angles).argmax(1).bincount(minlength=3)
    assert (main > 1800).all()
    shares = {
        "spatial flip": params.spatial_flip.double().mean(),
        "noise": (params.noise_std > 0).double().mean(),
        "blur": (params.blur_sigma > 0).double().mean(),
        "axis mask": (params.axis_mask >= 0).double().mean(),
    }
    for name, share in shares.items():
        assert abs(float(share) - 0.5) < 5 * 0.5 / math.sqrt(6000), name
    assert not params.temporal_flip.any()


def test_the_strong_view_is_drawn_as_the_extreme_one_is():
    strong, extreme = draw(view=View.STRONG), draw()
    for name, values in vars(extreme).items():
        assert getattr(strong, name).shape == values.shape
    assert (strong.noise_std == extreme.noise_std).all()  # always on in this configuration
    for name in ("crop_start", "rotation_angles", "blur_sigma", "axis_mask"):
        assert (getattr(strong, name) != getattr(extreme, name)).any()


def test_draws_differ_between_views_steps_and_seeds():
    base = draw().shear
    for other in (
        draw(view=View.KEY),
        draw(view=View.STRONG),
        draw(step=4),
        draw(seed=2),
        draw(seed=1 + 2**32),
    ):
        assert not torch.isclose(base, other.shear).all(dim=(1, 2)).any()


@pytest.mark.parametrize(("joints", "bodies", "frames"), [(25, 2, 50), (22, 1, 50), (17, 1, 7)])
@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
def test_views_do_not_depend_on_the_batch_split(joints, bodies, frames, stream):
    data = torch.randn(11, 3, frames, joints, bodies)
    index = torch.tensor([3, 1, 4, 1, 5, 9, 2])

    def views(part: slice):
        return skeleton_augment(
            data,
            index[part],
            layout=LAYOUT_OF[joints],
            config=ON,
            seed=7,
            step=11,
            offset=part.start,
            stream=stream,
        )

    whole = views(slice(0, 7))
    parts = [views(slice(0, 3)), views(slice(3, 4)), views(slice(4, 7))]
    for i, view in enumerate(whole):
        assert_near(torch.cat([part[i] for part in parts]), view)


def test_query_and_key_views_differ_and_have_no_extreme_augmentation():
    data = torch.ones(4, 3, 50, 25, 2)
    views = skeleton_augment(data, torch.arange(4), layout="ntu-rgb+d", config=ON, seed=0, step=0)
    assert not torch.allclose(views.query, views.key)
    # Crop and shear keep a constant sequence constant over time and joints; blur would not.
    for view in (views.query, views.key):
        assert_near(view, view[:, :, :1, :1, :1].expand_as(view))
    assert (views.extreme == 0).flatten(2).all(2).sum(1).eq(1).all()  # one masked axis each


def test_stored_dtypes_agree():
    meters = (torch.randn(5, 3, 20, 20, 1) * 1000).round() / 1000
    arguments = {
        "index": torch.tensor([4, 0, 2]),
        "layout": "nw-ucla",
        "config": AugmentConfig(),
        "seed": 3,
        "step": 1,
    }
    wanted = skeleton_augment(meters, **arguments)
    millimeters = (meters * 1000).round().to(torch.int16)
    for view, expected in zip(skeleton_augment(millimeters, **arguments), wanted, strict=True):
        assert_near(view, expected)
    for view in skeleton_augment(meters.half(), **arguments, dtype=torch.bfloat16):
        assert view.dtype == torch.bfloat16


def test_empty_batch_gives_empty_views():
    data = torch.randn(2, 3, 10, 22, 1)
    empty = torch.zeros(0, dtype=torch.int64)
    views = skeleton_augment(data, empty, layout="ui-prmd", config=ON, seed=0, step=0)
    assert [list(view.shape) for view in views] == [[0, 3, 10, 22, 1]] * 3


def test_one_frame_works():
    data = torch.randn(3, 3, 1, 25, 2)
    for stream in reference.STREAMS:
        views = skeleton_augment(
            data,
            torch.arange(3),
            layout="ntu-rgb+d",
            config=ON,
            seed=0,
            step=0,
            stream=stream,
        )
        assert all(torch.isfinite(view).all() for view in views)


def test_gradients_of_a_given_augmentation():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 7, 25, 1, dtype=torch.float64, requires_grad=True)
    params = draw(2, frames=7)
    for stream in reference.STREAMS:
        assert torch.autograd.gradcheck(
            lambda x, stream=stream: apply_augment(
                x, params, stream=stream, noise=torch.ones_like(x)
            ).sum((3, 4)),
            (x,),
            fast_mode=True,
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_input_is_kept(dtype):
    x = torch.randn(2, 3, 10, 25, 1, dtype=dtype)
    params = draw(2, frames=10)
    for noise in (None, torch.zeros(x.shape)):
        assert apply_augment(x, params, noise=noise).dtype == dtype
