"""Devices by name."""

from __future__ import annotations

import torch

TYPES = ("cpu", "cuda")


def usable_device(name: str) -> torch.device:
    """`name` as a device that works here; a GPU with a number becomes the current one.

    Args:
        name: cpu, cuda, cuda:N, or auto for a GPU where there is one.

    Raises:
        ValueError: there is no such device, or it cannot be used.
    """
    asked = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in TYPES:
            raise RuntimeError(f"it must be auto, {', '.join(TYPES)} or cuda:N")
        torch.zeros(1, device=device)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs belong to the current one
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {asked!r}, which cannot be used here: {reason}") from error
    return device
