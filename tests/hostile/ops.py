"""Calls every op of torch.ops.aimclr_fast with arguments nobody should give: python ops.py.

Each call has to end in a result that equals the reference's, or in a clear exception; and the op's
fake, on which torch.compile relies, has to end in the same way. A program of its own, as is
functions.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from functions import OUTCOMES, Unclear, command_line, shown
from op_arguments import HERE, OPS, Call, calls_of
from op_references import EXPECTED
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, UnsupportedFakeTensorException

from aimclr_fast.functional import AugmentConfig, MixConfig
from aimclr_fast.ops._dispatch import BackendError

#: What torch says before the op is asked.
TORCHS = (
    "Expected a value of type",
    "no tensor arguments",
    "Could not run",
    "Overflow when unpacking",
    "expected",
)
#: What only an implementation can know: values, and what memory there is.
ITS_OWN = (
    "must lie in", "null pointer", "allocate memory", "not enough memory", "storage",
    "both true and false",
)  # fmt: skip


def outcome(op: str, given: list[Any]) -> list[Tensor] | Exception:
    try:
        found = HERE[op](*given)
    except Exception as error:
        return error
    return [found] if isinstance(found, Tensor) else list(found)


def clear(op: str, error: Exception) -> bool:
    text = str(error)
    names = [argument.name for argument in HERE[op].default._schema.arguments]
    for of_config, config in (("amplitudes", AugmentConfig), ("settings", MixConfig)):
        if of_config in names:  # each by its own name
            names += [field.name for field in fields(config)]
    if isinstance(error, BackendError | MemoryError):
        return True
    if type(error) in (ValueError, TypeError):
        named = any(name in text or name.replace("_", " ") in text for name in names)
        return named or any(one in text for one in ("on one device", "null pointer", "residual"))
    return type(error) in (RuntimeError, NotImplementedError) and any(
        one in text for one in (*TORCHS, *ITS_OWN)
    )


def each_tensor(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same arguments with the function's result in a tensor's place, in lists too."""
    if isinstance(value, list):
        return [each_tensor(function, one) for one in value]
    return function(value) if isinstance(value, Tensor) else value


def tensors_of(given: dict[str, Any]) -> list[Tensor]:
    found: list[Tensor] = []
    each_tensor(found.append, list(given.values()))
    return found


def faked(op: str, given: list[Any]) -> list[Tensor] | Exception | None:
    """The same by the op's fake; None where torch has no fake of a tensor."""
    with FakeTensorMode() as mode:
        try:
            given = each_tensor(mode.from_tensor, given)
        except (UnsupportedFakeTensorException, NotImplementedError):
            return None
        return outcome(op, given)


def same_ending(found: list[Tensor] | Exception, fake: list[Tensor] | Exception) -> None:
    if isinstance(found, Exception):
        if isinstance(fake, Exception):
            ours = type(found) is type(fake) and str(found) == str(fake)
            if not ours and not any(one in str(found) for one in TORCHS):
                raise Unclear(f"the op says {found!r}, its fake {fake!r}")
        elif not any(one in str(found) for one in (*ITS_OWN, *TORCHS)):
            raise Unclear(f"only the implementation refuses: {found!r}")
        return
    if isinstance(fake, Exception):
        raise Unclear(f"only the fake refuses: {fake!r}") from fake
    for got, shape in zip(found, fake, strict=True):
        told, real = ((x.dtype, x.shape, x.stride(), x.device) for x in (shape, got))
        if real != told:
            raise Unclear(f"the op gave {real}, its fake {told}")


#: Numbers with which rounding stays small.
PLAIN = {
    "temperature": (0.07, 1.0), "eps": (1e-5,), "e_lambda": (1e-4,), "scale": (1.0, 2.0),
}  # fmt: skip


def comparable(given: dict[str, Any]) -> bool:
    """Whether values are such that a backend can be exact to a hundredth."""
    for value in tensors_of(given):
        if value.device.type != "cpu":
            return False
        small = value.double().abs() < 100
        # Integers are packed bits and indices, but for int16, which is data.
        if (value.is_floating_point() or value.dtype == torch.int16) and not bool(small.all()):
            return False
    numbers = {name: given[name] for name in PLAIN if isinstance(given.get(name), float)}
    return all(number in PLAIN[name] for name, number in numbers.items())


def tolerance(op: str, given: dict[str, Any]) -> float:
    dtypes = {x.dtype for x in tensors_of(given) if x.is_floating_point()}
    halves = {torch.float16, torch.bfloat16, given.get("dtype")} - {torch.float32, torch.float64}
    if dtypes & halves or given.get("precision") or given.get("dtype") in halves - {None}:
        return 0.1
    return 1e-2


def check(op: str, call: Call) -> None:
    given, spoilt = call.given, call.spoilt
    found = outcome(op, given)
    fake = faked(op, given)
    if fake is not None:
        same_ending(found, fake)
    if isinstance(found, Exception):
        if not clear(op, found):
            raise Unclear(f"{type(found).__name__}: {found}") from found
        OUTCOMES[f"{op}: refused"] += 1
        return
    OUTCOMES[f"{op}: computed"] += 1
    named = dict(zip((a.name for a in HERE[op].default._schema.arguments), given, strict=True))
    if not comparable(named):
        return
    if op == "stgcn_block_backward" and (
        named["x"].dtype != torch.float64
        or {"y", "statistics", "spatial", "temporal", "shortcut", "masks"} & set(spoilt)
    ):
        return
    OUTCOMES[f"{op}: compared"] += 1
    allowed = tolerance(op, named)
    for got, expected in EXPECTED[op](named, found):
        torch.testing.assert_close(
            got.detach().double(),
            expected.detach().double(),
            rtol=allowed,
            atol=allowed,
            equal_nan=True,  # of an empty batch's statistics
        )


def show(call: Call) -> str:
    return f"  spoilt: {call.spoilt}\n  " + "\n  ".join(map(shown, call.given))


def main() -> int:
    assert set(OPS) == EXPECTED.keys(), "every op is called"
    # It logs each exception of a fake.
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    return command_line(__doc__ or "", OPS, calls_of, check, show)


if __name__ == "__main__":
    raise SystemExit(main())
