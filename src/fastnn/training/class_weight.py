"""What `fit(class_weight=)` means: a weight for each row. Knows labels, no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn._text import short
from fastnn.formulas.losses import Loss

Array = np.ndarray


_EXPECTED = "'balanced', a dict {label: weight} or one weight a class"


def class_weights(
    class_weight: Any, y: Array, weight: Array | None, loss: Loss, outputs: int, dtype: np.dtype
) -> Array:
    """The weight of each row, whose targets are y: its class's, times its own. (n,), or (n, O) where y has O columns of
    0 and 1, any of several labels: the weight of each label, whose positives and negatives are weighted by themselves.

    class_weight: "balanced" (n / (classes * rows of the class), rows counted by their weights), a dict or a Series
    {label: weight} where those left out have 1, or one weight a class, in the order of the labels. Of several labels
    "balanced", or a list with one of these for each. ValueError or TypeError where it is none of these, or the targets
    are no labels.
    """
    if y.ndim == 1 or y.shape[1] == 1:
        classes = max(outputs, 2)
        product = _of_column(class_weight, _labels(y.reshape(-1)), weight, classes, "class_weight")
    else:
        if loss.pointwise is None:
            raise _no_labels()
        each = _one_a_label(class_weight, y.shape[1])
        columns = [
            _of_column(one, _labels(column), weight, 2, name) for (name, one), column in zip(each, y.T, strict=True)
        ]
        product = np.stack(columns, axis=1)
    checked = _validate.sample_weight(product, len(y), dtype, name="class_weight", outputs=outputs)
    assert checked is not None
    return checked


def _labels(y: Array) -> Array:
    if y.dtype.kind == "f" and not np.isin(y, (0, 1)).all():
        raise _no_labels()
    return y.astype(np.int64)


def _no_labels() -> ValueError:
    return ValueError("class_weight needs class labels (rows,), but y has values")


def _one_a_label(class_weight: Any, labels: int) -> list[tuple[str, Any]]:
    """What is meant for each of several labels, and what to call it."""
    if isinstance(class_weight, str):
        return [("class_weight", class_weight)] * labels
    if not isinstance(class_weight, Sequence) or len(class_weight) != labels:
        raise ValueError(
            f"class_weight is {short(class_weight)}, expected 'balanced' or a list of {labels} dicts, one for each "
            f"label"
        )
    return [(f"class_weight[{label}]", one) for label, one in enumerate(class_weight)]


def _of_column(class_weight: Any, labels: Array, weight: Array | None, classes: int, name: str) -> Array:
    """The weight (n,) of each row: its class's, times its own."""
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"{name} is {short(class_weight)}, expected 'balanced', a dict or one weight a class")
        own = np.ones(len(labels)) if weight is None else weight.astype(np.float64)
        counts = np.bincount(labels, weights=own, minlength=classes)
        present = np.count_nonzero(counts)
        weights = np.where(counts > 0, counts.sum() / (present * np.where(counts > 0, counts, 1.0)), 0.0)
    else:
        weights = np.ones(classes)
        seen = set()
        for label, value in _by_label(class_weight, classes, name):
            index = _label(label, name)
            if index >= classes:
                raise ValueError(f"{name} has label {short(index)}, expected labels 0 .. {classes - 1}")
            if index in seen:
                raise ValueError(f"{name} has label {index} twice, expected each once")
            seen.add(index)
            weights[index] = _validate.number(f"{name}[{index}]", value, low=0.0)
    by_class: Array = weights[labels]
    return by_class if weight is None else by_class * weight


def _by_label(class_weight: Any, classes: int, name: str) -> Iterable[tuple[Any, Any]]:
    """Pairs (label, weight): what has labels of its own is read by them, not by position."""
    by_label = isinstance(class_weight, Mapping) or (
        getattr(class_weight, "ndim", 0) == 1 and hasattr(class_weight, "index") and hasattr(class_weight, "items")
    )
    if by_label:
        pairs: Iterable[tuple[Any, Any]] = class_weight.items()
        return pairs
    if hasattr(class_weight, "__array__"):
        array = np.asarray(class_weight)
        if array.ndim != 1:
            raise TypeError(f"{name} has shape {array.shape}, expected {_EXPECTED}")
        class_weight = list(array)
    if not isinstance(class_weight, Sequence) or isinstance(class_weight, bytes):  # a set has no order
        raise TypeError(f"{name} is {short(class_weight)}, expected {_EXPECTED}")
    if len(class_weight) != classes:
        raise ValueError(f"{name} has {len(class_weight)} weights, expected {classes}, one a class")
    return enumerate(class_weight)


def _label(label: Any, name: str) -> int:
    """A class's number, which may be written as in a y of bool or of floats: True, 1.0."""
    if isinstance(label, (bool, np.bool_)) or (isinstance(label, (float, np.floating)) and float(label).is_integer()):
        label = int(label)
    return _validate.integer(f"a label of {name}", label, low=0)
