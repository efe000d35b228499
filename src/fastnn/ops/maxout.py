"""The operation maxout."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec


class maxout(Operation):
    """a_o = max of the k pieces x_{ko} .. x_{ko + k - 1}. Goodfellow et al. 2013."""

    spec = Spec(scratch="winner:NO:int32", forward="x -> a winner", backward="winner da -> dx", x="NI")

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        return inputs[:-1] == outputs[:-1] and inputs[-1] % outputs[-1] == 0

    @staticmethod
    def forward(x: Array, a: Array, winner: Array) -> None:
        pieces = x.reshape(*a.shape, x.shape[1] // a.shape[1])
        winner[...] = pieces.argmax(axis=2)  # the first of the largest
        a[...] = pieces.max(axis=2)

    @staticmethod
    def backward(winner: Array, da: Array, dx: Array) -> None:
        pieces = dx.reshape(*da.shape, dx.shape[1] // da.shape[1])
        pieces[...] = 0.0
        np.put_along_axis(pieces, winner[:, :, None].astype(np.intp), da[:, :, None], axis=2)
