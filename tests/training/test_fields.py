"""What each field of a configuration decides: said where it is defined, heeded on resuming."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass, field

import pytest

from aimclr_fast._fields import Meaning, learned, meanings
from aimclr_fast.config import MEANINGS, ConfigError, TrainConfig, what_is_learned
from aimclr_fast.training.run_folder import ABOUT, open_run

# Written out, as what users of a folder rely on; all other fields make another run.
MAY_DIFFER = {
    "data.store", "output", "resume", "device", "placement", "cuda_graph", "backend",
    "encoder_backend", "threads", "save_every", "save_steps", "save_seconds", "keep",
    "max_skipped", "profile", "monitor.knn_every", "monitor.linear_probe", "monitor.raw_poses",
    "monitor.batch_size", "monitor.pool", "monitor.scale",
}  # fmt: skip
ADDED = {
    "start", "augment.turn_deg", "data.frames", "data.sided", "optim.steps",
    "model.mix_weight", "model.masked", "model.chain", "model.mixes", "model.norm_head",
    "model.cross_stream", "model.share_head", "model.graph", "mix.parts_min", "mix.parts_max",
    "mix.blocks_min", "mix.blocks_max", "mask.share", "mask.per_sample", "votes.epoch",
    "votes.topk", "votes.least", "actionlet.form", "actionlet.neighbors_share",
    "actionlet.stages", "actionlet.late_epoch",
}  # fmt: skip
SAVING = {"output", "resume", "save_every", "save_steps", "save_seconds", "keep"}


@dataclass
class Inner:
    says: int = learned(1)
    says_nothing: int = 0


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)


def leaves(fields, prefix=""):
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


FIELDS = dict(leaves(asdict(TrainConfig())))


def test_every_field_says_what_it_decides():
    assert MEANINGS.keys() == FIELDS.keys()
    assert {name for name, one in MEANINGS.items() if one is not Meaning.LEARNED} == MAY_DIFFER
    assert {name for name, one in MEANINGS.items() if one is Meaning.SAVING} == SAVING


def test_a_field_that_does_not_say_it_is_an_error():
    with pytest.raises(TypeError, match=r"Inner\.says_nothing does not say what it decides"):
        meanings(Outer)


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return "other" if value is None or isinstance(value, str) else [*value, 1]


@pytest.mark.parametrize("name", FIELDS)
def test_resuming_with_a_changed_field_is_refused_or_allowed(name, tmp_path):
    config = TrainConfig(output=str(tmp_path), resume="auto")
    before = asdict(config)
    group, _, leaf = name.rpartition(".")
    fields = before[group] if group else before
    fields[leaf] = changed(FIELDS[name])
    (tmp_path / ABOUT).write_text(json.dumps({"config": before, "data": {}}))
    if name in MAY_DIFFER:
        open_run(config, {}).close()
        return
    with pytest.raises(ConfigError, match=f"holds another run: {name} is"):
        open_run(config, {})


def test_data_with_the_name_of_a_field_must_be_the_same(tmp_path):
    config = TrainConfig(output=str(tmp_path), resume="auto")
    about = {"config": asdict(config), "data": {"keep": 1, "positions.npy": "aa"}}
    (tmp_path / ABOUT).write_text(json.dumps(about))
    with pytest.raises(ConfigError, match="keep is 1 there and 2 here"):
        open_run(config, about["data"] | {"keep": 2})
    with closing(open_run(config, about["data"])):
        pass


def test_what_is_learned_keeps_fields_of_other_versions():
    config = asdict(TrainConfig(seed=3)) | {"novel": 1}
    kept = what_is_learned(config)
    assert (kept["seed"], kept["novel"], kept["data"]["frame_step"]) == (3, 1, 1)
    assert not MAY_DIFFER & set(dict(leaves(kept)))
    assert "monitor" not in kept
    assert set(dict(leaves(kept))) == FIELDS.keys() - MAY_DIFFER - ADDED | {"novel"}


def test_fields_that_0_1_0_did_not_have_count_where_they_differ_from_their_defaults():
    """Its runs resume, and rows of its results keep their checksums."""
    config = asdict(TrainConfig())
    for name in ADDED:
        group, _, leaf = name.rpartition(".")
        fields = config[group] if group else config
        fields[leaf] = changed(FIELDS[name])
    assert set(dict(leaves(what_is_learned(config)))) == FIELDS.keys() - MAY_DIFFER
