"""Conv1D, Conv2D: the same product at every place of a row or an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.formulas import activations
from fastnn.formulas.initializers import Initializer
from fastnn.nn.layers import window
from fastnn.nn.layers.base import Layer
from fastnn.nn.layers.dense import Product
from fastnn.ops.operation import Shape
from fastnn.plan import Op

Array = np.ndarray


class _Conv(Product):
    AXES = 2

    def _windows(self, filters: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
        self.filters = _validate.integer("filters", filters)
        self.kernel = window.sizes("kernel", kernel, self.AXES)
        self.stride = window.sizes("stride", stride, self.AXES)
        self.padding = window.padding(padding, self.AXES)
        self.dilation = window.sizes("dilation", dilation, self.AXES)

    def _groups(self, groups: int) -> None:
        self.groups = _validate.integer("groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"groups is {groups}, expected a divisor of the {self.filters} filters")

    def ops(self, inputs: Shape) -> list[Op]:
        inputs = window.image(inputs, self.AXES)
        channels, filters = inputs[-1], self.filters * self.pieces
        if channels % self.groups:
            raise ValueError(f"groups is {self.groups}, expected a divisor of the {channels} channels that come in")
        kernel = window.each(self.kernel, self.AXES)
        axes = window.axes(self.AXES, inputs, "kernel", kernel, self.stride, self.padding, self.dilation)
        dilation = (1,) * (2 - self.AXES) + window.each(self.dilation, self.AXES)
        settings = window.settings("the convolution", axes, max(channels, filters)) | {
            "channels": channels,
            "dilation_height": dilation[0],
            "dilation_width": dilation[1],
            "groups": self.groups,
        }
        places, a_group = math.prod(kernel), channels // self.groups
        tensors = self._parameters((places, a_group, filters), places * a_group, places * (self.filters // self.groups))
        outputs = (*(axis.out for axis in axes), filters)
        return self._followed(Op("conv", inputs, outputs, tensors, settings=settings))

    def settings(self) -> str:
        return self._settings("filters", "kernel", by_name=True)


class Conv1D(_Conv):
    """a_t = f(b + sum_k x_{t stride + k dilation - before} w_k): x (B, L, C), w (kernel, C / groups, filters), b
    (filters,), a (B, L', filters). Rows (L,) have one channel.

    `padding`: zeros around the rows. "valid" none; "same" as many as make L' = ceil(L / stride), of an odd number one
    more behind, as Keras and ONNX (SAME_UPPER) have it; an integer as many before as behind, which is PyTorch's rule;
    or a pair (before, behind). L' = floor((L + before + behind - (kernel - 1) dilation - 1) / stride) + 1.
    `groups`: the channels in so many parts, each of which makes its part of the filters; as many groups as channels
    make a depthwise convolution. The other arguments are those of `Dense`; `init` counts kernel C / groups values that
    come in.

    ValueError or TypeError where an argument is out of range; ValueError where the rows are smaller than the kernel, or
    the groups do not divide their channels.

    >>> model = fastnn.Sequential([nn.Conv1D(8, 5, stride=2, padding="same")]).build((20, 3), seed=0)
    >>> model.layers[0].weight.shape, model.predict(np.zeros((4, 20, 3))).shape
    ((5, 3, 8), (4, 10, 8))
    """

    AXES = 1

    def __init__(
        self,
        filters: int,
        kernel: int,
        stride: int = 1,
        padding: str | int | Sequence[int] = "valid",
        dilation: int = 1,
        groups: int = 1,
        activation: str | activations.Activation | Layer | None = None,
        *,
        init: str | Initializer | float | None = None,
        bias: bool = True,
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self._windows(filters, kernel, stride, padding, dilation)
        self._groups(groups)
        self._learned(activation, init, bias, l1, l2, decay)

    @property
    def weight(self) -> Array:
        """(kernel, C / groups, filters), live."""
        return self._view("weight")


class Conv2D(_Conv):
    """a_p = f(b + sum_k x_{p stride + k dilation - before} w_k) at every place p, over the places k of a kernel: x (B,
    H, W, C), w (kernel height, kernel width, C / groups, filters), b (filters,), a (B, H', W', filters). Channels come
    last; images (H, W) have one.

    `kernel`, `stride` and `dilation` are integers, or pairs of height and width. `padding`: zeros around the image.
    "valid" none; "same" as many as make H' = ceil(H / stride), of an odd number one more at the end, as Keras and ONNX
    (SAME_UPPER) have it; an integer or a pair of height and width as many on both sides, which is PyTorch's rule;
    ((top, bottom), (left, right)) any. Where the stride is 2, "same" and the symmetric padding read other pixels: for
    an even H and kernel 3, "same" begins at the first pixel, padding 1 at the zeros before it. `groups` and all else:
    as for `Conv1D`.

    >>> model = fastnn.Sequential([nn.Conv2D(8, 3, padding="same", activation="relu")]).build((28, 28), seed=0)
    >>> model.layers[0].weight.shape, model.predict(np.zeros((4, 28, 28))).shape
    ((3, 3, 1, 8), (4, 28, 28, 8))
    """

    def __init__(
        self,
        filters: int,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int | Sequence[int]] = "valid",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | activations.Activation | Layer | None = None,
        *,
        init: str | Initializer | float | None = None,
        bias: bool = True,
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self._windows(filters, kernel, stride, padding, dilation)
        self._groups(groups)
        self._learned(activation, init, bias, l1, l2, decay)

    @property
    def weight(self) -> Array:
        """(kernel height, kernel width, C / groups, filters), live."""
        return self._view("weight")

    def show(self, role: str, view: Array) -> None:
        super().show(role, view.reshape(*window.each(self.kernel, 2), *view.shape[1:]) if role == "weight" else view)
