"""Calls every public function with arguments nobody should give: python functions.py --examples N.

Each call has to end in a result, which is that of the reference where both are finite, or in a
clear exception: ValueError, TypeError or BackendError, or the allocator's. A program of its own, so
that a crash of the native code fails a test and does not end the tests.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import inspect
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch
from arguments import FUNCTIONS, arguments_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from aimclr_fast import functional
from aimclr_fast.functional import AugmentConfig, AugmentParams
from aimclr_fast.ops._dispatch import BackendError

OUTCOMES: collections.Counter[str] = collections.Counter()


class Unclear(AssertionError):
    """A call ended in another way than promised."""


#: Functions that are called with gradients wanted.
DIFFERENTIABLE = ("eadm_pool", "masked_pool", "queue_contrast", "queue_losses", "apply_augment")


def flat(result: Any, any_kind: bool = False) -> list[torch.Tensor]:
    """The tensors of nested sequences; of any kind: among other things."""
    if isinstance(result, torch.Tensor):
        return [result]
    if any_kind and not isinstance(result, list | tuple):
        return []
    return [tensor for item in result for tensor in flat(item, any_kind)]


def leaves(value: Any) -> Any:
    """The same arguments, with gradients wanted of floating-point tensors."""
    if isinstance(value, dict):
        return {key: leaves(one) for key, one in value.items()}
    if type(value) is list:
        return [leaves(one) for one in value]
    wanted = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.detach().requires_grad_() if wanted and value.layout == torch.strided else value


def clear(error: Exception, arguments: dict[str, Any]) -> bool:
    """Whether an exception is one that is promised."""
    text = str(error)
    if isinstance(error, BackendError):
        return True
    if isinstance(error, MemoryError) or "allocate memory" in text or "not enough memory" in text:
        return True
    words = {
        *arguments,
        "layout",
        "stream",
        "view",
        "tensors must be on one device",
        "K must",
        "identity",
    }
    return type(error) in (ValueError, TypeError) and any(word in text for word in words)


def call(name: str, backend: str, arguments: dict[str, Any]) -> list[torch.Tensor] | Exception:
    """The function's tensors, and the gradients of those that it was given, or its exception."""
    given = leaves(arguments) if name in DIFFERENTIABLE else arguments
    torch.manual_seed(0)  # of the noise that apply_augment may draw
    try:
        found = flat(getattr(functional, name)(**given, backend=backend))
    except Exception as error:
        if not clear(error, arguments):
            raise Unclear(f"{backend}: {type(error).__name__}: {error}") from error
        return error
    roots = [one for one in found if one.requires_grad and one.device.type == "cpu"]
    if roots:
        wanted = [leaf for leaf in flat(list(given.values()), any_kind=True) if leaf.requires_grad]
        total = torch.stack([root.double().sum() for root in roots]).sum()
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        found += [gradient for gradient in gradients if gradient is not None]
    return [one.detach() for one in found]


#: The outputs that rounding cannot move far: no neighbors, no masks.
COMPARED = {
    "eadm_pool": slice(0, 1), "queue_contrast": slice(0, 4), "queue_losses": slice(0, 1),
}  # fmt: skip


def comparable(value: Any) -> bool:
    """Whether values are such that all backends can be exact to a hundredth."""
    if isinstance(value, tuple | list):
        return all(map(comparable, value))
    if isinstance(value, torch.Tensor):
        return value.device.type == "cpu" and bool((value.double().abs() < 100).all())
    if isinstance(value, AugmentParams):
        return all(comparable(one) for one in vars(value).values())
    if isinstance(value, AugmentConfig):
        return value.noise_std < 1
    return True


def agree(name: str, ours: list[torch.Tensor], theirs: list[torch.Tensor], same: bool) -> None:
    for got, expected in zip(ours, theirs, strict=True):
        assert got.shape == expected.shape, f"shape {got.shape}, reference {expected.shape}"
    compared = COMPARED.get(name, slice(None))
    for got, expected in zip(ours[compared], theirs[compared], strict=True):
        if same and got.is_floating_point() and got.device.type == "cpu":
            tolerance = 1e-2 if got.dtype in (torch.float32, torch.float64) else 0.1
            torch.testing.assert_close(
                got.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True
            )


def check(name: str, arguments: dict[str, Any]) -> None:
    ours = call(name, "auto", arguments)
    theirs = call(name, "reference", arguments)
    if isinstance(ours, Exception) or isinstance(theirs, Exception):
        OUTCOMES[f"{name}: refused"] += 1
        if isinstance(ours, Exception) != isinstance(theirs, Exception):
            refused = ours if isinstance(ours, Exception) else theirs
            if not isinstance(refused, MemoryError | RuntimeError):
                raise Unclear(f"one backend refuses what the other takes: {refused!r}")
        return
    OUTCOMES[f"{name}: computed"] += 1
    plain = {"temperature": (0.07, 1.0), "eps": (1e-5,), "e_lambda": (1e-4,)}
    usual = all(arguments[key] in values for key, values in plain.items() if key in arguments)
    agree(name, ours, theirs, usual and comparable(list(arguments.values())))


def shown(value: Any) -> str:
    if type(value) in (list, tuple):
        return f"({', '.join(map(shown, value))})"
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {list(value.shape)} strides {_strides(value)} {value.device}"
    return repr(value)


def _strides(value: torch.Tensor) -> Any:
    return list(value.stride()) if value.layout == torch.strided else value.layout


def run(
    name: str,
    strategy: st.SearchStrategy[Any],
    check_one: Callable[[str, Any], None],
    show: Callable[[Any], str],
    options: argparse.Namespace,
) -> None:
    @seeded(options.seed)
    @settings(
        max_examples=options.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if options.shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(strategy)
    def property_holds(arguments: Any) -> None:
        try:
            check_one(name, arguments)
        except Exception:
            print(f"{name}(\n{show(arguments)})", flush=True)
            raise

    property_holds()


def command_line(
    about: str,
    names: Sequence[str],
    strategy_of: Callable[[str], st.SearchStrategy[Any]],
    check_one: Callable[[str, Any], None],
    show: Callable[[Any], str],
) -> int:
    """Calls each of `names` as often as is asked for; 1 if the promise is broken."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--examples", type=int, default=100, help="calls of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shrink", action="store_true", help="look for a smaller call that fails")
    options = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(2)
    failed = 0
    for name in options.names or names:
        try:
            run(name, strategy_of(name), check_one, show, options)
        except Exception as error:
            failed += 1
            error.__notes__ = []  # hypothesis writes the arguments out, all values of all tensors
            traceback.print_exc(limit=3)
    for outcome, count in sorted(OUTCOMES.items()):
        print(f"{outcome} {count}")
    return int(failed > 0)


def show_named(arguments: dict[str, Any]) -> str:
    return "\n".join(f"  {key} = {shown(value)}" for key, value in arguments.items())


def main() -> int:
    public = [name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))]
    assert set(public) == FUNCTIONS.keys(), "every public function is called"
    return command_line(__doc__ or "", public, arguments_of, check, show_named)


if __name__ == "__main__":
    raise SystemExit(main())
