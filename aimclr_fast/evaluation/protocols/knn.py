"""k nearest neighbors on frozen features."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aimclr_fast.evaluation.knn import knn_accuracies
from aimclr_fast.evaluation.labeled_data import EvaluationError, Features
from aimclr_fast.evaluation.outcome import VALIDATION, Outcome
from aimclr_fast.evaluation.representation import Outcomes, Representation
from aimclr_fast.evaluation.request import Request

SUMMARY = "k-nearest-neighbor classification on frozen features"


@dataclass(frozen=True)
class Config:
    """k-nearest-neighbor classification under cosine.

    Attributes:
        k: numbers of neighbors that vote.
        temperature: softmax temperature of the votes: exp(similarity / temperature).
        scale: what is done to an encoder's features before, by the training features: none, center
            or standardize.
    """

    k: list[int] = field(default_factory=lambda: [1, 5, 20])
    temperature: float = 0.07
    scale: str = "none"


def run(request: Request[Config]) -> Outcomes:
    """Classify the test samples by their neighbors among the training samples."""
    for representation in request.representations():
        features = representation.features()
        scaled, setting = scaled_features(representation, features, request.config.scale)
        yield representation, replace(classify(scaled, request.config), setting=setting)


def scaled_features(
    representation: Representation, features: Features, scale: str
) -> tuple[Features, str]:
    """A representation's features, scaled where they are an encoder's, and the setting that says
    so; raw poses stay as they are.

    Raises:
        EvaluationError: no such scale.
    """
    if representation.encoder is None:
        return features, ""
    return features.scaled(scale), "" if scale == "none" else f"scale={scale}"


def classify(features: Features, config: Config) -> Outcome:
    """Accuracy for each k and, with validation samples, for the k that they choose.

    Raises:
        EvaluationError: no k, one beyond the training samples, or a temperature that is not
            positive.
    """
    ks, temperature = config.k, config.temperature
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
    return Outcome(metrics, details)
