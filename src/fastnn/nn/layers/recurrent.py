"""SimpleRNN, GRU, LSTM: layers with a state that goes from step to step. No arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from fastnn import _text, _validate
from fastnn.formulas import initializers
from fastnn.formulas.initializers import Initializer
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op, Penalty, Tensor

Array = np.ndarray


class _Recurrent(Layer):
    """What the three share. Weights stand gate beside gate, each drawn for itself, as it would be alone."""

    DISPENSABLE = ("init", "recurrent_init")  # the weights that they drew are kept
    KIND: ClassVar[str]
    GATES: ClassVar[int]
    INNER_BIAS: ClassVar[bool] = False  # whether the products with the state have one of their own

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        init: str | Initializer | float | None = None,
        recurrent_init: str | Initializer | float | None = "orthogonal",
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self.units = _validate.integer("units", units)
        self.return_sequences = _validate.flag("return_sequences", return_sequences)
        self.init = None if init is None else initializers.get(init)
        self.recurrent_init = None if recurrent_init is None else initializers.get(recurrent_init, "recurrent_init")
        self.l1, self.l2, self.decay = (
            None if value is None else _validate.number(name, value, low=0.0)
            for name, value in (("l1", l1), ("l2", l2), ("decay", decay))
        )

    @property
    def weight(self) -> Array:
        """(I, gates O), live: of the products with what comes in."""
        return self._view("weight")

    @property
    def recurrent_weight(self) -> Array:
        """(O, gates O), live: of the products with the state of the step before."""
        return self._view("recurrent_weight")

    @property
    def bias(self) -> Array:
        """(gates O,), live."""
        return self._view("bias")

    @property
    def penalty(self) -> Penalty:
        """Of both weights."""
        return Penalty(self.l1, self.l2, self.decay)

    def ops(self, inputs: Shape) -> list[Op]:
        if len(inputs) != 2:
            raise ValueError(
                f"takes rows of shape (steps, channels), but they have shape {inputs}: Reshape((-1, channels)) before "
                f"it makes steps of channels"
            )
        every = (inputs[0], self.units)
        made = [Op(self.KIND, inputs, every, self._tensors(inputs[1]), settings=self._numbers())]
        return made if self.return_sequences else [*made, Op("last", every, (self.units,))]

    def _numbers(self) -> dict[str, float]:
        return {}

    def _tensors(self, channels: int) -> dict[str, Tensor]:
        units, wide = self.units, self.GATES * self.units

        def drawn(init: Initializer | None, default: str, inputs: int) -> Callable[[np.random.Generator], Array]:
            draw = (init or initializers.INITIALIZERS[default]).draw
            return lambda rng: np.hstack([draw(rng, (inputs, units), inputs, units) for _ in range(self.GATES)])

        made = {
            "w": self._tensor(
                "weight",
                (channels, wide),
                drawn(self.init, "glorot_uniform", channels),
                penalty=self.penalty,
            ),
            "u": self._tensor(
                "recurrent_weight",
                (units, wide),
                drawn(self.recurrent_init, "orthogonal", units),
                penalty=self.penalty,
            ),
            "b": self._tensor("bias", (wide,), self._first_bias),
        }
        return made | ({"bu": self._tensor("recurrent_bias", (wide,), lambda rng: 0.0)} if self.INNER_BIAS else {})

    def _first_bias(self, rng: np.random.Generator) -> Array | float:
        return 0.0

    def settings(self) -> str:
        given = self.arguments()
        for role in ("init", "recurrent_init"):
            given[role] = initializers.name_of(given[role])
        return self._written(repr(given.pop("units")), **given)


class SimpleRNN(_Recurrent):
    """h_t = f(x_t w + h_{t-1} u + b) over the steps of rows of shape (steps, channels), h before the first step being
    0; f is "tanh" or "relu". Elman 1990.

    Goes out: the last state, or with `return_sequences=True` that of each step, which a further recurrent layer takes.
    `init` is of w (None: glorot_uniform), `recurrent_init` of u, both of each gate by itself; biases start at 0. `l1`,
    `l2` and `decay` penalise both weights, as in `Dense`. ValueError or TypeError where an argument is out of range,
    and when the model is built where rows have no steps.

    >>> fastnn.Sequential([nn.SimpleRNN(8), nn.Dense(1)]).build((20, 3), seed=0).predict(np.zeros((5, 20, 3))).shape
    (5, 1)
    """

    KIND, GATES = "rnn", 1

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        *,
        return_sequences: bool = False,
        init: str | Initializer | float | None = None,
        recurrent_init: str | Initializer | float | None = "orthogonal",
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__(
            units,
            return_sequences=return_sequences,
            init=init,
            recurrent_init=recurrent_init,
            l1=l1,
            l2=l2,
            decay=decay,
        )
        self.activation = _text.choice("activation", activation, ("tanh", "relu"), "'tanh' or 'relu'")

    def _numbers(self) -> dict[str, float]:
        return {"relu": float(self.activation == "relu")}


class GRU(_Recurrent):
    """A state that gates let go or keep, over the steps of rows of shape (steps, channels). Cho et al. 2014.

    r, z = sigmoid(x_t w + b + h_{t-1} u + c), n = tanh(x_t w + b + r (h_{t-1} u + c)), h_t = (1 - z) n + z h_{t-1}:
    each gate with its own columns of w and u and its own of both biases, in the order r z n. The reset r stands behind
    the product, as in cuDNN, PyTorch and Keras (reset_after=True). Arguments as of `SimpleRNN`.

    >>> layer = fastnn.Sequential([nn.GRU(8, return_sequences=True)]).build((20, 3), seed=0).layers[0]
    >>> layer.weight.shape, layer.recurrent_weight.shape, layer.bias.shape, layer.recurrent_bias.shape
    ((3, 24), (8, 24), (24,), (24,))
    """

    KIND, GATES, INNER_BIAS = "gru", 3, True

    @property
    def recurrent_bias(self) -> Array:
        """(3 O,), live: c, of the products with the state of the step before."""
        return self._view("recurrent_bias")


class LSTM(_Recurrent):
    """A state and a cell that gates write, keep and show, over the steps of rows of shape (steps, channels). Hochreiter
    & Schmidhuber 1997.

    i, f, o = sigmoid(x_t w + h_{t-1} u + b), g = tanh(the same), c_t = f c_{t-1} + i g, h_t = o tanh(c_t): each gate
    with its own columns of w, u and b, in the order i f g o. The bias of the forget gate f starts at 1 (Jozefowicz et
    al. 2015), the others at 0. Arguments as of `SimpleRNN`.

    >>> fastnn.Sequential([nn.LSTM(8), nn.Dense(1)]).build((20, 3), seed=0).plan.parameter_count
    393
    """

    KIND, GATES = "lstm", 4

    def _first_bias(self, rng: np.random.Generator) -> Array:
        return np.repeat([0.0, 1.0, 0.0, 0.0], self.units)
