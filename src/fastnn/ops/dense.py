"""The operation dense."""

from __future__ import annotations

from collections.abc import Iterator

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
        for rows in dense.blocks(x):
            np.matmul(x[rows], w, out=z[rows])
        z += b
        activate(activation, z, a)

    @staticmethod
    def backward(
        x: Array, w: Array, below: Activation, saved: Array, dz: Array, dx: Array | None, dw: Array, db: Array
    ) -> None:
        if dx is not None:
            for rows in dense.blocks(x):
                np.matmul(dz[rows], w.T, out=dx[rows])
            derive(below, saved, dx, dx)
        dense.gradients(x, dz, dw, db)

    ROWS = 8192  # of a product: between two of them a Ctrl-C is answered

    @staticmethod
    def blocks(x: Array) -> Iterator[slice]:
        return (slice(start, start + dense.ROWS) for start in range(0, len(x), dense.ROWS))

    @staticmethod
    def gradients(x: Array, dz: Array, dw: Array, db: Array) -> None:
        """dw = x^T dz, db = column sums of dz. Of 20 million rows float32 by itself adds up 0.477 to 0.5: sums of
        blocks are added up in float64."""
        if len(x) <= dense.ROWS:
            np.matmul(x.T, dz, out=dw)
        else:
            dw[...] = sum((x[rows].T @ dz[rows]).astype(np.float64) for rows in dense.blocks(x))
        db[...] = np.sum(dz, axis=0, dtype=np.float64)
