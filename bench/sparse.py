"""Sparse rows (CSR), beside the same rows dense and beside scikit-learn's MLP, which multiplies sparse ones too.

    python -m bench.sparse [--rounds N]

The same network, rows and batches, in turns: two epochs of a fit, and the probabilities of all rows.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from sklearn import neural_network

from fastnn import MLPClassifier
from fastnn.bench.machine import print_peaks
from fastnn.bench.report import markdown, number

ROWS, UNITS, BATCH = 4096, 64, 200
SIZES = ((50_000, 50), (5_000, 100), (1_000, 50), (1_000, 90))  # features, and entries of a row


def data(features: int, entries: int) -> tuple[Any, np.ndarray]:
    """Words of texts, say: classes that a tenth of the features tell apart."""
    rng = np.random.default_rng(0)
    columns = np.sort(np.stack([rng.choice(features, entries, replace=False) for _ in range(ROWS)]), axis=1)
    starts = np.arange(0, ROWS * entries + 1, entries)
    x = scipy.sparse.csr_matrix((np.ones(ROWS * entries, np.float32), columns.ravel(), starts), (ROWS, features))
    return x, (np.count_nonzero(columns < features // 10, axis=1) > entries // 10).astype(int)


def estimator(kind: type) -> Any:
    return kind((UNITS,), batch_size=BATCH, max_iter=2, random_state=0)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(features: int, entries: int, rounds: int) -> list[list[str]]:
    x, y = data(features, entries)
    ways = {"fastnn": (MLPClassifier, x), "scikit-learn": (neural_network.MLPClassifier, x)}
    if features <= 5_000:
        ways["fastnn, dense rows"] = (MLPClassifier, x.toarray())
    made = {name: estimator(kind).fit(rows, y) for name, (kind, rows) in ways.items()}
    losses = [model.loss_ for model in made.values()]
    assert max(losses) < 1.1 * min(losses), losses
    fits: dict[str, list[float]] = {name: [] for name in ways}
    predictions: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (kind, rows) in ways.items():
            fits[name].append(seconds(lambda kind=kind, rows=rows: estimator(kind).fit(rows, y)))
            predictions[name].append(seconds(lambda name=name, rows=rows: made[name].predict_proba(rows)))

    def row(name: str, found: dict[str, list[float]]) -> list[str]:
        ratio = statistics.median(b / a for a, b in zip(found["fastnn"], found[name], strict=True))
        return [number(statistics.median(found[name]) * 1e3), number(ratio)]

    return [[f"{entries} of {features:,}", name, *row(name, fits), *row(name, predictions)] for name in ways]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sparse", description="Sparse rows, dense ones.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*Stochastic Optimizer.*")
    print_peaks()
    lines = [line for size in SIZES for line in compare(*size, options.rounds)]
    print(markdown(["entries a row", "", "fit, ms", "ratio", "predict_proba, ms", "ratio"], lines, words=2))


if __name__ == "__main__":
    main()
