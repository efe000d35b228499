"""Metrics: how good predictions are, in numbers that people report. Knows losses, no model and no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fastnn.formulas import activations
from fastnn.formulas.losses import Loss
from fastnn.ops.activation import activate
from fastnn.ops.softmax import softmax

Array = np.ndarray
Metric = str | Callable[[Array, Array], float]
OfLogits = Callable[[Loss, Array, Array, Array | None], float]  # loss, y, logits z (classes for accuracy), weight
RESERVED = ("loss", "lr", "seconds")  # keys of a history


def link(loss: Loss, z: Array) -> Array:
    """The activation that the loss fuses, applied to its logits z (B, O)."""
    if loss.link == "softmax":
        return shares(z)
    a = np.empty_like(z)
    activate(activations.get(loss.link), z, a)
    return a


def shares(z: Array) -> Array:
    """The softmax of each row of z (B, O)."""
    a = np.empty_like(z)
    softmax.forward(z, a)
    return a


def probabilities(loss: Loss, z: Array) -> Array:
    """What `predict_proba` gives for logits z (B, O), in their dtype: softmaxes (B, O), sigmoids (B, O), or for one
    sigmoid both of its classes (B, 2)."""
    both = loss.link == "sigmoid" and z.shape[1] == 1
    return link(loss, np.concatenate([-z, z], axis=1) if both else z)


def log_shares(z: Array) -> Array:
    """The logarithm of the softmax of each row of z (B, O): z - log sum exp z, finite where the softmax rounds to 0."""
    shifted = z - z.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def decide(loss: Loss, z: Array) -> Array:
    """Classes from logits: the largest of a row, or the positive values of a sigmoid."""
    if loss.link == "sigmoid":
        positive = (z > 0).astype(np.int64)
        return positive[:, 0] if z.shape[1] == 1 else positive
    largest: Array = z.argmax(axis=1)
    return largest


def classifies(loss: Loss) -> bool:
    return loss.link in ("softmax", "sigmoid") or loss.name == "hinge"


def named_metrics(metrics: Sequence[Metric], loss: Loss) -> dict[str, Metric]:
    """The metrics under their keys in a history. ValueError or TypeError for what is none, or none of this loss."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        example = metrics if isinstance(metrics, str) else "accuracy"
        raise TypeError(f"metrics is {metrics!r}, expected a list: [{example!r}]")
    named: dict[str, Metric] = {}
    for metric in metrics:
        if not callable(metric) and (not isinstance(metric, str) or metric not in METRICS):
            known = ", ".join(METRICS)
            raise ValueError(f"metrics has {metric!r}, expected one of {known} or a function of (y, prediction)")
        if isinstance(metric, str) and (metric == "accuracy") != classifies(loss):
            wanted = "classes" if metric == "accuracy" else "values"
            raise ValueError(f"metrics has {metric!r}, expected a loss of {wanted} for it, not {loss}")
        name = metric if isinstance(metric, str) else str(getattr(metric, "__name__", type(metric).__name__))
        if name in named or name in RESERVED:
            problem = "is what a history calls something else" if name in RESERVED else "is there twice"
            raise ValueError(f"metrics has the name {name!r}, which {problem}, expected a name of its own for each")
        named[name] = metric
    return named


def _accuracy(loss: Loss, y: Array, answer: Array, weight: Array | None) -> float:
    if loss.link == "sigmoid":
        right = ((y > 0.5) == answer.reshape(y.shape)).all(axis=1)
    else:
        right = (y if y.ndim == 1 else y.argmax(axis=1)) == answer
    return float(np.average(right, weights=weight))


def mae(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """mean |y - prediction| over rows and outputs (B, O); the mean over rows weighted by `weight` (B,)."""
    return float(np.average(np.abs(_residuals(y, prediction)).mean(axis=1), weights=weight))


def rmse(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """Root of the mean of (y - prediction)^2, as `mae`."""
    return math.sqrt(np.average((_residuals(y, prediction) ** 2).mean(axis=1), weights=weight))


def r2(y: Array, prediction: Array, weight: Array | None = None) -> float:
    """1 - sum (y - prediction)^2 / sum (y - mean y)^2, mean over the outputs. Of one whose y are all the same: 1 where
    the prediction is right, else 0, as scikit-learn's r2_score."""
    truth = y.astype(np.float64)
    left = np.average(_residuals(y, prediction) ** 2, axis=0, weights=weight)
    spread = np.average((truth - np.average(truth, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    scores = np.where(spread > 0, 1.0 - left / np.where(spread > 0, spread, 1.0), np.where(left > 0, 0.0, 1.0))
    return float(scores.mean())


def _residuals(y: Array, prediction: Array) -> Array:
    """y - prediction (B, O) in float64."""
    residuals: Array = y.astype(np.float64) - prediction
    return residuals


def _of_values(metric: Callable[[Array, Array, Array | None], float]) -> OfLogits:
    return lambda loss, y, z, weight: metric(y, z if loss.link is None else link(loss, z), weight)


METRICS: dict[str, OfLogits] = {
    "accuracy": _accuracy,  # rows whose class, or whose every 0 and 1, is right
    "mae": _of_values(mae),
    "rmse": _of_values(rmse),
    "r2": _of_values(r2),
}


def measure(named: dict[str, Metric], loss: Loss, z: Array, y: Array, weight: Array | None) -> dict[str, float]:
    """What `named_metrics` gave, of logits z (B, O) for the targets y; functions of the user's see no weights."""
    if not named:
        return {}
    answer = decide(loss, z) if classifies(loss) else z
    return {
        name: _call(name, metric, y, answer) if callable(metric) else METRICS[metric](loss, y, answer, weight)
        for name, metric in named.items()
    }


def _call(name: str, metric: Callable[[Array, Array], float], y: Array, answer: Array) -> float:
    truth = y[:, 0] if y.ndim == 2 and answer.ndim == 1 and y.shape[1] == 1 else y[:]
    truth.flags.writeable = False  # it may be the caller's own array
    value = metric(truth, answer)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metric {name} returned {value!r}, expected a number") from None
