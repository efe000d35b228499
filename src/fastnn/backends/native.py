"""The `native` backend: the contract's kernels from the C++ extension `_native`. An adapter, no arithmetic.

With native_engine.py the only importer of `_native`; ImportError where the extension was not built. Activations,
losses and rules travel as their position in the extension's lists. Only what would touch memory outside an array is
checked.

>>> table = kernels()  # the best instruction set here, or FASTNN_ISA
>>> instruction_sets()[0] in ("x86-64-v2", "neon")
True
"""

from __future__ import annotations

import functools
import time

from fastnn import _native
from fastnn._native import default_instruction_set, instruction_sets, set_least_work, set_threads, threads
from fastnn._random import Key, drop_threshold
from fastnn.backends import reference
from fastnn.backends.contract import Adjustment, Array, Kernels
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.formulas.rules import Rule

__all__ = [
    "default_instruction_set",
    "fma_peak",
    "instruction_sets",
    "kernels",
    "set_least_work",
    "set_threads",
    "threads",
]

ACTIVATION_CODES = {name: code for code, name in enumerate(_native.ACTIVATIONS)}
LOSS_CODES = {name: code for code, name in enumerate(_native.LOSSES)}
RULE_CODES = {name: code for code, name in enumerate(_native.RULES)}


def kernels(isa: str | None = None) -> Kernels:
    """The kernel table of an instruction set; None: FASTNN_ISA, else the best one this CPU runs.

    RuntimeError where FASTNN_ISA or `isa` names one that this CPU or this build lacks.
    """
    if isa is None:
        isa = default_instruction_set()
    available = instruction_sets()
    if isa not in available:
        raise RuntimeError(
            f"instruction set is {isa!r}, but this CPU and this build of fastnn have: {', '.join(available)}"
        )
    return _kernels(available.index(isa))


def fma_peak(isa: str | None = None) -> float:
    """What one core does at most, in GFLOP/s of float32: multiply-adds on registers, the best of 20 tries of 1 ms."""
    t = instruction_sets().index(isa or default_instruction_set())
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        operations = _native.multiply_adds(t, 100_000)
        best = max(best, operations / (time.perf_counter() - start))
    return best / 1e9


@functools.cache
def _kernels(t: int) -> Kernels:

    def shuffle(key: Key, order: Array) -> None:
        _native.shuffle(t, key, order)

    def gather(x: Array, rows: Array, out: Array) -> None:
        if not _native.gather(t, x, rows, out):  # a dtype or a layout the extension does not read
            reference.gather(x, rows, out)

    def gather_normalized(x: Array, rows: Array, shift: Array, scale: Array, out: Array) -> None:
        if not _native.gather_normalized(t, x, rows, shift, scale, out):
            reference.gather_normalized(x, rows, shift, scale, out)

    def moments(x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array) -> None:
        if not _native.moments(t, x, rows, step, pivot, unit, out):
            reference.moments(x, rows, step, pivot, unit, out)

    def dense_forward(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
        _native.dense_forward(t, x, w, b, ACTIVATION_CODES[activation.name], activation.alpha, z, a)

    def dense_backward_input(dz: Array, w: Array, activation: Activation, saved: Array, dx: Array) -> None:
        _native.dense_backward_input(t, dz, w, ACTIVATION_CODES[activation.name], activation.alpha, saved, dx)

    def dense_backward_weights(x: Array, dz: Array, dw: Array, db: Array) -> None:
        _native.dense_backward_weights(t, x, dz, dw, db)

    def activation_forward(activation: Activation, z: Array, a: Array) -> None:
        _native.activation_forward(t, ACTIVATION_CODES[activation.name], activation.alpha, z, a)

    def activation_backward(activation: Activation, saved: Array, da: Array, dz: Array) -> None:
        _native.activation_backward(t, ACTIVATION_CODES[activation.name], activation.alpha, saved, da, dz)

    def softmax_forward(z: Array, a: Array) -> None:
        _native.softmax_forward(t, z, a)

    def softmax_backward(a: Array, da: Array, dz: Array) -> None:
        _native.softmax_backward(t, a, da, dz)

    def maxout_forward(z: Array, a: Array, winner: Array) -> None:
        _native.maxout_forward(t, z, a, winner)

    def maxout_backward(winner: Array, da: Array, dz: Array) -> None:
        _native.maxout_backward(t, winner, da, dz)

    def prelu_forward(z: Array, slope: Array, a: Array) -> None:
        _native.prelu_forward(t, z, slope, a)

    def prelu_backward(z: Array, slope: Array, da: Array, dz: Array, dslope: Array) -> None:
        _native.prelu_backward(t, z, slope, da, dz, dslope)

    def rrelu_forward(z: Array, lower: float, upper: float, key: Key, a: Array) -> None:
        _native.rrelu_forward(t, z, lower, upper, key, a)

    def rrelu_backward(z: Array, lower: float, upper: float, key: Key, da: Array, dz: Array) -> None:
        _native.rrelu_backward(t, z, lower, upper, key, da, dz)

    def dropout(x: Array, rate: float, key: Key, out: Array) -> None:
        _native.dropout(t, x, drop_threshold(rate), 1.0 / (1.0 - rate), key, out)

    def batch_norm_forward(
        x: Array,
        gamma: Array,
        beta: Array,
        momentum: float,
        epsilon: float,
        running_mean: Array,
        running_var: Array,
        mean: Array,
        inv_std: Array,
        a: Array,
    ) -> None:
        _native.batch_norm_forward(t, x, gamma, beta, momentum, epsilon, running_mean, running_var, mean, inv_std, a)

    def batch_norm_predict(
        x: Array, gamma: Array, beta: Array, epsilon: float, running_mean: Array, running_var: Array, a: Array
    ) -> None:
        _native.batch_norm_predict(t, x, gamma, beta, epsilon, running_mean, running_var, a)

    def batch_norm_backward(
        x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
    ) -> None:
        _native.batch_norm_backward(t, x, gamma, mean, inv_std, da, dx, dgamma, dbeta)

    def layer_norm_forward(
        x: Array, gamma: Array, beta: Array, epsilon: float, mean: Array, inv_std: Array, a: Array
    ) -> None:
        _native.layer_norm_forward(t, x, gamma, beta, epsilon, mean, inv_std, a)

    def layer_norm_backward(
        x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
    ) -> None:
        _native.layer_norm_backward(t, x, gamma, mean, inv_std, da, dx, dgamma, dbeta)

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        _native.loss(t, LOSS_CODES[loss.name], loss.parameter, z, y, weight, value, dz)

    def squared_norm(g: Array) -> float:
        return _native.squared_norm(t, g)

    def update(
        rule: Rule,
        coefficients: tuple[float, ...],
        adjustment: Adjustment,
        w: Array,
        g: Array,
        slots: tuple[Array, ...],
    ) -> None:
        _native.update(t, RULE_CODES[rule.name], coefficients, adjustment, w, g, slots)

    return Kernels(**{name: function for name, function in locals().items() if name in Kernels.__dataclass_fields__})


KERNELS = kernels()
