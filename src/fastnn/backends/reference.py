"""The `numpy` backend: every kernel vectorised, as the course notes write it. The oracle and the fallback.

Nothing here is clever: one NumPy expression a quantity. See `contract.py` for the shapes; what the operations compute
is in fastnn/ops, a file each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _random
from fastnn._random import Key
from fastnn.contract import Adjustment, Array, Kernels, OpKernels
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.formulas.own import stepped
from fastnn.formulas.rules import Rule
from fastnn.ops import OPS
from fastnn.ops.activation import derive


def nothing(*arguments: Any) -> None:
    """Of an operation whose output is its input, or which has no backward: never called."""
    raise AssertionError("no such kernel")


def shuffle(key: Key, order: Array) -> None:
    _random.shuffle(key, order)


def moments(x: Array, rows: Array | None, step: int, pivot: Array, unit: Array, out: Array) -> None:
    """out[:, s] <- low and high of x, mean and squared deviations of (x - pivot) unit, over slice s of the rows."""
    for s, start in enumerate(range(0, len(x) if rows is None else len(rows), step)):
        part = x[start : start + step] if rows is None else x[rows[start : start + step]]
        out[:, s] = _slice_moments(part, pivot, unit)


def _slice_moments(part: Array, pivot: Array, unit: Array) -> tuple[Array, Array, Array, Array]:
    d = np.array(part, dtype=np.float64, order="C")  # the one copy; the layout changes no order of the sums
    low, high = d.min(axis=0), d.max(axis=0)
    d *= unit
    d -= pivot * unit
    mean = d.mean(axis=0)
    d -= mean
    return low, high, mean, np.square(d, out=d).sum(axis=0)


def activation_backward(below: Activation, saved: Array, da: Array, dz: Array) -> None:
    derive(below, saved, da, dz)


def loss(loss: Loss, z: Array, y: Array, weight: Array, value: Array, dz: Array) -> None:
    value[...], gradient = loss.evaluate(z, y)
    np.multiply(gradient, weight[:, None], out=dz, casting="same_kind")


def squared_norm(g: Array) -> float:
    g64 = g.astype(np.float64)
    return float(g64 @ g64)


def update(
    rule: Rule, coefficients: tuple[float, ...], adjustment: Adjustment, w: Array, g: Array, slots: tuple[Array, ...]
) -> None:
    scale, limit, l1, l2, shrink = adjustment
    if scale != 1.0:
        g = g * scale
    if limit != np.inf:
        g = np.clip(g, -limit, limit)
    if l1 != 0.0:
        g = g + l1 * np.sign(w)
    if l2 != 0.0:
        g = g + l2 * w
    formula = rule.formula
    delta, new_slots = formula(g, slots, coefficients) if rule.built_in else stepped(rule, g, slots, coefficients)
    for slot, new in zip(slots, new_slots, strict=True):
        slot[...] = new
    if shrink != 0.0:
        w *= 1.0 - shrink
    w -= delta


ops = {name: OpKernels(*(op.function(each) or nothing for each in OpKernels._fields)) for name, op in OPS.items()}
KERNELS = Kernels(**{name: globals()[name] for name in Kernels.__dataclass_fields__})
