"""export: each format computes what the encoder computes, whatever the batch and the length."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import authors_state, checkpoint, save, save_head_of
from refusals import refusal
from tolerances import assert_near

from aimclr_fast import _files, load_encoder
from aimclr_fast import export as module
from aimclr_fast._checkpoint import CheckpointError
from aimclr_fast.data import open_embedded
from aimclr_fast.data.preprocessing import Preprocessing, turn_about_y
from aimclr_fast.export import SUFFIXES, command_line
from aimclr_fast.inference.encoder import EmbeddingModel
from aimclr_fast.inference.from_recordings import FromRecordings


@pytest.fixture(scope="module")
def store():
    return open_embedded()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, store):
    """Ours: every second frame of joint, with a classifier, and bone; and the authors'."""
    folder = tmp_path_factory.mktemp("export")
    joint = save(checkpoint(store, frame_step=2), folder / "joint.pt")
    head = {"weight": torch.randn(20, 8), "bias": torch.randn(20)}
    save_head_of(joint, folder / "head.pt", **head, classes=store.class_names)
    save(checkpoint(store, stream="bone", frame_step=3), folder / "bone.pt")
    torch.save(authors_state("linear"), folder / "theirs.pt")
    return folder


fails = functools.partial(refusal, command_line)


def run_onnx(file, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    described = session.get_modelmeta().custom_metadata_map["aimclr_fast"]
    return session.run(None, {"positions": x.numpy()}), described


def run_torch(file, x):
    extra = {"aimclr_fast.json": ""}
    out = torch.export.load(file, extra_files=extra).module()(x)
    return [out] if isinstance(out, torch.Tensor) else list(out), extra["aimclr_fast.json"]


def run_safetensors(file, x):
    import safetensors

    out = load_encoder(file).model(x)
    with safetensors.safe_open(file, framework="np") as opened:
        described = opened.metadata()["aimclr_fast"]
    return [out] if isinstance(out, torch.Tensor) else list(out), described


RUNS = {"safetensors": run_safetensors, "onnx": run_onnx, "torch": run_torch}


@pytest.mark.parametrize(
    ("form", "name"),
    [("torch", "joint"), ("onnx", "bone"), ("safetensors", "joint"), ("safetensors", "theirs")],
)
def test_a_file_computes_the_same(folder, capsys, form, name):
    file = folder / f"{name}{SUFFIXES[form]}"
    head = folder / "head.pt" if name == "joint" else None
    options = ["--head", str(head)] if head else []
    command_line([str(folder / f"{name}.pt"), "--format", form, *options])
    assert f"{file}: " in capsys.readouterr().out
    encoder = load_encoder(folder / f"{name}.pt", head=head)
    assert len(encoder.class_names) == {"joint": 20, "bone": 0, "theirs": 60}[name]
    joints, bodies = encoder.layout.num_joints, encoder.traits.bodies
    for batch, frames in ((1, 50), (4, 50), (2, 77)):
        x = torch.randn(batch, 3, frames, joints, bodies) * 0.3
        expected = encoder.model(x)
        found, described = RUNS[form](file, x)
        wanted = [expected] if isinstance(expected, torch.Tensor) else expected
        assert len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            assert_near(torch.as_tensor(f), w, gradient=True)
    traits = json.loads(described)["traits"]
    assert traits == encoder.traits.to_dict()


@pytest.mark.parametrize(
    ("form", "pool"), [("onnx", "segments+max"), ("torch", "joints"), ("safetensors", "parts")]
)
def test_readouts_are_exported(folder, capsys, form, pool):
    file = folder / f"{pool}{SUFFIXES[form]}"
    command_line([str(folder / "bone.pt"), "--format", form, "--pool", pool, "--out", str(file)])
    encoder = load_encoder(folder / "bone.pt", pool=pool)
    assert f"{encoder.num_features} features (readout {pool})" in capsys.readouterr().out
    for batch, frames in ((1, 50), (3, 77)):
        x = torch.randn(batch, 3, frames, encoder.layout.num_joints, 1) * 0.3
        (found, *_), described = RUNS[form](file, x)
        assert_near(torch.as_tensor(found), encoder.model(x), gradient=True)
        assert found.shape == (batch, encoder.num_features)
    assert json.loads(described)["traits"]["pool"] == pool


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_a_graph_takes_recordings(folder, capsys, form):
    """Centered, resampled and turned as the package does it, whatever the length."""
    file = folder / f"recorded{SUFFIXES[form]}"
    options = ["--head", str(folder / "head.pt"), "--recordings", "--out", str(file)]
    command_line([str(folder / "joint.pt"), "--format", form, *options])
    assert "checked: outputs within" in capsys.readouterr().out
    encoder = load_encoder(folder / "joint.pt", head=folder / "head.pt")
    for batch, frames in ((1, 2), (1, 3), (2, 50), (1, 51), (3, 33), (1, 140)):
        x = torch.randn(batch, 3, frames, encoder.layout.num_joints, 1) + 3.0
        found, _ = RUNS[form](file, x)
        expected = encoder.classify(x.permute(0, 4, 2, 3, 1))
        for f, w in zip(found, expected[:2], strict=True):
            assert_near(torch.as_tensor(f), w, gradient=True)


@pytest.mark.parametrize("rotate", ["exact", "published", "none"])
@pytest.mark.parametrize("normalize", ["frame", "sequence"])
@pytest.mark.parametrize("frames", [None, 20])
def test_preprocessing_in_the_network_is_that_of_the_package(store, rotate, normalize, frames):
    if (rotate, normalize) == ("published", "sequence"):
        return  # there is no such preprocessing
    steps = Preprocessing(frames, rotate, "fill", normalize)
    model = load_encoder("ui_prmd", device="cpu").model
    model.traits = dataclasses.replace(model.traits, preprocessing=steps, bodies=2)
    network = FromRecordings(model)
    network.model = torch.nn.Identity()
    x = store.as_tensor([5, 900]) + torch.tensor([0.3, -0.2, 2.0])[:, None, None, None]
    turned = torch.from_numpy(turn_about_y(x.numpy(), 0.8)).float()
    x = torch.cat([turned, 0 * turned], 4)  # the second body is absent
    found = network(x)
    for own, one in zip(found, x, strict=True):
        expected = steps(one.numpy(), store.layout)
        np.testing.assert_allclose(own.numpy(), expected, atol=2e-6)


def test_int8_is_smaller_and_says_what_it_changes(folder, tmp_path, capsys):
    file = tmp_path / "x.onnx"
    command_line(["ui_prmd", "--format", "onnx", "--int8", "--out", str(file)])
    said = capsys.readouterr().out
    assert file.stat().st_size < 0.4e6
    found = re.search(
        r"on 1,000 test samples of ui_prmd_unaligned, features have a cosine of ([\d.]+) with "
        r"those in float32; ([\d.]+)% of the answers are the same, ([\d.]+)% are right and "
        r"([\d.]+)% in",
        said,
    )
    assert found, said
    cosine, same, right, before = map(float, found.groups())
    assert cosine > 0.99
    assert same > 90
    assert abs(right - before) < 3
    encoder = load_encoder("ui_prmd", device="cpu")
    x = torch.randn(4, 3, 50, 22, 1) * 0.3
    (features, _), described = run_onnx(file, x)
    assert json.loads(described)["traits"] == encoder.traits.to_dict()
    expected = encoder.model(x)[0]
    assert torch.nn.functional.cosine_similarity(torch.from_numpy(features), expected).min() > 0.95
    assert "int8: only with --format onnx" in fails(capsys, "ui_prmd", "--int8")


def test_recordings_need_a_graph_and_a_known_preprocessing(folder, capsys):
    assert "the file holds weights" in fails(capsys, folder / "bone.pt", "--recordings")
    model = load_encoder(folder / "bone.pt").model
    model.traits = dataclasses.replace(model.traits, preprocessing=None)
    with pytest.raises(ValueError, match="is not known"):
        FromRecordings(model)


def operations(file):
    """Names of the nodes that compute, with repetitions."""
    if file.suffix == ".onnx":
        import onnx

        return [node.op_type for node in onnx.load(file).graph.node]
    nodes = torch.export.load(file).graph.nodes
    return [str(node.target) for node in nodes if node.op == "call_function"]


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_graphs_have_the_norms_in_the_weights(folder, tmp_path, monkeypatch, form):
    """Fewer nodes and no larger a file than without; and nothing of this machine is in it."""
    file, plain = (tmp_path / f"{name}{SUFFIXES[form]}" for name in ("folded", "plain"))
    encoder = load_encoder(folder / "bone.pt")
    module.export(encoder, file, form)
    monkeypatch.setattr(EmbeddingModel, "folded", lambda self, **_: self)
    module.export(encoder, plain, form)
    found, usual = operations(file), operations(plain)
    # One of the input, 20 of blocks, 3 beside them; ONNX has those after convolutions folded.
    assert sum("norm" in name.lower() for name in usual) == {"onnx": 11, "torch": 24}[form]
    assert not [name for name in found if "norm" in name.lower()]
    assert sum("conv" in name.lower() for name in found) == 23
    assert len(found) <= 0.8 * len(usual)
    assert file.stat().st_size <= plain.stat().st_size
    package = str(Path(module.__file__).parent).encode()
    unpacked = [file.read_bytes()]
    if form == "torch":
        with zipfile.ZipFile(file) as opened:
            unpacked = [opened.read(name) for name in opened.namelist()]
    assert not any(package in content for content in unpacked)


@pytest.mark.parametrize(
    ("form", "frames", "step", "stream"),
    [("onnx", 16, 3, "motion"), ("torch", 2, 1, "bone")],
)
def test_stores_of_a_few_frames(tmp_path, store, form, frames, step, stream):
    """Strides leave one frame of them; the graph holds for these lengths and for longer ones."""
    state = checkpoint(store, stream=stream, frame_step=step)
    state["data"] = store.traits() | {"frames": frames}
    source, file = save(state, tmp_path / "x.pt"), tmp_path / f"x{SUFFIXES[form]}"
    command_line([str(source), "--format", form])
    encoder = load_encoder(source)
    for batch, length in ((1, step + 1), (3, step + 1), (2, frames), (2, 4 * step), (1, 50)):
        x = torch.randn(batch, 3, length, encoder.layout.num_joints, 1) * 0.3
        (found, *_), _ = RUNS[form](file, x)
        assert_near(torch.as_tensor(found), encoder.model(x), gradient=True)


@pytest.mark.parametrize("fault", [RuntimeError("Guard failed:\nlong"), AssertionError()])
@pytest.mark.parametrize("place", ["writing", "running"])
def test_what_an_exporter_raises_is_one_line(folder, capsys, monkeypatch, fault, place):
    def fail(*_):
        raise fault

    written = fail if place == "writing" else lambda *_: fail
    monkeypatch.setitem(module._WRITERS, "safetensors", written)
    error = fails(capsys, folder / "bone.pt", "--out", folder / "z.safetensors")
    says = {"writing": "cannot write it as safetensors: ", "running": "the file does not run for "}
    assert says[place] in error
    assert type(fault).__name__ in error
    assert not list(folder.glob("*z.safetensors*"))


def test_where_a_file_cannot_be_written_is_known_before(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(module._WRITERS, "safetensors", lambda *_: pytest.fail("too late"))
    (tmp_path / "x.safetensors").mkdir()
    options = ("--overwrite", "--out", tmp_path / "x.safetensors")
    assert "x.safetensors: is a folder" in fails(capsys, folder / "bone.pt", *options)
    full = OSError(30, "Read-only file system")

    def closed(**_):
        raise full

    monkeypatch.setattr(_files.tempfile, "mkstemp", closed)
    error = fails(capsys, folder / "bone.pt", "--out", tmp_path / "y.safetensors")
    assert "Read-only file system" in error


def test_an_exported_encoder_takes_sequences_again(folder, store):
    file = folder / "again.safetensors"
    command_line([str(folder / "bone.pt"), "--out", str(file)])
    x = store.as_tensor(slice(0, 3)).permute(0, 4, 2, 3, 1)
    ours, again = load_encoder(folder / "bone.pt"), load_encoder(file)
    assert again.traits == ours.traits
    assert again.layout == ours.layout
    assert_near(again(x), ours(x))
    with pytest.raises(CheckpointError, match="has no joint stream; it holds bone"):
        load_encoder(file, stream="joint")


def test_the_folder_of_an_export_is_made(folder, tmp_path):
    file = tmp_path / "not" / "yet" / "x.safetensors"
    command_line([str(folder / "bone.pt"), "--out", str(file)])
    assert load_encoder(file).traits.stream == "bone"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_that_computes_something_else_does_not_appear(folder, capsys, monkeypatch):
    real = module.load_encoder

    def spoilt(*arguments, **options):
        encoder = real(*arguments, **options)
        encoder.model.encoder.backbone.edge_importance[3].mul_(1.5)
        return encoder

    writer = module._WRITERS["safetensors"]

    def write(model, file, recordings):
        monkeypatch.setattr(module, "load_encoder", spoilt)
        return writer(model, file, recordings)

    monkeypatch.setitem(module._WRITERS, "safetensors", write)
    file = folder / "spoilt.safetensors"
    assert "outputs differ by" in fails(capsys, folder / "bone.pt", "--out", file)
    assert not list(folder.glob("*spoilt*"))


def test_what_cannot_be_exported(folder, capsys, monkeypatch):
    ours = folder / "bone.pt"
    assert "choose from safetensors, onnx, torch" in fails(capsys, ours, "--format", "tflite")
    assert "none.pt: no such checkpoint" in fails(capsys, folder / "none.pt")
    assert "ends in .onnx" in fails(capsys, ours, "--format", "onnx", "--out", "x.pt")
    assert "no joint stream" in fails(
        capsys, ours, "--stream", "joint", "--out", folder / "y.safetensors"
    )
    assert "unknown layout 'x'" in fails(
        capsys, ours, "--layout", "x", "--out", folder / "y.safetensors"
    )
    (folder / "kept.safetensors").write_text("kept")
    assert "exists already" in fails(capsys, ours, "--out", folder / "kept.safetensors")
    assert (folder / "kept.safetensors").read_text() == "kept"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = fails(capsys, ours, "--format", "onnx", "--out", folder / "y.onnx")
    assert "needs onnxruntime: pip install 'aimclr_fast[export]'" in error


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file, save: file.write_bytes(b"\xff" * 100),
        lambda file, save: file.write_bytes(file.read_bytes()[:-100]),
        lambda file, save: save({"x": np.zeros(3, np.float32)}, file),
        lambda file, save: save({"x": np.zeros(3, np.float32)}, file, {"aimclr_fast": "[" * 9999}),
        lambda file, save: save(
            {"x": np.zeros(3, np.float32)}, file, {"aimclr_fast": '{"traits": {"frames": 3}}'}
        ),
    ],
)
def test_odd_safetensors_files(folder, store, tmp_path, spoil):
    from safetensors.numpy import save_file

    file = tmp_path / "odd.safetensors"
    command_line([str(folder / "bone.pt"), "--out", str(file)])
    spoil(file, save_file)
    with pytest.raises(CheckpointError, match=r"odd.safetensors: not an encoder that this package"):
        load_encoder(file)
