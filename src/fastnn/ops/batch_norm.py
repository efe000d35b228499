"""The operation batch_norm."""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec

_LARGE = 1e150  # a value whose square may leave float64's range


def unit_of(peak: Array) -> Array:
    """1, or one over the largest value where that is too large to be squared; float64."""
    wide = peak.astype(np.float64)
    return 1.0 / np.where(wide > _LARGE, wide, 1.0)


def moments(x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """Mean and variance of x u along an axis, x u less that mean, and u: all float64.

    float32 that adds up 100,000 values around 10,000 loses a variance of 1. The unit u is `unit_of` the largest value.
    """
    unit = unit_of(np.abs(x).max(axis=axis))
    over = np.expand_dims(unit, axis)
    scaled = x.astype(np.float64) * over
    mean = scaled.mean(axis=axis, keepdims=True)
    centred = scaled - mean
    return mean.squeeze(axis), np.mean(centred**2, axis=axis), centred, unit


class batch_norm(Operation):
    """a = each channel at mean 0 and variance 1 over the batch, then scaled and shifted. Ioffe & Szegedy 2015.

    running <- momentum running + (1 - momentum) batch, the variance unbiased, times n / (n - 1); a batch of one value a
    channel has no variance: it comes out as beta, and leaves the running averages alone.
    """

    spec = Spec(
        params="gamma:O beta:O",
        statistics="running_mean:O running_var:O",
        settings="momentum epsilon",
        scratch="mean:O inv_std:O",
        phase="columns",
        forward="x gamma beta momentum epsilon -> running_mean running_var mean inv_std a",
        backward="x gamma mean inv_std da -> dx~da dgamma dbeta",
        predict="x gamma beta epsilon running_mean running_var -> a",
    )

    @staticmethod
    def forward(
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
        mu, var, centred, unit = moments(x, axis=0)
        scale = 1.0 / np.sqrt(var + epsilon * unit**2)
        a[...] = gamma * (centred * scale) + beta
        mean[...], inv_std[...] = mu / unit, scale * unit
        if rows > 1:
            unbiased = var * (rows / (rows - 1)) / unit / unit
            running_mean[...] = momentum * running_mean + (1.0 - momentum) * mean
            running_var[...] = momentum * running_var + (1.0 - momentum) * unbiased

    @staticmethod
    def predict(
        x: Array, gamma: Array, beta: Array, epsilon: float, running_mean: Array, running_var: Array, a: Array
    ) -> None:
        a[...] = gamma * ((x - running_mean) * (1.0 / np.sqrt(running_var + epsilon))) + beta

    @staticmethod
    def backward(
        x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
    ) -> None:
        x_hat = (x - mean) * inv_std
        dgamma[...] = np.sum(da * x_hat, axis=0, dtype=np.float64)
        dbeta[...] = np.sum(da, axis=0, dtype=np.float64)
        dx[...] = gamma * inv_std * (da - (dbeta + x_hat * dgamma) / len(x))
