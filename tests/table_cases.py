"""One case for each kernel that is no operation's: shuffle, moments, activation_backward, loss, squared_norm, update.

Bounds as in kernel_cases.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from guarded import Case, InOut, Out, Own
from kernel_cases import FUNCTION, KEY, Draw, activation_backward, depth, saved_of

from fastnn.contract import Adjustment
from fastnn.formulas.activations import ACTIVATIONS, Activation
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.formulas.rules import RULES, Rule

ALIASES = {"activation_backward": ("dz", "da")}  # output -> input it may share memory with, as the contract says


def shuffle(draw: Draw, B: int, I: int, O: int) -> Case:
    return Case(dict(key=KEY, order=Out((B * I,), np.int64)), lambda r: dict(order=0 * r["order"]))


def moments(draw: Draw, B: int, I: int, O: int) -> Case:
    """In slices of 5 rows, about a pivot that is none of them."""
    rows, step = draw.rng.integers(0, 5, B), 5
    pivot, unit = Own(draw.rng.standard_normal(I)), Own(np.ldexp(1.0, draw.rng.integers(-3, 4, I)))
    double = np.finfo(np.float64).eps / np.finfo(draw.dtype).eps

    def terms(r: dict[str, Any]) -> dict[str, Any]:
        bound = np.zeros(r["out"].shape)
        reach = (np.abs(r["x"]).max(axis=0, initial=0) + np.abs(r["pivot"])) * r["unit"]
        bound[2] = (step + 4) * reach  # the bounds are exact
        bound[3] = (step + 8) * step * reach**2
        return dict(out=double * bound)

    out = Out((4, -(-B // step), I), np.float64)
    return Case(dict(x=draw(5, I), rows=rows, step=step, pivot=pivot, unit=unit, out=out), terms)


def _activation_backward(draw: Draw, B: int, I: int, O: int, activation: Activation = ACTIVATIONS["sigmoid"]) -> Case:
    saved = saved_of(activation, 3 * draw(B, O))
    return Case(
        dict(below=activation, saved=saved, da=draw(B, O), dz=Out((B, O))),
        lambda r: dict(dz=activation_backward(r | {"dz": r["da"]})["dx"]),
    )


def targets(draw: Draw, loss: Loss, kind: str, B: int, O: int) -> Any:
    """Targets of that kind which the loss accepts: labels, a distribution over the row, or values in range."""
    if kind == "labels":
        return draw.rng.integers(0, O, B)
    y = draw(B, O // loss.width)
    low, high = loss.y_range
    if low > -np.inf:
        y = np.abs(y) + low
    if high < np.inf:
        y = y / y.sum(axis=1, keepdims=True)
    return y


def loss(draw: Draw, B: int, I: int, O: int, loss: Loss = LOSSES["cross_entropy"], kind: str = "labels") -> Case:
    def terms(r: dict[str, Any]) -> dict[str, Any]:
        z, y, weight = r["z"], r["y"], np.abs(r["weight"])
        if loss.pointwise is not None:
            value, gradient = (np.abs(formula(z, y, loss.parameter)) for formula in loss.pointwise)
            reach = 1 + np.abs(z) + np.abs(y)
            return dict(
                value=(O + FUNCTION) * (reach**2 + value).mean(axis=1),
                dz=FUNCTION * weight[:, None] * (reach + gradient) / O,
            )
        reach = 1 + depth(z)
        slopes = np.abs(r["dz"]) if loss.width > 1 else 0.0  # the others' are at most 1
        return dict(
            value=(O + FUNCTION) * (reach[:, 0] + np.abs(r["value"])),
            dz=(O + FUNCTION + reach) * (weight[:, None] + slopes),
        )

    O = -(-O // loss.width) * loss.width

    arguments = dict(
        loss=loss,
        z=2 * draw(B, O),
        y=targets(draw, loss, kind, B, O),
        weight=np.abs(draw(B)),
        value=Out((B,)),
        dz=Out((B, O)),
    )
    return Case(arguments, terms)


def squared_norm(draw: Draw, B: int, I: int, O: int) -> Case:
    # float64 sums of float64 products, whatever the dtype
    double = np.finfo(np.float64).eps / np.finfo(draw.dtype).eps
    g = draw(B * I)
    return Case(dict(g=g), lambda r: dict(result=(B * I + 4) * double * (r["g"] @ r["g"])))


ADJUSTMENTS = {
    "plain": Adjustment(),
    "everything": Adjustment(scale=0.7, limit=0.8, l1=0.01, l2=0.02, shrink=0.03),
}


def update(
    draw: Draw,
    B: int,
    I: int,
    O: int,
    rule: Rule = RULES["adam"],
    adjustment: Adjustment = ADJUSTMENTS["everything"],
) -> Case:
    """The bound: every input and coefficient perturbed by FUNCTION * eps, one after another.

    Sound because a rule is a short chain of operations, each exact up to a relative eps that can be moved to one
    of its operands.
    """
    n = B * I
    coefficients = tuple(draw.rng.uniform(0.2, 0.9, len(rule.coefficients)))
    w, g, slots = draw(n), draw(n), tuple(np.abs(draw(n)) for _ in rule.slots)

    def terms(r: dict[str, Any]) -> dict[str, Any]:
        scale, limit, l1, l2, _ = adjustment
        w64, g64, slots64 = (np.asarray(a, np.float64) for a in (w, g, slots))
        adjusted = np.clip(scale * g64, -limit, limit) + l1 * np.sign(w64) + l2 * w64
        size = np.abs(scale * g64) + l1 + l2 * np.abs(w64)

        def step(g: Any, s: Any, c: Any) -> Any:
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

    slots_ = tuple(InOut(s) for s in slots)
    arguments = dict(rule=rule, coefficients=coefficients, adjustment=adjustment, w=InOut(w), g=g, slots=slots_)
    return Case(arguments, terms)


CASES = {
    "shuffle": shuffle,
    "moments": moments,
    "activation_backward": _activation_backward,
    "loss": loss,
    "squared_norm": squared_norm,
    "update": update,
}
