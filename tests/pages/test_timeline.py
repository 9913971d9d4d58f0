"""The timeline of answers: what a reader sees of each, and what a click shows."""

from __future__ import annotations

import numpy as np
import pytest
from browser import in_browser

from aimclr_fast.pages import Clip, pack_clip, write_page

ANSWERS = [
    {"label": "squat", "probability": 0.87, "unknown": False},
    {"label": "squat", "probability": 0.98, "unknown": True},
    {"label": "lunge", "probability": None, "unknown": None},
    {"label": "", "probability": None, "unknown": None},
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp("timeline") / "timeline.html"
    motion = np.random.default_rng(0).standard_normal((3, 4, 2, 1))
    answers = [
        {"recording": "a", "person": place // 2 + 1, "start": 2.0 * place, "end": 2.0 * place + 4,
         "nearest": "s01", "distance": 0.25, **one}
        for place, one in enumerate(ANSWERS)
    ]  # fmt: skip
    clips = [pack_clip(Clip(f"{place}", motion)) for place in range(3)]
    skeleton = {"joints": ["hip", "head"], "bones": [[0, 1, "middle"]]}
    write_page(
        file,
        title="answers",
        data={"answers": answers, "clips": clips, "skeleton": skeleton},
        body='<div id="timeline"></div>\n<div id="player"></div>',
        scripts=["timeline", "player"],
    )
    return in_browser(
        file,
        """
        const blocks = [...document.querySelectorAll(".blocks button")];
        const lines = (block) => [...block.children].map((one) => one.textContent);
        const pressed = () => blocks.map((one) => one.getAttribute("aria-pressed") === "true");
        const clips = () => [...document.querySelectorAll(".clip")]
          .map((one) => one.classList.contains("chosen"));
        const answer = {
          lanes: [...document.querySelectorAll(".lane h2")].map((one) => one.textContent),
          lines: blocks.map(lines),
          bars: blocks.map((one) => {
            const bar = one.querySelector(".bar");
            return bar && bar.firstChild.offsetWidth / bar.offsetWidth;
          }),
          titles: blocks.map((one) => one.title),
          note: document.querySelector("#timeline > p").textContent,
          before: pressed(),
        };
        blocks[1].click();
        answer.second = [pressed(), clips()];
        blocks[3].click();
        answer.last = [pressed(), clips()];
        return answer;
        """,
        width=1000,
    )


def test_each_answer_says_how_sure_it_is(found):
    assert found["lanes"] == ["a, person 1", "a, person 2"]
    assert found["lines"] == [
        ["0–4 s", "squat, 87%", ""],
        ["2–6 s", "unknown", "closest class: squat"],
        ["4–8 s", "lunge"],
        ["6–10 s", "?"],
    ]
    assert set(found["titles"]) == {"nearest: s01 (0.250)"}


def test_what_is_unknown_has_no_bar(found):
    """A motion unlike all classes may have a high probability of one; a full bar would mislead."""
    assert found["bars"][0] == pytest.approx(0.87, abs=0.02)
    assert found["bars"][1:] == [None, None, None]


def test_a_click_marks_the_answer_and_its_motion(found):
    assert found["before"] == [False] * 4
    assert found["second"] == [[False, True, False, False], [False, True, False]]
    assert found["last"] == [[False, False, False, True], [False, False, False]]
    assert found["note"] == (
        "The motion of the first 3 answers is below; that of the others is not on this page."
    )
