"""Arguments of the ops themselves, for ops.py: those of a sound call, some of them spoilt."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import arguments as public
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import aimclr_fast.ops
from aimclr_fast import functional
from aimclr_fast.ops._dispatch import REFERENCE, BackendError

for _module in pkgutil.iter_modules(aimclr_fast.ops.__path__):
    importlib.import_module(f"aimclr_fast.ops.{_module.name}")
#: Every op there is, so that a new one without arguments fails.
OPS = sorted(
    name.removeprefix("aimclr_fast::")
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("aimclr_fast::")
)
HERE = {name.split(".")[0]: getattr(torch.ops.aimclr_fast, name.split(".")[0]) for name in OPS}


def function_of(op: str) -> str:
    """The module of an op, named as a public function that calls it."""
    return op.removesuffix("_backward")


#: Other public functions of the module, which ask more of the op.
ALSO = {"queue_contrast": ["queue_losses"]}


def backends_of(op: str) -> list[str]:
    """The op's backends that can run on a CPU; Triton's runs there when it is interpreted."""
    module = importlib.import_module(f"aimclr_fast.ops.{function_of(op)}")
    return [b.name for b in module.BACKENDS if b.run is None and b.name != "cuda"]


class Recorder(TorchDispatchMode):
    """Keeps the arguments that calls of our ops get."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "aimclr_fast":
            self.calls[func._schema.name.removeprefix("aimclr_fast::")] = list(args)
        return func(*args, **(kwargs or {}))


def leaves(value: Any) -> Any:
    """The same arguments, with gradients wanted of floating-point tensors."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    return type(value)(map(leaves, value)) if type(value) in (list, tuple) else value


def doubled(value: Any) -> Any:
    """The same arguments, floating-point tensors in float64."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_()
    return tuple(map(doubled, value)) if type(value) is tuple else value


def detached(value: Any) -> Any:
    if isinstance(value, list):
        return [detached(one) for one in value]
    return value.detach() if isinstance(value, Tensor) else value


@st.composite
def sound(draw: st.DrawFn, op: str) -> list[Any]:
    """What the public function gives the op, forward or backward."""
    public.HOSTILE[0] = False
    # Compared in float64 alone, without values that make others large.
    exact = op == "stgcn_block_backward" and draw(st.sampled_from([True, True, True, False]))
    public.PLAIN[0] = exact or draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 2**32)))
    name = function_of(op)
    name = draw(st.sampled_from([name, *ALSO.get(name, [])]))
    given = {key: leaves(value) for key, value in draw(public.FUNCTIONS[name]()).items()}
    if exact:
        given = {key: doubled(value) for key, value in given.items()}
    if name in ("skeleton_augment", "skelemix"):  # without a gradient
        given = {
            key: one.detach() if isinstance(one, Tensor) else one for key, one in given.items()
        }
    backend = draw(st.sampled_from(backends_of(op)))
    with Recorder() as recorder:
        try:
            found = getattr(functional, name)(**given, backend=backend)
        except (BackendError, ValueError):  # no half precision, say, or a single value
            assume(False)
        found = [found] if isinstance(found, Tensor) else list(found)
        roots = [one for one in found if isinstance(one, Tensor) and one.requires_grad]
        if op.endswith("_backward"):
            assume(roots)
            losses = [(root * torch.randn_like(root)).double().sum() for root in roots]
            torch.stack(losses).sum().backward()
    assume(op in recorder.calls)
    return detached(recorder.calls[op])


# --- Spoiling ------------------------------------------------------------------------------------

FLOATS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-320, 0.5, 2.0, 2**70, "x", None)
INTEGERS = (-1, 0, 1, 2, 3, 7, 2**31, 2**32, 2**40, 2**63 - 1, -(2**63), 2**63, 1.5, "x", None)
NAMES = ("cpp", "triton", "cuda", REFERENCE, "auto", "", "CPP", "cpp\0", 3, None, b"cpp")
DTYPES = (*public.FLOATS, *public.ODD_DTYPES)


Spoil = Callable[[st.DrawFn, Tensor], Any]


def _other_size(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    shape = list(tensor.shape)
    if not shape or math.prod(shape) >= 2**24:
        return tensor
    shape[draw(st.integers(0, len(shape) - 1))] += draw(st.sampled_from([-1, 1, 20_000]))
    return tensor.new_zeros([max(n, 0) for n in shape])


def _other_dimensions(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    more = draw(st.booleans()) or tensor.dim() == 0 or len(tensor) == 0
    return tensor[None] if more else tensor[0]


def _huge(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    shape = list(tensor.shape)
    return tensor.new_zeros([1] * len(shape)).expand([2**45, *shape[1:]] if shape else [])


def _other_layout(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    how = draw(st.sampled_from(["sparse", "mkldnn", "quantized"]))
    if how == "quantized":
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
    return tensor.to_sparse() if how == "sparse" else tensor.to_mkldnn()


def _other_value(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    if not tensor.numel():
        return tensor
    changed = tensor.clone(memory_format=torch.contiguous_format)
    limits = [math.nan, math.inf, 1e30, -1e30] if tensor.is_floating_point() else [-1, 3, 77]
    if tensor.dtype in (torch.uint8, torch.bool):
        limits = [0, 1]
    value = draw(st.sampled_from(limits))
    changed.view(-1)[draw(st.integers(0, tensor.numel() - 1))] = value
    return changed


def _wants_gradient(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    return torch.nn.Parameter(tensor.clone()) if tensor.is_floating_point() else tensor


def _freed(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    freed = tensor.clone()
    freed.untyped_storage().resize_(0)
    return freed


def _zero_without_memory(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return torch._efficientzerotensor(list(tensor.shape), dtype=tensor.dtype)


#: Each gives another tensor, or the same where it does not apply.
SPOILS: tuple[Spoil, ...] = (
    lambda draw, tensor: tensor.to(draw(st.sampled_from(DTYPES))),
    lambda draw, tensor: tensor.new_zeros(draw(st.lists(st.integers(0, 5), max_size=6))),
    _other_size,
    _other_dimensions,
    lambda draw, tensor: tensor.to("meta"),
    _huge,
    _other_layout,
    public._in_memory,
    public._in_memory,  # twice as often
    _other_value,
    lambda draw, tensor: tensor.new_zeros(0),
    _wants_gradient,
    _freed,
    _zero_without_memory,
    lambda draw, tensor: draw(st.sampled_from([None, 3, "x", [tensor]])),
)


@st.composite
def spoilt_tensor(draw: st.DrawFn, tensor: Tensor | None) -> Any:
    """Another tensor instead: equal in other memory, or of another kind, shape or dtype."""
    if tensor is None:
        tensor = torch.randn(draw(st.lists(st.integers(0, 4), max_size=5)))
    return draw(st.sampled_from(SPOILS))(draw, tensor)


@st.composite
def spoilt_list(draw: st.DrawFn, kind: str, items: list[Any]) -> list[Any]:
    """Another list instead, of items of the schema's type `kind`."""
    one = draw(spoilt(kind, items[0] if items else 0))
    how = draw(st.sampled_from(["drop", "add", "replace", "none", "swap"]))
    if how == "drop":
        return items[:-1]
    if how == "add":
        return [*items, one]
    if how == "replace" and items:
        items[draw(st.integers(0, len(items) - 1))] = one
    if how == "none":
        return []
    return items[::-1] if how == "swap" else items


@st.composite
def spoilt(draw: st.DrawFn, kind: str, value: Any) -> Any:
    """Another argument of the schema's type `kind`, or of none it knows."""
    if kind.startswith("List"):
        return draw(spoilt_list(kind.split("[")[1].rstrip("]"), list(value)))
    if "Tensor" in kind:
        return draw(spoilt_tensor(value))
    by_kind = {"float": FLOATS, "int": INTEGERS, "SymInt": INTEGERS, "bool": (True, False, 2, None)}
    if kind in by_kind:
        return draw(st.sampled_from(by_kind[kind]))
    if "str" in kind:
        return draw(st.sampled_from(("ieee", "tf32", "bf16", *NAMES) if "Opt" in kind else NAMES))
    return draw(st.sampled_from((*DTYPES, None, "x", 2**31)))  # a dtype


class Call:
    """Arguments of an op, and the names of those that are spoilt.

    No dataclass, whose fields hypothesis prints: torch crashes printing a tensor without memory.
    """

    def __init__(self, given: list[Any], spoilt: list[str]) -> None:
        self.given, self.spoilt = given, spoilt


@st.composite
def calls_of(draw: st.DrawFn, op: str) -> Call:
    given = draw(sound(op))
    schema = HERE[op].default._schema.arguments
    assert len(given) == len(schema)
    most = draw(st.sampled_from([0, 2]))
    indices = draw(st.lists(st.integers(0, len(given) - 1), max_size=most, unique=True))
    for index in indices:
        kind = str(schema[index].real_type)
        given[index] = draw(spoilt(kind, given[index]))
    return Call(given, [schema[index].name for index in indices])
