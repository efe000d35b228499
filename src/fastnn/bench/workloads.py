"""The workloads as data: which networks are trained on how many rows, what that costs, what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray
LEARNING_RATE = 1e-3
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, the defaults of every library here


@dataclass(frozen=True)
class Workload:
    """A dense network in float32, trained by Adam in batches of `batch` rows, shuffled anew each epoch.

    `sizes` are the widths from input to output; `activation` stands after all but the last layer; `loss` is
    "cross_entropy" (labels, softmax fused) or "mse" (the mean over the outputs).

    >>> WORKLOADS["logreg"].flops, WORKLOADS["logreg"].steps  # 2 B I O for forward, as much for the gradient
    (7680, 256)
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    batch: int
    rows: int

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(I, O) of each dense layer."""
        return list(pairwise(self.sizes))

    @property
    def flops(self) -> int:
        """Floating-point operations of the products in one step: 2 B I O for forward, for dw, and for dx of all
        layers but the first. Activations, loss and Adam are not counted."""
        forward = sum(2 * self.batch * inputs * outputs for inputs, outputs in self.layers)
        first = 2 * self.batch * self.sizes[0] * self.sizes[1]
        return 3 * forward - first

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return self.rows // self.batch

    def data(self) -> tuple[Array, Array]:
        """x (rows, I) normal; y what a random linear map and noise make of it: the largest column (rows,) int64,
        or the columns (rows, O). With the noise there is always something to learn: no gradient becomes so small
        that a library's handling of denormal numbers is what is timed. The first O rows have a class each, so
        that one batch has all: scikit-learn does not go on with fewer classes than it began with. With fewer rows
        they are the first of those with more."""
        inputs, outputs = self.sizes[0], self.sizes[-1]
        shapes = ((inputs, outputs), (self.rows, inputs), (self.rows, outputs))
        teacher, x, noise = (
            np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) for seed, shape in enumerate(shapes)
        )
        z = x @ teacher * np.float32(inputs**-0.5) + np.float32(0.5) * noise
        if self.loss == "mse":
            return x, z
        y = z.argmax(axis=1)
        y[:outputs] = np.arange(outputs)[: self.rows]
        return x, y

    def parameters(self) -> list[tuple[Array, Array]]:
        """The initial (w, b) of each layer, the same for every runner: Glorot's uniform, and zeros."""
        rng = np.random.default_rng(3)
        drawn = []
        for inputs, outputs in self.layers:
            limit = (6.0 / (inputs + outputs)) ** 0.5
            w = rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
            drawn.append((w, np.zeros(outputs, np.float32)))
        return drawn

    def __str__(self) -> str:
        inner = f" {self.activation}" if len(self.sizes) > 2 else ""
        sizes = "-".join(map(str, self.sizes))
        return f"{sizes}{inner} {self.loss}, batches of {self.batch}, {self.rows} rows"


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("logreg", (30, 2), "identity", "cross_entropy", 32, 8192),
        Workload("tiny", (10, 32, 1), "tanh", "mse", 32, 16384),
        Workload("digits", (64, 128, 64, 10), "relu", "cross_entropy", 32, 16384),
        Workload("deep_tanh", (64, *[64] * 8, 8), "tanh", "cross_entropy", 64, 16384),
        Workload("tabular", (27, 256, 256, 1), "relu", "mse", 256, 32768),
        Workload("mnist_mlp", (784, 128, 10), "relu", "cross_entropy", 128, 32768),
        Workload("wide", (784, 1024, 1024, 10), "relu", "cross_entropy", 256, 8192),
        Workload("gemm", (2048, 2048, 2048, 16), "relu", "cross_entropy", 1024, 4096),
    )
}


@dataclass(frozen=True)
class Target:
    """How many times faster than each peer fastnn shall be, and what share of the FMA peak it shall reach."""

    ratios: dict[str, float]
    peak: float | None  # per cent


def _target(torch: float, jax: float, sklearn: float, peak: float | None) -> Target:
    return Target({"torch": torch, "jax": jax, "sklearn": sklearn}, peak)


TARGETS = {
    "logreg": _target(150, 15, 80, None),
    "tiny": _target(140, 12, 80, None),
    "digits": _target(20, 3.5, 18, 25),
    "deep_tanh": _target(15, 3.5, 13, 30),
    "tabular": _target(4.5, 2.2, 8, 60),
    "mnist_mlp": _target(6, 2.5, 8, 60),
    "wide": _target(2.4, 1.9, 5, 75),
    "gemm": _target(1.3, 1.4, 2.6, 80),
}


def from_dict(fields: dict[str, Any]) -> Workload:
    """A workload that came through JSON."""
    return Workload(**{**fields, "sizes": tuple(fields["sizes"])})
