"""``python -m aimclr_fast.classify RECORDING...``: what people do in recordings, and when."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import Error
from ._files import check_folder, written_whole
from .cli import Parser, UserError, run
from .encoder_cli import (
    add_encoder_flags,
    add_recording_flags,
    note_preparation,
    open_encoder,
    read_recording,
    recording_options,
)

if TYPE_CHECKING:
    from .inference.encoder import Encoder
    from .inference.importance import Importance
    from .inference.known import Known
    from .inference.recordings import Parts

PROGRAM = "python -m aimclr_fast.classify"
_CLIPS = 60  # of a page
_SHOWN = 20  # rows that are printed


@dataclass(frozen=True)
class Answer:
    """What was found of a part of a recording; the columns of answers.csv.

    Attributes:
        recording: its name.
        person: from 1, where there are several; else 0.
        start, end: seconds, or empty where the recording was taken whole.
        label: the likeliest class; of the nearest training sequence where there is no classifier.
        probability: of the class, or None without a classifier.
        nearest: the training sequence whose features are nearest.
        distance: to it, 1 - cosine.
        unknown: whether it is further than new sequences like those of training are; None if that
            was not asked.
        still: whether nobody moves, so that a label of an action says little.
        because: the body part and time that mattered most for the label, if that was asked and any
            mattered.
    """

    recording: str
    person: int
    start: float | None
    end: float | None
    label: str
    probability: float | None
    nearest: str
    distance: float | None
    unknown: bool | None
    still: bool
    because: str = ""


def parser() -> Parser:
    command = Parser(
        prog=PROGRAM,
        usage="%(prog)s RECORDING... --encoder ENCODER [options]",
        description="Say what people do in recordings of any format that prepare reads: for each "
        "window, or whole recording, and person. An encoder that was trained on several bodies "
        "gives one answer for all people of a recording. Writes answers.csv, answers.json and "
        "timeline.html.",
    )
    add = command.add_argument
    add("recordings", type=str, nargs="+", help="files, folders or zip files")
    add_encoder_flags(command, "head")
    add("--out", type=str, default="answers", help="folder to write to")
    add(
        "--known",
        type=str,
        default="auto",
        help="store of the training sequences, for the nearest one and --unknown; auto: the one "
        "that the encoder was trained on, where it is; none",
    )
    add("--split", type=str, default=None, help="which of its samples trained; default: as it was")
    add(
        "--unknown",
        type=float,
        default=None,
        help="mark what is unlike all that was learned: the share of new sequences of the learned "
        "kind that may be marked, such as 0.05",
    )
    add(
        "--why",
        action="store_true",
        help="find the body part and time that mattered most for each answer, by holding each part "
        "still for a while; the page draws it",
    )
    add_recording_flags(command)
    return command


def main(arguments: list[str]) -> None:
    given = parser().parse_args(arguments)
    options = recording_options(given)
    out = Path(given.out)
    check_folder(out)
    encoder = open_encoder(given.encoder, head=given.head, stream=given.stream, device=given.device)
    known = _known(given, encoder)
    threshold = None
    if given.unknown is not None:
        if known is None:
            raise UserError(
                "--unknown: needs the training sequences: name their store with --known"
            )
        try:
            threshold = known.threshold(given.unknown)
        except ValueError as error:
            raise UserError(f"--unknown {given.unknown:g}: {error}") from error
        print(
            f"unknown: a cosine distance of more than {threshold:.3g} to every training sequence, "
            f"which {100 * given.unknown:.3g}% of new ones like them exceed"
        )
    from .inference.importance import explain

    answers: list[Answer] = []
    said: set[str] = set()
    shown: list[Any] = []  # the motion of the first answers
    refused: list[Error] = []
    for recording in given.recordings:
        try:
            parts, sequences = read_recording(recording, encoder, said, **options)
        except Error as error:  # the other recordings have answers all the same
            refused.append(error)
            if len(given.recordings) > 1:
                print(f"left out: {error}")
            continue
        found = _answers(parts, sequences, encoder, known, threshold)
        if {one.recording for one in found} & {one.recording for one in answers}:
            place = Path(recording)  # files of one name in several folders
            found = [
                replace(one, recording=str(place if place.is_file() else place / one.recording))
                for one in found
            ]
        weights: list[Any] = [None] * len(found)
        if given.why:
            reasons = [explain(encoder, one) for one in sequences]
            found = [
                replace(a, because=_because(a, r)) for a, r in zip(found, reasons, strict=True)
            ]
            weights = [one.of_joints(encoder.layout.num_joints) for one in reasons]
        answers += found
        shown += list(zip(sequences, weights, strict=True))[: _CLIPS - len(shown)]
    if refused and not answers:
        raise refused[0]
    _write(out, answers, shown, encoder)
    for answer in answers[:_SHOWN]:
        print(_line(answer))
    if len(answers) > _SHOWN:
        print(f"... and {len(answers) - _SHOWN:,} more")
    for note in _notes(answers, encoder):
        print(note)
    print(f"saved: {out / 'answers.csv'}, answers.json and timeline.html")


def _known(given: Any, encoder: Encoder) -> Known | None:
    """The training sequences, where they are to be had."""
    from .data import StoreError, resolve_store
    from .inference.known import learn
    from .inference.pretrained import training_store

    if given.known == "none":
        return None
    split = None
    if given.known != "auto":
        store = resolve_store(given.known)
    else:
        try:
            store, split = training_store(given.encoder)
        except StoreError as error:
            print(f"no nearest sequences (--known names their store): {error}")
            return None
    note_preparation(store, encoder)
    try:
        # Of a store that the user names, every sample is known.
        return learn(encoder, store, given.split or split or "all")
    except ValueError as error:
        raise UserError(f"--known {store.path.name}: {error}") from error


def _answers(
    parts: Parts, x: Any, encoder: Encoder, known: Known | None, threshold: float | None
) -> list[Answer]:
    if encoder.class_names:
        found = encoder.classify(x, preprocessed=True)
        features, likely = found.features, found.probabilities.max(1).values.tolist()
        labels = found.names
    else:
        features, likely, labels = encoder(x, preprocessed=True), [None] * len(x), [""] * len(x)
    answers = [
        Answer(
            recording=part.recording,
            person=part.person,
            start=part.start,
            end=part.end,
            label=label,
            probability=None if probability is None else round(probability, 6),
            nearest="",
            distance=None,
            unknown=None,
            still=part.still,
        )
        for part, label, probability in zip(parts.each, labels, likely, strict=True)
    ]
    if known is None:
        return answers
    rows, distances = known.nearest(features)
    return [
        replace(
            answer,
            label=answer.label or (known.classes[row] if known.classes else ""),
            nearest=known.names[row],
            distance=round(distance, 6),
            unknown=None if threshold is None else distance > threshold,
        )
        for answer, row, distance in zip(answers, rows.tolist(), distances.tolist(), strict=True)
    ]


def _notes(answers: Sequence[Answer], encoder: Encoder) -> list[str]:
    """What to know of the labels."""
    notes = []
    if not encoder.class_names:
        labels = "labels: those of the nearest training sequences"
        if not any(answer.label for answer in answers):
            labels = "no labels"
        notes.append(
            f"{labels}, since the encoder has no classifier: --head takes one of evaluate linear, "
            "and python -m aimclr_fast.learn makes one from a few labels"
        )
    if still := sum(answer.still for answer in answers):
        notes.append(
            f"still: nobody moves in {still:,} of {len(answers):,} answers, whose labels say little"
        )
    return notes


def _line(answer: Answer) -> str:
    from .inference.recordings import title

    what = title(answer.recording, answer.person, answer.start, answer.end)
    # How likely a class is says nothing of a motion that is unlike all of them.
    sure = "" if answer.probability is None or answer.unknown else f" {answer.probability:.0%}"
    odd = "".join(f" ({word})" for word in ("unknown", "still") if getattr(answer, word))
    near = f", nearest {answer.nearest} ({answer.distance:.3f})" if answer.nearest else ""
    why = f", because of {answer.because}" if answer.because else ""
    return f"{what}: {answer.label or '?'}{sure}{odd}{near}{why}"


def _because(answer: Answer, found: Importance) -> str:
    """The part and time that mattered most, in seconds or, of a whole recording, in percent; empty
    if none did.
    """
    if found.most is None:
        return ""
    part, window = found.most
    first, last = (found.ends[window + i] / found.ends[-1] for i in (0, 1))
    if answer.start is None or answer.end is None:
        return f"{part}, {first:.0%} to {last:.0%}"
    seconds = answer.end - answer.start
    return f"{part}, {answer.start + first * seconds:g}-{answer.start + last * seconds:g} s"


def _write(out: Path, answers: Sequence[Answer], shown: Sequence[Any], encoder: Encoder) -> None:
    from .data.inspection import bone_sides
    from .pages import Clip, pack_clip, pack_skeleton, write_page

    rows = [vars(answer) for answer in answers]
    with (
        written_whole(out / "answers.csv") as file,
        file.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, list(Answer.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: "" if value is None else value for name, value in row.items()} for row in rows
        )
    with written_whole(out / "answers.json") as file:
        file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    clips = [
        pack_clip(Clip(_line(answer), sequence.transpose(3, 1, 2, 0), weights))
        for answer, (sequence, weights) in zip(answers, shown, strict=False)
    ]
    skeleton = pack_skeleton(encoder.layout, bone_sides(encoder.layout))
    recordings = len({answer.recording for answer in answers})
    write_page(
        out / "timeline.html",
        title=f"{len(answers):,} answers for {recordings:,} recording{'s' * (recordings != 1)}",
        data={"answers": rows, "clips": clips, "skeleton": skeleton},
        body='<div id="timeline"></div>\n<div id="player"></div>',
        scripts=["timeline", "player"],
    )


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])
