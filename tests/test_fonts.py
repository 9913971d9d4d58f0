"""Figures with names in any script."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from aimclr_fast import _fonts
from aimclr_fast._fonts import any_script
from aimclr_fast.data import write_store
from aimclr_fast.evaluation.figures import draw_confusion, save_figure
from aimclr_fast.prepare import command_line

WALK = "走る"


@pytest.fixture
def no_fonts(monkeypatch):
    """Only what comes with matplotlib is installed, and nothing was said before."""
    own = [one for one in font_manager.fontManager.ttflist if "mpl-data" in one.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(_fonts, "_said", set())
    _fonts._fallbacks.cache_clear()
    yield
    _fonts._fallbacks.cache_clear()


def font_with(letters: str, file) -> None:
    """Write a font in which each of some letters is a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *(f"g{n}" for n in range(len(letters)))]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): f"g{n}" for n, c in enumerate(letters)})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(file)


def drawn(text: str, file) -> bytes:
    figure = Figure(figsize=(2, 1))
    figure.suptitle(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with any_script(figure):
            figure.savefig(file)
    return file.read_bytes()


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_an_installed_font_has_what_the_usual_one_lacks(ending, no_fonts, tmp_path, capsys):
    boxes = drawn(WALK, tmp_path / f"boxes.{ending}")
    assert f"figures: no installed font has {''.join(sorted(WALK))}: drawn as" in (
        capsys.readouterr().out
    )
    font_with(WALK, tmp_path / "squares.ttf")
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    _fonts._fallbacks.cache_clear()
    assert drawn(WALK, tmp_path / f"letters.{ending}") != boxes
    assert capsys.readouterr().out == ""


def test_letters_without_a_font_are_said_once(no_fonts, tmp_path, capsys):
    for _ in range(2):
        drawn(f"{WALK} walk", tmp_path / "x.png")
    drawn("é ß walk\n2", tmp_path / "y.png")
    assert capsys.readouterr().out.count("\n") == 1


def test_pictures_of_a_store_and_of_classes(no_fonts, tmp_path, capsys):
    rng = np.random.default_rng(0)
    write_store(
        tmp_path / "st",
        rng.standard_normal((2, 3, 4, 20, 1)).astype(np.float32),
        {"name": ["跑/1", "b"], "label": [0, 1]},
        layout="kinect-v1",
        classes=[WALK, "walk"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        command_line(["inspect", str(tmp_path / "st"), "--out", str(tmp_path / "figures")])
        figure = draw_confusion(np.array([0, 1]), np.array([0, 1]), [WALK, "walk"], "x")
        save_figure(figure, tmp_path, "confusion")
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("figures:")] == [
        f"figures: no installed font has {letters}: drawn as boxes (Noto Sans CJK has most)"
        for letters in ("".join(sorted(WALK)), "跑")
    ]
