"""The draws of dropout: as frequent as asked for, and independent."""

import pytest
import torch

from aimclr_fast.nn.stgcn import STGCN, draw_keep

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


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    encoder = STGCN("coco", channels=4, features=8, dropout=0.5)
    x = torch.randn(4, 3, 16, 17, 2)
    first, second = encoder(x), encoder(x)
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
