"""Formulas, and loops around them, as numba should compile them. Compiles none of the loops. ImportError without numba.

numba differs from NumPy in three ways that matter for a formula, and `_for_numba` gives it a copy of the function with
all put right:

- a Python float in an expression with a float32 is a float64 to numba, where NumPy lets it take the array's
  dtype (NEP 50): the copy's constants have the dtype;
- `np.where` of scalars is a new 0-d array to numba, and `erf` is written for arrays: the copy has scalar ones;
- exp, expm1 and tanh are calls to numba, where NumPy has vector instructions: the copy has those of `numba_math`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from fastnn.backends import numba_math
from fastnn.formulas import special

# Sums may be reordered, which is what lets a dot product use vector registers, and a * b + c may be one
# rounding. Not `nnan` and `ninf`: they would let the compiler drop what a NaN or an infinity must do.
LOOP_MATH = {"reassoc", "contract", "nsz"}
# A formula is evaluated as it is written.
FORMULA_MATH = {"contract"}
# x / 0 is infinity, as it is to NumPy. To raise an error for it numba tests each divisor, and a loop that may stop is
# not vectorised: Adam over 17,000 float32 took 53 us, and takes 7.5.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


@numba.njit(forceinline=True)
def _where(condition, yes, no):
    return yes if condition else no


@numba.njit(forceinline=True)
def _erf(x):
    return math.erf(x)


@cache
def _library(module: types.ModuleType, dtype: np.dtype) -> types.ModuleType:
    """NumPy or math as a formula on scalars of `dtype` should see it."""
    library = types.ModuleType(module.__name__)
    library.__dict__.update(module.__dict__, **numba_math.functions(dtype))
    if module is np:
        library.where = _where  # type: ignore[attr-defined]
    return library


STAND_INS: dict[Any, Any] = {special.erf: _erf}


def _for_numba(value: Any, dtype: np.dtype) -> Any:
    """What stands in for a constant or global `value` of a function that works in `dtype`."""
    if isinstance(value, float):
        return dtype.type(value)
    if (value is np or value is math) and dtype in numba_math.DTYPES:
        return _library(value, dtype)
    if isinstance(value, types.FunctionType) and value in STAND_INS:
        return STAND_INS[value]
    if isinstance(value, types.FunctionType):
        return formula(value, dtype)
    return value


def copy(function: Callable[..., Any], dtype: np.dtype) -> types.FunctionType:
    """The function as numba should compile it for numbers of `dtype`."""
    assert isinstance(function, types.FunctionType)
    code = function.__code__
    used = {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    return types.FunctionType(
        code.replace(co_consts=tuple(_for_numba(constant, dtype) for constant in code.co_consts)),
        function.__globals__ | {name: _for_numba(value, dtype) for name, value in used.items()},
        function.__name__,
        function.__defaults__,
        tuple(types.CellType(_for_numba(cell.cell_contents, dtype)) for cell in function.__closure__ or ()),
    )


@cache
def formula(function: types.FunctionType, dtype: np.dtype) -> Any:
    return numba.njit(copy(function, dtype), fastmath=FORMULA_MATH, forceinline=True, **OPTIONS)
