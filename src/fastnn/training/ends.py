"""Whether what a model ends with fits the loss: one warning where it does not. Nothing is refused for it."""

from __future__ import annotations

import math
import warnings

import numpy as np

from fastnn.errors import callers
from fastnn.formulas.losses import Loss
from fastnn.metrics.answers import classifies
from fastnn.plan import Op, Plan

Array = np.ndarray
_RANGES: dict[str, tuple[float, float]] = {  # of activations that do not give all numbers
    "softmax": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "binary_step": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "exponential": (0.0, math.inf),
}
_OUTSIDE = 0.01  # the share of targets that the model cannot reach, from which on it is worth a word


def check_end(plan: Plan, loss: Loss, y: Array) -> None:
    """UserWarning where the last activation keeps the model from what the loss asks of it.

    A loss of classes, or of rates, takes logits: numbers of any size, to which it applies its own link. Cut off by a
    bounded activation they never get sure of a class: two logits in [0, 1] give probabilities of 0.73 at most. Losses
    of values are content with what reaches the targets. The loss's own link is always right: the two are computed as
    one.
    """
    name = _last_activation(plan.ops)
    if name not in _RANGES or plan.training_ops(loss) != plan.ops:
        return
    low, high = _RANGES[name]
    gives = f"the model ends with {name}, which gives numbers in [{low:g}, {high:g}]"
    if loss.link is not None or classifies(loss):
        if math.isinf(high) and loss.link not in ("sigmoid", "exponential"):
            return  # it is the difference of two logits that counts, and that has no bound
        inside = f" or with {loss.link}, which it has inside" if loss.link is not None else ""
        problem = f"{gives}, but {loss} takes numbers of any size: end with no activation{inside}"
    else:
        outside = float(((y < low) | (y > high)).mean())
        if outside < _OUTSIDE:
            return
        problem = (
            f"{gives}, but y has values from {y.min():g} to {y.max():g}, of which {outside:.0%} lie outside: end with "
            f"no activation, or scale y"
        )
    warnings.warn(problem, UserWarning, stacklevel=callers())


def _last_activation(ops: tuple[Op, ...]) -> str:
    """Of the last operation that is not Dropout, which leaves numbers where they are or makes them 0."""
    last = next((op for op in reversed(ops) if op.kind != "dropout"), None)
    if last is None:
        return "identity"
    return last.operation.link or last.activation.name
