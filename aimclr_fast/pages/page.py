"""Write a page in one file."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from aimclr_fast._files import written_whole

_ASSETS = files("aimclr_fast.pages") / "assets"


def write_page(
    file: Path, *, title: str, data: dict[str, Any], body: str, scripts: Sequence[str]
) -> None:
    """Write a page that needs nothing but itself; an existing file is replaced as a whole.

    Args:
        file: the page.
        title: its title.
        data: what its scripts read, JSON.
        body: HTML between the heading and the scripts.
        scripts: names in ``assets``, in order, of scripts, styles, or both.
    """
    # "<" could end the element that holds the data.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    styles = [name for name in ("page", *scripts) if _has(f"{name}.css")]
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{html.escape(title)}</title>",
        *(f"<style>\n{_asset(f'{name}.css')}</style>" for name in styles),
        f"</head>\n<body>\n<h1>{html.escape(title)}</h1>",
        body,
        f'<script type="application/json" id="data">{text}</script>',
        *(f"<script>\n{_asset(f'{name}.js')}</script>" for name in scripts if _has(f"{name}.js")),
        "</body>\n</html>\n",
    ]
    with written_whole(file) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _has(name: str) -> bool:
    return (_ASSETS / name).is_file()


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
