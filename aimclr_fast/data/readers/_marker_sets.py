"""Which joint lies between which markers: built-in sets and YAML files.

::

    name: mine
    joints:
      hips: {markers: [LASI, RASI, LPSI|SACR]}
      left_upper_leg: {parent: hips, markers: {LASI: 0.5, LPSI: 0.4, LKNE: 0.1}}
      left_lower_leg: {parent: left_upper_leg, markers: [LKNE, (LKNM)]}

A joint is the mean of its markers, or their weighted mean. ``A|B`` is A, or B where a file has no
A; a marker in parentheses may lack. Case, blanks, points, hyphens and underscores do not matter.
The tree of parents becomes a layout, as that of a BVH file (:mod:`._derived`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.data.readers._derived import Joint, derive_layout
from aimclr_fast.layouts import Layout

_FOLDER = Path(__file__).parents[1] / "marker_sets"
_MOST_JOINTS, _MOST_BYTES = 200, 1 << 20
_OPTIONAL = re.compile(r"\((.*)\)")


@dataclass(frozen=True)
class Marker:
    """A marker of a joint: its names by preference, its weight, whether it may lack."""

    names: tuple[str, ...]
    weight: float
    optional: bool = False


@dataclass(frozen=True)
class MarkerSet:
    """The joints of a skeleton and their markers.

    Attributes:
        layout: the skeleton.
        markers: of each joint.
        notes: how the layout was derived.
    """

    layout: Layout
    markers: tuple[tuple[Marker, ...], ...]
    notes: tuple[str, ...] = ()

    def weights(self, labels: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """Weights ``[V, N]`` of a file's markers in each joint; None if any joint lacks one."""
        return None if self.lacking(labels) else self._weights(labels)

    def lacking(self, labels: Sequence[str]) -> list[str]:
        """The markers that a file with such labels lacks, by their first names."""
        known = {plain(label) for label in labels}
        wanted = [one for own in self.markers for one in own if not one.optional]
        found = [one.names[0] for one in wanted if not known.intersection(map(plain, one.names))]
        return list(dict.fromkeys(found))

    def _weights(self, labels: Sequence[str]) -> npt.NDArray[np.float64]:
        places: dict[str, int] = {}
        for place, label in enumerate(labels):
            places.setdefault(plain(label), place)
        out = np.zeros((len(self.markers), len(labels)))
        for joint, own in enumerate(self.markers):
            for marker in own:
                name = next((one for one in map(plain, marker.names) if one in places), None)
                if name is not None:
                    out[joint, places[name]] += marker.weight
        return np.asarray(out / out.sum(axis=1, keepdims=True))


def plain(label: str) -> str:
    """A marker's name in capitals, without blanks and punctuation."""
    return "".join(filter(str.isalnum, label)).upper()


def choose_set(labels: Sequence[Sequence[str]], given: Path | None, where: str) -> MarkerSet:
    """The marker set that the user names, or the built-in one that serves all files.

    Args:
        labels: of the markers of each subject of some files.
        given: a YAML file.
        where: what errors name.

    Raises:
        ReadError: the file cannot be used, or no built-in set serves; names what is lacking.
    """
    sets = [load_set(given)] if given is not None else list(_built_in())
    serving = [one for one in sets if all(not one.lacking(own) for own in labels)]
    if serving:
        return max(serving, key=lambda one: one.layout.num_joints)
    own = labels[0]
    nearest = min(sets, key=lambda one: len(one.lacking(own)) / len(one.markers))
    lacking = next(nearest.lacking(one) for one in labels if nearest.lacking(one))
    names = ", ".join(one.layout.name for one in sets)
    hint = "" if given else ": say which markers each joint lies between with --markers FILE.yaml"
    raise ReadError(
        where,
        f"no set of markers fits ({names}); {nearest.layout.name} lacks {_some(lacking)}, the "
        f"file has {_some(own)}{hint}",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(f"{name:.30}" for name in names[:12]) + more


def load_set(file: Path) -> MarkerSet:
    """A marker set of a YAML file.

    Raises:
        ReadError: it cannot be read or is no such set.
    """
    where = f"--markers {file}"
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ReadError(where, "more than 1 MiB: no set of markers")
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(where, f"cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ReadError(where, f"not valid YAML: {' '.join(str(error).split())}") from error
    joints = data.get("joints") if isinstance(data, dict) else None
    if not isinstance(joints, dict) or not 2 <= len(joints) <= _MOST_JOINTS:
        raise ReadError(where, f"joints: expected 2 to {_MOST_JOINTS} names, each with its markers")
    tree: list[Joint] = []
    markers = []
    names: dict[str, int] = {}
    for name, fields in joints.items():
        if not isinstance(name, str) or not isinstance(fields, dict):
            raise ReadError(where, f"joints: {name!r:.40}: expected parent and markers")
        unknown = [key for key in fields if key not in ("parent", "markers")]
        if unknown:
            reason = f"unknown {unknown[0]!r:.40}; a joint has parent and markers"
            raise ReadError(where, f"{name}: {reason}")
        parent = fields.get("parent")
        known = isinstance(parent, str) and parent in names
        if bool(names) != ("parent" in fields) or (names and not known):
            reason = f"{name}: parent: {parent!r:.40} is not a joint above it"
            raise ReadError(where, reason if names else f"{name}: the first joint has no parent")
        tree.append(Joint(name, names[str(parent)] if names else -1))
        names[name] = len(names)
        markers.append(_markers(fields.get("markers"), f"{where}: {name}"))
    layout, notes = derive_layout(str(data.get("name") or file.stem), tree)
    return MarkerSet(layout, tuple(markers), tuple(notes))


def _markers(given: Any, where: str) -> tuple[Marker, ...]:
    if isinstance(given, list) and given:
        given = dict.fromkeys(given, 1.0) if all(isinstance(one, str) for one in given) else None
    if not isinstance(given, Mapping) or not given:
        raise ReadError(where, "markers: expected names, or a weight for each name")
    found = []
    for text, weight in given.items():
        sound = isinstance(weight, int | float) and abs(weight) <= 1000
        inside = _OPTIONAL.fullmatch(str(text).strip())
        names = tuple((inside[1] if inside else str(text)).split("|"))
        if not sound or not all(map(plain, names)):
            raise ReadError(where, f"markers: {text!r:.40}: {weight!r:.40}: a name and its weight")
        found.append(Marker(names, float(weight), bool(inside)))
    if not sum(one.weight for one in found if not one.optional) > 0:
        raise ReadError(where, "markers: their weights must have a sum above 0")
    return tuple(found)


@functools.cache
def _built_in() -> tuple[MarkerSet, ...]:
    return tuple(
        load_set(file) for file in sorted(_FOLDER.glob("*.yaml"), key=lambda file: file.stem)
    )
