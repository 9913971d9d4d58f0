"""For which GPUs a build compiles, and what it does where nvcc does not work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from missing import compiler, require
from native.conftest import ROOT

from aimclr_fast import native

NVCC_13 = ("75", "80", "86", "87", "88", "89", "90", "100", "103", "110", "120", "121")
NVCC_12_4 = ("50", "52", "60", "61", "70", "75", "80", "86", "87", "89", "90")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def cmake(tmp_path: Path, call: str) -> subprocess.CompletedProcess[str]:
    """Runs `call`, which sets `result`, with the programs of tmp_path/bin in front."""
    script = tmp_path / "call.cmake"
    script.write_text(
        f'include("{ROOT}/cmake/CudaArchs.cmake")\n{call}\nmessage("result: ${{result}}")\n'
    )
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["cmake", "-P", str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        check=False,
    )


def selected(
    tmp_path: Path, wanted: str, known: tuple[str, ...], smi: str
) -> tuple[list[str], str]:
    program(tmp_path / "bin" / "nvidia-smi", smi)
    listing = "\\n".join(f"compute_{arch}" for arch in known)
    nvcc = program(tmp_path / "nvcc", f"printf '{listing}\\n'")
    done = cmake(tmp_path, f'aimclr_cuda_archs("{wanted}" "{nvcc}" result)')
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    # CMake breaks the lines of messages, depending on the paths in them.
    return done.stderr.split("result: ")[1].strip().split(";"), " ".join(said.split())


NO_GPU = "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9"
EVERYTHING = ["75", "80", "90", "100", "120"]


@pytest.mark.parametrize(
    ("wanted", "known", "smi", "expected"),
    [
        ("AUTO", NVCC_13, "echo 9.0", ["90"]),
        ("AUTO", NVCC_13, "printf '12.0\\n8.6\\n8.6\\n'", ["86", "120"]),
        ("AUTO", NVCC_13, NO_GPU, EVERYTHING),
        ("AUTO", NVCC_13, "true", EVERYTHING),
        ("ALL", NVCC_13, "echo 9.0", EVERYTHING),
        ("all", NVCC_12_4, "echo 9.0", ["75", "80", "90"]),
        ("80;90", NVCC_13, "echo 7.5", ["80", "90"]),
        ("80,90", NVCC_13, "echo 7.5", ["80", "90"]),
    ],
)
def test_selection(tmp_path, wanted, known, smi, expected):
    archs, _ = selected(tmp_path, wanted, known, smi)
    assert archs == expected


def test_a_gpu_that_nvcc_does_not_know_is_told(tmp_path):
    archs, said = selected(tmp_path, "AUTO", NVCC_12_4, "echo 12.0")
    assert archs == ["75", "80", "90"]
    assert "does not compile for each of this machine's GPUs (120)" in said
    assert "too old for 100, 120: such GPUs get PTX" in said


def test_one_of_two_gpus_is_compiled_for(tmp_path):
    archs, said = selected(tmp_path, "AUTO", NVCC_13, "printf '6.1\\n8.9\\n'")
    assert archs == ["89"]
    assert "(61, 89)" in said


def test_what_nvcc_does_not_know_is_refused(tmp_path):
    nvcc = program(tmp_path / "nvcc", "echo compute_80; echo compute_90")
    done = cmake(tmp_path, f'aimclr_cuda_archs("80;95" "{nvcc}" result)')
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "does not compile for '95'" in said
    assert "It knows 80, 90; AUTO" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 0", ""),
        ("echo 'host.h:1: error: -- unsupported GNU version!' >&2; exit 1", "unsupported GNU"),
        ("echo 'ld: cannot find -lcudart_static: not found' >&2; exit 1", "-lcudart_static"),
        ("exit 3", "failed a trial compile (3)"),
    ],
)
def test_the_trial_compile(tmp_path, text, reason):
    nvcc = program(tmp_path / "nvcc", text)
    done = cmake(tmp_path, f'aimclr_try_nvcc("{nvcc}" "{tmp_path}" result)')
    assert done.returncode == 0
    found = done.stderr.split("result: ")[1].strip()
    assert reason in found
    assert bool(reason) == bool(found)


@pytest.mark.parametrize("mode", ["AUTO", "ON"])
def test_an_nvcc_that_does_not_work(tmp_path, mode):
    """AUTO goes on without it and says so; ON fails."""
    require(compiler(), "no C++ compiler was found")
    import pybind11

    sources = tmp_path / "source"
    (sources / "csrc").mkdir(parents=True)
    for name in ("CMakeLists.txt", "cmake"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)
    for folder in ("cpu", "bindings"):
        (sources / "csrc" / folder).mkdir()
        (sources / "csrc" / folder / "module.cpp").touch()
    (sources / "csrc" / "cpu" / "loops_kernels.cpp").touch()
    nvcc = program(tmp_path / "nvcc", "echo 'error: no host compiler' >&2; exit 1")
    build = tmp_path / "build"
    done = subprocess.run(
        ["cmake", "-S", str(sources), "-B", str(build), "-G", "Ninja", f"-DAIMCLR_CUDA={mode}",
         f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDACXX": str(nvcc)},
        check=False,
    )  # fmt: skip
    said = " ".join(done.stderr.split())
    assert "failed a trial compile (error: no host compiler)" in said
    if mode == "ON":
        assert done.returncode != 0
        return
    assert done.returncode == 0, said
    assert "building the CPU kernels alone (AIMCLR_CUDA=AUTO)" in said
    kept = (build / "build_facts.cpp").read_text()
    assert "failed a trial compile (error: no host compiler)" in kept
    assert 'kCudaArchs = ""' in kept


# --- What a GPU without code gets ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "has_code"),
    [(61, False), (70, False), (75, True), (80, True), (86, True), (89, True), (90, True),
     (100, True), (103, True), (110, False), (120, True), (121, True), (130, True)],
)  # fmt: skip
def test_code_for_a_capability(capability, has_code):
    assert native._has_code_for(capability, ",".join(EVERYTHING)) == has_code


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        ((6, 1), r"device 0 \(card, compute capability 6.1\) is not among .* \(75,80\): build it "
                 r"with AIMCLR_CUDA_ARCHS=61 .* \(no kernel image\)"),
        ((9, 0), r"device 0 \(card, compute capability 9.0\): no kernel image \(compiled for 75"),
    ],
)  # fmt: skip
def test_a_gpu_that_cannot_run_the_kernels_is_told_why(monkeypatch, capability, message):
    def probe() -> None:
        raise RuntimeError("no kernel image")

    library = SimpleNamespace(probe_device=probe, cuda_archs="75,80", cuda_compiled=True)
    monkeypatch.setattr(native, "load", lambda: library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "card")
    native._probe.cache_clear()
    try:
        assert re.match(message, native.why_cuda_unusable() or "")
    finally:
        native._probe.cache_clear()


def test_a_library_without_kernels_says_why(monkeypatch):
    library = SimpleNamespace(cuda_compiled=False, cuda_left_out="nvcc was not found")
    monkeypatch.setattr(native, "load", lambda: library)
    assert native.why_cuda_unusable() == (
        "the library was built without CUDA kernels: nvcc was not found"
    )
