"""The operation scale."""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class scale(Operation):
    """a = factor x, one learned factor a channel."""

    spec = Spec(params="factor:O", forward="x factor -> a~x", backward="x factor da -> dx~da dfactor")

    @staticmethod
    def forward(x: Array, factor: Array, a: Array) -> None:
        np.multiply(x, factor, out=a)

    @staticmethod
    def backward(x: Array, factor: Array, da: Array, dx: Array, dfactor: Array) -> None:
        dfactor[...] = np.sum(da * x, axis=0, dtype=np.float64)
        np.multiply(da, factor, out=dx)
