"""The kernels a backend supplies, with exact signatures. No code runs here.

Every array is C-contiguous, 2-D unless said otherwise, and of the plan's dtype (float32 or float64). Rows are
samples. Outputs are overwritten and never read; an output may share memory with an input only where the
comment says so. B rows, I inputs, O outputs. Nothing is validated here: that happened at the border.

A backend fills its table from `reference` and overwrites what it has (BLIS's way): see `Backend.extend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Kernels:
    """The table. The functions of `reference.py` have these names and these parameters, in this order."""

    # order (n,) int64 <- 0 .. n-1 in the order that `_random.shuffle` defines
    shuffle: Callable[[Key, Array], None]  # key, order
    # out[i] = x[rows[i]], cast.  x: (n, I), any real dtype and strides; rows: (B,) int64; out: (B, I)
    gather: Callable[[Array, Array, Array], None]  # x, rows, out
    # out[i] = (x[rows[i]] - shift) * scale in float64, rounded once, to out.  shift and scale: (I,) float64
    gather_normalized: Callable[[Array, Array, Array, Array, Array], None]  # x, rows, shift, scale, out
    # Of each slice of `step` of the rows (B,) of x, or of all of x: low and high of each column of x, mean and sum of
    # squared deviations of (x - pivot) * unit.  x: finite, as for gather; pivot and unit, powers of 2: (I,);
    # out: (4, slices, I); all three float64
    moments: Callable[[Array, Array | None, int, Array, Array, Array], None]  # x, rows, step, pivot, unit, out

    # z = x w + b, a = f(z).  x: (B, I), w: (I, O), b: (O,), z and a: (B, O); z may be a
    dense_forward: Callable[[Array, Array, Array, Activation, Array, Array], None]  # x, w, b, activation, z, a
    # dx = (dz w^T) * f'(saved).  dz: (B, O), w: (I, O), saved and dx: (B, I).  activation: of the layer *below*
    dense_backward_input: Callable[[Array, Array, Activation, Array, Array], None]  # dz, w, activation, saved, dx
    # dw = x^T dz, db = column sums of dz
    dense_backward_weights: Callable[[Array, Array, Array, Array], None]  # x, dz, dw, db

    # a = f(z); a may be z
    activation_forward: Callable[[Activation, Array, Array], None]  # activation, z, a
    # dz = da * f'(saved); dz may be da
    activation_backward: Callable[[Activation, Array, Array, Array], None]  # activation, saved, da, dz

    # a = exp(z) / sum of exp(z) over the row; a may be z
    softmax_forward: Callable[[Array, Array], None]  # z, a
    # dz = a * (da - sum of da * a over the row); dz may be da
    softmax_backward: Callable[[Array, Array, Array], None]  # a, da, dz
    # a[:, o] = max of z[:, k o : k o + k], winner (B, O) int32 its first index in 0 .. k-1.  z: (B, k O)
    maxout_forward: Callable[[Array, Array, Array], None]  # z, a, winner
    # dz (B, k O): da at the winner, 0 elsewhere
    maxout_backward: Callable[[Array, Array, Array], None]  # winner, da, dz
    # a = z where z > 0, else slope * z.  slope: (O,); a must not be z
    prelu_forward: Callable[[Array, Array, Array], None]  # z, slope, a
    # dz, and dslope (O,) = column sums of da * min(z, 0); dz may be da
    prelu_backward: Callable[[Array, Array, Array, Array, Array], None]  # z, slope, da, dz, dslope
    # as prelu, slope = lower + (upper - lower) * bits / 2^32 drawn for each element; a must not be z
    rrelu_forward: Callable[[Array, float, float, Key, Array], None]  # z, lower, upper, key, a
    rrelu_backward: Callable[[Array, float, float, Key, Array, Array], None]  # z, lower, upper, key, da, dz

    # out = 0 where bits < drop_threshold(rate), else x / (1 - rate); out may be x.  Its own backward: same key
    dropout: Callable[[Array, float, Key, Array], None]  # x, rate, key, out

    # Batch statistics: mean, inv_std (O,) = 1 / sqrt(var + epsilon), var biased; a = gamma (x - mean) inv_std + beta.
    # running <- momentum * running + (1 - momentum) * batch, the variance unbiased, times B / (B - 1);
    # a batch of one row has no variance and leaves both alone
    batch_norm_forward: Callable[
        [Array, Array, Array, float, float, Array, Array, Array, Array, Array], None
    ]  # x, gamma, beta, momentum, epsilon, running_mean, running_var, mean, inv_std, a
    batch_norm_predict: Callable[
        [Array, Array, Array, float, Array, Array, Array], None
    ]  # x, gamma, beta, epsilon, running_mean, running_var, a
    # dx may be da
    batch_norm_backward: Callable[
        [Array, Array, Array, Array, Array, Array, Array, Array], None
    ]  # x, gamma, mean, inv_std, da, dx, dgamma, dbeta
    # The same over each row: mean and inv_std (B,)
    layer_norm_forward: Callable[
        [Array, Array, Array, float, Array, Array, Array], None
    ]  # x, gamma, beta, epsilon, mean, inv_std, a
    layer_norm_backward: Callable[
        [Array, Array, Array, Array, Array, Array, Array, Array], None
    ]  # x, gamma, mean, inv_std, da, dx, dgamma, dbeta

    # value (B,) = loss of each row, dz (B, O) = weight (B,) * d(value)/dz.  y: (B,) int64 labels or (B, O) values
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
    backend has one anyway.
    """

    name: str
    kernels: Kernels
    predict: Callable[..., Any]
    train_steps: Callable[..., Any]
    atomic: bool = False
    limit_threads: Callable[[int], AbstractContextManager[None]] = no_limit

    def extend(self, name: str, **kernels: Callable[..., Any]) -> Backend:
        """A backend that has these kernels and takes the rest from this one."""
        return replace(self, name=name, kernels=replace(self.kernels, **kernels))
