"""The operation batch_norm."""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


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
        np.mean(x, axis=0, out=mean)
        var = np.mean((x - mean) ** 2, axis=0)
        inv_std[...] = 1.0 / np.sqrt(var + epsilon)
        a[...] = gamma * ((x - mean) * inv_std) + beta
        if rows > 1:
            running_mean[...] = momentum * running_mean + (1.0 - momentum) * mean
            running_var[...] = momentum * running_var + (1.0 - momentum) * (var * (rows / (rows - 1)))

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
        np.sum(da * x_hat, axis=0, out=dgamma)
        np.sum(da, axis=0, out=dbeta)
        dx[...] = gamma * inv_std * (da - (dbeta + x_hat * dgamma) / len(x))
