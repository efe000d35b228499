"""How a network learns: optimizers as declarations. The update formulas themselves are in `rules.py`.

An optimizer holds its hyper-parameters and turns them into the coefficients of one step. What happens around the rule,
clipping and penalties, is the same for all: see `Optimizer`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastnn import _hints, _validate
from fastnn._text import short
from fastnn.formulas.rules import RULES, Rule

Array = np.ndarray


def _hyper(default: float, low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> float:
    """A field with its range; `Optimizer.__post_init__` checks every one of them by name."""
    limits = {"low": low, "high": high, "open_low": open_low, "open_high": open_high}
    value: float = field(default=default, metadata=limits)
    return value


def _rate(default: float) -> float:
    return _hyper(default, 0.0, math.inf, open_high=True)


def _beta(default: float) -> float:
    return _hyper(default, 0.0, 1.0, open_high=True)


def _penalty(default: float = 0.0) -> float:
    return _hyper(default, 0.0, math.inf, open_high=True)


@dataclass(frozen=True, kw_only=True)
class Penalties:
    """l1, l2 and decay, each >= 0: what every optimizer takes, for the weights of layers that set none of their own.

        l1, l2:  g <- g + l1 sign(w) + l2 w     coupled: they pass through the optimizer's averages
        decay:   w <- w - lr decay w            decoupled, beside the optimizer's step: Loshchilov & Hutter 2019

    lr is the step's, schedule included. Biases, slopes and normalisation parameters are never penalised, and neither
    the loss that is reported nor `evaluate` has the penalties in it.
    """

    l1: float = _penalty()
    l2: float = _penalty()
    decay: float = _penalty()


@dataclass(frozen=True)
class Optimizer(Penalties):
    """Base of all optimizers: a learning rate `lr` >= 0, a rule, and the rule's coefficients at step t.

    A step clips first, so that the penalties are never clipped, and takes from g, the gradient of the batch's loss:

        g <- g min(1, clip_norm / |g|)          |g| of all parameters together: Trainer(clip_norm=)
        g <- min(max(g, -clip_value), clip_value)                               Trainer(clip_value=)
        g <- g + l1 sign(w) + l2 w                                              see `Penalties`
        w <- w - lr decay w - (the rule's step for g)

    ValueError or TypeError names a hyper-parameter that is out of range or no number.

    >>> Adam(0.01, decay=1e-4)
    Adam(lr=0.01, decay=0.0001)

    >>> model = fastnn.Sequential([nn.Dense(1, init=1.0, bias=False)]).build(1, seed=0)
    >>> trainer = fastnn.Trainer(model, "half_mse", SGD(1.0, l2=0.5, decay=0.25), clip_value=2.0)
    >>> history = trainer.fit([[1.0]], [[-9.0]], epochs=1, verbose=False)  # g = 10 -> 2 -> 2 + 0.5
    >>> model.layers[0].weight.item()  # 1 - 0.25 - 2.5
    -1.75
    """

    name: ClassVar[str]
    lr: float = _rate(0.01)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            check = _validate.number if item.metadata else _validate.flag
            checked = check(item.name, value, **item.metadata)
            object.__setattr__(self, item.name, checked)  # a float, whatever kind of number it was

    def __init_subclass__(cls) -> None:
        instead = "`coefficients` and a property `rule`, or optim.rule(name, formula)"
        _hints.refuse_methods(cls, ("step", "update", "update_step", "apply_gradients", "__call__"), instead)
        if "__repr__" not in vars(cls):  # which a dataclass leaves alone
            cls.__repr__ = Optimizer.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """The rate first, then what differs from the defaults: `eval` makes the same optimizer of it."""
        items = sorted(dataclasses.fields(self), key=lambda item: item.name != "lr")
        values = [(item.name, getattr(self, item.name), item.default) for item in items]
        shown = [f"{name}={value!r}" for name, value, default in values if name == "lr" or value != default]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def rule(self) -> Rule:
        """Its formula and the slots it keeps."""
        name = getattr(self, "name", None)
        if name not in RULES:
            raise ValueError(
                f"optimizer {type(self).__name__} has the name {name!r}, expected one of {', '.join(RULES)}, or a "
                "property `rule` of its own"
            )
        return RULES[name]

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        """The rule's numbers at step t = 1, 2, ... with learning rate lr; both numbers, or arrays of one length."""
        raise NotImplementedError

    def coefficient_table(self, lr: Array, first: int) -> Array:
        """(len(lr), n): the rule's numbers at steps first, first + 1, ..., each with its learning rate.

        What every backend takes them from: NumPy's powers of arrays may differ in the last bit from those of numbers.

        >>> SGD().coefficient_table(np.array([0.5, 0.25]), first=1).tolist()
        [[0.5], [0.25]]
        """
        steps = np.arange(first, first + len(lr))
        table = np.empty((len(lr), len(self.rule.coefficients)))
        for column, numbers in enumerate(self.coefficients(lr, steps)):
            table[:, column] = numbers
        return table


def _correction(beta: float, t: Any) -> Any:
    """1 - beta^t. From beta^t = 2^-54 on that is 1, and no power is taken: a denormal one takes 100 ns."""
    last = math.ceil(54 * math.log(2) / -math.log(beta)) if beta > 0.0 else 1
    return 1.0 - beta ** np.minimum(t, last)


@dataclass(frozen=True)
class SGD(Optimizer):
    """w <- w - lr g.

    >>> SGD(0.1).coefficients(0.1, t=1)
    (0.1,)
    """

    name = "sgd"

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr,)


@dataclass(frozen=True)
class Momentum(Optimizer):
    """v <- beta v + gain g, w <- w - lr v.

    Both published forms: gain = 1 (Polyak 1964, the default), or gain = 1 - beta with `averaged=True`, where v
    is a running mean of the gradients; `bias_correction=True` then divides it by 1 - beta^t.
    """

    name = "momentum"
    beta: float = _beta(0.9)
    averaged: bool = False
    bias_correction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias_correction and not self.averaged:
            raise ValueError("bias_correction is True, expected averaged=True with it: only an average is biased")

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        gain = 1.0 - self.beta if self.averaged else 1.0
        return (lr / _correction(self.beta, t) if self.bias_correction else lr, self.beta, gain)


@dataclass(frozen=True)
class Nesterov(Optimizer):
    """v <- beta v + g, w <- w - lr (g + beta v): Nesterov's gradient in the form of Sutskever et al. 2013."""

    name = "nesterov"
    beta: float = _beta(0.9)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr, self.beta)


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """s <- s + g^2, w <- w - lr g / (sqrt(s) + epsilon): Duchi et al. 2011."""

    name = "adagrad"
    epsilon: float = _hyper(1e-10, 0.0, math.inf, open_low=True)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr, self.epsilon)


@dataclass(frozen=True)
class AdaDelta(Optimizer):
    """v <- rho v + (1 - rho) g^2, d = sqrt(u + epsilon) / sqrt(v + epsilon) g, u <- rho u + (1 - rho) d^2,
    w <- w - lr d: Zeiler 2012, where lr is 1."""

    name = "adadelta"
    lr: float = _rate(1.0)
    rho: float = _beta(0.9)
    epsilon: float = _hyper(1e-6, 0.0, math.inf, open_low=True)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr, self.rho, 1.0 - self.rho, self.epsilon)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """v <- rho v + (1 - rho) g^2, w <- w - lr g / (sqrt(v) + epsilon): Tieleman & Hinton 2012."""

    name = "rmsprop"
    lr: float = _rate(1e-3)
    rho: float = _beta(0.9)
    epsilon: float = _hyper(1e-8, 0.0, math.inf, open_low=True)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr, self.rho, 1.0 - self.rho, self.epsilon)


@dataclass(frozen=True)
class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2,
    w <- w - lr m' / (sqrt(v') + epsilon) with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t): Kingma & Ba 2015.

    `amsgrad=True` divides by the largest v so far instead (Reddi et al. 2018, with the same corrections).

    >>> Adam(1e-3).rule.slots
    ('m', 'v')
    """

    name = "adam"
    lr: float = _rate(1e-3)
    beta1: float = _beta(0.9)
    beta2: float = _beta(0.999)
    epsilon: float = _hyper(1e-8, 0.0, math.inf, open_low=True)
    amsgrad: bool = False

    @property
    def rule(self) -> Rule:
        return RULES["amsgrad" if self.amsgrad else "adam"]

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        root = 1.0 / np.sqrt(_correction(self.beta2, t))
        beta1, beta2 = self.beta1, self.beta2
        return (lr / _correction(beta1, t), beta1, 1.0 - beta1, beta2, 1.0 - beta2, root, self.epsilon)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose decay (see `Penalties`) is 0.01 unless a layer sets its own: Loshchilov & Hutter 2019."""

    decay: float = field(default=0.01, kw_only=True, metadata={"low": 0.0, "high": math.inf, "open_high": True})


_BLOCK = 1024
_NOTHING = 1e-20  # beside 1 in float64


def _nadam_momentum(beta1: float, momentum_decay: float, t: Any) -> Any:
    """mu_t of NAdam."""
    return beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))


def _nadam_factors(beta1: float, momentum_decay: float, block: int) -> Array:
    """mu_t for each t of a block of 1024 steps; 1 for t = 0."""
    t = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
    return np.where(t > 0, _nadam_momentum(beta1, momentum_decay, t), 1.0)


@functools.lru_cache(maxsize=64)
def _nadam_ends(beta1: float, momentum_decay: float) -> dict[int, float]:
    """The product before each block, as far as it was asked for."""
    return {0: 1.0}


@functools.lru_cache(maxsize=64)
def _nadam_block(beta1: float, momentum_decay: float, block: int) -> Array:
    """mu_1 .. mu_t multiplied, for each t of a block of 1024 steps: a step looks one up. 0 where it is so small that 1
    less it is 1: a training of 10^10 steps that is resumed does not multiply all of them again."""
    ends = _nadam_ends(beta1, momentum_decay)
    for k in range(len(ends) - 1, block):  # threads that do so at once write the same
        if ends[k] < _NOTHING:
            break
        ends[k + 1] = ends[k] * float(np.cumprod(_nadam_factors(beta1, momentum_decay, k))[-1])
    return ends.get(block, 0.0) * np.cumprod(_nadam_factors(beta1, momentum_decay, block))


def _nadam_product(beta1: float, momentum_decay: float, t: Any) -> Any:
    """mu_1 .. mu_t multiplied, for a step or an array of consecutive ones."""
    if np.ndim(t) == 0:
        return float(_nadam_block(beta1, momentum_decay, t // _BLOCK)[t % _BLOCK])
    first, last = int(t[0]) // _BLOCK, int(t[-1]) // _BLOCK
    blocks = [_nadam_block(beta1, momentum_decay, block) for block in range(first, last + 1)]
    return np.concatenate(blocks)[t - first * _BLOCK]


@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam with Nesterov's look-ahead and a warmed-up momentum mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2):
    w <- w - lr (mu_{t+1} m / (1 - mu_1 .. mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 .. mu_t)) / (sqrt(v') + epsilon).

    Dozat 2016, algorithm 2, as PyTorch has it: m decays by beta1, in the paper by mu_t.
    """

    name = "nadam"
    lr: float = _rate(2e-3)
    beta1: float = _beta(0.9)
    beta2: float = _beta(0.999)
    epsilon: float = _hyper(1e-8, 0.0, math.inf, open_low=True)
    momentum_decay: float = _hyper(4e-3, 0.0, math.inf, open_high=True)

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        mu = _nadam_momentum(self.beta1, self.momentum_decay, t)
        ahead = _nadam_momentum(self.beta1, self.momentum_decay, t + 1)
        product = _nadam_product(self.beta1, self.momentum_decay, t)
        root = 1.0 / np.sqrt(_correction(self.beta2, t))
        return (
            lr * ahead / (1.0 - product * ahead),
            lr * (1.0 - mu) / (1.0 - product),
            self.beta1,
            1.0 - self.beta1,
            self.beta2,
            1.0 - self.beta2,
            root,
            self.epsilon,
        )


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "adadelta": AdaDelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
}

for _kind in OPTIMIZERS.values():  # a dataclass's __init__ is made after __init_subclass__
    _kind.__init__ = _hints.arguments(_hints.OPTIMIZER)(_kind.__init__)  # type: ignore[method-assign]


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimizer of that name with its defaults. ValueError lists the known names."""
    if isinstance(optimizer, Optimizer):
        if not isinstance(optimizer.rule, Rule):
            raise TypeError(f"optimizer {type(optimizer).__name__} has the rule {optimizer.rule!r}, expected a Rule")
        return optimizer
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]()
    raise ValueError(f"optimizer is {short(optimizer)}, expected an Optimizer or one of: {', '.join(OPTIMIZERS)}")
