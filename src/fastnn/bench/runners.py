"""Who trains a workload: fastnn on each backend through `Trainer.fit`, and NumPy written by hand.

A runner starts from the workload's initial parameters. What it is told to do, it does the same way as every
other: Adam, batches of the workload's size, a fresh shuffle each epoch, the loss of each step computed.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastnn import nn, optim
from fastnn._cpus import usable
from fastnn._version import __version__
from fastnn.bench.worker import Worker
from fastnn.bench.workloads import BETA1, BETA2, EPSILON, LEARNING_RATE, Workload, from_dict
from fastnn.nn.model import Sequential
from fastnn.training.trainer import Trainer

Array = np.ndarray
WARM_SECONDS = 0.02  # caches, clock, and threads that were asleep


class Runner(ABC):
    """A way to train one workload. `reset` comes first, then `step` or `train`, as often as wanted."""

    def __init__(self, workload: Workload, threads: int | None) -> None:
        """threads: how many to use; None: whatever the runner takes by itself."""
        self.workload, self.threads = workload, threads
        self.x, self.y = workload.data()

    @property
    @abstractmethod
    def version(self) -> str:
        """The name and version of what computes."""

    @abstractmethod
    def reset(self) -> None:
        """Back to the workload's initial parameters, Adam's moments zero."""

    @abstractmethod
    def step(self, rows: slice) -> float:
        """One training step on these rows, in order. Returns the batch's loss before it."""

    @abstractmethod
    def train(self, epochs: int) -> None:
        """That many epochs over all rows, each freshly shuffled, complete when this returns."""

    def losses(self, steps: int) -> list[float]:
        """The losses of the first steps from the initial parameters, on consecutive batches without a shuffle."""
        self.reset()
        batch, rows = self.workload.batch, self.workload.rows
        starts = [index * batch % rows for index in range(steps)]
        return [self.step(slice(start, start + batch)) for start in starts]


class Fastnn(Runner):
    """`Trainer.fit` on a backend."""

    def __init__(self, workload: Workload, threads: int | None, backend: str) -> None:
        super().__init__(workload, threads)
        self.backend = backend

    @property
    def version(self) -> str:
        return f"fastnn {__version__}"

    def reset(self) -> None:
        sizes, activation = self.workload.sizes, self.workload.activation
        hidden = [nn.Dense(units, activation=activation) for units in sizes[1:-1]]
        model = Sequential([*hidden, nn.Dense(sizes[-1])]).build(sizes[0], seed=0)
        for layer, (w, b) in zip(model.layers, self.workload.parameters(), strict=True):
            layer.weight[...], layer.bias[...] = w, b
        adam = optim.Adam(LEARNING_RATE, beta1=BETA1, beta2=BETA2, epsilon=EPSILON)
        self.trainer = Trainer(model, self.workload.loss, adam, seed=0, backend=self.backend)

    def step(self, rows: slice) -> float:
        history = self.trainer.fit(self.x[rows], self.y[rows], epochs=1, batch_size="full", verbose=False)
        return history["loss"][-1]

    def train(self, epochs: int) -> None:
        self.trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.workload.batch, verbose=False)


class NumPy(Runner):
    """The vectorised loop that one writes by hand: arrays made anew in forward and backward, Adam in place on
    one flat buffer, a dozen calls a step instead of a dozen a tensor."""

    dtype: type[np.floating[Any]] = np.float32

    def __init__(self, workload: Workload, threads: int | None) -> None:
        super().__init__(workload, threads)
        self.x = self.x.astype(self.dtype, copy=False)

    @property
    def version(self) -> str:
        return f"numpy {np.__version__}"

    def reset(self) -> None:
        initial = self.workload.parameters()
        self.flat = np.concatenate([part.ravel() for layer in initial for part in layer]).astype(self.dtype)
        self.gradient, self.m, self.v = (np.zeros_like(self.flat) for _ in range(3))
        self.work, self.t = np.empty_like(self.flat), 0
        self.layers, self.gradients = self._views(self.flat), self._views(self.gradient)

    def _views(self, flat: Array) -> list[tuple[Array, Array]]:
        """(w, b) of each layer in a flat buffer."""
        views, at = [], 0
        for inputs, outputs in self.workload.layers:
            end = at + inputs * outputs
            views.append((flat[at:end].reshape(inputs, outputs), flat[end : end + outputs]))
            at = end + outputs
        return views

    def step(self, rows: slice) -> float:
        return self._step(self.x[rows], self.y[rows])

    def train(self, epochs: int) -> None:
        batch, rng = self.workload.batch, np.random.default_rng(0)
        for _ in range(epochs):
            order = rng.permutation(len(self.x))
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                self._step(self.x[rows], self.y[rows])

    def _step(self, x: Array, y: Array) -> float:
        inputs, last = [x], len(self.layers) - 1
        for index, (w, b) in enumerate(self.layers):
            z = inputs[-1] @ w
            z += b
            inputs.append(z if index == last else self._activation(z))
        loss, dz = self._loss(inputs[-1], y)
        for index in range(last, -1, -1):
            w, (dw, db) = self.layers[index][0], self.gradients[index]
            a = inputs[index]
            np.matmul(a.T, dz, out=dw)
            np.sum(dz, axis=0, out=db)
            if index:
                dz = dz @ w.T
                dz *= a > 0 if self.workload.activation == "relu" else 1.0 - a * a
        self._adam()
        return loss

    def _activation(self, z: Array) -> Array:
        (np.maximum(z, 0, out=z) if self.workload.activation == "relu" else np.tanh(z, out=z))
        return z

    def _loss(self, z: Array, y: Array) -> tuple[float, Array]:
        """The batch's mean loss and its gradient."""
        if self.workload.loss == "mse":
            difference = z - y
            return float(np.mean(difference * difference)), difference * (2.0 / z.size)
        rows = np.arange(len(z))
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - z[rows, y]))
        p /= total
        p[rows, y] -= 1.0
        p *= 1.0 / len(z)
        return loss, p

    def _adam(self) -> None:
        self.t += 1
        g, m, v, work = self.gradient, self.m, self.v, self.work
        m *= BETA1
        m += np.multiply(g, 1.0 - BETA1, out=work)
        v *= BETA2
        np.multiply(g, g, out=work)
        work *= 1.0 - BETA2
        v += work
        np.sqrt(v, out=work)
        work *= (1.0 - BETA2**self.t) ** -0.5
        work += EPSILON
        np.divide(m, work, out=work)
        work *= LEARNING_RATE / (1.0 - BETA1**self.t)
        self.flat -= work


class Exact(NumPy):
    """The same in float64: what the losses of all are compared with. Not timed."""

    dtype = np.float64


@dataclass(frozen=True)
class Spec:
    """A runner to start: its name in the tables, its class, what it needs, where it makes sense."""

    name: str
    target: str  # "module:class"
    package: str = "numpy"  # importable where the runner can run
    backend: str | None = None  # of fastnn
    each: bool = True  # a worker for one thread and one for all; False: one, which takes what it does by itself
    workloads: tuple[str, ...] | None = None  # None: all
    max_rows: int | None = None  # an epoch's rows, for what is too slow for more
    close: tuple[str, ...] = ()  # workloads where it cannot take the very same steps, only ones that come close

    @property
    def present(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def thread_counts(self) -> list[int | None]:
        if not self.each:
            return [None]
        return [1] if usable() == 1 else [1, usable()]

    def make(self, workload: Workload, threads: int | None) -> Runner:
        module, _, name = self.target.partition(":")
        kind = getattr(importlib.import_module(module), name)
        made: Runner = kind(workload, threads) if self.backend is None else kind(workload, threads, self.backend)
        return made


class Session:
    """A runner in its worker: made by `start`, then told to check, to prepare, and to run rounds."""

    def __init__(self, spec: dict[str, Any], workload: dict[str, Any], threads: int | None) -> None:
        self.runner = Spec(**spec).make(from_dict(workload), threads)
        self.epoch_seconds = 0.0

    def version(self) -> str:
        return self.runner.version

    def losses(self, steps: int) -> list[float]:
        return [float(loss) for loss in self.runner.losses(steps)]

    def trained(self, epochs: int) -> float:
        """The first batch's loss after epochs over it alone. A shuffle changes nothing there but the order in
        which rows are added up, so this shows of `train` what `losses` shows of `step`."""
        runner, first = self.runner, slice(0, self.runner.workload.batch)
        x, y = runner.x, runner.y
        runner.x, runner.y = x[first], y[first]
        try:
            runner.reset()
            runner.train(epochs)
            return float(runner.step(first))
        finally:
            runner.x, runner.y = x, y

    def prepare(self) -> float:
        """Two epochs, of which the first compiles. Returns the seconds of the second."""
        self.runner.reset()
        self.runner.train(1)
        self.epoch_seconds = _seconds(self.runner, 1)
        return self.epoch_seconds

    def round(self, seconds: float) -> tuple[float, int]:
        """(seconds, steps) of as many epochs as come closest to `seconds`, at least one, from the initial
        parameters: rounds are alike, and none trains on to where gradients become denormal numbers."""
        epochs = max(1, round(seconds / max(self.epoch_seconds, 1e-9)))
        self.runner.reset()
        self._warm_up()
        return _seconds(self.runner, epochs), epochs * self.runner.workload.steps

    def _warm_up(self) -> None:
        first = slice(0, self.runner.workload.batch)
        until = time.perf_counter() + WARM_SECONDS
        self.runner.step(first)
        while time.perf_counter() < until:
            self.runner.step(first)


def _seconds(runner: Runner, epochs: int) -> float:
    start = time.perf_counter()
    runner.train(epochs)
    return time.perf_counter() - start


def start(worker: Worker, spec: Spec, workload: Workload) -> None:
    """Make the session of a runner in the worker."""
    worker.make(f"{__name__}:Session", spec=asdict(spec), workload=asdict(workload), threads=worker.threads)


def _fastnn(backend: str, workloads: tuple[str, ...] | None = None, max_rows: int | None = None) -> Spec:
    package = {"native": "fastnn._native", "cython": "fastnn.backends._loops_cython"}.get(backend, backend)
    if backend == "python":
        package = "numpy"
    return Spec(backend, f"{__name__}:Fastnn", package, backend, False, workloads, max_rows)


OURS = (
    _fastnn("native"),
    _fastnn("numba"),
    _fastnn("numpy"),
    _fastnn("cython"),
    _fastnn("python", ("logreg", "tiny"), 256),  # 3 and 12 ms a step
    Spec("by-hand", f"{__name__}:NumPy"),
)
EXACT = Spec("exact", f"{__name__}:Exact", each=False)
FASTNN = tuple(spec.name for spec in OURS if spec.backend is not None)
