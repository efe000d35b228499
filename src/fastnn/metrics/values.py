"""The metrics that need no other package, in float64: y and prediction (B,) or (B, O), weight (B,) or None."""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def accuracy(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """Share of the rows whose class, or whose every 0 and 1, is right."""
    right = y == prediction
    return float(np.average(right if right.ndim == 1 else right.all(axis=1), weights=weight))


def mae(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """mean |y - prediction| over rows and outputs (B, O); the mean over rows weighted by `weight` (B,)."""
    return _mean(np.abs(_residuals(y, prediction)), weight)


def mse(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """mean (y - prediction)^2, as `mae`."""
    return _mean(_residuals(y, prediction) ** 2, weight)


def rmse(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """The root of `mse` of each output, mean over the outputs, as scikit-learn's root_mean_squared_error."""
    return float(np.sqrt(np.average(_residuals(y, prediction) ** 2, axis=0, weights=weight)).mean())


def r2(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """1 - sum (y - prediction)^2 / sum (y - mean y)^2, mean over the outputs. Of one whose y are all the same: 1 where
    the prediction is right, else 0; NaN of a single row: as scikit-learn's r2_score."""
    truth = np.asarray(y, np.float64)
    if len(truth) < 2:
        return math.nan
    left = np.average(_residuals(y, prediction) ** 2, axis=0, weights=weight)
    spread = np.average((truth - np.average(truth, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    scores = np.where(spread > 0, 1.0 - left / np.where(spread > 0, spread, 1.0), np.where(left > 0, 0.0, 1.0))
    return float(scores.mean())


def brier(y: Array, p: Array, weight: Array | None = None) -> float:
    """mean (p - y)^2 for two classes, p (B,) of class 1; the sum of that over the classes for several, p (B, K). Brier
    1950; both as scikit-learn's brier_score_loss has them."""
    right = np.eye(p.shape[1])[y] if p.ndim == 2 else y
    errors = _residuals(right, p) ** 2
    return float(np.average(errors if p.ndim == 1 else errors.sum(axis=1), weights=weight))


def _residuals(y: Array, prediction: Array) -> Array:
    """y - prediction in float64."""
    residuals: Array = np.asarray(y, np.float64) - prediction
    return residuals


def _mean(errors: Array, weight: Array | None) -> float:
    return float(np.average(errors if errors.ndim == 1 else errors.mean(axis=1), weights=weight))
