"""apply_augment and its gradients: every backend, and the CUDA blocks, against the reference."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from emulation import CPP, CUDA, RUNNERS, Runner, runner  # noqa: F401
from tolerances import assert_near

from aimclr_fast.functional import STREAMS, AugmentConfig, AugmentParams, apply_augment
from aimclr_fast.ops import apply_augment as op
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.reference import skeleton_augment as reference

LAYOUT_OF = {17: "coco", 20: "kinect-v1", 22: "ui-prmd", 25: "ntu-rgb+d"}
SHAPES = [(50, 25, 2), (47, 17, 1), (7, 17, 2), (13, 20, 3), (1, 25, 2), (2, 20, 1)]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
ON = AugmentConfig(
    spatial_flip_prob=0.5, blur_prob=0.7, axis_mask_prob=0.5, temporal_flip_prob=0.5, noise_prob=0.0
)
KINDS = [pytest.param(CPP, id="cpp"), CUDA]
on_runners = pytest.mark.parametrize("runner", RUNNERS, indirect=True)


def make_x(n: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    frames, joints, bodies = shape
    return torch.randn(n, 3, frames, joints, bodies, generator=generator, dtype=dtype)


def make_params(n: int, frames: int, seed: int = 1, crop_ratio: int = 6) -> AugmentParams:
    params = reference.draw_params(
        replace(ON, crop_ratio=crop_ratio), reference.View.EXTREME, frames=frames, seed=seed,
        step=0, positions=torch.arange(n),
    )  # fmt: skip
    return replace(params, noise_std=None)


def on_device(params: AugmentParams, device: str) -> AugmentParams:
    return AugmentParams(
        **{name: v if v is None else v.to(device) for name, v in vars(params).items()}
    )


def apply(run: Runner, x: torch.Tensor, params: AugmentParams, **changes: Any) -> torch.Tensor:
    noise = changes.pop("noise", None)
    return apply_augment(
        x.to(run.device),
        on_device(params, run.device),
        layout=LAYOUT_OF[x.shape[3]],
        noise=None if noise is None else noise.to(run.device),
        backend=run.backend,
        **changes,
    ).cpu()


REFERENCE = Runner("reference")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@on_runners
def test_equals_the_reference(runner, shape, dtype):  # noqa: F811
    x, noise = make_x(6, *shape).to(dtype), 0.1 * make_x(6, *shape, seed=1).to(dtype)
    params = make_params(6, shape[0])
    # Halves are augmented in float32: the reference is, too, and rounds at the end.
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for stream in STREAMS:
        for added in (None, noise):
            found = apply(runner, x, params, stream=stream, noise=added)
            assert found.dtype == dtype
            added = None if added is None else added.to(wide)
            expected = apply(REFERENCE, x.to(wide), params, stream=stream, noise=added)
            assert_near(found, expected, dtype=dtype, what=stream)


@pytest.mark.parametrize("name", [f.name for f in fields(AugmentParams) if f.name != "noise_std"])
@on_runners
def test_each_parameter_alone(runner, name):  # noqa: F811
    x, all_of_them = make_x(5, 12, 22, 1), make_params(5, 12, seed=4)
    params = AugmentParams(**{name: getattr(all_of_them, name)})
    for stream in STREAMS:
        expected = apply(REFERENCE, x, params, stream=stream)
        assert_near(apply(runner, x, params, stream=stream), expected, what=stream)


@on_runners
def test_without_parameters_only_the_stream_is_formed(runner):  # noqa: F811
    x = make_x(3, 13, 17, 2)
    for stream in STREAMS:
        found = apply(runner, x, AugmentParams(), stream=stream)
        assert torch.equal(found, apply(REFERENCE, x, AugmentParams(), stream=stream))


@pytest.mark.parametrize(("crop_ratio", "taps", "normalize"), [(1, 5, True), (3, 31, False)])
@on_runners
def test_settings_of_the_chain(runner, crop_ratio, taps, normalize):  # noqa: F811
    x, params = make_x(5, 20, 20, 1), make_params(5, 20, seed=2, crop_ratio=crop_ratio)
    arguments = {"crop_ratio": crop_ratio, "blur_taps": taps, "blur_normalize": normalize}
    assert_near(apply(runner, x, params, **arguments), apply(REFERENCE, x, params, **arguments))


@on_runners
@pytest.mark.smoke
def test_the_authors_numbers(runner, golden):  # noqa: F811
    g = golden("augment")
    params = AugmentParams(
        crop_start=g["crop_start"],
        shear=g["shear_matrix"],
        spatial_flip=g["flip"],
        rotation_angles=torch.deg2rad(g["rot_angles_deg"]),
        blur_sigma=torch.where(g["blur_on"], g["blur_sigma"], 0.0),
        axis_mask=g["mask_axis"],
    )
    noise = g["noise"] * g["noise_on"][:, None, None, None, None]
    assert_near(apply(runner, g["x"], params, noise=noise), g["extreme"])
    params = replace(params, temporal_flip=g["time_flip"])
    assert_near(apply(runner, g["x"], params, noise=noise), g["extreme_time_flip"])
    params = AugmentParams(crop_start=g["normal_crop_start"], shear=g["normal_shear"])
    assert_near(apply(runner, g["x"], params), g["normal"])


def gradients(run: Runner, x, noise, params, grad, stream, of=("x", "noise")):
    inputs = {"x": x.to(run.device), "noise": noise.to(run.device)}
    for name in of:
        inputs[name] = inputs[name].detach().requires_grad_()
    out = apply_augment(
        inputs["x"], on_device(params, run.device), noise=inputs["noise"], stream=stream,
        layout=LAYOUT_OF[x.shape[3]], backend=run.backend,
    )  # fmt: skip
    found = torch.autograd.grad(out, [inputs[name] for name in of], grad.to(run.device))
    return [gradient.cpu() for gradient in found]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@on_runners
def test_gradients_equal_the_reference(runner, shape, dtype):  # noqa: F811
    x, noise, grad = (make_x(4, *shape, seed=i).to(dtype) for i in range(3))
    params = make_params(4, shape[0], seed=3)
    for stream in STREAMS:
        found = gradients(runner, x, noise, params, grad, stream)
        wide = [tensor.double() for tensor in (x, noise)]
        expected = gradients(REFERENCE, *wide, params, grad.double(), stream)
        for gradient, want, name in zip(found, expected, ("x", "noise"), strict=True):
            assert gradient.dtype == dtype
            assert_near(gradient, want, gradient=True, dtype=dtype, what=f"{stream}, {name}")


@pytest.mark.parametrize("stream", STREAMS)
@on_runners
def test_gradcheck(runner, stream):  # noqa: F811
    x, noise = (make_x(2, 7, 20, 1, seed=i).double().to(runner.device) for i in range(2))
    params = on_device(make_params(2, 7, seed=5), runner.device)

    def augment(x, noise):
        return apply_augment(
            x, params, noise=noise, stream=stream, layout="kinect-v1", backend=runner.backend
        )

    inputs = (x.requires_grad_(), noise.requires_grad_())
    assert torch.autograd.gradcheck(augment, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(augment, inputs, fast_mode=True)


@on_runners
def test_a_gradient_of_one_input_alone(runner):  # noqa: F811
    x, noise, grad = (make_x(3, 10, 22, 1, seed=i) for i in range(3))
    params = make_params(3, 10)
    both = gradients(runner, x, noise, params, grad, "joint")
    for i, name in enumerate(("x", "noise")):
        (alone,) = gradients(runner, x, noise, params, grad, "joint", of=(name,))
        assert torch.equal(alone, both[i])


def test_gradients_of_parameters_come_from_the_reference():
    x = make_x(2, 10, 22, 1)
    params = make_params(2, 10)
    params = replace(params, shear=params.shear.requires_grad_())
    found = apply_augment(x, params, layout="ui-prmd")
    expected = apply_augment(x, params, layout="ui-prmd", backend="reference")
    assert torch.equal(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), params.shear)
    assert gradient.abs().sum() > 0
    with pytest.raises(BackendError, match=r"no gradient for params\.shear"):
        apply_augment(x, params, layout="ui-prmd", backend="cpp")


@pytest.mark.parametrize("run", KINDS)
def test_strided_inputs(run):
    x, noise = make_x(8, 10, 22, 1), make_x(8, 10, 22, 1, seed=1)
    params = make_params(4, 10)
    wanted = apply(run, x[::2].contiguous(), params, noise=noise[::2].contiguous())
    assert torch.equal(apply(run, x[::2], params, noise=noise[::2]), wanted)
    wide = torch.zeros(4, 3, 6)
    wide[..., ::2] = params.shear
    strided = replace(params, shear=wide[..., ::2])
    assert torch.equal(apply(run, x[::2], strided, noise=noise[::2]), wanted)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    x, params = make_x(70, 50, 25, 2), make_params(70, 50)
    wanted = apply(CPP, x, params)
    for threads in (2, 3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(apply(CPP, x, params), wanted)


@pytest.mark.parametrize("run", KINDS)
def test_empty_batches(run):
    for x in (make_x(0, 10, 22, 1), make_x(3, 10, 22, 0)):
        assert apply(run, x, make_params(len(x), 10)).shape == x.shape


def test_a_bad_setting_is_named():
    x = make_x(2, 12, 22, 1)
    with pytest.raises(ValueError, match=r"blur_taps must be odd, .*got 4"):
        apply(CPP, x, AugmentParams(), blur_taps=4)
    with pytest.raises(ValueError, match="crop_ratio must lie in"):
        apply(CPP, x, AugmentParams(), crop_ratio=0)
    with pytest.raises(ValueError, match=r"params.crop_start must lie in 0\.\.4, got 0\.\.5"):
        torch.ops.aimclr_fast.apply_augment(*arguments(CPP, x, crop_start=torch.tensor([0, 5])))


def arguments(run: Runner, x: torch.Tensor, **changes: torch.Tensor) -> list[Any]:
    layout = reference_layout(x)
    params = dict.fromkeys(op.PARAM_DTYPES) | changes
    values = [None if value is None else value.to(run.device) for value in params.values()]
    return [x.to(run.device), None, *values, layout.swap, layout.parents, 1, 6, 15, False,
            run.backend]  # fmt: skip


def reference_layout(x: torch.Tensor):
    return op.get_layout(LAYOUT_OF[x.shape[3]])


@pytest.mark.parametrize("run", KINDS)
def test_opcheck(run):
    x, params = make_x(3, 10, 22, 1), make_params(3, 10)
    call = arguments(
        run, x, crop_start=params.crop_start, shear=params.shear, blur_sigma=params.blur_sigma
    )
    call[0].requires_grad_()
    call[1] = torch.ones_like(x, device=run.device)
    torch.library.opcheck(torch.ops.aimclr_fast.apply_augment, call)
    for wanted in ([True, True], [False, True]):
        grad = torch.ones_like(x, device=run.device, requires_grad=True)
        torch.library.opcheck(
            torch.ops.aimclr_fast.apply_augment_backward, [grad, wanted, *call[2:]]
        )


@pytest.mark.parametrize("run", [pytest.param(REFERENCE, id="reference"), *KINDS])
def test_torch_compile_takes_it_as_one_graph(run):
    x = make_x(3, 10, 22, 1).to(run.device)
    params = on_device(make_params(3, 10), run.device)

    def squared(x: torch.Tensor) -> torch.Tensor:
        return apply_augment(
            x, params, layout="ui-prmd", stream="bone", backend=run.backend
        ).square()

    compiled = torch.compile(squared, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x.requires_grad_()).sum(), x)
    (expected,) = torch.autograd.grad(squared(x).sum(), x)
    assert_near(found, expected, gradient=True)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sequences_that_do_not_fit_shared_memory(dtype):
    x, noise, grad = (make_x(3, 300, 25, 4, seed=i).to(dtype) for i in range(3))
    params = make_params(3, 300)
    run = Runner("cuda", "cuda")
    for stream in STREAMS:
        assert_near(
            apply(run, x, params, noise=noise, stream=stream),
            apply(REFERENCE, x, params, noise=noise, stream=stream),
            dtype=dtype,
        )
        for found, want in zip(
            gradients(run, x, noise, params, grad, stream),
            gradients(REFERENCE, x.double(), noise.double(), params, grad.double(), stream),
            strict=True,
        ):
            assert_near(found, want, gradient=True, dtype=dtype)
