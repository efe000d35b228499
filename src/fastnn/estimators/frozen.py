"""Fitted estimators as frozen networks: with their classes, the names of their features and the ends they lack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastnn.estimators.labels import ANY, SEVERAL, Labels
from fastnn.formulas import activations
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.nn.layers import Maxout
from fastnn.nn.model import Sequential
from fastnn.plan import Plan, State
from fastnn.serving import Frozen


def of_classifier(model: Sequential, labels: Labels, loss: Loss, names: list[str] | None) -> Frozen:
    """ValueError where y has several columns of classes, or classes share sigmoids: no network alone says those."""
    if labels.kind == SEVERAL:
        raise ValueError(f"y has {len(labels.classes)} columns of classes, expected one column for a predictor")
    classes = np.asarray(labels.classes)
    if loss.link == "sigmoid" and labels.kind != ANY and len(classes) > 2:
        raise ValueError(f"loss is {loss} for {len(classes)} classes, expected cross_entropy for a predictor")
    if len(classes) == 1 and loss.link is not None:
        return _named(_certain(model.frozen(classes=classes)), names)
    if len(classes) == 1:  # of a hinge, with two scores
        classes = np.repeat(classes, 2)
    return _named(model.frozen(classes=None if labels.kind == ANY else classes), names)


def _certain(frozen: Frozen) -> Frozen:
    """All rows were of one class: its probability is the softmax over one output, 1 whatever comes in."""
    plan = frozen.plan
    ops = list(plan.ops)
    if plan.outputs > 1:  # what a softmax learns of one class has two
        ops += Maxout(plan.outputs).ops(plan.output_shape)
    kept = Plan.assemble(ops, plan.input_shape, (1,), plan.dtype)
    state = State(kept)
    for name, view in state.views.items():
        view[...] = frozen.arrays[name]
    for array in (*state.buffers, *state.views.values()):
        array.flags.writeable = False
    return replace(frozen, plan=kept, state=state, loss=LOSSES["cross_entropy"], link="softmax", linked=False)


def of_regressor(model: Sequential, loss: Loss, names: list[str] | None) -> Frozen:
    """With the loss's link at its end: what `predict` gives."""
    end = None if loss.link is None else activations.get(loss.link)
    return _named(replace(model.frozen(end=end), loss=None, link=None, linked=False), names)


def _named(frozen: Frozen, names: list[str] | None) -> Frozen:
    return frozen if names is None else replace(frozen, border=frozen.border._replace(names=names))
