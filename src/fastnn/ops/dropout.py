"""The operation dropout."""

from __future__ import annotations

import numpy as np

from fastnn import _random
from fastnn._random import Key
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class dropout(Operation):
    """a = 0 with probability rate, else x / (1 - rate); nothing in inference. Srivastava et al. 2014."""

    spec = Spec(settings="rate", forward="x rate key -> a~x", backward="rate key da -> dx~da", predict="x -> x")

    @staticmethod
    def forward(x: Array, rate: float, key: Key, a: Array) -> None:
        keep = _random.bits(key, x.shape) >= _random.drop_threshold(rate)
        a[...] = np.where(keep, x * (1.0 / (1.0 - rate)), 0.0)

    @staticmethod
    def backward(rate: float, key: Key, da: Array, dx: Array) -> None:
        dropout.forward(da, rate, key, dx)  # the same values are dropped
