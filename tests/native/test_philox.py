"""The C++ and CUDA generators against the reference, and the functions of csrc/common/philox.h."""

import pytest
import torch

from aimclr_fast import native
from aimclr_fast.ops._dispatch import BackendError
from aimclr_fast.ops.philox import philox4x32
from aimclr_fast.reference import philox as reference

KEY = (0xA4093822, 0x299F31D0)
COMPILED = [
    pytest.param("cpp", "cpu", id="cpp"),
    pytest.param("cuda", "cuda", id="cuda", marks=pytest.mark.cuda),
]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1 << 32, shape, generator=generator)


@pytest.mark.parametrize(("backend", "device"), COMPILED)
@pytest.mark.smoke
def test_known_answer(backend, device):
    counter = torch.tensor([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], device=device)
    out = philox4x32(counter, KEY, backend)
    assert out.tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 257, 4099, 65537])
@pytest.mark.parametrize(("backend", "device"), COMPILED)
def test_equals_the_reference(backend, device, n):
    counters = draw(n, 4, seed=n)
    out = philox4x32(counters.to(device), KEY, backend)
    assert out.device.type == device
    assert torch.equal(out.cpu(), reference.philox4x32(counters, KEY))


@pytest.mark.parametrize(("backend", "device"), COMPILED)
def test_strided_counters(backend, device):
    counters = draw(4, 13, 3).to(device).permute(1, 2, 0)
    assert torch.equal(
        philox4x32(counters, torch.tensor(KEY), backend).cpu(),
        reference.philox4x32(counters.cpu(), KEY),
    )


def test_the_result_does_not_depend_on_the_threads():
    counters = draw(100_003, 4)
    expected = reference.philox4x32(counters, KEY)
    for threads in (1, 2, 3, 64):
        out = torch.empty_like(counters)
        native.load().philox4x32_cpu(
            counters=counters.data_ptr(), key0=KEY[0], key1=KEY[1], out=out.data_ptr(),
            n=counters.shape[0], threads=threads,
        )  # fmt: skip
        assert torch.equal(out, expected)


@pytest.mark.parametrize(("backend", "device"), COMPILED)
def test_transforms(backend, device):
    words = torch.cat([draw(4096), torch.tensor([0, 0xFF, 0x100, 0xFFFFFFFF] * 2)]).to(device)
    suffix = "cpu" if backend == "cpp" else "cuda"
    stream = {} if backend == "cpp" else {"cuda_stream": torch.cuda.current_stream().cuda_stream}

    def call(name, out, n, **options):
        function = getattr(native.load(), f"philox_{name}_{suffix}")
        function(words=words.data_ptr(), out=out.data_ptr(), n=n, **options, **stream)
        return out.cpu()

    count = words.numel()
    empty = torch.empty(count, dtype=torch.float32, device=device)
    assert torch.equal(call("uniform", empty, count), reference.uniform(words.cpu()))
    for bound in (1, 3, 1000, 1 << 31):
        out = torch.empty_like(words)
        assert torch.equal(
            call("bounded", out, count, bound=bound), reference.bounded(words.cpu(), bound)
        )
    draws = call("normal", torch.empty_like(empty), count // 4)
    expected = reference.normal(words.cpu().view(-1, 4)).flatten()
    # log, sin and cos differ by a few units in the last place; draws reach 5.8.
    torch.testing.assert_close(draws, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("n", "message"), [(-1, "must not be negative"), (1, "null pointer")])
def test_a_bad_status_raises(n, message):
    with pytest.raises(ValueError, match=message):
        native.load().philox4x32_cpu(counters=0, key0=1, key1=2, out=0, n=n, threads=1)


def test_auto_picks_the_compiled_kernel(monkeypatch):
    calls = []
    library = native.load()
    original = library.philox4x32_cpu
    monkeypatch.setattr(library, "philox4x32_cpu", lambda **a: (calls.append(a), original(**a)))
    philox4x32(draw(3, 4), KEY)
    assert len(calls) == 1


def test_bad_arguments():
    with pytest.raises(TypeError, match="counter must be of dtype int64"):
        philox4x32(torch.zeros(4), KEY)
    with pytest.raises(ValueError, match="counter must have shape"):
        philox4x32(draw(3), KEY)
    with pytest.raises(ValueError, match="key must be two integers"):
        philox4x32(draw(4), (1, 1 << 32))
    with pytest.raises(ValueError, match="unknown backend 'metal'"):
        philox4x32(draw(4), KEY, "metal")
    with pytest.raises(BackendError, match="runs on a CUDA device"):
        philox4x32(draw(4), KEY, "cuda")


@pytest.mark.cuda
def test_runs_on_the_current_stream():
    counters = draw(1 << 20, 4)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        on_device = counters.to("cuda", non_blocking=True)
        out = philox4x32(on_device, KEY, "cuda")
    stream.synchronize()
    assert torch.equal(out.cpu(), reference.philox4x32(counters, KEY))
