"""Encoders on a GPU give what they give on a CPU, called as functions: what parses commands need
not be installed there. The CPU takes its place where there is none, so that these tests are known
to work.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoders import checkpoint, save
from small_data import write_evaluated
from torch import Tensor

from aimclr_fast import load_encoder
from aimclr_fast.data import open_embedded, open_store
from aimclr_fast.evaluation.few_labels import learn_classifier
from aimclr_fast.inference.importance import explain
from aimclr_fast.inference.index import make_index
from aimclr_fast.inference.known import learn
from aimclr_fast.inference.streaming import StreamingClassifier

ON = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
NAMES = ("walk", "wave", "sit")


@pytest.fixture(scope="module")
def store():
    return open_embedded("ui_prmd")


@pytest.fixture(scope="module")
def file(store, tmp_path_factory):
    return save(checkpoint(store), tmp_path_factory.mktemp("encoder") / "x.pt")


@pytest.fixture(scope="module")
def rows(store):
    """Some of the store's sequences as a user has them: [N, M, T, V, 3]."""
    return store.as_tensor(np.arange(0, 2000, 50)).permute(0, 4, 2, 3, 1).contiguous()


def opened(file, device: str, *, classifier: bool = False, **options):
    encoder = load_encoder(file, device=device, **options)
    if not classifier:
        return encoder
    weight = torch.randn(3, encoder.num_features, generator=torch.Generator().manual_seed(0))
    return encoder.with_classifier(weight, torch.zeros(3), NAMES)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.cpu() - wanted).norm() / wanted.norm())


@ON
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"precision": "fp32"}, 1e-4),
        ({"precision": "bf16"}, 0.02),
        ({"folded": "fp32"}, 1e-4),
        ({"folded": "bf16"}, 0.02),
        ({"precision": "bf16", "pool": "mean+max+segments"}, 0.02),
    ],
    ids=str,
)
def test_features(file, rows, device, options, most, bf16_cpu):
    pool = {"pool": options["pool"]} if "pool" in options else {}
    wanted = opened(file, "cpu", **pool)(rows, preprocessed=True)
    found = opened(file, device, **options)(rows, preprocessed=True)
    assert (found.dtype, found.device.type) == (torch.float32, device)
    assert relative(found, wanted) < most
    assert (relative(found, wanted) > 1e-4) == ("bf16" in options.values())


@ON
@pytest.mark.parametrize("backend", ["auto", "triton"])
def test_the_blocks_of_a_gpu(file, rows, device, backend):
    if (device, backend) == ("cpu", "triton"):
        pytest.skip("Triton's interpreter is for its own tests")
    encoder = opened(file, device)
    encoder.model.encoder.backend = backend
    wanted = opened(file, "cpu")(rows, preprocessed=True)
    assert relative(encoder(rows, preprocessed=True), wanted) < 1e-4


@ON
@pytest.mark.parametrize("classifier", [True, False])
def test_live_motion(file, store, device, classifier):
    x = store.as_tensor(0)[..., 0].permute(1, 2, 0).numpy()
    answers = []
    for where in ("cpu", device):
        stream = StreamingClassifier(
            opened(file, where, classifier=classifier), fps=20, window=1.0, hop=0.5
        )
        answers.append([a for frame in range(40) for a in stream.push(frame / 20, {1: x[frame]})])
    assert len(answers[0]) == len(answers[1]) == 3
    for wanted, found in zip(*answers, strict=True):
        assert (found.person, found.start, found.name) == (wanted.person, wanted.start, wanted.name)
        torch.testing.assert_close(found.features.cpu(), wanted.features, rtol=1e-3, atol=1e-4)


@ON
def test_the_nearest_sequences(file, rows, device, tmp_path):
    write_evaluated(tmp_path)
    store = open_store(tmp_path / "store")
    found = []
    for where in ("cpu", device):
        encoder = opened(file, where)
        queries = encoder(rows, preprocessed=True)
        index = make_index(store, encoder, tmp_path / f"{where}.npy", encoder_sha256="")
        known = learn(encoder, store, "three")
        found.append((*index.nearest(queries, 2), *known.nearest(queries), known.threshold(0.1)))
    for wanted, one in zip(*found, strict=True):
        if isinstance(one, Tensor) and one.dtype == torch.int64:  # features that are alike may swap
            assert (one == wanted).float().mean() > 0.9
        else:
            torch.testing.assert_close(one, wanted, rtol=1e-3, atol=1e-4)


@ON
@pytest.mark.parametrize("classifier", [True, False])
def test_what_mattered(file, rows, device, classifier):
    sequence = rows[0].numpy()
    wanted, found = (
        explain(opened(file, where, classifier=classifier), sequence) for where in ("cpu", device)
    )
    np.testing.assert_allclose(found.drop, wanted.drop, rtol=1e-3, atol=1e-4)


@ON
def test_a_classifier_of_few_labels(file, rows, device):
    labels = np.arange(len(rows)) % 3
    found = []
    for where in ("cpu", device):
        encoder = opened(file, where)
        learned = learn_classifier(encoder(rows, preprocessed=True), labels, None)
        encoder = encoder.with_classifier(learned.weight, learned.bias, NAMES)
        found.append(encoder.classify(rows, preprocessed=True).probabilities)
    assert found[1].device.type == device
    torch.testing.assert_close(found[1].cpu(), found[0], rtol=1e-2, atol=1e-3)
