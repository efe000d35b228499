"""Windows that move over images: the geometry that operations with one have among their settings. No formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.ops.operation import Array, Shape

# The settings of every such operation, in this order: those of csrc/kernels/window.hpp.
WINDOW = "height width channels out_height out_width kernel_height kernel_width stride_height stride_width top left"
DILATED = WINDOW + " dilation_height dilation_width groups"
MOST_VALUES = 2**30  # of an image with the zeros around it


def sizes_in(settings: Mapping[str, float], *may_be_zero: str) -> bool:
    """Whether all are whole numbers that can be sizes."""
    return all((name in may_be_zero or v >= 1) and 0 <= v < 2**31 and v == int(v) for name, v in settings.items())


@dataclass(frozen=True)
class Axis:
    """Of rows, and likewise of columns: window o reads cells o stride + k dilation - before, k < kernel."""

    size: int
    out: int
    kernel: int
    stride: int
    before: int
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Of a window."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def reach(self) -> int:
        """Of all of them."""
        return (self.out - 1) * self.stride + self.extent

    def read(self, place: int) -> slice:
        """What the windows read at that place of the kernel, as cells of what `Window.seen` makes."""
        start = place * self.dilation
        return slice(start, start + (self.out - 1) * self.stride + 1, self.stride)

    def asked(self) -> range:
        """The windows that cells would be in if there were windows everywhere."""
        first = (self.before - self.extent + 1) // self.stride
        return range(first, (self.size - 1 + self.before) // self.stride + 1)

    def reached(self, place: int) -> tuple[slice, slice]:
        """The cells that windows read at that place, and these windows as a slice of `asked`."""
        first = (place * self.dilation - self.before) % self.stride
        window = (first + self.before - place * self.dilation) // self.stride - self.asked().start
        return slice(first, None, self.stride), slice(window, window + -(-(self.size - first) // self.stride))

    def filled(self) -> bool:
        """Whether every window has a cell of the image."""
        return self.before < self.kernel and (self.out - 1) * self.stride < self.size + self.before


@dataclass(frozen=True)
class Window:
    """The settings of an operation with a window, read."""

    h: Axis
    w: Axis
    channels: int
    groups: int = 1

    @staticmethod
    def of(*numbers: Any) -> Window:
        """The numbers in the order of WINDOW or of DILATED."""
        height, width, channels, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, top, left, *more = map(
            int, numbers
        )
        dilation_h, dilation_w, groups = more or (1, 1, 1)
        return Window(
            Axis(height, out_h, kernel_h, stride_h, top, dilation_h),
            Axis(width, out_w, kernel_w, stride_w, left, dilation_w),
            channels,
            groups,
        )

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Those of the kernel: number, row and column of each."""
        return ((y * self.w.kernel + x, y, x) for y in range(self.h.kernel) for x in range(self.w.kernel))

    def image(self, x: Array) -> Array:
        return x.reshape(len(x), self.h.size, self.w.size, self.channels)

    def maps(self, a: Array) -> Array:
        return a.reshape(len(a), self.h.out, self.w.out, a.shape[-1])

    def seen(self, x: Array, outside: float = 0.0) -> Array:
        """What all windows read of images, with something outside of these."""
        made = np.full((len(x), self.h.reach, self.w.reach, self.channels), outside, x.dtype)
        rows, columns = self.h.reach - self.h.before, self.w.reach - self.w.before
        if rows > 0 and columns > 0:
            part = self.image(x)[:, :rows, :columns]
            made[:, self.h.before :, self.w.before :][:, : part.shape[1], : part.shape[2]] = part
        return made

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        """Whether the settings are sizes, and of rows of these shapes."""
        if not sizes_in(settings, "top", "left"):
            return False
        made = Window.of(*settings.values())
        h, w, channels = made.h, made.w, made.channels
        return (
            h.size * w.size == math.prod(inputs[:-1])
            and channels == inputs[-1]
            and h.out * w.out == math.prod(outputs[:-1])
            and h.reach * w.reach * channels <= MOST_VALUES
            and (h.size + h.extent) * (w.size + w.extent) * max(channels, outputs[-1]) <= MOST_VALUES
        )
