"""The operations max_pool and avg_pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec
from fastnn.ops.window import WINDOW, Window


class _Pool(Operation):
    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        if not Window.fits(inputs, outputs, settings) or inputs[-1] != outputs[-1]:
            return False
        over = Window.of(*settings.values())
        return over.h.filled() and over.w.filled()


class max_pool(_Pool):
    """a = the largest value of each channel in a window; the gradient goes to the first of the largest. What lies
    outside of the image counts for nothing."""

    spec = Spec(
        settings=WINDOW,
        scratch="winner:BPO:int32",
        forward=f"x {WINDOW} -> a winner",
        backward=f"{WINDOW} winner da -> dx",
        x="BF",
        a="BPO",
    )

    @staticmethod
    def forward(
        x: Array,
        height: float,
        width: float,
        channels: float,
        out_height: float,
        out_width: float,
        kernel_height: float,
        kernel_width: float,
        stride_height: float,
        stride_width: float,
        top: float,
        left: float,
        a: Array,
        winner: Array,
    ) -> None:
        over = Window.of(
            *(height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height),
            *(stride_width, top, left),
        )
        seen, inside = over.seen(x), over.seen(np.ones((1, over.h.size * over.w.size * over.channels)))
        best, first = over.maps(a), over.maps(winner)
        best[...], first[...] = 0.0, -1
        for k, y, v in over.places():
            here = np.s_[:, over.h.read(y), over.w.read(v)]
            # a NaN counts as the largest
            better = (inside[here] > 0) & ((first < 0) | (~(seen[here] <= best) & (best == best)))
            np.copyto(best, seen[here], where=better)
            np.copyto(first, k, where=better)

    @staticmethod
    def backward(
        height: float,
        width: float,
        channels: float,
        out_height: float,
        out_width: float,
        kernel_height: float,
        kernel_width: float,
        stride_height: float,
        stride_width: float,
        top: float,
        left: float,
        winner: Array,
        da: Array,
        dx: Array,
    ) -> None:
        over = Window.of(
            *(height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height),
            *(stride_width, top, left),
        )
        first, maps = over.maps(winner), over.maps(da)
        scatter(over, dx, lambda k: np.where(first == k, maps, 0.0))


class avg_pool(_Pool):
    """a = the mean of each channel over a window's cells; what lies outside of the image is not counted."""

    spec = Spec(settings=WINDOW, forward=f"x {WINDOW} -> a", backward=f"{WINDOW} da -> dx", x="BF", a="BPO")

    @staticmethod
    def forward(
        x: Array,
        height: float,
        width: float,
        channels: float,
        out_height: float,
        out_width: float,
        kernel_height: float,
        kernel_width: float,
        stride_height: float,
        stride_width: float,
        top: float,
        left: float,
        a: Array,
    ) -> None:
        over = Window.of(
            *(height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height),
            *(stride_width, top, left),
        )
        seen = over.seen(x)
        total = np.zeros(over.maps(a).shape, np.float64)  # a window may be a whole image
        for _, y, v in over.places():
            total += seen[:, over.h.read(y), over.w.read(v)]
        over.maps(a)[...] = total / counts(over)

    @staticmethod
    def backward(
        height: float,
        width: float,
        channels: float,
        out_height: float,
        out_width: float,
        kernel_height: float,
        kernel_width: float,
        stride_height: float,
        stride_width: float,
        top: float,
        left: float,
        da: Array,
        dx: Array,
    ) -> None:
        over = Window.of(
            *(height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height),
            *(stride_width, top, left),
        )
        each = over.maps(da) / counts(over).astype(da.dtype)
        scatter(over, dx, lambda k: each)


def counts(over: Window) -> Any:
    """The cells of each window: (out_height, out_width, 1)."""
    inside = over.seen(np.ones((1, over.h.size * over.w.size * over.channels)))[0, :, :, :1]
    return np.sum([inside[over.h.read(y), over.w.read(v)] for _, y, v in over.places()], axis=0)


def scatter(over: Window, dx: Array, of_place: Callable[[int], Array]) -> None:
    """dx = the sum over the windows of what each hands to the cell at place k."""
    around = np.zeros_like(over.seen(dx))
    for k, y, v in over.places():
        around[:, over.h.read(y), over.w.read(v)] += of_place(k)
    image, inner = over.image(dx), around[:, over.h.before :, over.w.before :]
    image[...] = 0.0  # beyond the last window
    inner = inner[:, : over.h.size, : over.w.size]
    image[:, : inner.shape[1], : inner.shape[2]] = inner
