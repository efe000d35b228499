"""What a call of one step costs beside 10^4, 10^6 and 10^7 rows: nothing may grow with rows that it does not visit.

python -m bench.calls

Times them in turn, and checks that the steps were the same: the median of many calls on 32 rows at the start of the
data, so that what differs is the number of rows, not how far apart they lie.
"""

from __future__ import annotations

import time

import numpy as np

from fastnn import Sequential, backends, nn, optim
from fastnn.engine import Batches, Objective

ROWS = (10_000, 1_000_000, 10_000_000)
BATCH, INPUTS, CLASSES, CALLS = 32, 10, 2, 400


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS[-1], INPUTS), dtype=np.float32)
    y = rng.integers(0, CLASSES, ROWS[-1])
    order, lr = np.arange(BATCH), np.full(1, 1e-3)
    objective, backend = Objective(nn.LOSSES["cross_entropy"], optim.Adam(1e-3)), backends.resolve()
    models = [Sequential([nn.Dense(32, "relu"), nn.Dense(CLASSES)]).build(INPUTS, seed=0) for _ in ROWS]
    seconds: list[list[float]] = [[] for _ in ROWS]
    losses = [0.0 for _ in ROWS]
    for _ in range(CALLS):
        for index, (model, rows) in enumerate(zip(models, ROWS, strict=True)):
            batches = Batches(x[:rows], y[:rows], None, order, BATCH)
            start = time.perf_counter()
            (losses[index],) = backend.train_steps(model.plan, model.state, objective, batches, lr)
            seconds[index].append(time.perf_counter() - start)
    assert len(set(losses)) == 1, losses
    least = float(np.median(seconds[0]))
    for rows, times in zip(ROWS, seconds, strict=True):
        print(f"{rows:>10,} rows: {np.median(times) * 1e6:6.1f} us a call, {np.median(times) / least:.2f} of the first")


if __name__ == "__main__":
    main()
