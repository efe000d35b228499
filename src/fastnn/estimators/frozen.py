"""Fitted estimators as frozen networks: with their classes, the names of their features and the ends they lack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastnn.estimators.labels import ANY, SEVERAL, Labels
from fastnn.formulas import activations
from fastnn.formulas.losses import Loss
from fastnn.nn.model import Sequential
from fastnn.serving import Frozen


def of_classifier(model: Sequential, labels: Labels, loss: Loss, names: list[str] | None) -> Frozen:
    """ValueError where y has several columns of classes, or classes share sigmoids: no network alone says those."""
    if labels.kind == SEVERAL:
        raise ValueError(f"y has {len(labels.classes)} columns of classes, expected one column for a predictor")
    classes = np.asarray(labels.classes)
    if loss.link == "sigmoid" and labels.kind != ANY and len(classes) > 2:
        raise ValueError(f"loss is {loss} for {len(classes)} classes, expected cross_entropy for a predictor")
    if len(classes) == 1:  # all rows were of one: so is what is predicted
        classes = np.repeat(classes, 2)
    return _named(model.frozen(classes=None if labels.kind == ANY else classes), names)


def of_regressor(model: Sequential, loss: Loss, names: list[str] | None) -> Frozen:
    """With the loss's link at its end: what `predict` gives."""
    end = None if loss.link is None else activations.get(loss.link)
    return _named(replace(model.frozen(end=end), loss=None, link=None, linked=False), names)


def _named(frozen: Frozen, names: list[str] | None) -> Frozen:
    return frozen if names is None else replace(frozen, border=frozen.border._replace(names=names))
