"""Transfer to another data set, whose skeleton may be another one."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimclr_fast.evaluation.finetuning import FinetuneConfig
from aimclr_fast.evaluation.heads import LinearConfig
from aimclr_fast.evaluation.joint_mapping import map_joints, mapped, parse_pairs
from aimclr_fast.evaluation.labeled_data import EvaluationError, LabeledData
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import Outcomes, Representation
from aimclr_fast.evaluation.request import Request
from aimclr_fast.layouts import Layout

from . import finetune, knn, linear, semi

SUMMARY = "another data set, its skeleton mapped by the joints' names"


@dataclass(frozen=True)
class Config:
    """What is measured on another data set.

    Attributes:
        k: neighbors of the kNN classification.
        scale: what is done to an encoder's features before it, as in knn.
        finetune: fine-tune encoder and classifier as well.
        joints: pairs ENCODER_JOINT=DATA_JOINT that take precedence over matches by name.
        linear: recipe of the classifier on frozen features.
        tuning: recipe of fine-tuning.
        few: with `few.labels`, few labels of the data set as in semi, and nothing else.
    """

    k: list[int] = field(default_factory=lambda: [1, 20])
    scale: str = "none"
    finetune: bool = False
    joints: list[str] = field(default_factory=list)
    linear: LinearConfig = field(default_factory=LinearConfig)
    tuning: FinetuneConfig = field(default_factory=FinetuneConfig)
    few: semi.Config = field(default_factory=lambda: semi.Config(labels=[], tune="linear"))


def adapt(data: LabeledData, layout: Layout, config: Config) -> tuple[LabeledData, str]:
    """The data in an encoder's skeleton, and what was done with which joints.

    Raises:
        EvaluationError: too few joints match, or a pair of `config.joints` names none.
    """
    joints = map_joints(layout, data.layout, parse_pairs(config.joints))
    how = f"{layout.name} from {data.layout.name}: {joints.describe()}"
    return mapped(data, layout, joints), how


def run(request: Request[Config]) -> Outcomes:
    """KNN and linear evaluation, and fine-tuning if asked for, in one row; or few labels."""
    if request.config.few.labels:
        if request.config.finetune:
            raise EvaluationError("--finetune is of all labels: with few, give --few.tune finetune")
        yield from semi.few_labels(request, request.config.few)
        return
    if request.config.finetune:
        request.refuse_frozen("--finetune")
    for representation in request.representations():
        yield representation, _measure(representation, request)


def _measure(representation: Representation, request: Request[Config]) -> Outcome:
    config, seed = request.config, request.options.seed
    features = representation.features()
    scaled, setting = knn.scaled_features(representation, features, config.scale)
    neighbors = knn.classify(scaled, knn.Config(k=config.k))
    if representation.own:
        parts = {"supervised": representation.own}
    else:
        parts = {"linear": linear.classify(representation, features, config.linear, seed=seed)}
        if config.finetune and representation.encoder is not None:
            parts["finetune"] = finetune.tune(
                representation, config.tuning, seed=seed, say=request.report.say
            )
    metrics, details = dict(neighbors.metrics), dict(neighbors.details)
    for name, part in parts.items():
        metrics |= {f"{name}_{metric}": value for metric, value in part.metrics.items()}
        details[name] = dict(part.details)
    return Outcome(metrics, details, setting)
