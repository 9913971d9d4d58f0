"""Annotation pickles of pyskl and MMAction2, such as ``ntu60_3danno.pkl`` or ``ntu60_hrnet.pkl``.

``{"split": {"xsub_train": [names], ...}, "annotations": [{frame_dir, label, keypoint, ...}]}``,
keypoint ``[M, T, V, C]``: three coordinates, or two with ``keypoint_score [M, T, V]``. A list of
annotations is accepted, too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aimclr_fast.data import safe_pickle
from aimclr_fast.data.bodies import fit_bodies
from aimclr_fast.data.preprocessing import USUAL_NORMALIZATION
from aimclr_fast.data.readers._base import (
    Options,
    Plan,
    Positions,
    Problem,
    ReadError,
    Readings,
    Recording,
    check_positions,
    composed,
)
from aimclr_fast.data.readers._classes import (
    Numbering,
    as_label,
    name_ntu_classes,
    number_classes,
    number_names,
)
from aimclr_fast.data.readers._layouts import SEQUENCES, recognize
from aimclr_fast.data.readers._ntu import LAYOUT, columns_of
from aimclr_fast.data.readers._pose2d import are_shares, in_one_unit, lift
from aimclr_fast.data.readers._splits import (
    Sides,
    check_sides,
    pair_splits,
    say_validation,
    sides_rule,
)
from aimclr_fast.layouts import Layout

SUMMARY = "pyskl or MMAction2 annotations: one .pkl file, 3D or 2D"
OPTIONS = ("max_bodies",)
#: Bodies that are kept unless the user says otherwise, and what a usual annotation may hold.
BODIES, _MOST_BODIES = 2, 6


@dataclass
class Annotations:
    """A pickle in memory: a pickle can only be read whole.

    Attributes:
        where: the file.
        entries: the annotations.
        splits: side of each sample by split.
        classes: the class of each label.
        numbers: the number of each label that is text.
        layout: of all poses.
        flat: whether the poses are 2D.
        ntu: whether all names are NTU RGB+D's.
        check_axes: whether to leave out poses whose bodies seem to be the second axis.
    """

    where: str
    entries: list[Any]
    splits: dict[str, Sides]
    classes: Mapping[int, int]
    numbers: Mapping[str, int]
    layout: Layout
    flat: bool
    ntu: bool
    check_axes: bool


def plan(source: Path, options: Options) -> Plan:
    """One sample per annotation; splits from the lists of their names."""
    where = str(source)
    if not source.is_file():
        raise ReadError(where, "expected one .pkl file")
    entries, split = _load(source)
    poses = [entry["keypoint"] for entry in entries if _has_keypoints(entry)]
    poses = [pose for pose in poses if pose.size and pose.shape[3] in (2, 3)]
    if not poses:
        raise ReadError(where, f"no annotation has a keypoint array [M, T, V, C]{_seen(entries)}")
    extra = _check_bodies(poses, options, where)
    named = [entry for entry in entries if isinstance(entry, dict)]
    names = [entry.get("frame_dir") for entry in named]
    ntu = all(isinstance(name, str) and columns_of(name) for name in names)
    numbers, classes, named_notes = _number_names(named, where)
    numbering = _classes(named, ntu and classes is None, numbers)
    have = {composed(name) for name in names if isinstance(name, str)}
    splits, notes = _splits(split, have, where)
    shape = poses[0].shape
    step = max(1, len(poses) // SEQUENCES)
    scored = any("keypoint_score" in entry for entry in named)
    skeleton = recognize(
        # An absent first body shows nothing.
        [pose[0] for pose in poses[::step] if pose.shape[2:] == shape[2:]],
        options,
        where,
        scored=scored,
        known={(25, 3): LAYOUT, (17, 2): "coco"}.get(shape[2:]) if ntu else None,
    )
    bodies = options.max_bodies or min(max(len(pose) for pose in poses), BODIES)
    annotations = Annotations(
        where, entries, splits, numbering.classes, numbers, skeleton.layout, skeleton.flat, ntu,
        check_axes=options.max_bodies is None,
    )  # fmt: skip
    rules = {n: sides_rule(f"split_{n}", sides.values()) for n, sides in splits.items()}
    return Plan(
        layout=skeleton.layout,
        bodies=bodies,
        units=range(len(entries)),
        read=functools.partial(read, annotations=annotations, bodies=bodies, options=options),
        classes=classes or numbering.names,
        numbered=classes is not None,
        splits=rules,
        source="annotations in the format of pyskl and MMAction2",
        notes=[
            *skeleton.notes,
            *(_say_shares(named[::step], options) if skeleton.flat else []),
            *extra,
            *numbering.notes,
            *named_notes,
            *notes,
            *say_validation(rules),
        ],
        rotate=not skeleton.flat,
        normalize="frame" if ntu else USUAL_NORMALIZATION,
        scores=skeleton.flat and (scored or shape[3] == 3),
        one_process=True,
    )


def _load(source: Path) -> tuple[list[Any], Any]:
    """The annotations, and the splits where there are any."""
    where = str(source)
    try:
        data = safe_pickle.load(source)
    except safe_pickle.PickleError as error:
        raise ReadError(where, str(error)) from error
    if isinstance(data, list | tuple) and any(isinstance(entry, dict) for entry in data):
        return list(data), None
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise ReadError(
            where, "expected a list of annotations, or a dict with split and annotations"
        )
    if not isinstance(data.get("split"), dict | None):
        raise ReadError(where, "split: expected a dict of lists of names")
    return data["annotations"], data.get("split")


def _has_keypoints(entry: Any) -> bool:
    keypoint = entry.get("keypoint") if isinstance(entry, dict) else None
    return isinstance(keypoint, np.ndarray) and keypoint.ndim == 4 and keypoint.dtype.kind in "fiu"


def _seen(entries: list[Any]) -> str:
    """The shape of the first keypoint, which is not as expected, and what it lacks."""
    for entry in entries:
        keypoint = entry.get("keypoint") if isinstance(entry, dict) else None
        if not isinstance(keypoint, np.ndarray):
            continue
        lacks = ": a single body lacks its axis, keypoint[None]" if keypoint.ndim == 3 else ""
        return f"; the first is of shape {list(keypoint.shape)}, {keypoint.dtype}{lacks}"
    return ""


def _swapped(shape: tuple[int, ...]) -> bool:
    """Whether ``[M, T, V, C]`` has so few frames for its bodies that it must be [T, M, V, C]."""
    return shape[0] >= 4 * shape[1]


def _check_bodies(poses: list[Any], options: Options, where: str) -> list[str]:
    """Refuse poses whose bodies seem to be the second axis; say how many bodies are left out."""
    if options.max_bodies is not None:
        return []
    odd = [pose for pose in poses if len(pose) > _MOST_BODIES or _swapped(pose.shape)]
    if 2 * len(odd) > len(poses):
        raise ReadError(
            where,
            f"keypoint: expected [M, T, V, C], got shape {list(odd[0].shape)}, which looks like "
            "[T, M, V, C]: exchange the first two axes, or name the bodies to keep with "
            "--max-bodies",
        )
    many = [len(pose) for pose in poses if len(pose) > BODIES and not _swapped(pose.shape)]
    if not many:
        return []
    return [
        f"{len(many):,} of {len(poses):,} annotations have more than {BODIES} bodies, up to "
        f"{max(many)}: the first {BODIES} are kept (--max-bodies keeps more)"
    ]


def _number_names(
    entries: list[dict[str, Any]], where: str
) -> tuple[dict[str, int], tuple[str, ...] | None, list[str]]:
    """The number of each label that is text, the classes' names where labels are names, and notes
    on those names.
    """
    texts = {str(n) for e in entries if isinstance(n := e.get("label"), str) and n.strip()}
    if all(text.isdecimal() and len(text) <= 18 for text in texts):
        return {text: int(text) for text in texts}, None, []
    numbers = sum(as_label(entry.get("label")) is not None for entry in entries)
    if numbers:
        raise ReadError(
            where, f"label {max(texts)!r:.60} is a name, while {numbers} others are numbers"
        )
    return number_names(texts)


def _label(entry: Mapping[str, Any], numbers: Mapping[str, int]) -> int | None:
    label = entry.get("label")
    return numbers.get(label) if isinstance(label, str) else as_label(label)


def _classes(entries: list[dict[str, Any]], ntu: bool, numbers: Mapping[str, int]) -> Numbering:
    labels = {i: label for i, e in enumerate(entries) if (label := _label(e, numbers)) is not None}
    numbering = number_classes(list(labels.values()))
    if not ntu:
        return numbering
    actions = {i: int((columns_of(entries[i]["frame_dir"]) or {})["label"]) + 1 for i in labels}
    return name_ntu_classes(numbering, [(label, actions[i]) for i, label in labels.items()])


def _splits(split: Any, names: set[str], where: str) -> tuple[dict[str, Sides], list[str]]:
    """Sides of each split that the lists make, and what to say about them."""
    splits, notes = pair_splits(split or {}, where)
    splits, missing = check_sides(splits, names)
    if not splits:
        missing.append("no splits: the store has no split of the source's own")
    return splits, notes + missing


def read(index: int, *, annotations: Annotations, bodies: int, options: Options) -> Readings:
    """Make a recording of one annotation."""
    entry = annotations.entries[index]
    where = f"{annotations.where} annotation {index}"
    try:
        yield _recording(entry, where, annotations, bodies, options)
    except ReadError as error:
        yield Problem.of(error)


def _recording(
    entry: Any, where: str, annotations: Annotations, bodies: int, options: Options
) -> Recording:
    if not _has_keypoints(entry):
        raise ReadError(where, "has no keypoint array [M, T, V, C]")
    name, keypoint = entry.get("frame_dir"), entry["keypoint"]
    label = _label(entry, annotations.numbers)
    if not isinstance(name, str) or not name:
        raise ReadError(where, f"frame_dir: {name!r:.60} is not a name")
    name = composed(name)
    if label is None:
        raise ReadError(where, f"label: {entry.get('label')!r:.60} is not 0 or more, nor a name")
    joints = annotations.layout.num_joints
    if keypoint.shape[2] != joints or keypoint.shape[3] not in (2, 3):
        shape = list(keypoint.shape)
        raise ReadError(where, f"keypoint: expected [M, T, {joints}, 3 or 2], got {shape}")
    if not min(keypoint.shape):
        raise ReadError(where, f"keypoint: empty, {list(keypoint.shape)}")
    if annotations.check_axes and _swapped(keypoint.shape):
        shape = list(keypoint.shape)
        raise ReadError(where, f"keypoint: expected [M, T, V, C], {shape} looks like [T, M, V, C]")
    frames = _frames(entry, where)
    positions: Positions
    if annotations.flat:
        score = _scores(entry, where)
        positions = lift(
            keypoint[:, :frames, :, :2],
            None if score is None else score[:, :frames],
            bodies,
            options,
            where,
            _aspect(entry),
        )
    elif keypoint.shape[3] == 2:
        raise ReadError(
            where, "keypoint: 2D, while other annotations are 3D: prepare them separately"
        )
    else:
        positions = keypoint[:, :frames].transpose(3, 1, 2, 0).astype(np.float32)
        positions = in_one_unit(fit_bodies(positions, bodies), annotations.layout, options, where)
    columns: dict[str, int | str] = dict(columns_of(name) or {}) if annotations.ntu else {}
    columns["label"] = annotations.classes[label]
    columns |= {f"split_{p}": of.get(name, "none") for p, of in annotations.splits.items()}
    return Recording(name, check_positions(positions, where), columns, where)


def _frames(entry: Mapping[str, Any], where: str) -> int:
    """Frames of an annotation; those beyond ``total_frames`` fill the array up."""
    frames = int(entry["keypoint"].shape[1])
    total = entry.get("total_frames")
    if total is None:
        return frames
    own = as_label(total)
    if not own:
        raise ReadError(where, f"total_frames: {total!r:.60} is not 1 or more")
    return min(own, frames)


def _scores(entry: Mapping[str, Any], where: str) -> Any:
    """``[M, T, V]``, or None where there are none: beside the keypoints, or their third number."""
    keypoint, score = entry["keypoint"], entry.get("keypoint_score")
    if score is None:
        return keypoint[..., 2] if keypoint.shape[3] == 3 else None
    if not isinstance(score, np.ndarray) or score.shape != keypoint.shape[:3]:
        raise ReadError(where, "keypoint_score: does not fit keypoint")
    if score.dtype.kind not in "fiub":
        raise ReadError(where, f"keypoint_score: holds {score.dtype}, not numbers")
    return score


def _say_shares(entries: Sequence[Mapping[str, Any]], options: Options) -> list[str]:
    """A note where coordinates are taken as shares of the image."""
    for entry in entries if options.aspect is None else ():
        if _aspect(entry) is not None and _has_keypoints(entry):
            xy = entry["keypoint"][..., :2].reshape(-1, 2)
            xy = xy[np.isfinite(xy).all(axis=1) & xy.any(axis=1)]
            if len(xy) and are_shares(xy):
                shape = "x".join(str(side) for side in reversed(entry["img_shape"]))
                return [
                    "x and y lie in 0 to 1: taken as shares of img_shape "
                    f"({shape} in the first; --aspect 1: as they are)"
                ]
    return []


def _aspect(entry: Mapping[str, Any]) -> float | None:
    """Width / height of the image, if ``img_shape`` (height, width) says so."""
    shape = entry.get("img_shape")
    sides = [as_label(side) for side in shape] if isinstance(shape, list | tuple) else []
    height, width = sides if len(sides) == 2 else (None, None)
    return width / height if height and width else None
