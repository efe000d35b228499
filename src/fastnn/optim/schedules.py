"""Learning-rate schedules: declarations. Each maps time to a factor on the optimizer's learning rate.

Time `t` and the whole length `total` are in epochs, fractions included (step k of n a epoch is t = k / n), or
in steps where `per="step"`. A schedule is a pure function, so a resumed run needs nothing but the step.

Where a factor jumps (a decay, a restart, the end of a warm-up) time is compared in whole numbers: step k of n an epoch
is at k / n exactly, and a length that is not a whole number is the simplest fraction within 3e-14 of it. So 0.2 is 1/5,
which float64 has not: fmod(0.6, 0.2) is 0.19999.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np

from fastnn import _text, _validate
from fastnn._text import short


def _setting(default: float, low: float, high: float = math.inf, open_low: bool = False) -> float:
    value: float = field(default=default, metadata={"low": low, "high": high, "open_low": open_low})
    return value


def _required(low: float, high: float = math.inf, open_low: bool = False) -> float:
    value: float = field(metadata={"low": low, "high": high, "open_low": open_low})
    return value


_MEANT = Fraction(1, 1 << 45)  # 3e-14 of a number: what a few roundings of float64 add up to; fractions of up to
# 4 million lie further apart
_SAME = 1e-12  # of a time: closer to where a stretched period begins it is there


@functools.lru_cache(maxsize=1024)
def _ratio(number: float) -> tuple[int, int]:
    """The simplest fraction that a number >= 0 may stand for, as numerator and denominator.

    >>> _ratio(0.1 + 0.2), _ratio(1 / 3), _ratio(2.5)
    ((3, 10), (1, 3), (5, 2))
    """
    exact = Fraction(number)
    low, high = exact * (1 - _MEANT), exact * (1 + _MEANT)
    before, after = (0, 1), (1, 0)  # convergents of the continued fraction that low and high have in common
    while True:
        whole = math.ceil(low)
        last = whole <= high
        digit = whole if last else math.floor(low)
        before, after = after, (digit * after[0] + before[0], digit * after[1] + before[1])
        if last:
            return after
        low, high = 1 / (high - digit), 1 / (low - digit)


def _power(base: float, exponent: float) -> float:
    """base^exponent, infinity where that is beyond float64."""
    try:
        return math.pow(base, exponent)
    except OverflowError:  # of the result, or of an exponent that is a long integer
        return math.inf if (base > 1.0) else float(base == 1.0)


@dataclass(frozen=True)
class Schedule:
    """Base: `factor(t, total)` is what the learning rate is multiplied with at time t."""

    per: Literal["epoch", "step"] = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        _text.choice("per", self.per, ("epoch", "step"), "'epoch' or 'step'")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.metadata and not (value is None and item.default is None):
                object.__setattr__(self, item.name, _validate.number(item.name, value, **item.metadata))

    def factor(self, t: float, total: float) -> float:
        """What the learning rate is multiplied with at time t of a run as long as total."""
        raise NotImplementedError

    def factors(self, first: int, last: int, steps_per_epoch: int, epochs: int) -> np.ndarray:
        """The factors (last - first,) of steps first .. last - 1."""
        unit = steps_per_epoch if self.per == "epoch" else 1
        total = epochs * steps_per_epoch / unit
        return np.array([self._at(step, unit, total) for step in range(first, last)])

    def _at(self, k: int, n: int, total: float) -> float:
        """The factor at time k / n: of its own where it jumps."""
        return self.factor(k / n, total)


@dataclass(frozen=True)
class Constant(Schedule):
    """1."""

    def factor(self, t: float, total: float) -> float:
        return 1.0

    def factors(self, first: int, last: int, steps_per_epoch: int, epochs: int) -> np.ndarray:
        return np.ones(last - first)  # without a call for each step: an eighth of a small network's epoch


@dataclass(frozen=True)
class StepDecay(Schedule):
    """gamma^floor(t / every).

    >>> StepDecay(every=10, gamma=0.5).factor(25, total=100)
    0.25
    """

    every: float = _required(0.0, open_low=True)
    gamma: float = _setting(0.1, 0.0)

    def factor(self, t: float, total: float) -> float:
        return self._at(*_ratio(t), total)

    def _at(self, k: int, n: int, total: float) -> float:
        p, q = _ratio(self.every)
        return _power(self.gamma, k * q // (n * p))


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma^t."""

    gamma: float = _required(0.0)

    def factor(self, t: float, total: float) -> float:
        return _power(self.gamma, t)


@dataclass(frozen=True)
class Cosine(Schedule):
    """final + (1 - final) (1 + cos(pi t / total)) / 2; with `restart` = r the cosine starts again after r, then
    r * stretch, r * stretch^2 ... (SGDR: Loshchilov & Hutter 2017, equation 5)."""

    final: float = _setting(0.0, 0.0)
    restart: float | None = field(default=None, metadata={"low": 0.0, "open_low": True})
    stretch: float = _setting(1.0, 1.0)

    def factor(self, t: float, total: float) -> float:
        if self.restart is None:
            return self._along(min(t / total, 1.0) if total > 0 else 1.0)
        if self.stretch != 1.0:
            return self._along(_stretched(t, self.restart, self.stretch))
        return self._at(*_ratio(t), total)

    def _at(self, k: int, n: int, total: float) -> float:
        if self.restart is None or self.stretch != 1.0:
            return self.factor(k / n, total)
        p, q = _ratio(self.restart)
        return self._along(k * q % (n * p) / (n * p))

    def _along(self, position: float) -> float:
        """The cosine at that part of its period."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * position))


def _stretched(t: float, first: float, stretch: float) -> float:
    """How much of its period is over at time t, where each is `stretch` > 1 times as long as the one before it.

    Period i begins at first (stretch^i - 1) / (stretch - 1): one is found from its time, whatever their number.
    """
    growth = math.log1p(stretch - 1.0)

    def begin(period: int) -> float:
        exponent = period * growth
        return first * math.expm1(exponent) / (stretch - 1.0) if exponent < 709.0 else math.inf

    periods = math.log1p(t / first * (stretch - 1.0)) / growth if t > 0.0 else 0.0
    guess = int(min(periods, 2.0**53))  # rounding, or a time of 10^308 periods, may make it one off
    period = next((i for i in (guess + 1, guess) if begin(i) <= t * (1.0 + _SAME)), max(guess - 1, 0))
    start = begin(period)
    length = first + (stretch - 1.0) * start  # first stretch^period
    return min(max(t - start, 0.0) / length, 1.0)


@dataclass(frozen=True)
class InverseTime(Schedule):
    """1 / (1 + rate t)."""

    rate: float = _required(0.0)

    def factor(self, t: float, total: float) -> float:
        return 1.0 / (1.0 + self.rate * t)


@dataclass(frozen=True)
class Harmonic(Schedule):
    """tau / max(t, tau): constant until tau, then as 1 / t (Bengio 2012, equation 14)."""

    tau: float = _required(0.0, open_low=True)

    def factor(self, t: float, total: float) -> float:
        return self.tau / max(t, self.tau)


@dataclass(frozen=True)
class Linear(Schedule):
    """1 + (final - 1) t / total."""

    final: float = _setting(0.0, 0.0)

    def factor(self, t: float, total: float) -> float:
        return 1.0 + (self.final - 1.0) * (min(t / total, 1.0) if total > 0 else 1.0)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From `start` up to 1 over the fraction `rise` of the run, then down to `final`, both along a cosine:
    Smith & Topin 2019. The optimizer's learning rate is the peak."""

    start: float = _setting(0.04, 0.0)
    final: float = _setting(4e-6, 0.0)
    rise: float = _setting(0.3, 0.0, 1.0)

    def factor(self, t: float, total: float) -> float:
        position = min(t / total, 1.0) if total > 0 else 1.0
        if position < self.rise:
            low, phase = self.start, 1.0 - position / self.rise
        else:
            low, phase = self.final, (position - self.rise) / (1.0 - self.rise) if self.rise < 1.0 else 0.0
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * phase))


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line from `start` to 1 over `length`, before `then`, whose own time begins after it.

    Where `then` counts steps and this epochs, or the other way round: ValueError.

    >>> Warmup(4, then=Cosine(), start=0.0).factor(1, total=20)
    0.25
    """

    length: float = _required(0.0)
    then: Schedule = Constant()
    start: float = _setting(0.01, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.then, Schedule):
            raise TypeError(f"then is {self.then!r}, expected a Schedule")
        if self.then.per != self.per and not isinstance(self.then, Constant):
            raise ValueError(f"then counts time per {self.then.per}, expected per {self.per} as the warm-up does")

    def factor(self, t: float, total: float) -> float:
        return self._at(*_ratio(t), total)

    def _at(self, k: int, n: int, total: float) -> float:
        p, q = _ratio(self.length)
        k, n = k * q, n * q  # the same time; the warm-up ends at p n / q, which is whole
        over = k - p * n // q
        if over < 0:
            return self.start + (1.0 - self.start) * (k / n) / self.length
        return self.then._at(over, n, max(total - self.length, 0.0))


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "linear": Linear,
    "one_cycle": OneCycle,
}


def get(schedule: str | Schedule | None) -> Schedule:
    """The schedule of that name (those that need no setting), None: constant. ValueError lists the names."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return SCHEDULES[schedule]()
    raise ValueError(f"schedule is {short(schedule)}, expected a Schedule or one of: {', '.join(SCHEDULES)}")
