"""The kernels a backend supplies, with exact signatures. No code runs here.

Every array is C-contiguous, 2-D unless said otherwise, and of the plan's dtype (float32 or float64). Rows are
samples. Outputs are overwritten and never read; an output may share memory with an input only where the
comment says so. B rows, I inputs, O outputs. Nothing is validated here: that happened at the border.

A backend fills its table from `reference` and overwrites what it has: BLIS's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn._random import Key
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.formulas.rules import Rule

Array = np.ndarray


class Adjustment(NamedTuple):
    """What happens around an optimizer's rule: first clipping, then the penalties, last the decay.

    g <- clip(scale * g, -limit, limit) + l1 * sign(w) + l2 * w
    w <- (1 - shrink) * w - delta,  delta from the rule
    """

    scale: float = 1.0  # clipping by global norm
    limit: float = float("inf")  # clipping by value
    l1: float = 0.0
    l2: float = 0.0
    shrink: float = 0.0  # learning rate * decoupled decay


class OpKernels(NamedTuple):
    """The functions of one operation: their parameters are the names of its Spec, in that order. None: not declared."""

    forward: Callable[..., None]
    backward: Callable[..., None]
    predict: Callable[..., None]


@dataclass(frozen=True)
class Kernels:
    """The table. The functions of `reference.py` have these names and these parameters, in this order."""

    ops: Mapping[str, OpKernels]  # those of the operations, by their names in ops.OPS

    # order (n,) int64 <- 0 .. n-1 in the order that `_random.shuffle` defines
    shuffle: Callable[[Key, Array], None]  # key, order
    # Of each slice of `step` of the rows (B,) of x, or of all of x: low and high of each column of x, mean and sum of
    # squared deviations of (x - pivot) * unit.  x: finite, as for gather; pivot and unit, powers of 2: (I,);
    # out: (4, slices, I); all three float64
    moments: Callable[[Array, Array | None, int, Array, Array, Array], None]  # x, rows, step, pivot, unit, out
    # dz = da * f'(saved), element by element; dz may be da
    activation_backward: Callable[[Activation, Array, Array, Array], None]  # below, saved, da, dz
    # value (B,) = loss of each row, dz (B, O) = weight (B,) * d(value)/dz.  y: (B,) labels or (B, O / width) values
    loss: Callable[[Loss, Array, Array, Array, Array, Array], None]  # loss, z, y, weight, value, dz
    # sum of g^2 over a 1-D array, accumulated in float64
    squared_norm: Callable[[Array], float]  # g
    # One optimizer step over 1-D arrays, w and slots in place: see Adjustment and formulas/rules.py
    update: Callable[
        [Rule, tuple[float, ...], Adjustment, Array, Array, tuple[Array, ...]], None
    ]  # rule, coefficients, adjustment, w, g, slots


@contextmanager
def no_limit(threads: int) -> Iterator[None]:
    """What a backend of one thread, or one that cannot be limited, does with `threads`: nothing."""
    yield


@dataclass(frozen=True)
class Backend:
    """A name, a table of kernels, and the two walks over a plan.

    `predict` and `train_steps` are the Python engine's unless a backend brings its own: a native engine
    overwrites them and nothing else changes. `atomic`: whatever interrupts its train_steps but a MemoryError, the state
    is as some whole step left it, and steps that leave anything infinite or NaN have a loss that is not finite.
    `limit_threads(n)`: a context in which calls from this thread use at most n threads; it changes nothing where a
    backend has one anyway. `freeze(frozen, owner)`: a predictor in the place of its owner, a serving.Predictor, which
    it asks where it does not answer itself; None where it has none for that network. `live=True`: of tensors that may
    change between calls. `int8=matrices`: with these in whole numbers, one an operation, or None.
    """

    name: str
    kernels: Kernels
    predict: Callable[..., Any]
    train_steps: Callable[..., Any]
    atomic: bool = False
    limit_threads: Callable[[int], AbstractContextManager[None]] = no_limit
    freeze: Callable[..., Any] | None = None
