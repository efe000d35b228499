"""The `cython` backend: loops.py compiled ahead of time with the types of loops.pxd. ImportError if it was not.

Compiled code would call a declared formula as a Python function for each element, which is slower than one
NumPy expression for all of them: activations, point-wise losses and update rules stay vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastnn.backends import _loops_cython, loops_table, reference
from fastnn.backends.loops import WIDE
from fastnn.contract import Array

_C_NAMES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double", np.dtype(np.uint8): "uint8_t"}


def _gathering(name: str) -> Callable[..., Any]:
    """The loop of a source: its data has a dtype of its own."""
    loops, others = getattr(_loops_cython, name), reference.KERNELS.ops[name.removesuffix("_forward")].forward

    def gather(data: Array, rows: Array, *rest: Array) -> None:
        # it is compiled with -fassociative-math, which would make one difference of the two halves
        wide = name == "normalize_forward" and bool((rest[1] < WIDE).any())
        if isinstance(data, Array) and data.dtype in _C_NAMES and data.flags.aligned and not wide:
            loops[f"{_C_NAMES[data.dtype]}|{_C_NAMES[rest[-1].dtype]}"](data, rows, *rest)
        else:
            others(data, rows, *rest)

    return gather


@cache  # picking the version by hand: Cython's own choice costs more than a small kernel
def _find(name: str, dtype: np.dtype) -> Callable[..., Any]:
    if name in ("cast_forward", "normalize_forward"):
        return _gathering(name)
    loop: Callable[..., Any] = getattr(_loops_cython, name)
    if name not in ("random_bits", "shuffle"):  # the loops without floats
        loop = getattr(_loops_cython, name)[_C_NAMES[dtype]]
    return loops_table.summed(loop) if name == "backward_weights" else loop


KERNELS = loops_table.kernels(_find)
