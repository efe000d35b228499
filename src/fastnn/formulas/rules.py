"""The update rules, each once: formula, slots, source. Pure expressions, for arrays and scalars alike.

A rule maps the gradient `g`, the slots `s` (a tuple) and the step's coefficients `c` (a tuple of numbers,
computed once a step by the optimizer: see `optimizers.py`) to `delta`, what is subtracted from the weight,
and the new slots. The numpy backend evaluates it on whole arrays, numba and the python backend on scalars.

1 - beta and 1 - rho are coefficients of their own, so that they are rounded once: 1 - 0.999 in float32 is 1.3e-5 off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.formulas.own import fingerprint


@dataclass(frozen=True)
class Rule:
    """`formula(g, s, c) -> (delta, s)`; `slots` names the arrays in s, `coefficients` the numbers in c."""

    name: str
    slots: tuple[str, ...]
    coefficients: tuple[str, ...]
    formula: Callable[[Any, tuple[Any, ...], tuple[float, ...]], tuple[Any, tuple[Any, ...]]]
    source: str

    @property
    def built_in(self) -> bool:
        """Whether it is the rule of that name in RULES: what is compiled is found by name."""
        return RULES.get(self.name) == self

    @property
    def key(self) -> str:
        """Whose slots a state has: the name of a built-in rule, with a digest of the formula of any other."""
        return self.name if self.built_in else f"{self.name} {fingerprint(self.formula)}"

    def __eq__(self, other: object) -> bool:
        mine = self.name, self.formula, len(self.slots), len(self.coefficients)
        return isinstance(other, Rule) and mine == (
            other.name,
            other.formula,
            len(other.slots),
            len(other.coefficients),
        )

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


def _sgd(g, s, c):
    return c[0] * g, s


def _momentum(g, s, c):
    lr, beta, gain = c
    v = beta * s[0] + gain * g
    return lr * v, (v,)


def _nesterov(g, s, c):
    lr, beta = c
    v = beta * s[0] + g
    return lr * (g + beta * v), (v,)


def _adagrad(g, s, c):
    lr, epsilon = c
    total = s[0] + g * g
    return lr * g / (np.sqrt(total) + epsilon), (total,)


def _adadelta(g, s, c):
    lr, rho, rest, epsilon = c
    v = rho * s[0] + rest * g * g
    step = np.sqrt(s[1] + epsilon) / np.sqrt(v + epsilon) * g
    return lr * step, (v, rho * s[1] + rest * step * step)


def _rmsprop(g, s, c):
    lr, rho, rest, epsilon = c
    v = rho * s[0] + rest * g * g
    return lr * g / (np.sqrt(v) + epsilon), (v,)


def _adam(g, s, c):
    lr, beta1, rest1, beta2, rest2, root, epsilon = c
    m = beta1 * s[0] + rest1 * g
    v = beta2 * s[1] + rest2 * g * g
    return lr * m / (np.sqrt(v) * root + epsilon), (m, v)


def _amsgrad(g, s, c):
    lr, beta1, rest1, beta2, rest2, root, epsilon = c
    m = beta1 * s[0] + rest1 * g
    v = beta2 * s[1] + rest2 * g * g
    peak = np.maximum(s[2], v)
    return lr * m / (np.sqrt(peak) * root + epsilon), (m, v, peak)


def _nadam(g, s, c):
    lr_m, lr_g, beta1, rest1, beta2, rest2, root, epsilon = c
    m = beta1 * s[0] + rest1 * g
    v = beta2 * s[1] + rest2 * g * g
    return (lr_m * m + lr_g * g) / (np.sqrt(v) * root + epsilon), (m, v)


_ADAM = ("lr / (1 - beta1^t)", "beta1", "1 - beta1", "beta2", "1 - beta2", "1 / sqrt(1 - beta2^t)", "epsilon")

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("sgd", (), ("lr",), _sgd, "Robbins & Monro 1951"),
        Rule("momentum", ("v",), ("lr", "beta", "gain"), _momentum, "Polyak 1964; gain 1 - beta: the averaged form"),
        Rule("nesterov", ("v",), ("lr", "beta"), _nesterov, "Sutskever et al. 2013, section 2"),
        Rule("adagrad", ("total",), ("lr", "epsilon"), _adagrad, "Duchi et al. 2011"),
        Rule("adadelta", ("v", "u"), ("lr", "rho", "1 - rho", "epsilon"), _adadelta, "Zeiler 2012, algorithm 1"),
        Rule("rmsprop", ("v",), ("lr", "rho", "1 - rho", "epsilon"), _rmsprop, "Tieleman & Hinton 2012, lecture 6.5"),
        Rule("adam", ("m", "v"), _ADAM, _adam, "Kingma & Ba 2015, algorithm 1"),
        Rule("amsgrad", ("m", "v", "peak"), _ADAM, _amsgrad, "Reddi et al. 2018, algorithm 2"),
        Rule(
            "nadam",
            ("m", "v"),
            ("lr mu_next / (1 - product mu_next)", "lr (1 - mu) / (1 - product mu)", *_ADAM[1:]),
            _nadam,
            "Dozat 2016, algorithm 2; m decays by beta1, as in PyTorch",
        ),
    )
}
