"""The operation ordered."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastnn.formulas.activations import ACTIVATIONS
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec

_softplus, _sigmoid = ACTIVATIONS["softplus"].value, ACTIVATIONS["sigmoid"].value


class ordered(Operation):
    """a_j = x_j for the first of each target, then a_j = a_{j - targets} + log(1 + exp(x_j)) over the channels, which
    ascend target by target: quantiles that do not cross."""

    spec = Spec(settings="targets", forward="x targets -> a", backward="x targets da -> dx~da")

    @staticmethod
    def forward(x: Array, targets: float, a: Array) -> None:
        steps = _softplus(x, 0.0)
        steps[:, : int(targets)] = x[:, : int(targets)]
        for levels, out in _of_each(int(targets), steps, a):
            np.cumsum(levels, axis=1, out=out)

    @staticmethod
    def backward(x: Array, targets: float, da: Array, dx: Array) -> None:
        slope = _sigmoid(x, 0.0)
        slope[:, : int(targets)] = 1.0
        for grad, out in _of_each(int(targets), da, dx):  # of a step: all outputs that it is part of
            out[...] = np.cumsum(grad[:, ::-1], axis=1)[:, ::-1]
        np.multiply(dx, slope, out=dx)


def _of_each(targets: int, *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The levels of each target, which stand that far apart."""
    for first in range(targets):
        yield tuple(array[:, first::targets] for array in arrays)
