"""The state of a model that is new: its parameters as they are drawn at first, which memory and its dtype must hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastnn._text import short
from fastnn.nn.layers import Layer
from fastnn.plan import Plan, State

MOST_VALUES = 1 << 40  # of a row, or a parameter: beyond any memory


def state(layers: Sequence[Layer], plan: Plan, seed: int) -> State:
    """The state of the plan that these layers became. ValueError names what it cannot hold so many or so large of."""
    for tensor in plan.tensors:
        if tensor.size > MOST_VALUES:
            raise ValueError(
                f"{_owner(layers, tensor.name)} has shape {short(tensor.shape)}, expected 2^40 values at most"
            )
    made = State(plan)
    with np.errstate(over="ignore"):  # of the cast, whose result is looked at
        made.initialize(seed)
    if made.finite():
        return made
    name = next(name for name, view in made.views.items() if not np.isfinite(view).all())
    raise ValueError(f"{_owner(layers, name)} has infinite values in {plan.dtype}, expected a smaller init")


def _owner(layers: Sequence[Layer], name: str) -> str:
    """What errors call a parameter: "weight of layers[1] (Dense)"."""
    index, _, role = name.rpartition(".")
    where = next(part.where for layer in layers for _, part in layer.parts() if str(part.index) == index)
    return f"{role} of {where}"
