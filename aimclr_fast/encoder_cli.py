"""What the commands that use an encoder share: its flags, and recordings as its sequences."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .cli import Parser, UserError

if TYPE_CHECKING:
    from .data import Store
    from .inference.encoder import Encoder
    from .inference.recordings import Parts

_ALSO = {
    "head": "its classifier, of `evaluate linear`",
    "pool": "readout, such as mean+max; see load_encoder",
}


def add_encoder_flags(command: Parser, *also: str) -> None:
    """Add --encoder, --stream and --device, and those of --head and --pool that are named."""
    add = command.add_argument
    add(
        "--encoder",
        type=str,
        required=True,
        help="a checkpoint, an exported encoder, or ui_prmd, which comes with the package",
    )
    for name in also:
        add(f"--{name}", type=str, default=None, help=_ALSO[name])
    add("--stream", type=str, default=None, help="which one, of a checkpoint with several")
    add("--device", type=str, default="auto", help="cpu, cuda, cuda:N or auto")


def open_encoder(name: str, **options: Any) -> Encoder:
    """`load_encoder`, for a user.

    Raises:
        UserError: it refuses the file or an option.
    """
    from .inference.loading import load_encoder

    try:
        return load_encoder(name, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def add_recording_flags(command: Parser) -> None:
    """Add --format and the flags of `prepare` that say how recordings are to be understood."""
    from .prepare import add_source_flags

    command.add_argument(
        "--format", type=str, default="folder", help="a DATASET of prepare; folder finds it"
    )
    add_source_flags(command)


def recording_options(given: Any) -> dict[str, Any]:
    """What `add_recording_flags` was given, for `read_recording`.

    Raises:
        UserError: a flag has a value that it does not take.
    """
    from .prepare import source_options, source_timing

    return {
        "reader": given.format,
        "options": source_options(given),
        "timing": source_timing(given),
    }


def read_recording(
    source: str, encoder: Encoder, said: set[str], **options: Any
) -> tuple[Parts, npt.NDArray[np.float32]]:
    """Recordings as an encoder takes them, [N, M, T, V, 3], and what each is; prints how they were
    understood, if that was not `said` before, and what was left out.

    Args:
        source: a file, folder or zip file.
        encoder: which must know how its training data were preprocessed.
        said: notes that were printed; grows.
        options: of `inference.recordings.read_parts`.

    Raises:
        UserError: as `read_parts`.
    """
    from .inference.recordings import read_parts

    with tempfile.TemporaryDirectory() as scratch:
        try:
            parts = read_parts(Path(source), encoder, Path(scratch) / "work", **options)
        except ValueError as error:
            raise UserError(str(error)) from error
        for note in parts.notes:
            if note not in said:
                print(note)
        said.update(parts.notes)
        for problem in parts.left_out:
            print(f"left out: {problem.where}: {problem.reason}")
        return parts, parts.sequences(encoder)


def note_preparation(store: Store, encoder: Encoder) -> None:
    """Say how a store was prepared otherwise than the encoder's training data, if it was."""
    own, trained = store.preprocessing, encoder.traits.preprocessing
    if own == trained or trained is None:
        return
    if own is None:
        differ = ["how is not known"]
    else:
        differ = [
            f"{name} {vars(own)[name]}, not {value}"
            for name, value in vars(trained).items()
            if vars(own)[name] != value
        ]
    print(
        f"note: {store.path} was prepared otherwise than the encoder's training data "
        f"({'; '.join(differ)}): expect worse answers"
    )
