"""A classifier from a csv of labels: right, calibrated, and honest about too few."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aimclr_fast import load_encoder
from aimclr_fast.data import resolve_store, split
from aimclr_fast.encoder_cli import note_preparation
from aimclr_fast.evaluation.few_labels import (
    calibration_error,
    fit_temperature,
    learn_classifier,
    softmax,
)
from aimclr_fast.learn import command_line

STORE = "ui_prmd_unaligned"


def learn(*arguments: object) -> None:
    command_line([STORE, *map(str, arguments), "--encoder=ui_prmd", "--device=cpu"])


def write_labels(file, per_class: int, *, classes=(0, 7, 12), names=True):
    """So many labels of each class, of all training subjects, and the rows they are of."""
    store = resolve_store(STORE)
    train = split(store, "xsub")[0]
    rows = np.concatenate(
        [
            np.random.default_rng(0).permutation(train[store.labels[train] == label])[:per_class]
            for label in classes
        ]
    )
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "label"])
        for row in rows:
            label = store.labels[row]
            writer.writerow(
                [store.samples["name"][row], store.class_names[label] if names else label]
            )
    return store, rows


def test_it_learns_the_classes_of_the_csv(tmp_path, capsys):
    store, _ = write_labels(tmp_path / "l.csv", 20)
    out = tmp_path / "mine.safetensors"
    learn(tmp_path / "l.csv", f"--out={out}")
    said = capsys.readouterr().out
    assert "60 labels, 1,940 sequences without; " in said
    assert "folds part the values of subject" in said
    assert re.search(r"cross-validation, 5 folds: accuracy \d.*\(ECE\) \d", said)
    assert "warning" not in said
    encoder = load_encoder(out, device="cpu")
    assert encoder.class_names == tuple(sorted(store.class_names[label] for label in (0, 7, 12)))
    assert "prepared otherwise" not in said
    test = split(store, "xsub")[1]
    test = test[np.isin(store.labels[test], (0, 7, 12))]
    x = store.as_tensor(test).permute(0, 4, 2, 3, 1)
    found = encoder.classify(x, preprocessed=True).names
    truth = [store.class_names[label] for label in store.labels[test]]
    assert np.mean([a == b for a, b in zip(found, truth, strict=True)]) > 0.8


def test_numbers_are_classes_and_strangers_are_named(tmp_path, capsys):
    write_labels(tmp_path / "l.csv", 6, names=False)
    with (tmp_path / "l.csv").open("a") as file:
        file.write("nobody,7\n")
    learn(tmp_path / "l.csv", f"--out={tmp_path / 'x.safetensors'}")
    said = capsys.readouterr().out
    assert "l.csv:20: there is no sequence nobody" in said
    assert load_encoder(tmp_path / "x.safetensors", device="cpu").class_names == ("0", "7", "12")


def test_a_store_that_was_prepared_otherwise_is_told(tmp_path, capsys):
    write_labels(tmp_path / "l.csv", 2)
    encoder = ["--encoder=ui_prmd", "--device=cpu"]
    out = f"--out={tmp_path / 'x.safetensors'}"
    command_line(["ui_prmd", str(tmp_path / "l.csv"), out, *encoder])
    assert "training data (rotate exact, not none): expect worse" in capsys.readouterr().out
    store = resolve_store("ui_prmd")
    unknown = replace(store, meta={**store.meta, "preprocessing": None})
    note_preparation(unknown, load_encoder("ui_prmd", device="cpu"))
    assert "(how is not known): expect worse answers" in capsys.readouterr().out


def test_few_labels_are_told(tmp_path, capsys):
    write_labels(tmp_path / "l.csv", 2)
    learn(tmp_path / "l.csv", f"--out={tmp_path / 'x.safetensors'}")
    assert "warning: fewer labels than the 5 folds of cross-validation: " in capsys.readouterr().out
    learn(tmp_path / "l.csv", f"--out={tmp_path / 'z.safetensors'}", "--finetune", "--epochs=1")
    said = capsys.readouterr().out
    assert "warning: fewer labels than the 5 folds of cross-validation: " in said
    assert re.search(r"held out, \d+ samples of one fold: accuracy \d.*\(ECE\) \d", said)
    write_labels(tmp_path / "l.csv", 1)
    learn(tmp_path / "l.csv", f"--out={tmp_path / 'y.safetensors'}")
    assert "nothing is known of how good it is" in capsys.readouterr().out


def test_the_encoder_can_be_tuned_as_well(tmp_path, capsys):
    store, rows = write_labels(tmp_path / "l.csv", 20)
    out = tmp_path / "mine.safetensors"
    learn(tmp_path / "l.csv", f"--out={out}", "--finetune", "--epochs=4")
    said = capsys.readouterr().out
    assert re.search(r"held out, \d+ samples of one fold: accuracy \d.*\(ECE\) \d", said)
    tuned, before = load_encoder(out, device="cpu"), load_encoder("ui_prmd", device="cpu")
    assert len(tuned.class_names) == 3
    x = store.as_tensor(rows).permute(0, 4, 2, 3, 1)
    assert not torch.equal(tuned(x, preprocessed=True), before(x, preprocessed=True))
    truth = [store.class_names[label] for label in store.labels[rows]]
    found = tuned.classify(x, preprocessed=True).names
    assert np.mean([a == b for a, b in zip(found, truth, strict=True)]) > 0.8


@pytest.mark.parametrize("count", [2, 4])
def test_the_classifier_is_scikit_learns(count):
    random = np.random.default_rng(count)
    labels = np.arange(40 * count) % count
    x = random.standard_normal((40 * count, 6)) * [1, 2, 3, 4, 5, 6] + labels[:, None] + 10
    found = learn_classifier(torch.from_numpy(x), labels, None)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=found.strength, max_iter=1000))
    expected = model.fit(x, labels).predict_proba(x)
    own = (torch.from_numpy(x).float() @ found.weight.T + found.bias) * found.temperature
    np.testing.assert_allclose(own.softmax(1).numpy(), expected, atol=1e-4)
    assert found.folds == 5


def test_a_fold_without_a_class_does_no_harm():
    random = np.random.default_rng(0)
    labels = np.array([0] * 10 + [1] * 10 + [2])
    x = torch.from_numpy(random.standard_normal((21, 4)) + labels[:, None])
    found = learn_classifier(x, labels, None)
    assert torch.isfinite(found.weight).all()
    assert found.weight.shape == (3, 4)
    with pytest.raises(ValueError, match="two classes or more"):
        learn_classifier(x, np.zeros(21, np.int64), None)


def test_a_class_with_one_label_does_not_flatten_the_others():
    random = np.random.default_rng(0)
    labels = np.array([0] * 20 + [1] * 20 + [2])
    x = torch.from_numpy(random.standard_normal((41, 4)) + 4.0 * labels[:, None])
    found = learn_classifier(x, labels, None)
    sure = (x.float() @ found.weight.T + found.bias).softmax(1).max(1).values[:40]
    assert sure.mean() > 0.8
    assert found.error is not None
    assert found.error_before is not None
    assert found.error <= found.error_before


def test_labels_that_are_all_right_settle_no_temperature():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = torch.from_numpy(random.standard_normal((40, 4)) + 9.0 * labels[:, None])
    found = learn_classifier(x, labels, None)
    assert found.accuracy == 1
    assert found.temperature == 1


def test_temperature_and_calibration_error():
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((20_000, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits)])
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.05)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, abs=0.15)
    assert calibration_error(softmax(logits), labels) < 0.015
    assert calibration_error(softmax(3 * logits), labels) > 0.1
    sure = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(sure, np.array([0, 0, 0, 1])) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("name,label\nm01_s01_e01_correct,a\n", ["--out=x.pt"], "must end in .safetensors"),
        ("name,label\nm01_s01_e01_correct,a\n", [], "two classes or more"),
        ("name,label\nm01_s01_e01_correct,a\n", ["--finetune"], "two classes or more"),
        ("name,label\nzz,a\n", [], "none of its rows names a sequence"),
        ("name,height\nm01_s01_e01_correct,3\n", [], "has no column label"),
        ("name,label\nm01_s01_e01_correct,a\n", ["--epochs=0"], "--epochs 0: must be"),
        ("name,label\nm01_s01_e01_correct,a\nm02_s01_e01_correct,b\n", ["--finetune", "--pool=max"],
         "max"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_line(
    text, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(SystemExit) as caught:
        learn("l.csv", "--out=x.safetensors", *arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.safetensors"))
