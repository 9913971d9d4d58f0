"""Who is who from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest

from aimclr_fast.data.gaps import LONGEST
from aimclr_fast.data.readers import ReadError
from aimclr_fast.data.readers._tracks import Seen, place_people

POSE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])


def at(frame: int, x: float, score: float = 1.0, ident: int | None = None) -> Seen:
    return Seen(frame, np.add(POSE, [x, 0]), np.full(4, score), ident, f"frame {frame}")


def places(people, frames, bodies):
    """X of each body's first joint, NaN where it was not seen, ``[T, M]``."""
    points, score = place_people(people, frames, bodies)
    return np.where(score[..., 0] > 0, points[:, :, 0, 0], np.nan).T


def test_the_assignment_with_the_least_total_distance():
    """The nearest pair first would leave the other with a distance that is too far."""
    people = [at(0, 0.0, 0.9), at(0, 0.5), at(1, 0.45, 0.9), at(1, 0.95)]
    np.testing.assert_allclose(places(people, 2, 2), [[0.5, 0.0], [0.95, 0.45]])


def test_gaps_up_to_half_a_second_are_one_person():
    for gap, bodies in ((LONGEST, 1), (LONGEST + 1, 2)):
        people = [at(0, 0.0), at(gap + 1, 0.2)]
        assert place_people(people, gap + 2, 2)[0].shape[0] == bodies


def test_whoever_appears_elsewhere_is_somebody_new():
    people = [at(t, 0.0 if t < 5 else 30.0) for t in range(9)]
    np.testing.assert_array_equal(np.isfinite(places(people, 9, 2)).sum(axis=0), [5, 4])
    kept = places(people, 9, 1)[:, 0]
    np.testing.assert_array_equal(np.isfinite(kept), np.arange(9) < 5)


def test_somebody_who_comes_back_has_the_place_of_before():
    people = [at(t, 0.0) for t in range(30)] + [at(t, 3.0) for t in range(60, 80)]
    kept = places(people, 80, 1)[:, 0]
    assert np.isfinite(kept[:30]).all()
    assert (kept[60:] == 3).all()
    short = people[:35]  # five frames of what may be furniture
    assert np.isnan(places(short, 80, 1)[30:]).all()


def test_the_most_certain_are_kept_first():
    people = [one for t in range(9) for one in (at(t, 0.0, 0.2), at(t, 9.0), at(t, 20.0, 0.5))]
    np.testing.assert_array_equal(places(people, 9, 2), [[9.0, 20.0]] * 9)


def test_ids_go_before_places():
    people = [
        one
        for t in range(9)
        for one in (at(t, float(9 * (t % 2)), ident=4), at(t, float(9 * (1 - t % 2)), 0.5, ident=2))
    ]
    expected = [[9.0 * (t % 2), 9.0 * (1 - t % 2)] for t in range(9)]
    np.testing.assert_array_equal(places(people, 9, 2), expected)


def test_joints_that_are_not_seen_do_not_count():
    far = np.where([[True], [False], [False], [True]], np.nan, POSE + 0.1)
    people = [at(0, 0.0), Seen(1, far, np.ones(4)), at(2, 0.2)]
    assert place_people(people, 3, 3)[0].shape[0] == 1
    none = Seen(1, np.full((4, 2), np.nan), np.ones(4))
    assert place_people([at(0, 0.0), none], 2, 3)[0].shape[0] == 2


def test_crowds_and_endless_recordings_are_refused():
    with pytest.raises(ReadError, match="51 people in a frame"):
        place_people([at(0, float(n)) for n in range(51)], 1, 2)
    with pytest.raises(ReadError, match="frames; at most 108,000"):
        place_people([at(0, 0.0), at(10**9, 0.0)], 10**9 + 1, 2)
