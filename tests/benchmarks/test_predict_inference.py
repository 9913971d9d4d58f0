"""The prediction of inference: what a forward pass launches, and the committed rates."""

from __future__ import annotations

import predict
import predict_inference
import pytest
from gpus import GPUS
from predict_inference import DTYPES, ENCODERS, SEQUENCES, walk_inference
from pretend_gpu import Operand

COMMITTED = predict.RESULTS / "predict_inference.csv"
WIDTHS = [16] * 4 + [32] * 3 + [64] * 2 + [256]


def maps(launches, name: str) -> list[Operand]:
    return [launch.written[0] for launch in launches if launch.name == name]


@pytest.mark.parametrize("precision", DTYPES)
def test_a_folded_pass_has_no_norms_and_maps_stay_channels_last(precision):
    usual = walk_inference("default", precision, 256, GPUS["h100"])
    folded = walk_inference("folded", precision, 256, GPUS["h100"])
    assert len(maps(usual, "aten.batch_norm in evaluation")) == 24
    names = {launch.name for launch in folded}
    assert names <= {
        "aten.addcmul", "aten._to_copy", "aten.clone", "aten.bmm", "aten.convolution", "aten.add",
        "aten.relu", "aten.mean",
    }  # fmt: skip
    relus = maps(folded, "aten.relu")
    assert [relu.shape[1] for relu in relus[1::2]] == WIDTHS
    for operand in (*relus, *maps(folded, "aten.convolution")):
        _, channels, frames, joints = operand.shape
        assert operand.strides == (frames * joints * channels, 1, joints * channels, channels)
        assert operand.dtype == DTYPES[precision]
    moved = [
        predict.total(predict.predict("h100", name, launches)).gigabytes
        for name, launches in (("default", usual), ("folded", folded))
    ]
    assert moved[1] < 0.8 * moved[0]
    assert len(folded) < 0.4 * len(usual)


def test_the_committed_rates_are_those_of_the_model():
    rates = predict_inference.read(COMMITTED)
    cases = {(one.sequences, one.precision, one.encoder): one for one in rates}
    assert list(cases) == [(n, p, e) for n in SEQUENCES for p in DTYPES for e in ENCODERS]
    for (sequences, precision, encoder), one in cases.items():
        assert one.per_second == pytest.approx(1e3 * sequences / one.ms, rel=1e-3)
        if encoder == "folded":
            launches = walk_inference(encoder, precision, sequences, GPUS[one.gpu])
            found = predict.total(predict.predict(one.gpu, encoder, launches))
            assert found.kernels == one.kernels
            assert found.gigabytes == pytest.approx(one.gigabytes, abs=1e-4)
            assert one.ms < cases[sequences, precision, "default"].ms
