"""The page of skeletons: it holds the coordinates, and plays, scrubs and turns them."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from browser import in_browser

from aimclr_fast.data.embedded import resolve_store
from aimclr_fast.data.inspection import draw
from aimclr_fast.pages import Clip, pack_clip, write_page


def sequence(bodies: int = 2, *, flat: bool = False) -> np.ndarray:
    motion = np.random.default_rng(0).standard_normal((3, 7, 5, bodies))
    if flat:
        motion[2] = 0.0
    return motion


def unpacked(packed: dict) -> np.ndarray:
    kind = {8: "u1", 16: "<u2"}[packed["bits"]]
    levels = np.frombuffer(base64.b64decode(packed["data"]), kind).astype(float)
    levels = levels.reshape(packed["frames"], packed["bodies"], -1, 3)
    levels[levels == 2 ** packed["bits"] - 1] = np.nan
    return (levels * packed["step"] + packed["low"]).transpose(3, 0, 2, 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_clip_keeps_its_coordinates_to_half_a_step(bits):
    motion = sequence()
    motion[:, 2, :, 1] = 0.0  # the second body is absent from a frame
    packed = pack_clip(Clip("x", motion), bits=bits)
    found = unpacked(packed)
    assert np.isnan(found[:, 2, :, 1]).all()
    found[:, 2, :, 1] = 0.0
    size = np.ptp(motion, axis=(1, 2, 3)).max()
    assert packed["step"] == pytest.approx(size / (2**bits - 2))
    np.testing.assert_allclose(found, motion, atol=packed["step"] * 0.501, rtol=0)


def test_fewer_frames_are_evenly_spread():
    motion = sequence(1)
    packed = pack_clip(Clip("x", motion), frames=4)
    assert packed["frames"] == 4
    np.testing.assert_allclose(unpacked(packed), motion[:, ::2], atol=packed["step"], rtol=0)
    assert pack_clip(Clip("x", motion), frames=9)["frames"] == 7


def test_bodies_that_are_never_there_take_no_room():
    motion = np.concatenate([np.zeros((3, 7, 5, 1)), sequence(1)], axis=3)
    packed = pack_clip(Clip("x", motion))
    assert packed["bodies"] == 1
    assert packed["data"] == pack_clip(Clip("x", sequence(1)))["data"]
    assert pack_clip(Clip("x", np.zeros((3, 7, 5, 2))))["bodies"] == 0


@pytest.mark.parametrize("shape", [(2, 7, 5, 1), (3, 0, 5, 1), (3, 7, 5), (3, 7, 5, 0)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"name: expected positions \[3, T, V, M\]"):
        pack_clip(Clip("name", np.ones(shape)))


def test_values_that_are_not_finite_are_refused():
    motion = sequence()
    motion[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"name: .* not finite"):
        pack_clip(Clip("name", motion))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    store = resolve_store("ui_prmd")
    names = [store.samples["name"][0], store.samples["name"][-1], store.samples["name"][40]]
    return next(draw(store, tmp_path_factory.mktemp("page"), names=names)), store, names


def test_the_page_needs_nothing_else(page):
    text = page[0].read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|src=", text)
    assert len(text) < 200_000


def test_markup_in_names_stays_text(tmp_path):
    title = "</script><b>&amp;\u2028"
    write_page(tmp_path / "x.html", title=title, data={"a": title}, body="", scripts=[])
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    assert json.loads(data[1]) == {"a": title}
    assert "<b>" not in text


def test_it_shows_two_views_of_each_sequence_and_draws_them(page):
    found = in_browser(
        page[0],
        """
        player.play(false);
        const drawn = [...document.querySelectorAll("canvas")].map((canvas) => {
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const colors = new Set();
          for (let i = 0; i < pixels.data.length; i += 4) {
            if (pixels.data[i + 3] === 255) {
              colors.add([...pixels.data.slice(i, i + 3)].join());
            }
          }
          return [canvas.width, colors.size];
        });
        return {
          titles: [...document.querySelectorAll("figcaption")].map((one) => one.textContent),
          drawn, lowest: player.clips[0].box.floor, bones: player.skeleton.bones,
        };
        """,
    )
    _, store, names = page
    assert [title.split(":")[0] for title in found["titles"]] == list(names)
    assert len(found["drawn"]) == 6
    for width, colors in found["drawn"]:
        assert width > 100
        assert colors >= 4  # left, right, middle and the floor
    index = store.samples["name"].tolist().index(names[0])
    motion = store.as_tensor(index).numpy()
    assert found["lowest"] == pytest.approx(motion[1].min(), abs=1e-3)
    joints = store.layout.joints
    for a, _, side in found["bones"]:
        if side != "middle":
            assert side in joints[a].lower()


def test_sequences_are_seen_from_the_front(page):
    """Left is on the viewer's right, however the person stands."""
    angles = in_browser(page[0], "return player.clips.map((clip) => clip.front);")
    _, store, names = page
    joints = store.layout.joints
    for angle, name in zip(angles, names, strict=True):
        motion = store.as_tensor(store.samples["name"].tolist().index(name)).numpy()
        shoulders = [joints.index(f"{side}_upper_arm") for side in ("left", "right")]
        left, right = motion[:, :, shoulders, 0].mean(axis=1).T
        across = np.cos(angle) * (left - right)[0] + np.sin(angle) * (left - right)[2]
        assert across > 0.9 * np.hypot(*(left - right)[[0, 2]])


def test_play_scrub_turn_and_keys(page):
    found = in_browser(
        page[0],
        """
        const pause = (ms) => new Promise((done) => setTimeout(done, ms));
        const view = document.querySelector("canvas");
        const shot = () => view.toDataURL();
        const button = document.getElementById("play"), slider = document.getElementById("frame");
        const key = (name) => document.body.dispatchEvent(
          new KeyboardEvent("keydown", { key: name, bubbles: true }));
        const answer = { most: Number(slider.max) };
        if (player.timer === null) button.click();
        answer.playing = button.textContent;
        const before = player.frame;
        await pause(500);
        answer.moved = player.frame !== before;
        button.click();
        const held = player.frame;
        await pause(200);
        answer.held = player.frame === held && button.textContent === "Play";
        slider.value = 3; slider.dispatchEvent(new Event("input"));
        answer.scrubbed = document.querySelector(".frame").textContent;
        const third = shot();
        key("ArrowRight");
        answer.stepped = player.frame;
        answer.other = shot() !== third;
        key("ArrowLeft");
        answer.same = shot() === third;
        const at = (type, x, y) => view.dispatchEvent(new PointerEvent(type, {
          clientX: x, clientY: y, pointerId: 1, bubbles: true }));
        view.setPointerCapture = () => {};
        at("pointerdown", 50, 50); at("pointermove", 150, 60); at("pointerup", 150, 60);
        answer.yaw = player.angle.yaw;
        answer.turned = shot() !== third;
        document.getElementById("front").click();
        answer.back = shot() === third;
        key(" ");
        answer.space = player.timer !== null;
        return answer;
        """,
    )
    assert found == {
        "most": 49, "playing": "Pause", "moved": True, "held": True, "scrubbed": "4/50",
        "stepped": 4, "other": True, "same": True, "yaw": 1, "turned": True, "back": True,
        "space": True,
    }  # fmt: skip


def test_a_phone_has_no_sideways_scrolling(page):
    found = in_browser(
        page[0], "return [document.documentElement.scrollWidth, window.innerWidth];", width=500
    )
    assert found[0] <= found[1]
