"""The page of runs: its numbers, and its map in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import statistics

import numpy as np
import pytest
from browser import in_browser
from matplotlib.figure import Figure
from sklearn.dummy import DummyClassifier
from small_data import write_tiny

from aimclr_fast.data import open_store, write_store
from aimclr_fast.data.conversion import LEFT_OUT
from aimclr_fast.evaluation.run_page import DOTS, ROOM, Page, flat, picture, table
from aimclr_fast.pages import Clip, pack_clip
from aimclr_fast.report import command_line
from aimclr_fast.train import command_line as train

SMALL = [
    "--split=odd-even", "--model.channels=4", "--model.features=8", "--model.embedding=8",
    "--model.queue_size=16", "--optim.epochs=2", "--optim.batch_size=8", "--optim.mining_epoch=1",
    "--monitor.knn_every=1", "--data.frame_step=1", "--threads=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_tiny(folder / "store")
    (folder / "store" / LEFT_OUT).write_text("where,reason\na,too short\nb,too short\nc,<empty>\n")
    for seed in (3, 4):
        train([f"--data={folder / 'store'}", f"--output={folder / f'seed{seed}'}",
               f"--seed={seed}", *SMALL])  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def page(runs):
    command_line([str(runs / "seed3"), str(runs / "seed4"), f"--out={runs / 'page.html'}"])
    return runs / "page.html"


def data_of(page) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])


def test_the_table_is_of_all_runs(page, runs):
    text = page.read_text(encoding="utf-8")
    scores = [
        json.loads((runs / f"seed{seed}" / "results.json").read_text())["scores"] for seed in (3, 4)
    ]
    assert "mean and standard deviation of 2 runs, seeds 3, 4, each trained for " in text
    assert "The map and the figures are of seed 3." in text
    for name in scores[0]:
        row = re.search(rf"<tr><td>{re.escape(name)}</td>(.*?)</tr>", text)
        assert row, name
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row[1])
        values = [100 * one[name]["knn_1"] for one in scores]
        assert cells[0] == f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def test_settings_data_and_what_was_left_out(page):
    text = page.read_text(encoding="utf-8")
    assert "<tr><td>model.channels</td><td class=number>4</td><td class=number>16</td></tr>" in text
    assert "model.temperature" not in text  # as published
    assert "<td>monitor." not in text  # what is measured is no part of a recipe
    assert "<td>precision</td>" in text  # on other machines auto is another one
    assert "<td>too short</td><td class=number>2</td>" in text
    assert "<td>&lt;empty&gt;</td><td class=number>1</td>" in text
    assert "49 sequences" in text


def test_it_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    loaded = re.findall(r'(?:src|href)="([^"]*)"|@import|url\((?!#)', text)
    assert all(one.startswith(("data:", "#")) for one in loaded if one)
    names = re.findall(r'\bid="([^"]*)"', text)
    assert len(set(names)) == len(names)


def test_the_map_holds_the_test_samples(page, runs):
    store, data = open_store(runs / "store"), data_of(page)
    test = np.flatnonzero(store.samples["subject"] % 2 == 0)
    assert [dot["title"].split(":")[0] for dot in data["dots"]] == store.samples["name"][
        test
    ].tolist()
    assert data["labels"] == store.labels[test].tolist()
    assert all(len(near) == 3 and row not in near for row, near in enumerate(data["neighbors"]))
    assert np.abs(data["points"]).max() <= 1
    assert {(dot["bits"], dot["frames"]) for dot in data["dots"]} == {(8, 9)}


@pytest.mark.parametrize("constant", [False, True])
def test_the_figures_have_the_table_s_classifier(constant, runs, tmp_path, monkeypatch):
    """They show its accuracies, and change when it does."""
    drawn = {}

    def confusion(predicted, labels, *_):
        drawn["confusion"] = predicted, float((predicted == labels).mean())
        return Figure()

    def efficiency(curves, _):
        drawn.update({name: points[max(points)] for name, points in curves.items()})
        return Figure()

    page = "aimclr_fast.evaluation.run_page"
    monkeypatch.setattr(f"{page}.draw_confusion", confusion)
    monkeypatch.setattr(f"{page}.draw_label_efficiency", efficiency)
    if constant:
        monkeypatch.setattr(
            "aimclr_fast.evaluation.logistic.LogisticRegression",
            lambda **options: DummyClassifier(strategy="most_frequent"),
        )
    command_line([str(runs / "seed3"), f"--out={tmp_path / 'page.html'}"])
    predicted, accuracy = drawn["confusion"]
    if constant:
        assert len(set(predicted.tolist())) == 1
        assert drawn["untrained"] == drawn["raw poses"] == drawn["pretrained"]
        return
    scores = json.loads((runs / "seed3" / "results.json").read_text())["scores"]
    for name in ("pretrained", "untrained"):
        assert drawn[name] == pytest.approx([scores[f"{name} encoder"]["linear"]])
    assert drawn["pretrained"] == pytest.approx([accuracy])


def test_a_dot_is_played_beside_its_neighbors(page):
    data = data_of(page)
    found = in_browser(
        page,
        """
        const titles = () => [...document.querySelectorAll(".shown figcaption")]
          .map((one) => one.textContent.split(" 1/")[0].replace(/ [0-9]+.[0-9]+$/, ""));
        const canvas = document.querySelector(".plot");
        const edge = canvas.getBoundingClientRect();
        const point = (index, what = "pointermove") => {
          const [x, y] = map.places()[index];
          canvas.dispatchEvent(new PointerEvent(what, {
            clientX: edge.left + x, clientY: edge.top + y, bubbles: true }));
        };
        const answer = { first: [map.chosen(), titles()] };
        point(5);
        answer.pointed = [map.chosen(), titles()];
        const key = (name) => canvas.dispatchEvent(
          new KeyboardEvent("keydown", { key: name, bubbles: true }));
        key("ArrowRight"); key("ArrowLeft"); key("ArrowRight");
        answer.keyed = map.chosen();
        map.player.play(false);
        const view = document.querySelector(".shown canvas");
        map.player.seek(0);
        const still = view.toDataURL();
        map.player.seek(4);
        answer.moves = view.toDataURL() !== still;
        const before = canvas.toDataURL();
        const only = document.querySelectorAll(".classes button")[1];
        only.click();
        answer.only = [only.getAttribute("aria-pressed"), canvas.toDataURL() !== before];
        only.click();
        answer.again = canvas.toDataURL() === before;
        point(7, "click");
        point(8);
        answer.held = [map.chosen(), titles()[0]];
        point(9, "click");
        answer.other = map.chosen();
        point(9, "click");
        point(8);
        answer.released = map.chosen();
        answer.headings = [...document.querySelectorAll("h2")].map((one) => one.textContent);
        answer.pictures = document.querySelectorAll("section > figure svg").length;
        return answer;
        """,
    )
    near = data["neighbors"][0]
    title = lambda row: data["dots"][row]["title"]  # noqa: E731
    assert found["first"] == [
        0,
        [title(0), *(f"neighbor {k}, {title(row)}" for k, row in enumerate(near, start=1))],
    ]
    assert found["pointed"][0] == 5
    assert found["pointed"][1][0] == title(5)
    assert found["keyed"] == 6
    assert found["moves"]
    assert found["only"] == ["true", True]
    assert found["again"]
    assert found["held"] == [7, title(7)]
    assert found["other"] == 9
    assert found["released"] == 8
    assert found["headings"] == [
        "Scores", "Map", "Accuracy by class", "Confusion", "Label efficiency", "Training",
        "Settings that differ from the published recipe", "Data",
    ]  # fmt: skip
    assert found["pictures"] == 4


_PLACES = """
map.player.play(false);
const place = (name) => {
  const { left, right, top, bottom } = document.querySelector(name).getBoundingClientRect();
  return { left, right, top, bottom };
};
const pictures = [...document.querySelectorAll("section > figure svg text")]
  .map((one) => [parseFloat(getComputedStyle(one).fontSize), one.getScreenCTM()])
  .map(([size, to]) => size * Math.hypot(to.a, to.b));
return {
  plot: place(".plot"), clip: place(".shown .clip"), last: place(".shown .clip:last-child"),
  classes: place(".classes"), smallest: Math.min(...pictures),
  wide: [document.documentElement.scrollWidth, window.innerWidth],
};
"""


def test_the_motion_is_beside_the_map(page):
    found = in_browser(page, _PLACES, width=1280)
    assert found["clip"]["left"] >= found["plot"]["right"]
    assert found["last"]["bottom"] < max(found["plot"]["bottom"], found["plot"]["top"] + 700)
    assert found["classes"]["top"] >= found["last"]["bottom"]


def test_a_phone_has_no_sideways_scrolling_and_text_that_can_be_read(page):
    found = in_browser(page, _PLACES, width=500)
    assert found["wide"][0] <= found["wide"][1]
    # A touched dot's motion comes next below the map, within one screen.
    assert found["plot"]["bottom"] <= found["clip"]["top"]
    assert found["clip"]["bottom"] - found["plot"]["top"] < 800
    assert found["classes"]["top"] >= found["last"]["bottom"]
    assert found["smallest"] > 7


def test_a_store_without_labels_has_a_map(runs, tmp_path):
    store = open_store(runs / "store")
    columns = {name: cells for name, cells in store.samples.items() if name != "label"}
    write_store(tmp_path / "plain", store.positions, columns, layout=store.layout)
    out = tmp_path / "page.html"
    command_line([str(runs / "seed3"), f"--data={tmp_path / 'plain'}", f"--out={out}"])
    data = data_of(out)
    assert [dot["title"] for dot in data["dots"]] == store.samples["name"].tolist()
    assert data["classes"] == []
    assert data["about"].startswith("49 sequences by t-SNE")
    found = in_browser(out, "return [map.chosen(), document.querySelectorAll('.clip').length];")
    assert found == [0, 4]


def test_a_run_without_its_log_has_no_curves(runs, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(runs / "seed3", copied, ignore=shutil.ignore_patterns("metrics.jsonl"))
    command_line([str(copied)])
    assert "No curves: " in (copied / "report.html").read_text(encoding="utf-8")


def test_two_thousand_dots_stay_below_five_megabytes():
    motion = np.random.default_rng(0).standard_normal((3, 50, 25, 1))
    one = len(
        json.dumps(pack_clip(Clip("m01_s01_e01_correct: walking", motion), frames=16, bits=8))
    )
    assert DOTS * (one + 50) < ROOM  # places, labels and neighbors; the rest is 0.3 MB


def test_there_are_fewer_dots_where_they_take_more(runs, page, tmp_path, monkeypatch):
    """As with two people of 25 joints in each."""
    dots = data_of(page)["dots"]
    whole, count = len(json.dumps(dots)), len(dots)
    monkeypatch.setattr("aimclr_fast.evaluation.run_page.ROOM", whole // 2)
    command_line([str(runs / "seed3"), f"--out={tmp_path / 'page.html'}"])
    data = data_of(tmp_path / "page.html")
    assert 5 < len(data["dots"]) < count
    assert len(json.dumps(data["dots"])) < 0.6 * whole
    assert data["about"].startswith(f"{len(data['dots'])} test samples (of {count}) by t-SNE")
    assert all(max(near) < len(data["dots"]) for near in data["neighbors"])


def test_the_same_numbers_make_the_same_page(runs, page):
    again = runs / "again.html"
    command_line([str(runs / "seed3"), str(runs / "seed4"), f"--out={again}"])
    assert again.read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no such folder"),
        (["store"], "has no run.json: not a finished run"),
        (["seed3", "seed3"], "two runs have the same seed: 3, 3"),
        (["seed3", "--data=nothing"], "neither an embedded data set"),
        (["seed3", "--data=squares"], "squares: has layout kard, but the encoder of seed3 takes"),
        (["seed3", "--out=page.html"], "page.html: exists already"),
        (["seed3", "other"], "differ in model.channels (4 and 5)"),
        (["seed3", "elsewhere"], "seed3 and elsewhere were trained on different data"),
        (["broken"], "run.json: not readable"),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments, message, runs, page, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    if not (runs / "other").exists():
        write_store(runs / "squares", np.ones((1, 3, 5, 15, 1)), {"name": ["a"]}, layout="kard")
        for name in ("other", "elsewhere"):
            (runs / name).mkdir()
        (runs / "broken").mkdir()
        (runs / "broken" / "run.json").write_text("{")
        for name in ("run.json", "results.json"):
            content = json.loads((runs / "seed4" / name).read_text())
            (runs / "elsewhere" / name).write_text(
                json.dumps({**content, "data": {"positions.npy": "0"}})
            )
            if name == "run.json":
                content["config"]["model"]["channels"] = 5
            (runs / "other" / name).write_text(json.dumps(content))
    with pytest.raises(SystemExit) as caught:
        command_line(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_few_points_lie_flat():
    for count in (1, 2, 5, 12):
        points, how = flat(np.random.default_rng(0).standard_normal((count, 4)), seed=0)
        assert points.shape == (count, 2)
        assert np.isfinite(points).all()
        assert how == ("PCA" if count < 10 else "t-SNE")


def test_markup_is_text():
    page = Page([("<a>", table(["<b>"], [["<i>"], [-1.5]]))])
    assert "<h2>&lt;a&gt;</h2>" in page.body
    assert "<th>&lt;b&gt;</th>" in page.body
    assert "<td>&lt;i&gt;</td>" in page.body
    figure = Figure()
    figure.subplots().set(title="x < y & z")
    assert "x &lt; y &amp; z" in picture(figure, "what")
