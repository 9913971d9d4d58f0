"""A pytest plugin: runs the `cuda` tests on the CPU and writes down the Triton launches they make.

    export TRITON_LAUNCHES=launches.jsonl PYTHONPATH=tests
    python -m pytest -p triton_recording -m cuda -k "not real_sizes" tests/ops
    gzip -9n <launches.jsonl >tests/ops/triton_launches.jsonl.gz

What asks for a GPU gets the CPU, and Triton runs in its interpreter. Tests of streams, graphs and
the CUDA C++ backend fail; all that is wanted of a test is what it launches, and launches of many
programs are not run, nor those that come after one. `backend="auto"` is the C++ one here, so tests
above the ops record nothing.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import pytest
import torch
import triton.language as tl
from torch.overrides import TorchFunctionMode
from triton.runtime.interpreter import InterpretedFunction

MOST_PROGRAMS = 64  # more would take the interpreter minutes
LAUNCHES: dict[str, dict[str, Any]] = {}  # by their own JSON


def described(value: Any) -> Any:
    """An argument as JSON: all that Triton compiles from."""
    if isinstance(value, torch.Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch."), "at": value.data_ptr() % 16}
    if isinstance(value, tl.dtype):
        return {"dtype": value.name}
    if isinstance(value, tuple):
        return [described(one) for one in value]
    return value


def record(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], test: str) -> None:
    names = list(function.arg_names)
    arguments = {name: described(v) for name, v in zip(names, args, strict=False)}
    arguments |= {name: described(v) for name, v in kwargs.items() if name in names}
    if "DOT" in arguments:  # the interpreter alone multiplies in another type
        arguments["DOT"] = arguments["OPERAND"]
    dropped = {"grid", "warmup"}
    options = {n: v for n, v in kwargs.items() if n not in names and n not in dropped}
    launch = {
        "module": function.fn.__module__,
        "kernel": function.fn.__name__,
        "arguments": arguments,
        "options": options,
    }
    known = json.dumps(launch, sort_keys=True)
    if known not in LAUNCHES:
        LAUNCHES[known] = launch | {"test": test}
        with open(os.environ["TRITON_LAUNCHES"], "a") as file:
            print(json.dumps(LAUNCHES[known]), file=file)


class OnTheCpu(TorchFunctionMode):
    """Whatever asks for a CUDA device gets the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]

        def moved(value: Any) -> Any:
            on_gpu = isinstance(value, str | torch.device) and str(value).startswith("cuda")
            return torch.device("cpu") if on_gpu else value

        kwargs = {name: moved(value) for name, value in (kwargs or {}).items()}
        return func(*map(moved, args), **kwargs)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for node in item.listchain():
            node.own_markers[:] = [mark for mark in node.own_markers if mark.name != "cuda"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    original, run_too = InterpretedFunction.run, True

    def run(self: Any, *args: Any, grid: tuple[int, ...], **kwargs: Any) -> Any:
        nonlocal run_too
        record(self, args, kwargs, item.nodeid)
        run_too = run_too and math.prod(grid) <= MOST_PROGRAMS
        if run_too:
            original(self, *args, grid=grid, **kwargs)

    InterpretedFunction.run = run
    try:
        with OnTheCpu():
            return (yield)
    finally:
        InterpretedFunction.run = original
