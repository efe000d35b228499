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
        dense.gradients(x, dz, dw, db)

    SUMMED = 8192  # rows that are added up in the plan's dtype; of more, such sums in float64

    @staticmethod
    def gradients(x: Array, dz: Array, dw: Array, db: Array) -> None:
        """dw = x^T dz, db = column sums of dz. Of 20 million rows float32 by itself adds up 0.477 to 0.5."""
        if len(x) <= dense.SUMMED:
            np.matmul(x.T, dz, out=dw)
        else:
            total = np.zeros(dw.shape)
            for start in range(0, len(x), dense.SUMMED):
                part = slice(start, start + dense.SUMMED)
                total += x[part].T @ dz[part]
            dw[...] = total
        db[...] = np.sum(dz, axis=0, dtype=np.float64)
