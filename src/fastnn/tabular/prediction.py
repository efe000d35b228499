"""What a trained network says of the rows of a table."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastnn.data import Features
from fastnn.nn.model import Sequential
from fastnn.tabular.columns import numbers
from fastnn.tabular.description import Description
from fastnn.tabular.files import listed, pandas_module, read, shown

Array = np.ndarray


def predict(
    model: Sequential,
    path: str | os.PathLike[str],
    *,
    proba: bool = False,
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
) -> tuple[Any, list[str]]:
    """What the model says of each row of the table in `path`: a DataFrame, and the columns that were ignored.

    Its column has the name of the target; with `proba`, which classes alone have, a column "probability of c" for
    each. Text is encoded and missing numbers are filled as in the training; of text that the training has not seen
    TableWarning tells. ValueError where a feature is missing, has something else than numbers, or where two columns
    would have one name. separator, decimal, encoding: as in `read`.
    """
    pandas = pandas_module()
    description = Description.of(model)
    if proba and description.classes is None:
        raise ValueError(f"this model predicts {description.target!r}, a number, expected one of classes for --proba")
    columns = [f"probability of {label}" for label in description.classes or ()] if proba else []
    if description.target in columns:
        raise ValueError(f"the target is {description.target!r}, as a column of --proba is: predict without it")
    name = os.fspath(path)
    frame = read(path, categories=list(description.categories), separator=separator, decimal=decimal, encoding=encoding)
    features, extra = features_of(frame, description, name, model.dtype)
    found = answers(model, description, features)
    if description.classes is not None:
        table: dict[str, Any] = {description.target: [description.classes[label] for label in found]}
        if proba:
            table |= dict(zip(columns, model.predict_proba(features).T, strict=True))
    else:
        table = {description.target: found}
    return pandas.DataFrame(table), extra


def features_of(frame: Any, description: Description, name: str, dtype: np.dtype) -> tuple[Features, list[str]]:
    """The features of a table, in the order of the training and encoded as there, and the columns that are none.

    ValueError where one is missing or has something else than numbers.
    """
    absent = [column for column in description.features if column not in frame.columns]
    if absent:
        raise ValueError(f"{shown(name)} has no column {listed(absent)}, which the model was trained with")
    extra = [column for column in frame.columns if column not in description.features]
    return numbers(frame, description.features, name, dtype=dtype, encoding=description.encoding), extra


def answers(model: Sequential, description: Description, features: Features) -> Array:
    """Predicted numbers (n,) in the target's own unit, float64; or labels (n,)."""
    if description.classes is not None:
        return model.predict_class(features)
    scaled: Array = description.mean + description.scale * model.predict(features)[:, 0].astype(np.float64)
    return scaled
