"""Normalize: the scale of the data, learned at the first fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from fastnn import _validate
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op

Array = np.ndarray


class Normalize(Layer):
    """a = (x - shift) scale, learned from the data at the first fit and saved with the model.

    `mode`: "standard" gives mean 0 and standard deviation 1, "minmax" the range 0 to 1. `per_feature=False` takes one
    shift and scale for all features (pixels of one image). A constant feature has scale 1, and so has one that spreads
    less than 2.2e-308, float64's smallest normal number, or than float64 rounds its mean. Only directly on the data: it
    is computed in float64 as each batch is gathered, and rounded once to the model's dtype, so that a time stamp
    keeps its digits. |error| <= (u + 3e-16) |a|, u = 2^-24 in float32 and 2^-53 in float64, for the shift and scale as
    they stand.
    """

    KEPT = ("adapted",)

    def __init__(self, mode: Literal["standard", "minmax"] = "standard", *, per_feature: bool = True) -> None:
        super().__init__()
        if mode not in ("standard", "minmax"):
            raise ValueError(f"mode is {mode!r}, expected 'standard' or 'minmax'")
        self.mode, self.per_feature = mode, _validate.flag("per_feature", per_feature)
        self.adapted = False

    @property
    def shift(self) -> Array:
        """(I,), live, float64 in every model."""
        return self._view("shift")

    @property
    def scale(self) -> Array:
        """(I,), live, float64 in every model."""
        return self._view("scale")

    def ops(self, inputs: Shape) -> list[Op]:
        features = (math.prod(inputs),)
        tensors = {
            "shift": self._tensor("shift", features, lambda rng: 0.0, trainable=False, scaling=True),
            "scale": self._tensor("scale", features, lambda rng: 1.0, trainable=False, scaling=True),
        }
        return [Op("normalize", inputs, inputs, tensors)]

    def adapt(self, x: Any, rows: Array | None = None) -> None:
        """Learn shift and scale from x (n, I), a scipy.sparse one too, or from these rows of it: in float64, a slice of
        rows at a time."""
        slices = _slices(x, rows)
        axis = 0 if self.per_feature else None
        if self.mode == "minmax":
            low, high = _bounds(slices, axis)
            shift, spread = low, high - low
        else:
            shift, spread = _moments(slices, axis)
        self.shift[...] = shift
        self.scale[...] = 1.0 / np.where(spread >= np.finfo(np.float64).tiny, spread, 1.0)
        self.adapted = True

    def settings(self) -> str:
        return self._written(repr(self.mode), per_feature=self.per_feature)


def _slices(x: Any, rows: Array | None) -> Callable[[], Iterator[Array]]:
    """Goes through x, or these rows of it, at most 4096 of them and 8 MB in float64 at a time: no copy of all of x is
    made, and a sparse x is cut where a dense one is, to the same bits."""
    count = x.shape[0] if rows is None else len(rows)
    step = min(4096, max(1, (1 << 20) // x.shape[1]))

    def slices() -> Iterator[Array]:
        for start in range(0, count, step):
            part = x[start : start + step] if rows is None else x[rows[start : start + step]]
            yield part.toarray() if _validate.is_sparse(part) else part

    return slices


def _bounds(slices: Callable[[], Iterator[Array]], axis: int | None) -> tuple[Array, Array]:
    """The least and the largest values, in float64."""
    low, high = np.inf, -np.inf
    for part in slices():
        low, high = np.minimum(low, part.min(axis=axis)), np.maximum(high, part.max(axis=axis))
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def _moments(slices: Callable[[], Iterator[Array]], axis: int | None) -> tuple[Array, Array]:
    """Mean and standard deviation in float64, in two passes after one for the bounds.

    Both are taken of x minus its first value: a constant column is then exactly 0, whatever its sum rounds to.
    Each slice is made contiguous, so that the memory layout of x does not change the order of the sums. A feature whose
    squares could leave float64's range is counted in a power of two near its spread.
    """
    low, high = _bounds(slices, axis)
    exponent = _spread_exponent(low, high)
    unit = np.ldexp(1.0, -exponent) if exponent.any() else None
    first = next(slices())[0].astype(np.float64)
    pivot = first if axis == 0 else first[0]
    count = sum(len(part) if axis == 0 else part.size for part in slices())

    def centred() -> Iterator[Array]:
        for part in slices():
            rows = np.ascontiguousarray(part, dtype=np.float64)
            yield rows - pivot if unit is None else rows * unit - pivot * unit

    mean = sum(part.sum(axis=axis) for part in centred()) / count
    std = np.sqrt(sum(((part - mean) ** 2).sum(axis=axis) for part in centred()) / count)
    mean, std = np.ldexp(mean, exponent), np.ldexp(std, exponent)
    noise = np.finfo(np.float64).eps * np.abs(pivot + mean)  # 0.1 + 0.2 beside 0.3: rounding, not information
    return pivot + mean, np.where(std > 4 * noise, std, 0.0)


def _spread_exponent(low: Array, high: Array) -> Array:
    """0 where the features spread between 2^-400 and 2^400, and sums of squares are safe; else e, for 2^e near it."""
    exponent = np.frexp(0.5 * high - 0.5 * low)[1]  # halves: their difference is finite
    return np.where(np.abs(exponent) < 400, 0, np.maximum(exponent, -1021))
