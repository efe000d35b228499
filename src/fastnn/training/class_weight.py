"""What `fit(class_weight=)` means: a weight for each row. Knows labels, no model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import _validate

Array = np.ndarray


def class_weights(class_weight: Any, y: Array, weight: Array | None, outputs: int, dtype: np.dtype) -> Array:
    """The weight (n,) of each row, whose targets are y: its class's, times its own.

    class_weight: "balanced" (n / (classes * rows of the class)), a dict {label: weight} where those left out have 1,
    or one weight a class. ValueError or TypeError where it is none of these, or the targets are no labels.
    """
    labels = y if y.ndim == 1 else y[:, 0] if y.shape[1] == 1 else None
    if labels is None or (y.ndim == 2 and not np.isin(labels, (0, 1)).all()):
        raise ValueError("class_weight needs class labels (rows,), but y has values")
    labels = labels.astype(np.int64)
    classes = max(outputs, 2)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight is {class_weight!r}, expected 'balanced', a dict or one weight a class")
        own = np.ones(len(labels)) if weight is None else weight.astype(np.float64)
        counts = np.bincount(labels, weights=own, minlength=classes)
        present = np.count_nonzero(counts)
        weights = np.where(counts > 0, counts.sum() / (present * np.where(counts > 0, counts, 1.0)), 0.0)
    else:
        weights = np.ones(classes)
        items = class_weight.items() if isinstance(class_weight, dict) else _numbered(class_weight, classes)
        for label, value in items:
            index = _validate.integer("a label of class_weight", label, low=0)
            if index >= classes:
                raise ValueError(f"class_weight has label {index}, expected labels 0 .. {classes - 1}")
            weights[index] = _validate.number(f"class_weight[{index}]", value, low=0.0)
    product = weights[labels] if weight is None else weights[labels] * weight
    checked = _validate.sample_weight(product, len(labels), dtype, name="class_weight")
    assert checked is not None
    return checked


def _numbered(class_weight: Any, classes: int) -> Iterable[tuple[int, Any]]:
    try:
        weights = list(class_weight)
    except TypeError:
        raise TypeError(
            f"class_weight is {class_weight!r}, expected 'balanced', a dict {{label: weight}} or one weight a class"
        ) from None
    if len(weights) != classes:
        raise ValueError(f"class_weight has {len(weights)} weights, expected {classes}, one a class")
    return enumerate(weights)
