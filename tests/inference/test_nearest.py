"""Exact neighbors under cosine, whatever the blocks."""

from __future__ import annotations

import pytest
import torch

from aimclr_fast.inference.nearest import nearest


@pytest.fixture
def rows():
    """Around four centers: a gallery [40, 6] and queries [20, 6]."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(4, 6, generator=generator)
    x = centers[torch.arange(60) % 4] + 0.7 * torch.randn(60, 6, generator=generator)
    return x[:40], x[40:]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("block", "gallery_block"), [(3, 7), (1024, 65536), (1, 2)])
def test_blocks_change_nothing(rows, k, block, gallery_block):
    gallery, queries = rows
    similarity = torch.nn.functional.cosine_similarity(queries[:, None], gallery, dim=2)
    values, index = similarity.topk(k, dim=1)
    found = nearest(queries, gallery, k, block=block, gallery_block=gallery_block)
    assert torch.allclose(found[0], values, atol=1e-6)
    assert torch.equal(found[1], index)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (queries, gallery)]
    mapped = unit[1].numpy()
    mapped.flags.writeable = False
    found = nearest(unit[0], mapped, k, unit=True, block=block, gallery_block=gallery_block)
    assert torch.equal(found[1], index)


@pytest.mark.parametrize("gallery_block", [3, 1000])
def test_no_query_finds_itself_where_excluded(rows, gallery_block):
    gallery, own = rows[0], torch.arange(40)
    plain = nearest(gallery, gallery, 2, gallery_block=gallery_block)[1]
    assert torch.equal(plain[:, 0], own)
    found = nearest(gallery, gallery, 1, exclude=own, block=7, gallery_block=gallery_block)[1]
    assert torch.equal(found[:, 0], plain[:, 1])


@pytest.mark.parametrize("gallery_block", [3, 1000])
def test_the_first_of_equal_ones_is_the_nearest(rows, gallery_block):
    gallery = rows[0][:10].repeat(4, 1)
    found = nearest(gallery, gallery, 1, gallery_block=gallery_block)
    assert torch.equal(found[1][:, 0], torch.arange(40) % 10)


def test_of_nothing_nothing_is_found(rows):
    similarity, index = nearest(rows[1][:0], rows[0], 2)
    assert similarity.shape == index.shape == (0, 2)
    assert index.dtype == torch.int64
