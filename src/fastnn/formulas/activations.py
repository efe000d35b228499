"""Each activation once: formula, derivative, what backward needs, source. No loops, no buffers.

An element-wise activation is an `Activation`: two formulas over NumPy expressions that hold for arrays
(the numpy backend evaluates them as they stand) and for scalars (numba compiles them as they stand, the
python backend calls them). `z` is the pre-activation, `a = value(z, alpha)`; the derivative is written in
terms of whichever of the two is cheaper to keep, and `saves` says which.

Activations that see a whole row, learn a parameter or draw random numbers (softmax, maxout, prelu, rrelu)
are layers of their own, in `layers.py`: `ROW_ACTIVATIONS` only names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from fastnn import _validate
from fastnn._text import short
from fastnn.formulas.special import erf

Formula = Callable[[Any, float], Any]


@dataclass(frozen=True)
class Activation:
    """An element-wise activation `a = value(z, alpha)` with derivative `da/dz = derivative(saved, alpha)`.

    `saved` is `z` or `a`, as `saves` says. `alpha` is the activation's one parameter (0 where it has none).
    Two activations are equal when name, alpha and formulas are.

    >>> float(leaky_relu.value(-1.0, 0.2))
    -0.2
    """

    name: str
    value: Formula
    derivative: Formula
    saves: Literal["z", "a"]
    source: str
    alpha: float = 0.0
    alpha_range: tuple[float, float] = (0.0, 0.0)  # what `with_alpha` accepts; (0, 0): the activation has none
    exact_derivative: bool = True  # False: a surrogate (binary_step)
    kinks: tuple[float, ...] = ()  # z where the derivative jumps; central differences are meaningless there

    def __repr__(self) -> str:
        """What tells it from others, without its formulas: it stands in errors."""
        alpha = "" if self.alpha_range == (0.0, 0.0) else f", alpha={self.alpha!r}"
        return f"Activation({self.name!r}{alpha})"

    def with_alpha(self, alpha: float) -> Activation:
        """The same activation with another parameter. ValueError or TypeError where alpha is out of range."""
        low, high = self.alpha_range
        if low == high and alpha != low:
            raise ValueError(f"alpha of {self.name} is {alpha!r}, expected {low} ({self.name} has no parameter)")
        number = _validate.number(f"alpha of {self.name}", alpha, low, high, open_high=math.isinf(high))
        return self if number == self.alpha else replace(self, alpha=number)

    @property
    def built_in(self) -> bool:
        """Whether its formulas are those of ACTIVATIONS by its name: what is compiled is found by name."""
        known = ACTIVATIONS.get(self.name)
        return known is not None and known.formulas == self.formulas

    @property
    def formulas(self) -> tuple[Formula, Formula, str]:
        return self.value, self.derivative, self.saves

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Activation) or (self.name, self.alpha) != (other.name, other.alpha):
            return False
        return self.formulas == other.formulas

    def __hash__(self) -> int:
        return hash((self.name, self.alpha))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.built_in:
            return _restore, (self.name, self.alpha)  # formulas are found again by name
        return Activation, tuple(getattr(self, item.name) for item in fields(self))

    def __str__(self) -> str:
        return self.name if self.alpha_range == (0.0, 0.0) else f"{self.name}({self.alpha!r})"


def _sigmoid(z, alpha):
    e = np.exp(-np.abs(z))  # <= 1: never overflows
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _softplus(z, alpha):
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _mish_derivative(z, alpha):
    t = np.tanh(_softplus(z, 0.0))
    return t + z * (1.0 - t * t) * _sigmoid(z, 0.0)


def _silu_derivative(z, alpha):
    s = _sigmoid(z, 0.0)
    return s + z * s * (1.0 - s)


_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715  # Hendrycks & Gimpel 2016, section 2


def _gelu_tanh(z, alpha):
    return 0.5 * z * (1.0 + np.tanh(_SQRT_2_OVER_PI * z * (1.0 + _GELU_CUBIC * z * z)))


def _gelu_tanh_derivative(z, alpha):
    t = np.tanh(_SQRT_2_OVER_PI * z * (1.0 + _GELU_CUBIC * z * z))
    return 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * (_SQRT_2_OVER_PI * (1.0 + 3.0 * _GELU_CUBIC * z * z))


_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


def _gelu(z, alpha):
    return 0.5 * z * (1.0 + erf(z * _SQRT_HALF))


def _gelu_derivative(z, alpha):
    return 0.5 * (1.0 + erf(z * _SQRT_HALF)) + z * (_INV_SQRT_2PI * np.exp(-0.5 * z * z))


# Klambauer et al. 2017, equation 14: the fixed point (mean 0, variance 1) of selu.
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


def _selu(z, alpha):
    return _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0.0)))


def _selu_derivative(a, alpha):
    return np.where(a > 0, _SELU_SCALE, a + _SELU_SCALE * _SELU_ALPHA)


_ANY_POSITIVE = (0.0, math.inf)

ELEMENTWISE: tuple[Activation, ...] = (
    Activation("identity", lambda z, alpha: z * 1.0, lambda a, alpha: a * 0.0 + 1.0, "a", "a = z"),
    Activation(
        "binary_step",
        lambda z, alpha: np.where(z >= 0, 1.0, np.where(z < 0, 0.0, z)),  # NaN stays NaN
        lambda z, alpha: np.where(np.abs(z) <= 1, 1.0, 0.0),
        "z",
        "straight-through estimator, saturated outside [-1, 1]: Hubara et al. 2016, equation 4",
        exact_derivative=False,
    ),
    Activation("sigmoid", _sigmoid, lambda a, alpha: a * (1.0 - a), "a", "1 / (1 + exp(-z))"),
    Activation("tanh", lambda z, alpha: np.tanh(z), lambda a, alpha: 1.0 - a * a, "a", "tanh(z)"),
    Activation(
        "relu",
        lambda z, alpha: np.maximum(z, 0.0),
        lambda a, alpha: a > 0,
        "a",
        "Nair & Hinton 2010",
        kinks=(0.0,),
    ),
    Activation(
        "leaky_relu",
        lambda z, alpha: np.where(z > 0, z, alpha * z),
        lambda a, alpha: np.where(a > 0, 1.0, alpha),
        "a",  # alpha >= 0 keeps the sign of z in a
        "Maas et al. 2013",
        alpha=0.01,
        alpha_range=_ANY_POSITIVE,
        kinks=(0.0,),
    ),
    Activation(
        "elu",
        lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0))),
        lambda a, alpha: np.where(a > 0, 1.0, a + alpha),
        "a",
        "Clevert et al. 2016, equation 15",
        alpha=1.0,
        alpha_range=_ANY_POSITIVE,
        kinks=(0.0,),
    ),
    Activation("selu", _selu, _selu_derivative, "a", "Klambauer et al. 2017, equation 2", kinks=(0.0,)),
    Activation("softplus", _softplus, _sigmoid, "z", "log(1 + exp(z)): Dugas et al. 2001"),
    Activation("gelu", _gelu, _gelu_derivative, "z", "z Phi(z): Hendrycks & Gimpel 2016"),
    Activation("gelu_tanh", _gelu_tanh, _gelu_tanh_derivative, "z", "tanh form: Hendrycks & Gimpel 2016"),
    Activation("silu", lambda z, alpha: z * _sigmoid(z, 0.0), _silu_derivative, "z", "Elfwing et al. 2018"),
    Activation(
        "mish", lambda z, alpha: z * np.tanh(_softplus(z, 0.0)), _mish_derivative, "z", "Misra 2020, equation 1"
    ),
    Activation(
        "hard_sigmoid",
        lambda z, alpha: np.minimum(np.maximum(z / 6.0 + 0.5, 0.0), 1.0),
        lambda a, alpha: np.where((a > 0) & (a < 1), 1.0 / 6.0, 0.0),
        "a",
        "clip(z / 6 + 1/2, 0, 1): Howard et al. 2019, section 5.2",
        kinks=(-3.0, 3.0),
    ),
    Activation(
        "hard_tanh",
        lambda z, alpha: np.minimum(np.maximum(z, -1.0), 1.0),
        lambda a, alpha: np.where(np.abs(a) < 1, 1.0, 0.0),
        "a",
        "clip(z, -1, 1): Collobert 2004",
        kinks=(-1.0, 1.0),
    ),
    Activation(
        "softsign",
        lambda z, alpha: z / (1.0 + np.abs(z)),
        lambda a, alpha: (1.0 - np.abs(a)) * (1.0 - np.abs(a)),
        "a",
        "z / (1 + |z|): Glorot & Bengio 2010",
    ),
    Activation("exponential", lambda z, alpha: np.exp(z), lambda a, alpha: a * 1.0, "a", "exp(z), the link of poisson"),
)

ACTIVATIONS: dict[str, Activation] = {activation.name: activation for activation in ELEMENTWISE}
ROW_ACTIVATIONS: tuple[str, ...] = ("softmax", "maxout", "prelu", "rrelu")


def _restore(name: str, alpha: float) -> Activation:
    return replace(ACTIVATIONS[name], alpha=alpha)


identity = ACTIVATIONS["identity"]
leaky_relu = ACTIVATIONS["leaky_relu"]


def get(activation: str | Activation | None) -> Activation:
    """The element-wise activation of that name; None is identity. ValueError lists the known names."""
    if activation is None:
        return identity
    if isinstance(activation, Activation):
        taken = activation.name in ACTIVATIONS or activation.name in ROW_ACTIVATIONS
        if taken and not activation.built_in:  # layers and files tell activations by their names
            raise ValueError(f"activation is {activation} with formulas of its own, expected another name for it")
        return activation
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    known = ", ".join((*ACTIVATIONS, *ROW_ACTIVATIONS))
    raise ValueError(f"activation is {short(activation)}, expected one of: {known}")
