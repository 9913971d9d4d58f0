"""skeleton_augment: every backend, and the CUDA blocks run on the CPU, against the reference."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from emulation import CPP, CUDA, RUNNERS, EmulatedLibrary, Runner, runner  # noqa: F401
from tolerances import assert_near
from torch.utils._pytree import tree_map

from aimclr_fast import native
from aimclr_fast.functional import (
    STREAMS,
    AugmentConfig,
    Views,
    skeleton_augment,
    skeleton_augment_streams,
)
from aimclr_fast.layouts import get_layout, layout_from_dict
from aimclr_fast.ops import skeleton_augment as op
from aimclr_fast.ops._augment import native_chain
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.reference import philox as reference_philox
from aimclr_fast.reference import skeleton_augment as reference
from aimclr_fast.reference.skeleton_augment import VIEWS, View

OFF = AugmentConfig(
    spatial_flip_prob=0.0,
    noise_prob=0.0,
    blur_prob=0.0,
    axis_mask_prob=0.0,
    temporal_flip_prob=0.0,
)
FLAGS = tuple(name for name in vars(OFF) if name.endswith("_prob"))
ON = replace(OFF, **dict.fromkeys(FLAGS, 1.0))
MIXED = AugmentConfig(temporal_flip_prob=0.5)
TURNED = replace(MIXED, turn_deg=180.0)
LAYOUT_OF = {17: "coco", 20: "kinect-v1", 22: "ui-prmd", 25: "ntu-rgb+d"}
SHAPES = [(50, 25, 2), (50, 22, 1), (47, 17, 1), (7, 17, 2), (13, 20, 3), (1, 25, 2), (2, 20, 1)]
KINDS = [pytest.param(CPP, id="cpp"), CUDA]
on_runners = pytest.mark.parametrize("runner", RUNNERS, indirect=True)


def make_data(*shape: int, sequences: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    frames, joints, bodies = shape
    return torch.randn(sequences, 3, frames, joints, bodies, generator=generator)


def make_index(n: int, sequences: int = 6) -> torch.Tensor:
    return torch.arange(n) * 5 % sequences


def augment(
    run: Runner, data: torch.Tensor, index: torch.Tensor, **changes: Any
) -> tuple[Views | op.SomeViews, ...]:
    """All streams on the runner's device, moved back."""
    arguments = {"layout": LAYOUT_OF[data.shape[3]], "config": MIXED, "seed": 11, "step": 3}
    made = skeleton_augment_streams(
        data.to(run.device),
        index.to(run.device),
        **{**arguments, **changes},
        backend=run.backend,
    )
    assert all(view.device.type == run.device for stream in made for view in stream)
    names = changes.get("views", VIEWS[:3])
    return tuple(op.named_views([view.cpu() for view in stream], names) for stream in made)


REFERENCE = Runner("reference")


def assert_same(actual: Any, expected: Any, dtype: torch.dtype = torch.float32) -> None:
    for found, wanted, stream in zip(actual, expected, STREAMS, strict=False):
        names = [name for name in VIEWS if hasattr(found, name)]
        assert names == [name for name in VIEWS if hasattr(wanted, name)]
        for view, want, name in zip(found, wanted, names, strict=True):
            assert_near(view, want, dtype=dtype, what=f"{name} {stream}")


@pytest.mark.parametrize("config", [MIXED, ON, OFF, TURNED], ids=["mixed", "on", "off", "turned"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@on_runners
def test_equals_the_reference(runner, shape, config):  # noqa: F811
    data, index = make_data(*shape), make_index(9)
    assert_same(
        augment(runner, data, index, config=config),
        augment(REFERENCE, data, index, config=config),
    )


@pytest.mark.parametrize("stream", STREAMS)
@on_runners
def test_every_combination_of_augmentations(runner, stream):  # noqa: F811
    data, index = make_data(11, 20, 1), make_index(2)
    for on in itertools.product([0.0, 1.0], repeat=len(FLAGS)):
        arguments = {
            "config": replace(OFF, **dict(zip(FLAGS, on, strict=True))),
            "streams": (stream,),
            "step": int(sum(on)),
        }
        assert_same(augment(runner, data, index, **arguments),
                    augment(REFERENCE, data, index, **arguments))  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_ratio": 1},
        {"crop_ratio": 51},
        {"blur_taps": 1},
        {"blur_taps": 9, "blur_normalize": True},
        {"blur_taps": 127, "blur_sigma_min": 3.0, "blur_sigma_max": 4.0},
        {"shear_amplitude": 0.0, "rotation_main_deg": 400.0, "rotation_minor_deg": 90.0},
        {"turn_deg": 37.0},
        {"shear_amplitude": 0.0, "turn_deg": 180.0},
        {"noise_std": 3.0, "blur_prob": 0.0},
        {"noise_std": 0.0},
        {"blur_sigma_min": 0.5, "blur_sigma_max": 0.5},
    ],
    ids=lambda changes: " ".join(changes),
)
@on_runners
def test_every_setting_counts(runner, changes):  # noqa: F811
    data, index, config = make_data(50, 22, 1), make_index(6), replace(ON, **changes)
    expected = augment(REFERENCE, data, index, config=config)
    assert_same(augment(runner, data, index, config=config), expected)


@pytest.mark.parametrize("out", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("stored", list(op.DTYPES))
@on_runners
def test_stored_and_written_dtypes(runner, stored, out):  # noqa: F811
    # A plane of 11 x 20 points is read in packs of four, one of 47 x 17 point by point.
    for shape in ((11, 20, 1), (47, 17, 1)):
        data, index = make_data(*shape), make_index(3)
        data = (data * 1000).round().to(stored) if stored == torch.int16 else data.to(stored)
        found = augment(runner, data, index, config=TURNED, dtype=out)
        assert all(view.dtype == out for stream in found for view in stream)
        dtype = torch.float32 if out == torch.float64 else out
        assert_same(found, augment(REFERENCE, data, index, config=TURNED), dtype)


def test_draws_agree_bit_for_bit():
    uneven = AugmentConfig(
        crop_ratio=3, shear_amplitude=0.3, rotation_main_deg=17.3, rotation_minor_deg=2.7,
        noise_prob=0.3, noise_std=0.037, blur_prob=0.7, blur_sigma_min=0.13, blur_sigma_max=1.7,
        spatial_flip_prob=0.1, axis_mask_prob=0.9, temporal_flip_prob=0.2,
    )  # fmt: skip
    n = 5000
    configs = (uneven, MIXED, replace(uneven, turn_deg=77.7))
    for config, view, seed in itertools.product(configs, View, (0, 2**63 + 12345)):
        expected = reference.draw_params(
            config, view, frames=50, seed=seed, step=7, positions=100 + torch.arange(n)
        )
        integers, floats = torch.empty(n, 4, dtype=torch.int32), torch.empty(n, 14)
        amplitudes = tuple(getattr(config, name) for name in op._AMPLITUDES)
        key0, key1 = reference_philox.split_seed(seed)
        native.load().skeleton_augment_draws_cpu(
            settings=op._native_settings(amplitudes),
            source={"key0": key0, "key1": key1, "step": 7, "position": 100},
            view=int(view),
            padding=50 // config.crop_ratio,
            n=n,
            integers=integers.data_ptr(),
            floats=floats.data_ptr(),
        )
        assert torch.equal(integers[:, 0].long(), expected.crop_start)
        shear = floats[:, :9].view(n, 3, 3)
        if config.turn_deg > 0:  # sines and cosines are rounded
            assert_near(shear, expected.shear)
        else:
            assert torch.equal(shear, expected.shear)
        if view not in (View.EXTREME, View.STRONG):
            continue
        assert torch.equal(integers[:, 1].bool(), expected.spatial_flip)
        assert torch.equal(integers[:, 2].long(), expected.axis_mask)
        assert torch.equal(integers[:, 3].bool(), expected.temporal_flip)
        assert torch.equal(floats[:, 9:12], expected.rotation_angles)
        assert torch.equal(floats[:, 12], expected.noise_std)
        assert torch.equal(floats[:, 13], expected.blur_sigma)


@pytest.mark.parametrize("runner", [pytest.param(REFERENCE, id="reference"), *RUNNERS],
                         indirect=True)  # fmt: skip
def test_a_turn_alone_turns_each_view_as_a_whole_about_the_vertical(runner):  # noqa: F811
    data, index = make_data(7, 17, 2), make_index(5)
    still = replace(
        OFF, crop_ratio=2**31 - 1, shear_amplitude=0.0, rotation_main_deg=0.0,
        rotation_minor_deg=0.0,
    )  # fmt: skip
    assert torch.equal(augment(runner, data, index, config=still)[0].extreme, data[index])
    found = augment(runner, data, index, config=replace(still, turn_deg=180.0), views=VIEWS)
    parents = torch.tensor(get_layout("coco").parents)
    x, turns = data[index], []
    for name in VIEWS:
        joint, motion, bone = (getattr(stream, name) for stream in found)
        assert torch.equal(joint[:, 1], x[:, 1])
        points, turned = (each.flatten(2).transpose(1, 2).double() for each in (x, joint))
        assert_near(torch.cdist(turned, turned), torch.cdist(points, points))
        # In the horizontal plane, a turn is one complex factor for all frames, joints and bodies.
        z = torch.complex(points[..., 0], points[..., 2])
        factor = torch.complex(turned[..., 0], turned[..., 2]) * z.conj() / z.abs().square()
        turns.append(factor.mean(1))
        assert_near(torch.view_as_real(turns[-1][:, None] * z), turned[..., [0, 2]])
        assert_near(motion, reference.to_stream(joint, "motion", parents))
        assert_near(bone, reference.to_stream(joint, "bone", parents))
    angles = torch.stack(turns).angle().flatten()  # of each view of each sample
    assert len(angles.unique()) == len(VIEWS) * len(index)
    assert angles.abs().max() > 1.6  # beyond a quarter turn


COMBINATIONS = [
    tuple(views)
    for n in range(1, 5)
    for views in itertools.combinations(("key", *VIEWS[:2], "strong"), n)
]


@pytest.mark.parametrize("config", [MIXED, ON, OFF], ids=["mixed", "on", "off"])
@on_runners
def test_every_combination_of_views(runner, config):  # noqa: F811
    """Whatever else is asked for, a view has the same bits."""
    data, index = make_data(13, 22, 1), make_index(4)
    arguments = {"config": config, "streams": ("joint", "bone")}
    whole = augment(runner, data, index, **arguments, views=VIEWS)
    assert_same(whole, augment(REFERENCE, data, index, **arguments, views=VIEWS))
    for stream in whole:
        assert not torch.isclose(stream.strong, stream.extreme).all(dim=(1, 2, 3, 4)).any()
    for views in COMBINATIONS:
        for found, want in zip(
            augment(runner, data, index, **arguments, views=views), whole, strict=True
        ):
            assert len(found) == len(views)
            assert all(torch.equal(found[i], getattr(want, name)) for i, name in enumerate(views))


# --- Blocks that share a sample ------------------------------------------------------------------


def emulate(data: torch.Tensor, parts: int, config: AugmentConfig, **block: Any) -> Any:
    """All streams and views as blocks write them, so many of them for each sample."""
    with pytest.MonkeyPatch.context() as patch:
        library = EmulatedLibrary(Runner("cpp", parts=parts, **block))
        patch.setattr(native, "load", lambda: library)
        return augment(CPP, data, make_index(5), config=config, views=VIEWS)


@pytest.mark.parametrize("parts", [2, 3, 9])
@pytest.mark.parametrize("shape", [(50, 25, 2), (33, 17, 1), (3, 17, 2), (1, 20, 1)], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_blocks_that_share_a_sample_write_the_same_bits(shape, parts, shared):
    """Planes of whole packs and others; parts as long as the blur reaches, shorter and empty."""
    block = {"shared": shared, "threads": 96}
    for config in (ON, MIXED, replace(ON, blur_taps=9), replace(ON, temporal_flip_prob=0.0)):
        data = make_data(*shape)
        whole = emulate(data, 1, config, **block)
        for found, wanted in zip(emulate(data, parts, config, **block), whole, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def parts_of(samples: int, room: int, shape: tuple[int, ...] = (50, 25, 2), taps: int = 15) -> int:
    layout = get_layout(LAYOUT_OF[shape[1]])
    chain = native_chain(
        shape, tuple(layout.swap), tuple(layout.parents), 6, taps, False, torch.device("cpu")
    )
    library = native.load()
    return library.skeleton_augment_parts_emulated(**chain.members, samples=samples, room=room)


@pytest.mark.parametrize(
    ("samples", "room", "parts"),
    [(128, 132, 1), (67, 132, 1), (66, 132, 2), (64, 132, 2), (45, 132, 2), (44, 132, 3),
     (1, 132, 3), (0, 132, 3), (54, 108, 2), (55, 108, 1), (4096, 132, 1), (1, 1, 1)],
)  # fmt: skip
def test_samples_are_shared_while_processors_would_be_idle(samples, room, parts):
    assert parts_of(samples, room) == parts


def test_a_part_has_more_frames_than_the_blur_reads_beside_it():
    for frames, taps in itertools.product((1, 15, 16, 31, 32, 50, 300), (1, 9, 15, 127)):
        parts = parts_of(1, 132, (frames, 25, 2), taps)
        assert 1 <= parts <= max(1, frames // (taps + 1))
        # At most one point in four thousand more than an even part: packs are whole.
        assert parts == max(1, min(132, frames // (taps + 1))) or frames * 50 // 4 < 132 * parts
    assert parts_of(1, 132, (50, 25, 0)) == 1  # nobody is there


@on_runners
def test_two_views_of_several_steps(runner):  # noqa: F811
    data, index = make_data(13, 22, 1), make_index(4)
    views = ("extreme", "strong")
    wanted = augment(REFERENCE, data, index, config=ON, views=views)
    assert_same(augment(runner, data, index, config=ON, views=views), wanted)


def test_views_have_names_and_an_order():
    views = skeleton_augment(
        make_data(13, 22, 1), make_index(2), layout="ui-prmd", config=MIXED, seed=1, step=2,
        views=["key", "query"],
    )  # fmt: skip
    key, query = views
    assert len(views) == 2
    assert views.key is key is views[0]
    assert views.query is query is views[-1]
    assert not hasattr(views, "extreme")
    with pytest.raises(AttributeError, match="strong"):
        _ = views.strong
    with pytest.raises(ValueError, match="zip"):
        op.named_views([key], ("key", "query"))


def test_the_usual_views_are_a_named_tuple():
    """For what looks into tuples, such as a data loader's collation."""
    views = skeleton_augment(
        make_data(13, 22, 1), make_index(2), layout="ui-prmd", config=MIXED, seed=1, step=2
    )
    assert isinstance(views, tuple)
    assert views._fields == ("extreme", "query", "key")
    doubled = tree_map(lambda view: 2 * view, views)
    assert torch.equal(doubled.query, 2 * views.query)


@pytest.mark.parametrize("shape", [(50, 25, 2), (47, 17, 1)], ids=str)
@pytest.mark.parametrize("run", KINDS)
def test_the_split_of_the_batch_changes_no_bit(run, shape):
    data, index = make_data(*shape), make_index(13)
    whole = augment(run, data, index)
    parts = [augment(run, data, index[i:j], offset=i) for i, j in ((0, 5), (5, 6), (6, 13))]
    for stream in range(3):
        for view in range(3):
            joined = torch.cat([part[stream][view] for part in parts])
            assert torch.equal(joined, whole[stream][view])


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    data, index = make_data(50, 25, 2), make_index(70)
    wanted = augment(CPP, data, index)
    for threads in (2, 3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for found, want in zip(augment(CPP, data, index), wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("run", [pytest.param(REFERENCE, id="reference"), *KINDS])
def test_streams_at_once_are_the_streams_one_by_one(run):
    data, index = make_data(50, 25, 2), make_index(8)
    together = augment(run, data, index, streams=("bone", "joint", "motion"))
    for stream, views in zip(("bone", "joint", "motion"), together, strict=True):
        single = skeleton_augment(
            data.to(run.device), index.to(run.device), layout="ntu-rgb+d", config=MIXED, seed=11,
            step=3, stream=stream, backend=run.backend,
        )  # fmt: skip
        assert all(torch.equal(a, b.cpu()) for a, b in zip(views, single, strict=True))


@pytest.mark.parametrize("run", KINDS)
def test_strided_and_narrow_inputs(run):
    data = make_data(50, 25, 2, sequences=12)
    index = make_index(16)
    wanted = augment(run, data[::2].contiguous(), index)
    for strided, at in (
        (data.to(run.device)[::2], index),
        (data[::2].transpose(2, 3).contiguous().to(run.device).transpose(2, 3), index),
        (data[::2].contiguous(), index.int()),
        (data[::2].contiguous(), index.repeat_interleave(2)[::2]),
    ):
        for found, want in zip(augment(run, strided, at), wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("run", KINDS)
def test_an_unaligned_data_set(run):
    # Sequences that start four bytes off a vector's alignment.
    storage = torch.randn(6 * 3 * 50 * 25 * 2 + 1, device=run.device)
    data = storage[1:].view(6, 3, 50, 25, 2)
    assert_same(augment(run, data, make_index(5)), augment(REFERENCE, data.cpu(), make_index(5)))


@pytest.mark.parametrize("run", KINDS)
def test_empty_batches_and_bodies(run):
    for data, n in ((make_data(10, 22, 1), 0), (make_data(10, 22, 0), 4)):
        for stream in augment(run, data, make_index(n)):
            assert all(list(view.shape) == [n, *data.shape[1:]] for view in stream)


def test_an_index_out_of_range_is_refused_by_the_op():
    data = make_data(10, 22, 1)
    settings = [getattr(MIXED, name) for name in op._AMPLITUDES]
    layout = op.get_layout("ui-prmd")
    for bad in (6, -1):
        with pytest.raises(ValueError, match=r"index must lie in 0\.\.5"):
            torch.ops.aimclr_fast.skeleton_augment(
                data, torch.tensor([0, bad]), layout.swap, layout.parents, [0], [1], torch.float32,
                (0, 0), 0, None, 0, 6, 15, False, settings, "cpp",
            )  # fmt: skip


def test_more_taps_than_a_kernel_has_go_to_the_reference():
    data, index = make_data(10, 22, 1), make_index(2)
    config = replace(ON, blur_taps=129)
    wanted = augment(REFERENCE, data, index, config=config)
    for found, want in zip(
        augment(Runner("auto"), data, index, config=config), wanted, strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    with pytest.raises(BackendError, match="at most 127 taps, and blur_taps is 129"):
        augment(CPP, data, index, config=config)


def test_auto_picks_the_compiled_kernel(monkeypatch):
    calls = []
    library = native.load()
    original = library.skeleton_augment_cpu
    monkeypatch.setattr(
        library, "skeleton_augment_cpu", lambda **a: (calls.append(a), original(**a))
    )
    augment(Runner("auto"), make_data(10, 22, 1), make_index(2))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": ()}, "streams must name at least one"),
        ({"streams": ("joint", "velocity")}, "stream must be one of .* got 'velocity'"),
        ({"streams": ("joint", "joint")}, "streams must differ"),
        ({"offset": 2**32 - 3}, "offset must lie in 0..2.32-N"),
        ({"views": ()}, "views must name at least one of extreme, query, key, strong"),
        ({"views": ("query", "weak")}, "view must be one of .* got 'weak'"),
        ({"views": ["key", "key"]}, "views must differ"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        augment(CPP, make_data(10, 22, 1), make_index(4), **changes)
    for step, message in ((2**32, "step must lie"), (torch.zeros(1).long(), "step must have shape"),
                          (torch.tensor(-1), "step must lie")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            augment(CPP, make_data(10, 22, 1), make_index(4), step=step)
    with pytest.raises(TypeError, match="step must be of dtype int64"):
        augment(CPP, make_data(10, 22, 1), make_index(4), step=torch.tensor(1.0))
    with pytest.raises(TypeError, match="dtype must be floating point"):
        augment(CPP, make_data(10, 22, 1), make_index(4), dtype=torch.int32)


@pytest.mark.parametrize("run", KINDS)
def test_opcheck(run):
    layout = op.get_layout("ui-prmd")
    for step_tensor in (None, torch.tensor(9, device=run.device)):
        torch.library.opcheck(
            torch.ops.aimclr_fast.skeleton_augment,
            (
                make_data(10, 22, 1).to(run.device), make_index(3).to(run.device), layout.swap,
                layout.parents, [0, 2], [3, 0, 1], torch.bfloat16, (1, 2), 3, step_tensor, 4, 6, 15,
                False, [getattr(TURNED, name) for name in op._AMPLITUDES], run.backend,
            ),
        )  # fmt: skip


@pytest.mark.parametrize("runner", [pytest.param(REFERENCE, id="reference"), *RUNNERS],
                         indirect=True)  # fmt: skip
def test_the_step_may_be_a_tensor(runner):  # noqa: F811
    data, index = make_data(10, 22, 1), make_index(4)
    for step in (0, 3, 2**32 - 1):
        wanted = augment(runner, data, index, step=step)
        found = augment(runner, data, index, step=torch.tensor(step, device=runner.device))
        for streams in zip(found, wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(*streams, strict=True))


@pytest.mark.parametrize("run", [pytest.param(REFERENCE, id="reference"), *KINDS])
def test_torch_compile_takes_it_as_one_graph(run):
    data, index = make_data(10, 22, 1).to(run.device), make_index(4).to(run.device)
    layout = layout_from_dict(get_layout("ui-prmd").to_dict())  # one that was never used

    def scaled(step: int | torch.Tensor) -> torch.Tensor:
        views = skeleton_augment(
            data, index, layout=layout, config=TURNED, seed=5, step=step, backend=run.backend
        )
        return views.extreme + 2 * views.key

    # The reference is torch's own operations alone, and many: their graph runs as it is.
    backend = "eager" if run.backend == "reference" else "aot_eager"
    compiled = torch.compile(scaled, fullgraph=True, backend=backend)
    # Traced three times: a number, any number and a tensor.
    for step in (0, 2, 3, torch.tensor(4, device=run.device)):
        assert_near(compiled(step), scaled(step))


@pytest.mark.cuda
@pytest.mark.parametrize("stored", [torch.float32, torch.int16, torch.float16])
def test_data_in_pinned_host_memory(stored):
    data, index = make_data(50, 25, 2), make_index(9)
    data = (data * 1000).round().to(stored) if stored == torch.int16 else data.to(stored)
    views = skeleton_augment(
        data.pin_memory(), index.cuda(), layout="ntu-rgb+d", config=MIXED, seed=11, step=3,
        backend="cuda",
    )  # fmt: skip
    assert views.extreme.is_cuda
    wanted = augment(REFERENCE, data, index, streams=("joint",))
    assert_same([Views(*(view.cpu() for view in views))], wanted)
    with pytest.raises(ValueError, match="one device"):
        skeleton_augment(data, index.cuda(), layout="ntu-rgb+d", config=MIXED, seed=0, step=0)


def test_the_fake_takes_data_in_host_memory_for_a_gpu(monkeypatch):
    """Whether it is pinned only the implementation can ask."""
    monkeypatch.setattr("aimclr_fast.ops._native._cuda_on", lambda _: None)
    with torch._subclasses.FakeTensorMode():
        data = torch.empty(4, 3, 10, 22, 1)
        index = torch.zeros(2, dtype=torch.int64, device="cuda")
        views = skeleton_augment(
            data, index, layout="ui-prmd", config=MIXED, seed=0, step=0, backend="cuda"
        )
    assert views.extreme.device.type == "cuda"


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(300, 25, 4), (1001, 25, 2)], ids=str)
def test_sequences_that_do_not_fit_shared_memory(shape):
    data, index = make_data(*shape, sequences=3), make_index(300, sequences=3)
    run = Runner("cuda", "cuda")
    wanted = augment(REFERENCE, data, index[:5])
    found = augment(run, data, index)  # more samples than blocks
    assert_same([Views(*(view[:5] for view in stream)) for stream in found], wanted)
    again = augment(run, data, index[295:], offset=295)
    for stream, part in zip(found, again, strict=True):
        assert all(torch.equal(a[295:], b) for a, b in zip(stream, part, strict=True))


@pytest.mark.cuda
@pytest.mark.smoke
def test_runs_on_the_current_stream_and_in_a_graph():
    data, index = make_data(50, 25, 2).cuda(), make_index(128).cuda()
    arguments = {"layout": "ntu-rgb+d", "config": MIXED, "seed": 1, "backend": "cuda"}
    step = torch.tensor(1, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step += 1
        captured = skeleton_augment(data, index, **{**arguments, "step": step})
    for replayed in (2, 3):
        graph.replay()
        wanted = skeleton_augment(data, index, **{**arguments, "step": replayed})
        assert all(torch.equal(a, b) for a, b in zip(captured, wanted, strict=True))
