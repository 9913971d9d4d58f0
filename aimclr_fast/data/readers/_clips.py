"""Sequences of pose estimators' JSON: one file a frame, or one a video.

Files of one folder and one name before the number are a sequence, if each holds a frame. A file of
a video is a list of frames, an object with such a list under ``frames``, ``results`` or ``data``,
an object with a frame for each number or image, or JSON lines with a frame in each. Frames may have
a number or a time. Numbers that are skipped are frames without a body, unless all go in steps.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from aimclr_fast._errors import Error
from aimclr_fast._files import printable
from aimclr_fast.data.readers._base import MAX_FRAMES, Problem, ReadError, composed
from aimclr_fast.data.readers._counting import check_places, frame_places, rate_of, time_places
from aimclr_fast.data.readers._files import Entry, Listing
from aimclr_fast.data.readers._labels import Named, name_sequences

Frame = TypeVar("Frame")
#: Endings of JSON files; the last two hold a value in each line.
JSON = (".json", ".jsonl", ".ndjson")
#: Larger files are not read: what JSON becomes in memory is many times as large.
_LIMIT = 128 << 20
_LISTS = ("frames", "results", "data")
_KEY = re.compile(r"(?:frame[ _-]?)?(\d{1,15})(?:\.\w+)?", re.IGNORECASE)
_NUMBERS = ("frame", "frameid", "framenumber", "frameindex", "frameidx", "framenum", "frameno")
#: Seconds of a unit of the times of frames; None where the numbers have to tell.
_TIMES = {
    "timestampms": 1e-3, "timems": 1e-3, "timestampus": 1e-6, "timestamps": 1.0, "times": 1.0,
    "timesec": 1.0, "timestampsec": 1.0, "timestamp": None, "time": None,
}  # fmt: skip
#: What tells the frame of a record: its number, or else its time.
FRAME_KEYS = (*_NUMBERS, *_TIMES)
_RATES = ("fps", "framerate", "videofps")
_SIDES = (("width", "height"), ("imagewidth", "imageheight"), ("framewidth", "frameheight"),
          ("videowidth", "videoheight"))  # fmt: skip


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
    clips_in.update("/".join(entry.folders) for entry in whole)
    clips, named = [], []
    for (folder, clip), files in groups.items():
        below = folder.removeprefix(listing.base).strip("/") or folder.rpartition("/")[2]
        parts = (below,) if below and clips_in[folder] == 1 else (below, clip)
        file = files[0][1].file
        around = file.stem if files[0][1].member else file.resolve().parent.name
        name = "/".join(filter(None, parts)) or around
        clips.append(_clip(composed(printable(name)), files, listing))
        named.append(Named(clips[-1].name, shown=clips[-1].shown))
    rest = Listing(sorted(whole, key=lambda e: (e.path, e.file, e.inner)), base=listing.base)
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


@dataclass
class Frames:
    """The frames of a clip.

    Attributes:
        places: of each frame, from 0.
        wheres: how messages name each.
        load: what each file or list holds, read when it is called.
        of_list: whether they are those of one file.
        rate: frames per second, where it is said.
        aspect: width / height of the image, where they are said.
    """

    places: list[int]
    wheres: list[str]
    load: list[Callable[[], Any]]
    of_list: bool = True
    rate: float | None = None
    aspect: float | None = None

    def parsed(self, parse: Callable[[Any], Frame]) -> list[Frame]:
        """Each frame, as ``parse`` understands it.

        Raises:
            ReadError: by ``parse``, or the numbers skip far more frames than there are.
        """
        what = "frames of the list" if self.of_list else "files"
        check_places(np.array(self.places), self.wheres[0], f"{what}: renumber them")
        found = []
        for number, (where, load) in enumerate(zip(self.wheres, self.load, strict=True)):
            try:
                found.append(parse(load()))
            except FormError as error:
                reason = f"frame {number}: {error}" if self.of_list else str(error)
                raise ReadError(where, reason) from error
        return found


class FormError(Error, ValueError):
    """What a frame holds is not as expected; says how."""


def holds_frames(data: Any, is_frame: Callable[[Any], bool]) -> bool:
    """Whether what a file holds is a list of frames in one of the forms above.

    Args:
        data: of a JSON file.
        is_frame: whether something is a frame.
    """
    if is_frame(data):
        return False
    return isinstance(data, list) or _inside(data) is not None or bool(_by_number(data))


def frames_of(
    clip: Clip, is_frame: Callable[[Any], bool], regroup: Callable[[Any], Any] = lambda data: data
) -> Frames:
    """The frames of a clip.

    Args:
        clip: from :func:`group_clips`.
        is_frame: whether something is a frame.
        regroup: what the one file of a clip holds, in another form; may raise FormError.

    Raises:
        ReadError: a file of a video cannot be read, or its numbers or times do not rise.
    """
    if clip.frames:
        load = [functools.partial(load_json, entry) for entry in clip.entries]
        shown = [entry.shown for entry in clip.entries]
        return Frames(list(clip.frames), shown, list(load), of_list=False)
    where = clip.shown
    try:
        data = regroup(load_json(clip.entries[0]))
    except FormError as error:
        raise ReadError(where, str(error)) from error
    numbers: list[int] = []
    if not holds_frames(data, is_frame):
        frames = [data]
    elif isinstance(data, list):
        frames = data
    else:
        pairs = _by_number(data)
        numbers = [number for _, number in pairs]
        frames = _inside(data) or [data[key] for key, _ in pairs]
    if not frames:
        raise ReadError(where, "an empty list: no frames")
    if len(frames) > MAX_FRAMES:
        raise ReadError(where, f"{len(frames):,} frames; at most {MAX_FRAMES:,} are read")
    rate, numbers = _timing(frames, numbers, where)
    places = frame_places(np.array(numbers or range(len(frames)), dtype=np.int64)).tolist()
    fields = plain_fields(data)
    said = next((positive(fields[key]) for key in _RATES if key in fields), None)
    sides = next((pair for pair in _SIDES if set(pair) <= fields.keys()), ())
    width, height = [positive(fields[side]) for side in sides] or (None, None)
    return Frames(
        places,
        [where] * len(frames),
        [functools.partial(_same, frame) for frame in frames],
        rate=said or rate,
        aspect=width / height if width and height else None,
    )


def _same(frame: Any) -> Any:
    return frame


def plain_fields(data: Any) -> dict[str, Any]:
    """The fields of an object by their names in lower case, without underscores; none of others."""
    return {plain(key): value for key, value in data.items()} if isinstance(data, dict) else {}


def plain(key: Any) -> str:
    """A name in lower case, without blanks, hyphens and underscores."""
    return re.sub(r"[ _-]", "", str(key)).lower()


def positive(value: Any) -> float | None:
    """A number of a field that has to be one; None for all else."""
    return float(value) if isinstance(value, int | float) and 0 < value < 1e6 else None


def _inside(data: Any) -> list[Any] | None:
    fields = plain_fields(data)
    return next((fields[key] for key in _LISTS if isinstance(fields.get(key), list)), None)


def _by_number(data: Any) -> list[tuple[str, int]]:
    """The keys of an object that has a frame for each number, in order; none for others."""
    if not isinstance(data, dict):
        return []
    found = [(key, match) for key in data if (match := _KEY.fullmatch(key))]
    if len(found) < len(data):
        return []
    return sorted(((key, int(match[1])) for key, match in found), key=lambda one: one[1])


def _timing(
    frames: Sequence[Any], numbers: list[int], where: str
) -> tuple[float | None, list[int]]:
    """Frames per second and the number of each frame, where times or numbers tell.

    Raises:
        ReadError: they repeat or decrease.
    """
    fields = [plain_fields(frame) for frame in frames]
    key = next((key for key in _NUMBERS if all(type(of.get(key)) is int for of in fields)), None)
    if key is not None and not numbers:
        numbers = [of[key] for of in fields]
    if numbers and not all(0 <= number < 10**15 for number in numbers):
        raise ReadError(where, "a frame has a number that is negative or too large")
    _check_rising(np.diff(np.array(numbers, dtype=np.int64)), "frame numbers", where)
    times = next((t for t in _TIMES if all(_is_time(of.get(t)) for of in fields)), None)
    if times is None or len(frames) < 2:
        return None, numbers
    clock = np.array([of[times] for of in fields], dtype=np.float64)
    _check_rising(np.diff(clock), "times", where)
    if not numbers:
        places = time_places(clock)
        if places is None:
            places = np.rint((clock - clock[0]) / np.median(np.diff(clock))).astype(np.int64)
        numbers = places.tolist()
        numbers = numbers if len(set(numbers)) == len(numbers) else []
    return rate_of(clock, _TIMES[times]), numbers


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e18


def _check_rising(steps: npt.NDArray[Any], what: str, where: str) -> None:
    if len(steps) and (steps <= 0).any():
        place = int(np.flatnonzero(steps <= 0)[0]) + 1
        raise ReadError(where, f"{what} repeat or decrease, at frame {place} of the list")


def load_json(entry: Entry, limit: int = _LIMIT) -> Any:
    """What a JSON file holds; the list of its values if each line is one.

    Raises:
        ReadError: it is none, or larger than ``limit`` bytes.
    """
    data = entry.read(limit)
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and (lines := _json_lines(data, entry.shown)):
            return lines
        raise ReadError(entry.shown, f"not JSON: {error.msg}", error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise ReadError(entry.shown, f"not JSON: {error}") from error


def _json_lines(data: bytes, where: str) -> list[Any]:
    """The value of each line; none if the first line is none by itself."""
    found: list[Any] = []
    text = data.decode(json.detect_encoding(data))
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            found += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            if not found:
                return []
            raise ReadError(where, f"not JSON: {error}", number) from error
    return found
