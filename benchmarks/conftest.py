"""Benchmarks: `pytest benchmarks --benchmark-only`; see README.md beside this file."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import limits
import pytest
import results
import torch
from harness import BASELINE, Bench, Case
from measure import (
    Step,
    Timing,
    Unavailable,
    extra_bytes,
    gpu_timings,
    large,
    rounds_within,
    stopwatch,
    synchronised,
)
from results import Row

ROWS = pytest.StashKey[list[Row]]()
Compare = Callable[[Bench, Case, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aimclr_fast")
    group.addoption("--results", metavar="NAME", help="write benchmarks/results/NAME.csv")
    group.addoption("--results-dir", default=results.FOLDER, type=results.Path)
    group.addoption(
        "--budget", type=float, default=2.0, help="seconds to time a provider (%default)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def keep(config: pytest.Config, row: Row) -> None:
    """Add a row and write all so far, so that a run that is cut off leaves what it measured."""
    rows, name = config.stash[ROWS], config.getoption("--results")
    rows.append(row)
    if name:
        devices = sorted({each.device for each in rows})
        limits_of = [limit for device in devices for limit in limit_rows(device)]
        results.write(config.getoption("--results-dir") / f"{name}.csv", limits_of + rows)


def limit_rows(device: str) -> list[Row]:
    found = limits.measure(device)
    copy = Row(results.LIMITS, device, "", "copy", "torch", rate=found.copy)
    products = [
        Row(results.LIMITS, device, precision, "matmul", "torch", rate=rate)
        for precision, rate in found.matmul.items()
    ]
    return [copy, *products]


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Compare:
    """Times a provider of a case in turns with the baseline, and keeps a row of it."""

    def run(bench: Bench, case: Case, provider: str) -> None:
        limits.measure(case.device)  # before, as it sets precisions, too
        limits.set_precision(case.precision)
        benchmark.group = f"{bench.op} {case}"
        row = Row(
            bench.op,
            case.device,
            case.precision,
            case.name,
            provider,
            package=int(provider in bench.package),
        )
        budget = request.config.getoption("--budget")
        try:
            row = timed(benchmark, bench, case, provider, row, budget)
        except Unavailable as reason:
            pytest.skip(str(reason))
        except torch.OutOfMemoryError:
            keep(request.config, replace(row, status="out of memory"))
            pytest.skip("out of memory")
        finally:
            limits.set_precision("fp32")
            gc.collect()
            if case.device == "cuda":
                torch.cuda.empty_cache()
        benchmark.extra_info.update(results.asdict(row))
        keep(request.config, row)

    return run


def timed(benchmark: Any, bench: Bench, case: Case, provider: str, row: Row, budget: float) -> Row:
    inputs = bench.inputs(case)
    step = bench.step(provider, case, inputs)
    run = warmed_up(step, case.device)
    partner = baseline_of(bench, case, provider, inputs)
    beside = synchronised(partner, case.device) if partner else None
    seconds = stopwatch(run) + (stopwatch(beside) if beside else 0.0)
    memory = extra_bytes(step, case.device)

    beside_seconds: list[float] = []

    def in_turn() -> None:
        if beside:
            beside_seconds.append(stopwatch(beside))

    benchmark.pedantic(run, setup=in_turn, rounds=rounds_within(budget, seconds))
    if not benchmark.stats:  # --benchmark-disable: ran once, timed nothing
        return row
    wall = Timing.of(benchmark.stats.stats.data, step.calls, "wall")
    timing = compared = wall  # `compared` with the baseline by the same clock
    baseline = Timing.of(beside_seconds, partner.calls, "wall") if partner else None
    if case.device == "cuda" and not step.host:
        steps = [step] if partner is None or partner.host else [step, partner]
        sizes = [extra_bytes(each, "cuda") for each in steps]
        graphs = [
            replace(each, graph=each.graph and not large(size))
            for each, size in zip(steps, sizes, strict=True)
        ]
        timing, *rest = gpu_timings(graphs, budget)
        if rest:
            compared, baseline = timing, rest[0]

    work = bench.work(case)
    least = limits.measure(case.device).seconds(work)
    return replace(
        row,
        ms=timing.median * 1e3,
        low_ms=timing.low * 1e3,
        high_ms=timing.high * 1e3,
        how=timing.how,
        wall_ms=wall.median * 1e3,
        baseline_ms=baseline.median * 1e3 if baseline else None,
        speedup=baseline.median / compared.median if baseline else None,
        limit_ms=least * 1e3 or None,
        share=least / timing.median or None,
        rate=(work.flop or work.bytes) / timing.median or None,
        extra_mb=None if memory is None else memory / 1e6,
        rounds=timing.rounds,
    )


def warmed_up(step: Step, device: str) -> Callable[[], None]:
    run = synchronised(step, device)
    for _ in range(step.warmup):
        run()
    return run


def baseline_of(bench: Bench, case: Case, provider: str, inputs: Any) -> Step | None:
    """The baseline on the same inputs, warmed up; None for itself and where there is none."""
    if provider == BASELINE or BASELINE not in bench.providers:
        return None
    try:
        step = bench.step(BASELINE, case, inputs)
        warmed_up(step, case.device)
    except (Unavailable, torch.OutOfMemoryError):
        return None
    return step
