"""Pools, zeros around an image, larger images: what has windows or frames and learns nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastnn.nn.layers import window
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op


class _Pool(Layer):
    AXES: ClassVar[int] = 2
    KIND: ClassVar[str] = "max_pool"

    def _windows(self, size: Any, stride: Any, padding: Any) -> None:
        self.size = window.sizes("size", size, self.AXES)
        self.stride = None if stride is None else window.sizes("stride", stride, self.AXES)
        self.padding = window.padding(padding, self.AXES)
        around = window.ends(self.padding, self.AXES) or ()
        for side, most in zip(around, window.each(self.size, self.AXES), strict=False):
            if max(side) >= most:
                raise ValueError(f"padding is {padding!r}, expected less than the size of the window, {size!r}")

    def ops(self, inputs: Shape) -> list[Op]:
        inputs = window.image(inputs, self.AXES)
        size = window.each(self.size, self.AXES)
        axes = window.axes(self.AXES, inputs, "size", size, self.stride or self.size, self.padding, 1)
        settings = window.settings("the pool", axes, inputs[-1])
        return [Op(self.KIND, inputs, (*(axis.out for axis in axes), inputs[-1]), settings=settings)]

    def settings(self) -> str:
        given = self.arguments()
        return self._written(repr(given.pop("size")), **given)


class MaxPool1D(_Pool):
    """a = the largest value of each channel in windows of `size` along rows (B, L, C), `stride` apart: as they are wide
    where it is None. Of equals the first gets the gradient; a NaN counts as the largest. `padding`: as of `Conv1D`,
    but nothing outside counts, and it is smaller than the window.

    >>> fastnn.Sequential([nn.MaxPool1D(2)]).build((6,), seed=0).predict([[1, 5, 2, 2, 9, 0]]).ravel()
    array([5., 2., 9.], dtype=float32)
    """

    AXES = 1

    def __init__(self, size: int, stride: int | None = None, padding: str | int | Sequence[int] = "valid") -> None:
        super().__init__()
        self._windows(size, stride, padding)


class AvgPool1D(_Pool):
    """a = the mean of each channel over windows of `size` along rows (B, L, C), `stride` apart: as they are wide where
    it is None. `padding`: as of `Conv1D`, smaller than the window; what lies outside is not counted, as in Keras and
    ONNX: PyTorch's AvgPool1d does so with count_include_pad=False.

    >>> fastnn.Sequential([nn.AvgPool1D(2)]).build((6,), seed=0).predict([[1, 5, 2, 2, 9, 0]]).ravel()
    array([3. , 2. , 4.5], dtype=float32)
    """

    AXES, KIND = 1, "avg_pool"

    def __init__(self, size: int, stride: int | None = None, padding: str | int | Sequence[int] = "valid") -> None:
        super().__init__()
        self._windows(size, stride, padding)


class MaxPool2D(_Pool):
    """As `MaxPool1D`, of windows in images (B, H, W, C); `size` and `stride` are integers or pairs of height and width,
    `padding` as of `Conv2D`.

    >>> fastnn.Sequential([nn.MaxPool2D(2)]).build((28, 28, 6), seed=0).plan.output_shape
    (14, 14, 6)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: str | int | Sequence[int | Sequence[int]] = "valid",
    ) -> None:
        super().__init__()
        self._windows(size, stride, padding)


class AvgPool2D(_Pool):
    """As `AvgPool1D`, of windows in images (B, H, W, C); `size` and `stride` are integers or pairs of height and width,
    `padding` as of `Conv2D`.

    >>> fastnn.Sequential([nn.AvgPool2D(3, stride=2, padding="same")]).build((9, 8, 6), seed=0).plan.output_shape
    (5, 4, 6)
    """

    KIND = "avg_pool"

    def __init__(
        self,
        size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: str | int | Sequence[int | Sequence[int]] = "valid",
    ) -> None:
        super().__init__()
        self._windows(size, stride, padding)


class _Global(Layer):
    KIND: ClassVar[str] = "max_pool"

    def ops(self, inputs: Shape) -> list[Op]:
        if len(inputs) < 2:
            raise ValueError(f"takes rows of shape (length, channels) or (height, width, channels), not {inputs}")
        *positions, channels = inputs
        whole = window.Along(math.prod(positions), 1, math.prod(positions), 1, 0, 1)  # as one row: no order matters
        settings = window.settings("the pool", (whole,), channels)
        return [Op(self.KIND, inputs, (channels,), settings=settings)]


class GlobalMaxPool(_Global):
    """a_c = the largest value of channel c over all positions of a row: (B, L, C) or (B, H, W, C) -> (B, C). Of equals
    the first gets the gradient."""


class GlobalAvgPool(_Global):
    """a_c = the mean of channel c over all positions of a row: (B, L, C) or (B, H, W, C) -> (B, C).

    >>> fastnn.Sequential([nn.GlobalAvgPool()]).build((2, 2, 1), seed=0).predict([[[[1], [2]], [[3], [6]]]])
    array([[3.]], dtype=float32)
    """

    KIND = "avg_pool"


class ZeroPad(Layer):
    """Zeros around rows (B, L, C) or images (B, H, W, C). `padding`: an integer, as many on every side; a pair (before,
    behind) of rows, or (height, width) of images; ((top, bottom), (left, right)).

    >>> fastnn.Sequential([nn.ZeroPad(((1, 0), (2, 2)))]).build((8, 8, 3), seed=0).plan.output_shape
    (9, 12, 3)
    """

    def __init__(self, padding: int | Sequence[int | Sequence[int]]) -> None:
        super().__init__()
        if isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}, expected an integer >= 0, or pairs of these")
        self.padding = window.padding(padding, 2)

    def ops(self, inputs: Shape) -> list[Op]:
        count = window.axes_of(inputs, self.padding)
        around = window.ends(self.padding, count)
        assert around is not None
        outputs = tuple(size + sum(side) for size, side in zip(inputs, around, strict=False))
        height, width, out_height, out_width = ((1,) * (2 - count) + inputs[:-1]) + ((1,) * (2 - count) + outputs)
        before = (0,) * (2 - count) + tuple(side[0] for side in around)
        settings = {"height": height, "width": width, "channels": inputs[-1]}
        settings |= {"out_height": out_height, "out_width": out_width, "top": before[0], "left": before[1]}
        return [Op("pad", inputs, (*outputs, inputs[-1]), settings=settings)]

    def settings(self) -> str:
        return repr(self.padding)


class Upsample(Layer):
    """Each cell of rows (B, L, C) or images (B, H, W, C) `factor` times along every axis: the nearest neighbour. A pair
    for an image is of height and width.

    >>> fastnn.Sequential([nn.Upsample(2)]).build((3, 1), seed=0).predict([[[1], [2], [3]]]).ravel()
    array([1., 1., 2., 2., 3., 3.], dtype=float32)
    """

    def __init__(self, factor: int | Sequence[int]) -> None:
        super().__init__()
        self.factor = window.sizes("factor", factor, 2)

    def ops(self, inputs: Shape) -> list[Op]:
        count = window.axes_of(inputs, self.factor)
        factors = window.each(self.factor, count)
        outputs = tuple(size * times for size, times in zip(inputs, factors, strict=False))
        high, wide = (1,) * (2 - count) + factors
        height, width = (1,) * (2 - count) + inputs[:-1]
        settings = {"height": height, "width": width, "channels": inputs[-1]}
        settings |= {"factor_height": high, "factor_width": wide}
        return [Op("upsample", inputs, (*outputs, inputs[-1]), settings=settings)]

    def settings(self) -> str:
        return repr(self.factor)
