"""The packaged configs: the published recipes field by field, the default, and bad values."""

from __future__ import annotations

from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest
import yaml

from aimclr_fast.cli import CONFIGS, config_names
from aimclr_fast.data import open_embedded
from aimclr_fast.nn import Parts, get_method
from aimclr_fast.train import parser
from aimclr_fast.training.config import ConfigError, TrainConfig
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
PROTOCOLS = {
    "ntu60": ("xsub", "xview"),
    "ntu120": ("xsub", "xset"),
    "pku1": ("xsub", "xview"),
    "pku2": ("xsub", "xview"),
}
NAMES = [
    f"{data}_{protocol}_{stream}"
    for data, protocols in PROTOCOLS.items()
    for protocol in protocols
    for stream in ("joint", "motion", "bone")
]


def load(name: str) -> TrainConfig:
    command = parser()
    fields = vars(command.instantiate(command.parse_args([f"--config={CONFIGS}/{name}.yaml"])))
    fields.pop("config")
    return TrainConfig(**fields)


def test_the_list_of_configs():
    assert config_names() == sorted([*NAMES, "ui_prmd"])


@pytest.mark.parametrize("name", NAMES)
def test_published_recipe(name):
    data, protocol, stream = name.split("_")
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert written.pop("data") == {
        "store": f"stores/{data}",
        "protocol": protocol,
        "stream": stream,
    }
    assert written == PUBLISHED  # written out in full, so that the file can be read on its own
    resolved = asdict(load(name))
    for group, fields in PUBLISHED.items():
        assert resolved[group].items() >= fields.items()
    assert resolved["model"]["init"] == "copy"
    validate(load(name), 40091)


def test_defaults_are_the_published_recipe():
    defaults = asdict(TrainConfig())
    for group, fields in PUBLISHED.items():
        assert defaults[group].items() >= fields.items()


def test_the_default_config_is_valid_for_the_embedded_data():
    config = load("ui_prmd")
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
        ("moco", {}, "method is 'moco', but must be one of aimclr, skeletonclr"),
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


def test_the_ablation_adds_one_part_a_row(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from run_ablation import LEFT_OUT, ROWS

    def parts(arguments: str) -> tuple[bool, ...]:
        command = parser()
        fields = vars(command.instantiate(command.parse_args(arguments.split())))
        fields.pop("config")
        config = TrainConfig(**fields)
        return astuple(get_method(config.method).parts_of(config))

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
