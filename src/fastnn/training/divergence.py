"""What a divergence was: which step, which tensor, and what helps. Looks at a model and its losses, trains nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from fastnn.errors import DivergenceError
from fastnn.formulas.rules import Rule
from fastnn.nn.model import Sequential

Array = np.ndarray


def first_wrong_step(losses: Array, model: Sequential, take: Callable[[int], None] | None) -> int | None:
    """The first of a call's steps that left something NaN or infinite, or had such a loss; None where all is well. The
    model is then as that step left it, or as it was before it where the loss is what is wrong.

    take: takes so many of the call's steps again, from where it began; None: the backend has stopped at that step (it
    is atomic).
    """
    finite = np.isfinite(losses)
    if finite.all() and (take is None or model.state.finite()):
        return None
    wrong = len(losses) if finite.all() else int(finite.argmin())
    if take is None:
        return wrong

    def broken(count: int) -> bool:
        take(count)
        return not model.state.finite()

    count = bisect_left(range(wrong), True, key=lambda index: broken(index + 1)) + 1  # steps until something breaks
    count = min(count, wrong)  # nothing does: it is the loss of the step after them
    take(count)
    return wrong if model.state.finite() else count - 1


def error(model: Sequential, rule: Rule, loss: float, step: int, rate: float, kept: int) -> DivergenceError:
    """The error for step number `step`, counted from 1, with that learning rate: the model is as `first_wrong_step`
    leaves it. rule: the optimizer's. kept: the step count whose parameters the model will have."""
    culprit = None if model.state.step < step else _not_finite(model, rule)
    wider = ", or take dtype='float64'" if model.dtype == np.float32 else ""
    if culprit is not None:
        what = f"{culprit} is NaN or infinite at step {step} with learning rate {rate:g}, though the loss is finite"
        advice = f"lower the learning rate, set clip_norm, scale the data{wider}"
    else:
        what = f"the loss is {loss} at step {step} with learning rate {rate:g}"
        advice = "lower the learning rate, or set clip_norm" if step > 1 else f"scale X and y{wider}"
    return DivergenceError(
        f"{what}; the model keeps the parameters of step {kept}, before that epoch, and its optimizer starts anew: "
        f"{advice}"
    )


def _not_finite(model: Sequential, rule: Rule) -> str | None:
    """The first tensor, or moment of one, that has a NaN or an infinity, in words."""
    state = model.state
    where = {str(part.index): part.where for layer in model.layers for _, part in reversed(list(layer.parts()))}
    for tensor in state.plan.tensors:
        index, _, role = tensor.name.rpartition(".")
        name = f"{role} of {where[index]}"
        if not np.isfinite(state.views[tensor.name]).all():
            return name
        if not tensor.trainable:
            continue
        for slot_name, slot in zip(rule.slots, state.slots, strict=True):
            if not np.isfinite(slot[tensor.slice]).all():
                return f"the moment {slot_name} of {name}"
    return None
