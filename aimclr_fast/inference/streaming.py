"""Live motion: frames in, one after the other, and an answer for each window of each person."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aimclr_fast.data.duration import Duration, clearly_other

from .encoder import Encoder
from .windows import MOST_MISSING, missing_share, stands_still


@dataclass(frozen=True)
class Answer:
    """What a person did in a window.

    Attributes:
        person: whose window it is, as `push` was told.
        start: time of its first frame in seconds, to the microsecond.
        end: time of its last frame.
        features: [F].
        probabilities: [K], or [0] without a classifier.
        name: of the likeliest class; empty without a classifier.
        missing: share of the window's frames in which the person was not seen.
        still: whether the person does not move, so that the name of an action says little.
    """

    person: Hashable
    start: float
    end: float
    features: Tensor
    probabilities: Tensor
    name: str
    missing: float
    still: bool


class _Track:
    """The last frames of a person on the grid of times: a window, or fewer at first."""

    def __init__(self, slot: int, length: int, shape: tuple[int, ...]) -> None:
        self.frames: deque[npt.NDArray[np.float32] | None] = deque(maxlen=length)
        self.next = slot  # the first slot that is not in `frames`
        self.seen = slot  # the last one in which the person was seen
        self.due = slot + length  # the slot at whose end the next answer is due
        self._shape = shape

    def put(self, slot: int, frame: npt.NDArray[np.float32] | None) -> None:
        """Frames that were skipped are missing; the later of two in one slot counts."""
        while self.next < slot:
            self.frames.append(None)
            self.next += 1
        if frame is None:
            return
        if slot == self.next:
            self.frames.append(frame)
            self.next += 1
        else:
            self.frames[-1] = frame
        self.seen = slot

    def window(self) -> npt.NDArray[np.float32]:
        """[T, V, 3] with NaN where the person was not seen."""
        empty = np.full(self._shape, np.nan, np.float32)
        return np.stack([empty if frame is None else frame for frame in self.frames])


class StreamingClassifier:
    """Classifies live motion, window by window, each of any number of people on their own.

    That holds for an encoder that was trained on several bodies at a time, too: others are absent.

    Frames lie on a grid of `fps` slots a second from the first one: a frame goes to the nearest
    slot, so that a camera may be uneven; a slot without one is a missing frame, which is filled as
    in recordings (`Encoder`). An answer is the one that `encoder.classify` gives for the same
    window.

    Args:
        encoder: with a classifier, or without, for features alone. It must know how its training
            data were preprocessed.
        fps: frames per second of the grid, as in training.
        window: seconds of a window, as in training. Clearly other ones give a warning, where the
            encoder knows how long its training sequences lasted.
        hop: seconds from one answer to the next; a window, if left out.
        lost: seconds without a person after which they are forgotten. One who comes back begins
            anew.

    Raises:
        ValueError: a time is not positive, a window has fewer than two frames or a hop less than
            one, or the encoder does not know how its training data were preprocessed.

    Example:
        >>> live = StreamingClassifier(encoder, fps=30, window=4, hop=1)
        >>> for answer in live.push(time.monotonic(), {7: positions}):  # [V, 3] in meters, y up
        ...     print(answer.person, answer.name)
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        fps: float,
        window: float,
        hop: float | None = None,
        lost: float = 1.0,
    ) -> None:
        fps, window, lost = float(fps), float(window), float(lost)
        hop = window if hop is None else float(hop)
        for name, value in (("fps", fps), ("window", window), ("hop", hop), ("lost", lost)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")
        self._length, self._hop = round(window * fps), round(hop * fps)
        if self._length < 2 or self._hop < 1:
            raise ValueError(
                f"at {fps:g} frames per second, a window of {window:g} s has {self._length} frames "
                f"and a hop of {hop:g} s {self._hop}: two and one are needed"
            )
        if encoder.traits.preprocessing is None:
            raise ValueError("how the encoder's training data were preprocessed is not known")
        trained, resized = encoder.traits.duration, encoder.traits.preprocessing.frames is not None
        given = Duration(window, window, window, window, fps)
        if trained is not None and clearly_other(trained, given, resized=resized):
            warnings.warn(
                f"the encoder's training sequences last {trained}, and these windows {window:g} s, "
                f"at {fps:g} frames per second: answers suffer",
                stacklevel=2,
            )
        self.encoder = encoder
        self._fps, self._lost = fps, round(lost * fps)
        self._start: float | None = None
        self._slot = -1
        self._tracks: dict[Hashable, _Track] = {}

    @property
    def people(self) -> tuple[Hashable, ...]:
        """Those who are followed, in the order in which they came."""
        return tuple(self._tracks)

    def push(self, time: float, people: Mapping[Hashable, Any]) -> list[Answer]:
        """Take a frame.

        Args:
            time: of the frame in seconds, on any clock that does not go back.
            people: positions [V, 3] of each person in it, in meters and y up; NaN where a joint was
                not seen. Empty if nobody is there; one of whom no joint was seen is not there.

        Returns:
            The answers that are due with this frame, in the order of `people`; often none. A window
            in which more than half of the frames are missing has none, nor has one in which the
            joint that bodies are centered on was never seen.

        Raises:
            TypeError: `people` is no mapping.
            ValueError: bodies are not in meters, by the size of the first windows; the time is not
                finite or before that of the frame before, or positions have
                another shape, or are infinite. Nothing is changed then.
        """
        if not isinstance(people, Mapping):
            raise TypeError(f"people must map ids to positions, got {type(people).__name__}")
        slot = self._slot_of(time)
        frames = {person: self._frame(person, x) for person, x in people.items()}
        answers = []
        if slot > self._slot:  # answers that were due before this frame
            answers += self._due(slot - 1)
        self._slot = slot
        for person in [p for p, track in self._tracks.items() if slot - track.seen > self._lost]:
            del self._tracks[person]
        shape = (self.encoder.layout.num_joints, 3)
        for person, frame in frames.items():
            if not np.nan_to_num(frame).any():
                continue  # not seen in this frame
            track = self._tracks.setdefault(person, _Track(slot, self._length, shape))
            track.put(slot, frame)
        return answers + self._due(slot)

    def _slot_of(self, time: float) -> int:
        if not math.isfinite(time):
            raise ValueError(f"time must be finite, got {time}")
        if self._start is None:
            self._start = time
        slot = math.floor((time - self._start) * self._fps + 0.5)
        if slot < self._slot:
            raise ValueError(f"time went back: {time} after {self._time(self._slot)}")
        return slot

    def _time(self, slot: int) -> float:
        return round((self._start or 0.0) + slot / self._fps, 6)

    def _frame(self, person: Hashable, x: Any) -> npt.NDArray[np.float32]:
        frame = np.asarray(x, dtype=np.float32)
        expected = (self.encoder.layout.num_joints, 3)
        if frame.shape != expected:
            raise ValueError(
                f"person {person!r}: expected positions {list(expected)} of layout "
                f"{self.encoder.layout.name!r}, got {list(frame.shape)}"
            )
        if np.isinf(frame).any():
            raise ValueError(f"person {person!r}: positions must not be infinite")
        return frame.copy()

    def _due(self, slot: int) -> list[Answer]:
        """Answers for the windows that end at or before a slot."""
        ready: list[tuple[Hashable, int, npt.NDArray[Any], float]] = []
        for person, track in self._tracks.items():
            while track.due <= slot + 1:
                last = track.due - 1
                track.due += self._hop
                if last - track.seen > self._lost:
                    continue  # gone, and forgotten with the next frame
                track.put(last + 1, None)
                window = track.window()
                missing = missing_share(window.transpose(2, 0, 1)[..., None])
                if missing <= MOST_MISSING and (x := self._prepared(window)) is not None:
                    ready.append((person, last, x, missing))
        if not ready:
            return []
        found = self._classified(np.stack([x for _, _, x, _ in ready]))
        return [
            Answer(
                person,
                self._time(last - self._length + 1),
                self._time(last),
                *told,
                missing,
                stands_still(x),
            )
            for (person, last, x, missing), told in zip(ready, found, strict=True)
        ]

    def _prepared(self, window: npt.NDArray[np.float32]) -> npt.NDArray[Any] | None:
        """As the network takes it; None where it cannot be preprocessed: a joint that all others
        are centered on may never have been seen.
        """
        try:
            return self.encoder.prepare(window)
        except ValueError:
            return None

    def _classified(self, x: npt.NDArray[Any]) -> list[tuple[Tensor, Tensor, str]]:
        """Features, probabilities and class of each of some sequences [N, 3, T, V, M]."""
        x = x.transpose(0, 4, 2, 3, 1)
        if not self.encoder.class_names:
            features = self.encoder(x, preprocessed=True)
            return [(one, torch.empty(0), "") for one in features]
        found = self.encoder.classify(x, preprocessed=True)
        return list(zip(found.features, found.probabilities, found.names, strict=True))
