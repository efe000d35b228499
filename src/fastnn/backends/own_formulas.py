"""Formulas of one's own for compiled backends: compiled once, or None and a warning, also once. Knows no backend."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import FallbackWarning, callers
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.formulas.own import fingerprint
from fastnn.formulas.rules import Rule

Formula = Activation | Loss | Rule


def addresses(formula: Formula, dtype: np.dtype) -> tuple[int, ...] | None:
    """Of its functions over blocks of values of that dtype: see own_numba.py. None where they cannot be compiled."""
    if isinstance(formula, Loss):
        if formula.pointwise is None:
            _warn(f"loss {formula}", "it is a function of whole rows")
            return None
        return _compiled("loss", str(formula), formula.pointwise, dtype)
    if isinstance(formula, Activation):
        return _compiled("activation", formula.name, (formula.value, formula.derivative), dtype)
    counts = len(formula.slots), len(formula.coefficients)
    return _compiled("rule", str(formula), (formula.formula,), dtype, *counts)


_KNOWN: dict[tuple[Any, ...], tuple[int, ...] | None] = {}


def _compiled(
    kind: str, name: str, functions: tuple[Callable[..., Any], ...], dtype: np.dtype, *counts: int
) -> tuple[int, ...] | None:
    """Once for what the functions compute: a property that makes its lambda anew each time costs one compilation."""
    key = kind, fingerprint(*functions), dtype, counts
    if key not in _KNOWN:  # threads that compile at once get two of the same
        _KNOWN[key] = _compile(f"{kind} {name}", kind, functions, dtype, *counts)
    return _KNOWN[key]


def _compile(
    what: str, kind: str, functions: tuple[Callable[..., Any], ...], dtype: np.dtype, *counts: int
) -> tuple[int, ...] | None:
    try:
        from fastnn.backends import own_numba
    except ImportError:
        _warn(what, "numba is not installed, which would compile it: the extra [numba]")
        return None
    except OSError as error:  # its library cannot be mapped, as under a limit of memory
        _warn(what, f"numba cannot be loaded ({error})")
        return None
    try:
        return own_numba.compiled(own_numba.Wanted(kind, functions, dtype, *counts))
    except Exception as error:  # numba's own errors have no base that is documented
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        _warn(what, f"numba cannot compile it ({reason})")
        return None


@functools.cache
def _warn(what: str, why: str) -> None:
    message = f"{what} runs in Python, an array of NumPy's at a time, which is slower: {why}"
    warnings.warn(message, FallbackWarning, stacklevel=callers())
