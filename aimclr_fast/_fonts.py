"""Fonts for names in any script: matplotlib's own has no Chinese, Japanese or Korean letters."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Fonts that are looked at first: others have few letters.
_LARGE = re.compile(r"CJK|Noto Sans|Gothic|Hei|Song|Ming|PingFang|Hiragino|Unicode", re.IGNORECASE)
#: Fonts that have an empty box for every letter.
_BOXES = re.compile(r"last ?resort", re.IGNORECASE)
_WARNING = r"Glyph \d+ \(.*\) missing from"
_said: set[str] = set()


@contextmanager
def any_script(figure: Figure, *, say: bool = True) -> Iterator[None]:
    """While a figure is laid out and saved, take letters that its font lacks from installed fonts.

    Letters that no font has are drawn as boxes, which is printed once in place of a warning for
    each, unless `say` is false. A figure has to have all its text by then.
    """
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    missing = _without_glyph(frozenset("".join(text.get_text() for text in texts)))
    if not missing:
        yield
        return
    families, lacking = _fallbacks(missing)
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    if say and (new := lacking - _said):
        _said.update(new)
        some = "".join(sorted(new)[:20])
        print(f"figures: no installed font has {some}: drawn as boxes (Noto Sans CJK has most)")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_WARNING)
        yield


@functools.cache
def _without_glyph(letters: frozenset[str]) -> frozenset[str]:
    """Letters that the usual font lacks."""
    if all(letter.isascii() for letter in letters):
        return frozenset()
    from matplotlib import font_manager

    return letters - _glyphs(font_manager.findfont(font_manager.FontProperties())) - {"\n"}


@functools.cache
def _fallbacks(missing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Families of installed fonts that have these letters, and the letters that none has."""
    from matplotlib import font_manager

    families = []
    fonts = [one for one in font_manager.fontManager.ttflist if not _BOXES.search(one.name)]
    for one in sorted(fonts, key=lambda one: (not _LARGE.search(one.name), one.style != "normal")):
        found = missing & _glyphs(one.fname) if one.name not in families else frozenset()
        if found:
            families.append(one.name)
            missing -= found
        if not missing:
            break
    return families, missing


@functools.cache
def _glyphs(file: str) -> frozenset[str]:
    """The letters of a font; none of a file that cannot be read."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(map(chr, get_font(file).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()
