"""The operations pad and upsample."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec
from fastnn.ops.window import sizes_in

FRAME = "height width channels out_height out_width top left"
GRID = "height width channels factor_height factor_width"


class pad(Operation):
    """a = x with zeros around it: `top` rows before, `left` columns, as many behind as are left over."""

    spec = Spec(settings=FRAME, forward=f"x {FRAME} -> a", backward=f"{FRAME} da -> dx", x="BF", a="BPO")

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        if not sizes_in(settings, "top", "left"):
            return False
        height, width, channels, out_height, out_width, top, left = map(int, settings.values())
        return (
            (height * width, channels) == (math.prod(inputs[:-1]), inputs[-1])
            and (out_height * out_width, channels) == (math.prod(outputs[:-1]), outputs[-1])
            and top + height <= out_height
            and left + width <= out_width
        )

    @staticmethod
    def forward(
        x: Array,
        height: float,
        width: float,
        channels: float,
        out_height: float,
        out_width: float,
        top: float,
        left: float,
        a: Array,
    ) -> None:
        a[...] = 0.0
        inner = _inner(a, height, width, out_height, out_width, top, left)
        inner[...] = x.reshape(inner.shape)

    @staticmethod
    def backward(
        height: float,
        width: float,
        channels: float,
        out_height: float,
        out_width: float,
        top: float,
        left: float,
        da: Array,
        dx: Array,
    ) -> None:
        inner = _inner(da, height, width, out_height, out_width, top, left)
        dx.reshape(inner.shape)[...] = inner


def _inner(
    a: Array, height: float, width: float, out_height: float, out_width: float, top: float, left: float
) -> Array:
    """The part of a that is x."""
    rows, columns = slice(int(top), int(top + height)), slice(int(left), int(left + width))
    return a.reshape(len(a), int(out_height), int(out_width), a.shape[-1])[:, rows, columns]


class upsample(Operation):
    """a = x, each cell `factor_height` times in a column and `factor_width` times in a row."""

    spec = Spec(settings=GRID, forward=f"x {GRID} -> a", backward=f"{GRID} da -> dx", x="BF", a="BPO")

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        if not sizes_in(settings):
            return False
        height, width, channels, high, wide = map(int, settings.values())
        return (height * width, channels) == (math.prod(inputs[:-1]), inputs[-1]) and (
            height * width * high * wide,
            channels,
        ) == (math.prod(outputs[:-1]), outputs[-1])

    @staticmethod
    def forward(
        x: Array,
        height: float,
        width: float,
        channels: float,
        factor_height: float,
        factor_width: float,
        a: Array,
    ) -> None:
        cells = _cells(a, height, width, channels, factor_height, factor_width)
        cells[...] = x.reshape(len(x), int(height), 1, int(width), 1, int(channels))

    @staticmethod
    def backward(
        height: float,
        width: float,
        channels: float,
        factor_height: float,
        factor_width: float,
        da: Array,
        dx: Array,
    ) -> None:
        cells = _cells(da, height, width, channels, factor_height, factor_width)
        dx[...] = np.sum(cells, axis=(2, 4)).reshape(dx.shape)


def _cells(a: Array, height: float, width: float, channels: float, high: float, wide: float) -> Array:
    return a.reshape(len(a), int(height), int(high), int(width), int(wide), int(channels))
