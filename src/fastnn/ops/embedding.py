"""The operation embedding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec


class embedding(Operation):
    """a = row x of the table w; 0 for the id padding, which learns nothing. -1: no id is padding.

    What is no id is NaN, and learns nothing: the source ids lets none through.
    """

    spec = Spec(
        params="w:VO",
        settings="ids padding",
        forward="x w ids padding -> a",
        backward="x ids padding da -> dx? dw",
        x="BF",
        a="BPO",
    )

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        return outputs[:-1] == inputs and settings["ids"] >= 1 and -1 <= settings["padding"] < settings["ids"]

    @staticmethod
    def known(x: Array, ids: float) -> Array:
        """Where x is an id."""
        known: Array = (x >= 0) & (x < ids) & (x == np.trunc(x))
        return known

    @staticmethod
    def forward(x: Array, w: Array, ids: float, padding: float, a: Array) -> None:
        known = embedding.known(x, ids)
        a[...] = w[np.where(known, x, 0).astype(np.intp)]
        a[x == padding] = 0.0
        a[~known] = np.nan

    @staticmethod
    def backward(x: Array, ids: float, padding: float, da: Array, dx: Array | None, dw: Array) -> None:
        if dx is not None:
            dx[...] = 0.0  # an id has no slope
        learns = embedding.known(x, ids) & (x != padding)
        total = np.zeros(dw.shape)  # float64: an id may stand at millions of positions
        np.add.at(total, x[learns].astype(np.intp), da[learns])
        dw[...] = total
