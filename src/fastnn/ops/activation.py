"""The operation activation."""

from __future__ import annotations

import numpy as np

from fastnn.formulas.activations import Activation, identity
from fastnn.formulas.own import evaluated
from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


def activate(activation: Activation, z: Array, a: Array) -> None:
    """a = f(z); a may be z."""
    if activation != identity:
        value, own = activation.value, not activation.built_in
        a[...] = evaluated(value, z, activation.alpha) if own else value(z, activation.alpha)
    elif a is not z:
        a[...] = z


def derive(activation: Activation, saved: Array, da: Array, dz: Array) -> None:
    """dz = da * f'(saved); dz may be da."""
    if activation != identity:
        derivative, own = activation.derivative, not activation.built_in
        slope = evaluated(derivative, saved, activation.alpha) if own else derivative(saved, activation.alpha)
        np.multiply(da, slope, out=dz, casting="same_kind")
    elif dz is not da:
        dz[...] = da


class activation(Operation):
    """a = f(x), element by element; where it follows a dense operation that has none, it is fused into that."""

    spec = Spec(forward="x activation -> a~x", backward="below saved dz -> dx~dz")

    @staticmethod
    def forward(x: Array, activation: Activation, a: Array) -> None:
        activate(activation, x, a)

    @staticmethod
    def backward(below: Activation, saved: Array, dz: Array, dx: Array) -> None:
        derive(below, saved, dz, dx)
