"""Dense: a product, a bias and an activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.formulas import activations, initializers
from fastnn.formulas.initializers import Initializer
from fastnn.nn.layers.activations import Maxout, expression, resolve
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op, Penalty

Array = np.ndarray

_HE_FAMILY = ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "prelu", "rrelu", "maxout")


class Dense(Layer):
    """a = f(x w + b): x (B, I), w (I, O), b (O,), a (B, O); the same at every position of rows that have some.

    `activation`: a name of `fastnn.nn.ACTIVATIONS`, an `activations.Activation` (with its parameter), or
    "softmax", "maxout", "prelu", "rrelu" or such a layer. `init`: a name of `INITIALIZERS`, an initialiser or a
    number; None takes He's for the relu family, LeCun's for selu and Glorot's uniform otherwise. Biases start
    at 0. `l1`, `l2` and `decay` (all >= 0) penalise the weights of this layer; None: as the optimizer says.

    ValueError or TypeError where an argument is out of range.

    >>> Dense(10, activation="relu", init="he_normal")
    Dense(10, 'relu', init='he_normal')
    """

    DISPENSABLE = ("init",)  # the weights that it drew are kept

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
        self.activation: activations.Activation | Layer = resolve(activation)
        self.init = None if init is None else initializers.get(init)
        self._bias_used = _validate.flag("bias", bias)
        self.l1, self.l2, self.decay = (
            None if value is None else _validate.number(name, value, low=0.0)
            for name, value in (("l1", l1), ("l2", l2), ("decay", decay))
        )

    @property
    def weight(self) -> Array:
        """(I, O), live."""
        return self._view("weight")

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

    def ops(self, inputs: Shape) -> list[Op]:
        follow = self.activation if isinstance(self.activation, Layer) else None
        pieces = follow.pieces if isinstance(follow, Maxout) else 1
        channels, wide = inputs[-1], self.units * pieces
        outputs = (*inputs[:-1], wide)
        draw = self._initializer().draw
        tensors = {
            "w": self._tensor(
                "weight",
                (channels, wide),
                lambda rng: draw(rng, (channels, wide), channels, self.units),
                penalty=self.penalty,
            ),
            "b": self._tensor("bias", (wide,), lambda rng: 0.0, trainable=self.bias_used),
        }
        if follow is None:
            assert isinstance(self.activation, activations.Activation)
            return [Op("dense", inputs, outputs, tensors, self.activation)]
        follow._views = self._views  # its tensors are this layer's
        return [Op("dense", inputs, outputs, tensors), *follow.ops(outputs)]

    def _initializer(self) -> Initializer:
        if self.init is not None:
            return self.init
        name = (
            self.activation.name if not isinstance(self.activation, Layer) else type(self.activation).__name__.lower()
        )
        family = "he_normal" if name in _HE_FAMILY else "lecun_normal" if name == "selu" else "glorot_uniform"
        return initializers.INITIALIZERS[family]

    def settings(self) -> str:
        given = self.arguments()
        activation, units = given.pop("activation"), given.pop("units")
        follow = [] if activation == activations.identity else [expression(activation)]
        return self._written(repr(units), *follow, **given | {"init": initializers.name_of(self.init)})

    def arguments(self) -> dict[str, Any]:
        names = ("units", "activation", "init", "bias", "l1", "l2", "decay")
        return {name: self.bias_used if name == "bias" else getattr(self, name) for name in names}
