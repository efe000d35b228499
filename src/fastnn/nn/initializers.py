"""Initial weights: each initialiser once, with its formula and source. Shapes are (inputs, outputs).

fan_in is the number of inputs of a unit, fan_out the number of units a layer has (a piece of maxout counts
as its unit does).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastnn import _validate

Draw = Callable[[np.random.Generator, tuple[int, ...], int, int], np.ndarray]  # rng, shape, fan_in, fan_out


@dataclass(frozen=True)
class Initializer:
    """`draw(rng, shape, fan_in, fan_out)` returns float64 values; the model casts them to its dtype."""

    name: str
    draw: Draw
    source: str

    def __str__(self) -> str:
        return self.name


def Zeros() -> Initializer:
    """0."""
    return Constant(0.0)


def Constant(value: float = 0.0) -> Initializer:
    """The same value everywhere."""
    _validate.number("value", value)
    return Initializer(
        "zeros" if value == 0 else f"constant({value:g})", lambda rng, shape, i, o: np.full(shape, float(value)), ""
    )


def Normal(std: float = 0.01) -> Initializer:
    """N(0, std^2): small random numbers that break the symmetry."""
    _validate.number("std", std, low=0.0)
    return Initializer("normal", lambda rng, shape, i, o: rng.normal(0.0, std, shape), "")


def Uniform(limit: float = 0.05) -> Initializer:
    """U(-limit, limit)."""
    _validate.number("limit", limit, low=0.0)
    return Initializer("uniform", lambda rng, shape, i, o: rng.uniform(-limit, limit, shape), "")


def Orthogonal(gain: float = 1.0) -> Initializer:
    """Orthonormal rows or columns, whichever are fewer, times gain: Saxe et al. 2014.

    Q of the QR decomposition of a normal matrix, with the signs of R's diagonal taken into Q so that Q is
    uniform over the orthogonal matrices (Mezzadri 2007).
    """
    _validate.number("gain", gain)

    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
        rows, columns = shape
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)
        return gain * (q if rows >= columns else q.T)

    return Initializer("orthogonal", draw, "Saxe et al. 2014")


def _variance_scaling(name: str, source: str, variance: Callable[[int, int], float], uniform: bool) -> Initializer:
    def draw(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
        std = math.sqrt(variance(fan_in, fan_out))
        if uniform:  # U(-limit, limit) has variance limit^2 / 3
            return rng.uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, shape)
        return rng.normal(0.0, std, shape)

    return Initializer(name, draw, source)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2.0 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    return 2.0 / fan_in


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1.0 / fan_in


_GLOROT = "Glorot & Bengio 2010, equation 16: variance 2 / (fan_in + fan_out)"
_HE = "He et al. 2015, equation 10: variance 2 / fan_in"
_LECUN = "LeCun et al. 1998, equation 16: variance 1 / fan_in"

INITIALIZERS: dict[str, Initializer] = {
    "zeros": Zeros(),
    "normal": Normal(),
    "uniform": Uniform(),
    "glorot_normal": _variance_scaling("glorot_normal", _GLOROT, _glorot, uniform=False),
    "glorot_uniform": _variance_scaling("glorot_uniform", _GLOROT, _glorot, uniform=True),
    "he_normal": _variance_scaling("he_normal", _HE, _he, uniform=False),
    "he_uniform": _variance_scaling("he_uniform", _HE, _he, uniform=True),
    "lecun_normal": _variance_scaling("lecun_normal", _LECUN, _lecun, uniform=False),
    "lecun_uniform": _variance_scaling("lecun_uniform", _LECUN, _lecun, uniform=True),
    "inverse_sqrt": _variance_scaling(
        "inverse_sqrt", "U(-1 / sqrt(n), 1 / sqrt(n)), n = fan_in", lambda i, o: 1.0 / (3.0 * i), uniform=True
    ),
    "orthogonal": Orthogonal(),
}
ALIASES = {
    "xavier_normal": "glorot_normal",
    "xavier_uniform": "glorot_uniform",
    "msra_normal": "he_normal",
    "msra_uniform": "he_uniform",
}


def get(init: str | Initializer | float) -> Initializer:
    """The initialiser of that name; a number is `Constant`. ValueError lists the known names."""
    if isinstance(init, Initializer):
        return init
    if isinstance(init, (int, float)) and not isinstance(init, bool):
        return Constant(init)
    name = ALIASES.get(init, init) if isinstance(init, str) else None
    if name in INITIALIZERS:
        return INITIALIZERS[name]
    raise ValueError(f"init is {init!r}, expected a number or one of: {', '.join((*INITIALIZERS, *ALIASES))}")
