"""Update rules of one's own, as users declare them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn import _validate
from fastnn.formulas.own import number_of
from fastnn.formulas.rules import RULES, Rule
from fastnn.optim.optimizers import Optimizer, Penalties

_MOST_SLOTS, _MOST_NUMBERS = 8, 15  # kMostSlots and kMostCoefficients of csrc/own.hpp, lr being one of these


@dataclass(frozen=True)
class OwnRule(Optimizer):
    """What `rule` makes."""

    own: Rule = field(kw_only=True, repr=False)  # its functions have addresses
    numbers: tuple[float, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if item.metadata:
                checked = _validate.number(item.name, getattr(self, item.name), **item.metadata)
                object.__setattr__(self, item.name, checked)

    @property
    def rule(self) -> Rule:
        return self.own

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (lr, *self.numbers)


def rule(
    name: str,
    formula: Callable[[Any, tuple[Any, ...], tuple[float, ...]], tuple[Any, tuple[Any, ...]]],
    *,
    slots: Sequence[str] = (),
    lr: float = 0.01,
    **numbers: float,
) -> Optimizer:
    """An optimizer whose rule is one's own: `formula(g, s, c) -> (delta, s)`, for each weight by itself.

    g is its gradient, s the tuple of its slots, 0 at first, c the step's learning rate and then the `numbers` in their
    order. delta is what is taken from the weight; the slots that are returned are what the next step gets. Clipping,
    l1, l2 and decay are as for every optimizer (`optim.Optimizer`), and may be among the numbers. What changes with the
    step (Adam's corrections) takes a subclass of `Optimizer` with `coefficients` and a property `rule` of its own.

    Functions of numbers, as for `nn.loss`; who runs it and what keeps it is said there, too.

    ValueError or TypeError where formula is not that.

    >>> def lion(g, s, c):  # Chen et al. 2023, algorithm 2
    ...     lr, beta1, beta2 = c
    ...     return lr * np.sign(beta1 * s[0] + (1.0 - beta1) * g), (beta2 * s[0] + (1.0 - beta2) * g,)
    >>> optimizer = rule("lion", lion, slots=["m"], lr=1e-3, beta1=0.9, beta2=0.99, decay=0.1)
    >>> optimizer.rule.coefficients
    ('lr', 'beta1', 'beta2')
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", optimizer)
    >>> history = trainer.fit([[1.0], [2.0]], [1.0, 2.0], epochs=2)
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name is {name!r}, expected the name of the rule")
    if name in RULES:
        raise ValueError(f"name is {name!r}, which a built-in rule has, expected another")
    if not callable(formula):
        raise TypeError(f"formula is {formula!r}, expected a function of (g, s, c)")
    if isinstance(slots, str) or not all(isinstance(slot, str) for slot in slots):
        raise TypeError(f"slots is {slots!r}, expected a list of their names")
    penalties = {item.name for item in dataclasses.fields(Penalties)}
    own = {key: _validate.number(key, number) for key, number in numbers.items() if key not in penalties}
    if len(slots) > _MOST_SLOTS or len(own) > _MOST_NUMBERS:
        raise ValueError(
            f"{len(slots)} slots and {len(own)} numbers, expected {_MOST_SLOTS} and {_MOST_NUMBERS} at most"
        )
    made = Rule(name, tuple(slots), ("lr", *own), formula, "one's own")
    optimizer = OwnRule(
        lr, own=made, numbers=tuple(own.values()), **{key: numbers[key] for key in penalties & numbers.keys()}
    )
    _check(made, (optimizer.lr, *own.values()))
    return optimizer


def _check(rule: Rule, coefficients: tuple[float, ...]) -> None:
    """TypeError or ValueError where the formula does not return (delta, slots) for numbers."""
    wanted = f"(delta, a tuple of {len(rule.slots)} slots)"
    try:
        result = rule.formula(0.5, (0.25,) * len(rule.slots), coefficients)
    except (TypeError, ValueError) as error:
        raise type(error)(f"formula of rule {rule}: {error}; expected it to return {wanted}") from error
    returned = f"formula of rule {rule} returned {result!r} for g = 0.5 and slots of 0.25"
    pair = isinstance(result, tuple) and len(result) == 2
    if not pair or not isinstance(result[1], (tuple, list)):
        raise TypeError(f"{returned}, expected {wanted}")
    if len(result[1]) != len(rule.slots):
        raise ValueError(f"{returned}, expected {wanted}")
    numbers = [number_of(each) for each in (result[0], *result[1])]
    if None in numbers:
        raise TypeError(f"{returned}, expected numbers: {wanted}")
    if not all(number is not None and math.isfinite(number) for number in numbers):
        raise ValueError(f"{returned}, expected finite numbers")
