"""The operation softmax."""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class softmax(Operation):
    """a_j = exp(x_j) / sum_k exp(x_k) over the channels."""

    spec = Spec(forward="x -> a~x", backward="a da -> dx~da")
    link = "softmax"

    @staticmethod
    def forward(x: Array, a: Array) -> None:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        np.divide(e, e.sum(axis=1, keepdims=True), out=a)

    @staticmethod
    def backward(a: Array, da: Array, dx: Array) -> None:
        np.multiply(a, da - (da * a).sum(axis=1, keepdims=True), out=dx)
