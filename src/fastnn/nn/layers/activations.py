"""Activations as layers: of elements, of rows, with parameters, with randomness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.formulas import activations
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op

Array = np.ndarray


class Activation(Layer):
    """An activation as a layer of its own: fused into the Dense before it where that has none.

    >>> Activation("tanh")
    Activation('tanh')
    """

    def __init__(self, activation: str | activations.Activation | Layer) -> None:
        super().__init__()
        self.activation = resolve(activation)

    def ops(self, inputs: Shape) -> list[Op]:
        if isinstance(self.activation, Layer):
            self.activation._views = self._views
            return self.activation.ops(inputs)
        return [Op("activation", inputs, inputs, activation=self.activation)]

    def settings(self) -> str:
        return expression(self.activation)


class Softmax(Layer):
    """a_j = exp(z_j) / sum_k exp(z_k) over the channels. Before cross_entropy it is fused into the loss."""

    def ops(self, inputs: Shape) -> list[Op]:
        return [Op("softmax", inputs, inputs)]


class Ordered(Layer):
    """a_1 = x_1, a_j = a_{j-1} + log(1 + exp(x_j)) over the channels: outputs that ascend. Of T targets these are the
    T values of the first level, then those of the next, and each target's ascend: a_j = a_{j-T} + ...

    As the last layer before `nn.Quantiles` of so many targets it keeps their quantiles from crossing. ValueError where
    targets is not at least 1, or no divisor of the channels.

    >>> layers = [nn.Dense(16, "tanh"), nn.Dense(6), Ordered(targets=2)]
    >>> p = fastnn.Sequential(layers).build(2, seed=0).predict(np.eye(2))
    >>> bool((np.diff(p.reshape(2, 3, 2), axis=1) > 0).all())
    True
    """

    def __init__(self, targets: int = 1) -> None:
        super().__init__()
        self.targets = _validate.integer("targets", targets, low=1)

    def ops(self, inputs: Shape) -> list[Op]:
        if inputs[-1] % self.targets:
            raise ValueError(f"targets is {self.targets}, expected a divisor of the {inputs[-1]} values that come in")
        return [Op("ordered", inputs, inputs, settings={"targets": float(self.targets)})]

    def settings(self) -> str:
        return "" if self.targets == 1 else f"targets={self.targets}"


class Maxout(Layer):
    """a_o = max of the k pieces z_{ko} .. z_{ko + k - 1}: (B, k O) -> (B, O). Goodfellow et al. 2013.

    `Dense(O, activation=Maxout(k))` makes the k O pre-activations itself.

    >>> nn.Dense(16, activation=Maxout(pieces=3))
    Dense(16, Maxout(pieces=3))
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = _validate.integer("pieces", pieces, low=2)

    def ops(self, inputs: Shape) -> list[Op]:
        channels = inputs[-1]
        if channels % self.pieces:
            raise ValueError(f"pieces is {self.pieces}, expected a divisor of the {channels} values that come in")
        return [Op("maxout", inputs, (*inputs[:-1], channels // self.pieces))]

    def settings(self) -> str:
        return f"pieces={self.pieces}"


class PReLU(Layer):
    """a = z where z > 0, else slope z, with one learned slope a channel, 0.25 at first: He et al. 2015.

    Of rows without positions that is one for each value; where there are positions, they share the channels' slopes.

    >>> fastnn.Sequential([PReLU()]).build((28, 28, 3), seed=0).layers[0].slope
    array([0.25, 0.25, 0.25], dtype=float32)
    """

    def __init__(self, init: float = 0.25) -> None:
        super().__init__()
        self.init = _validate.number("init", init)

    @property
    def slope(self) -> Array:
        """(O,), live."""
        return self._view("slope")

    def ops(self, inputs: Shape) -> list[Op]:
        slope = self._tensor("slope", inputs[-1:], lambda rng: self.init)
        return [Op("prelu", inputs, inputs, {"slope": slope})]


class RReLU(Layer):
    """a = z where z > 0, else slope z, the slope drawn for each value from U(lower, upper) in training and their
    mean in inference: Xu et al. 2015."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        self.lower = _validate.number("lower", lower, low=0.0)
        self.upper = _validate.number("upper", upper, low=self.lower)

    def ops(self, inputs: Shape) -> list[Op]:
        return [Op("rrelu", inputs, inputs, settings={"lower": self.lower, "upper": self.upper})]


_ROW_LAYERS: dict[str, Callable[[], Layer]] = {"softmax": Softmax, "maxout": Maxout, "prelu": PReLU, "rrelu": RReLU}
assert tuple(_ROW_LAYERS) == activations.ROW_ACTIVATIONS


def expression(activation: activations.Activation | Layer) -> str:
    """What stands for it in a layer's arguments."""
    if isinstance(activation, Layer):
        return repr(activation)
    if activation == activations.ACTIVATIONS.get(activation.name, activation):
        return repr(activation.name)
    return f"ACTIVATIONS[{activation.name!r}].with_alpha({activation.alpha!r})"


def resolve(activation: Any) -> activations.Activation | Layer:
    if isinstance(activation, (Softmax, Maxout, PReLU, RReLU)):
        return activation
    if isinstance(activation, str) and activation in _ROW_LAYERS:
        return _ROW_LAYERS[activation]()
    return activations.get(activation)
