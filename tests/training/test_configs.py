"""The packaged configs: the published recipes field by field, the default, and bad values."""

from __future__ import annotations

import re
from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest
import yaml

from aimclr_fast.cli import CONFIGS, UserError, config_names
from aimclr_fast.config import ConfigError, TrainConfig
from aimclr_fast.data import open_embedded
from aimclr_fast.nn import Parts, get_method
from aimclr_fast.train import DEFAULT_CONFIG, command_line, main, parser
from aimclr_fast.training.job import validate

# The published recipe, as the paper (section 4.2) and the authors' release state it.
PUBLISHED = {
    "augment": {
        "crop_ratio": 6,
        "shear_amplitude": 0.5,
        "spatial_flip_prob": 0.5,
        "rotation_main_deg": 30.0,
        "rotation_minor_deg": 1.0,
        "noise_prob": 0.5,
        "noise_std": 0.01,
        "blur_prob": 0.5,
        "blur_taps": 15,
        "blur_sigma_min": 0.1,
        "blur_sigma_max": 2.0,
        "blur_normalize": False,
        "axis_mask_prob": 0.5,
        "temporal_flip_prob": 0.0,
        "turn_deg": 0.0,
    },
    "model": {
        "channels": 16,
        "features": 256,
        "embedding": 128,
        "dropout": 0.5,
        "temporal_kernel": 9,
        "queue_size": 32768,
        "momentum": 0.999,
        "temperature": 0.07,
        "keep_prob": 0.7,
        "topk": 1,
        "d3m_weight": 0.5,
    },
    "optim": {
        "epochs": 300,
        "batch_size": 128,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "step",
        "milestones": [250],
        "gamma": 0.1,
        "mining_epoch": 151,
    },
}
SPLITS = {
    "ntu60": ("xsub", "xview"),
    "ntu120": ("xsub", "xset"),
    "pku1": ("xsub", "xview"),
    "pku2": ("xsub", "xview"),
}
CASES = [
    (data, split, stream)
    for data, splits in SPLITS.items()
    for split in splits
    for stream in ("joint", "motion", "bone")
]


def resolved(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """What the command trains with."""
    configs: list[TrainConfig] = []
    with monkeypatch.context() as patch:
        patch.setattr("aimclr_fast.train.pretrain", lambda config, *_: configs.append(config))
        main([str(argument) for argument in arguments])
    return configs[0]


def load(name: str) -> TrainConfig:
    command = parser()
    fields = vars(command.instantiate(command.parse_args([f"--config={CONFIGS}/{name}.yaml"])))
    fields.pop("config")
    return TrainConfig(**fields)


def test_the_list_of_configs():
    assert config_names() == sorted([*SPLITS, "nw_ucla", "small", "ui_prmd", "ui_prmd_unaligned"])


@pytest.mark.parametrize("name", SPLITS)
def test_a_data_set_adds_its_store_to_the_published_recipe(name):
    assert yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) == {
        "data": {"store": f"stores/{name}"}
    }
    validate(load(name), 40091)


@pytest.mark.parametrize(("data", "split", "stream"), CASES)
def test_the_files_of_earlier_versions_resolve_alike(data, split, stream, tmp_path, monkeypatch):
    """They had one for each split and stream, with the whole recipe written out."""
    old = tmp_path / f"{data}_{split}_{stream}.yaml"
    place = {"store": f"stores/{data}", "protocol": split, "stream": stream}
    old.write_text(yaml.safe_dump({"data": place, **PUBLISHED}))
    new = ["--config", data, "--split", split, "--streams", stream]
    before, now = (
        asdict(resolved(*arguments, monkeypatch=monkeypatch))
        for arguments in (["--config", old], new)
    )
    assert before == now
    assert (now["data"]["split"], now["data"]["stream"]) == (split, stream)
    assert now["model"]["init"] == "copy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (
                ["--config", "_".join(case)],
                "--config {0}_{1}_{2} is now --config {0} --split {1} --streams {2}".format(*case),
            )
            for case in CASES
        ),
        (["--config=ntu60_xsub_joint"], "is now --config ntu60 --split xsub --streams joint"),
        (["--config", "ntu60_xsub_all"], "--config ntu60_xsub_all: no such file, and not one of"),
        (["--data.protocol", "xsub"], "--data.protocol is now --split"),
        (["--data.protocol=xsub"], "--data.protocol is now --split"),
        (["--protocol", "xsub"], "--protocol is now --split"),
        (["--batch_statistics", "synchronised"], "must be one of rank, synchronized"),
    ],
)
def test_names_of_earlier_versions_are_told_the_new_one(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command_line(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_a_file_with_old_names_keeps_its_values_as_written(tmp_path, monkeypatch):
    file = tmp_path / "old.yaml"
    text = 'data: {store: "1e5", protocol: "no"}\noptim: {lr: 1e-3}\nresume: null\n'
    text += "batch_statistics: synchronised\n"
    file.write_text(text)
    config = resolved("--config", file, monkeypatch=monkeypatch)
    assert (config.data.store, config.data.split, config.optim.lr) == ("1e5", "no", 1e-3)
    assert config.batch_statistics == "synchronized"
    file.write_text(text.replace("protocol:", "split: xsub, protocol:"))
    with pytest.raises(UserError, match=r"holds data\.protocol and data\.split"):
        main(["--config", str(file)])


def test_the_long_names_of_fields_do_as_well(monkeypatch):
    arguments = ["--config", "ntu60", "--data.split", "xview", "--data.stream", "bone"]
    config = resolved(*arguments, monkeypatch=monkeypatch)
    assert (config.data.split, config.data.stream) == ("xview", "bone")


def test_defaults_are_the_published_recipe():
    defaults = asdict(TrainConfig())
    for group, fields in PUBLISHED.items():
        assert defaults[group].items() >= fields.items()


@pytest.mark.parametrize("name", ["ui_prmd", DEFAULT_CONFIG])
def test_the_embedded_configs_are_valid_for_their_data(name):
    config = load(name)
    assert config.data.store == name
    assert open_embedded(config.data.store).labels is not None
    validate(config, 1000)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("data", "stream", "velocity"),
        ("model", "init", "random"),
        ("model", "queue_size", 4),
        ("model", "temperature", 0.0),
        ("model", "keep_prob", 1.5),
        ("model", "momentum", 1.1),
        ("model", "dropout", 1.0),
        ("model", "temporal_kernel", 8),
        ("model", "channels", 0),
        ("optim", "schedule", "linear"),
        ("optim", "batch_size", 1001),
        ("optim", "lr", -0.1),
        ("optim", "epochs", 0),
        ("optim", "mining_epoch", -1),
        ("monitor", "batch_size", 0),
        ("monitor", "scale", "whiten"),
        ("monitor", "scale", "center"),  # of no readout
    ],
)
def test_bad_values_are_named(group, field, value):
    config = load("ui_prmd")
    if field == "batch_size" and group == "optim":
        config.model.queue_size = 2000
    setattr(getattr(config, group), field, value)
    with pytest.raises(ConfigError, match=rf"{group}\.{field} is .*{value}"):
        validate(config, 1000)


@pytest.mark.parametrize(
    ("method", "switches", "parts"),
    [
        ("aimclr", {}, Parts(True, True, True, True)),
        ("aimclr", {"eadm": False, "nnm": False}, Parts(True, False, True, False)),
        ("skeletonclr", {}, Parts(False, False, False, False)),
        ("skeletonclr", {"nnm": True}, Parts(False, False, False, True)),
    ],
)
def test_switches_change_the_parts_of_a_method(method, switches, parts):
    config = load("ui_prmd")
    config.optim.mining_epoch = 1
    config.method, config.model = method, replace(config.model, **switches)
    validate(config, 1000)
    assert get_method(method).parts_of(config) == parts


@pytest.mark.parametrize(
    ("method", "switches", "message"),
    [
        (
            "moco",
            {},
            "method is 'moco', but must be one of actclr, aimclr, aimclr\\+\\+, hiclr, skele",
        ),
        ("aimclr", {"extreme": False}, "model.eadm is on, but extreme is off"),
        ("skeletonclr", {"d3m": True}, "model.d3m is on, but extreme is off"),
        ("aimclr", {"nnm": True, "topk": 0}, "model.nnm is True, but"),
    ],
)
def test_contradictory_switches_are_named(method, switches, message):
    config = load("ui_prmd")
    config.method, config.model = method, replace(config.model, **switches)
    with pytest.raises(ConfigError, match=message):
        validate(config, 1000)


@pytest.mark.parametrize("pool", ["median", "", "mean+mean", "mean,max"])
def test_a_readout_that_does_not_exist_is_named(pool):
    config = load("ui_prmd")
    config.monitor.pool = pool
    with pytest.raises(ConfigError, match=f"monitor.pool: readout '{re.escape(pool)}' must be one"):
        validate(config, 1000)


def test_the_ablation_adds_one_part_a_row(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from run_ablation import LEFT_OUT, ROWS

    def parts(arguments: str) -> tuple[bool, ...]:
        command = parser()
        fields = vars(command.instantiate(command.parse_args(arguments.split())))
        fields.pop("config")
        config = TrainConfig(**fields)
        return astuple(get_method(config.method).parts_of(config))[:4]

    # extreme, EADM, D3M, NNM
    assert [parts(row) for row in ROWS.values()] == [
        (False, False, False, False),
        (True, False, False, False),
        (True, False, True, False),
        (True, True, True, False),
        (True, True, True, True),
    ]
    assert [parts(row) for row in LEFT_OUT.values()] == [
        (False, False, False, True),
        (True, True, False, True),
        (True, False, True, True),
    ]
