"""The operation rms_norm."""

from __future__ import annotations

import numpy as np

from fastnn.ops.batch_norm import unit_of
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class rms_norm(Operation):
    """a = the channels of each row at root mean square 1, then scaled. Zhang & Sennrich 2019."""

    spec = Spec(
        params="gamma:O",
        settings="epsilon",
        scratch="inv_rms:N",
        forward="x gamma epsilon -> inv_rms a",
        backward="x gamma inv_rms da -> dx~da dgamma",
    )

    @staticmethod
    def forward(x: Array, gamma: Array, epsilon: float, inv_rms: Array, a: Array) -> None:
        unit = unit_of(np.abs(x).max(axis=1))
        scaled = x * unit[:, None]  # float64
        scale = 1.0 / np.sqrt(np.mean(scaled**2, axis=1) + epsilon * unit**2)
        a[...] = gamma * (scaled * scale[:, None])
        inv_rms[...] = scale * unit

    @staticmethod
    def backward(x: Array, gamma: Array, inv_rms: Array, da: Array, dx: Array, dgamma: Array) -> None:
        x_hat = x * inv_rms[:, None]
        dgamma[...] = np.sum(da * x_hat, axis=0, dtype=np.float64)
        dx_hat = da * gamma
        mean_product = (dx_hat * x_hat).mean(axis=1, keepdims=True)
        dx[...] = inv_rms[:, None] * (dx_hat - x_hat * mean_product)
