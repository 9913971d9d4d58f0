"""A store as if each subject had been filmed by a camera of its own, and nobody had aligned these.

    python scripts/unalign_store.py stores/kard                # writes stores/kard_unaligned

The cameras stand in a circle, evenly: the first subject's sequences are turned about y by 0
degrees, the next one's by 360 / n more, and so on. Where odd subjects train and even ones test, no
test camera is one of the training's. The new folder holds a meta.json alone (docs/prepare.md).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from aimclr_fast._files import written_whole
from aimclr_fast.data import StoreError, open_store
from aimclr_fast.data.store import META, VERSION
from aimclr_fast.data.turned import POSITIONS_OF, TURNED


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--column", default="subject", help="of samples.csv (%(default)s)")
    options = parser.parse_args()

    try:
        store = open_store(options.store)
    except StoreError as error:
        parser.error(str(error))
    if POSITIONS_OF in store.meta:
        parser.error(f"{options.store} is another store, turned: name {store.meta[POSITIONS_OF]}")
    if options.column not in store.samples:
        parser.error(f"{options.store} has no column {options.column}: {', '.join(store.samples)}")
    values = np.unique(store.samples[options.column]).tolist()
    degrees = {str(value): round(360 * i / len(values), 2) for i, value in enumerate(values)}
    out = options.store.with_name(f"{options.store.name}_unaligned")
    if out.exists() and [file.name for file in out.iterdir()] != [META]:
        parser.error(f"{out} is there already")
    out.mkdir(exist_ok=True)
    about = {
        "version": VERSION,
        POSITIONS_OF: options.store.name,
        TURNED: {"column": options.column, "degrees": degrees},
    }
    with written_whole(out / META) as temporary:
        temporary.write_text(json.dumps(about, indent=1))
    open_store(out)
    print(f"{out}: {len(values)} cameras by {options.column}")


if __name__ == "__main__":
    main()
