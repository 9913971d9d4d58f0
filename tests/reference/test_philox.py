import math

import pytest
import torch

from aimclr_fast.reference import philox

# The known answers published with Random123 for philox4x32 with 10 rounds: counter, key, output.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def draw(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1 << 32, shape, generator=generator)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    counter, expected = torch.tensor(words(counter)), torch.tensor(words(expected))
    assert torch.equal(philox.philox4x32(counter, tuple(words(key))), expected)
    assert torch.equal(philox.philox4x32(counter, torch.tensor(words(key))), expected)


def test_any_leading_shape():
    counters = draw((2, 3, 5, 4))
    out = philox.philox4x32(counters, (1, 2))
    flat = torch.stack([philox.philox4x32(c, (1, 2)) for c in counters.reshape(-1, 4)])
    assert torch.equal(out, flat.reshape(2, 3, 5, 4))
    assert philox.philox4x32(counters[:0], (1, 2)).shape == (0, 3, 5, 4)


def test_a_bit_of_key_or_counter_changes_half_of_the_output():
    counter, key = draw((1000, 4)), (3, 4)
    base = philox.philox4x32(counter, key)
    changed = [
        philox.philox4x32(counter ^ torch.tensor([0, 0, 1 << 31, 0]), key),
        philox.philox4x32(counter, (3, 4 ^ (1 << 16))),
    ]
    for other in changed:
        bits = sum((((base ^ other) >> bit) & 1).sum().item() for bit in range(32))
        # 128,000 fair coins: the standard deviation is 179.
        assert abs(bits - 64_000) < 6 * 179


def test_uniform_is_exact():
    ends = torch.tensor([0, 0xFF, 0x100, 0x80000000, 0xFFFFFFFF])
    expected = [0.0, 0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]
    assert philox.uniform(ends).dtype == torch.float32
    assert philox.uniform(ends).tolist() == expected


def test_bounded():
    assert philox.bounded(torch.tensor([0, 0x55555555, 0x55555556, 0xFFFFFFFF]), 3).tolist() == [
        0, 0, 1, 2,
    ]  # fmt: skip
    assert philox.bounded(torch.tensor([0xFFFFFFFF]), 1 << 31).item() == (1 << 31) - 1
    assert philox.bounded(draw((100,)), 1).unique().tolist() == [0]
    for bad in (0, -1, (1 << 31) + 1):
        with pytest.raises(ValueError, match="n must be"):
            philox.bounded(torch.tensor([1]), bad)


def test_normal_ends_are_finite():
    lowest, highest = torch.zeros(4, dtype=torch.int64), torch.full((4,), 0xFFFFFFFF)
    # u1 = 2**-24 and angle 0; u1 = 1, so the radius is 0.
    largest = math.sqrt(48 * math.log(2))
    expected = torch.tensor([largest, 0.0, largest, 0.0])
    torch.testing.assert_close(philox.normal(lowest), expected)
    torch.testing.assert_close(philox.normal(highest), torch.zeros(4))


def test_statistics_of_draws():
    count = 250_000
    counters = torch.zeros(count, 4, dtype=torch.int64)
    counters[:, 0] = torch.arange(count)
    out = philox.philox4x32(counters, philox.split_seed(20220301))

    uniform = philox.uniform(out).double().flatten()
    sigma = 1 / math.sqrt(uniform.numel())  # of the mean of draws of unit variance
    assert abs(uniform.mean().item() - 0.5) < 5 * sigma / math.sqrt(12)
    assert abs(uniform.var().item() - 1 / 12) < 5 * sigma * math.sqrt(1 / 180)
    counts = torch.histc(uniform, bins=64, min=0, max=1)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum().item()
    assert chi_square < 63 + 5 * math.sqrt(2 * 63)

    normal = philox.normal(out).double()
    draws = normal.flatten()
    assert abs(draws.mean().item()) < 5 * sigma
    assert abs(draws.var().item() - 1) < 5 * sigma * math.sqrt(2)
    assert abs((draws**4).mean().item() - 3) < 5 * sigma * math.sqrt(96)
    for quantile, value in ((0.1587, -1.0), (0.5, 0.0), (0.9772, 2.0)):
        assert abs((draws < value).double().mean().item() - quantile) < 5 * sigma
    off_diagonal = torch.corrcoef(normal.T) - torch.eye(4)
    assert off_diagonal.abs().max().item() < 5 / math.sqrt(count)


def test_split_seed():
    assert philox.split_seed(0) == (0, 0)
    assert philox.split_seed((7 << 32) | 5) == (5, 7)
    assert philox.split_seed((1 << 64) - 1) == (0xFFFFFFFF, 0xFFFFFFFF)
    for bad in (-1, 1 << 64):
        with pytest.raises(ValueError, match="seed must be"):
            philox.split_seed(bad)


@pytest.mark.parametrize(
    ("counter", "key", "error", "message"),
    [
        (torch.zeros(4, dtype=torch.int32), (0, 0), TypeError, "counter must be int64"),
        (torch.zeros(3, dtype=torch.int64), (0, 0), ValueError, r"counter must be \[..., 4\]"),
        (torch.zeros(4, dtype=torch.int64), (0, 1 << 32), ValueError, "two words"),
        (torch.zeros(4, dtype=torch.int64), (-1, 0), ValueError, "two words"),
        (torch.zeros(4, dtype=torch.int64), torch.zeros(2), TypeError, "key must be int64"),
        (
            torch.zeros(4, dtype=torch.int64),
            torch.zeros(3, dtype=torch.int64),
            ValueError,
            r"shape \[2\]",
        ),
    ],
)
def test_bad_input(counter, key, error, message):
    with pytest.raises(error, match=message):
        philox.philox4x32(counter, key)


def test_normal_refuses_other_shapes():
    with pytest.raises(ValueError, match="words must be"):
        philox.normal(torch.zeros(3, dtype=torch.int64))
