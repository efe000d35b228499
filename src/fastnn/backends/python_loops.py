"""The `python` backend: loops.py, interpreted. For reading, and for the slow end of the ladder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backends import loops, loops_table


def _find(name: str, dtype: np.dtype) -> Callable[..., Any]:
    loop: Callable[..., Any] = getattr(loops, name)
    return loops_table.summed(loop) if name == "backward_weights" else loop


def _around(name: str, dtype: np.dtype, formulas: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    loop: Callable[..., Any] = getattr(loops, name)(*formulas)
    return loop


KERNELS = loops_table.kernels(_find, _around)
