"""What a Trainer's settings may be: a check for each, by name. Trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn import _validate, backends
from fastnn._text import short
from fastnn.formulas import losses
from fastnn.optim import optimizers, schedules
from fastnn.training.history import History


def _bound(name: str, value: Any) -> float | None:
    return None if value is None else _validate.number(name, value, low=0.0, open_low=True)


def _threads(value: Any) -> int | None:
    """None, or a number of threads that a C int holds."""
    whole = None if value is None else _validate.integer("threads", value)
    if whole is not None and whole > _validate.MOST_THREADS:
        raise ValueError(f"threads is {short(whole)}, expected an integer from 1 to {_validate.MOST_THREADS}")
    return whole


def _history(value: Any) -> History:
    if not isinstance(value, History):
        raise TypeError(f"history is {short(value)}, expected a fastnn.History")
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {  # what becomes of a setting, whenever it is set
    "loss": losses.get,
    "optimizer": optimizers.get,
    "schedule": schedules.get,
    "seed": _validate.seed,
    "backend": backends.resolve,
    "threads": _threads,
    "clip_norm": lambda bound: _bound("clip_norm", bound),
    "clip_value": lambda bound: _bound("clip_value", bound),
    "scale_targets": lambda wanted: _validate.flag("scale_targets", wanted),
    "history": _history,
}
