"""Live motion gives what the same windows give as recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoders import checkpoint, save

from aimclr_fast import load_encoder
from aimclr_fast.data import open_embedded
from aimclr_fast.inference.streaming import StreamingClassifier

FPS, WINDOW, HOP = 20.0, 1.0, 0.5
LENGTH = 20


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    file = tmp_path_factory.mktemp("encoder") / "x.pt"
    return load_encoder(save(checkpoint(open_embedded("ui_prmd")), file), device="cpu")


@pytest.fixture(scope="module")
def encoder(bare):
    weight = torch.randn(3, bare.num_features, generator=torch.Generator().manual_seed(0))
    return bare.with_classifier(weight, torch.zeros(3), ("walk", "wave", "sit"))


def motion(encoder, frames: int, seed: int = 0) -> np.ndarray:
    """A body that sways, [T, V, 3] in meters."""
    random = np.random.default_rng(seed)
    rest = 0.4 * random.standard_normal((encoder.layout.num_joints, 3))
    sway = 0.2 * np.sin(np.arange(frames)[:, None, None] / 7 + random.standard_normal(rest.shape))
    return (rest + sway).astype(np.float32)


def live(encoder, **changes) -> StreamingClassifier:
    return StreamingClassifier(encoder, **{"fps": FPS, "window": WINDOW, "hop": HOP, **changes})


def pushed(stream, motions: dict, times, skip=()) -> list:
    answers = []
    for frame, time in enumerate(times):
        people = {p: x[frame] for p, x in motions.items() if (p, frame) not in skip}
        answers += stream.push(time, people)
    return answers


def same(answer, encoder, window) -> None:
    found = encoder.classify([window])
    torch.testing.assert_close(answer.features, found.features[0])
    torch.testing.assert_close(answer.probabilities, found.probabilities[0])
    assert answer.name == found.names[0]


def test_each_window_is_classified_as_a_recording_is(encoder):
    x = motion(encoder, 45)
    answers = pushed(live(encoder), {1: x}, 100 + np.arange(45) / FPS)
    assert [(a.person, round(a.start, 6), round(a.end, 6)) for a in answers] == [
        (1, 100.0, 100.95),
        (1, 100.5, 101.45),
        (1, 101.0, 101.95),
    ]
    for start, answer in zip((0, 10, 20), answers, strict=True):
        same(answer, encoder, x[start : start + LENGTH])
        assert answer.missing == 0


@pytest.mark.filterwarnings("error")
def test_numbers_may_be_numpy_s(encoder):
    given = {"fps": np.float32(FPS), "window": np.float64(WINDOW), "hop": np.int64(1)}
    assert len(pushed(live(encoder, **given), {1: motion(encoder, 25)}, np.arange(25) / FPS)) == 1


def test_times_are_rounded_to_microseconds(encoder):
    x = motion(encoder, 30)
    (answer,) = pushed(live(encoder, fps=30), {1: x}, 100.1 + np.arange(30) / 30)
    assert (answer.start, answer.end) == (100.1, 101.066667)


def test_an_answer_comes_with_the_frame_that_completes_its_window(encoder):
    stream, x = live(encoder), motion(encoder, 31)
    came = [len(stream.push(frame / FPS, {1: x[frame]})) for frame in range(31)]
    assert [frame for frame, count in enumerate(came) if count] == [19, 29]


def test_an_uneven_camera_lands_on_the_grid(encoder):
    x = motion(encoder, 40)
    jitter = np.random.default_rng(1).uniform(-0.4, 0.4, 40) / FPS
    jitter[0] = 0
    answers = pushed(live(encoder), {1: x}, np.arange(40) / FPS + jitter)
    even = pushed(live(encoder), {1: x}, np.arange(40) / FPS)
    assert len(answers) == len(even) == 3
    for one, other in zip(answers, even, strict=True):
        torch.testing.assert_close(one.features, other.features)


def test_frames_that_were_dropped_are_filled_as_in_a_recording(encoder):
    x = motion(encoder, 20)
    stream, answers = live(encoder), []
    for frame in (f for f in range(20) if f not in (5, 6, 12)):
        answers += stream.push(frame / FPS, {1: x[frame]})
    (answer,) = answers
    holes = x.copy()
    holes[[5, 6, 12]] = np.nan
    same(answer, encoder, holes)
    assert answer.missing == pytest.approx(3 / 20)


def test_a_window_that_ends_in_dropped_frames_is_answered_with_the_next_frame(encoder):
    x = motion(encoder, 23)
    stream = live(encoder)
    assert not pushed(stream, {1: x}, np.arange(18) / FPS)
    (answer,) = stream.push(22 / FPS, {1: x[22]})
    holes = x[:20].copy()
    holes[18:] = np.nan
    same(answer, encoder, holes)


def test_several_people_have_windows_of_their_own(encoder):
    motions = {"a": motion(encoder, 40, 1), "b": motion(encoder, 40, 2)}
    late = {("b", frame) for frame in range(7)}
    answers = pushed(live(encoder), motions, np.arange(40) / FPS, late)
    assert [(a.person, round(a.end * FPS)) for a in answers] == [
        ("a", 19),
        ("b", 26),
        ("a", 29),
        ("b", 36),
        ("a", 39),
    ]
    same(answers[1], encoder, motions["b"][7:27])


def test_one_who_is_lost_is_forgotten_and_begins_anew(encoder):
    x = motion(encoder, 80)
    stream = live(encoder, lost=0.5)
    gone = {(1, frame) for frame in range(15, 40)}
    answers = pushed(stream, {1: x}, np.arange(80) / FPS, gone)
    assert [round(a.start * FPS) for a in answers] == [0, 40, 50, 60]
    assert answers[0].missing == pytest.approx(5 / 20)
    assert stream.people == (1,)
    stream.push(80 / FPS + 0.55, {})
    assert stream.people == ()


def test_a_window_that_is_mostly_missing_has_no_answer(encoder):
    x = motion(encoder, 40)
    gone = {(1, frame) for frame in range(9, 30)}
    answers = pushed(live(encoder, lost=2.0), {1: x}, np.arange(40) / FPS, gone)
    assert [round(a.start * FPS) for a in answers] == [20]


def test_one_of_whom_nothing_is_seen_is_not_there(encoder):
    x = motion(encoder, 40)
    gone = {(1, frame) for frame in (*range(11, 27), 33)}
    nothing = x.copy()
    nothing[[frame for _, frame in gone]] = np.nan
    times = np.arange(40) / FPS
    given = pushed(live(encoder, hop=0.1, lost=2.0), {1: nothing}, times)
    left_out = pushed(live(encoder, hop=0.1, lost=2.0), {1: x}, times, gone)
    assert len(given) == len(left_out) > 2
    for one, other in zip(given, left_out, strict=True):
        assert (one.start, one.missing) == (other.start, other.missing)
    stream = live(encoder, lost=0.5)
    pushed(stream, {1: nothing, 2: np.full_like(x, np.nan)}, times[:25])
    assert stream.people == ()


def test_one_who_does_not_move_is_told(encoder):
    x = motion(encoder, 20)
    answers = pushed(live(encoder), {"a": x, "b": x[:1].repeat(20, 0)}, np.arange(20) / FPS)
    assert [(a.person, a.still) for a in answers] == [("a", False), ("b", True)]


def test_the_later_of_two_frames_in_a_slot_counts(encoder):
    x = motion(encoder, 21)
    stream = live(encoder)
    answers = []
    for time, frame in [*((f, f) for f in range(10)), (9.2, 20), *((f, f) for f in range(10, 20))]:
        answers += stream.push(time / FPS, {1: x[frame]})
    (answer,) = answers
    other = x[:20].copy()
    other[9] = x[20]
    same(answer, encoder, other)


def test_without_a_classifier_there_are_features(bare):
    (answer,) = pushed(live(bare), {1: motion(bare, 20)}, np.arange(20) / FPS)
    assert (answer.name, len(answer.probabilities)) == ("", 0)
    assert answer.features.shape == (bare.num_features,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0}, "fps must be positive, got 0"),
        ({"window": float("nan")}, "window must be positive"),
        ({"window": 0.05}, "a window of 0.05 s has 1 frames"),
        ({"hop": 0.01}, "a hop of 0.01 s 0"),
    ],
)
def test_wrong_times_are_refused(changes, message, encoder):
    with pytest.raises(ValueError, match=message):
        live(encoder, **changes)


def test_a_wrong_frame_changes_nothing(encoder):
    x = motion(encoder, 20)
    stream = live(encoder)
    pushed(stream, {1: x}, np.arange(19) / FPS)
    for time, people, message in [
        (0.5, {1: x[0]}, "time went back"),
        (float("nan"), {}, "time must be finite"),
        (1.0, {1: x[0, :3]}, r"person 1: expected positions \[\d+, 3\] of layout"),
        (1.0, {2: x[0] + np.inf}, "person 2: positions must not be infinite"),
    ]:
        with pytest.raises(ValueError, match=message):
            stream.push(time, people)
    (answer,) = stream.push(19 / FPS, {1: x[19]})
    same(answer, encoder, x)


def test_a_joint_that_was_never_seen_costs_nobody_else_an_answer(encoder):
    x = motion(encoder, 20)
    lost = x.copy()
    lost[:, encoder.layout.center] = np.nan
    (answer,) = pushed(live(encoder), {"a": lost, "b": x}, np.arange(20) / FPS)
    assert answer.person == "b"
    with pytest.raises(TypeError, match="people must map ids to positions, got ndarray"):
        live(encoder).push(0.0, x[0])
