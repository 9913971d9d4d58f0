"""Self-contained HTML pages: one file with its data, style and script, no network."""

from __future__ import annotations

from .clips import Clip, pack_clip, pack_skeleton
from .page import write_page

__all__ = ["Clip", "pack_clip", "pack_skeleton", "write_page"]
