"""How many times faster the native kernels are than the numpy backend's, at each size: a Markdown table.

    python bench/ratios.py

Every case is checked first, then both backends run in turns, round by round, and the ratio is the median over
the rounds of numpy's time to ours: the machine's speed drifts, and drifts for both. Beside it stands the share
of the FMA peak that the same run measured. One thread each: in one process the idle threads of one library, which spin,
take a core from the other's. A "layer step" is what a Dense layer costs in training: forward
with its activation, both halves of backward, and Adam.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable

os.environ.pop("OPENBLAS_CORETYPE", None)  # numpy at its best

import numpy as np
from threadpoolctl import threadpool_limits

from fastnn.backends import native, reference
from fastnn.contract import Adjustment, Kernels
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES

SHAPES = [
    (1, 64, 128),
    (1, 784, 128),
    (8, 64, 64),
    (32, 10, 32),
    (32, 30, 2),
    (32, 64, 10),
    (32, 64, 128),
    (64, 64, 64),
    (64, 64, 128),
    (128, 784, 128),
    (128, 784, 256),
    (256, 27, 256),
    (256, 256, 1),
    (256, 256, 256),
    (256, 1024, 1024),
    (1024, 2048, 2048),
]
ROUNDS = 15
ROUND_SECONDS = 0.01
ADAM = (RULES["adam"], (1e-3, 0.9, 0.1, 0.999, 0.001, 1.0, 1e-8), Adjustment())


class Layer:
    """The arrays of one Dense layer in training."""

    def __init__(self, B: int, I: int, O: int) -> None:
        rng = np.random.default_rng(0)

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(np.float32)

        self.x, self.w, self.b, self.dz = draw(B, I), draw(I, O), draw(O), draw(B, O)
        self.saved = draw(B, I)
        self.a, self.dx, self.dw, self.db = np.empty((B, O), "f"), np.empty((B, I), "f"), draw(I, O), draw(O)
        self.labels, self.weight = rng.integers(0, O, B), np.full(B, 1 / B, np.float32)
        self.value, self.gradient = np.empty(B, "f"), np.empty((B, O), "f")
        self.slots = np.zeros(I * O, "f"), np.zeros(I * O, "f")


Call = Callable[[Kernels, Layer], None]


def forward(activation: str) -> Call:
    f = ACTIVATIONS[activation]
    return lambda k, d: k.ops["dense"].forward(d.x, d.w, d.b, f, d.a, d.a)


def backward(k: Kernels, d: Layer) -> None:
    k.ops["dense"].backward(d.x, d.w, ACTIVATIONS["relu"], d.saved, d.dz, d.dx, d.dw, d.db)


def backward_weights(k: Kernels, d: Layer) -> None:
    k.ops["dense"].backward(d.x, d.w, ACTIVATIONS["relu"], d.saved, d.dz, None, d.dw, d.db)


def update(k: Kernels, d: Layer) -> None:
    k.update(*ADAM, d.w.reshape(-1), d.dw.reshape(-1), d.slots)


def cross_entropy(k: Kernels, d: Layer) -> None:
    k.loss(LOSSES["cross_entropy"], d.dz, d.labels, d.weight, d.value, d.gradient)


def step(activation: str) -> Call:
    parts = (forward(activation), backward, update)
    return lambda k, d: [part(k, d) for part in parts] and None


# name -> (call, products of 2 B I O operations in it, names of the outputs that are compared)
CASES: dict[str, tuple[Call, int, tuple[str, ...]]] = {
    "forward relu": (forward("relu"), 1, ("a",)),
    "forward tanh": (forward("tanh"), 1, ("a",)),
    "backward": (backward, 2, ("dx", "dw", "db")),
    "backward, weights": (backward_weights, 1, ("dw", "db")),
    "adam": (update, 0, ("w",)),
    "cross-entropy": (cross_entropy, 0, ("value", "gradient")),
    "layer step, relu": (step("relu"), 3, ("a", "dx", "dw", "w")),
    "layer step, tanh": (step("tanh"), 3, ("a", "dx", "dw", "w")),
}


def check(call: Call, outputs: tuple[str, ...], shape: tuple[int, int, int]) -> None:
    """Both backends compute the same, to the rounding of sums of max(shape) + 16 terms."""
    ours, theirs = Layer(*shape), Layer(*shape)
    call(native.kernels(), ours)
    call(reference.KERNELS, theirs)
    eps = 2 * (max(shape) + 16) * np.finfo(np.float32).eps
    for name in outputs:
        want = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), want, rtol=0, atol=eps * max(np.abs(want).max(), 1.0))


def seconds(call: Call, kernels: Kernels, data: Layer, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call(kernels, data)
    return (time.perf_counter() - start) / repeat


def compare(call: Call, shape: tuple[int, int, int]) -> tuple[float, float]:
    """(median of numpy's time / ours, median of our seconds)."""
    tables, data = (native.kernels(), reference.KERNELS), Layer(*shape)
    repeats = []
    for kernels in tables:
        seconds(call, kernels, data, 2)
        repeats.append(max(1, math.ceil(ROUND_SECONDS / seconds(call, kernels, data, 2))))
    rounds = [
        [seconds(call, kernels, data, repeat) for kernels, repeat in zip(tables, repeats, strict=True)]
        for _ in range(ROUNDS)
    ]
    return statistics.median(theirs / ours for ours, theirs in rounds), statistics.median(r[0] for r in rounds)


def main() -> None:
    native.set_threads(1)
    peak = native.fma_peak()
    print(f"{native.default_instruction_set()}, one thread, FMA peak of one core {peak:.0f} GFLOP/s\n")
    print("| B x I x O | " + " | ".join(CASES) + " | forward, % of peak |")
    print("| --- |" + " ---: |" * (len(CASES) + 1))
    with threadpool_limits(1):
        for shape in SHAPES:
            row, share = [], 0.0
            for name, (call, products, outputs) in CASES.items():
                check(call, outputs, shape)
                ratio, ours = compare(call, shape)
                row.append(f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}")
                if name == "forward relu":
                    share = 100 * 2 * math.prod(shape) * products / ours / 1e9 / peak
            print(f"| {'x'.join(map(str, shape))} | " + " | ".join(row) + f" | {share:.0f} |", flush=True)


if __name__ == "__main__":
    main()
