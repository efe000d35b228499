"""The `numba` backend: loops.py and the declared formulas, compiled at run time. ImportError without numba.

Nothing is written twice. Where NumPy's own loop is faster it is used: for products above a measured size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.extending import overload

from fastnn.backends import loops, loops_table, own_formulas, reference
from fastnn.backends.numba_formulas import LOOP_MATH, OPTIONS, STAND_INS, copy
from fastnn.contract import Array
from fastnn.ops.dense import dense


class _ForgivingCache(FunctionCache):
    """numba's cache on disk, without its errors: a file that is damaged or cannot be read or written costs the time
    of a compilation, nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling a damaged file raises
            with suppress(OSError):
                self.flush()  # so that the next process finds what this one compiles
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any], dtype: np.dtype) -> Callable[..., Any]:
    """A loop compiled for `dtype`, once for all processes where a directory can be written."""
    dispatcher: Any = numba.njit(copy(function, dtype), fastmath=LOOP_MATH, **OPTIONS)
    with suppress(RuntimeError):  # no directory to cache in can be written
        dispatcher._cache = _ForgivingCache(dispatcher.py_func)  # what cache=True sets, but for the class
    return dispatcher


# Loops against OpenBLAS, one thread, float32, Zen 3: even at B = I = O = 24 and at 8 x 64 x 64; at 64 x 64 x 128
# BLAS is 2.4 times as fast, at 128 x 784 x 256 3. Rows of under 32 outputs take a loop as long as 32 do.
_BLAS_FROM = 20_000


def small(B: int, w: Array) -> bool:
    I, O = w.shape
    return bool(B * I * max(O, 32) < _BLAS_FROM)


def _affine(x: Array, w: Array, b: Array, z: Array) -> None:
    if small(len(x), w):
        find("affine loop", x.dtype)(x, w, b, z)
    else:
        np.matmul(x, w, out=z)
        z += b


def _backward_input(dz: Array, w: Array, dx: Array) -> None:
    if small(len(dz), w):
        find("backward_input loop", dz.dtype)(dz, w, dx)
    else:
        np.matmul(dz, w.T, out=dx)


def _backward_weights(x: Array, dz: Array, dw: Array, db: Array) -> None:
    if len(x) == 1 or small(len(x), dw):  # one row, 784 x 128: 15 us, NumPy 150
        find("backward_weights loop", x.dtype)(x, dz, dw, db)
    else:
        dense.gradients(x, dz, dw, db)


@cache
def find(name: str, dtype: np.dtype) -> Callable[..., Any]:
    if name in _CHOOSERS:
        return _CHOOSERS[name]
    if name == "squared_norm":  # in float64, whatever the gradient is
        dtype = np.dtype(np.float64)
    return compiled(getattr(loops, name.removesuffix(" loop")), dtype)


@cache
def around(name: str, dtype: np.dtype, formulas: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    loop = getattr(loops, name)(*formulas)  # its formulas are in its closure
    return numba.njit(copy(loop, dtype), fastmath=LOOP_MATH, **OPTIONS)


@overload(loops.element)
def _element(slots, i):
    source = "".join(f"slots[{k}][i], " for k in range(len(slots)))
    return eval(f"lambda slots, i: ({source})")


@overload(loops.store)
def _store(slots, i, numbers):
    body = "".join(f"    slots[{k}][i] = numbers[{k}]\n" for k in range(len(slots))) or "    pass\n"
    namespace: dict[str, Any] = {}
    exec(f"def store(slots, i, numbers):\n{body}", namespace)
    return namespace["store"]


STAND_INS[loops.element] = loops.element  # compiled by their overloads
STAND_INS[loops.store] = loops.store


STORED = tuple(np.dtype(kind) for kind in (np.float32, np.float64, np.uint8))  # others go through NumPy


@cache
def _gather_of(name: str, stored: np.dtype, contiguous: bool, out: np.dtype) -> Callable[..., Any]:
    """One version for every layout but C order: numba would compile one for each, and for read-only rows again."""
    x = numba.types.Array(numba.from_dtype(stored), 2, "C" if contiguous else "A", readonly=True)
    rows = numba.types.Array(numba.int64, 1, "C", readonly=True)
    number = numba.types.Array(numba.float64, 1, "C", readonly=True)
    scaling = (number, number) if name == "normalize_forward" else ()
    signature = numba.void(x, rows, *scaling, numba.from_dtype(out)[:, ::1])
    return numba.njit(signature, nogil=True)(getattr(loops, name))


def _gathering(name: str) -> Callable[..., None]:
    """The loop of a source: its data has a dtype of its own."""
    others = reference.KERNELS.ops[name.removesuffix("_forward")].forward

    def gather(data: Array, rows: Array, *rest: Array) -> None:
        if isinstance(data, Array) and data.dtype in STORED and data.flags.aligned:
            _gather_of(name, data.dtype, data.flags.c_contiguous, rest[-1].dtype)(data, rows, *rest)
        else:
            others(data, rows, *rest)

    return gather


_CHOOSERS: dict[str, Callable[..., Any]] = {
    "cast_forward": _gathering("cast_forward"),
    "normalize_forward": _gathering("normalize_forward"),
    "affine": _affine,
    "backward_input": _backward_input,
    "backward_weights": _backward_weights,
}


def accepts(formula: own_formulas.Formula, dtype: np.dtype) -> bool:
    """Whether numba can compile a formula of one's own; a warning says once that it cannot."""
    return own_formulas.addresses(formula, dtype) is not None


KERNELS = loops_table.kernels(find, around, accepts=accepts)
