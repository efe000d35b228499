"""The operation prelu."""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class prelu(Operation):
    """a = x where x > 0, else slope x, one learned slope a channel. He et al. 2015."""

    spec = Spec(params="slope:O", forward="x slope -> a", backward="x slope da -> dx~da dslope")

    @staticmethod
    def forward(x: Array, slope: Array, a: Array) -> None:
        a[...] = np.where(x > 0, x, slope * x)

    @staticmethod
    def backward(x: Array, slope: Array, da: Array, dx: Array, dslope: Array) -> None:
        dslope[...] = np.sum(da * np.minimum(x, 0), axis=0, dtype=np.float64)
        np.multiply(da, np.where(x > 0, slope.dtype.type(1), slope), out=dx)
