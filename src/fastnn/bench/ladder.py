"""The ladder: gradient descent for two models, from explicit loops to native code, each rung proved equal.

What a course on neural networks teaches, on this machine. The first three rungs are written out below as the
notes write them; the others run the same steps on fastnn's backends. All compute in float64, over the whole
batch in each step, and are checked against each other before any is timed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnn import backends, nn, optim
from fastnn._plot import new_figure
from fastnn.engine import Batches, Objective
from fastnn.formulas.losses import LOSSES
from fastnn.nn.model import Sequential

Array = np.ndarray
Parameters = list[Array]  # [w, b] or [w1, b1, w2, b2]; changed in place
Descend = Callable[[Parameters, int], None]  # takes that many steps
LEARNING_RATE = 0.1
CHECK_STEPS = 5
TOLERANCE = 1e-9  # relative; measured: 2e-15 after 5 steps
ROUNDS = 5
ROUND_SECONDS = 0.05


# Logistic regression: a = sigmoid(x w + b), loss = mean of -y log a - (1 - y) log(1 - a) ---------------------


def logistic_loops(x: Array, y: Array, p: Parameters, steps: int) -> None:
    """Loops over the samples and over the features."""
    w, b = p
    rows, features = x.shape
    for _ in range(steps):
        dw = [0.0] * features
        db = 0.0
        for i in range(rows):
            z = b[0]
            for j in range(features):
                z += w[j, 0] * x[i, j]
            dz = 1.0 / (1.0 + math.exp(-z)) - y[i, 0]
            for j in range(features):
                dw[j] += x[i, j] * dz
            db += dz
        for j in range(features):
            w[j, 0] -= LEARNING_RATE * dw[j] / rows
        b[0] -= LEARNING_RATE * db / rows


def logistic_samples(x: Array, y: Array, p: Parameters, steps: int) -> None:
    """Loops over the samples only; the features of one are a vector."""
    w, b = p
    rows = len(x)
    for _ in range(steps):
        dw, db = np.zeros_like(w[:, 0]), 0.0
        for i in range(rows):
            dz = 1.0 / (1.0 + math.exp(-(x[i] @ w[:, 0] + b[0]))) - y[i, 0]
            dw += x[i] * dz
            db += dz
        w[:, 0] -= LEARNING_RATE * dw / rows
        b[0] -= LEARNING_RATE * db / rows


def logistic_vectorised(x: Array, y: Array, p: Parameters, steps: int) -> None:
    """No loop: the samples are the rows of a matrix."""
    w, b = p
    for _ in range(steps):
        dz = (1.0 / (1.0 + np.exp(-(x @ w + b))) - y) / len(x)
        w -= LEARNING_RATE * (x.T @ dz)
        b -= LEARNING_RATE * dz.sum(axis=0)


# A network of two layers: h = tanh(x w1 + b1), a = sigmoid(h w2 + b2), the same loss -------------------------


def network_loops(x: Array, y: Array, p: Parameters, steps: int) -> None:
    """Loops over the samples, the hidden units and the features."""
    w1, b1, w2, b2 = p
    rows, features = x.shape
    hidden = len(b1)
    for _ in range(steps):
        dw1, db1 = np.zeros_like(w1), np.zeros_like(b1)
        dw2, db2 = np.zeros_like(w2), np.zeros_like(b2)
        for i in range(rows):
            h = [0.0] * hidden
            z2 = b2[0]
            for k in range(hidden):
                z1 = b1[k]
                for j in range(features):
                    z1 += x[i, j] * w1[j, k]
                h[k] = math.tanh(z1)
                z2 += h[k] * w2[k, 0]
            dz2 = 1.0 / (1.0 + math.exp(-z2)) - y[i, 0]
            for k in range(hidden):
                dz1 = dz2 * w2[k, 0] * (1.0 - h[k] * h[k])
                for j in range(features):
                    dw1[j, k] += x[i, j] * dz1
                db1[k] += dz1
                dw2[k, 0] += h[k] * dz2
            db2[0] += dz2
        for k in range(hidden):
            for j in range(features):
                w1[j, k] -= LEARNING_RATE * dw1[j, k] / rows
            b1[k] -= LEARNING_RATE * db1[k] / rows
            w2[k, 0] -= LEARNING_RATE * dw2[k, 0] / rows
        b2[0] -= LEARNING_RATE * db2[0] / rows


def network_samples(x: Array, y: Array, p: Parameters, steps: int) -> None:
    """Loops over the samples only."""
    w1, b1, w2, b2 = p
    rows = len(x)
    for _ in range(steps):
        dw1, db1 = np.zeros_like(w1), np.zeros_like(b1)
        dw2, db2 = np.zeros_like(w2), np.zeros_like(b2)
        for i in range(rows):
            h = np.tanh(x[i] @ w1 + b1)
            dz2 = 1.0 / (1.0 + np.exp(-(h @ w2 + b2))) - y[i]
            dz1 = (w2 @ dz2) * (1.0 - h * h)
            dw1 += np.outer(x[i], dz1)
            db1 += dz1
            dw2 += np.outer(h, dz2)
            db2 += dz2
        for parameter, gradient in zip(p, (dw1, db1, dw2, db2), strict=True):
            parameter -= LEARNING_RATE * gradient / rows


def network_vectorised(x: Array, y: Array, p: Parameters, steps: int) -> None:
    """No loop over samples, units or features."""
    w1, b1, w2, b2 = p
    for _ in range(steps):
        h = np.tanh(x @ w1 + b1)
        dz2 = (1.0 / (1.0 + np.exp(-(h @ w2 + b2))) - y) / len(x)
        dz1 = (dz2 @ w2.T) * (1.0 - h * h)
        w2 -= LEARNING_RATE * (h.T @ dz2)
        b2 -= LEARNING_RATE * dz2.sum(axis=0)
        w1 -= LEARNING_RATE * (x.T @ dz1)
        b1 -= LEARNING_RATE * dz1.sum(axis=0)


# The rungs ------------------------------------------------------------------------------------------------

Written = Callable[[Array, Array, Parameters, int], None]


@dataclass(frozen=True)
class Problem:
    """A model, the size of its data, and its three rungs that are written out."""

    name: str
    rows: int
    features: int
    hidden: int  # 0: logistic regression
    written: tuple[Written, Written, Written]

    def data(self) -> tuple[Array, Array]:
        """x (rows, features) and y (rows, 1) in {0, 1}: a noisy linear rule, fixed seed."""
        rng = np.random.default_rng(7)
        x = rng.normal(size=(self.rows, self.features))
        y = (x @ rng.normal(size=(self.features, 1)) + rng.normal(size=(self.rows, 1)) > 0).astype(np.float64)
        return x, y

    def model(self) -> Sequential:
        layers: list[nn.Layer] = [nn.Dense(self.hidden, activation="tanh")] if self.hidden else []
        return Sequential([*layers, nn.Dense(1)], dtype=np.float64).build(self.features, seed=1)


PROBLEMS = (
    Problem("logistic regression", 1000, 30, 0, (logistic_loops, logistic_samples, logistic_vectorised)),
    Problem("two-layer network", 256, 20, 32, (network_loops, network_samples, network_vectorised)),
)
WRITTEN = ("explicit loops", "loops over samples", "vectorised (NumPy)")
COMPILED = {"cython": "Cython", "numba": "numba", "native": "native (C++)"}


@dataclass(frozen=True)
class Rung:
    """A way to descend, from parameters of its own."""

    name: str
    parameters: Parameters
    descend: Descend


@dataclass(frozen=True)
class Timing:
    """Microseconds of one step, the median of the rounds, and how many times faster than the first rung."""

    name: str
    microseconds: float
    speedup: float


def _written_rung(problem: Problem, name: str, function: Written) -> Rung:
    x, y = problem.data()
    parameters = [view.copy() for view in problem.model().state.views.values()]
    return Rung(name, parameters, lambda p, steps: function(x, y, p, steps))


def _backend_rung(problem: Problem, name: str, backend: str) -> Rung:
    """The same steps on a backend: `steps` times the whole batch in one call."""
    x, y = problem.data()
    model, chosen = problem.model(), backends.load(backend)
    objective = Objective(LOSSES["binary_cross_entropy"], optim.SGD(LEARNING_RATE))
    rows = np.arange(problem.rows)

    def descend(parameters: Parameters, steps: int) -> None:
        batches = Batches(x, y, None, np.tile(rows, steps), problem.rows)
        chosen.train_steps(model.plan, model.state, objective, batches, np.full(steps, LEARNING_RATE))

    return Rung(name, list(model.state.views.values()), descend)


def rungs(problem: Problem) -> list[Rung]:
    """Every rung that can be climbed here: a backend that is not installed is left out."""
    made = [_written_rung(problem, *pair) for pair in zip(WRITTEN, problem.written, strict=True)]
    present = backends.available()
    return made + [_backend_rung(problem, name, key) for key, name in COMPILED.items() if key in present]


def prove(climbed: list[Rung]) -> float:
    """Take the same steps on every rung; the largest relative difference to the first one's parameters.

    AssertionError naming the rung where that is above TOLERANCE.
    """
    worst = 0.0
    for rung in climbed:
        rung.descend(rung.parameters, CHECK_STEPS)
        for ours, first in zip(rung.parameters, climbed[0].parameters, strict=True):
            difference = float(np.linalg.norm(ours - first) / np.linalg.norm(first))
            worst = max(worst, difference)
            if not difference <= TOLERANCE:
                raise AssertionError(f"{rung.name} differs by {difference:g} from {climbed[0].name}")
    return worst


def climb(problem: Problem) -> list[Timing]:
    """Prove every rung, then time it: the rungs interleaved, the median of ROUNDS rounds."""
    climbed = rungs(problem)
    prove(climbed)
    steps = [_steps_for(rung) for rung in climbed]
    rounds = [[_time(rung, count) for rung, count in zip(climbed, steps, strict=True)] for _ in range(ROUNDS)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return [Timing(rung.name, 1e6 * t, medians[0] / t) for rung, t in zip(climbed, medians, strict=True)]


def _time(rung: Rung, steps: int) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    rung.descend(rung.parameters, steps)
    return (time.perf_counter() - start) / steps


def _steps_for(rung: Rung) -> int:
    """How many steps fill a round; the first ones compile and warm up."""
    _time(rung, 1)
    return max(1, math.ceil(ROUND_SECONDS / max(_time(rung, 2), 1e-7)))


def table(problem: Problem, timings: list[Timing]) -> str:
    """A Markdown table."""
    shape = f"{problem.rows} rows, {problem.features}" + (f"-{problem.hidden}-1" if problem.hidden else "-1")
    lines = [f"| {problem.name} ({shape}) | µs a step | times faster |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {t.name} | {t.microseconds:,.1f} | {t.speedup:,.0f} |" for t in timings])


def draw(results: dict[str, list[Timing]], path: str | Path) -> None:
    """A PNG with one panel a problem, time a step on a logarithmic axis.

    ImportError naming the extra [plot] where matplotlib is missing.
    """
    figure = new_figure((12, 4))
    for axes, (name, timings) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        bars = axes.barh([t.name for t in timings], [t.microseconds for t in timings], color="C0", log=True)
        axes.bar_label(bars, [f"{t.speedup:,.0f}x" for t in timings], padding=4)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_xlabel("µs a step (log scale)")
        axes.set_title(name)
    figure.savefig(path, dpi=110)
