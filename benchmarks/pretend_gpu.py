"""What a GPU would be asked to do, walked on a machine without one.

    walk = Walk()
    with pretend_gpu(walk):
        ...  # code that computes on torch.device("cuda")
    walk.launches

Tensors are on the `meta` device: shapes, strides and dtypes without values. They say that they are
on `cuda:0`, so that Python takes the path of a GPU. `FakeTensorMode` with CUDA tensors was the
alternative: in a build of torch without CUDA its backward pass does not run. The price is that
autocast, which looks at the C++ device, does nothing; pretend_autocast.py does its work.

What counts as a launch: every aten operation that is not a view and allocates more than memory, and
every Triton or CUDA kernel. One operation may be several kernels on a GPU (a convolution's
gradients, a large reduction) and a multi-tensor operation counts once. Its bytes are those of each
tensor once: a lower bound. A broadcast axis is read once, a gather reads as much as it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import prod
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch.utils._foreach_utils
from gpus import GPUS, Gpu
from pretend_autocast import Autocast
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from aimclr_fast import native

CPU, CUDA, META = torch.device("cpu"), torch.device("cuda", 0), torch.device("meta")
H100 = GPUS["h100"]

WAITS = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select"}
WAITS |= {"_unique", "_unique2", "unique_dim", "bincount", "histc"}
# A view in all but its schema.
VIEWS = {"_unsafe_view"}
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
GATHERS = {"index", "index_select", "gather", "embedding"}
#: Of Triton kernels that overwrite rows of a tensor: its argument's name, and that of their number.
OVERWRITES = {"enqueue_kernel": ("queue", "n")}
SCATTERS = {"index_copy_", "index_put_", "scatter_", "index_copy", "index_put", "scatter"}


class GpuTensor(torch.Tensor):
    """A tensor without values that is on a GPU for all that Python can see; see `elem`."""

    elem: Tensor

    @staticmethod
    def __new__(cls, elem: Tensor) -> GpuTensor:
        self: GpuTensor = torch.Tensor._make_subclass(
            cls, elem, False, device_for_backend_keys=CUDA
        )
        self.elem = elem
        return self

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)

    def record_stream(self, stream: Any) -> None: ...

    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def data_ptr(self) -> int:
        """Aligned, and not null, which would be memory that was freed."""
        return 1 << 20

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f"{func} outside the walk")


@dataclass(frozen=True)
class Operand:
    """A tensor that a launch reads or writes.

    `storage` tells tensors in the same memory, and within a walk never means another.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    storage: int = field(default=0, compare=False)

    @classmethod
    def of(cls, tensor: Any) -> Operand:
        """Of a tensor, or of the one behind a tensor descriptor."""
        tensor = _behind(tensor)
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, _storage(tensor))

    @property
    def bytes(self) -> int:
        """Of the elements in memory: an expanded axis has one."""
        each = zip(self.shape, self.strides, strict=True)
        return (
            prod(size if stride or not size else 1 for size, stride in each) * self.dtype.itemsize
        )


@dataclass(frozen=True)
class TritonCall:
    """What a Triton kernel was launched with: its arguments by name, options, and programs."""

    function: Any
    values: dict[str, Any]
    options: dict[str, Any]
    grid: tuple[int, ...]


@dataclass(frozen=True)
class Launch:
    """One launch.

    Attributes:
        phase: part of the step.
        name: "aten.add", "triton.KERNEL" or "cuda.OP".
        op: the op of this package that launches it, or "".
        read: tensors that it reads.
        written: tensors that it writes.
        bytes_read: of those it needs.
        bytes_written: likewise.
        call: of a Triton kernel.
    """

    phase: str
    name: str
    op: str
    read: tuple[Operand, ...]
    written: tuple[Operand, ...]
    bytes_read: int
    bytes_written: int
    call: TritonCall | None = None


class HostWaitError(AssertionError):
    """The step asks the GPU for a value, or gives it one from ordinary memory."""


class Walk(TorchDispatchMode):
    """Runs operations without values and notes what they would launch.

    Attributes:
        launches: in order.
        phase: of the launches to come; "" while things are set up, when the host may wait (and
            finds 0).
        captured: whether they are part of a CUDA graph, in which the host neither waits nor gives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []
        self.phase = ""
        self.captured = False
        self._op = ""
        self._unwritten: dict[int, Tensor] = {}  # storages that were allocated
        # Of all storages: as long as these refer to them, no other gets the same address.
        self._storages: dict[int, StorageWeakRef] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """A section of the step, as `aimclr_fast._sections.SectionTimer` sees it."""
        before, self.phase = self.phase, name
        yield
        self.phase = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        gpu = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
        host = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
        target = kwargs.get("device")
        name = func._schema.name.partition("::")[2]
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        if gpu and not self.phase and name == "_local_scalar_dense":
            return torch.zeros((), dtype=gpu[0].dtype).item()  # setting up, which may wait
        if gpu and (name in WAITS or (target is not None and torch.device(target) == CPU)):
            raise HostWaitError(f"{func} waits for the GPU")
        on_gpu = bool(gpu) or (target is not None and torch.device(target).type != "cpu")
        if self.captured and any(tensor.dim() for tensor in host):
            raise HostWaitError(f"{func} reads ordinary memory inside the captured step")
        if not on_gpu:
            return func(*args, **kwargs)
        if self.captured and name in ("_to_copy", "copy_") and host:
            raise HostWaitError(f"{func} copies ordinary memory inside the captured step")
        if func.namespace == "aimclr_fast":
            return self._run_op(func, name, args, kwargs)
        # Inside an op `to` and `contiguous` come whole; as views they would hide their copies.
        if self._op and func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        out = _on_meta(func, args, kwargs)
        if (
            name == "_to_copy"
            and gpu
            and target is not None
            and Operand.of(out) == Operand.of(gpu[0])
        ):
            return out  # to the device where it is: C++ alone believes that this is another
        self._note_aten(func, name, args, kwargs, out)
        return out

    def _note_aten(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        returns = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if name in ALLOCATIONS:
            self._unwritten |= {_storage(tensor): tensor for tensor in returns}
            return
        schema = func._schema
        if name in VIEWS or (
            not schema.is_mutable and any(returned.alias_info for returned in schema.returns)
        ):
            return
        read, written = [], [] if schema.is_mutable else returns
        named = zip(schema.arguments, [*args, *[None] * len(schema.arguments)], strict=False)
        for argument, value in named:
            value = kwargs.get(argument.name, value)
            found = [leaf for leaf in tree_leaves(value) if isinstance(leaf, GpuTensor)]
            changed = argument.alias_info is not None and argument.alias_info.is_write
            written = [*written, *found] if changed else written
            if not (changed and name in {"copy_", "fill_", "zero_", "random_", *SCATTERS}):
                read += found
        self._note(f"aten.{name}", read, written)

    def _note(
        self, name: str, read: list[Any], written: list[Any], call: TritonCall | None = None
    ) -> None:
        if not any(tensor.numel() for tensor in written):
            return
        for tensor in written:
            self._unwritten.pop(_storage(tensor), None)
        for tensor in (*read, *written):
            if _storage(tensor) not in self._storages:
                self._storages[_storage(tensor)] = StorageWeakRef(_untyped_storage(tensor))
        inputs, outputs = map(tuple, (map(Operand.of, read), map(Operand.of, written)))
        short = name.partition(".")[2]
        bytes_read, bytes_written = (sum(o.bytes for o in some) for some in (inputs, outputs))
        if short in GATHERS:
            bytes_read = bytes_written + sum(o.bytes for o in inputs[1:])
        elif short in SCATTERS:
            bytes_written = inputs[-1].bytes
        self.launches.append(
            Launch(self.phase, name, self._op, inputs, outputs, bytes_read, bytes_written, call)
        )

    def _run_op(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """An op of this package: its Triton launcher runs as it is, a CUDA kernel is one launch."""
        if "triton" not in args:
            out = _on_meta(func, args, kwargs)
            written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
            read: list[Any] = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            if name == "skeleton_augment":  # of the data set only the batch
                read[0] = read[0].elem[: len(written[0])]
            self._note(f"cuda.{name}", read, written)
            return out
        self._op = name
        try:
            with self:  # what its implementation does, on tensors of this kind
                return func.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *args)
        finally:
            self._op = ""
            self._unwritten.clear()

    def triton(self, kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        """Takes the place of `triton.JITFunction.run`: what no one has written yet is written."""
        given = [_behind(each) for each in tree_leaves((args, kwargs))]
        tensors = [each for each in given if isinstance(each, Tensor)]
        written = [tensor for tensor in tensors if _storage(tensor) in self._unwritten]
        read = [tensor for tensor in tensors if _storage(tensor) not in self._unwritten]
        values = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
        if kernel.fn.__name__ in OVERWRITES:
            whole, rows = (values[name] for name in OVERWRITES[kernel.fn.__name__])
            written.append(whole[:rows])
            read = [tensor for tensor in read if tensor is not whole]
        options = {name: value for name, value in kwargs.items() if name not in kernel.arg_names}
        call = TritonCall(kernel, values, options, tuple(grid))
        self._note(f"triton.{kernel.fn.__name__}", read, written or tensors, call)


def _behind(value: Any) -> Any:
    """The tensor that a tensor descriptor describes; anything else is itself."""
    return getattr(value, "base", value)


def _untyped_storage(tensor: Tensor) -> torch.UntypedStorage:
    return (tensor.elem if isinstance(tensor, GpuTensor) else tensor).untyped_storage()


def _storage(tensor: Tensor) -> int:
    return _untyped_storage(tensor)._cdata


def _on_meta(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the tensors' stand-ins; what it changes in place stays what it was."""
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": META}
    owners = {id(t.elem): t for t in tree_leaves((args, kwargs)) if isinstance(t, GpuTensor)}
    bare = tree_map_only(GpuTensor, lambda tensor: tensor.elem, (args, kwargs))
    if func.namespace == "aten" and not func._schema.returns:
        return None  # it changes values alone, and torch has no stand-in for some of them
    out = func(*bare[0], **bare[1])
    if func in CONVOLUTIONS:
        out = _as_cudnn(bare[0], out)

    def wrapped(tensor: Tensor) -> GpuTensor:
        owner = owners.get(id(tensor))
        return GpuTensor(tensor) if owner is None else owner

    return tree_map_only(Tensor, wrapped, out)


CONVOLUTIONS = {torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default}


def _as_cudnn(args: Any, out: Any) -> Any:
    """A convolution's outputs laid out as cuDNN does: channels last if a map or the weight is."""
    operands = [leaf for leaf in args if isinstance(leaf, Tensor) and leaf.dim() == 4]
    narrow = all(operand.dtype != torch.float64 for operand in operands)
    if not (narrow and any(map(_suggests_channels_last, operands))):
        return out

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    return tree_map_only(Tensor, laid_out, out)


def _suggests_channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


# --- The device ----------------------------------------------------------------------------------


class PretendStream:
    """Stands for `torch.cuda.Stream`: operations run in the order in which they are asked for."""

    device = CUDA

    def __init__(self, device: Any = None) -> None: ...

    def wait_stream(self, other: PretendStream) -> None: ...


@contextmanager
def pretend_gpu(walk: Walk | None = None, gpu: Gpu = H100) -> Iterator[None]:
    """Have torch and this package believe in a GPU.

    With a walk, work on a side stream is taken for captured and Triton launches are noted.
    """

    @contextmanager
    def stream(_: PretendStream) -> Iterator[None]:
        if walk is None:
            yield
            return
        before, walk.captured = walk.captured, True
        try:
            yield
        finally:
            walk.captured = before

    fakes: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda device=None: divmod(gpu.arch, 10),
        "get_device_properties": lambda device=None: SimpleNamespace(
            multi_processor_count=gpu.processors
        ),
        "is_bf16_supported": lambda including_emulation=True: True,
        "mem_get_info": lambda device=None: (80 << 30, 80 << 30),
        "synchronize": lambda device=None: None,
        "device": lambda device: nullcontext(),
        "device_of": lambda tensor: nullcontext(),
        "Stream": PretendStream,
        "stream": stream,
        "current_stream": lambda device=None: PretendStream(),
    }
    with ExitStack() as stack:
        for name, fake in fakes.items():
            stack.enter_context(patch.object(torch.cuda, name, fake))
        # Or `Module.to` would put the new values into the old parameters, which are no GpuTensors.
        future = torch.__future__
        stack.callback(
            future.set_overwrite_module_params_on_conversion,
            future.get_overwrite_module_params_on_conversion(),
        )
        future.set_overwrite_module_params_on_conversion(True)
        # Multi-tensor operations take tensors of known types and (C++) devices alone.
        foreach = torch.utils._foreach_utils
        types = [*foreach._foreach_supported_types, GpuTensor]
        stack.enter_context(patch.object(foreach, "_foreach_supported_types", types))
        devices = "_get_foreach_kernels_supported_devices"
        stack.enter_context(patch.object(foreach, devices, lambda: ["cuda", "meta"]))
        stack.enter_context(patch.object(native, "why_cuda_unusable", lambda: None))
        if walk is not None:
            import triton

            run = lambda kernel, *args, **kwargs: walk.triton(kernel, *args, **kwargs)  # noqa: E731
            stack.enter_context(patch.object(triton.JITFunction, "run", run))
            stack.enter_context(Autocast())
            stack.enter_context(walk)
        yield
