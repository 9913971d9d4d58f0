"""``python -m aimclr_fast.search STORE RECORDING``: the sequences that are most like it."""

from __future__ import annotations

if __name__ == "__main__":  # before torch is imported
    from ._openmp import wait_briefly

    wait_briefly()

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._console import plain_console
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
    from .data import Store
    from .inference.encoder import Encoder
    from .inference.index import FeatureIndex

PROGRAM = "python -m aimclr_fast.search"
COLUMNS = ("query", "rank", "name", "label", "distance")
_QUERIES = 12  # that a page shows


def parser() -> Parser:
    command = Parser(
        prog=PROGRAM,
        usage="%(prog)s STORE RECORDING --encoder ENCODER [options]",
        description="Find the sequences of a store that are most like a recording, by the cosine "
        "of their features. Writes neighbors.csv and neighbors.html.",
    )
    add = command.add_argument
    add("store", type=str, help="folder of a store, or an embedded data set")
    add("recording", type=str, help="a file, folder or zip file of any format that prepare reads")
    add_encoder_flags(command, "pool")
    add("--k", type=int, default=None, help="neighbors of each query; default: 5, or all")
    add("--out", type=str, default="neighbors", help="folder to write to")
    add(
        "--index",
        type=str,
        default=None,
        help=".npy file of the store's features: used if it is there, else made; default: in --out",
    )
    add_recording_flags(command)
    return command


def main(arguments: list[str]) -> None:
    given = parser().parse_args(arguments)
    options = recording_options(given)
    out = Path(given.out)
    index_file = Path(given.index) if given.index else out / "index.npy"
    if index_file.suffix != ".npy":
        raise UserError(f"--index {index_file}: must end in .npy")
    check_folder(out)
    from .data import resolve_store

    store = resolve_store(given.store)
    k = min(5, len(store)) if given.k is None else given.k
    if not 1 <= k <= len(store):
        raise UserError(f"--k {k}: must be from 1 to {len(store)}, the store's sequences")
    encoder = open_encoder(given.encoder, stream=given.stream, pool=given.pool, device=given.device)
    parts, sequences = read_recording(given.recording, encoder, set(), **options)
    names = [part.title for part in parts.each]
    note_preparation(store, encoder)
    index = _index(index_file, store, encoder, given.encoder, named=given.index is not None)
    distances, rows = index.nearest(encoder(sequences, preprocessed=True), k)
    found = [
        (query, rank, row, distance)
        for query in range(len(names))
        for rank, (row, distance) in enumerate(
            zip(rows[query].tolist(), distances[query].tolist(), strict=True), start=1
        )
    ]
    _write(out, store, encoder, names, sequences, found)
    for query, rank, row, distance in found[: 4 * k]:
        print(f"{names[query]} {rank}: {store.title_of(row)} ({distance:.3f})")
    if len(found) > 4 * k:
        print(f"... and {len(names) - 4:,} more queries")
    print(f"saved: {out / 'neighbors.csv'} and neighbors.html")


def _index(file: Path, store: Store, encoder: Encoder, name: str, named: bool) -> FeatureIndex:
    """The features of a store; of one whose file the user did not name, what is there is replaced
    if it is of others.
    """
    from .data.store import sha256
    from .inference.index import IndexFileError, make_index, open_index
    from .inference.pretrained import pretrained_file

    checksum = sha256(pretrained_file(name) or Path(name))
    console = plain_console()
    if file.exists():
        try:
            return open_index(file, store, encoder, encoder_sha256=checksum)
        except IndexFileError as error:
            if named:
                raise
            console.print(f"made anew: {error}", soft_wrap=True)
    console.print(f"encoding {len(store):,} sequences into {file} ...", soft_wrap=True)
    try:
        return make_index(store, encoder, file, encoder_sha256=checksum)
    except ValueError as error:
        raise UserError(str(error)) from error


def _write(
    out: Path,
    store: Store,
    encoder: Encoder,
    names: list[str],
    sequences: Any,
    found: list[tuple[int, int, int, float]],
) -> None:
    from .data.inspection import bone_sides
    from .pages import Clip, pack_clip, pack_skeleton, write_page

    with (
        written_whole(out / "neighbors.csv") as file,
        file.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for query, rank, row, distance in found:
            name = str(store.samples["name"][row])
            writer.writerow((names[query], rank, name, store.label_of(row), f"{distance:.6g}"))
    clips = []
    for query, rank, row, distance in found:
        if query >= _QUERIES:
            break
        if rank == 1:
            clips.append(pack_clip(Clip(names[query], sequences[query].transpose(3, 1, 2, 0))))
        title = f"neighbor {rank} ({distance:.3f}), {store.title_of(row)}"
        clips.append(pack_clip(Clip(title, store.as_tensor(row).numpy())))
    write_page(
        out / "neighbors.html",
        title=f"Neighbors in {store.path.name}",
        data={
            "clips": clips,
            "skeleton": pack_skeleton(encoder.layout, bone_sides(encoder.layout)),
        },
        body='<div id="player"></div>',
        scripts=["player"],
    )


def command_line(arguments: list[str]) -> None:
    run(PROGRAM, main, arguments)


if __name__ == "__main__":
    command_line(sys.argv[1:])
