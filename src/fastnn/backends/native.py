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
from functools import partial
from typing import Any

from fastnn import _cpus, _validate
from fastnn._random import Key
from fastnn.backends import reference
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

ACTIVATION_CODES = {name: code for code, name in enumerate(extension.ACTIVATIONS)}
LOSS_CODES = {name: code for code, name in enumerate(extension.LOSSES)}
RULE_CODES = {name: code for code, name in enumerate(extension.RULES)}
OP_CODES = {spec["name"]: code for code, spec in enumerate(extension.OPS)}


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
    forward, backward = partial(extension.op_forward, t, code), partial(extension.op_backward, t, code)
    return OpKernels(forward, backward, partial(extension.op_predict, t, code))


@functools.cache
def _kernels(t: int) -> Kernels:
    ops = {name: _operation(t, name) for name in OPS}

    def shuffle(key: Key, order: Array) -> None:
        extension.shuffle(t, key, order)

    def moments(x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array) -> None:
        if not extension.moments(t, x, rows, step, pivot, unit, out):
            reference.moments(x, rows, step, pivot, unit, out)

    def activation_backward(below: Activation, saved: Array, da: Array, dz: Array) -> None:
        extension.activation_backward(t, below, saved, da, dz)

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        if loss.built_in:
            extension.loss(t, LOSS_CODES[loss.name], loss.parameter, z, y, weight, value, dz)
        else:
            reference.loss(loss, z, y, weight, value, dz)

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
        if rule.built_in:
            extension.update(t, RULE_CODES[rule.name], coefficients, adjustment, w, g, slots)
        else:
            reference.update(rule, coefficients, adjustment, w, g, slots)

    return Kernels(**{name: function for name, function in locals().items() if name in Kernels.__dataclass_fields__})


KERNELS = kernels()
_validate.use_squared_norm(KERNELS.squared_norm)
