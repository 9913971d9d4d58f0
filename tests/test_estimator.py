"""AimCLR among scikit-learn's estimators: clone, parameters, pickle, pipelines and searches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from aimclr_fast import AimCLREncoder, Error, load_encoder
from aimclr_fast.data import resolve_store
from aimclr_fast.inference.loading import write_safetensors

SMALL = {"model.channels": 4, "model.features": 8, "model.embedding": 8, "optim.batch_size": 8}


@pytest.fixture(scope="module")
def recordings():
    """32 recordings [T, V, 3] of two classes and of several lengths, and their labels."""
    store = resolve_store("ui_prmd")
    rows = np.concatenate([np.flatnonzero(store.labels == label)[:16] for label in (0, 14)])
    x = store.as_tensor(rows)[..., 0].permute(0, 2, 3, 1).numpy()
    return [one[: 40 + 3 * (i % 4)] for i, one in enumerate(x)], store.labels[rows]


def small(**changes) -> AimCLREncoder:
    return AimCLREncoder(
        **{"layout": "ui-prmd", "steps": 3, "threads": 1, "settings": SMALL, **changes}
    )


@pytest.fixture(scope="module")
def fitted(recordings):
    return small().fit(recordings[0])


def test_features_are_those_of_the_encoder(fitted, recordings, tmp_path):
    features = fitted.transform(recordings[0])
    assert features.shape == (32, 8) == (32, fitted.n_features_out_)
    write_safetensors(fitted.encoder_.model, tmp_path / "x.safetensors")
    encoder = load_encoder(tmp_path / "x.safetensors", device="cpu")
    np.testing.assert_array_equal(encoder(recordings[0]).numpy(), features)
    assert fitted.get_feature_names_out().tolist()[:2] == ["aimclrencoder0", "aimclrencoder1"]


def test_the_seed_decides(fitted, recordings):
    again = small().fit(recordings[0], recordings[1])  # labels are not looked at
    np.testing.assert_array_equal(again.transform(recordings[0]), fitted.transform(recordings[0]))
    other = small(seed=1).fit(recordings[0])
    assert np.abs(other.transform(recordings[0]) - fitted.transform(recordings[0])).max() > 1e-3


def test_parameters_clone_and_pickle(fitted, recordings):
    given = small(pool="mean+max")
    assert given.get_params()["pool"] == "mean+max"
    assert clone(given).get_params() == given.get_params()
    assert given.set_params(steps=7).steps == 7
    with pytest.raises(NotFittedError):
        clone(fitted).transform(recordings[0])
    expected = fitted.transform(recordings[0])
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.transform(recordings[0]), expected)
    assert not pickle.loads(pickle.dumps(small())).__dict__.get("weights_")


def test_arrays_and_several_bodies(fitted, recordings):
    x = np.stack([one[:40] for one in recordings[0]])
    features = fitted.transform(x)
    np.testing.assert_allclose(fitted.transform(list(x)), features)
    two = small(steps=1).fit([np.stack([one, one + 0.1]) for one in x[:16]])
    assert two.encoder_.traits.bodies == 2
    assert two.transform(x[:3]).shape == (3, 8)


def test_a_pipeline_and_a_search(recordings):
    x, labels = recordings
    pipeline = make_pipeline(small(), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"aimclrencoder__pool": ["mean", "segments"]}, cv=2)
    search.fit(x, labels)
    assert search.best_params_["aimclrencoder__pool"] in ("mean", "segments")
    assert search.best_estimator_.score(x, labels) > 0.9


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([], "X holds no recordings"),
        ([np.zeros((5, 21, 3))], r"recording 0: expected \[T, 22, 3\] .* got \[5, 21, 3\]"),
        ([np.ones((5, 22, 3)), np.ones((0, 22, 3))], "recording 1"),
        ([np.full((5, 22, 3), np.nan)], "recording 0"),
        ([1000 * np.random.default_rng(0).random((9, 22, 3))], "expected in meters"),
    ],
)
def test_what_is_no_recording_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        small().fit(x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "x"}, "method"),
        ({"settings": {"model.channels": 0}}, "channels"),
        ({"settings": {"model.nothing": 0}}, "nothing"),
        ({"steps": "many"}, "steps"),
        ({"rotate": "x"}, "rotate must be one of"),
        ({"layout": "x"}, "x"),
    ],
)
def test_a_parameter_that_cannot_work_is_an_error(changes, message, recordings, capsys):
    with pytest.raises((Error, ValueError), match=message):
        small(**changes).fit(recordings[0])
    assert not capsys.readouterr().err


def test_scikit_learns_own_checks():
    """Those of `check_estimator` that need no data; the others want tables, not recordings."""
    for name in (
        "check_estimator_cloneable", "check_estimator_repr", "check_estimator_tags_renamed",
        "check_valid_tag_types", "check_no_attributes_set_in_init", "check_mixin_order",
        "check_do_not_raise_errors_in_init_or_set_params", "check_get_params_invariance",
        "check_set_params", "check_parameters_default_constructible",
    ):  # fmt: skip
        check = getattr(estimator_checks, name)
        check("AimCLREncoder", AimCLREncoder())


def test_the_rest_of_those_checks_on_recordings(fitted, recordings):
    x, labels = recordings
    before = small()
    assert before.fit(x, labels) is before
    # Parameters are as given, and what was learned has a trailing underscore.
    assert before.get_params() == small().get_params()
    learned = set(vars(before)) - set(vars(small()))
    assert learned == {"weights_", "n_features_out_"}
    state = dict(vars(before))
    features = before.transform(x)
    assert vars(before) == state
    # Samples do not depend on each other, nor on their order.
    np.testing.assert_allclose(before.transform(x[:5]), features[:5], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(before.transform(x[::-1]), features[::-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(small().fit_transform(x, labels), features)


def test_settings_are_values(recordings):
    settings = {
        **SMALL, "augment.spatial_flip_prob": np.float32(0.25), "model.nnm": False,
        "data.sided": None, "monitor.linear_probe": np.bool_(False),
    }  # fmt: skip
    small(settings=settings, steps=np.int64(1)).fit(recordings[0])
