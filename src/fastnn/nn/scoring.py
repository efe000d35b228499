"""The loss of outputs as it is reported, in float64. Knows no model and no metrics."""

from __future__ import annotations

import numpy as np

from fastnn import _validate
from fastnn.contract import Backend
from fastnn.data import Targets
from fastnn.formulas.losses import Loss

Array = np.ndarray
_LOSS_ROWS = 4096  # rows whose loss is taken at once


def stacked(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def mean_loss(backend: Backend, loss: Loss, z: Array, targets: Targets) -> float:
    """The weighted mean over rows of the loss of logits z (n, O), in float64, of the targets as they were given."""
    values = targets.y.ndim == 2
    y, weight = targets.reported_y.reshape(len(z), -1) if values else targets.y, targets.reported_weight
    rows = targets.weighing()
    if rows is not None and weight is not None:  # 0 times a loss beyond all numbers would be NaN
        z, y, weight = z[rows], y[rows], weight[rows]
    total = np.empty(len(z))
    for start in range(0, len(z), _LOSS_ROWS):
        part = slice(start, start + _LOSS_ROWS)
        exact = _validate.plain(z[part], np.dtype(np.float64))
        target = _validate.plain(y[part], exact.dtype) if values else y[part]
        with np.errstate(over="ignore", invalid="ignore"):  # what diverged shows in the loss
            backend.kernels.loss(loss, exact, target, np.ones(len(exact)), total[part], np.empty_like(exact))
    return float(np.average(total, weights=weight))
