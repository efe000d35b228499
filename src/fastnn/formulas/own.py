"""Formulas of one's own: how they are told from others, from one process to the next. Evaluates none."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from typing import Any


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
    if isinstance(value, types.CodeType):
        return value.co_code.hex(), value.co_names, [_parts(each, seen) for each in value.co_consts]
    if not isinstance(value, types.FunctionType):
        plain = isinstance(value, (bool, int, float, str, bytes, type(None)))
        return (
            repr(value) if plain else getattr(value, "__qualname__", getattr(value, "__name__", type(value).__name__))
        )
    if id(value) in seen:
        return value.__qualname__
    seen.add(id(value))
    code = value.__code__
    cells = [_parts(cell.cell_contents, seen) for cell in value.__closure__ or ()]
    used = [_parts(value.__globals__[name], seen) for name in code.co_names if name in value.__globals__]
    return _parts(code, seen), cells, used, [_parts(each, seen) for each in value.__defaults__ or ()]
