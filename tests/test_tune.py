"""The search for a recipe: what it does in its time, what it reads, and what it leaves behind."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
from collections import Counter, defaultdict
from concurrent.futures import BrokenExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from refusals import refusal
from scipy.stats import spearmanr

from aimclr_fast import tune as tune_command
from aimclr_fast.data import open_embedded, write_store
from aimclr_fast.train import configured
from aimclr_fast.tune import command_line
from aimclr_fast.tuning import search
from aimclr_fast.tuning.search import COLUMNS, FEWEST, Plan, SearchError, make_plan
from aimclr_fast.tuning.space import METHODS, VALUES, changed, draw
from aimclr_fast.tuning.trial import Bench, Samples, unlabeled_scores

TINY = """\
data: {split: null, frame_step: null, frames: 8}
model: {channels: 2, features: 8, embedding: 8, dropout: 0.0, queue_size: null, momentum: 0.99}
optim: {steps: 5, batch_size: null, lr: 0.03, schedule: cosine, mining_epoch: 0}
threads: 1
"""
ROUNDS = [5, 2]  # trials


def write(folder: Path, spoil: bool = False, labels: bool = True) -> None:
    """Two classes of the embedded data; with `spoil`, the labels of test samples are garbage."""
    full = open_embedded("ui_prmd")
    rows = np.flatnonzero(full.samples["label"] < 2)[::3]
    subject, label = full.samples["subject"][rows], np.array(full.samples["label"][rows])
    if spoil:
        label[subject % 2 == 0] = np.arange((subject % 2 == 0).sum()) + 99
    samples = {"name": full.samples["name"][rows], "subject": subject}
    positions = np.array(full.positions)[rows][:, :, ::3]
    write_store(
        folder, positions, samples | ({"label": label} if labels else {}), layout=full.layout
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    write(folder / "store")
    write(folder / "spoiled", spoil=True)
    write(folder / "blind", labels=False)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


def shorten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(search, "make_plan", lambda *_: Plan(ROUNDS[0], 5))
    patch.setattr(search, "CALIBRATION", 1)
    for module in (search, tune_command):
        patch.setattr(module, "METHODS", ("skeletonclr", "aimclr++"))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    shorten(monkeypatch)


def tune(stores: Path, store: str, out: str, *arguments: str) -> list[dict[str, str]]:
    flags = ["--data", str(stores / store), "--config", str(stores / "tiny.yaml")]
    command_line([*flags, "--out", str(stores / out), *arguments])
    with (stores / out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def said(stores) -> str:
    """What a search with labels prints; `labeled` are its rows."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        shorten(patch)
        tune(stores, "store", "labeled", "--labels", "train")
    return out.getvalue()


@pytest.fixture(scope="module")
def labeled(stores, said) -> list[dict[str, str]]:
    with (stores / "labeled" / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def measured(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Without times."""
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


refused = functools.partial(refusal, command_line)


def test_rounds_keep_the_best_third_for_three_times_as_long():
    assert Plan(27, 900).rounds == [(27, 100), (9, 300), (3, 900)]
    assert Plan(10, 90).rounds == [(10, 10), (4, 30), (2, 90)]
    assert Plan(3, 7).rounds == [(3, 7)]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 40.0, 300.0, 1000.0, 1e6])
def test_the_plan_fits_the_time(seconds):
    per_step, fixed, steps = 0.1, 2.0, 900
    plan = make_plan(seconds, per_step, fixed, steps)
    fits = plan.seconds(per_step, fixed) <= seconds
    assert fits or plan == Plan(1, 30)
    assert plan.trials >= FEWEST or seconds <= 40
    assert plan.steps == steps or plan.trials <= FEWEST
    assert seconds < 1e6 or plan == Plan(81, 900)


def test_draws_are_of_the_space_and_repeat():
    for number in range(1, 30):
        drawn = draw(number, 3, METHODS, labels=True)
        assert drawn == draw(number, 3, METHODS, labels=True)
        assert drawn.pop("method") in METHODS
        assert all(drawn[name] in VALUES[name] for name in VALUES)
    assert draw(0, 3, METHODS, labels=True) == {}
    assert draw(1, 3, METHODS, labels=True) != draw(2, 3, METHODS, labels=True)
    unlabeled = draw(1, 3, METHODS, labels=False)
    assert not {"augment.spatial_flip_prob", "augment.turn_deg"} & unlabeled.keys()


def test_a_drawn_swap_goes_before_what_names_of_classes_say():
    bases = {"aimclr": configured(["--config", "small"])}
    config = changed(bases, {"method": "aimclr", "augment.spatial_flip_prob": 0.5})
    assert (config.data.sided, config.augment.spatial_flip_prob) == (False, 0.5)
    assert bases["aimclr"].data.sided is None


def test_criteria_without_labels():
    torch.manual_seed(0)
    x = torch.randn(64, 16)
    same, other = unlabeled_scores(x, x), unlabeled_scores(x, torch.randn(64, 16))
    assert same["retrieval"] == 1.0
    assert other["retrieval"] < 0.2
    assert same["separation"] > 2 > abs(other["separation"])
    assert same["rank"] > 0.8
    flat = unlabeled_scores(*[torch.randn(64, 1) * torch.ones(16)] * 2)
    assert flat["rank"] == pytest.approx(1 / 16, rel=1e-3)


def test_every_trial_of_every_round_is_a_row_for_each_readout(stores, labeled, capsys):
    per_readout = Counter((row["round"], row["trial"]) for row in labeled)
    assert set(per_readout.values()) == {10}  # five readouts, two scales
    assert [key for key in per_readout if key[0] == "0"] == [
        ("0", str(i)) for i in range(ROUNDS[0])
    ]
    second = [trial for place, trial in per_readout if place == "1"]
    assert len(second) == ROUNDS[1] + 1
    assert second[-1] == "-1"  # untrained
    first = [(row["trial"], float(row["score"])) for row in labeled if row["round"] == "0"]
    best = {trial: max(score for of, score in first if of == trial) for trial in "01234"}
    assert sorted(second[:-1], key=lambda trial: -best[trial]) == second[:-1]
    assert set(second[:-1]) == set(sorted(best, key=lambda trial: (-best[trial], trial))[:2])
    for row in labeled:
        assert tuple(row) == COLUMNS
        mean = (float(row["knn_1"]) + float(row["linear"])) / 2
        assert float(row["score"]) == pytest.approx(mean)
    steps = {(row["round"], row["trial"] == "-1"): row["steps"] for row in labeled}
    assert steps == {("0", False): "2", ("1", False): "5", ("1", True): "0"}


def test_the_best_is_written_as_a_config(stores, labeled):
    last = [row for row in labeled if row["round"] == "1" and row["trial"] != "-1"]
    best = max(last, key=lambda row: float(row["score"]))
    config = configured(["--config", str(stores / "labeled" / "config.yaml")])
    assert config.method == best["method"]
    assert config.optim.lr == float(best["optim.lr"])
    assert config.augment.shear_amplitude == float(best["augment.shear_amplitude"])
    assert (config.data.store, config.data.split) == (str(stores / "store"), "odd-even")
    assert (config.optim.steps, config.model.queue_size) == (5, None)  # of the whole run
    readout = (config.monitor.pool or "mean", config.monitor.scale)
    assert readout == (best["pool"], best["scale"])
    text = (stores / "labeled" / "config.yaml").read_text()
    assert f"readout {best['pool']}" in text.splitlines()[0]


def test_labels_of_test_samples_change_nothing(stores, labeled):
    spoiled = tune(stores, "spoiled", "spoiled-out", "--labels=train")
    assert measured(spoiled) == measured(labeled)
    one, other = (
        yaml.safe_load((stores / name / "config.yaml").read_text())
        for name in ("labeled", "spoiled-out")
    )
    one["data"].pop("store"), other["data"].pop("store")
    assert one == other


def test_a_search_goes_on_where_it_was_left(stores, labeled, monkeypatch, capsys):
    run, rounds = Bench.run, []

    def killed(self, config, steps, fold, deadline):
        if len(rounds) == 4:
            raise KeyboardInterrupt
        rounds.append(fold)
        return run(self, config, steps, fold, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "run", killed)
        with pytest.raises(SystemExit) as ended:
            tune(stores, "store", "left", "--labels=train")
        assert ended.value.code == 130
    monkeypatch.setattr(Bench, "run", lambda *args: rounds.append(args[3]) or run(*args))
    again = tune(stores, "store", "left", "--labels=train")
    assert "going on after 2 trials" in capsys.readouterr().out
    assert measured(again) == measured(labeled)
    assert len(rounds) == 2 + sum(ROUNDS) + 1  # two for the time, one untrained


def test_another_search_is_refused(stores, labeled, capsys, monkeypatch):
    flags = ["--data", str(stores / "store"), "--config", str(stores / "tiny.yaml"),
             "--out", str(stores / "labeled")]  # fmt: skip
    assert "holds another search: seed, labels differ" in refused(capsys, *flags, "--seed=1")
    with monkeypatch.context() as patch:  # a trial would be drawn again as another
        patch.setattr(tune_command, "VALUES", {**VALUES, "optim.lr": (0.02,)})
        error = refused(capsys, *flags, "--labels=train")
        assert "holds another search: values differ" in error
    (stores / "full").mkdir()
    (stores / "full" / "x").touch()
    error = refused(capsys, *flags[:-1], str(stores / "full"))
    assert "is not empty, but holds no search" in error
    assert [file.name for file in (stores / "full").iterdir() if file.name != ".lock"] == ["x"]


def test_without_labels_a_criterion_judges(stores, capsys):
    rows = tune(stores, "blind", "blind-out")
    assert {row["knn_1"] for row in rows} == {""}
    assert all(row["score"] == row["rank"] for row in rows)
    assert "against labels" not in capsys.readouterr().out
    assert configured(["--config", str(stores / "blind-out" / "config.yaml")]).data.split


def test_the_criteria_are_compared_with_labels(said, labeled):
    """By Spearman's correlation, among trials and among the readouts of each."""
    assert said.count("over 5 trials of round 0") == 3
    for name in ("rank", "separation", "retrieval"):
        trials: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in labeled:
            if row["round"] == "0":
                trials[row["trial"]].append((float(row[name]), float(row["score"])))
        among = spearmanr([np.mean(pairs, axis=0) for pairs in trials.values()]).statistic
        within = np.mean([spearmanr(pairs).statistic for pairs in trials.values()])
        assert f"{name}, without labels, against labels: {among:+.2f} over 5 trials" in said
        assert f"of round 0, {within:+.2f} over the readouts of a trial" in said
    for row in ("0 (as configured)", "untrained", "knn_1"):
        assert row in said


def test_time_that_is_over_ends_the_trial(stores, capsys):
    rows = np.arange(40)
    bench = Bench(Samples(str(stores / "store"), rows, None, None))
    config = configured(["--config", str(stores / "tiny.yaml")])
    with pytest.raises(search.OutOfTimeError):
        bench.run(config, 5, 0, 0.0)
    flags = ["--data", str(stores / "store"), "--config", str(stores / "tiny.yaml")]
    error = refused(capsys, *flags, "--out", str(stores / "never"), "--minutes=1e-9")
    assert "give more --minutes" in error


@pytest.mark.slow
def test_several_trials_at_a_time(stores, labeled, monkeypatch):
    monkeypatch.setattr(search, "make_plan", lambda *_: Plan(2, 2))
    rows = tune(stores, "store", "jobs", "--labels=train", "--jobs=2")
    methods = {row["trial"]: row["method"] for row in rows}
    assert methods.keys() == {"-1", "0", "1"}
    assert methods["1"] == next(row["method"] for row in labeled if row["trial"] == "1")


def test_a_process_that_is_killed_is_told_of(stores):
    samples = Samples(str(stores / "store"), np.arange(40), None, None)
    with pytest.raises(SearchError, match="fewer --jobs"), search._workers(2, samples):
        raise BrokenExecutor
    with pytest.raises(KeyboardInterrupt), search._workers(2, samples):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels=test"], "--labels test: choose from none, train"),
        (["--minutes=0"], "--minutes must be positive"),
        (["--split=xview"], "--split: "),
        (["--config=nothing"], "--config nothing: no such file"),
    ],
)
def test_bad_flags(stores, arguments, message, capsys):
    data = ["--data", str(stores / "store"), "--out", str(stores / "bad")]
    assert message in refused(capsys, *data, *arguments)
    assert "has no labels" in refused(
        capsys, "--data", str(stores / "blind"), "--labels=train", "--out", str(stores / "bad")
    )
