"""The operation layer_norm."""

from __future__ import annotations

import numpy as np

from fastnn.ops.batch_norm import moments
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class layer_norm(Operation):
    """a = the channels of each row at mean 0 and variance 1, then scaled and shifted. Ba et al. 2016."""

    spec = Spec(
        params="gamma:O beta:O",
        settings="epsilon",
        scratch="mean:N inv_std:N",
        forward="x gamma beta epsilon -> mean inv_std a",
        backward="x gamma mean inv_std da -> dx~da dgamma dbeta",
    )

    @staticmethod
    def forward(x: Array, gamma: Array, beta: Array, epsilon: float, mean: Array, inv_std: Array, a: Array) -> None:
        mu, var, centred, unit = moments(x, axis=1)
        scale = 1.0 / np.sqrt(var + epsilon * unit**2)
        a[...] = gamma * (centred * scale[:, None]) + beta
        mean[...], inv_std[...] = mu / unit, scale * unit

    @staticmethod
    def backward(
        x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
    ) -> None:
        x_hat = (x - mean[:, None]) * inv_std[:, None]
        dgamma[...] = np.sum(da * x_hat, axis=0, dtype=np.float64)
        dbeta[...] = np.sum(da, axis=0, dtype=np.float64)
        dx_hat = da * gamma
        mean_dx = dx_hat.mean(axis=1, keepdims=True)
        mean_product = (dx_hat * x_hat).mean(axis=1, keepdims=True)
        dx[...] = inv_std[:, None] * (dx_hat - mean_dx - x_hat * mean_product)
