"""The `numpy` backend: every kernel vectorised, as the course notes write it. The oracle and the fallback.

Nothing here is clever: one NumPy expression a quantity. See `contract.py` for the shapes.
"""

from __future__ import annotations

import numpy as np

from fastnn import _random
from fastnn._random import Key
from fastnn.backends.contract import Adjustment, Array, Kernels
from fastnn.formulas.activations import Activation, identity
from fastnn.formulas.losses import Loss
from fastnn.formulas.rules import Rule


def shuffle(key: Key, order: Array) -> None:
    _random.shuffle(key, order)


def gather(x: Array, rows: Array, out: Array) -> None:
    out[...] = x[rows]


def gather_normalized(x: Array, rows: Array, shift: Array, scale: Array, out: Array) -> None:
    out[...] = (x[rows].astype(np.float64) - shift) * scale


def moments(x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array) -> None:
    """out[:, s] <- low and high of x, mean and squared deviations of (x - pivot) unit, over slice s of the rows."""
    for s, start in enumerate(range(0, len(x) if rows is None else len(rows), step)):
        part = x[start : start + step] if rows is None else x[rows[start : start + step]]
        out[:, s] = _slice_moments(part, pivot, unit)


def _slice_moments(part: Array, pivot: Array, unit: Array) -> tuple[Array, Array, Array, Array]:
    d = np.array(part, dtype=np.float64, order="C")  # the one copy; the layout changes no order of the sums
    low, high = d.min(axis=0), d.max(axis=0)
    d *= unit
    d -= pivot * unit
    mean = d.mean(axis=0)
    d -= mean
    return low, high, mean, np.square(d, out=d).sum(axis=0)


# Dense ---------------------------------------------------------------------------------------------------


def dense_forward(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
    np.matmul(x, w, out=z)
    z += b
    activation_forward(activation, z, a)


def dense_backward_input(dz: Array, w: Array, activation: Activation, saved: Array, dx: Array) -> None:
    np.matmul(dz, w.T, out=dx)
    activation_backward(activation, saved, dx, dx)


def dense_backward_weights(x: Array, dz: Array, dw: Array, db: Array) -> None:
    np.matmul(x.T, dz, out=dw)
    np.sum(dz, axis=0, out=db)


# Activations ---------------------------------------------------------------------------------------------


def activation_forward(activation: Activation, z: Array, a: Array) -> None:
    if activation != identity:
        a[...] = activation.value(z, activation.alpha)
    elif a is not z:
        a[...] = z


def activation_backward(activation: Activation, saved: Array, da: Array, dz: Array) -> None:
    if activation != identity:
        np.multiply(da, activation.derivative(saved, activation.alpha), out=dz, casting="same_kind")
    elif dz is not da:
        dz[...] = da


def softmax_forward(z: Array, a: Array) -> None:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    np.divide(e, e.sum(axis=1, keepdims=True), out=a)


def softmax_backward(a: Array, da: Array, dz: Array) -> None:
    np.multiply(a, da - (da * a).sum(axis=1, keepdims=True), out=dz)


def maxout_forward(z: Array, a: Array, winner: Array) -> None:
    pieces = z.reshape(*a.shape, z.shape[1] // a.shape[1])
    winner[...] = pieces.argmax(axis=2)
    a[...] = pieces.max(axis=2)


def maxout_backward(winner: Array, da: Array, dz: Array) -> None:
    pieces = dz.reshape(*da.shape, dz.shape[1] // da.shape[1])
    pieces[...] = 0.0
    np.put_along_axis(pieces, winner[:, :, None].astype(np.intp), da[:, :, None], axis=2)


def prelu_forward(z: Array, slope: Array, a: Array) -> None:
    a[...] = np.where(z > 0, z, slope * z)


def prelu_backward(z: Array, slope: Array, da: Array, dz: Array, dslope: Array) -> None:
    np.sum(da * np.minimum(z, 0), axis=0, out=dslope)
    np.multiply(da, np.where(z > 0, slope.dtype.type(1), slope), out=dz)


def _rrelu_slope(shape: tuple[int, int], lower: float, upper: float, key: Key, dtype: np.dtype) -> Array:
    return (lower + (upper - lower) * (_random.bits(key, shape) * 2.0**-32)).astype(dtype)


def rrelu_forward(z: Array, lower: float, upper: float, key: Key, a: Array) -> None:
    prelu_forward(z, _rrelu_slope(z.shape, lower, upper, key, z.dtype), a)


def rrelu_backward(z: Array, lower: float, upper: float, key: Key, da: Array, dz: Array) -> None:
    np.multiply(da, np.where(z > 0, z.dtype.type(1), _rrelu_slope(z.shape, lower, upper, key, z.dtype)), out=dz)


def dropout(x: Array, rate: float, key: Key, out: Array) -> None:
    keep = _random.bits(key, x.shape) >= _random.drop_threshold(rate)
    out[...] = np.where(keep, x * (1.0 / (1.0 - rate)), 0.0)


# Normalisation -------------------------------------------------------------------------------------------


def batch_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    momentum: float,
    epsilon: float,
    running_mean: Array,
    running_var: Array,
    mean: Array,
    inv_std: Array,
    a: Array,
) -> None:
    rows = len(x)
    np.mean(x, axis=0, out=mean)
    var = np.mean((x - mean) ** 2, axis=0)
    inv_std[...] = 1.0 / np.sqrt(var + epsilon)
    a[...] = gamma * ((x - mean) * inv_std) + beta
    if rows > 1:
        running_mean[...] = momentum * running_mean + (1.0 - momentum) * mean
        running_var[...] = momentum * running_var + (1.0 - momentum) * (var * (rows / (rows - 1)))


def batch_norm_predict(
    x: Array, gamma: Array, beta: Array, epsilon: float, running_mean: Array, running_var: Array, a: Array
) -> None:
    a[...] = gamma * ((x - running_mean) * (1.0 / np.sqrt(running_var + epsilon))) + beta


def batch_norm_backward(
    x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
) -> None:
    x_hat = (x - mean) * inv_std
    np.sum(da * x_hat, axis=0, out=dgamma)
    np.sum(da, axis=0, out=dbeta)
    dx[...] = gamma * inv_std * (da - (dbeta + x_hat * dgamma) / len(x))


def layer_norm_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float, mean: Array, inv_std: Array, a: Array
) -> None:
    np.mean(x, axis=1, out=mean)
    centred = x - mean[:, None]
    inv_std[...] = 1.0 / np.sqrt(np.mean(centred**2, axis=1) + epsilon)
    a[...] = gamma * (centred * inv_std[:, None]) + beta


def layer_norm_backward(
    x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
) -> None:
    x_hat = (x - mean[:, None]) * inv_std[:, None]
    np.sum(da * x_hat, axis=0, out=dgamma)
    np.sum(da, axis=0, out=dbeta)
    dx_hat = da * gamma
    mean_dx = dx_hat.mean(axis=1, keepdims=True)
    mean_product = (dx_hat * x_hat).mean(axis=1, keepdims=True)
    dx[...] = inv_std[:, None] * (dx_hat - mean_dx - x_hat * mean_product)


# Learning ------------------------------------------------------------------------------------------------


def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
    value[...], gradient = loss.evaluate(z, y)
    np.multiply(gradient, weight[:, None], out=dz, casting="same_kind")


def squared_norm(g: Array) -> float:
    g64 = g.astype(np.float64)
    return float(g64 @ g64)


def update(
    rule: Rule, coefficients: tuple[float, ...], adjustment: Adjustment, w: Array, g: Array, slots: tuple[Array, ...]
) -> None:
    scale, limit, l1, l2, shrink = adjustment
    if scale != 1.0:
        g = g * scale
    if limit != np.inf:
        g = np.clip(g, -limit, limit)
    if l1 != 0.0:
        g = g + l1 * np.sign(w)
    if l2 != 0.0:
        g = g + l2 * w
    delta, new_slots = rule.formula(g, slots, coefficients)
    for slot, new in zip(slots, new_slots, strict=True):
        slot[...] = new
    if shrink != 0.0:
        w *= 1.0 - shrink
    w -= delta


KERNELS = Kernels(**{name: globals()[name] for name in Kernels.__dataclass_fields__})
