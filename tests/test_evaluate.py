"""The evaluation command, end to end on a small store, and its errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import save
from rich.console import Console
from small_data import CLASSES

from aimclr_fast.data import resolve_store
from aimclr_fast.data.preprocessing import Preprocessing
from aimclr_fast.data.store import sha256
from aimclr_fast.evaluate import command_line
from aimclr_fast.evaluation import finetuning
from aimclr_fast.evaluation.labeled_data import open_labeled_data
from aimclr_fast.evaluation.options import EvaluationOptions
from aimclr_fast.evaluation.protocols import get_protocol
from aimclr_fast.evaluation.request import resolve
from aimclr_fast.evaluation.results import read_results
from aimclr_fast.inference.checkpoints import encoder_from
from aimclr_fast.inference.head_file import read_head

# Two epochs of everything: what is measured is tested elsewhere.
QUICK = {
    "linear": ["--epochs", "2"],
    "finetune": ["--epochs", "1"],
    "semi": ["--labels", "[2]", "--draws", "2", "--finetune.epochs", "1"],
    "transfer": ["--linear.epochs", "2"],
    "ensemble": ["--linear.epochs", "2"],
    "figures": ["--linear.epochs", "2", "--labels", "[2,4]", "--draws", "1", "--samples", "20"],
    "knn": ["--k", "[1,3]"],
}


@pytest.fixture
def run(evaluated, monkeypatch, tmp_path):
    monkeypatch.chdir(evaluated)

    def command(protocol, *arguments, data="store", labels=None, rule="odd-even"):
        options = ["--data", data, "--split", rule, "--output", str(tmp_path / "out")]
        options += ["--csv", str(tmp_path / "results.csv"), "--threads", "1"]
        options += [*QUICK.get(protocol, []), *(["--labels", labels] if labels else [])]
        command_line([protocol, *arguments, *options])
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return command


@pytest.mark.parametrize(
    ("protocol", "checkpoints", "metrics"),
    [
        ("knn", ["joint.pt", "joint1.pt"], {"knn_1", "knn_3"}),
        ("linear", ["joint.pt"], {"top1_last", "top1_best"}),
        ("finetune", ["joint.pt"], {"top1_last", "top1_best"}),
        ("semi", ["joint.pt"], {"top1_last", "top1_best"}),
        ("retrieval", ["joint.pt"], {"mAP", "recall@1", "recall@5", "recall@10"}),
        ("cluster", ["bone.pt"], {"accuracy", "nmi", "ari"}),
        ("ensemble", ["three.pt"], {"top1_last", "top1_best"}),
        ("ensemble", ["joint.pt", "bone.pt"], {"top1_last", "top1_best"}),
    ],
)
def test_every_protocol_saves_what_it_measured(run, tmp_path, protocol, checkpoints, metrics):
    results = run(protocol, *checkpoints)
    rows = results["rows"]
    assert all(row["metrics"].keys() == metrics for row in rows)
    assert all(0 <= value <= 1 for row in rows for value in row["metrics"].values())
    assert {row["evaluation"] for row in rows} == {protocol}
    assert all(len(row["checkpoint_sha256"]) >= 64 and row["data_sha256"] for row in rows)
    assert all(row["epoch"] == 3 for row in rows)
    assert results["versions"]["torch"] == torch.__version__
    assert results["command"].startswith("python -m aimclr_fast.evaluate")
    found = read_results([tmp_path / "results.csv"])
    assert [row.features for row in found] == [row["features"] for row in rows]
    streams = [row["stream"] for row in rows]
    if checkpoints == ["three.pt"]:
        assert streams == ["joint", "motion", "bone", "joint+motion+bone"]
        assert rows[-1]["details"]["weights"] == {"joint": 0.6, "motion": 0.4, "bone": 0.6}
    if protocol == "knn":
        assert [row["run_seed"] for row in rows] == [0, 1]
    if protocol == "semi":
        assert [row["draw"] for row in rows] == [0, 1]
        assert rows[0]["details"]["labels"] == 2 * CLASSES
        assert {row["setting"].split(", ")[0] for row in rows} == {"2 a class (8 labels)"}
    if protocol == "linear":
        head = torch.load(tmp_path / "out" / rows[0]["details"]["head"], weights_only=True)
        assert head["weight"].shape == (CLASSES, 8)
        assert len(head["classes"]) == CLASSES


@pytest.mark.parametrize(
    ("protocol", "options", "names"),
    [
        ("linear", [], ["pretrained", "untrained", "supervised", "raw poses"]),
        ("finetune", [], ["pretrained", "supervised"]),
        ("semi", [], ["pretrained", "supervised", "raw poses"]),
        ("semi", ["--tune", "linear"],
         ["pretrained", "untrained", "supervised", "raw poses"]),
    ],
)  # fmt: skip
def test_baselines(run, protocol, options, names):
    results = run(protocol, "joint.pt", *options, "--baselines", "--scratch.epochs", "2")
    rows = {row["features"]: row for row in results["rows"]}
    assert list(rows) == names
    assert all((row["checkpoint"] == "joint.pt") == (name == "pretrained")
               for name, row in rows.items())  # fmt: skip
    if "linear" in options:  # with labels too few to choose a rate
        head = {name: (row["details"].get("lr"), row["details"].get("standardized"))
                for name, row in rows.items()}  # fmt: skip
        assert head == {
            "pretrained": (3.0, False), "untrained": (0.1, True), "supervised": (None, None),
            "raw poses": (0.01, True),
        }  # fmt: skip


@pytest.mark.parametrize(("protocol", "prefix"), [("finetune", ""), ("semi", "finetune.")])
def test_from_scratch_the_encoder_learns_at_the_classifiers_rate(
    run, monkeypatch, protocol, prefix
):
    rates = []

    def spy(data, encoder, stream, config, **options):
        rates.append((config.lr, config.lr_encoder))
        return finetuning.finetune(data, encoder, stream, config, **options)

    for module in ("baselines", "protocols.finetune", "protocols.semi"):
        monkeypatch.setattr(f"aimclr_fast.evaluation.{module}.finetune", spy)
    recipe = [f"--{prefix}lr", "0.3", f"--{prefix}lr_encoder", "0.01"]
    run(protocol, "joint.pt", *recipe, "--baselines")
    assert list(dict.fromkeys(rates)) == [(0.3, 0.01), (0.3, 0.3)]


def test_which_rates_a_sweep_tries(run):
    options = ["--sweep", "true", "--baselines", "--scratch.epochs", "1"]
    rows = {row["features"]: row for row in run("linear", "joint.pt", *options)["rows"]}
    tried = {
        name: [one["lr"] for one in row["details"]["sweep"]]
        for name, row in rows.items()
        if name != "supervised"  # its classifier was trained with it
    }
    assert tried["pretrained"] == pytest.approx(np.geomspace(0.01, 30, 20), rel=5e-3)
    assert tried["untrained"] == tried["raw poses"] == [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
    assert rows["pretrained"]["details"]["standardized"] is False
    assert rows["untrained"]["details"]["standardized"] is True


def test_transfer_says_what_it_did_with_the_joints(run, capsys):
    results = run("transfer", "joint.pt", data="other")
    assert "18 of 22 joints matched by name" in capsys.readouterr().out
    assert "neck at chest" in results["notes"][0]
    assert {"knn_1", "linear_top1_last"} <= results["rows"][0]["metrics"].keys()


def test_transfer_with_few_labels_is_semi_on_the_mapped_data(run):
    few = ["--few.labels", "[1,100%]", "--few.draws", "2", "--few.linear.epochs", "2"]
    few += ["--few.finetune.epochs", "1", "--baselines"]
    results = run("transfer", "joint.pt", *few, data="other")
    assert "18 of 22 joints matched by name" in results["notes"][0]
    drawn = {(row["features"], row["details"]["labels_per_class"], row["draw"])
             for row in results["rows"]}  # fmt: skip
    names = ("pretrained", "untrained", "supervised", "raw poses")
    most = max(amount for _, amount, _ in drawn)
    assert drawn == {(name, amount, draw)
                     for name in names for amount in (1, most) for draw in (0, 1)}  # fmt: skip
    labeled = {row["details"]["labeled"] for row in results["rows"] if row["features"] == names[2]}
    assert len(labeled) == 2, "from scratch, each amount has its labels alone"


@pytest.mark.parametrize(
    ("protocol", "metric"),
    [
        ("knn", "knn_chosen"),
        ("linear", "top1_chosen"),
        ("finetune", "top1_chosen"),
        ("semi", "top1_chosen"),
        ("transfer", "linear_top1_chosen"),
        ("ensemble", "top1_chosen"),
    ],
)
def test_choosing_on_validation_samples(run, protocol, metric, capsys):
    rows = run(protocol, "three.pt", "--choose", "val", rule="three")["rows"]
    assert all(metric in row["metrics"] for row in rows)
    assert not any("best" in name for row in rows for name in row["metrics"])
    assert all("chosen on val" in row["setting"] for row in rows)
    assert "chosen" in capsys.readouterr().out


def test_searched_weights_and_rates_on_validation_samples(run):
    options = ["--choose", "val", "--weights", "searched", "--linear.sweep", "true"]
    details = run("ensemble", "three.pt", *options, rule="three")["rows"][-1]["details"]
    assert details["weights_from"] == "searched on validation samples; no test sample was used"


@pytest.mark.parametrize(
    ("protocol", "choose", "message"),
    [
        (
            "linear",
            "val",
            "choose val: split odd-even has no validation samples (split three",
        ),
        ("retrieval", "val", "choose val: retrieval chooses nothing"),
        ("cluster", "val", "choose val: cluster chooses nothing"),
        ("linear", "train", "choose is 'train', but must be test or val"),
    ],
)
def test_choices_that_cannot_be_made(run, tmp_path, capsys, protocol, choose, message):
    with pytest.raises(SystemExit) as caught:
        run(protocol, "joint.pt", "--choose", choose)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("checkpoints", [["three.pt"], ["joint.pt", "bone.pt"]])
def test_joint_classifiers_are_one_row(run, tmp_path, checkpoints):
    options = ["--classifiers", "joint", "--baselines", "--scratch.epochs", "1"]
    rows = run("ensemble", *checkpoints, *options)["rows"]
    together = "joint+motion+bone" if checkpoints == ["three.pt"] else "joint+bone"
    assert [(row["features"], row["stream"]) for row in rows] == [
        ("raw poses", ""), ("pretrained", together), ("untrained", together),
        ("supervised", together),
    ]  # fmt: skip
    found = read_results([tmp_path / "results.csv"])
    assert all("classifiers=joint" in row.setting for row in found)
    details = {row["features"]: row["details"] for row in rows}
    assert {name: one["standardized"] for name, one in details.items()} == {
        "raw poses": True, "pretrained": False, "untrained": True, "supervised": False,
    }  # fmt: skip


def test_searched_weights_say_so(run):
    results = run("ensemble", "three.pt", "--weights", "searched")
    details = results["rows"][-1]["details"]
    assert "training samples; no test sample" in details["weights_from"]
    assert sum(details["weights"].values()) == pytest.approx(1)


def test_a_share_says_how_many_labels_it_came_to(run):
    options = ["--tune", "linear", "--linear.epochs", "1"]
    rows = run("semi", "joint.pt", *options, labels="[1%,20%]")["rows"]
    # 24 training samples of 4 classes: at least one of each, and 4.8 rounded to one of each.
    assert {row["setting"].split(", ")[0] for row in rows} == {"1% (4 labels)", "20% (4 labels)"}


def test_a_head_of_standardized_features_classifies_as_measured(run, evaluated, tmp_path):
    (row,) = run("linear", "joint.pt", "--standardize", "true", "--lr", "0.1")["rows"]
    head = tmp_path / "out" / row["details"]["head"]
    # No record of the data's preparation is in this checkpoint: it is given.
    state = torch.load(evaluated / "joint.pt", weights_only=True)
    encoder, data = encoder_from(state).encoder, open_labeled_data(
        resolve_store("store"), "odd-even", frame_step=2
    )  # fmt: skip
    weight, bias, names, _ = read_head(
        head, stream="joint", checkpoint_sha256=sha256(evaluated / "joint.pt")
    )
    features = data.features(encoder, "joint")
    right = (features.test @ weight.T + bias).argmax(1) == features.test_labels
    assert float(right.double().mean()) == pytest.approx(row["metrics"]["top1_last"])
    assert names == data.classes


def test_encoders_share_the_mapped_data(evaluated, tmp_path, monkeypatch):
    monkeypatch.chdir(evaluated)
    options = EvaluationOptions(data="other", split="odd-even", output=str(tmp_path / "out"))
    protocol = get_protocol("transfer")
    paths = ["joint.pt", "joint1.pt"]
    request = resolve(protocol, paths, options, protocol.config(), Console(quiet=True))
    joint, again = request.pretrained
    assert joint.data.sequences is again.data.sequences


@pytest.mark.parametrize("protocol", ["knn", "transfer"])
@pytest.mark.parametrize("learned", ["frame", "sequence", None])
@pytest.mark.parametrize("here", ["frame", "sequence", None])
def test_another_normalization_is_said(evaluated, tmp_path, monkeypatch, protocol, learned, here):
    monkeypatch.chdir(tmp_path)

    def steps(normalize):
        return normalize and Preprocessing(50, "exact", normalize=normalize).to_dict()

    shutil.copytree(evaluated / "store", "store")
    meta = json.loads(Path("store/meta.json").read_text())
    Path("store/meta.json").write_text(json.dumps(meta | {"preprocessing": steps(here)}))
    state = torch.load(evaluated / "joint.pt", weights_only=True)
    del state["sha256"]
    state["data"] = {"preprocessing": steps(learned)}
    path = str(save(state, tmp_path / "x.pt"))
    options = EvaluationOptions(data="store", split="odd-even", output="out")
    protocol = get_protocol(protocol)
    request = resolve(protocol, [path], options, protocol.config(), Console(quiet=True))
    said = [note for note in request.report.notes if "normalized by" in note]
    if None in (learned, here) or learned == here:
        assert not said
    else:
        assert len(said) == 1
        assert f"normalized by {learned}, store is normalized by {here}" in said[0]
        assert f"--normalize {learned} of prepare" in said[0]


@pytest.fixture
def trained(evaluated, tmp_path):
    """Checkpoints of runs on the store by a split, as training saves them."""

    def write(split, data="store"):
        state = torch.load(evaluated / "joint.pt", weights_only=True)
        del state["sha256"]
        state["config"]["data"]["split"] = split
        state["config"]["data"]["store"] = str(evaluated / data)
        state["data"] = resolve_store(str(evaluated / data)).checksums()
        return str(save(state, tmp_path / f"{split}.pt"))

    return write


def test_the_split_is_the_checkpoints_on_its_own_store(trained, evaluated, tmp_path, capsys):
    def results(*arguments):
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        common = ["--output", str(out), "--csv", str(tmp_path / "r.csv"), "--threads", "1"]
        command_line(["knn", *arguments, *common, "--k", "[1]"])
        return json.loads((out / "results.json").read_text())["data"]["protocol"]

    store = ["--data", str(evaluated / "store")]
    path = trained("odd-even")
    assert results(path, *store) == "odd-even"
    assert f"split odd-even, by which {path} was trained" in capsys.readouterr().out
    assert results(path, *store, "--split", "three") == "three"
    assert "by which" not in capsys.readouterr().out
    moved = tmp_path / "moved"
    shutil.copytree(evaluated / "store", moved)  # what counts is what is in it
    assert results(path, "--data", str(moved)) == "odd-even"
    others = [path, trained("three")]
    with pytest.raises(SystemExit) as caught:
        results(*others, *store)
    assert caught.value.code == 2
    assert "trained by different splits" in capsys.readouterr().err
    assert results(*others, *store, "--split", "three") == "three"


def test_the_store_is_the_checkpoints_own(trained, evaluated, tmp_path, capsys):
    def refused(*checkpoints):
        with pytest.raises(SystemExit) as caught:
            command_line(["knn", *checkpoints, *common])
        assert caught.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    common = ["--output", str(tmp_path / "out"), "--csv", str(tmp_path / "r.csv"), "--k", "[1]"]
    path = trained("odd-even")
    command_line(["knn", path, *common])
    about = json.loads((tmp_path / "out" / "results.json").read_text())["data"]
    assert (about["store"], about["protocol"]) == ("store", "odd-even")

    other = trained("three", data="other")
    assert "trained on different stores" in refused(path, other)
    state = torch.load(path, weights_only=False)
    state["data"] = dict.fromkeys(state["data"], "0")  # names the same store, had other files
    del state["sha256"]
    changed = str(save(state, tmp_path / "changed.pt"))
    for both in ((changed, path), (path, changed)):
        assert f"{changed} was trained on another" in refused(*both)
    for fields, words in (
        ({"store": str(tmp_path / "gone")}, "cannot be opened"),
        ({"store": "ui_prmd"}, "was trained on another ui_prmd than the one that is there now"),
        ({"store": None}, "does not say what it was trained on"),
    ):
        state = torch.load(path, weights_only=False)
        state["config"]["data"] |= fields
        del state["sha256"]
        said = refused(str(save(state, tmp_path / "changed.pt")))
        assert words in said
        assert "name a store with --data" in said


def test_a_split_that_trains_on_all_is_not_taken(trained, evaluated, tmp_path, capsys):
    """Every query would find itself."""
    path = trained("all")
    with pytest.raises(SystemExit) as caught:
        command_line(["knn", path, "--data", str(evaluated / "store")])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "which trains on its test samples: choose another with --split" in shown


def test_another_store_has_the_usual_split(trained, evaluated, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command_line(["knn", trained("odd-even", "blind"), "--data", str(evaluated / "store")])
    assert "xsub" in capsys.readouterr().err


def test_figures_are_all_drawn(run, tmp_path):
    run("figures", "joint.pt")
    for name in ("tsne", "confusion", "per_class", "label_efficiency", "neighbors"):
        assert (tmp_path / "out" / f"{name}-joint.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "out" / f"{name}-joint.pdf").read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "results.csv").exists()


def test_table_of_several_runs(run, tmp_path, capsys):
    run("knn", "joint.pt", "joint1.pt")
    capsys.readouterr()
    command_line(["table", str(tmp_path / "results.csv")])
    shown = capsys.readouterr().out
    assert "**knn, store odd-even (%)**" in shown
    assert " ± " in shown
    command_line(["table", str(tmp_path / "out" / "results.json"), "--format", "latex"])
    assert r"\bottomrule" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fly", "joint.pt"],
            "'fly' is no protocol; choose from cluster, ensemble",
        ),
        (["knn"], "checkpoints"),
        (["knn", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["knn", "odd.pt"], "odd.pt: not a checkpoint of aimclr_fast"),
        (["knn", "joint.pt", "--stream", "bone"], "joint.pt: the checkpoint has no bone stream"),
        (["knn", "joint.pt", "--stream", "smell"], "stream is 'smell', but must be joint"),
        (["knn", "coco.pt"], "takes layout 'coco' (17 joints), the data have 'ui-prmd'"),
        (
            ["transfer", "joint.pt", "--data", "auto"],
            "transfer is to another data set: name it with --data",
        ),
        (
            [
                "transfer",
                "joint.pt",
                "--data",
                "store",
                "--few.labels",
                "[1]",
                "--finetune",
                "true",
            ],
            "with few, give --few.tune finetune",
        ),
        (
            ["transfer", "joint.pt", "--data", "store", "--joints", "[a]"],
            "'a' is not ENCODER_JOINT",
        ),
        (["knn", "joint.pt", "--protocol=xview"], "--protocol is now --split"),
        (["knn", "joint.pt", "--split", "xview"], "unknown split 'xview'"),
        (["knn", "joint.pt", "--data", "blind", "--split", "all"], "blind: has no labels"),
        (["knn", "joint.pt", "--data", "nowhere"], "'nowhere' is neither an embedded data set"),
        (["knn", "joint.pt", "--k", "[1,999]"], "k must lie in 1..24"),
        (["knn", "joint.pt", "--device", "toaster"], "device is 'toaster'"),
        (["knn", "joint.pt", "--output", "store"], "output store exists and is not an empty"),
        (["semi", "joint.pt", "--labels", "[99]"], "one class has only"),
        (["semi", "joint.pt", "--tune", "piano"], "tune is 'piano'"),
        (["linear", "joint.pt", "--lrr", "1"], "lrr"),
        (["linear", "joint.pt", "--schedule", "hope"], "schedule is 'hope'"),
        (["linear", "joint.pt", "--epochs", "0"], "epochs is 0"),
        (["ensemble", "joint.pt"], "two or three different streams"),
        (["ensemble", "joint.pt", "joint1.pt"], "two or three different streams"),
        (["figures", "joint.pt", "bone.pt"], "figures are of one checkpoint, not of 2"),
        (["table", "nowhere.csv"], "nowhere.csv: not a file of results"),
        (["table", "odd.pt"], "odd.pt: not a file of results"),
        (["table", "odd.pt", "--format", "word"], "--format word: choose from markdown, latex"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(evaluated, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(evaluated)
    if arguments[0] != "table" and "--data" not in arguments:
        arguments = [*arguments, "--data", "store"]
    if "--data" in arguments and "--split" not in arguments:
        arguments = [*arguments, "--split", "odd-even"]
    with pytest.raises(SystemExit) as ended:
        command_line(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1, error
    assert not (evaluated / "evaluations").exists()


# --- Readouts ------------------------------------------------------------------------------------


def test_a_readout_of_the_encoder_and_of_the_untrained_one(run, tmp_path):
    options = ["--pool", "mean+max", "--scale", "standardize", "--baselines"]
    rows = {row["features"]: row for row in run("knn", "joint.pt", *options)["rows"]}
    setting = "scale=standardize, pool=mean+max"
    assert {name: row["setting"] for name, row in rows.items()} == {
        "pretrained": setting, "untrained": setting, "raw poses": "",
        "supervised": "scale=standardize",  # it learned with a classifier on the mean
    }  # fmt: skip


def test_what_a_readout_is_measured_on(evaluated, monkeypatch):
    monkeypatch.chdir(evaluated)
    options = EvaluationOptions(
        data="store", split="odd-even", pool="joints", side_by_side=True, threads=1
    )
    protocol = get_protocol("knn")
    request = resolve(
        protocol, ["three.pt"], options, protocol.config(scale="center"), Console(quiet=True)
    )
    (one,) = request.pretrained
    assert one.stream == "joint+motion+bone"
    features = one.representation("pretrained").features()
    parts = [one.data.features(file.loaded.encoder, file.loaded.stream, "joints")
             for file in (one.file, *one.beside)]  # fmt: skip
    assert torch.equal(features.train, torch.cat([part.train for part in parts], 1))
    assert torch.equal(features.test, torch.cat([part.test for part in parts], 1))
    centered = features.scaled("center")
    assert centered.train.double().mean(0).abs().max() < 1e-5
    shift = features.test - centered.test
    assert torch.allclose(shift, features.train.mean(0).expand_as(shift), atol=1e-5)


def test_streams_side_by_side_are_one_row(run, tmp_path):
    (row,) = run("linear", "three.pt", "--side_by_side", "true")["rows"]
    assert row["stream"] == "joint+motion+bone"
    assert "head" not in row["details"]  # no command could read it back


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("knn", ["--pool", "median"], "--pool median: readout 'median' must be one of mean, max"),
        ("knn", ["--scale", "unit"], "scale is 'unit', but must be one of none, center"),
        ("knn", ["--side_by_side", "true"], "joint.pt gives the joint stream alone"),
        ("finetune", ["--pool", "max"], "leave out --pool"),
        ("semi", ["--tune", "finetune", "--pool", "max"], "leave out --pool"),
        ("ensemble", ["--side_by_side", "true"], "--side_by_side"),
    ],
)
def test_readouts_that_cannot_be(run, capsys, protocol, options, message):
    with pytest.raises(SystemExit) as caught:
        run(protocol, "joint.pt", *options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
