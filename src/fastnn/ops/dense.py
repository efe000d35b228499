"""The operation dense."""

from __future__ import annotations

import numpy as np

from fastnn.formulas.activations import Activation
from fastnn.ops.activation import activate, derive
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class dense(Operation):
    """a = f(x w + b), the same at every position of a row."""

    spec = Spec(
        params="w:IO b:O",
        forward="x w b activation -> z a~z",
        backward="x w below saved dz -> dx? dw db",
        x="NI",
    )

    @staticmethod
    def forward(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
        np.matmul(x, w, out=z)
        z += b
        activate(activation, z, a)

    @staticmethod
    def backward(
        x: Array, w: Array, below: Activation, saved: Array, dz: Array, dx: Array | None, dw: Array, db: Array
    ) -> None:
        if dx is not None:
            np.matmul(dz, w.T, out=dx)
            derive(below, saved, dx, dx)
        np.matmul(x.T, dz, out=dw)
        np.sum(dz, axis=0, out=db)
