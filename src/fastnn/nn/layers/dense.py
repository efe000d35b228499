"""Dense: a product, a bias and an activation; and what it shares with convolutions."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.formulas import activations, initializers
from fastnn.formulas.initializers import Initializer
from fastnn.nn.layers.activations import Maxout, expression, resolve
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op, Penalty, Tensor

Array = np.ndarray

_HE_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "prelu", "rrelu", "maxout")


class Product(Layer):
    """Base of the layers that learn a matrix and a bias, and have an activation behind them."""

    DISPENSABLE = ("init",)  # the weights that it drew are kept

    def _learned(
        self,
        activation: str | activations.Activation | Layer | None,
        init: str | Initializer | float | None,
        bias: bool,
        l1: float | None,
        l2: float | None,
        decay: float | None,
    ) -> None:
        """Keeps the arguments that all of them have."""
        self.activation: activations.Activation | Layer = resolve(activation)
        self.init = None if init is None else initializers.get(init)
        self._bias_used = _validate.flag("bias", bias)
        self.l1, self.l2, self.decay = (
            None if value is None else _validate.number(name, value, low=0.0)
            for name, value in (("l1", l1), ("l2", l2), ("decay", decay))
        )

    @property
    def bias(self) -> Array:
        """(O,), live; zeros that no optimizer touches where the layer was made with bias=False."""
        return self._view("bias")

    @property
    def bias_used(self) -> bool:
        """The argument `bias`, whose name the view has."""
        return self._bias_used

    @property
    def penalty(self) -> Penalty:
        """Of the weights."""
        return Penalty(self.l1, self.l2, self.decay)

    @property
    def pieces(self) -> int:
        """How many values the activation makes one of."""
        return self.activation.pieces if isinstance(self.activation, Maxout) else 1

    def _parameters(self, shape: tuple[int, ...], fan_in: int, fan_out: int) -> dict[str, Tensor]:
        """w of that shape, its last size the outputs, and b."""
        draw, matrix = self._initializer().draw, (math.prod(shape[:-1]), shape[-1])
        return {
            "w": self._tensor(
                "weight", shape, lambda rng: draw(rng, matrix, fan_in, fan_out).reshape(shape), penalty=self.penalty
            ),
            "b": self._tensor("bias", shape[-1:], lambda rng: 0.0, trainable=self.bias_used),
        }

    def _followed(self, made: Op) -> list[Op]:
        """The operation, and its activation behind it or in it."""
        if isinstance(self.activation, Layer):
            self.activation._views = self._views  # its tensors are this layer's
            return [made, *self.activation.ops(made.outputs)]
        return [replace(made, activation=self.activation)]

    def _initializer(self) -> Initializer:
        if self.init is not None:
            return self.init
        name = (
            self.activation.name if not isinstance(self.activation, Layer) else type(self.activation).__name__.lower()
        )
        family = "he_normal" if name in _HE_FAMILY else "lecun_normal" if name == "selu" else "glorot_uniform"
        return initializers.INITIALIZERS[family]

    def _settings(self, *first: str, by_name: bool) -> str:
        """The arguments written in first, the activation, named or in its place, and what else is not as by default."""
        given = {name: value for name, value in self.arguments().items() if name not in first}
        activation = given.pop("activation")
        said = [] if activation == activations.identity else [expression(activation)]
        values = [repr(getattr(self, name)) for name in first]
        follow = [f"activation={each}" if by_name else each for each in said]
        return self._written(*values, *follow, **given | {"init": initializers.name_of(self.init)})

    def arguments(self) -> dict[str, Any]:
        names = inspect.signature(type(self)).parameters
        return {name: self.bias_used if name == "bias" else getattr(self, name) for name in names}


class Dense(Product):
    """a = f(x w + b): x (B, I), w (I, O), b (O,), a (B, O); the same at every position of rows that have some.

    `activation`: a name of `fastnn.nn.ACTIVATIONS`, an `activations.Activation` (with its parameter), or
    "softmax", "maxout", "prelu", "rrelu" or such a layer. `init`: a name of `INITIALIZERS`, an initialiser or a
    number; None takes He's for the relu family, LeCun's for selu and Glorot's uniform otherwise. Biases start
    at 0. `l1`, `l2` and `decay` (all >= 0) penalise the weights of this layer; None: as the optimizer says.

    ValueError or TypeError where an argument is out of range.

    >>> Dense(10, activation="relu", init="he_normal")
    Dense(10, 'relu', init='he_normal')
    """

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | Layer | None = None,
        *,
        init: str | Initializer | float | None = None,
        bias: bool = True,
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self.units = _validate.integer("units", units)
        self._learned(activation, init, bias, l1, l2, decay)

    @property
    def weight(self) -> Array:
        """(I, O), live."""
        return self._view("weight")

    def ops(self, inputs: Shape) -> list[Op]:
        channels, wide = inputs[-1], self.units * self.pieces
        tensors = self._parameters((channels, wide), channels, self.units)
        return self._followed(Op("dense", inputs, (*inputs[:-1], wide), tensors))

    def settings(self) -> str:
        return self._settings("units", by_name=False)
