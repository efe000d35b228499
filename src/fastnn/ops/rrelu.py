"""The operation rrelu."""

from __future__ import annotations

import numpy as np

from fastnn import _random
from fastnn._random import Key
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


def _slope(shape: tuple[int, int], lower: float, upper: float, key: Key, dtype: np.dtype) -> Array:
    return (lower + (upper - lower) * (_random.bits(key, shape) * 2.0**-32)).astype(dtype)


class rrelu(Operation):
    """a = x where x > 0, else slope x, the slope drawn for each value from U(lower, upper) in training, their mean
    in inference. Xu et al. 2015."""

    spec = Spec(
        settings="lower upper",
        forward="x lower upper key -> a",
        backward="x lower upper key da -> dx~da",
        predict="x lower upper -> a",
    )

    @staticmethod
    def forward(x: Array, lower: float, upper: float, key: Key, a: Array) -> None:
        a[...] = np.where(x > 0, x, _slope(x.shape, lower, upper, key, x.dtype) * x)

    @staticmethod
    def backward(x: Array, lower: float, upper: float, key: Key, da: Array, dx: Array) -> None:
        np.multiply(da, np.where(x > 0, x.dtype.type(1), _slope(x.shape, lower, upper, key, x.dtype)), out=dx)

    @staticmethod
    def predict(x: Array, lower: float, upper: float, a: Array) -> None:
        a[...] = np.where(x > 0, x, 0.5 * (lower + upper) * x)
