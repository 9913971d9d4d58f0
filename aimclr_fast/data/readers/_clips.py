"""Sequences of pose estimators' files: one file a frame, or one a video.

Files of one folder and one name before the number are a sequence, if each holds a frame; numbers
that are skipped are frames without a body, unless all go in steps.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from aimclr_fast._files import printable
from aimclr_fast.data.readers._base import Problem, ReadError, composed
from aimclr_fast.data.readers._counting import check_places, frame_places
from aimclr_fast.data.readers._files import Entry, Listing
from aimclr_fast.data.readers._labels import Named, name_sequences

Frame = TypeVar("Frame")
#: Larger files are not read: what JSON becomes in memory is many times as large.
_LIMIT = 128 << 20


@dataclass(frozen=True)
class Clip:
    """The files of a sequence.

    Attributes:
        name: of the sequence.
        entries: its files.
        frames: the frame that each file is; none where the one file holds all frames.
    """

    name: str
    entries: tuple[Entry, ...]
    frames: tuple[int, ...] = ()

    @property
    def shown(self) -> str:
        """How messages name it: by its first file."""
        return self.entries[0].shown


def group_clips(
    listing: Listing, pattern: re.Pattern[str], is_frame: Callable[[Entry, int], bool]
) -> tuple[list[Clip], list[Named]]:
    """The sequences of a listing, and their names; repeated frames are added to what is left out.

    Args:
        listing: the files.
        pattern: names of files that hold one frame each, with the groups ``clip`` and ``frame``.
        is_frame: whether the first file of such a group does, told also how many files it has.
    """
    groups: dict[tuple[str, str], list[tuple[int, Entry]]] = {}
    whole = []
    for entry in listing.entries:
        match = pattern.fullmatch(entry.path.rpartition("/")[2])
        if match is None:
            whole.append(entry)
        else:
            place = ("/".join(entry.folders), match["clip"])
            groups.setdefault(place, []).append((int(match["frame"][-18:]), entry))
    for place, files in list(groups.items()):
        if not is_frame(files[0][1], len(files)):
            whole += [entry for _, entry in groups.pop(place)]
    clips_in = Counter(folder for folder, _ in groups)
    clips, named = [], []
    for (folder, clip), files in groups.items():
        below = folder.removeprefix(listing.base).strip("/") or folder.rpartition("/")[2]
        parts = (below,) if below and clips_in[folder] == 1 and not whole else (below, clip)
        name = "/".join(filter(None, parts)) or files[0][1].file.stem
        clips.append(_clip(composed(printable(name)), files, listing))
        named.append(Named(clips[-1].name, shown=clips[-1].shown))
    rest = Listing(sorted(whole, key=listing.entries.index), base=listing.base)
    for entry, one in zip(rest.entries, name_sequences(rest), strict=True):
        clips.append(Clip(one.name, (entry,)))
        named.append(one)
    order = sorted(range(len(clips)), key=lambda place: clips[place].name)
    return [clips[place] for place in order], [named[place] for place in order]


def _clip(name: str, files: list[tuple[int, Entry]], listing: Listing) -> Clip:
    kept: dict[int, Entry] = {}
    for frame, entry in files:
        other = kept.setdefault(frame, entry)
        if other is not entry:
            reason = f"is frame {frame} again, as {other.shown}"
            listing.left_out.append(Problem(entry.shown, reason))
    numbers = sorted(kept)
    places = frame_places(np.array(numbers, dtype=np.int64))
    return Clip(name, tuple(kept[n] for n in numbers), tuple(places.tolist()))


def numbered(clip: Clip, load: Callable[[Entry], Frame]) -> Iterator[tuple[int, Frame]]:
    """Each frame of a clip that has a file a frame, with its number.

    Raises:
        ReadError: the numbers skip far more frames than there are files.
    """
    check_places(np.array(clip.frames), clip.shown, "files: renumber them")
    for frame, entry in zip(clip.frames, clip.entries, strict=True):
        yield frame, load(entry)


def load_json(entry: Entry, limit: int = _LIMIT) -> Any:
    """What a JSON file holds.

    Raises:
        ReadError: it is none, or larger than ``limit`` bytes.
    """
    try:
        return json.loads(entry.read(limit))
    except json.JSONDecodeError as error:
        raise ReadError(entry.shown, f"not JSON: {error.msg}", error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise ReadError(entry.shown, f"not JSON: {error}") from error
