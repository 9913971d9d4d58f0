"""NTU RGB+D 60's splits by count.

Facts: 56,880 recordings, of which the training subjects have 40,320 and the others 16,560, and each
of the three cameras 18,960 (Shahroudy et al., CVPR 2016, section 3.2); and the 302 samples with
missing skeletons that the data set's authors list, here as their number by camera and subject.
Without them 40,091 and 16,487 samples are left across subjects, 37,646 and 18,932 across views.
"""

from __future__ import annotations

import numpy as np
import pytest

from aimclr_fast.data.splits import NTU60_SPLITS, NTU120_SPLITS, SplitRule

MISSING = {  # camera: "subject*samples"
    1: "1 2 7 8 15 16*2 17*3 18*3 19*4 25*4 27 28*4 40*2",
    2: "1*7 2 3 4*2 5 6 7*7 8*10 10*4 11 15*7 16*12 17*9 18*5 19*3 20*6 22 23*4 24*2 25*5 26*6 "
    "27*6 28*2 29 31*2 32 34*2 35*3 39",
    3: "1*2 2*4 5*3 6 7*22 8*18 10 11*2 14 15*5 16*7 17*9 18*4 19*6 20 21 22 25*28 27*17 28*4 31*6 "
    "32 33*3 34*7 35*6 39",
}


def missing_samples() -> dict[str, np.ndarray]:
    camera, subject = [], []
    for number, text in MISSING.items():
        for word in text.split():
            person, _, times = word.partition("*")
            subject += [int(person)] * int(times or 1)
            camera += [number] * int(times or 1)
    return {"camera": np.array(camera), "subject": np.array(subject)}


@pytest.mark.parametrize(
    ("split", "recorded", "left"),
    [
        ("xsub", (40_320, 16_560), (40_091, 16_487)),
        ("xview", (2 * 18_960, 18_960), (37_646, 18_932)),
    ],
)
def test_counts(split, recorded, left):
    rule = NTU60_SPLITS[split]
    test = tuple(rule["test"]) if "test" in rule else None
    train, test_rows = SplitRule(split, rule["column"], tuple(rule["train"]), test)(
        missing_samples()
    )
    assert len(train) + len(test_rows) == 302
    assert sum(recorded) == 56_880
    assert (recorded[0] - len(train), recorded[1] - len(test_rows)) == left


def test_ntu120():
    train = NTU120_SPLITS["xsub"]["train"]
    assert len(train) == len(set(train)) == 53
    assert set(NTU60_SPLITS["xsub"]["train"]) < set(train)
    assert NTU120_SPLITS["xset"] == {"column": "setup", "train": "even"}
