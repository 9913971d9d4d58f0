"""From recordings to answers: every window of every person, in a table and on a page."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import torch
from browser import in_browser
from data.readers.bvh_files import bvh_text
from encoders import checkpoint, save

from aimclr_fast import load_encoder
from aimclr_fast.classify import command_line
from aimclr_fast.data import open_embedded, resolve_store, split
from aimclr_fast.export import export
from aimclr_fast.inference.known import Known, learn
from aimclr_fast.inference.loading import write_safetensors
from aimclr_fast.inference.streaming import StreamingClassifier
from aimclr_fast.search import command_line as search


def classify(*arguments: object) -> None:
    command_line([*map(str, arguments), "--device=cpu"])


def answers(folder) -> list[dict[str, str]]:
    with (folder / "answers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def poses():
    """A test sequence of each of three classes, [T, V, 3] in meters, by the name of its class."""
    store = resolve_store("ui_prmd_unaligned")
    test = split(store, "xsub")[1]
    rows = [int(test[store.labels[test] == label][0]) for label in (0, 7, 12)]
    x = store.as_tensor(rows)[..., 0].permute(0, 2, 3, 1).numpy()
    return {store.class_names[store.labels[row]]: one for row, one in zip(rows, x, strict=True)}


@pytest.fixture
def folder(poses, tmp_path):
    (tmp_path / "in").mkdir()
    for number, x in enumerate(poses.values()):
        np.save(tmp_path / "in" / f"{number}.npy", x)
    return tmp_path


def test_arrays_are_classified_as_the_encoder_does(folder, poses, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    classify("in", "--encoder=ui_prmd")
    rows = answers(folder / "answers")
    found = load_encoder("ui_prmd", device="cpu").classify(list(poses.values()))
    assert [row["recording"] for row in rows] == ["0", "1", "2"]
    assert [row["label"] for row in rows] == found.names
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == pytest.approx(found.probabilities.max(1).values.tolist(), abs=1e-5)
    assert {(row["person"], row["start"], row["end"], row["unknown"]) for row in rows} == {
        ("0", "", "", "")
    }
    said = capsys.readouterr().out
    assert "joints: taken to be the encoder's, in its order" in said
    assert "0: " in said
    kept = json.loads((folder / "answers" / "answers.json").read_text())
    assert [row["label"] for row in kept] == found.names
    assert kept[0]["start"] is None


def test_the_nearest_training_sequence_is_named(folder, capsys):
    store = resolve_store("ui_prmd_unaligned")
    train = split(store, "xsub")[0]
    row = int(train[17])
    np.save(folder / "in" / "known.npy", store.as_tensor(row)[..., 0].permute(1, 2, 0).numpy())
    classify(folder / "in", "--encoder=ui_prmd", f"--out={folder / 'out'}", "--unknown=0.05")
    found = {one["recording"]: one for one in answers(folder / "out")}
    assert found["known"]["nearest"] == store.samples["name"][row]
    assert float(found["known"]["distance"]) < 1e-5
    assert found["known"]["unknown"] == "False"
    assert "which 5% of new ones like them exceed" in capsys.readouterr().out


def test_windows_of_motion_capture_in_another_skeleton(tmp_path, capsys):
    for name, frames in (("a", 91), ("b", 61)):
        (tmp_path / f"{name}.bvh").write_text(bvh_text(frames=frames, time="0.0333333"))
    out = tmp_path / "out"
    classify(
        tmp_path / "a.bvh", tmp_path / "b.bvh", "--encoder=ui_prmd", "--window=1s", "--hop=0.5s",
        f"--out={out}", "--unknown=0.05",
    )  # fmt: skip
    rows = answers(out)
    assert [(row["recording"], row["start"], row["end"]) for row in rows] == [
        *(("a", f"{k / 2}", f"{k / 2 + 1}") for k in range(5)),
        *(("b", f"{k / 2}", f"{k / 2 + 1}") for k in range(3)),
    ]
    assert {row["unknown"] for row in rows} == {"True"}  # nothing like rehabilitation
    said = capsys.readouterr().out
    assert "for pretraining" not in said
    assert f"a 0-1 s: {rows[0]['label']} (unknown), nearest" in said  # how likely says nothing then


def test_what_the_data_check_finds_odd_is_told(folder, poses, capsys):
    """Files whose z points up, taken for y."""
    options = ["--encoder=ui_prmd", f"--out={folder / 'out'}"]
    classify(folder / "in", *options)
    assert "odd: " not in capsys.readouterr().out
    for number, x in enumerate(poses.values()):
        np.save(folder / "in" / f"{number}.npy", np.stack([x[..., 0], -x[..., 2], x[..., 1]], -1))
    classify(folder / "in", *options)
    assert "(--up z" in next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("odd: ")
    )


def test_one_bad_recording_costs_no_answers(folder, capsys):
    """Too short for a window, or damaged."""
    (folder / "bad.bvh").write_text("HIERARCHY\n")
    (folder / "a.bvh").write_text(bvh_text(frames=91, time="0.0333333"))
    (folder / "short.bvh").write_text(bvh_text(frames=5, time="0.0333333"))
    bad = [folder / "bad.bvh", folder / "short.bvh"]
    options = ["--encoder=ui_prmd", "--window=1s", f"--out={folder / 'out'}"]
    classify(bad[0], folder / "a.bvh", bad[1], *options)
    assert {row["recording"] for row in answers(folder / "out")} == {"a"}
    left_out = [one for one in capsys.readouterr().out.splitlines() if one.startswith("left out: ")]
    assert len(left_out) == 2
    assert "bad.bvh" in left_out[0]
    assert "shorter than a window" in left_out[1]
    with pytest.raises(SystemExit):
        classify(*bad, *options)
    assert "bad.bvh" in capsys.readouterr().err


def test_the_page_shows_the_first_motions_of_the_first_answers(folder, monkeypatch):
    monkeypatch.setattr("aimclr_fast.classify._CLIPS", 2)
    files = sorted((folder / "in").iterdir())
    classify(*files, "--encoder=ui_prmd", f"--out={folder / 'out'}")
    text = (folder / "out" / "timeline.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["answers"]) == 3
    assert [clip["title"].partition(":")[0] for clip in data["clips"]] == ["0", "1"]


def test_windows_of_arrays_at_a_rate(poses, tmp_path):
    np.save(tmp_path / "x.npy", next(iter(poses.values())))
    classify(
        tmp_path / "x.npy", "--encoder=ui_prmd", "--rate=10", "--window=2s", "--hop=1s",
        f"--out={tmp_path / 'out'}",
    )  # fmt: skip
    assert [(row["start"], row["end"]) for row in answers(tmp_path / "out")] == [
        ("0.0", "2.0"),
        ("1.0", "3.0"),
        ("2.0", "4.0"),
        ("3.0", "5.0"),
    ]


def test_files_of_one_name_are_told_apart_by_their_paths(poses, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, x in zip("ab", poses.values(), strict=False):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", x)
    classify("a/x.npy", "b/x.npy", "--encoder=ui_prmd", "--known=ui_prmd_unaligned")
    assert [row["recording"] for row in answers(tmp_path / "answers")] == ["x", "b/x.npy"]
    assert capsys.readouterr().out.count("joints: taken to be the encoder's") == 1


def test_each_person_has_answers_of_their_own(poses, tmp_path):
    first, second, _ = poses.values()
    np.save(tmp_path / "two.npy", np.stack([first, second]))
    classify(tmp_path / "two.npy", "--encoder=ui_prmd", f"--out={tmp_path / 'out'}")
    rows = answers(tmp_path / "out")
    assert [(row["recording"], row["person"]) for row in rows] == [("two", "1"), ("two", "2")]
    alone = load_encoder("ui_prmd", device="cpu").classify([first, second])
    assert [row["label"] for row in rows] == alone.names


def test_a_window_is_answered_as_in_live_motion(poses, tmp_path, capsys):
    """Where somebody is missing from more than half of it, it is not."""
    two = np.stack(list(poses.values())[:2])
    two[1, 5:17] = 0  # half of the first second, and seven tenths of the next
    np.save(tmp_path / "two.npy", two)
    classify(
        tmp_path / "two.npy", "--encoder=ui_prmd", "--rate=10", "--window=1s",
        f"--out={tmp_path / 'out'}",
    )  # fmt: skip
    found = [
        (row["person"], float(row["start"]), row["label"]) for row in answers(tmp_path / "out")
    ]
    live = StreamingClassifier(load_encoder("ui_prmd", device="cpu"), fps=10, window=1, lost=9)
    pushed = [
        live.push(frame / 10, {str(m + 1): x[frame] for m, x in enumerate(two) if x[frame].any()})
        for frame in range(two.shape[1])
    ]
    told = [(one.person, round(one.start, 6), one.name) for some in pushed for one in some]
    assert found == sorted(told)
    assert [start for person, start, _ in found if person == "2"] == [0, 2, 3, 4]
    said = capsys.readouterr().out
    assert "left out: two person 2: missing from more than half of the frames in 1 window" in said


def test_an_encoder_of_pairs_takes_people_together(poses, tmp_path, capsys):
    """One alone, two, and three, of whom the one who hardly moves is left out."""
    state = checkpoint(open_embedded("ui_prmd"))
    state["data"]["bodies"] = 2
    bare = load_encoder(save(state, tmp_path / "x.pt"), device="cpu")
    weight = torch.randn(3, bare.num_features, generator=torch.Generator().manual_seed(0))
    encoder = bare.with_classifier(weight, torch.zeros(3), ("push", "hug", "talk"))
    write_safetensors(encoder.model, tmp_path / "x.safetensors")
    one, two, three = poses.values()
    third = three[:1] + 0.01 * (three - three[:1])
    (tmp_path / "in").mkdir()
    people = {"a": [one], "b": [one, two], "c": [third, two, one]}
    for name, some in people.items():
        np.save(tmp_path / "in" / f"{name}.npy", np.stack(some))
    out = tmp_path / "out"
    classify(tmp_path / "in", f"--encoder={tmp_path / 'x.safetensors'}", f"--out={out}")
    rows = answers(out)
    assert [(row["recording"], row["person"]) for row in rows] == [
        ("a", "0"),
        ("b", "0"),
        ("c", "0"),
    ]
    expected = encoder.classify([one, np.stack([one, two]), np.stack([one, two])])
    assert [row["label"] for row in rows] == expected.names
    found = [float(row["probability"]) for row in rows]
    assert found == pytest.approx(expected.probabilities.max(1).values.tolist(), abs=1e-5)
    assert "people: up to 2 together, as the encoder was trained" in capsys.readouterr().out


def test_without_a_classifier_the_nearest_sequence_gives_the_label(folder, capsys):
    state = checkpoint(open_embedded("ui_prmd"))
    file = save(state, folder / "x.pt")
    classify(folder / "in", f"--encoder={file}", f"--out={folder / 'out'}")
    for row in answers(folder / "out"):
        assert row["probability"] == ""
        assert row["label"] in open_embedded("ui_prmd").class_names
        assert row["nearest"]
    assert "labels: those of the nearest training sequences, since" in capsys.readouterr().out
    classify(folder / "in", f"--encoder={file}", f"--out={folder / 'out'}", "--known=none")
    said = capsys.readouterr().out
    assert "0: ?\n" in said
    assert said.count("no labels, since the encoder has no classifier") == 1
    assert "python -m aimclr_fast.learn makes one" in said


def test_motion_that_nobody_makes_is_told(poses, tmp_path, capsys):
    x = next(iter(poses.values()))
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "moves.npy", x)
    np.save(tmp_path / "in" / "stands.npy", x[:1] + 0 * x)
    classify(tmp_path / "in", "--encoder=ui_prmd", "--why", f"--out={tmp_path / 'out'}")
    rows = {row["recording"]: row for row in answers(tmp_path / "out")}
    assert [rows[name]["still"] for name in ("moves", "stands")] == ["False", "True"]
    assert rows["stands"]["label"]
    assert [bool(rows[name]["because"]) for name in ("moves", "stands")] == [True, False]
    said = capsys.readouterr().out
    assert re.search(r"stands: .* \d+% \(still\), nearest", said)
    assert "still: nobody moves in 1 of 2 answers, whose labels say little" in said


def test_what_is_not_known_of_an_encoder_is_one_line(folder, capsys):
    state = checkpoint(open_embedded("ui_prmd"))
    state["data"]["preprocessing"] = None
    file = save(state, folder / "x.pt")
    for call in (
        lambda: classify(folder / "in", f"--encoder={file}", f"--out={folder / 'out'}"),
        lambda: search(["ui_prmd", str(folder / "in"), f"--encoder={file}", "--device=cpu"]),
    ):
        with pytest.raises(SystemExit) as caught:
            call()
        assert caught.value.code == 2
        assert "training data were preprocessed is not known" in capsys.readouterr().err


def test_an_exported_encoder_knows_no_store(folder, capsys):
    encoder = load_encoder("ui_prmd", device="cpu")
    export(encoder, folder / "x.safetensors", "safetensors")
    arguments = (folder / "in", f"--encoder={folder / 'x.safetensors'}", f"--out={folder / 'out'}")
    classify(*arguments)
    assert "does not say what it was trained on" in capsys.readouterr().out
    assert {row["nearest"] for row in answers(folder / "out")} == {""}
    with pytest.raises(SystemExit) as caught:
        classify(*arguments, "--unknown=0.1")
    assert caught.value.code == 2
    assert "name their store with --known" in capsys.readouterr().err
    classify(*arguments, "--unknown=0.1", "--known=ui_prmd_unaligned")
    assert all(row["nearest"] for row in answers(folder / "out"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "--encoder=nothing.pt"], "nothing.pt: no such"),
        (["nowhere", "--encoder=ui_prmd"], "nowhere"),
        (
            ["in", "--encoder=ui_prmd", "--window=1s"],
            "does not say its frame rate",
        ),
        (["in", "--encoder=ui_prmd", "--unknown=1"], "share must lie between 0 and 1"),
        (["in", "--encoder=ui_prmd", "--known=nothing"], "neither an embedded data set"),
        (["in", "--encoder=ui_prmd", "--split=nothing"], "unknown split 'nothing'"),
        (["in", "--encoder=ui_prmd", "--up=x"], "--up x: choose from"),
        (["in", "--encoder=ui_prmd", "--layout=kinect-v1"], "kinect-v1"),
    ],
)
def test_what_cannot_be_answered_is_one_line(arguments, message, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        classify(*arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "answers").exists()


def test_a_threshold_is_exceeded_by_its_share_of_others():
    """Groups alike: of new members of a group, the share exceeds it."""
    random = np.random.default_rng(0)

    def draw(count: int) -> torch.Tensor:
        x = torch.from_numpy(random.standard_normal((count, 3)))
        return torch.nn.functional.normalize(x, dim=1)

    groups = np.repeat(np.arange(20).astype(np.str_), 50)
    known = Known(draw(1000), [""] * 1000, None, groups)
    for share in (0.05, 0.2):
        threshold = known.threshold(share)
        assert float((known.nearest(draw(4000))[1] > threshold).double().mean()) == pytest.approx(
            share, abs=0.03
        )
    assert known.nearest(known.features)[1].min() >= 0  # no -0.000
    few = Known(draw(4), [""] * 4, None, groups[[0, 1, 50, 51]])
    assert few.threshold(0.05) == float("inf")  # too few to promise it
    with pytest.raises(ValueError, match="all of one group"):
        Known(draw(4), [""] * 4, None, groups[:4]).threshold(0.05)


def test_training_sequences_are_those_of_the_split():
    store = resolve_store("ui_prmd_unaligned")
    known = learn(load_encoder("ui_prmd", device="cpu"), store, "xsub")
    train = split(store, "xsub")[0]
    assert known.names == store.samples["name"][train].tolist()
    assert set(known.groups) == set(store.samples["subject"][train].astype(str))
    with pytest.raises(ValueError, match="has layout"):
        learn(load_encoder("ui_prmd", device="cpu"), _other_layout(store), "xsub")


def _other_layout(store):
    from dataclasses import replace

    from aimclr_fast.layouts import get_layout

    return replace(store, layout=get_layout("smpl-22"))


def test_why_names_a_part_and_a_time_and_draws_it(folder, capsys):
    classify(folder / "in", "--encoder=ui_prmd", f"--out={folder / 'out'}", "--why")
    for row in answers(folder / "out"):
        assert re.fullmatch(r"(trunk|(left|right) (arm|leg)), \d+% to \d+%", row["because"])
    assert ", because of " in capsys.readouterr().out
    drawn = in_browser(
        folder / "out" / "timeline.html",
        """
        player.play(false);
        const view = document.querySelector("canvas"), clip = player.clips[0];
        const shots = [];
        for (const weights of [clip.weights, null]) {
          clip.weights = weights;
          shots.push([0, 10, 20, 30, 40].map((frame) => {
            player.seek(frame);
            return view.toDataURL();
          }));
        }
        return shots[0].some((shot, i) => shot !== shots[1][i]);
        """,
    )
    assert drawn


def test_the_timeline_shows_every_answer_and_its_motion(folder, poses):
    still = next(iter(poses.values()))[:1].repeat(50, 0)
    np.save(folder / "in" / "3.npy", still)
    classify(folder / "in", "--encoder=ui_prmd", f"--out={folder / 'out'}", "--unknown=0.5")
    found = in_browser(
        folder / "out" / "timeline.html",
        """
        const blocks = [...document.querySelectorAll(".blocks button")];
        blocks[1].click();
        return {
          lanes: [...document.querySelectorAll(".lane h2")].map((one) => one.textContent),
          blocks: blocks.map((one) => [...one.children].map((part) => part.textContent)),
          chosen: [...document.querySelectorAll(".clip")].map((one) => one.className),
          canvases: document.querySelectorAll("canvas").length,
          wide: [document.documentElement.scrollWidth, window.innerWidth],
        };
        """,
        width=500,
    )
    rows = answers(folder / "out")
    assert found["lanes"] == ["0", "1", "2", "3"]
    for lines, row in zip(found["blocks"], rows, strict=True):
        label = row["label"] + (" (still)" if row["still"] == "True" else "")
        known = [f"{label}, {100 * float(row['probability']):.0f}%", ""]
        odd = ["unknown", f"closest class: {label}"]
        assert lines == ["whole", *(odd if row["unknown"] == "True" else known)]
    assert rows[3]["still"] == "True"
    assert found["chosen"] == ["clip", "clip chosen", "clip", "clip"]
    assert found["canvases"] == 8
    assert found["wide"][0] <= found["wide"][1]
