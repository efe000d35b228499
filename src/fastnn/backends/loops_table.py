"""Fits the loops of `loops.py`, interpreted or compiled, into the contract's table. No arithmetic.

The contract speaks of activations, losses, rules and keys; the loops take formulas, numbers and bits. A
backend says how to find a loop and, if it can run declared formulas element by element, how to build a loop
around one. What it lacks comes from `rest`, the NumPy kernels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _random
from fastnn._random import Key
from fastnn.backends import loops, reference
from fastnn.contract import Adjustment, Array, Kernels, OpKernels
from fastnn.formulas.activations import Activation, identity
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.formulas.rules import Rule
from fastnn.ops import OPS
from fastnn.ops.dense import dense
from fastnn.ops.spec import Call

Find = Callable[[str, np.dtype], Callable[..., Any]]  # name of a function in loops.py, dtype -> the function
# The same and formulas -> the loop around them, or None where one NumPy expression is faster
Around = Callable[[str, np.dtype, tuple[Callable[..., Any], ...]], Callable[..., Any] | None]


Accepts = Callable[[Activation | Loss | Rule, np.dtype], bool]  # whether `around` can build a loop of that dtype


def kernels(
    find: Find,
    around: Around | None = None,
    rest: Kernels = reference.KERNELS,
    accepts: Accepts = lambda formula, dtype: True,
) -> Kernels:
    """The table of the loops that `find` finds and `around` builds; `around` None: formulas run vectorised. What
    `accepts` refuses, of formulas that are not built in, does so too."""
    table = replace(rest, ops=_operations(find, rest.ops), **_direct(find))
    if around is not None:
        table = _formula_driven(around, table, lambda formula, dtype: formula.built_in or accepts(formula, dtype))
    return _composed(find, table)


def summed(loop: Callable[..., Any]) -> Callable[..., None]:
    """The loop backward_weights, or NumPy's sums in float64 for more rows than float32 adds up well."""

    def backward_weights(x: Array, dz: Array, dw: Array, db: Array) -> None:
        (loop if len(x) <= dense.ROWS else dense.gradients)(x, dz, dw, db)

    return backward_weights


# Operations --------------------------------------------------------------------------------------------------


def _random_bits(find: Find, key: Key, shape: tuple[int, int]) -> Array:
    size = shape[0] * shape[1]
    bits = np.empty((size + 3) // 4 * 4, dtype=np.uint32)
    find("random_bits", bits.dtype)(*key.words(), key.op, bits)
    return bits[:size].reshape(shape)


# What loops take beside the names of the Spec: from those names, and how to find a loop
_DERIVED: dict[str, Callable[[Find, dict[str, Any]], Any]] = {
    "bits": lambda find, named: _random_bits(find, named["key"], named["x"].shape),
    "row_share": lambda find, named: 1.0 / len(named["x"]),
    "share": lambda find, named: 1.0 / named["x"].shape[1],
    "unbias": lambda find, named: len(named["x"]) / max(len(named["x"]) - 1, 1),
    "width": lambda find, named: (named["upper"] - named["lower"]) * 2.0**-32,
    "start": lambda find, named: 0.0,
    "sums": lambda find, named: np.empty((3, named["x"].shape[1])),
    "threshold": lambda find, named: _random.drop_threshold(named["rate"]),
    "scale": lambda find, named: 1.0 / (1.0 - named["rate"]),
}
_IN_FLOAT64 = ("lower", "width", "start")  # beside bits of 32; sums


def _adapted(find: Find, name: str, call: Call) -> Callable[..., None]:
    """The loop of that name as a kernel that takes what the Spec's call names."""
    wanted = tuple(inspect.signature(getattr(loops, name)).parameters)

    def kernel(*arguments: Any) -> None:
        named = dict(zip(call.names, arguments, strict=True))
        dtype = named[call.outputs[-1]].dtype if call.outputs[-1] != "winner" else named["a"].dtype
        given = []
        for each in wanted:
            value = named[each] if each in named else _DERIVED[each](find, named)
            given.append(dtype.type(value) if isinstance(value, float) and each not in _IN_FLOAT64 else value)
        find(name, dtype)(*given)

    return kernel


def _takes(name: str, call: Call) -> bool:
    """Whether there is a loop of that name, around no formula."""
    loop = getattr(loops, name, None)
    return loop is not None and set(inspect.signature(loop).parameters) <= {*call.names, *_DERIVED}


def _operations(find: Find, rest: Mapping[str, OpKernels]) -> dict[str, OpKernels]:
    """For each function of an operation the loop that is called like both, else what `rest` has."""
    made = {}
    for name, op in OPS.items():
        calls = op.spec.calls | {"predict": op.spec.prediction}
        functions = rest[name]._asdict()
        for each, call in calls.items():
            own = each if each in op.spec.calls else "forward"
            if _takes(f"{name}_{own}", call):
                functions[each] = _adapted(find, f"{name}_{own}", call)
        made[name] = OpKernels(**functions)
    return made


def _direct(find: Find) -> dict[str, Callable[..., Any]]:
    """The other kernels that need no formula."""

    def shuffle(key: Key, order: Array) -> None:
        find("shuffle", order.dtype)(_random_bits(find, key, (1, 2 * len(order)))[0].astype(np.int64), order)

    def squared_norm(g: Array) -> float:
        return float(find("squared_norm", g.dtype)(g))

    return dict(shuffle=shuffle, squared_norm=squared_norm)


def _with_operation(table: Kernels, name: str, **functions: Callable[..., None]) -> Kernels:
    return replace(table, ops={**table.ops, name: table.ops[name]._replace(**functions)})


def _formula_driven(around: Around, rest: Kernels, accepts: Accepts) -> Kernels:
    """With the kernels that are one declared formula an element."""

    def activate(x: Array, activation: Activation, a: Array) -> None:
        if activation == identity and a is x:
            return
        runs = activation != identity and accepts(activation, x.dtype)
        loop = around("activation_forward", x.dtype, (activation.value,)) if runs else None
        if loop is None:
            rest.ops["activation"].forward(x, activation, a)
        else:
            loop(x.dtype.type(activation.alpha), x, a)

    def activation_backward(below: Activation, saved: Array, da: Array, dz: Array) -> None:
        if below == identity and dz is da:
            return
        runs = below != identity and accepts(below, saved.dtype)
        loop = around("activation_backward", saved.dtype, (below.derivative,)) if runs else None
        if loop is None:
            rest.activation_backward(below, saved, da, dz)
        else:
            loop(saved.dtype.type(below.alpha), saved, da, dz)

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        formulas = loss.pointwise
        loop = around("pointwise_loss", z.dtype, formulas) if formulas and accepts(loss, z.dtype) else None
        if loop is None:
            rest.loss(loss, z, y, weight, value, dz)
        else:
            real = z.dtype.type
            loop(real(loss.parameter), real(1.0 / z.shape[1]), z, y, weight, value, dz)

    def update(
        rule: Rule,
        coefficients: tuple[float, ...],
        adjustment: Adjustment,
        w: Array,
        g: Array,
        slots: tuple[Array, ...],
    ) -> None:
        loop = around("update", w.dtype, (rule.formula,)) if accepts(rule, w.dtype) else None
        if loop is None:
            rest.update(rule, coefficients, adjustment, w, g, slots)
        else:
            real = w.dtype.type
            numbers = tuple(real(number) for number in coefficients)
            loop(numbers, *(real(number) for number in adjustment), w, g, slots)

    table = replace(rest, activation_backward=activation_backward, loss=loss, update=update)
    return _with_operation(table, "activation", forward=activate, predict=activate, backward=activation_backward)


def _composed(find: Find, table: Kernels) -> Kernels:
    """With the kernels made of a loop and another kernel of the same table."""
    activate, activation_backward, other_loss = table.ops["activation"].forward, table.activation_backward, table.loss

    def dense_forward(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
        find("affine", x.dtype)(x, w, b, z)
        activate(z, activation, a)

    def dense_backward(
        x: Array, w: Array, below: Activation, saved: Array, dz: Array, dx: Array | None, dw: Array, db: Array
    ) -> None:
        find("backward_weights", x.dtype)(x, dz, dw, db)
        if dx is not None:
            find("backward_input", dz.dtype)(dz, w, dx)
            activation_backward(below, saved, dx, dx)

    def dropout_backward(rate: float, key: Key, da: Array, dx: Array) -> None:
        table.ops["dropout"].forward(da, rate, key, dx)  # the same values are dropped

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        real = z.dtype.type
        if loss.rowwise is LOSSES["cross_entropy"].rowwise:
            name = "cross_entropy_labels" if y.ndim == 1 else "cross_entropy_values"
            numbers = real(loss.parameter), real(1.0 / z.shape[1])
            find(name, z.dtype)(*numbers, z, y, weight, value, dz)
        elif loss.rowwise is LOSSES["hinge"].rowwise:
            find("hinge", z.dtype)(z, y, weight, value, dz)
        else:
            other_loss(loss, z, y, weight, value, dz)

    made = _with_operation(table, "dense", forward=dense_forward, predict=dense_forward, backward=dense_backward)
    return replace(_with_operation(made, "dropout", backward=dropout_backward), loss=loss)
