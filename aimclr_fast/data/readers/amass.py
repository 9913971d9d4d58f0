"""AMASS's .npz files, and others of SMPL's family: joints as they are, or by a body model.

A file has the joints' places (``joints``, ``Jtr``), or poses as rotation vectors, ``poses`` with
``trans``, from which a body model (``--body-model``, never part of this package) gives the places.
Of SMPL-H and SMPL-X, the 22 joints of the body are read. ``labels.csv`` is as for ``folder``.
Source: Loper et al., SMPL, ACM Transactions on Graphics 34(6), 2015; Mahmood et al., AMASS, ICCV
2019.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimclr_fast.data.measures import ends_of_body
from aimclr_fast.data.readers._arrays import parse_members
from aimclr_fast.data.readers._base import (
    MAX_FRAMES,
    Options,
    Plan,
    ReadError,
    Readings,
    Recording,
    check_positions,
    in_meters,
)
from aimclr_fast.data.readers._derived import upward
from aimclr_fast.data.readers._files import MAX_BYTES, Entry, without_gz
from aimclr_fast.data.readers._labels import Labels
from aimclr_fast.data.readers._layouts import named_layout
from aimclr_fast.data.readers._sequences import Unit, by_claimed_file, columns_of, find_sequences
from aimclr_fast.layouts import Layout, get_layout

SUMMARY = "AMASS: .npz files of SMPL's family, joints or poses (these need --body-model)"
OPTIONS = ("labels", "body_model")
#: What ``folder`` says of such files among others.
FILES = "AMASS files (prepare amass reads them)"
Array = npt.NDArray[np.float64]
_JOINTS = ("joints", "Jtr", "jtr", "joints3d")
_PLACES = (*_JOINTS, "trans", "transl")
_POSES = "poses"
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate")
_READ = (*_JOINTS, _POSES, "root_orient", "pose_body", "trans", "transl", "betas", *_RATES)
#: Joints of the body of SMPL-H and SMPL-X, and all of SMPL.
_BODY, _SMPL = 22, 24
#: Largest place in the file's unit, and largest of other numbers.
_FARTHEST, _LARGEST = 1e7, 1e4
_FILES, _FRAMES = 16, 64
#: Rows of an array: frames, or vertices.
_LONGEST = MAX_FRAMES
#: The axis that points up in AMASS.
_UP = "z"
#: Most bytes of what is read, unpacked: of a file, and of a body model (100 MB of SMPL-X).
_MOST_MOTION, _MOST_MODEL = MAX_BYTES, 512 << 20


@dataclass(frozen=True)
class BodyModel:
    """What places joints: at rest, and with each of the shape's numbers.

    Attributes:
        rest: ``[J, 3]``, meters.
        shapes: ``[J, 3, B]``.
        parents: of each joint, -1 for the first.
    """

    rest: Array
    shapes: Array
    parents: tuple[int, ...]

    def places(self, poses: Array, betas: Array, trans: Array) -> Array:
        """Where the joints are, ``[T, J, 3]``.

        Args:
            poses: rotation vectors ``[T, J, 3]``, radians.
            betas: the shape ``[B]``, of which as many are used as there are shapes.
            trans: ``[T, 3]``, meters.
        """
        from scipy.spatial.transform import Rotation  # slow to load, and only motion needs it

        count = min(len(betas), self.shapes.shape[2])
        rest = self.rest + self.shapes[..., :count] @ betas[:count]
        out = np.empty((len(poses), len(rest), 3))
        turned: list[Array] = []
        for joint, parent in enumerate(self.parents):
            turn = Rotation.from_rotvec(poses[:, joint]).as_matrix()
            if parent < 0:
                out[:, joint] = rest[joint] + trans
            else:
                out[:, joint] = out[:, parent] + turned[parent] @ (rest[joint] - rest[parent])
                turn = turned[parent] @ turn
            turned.append(turn)
        return out


@dataclass(frozen=True)
class _Scheme:
    """How the files are read: joints, unit of lengths, axis that points up, body model."""

    layout: Layout
    unit: str
    up: str
    model: BodyModel | None


def claims(entry: Entry) -> bool:
    """Whether ``folder`` leaves a file to this reader: it has poses or joints as AMASS's have."""
    if entry.suffix != ".npz":
        return False
    try:
        names = entry.member_names()
    except ReadError:
        return False
    poses = bool(names & {_POSES, "pose_body"}) and bool(names & {"trans", "transl"})
    return poses or bool(names & set(_JOINTS) and names & {_POSES, "trans", *_RATES})


def _has_joints(entry: Entry) -> bool:
    try:
        return bool(entry.member_names() & set(_JOINTS))
    except ReadError:  # reading says what is wrong
        return False


def _is_own(entry: Entry) -> bool:
    """Whether a file is read where the user names this format: joints alone are enough, and files
    that are damaged are not of another kind.
    """
    try:
        entry.member_names()
    except ReadError:
        return True
    return _has_joints(entry) or claims(entry)


def plan(source: Path, options: Options) -> Plan:
    """One sample per file."""
    model = None if options.body_model is None else load_model(options.body_model)
    found = find_sequences(
        source,
        options,
        lambda path: without_gz(path).endswith(".npz"),
        ".npz files with joints, or with poses and trans",
        functools.partial(by_claimed_file, claims=_is_own),
    )
    if model is not None and all(_has_joints(unit.entry) for unit in found.units):
        reason = "the files have joints, so the body model would not be used: leave it out"
        raise ReadError(f"--body-model {options.body_model}", reason)
    layout, up, notes, timed = _look(found.units, model, options, str(source))
    scheme = _Scheme(layout, options.unit or "m", up, model)
    return found.plan(
        layout,
        functools.partial(read, scheme=scheme),
        notes,
        bodies=1,
        source="motion of SMPL's family (AMASS)",
        exact=True,
        in_meters=True,
        reader="amass",
        timed=True in timed,
        untimed=False in timed,
    )


def read(unit: Unit, *, scheme: _Scheme, labels: Labels | None) -> Readings:
    """Read one file."""
    where = unit.entry.shown
    places, rate = load(unit.entry, scheme.model)
    joints = scheme.layout.num_joints
    if places.shape[1] < joints:
        raise ReadError(
            where, f"{places.shape[1]} joints, and layout {scheme.layout.name} has {joints}"
        )
    x = in_meters(places[:, :joints].transpose(2, 0, 1)[..., None], scheme.unit, scheme.up)
    yield Recording(
        unit.name, check_positions(x, where), columns_of(unit.name, labels), where, rate
    )


def load(entry: Entry, model: BodyModel | None) -> tuple[Array, float | None]:
    """Where the joints of a file are, ``[T, J, 3]``, and its frames per second.

    Args:
        entry: the file.
        model: for files with poses.

    Raises:
        ReadError: it is damaged, or has poses and there is no body model.
    """
    where = entry.shown
    found = parse_members(entry.read(), where, _READ, _MOST_MOTION)
    name = next((name for name in _JOINTS if name in found), None)
    if name is not None:
        places = _array(found, name, where, (-1, -1, 3))
        if places.shape[1] < _BODY:
            raise ReadError(
                where, f"{name}: {places.shape[1]} joints; SMPL's family has 22 or more"
            )
    elif model is None:
        reason = "has poses and no joints: give the body model with --body-model FILE.npz"
        raise ReadError(where, f"{reason} (as SMPL's site offers it, of the files' gender)")
    else:
        places = _posed(found, model, where)
    return places, _rate(found, where)


def _posed(found: Mapping[str, npt.NDArray[Any]], model: BodyModel, where: str) -> Array:
    """Where the body model's joints are in the poses of a file."""
    if _POSES in found:
        poses = _array(found, _POSES, where, (-1, -1))
    else:
        parts = [_array(found, part, where, (-1, -1)) for part in ("root_orient", "pose_body")]
        if len(parts[0]) != len(parts[1]):
            raise ReadError(where, "root_orient and pose_body have different numbers of frames")
        poses = np.concatenate(parts, axis=1)
    joints = poses.shape[1] // 3
    if poses.shape[1] % 3 or joints < _BODY:
        reason = (
            f"poses: {poses.shape[1]} numbers a frame; expected 3 for each of 22 joints or more"
        )
        raise ReadError(where, reason)
    trans = _array(found, "trans" if "trans" in found else "transl", where, (len(poses), 3))
    betas = _array(found, "betas", where, (-1,)) if "betas" in found else np.zeros(0)
    kept = _kept(joints, len(model.parents))
    model = replace(
        model, rest=model.rest[:kept], shapes=model.shapes[:kept], parents=model.parents[:kept]
    )
    return model.places(poses.reshape(len(poses), -1, 3)[:, :kept], betas, trans)


def _kept(joints: int, of_model: int) -> int:
    """How many joints are read: SMPL's 24, where both have these, or the body's 22."""
    return _SMPL if joints == of_model == _SMPL else _BODY


def _array(
    found: Mapping[str, npt.NDArray[Any]], name: str, where: str, shape: tuple[int, ...]
) -> Array:
    """An array of a shape, in which -1 is any length above 0.

    Raises:
        ReadError: there is none, or it has another shape, or a value is no length or angle.
    """
    if name not in found:
        raise ReadError(where, f"has no {name}")
    array = found[name]
    fits = len(array.shape) == len(shape) and all(
        size == wanted or (wanted < 0 and size > 0)
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        sizes = ", ".join("n" if wanted < 0 else str(wanted) for wanted in shape)
        raise ReadError(where, f"{name}: shape {list(array.shape)}, expected [{sizes}]")
    if len(array) > _LONGEST:
        raise ReadError(where, f"{name}: {len(array):,} rows; at most {_LONGEST:,} are read")
    values = array.astype(np.float64)
    most = _FARTHEST if name in _PLACES else _LARGEST
    if not bool((np.abs(values) <= most).all()):
        raise ReadError(where, f"{name}: a value is not finite, or beyond {most:,.0f}")
    return values


def _rate(found: Mapping[str, npt.NDArray[Any]], where: str) -> float | None:
    name = next((name for name in _RATES if name in found), None)
    if name is None:
        return None
    values = found[name].astype(np.float64).reshape(-1)
    if len(values) != 1 or not 0.1 <= values[0] <= 10_000:
        raise ReadError(where, f"{name}: expected frames per second")
    return float(values[0])


def load_model(file: Path) -> BodyModel:
    """The joints of a body model.

    Raises:
        ReadError: the file cannot be read or is no such model.
    """
    where = f"--body-model {file}"
    if file.suffix.lower() in (".pkl", ".pickle"):
        reason = "a pickle, which may run code: save its arrays as .npz (numpy.savez), or take the"
        raise ReadError(where, f"{reason} model's .npz file")
    names = ("J_regressor", "v_template", "shapedirs", "kintree_table")
    found = parse_members(file, where, names, _MOST_MODEL)
    table = found.get("kintree_table", np.empty(0))
    if table.ndim != 2 or table.dtype.kind not in "iu" or table.shape[1] < _BODY or not len(table):
        raise ReadError(where, "kintree_table: expected the parents of 22 joints or more")
    joints = table.shape[1]
    parents = (-1, *map(int, table[0, 1:]))
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents) if joint):
        raise ReadError(where, "kintree_table: a joint's parent must come before it")
    template = _array(found, "v_template", where, (-1, 3))
    regressor = _array(found, "J_regressor", where, (joints, len(template)))
    shapes = np.zeros((joints, 3, 0))
    if "shapedirs" in found:
        moved = _array(found, "shapedirs", where, (len(template), 3, -1))
        shapes = np.einsum("jv,vcb->jcb", regressor, moved)
    return BodyModel(regressor @ template, shapes, parents)


def _look(
    units: Sequence[Unit], model: BodyModel | None, options: Options, where: str
) -> tuple[Layout, str, list[str], set[bool]]:
    """The layout, the axis that points up, what to say, and whether files say their rate."""
    some, unread = [], None
    for unit in units[:: -(-len(units) // _FILES)]:
        try:
            places, rate = load(unit.entry, model)
            some.append((places[:: -(-len(places) // _FRAMES)], rate))
        except ReadError as error:  # reading says it again
            unread = unread or error
    if not some:
        raise unread or ReadError(where, "no file can be read")
    counts = {places.shape[1] for places, _ in some}
    joints = _SMPL if counts == {_SMPL} else _BODY
    layout = named_layout(options.layout) if options.layout else get_layout(f"smpl-{joints}")
    if layout.name not in ("smpl-22", f"smpl-{joints}"):
        raise ReadError(where, f"--layout {layout.name}: these files have smpl-{joints}; --to "
                        "brings their joints to another layout")  # fmt: skip
    notes = [f"layout: {layout.name}; joints in the files: {', '.join(map(str, sorted(counts)))}"]
    up = options.up
    if up is None:
        top, bottom = ends_of_body(layout)
        along = [places[:, top].mean(axis=1) - places[:, bottom].mean(axis=1) for places, _ in some]
        axis, share = upward(np.concatenate(along))
        seen = f"from feet to head it is {axis} in {share:.0%} of the frames looked at"
        if axis != _UP and share >= 0.5:
            reason = f"{_UP} points up in AMASS, but {seen}: people lie, or it is another axis"
            raise ReadError(where, f"{reason}; say which axis points up with --up: y, -y or z")
        up = _UP
        notes.append(f"up: {up}, AMASS's convention; {seen} (--up says otherwise)")
    rates = sorted({f"{rate:.4g}" for _, rate in some if rate is not None})
    notes.append(f"frames per second: {', '.join(rates) or 'the files do not say (--rate does)'}")
    return layout, up, notes, {rate is not None for _, rate in some}
