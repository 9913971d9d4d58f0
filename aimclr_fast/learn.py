"""``python -m aimclr_fast.learn STORE LABELS``: a classifier from a few labels."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._files import check_folder, written_whole
from .cli import Parser, UserError, run
from .encoder_cli import add_encoder_flags, note_preparation, open_encoder

if TYPE_CHECKING:
    from .data import Store
    from .inference.encoder import Encoder

PROGRAM = "python -m aimclr_fast.learn"
_FOLDS = 5


def parser() -> Parser:
    command = Parser(
        prog=PROGRAM,
        usage="%(prog)s STORE LABELS --encoder ENCODER --out FILE.safetensors [options]",
        description="Train a classifier of an encoder's features from a csv of labels, and write "
        "encoder and classifier to one file, which classify and load_encoder take.",
    )
    add = command.add_argument
    add("store", type=str, help="folder of a store, prepared like the encoder's training data")
    add("labels", type=str, help="csv with the columns name and label, of any of its sequences")
    add_encoder_flags(command, "pool")
    add("--out", type=str, required=True, help="file to write; ends in .safetensors")
    add("--finetune", action="store_true", help="train the encoder as well, with the classifier")
    add("--epochs", type=int, default=30, help="of --finetune")
    add("--seed", type=int, default=0, help="of --finetune")
    add("--overwrite", action="store_true", help="replace a file that is there")
    return command


def main(arguments: list[str]) -> None:
    given = parser().parse_args(arguments)
    out = Path(given.out)
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: must end in .safetensors")
    if out.exists() and not given.overwrite:
        raise UserError(f"{out}: exists already (--overwrite replaces it)")
    if not 1 <= given.epochs <= 10_000:
        raise UserError(f"--epochs {given.epochs}: must be from 1 to 10000")
    check_folder(out.parent)
    from .data import resolve_store
    from .inference.loading import write_safetensors

    store = resolve_store(given.store)
    rows, labels, classes = _labeled(store, Path(given.labels))
    encoder = open_encoder(given.encoder, stream=given.stream, pool=given.pool, device=given.device)
    note_preparation(store, encoder)
    try:
        if store.layout != encoder.layout:
            raise ValueError(
                f"{store.path} has layout {store.layout.name}, the encoder {encoder.layout.name}: "
                "prepare ... --to brings one to the other"
            )
        groups = _groups(store, rows)
        if given.finetune:
            encoder = _finetuned(encoder, store, rows, labels, classes, groups, given)
        else:
            encoder = _frozen(encoder, store, rows, labels, classes, groups)
    except ValueError as error:
        raise UserError(str(error)) from error
    with written_whole(out) as temporary:
        write_safetensors(encoder.model, temporary)
    print(
        f"saved: {out} ({len(classes)} classes; python -m aimclr_fast.classify RECORDING "
        f"--encoder {out})"
    )


def _labeled(
    store: Store, file: Path
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """Rows of the store that have labels, their classes, and the classes' names."""
    from .data.readers import labels_of

    names = store.samples["name"].tolist()
    found, kept = labels_of(file, names)
    rows_without = len(names) - len(kept)
    for note in found.notes:
        print(note)
    for problem in found.problems:
        if "has no row" not in problem.reason:
            print(f"left out: {problem.where}: {problem.reason}")
    if not kept:
        raise UserError(f"{file}: none of its rows names a sequence of {store.path}")
    texts = [found.rows[names[row]]["label"] for row in kept]
    own = sorted(set(texts))
    if len(own) < 2:
        raise UserError(f"{file}: a classifier needs labels of two classes or more, got {own[0]}")
    place = {label: index for index, label in enumerate(own)}
    classes = [found.classes[int(label)] if found.classes else str(label) for label in own]
    count = Counter(texts)
    shown = ", ".join(f"{name} {count[label]}" for name, label in zip(classes, own, strict=True))
    print(f"{len(kept):,} labels, {rows_without:,} sequences without; {shown}")
    few = [name for name, label in zip(classes, own, strict=True) if count[label] < _FOLDS]
    if few:
        print(
            f"warning: fewer labels than the {_FOLDS} folds of cross-validation: "
            f"{', '.join(few)}; what is measured of these classes means little"
        )
    return (
        np.array(kept, np.int64),
        np.array([place[label] for label in texts], np.int64),
        classes,
    )


def _groups(store: Store, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.str_] | None:
    """What folds must not cut through."""
    from .evaluation.labeled_data import training_groups

    found = training_groups(store.samples, rows)
    if found is None:
        return None
    name, values = found
    print(f"folds part the values of {name}")
    return values.astype(np.str_)


def _frozen(
    encoder: Encoder,
    store: Store,
    rows: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    classes: list[str],
    groups: npt.NDArray[np.str_] | None,
) -> Encoder:
    from .evaluation.few_labels import learn_classifier

    x = store.as_tensor(rows).permute(0, 4, 2, 3, 1)
    found = learn_classifier(encoder(x, preprocessed=True, batch_size=256), labels, groups)
    if found.accuracy is None or found.error is None or found.error_before is None:
        print("too few labels for cross-validation: nothing is known of how good it is")
    else:
        before = (
            ""
            if found.temperature == 1
            else f", {found.error_before:.1%} before probabilities got their temperature of "
            f"{found.temperature:.2f}"
        )
        print(
            f"cross-validation, {found.folds} folds: accuracy {found.accuracy:.1%}; expected "
            f"calibration error (ECE) {found.error:.1%}{before}"
        )
    return encoder.with_classifier(found.weight, found.bias, classes)


def _finetuned(
    encoder: Encoder,
    store: Store,
    rows: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    classes: list[str],
    groups: npt.NDArray[np.str_] | None,
    given: Any,
) -> Encoder:
    """Encoder and classifier, trained on all labels; how good that is, is measured on a fold."""
    import torch

    from .evaluation.few_labels import calibration_error, softmax
    from .evaluation.finetuning import FinetuneConfig, finetune
    from .evaluation.labeled_data import LabeledData, training_folds
    from .inference.encoder import EmbeddingModel, Encoder
    from .nn.readouts import PUBLISHED

    traits = encoder.traits
    if traits.pool != PUBLISHED or len(traits.streams) > 1:
        raise ValueError("--finetune is of one stream and the published readout, mean")
    everything = torch.arange(len(rows))
    data = LabeledData(
        store.as_tensor(rows)[:, :, :: traits.frame_step],
        torch.from_numpy(labels),
        everything,
        everything,
        tuple(classes),
        store.layout,
        np.arange(len(rows)),
        encoder.device,
    )
    recipe = FinetuneConfig(epochs=given.epochs, test_every=given.epochs)
    own = encoder.model.encoder
    folds = training_folds(labels, groups)
    if folds:
        fit, held = folds[0]
        outcome, _ = finetune(
            replace(data, train=fit, test=held), own, traits.stream, recipe, seed=given.seed
        )
        assert outcome.logits is not None
        logits, truth = outcome.logits.double().cpu().numpy(), labels[held.numpy()]
        accuracy = float((logits.argmax(1) == truth).mean())
        print(
            f"held out, {len(held):,} samples of one fold: accuracy {accuracy:.1%}; expected "
            f"calibration error (ECE) {calibration_error(softmax(logits), truth):.1%}"
        )
    else:
        print("too few labels to hold some out: nothing is known of how good it is")
    _, tuned = finetune(data, own, traits.stream, recipe, seed=given.seed)
    made = EmbeddingModel(tuned, replace(traits, class_names=tuple(classes)), [])
    return Encoder(made, encoder.device)


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])
