"""The evaluation protocols by name, and the rows that give their numbers a meaning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from aimclr_fast.config import what_is_learned
from aimclr_fast.nn import SkeletonEncoder

from .cluster import ClusterConfig, cluster
from .ensemble import EnsembleConfig
from .finetune import FinetuneConfig, finetune
from .heads import SWEEP, LinearConfig, linear_evaluation
from .knn import knn_accuracies
from .models import LoadedEncoder, fresh_encoder
from .outcome import VALIDATION, Outcome
from .problem import EvaluationError, Features, Problem
from .retrieval import RetrievalConfig, retrieve
from .semi import TUNES, SemiConfig, draw_labelled, per_class
from .transfer import TransferConfig

UNTRAINED, SUPERVISED, RAW = "untrained", "supervised", "raw poses"
# Learning rates for standardised features where labels are too few to choose a rate with.
FEW_LABELS_LR = {UNTRAINED: 0.1, RAW: 0.01}
# And where they can be chosen.
BASELINE_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
Say = Callable[[str], None]


@dataclass(frozen=True)
class KnnConfig:
    """k-nearest-neighbour classification under cosine.

    Attributes:
        k: numbers of neighbours.
        temperature: a neighbour's vote is exp(similarity / temperature).
    """

    k: list[int] = field(default_factory=lambda: [1, 5, 20])
    temperature: float = 0.07


CONFIGS: Mapping[str, type[Any]] = {
    "knn": KnnConfig,
    "linear": LinearConfig,
    "finetune": FinetuneConfig,
    "semi": SemiConfig,
    "transfer": TransferConfig,
    "retrieval": RetrievalConfig,
    "cluster": ClusterConfig,
    "ensemble": EnsembleConfig,
}


class Subject(NamedTuple):
    """What is evaluated.

    Attributes:
        features: "untrained", "supervised", "raw poses", or the name of a pretrained encoder.
        encoder: None for raw poses.
        stream: joint, motion or bone; empty for raw poses.
        own: the outcome of its own classifier, where it was trained with labels.
        run_seed: of the pretraining run, or of what was drawn in its place.
    """

    features: str
    encoder: SkeletonEncoder | None
    stream: str
    own: Outcome | None = None
    run_seed: int | None = None


def baselines(
    problem: Problem,
    loaded: LoadedEncoder,
    config: Any,
    scratch: FinetuneConfig,
    *,
    say: Say,
    seen: set[tuple[Any, ...]] | None = None,
) -> Iterator[Subject]:
    """What a pretrained encoder has to beat, on the same data and stream.

    The same encoder untrained, with the weights that the run's seed gives; the same encoder trained
    from scratch with all training labels (each draw's labels, for semi); the raw poses.

    Args:
        problem: the data.
        loaded: the pretrained encoder.
        config: of the protocol.
        scratch: recipe of training from scratch; finetune and semi use their own.
        say: told what takes a while.
        seen: what there was for other checkpoints; it is not made again, and new ones are added.
    """
    model, stream = loaded.config["model"], loaded.stream
    seed = int(loaded.config.get("seed", 0))
    seen = set() if seen is None else seen

    def new(features: str, *what: Any) -> bool:
        key = (features, problem.data.shape, *what)
        return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]

    about = (stream, seed, repr(sorted(model.items())))
    semi, tuned = isinstance(config, SemiConfig), isinstance(config, FinetuneConfig)
    if not tuned and not (semi and config.tune == "finetune") and new(UNTRAINED, *about):
        encoder = fresh_encoder(model, loaded.layout, seed=seed)
        yield Subject(UNTRAINED, encoder, stream, run_seed=seed)
    if new(SUPERVISED, *about):
        encoder = fresh_encoder(model, loaded.layout, seed=seed)
        own = None
        if not semi:  # there it is trained on each draw's labels alone
            recipe = from_scratch(config) if isinstance(config, FinetuneConfig) else scratch
            say(f"training from scratch, {stream} stream, {recipe.epochs} epochs ...")
            own, encoder = finetune(problem, encoder, stream, recipe, seed=seed)
        yield Subject(SUPERVISED, encoder, stream, own, seed)
    if not tuned and new(RAW):
        yield Subject(RAW, None, "")


def from_scratch(recipe: FinetuneConfig) -> FinetuneConfig:
    """Fine-tuning with the encoder at the classifier's learning rate."""
    return replace(recipe, lr_encoder=recipe.lr)


def evaluate(
    problem: Problem, subject: Subject, config: Any, *, seed: int, say: Say
) -> Iterator[Outcome]:
    """Evaluate one subject by the protocol that `config` belongs to.

    Raises:
        EvaluationError: a field of the configuration does not go with the data.
    """
    if isinstance(config, SemiConfig):
        yield from semi(problem, subject, config, seed=seed, say=say)
        return
    if isinstance(config, FinetuneConfig):
        yield subject.own or _finetuned(problem, subject, config, seed=seed, say=say)
        return
    features = problem.features(subject.encoder, subject.stream)
    if isinstance(config, KnnConfig):
        yield Outcome(*_knn(features, config.k, config.temperature))
    elif isinstance(config, LinearConfig):
        yield subject.own or linear(problem, features, subject, config, seed=seed)
    elif isinstance(config, RetrievalConfig):
        yield retrieve(features, config)
    elif isinstance(config, ClusterConfig):
        yield cluster(features, config, seed=seed)
    elif isinstance(config, TransferConfig):
        metrics, chosen = _knn(features, config.k, KnnConfig().temperature)
        parts = {"linear": linear(problem, features, subject, config.linear, seed=seed)}
        if subject.own:
            parts = {"supervised": subject.own}
        elif config.finetune and subject.encoder is not None:
            parts["finetune"] = _finetuned(problem, subject, config.tuning, seed=seed, say=say)
        details = chosen | {name: dict(part.details) for name, part in parts.items()}
        for name, part in parts.items():
            metrics |= {f"{name}_{metric}": value for metric, value in part.metrics.items()}
        yield Outcome(metrics, details)
    else:
        raise TypeError(f"no protocol takes a {type(config).__name__}")


def _knn(
    features: Features, ks: list[int], temperature: float
) -> tuple[dict[str, float], dict[str, Any]]:
    """Accuracy for each k and, with validation samples, for the k that they choose; and details."""
    if not ks or temperature <= 0:
        raise EvaluationError(f"k is {ks} and temperature {temperature}: one or more, and positive")
    try:
        found = knn_accuracies(*features[:4], ks, temperature=temperature)
        parts = [] if features.val is None else features.held_out([])
        held = [knn_accuracies(*part[:4], ks, temperature=temperature) for part in parts]
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    metrics, details = {f"knn_{k}": accuracy for k, accuracy in found.items()}, {}
    for by_k in held:
        k = max(by_k, key=by_k.__getitem__)  # of equals the first asked for
        metrics["knn_chosen"] = found[k]
        details = {"chosen_k": k, "k_chosen_on": VALIDATION, "validation_by_k": by_k}
    return metrics, details


def linear(
    problem: Problem, features: Features, subject: Subject, config: LinearConfig, *, seed: int
) -> Outcome:
    """Linear evaluation. The published learning rate was chosen for pretrained features; what they
    are compared with gets its best: standardised, at the rate that is best on training folds
    (or on validation samples).
    """
    rates = SWEEP
    if subject.features in (UNTRAINED, RAW):
        config, rates = replace(config, standardize=True, sweep=True), BASELINE_RATES
    folds = problem.folds() if config.sweep and features.val is None else None
    return linear_evaluation(features, config, seed=seed, folds=folds, sweep=rates)


def _finetuned(
    problem: Problem, subject: Subject, config: FinetuneConfig, *, seed: int, say: Say
) -> Outcome:
    if subject.encoder is None:
        raise EvaluationError("raw poses have no encoder to fine-tune")
    say(f"fine-tuning, {subject.features}, {subject.stream} stream, {config.epochs} epochs ...")
    outcome, _ = finetune(problem, subject.encoder, subject.stream, config, seed=seed)
    return outcome


def semi(
    problem: Problem, subject: Subject, config: SemiConfig, *, seed: int, say: Say
) -> Iterator[Outcome]:
    """An outcome for each amount of labels and each draw; seed, seed + 1, ... draw the subsets.

    A supervised subject is trained from scratch on the draw's labels. Untrained features and raw
    poses are standardised, with learning rates of `FEW_LABELS_LR`.

    Raises:
        EvaluationError: an amount or a way of tuning that does not exist.
    """
    if config.tune not in TUNES or config.draws < 1:
        raise EvaluationError(
            f"tune is {config.tune!r} and draws {config.draws}: one of {', '.join(TUNES)}, and "
            "at least 1"
        )
    labels = problem.labels[problem.train]
    amounts = {amount: per_class(amount, labels) for amount in config.labels}
    scratch = subject.features == SUPERVISED
    tuned = subject.encoder is not None and (scratch or config.tune == "finetune")
    recipe = from_scratch(config.finetune) if scratch else config.finetune
    features = None if tuned else problem.features(subject.encoder, subject.stream)
    head = config.linear
    if subject.features in FEW_LABELS_LR:
        head = replace(head, standardize=True, lr=FEW_LABELS_LR[subject.features])
    for amount, count in amounts.items():
        for draw in range(config.draws):
            rows = draw_labelled(labels, count, seed=seed + draw)
            share = amount if str(amount).strip().endswith("%") else f"{amount} a class"
            setting = f"{share} ({len(rows)} labels)"  # a share is rounded to whole classes
            say(f"{subject.features}: {setting}, draw {draw + 1}/{config.draws} ...")
            if features is None:
                assert subject.encoder is not None
                outcome, _ = finetune(
                    problem, subject.encoder, subject.stream, recipe, seed=seed + draw, rows=rows
                )
            else:
                at = rows.to(features.train.device)
                few = features._replace(
                    train=features.train[at], train_labels=features.train_labels[at]
                )
                outcome = linear_evaluation(few, head, seed=seed + draw)
            details = {**outcome.details, "labels_per_class": count, "labels": len(rows)}
            yield replace(outcome, details=details, setting=setting, draw=draw)


_ENCODER = ("channels", "features", "embedding", "dropout", "temporal_kernel", "init")


def config_checksum(run: Mapping[str, Any], features: str, scratch: FinetuneConfig) -> str:
    """What tells encoders of different configurations apart, in eight hexadecimal digits.

    Args:
        run: configuration of the pretraining run; of baselines only the encoder and the frames
            count, so that methods share them.
        features: as in `Subject`.
        scratch: recipe of a supervised encoder.
    """
    data, model = run.get("data", {}), run.get("model", {})
    own: Any = {"frame_step": data.get("frame_step", 1)}
    if features in (UNTRAINED, SUPERVISED):
        own |= {name: model.get(name) for name in _ENCODER}
        own |= {"scratch": asdict(scratch)} if features == SUPERVISED else {}
    elif features != RAW:
        own = what_is_learned(run)
        own["data"] = {**own.get("data", {}), "store": PurePath(str(data.get("store", ""))).name}
        for name, group in (("seed", own), ("stream", own["data"])):
            group.pop(name, None)  # a column of its own
        if "max_skipped" in run:  # counted by 0.1.0, whose rows keep their checksums
            own["max_skipped"] = 5
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:8]


def differences(config: Any) -> str:
    """What a configuration changes from its defaults, as text; lists of k show in the metrics."""
    default = type(config)()

    def walk(own: Mapping[str, Any], plain: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in own.items():
            if isinstance(value, Mapping):
                yield from walk(value, plain[name], f"{prefix}{name}.")
            elif value != plain[name] and name not in ("k", "labels", "draws"):
                yield f"{prefix}{name}={value}"

    return ", ".join(walk(asdict(config), asdict(default), ""))
