"""The draws of dropout: as frequent as asked for, and independent."""

import pytest
import torch

from aimclr_fast.nn.stgcn import STGCN, STGCNBlock, draw_keep
from aimclr_fast.reference.stgcn_block import unpacked

DRAWS = 1 << 20


@pytest.mark.parametrize("dropped", [0.5, 0.25, 0.3, 0.0, 1 / 256, 0.999999, 1.0])
def test_draws_are_as_frequent_as_asked_for_and_independent(dropped):
    torch.manual_seed(0)
    keep = draw_keep((DRAWS,), dropped, torch.device("cpu"))
    assert keep.dtype == torch.bool
    spread = (dropped * (1 - dropped) / DRAWS) ** 0.5
    values = keep.double()
    assert abs(values.mean() - (1 - dropped)) <= 5 * spread + 2**-16
    # Neighbors, the bits of a byte, the bytes of a word, and the words that bits are spread over.
    for apart in (1, 2, 8, 16, 64, DRAWS // 8, DRAWS // 4):
        together = (values[apart:] * values[:-apart]).mean()
        error = (1 - (1 - dropped) ** 4) ** 0.5 / (DRAWS - apart) ** 0.5
        assert abs(together - (1 - dropped) ** 2) <= 5 * error + 2**-16


@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (0, 4), (2, 64)])
@pytest.mark.parametrize("dropped", [0.5, 0.25, 0.3])
def test_shapes_that_are_no_whole_words(shape, dropped):
    assert draw_keep(shape, dropped, torch.device("cpu")).shape == shape


@pytest.mark.parametrize("size", [1, 7, 8, 63, 64, 65, 1000, 128 * 9 + 3])
def test_bits_lie_as_the_op_says(size):
    torch.manual_seed(size)
    words = torch.empty(-(-size // 64), dtype=torch.int64).random_(-(2**63), None)
    taken = words.view(torch.uint8)
    bit, byte = torch.arange(size) // len(taken), torch.arange(size) % len(taken)
    assert torch.equal(unpacked(words, size), (taken[byte] >> bit) & 1 == 1)


@pytest.mark.parametrize("backend", ["auto", "cpp", "triton"])
@pytest.mark.parametrize("dropped", [0.5, 0.25])
def test_draws_are_the_same_whatever_the_backend(dropped, backend):
    block = STGCNBlock(3, 5, 3, stride=2, dropout=dropped)
    x = torch.zeros(2, 3, 7, 9)
    drawn = []
    for block.backend in ("reference", backend):
        torch.manual_seed(1)
        drawn.append(block._draw_keep(x))
    plain, given = drawn
    assert (plain.dtype, plain.shape) == (torch.bool, (2, 5, 4, 9))
    if dropped == 0.5:  # bits
        assert given.dtype == torch.int64
        given = unpacked(given, plain.numel()).view(2, 4, 9, 5).permute(0, 3, 1, 2)
    assert torch.equal(given, plain)


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    encoder = STGCN("coco", channels=4, features=8, dropout=0.5)
    x = torch.randn(4, 3, 16, 17, 2)
    first, second = encoder(x), encoder(x)
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
