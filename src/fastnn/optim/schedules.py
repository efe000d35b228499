"""Learning-rate schedules: declarations. Each maps time to a factor on the optimizer's learning rate.

Time `t` and the whole length `total` are in epochs, fractions included (step k of n a epoch is t = k / n), or
in steps where `per="step"`. A schedule is a pure function, so a resumed run needs nothing but the step.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fastnn import _validate


def _setting(default: float, low: float, high: float = math.inf, open_low: bool = False) -> float:
    value: float = field(default=default, metadata={"low": low, "high": high, "open_low": open_low})
    return value


def _required(low: float, high: float = math.inf, open_low: bool = False) -> float:
    value: float = field(metadata={"low": low, "high": high, "open_low": open_low})
    return value


@dataclass(frozen=True)
class Schedule:
    """Base: `factor(t, total)` is what the learning rate is multiplied with at time t."""

    per: Literal["epoch", "step"] = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        if self.per not in ("epoch", "step"):
            raise ValueError(f"per is {self.per!r}, expected 'epoch' or 'step'")
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
        return np.array([self.factor(step / unit, total) for step in range(first, last)])


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
        return math.pow(self.gamma, math.floor(t / self.every))


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma^t."""

    gamma: float = _required(0.0)

    def factor(self, t: float, total: float) -> float:
        return math.pow(self.gamma, t)


@dataclass(frozen=True)
class Cosine(Schedule):
    """final + (1 - final) (1 + cos(pi t / total)) / 2; with `restart` = r the cosine starts again after r, then
    r * stretch, r * stretch^2 ... (SGDR: Loshchilov & Hutter 2017, equation 5)."""

    final: float = _setting(0.0, 0.0)
    restart: float | None = field(default=None, metadata={"low": 0.0, "open_low": True})
    stretch: float = _setting(1.0, 1.0)

    def factor(self, t: float, total: float) -> float:
        period = total
        if self.restart is not None:
            period = self.restart
            if self.stretch == 1.0:
                t = math.fmod(t, period)
            while t >= period:
                t -= period
                period *= self.stretch
        position = min(t / period, 1.0) if period > 0 else 1.0
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * position))


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
        if t < self.length:
            return self.start + (1.0 - self.start) * t / self.length
        return self.then.factor(t - self.length, max(total - self.length, 0.0))


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
    raise ValueError(f"schedule is {schedule!r}, expected a Schedule or one of: {', '.join(SCHEDULES)}")
