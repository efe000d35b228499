"""What the estimators cost over the engine they train with, and a grid search beside scikit-learn's MLP.

    python -m bench.estimators [--rounds N] [--threads N] [--skip-grid]

Overhead: the same network, rows and batches through the backend's `train_steps` alone, `Trainer.fit` and an
estimator's `fit`, in turns; first it is asserted that the engine and the Trainer arrive at the same losses.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from fastnn import MLPClassifier, MLPRegressor, _random, backends, nn, optim
from fastnn._cpus import usable
from fastnn.bench.machine import print_peaks
from fastnn.bench.report import markdown, number
from fastnn.bench.workloads import LEARNING_RATE, WORKLOADS, Workload
from fastnn.engine import Batches, Objective
from fastnn.nn.model import Sequential
from fastnn.training.trainer import Trainer

EPOCHS = {"mnist_mlp": 10, "tiny": 100}
SEED = 0
GRID = {
    "hidden_layer_sizes": [(32,), (64,)],
    "alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
    "learning_rate_init": [1e-3, 1e-2],
}  # 20 candidates
BATCHES = ("auto", 32)  # scikit-learn's default, which is 200 rows here, and what fastnn's Trainer takes


class Case:
    """One workload, trained three ways."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.x, self.y = workload.data()
        self.backend = backends.resolve()

    def model(self) -> Sequential:
        *hidden, outputs = self.workload.sizes[1:]
        layers = [nn.Dense(units, self.workload.activation) for units in hidden]
        return Sequential([*layers, nn.Dense(outputs)])

    @property
    def loss(self) -> str:
        return "half_mse" if self.workload.loss == "mse" else self.workload.loss

    def engine(self, epochs: int) -> list[float]:
        """The backend alone: an epoch is a shuffle and a call."""
        model, batch, count = self.model().build(self.x.shape[1], seed=SEED), self.workload.batch, len(self.x)
        objective = Objective(nn.LOSSES[self.loss], optim.Adam(LEARNING_RATE, l2=1e-4 / batch), SEED)
        y = self.y if self.y.ndim == 1 else np.ascontiguousarray(self.y)
        order, steps, losses = np.arange(count), -(-count // batch), []
        lr = np.full(steps, LEARNING_RATE)
        for epoch in range(epochs):
            self.backend.kernels.shuffle(_random.epoch_key(SEED, epoch), order)
            batches = Batches(self.x, y, None, order, batch)
            values = self.backend.train_steps(model.plan, model.state, objective, batches, lr)
            losses.append(float(values.mean()))
        return losses

    def trainer(self, epochs: int) -> list[float]:
        optimizer = optim.Adam(LEARNING_RATE, l2=1e-4 / self.workload.batch)
        trainer = Trainer(self.model(), self.loss, optimizer, seed=SEED)
        return trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.workload.batch, verbose=False)["loss"]

    def estimator(self, epochs: int) -> list[float]:
        kind = MLPRegressor if self.workload.loss == "mse" else MLPClassifier
        model = kind(
            hidden_layer_sizes=self.workload.sizes[1:-1],
            activation=self.workload.activation,
            batch_size=self.workload.batch,
            learning_rate_init=LEARNING_RATE,
            max_iter=epochs,
            tol=0.0,
            n_iter_no_change=np.inf,
            random_state=SEED,
            dtype="float32",
        )
        y = self.y if self.y.ndim == 1 or self.y.shape[1] > 1 else self.y[:, 0]
        return model.fit(self.x, y).loss_curve_

    def check(self, epochs: int) -> None:
        """The engine and the Trainer take the same steps; the estimator, which begins elsewhere, learns as much."""
        engine, trainer, estimator = self.engine(epochs), self.trainer(epochs), self.estimator(epochs)
        np.testing.assert_allclose(trainer, engine, rtol=1e-6)
        assert abs(estimator[-1] - engine[-1]) < 0.2 * engine[0], (estimator[-1], engine[-1])


@dataclass
class Cost:
    """Seconds a further epoch, and seconds of a fit beside its epochs."""

    epoch: float
    fit: float


def timed(call: Callable[[int], object], epochs: int) -> Cost:
    def seconds(count: int) -> float:
        start = time.perf_counter()
        call(count)
        return time.perf_counter() - start

    short, long = min(seconds(1) for _ in range(3)), seconds(epochs)
    epoch = (long - short) / (epochs - 1)
    return Cost(epoch, short - epoch)


def overhead(rounds: int) -> str:
    """A row a workload and way: medians over the rounds, differences and ratios to the engine round by round."""
    lines = []
    for name, epochs in EPOCHS.items():
        case = Case(WORKLOADS[name])
        case.check(3)
        ways = {"engine": case.engine, "Trainer": case.trainer, "estimator": case.estimator}
        found: dict[str, list[Cost]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, call in ways.items():
                found[way].append(timed(call, epochs))
        for way, costs in found.items():
            pairs = list(zip(found["engine"], costs, strict=True))
            epoch = statistics.median(cost.epoch for cost in costs)
            more = statistics.median(cost.epoch - base.epoch for base, cost in pairs)
            ratio = statistics.median(cost.epoch / base.epoch for base, cost in pairs)
            fit = statistics.median(cost.fit - base.fit for base, cost in pairs)
            lines.append([name, way, number(epoch * 1e6), f"{more * 1e6:.0f}", f"{ratio:.3f}", f"{fit * 1e3:.2f}"])
    header = ["workload", "", "us an epoch", "more", "ratio", "ms more a fit"]
    return markdown(header, lines, words=2)


def search(kind: type, **params: int | str) -> GridSearchCV:
    return GridSearchCV(kind(random_state=0, **params), GRID, cv=3, n_jobs=2)


def grid(rounds: int, batch: int | str) -> list[list[str]]:
    """Seconds of a grid search on digits in turns, all else by default; the workers are there before."""
    x, y = load_digits(return_X_y=True)
    kinds = {"fastnn": MLPClassifier, "scikit-learn": neural_network.MLPClassifier}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    scores = {}
    for kind in kinds.values():
        search(kind, max_iter=1).fit(x[:200] / 16, y[:200])
    for _ in range(rounds):
        for name, kind in kinds.items():
            start = time.perf_counter()
            scores[name] = search(kind, batch_size=batch).fit(x / 16, y).best_score_
            seconds[name].append(time.perf_counter() - start)
    assert scores["fastnn"] > scores["scikit-learn"] - 0.01, scores
    lines = []
    for name, spent in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(seconds["fastnn"], spent, strict=True))
        row = [number(statistics.median(spent)), number(ratio), f"{scores[name]:.4f}"]
        lines.append([f"batch_size={batch!r}", name, *row])
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description="What the estimators cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of the overhead's part; as many as there are")
    parser.add_argument("--skip-grid", action="store_true")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*hasn't converged yet.*")
    print_peaks()
    with backends.resolve().limit_threads(options.threads or usable()):
        print(overhead(options.rounds))
    if not options.skip_grid:
        print()
        lines = [line for batch in BATCHES for line in grid(min(options.rounds, 3), batch)]
        print(markdown(["20 candidates, n_jobs=2", "", "seconds", "ratio", "best score"], lines, words=2))


if __name__ == "__main__":
    main()
