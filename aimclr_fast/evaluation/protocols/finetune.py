"""Fine-tuning."""

from __future__ import annotations

from collections.abc import Callable

from aimclr_fast.evaluation.baselines import from_scratch
from aimclr_fast.evaluation.finetuning import FinetuneConfig, finetune
from aimclr_fast.evaluation.outcome import Outcome
from aimclr_fast.evaluation.representation import SUPERVISED, Outcomes, Representation
from aimclr_fast.evaluation.request import Request

SUMMARY = "encoder and classifier trained together"
Config = FinetuneConfig


def run(request: Request[FinetuneConfig]) -> Outcomes:
    """Fine-tune each encoder; beside it stands the same one trained from scratch."""
    config = request.config
    request.refuse_frozen("fine-tuning")
    for representation in request.representations(
        kinds=(SUPERVISED,), scratch=from_scratch(config)
    ):
        yield (
            representation,
            representation.own
            or tune(representation, config, seed=request.options.seed, say=request.report.say),
        )


def tune(
    representation: Representation,
    config: FinetuneConfig,
    *,
    seed: int,
    say: Callable[[str], None],
) -> Outcome:
    """Fine-tune a copy of the representation's encoder."""
    assert representation.encoder is not None  # raw poses are never asked for
    stream = representation.stream
    say(f"fine-tuning, {representation.name}, {stream} stream, {config.epochs} epochs ...")
    outcome, _ = finetune(representation.data, representation.encoder, stream, config, seed=seed)
    return outcome
