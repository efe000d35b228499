"""What a model.c computes, in NumPy: its sums in its order, its whole numbers. Writes no C.

All but the products are the numpy backend's formulas, which differ from C's by some units in the last place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from fastnn import backends
from fastnn.contract import Backend
from fastnn.formulas.activations import Activation
from fastnn.ops.activation import activate
from fastnn.serving.int8 import quantised

Array = np.ndarray
Forward = Callable[[Array, Array, Array, Activation, Array, Array], None]


def backend(dtype: str) -> Backend:
    """The numpy backend with the products of a model.c in that dtype."""
    kernels = backends.load("numpy").kernels
    forward = _int8 if dtype == "int8" else _float32
    dense = kernels.ops["dense"]._replace(forward=forward, predict=forward)
    return backends.make("c99", dataclasses.replace(kernels, ops={**kernels.ops, "dense": dense}))


def _float32(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
    z[...] = b
    for i in range(w.shape[0]):
        z += x[:, i : i + 1] * w[i]
    activate(activation, z, a)


def _int8(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
    whole, scale = quantised(w)
    q, of_row = rows_quantised(x)
    sums = q.astype(np.int32) @ whole.astype(np.int32)
    z[...] = sums.astype(np.float32) * (of_row * scale) + b
    activate(activation, z, a)


def rows_quantised(x: Array) -> tuple[Array, Array]:
    """x (B, I) as whole numbers from -127 to 127 and the scale (B, 1) of each row: x is about q scale."""
    most = np.abs(x).max(axis=1, keepdims=True)
    inverse = np.where(most > 1e-30, np.float32(127) / np.maximum(most, np.float32(1e-30)), np.float32(0))
    t = np.maximum(x * inverse, np.float32(-127)) + np.float32(128.5)
    return (t.astype(np.int32) - 128).astype(np.int8), most / np.float32(127)
