"""The operation ordered."""

from __future__ import annotations

import numpy as np

from fastnn.formulas.activations import ACTIVATIONS
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec

_softplus, _sigmoid = ACTIVATIONS["softplus"].value, ACTIVATIONS["sigmoid"].value


class ordered(Operation):
    """a_1 = x_1, a_j = a_{j-1} + log(1 + exp(x_j)) over the channels, which ascend: quantiles that do not cross."""

    spec = Spec(forward="x -> a", backward="x da -> dx~da")

    @staticmethod
    def forward(x: Array, a: Array) -> None:
        steps = _softplus(x, 0.0)
        steps[:, :1] = x[:, :1]
        np.cumsum(steps, axis=1, out=a)

    @staticmethod
    def backward(x: Array, da: Array, dx: Array) -> None:
        from_here = np.cumsum(da[:, ::-1], axis=1)[:, ::-1]  # all outputs that a step is part of
        slope = _sigmoid(x, 0.0)
        slope[:, :1] = 1.0
        np.multiply(from_here, slope, out=dx)
