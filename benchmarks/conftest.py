"""Benchmarks: `pytest benchmarks --benchmark-only`; see README.md beside this file."""

from __future__ import annotations

import gc
import os
import traceback
import warnings
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
    synchronized,
)
from results import Row

ROWS = pytest.StashKey[dict[tuple[str, ...], Row]]()
BEFORE = pytest.StashKey[set[tuple[str, ...]]]()
GPU_LOST = 70  # exit code: an error that this process cannot use the GPU after
Compare = Callable[[Bench, Case, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aimclr_fast")
    group.addoption("--results", metavar="NAME", help="write benchmarks/results/NAME.csv")
    group.addoption("--results-dir", default=results.FOLDER, type=results.Path)
    group.addoption(
        "--add",
        action="store_true",
        help="keep what the results have, and run only the cases that they lack",
    )
    group.addoption(
        "--budget", type=float, default=2.0, help="seconds to time a provider (%default)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}
    path = results_file(config)
    there = results.read(path) if config.getoption("--add") and path and path.exists() else []
    config.stash[BEFORE] = {results.key(row) for row in there}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        refuse = pytest.fail if os.environ.get("AIMCLR_EXPECT_GPU") else pytest.skip
        refuse("needs a CUDA device")


def results_file(config: pytest.Config) -> results.Path | None:
    name = config.getoption("--results")
    return config.getoption("--results-dir") / f"{name}.csv" if name else None


def keep(config: pytest.Config, row: Row) -> None:
    """Add a row, or replace it, and write all, so that a run that is cut off leaves what it has."""
    rows, path = config.stash[ROWS], results_file(config)
    rows[results.key(vars(row))] = row
    if path:
        devices = sorted({each.device for each in rows.values()})
        limits_of = [limit for device in devices for limit in limit_rows(device)]
        write = results.add if config.getoption("--add") else results.write
        write(path, [*limits_of, *rows.values()])


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
        benchmark.group = f"{bench.op} {case}"
        row = Row(
            bench.op,
            case.device,
            case.precision,
            case.name,
            provider,
            package=int(provider in bench.package),
        )
        config = request.config
        if results.key(vars(row)) in config.stash[BEFORE]:
            pytest.skip("in the results already")
        try:
            limits.measure(case.device)  # before, as it sets precisions, too
            limits.set_precision(case.precision)
            row = timed(benchmark, bench, case, provider, row, config)
        except Unavailable as reason:
            pytest.skip(str(reason))
        except torch.OutOfMemoryError:
            keep(config, replace(row, status="out of memory"))
            pytest.skip("out of memory")
        except Exception:
            leave_if_lost(case.device)
            keep(config, replace(row, status="failed"))
            raise
        finally:
            limits.set_precision("fp32")
            gc.collect()
        if case.device == "cuda":
            torch.cuda.empty_cache()
        benchmark.extra_info.update(results.asdict(row))
        keep(config, row)

    return run


def leave_if_lost(device: str) -> None:
    """End the session if no later case can run either, so that another one can begin at once."""
    if device == "cuda":
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            pytest.exit(f"{traceback.format_exc()}this process can no longer use the GPU", GPU_LOST)


def timed(
    benchmark: Any,
    bench: Bench,
    case: Case,
    provider: str,
    row: Row,
    config: pytest.Config,
) -> Row:
    budget = config.getoption("--budget")
    inputs = bench.inputs(case)
    step = bench.step(provider, case, inputs)
    keep(config, replace(row, status=results.BEGUN))
    run = warmed_up(step, case.device)
    partner = baseline_of(bench, case, provider, inputs)
    beside = synchronized(partner, case.device) if partner else None
    seconds = stopwatch(run)
    if beside:
        try:
            seconds += stopwatch(beside)
        except Exception as error:
            without_baseline(case, error)
            partner = beside = None
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
    work = replace(work, precision=step.precision or work.precision)
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
    run = synchronized(step, device)
    for _ in range(step.warmup):
        run()
    return run


def baseline_of(bench: Bench, case: Case, provider: str, inputs: Any) -> Step | None:
    """The baseline on the same inputs, warmed up; None for itself and where it cannot run."""
    if provider == BASELINE or BASELINE not in bench.providers:
        return None
    try:
        step = bench.step(BASELINE, case, inputs)
        warmed_up(step, case.device)
    except (Unavailable, torch.OutOfMemoryError):
        return None
    except Exception as error:
        without_baseline(case, error)
        return None
    return step


def without_baseline(case: Case, error: Exception) -> None:
    """Warn that a provider is timed alone, unless the GPU is lost."""
    leave_if_lost(case.device)
    warnings.warn(f"{case}: the baseline failed: {error!r}", stacklevel=2)
