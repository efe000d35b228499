"""Fits the loops of `loops.py`, interpreted or compiled, into the contract's table. No arithmetic.

The contract speaks of activations, losses, rules and keys; the loops take formulas, numbers and bits. A
backend says how to find a loop and, if it can run declared formulas element by element, how to build a loop
around one. What it lacks comes from `rest`, the NumPy kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _random
from fastnn._random import Key
from fastnn.backends import reference
from fastnn.backends.contract import Adjustment, Array, Kernels
from fastnn.formulas.activations import Activation, identity
from fastnn.formulas.losses import Loss
from fastnn.formulas.rules import Rule

Find = Callable[[str, np.dtype], Callable[..., Any]]  # name of a function in loops.py, dtype -> the function
# The same and formulas -> the loop around them, or None where one NumPy expression is faster
Around = Callable[[str, np.dtype, tuple[Callable[..., Any], ...]], Callable[..., Any] | None]


def kernels(find: Find, around: Around | None = None, rest: Kernels = reference.KERNELS) -> Kernels:
    """The table of the loops that `find` finds and `around` builds; `around` None: formulas run vectorised."""
    table = replace(rest, **_direct(find))
    if around is not None:
        table = replace(table, **_formula_driven(around, rest))
    return replace(table, **_composed(find, table))


def _direct(find: Find) -> dict[str, Callable[..., Any]]:
    """The kernels that need no formula."""

    def shuffle(key: Key, order: Array) -> None:
        find("shuffle", order.dtype)(random_bits(key, (1, 2 * len(order)))[0].astype(np.int64), order)

    def gather(x: Array, rows: Array, out: Array) -> None:
        find("gather", out.dtype)(x, rows, out)

    def gather_normalized(x: Array, rows: Array, shift: Array, scale: Array, out: Array) -> None:
        find("gather_normalized", out.dtype)(x, rows, shift, scale, out)

    def dense_backward_weights(x: Array, dz: Array, dw: Array, db: Array) -> None:
        find("backward_weights", x.dtype)(x, dz, dw, db)

    def softmax_forward(z: Array, a: Array) -> None:
        find("softmax_forward", z.dtype)(z, a)

    def softmax_backward(a: Array, da: Array, dz: Array) -> None:
        find("softmax_backward", a.dtype)(a, da, dz)

    def maxout_forward(z: Array, a: Array, winner: Array) -> None:
        find("maxout_forward", z.dtype)(z, a, winner)

    def maxout_backward(winner: Array, da: Array, dz: Array) -> None:
        find("maxout_backward", da.dtype)(winner, da, dz)

    def prelu_forward(z: Array, slope: Array, a: Array) -> None:
        find("prelu_forward", z.dtype)(z, slope, a)

    def prelu_backward(z: Array, slope: Array, da: Array, dz: Array, dslope: Array) -> None:
        find("prelu_backward", z.dtype)(z, slope, da, dz, dslope)

    def random_bits(key: Key, shape: tuple[int, int]) -> Array:
        size = shape[0] * shape[1]
        bits = np.empty((size + 3) // 4 * 4, dtype=np.uint32)
        find("random_bits", bits.dtype)(*key.words(), key.op, bits)
        return bits[:size].reshape(shape)

    def rrelu_forward(z: Array, lower: float, upper: float, key: Key, a: Array) -> None:
        width = (upper - lower) * 2.0**-32
        find("rrelu_forward", z.dtype)(z, lower, width, random_bits(key, z.shape), a)

    def rrelu_backward(z: Array, lower: float, upper: float, key: Key, da: Array, dz: Array) -> None:
        width = (upper - lower) * 2.0**-32
        find("rrelu_backward", z.dtype)(z, lower, width, random_bits(key, z.shape), da, dz)

    def dropout(x: Array, rate: float, key: Key, out: Array) -> None:
        scale = x.dtype.type(1.0 / (1.0 - rate))
        find("dropout", x.dtype)(x, random_bits(key, x.shape), _random.drop_threshold(rate), scale, out)

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
        rows, real = len(x), x.dtype.type
        unbias = rows / max(rows - 1, 1)
        numbers = real(momentum), real(epsilon), real(1.0 / rows), real(unbias)
        find("batch_norm_forward", x.dtype)(x, gamma, beta, *numbers, running_mean, running_var, mean, inv_std, a)

    def batch_norm_predict(
        x: Array, gamma: Array, beta: Array, epsilon: float, running_mean: Array, running_var: Array, a: Array
    ) -> None:
        find("batch_norm_predict", x.dtype)(x, gamma, beta, x.dtype.type(epsilon), running_mean, running_var, a)

    def batch_norm_backward(
        x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
    ) -> None:
        share = x.dtype.type(1.0 / len(x))
        find("batch_norm_backward", x.dtype)(x, gamma, mean, inv_std, share, da, dx, dgamma, dbeta)

    def layer_norm_forward(
        x: Array, gamma: Array, beta: Array, epsilon: float, mean: Array, inv_std: Array, a: Array
    ) -> None:
        real = x.dtype.type
        find("layer_norm_forward", x.dtype)(x, gamma, beta, real(epsilon), real(1.0 / x.shape[1]), mean, inv_std, a)

    def layer_norm_backward(
        x: Array, gamma: Array, mean: Array, inv_std: Array, da: Array, dx: Array, dgamma: Array, dbeta: Array
    ) -> None:
        share = x.dtype.type(1.0 / x.shape[1])
        find("layer_norm_backward", x.dtype)(x, gamma, mean, inv_std, share, da, dx, dgamma, dbeta)

    def squared_norm(g: Array) -> float:
        return float(find("squared_norm", g.dtype)(g))

    made = locals()
    return {name: made[name] for name in Kernels.__dataclass_fields__ if name in made}


def _formula_driven(around: Around, rest: Kernels) -> dict[str, Callable[..., Any]]:
    """The kernels that are one declared formula an element."""

    def activation_forward(activation: Activation, z: Array, a: Array) -> None:
        if activation == identity and a is z:
            return
        loop = None if activation == identity else around("activation_forward", z.dtype, (activation.value,))
        if loop is None:
            rest.activation_forward(activation, z, a)
        else:
            loop(z.dtype.type(activation.alpha), z, a)

    def activation_backward(activation: Activation, saved: Array, da: Array, dz: Array) -> None:
        if activation == identity and dz is da:
            return
        loop = None if activation == identity else around("activation_backward", saved.dtype, (activation.derivative,))
        if loop is None:
            rest.activation_backward(activation, saved, da, dz)
        else:
            loop(saved.dtype.type(activation.alpha), saved, da, dz)

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        loop = None if loss.pointwise is None else around("pointwise_loss", z.dtype, loss.pointwise)
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
        loop = around("update", w.dtype, (rule.formula,))
        if loop is None:
            rest.update(rule, coefficients, adjustment, w, g, slots)
        else:
            real = w.dtype.type
            numbers = tuple(real(number) for number in coefficients)
            loop(numbers, *(real(number) for number in adjustment), w, g, slots)

    return dict(
        activation_forward=activation_forward, activation_backward=activation_backward, loss=loss, update=update
    )


def _composed(find: Find, table: Kernels) -> dict[str, Callable[..., Any]]:
    """The kernels made of a loop and another kernel of the same table."""
    activation_forward, activation_backward, other_loss = (
        table.activation_forward,
        table.activation_backward,
        table.loss,
    )

    def dense_forward(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
        find("affine", x.dtype)(x, w, b, z)
        activation_forward(activation, z, a)

    def dense_backward_input(dz: Array, w: Array, activation: Activation, saved: Array, dx: Array) -> None:
        find("backward_input", dz.dtype)(dz, w, dx)
        activation_backward(activation, saved, dx, dx)

    def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
        real = z.dtype.type
        if loss.name == "cross_entropy":
            name = "cross_entropy_labels" if y.ndim == 1 else "cross_entropy_values"
            numbers = real(loss.parameter), real(1.0 / z.shape[1])
            find(name, z.dtype)(*numbers, z, y, weight, value, dz)
        elif loss.name == "hinge":
            find("hinge", z.dtype)(z, y, weight, value, dz)
        else:
            other_loss(loss, z, y, weight, value, dz)

    return dict(dense_forward=dense_forward, dense_backward_input=dense_backward_input, loss=loss)
