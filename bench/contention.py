"""What a fit takes in a fresh process: on a quiet machine, after NumPy's products, beside a busy process.

    python bench/contention.py [--rounds N]

27-256-256-1 in batches of 64, 0.25 ms a step, for 2,000 steps, on one thread and on as many as fastnn chooses; the
cases run in turns, each in a process of its own. A ratio is the median over the rounds of one thread's time to the
default's in the same case: 2 at most on two cores, and below 1 where threads wait for cores that others hold. All
fits must end in the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

LAYERS, INPUTS, BATCH, STEPS = (256, 256, 1), 27, 64, 2000
FITS = 10
THREADS = {"one thread": 1, "default": None}
CASES = {
    "quiet": "nothing else runs",
    "numpy": "a product of 1000x1000 matrices before the fit: BLAS threads spin for a while after one",
    "numpy, often": f"such a product before each of {FITS} fits, of {STEPS // FITS} steps each",
    "busy": "beside a process that keeps one core",
}


def measure(case: str, threads: int | None) -> dict[str, Any]:
    """In this process: seconds of training, and a digest of what was learned."""
    import numpy as np

    from fastnn import Sequential, Trainer, nn

    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((1000, 1000))
    fits = FITS if case == "numpy, often" else 1
    x = rng.standard_normal((BATCH * STEPS // FITS, INPUTS)).astype(np.float32)
    y = x[:, :1] * x[:, 1:2]
    hidden = [nn.Dense(width, "relu") for width in LAYERS[:-1]]
    model = Sequential([*hidden, nn.Dense(LAYERS[-1])])
    trainer = Trainer(model, "mse", backend="native", seed=1, threads=threads)
    seconds = 0.0
    for _ in range(fits):
        if case.startswith("numpy"):
            matrix = matrix @ matrix
            matrix /= abs(matrix).max()
        start = time.perf_counter()
        trainer.fit(x, y, epochs=FITS // fits, batch_size=BATCH, shuffle=False, verbose=False)
        seconds += time.perf_counter() - start
    digest = hashlib.sha256(model.state.parameters.tobytes()).hexdigest()
    return {"seconds": seconds, "digest": digest}


def in_a_process(case: str, threads: int | None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", case, "--threads", str(threads or 0)]
    busy = [sys.executable, "-c", "while True: pass"]
    other = subprocess.Popen(busy) if case == "busy" else None
    try:
        result: dict[str, Any] = json.loads(subprocess.check_output(command))
        return result
    finally:
        if other is not None:
            other.kill()
            other.wait()


def compare(rounds: int) -> None:
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for case in CASES:
            for name, threads in THREADS.items():
                results.setdefault((case, name), []).append(in_a_process(case, threads))
    assert len({result["digest"] for several in results.values() for result in several}) == 1
    print(f"{len(os.sched_getaffinity(0))} CPUs; µs a step, median of {rounds} rounds (least, most)\n")
    print(f"| case | {' | '.join(THREADS)} | ratio |\n| --- | ---: | ---: | ---: |")
    for case in CASES:
        row = []
        for name in THREADS:
            steps = sorted(1e6 * result["seconds"] / STEPS for result in results[case, name])
            row.append(f"{statistics.median(steps):.0f} ({steps[0]:.0f}, {steps[-1]:.0f})")
        pairs = zip(results[case, "one thread"], results[case, "default"], strict=True)
        ratios = sorted(one["seconds"] / default["seconds"] for one, default in pairs)
        row.append(f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})")
        print(f"| {case} | {' | '.join(row)} |")
    print("\n" + "\n".join(f"{case}: {what}" for case, what in CASES.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description="What a fit takes in a fresh process, and beside others.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)  # in this process
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.threads or None)))
    else:
        compare(options.rounds)


if __name__ == "__main__":
    main()
