"""Which layout a number of joints means, where a file does not say."""

from __future__ import annotations

from aimclr_fast.data.readers._base import ReadError
from aimclr_fast.layouts import LAYOUTS, Layout, get_layout

#: The usual layout of pose files with so many joints.
_USUAL = {17: "coco", 18: "openpose", 20: "nw-ucla", 22: "ui-prmd", 25: "ntu-rgb+d"}


def layout_for(joints: int, given: str | None, where: str) -> Layout:
    """The layout a user named, or the usual one for so many joints.

    Raises:
        ReadError: the named one does not exist or has another number of joints, or none is usual.
    """
    if given is not None:
        try:
            layout = get_layout(given)
        except (ValueError, OSError) as error:
            raise ReadError(f"--layout {given}", str(error)) from error
        if layout.num_joints != joints:
            raise ReadError(
                where, f"{joints} joints, but layout {layout.name} has {layout.num_joints}"
            )
        return layout
    if joints not in _USUAL:
        known = ", ".join(f"{name} ({LAYOUTS[name].num_joints})" for name in LAYOUTS)
        raise ReadError(where, f"{joints} joints: name their layout with --layout: {known} or YAML")
    return get_layout(_USUAL[joints])
