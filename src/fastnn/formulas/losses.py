"""Each loss once: value per row, gradient with respect to the last layer's output, source. No buffers.

`z` (B, O) is the last layer's output *before* the loss's own link: the cross-entropies take logits and fuse
their softmax or sigmoid, poisson takes the log of the rate. `link` names that last activation; a model that
ends with it is trained on its logits all the same (see `Plan.training_ops`).

A loss is either point-wise (two scalar formulas, averaged over the O outputs) or row-wise (one function of
whole rows). Targets are `labels` (B,) int64 in [0, O) or `values` (B, O) in the model's dtype; (B, T) where a loss
takes `width` outputs for each of T targets, the first ones of all targets before the second ones: O = width T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from fastnn import _validate
from fastnn._text import short
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.own import evaluated, fingerprint

Array = np.ndarray
_LEAST_POSITIVE = float(np.finfo(np.float32).tiny)
Pointwise = Callable[[Any, Any, float], Any]  # (z, y, parameter) -> array or scalar


@dataclass(frozen=True)
class Loss:
    """A loss: `evaluate(z, y)` returns the value of each row (B,) and d(value)/dz (B, O).

    `parameter` is the loss's one number: delta of huber, label smoothing of the cross-entropies, q of quantile, ...
    `levels` are the numbers of quantiles, which has an output for each.
    """

    name: str
    source: str
    targets: tuple[Literal["labels", "values"], ...]
    link: str | None = None
    parameter: float = 0.0
    pointwise: tuple[Pointwise, Pointwise] | None = None  # value, gradient; averaged over the outputs
    rowwise: Callable[[Array, Array, Any], tuple[Array, Array]] | None = None  # of z, y and the numbers
    y_range: tuple[float, float] = (-np.inf, np.inf)  # what a target value may be
    width: int = 1  # outputs for each target
    levels: tuple[float, ...] = ()

    @property
    def numbers(self) -> float | tuple[float, ...]:
        """What its formulas take beside z and y: its levels or its parameter."""
        return self.levels or self.parameter

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """Value of each row (B,) and gradient of each row's value (B, O), both in z's dtype."""
        if self.rowwise is not None:
            return self.rowwise(z, y, self.numbers)
        assert self.pointwise is not None
        value, gradient = self.pointwise
        scale = z.dtype.type(1.0 / z.shape[1])
        if not self.built_in:
            values, slopes = (evaluated(formula, z, y, self.parameter) for formula in self.pointwise)
            return values.sum(axis=1) * scale, slopes * scale
        return value(z, y, self.parameter).sum(axis=1) * scale, gradient(z, y, self.parameter) * scale

    def with_parameter(self, parameter: Any) -> Loss:
        """The same loss with another parameter. ValueError or TypeError where that is out of range.

        >>> LOSSES["huber"].with_parameter(2.0) == Huber(delta=2.0)
        True
        """
        make = _WITH_PARAMETER.get(self.name)
        if not self.built_in:
            return replace(self, parameter=_validate.number(f"parameter of {self.name}", parameter))
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

    @property
    def known(self) -> bool:
        """Whether its name and its numbers say all of it."""
        return self.name in LOSSES and _restore(self.name, self.parameter, self.levels) == self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.known:
            return _restore, (self.name, self.parameter, self.levels)  # formulas are found again by name
        return Loss, tuple(getattr(self, item.name) for item in fields(self))  # one's own: where they are importable

    def __str__(self) -> str:
        return self.name


def _restore(name: str, parameter: float, levels: tuple[float, ...] = ()) -> Loss:
    known = LOSSES[name]
    return replace(known, parameter=parameter, levels=levels, width=len(levels) or known.width)


_sigmoid, _softplus = ACTIVATIONS["sigmoid"].value, ACTIVATIONS["softplus"].value


def _half_mse(z, y, parameter):
    return 0.5 * (z - y) * (z - y)


def _huber(z, y, delta):
    r = np.abs(z - y)
    return np.where(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta))


def _quantile(z, y, q):
    return np.maximum(q * (y - z), (q - 1.0) * (y - z))


def _quantile_gradient(z, y, q):
    return 0.5 * np.sign(z - y) + (0.5 - q)  # 1 - q above y, -q below, between them at y; NaN stays NaN


def _expectile(z, y, tau):
    return np.where(z > y, (1.0 - tau) * (z - y), tau * (z - y)) * (z - y)


def _expectile_gradient(z, y, tau):
    return 2.0 * np.where(z > y, (1.0 - tau) * (z - y), tau * (z - y))


def _log_cosh(z, y, parameter):
    r = np.abs(z - y)
    return r + np.log1p(0.5 * np.expm1(-2.0 * r))  # cosh r = e^r (1 + (e^-2r - 1) / 2): never overflows


def _tweedie(z, y, power):
    return np.exp((2.0 - power) * z) / (2.0 - power) - y * np.exp((1.0 - power) * z) / (1.0 - power)


def _tweedie_gradient(z, y, power):
    return np.exp((2.0 - power) * z) - y * np.exp((1.0 - power) * z)


def _missed(z, gamma):
    """-(1 - p)^gamma log p with p = sigmoid(z): the focal loss where y is 1. Where it is 0: that of -z."""
    return np.exp(-gamma * _softplus(z, 0.0)) * _softplus(-z, 0.0)


def _missed_slope(z, gamma):
    power = np.exp(-gamma * _softplus(z, 0.0))
    return -power * (gamma * _sigmoid(z, 0.0) * _softplus(-z, 0.0) + _sigmoid(-z, 0.0))


def _binary_focal(z, y, gamma):
    return y * _missed(z, gamma) + (1.0 - y) * _missed(-z, gamma)


def _binary_focal_gradient(z, y, gamma):
    return y * _missed_slope(z, gamma) - (1.0 - y) * _missed_slope(-z, gamma)


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


def _focal(z: Array, y: Array, gamma: float) -> tuple[Array, Array]:
    q = y
    if y.ndim == 1:
        q = np.zeros_like(z)
        q[np.arange(len(z)), y] = 1.0
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p, rest = np.exp(log_p), -np.expm1(log_p)  # p and 1 - p, both to the last digits
    power = rest**gamma
    ratio = np.where(rest > 0.0, log_p / np.where(rest > 0.0, rest, 1.0), -1.0)  # log p / (1 - p), -1 at p = 1
    slope = q * power * (gamma * p * ratio - 1.0)  # p d/dp of -q (1 - p)^gamma log p
    return -(q * power * log_p).sum(axis=1), slope - p * slope.sum(axis=1, keepdims=True)


def _gaussian(z: Array, y: Array, parameter: float) -> tuple[Array, Array]:
    targets = y.shape[1]
    s, r = z[:, targets:], z[:, :targets] - y
    precision = np.exp(-s)
    square, scale = r * r * precision, z.dtype.type(1.0 / targets)
    gradient = np.hstack([r * precision, 0.5 * (1.0 - square)])
    return 0.5 * (s + square).sum(axis=1) * scale, gradient * scale


def _quantiles(z: Array, y: Array, levels: tuple[float, ...]) -> tuple[Array, Array]:
    q = np.asarray(levels, dtype=z.dtype)[:, None]
    each, scale = z.reshape(len(z), len(levels), -1), z.dtype.type(1.0 / z.shape[1])
    value, gradient = _quantile(each, y[:, None], q), _quantile_gradient(each, y[:, None], q)
    return value.sum(axis=(1, 2)) * scale, gradient.reshape(z.shape) * scale


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
        "log_cosh",
        "log(cosh(z - y)), half of (z - y)^2 near y, |z - y| - log 2 far from it",
        ("values",),
        pointwise=(_log_cosh, lambda z, y, p: np.tanh(z - y)),
    ),
    Loss(
        "quantile",
        "max(q (y - z), (q - 1) (y - z)): Koenker & Bassett 1978",
        ("values",),
        parameter=0.5,
        pointwise=(_quantile, _quantile_gradient),
    ),
    Loss(
        "expectile",
        "(z - y)^2 times 1 - tau above y, tau below: Newey & Powell 1987",
        ("values",),
        parameter=0.5,
        pointwise=(_expectile, _expectile_gradient),
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
        "gamma",
        "z + y exp(-z), the gamma likelihood of mean exp(z) without its constant: half the gamma deviance",
        ("values",),
        link="exponential",
        pointwise=(lambda z, y, p: z + y * np.exp(-z), lambda z, y, p: 1.0 - y * np.exp(-z)),
        y_range=(_LEAST_POSITIVE, np.inf),
    ),
    Loss(
        "tweedie",
        "exp((2 - p) z) / (2 - p) - y exp((1 - p) z) / (1 - p), half the deviance of power p and mean exp(z) without "
        "its constant: Jorgensen 1987",
        ("values",),
        link="exponential",
        parameter=1.5,
        pointwise=(_tweedie, _tweedie_gradient),
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
        "binary_focal",
        "-y (1 - p)^gamma log p - (1 - y) p^gamma log(1 - p), p = sigmoid(z): Lin et al. 2017",
        ("values",),
        link="sigmoid",
        parameter=2.0,
        pointwise=(_binary_focal, _binary_focal_gradient),
        y_range=(0.0, 1.0),
    ),
    Loss(
        "focal",
        "-sum q (1 - p)^gamma log p, p = softmax(z): Lin et al. 2017",
        ("labels", "values"),
        link="softmax",
        parameter=2.0,
        rowwise=_focal,
        y_range=(0.0, 1.0),
    ),
    Loss(
        "hinge",
        "max(0, 1 + max over j != y of z_j - z_y): Crammer & Singer 2001",
        ("labels",),
        rowwise=_hinge,
    ),
    Loss(
        "gaussian",
        "(s + (m - y)^2 exp(-s)) / 2 of outputs m and s, the negative log-likelihood of mean m and variance exp(s) "
        "without its constant: Nix & Weigend 1994",
        ("values",),
        rowwise=_gaussian,
        width=2,
    ),
    Loss(
        "quantiles",
        "the mean of the quantile losses of several levels, an output for each: Koenker & Bassett 1978",
        ("values",),
        rowwise=_quantiles,
        width=2,
        levels=(0.1, 0.9),
    ),
)

LOSSES: dict[str, Loss] = {loss.name: loss for loss in _ALL}


def get(loss: str | Loss) -> Loss:
    """The loss of that name. ValueError lists the known names."""
    if isinstance(loss, Loss):
        if loss.pointwise is None and loss.rowwise is None:
            raise ValueError(f"loss is {loss}, which has no formulas, expected pointwise or rowwise")
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]
    raise ValueError(f"loss is {short(loss)}, expected one of: {', '.join(LOSSES)}")


def Huber(delta: float = 1.0) -> Loss:
    """huber with another delta > 0."""
    return _with("huber", _validate.number("delta", delta, low=0.0, open_low=True))


def Quantile(q: float = 0.5) -> Loss:
    """quantile with q in (0, 1): its minimum is the q-quantile of y.

    >>> float(Quantile(0.9).evaluate(np.array([[0.0]]), np.array([[1.0]]))[0][0])
    0.9
    """
    return _with("quantile", _validate.number("q", q, 0.0, 1.0, open_low=True, open_high=True))


def Quantiles(levels: Sequence[float] = (0.1, 0.9)) -> Loss:
    """quantiles of these levels, ascending in (0, 1): the model has an output for each. Of T targets first the T of the
    first level, then those of the next.

    `nn.Ordered(targets)` as the last layer keeps the quantiles of each target from crossing.

    >>> loss = Quantiles([0.25, 0.5, 0.75])
    >>> round(float(loss.evaluate(np.array([[0.0, 1.0, 3.0]]), np.array([[2.0]]))[0][0]), 4)  # (0.5 + 0.5 + 0.25) / 3
    0.4167
    """
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise TypeError(f"levels is {levels!r}, expected a list of numbers in (0, 1)")
    checked = tuple(_validate.number("levels", q, 0.0, 1.0, open_low=True, open_high=True) for q in levels)
    if not checked or any(low >= high for low, high in pairwise(checked)):
        raise ValueError(f"levels is {levels!r}, expected at least one, each above the one before it")
    return _restore("quantiles", 0.0, checked)


def Expectile(tau: float = 0.5) -> Loss:
    """expectile with tau in (0, 1): its minimum is the mean for 0.5."""
    return _with("expectile", _validate.number("tau", tau, 0.0, 1.0, open_low=True, open_high=True))


def Tweedie(power: float = 1.5) -> Loss:
    """tweedie with 1 < power < 2, y >= 0 with many zeros, say; poisson is power 1, gamma is 2."""
    return _with("tweedie", _validate.number("power", power, 1.0, 2.0, open_low=True, open_high=True))


def Focal(gamma: float = 2.0) -> Loss:
    """focal with gamma >= 0; 0 is cross_entropy. class_weight takes the place of the paper's alpha."""
    return _with("focal", _validate.number("gamma", gamma, low=0.0, open_high=True))


def BinaryFocal(gamma: float = 2.0) -> Loss:
    """binary_focal with gamma >= 0; 0 is binary_cross_entropy."""
    return _with("binary_focal", _validate.number("gamma", gamma, low=0.0, open_high=True))


def _with(name: str, parameter: float) -> Loss:
    return replace(LOSSES[name], parameter=parameter)


def CrossEntropy(label_smoothing: float = 0.0) -> Loss:
    """cross_entropy with targets (1 - s) q + s / O, s in [0, 1)."""
    return _with("cross_entropy", _smoothing(label_smoothing))


def BinaryCrossEntropy(label_smoothing: float = 0.0) -> Loss:
    """binary_cross_entropy with targets (1 - s) y + s / 2, s in [0, 1)."""
    return _with("binary_cross_entropy", _smoothing(label_smoothing))


def _smoothing(value: float) -> float:
    return _validate.number("label_smoothing", value, low=0.0, high=1.0, open_high=True)


_WITH_PARAMETER: dict[str, Callable[[Any], Loss]] = {
    "huber": Huber,
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "quantile": Quantile,
    "quantiles": Quantiles,
    "expectile": Expectile,
    "tweedie": Tweedie,
    "focal": Focal,
    "binary_focal": BinaryFocal,
}
