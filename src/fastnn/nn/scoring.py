"""Loss and metrics of a network's outputs as they are reported. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from fastnn import _validate
from fastnn.contract import Backend
from fastnn.data import Data, Targets
from fastnn.formulas.losses import Loss
from fastnn.metrics import Metric, classifies, measure
from fastnn.plan import Plan

Array = np.ndarray
_LOSS_ROWS = 4096  # rows whose loss is taken at once


def score(
    backend: Backend,
    plan: Plan,
    walk: Callable[[Plan, Data], Array],
    loss: Loss,
    parts: Iterable[Data],
    metrics: dict[str, Metric],
    undone: Callable[[Array], Array] | None,
) -> dict[str, float]:
    """The loss and the metrics over all parts. walk: what a plan's last operation makes of rows; undone: what that says
    of targets that were scaled."""
    ops = plan.training_ops(loss)
    twice = bool(metrics) and ops is not plan.ops and not classifies(loss)  # metrics want what `predict` gives
    logits, outputs, targets = [], [], []
    for part in parts:  # outputs are kept, of batches never all the rows
        logits.append(walk(replace(plan, ops=ops), part))
        outputs.append(walk(plan, part) if twice else logits[-1])
        targets.append(part.targets)
    z, all_targets = stacked(logits), Targets.joined(targets)
    if undone is not None:
        z = undone(z)
    found = {"loss": mean_loss(backend, loss, z, all_targets)}
    predicted = stacked(outputs) if twice else None
    return found | measure(metrics, loss, z, predicted, all_targets, backend.kernels.ops)


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
