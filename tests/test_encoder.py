"""load_encoder: our checkpoints, the authors', any shape of input, and clear refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import TINY, authors_state, checkpoint, save, save_head_of
from tolerances import assert_near

import aimclr_fast
from aimclr_fast import load_encoder
from aimclr_fast._checkpoint import CheckpointError
from aimclr_fast.cli import UserError
from aimclr_fast.data import open_embedded
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.export import export
from aimclr_fast.functional import STREAMS
from aimclr_fast.inference.features import encode
from aimclr_fast.layouts import LAYOUTS
from aimclr_fast.nn.official import from_official

CONVOLUTION = "encoder_q.st_gcn_networks.0.tcn.2.weight"
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def store():
    return open_embedded()


@pytest.fixture(scope="module")
def rows(store):
    """Ten of the store's sequences as a user has them: [N, M, T, V, 3]."""
    return store.as_tensor(np.arange(0, 2000, 200)).permute(0, 4, 2, 3, 1).contiguous()


@pytest.fixture
def saved(tmp_path, store):
    def saved(**changes):
        return save(checkpoint(store) | changes, tmp_path / "checkpoint.pt")

    return saved


# --- Ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["joint", "motion", "bone"])
@pytest.mark.parametrize("frame_step", [1, 3])
def test_features_are_those_of_evaluation(tmp_path, store, rows, stream, frame_step):
    state = checkpoint(store, stream=stream, frame_step=frame_step)
    save(state, tmp_path / "x.pt")
    encoder = load_encoder(tmp_path / "x.pt")
    x = rows.permute(0, 4, 2, 3, 1)[:, :, ::frame_step]
    expected = encode(encoder.model.encoder, x.contiguous(), stream=stream)
    assert_near(encoder(rows, preprocessed=True), expected)
    # What the store did to its sequences (center, resize, turn exactly) leaves them as they are.
    torch.testing.assert_close(encoder(rows), expected, rtol=1e-4, atol=1e-4)


def test_every_shape_of_input_gives_the_same(saved, rows):
    encoder = load_encoder(saved())
    batch = encoder(rows)
    assert batch.shape == (10, TINY.features)
    assert batch.dtype == torch.float32
    assert encoder(rows[3]).shape == (TINY.features,)
    for one in (rows[3], rows[3, 0], rows[3].numpy(), rows[3, 0].double()):
        assert_near(encoder(one), batch[3])
    assert_near(encoder(rows.numpy()), batch)
    assert_near(encoder(list(rows)), batch)
    assert_near(encoder(tuple(rows[:, 0].numpy())), batch)
    assert_near(encoder(rows, batch_size=3), batch)
    assert encoder([]).shape == (0, TINY.features)


def test_any_length_is_resized_as_in_preparation(saved, store, rows):
    encoder = load_encoder(saved())
    lengths = [1, 7, 50, 333]
    sequences = [rows[i, 0, torch.arange(n) % 50] for i, n in enumerate(lengths)]
    features = encoder(sequences)
    for sequence, found in zip(sequences, features, strict=True):
        x = sequence.permute(2, 0, 1)[..., None].numpy()
        ready = store.preprocessing(x, store.layout)
        assert ready.shape == (3, 50, 22, 1)
        assert_near(found, encoder.model(torch.from_numpy(ready)[None])[0])


def test_sequences_of_stores_that_keep_lengths_are_padded_and_never_cut(saved, store, rows):
    data = store.traits() | {"preprocessing": {"frames": None, "rotate": "none"}}
    encoder = load_encoder(saved(data=data))
    assert encoder.prepare(rows[0, 0, :20]).shape == (3, 50, 22, 1)
    assert not encoder.prepare(rows[0, 0, :20])[:, 20:].any()
    assert encoder.prepare(rows[0, 0].repeat(2, 1, 1)).shape == (3, 100, 22, 1)
    mixed = [rows[0, 0], rows[1, 0].repeat(2, 1, 1), rows[2, 0]]
    assert_near(encoder(mixed), torch.stack([encoder(x) for x in mixed]))


def test_absent_bodies_count_as_zeros(saved, store, rows):
    encoder = load_encoder(saved(), bodies=2)
    alone = encoder(rows[0])
    assert_near(encoder(torch.cat([rows[0], torch.zeros_like(rows[0])])), alone)
    assert not torch.allclose(alone, load_encoder(saved())(rows[0]))


def test_classifier_of_a_checkpoint(tmp_path, saved, store, rows):
    weight, bias = torch.randn(20, TINY.features), torch.randn(20)
    names = list(store.class_names)
    file = saved()
    head = save_head_of(file, tmp_path / "h.pt", weight=weight, bias=bias, classes=names)
    bare = load_encoder(file)
    for encoder in (
        load_encoder(file, head=head),
        bare.with_classifier(weight, bias, names),
    ):
        found = encoder.classify(rows)
        assert_near(found.features, bare(rows))
        assert_near(found.probabilities, (bare(rows) @ weight.T + bias).softmax(1))
        assert found.names == [names[i] for i in found.probabilities.argmax(1)]
        assert encoder.class_names == tuple(names)
        assert encoder.classify(rows[0, 0]).probabilities.shape == (1, 20)


def test_a_stream_must_be_named_where_there_are_several(tmp_path, store, rows):
    both = checkpoint(store)
    both["models"]["bone"] = checkpoint(store, stream="bone", seed=7)["models"]["bone"]
    save(both, tmp_path / "x.pt")
    joint, bone = (load_encoder(tmp_path / "x.pt", stream=stream) for stream in ("joint", "bone"))
    assert bone.traits.stream == "bone"
    assert not torch.allclose(joint(rows), bone(rows))
    with pytest.raises(CheckpointError, match=r"x.pt: .*several streams.*joint, bone"):
        load_encoder(tmp_path / "x.pt")


def test_several_streams_stand_side_by_side(tmp_path, store, rows):
    both = checkpoint(store)
    both["models"]["bone"] = checkpoint(store, stream="bone", seed=7)["models"]["bone"]
    path = save(both, tmp_path / "x.pt")
    alone = {stream: load_encoder(path, stream=stream, pool="max") for stream in ("joint", "bone")}
    for order in (("joint", "bone"), ("bone", "joint")):
        encoder = load_encoder(path, stream="+".join(order), pool="max")
        assert encoder.traits.stream == "+".join(order)
        assert encoder.num_features == 2 * alone["joint"].num_features
        wanted = torch.cat([alone[stream](rows) for stream in order], 1)
        assert_near(encoder(rows), wanted)
        assert_near(encoder(rows[0]), wanted[0])
    weight, bias = torch.randn(3, encoder.num_features), torch.randn(3)
    found = encoder.with_classifier(weight, bias, ["a", "b", "c"]).classify(rows)
    assert_near(found.probabilities, (wanted @ weight.T + bias).softmax(1))
    with pytest.raises(CheckpointError, match=r"x\.pt: .*no motion.*joint, bone"):
        load_encoder(path, stream="joint+motion")
    for wrong in ("bone+bone", "joint+", "joint+smell"):
        with pytest.raises(CheckpointError, match=r"x\.pt: stream is .*: expected different ones"):
            load_encoder(path, stream=wrong)
    with pytest.raises(CheckpointError, match=r"one encoder, which cannot be both of joint\+bone"):
        load_encoder(official(tmp_path, "pretrain"), stream="joint+bone")
    with pytest.raises(UserError, match=r"holds one stream, not bone\+joint"):
        export(encoder, tmp_path / "x.safetensors", "safetensors")


# --- The authors' --------------------------------------------------------------------------------


def official(tmp_path, kind, layout="ntu-rgb+d"):
    torch.save(authors_state(kind, layout), tmp_path / "theirs.pt")
    return tmp_path / "theirs.pt"


def test_the_authors_preprocessing_network_and_classifier(tmp_path, golden):
    encoder = load_encoder(official(tmp_path, "linear"))
    prepared = np.load(GOLDEN / "ntu_prep.npz")
    names = prepared["names"].tolist()
    raw = [prepared[f"raw/{name}"].transpose(3, 1, 2, 0) for name in names]
    for x, expected in zip(raw, prepared["position50"], strict=True):
        assert_near(torch.from_numpy(encoder.prepare(x)), torch.from_numpy(expected))
    found = encoder.classify(raw)
    assert found.features.shape == (6, 256)
    assert_near(found.probabilities.sum(1), torch.ones(6))
    assert len(encoder.class_names) == 60
    assert encoder.class_names[7] == "sit down"
    assert set(found.names) <= set(encoder.class_names)


def test_the_authors_numbers(tmp_path, golden):
    g = golden("encoder")
    state = {f"encoder_q.{name}": value for name, value in g.tree("sd/").items()}
    torch.save(state, tmp_path / "linear.pt")
    encoder = load_encoder(tmp_path / "linear.pt")
    assert encoder.num_features == 32
    _, probabilities = encoder.model(g["x"])
    assert_near(probabilities, g["eval_out"].softmax(1))
    named = load_encoder(tmp_path / "linear.pt", class_names=[f"class {i}" for i in range(16)])
    assert named.class_names[3] == "class 3"


def test_a_pretraining_checkpoint_of_theirs(tmp_path):
    path = official(tmp_path, "pretrain")
    encoder = load_encoder(path, stream="motion")
    assert encoder.traits.stream == "motion"
    assert encoder.class_names == ()
    ours = from_official(torch.load(path))
    for name, value in encoder.model.encoder.backbone.state_dict().items():
        assert torch.equal(value, ours[f"query_encoder.backbone.{name}"]), name
    with pytest.raises(ValueError, match="no classifier"):
        encoder.classify(torch.zeros(1, 25, 3))


@pytest.mark.parametrize("layout", ["openpose", "nw-ucla"])
def test_the_graph_tells_the_layout(tmp_path, layout):
    path = official(tmp_path, "linear", layout)
    assert load_encoder(path).layout.name == layout
    with pytest.raises(CheckpointError, match=r"theirs.pt: layout 'coco' does not have the graph"):
        load_encoder(path, layout="coco")


# --- Refusals ------------------------------------------------------------------------------------


def test_a_graph_of_no_known_layout(tmp_path):
    state = authors_state("linear")
    state["encoder_q.A"] = state["encoder_q.A"].roll(1, 2)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x.pt: .*25 joints.*no built-in layout"):
        load_encoder(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("data"), "what its data were like.*data"),
        (lambda s: s["data"].update(frames="50"), "what its data were like.*frames"),
        (lambda s: s["data"].update(preprocessing={"rotate": "up"}), "what its data were like"),
        (lambda s: s["config"]["model"].update(features=16), "do not fit"),
        (lambda s: s.update(format=99), "not a checkpoint of aimclr_fast"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, store, change, message):
    state = checkpoint(store)
    change(state)
    save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x.pt: .*{message}"):
        load_encoder(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder_q.A"), "not the weights of an encoder"),
        (lambda s: s.pop("encoder_q.data_bn.weight"), "do not fit.*input_norm.weight"),
        (lambda s: s.update({"encoder_q.lstm": torch.zeros(1)}), "lstm"),
        (lambda s: s.update({"encoder_q.fc.bias": torch.zeros(3)}), "do not fit.*head.bias"),
        (lambda s: s.update({"encoder_q.fc.bias": "bias"}), "not a tensor"),
        # Would be a convolution of 10^5 x 10^5 channels, if anyone allocated it.
        (lambda s: s.update({CONVOLUTION: torch.zeros(1, 10**5, 9, 1)}), "do not fit"),
        (lambda s: s.update({CONVOLUTION: torch.zeros(1).expand(2**45)}), "not stored as such"),
    ],
)  # fmt: skip
def test_odd_files_of_theirs(tmp_path, change, message):
    state = authors_state("linear")
    change(state)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"(?s)x.pt: .*{message}"):
        load_encoder(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": "bone"}, "is for the bone stream, not joint"),
        ({"checkpoint_sha256": "0" * 64}, "features of another checkpoint"),
        ({"weight": torch.zeros(20, 9)}, r"does not fit the encoder: expected weight \[20, 8\]"),
        ({"classes": ["one"]}, "does not fit the encoder"),
        ({"bias": torch.zeros(3)}, "does not fit the encoder"),
    ],
)
def test_heads_that_do_not_fit(tmp_path, saved, changes, message):
    file = saved()
    head = save_head_of(file, tmp_path / "h.pt", **changes)
    with pytest.raises(CheckpointError, match=rf"^\S*h.pt: .*{message}"):
        load_encoder(file, head=head)


def test_files_that_are_no_heads(tmp_path, saved):
    file = saved()
    with pytest.raises(CheckpointError, match="not a classifier that `evaluate linear` saved"):
        load_encoder(file, head=file)
    with pytest.raises(CheckpointError, match=r"none.pt: no such"):
        load_encoder(file, head=tmp_path / "none.pt")
    torch.save({"format": "linear head 1", "stream": "joint"}, tmp_path / "h.pt")
    with pytest.raises(CheckpointError, match=r"h.pt: was trained on the features of another"):
        load_encoder(file, head=tmp_path / "h.pt")


def test_arguments_that_do_not_fit(tmp_path, saved):
    with pytest.raises(CheckpointError, match=r"missing.pt: no such"):
        load_encoder(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="no bone stream; it holds joint"):
        load_encoder(saved(), stream="bone")
    with pytest.raises(CheckpointError, match="is for layout 'ui-prmd', not 'coco'"):
        load_encoder(saved(), layout="coco")
    with pytest.raises(CheckpointError, match="2 class names, but the encoder has none"):
        load_encoder(saved(), class_names=["a", "b"])
    with pytest.raises(ValueError, match="bodies must be a positive integer"):
        load_encoder(saved(), bodies=0)
    (tmp_path / "code.pt").write_bytes(b"cos\nsystem\n(S'echo ran'\ntR.")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_encoder(tmp_path / "code.pt")


def endless():
    inside: list = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    "odd",
    [
        {"models": torch.eye(3).to_sparse()},
        {"models": endless()},
        {"sha256": torch.ones(2)},
    ],
)
def test_what_has_no_checksum_is_damaged(tmp_path, odd):
    torch.save({"format": 3, **odd}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x.pt: (damaged|not a readable)"):
        load_encoder(tmp_path / "x.pt")


def test_a_format_that_is_a_tensor(tmp_path):
    torch.save({"format": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x.pt: not a checkpoint of aimclr_fast"):
        load_encoder(tmp_path / "x.pt")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", ""])
def test_devices_that_are_not_there(saved, device):
    with pytest.raises(ValueError, match=f"device is '{device}', which cannot be used here"):
        load_encoder(saved(), device=device)


def test_sequences_that_cannot_be_used(saved, store, rows):
    encoder = load_encoder(saved())
    good = rows[0, 0].numpy()
    bad = good.copy()
    bad[4, 3] = np.inf
    for sequence, error, message in [
        (good[:, :21], ValueError, r"\[T, 22, 3\] or \[M, T, 22, 3\].*got shape \[50, 21, 3\]"),
        (good[..., :2], ValueError, "got shape"),
        (good[:0], ValueError, "got shape"),
        (np.stack([good, good]), ValueError, "2 bodies, but .* at most 1"),
        (bad, ValueError, "finite"),
        (good.astype(np.float64) * 1e300, ValueError, "finite|too large"),
        (np.zeros_like(good), ValueError, "body 0 is in no frame"),
        (
            (good * 1000).astype(np.int16),
            TypeError,
            r"floating point numbers \(meters\), got int16",
        ),
        ("walk", TypeError, "got str"),
    ]:
        with pytest.raises(error, match=f"sequence 1: .*{message}"):
            encoder([good, sequence])
    with pytest.raises(TypeError, match="got str"):
        encoder("walk")
    with pytest.raises(ValueError, match="batch_size"):
        encoder([good], batch_size=0)


@pytest.mark.parametrize(("scale", "unit", "factor"), [(1000, "mm", "0.001"), (100, "cm", "0.01")])
def test_other_units_than_meters(saved, rows, scale, unit, factor):
    encoder = load_encoder(saved())
    good = rows[0, 0].numpy()
    for sequences in (good * scale, [good * scale] * 9):
        with pytest.raises(ValueError, match=f" m tall; .* look like {unit}: multiply by {factor}"):
            encoder(sequences)
    encoder([good, good, good * scale])  # a lone odd one may be the sensor's
    encoder(encoder.prepare(good * scale).transpose(3, 1, 2, 0), preprocessed=True)


def test_weights_that_are_not_finite(tmp_path, store, saved):
    state = checkpoint(store)
    weights = state["models"]["joint"]
    name = next(n for n in weights if n.startswith("query_encoder.backbone.blocks.4.spatial"))
    weights[name] = weights[name] * torch.nan
    own = name.removeprefix("query_encoder.")
    with pytest.raises(CheckpointError, match=rf"x.pt: {own} holds values that are not finite"):
        load_encoder(save(state, tmp_path / "x.pt"))
    file = saved()
    head = save_head_of(file, tmp_path / "h.pt", weight=torch.full((20, 8), torch.inf))
    with pytest.raises(CheckpointError, match=r"head\.weight holds values that are not finite"):
        load_encoder(file, head=head)


def test_unknown_preprocessing_is_asked_for(saved, store, rows):
    path = saved(data=store.traits() | {"preprocessing": None})
    with pytest.raises(ValueError, match="preprocessed=True"):
        load_encoder(path)(rows)
    told = load_encoder(path, preprocessing=Preprocessing(50, "exact"))
    assert_near(told(rows), load_encoder(saved())(rows))
    ready = load_encoder(path)(rows, preprocessed=True)
    torch.testing.assert_close(ready, told(rows), rtol=1e-4, atol=1e-4)


def test_raw_recordings_are_normalized_as_the_training_data(saved, store, rows):
    steps = Preprocessing(50, "exact", normalize="sequence")
    encoder = load_encoder(saved(data=store.traits() | {"preprocessing": steps.to_dict()}))
    assert encoder.traits.preprocessing == steps
    raw = np.asarray(rows[0]).reshape(1, -1, 22, 3)
    raw = raw + np.linspace(0, 2, raw.shape[1])[:, None, None]  # goes away
    expected = steps(raw.transpose(3, 1, 2, 0), store.layout)
    np.testing.assert_array_equal(encoder.prepare(raw), expected)


def test_importing_the_package_stays_light():
    code = "import aimclr_fast, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="no attribute 'lode_encoder'"):
        _ = aimclr_fast.lode_encoder


def test_embedded_and_prepared_stores_say_how_they_were_made(store):
    assert store.preprocessing == Preprocessing(50, "exact")
    assert json.loads(json.dumps(store.traits())) == store.traits()
    assert set(LAYOUTS) >= {store.layout.name}


# --- Readouts ------------------------------------------------------------------------------------


def test_another_readout(tmp_path, store, rows):
    file = save(checkpoint(store), tmp_path / "x.pt")
    plain, encoder = load_encoder(file), load_encoder(file, pool="mean+joints")
    assert encoder.num_features == (1 + encoder.layout.num_joints) * TINY.features
    features = encoder(rows, preprocessed=True)
    x = rows.permute(0, 4, 2, 3, 1).contiguous()
    assert_near(features, encode(encoder.model.encoder, x, pool="mean+joints"))
    assert_near(features[:, : TINY.features], plain(rows, preprocessed=True))
    with pytest.raises(ValueError, match=r"readout 'median' must be one of mean, max"):
        load_encoder(file, pool="median")


def test_a_classifier_brings_its_readout_along(tmp_path, store, rows):
    file = save(checkpoint(store), tmp_path / "x.pt")
    width = 2 * TINY.features
    head = {"weight": torch.randn(20, width), "bias": torch.randn(20)}
    save_head_of(file, tmp_path / "head.pt", **head, pool="mean+max")
    encoder = load_encoder(file, head=tmp_path / "head.pt")
    assert encoder.traits.pool == "mean+max"
    found = encoder.classify(rows, preprocessed=True)
    assert found.features.shape == (10, width)
    logits = found.features @ head["weight"].T + head["bias"]
    assert_near(found.probabilities, logits.softmax(1))
    with pytest.raises(CheckpointError, match=r"head\.pt: is for the readout mean\+max, not mean$"):
        load_encoder(file, head=tmp_path / "head.pt", pool="mean")


def test_a_linear_checkpoint_has_the_published_readout(tmp_path):
    torch.save(authors_state("linear"), tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match="its classifier is for the readout mean, not max"):
        load_encoder(tmp_path / "theirs.pt", pool="max")


def test_a_folded_encoder(tmp_path, saved, rows):
    """The same features, also in bf16, for any readout and classifier; on request alone."""
    file = saved()
    head = save_head_of(file, tmp_path / "head.pt", weight=torch.randn(20, TINY.features))
    usual = load_encoder(file, head=head)
    assert not usual.model.is_folded
    expected = usual.classify(rows, preprocessed=True)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        encoder = load_encoder(file, head=head, folded=name)
        assert {buffer.dtype for buffer in encoder.model.encoder.backbone.blocks.buffers()} == {
            dtype
        }
        again = encoder.with_classifier(
            encoder.model.encoder.head.weight, encoder.model.encoder.head.bias, encoder.class_names
        )
        for one in (encoder, again):
            found = one.classify(rows, preprocessed=True)
            assert found.features.dtype == torch.float32
            assert_near(found.features, expected.features, gradient=True, dtype=dtype)
            assert_near(found.probabilities, expected.probabilities, gradient=True, dtype=dtype)
    with pytest.raises(UserError, match="load it without folded="):
        export(encoder, tmp_path / "x.safetensors", "safetensors")
    assert not (tmp_path / "x.safetensors").exists()
    with pytest.raises(ValueError, match="folded must be one of fp32, bf16, or None, got 'int8'"):
        load_encoder(file, folded="int8")


def test_streams_side_by_side_are_folded(tmp_path, store, rows):
    states = [checkpoint(store, stream=stream, seed=i) for i, stream in enumerate(STREAMS)]
    models = {
        stream: state["models"][stream] for stream, state in zip(STREAMS, states, strict=True)
    }
    file = save(states[0] | {"models": models}, tmp_path / "x.pt")
    names = {"stream": "+".join(STREAMS), "pool": "mean+max"}
    expected = load_encoder(file, **names)(rows, preprocessed=True)
    found = load_encoder(file, **names, folded="fp32")(rows, preprocessed=True)
    assert_near(found, expected, gradient=True)
