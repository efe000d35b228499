"""A report on a file of `fastnn train`, or on an estimator, and the rows of a table. What is in it, `report` says."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastnn.data import Features
from fastnn.nn.model import Sequential
from fastnn.tabular.columns import numbers
from fastnn.tabular.description import Description
from fastnn.tabular.files import known, pandas_module, read, shown
from fastnn.tabular.prediction import features_of
from fastnn.tabular.targets import labels, values, without_target


def report(
    model: Any,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str | None = None,
    importance: bool = True,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    weight: str | None = None,
) -> list[str]:
    """Write a report on the model and the table in `path` into `out`: the columns that were ignored.

    model: a network that `fastnn train` made, or an estimator. target: the column of the answers; None: the model's.
    An estimator takes the columns it was fitted on, all others but the target and the weight if these had no names.
    weight: the column with the weights of the rows; None: all alike. separator, decimal, encoding: as in `read`.
    ValueError, before anything is written, for what the table has wrong, naming columns; see also `Sequential.report`.
    """
    about = Description.of(model) if isinstance(model, Sequential) else None
    if target is None and about is None:
        raise ValueError("target is None, but the file has an estimator, expected the column that it predicts")
    wanted, name = about.target if target is None and about is not None else str(target), os.fspath(path)
    categories = [] if about is None else list(about.categories)
    frame = read(path, text=(wanted,), categories=categories, separator=separator, decimal=decimal, encoding=encoding)
    column = known(wanted, list(frame.columns), name)
    series = frame[column]
    if without_target(series).any():
        missing = int(without_target(series).sum())
        raise ValueError(f"{shown(name)} has {missing:,} rows without a target {column!r}, expected one in each")
    if weight is not None:
        weight = known(weight, list(frame.columns), name)
        if weight == column:
            raise ValueError(f"weight is {weight!r}, which is the target, expected another column")
    weights = None if weight is None else numbers(frame, [weight], name).x[:, 0]
    chosen = about if about is not None else _description(model, frame, (column, weight))
    features, extra = features_of(frame, chosen, name, _dtype(model))
    y = values(series, column) if chosen.classes is None else labels(series, column, chosen.classes)
    if about is not None:
        about.in_own_unit(model).report(
            out, features, y, classes=about.classes, importance=importance, sample_weight=weights
        )
    else:
        answers = y if chosen.classes is None else np.asarray(model.classes_)[y]
        model.report(out, _as_fitted(model, features), answers, importance=importance, sample_weight=weights)
    return [each for each in extra if each not in (column, weight)]


def _dtype(model: Any) -> np.dtype:
    """In which features are to be finite; an estimator looks for itself."""
    return model.dtype if isinstance(model, Sequential) else np.dtype(np.float64)


def _description(estimator: Any, frame: Any, apart: tuple[str, str | None]) -> Description:
    """Of an estimator: its columns and classes. apart: the columns of the target and of weights."""
    if not hasattr(estimator, "n_features_in_"):
        raise ValueError("the file has an estimator that was not fitted, expected a fitted one")
    others = [column for column in frame.columns if column not in apart]
    names = [str(name) for name in getattr(estimator, "feature_names_in_", others)]
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list):
        raise ValueError(f"the estimator predicts {len(classes)} columns of classes, expected one")
    kind = "regression" if classes is None else "classification"
    return Description(kind, apart[0], names, None if classes is None else np.asarray(classes).tolist())


def _as_fitted(estimator: Any, features: Features) -> Any:
    """With names where it was fitted with some."""
    named = hasattr(estimator, "feature_names_in_")
    return pandas_module().DataFrame(features.x, columns=features.names) if named else features.x
