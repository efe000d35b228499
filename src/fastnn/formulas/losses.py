"""Each loss once: value per row, gradient with respect to the last layer's output, source. No buffers.

`z` (B, O) is the last layer's output *before* the loss's own link: the cross-entropies take logits and fuse
their softmax or sigmoid, poisson takes the log of the rate. `link` names that last activation; a model that
ends with it is trained on its logits all the same (see `Plan.training_ops`).

A loss is either point-wise (two scalar formulas, averaged over the O outputs) or row-wise (one function of
whole rows). Targets are `labels` (B,) int64 in [0, O) or `values` (B, O) in the model's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from fastnn import _validate
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.own import fingerprint

Array = np.ndarray
Pointwise = Callable[[Any, Any, float], Any]  # (z, y, parameter) -> array or scalar


@dataclass(frozen=True)
class Loss:
    """A loss: `evaluate(z, y)` returns the value of each row (B,) and d(value)/dz (B, O).

    `parameter` is the loss's one number: delta of huber, label smoothing of the cross-entropies.
    """

    name: str
    source: str
    targets: tuple[Literal["labels", "values"], ...]
    link: str | None = None
    parameter: float = 0.0
    pointwise: tuple[Pointwise, Pointwise] | None = None  # value, gradient; averaged over the outputs
    rowwise: Callable[[Array, Array, float], tuple[Array, Array]] | None = None
    y_range: tuple[float, float] = (-np.inf, np.inf)  # what a target value may be

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """Value of each row (B,) and gradient of each row's value (B, O), both in z's dtype."""
        if self.rowwise is not None:
            return self.rowwise(z, y, self.parameter)
        assert self.pointwise is not None
        value, gradient = self.pointwise
        scale = z.dtype.type(1.0 / z.shape[1])
        return value(z, y, self.parameter).sum(axis=1) * scale, gradient(z, y, self.parameter) * scale

    def with_parameter(self, parameter: float) -> Loss:
        """The same loss with another parameter. ValueError or TypeError where that is out of range.

        >>> LOSSES["huber"].with_parameter(2.0) == Huber(delta=2.0)
        True
        """
        make = _WITH_PARAMETER.get(self.name)
        if make is not None:
            return make(parameter)
        if parameter != self.parameter:
            raise ValueError(f"parameter of {self.name} is {parameter!r}, expected {self.parameter:g}: it has none")
        return self

    @property
    def built_in(self) -> bool:
        """Whether its formulas are those of LOSSES by its name: what is compiled is found by name.

        >>> replace(LOSSES["mse"], pointwise=LOSSES["mae"].pointwise).built_in
        False
        """
        known = LOSSES.get(self.name)
        return known is not None and (known.pointwise, known.rowwise) == (self.pointwise, self.rowwise)

    @property
    def fingerprint(self) -> str:
        """A digest of its formulas."""
        return fingerprint(*(self.pointwise or ()), self.rowwise)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name in LOSSES and replace(LOSSES[self.name], parameter=self.parameter) == self:
            return _restore, (self.name, self.parameter)  # formulas are found again by name
        return Loss, tuple(getattr(self, item.name) for item in fields(self))  # one's own: where they are importable

    def __str__(self) -> str:
        return self.name


def _restore(name: str, parameter: float) -> Loss:
    return replace(LOSSES[name], parameter=parameter)


_sigmoid = ACTIVATIONS["sigmoid"].value


def _half_mse(z, y, parameter):
    return 0.5 * (z - y) * (z - y)


def _huber(z, y, delta):
    r = np.abs(z - y)
    return np.where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta))


def _binary_cross_entropy(z, y, smoothing):
    q = y * (1.0 - smoothing) + 0.5 * smoothing
    return np.maximum(z, 0.0) - z * q + np.log1p(np.exp(-np.abs(z)))


def _binary_cross_entropy_gradient(z, y, smoothing):
    return _sigmoid(z, 0.0) - (y * (1.0 - smoothing) + 0.5 * smoothing)


def _cross_entropy(z: Array, y: Array, smoothing: float) -> tuple[Array, Array]:
    rows, outputs = z.shape
    if y.ndim == 1:
        q = np.full_like(z, smoothing / outputs)
        q[np.arange(rows), y] += 1.0 - smoothing
    else:
        q = y * (1.0 - smoothing) + smoothing / outputs
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    mass = q.sum(axis=1, keepdims=True)  # 1 for a distribution, up to rounding
    value = np.log(total[:, 0]) * mass[:, 0] - (q * shifted).sum(axis=1)
    return value, e * (mass / total) - q


def _hinge(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    rows = np.arange(len(z))
    margin = z - z[rows, y][:, None] + 1.0
    margin[rows, y] = -np.inf
    rival = margin.argmax(axis=1) if z.shape[1] > 1 else np.zeros(len(z), dtype=np.intp)
    worst = margin[rows, rival]
    violated = worst > 0
    gradient = np.zeros_like(z)
    gradient[rows, rival] = np.where(violated, 1.0, 0.0)
    gradient[rows, y] -= np.where(violated, 1.0, 0.0)
    return np.where(np.isnan(worst), worst, np.maximum(worst, 0.0)).astype(z.dtype), gradient


_ALL: tuple[Loss, ...] = (
    Loss(
        "mse",
        "(z - y)^2, mean over the outputs",
        ("values",),
        pointwise=(lambda z, y, p: (z - y) * (z - y), lambda z, y, p: 2.0 * (z - y)),
    ),
    Loss("half_mse", "(z - y)^2 / 2", ("values",), pointwise=(_half_mse, lambda z, y, p: z - y)),
    Loss(
        "mae",
        "|z - y|",
        ("values",),
        pointwise=(lambda z, y, p: np.abs(z - y), lambda z, y, p: np.sign(z - y)),
    ),
    Loss(
        "huber",
        "Huber 1964: r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2)",
        ("values",),
        parameter=1.0,
        pointwise=(_huber, lambda z, y, delta: np.minimum(np.maximum(z - y, -delta), delta)),
    ),
    Loss(
        "poisson",
        "exp(z) - y z, the Poisson likelihood of rate exp(z) without its constant",
        ("values",),
        link="exponential",
        pointwise=(lambda z, y, p: np.exp(z) - y * z, lambda z, y, p: np.exp(z) - y),
        y_range=(0.0, np.inf),
    ),
    Loss(
        "binary_cross_entropy",
        "log(1 + exp(z)) - y z: the negative log-likelihood of y under sigmoid(z)",
        ("values",),
        link="sigmoid",
        pointwise=(_binary_cross_entropy, _binary_cross_entropy_gradient),
        y_range=(0.0, 1.0),
    ),
    Loss(
        "cross_entropy",
        "-sum q log softmax(z); label smoothing: Szegedy et al. 2016, section 7",
        ("labels", "values"),
        link="softmax",
        rowwise=_cross_entropy,
        y_range=(0.0, 1.0),
    ),
    Loss(
        "hinge",
        "max(0, 1 + max over j != y of z_j - z_y): Crammer & Singer 2001",
        ("labels",),
        rowwise=_hinge,
    ),
)

LOSSES: dict[str, Loss] = {loss.name: loss for loss in _ALL}


def get(loss: str | Loss) -> Loss:
    """The loss of that name. ValueError lists the known names."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    raise ValueError(f"loss is {loss!r}, expected one of: {', '.join(LOSSES)}")


def Huber(delta: float = 1.0) -> Loss:
    """huber with another delta > 0."""
    return replace(LOSSES["huber"], parameter=_validate.number("delta", delta, low=0.0, open_low=True))


def CrossEntropy(label_smoothing: float = 0.0) -> Loss:
    """cross_entropy with targets (1 - s) q + s / O, s in [0, 1)."""
    return replace(LOSSES["cross_entropy"], parameter=_smoothing(label_smoothing))


def BinaryCrossEntropy(label_smoothing: float = 0.0) -> Loss:
    """binary_cross_entropy with targets (1 - s) y + s / 2, s in [0, 1)."""
    return replace(LOSSES["binary_cross_entropy"], parameter=_smoothing(label_smoothing))


def _smoothing(value: float) -> float:
    return _validate.number("label_smoothing", value, low=0.0, high=1.0, open_high=True)


_WITH_PARAMETER: dict[str, Callable[[float], Loss]] = {
    "huber": Huber,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
}
