"""Methods put together of parts: trained, resumed and loaded, alone and with streams together."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from refusals import refusal
from small_data import write_tiny

from aimclr_fast import functional, load_encoder
from aimclr_fast.config import (
    ConfigError,
    DataConfig,
    MaskConfig,
    MixConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    VotesConfig,
)
from aimclr_fast.evaluate import command_line as evaluate
from aimclr_fast.inference.checkpoints import encoder_from
from aimclr_fast.layouts import Layout, get_layout
from aimclr_fast.nn import contrast, get_method, method_names
from aimclr_fast.nn.contrast import Voting, terms_of
from aimclr_fast.train import command_line, main
from aimclr_fast.training.checkpoint import digest, load_checkpoint, save_checkpoint
from aimclr_fast.training.job import Job, published_config, validate
from aimclr_fast.training.loop import Pretraining
from aimclr_fast.training.metrics import read_metrics
from aimclr_fast.training.placement import place_sequences

CPU = torch.device("cpu")
SMALL = ModelConfig(channels=2, features=4, embedding=16, queue_size=16, topk=2, dropout=0.0)
MIX = MixConfig(blocks_min=1, blocks_max=2)
ALL = "joint,motion,bone"
# Method, streams, and a part or two that it does not have itself.
RUNS: list[tuple[str, str, dict[str, Any]]] = [
    ("aimclr++", "joint", {}),
    ("aimclr++", "motion,bone", {"share_head": False, "mixes": 1, "dropout": 0.5}),
    ("skelemixclr", "bone", {"extreme": True, "d3m": True, "nnm": True}),
    ("hiclr", "motion", {}),
    ("skeletonclr", "joint", {"extreme": True, "masked": True, "d3m": True}),
]
runs = pytest.mark.parametrize(("method", "streams", "parts"), RUNS, ids=str)


def config_of(method: str, streams: str, parts: dict[str, Any]) -> TrainConfig:
    return TrainConfig(
        method=method,
        data=DataConfig(stream=streams),
        model=replace(SMALL, **parts),
        optim=OptimConfig(epochs=3, batch_size=6, lr=0.05, mining_epoch=2),
        mix=MIX,
        mask=MaskConfig(per_sample=method == "skeletonclr"),
        votes=VotesConfig(epoch=3, topk=8),
        seed=3,
    )


def untrained(config: TrainConfig, frames: int = 12) -> Pretraining:
    positions = torch.randn(
        14, 3, frames, 22, 1, generator=torch.Generator().manual_seed(0)
    ).numpy()
    placed = place_sequences(positions, CPU, "device")
    return Pretraining(Job(config, CPU), get_layout("ui-prmd"), placed, torch.arange(14))


def models(training: Pretraining) -> dict[str, Any]:
    return {name: of.models[name].state_dict() for name, of in training.streams.items()}


@runs
def test_a_run_learns_and_goes_on_exactly(method, streams, parts, tmp_path):
    config = config_of(method, streams, parts)
    validate(config, 14)
    whole = untrained(config)
    start = digest(models(whole))
    reports = [report for _ in range(3) for report in whole.train_epoch()]
    losses = torch.stack(reports)
    assert losses.shape == (6, len(streams.split(",")), len(whole.names))
    assert losses.isfinite().all()
    named = dict(zip(whole.names, losses.unbind(2), strict=True))
    parts = get_method(method).parts_of(config)
    for name, _ in terms_of(parts):
        assert (named[name] > 0).all(), name
    assert digest(models(whole)) != start
    for learner in whole.learners:
        assert all(parameter.grad is not None for parameter in learner.parameters)

    stopped = untrained(config)
    next(stopped.train_epoch())
    save_checkpoint(
        tmp_path / "checkpoint.pt",
        models={name: of.models[name] for name, of in stopped.streams.items()},
        optimizers={learner.name: learner.optimizer for learner in stopped.learners},
        config=config,
        layout=stopped.layout.to_dict(),
        epoch=stopped.epoch,
        step=stopped.step,
        place=stopped.place_state(),
    )
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    resumed = untrained(config)
    resumed.load_state(state)
    while resumed.step < whole.step:
        for _ in resumed.train_epoch():
            pass
    assert digest(models(resumed)) == digest(models(whole))

    for stream in streams.split(","):
        loaded = encoder_from(state, stream)
        own = stopped.streams[stream].models[stream].query_encoder.eval()
        x = torch.randn(2, 3, 12, 22, 1)
        assert torch.equal(loaded.encoder(x), own(x))
        assert loaded.stream == stream


def test_streams_that_learn_together_share_a_head_and_votes():
    training = untrained(config_of("aimclr++", ALL, {}))
    (learner,) = training.learners
    assert learner.name == "joint"
    assert tuple(training.streams) == ("joint", "motion", "bone")
    for side in ("query_encoder", "key_encoder"):
        heads = [getattr(model, side).head for model in learner.models.values()]
        assert heads[1][2] is heads[0]
        assert heads[2][2] is heads[0]
        assert heads[1][0] is not heads[2][0]
    query, key = learner.models["bone"].query_encoder, learner.models["bone"].key_encoder
    assert digest(query.state_dict()) == digest(key.state_dict())
    assert not any(parameter.requires_grad for parameter in key.parameters())
    positives = []
    for _ in range(3):
        for report in training.train_epoch():
            positives.append(report[:, training.names.index("positives")])
    assert (positives[0] == 1).all()  # no mining yet
    assert (positives[2] > 1).all()
    assert (positives[4] == positives[4][0]).all()  # votes make them the same
    names = training.names
    total, gradient = names.index("loss"), names.index("gradient_norm")
    assert len(set(report[:, total].tolist())) == 3
    assert len(set(report[:, gradient].tolist())) == 1


def test_a_head_of_its_own_for_each_stream():
    (learner,) = untrained(config_of("aimclr++", ALL, {"share_head": False})).learners
    shapes = {name: [len(p) for p in model.query_encoder.head.parameters()] for name, model
              in learner.models.items()}  # fmt: skip
    assert shapes["joint"] == shapes["motion"] == shapes["bone"]
    trained = {id(p) for p in learner.parameters}
    each = [id(p) for model in learner.models.values() for p in model.query_encoder.parameters()]
    assert len(each) == len(trained) == len(set(each))


def test_together_and_alone_start_from_the_same_weights():
    together, alone = (
        untrained(config_of("aimclr++", streams, {})).streams["bone"].models["bone"]
        for streams in (ALL, "bone")
    )
    ours, own = (model.query_encoder.backbone.state_dict() for model in (together, alone))
    assert digest(ours) == digest(own)


@pytest.mark.parametrize("method", method_names())
def test_published_numbers_are_fields_and_may_be_changed(method, monkeypatch, tmp_path):
    configs: list[TrainConfig] = []
    monkeypatch.setattr("aimclr_fast.train.pretrain", lambda config, *_: configs.append(config))
    published = get_method(method).published
    plain, own = asdict(TrainConfig(method=method)), tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"method": method, "model": {"temperature": 0.3}}))
    main(["--config", "ntu60", "--method", method])
    main(["--config", str(own), "--optim.epochs", "7"])
    main([f"--config={own}", f"--method={method}", "--model.temperature=0.4"])
    for config, temperature in zip(configs, (None, 0.3, 0.4), strict=True):
        found = asdict(config)
        assert found["method"] == method
        for group, fields in published.items():
            for name, value in fields.items():
                assert plain[group][name] != value, f"{method}: {name} is as by default"
                if (group, name) not in (("model", "temperature"), ("optim", "epochs")):
                    assert found[group][name] == value
        if temperature is not None:
            assert config.model.temperature == temperature
    assert configs[0].data.store == "stores/ntu60"
    assert configs[1].optim.epochs == 7
    expected = {**plain["model"], **published.get("model", {})}
    assert asdict(configs[0].model) == expected


def test_published_numbers_in_python():
    own = MixConfig(parts_min=1)
    config = published_config(
        "skelemixclr+", seed=3, mix=own, model={"temperature": 0.3}, data={"stream": "bone"}
    )
    expected = TrainConfig(method="skelemixclr+", seed=3, mix=own, data=DataConfig(stream="bone"))
    expected.model.temperature, expected.model.graph = 0.3, "directed"
    expected.optim.milestones, expected.optim.mining_epoch = [300], 0
    assert config == expected
    assert published_config("aimclr") == TrainConfig()
    config.optim.milestones.append(1)
    assert published_config("skelemixclr").optim.milestones == [300]
    with pytest.raises(TypeError, match="novel"):
        published_config("aimclr", model={"novel": 1})
    with pytest.raises(ValueError, match="unknown method 'novel'"):
        published_config("novel")


def test_the_numbers_of_a_config_go_before_the_methods(monkeypatch):
    configs: list[TrainConfig] = []
    monkeypatch.setattr("aimclr_fast.train.pretrain", lambda config, *_: configs.append(config))
    main(["--config", "ui_prmd", "--method", "aimclr++"])
    assert configs[0].optim.epochs == 56
    assert (configs[0].model.topk, configs[0].model.d3m_weight) == (4, 1.0)


TINY = {
    "data": {"store": "store", "split": "odd-even"},
    "model": {"channels": 2, "features": 4, "embedding": 16, "queue_size": 32},
    "optim": {"epochs": 2, "batch_size": 16, "lr": 0.01, "mining_epoch": 1},
    "mix": {"blocks_min": 1, "blocks_max": 2},
    "votes": {"epoch": 2, "topk": 8},
    "monitor": {"knn_every": 0, "linear_probe": False},
    "threads": 1,
    "device": "cpu",
}


@pytest.mark.parametrize(
    ("method", "streams", "losses"),
    [
        ("aimclr++", ALL, {"info_nce", "d3m_extreme"}),
        ("skelemixclr+", "joint", {"info_nce", "trimmed", "truncated"}),
        ("hiclr", "joint", {"info_nce", "d3m_extreme", "d3m_masked"}),
    ],
)
def test_commands_train_and_evaluate(method, streams, losses, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    command = ["--config", "tiny.yaml", "--method", method, "--streams", streams]
    command_line([*command, "--output", "run"])
    shown = capsys.readouterr().out
    assert f", {method}\n" in shown
    phases = {"aimclr++": ", mining from epoch 1, votes from epoch 2", "skelemixclr+": ""}
    assert f"of 16{phases.get(method, ', mining from epoch 1')}\n" in shown
    line = read_metrics(Path("run"))[-1]
    logged = {name.rpartition("/")[2] for name in line}
    assert losses <= logged
    assert not {"d3m_dropped", "d3m_masked", "trimmed"} - losses & logged
    for stream in streams.split(","):
        model = load_encoder("run/checkpoint.pt", stream=stream).model
        assert model(torch.randn(2, 3, 9, 22, 1)).shape == (2, 4)
    before = digest(load_checkpoint("run/checkpoint.pt")["models"])
    evaluate(["knn", "run/checkpoint.pt", *(["--stream", "bone"] if "bone" in streams else [])])
    assert "pretrained" in capsys.readouterr().out
    command_line([*command, "--output", "run", "--resume", "auto"])
    assert digest(load_checkpoint("run/checkpoint.pt")["models"]) == before


def refused(match: str, method: str, frames: int = 12, **changes: Any) -> None:
    config = config_of(method, ALL, changes.pop("parts", {}))
    layout = changes.pop("layout", get_layout("ui-prmd"))
    config = replace(config, **changes)
    positions = torch.zeros(14, 3, frames, layout.num_joints, 1).numpy()

    def begin() -> None:
        validate(config, 14)
        placed = place_sequences(positions, CPU, "device")
        Pretraining(Job(config, CPU), layout, placed, torch.arange(14))

    with pytest.raises(ConfigError, match=match):
        begin()


@pytest.mark.parametrize(
    ("method", "streams", "mining", "votes", "topk", "expected"),
    [
        ("skeletonclr", "joint", 2, 3, 2, ""),
        ("aimclr", "joint", 2, 3, 2, "mining from epoch 2"),
        ("aimclr", "joint,bone", 2, 3, 2, "mining from epoch 2"),
        ("aimclr", "joint", 0, 3, 2, "no mining"),
        ("aimclr", "joint", 4, 3, 2, "no mining"),  # only three epochs
        ("aimclr", "joint", 2, 3, 0, "no mining"),
        ("aimclr++", "joint", 2, 3, 2, "mining from epoch 2"),
        ("aimclr++", ALL, 2, 3, 2, "mining from epoch 2, votes from epoch 3"),
        ("aimclr++", ALL, 3, 3, 2, "mining from epoch 3, votes from epoch 3"),
        ("aimclr++", ALL, 2, 0, 2, "mining from epoch 2, no votes"),
        ("aimclr++", ALL, 2, 4, 2, "mining from epoch 2, no votes"),
        ("aimclr++", ALL, 0, 3, 2, "no mining"),
        ("aimclr++", ALL, 2, 3, 0, "no mining"),
    ],
)
def test_the_phases_of_a_run_are_told(method, streams, mining, votes, topk, expected):
    config = config_of(method, streams, {"topk": topk})
    config.optim.mining_epoch, config.votes.epoch = mining, votes
    own = get_method(method)
    assert own.phases(config) == expected
    mined = [own.phase(config, epoch) for epoch in (1, 2, 3)]
    mines = expected.startswith("mining")
    assert [one != 0 for one in mined] == [mines and epoch >= mining for epoch in (1, 2, 3)]
    assert any(isinstance(one, Voting) for one in mined) == ("votes from" in expected)


@pytest.mark.parametrize(
    ("frames", "own", "blocks"),
    [
        (64, {}, (7, 11)),
        (300, {}, (7, 11)),
        (50, {}, (5, 8)),
        (20, {}, (2, 3)),
        (12, {}, (1, 2)),
        (2, {}, (1, 1)),
        (20, {"blocks_max": 2}, (2, 2)),
        (20, {"blocks_min": 1}, (1, 3)),
    ],
)
def test_blocks_that_are_not_set_follow_the_length(frames, own, blocks, monkeypatch):
    seen = []

    def noted(*args, config, **options):
        seen.append((config.blocks_min, config.blocks_max))
        return skelemix(*args, config=config, **options)

    skelemix = contrast.skelemix
    monkeypatch.setattr(contrast, "skelemix", noted)
    config = replace(config_of("skelemixclr", "joint", {}), mix=MixConfig(**own))
    training = untrained(config, frames)
    assert training.augment(next(training.epoch_batches(1)), 0)
    assert seen == [blocks]


@pytest.mark.parametrize("streams", ["motion,bone", "bone,joint"])
def test_mixing_draws_no_views_that_are_not_used(streams, monkeypatch):
    drawn = []

    def noted(recipe, batch, names):
        drawn.append((tuple(batch.streams), tuple(names)))
        return draw_views(recipe, batch, names)

    draw_views = contrast.draw_views
    names = tuple(streams.split(","))
    training = untrained(config_of("skelemixclr+", streams, {}))
    batch = next(training.epoch_batches(1))
    alone = untrained(config_of("skelemixclr+", "joint", {})).augment(batch, 4)["joint"]
    monkeypatch.setattr(contrast, "draw_views", noted)
    views = training.augment(batch, 4)
    expected = [(names, ("query", "key"))]
    assert drawn == expected + ([] if "joint" in names else [(("joint",), ("query",))])
    assert tuple(views) == names
    for own in views.values():
        assert set(own) == {"query", "key", "mixed", "pasted", "partner"}
        assert torch.equal(own["partner"], alone["partner"])
    bones = functional.skelemix(
        alone["query"],
        layout=training.layout,
        config=functional.MixConfig(count=3, **asdict(MIX)),
        seed=3,
        step=4,
        streams=("bone",),
    )
    assert torch.equal(views["bone"]["mixed"], bones.views[0])


PUPPET = Layout("puppet", ("a", "b"), ((1, 0),), 0, (0, 1))


@pytest.mark.parametrize(
    ("method", "changes", "match"),
    [
        (
            "skelemixclr",
            {"mix": MixConfig(blocks_max=11)},
            "mix.blocks_max is 11, .* most 3: .* 12",
        ),
        ("skelemixclr", {"mix": MixConfig(parts_min=4)}, "mix.parts_min must be at most parts_max"),
        ("skelemixclr", {"layout": PUPPET}, "layout 'puppet' has no body parts"),
        ("skelemixclr", {"parts": {"mixes": 7}}, "model.mixes is 7, but must be from 0 to 6"),
        ("skelemixclr", {"parts": {"graph": "round"}}, "model.graph is 'round', but must be one"),
        ("skelemixclr", {"optim": OptimConfig(batch_size=2)}, "at least 3 samples to mix, not 2"),
        ("hiclr", {"mask": MaskConfig(share=1.0)}, "mask.share is 1.0, but must be in"),
        ("hiclr", {"parts": {"d3m": False}}, "model.chain is on, but d3m is off"),
        ("aimclr++", {"votes": VotesConfig(topk=17)}, "votes.topk is 17, but must be from 1 to"),
        ("aimclr++", {"votes": VotesConfig(topk=2, least=4)}, "votes.least is 4, .* from 1 to 3"),
        (
            "aimclr++",
            {"votes": VotesConfig(epoch=1, topk=8)},
            r"votes.epoch is 1, but must be 0 or at least optim.mining_epoch \(2\)",
        ),
        ("aimclr++", {"votes": VotesConfig(epoch=-1)}, "votes.epoch is -1, but must be at least 0"),
    ],
)
def test_what_a_method_cannot_do_is_named(method, changes, match):
    refused(match, method, **changes)


def test_start_from_another_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "store")
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    streams = "joint,bone"
    command_line(["--config", "tiny.yaml", "--streams", streams, "--output", "first"])
    began: list[dict[str, Any]] = []

    def train_step(self: Pretraining, batch: Any) -> Any:
        began.append(models(self))
        raise ConfigError("seen")

    monkeypatch.setattr(Pretraining, "train_step", train_step)
    start = ["--config", "tiny.yaml", "--start", "first"]  # the folder or its checkpoint.pt
    with pytest.raises(SystemExit):
        command_line([*start, "--streams", "bone", "--output", "second"])
    capsys.readouterr()
    (own,) = began[0].values()
    theirs = load_checkpoint("first/checkpoint.pt")["models"]["bone"]
    for name, value in theirs.items():
        if name.startswith("query_encoder."):
            for side in ("query_encoder", "key_encoder"):
                assert torch.equal(own[name.replace("query_encoder", side)], value), name
    assert not torch.equal(own["queue"], theirs["queue"])
    for arguments, message in (
        (["--streams", "motion"], "first/checkpoint.pt has no motion stream; it holds joint, bone"),
        (["--model.graph", "directed"], "give --model.graph spatial"),
        (["--start", "none.pt"], "start: none.pt: no such checkpoint"),
    ):
        said = refusal(command_line, capsys, *start, *arguments, "--output", "third")
        assert message in said
        assert not Path("third/run.json").exists()
