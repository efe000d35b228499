"""The operation conv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn.formulas.activations import Activation
from fastnn.ops.activation import activate, derive
from fastnn.ops.dense import dense
from fastnn.ops.operation import Array, Operation, Shape
from fastnn.ops.spec import Spec
from fastnn.ops.window import DILATED, Window


class conv(Operation):
    """a_p = f(sum over the places k of a kernel of x_{p stride + k dilation - before} w_k + b): channels last, zeros
    outside; in groups, each of which takes its part of the channels and makes its part."""

    spec = Spec(
        params="w:KJO b:O",
        settings=DILATED,
        forward=f"x w b {DILATED} activation -> z a~z",
        backward=f"x w {DILATED} below saved dz -> dx? dw db",
        x="BF",
        a="BPO",
    )

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        if not Window.fits(inputs, outputs, settings):
            return False
        groups = int(settings["groups"])
        return inputs[-1] % groups == 0 and outputs[-1] % groups == 0

    @staticmethod
    def forward(
        x: Array,
        w: Array,
        b: Array,
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
        dilation_height: float,
        dilation_width: float,
        groups: float,
        activation: Activation,
        z: Array,
        a: Array,
    ) -> None:
        over = Window.of(
            *(height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height),
            *(stride_width, top, left, dilation_height, dilation_width, groups),
        )
        for rows in conv.blocks(over, x):
            seen, maps = over.seen(x[rows]), over.maps(z[rows])
            maps[...] = b
            for k, y, v in over.places():
                maps += product(seen[:, over.h.read(y), over.w.read(v)], w[k], over.groups)
        activate(activation, z, a)

    @staticmethod
    def backward(
        x: Array,
        w: Array,
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
        dilation_height: float,
        dilation_width: float,
        groups: float,
        below: Activation,
        saved: Array,
        dz: Array,
        dx: Array | None,
        dw: Array,
        db: Array,
    ) -> None:
        over = Window.of(
            *(height, width, channels, out_height, out_width, kernel_height, kernel_width, stride_height),
            *(stride_width, top, left, dilation_height, dilation_width, groups),
        )
        total = np.zeros(dw.shape, np.float64)  # of blocks: see dense.gradients
        for rows in conv.blocks(over, x):
            if dx is not None:
                conv.spread(over, dz[rows], w, dx[rows])
            seen, maps = over.seen(x[rows]), over.maps(dz[rows])
            for k, y, v in over.places():
                total[k] += correlation(seen[:, over.h.read(y), over.w.read(v)], maps, over.groups)
        dw[...] = total
        db[...] = np.sum(dz, axis=(0, 1), dtype=np.float64)
        if dx is not None:
            derive(below, saved, dx, dx)

    @staticmethod
    def spread(over: Window, dz: Array, w: Array, dx: Array) -> None:
        """dx = the sum over the places that reach a pixel of dz w^T; where no window is, dz is 0."""
        rows, columns = over.h.asked(), over.w.asked()
        maps = over.maps(dz)
        around = np.zeros((len(dz), len(rows), len(columns), dz.shape[-1]), dz.dtype)
        there = [slice(max(0, -axis.start), None) for axis in (rows, columns)]
        part = maps[:, max(0, rows.start) : max(0, rows.stop), max(0, columns.start) : max(0, columns.stop)]
        around[:, there[0], there[1]][:, : part.shape[1], : part.shape[2]] = part
        image = over.image(dx)
        image[...] = 0.0
        for k, y, v in over.places():
            (cells_h, windows_h), (cells_w, windows_w) = over.h.reached(y), over.w.reached(v)
            image[:, cells_h, cells_w] += product(around[:, windows_h, windows_w], transposed(w[k], over), over.groups)

    @staticmethod
    def blocks(over: Window, x: Array) -> Iterator[slice]:
        """Samples of as many pixels as a product of dense has rows."""
        step = max(1, dense.ROWS // (over.h.out * over.w.out))
        return (slice(start, start + step) for start in range(0, len(x), step))


def product(x: Array, w: Array, groups: int) -> Any:
    """x (..., C) w (C / groups, O): each group with its own columns of w."""
    rows = x.reshape(math.prod(x.shape[:-1]), groups, x.shape[-1] // groups).transpose(1, 0, 2)
    of_groups = w.reshape(len(w), groups, -1).transpose(1, 0, 2)
    return np.matmul(rows, of_groups).transpose(1, 0, 2).reshape(*x.shape[:-1], w.shape[-1])


def transposed(w: Array, over: Window) -> Any:
    """w (C / groups, O) as (O / groups, C), each group transposed."""
    of_groups = w.reshape(len(w), over.groups, -1).transpose(2, 1, 0)
    return of_groups.reshape(len(of_groups), -1)


def correlation(x: Array, dz: Array, groups: int) -> Any:
    """x^T dz of each group: (C / groups, O)."""
    left = x.reshape(-1, groups, x.shape[-1] // groups).transpose(1, 2, 0)
    right = dz.reshape(-1, groups, dz.shape[-1] // groups).transpose(1, 0, 2)
    return np.matmul(left, right).transpose(1, 0, 2).reshape(left.shape[1], -1)
