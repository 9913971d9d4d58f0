"""What the GPU check runs besides tests and benchmarks works: here on the CPU, at small sizes."""

from __future__ import annotations

import gzip
import json
from types import ModuleType

import bench_train_step
import gpu_tasks
import measure
import pytest
import torch
from harness import cases

from aimclr_fast import native

CASE = cases([{"N": 2, "S": 1}], "cpu", "fp32")[0]


@pytest.mark.slow
def test_profiles_are_added_to_one_file(tmp_path):
    gpu_tasks.profile("default", tmp_path, CASE, steps=1)
    gpu_tasks.profile("cpp", tmp_path, CASE, steps=1)
    text = (tmp_path / "profile.txt").read_text()
    assert text.count("as training runs it") == 2
    for encoder in ("default", "cpp"):
        assert f"cpu-fp32-N2-S1, {encoder} encoder" in text
        trace = json.loads(gzip.decompress((tmp_path / f"trace-{encoder}.json.gz").read_bytes()))
        assert any(event.get("name") == "backward" for event in trace["traceEvents"])


def test_a_step_needs_no_augmentation():
    """So that Triton's kernels can be compiled while the library is built."""
    gpu_tasks.step_without_library("reference", CASE)


@pytest.mark.parametrize("encoder", [None, "cpp"])
def test_memory_of_a_step_is_that_of_an_eager_one(encoder):
    step = bench_train_step.package(bench_train_step.Inputs(CASE), encoder)
    assert step.eager is not None
    assert measure.extra_bytes(step, "cpu") > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_machine_without_a_gpu_is_told(capsys):
    assert not gpu_tasks.environment()
    assert "torch sees no CUDA device" in capsys.readouterr().out
    assert not gpu_tasks.up_to_date()
    assert gpu_tasks.architecture() == "90"


def test_a_library_of_older_sources_is_built_again(monkeypatch):
    """One without `cuda_left_out`, too, which is newer than the library."""
    old = ModuleType("old")
    old.source_digest, old.cuda_compiled = "other", False
    monkeypatch.setattr(native, "_attempt", lambda: old)
    assert not gpu_tasks.up_to_date()
    assert "built from older sources" in native.why_cuda_unusable()
