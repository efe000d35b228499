"""The operation last."""

from __future__ import annotations

from collections.abc import Mapping

from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec


class last(Operation):
    """a = the last position of a row."""

    spec = Spec(forward="x -> a", backward="da -> dx", x="BF", a="BG")

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        return outputs == inputs[-1:]

    @staticmethod
    def forward(x: Array, a: Array) -> None:
        a[...] = x[:, -a.shape[1] :]

    @staticmethod
    def backward(da: Array, dx: Array) -> None:
        dx[...] = 0.0
        dx[:, -da.shape[1] :] = da
