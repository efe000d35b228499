"""Metric: a function of targets and predictions, and what must be known of it to call it and to judge by it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from fastnn import _text

Mode = Literal["min", "max"]
NEEDS = ("prediction", "probability", "predict_proba")
MODES = ("min", "max")
BINARY, SEVERAL, LABELS = "two classes", "several classes", "several labels"  # what a model of classes tells apart


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are: `function(y, prediction)`, as `metric` makes it.

    mode: whether a smaller ("min") or a larger ("max") one is better; None: not known. needs: what the prediction is,
    weights: whether the function takes sample_weight; both as in `metric`. by_name: as a keyword. The rest is of those
    that are known, by name or from scikit-learn: task, what it is for, "classes" or "values" (y then comes as class
    numbers or as float64), None: any; among, of BINARY, SEVERAL, LABELS those it takes; columns, whether there may be
    several of values.
    """

    function: Callable[..., Any]
    name: str
    mode: Mode | None = None
    needs: str = "prediction"
    weights: bool = False
    by_name: bool = False
    task: Literal["classes", "values"] | None = None
    among: tuple[str, ...] = (BINARY, SEVERAL, LABELS)
    columns: bool = True

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, y: Any, prediction: Any, sample_weight: Any = None) -> float:
        """TypeError where the function returns what is no number."""
        if not self.weights:
            value = self.function(y, prediction)
        elif self.by_name:
            value = self.function(y, prediction, sample_weight=sample_weight)
        else:
            value = self.function(y, prediction, sample_weight)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"metric {self.name} returned {value!r}, expected a number") from None


def checked(function: Any, *, needs: str, weights: bool | None, mode: str | None, name: str | None) -> Metric:
    """A Metric of these settings. TypeError or ValueError for what is none."""
    if not callable(function):
        raise TypeError(f"function is {function!r}, expected a function of (y, prediction)")
    _text.choice("needs", needs, NEEDS, f"one of: {', '.join(NEEDS)}")
    if mode is not None:
        _text.choice("mode", mode, MODES, "'min', 'max' or None")
    if weights is not None and not isinstance(weights, bool):
        raise TypeError(f"weights is {weights!r}, expected True, False or None")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is {name!r}, expected text")
    named = names_weights(function)
    weighted = named is True if weights is None else weights
    return Metric(function, name or name_of(function), cast("Mode | None", mode), needs, weighted, named is not False)


def name_of(function: Any) -> str:
    """Its own; of a functools.partial that of its function with the arguments: f1_score_macro, fbeta_score_beta=2.

    >>> name_of(functools.partial(sorted, key=None, reverse="down")), name_of(functools.partial(round, ndigits=2))
    ('sorted_down', 'round_ndigits=2')
    """
    if not isinstance(function, functools.partial):
        return str(getattr(function, "__name__", type(function).__name__))
    added = [value if isinstance(value, str) else f"{key}={value}" for key, value in function.keywords.items()]
    shown = [part for part in added if part.count("\n") == 0 and not part.endswith("=None") and len(part) < 40]
    return "_".join([name_of(function.func), *shown])


def unwrapped(function: Any) -> Any:
    """The function under functools.partial."""
    return unwrapped(function.func) if isinstance(function, functools.partial) else function


def names_weights(function: Any) -> bool | None:
    """Whether it has a parameter sample_weight that is not bound yet; None: nobody knows, it takes any keywords."""
    if isinstance(function, functools.partial) and "sample_weight" in function.keywords:
        return False
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some written in C
        return None
    if "sample_weight" in parameters:
        return True
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) else False
