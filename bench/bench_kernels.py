"""The kernels of each backend, one at a time: check the answer, then time it.

    pytest bench/bench_kernels.py --benchmark-group-by=param:case,param:shape

Compare within one run only. The native engine's whole steps are another file's business.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import backends
from fastnn.backends import reference
from fastnn.contract import Adjustment, Kernels
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES


def tables() -> dict[str, Kernels]:
    """The kernels of every backend that is here; of native, for each instruction set."""
    found = {name: backends.load(name).kernels for name in backends.available() if name != "native"}
    if "native" in backends.available():
        from fastnn.backends import native

        found |= {f"native-{isa}": native.kernels(isa) for isa in native.instruction_sets()}
    return found


BACKENDS = tables()
SHAPES = [(1, 64, 128), (32, 10, 32), (32, 64, 10), (64, 64, 128), (128, 784, 128), (256, 1024, 1024)]
eps = np.finfo(np.float32).eps


class Data:
    """Inputs and outputs of one shape; `bounds` follow from the number of terms in a sum."""

    def __init__(self, B: int, I: int, O: int) -> None:
        rng = np.random.default_rng(0)
        f = np.float32
        self.x, self.w = rng.standard_normal((B, I)).astype(f), rng.standard_normal((I, O)).astype(f)
        self.b, self.dz = rng.standard_normal(O).astype(f), rng.standard_normal((B, O)).astype(f)
        self.saved = rng.uniform(-1, 1, (B, I)).astype(f)
        self.y, self.weight = rng.integers(0, O, B), np.full(B, 1.0 / B, f)
        self.out = {
            name: np.full(shape, np.nan, f)
            for name, shape in {
                "a": (B, O),
                "dx": (B, I),
                "dw": (I, O),
                "db": (O,),
                "value": (B,),
                "gradient": (B, O),
            }.items()
        }
        self.flat = self.w.ravel().copy()
        self.slots = (np.zeros(I * O, f), np.zeros(I * O, f))


relu, tanh = ACTIVATIONS["relu"], ACTIVATIONS["tanh"]
adam = (RULES["adam"], (1e-3, 0.9, 0.1, 0.999, 0.001, 1.0, 1e-8), Adjustment())


def backward(k: Kernels, d: Data, dx: np.ndarray | None) -> None:
    k.ops["dense"].backward(d.x, d.w, tanh, d.saved, d.dz, dx, d.out["dw"], d.out["db"])


# name -> (call(kernels, data), the output to check, tolerance(B, I, O) relative to the largest answer)
CASES = {
    "dense forward relu": (
        lambda k, d: k.ops["dense"].forward(d.x, d.w, d.b, relu, d.out["a"], d.out["a"]),
        "a",
        lambda B, I, O: I,
    ),
    "dense forward tanh": (
        lambda k, d: k.ops["dense"].forward(d.x, d.w, d.b, tanh, d.out["a"], d.out["a"]),
        "a",
        lambda B, I, O: 4 * I,
    ),
    "dense backward": (
        lambda k, d: backward(k, d, d.out["dx"]),
        "dx",
        lambda B, I, O: O,
    ),
    "dense backward, weights only": (
        lambda k, d: backward(k, d, None),
        "dw",
        lambda B, I, O: B,
    ),
    "cross_entropy": (
        lambda k, d: k.loss(LOSSES["cross_entropy"], d.dz, d.y, d.weight, d.out["value"], d.out["gradient"]),
        "gradient",
        lambda B, I, O: O,
    ),
    "adam": (lambda k, d: k.update(*adam, d.flat, d.w.ravel(), d.slots), None, None),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_kernel(benchmark, backend, case, shape):
    if backend == "python" and np.prod(shape) > 1e5:
        pytest.skip("seconds a call")
    call, output, terms = CASES[case]
    ours, theirs = Data(*shape), Data(*shape)
    kernels = BACKENDS[backend]
    call(kernels, ours)
    call(reference.KERNELS, theirs)
    got, want = (ours.flat, theirs.flat) if output is None else (ours.out[output], theirs.out[output])
    count = 16 if terms is None else terms(*shape) + 16
    np.testing.assert_allclose(got, want, rtol=0, atol=2 * count * eps * np.abs(want).max())
    benchmark(call, kernels, ours)
