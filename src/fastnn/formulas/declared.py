"""Losses and activations of one's own, as users declare them: checked where they are declared. Lists none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from fastnn import _validate
from fastnn.formulas.activations import ACTIVATIONS, ROW_ACTIVATIONS, Activation
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.formulas.own import number_of

Formula = Callable[..., Any]
_STEP = 1e-5  # of the central differences, times 1 + |z|: they are right to 1e-9 or so
_WRONG = 1e-4  # relative, beside 1
_FEWEST = 10  # places that tell


def loss(
    name: str,
    value: Formula,
    gradient: Formula,
    *,
    parameter: float = 0.0,
    link: str | None = None,
    y_range: tuple[float, float] = (-math.inf, math.inf),
    check: bool = True,
) -> Loss:
    """A loss of one's own, point by point: `value(z, y, parameter)` and `gradient(z, y, parameter)` = d value / dz.

    Both are functions of numbers, written with NumPy's or math's functions; a row's loss is the mean over its outputs.
    z is the model's output, or its logits if `link` names the activation that the loss takes for its own: "sigmoid",
    "exponential". y_range: the targets that are accepted. `with_parameter` gives the same loss another parameter, and
    compiles nothing anew. Other numbers that a function refers to are taken as they are when it is first compiled.

    Every backend runs it: numba compiles it for `native`, which then takes about as long as for a built-in one. Where
    numba is not installed, or cannot compile it, a FallbackWarning says so and the fit runs in Python. Pickles have a
    loss whose functions can be imported; model files refuse it.

    check: compare the gradient with differences of the value, for z in [-3, 3]. ValueError where it is another, with
    the place.

    >>> cubic = loss("cubic", lambda z, y, p: abs(z - y) ** 3, lambda z, y, p: 3.0 * (z - y) * abs(z - y))
    >>> cubic.evaluate(np.array([[2.0]]), np.array([[0.0]]))
    (array([8.]), array([[12.]]))
    >>> loss("wrong", lambda z, y, p: (z - y) ** 2, lambda z, y, p: z - y)
    Traceback (most recent call last):
    ValueError: gradient of loss wrong is -0.65 at z = -2.99, y = -2.34, parameter = 0, where value has the slope -1.3
    """
    _check_name("loss", name, LOSSES)
    parameter = _validate.number("parameter", parameter)
    _check_functions(f"loss {name}", value=value, gradient=gradient)
    if link is not None and link not in (*ACTIVATIONS, "softmax"):
        raise ValueError(f"link is {link!r}, expected None or one of: {', '.join(ACTIVATIONS)}")
    low, high = y_range
    if not low < high:
        raise ValueError(f"y_range is {y_range!r}, expected (low, high) with low < high")
    if _validate.flag("check", check):
        places = [
            Place(z, partial(_of_z, value, y, parameter), partial(_of_z, gradient, y, parameter), f", y = {y:.3g}")
            for y in _targets(float(low), float(high))
            for z in _GRID
        ]
        _check_slopes(f"gradient of loss {name}", places, f", parameter = {parameter:g}")
    return Loss(name, "one's own", ("values",), link, parameter, (value, gradient), y_range=(float(low), float(high)))


def activation(
    name: str,
    value: Formula,
    derivative: Formula,
    *,
    saves: Literal["z", "a"] = "z",
    alpha: float = 0.0,
    check: bool = True,
) -> Activation:
    """An activation of one's own: `a = value(z, alpha)`, and `derivative(z, alpha)` = da / dz, or, with saves="a",
    `derivative(a, alpha)`, which keeps less.

    Functions of numbers, as for `loss`; who runs it and what keeps it is said there, too. check=False is for a
    derivative that is meant to be another (straight through a step).

    >>> swish = activation(
    ...     "swish",
    ...     lambda z, beta: z / (1.0 + np.exp(-beta * z)),
    ...     lambda z, beta: (1.0 + np.exp(-beta * z) * (1.0 + beta * z)) / (1.0 + np.exp(-beta * z)) ** 2,
    ...     alpha=1.5,
    ... )
    >>> nn.Dense(3, activation=swish)
    Dense(3, 'swish')
    """
    _check_name("activation", name, (*ACTIVATIONS, *ROW_ACTIVATIONS))
    alpha = _validate.number("alpha", alpha)
    _check_functions(f"activation {name}", value=value, derivative=derivative)
    if saves not in ("z", "a"):
        raise ValueError(f"saves is {saves!r}, expected 'z' or 'a'")
    if _validate.flag("check", check):

        def slope(z: float) -> Any:
            return derivative(z if saves == "z" else value(z, alpha), alpha)

        places = [Place(z, lambda z: value(z, alpha), slope, "") for z in _GRID]
        _check_slopes(f"derivative of activation {name}", places, f", alpha = {alpha:g}")
    free = (-math.inf, math.inf)
    return Activation(name, value, derivative, saves, "one's own", alpha, free, exact_derivative=check)


# Checks -----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    z: float
    value: Callable[[float], Any]
    slope: Callable[[float], Any]
    where: str


# No whole or half number: formulas have their corners there. Of NumPy's: beside a float32 they stay float64.
_GRID = [np.float64(-2.99 + 0.0997 * i) for i in range(61)]


def _of_z(function: Formula, y: float, parameter: float, z: float) -> Any:
    return function(z, y, parameter)


def _targets(low: float, high: float) -> list[float]:
    """Some y within a range: of [-3, 3] where that is part of it."""
    left = low if low >= -3.0 else max(low, min(-3.0, high - 6.0))
    right = min(high, left + 6.0)
    return [np.float64(left + (right - left) * share) for share in (0.11, 0.37, 0.53, 0.71, 0.93)]


def _check_name(kind: str, name: Any, taken: Iterable[str]) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"name is {name!r}, expected the name of the {kind}")
    if name in taken:
        raise ValueError(f"name is {name!r}, which a built-in {kind} has, expected another")


def _check_functions(what: str, **functions: Any) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} of {what} is {function!r}, expected a function")


def _number(function: Callable[[float], Any], z: float, what: str) -> float:
    """NaN where it has no value. TypeError, which says what the function is, where that is no number."""
    try:
        with np.errstate(all="ignore"):
            result = function(z)
    except (ZeroDivisionError, OverflowError):
        return math.nan
    except ValueError as error:
        if "math domain" in str(error) or "math range" in str(error) or "expected a" in str(error):
            return math.nan
        raise
    real = number_of(result)
    if real is None:
        raise TypeError(f"{what} returned {result!r} at z = {z:.3g}, expected a number")
    return real


def _check_slopes(what: str, places: list[Place], numbers: str) -> None:
    told, value = 0, f"value of {what.partition(' of ')[2]}"
    for place in places:
        z, step = place.z, _STEP * (1.0 + abs(place.z))
        coarse, fine = (
            (_number(place.value, z + h, value) - _number(place.value, z - h, value)) / (2.0 * h)
            for h in (step, step / 2.0)
        )
        allowed = _WRONG * (1.0 + abs(fine))
        if not abs(coarse - fine) <= allowed / 4.0:
            continue  # a corner, or no value
        told += 1
        said = _number(place.slope, z, what)
        if not abs(said - fine) <= allowed:
            raise ValueError(
                f"{what} is {said:.3g} at z = {z:.3g}{place.where}{numbers}, where value has the slope {fine:.3g}"
            )
    if told < _FEWEST:
        raise ValueError(f"{what} cannot be checked: value has a slope at {told} of {len(places)} places in [-3, 3]")
