"""Files that version 0.1.0 wrote load as they are, and give the numbers they gave then."""

from __future__ import annotations

import csv
import json
import lzma
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aimclr_fast import evaluate, load_encoder, prepare, train
from aimclr_fast._renamed import with_new_names
from aimclr_fast.data import open_store, split
from aimclr_fast.evaluation.finetuning import FinetuneConfig
from aimclr_fast.evaluation.provenance import config_checksum
from aimclr_fast.layouts import get_layout
from aimclr_fast.training.run_folder import data_identity, open_run

FILES = Path(__file__).parent / "old_files"
COMMITS = sorted(path.name for path in FILES.iterdir() if path.is_dir())
SPLIT = "--split"  # the flag that names which samples train and test
QUIET = ["--monitor.knn_every", "0", "--monitor.linear_probe", "false"]
QUIET += ["--monitor.raw_poses", "false"]
# Other processors and versions of torch round differently.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(params=COMMITS)
def old(request, tmp_path, monkeypatch):
    """A writable copy of one commit's files, unpacked, as the current folder."""
    folder = tmp_path / "old"
    shutil.copytree(FILES / request.param, folder)
    for file in folder.rglob("*.xz"):
        file.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
        file.unlink()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def expected(old):
    return json.loads((old / "expected.json").read_text())


def recordings(folder: Path) -> list[np.ndarray]:
    return [np.load(folder / "recordings" / f"s{subject}_nod.npy") for subject in (1, 4)]


def head(folder: Path) -> Path:
    (found,) = folder.glob("linear/head-*.pt")
    return found


def written(file: Path) -> dict[tuple[str, str], float]:
    """Metrics of a results.csv, by evaluation and name."""
    with file.open(newline="") as lines:
        rows = csv.DictReader(lines)
        return {(row["evaluation"], row["metric"]): float(row["value"]) for row in rows}


def epochs(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_files_hold_the_words_of_then():
    """Or these files would prove nothing once words are renamed."""
    for commit in COMMITS:
        meta = json.loads((FILES / commit / "store" / "meta.json").read_text())
        config = yaml.safe_load((FILES / commit / "run" / "config.yaml").read_text())
        assert {"protocols", "licence"} <= meta.keys()
        assert "centre" in meta["layout"]
        assert config["batch_statistics"] == "synchronised"
        assert config["data"]["protocol"] == "odd-even"
        assert "centre:" in (FILES / commit / "layout.yaml").read_text()
        assert "protocol" in (FILES / commit / "results.csv").read_text().split("\n")[0].split(",")


def test_a_layout(old):
    layout = get_layout("layout.yaml")
    assert layout.joints[0] == "hip"
    assert layout.parents == (0, 0, 1, 1, 1, 0, 0)
    assert layout.swap == (0, 1, 2, 4, 3, 6, 5)
    assert open_store("store").layout == layout


def test_a_store(old, expected):
    store = open_store("store", verify=True)
    assert list(store.class_names) == expected["classes"]
    assert store.labels.tolist() == expected["labels"]
    torch.testing.assert_close(
        store.as_tensor(0)[:, 0, :, 0], torch.tensor(expected["positions"]), **CLOSE
    )


def test_preprocessing_of_a_store(old, expected):
    """Recordings that are prepared as its meta.json says are its samples."""
    store = open_store("store")
    prepared = store.preprocessing(recordings(old)[0].transpose(2, 0, 1)[..., None], store.layout)
    place = store.samples["name"].tolist().index("s1_nod")
    np.testing.assert_allclose(prepared, store.as_tensor(place), **CLOSE)


def test_prepare_reads_a_store(old, capsys):
    prepare.command_line(["check", "store"])
    assert "split: 6 train" in capsys.readouterr().out


def test_a_checkpoint_with_a_classifier(old, expected):
    encoder = load_encoder("run/checkpoint.pt", head=head(old), device="cpu", backend="reference")
    found = encoder.classify(recordings(old))
    assert found.names == expected["names"]
    torch.testing.assert_close(found.features, torch.tensor(expected["features"]), **CLOSE)
    torch.testing.assert_close(
        found.probabilities, torch.tensor(expected["probabilities"]), **CLOSE
    )


@pytest.mark.parametrize("old", ["ec33432"], indirect=True)
def test_an_exported_encoder(old, expected):
    encoder = load_encoder("encoder.safetensors", device="cpu", backend="reference")
    features = encoder(recordings(old))
    torch.testing.assert_close(features, torch.tensor(expected["features"]), **CLOSE)


@pytest.mark.parametrize(
    ("evaluation", "split", "options"),
    [
        ("knn", "split", ["--k", "[1, 2]"]),
        ("linear", "odd-even", ["--epochs", "5", "--milestones", "[3]"]),
    ],
)
def test_an_evaluation_gives_its_numbers_again(old, capsys, evaluation, split, options):
    """And they take the place of the old ones in results.csv: nothing counts twice."""
    before = written(old / "results.csv")
    same = ["--device", "cpu", "--threads", "1", "--output", "again", "--csv", "results.csv"]
    evaluate.command_line(
        [evaluation, "run/checkpoint.pt", "--data", "store", SPLIT, split, *same, *options]
    )
    lines = (old / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + len(before) + 2
    assert written(old / "results.csv") == pytest.approx(before, abs=1e-6)
    capsys.readouterr()
    evaluate.command_line(["table", "results.csv"])
    table = capsys.readouterr().out
    rows = [line for line in table.splitlines() if line.startswith("| pretrained")]
    assert len(rows) == 2  # one of knn, one of linear
    assert all(line.rstrip("| ").endswith("1") for line in rows)  # n


def test_tables_of_results(old, capsys):
    evaluate.command_line(["table", "linear/results.json"])
    assert f"{100 * written(old / 'results.csv')['linear', 'top1_last']:.1f}" in (
        capsys.readouterr().out
    )


def test_a_config_trains_the_same(old):
    train.command_line(
        [
            "--config=run/config.yaml",
            "--output=again",
            "--optim.epochs=1",
            "--precision=fp32",
            *QUIET,
        ]
    )
    before, again = epochs(old / "run"), epochs(old / "again")
    for name in ("loss", "info_nce", "gradient_norm"):
        first = next(line for line in before if line["epoch"] == 1)
        assert again[-1][name] == pytest.approx(first[name], rel=1e-2), name


def test_a_run_goes_on(old):
    before = epochs(old / "run")
    train.command_line(["--resume", "run", *QUIET])
    after = epochs(old / "run")
    assert [line["step"] for line in after] == [line["step"] for line in before]
    for name in ("loss", "info_nce", "lr", "positives"):
        assert after[-1][name] == pytest.approx(before[-1][name], rel=1e-3), name


def test_a_run_of_the_embedded_default_goes_on_by_its_own_command(old, monkeypatch):
    """Other fields come from today's ui_prmd: none that its versions lacked may differ."""
    configs = []
    monkeypatch.setattr(train, "pretrain", lambda config, *_: configs.append(config))
    model = {"channels": 2, "features": 8, "embedding": 4, "queue_size": 12, "temporal_kernel": 3}
    optim = {"batch_size": 3, "epochs": 20, "mining_epoch": 10, "lr": 0.01}
    flags = [f"--model.{name}={value}" for name, value in (model | {"dropout": 0}).items()]
    flags += [f"--optim.{name}={value}" for name, value in optim.items()]
    flags += ["--batch_statistics", "synchronized", "--data", "store", SPLIT, "odd-even"]
    train.main([*flags, "--output", "run", "--resume", "auto"])
    about = json.loads(Path("run/run.json").read_text())
    store = open_store("store")
    rows = torch.from_numpy(split(store, "odd-even")[0])
    open_run(configs[0], data_identity(store, rows)).close()
    checksums = {
        config_checksum(run, "pretrained", FinetuneConfig())
        for run in (with_new_names(about["config"]), asdict(configs[0]))
    }
    assert len(checksums) == 1
