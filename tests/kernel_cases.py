"""One case for each kernel of the contract: arguments at a given size, and how far off an output may be.

`terms` gives for each output the magnitude M of a first-order rounding bound: |output - exact| <= M * eps. It is
computed from the float64 arguments after the reference ran. Sums of n terms contribute n * (sum of the terms'
absolute values); each further operation contributes its result once, and a library function (exp, tanh, erf,
log1p) up to FUNCTION ulp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._random import Key
from fastnn.contract import Adjustment
from fastnn.formulas.activations import ACTIVATIONS, Activation
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.formulas.rules import RULES, Rule

# An element-wise formula is at most a dozen operations, one or two of them library functions of up to 4 ulp.
FUNCTION = 16

KEY = Key(seed=0x123456789ABCDEF0, step=(7 << 32) + 11, op=3)


@dataclass
class Out:
    """An output: overwritten, so it starts as NaN (integers: as -1)."""

    shape: tuple[int, ...]
    dtype: Any = None  # None: the plan's


@dataclass
class InOut:
    """Read and written."""

    value: Any


@dataclass
class Own:
    """An input whose dtype is its own, not the plan's."""

    value: Any


@dataclass
class Case:
    arguments: dict[str, Any]  # in the contract's order
    terms: Callable[[dict[str, Any]], dict[str, Any]]


def _near(activation: Activation, z, f):
    """Magnitude of the rounding in a formula of z with value f: no intermediate exceeds 1 + |z| + |f|."""
    return FUNCTION * (1 + abs(activation.alpha)) * (1 + np.abs(z) + np.abs(f))


def shuffle(draw, B, I, O):
    return Case(dict(key=KEY, order=Out((B * I,), np.int64)), lambda r: dict(order=0 * r["order"]))


def gather(draw, B, I, O):
    rows = draw.rng.integers(0, 5, B)
    return Case(dict(x=draw(5, I), rows=rows, out=Out((B, I))), lambda r: dict(out=0 * r["out"]))


def gather_normalized(draw, B, I, O):
    rows = draw.rng.integers(0, 5, B)
    shift, scale = Own(draw.rng.standard_normal(I)), Own(draw.rng.standard_normal(I))
    # in float64 on both sides; to the plan's dtype it is rounded once, to the nearest
    return Case(
        dict(x=draw(5, I), rows=rows, shift=shift, scale=scale, out=Out((B, I))),
        lambda r: dict(out=0.5 * np.abs(r["out"])),
    )


def moments(draw, B, I, O):
    """In slices of 5 rows, about a pivot that is none of them."""
    rows, step = draw.rng.integers(0, 5, B), 5
    pivot, unit = Own(draw.rng.standard_normal(I)), Own(np.ldexp(1.0, draw.rng.integers(-3, 4, I)))
    double = np.finfo(np.float64).eps / np.finfo(draw.dtype).eps

    def terms(r):
        bound = np.zeros(r["out"].shape)
        reach = (np.abs(r["x"]).max(axis=0, initial=0) + np.abs(r["pivot"])) * r["unit"]
        bound[2] = (step + 4) * reach  # the bounds are exact
        bound[3] = (step + 8) * step * reach**2
        return dict(out=double * bound)

    out = Out((4, -(-B // step), I), np.float64)
    return Case(dict(x=draw(5, I), rows=rows, step=step, pivot=pivot, unit=unit, out=out), terms)


def dense_forward(draw, B, I, O, activation=ACTIVATIONS["tanh"]):
    def terms(r):
        affine = (I + 4) * (np.abs(r["x"]) @ np.abs(r["w"]) + np.abs(r["b"]))
        # a is checked against the formula at the kernel's own z: see test_kernels.test_dense_forward
        return dict(z=affine)

    return Case(dict(x=draw(B, I), w=draw(I, O), b=draw(O), activation=activation, z=Out((B, O)), a=Out((B, O))), terms)


def saved_of(activation: Activation, z):
    """What a forward pass keeps for this activation."""
    return z if activation.saves == "z" else np.asarray(activation.value(z, activation.alpha), z.dtype)


def dense_backward_input(draw, B, I, O, activation=ACTIVATIONS["tanh"]):
    def terms(r):
        derivative = np.abs(activation.derivative(r["saved"], activation.alpha) * 1.0)
        product = np.abs(r["dz"]) @ np.abs(r["w"]).T
        return dict(dx=(O + 4) * product * derivative + product * _near(activation, r["saved"], derivative))

    saved = saved_of(activation, draw(B, I))
    return Case(dict(dz=draw(B, O), w=draw(I, O), activation=activation, saved=saved, dx=Out((B, I))), terms)


def dense_backward_weights(draw, B, I, O):
    def terms(r):
        return dict(dw=(B + 4) * (np.abs(r["x"]).T @ np.abs(r["dz"])), db=(B + 4) * np.abs(r["dz"]).sum(axis=0))

    return Case(dict(x=draw(B, I), dz=draw(B, O), dw=Out((I, O)), db=Out((O,))), terms)


def activation_forward(draw, B, I, O, activation=ACTIVATIONS["sigmoid"]):
    return Case(
        dict(activation=activation, z=3 * draw(B, O), a=Out((B, O))),
        lambda r: dict(a=_near(activation, r["z"], r["a"])),
    )


def activation_backward(draw, B, I, O, activation=ACTIVATIONS["sigmoid"]):
    def terms(r):
        derivative = activation.derivative(r["saved"], activation.alpha)
        return dict(dz=np.abs(r["da"]) * _near(activation, r["saved"], derivative))

    saved = saved_of(activation, 3 * draw(B, O))
    return Case(dict(activation=activation, saved=saved, da=draw(B, O), dz=Out((B, O))), terms)


def _depth(z):
    """How far a row reaches below its maximum: the rounding of exp's argument is relative to that."""
    return (z.max(axis=1, keepdims=True) - z.min(axis=1, keepdims=True)) if z.size else z


def softmax_forward(draw, B, I, O):
    return Case(dict(z=3 * draw(B, O), a=Out((B, O))), lambda r: dict(a=(O + FUNCTION + _depth(r["z"])) * r["a"]))


def softmax_backward(draw, B, I, O):
    def terms(r):
        a, da = r["a"], np.abs(r["da"])
        return dict(dz=(O + 8) * a * (da + (da * a).sum(axis=1, keepdims=True)))

    a = np.exp(draw(B, O))
    return Case(dict(a=a / a.sum(axis=1, keepdims=True), da=draw(B, O), dz=Out((B, O))), terms)


PIECES = 3


def maxout_forward(draw, B, I, O):
    return Case(
        dict(z=draw(B, PIECES * O), a=Out((B, O)), winner=Out((B, O), np.int32)),
        lambda r: dict(a=0 * r["a"], winner=0),
    )


def maxout_backward(draw, B, I, O):
    winner = draw.rng.integers(0, PIECES, (B, O)).astype(np.int32)
    return Case(dict(winner=winner, da=draw(B, O), dz=Out((B, PIECES * O))), lambda r: dict(dz=0 * r["dz"]))


def prelu_forward(draw, B, I, O):
    return Case(dict(z=draw(B, O), slope=draw(O), a=Out((B, O))), lambda r: dict(a=2 * np.abs(r["a"])))


def prelu_backward(draw, B, I, O):
    def terms(r):
        products = np.abs(r["da"] * np.minimum(r["z"], 0))
        return dict(dz=2 * np.abs(r["dz"]), dslope=(B + 4) * products.sum(axis=0))

    return Case(dict(z=draw(B, O), slope=draw(O), da=draw(B, O), dz=Out((B, O)), dslope=Out((O,))), terms)


def rrelu_forward(draw, B, I, O):
    return Case(dict(z=draw(B, O), lower=0.1, upper=0.4, key=KEY, a=Out((B, O))), lambda r: dict(a=4 * np.abs(r["a"])))


def rrelu_backward(draw, B, I, O):
    return Case(
        dict(z=draw(B, O), lower=0.1, upper=0.4, key=KEY, da=draw(B, O), dz=Out((B, O))),
        lambda r: dict(dz=4 * np.abs(r["dz"])),
    )


def dropout(draw, B, I, O):
    return Case(dict(x=draw(B, O), rate=0.3, key=KEY, out=Out((B, O))), lambda r: dict(out=4 * np.abs(r["out"])))


def _norm_terms(x, gamma, beta, epsilon, axis):
    """Magnitudes for mean, variance, inv_std and a of a two-pass normalisation along `axis`."""
    n = x.shape[axis]
    mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
    inv_std = 1 / np.sqrt(var + epsilon)
    of_mean = (n + 4) * np.abs(x).mean(axis=axis, keepdims=True)
    of_centred = np.abs(x) + of_mean
    centred = np.abs(x - mean)
    of_var = (2 * centred * of_centred).mean(axis=axis, keepdims=True) + (n + 8) * (var + epsilon)
    relative = of_var / (2 * (var + epsilon)) + 4
    of_a = np.abs(gamma) * inv_std * (of_centred + centred * (relative + 4)) + 4 * np.abs(beta)
    return of_mean, of_var, relative * inv_std, of_a


EPSILON = 1e-3


def batch_norm_forward(draw, B, I, O):
    def terms(r):
        mean, var, inv_std, a = _norm_terms(r["x"], r["gamma"], r["beta"], EPSILON, 0)
        return dict(
            mean=mean[0],
            inv_std=inv_std[0],
            a=a,
            running_mean=mean[0] + 4 * np.abs(r["running_mean"]) + 4,
            running_var=2 * var[0] + 8 * np.abs(r["running_var"]) + 8,
        )

    return Case(
        dict(
            x=draw(B, O) + 0.5,
            gamma=draw(O),
            beta=draw(O),
            momentum=0.9,
            epsilon=EPSILON,
            running_mean=InOut(draw(O)),
            running_var=InOut(np.abs(draw(O))),
            mean=Out((O,)),
            inv_std=Out((O,)),
            a=Out((B, O)),
        ),
        terms,
    )


def batch_norm_predict(draw, B, I, O):
    def terms(r):
        reach = (np.abs(r["x"]) + np.abs(r["running_mean"])) / np.sqrt(r["running_var"] + EPSILON)
        return dict(a=8 * (np.abs(r["gamma"]) * reach + np.abs(r["beta"])))

    return Case(
        dict(
            x=draw(B, O),
            gamma=draw(O),
            beta=draw(O),
            epsilon=EPSILON,
            running_mean=draw(O),
            running_var=np.abs(draw(O)),
            a=Out((B, O)),
        ),
        terms,
    )


def batch_norm_backward(draw, B, I, O):
    def terms(r):
        da, reach = np.abs(r["da"]), (np.abs(r["x"]) + np.abs(r["mean"])) * r["inv_std"]
        dgamma, dbeta = (da * reach).sum(axis=0), da.sum(axis=0)
        scale = np.abs(r["gamma"]) * r["inv_std"]
        return dict(
            dgamma=(B + 8) * dgamma, dbeta=(B + 4) * dbeta, dx=(B + 16) * scale * (da + (dbeta + reach * dgamma) / B)
        )

    return Case(
        dict(
            x=draw(B, O),
            gamma=draw(O),
            mean=draw(O),
            inv_std=0.5 + np.abs(draw(O)),
            da=draw(B, O),
            dx=Out((B, O)),
            dgamma=Out((O,)),
            dbeta=Out((O,)),
        ),
        terms,
    )


def layer_norm_forward(draw, B, I, O):
    def terms(r):
        mean, _, inv_std, a = _norm_terms(r["x"], r["gamma"], r["beta"], EPSILON, 1)
        return dict(mean=mean[:, 0], inv_std=inv_std[:, 0], a=a)

    return Case(
        dict(
            x=draw(B, O) + 0.5,
            gamma=draw(O),
            beta=draw(O),
            epsilon=EPSILON,
            mean=Out((B,)),
            inv_std=Out((B,)),
            a=Out((B, O)),
        ),
        terms,
    )


def layer_norm_backward(draw, B, I, O):
    def terms(r):
        inv_std = r["inv_std"][:, None]
        da, reach = np.abs(r["da"]), (np.abs(r["x"]) + np.abs(r["mean"])[:, None]) * inv_std
        scaled = da * np.abs(r["gamma"])
        means = scaled.mean(axis=1, keepdims=True) + reach * (scaled * reach).mean(axis=1, keepdims=True)
        return dict(
            dgamma=(B + 8) * (da * reach).sum(axis=0),
            dbeta=(B + 4) * da.sum(axis=0),
            dx=(O + 16) * inv_std * (scaled + means),
        )

    return Case(
        dict(
            x=draw(B, O),
            gamma=draw(O),
            mean=draw(B),
            inv_std=0.5 + np.abs(draw(B)),
            da=draw(B, O),
            dx=Out((B, O)),
            dgamma=Out((O,)),
            dbeta=Out((O,)),
        ),
        terms,
    )


def targets(draw, loss: Loss, kind: str, B: int, O: int):
    """Targets of that kind which the loss accepts: labels, a distribution over the row, or values in range."""
    if kind == "labels":
        return draw.rng.integers(0, O, B)
    y = draw(B, O)
    low, high = loss.y_range
    if low > -np.inf:
        y = np.abs(y) + low
    if high < np.inf:
        y = y / y.sum(axis=1, keepdims=True)
    return y


def loss(draw, B, I, O, loss=LOSSES["cross_entropy"], kind="labels"):
    def terms(r):
        z, y, weight = r["z"], r["y"], np.abs(r["weight"])
        if loss.pointwise is not None:
            value, gradient = (np.abs(formula(z, y, loss.parameter)) for formula in loss.pointwise)
            reach = 1 + np.abs(z) + np.abs(y)
            return dict(
                value=(O + FUNCTION) * (reach**2 + value).mean(axis=1),
                dz=FUNCTION * weight[:, None] * (reach + gradient) / O,
            )
        reach = 1 + _depth(z)
        return dict(
            value=(O + FUNCTION) * (reach[:, 0] + np.abs(r["value"])), dz=(O + FUNCTION + reach) * weight[:, None]
        )

    return Case(
        dict(
            loss=loss,
            z=2 * draw(B, O),
            y=targets(draw, loss, kind, B, O),
            weight=np.abs(draw(B)),
            value=Out((B,)),
            dz=Out((B, O)),
        ),
        terms,
    )


def squared_norm(draw, B, I, O):
    # float64 sums of float64 products, whatever the dtype
    double = np.finfo(np.float64).eps / np.finfo(draw.dtype).eps
    g = draw(B * I)
    return Case(dict(g=g), lambda r: dict(result=(B * I + 4) * double * (r["g"] @ r["g"])))


ADJUSTMENTS = {
    "plain": Adjustment(),
    "everything": Adjustment(scale=0.7, limit=0.8, l1=0.01, l2=0.02, shrink=0.03),
}


def update(draw, B, I, O, rule: Rule = RULES["adam"], adjustment=ADJUSTMENTS["everything"]):
    """The bound: every input and coefficient perturbed by FUNCTION * eps, one after another.

    Sound because a rule is a short chain of operations, each exact up to a relative eps that can be moved to one
    of its operands.
    """
    n = B * I
    coefficients = tuple(draw.rng.uniform(0.2, 0.9, len(rule.coefficients)))
    w, g, slots = draw(n), draw(n), tuple(np.abs(draw(n)) for _ in rule.slots)

    def terms(r):
        scale, limit, l1, l2, _ = adjustment
        w64, g64, slots64 = (np.asarray(a, np.float64) for a in (w, g, slots))
        adjusted = np.clip(scale * g64, -limit, limit) + l1 * np.sign(w64) + l2 * w64
        size = np.abs(scale * g64) + l1 + l2 * np.abs(w64)

        def step(g, s, c):
            delta, new = rule.formula(g, s, c)
            return np.stack([delta, *new])

        h = 1e-6
        base = step(adjusted, tuple(slots64), coefficients)
        spread = np.abs(base) + np.abs(step(adjusted + h * size, tuple(slots64), coefficients) - base) / h
        for k in range(len(slots64)):
            moved = tuple(s * (1 + h * (j == k)) for j, s in enumerate(slots64))
            spread += np.abs(step(adjusted, moved, coefficients) - base) / h
        for k in range(len(coefficients)):
            moved = tuple(c * (1 + h * (j == k)) for j, c in enumerate(coefficients))
            spread += np.abs(step(adjusted, tuple(slots64), moved) - base) / h
        spread *= FUNCTION
        return dict(w=spread[0] + 4 * np.abs(w64), slots=tuple(spread[1:]))

    return Case(
        dict(
            rule=rule,
            coefficients=coefficients,
            adjustment=adjustment,
            w=InOut(w),
            g=g,
            slots=tuple(InOut(s) for s in slots),
        ),
        terms,
    )
