"""Formulas of one's own as C functions over blocks of values, compiled by numba: what csrc/own.hpp asks for.

ImportError without numba. The loop around a formula has a fixed length, so LLVM makes it vectors without a remainder.
What was compiled stays for the life of the process: the extension knows its address.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from fastnn.backends.numba_formulas import FORMULA_MATH, OPTIONS, formula

BLOCK = 64  # kOwnBlock of csrc/own.hpp
_KEPT: list[Any] = []


class Wanted(NamedTuple):
    """What is to be compiled. Of a rule `slots` and `coefficients` count what it takes beside the gradient."""

    kind: str  # "loss", "activation", "rule"
    functions: tuple[Callable[..., Any], ...]  # value and gradient; value and derivative; the rule's formula
    dtype: np.dtype
    slots: int = 0
    coefficients: int = 0


def compiled(wanted: Wanted) -> tuple[int, ...]:
    """The addresses of its functions: one, of an activation two. Whatever numba raises where it cannot compile them."""
    for function in wanted.functions:
        if not isinstance(function, types.FunctionType):
            raise TypeError(f"{function!r} is no function written in Python")
    fresh = [_fresh(function, wanted.dtype) for function in wanted.functions]
    loops = _LOOPS[wanted.kind](wanted, *fresh)
    real = numba.types.CPointer(numba.from_dtype(wanted.dtype))
    signature = numba.void(numba.types.CPointer(numba.float64), real, real)
    functions = [numba.cfunc(signature, fastmath=FORMULA_MATH, **OPTIONS)(loop) for loop in loops]
    for function in fresh:
        if any(_may_be_none(signature.return_type) for signature in function.nopython_signatures):
            raise TypeError(f"{function.py_func.__name__} may return None")  # which C would not hear of
    _KEPT.extend(functions)
    return tuple(function.address for function in functions)


def _may_be_none(kind: Any) -> bool:
    """Whether a type of numba's is, or has in it, one that None belongs to."""
    if isinstance(kind, numba.types.BaseTuple):
        return any(map(_may_be_none, kind))
    return isinstance(kind, (numba.types.Optional, numba.types.NoneType))


def _fresh(function: Callable[..., Any], dtype: np.dtype) -> Any:
    """`formula` with what the function refers to now, which may be other numbers than before."""
    return formula.__wrapped__(function, dtype)


def _loss_loops(wanted: Wanted, value: Any, gradient: Any) -> list[Callable[..., None]]:
    real = wanted.dtype.type

    def loop(numbers, inputs, outputs):
        parameter = real(numba.carray(numbers, (1,))[0])
        taken, made = numba.carray(inputs, (2, BLOCK)), numba.carray(outputs, (2, BLOCK))
        for i in range(BLOCK):
            made[0, i] = value(taken[0, i], taken[1, i], parameter)
            made[1, i] = gradient(taken[0, i], taken[1, i], parameter)

    return [loop]


def _activation_loops(wanted: Wanted, *functions: Any) -> list[Callable[..., None]]:
    real = wanted.dtype.type

    def around(function: Any) -> Callable[..., None]:
        def loop(numbers, inputs, outputs):
            alpha = real(numba.carray(numbers, (1,))[0])
            taken, made = numba.carray(inputs, (BLOCK,)), numba.carray(outputs, (BLOCK,))
            for i in range(BLOCK):
                made[i] = function(taken[i], alpha)

        return loop

    return [around(function) for function in functions]


def _rule_loops(wanted: Wanted, rule: Any) -> list[Callable[..., None]]:
    """Written out for so many slots and coefficients: numba's tuples have a fixed length."""
    slots = "".join(f"taken[{k}, i], " for k in range(1, 1 + wanted.slots))
    coefficients = "".join(f"real(given[{k}]), " for k in range(wanted.coefficients))
    kept = "".join(f"        made[{k + 1}, i] = kept[{k}]\n" for k in range(wanted.slots))
    source = (
        "def loop(numbers, inputs, outputs):\n"
        f"    given = carray(numbers, ({max(wanted.coefficients, 1)},))\n"
        f"    taken = carray(inputs, ({1 + wanted.slots}, BLOCK))\n"
        f"    made = carray(outputs, ({1 + wanted.slots}, BLOCK))\n"
        f"    coefficients = ({coefficients})\n"
        "    for i in range(BLOCK):\n"
        f"        made[0, i], kept = rule(taken[0, i], ({slots}), coefficients)\n"
        f"{kept}"
    )
    names: dict[str, Any] = {"carray": numba.carray, "BLOCK": BLOCK, "real": wanted.dtype.type, "rule": rule}
    exec(source, names)
    return [names["loop"]]


_LOOPS: dict[str, Callable[..., list[Callable[..., None]]]] = {
    "loss": _loss_loops,
    "activation": _activation_loops,
    "rule": _rule_loops,
}
