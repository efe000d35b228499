"""What scikit-learn's parameters mean in fastnn's terms: layers, first weights, optimizers. Trains nothing."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import _validate, nn
from fastnn.nn.layers import Dense, Layer
from fastnn.nn.layers.activations import resolve
from fastnn.nn.model import Sequential
from fastnn.optim import optimizers
from fastnn.optim.optimizers import Adam, Optimizer

Array = np.ndarray
LOGISTIC = ("logistic", "sigmoid")


# Layers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layout:
    """A network of dense layers: everything that cannot change once it has parameters."""

    hidden: tuple[int, ...]
    activations: tuple[Any, ...]  # one a hidden layer
    dropout: tuple[float, ...]
    batch_norm: bool
    drawn: Any = "identity"  # whose factor the output layer's first weights have: of no account afterwards

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self._said() == other._said()

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[Any, ...]:
        """A layer by its repr: that of a copy, or from a file, is the same."""
        activations = tuple(repr(each) if isinstance(each, Layer) else each for each in self.activations)
        return self.hidden, activations, self.dropout, self.batch_norm

    @staticmethod
    def of(hidden: Sequence[int], activation: Any, dropout: Any, batch_norm: bool) -> Layout:
        """ValueError where a list has not one entry a hidden layer."""
        activations = _each("activation", activation, len(hidden))
        rates = tuple(
            _validate.number("dropout", rate, 0.0, 1.0, open_high=True)
            for rate in _each("dropout", dropout, len(hidden))
        )
        return Layout(tuple(hidden), activations, rates, batch_norm, activations[-1] if hidden else activation)

    def build(self, inputs: int, outputs: int, dtype: np.dtype) -> Sequential:
        """The network, its weights 0."""
        return Sequential(self.layers(outputs), dtype=dtype).build(inputs, seed=0)

    def layers(self, outputs: int) -> list[Layer]:
        """Those of the network."""
        layers: list[Layer] = []
        for units, activation, rate in zip(self.hidden, self.activations, self.dropout, strict=True):
            own = _resolved(activation)
            if self.batch_norm:
                pieces = own.pieces if isinstance(own, nn.Maxout) else 1
                layers += [Dense(units * pieces, init=0.0), nn.BatchNorm(), nn.Activation(own)]
            else:
                layers.append(Dense(units, own, init=0.0))
            if rate:
                layers.append(nn.Dropout(rate))
        layers.append(Dense(outputs, init=0.0))
        return layers

    def draw(self, model: Sequential, random: np.random.RandomState) -> None:
        """scikit-learn's first weights and biases, from the same numbers: Glorot's uniform ones (Glorot & Bengio 2010),
        narrower where the activation is the logistic one."""
        for layer, activation in zip(dense_layers(model), [*self.activations, self.drawn], strict=True):
            factor = 2.0 if isinstance(activation, str) and activation in LOGISTIC else 6.0
            bound = np.sqrt(factor / (layer.weight.shape[0] + layer.units))
            layer.weight[...] = random.uniform(-bound, bound, layer.weight.shape)
            layer.bias[...] = random.uniform(-bound, bound, layer.bias.shape)


def _each(name: str, value: Any, count: int) -> tuple[Any, ...]:
    """One entry a hidden layer: a list's, or the value for all."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return (value,) * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries, expected {count}, one for each hidden layer")
    return tuple(value.tolist() if isinstance(value, np.ndarray) else value)


def _resolved(activation: Any) -> Any:
    """What Dense takes for it; layers are copied, for they belong to one model."""
    if isinstance(activation, Layer):
        return copy.deepcopy(activation)
    if not isinstance(activation, str):
        return nn.activations.get(activation)
    return resolve("sigmoid" if activation == "logistic" else activation)


def dense_layers(model: Sequential) -> list[Dense]:
    """Those with `coefs_` and `intercepts_`."""
    return [layer for layer in model.layers if isinstance(layer, Dense)]


# Optimizers -------------------------------------------------------------------------------------------------


def _setting(default: float, low: float, high: float = math.inf) -> float:
    value: float = field(default=default, metadata={"low": low, "high": high})
    return value


@dataclass(frozen=True)
class SklearnAdam(Adam):
    """scikit-learn's Adam: its epsilon is beside sqrt(v), not beside sqrt(v / (1 - beta2^t)).

    outputs: how many a loss is the mean of, where scikit-learn's gradient is that of their sum. A gradient outputs
    times as small takes the same step with an epsilon as much smaller.
    """

    outputs: float = _setting(1.0, 1.0)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        *others, root, epsilon = super().coefficients(lr, t)
        return (*others, root, epsilon / self.outputs * root)


@dataclass(frozen=True)
class SklearnMomentum(Optimizer):
    """v <- beta v + lr g, w <- w - v: the learning rate is in the velocity. beta may be 1. outputs: see SklearnAdam."""

    name = "momentum"
    beta: float = _setting(0.9, 0.0, 1.0)
    outputs: float = _setting(1.0, 1.0)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (1.0, self.beta, lr * self.outputs)


@dataclass(frozen=True)
class SklearnNesterov(Optimizer):
    """v <- beta v + g, w <- w - lr (g + beta v): scikit-learn's as long as lr stays the same; see `change_rate`."""

    name = "nesterov"
    beta: float = _setting(0.9, 0.0, 1.0)
    outputs: float = _setting(1.0, 1.0)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr * self.outputs, self.beta)


def change_rate(optimizer: Optimizer, model: Sequential, old: float, new: float) -> None:
    """What the slots need where the learning rate goes from old to new between two epochs."""
    if isinstance(optimizer, SklearnNesterov) and model.state.slots and new > 0.0:
        velocity = model.state.slots[0]
        limit = np.finfo(velocity.dtype).max
        with np.errstate(over="ignore"):
            np.clip(velocity * min(old / new, float(limit)), -limit, limit, out=velocity)


def optimizer_for(params: Any, l2: float, outputs: int) -> Optimizer:
    """The optimizer of an estimator, whose parameters are attributes.

    l2: on the weights, beside the gradient of a mean over the outputs; outputs: see SklearnAdam.
    """
    given, rate = params.optimizer, params.learning_rate_init
    if given is not None:
        own: Optimizer = optimizers.OPTIMIZERS[given](lr=rate) if isinstance(given, str) else given
        return dataclasses.replace(own, l2=own.l2 + l2) if l2 else own
    if params.solver == "adam":
        betas = {"beta1": params.beta_1, "beta2": params.beta_2}
        return SklearnAdam(rate, epsilon=params.epsilon, **betas, l2=l2, outputs=outputs)
    kind = SklearnNesterov if params.nesterovs_momentum else SklearnMomentum
    return kind(rate, beta=params.momentum, l2=l2, outputs=outputs)


def squares(weights: Sequence[Array]) -> float:
    """Sum of the squared weights."""
    return float(sum([np.vdot(weight, weight) for weight in weights]))
