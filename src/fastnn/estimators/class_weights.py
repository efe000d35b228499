"""What a classifier's `class_weight` means: a weight for each row. scikit-learn's, checked by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from fastnn import _validate
from fastnn._text import short

Array = np.ndarray


def class_weights(class_weight: Any, y: Array, sample_weight: Array | None, name: str = "class_weight") -> Array:
    """The weight (n,) of each row's class: of "balanced" n / (classes * rows of the class), rows counted by their own
    weights, so that a weight of 2 is a row twice; else that of a dict. ValueError or TypeError otherwise.

    >>> class_weights({"a": 2.0}, np.array(["a", "b"]), None)
    array([2., 1.])
    """
    if class_weight != "balanced":
        _check(class_weight, name)
        weights: Array = compute_sample_weight(class_weight, y)
        if not weights.any():
            raise ValueError(f"{name} is 0 for all classes that y has, expected at least one > 0")
        return weights
    classes, numbers = np.unique(y, return_inverse=True)
    counts = np.bincount(numbers, weights=sample_weight)
    weights = counts.sum() / (len(classes) * counts)
    return weights[numbers]


def _check(class_weight: Any, name: str) -> None:
    """A dict of numbers >= 0: of others scikit-learn says nothing, and what comes of them nobody has passed."""
    if not isinstance(class_weight, dict):
        raise ValueError(f"{name} is {short(class_weight)}, expected 'balanced' or a dict {{class: weight}}")
    for label, weight in class_weight.items():
        _validate.number(f"{name}[{short(label)}]", weight, low=0.0)
