"""Normalize: the scale of the data, learned at the first fit."""

from __future__ import annotations

import math
import weakref
from typing import Any, ClassVar, Literal

import numpy as np

from fastnn import _text, _validate
from fastnn.data import Features
from fastnn.formulas import moments
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op

Array = np.ndarray


class Normalize(Layer):
    """a = (x - shift) scale, learned from the data at the first fit and saved with the model.

    `mode`: "standard" gives mean 0 and standard deviation 1, "minmax" the range 0 to 1. A feature is each value of a
    row, whatever its shape: not a channel. `per_feature=False` takes one shift and scale for all (pixels of one image).
    A constant feature has scale 1, and so has one that spreads less than 2.2e-308, float64's smallest normal number, or
    than float64 rounds its mean. Only directly on the data: it is computed in float64 as each batch is gathered, and
    rounded once to the model's dtype, so that a time stamp keeps its digits. |error| <= (u + 3e-16) |a|, u = 2^-24 in
    float32 and 2^-53 in float64, for the shift and scale as they stand.
    """

    KEPT: ClassVar = {"adapted": False}
    FIRST: ClassVar = True

    def __init__(self, mode: Literal["standard", "minmax"] = "standard", *, per_feature: bool = True) -> None:
        super().__init__()
        _text.choice("mode", mode, ("standard", "minmax"), "'standard' or 'minmax'")
        self.mode, self.per_feature = mode, _validate.flag("per_feature", per_feature)
        self.adapted = False
        self._kernel: moments.Kernel | None = None  # the model's
        self._features: weakref.WeakMethod[Any] | None = None  # the model's check of X

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_kernel": None, "_features": None}

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

    def adapt(
        self, x: Any, rows: Array | None = None, weight: Array | None = None, *, kernel: moments.Kernel | None = None
    ) -> None:
        """Learn shift and scale from x, whatever `Trainer.fit` takes as X, or from these rows (B,) of it, in float64.

        Rows whose weight (n,) is 0 do not count. Other weights do not weigh here, though they do in scikit-learn's
        StandardScaler: they say how much a row's error matters, not in which units its features are. `kernel`: of the
        backend that computes; None takes the one that `predict` would.

        ValueError or TypeError, before anything is changed, where x is not what the model takes, as in `fit`, where
        there is no row to learn from, or `rows` are no integers.
        """
        shift, scale = self.shift, self.scale
        x = self._checked(x).x
        if rows is not None:
            rows = _validate.indices("rows", rows)
        weight = _validate.sample_weight(weight, x.shape[0], np.dtype(np.float64), name="weight")
        if weight is not None and not np.all(weight):
            rows = np.flatnonzero(weight) if rows is None else rows[weight[rows] != 0]
        if (x.shape[0] if rows is None else len(rows)) == 0:
            raise ValueError("x has no row of a weight > 0 to learn from, expected at least one")
        kernel = kernel or self._kernel
        assert kernel is not None
        low, high, mean, std = moments.summary(x, rows, kernel=kernel, per_feature=self.per_feature)
        half = 0.5 * std if self.mode == "standard" else 0.5 * high - 0.5 * low  # of the spread, which may be infinite
        shift[...] = mean if self.mode == "standard" else low
        scale[...] = 0.5 / np.where(half >= 0.5 * np.finfo(np.float64).tiny, half, 0.5)
        self.adapted = True

    def _checked(self, x: Any) -> Features:
        """x as the model checks it; of a layer whose model is gone, its width alone."""
        of_model = None if self._features is None else self._features()
        if of_model is not None:
            checked: Features = of_model(x, name="x")
            return checked
        return Features(*_validate.features(x, np.dtype(np.float64), len(self.shift), exact=True, name="x"))

    def settings(self) -> str:
        return self._written(repr(self.mode), per_feature=self.per_feature)
