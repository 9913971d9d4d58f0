"""queue_contrast: checks and backends."""

from __future__ import annotations

from torch import Tensor

from aimclr_fast.reference import queue_contrast as reference

from ._checks import FLOATS, check_dtype, check_same_device, check_shape
from ._dispatch import REFERENCE, Backend, always, choose

BACKENDS = (Backend(REFERENCE, reference.queue_contrast, always),)


def queue_contrast(
    query: Tensor,
    extreme: Tensor,
    dropped: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    topk: int,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_shape("query", query, "N", "D")
    n, d = query.shape
    rows = {"query": query, "extreme": extreme, "dropped": dropped, "key": key}
    for name, row in rows.items():
        check_shape(name, row, n, d)
        check_dtype(name, row, *FLOATS)
    check_shape("queue", queue, "K", d)
    check_dtype("queue", queue, *FLOATS)
    check_same_device(**rows, queue=queue)
    if n == 0:
        raise ValueError("query has no rows, so the mean over rows is not defined")
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not 0 <= topk <= len(queue):
        raise ValueError(f"topk must lie in 0..{len(queue)} (the queue's size), got {topk}")
    run = choose("queue_contrast", BACKENDS, backend, query)
    info_nce, d3m_extreme, d3m_dropped, neighbors = run(
        query, extreme, dropped, key, queue, temperature, topk
    )
    return info_nce, d3m_extreme, d3m_dropped, neighbors
