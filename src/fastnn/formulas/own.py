"""Formulas of one's own: evaluated over arrays whether they take them or not, and told from others by a digest."""

from __future__ import annotations

import hashlib
import pickle
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def number_of(value: Any) -> float | None:
    """A number that a formula returned, also an array without dimensions; None where it is none, such as text.

    >>> number_of(np.array(0.5)), number_of("0.5"), number_of(None)
    (0.5, None, None)
    """
    if isinstance(value, (str, bytes)) or np.ndim(value) != 0:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def evaluated(function: Callable[..., Any], first: Array, *others: Any) -> Array:
    """function(first, *others) of arrays, an element after the other where it takes numbers only: in first's dtype.

    >>> evaluated(lambda z, y: z if z > y else 0.0, np.array([1.0, -1.0]), np.zeros(2))
    array([1., 0.])
    """
    try:
        result = function(first, *others)
    except (TypeError, ValueError):  # "the truth value of an array ...", "only 0-dimensional arrays ..."
        result = np.vectorize(function, otypes=[first.dtype])(first, *others)
    return np.broadcast_to(np.asarray(result, dtype=first.dtype), first.shape)


def stepped(
    rule: Any, g: Array, slots: tuple[Array, ...], coefficients: tuple[float, ...]
) -> tuple[Array, tuple[Array, ...]]:
    """The same for a rule: its formula(g, slots, coefficients) of arrays (n,). TypeError or ValueError where it returns
    something else than (delta, slots), which it may do for these numbers only."""
    try:
        return _arrays(rule.formula(g, slots, coefficients), g, slots)
    except (TypeError, ValueError):
        pass
    try:
        each = [rule.formula(one, tuple(slot[i] for slot in slots), coefficients) for i, one in enumerate(g)]
        deltas, kept = zip(*each, strict=True)
        return _arrays((deltas, tuple(zip(*kept, strict=True))), g, slots)
    except (TypeError, ValueError) as error:
        wanted = f"(delta, a tuple of {len(slots)} slots)"
        raise type(error)(f"formula of rule {rule}: {error}; expected it to return {wanted}") from error


def _arrays(result: tuple[Any, Sequence[Any]], g: Array, slots: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
    delta, kept = result
    made = tuple(np.broadcast_to(np.asarray(each, dtype=g.dtype), g.shape) for each in (delta, *kept))
    if len(made) != 1 + len(slots):
        raise ValueError(f"it returned {len(made) - 1} slots")
    return made[0], made[1:]


def fingerprint(*functions: Callable[..., Any] | None) -> str:
    """A digest of what functions compute: their code, and the numbers and functions it refers to.

    >>> fingerprint(lambda z: 2.0 * z) == fingerprint(lambda z: 2.0 * z)
    True
    >>> fingerprint(lambda z: 2.0 * z) == fingerprint(lambda z: 3.0 * z)
    False
    """
    return hashlib.blake2b(
        repr([_parts(function, set()) for function in functions]).encode(), digest_size=8
    ).hexdigest()


def _parts(value: Any, seen: set[int]) -> Any:
    """What of a value decides what a function that uses it computes, as something with a repr."""
    if isinstance(value, types.CodeType):
        return value.co_code.hex(), value.co_names, [_parts(each, seen) for each in value.co_consts]
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value, seen)
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
        return value.__name__
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return repr(value)
    if isinstance(value, (tuple, list, frozenset)):
        return type(value).__name__, [_parts(each, seen) for each in value]
    try:
        return hashlib.blake2b(pickle.dumps(value)).hexdigest()
    except Exception:  # whatever it raises that cannot be pickled
        return type(value).__name__, id(value)


def _parts_of_function(function: types.FunctionType, seen: set[int]) -> Any:
    if id(function) in seen:
        return function.__qualname__
    seen.add(id(function))
    code = function.__code__
    cells = [_parts(cell.cell_contents, seen) for cell in function.__closure__ or ()]
    used = [_parts(function.__globals__[name], seen) for name in code.co_names if name in function.__globals__]
    return _parts(code, seen), cells, used, [_parts(each, seen) for each in function.__defaults__ or ()]
