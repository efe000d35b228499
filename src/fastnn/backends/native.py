"""The `native` backend: the contract's kernels from the C++ extension `_native`. An adapter, no arithmetic.

The only importer of `_native`; ImportError where the extension was not built, or declares an
operation otherwise than fastnn/ops does. Losses and rules travel as their position in the extension's lists. Only what
would touch memory outside an array is checked.

>>> table = kernels()  # the best instruction set here, or FASTNN_ISA
>>> instruction_sets()[0] in ("x86-64-v2", "neon")
True
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastnn import _cpus, _validate
from fastnn._random import Key
from fastnn.backends import own_formulas, reference
from fastnn.contract import Adjustment, Array, Kernels, OpKernels
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.formulas.rules import Rule
from fastnn.ops import OPS

with _cpus.brief_waits():
    from fastnn import _native as extension
    from fastnn._native import default_instruction_set, instruction_sets, set_least_work, set_threads, threads

__all__ = [
    "default_instruction_set",
    "extension",
    "fma_peak",
    "instruction_sets",
    "kernels",
    "set_least_work",
    "set_threads",
    "threads",
]

_ACTIVATION_CODES = {name: code for code, name in enumerate(extension.ACTIVATIONS)}
_LOSS_CODES = {name: code for code, name in enumerate(extension.LOSSES)}
_RULE_CODES = {name: code for code, name in enumerate(extension.RULES)}
OP_CODES = {spec["name"]: code for code, spec in enumerate(extension.OPS)}


def activation_code(activation: Activation, dtype: np.dtype) -> int | None:
    """What the extension knows it by; None for one of one's own that cannot be compiled."""
    if activation.built_in:
        return _ACTIVATION_CODES[activation.name]
    return _own_code("activation", own_formulas.addresses(activation, dtype), dtype)


def loss_code(loss: Loss, dtype: np.dtype) -> int | None:
    if loss.built_in:
        return _LOSS_CODES[loss.name]
    return _own_code("loss", own_formulas.addresses(loss, dtype), dtype)


def rule_code(rule: Rule, dtype: np.dtype) -> int | None:
    if rule.built_in:
        return _RULE_CODES[rule.name]
    return _own_code("rule", own_formulas.addresses(rule, dtype), dtype, len(rule.slots), len(rule.coefficients))


@functools.cache
def _own_code(kind: str, addresses: tuple[int, ...] | None, dtype: np.dtype, *counts: int) -> int | None:
    if addresses is None:
        return None
    formula, derivative = (*addresses, 0)[:2]
    return extension.add_formula(kind, dtype.itemsize, formula, derivative, *counts)


class _Coded(NamedTuple):
    """An activation of one's own, for a call of one operation."""

    name: int
    alpha: float


def _coded(activation: Activation, dtype: np.dtype) -> Activation | _Coded:
    """Itself where it cannot be compiled."""
    code = activation_code(activation, dtype)
    return activation if code is None else _Coded(code, activation.alpha)


def check_specs(compiled: tuple[dict[str, str], ...]) -> None:
    """ImportError where an operation of the extension is not declared as in fastnn/ops, or one of them is missing."""
    declared = {spec["name"]: spec for spec in compiled}
    for name in [*OPS, *declared]:
        if name not in OPS or name not in declared:
            here, there = ("csrc/ops", "fastnn/ops") if name in declared else ("fastnn/ops", "csrc/ops")
            raise ImportError(
                f"operation {name!r} is listed in {here}, but not in {there}: "
                "the extension was compiled from another version"
            )
        theirs = declared[name]
        for field, mine in OPS[name].spec.texts().items():
            if mine != theirs[field]:
                raise ImportError(
                    f"operation {name!r} is declared with {field} {mine!r} in fastnn/ops, but with "
                    f"{theirs[field]!r} in csrc/ops: the extension was compiled from another version"
                )


check_specs(extension.OPS)


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
        operations = extension.multiply_adds(t, 100_000)
        best = max(best, operations / (time.perf_counter() - start))
    return best / 1e9


def _operation(t: int, name: str) -> OpKernels:
    code, others = OP_CODES[name], reference.KERNELS.ops[name]
    if OPS[name].spec.phase == "source":

        def gather(data: Any, *arguments: Any) -> None:
            parts = data if isinstance(data, Array) else (data.data, data.indices, data.indptr, data.shape[1])
            if not extension.op_gather(t, code, parts, *arguments):  # a dtype or a layout the extension does not read
                others.forward(data, *arguments)

        return OpKernels(gather, others.backward, gather)
    calls = extension.op_forward, extension.op_backward, extension.op_predict
    return OpKernels(
        *(_any_activation(partial(call, t, code), other) for call, other in zip(calls, others, strict=True))
    )


def _any_activation(call: Callable[..., None], other: Callable[..., None]) -> Callable[..., None]:
    """The same with activations of one's own, which the extension does not know by name; by `other` where they are not
    compiled."""

    def kernel(*arguments: Any) -> None:
        try:
            call(*arguments)
        except KeyError:
            dtype = next(each.dtype for each in arguments if isinstance(each, Array))
            coded = [_coded(each, dtype) if isinstance(each, Activation) else each for each in arguments]
            if any(isinstance(each, Activation) for each in coded):
                other(*arguments)
            else:
                call(*coded)

    return kernel


@functools.cache
def _kernels(t: int) -> Kernels:
    ops = {name: _operation(t, name) for name in OPS}
    derive = _any_activation(partial(extension.activation_backward, t), reference.activation_backward)

    def shuffle(key: Key, order: Array) -> None:
        extension.shuffle(t, key, order)

    def moments(x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array) -> None:
        if not extension.moments(t, x, rows, step, pivot, unit, out):
            reference.moments(x, rows, step, pivot, unit, out)

    def activation_backward(below: Activation, saved: Array, da: Array, dz: Array) -> None:
        derive(below, saved, da, dz)

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        code = loss_code(loss, z.dtype)
        if code is None:
            reference.loss(loss, z, y, weight, value, dz)
        else:
            extension.loss(t, code, loss.numbers, z, y, weight, value, dz)

    def squared_norm(g: Array) -> float:
        return extension.squared_norm(t, g)

    def update(
        rule: Rule,
        coefficients: tuple[float, ...],
        adjustment: Adjustment,
        w: Array,
        g: Array,
        slots: tuple[Array, ...],
    ) -> None:
        code = rule_code(rule, w.dtype)
        if code is None:
            reference.update(rule, coefficients, adjustment, w, g, slots)
        else:
            extension.update(t, code, coefficients, adjustment, w, g, slots)

    return Kernels(**{name: function for name, function in locals().items() if name in Kernels.__dataclass_fields__})


KERNELS = kernels()
_validate.use_squared_norm(KERNELS.squared_norm)
