"""Initial weights: each initialiser once, with its formula and source. Shapes are (inputs, outputs).

fan_in is the number of inputs of a unit, fan_out the number of units a layer has (the pieces of a maxout unit
count as one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastnn import _validate
from fastnn._text import short

Array = np.ndarray


@dataclass(frozen=True)
class Initializer:
    """Base: `draw` returns float64 values of the shape; the model casts them to its dtype."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Initializer):
    """The same value everywhere."""

    value: float = 0.0

    def __post_init__(self) -> None:
        _validate.number("value", self.value)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
        return np.full(shape, float(self.value))


@dataclass(frozen=True)
class Zeros(Constant):
    """0: for a layer whose units differ by something else; alone it leaves them all the same for ever."""


@dataclass(frozen=True)
class Normal(Initializer):
    """N(0, std^2): small random numbers that break the symmetry."""

    std: float = 0.01

    def __post_init__(self) -> None:
        _validate.number("std", self.std, low=0.0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
        return rng.normal(0.0, self.std, shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """U(-limit, limit)."""

    limit: float = 0.05

    def __post_init__(self) -> None:
        _validate.number("limit", self.limit, low=0.0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
        return rng.uniform(-self.limit, self.limit, shape)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Mean 0 and variance `scale` / fan, where fan is fan_in or the mean of fan_in and fan_out.

    Glorot & Bengio 2010, equation 16: scale 1, "average". He et al. 2015, equation 10: scale 2, "in".
    LeCun et al. 1998, equation 16: scale 1, "in". U(-1 / sqrt(n), 1 / sqrt(n)): scale 1/3, "in", uniform.
    """

    scale: float
    fan: Literal["in", "average"]
    uniform: bool

    def __post_init__(self) -> None:
        _validate.number("scale", self.scale, low=0.0)
        if self.fan not in ("in", "average"):
            raise ValueError(f"fan is {self.fan!r}, expected 'in' or 'average'")
        _validate.flag("uniform", self.uniform)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
        std = math.sqrt(self.scale / (fan_in if self.fan == "in" else 0.5 * (fan_in + fan_out)))
        if self.uniform:  # U(-limit, limit) has variance limit^2 / 3
            return rng.uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, shape)
        return rng.normal(0.0, std, shape)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """Orthonormal rows or columns, whichever are fewer, times gain: Saxe et al. 2014.

    Q of the QR decomposition of a normal matrix, with the signs of R's diagonal taken into Q so that Q is
    uniform over the orthogonal matrices (Mezzadri 2007).
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _validate.number("gain", self.gain)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], fan_in: int, fan_out: int) -> Array:
        rows, columns = shape
        q = _orthonormal(rng.normal(size=(max(shape), min(shape))))
        return self.gain * (q if rows >= columns else q.T)


def _orthonormal(a: Array, block: int = 128) -> Array:
    """Q of a = QR with R's diagonal positive: a block of columns at a time, made orthogonal twice to those before it
    (once loses digits; twice is enough: Giraud, Langou & Rozloznik 2005).

    One call of LAPACK for 3,000 x 3,000 took 13.8 s, during which no Ctrl-C is answered.
    """
    q = np.empty_like(a)
    for start in range(0, a.shape[1], block):
        columns = slice(start, start + block)
        before, own = q[:, :start], a[:, columns]
        for _ in range(2 if start else 1):
            own, r = np.linalg.qr(own - before @ (before.T @ own))
            own *= np.where(np.diag(r) < 0, -1.0, 1.0)
        q[:, columns] = own
    return q


INITIALIZERS: dict[str, Initializer] = {
    "zeros": Zeros(),
    "normal": Normal(),
    "uniform": Uniform(),
    "glorot_normal": VarianceScaling(1.0, "average", uniform=False),
    "glorot_uniform": VarianceScaling(1.0, "average", uniform=True),
    "he_normal": VarianceScaling(2.0, "in", uniform=False),
    "he_uniform": VarianceScaling(2.0, "in", uniform=True),
    "lecun_normal": VarianceScaling(1.0, "in", uniform=False),
    "lecun_uniform": VarianceScaling(1.0, "in", uniform=True),
    "inverse_sqrt": VarianceScaling(1.0 / 3.0, "in", uniform=True),
    "orthogonal": Orthogonal(),
}
ALIASES = {
    "xavier_normal": "glorot_normal",
    "xavier_uniform": "glorot_uniform",
    "msra_normal": "he_normal",
    "msra_uniform": "he_uniform",
}


def get(init: str | Initializer | float, argument: str = "init") -> Initializer:
    """The initialiser of that name; a number is `Constant`. ValueError lists the known names."""
    if isinstance(init, Initializer):
        return init
    if isinstance(init, (int, float)) and not isinstance(init, bool):
        return Constant(_validate.number(argument, init))
    name = ALIASES.get(init, init) if isinstance(init, str) else None
    if name in INITIALIZERS:
        return INITIALIZERS[name]
    raise ValueError(
        f"{argument} is {short(init)}, expected a number or one of: {', '.join((*INITIALIZERS, *ALIASES))}"
    )


def name_of(init: Initializer | None) -> str | Initializer | None:
    """The name that `get` knows it by, else itself."""
    return next((name for name, known in INITIALIZERS.items() if known == init), init)
