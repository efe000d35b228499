"""Columns as numbers: the features of a network. Anything else than numbers is refused, by name and count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.data import Features
from fastnn.tabular.files import NAMED, pandas_module

Array = np.ndarray
_FLOAT32 = np.dtype(np.float32)


def numbers(frame: Any, columns: Sequence[str], name: str, *, hint: str = "", dtype: np.dtype = _FLOAT32) -> Features:
    """These columns as numbers (rows, columns), float64, within the range of dtype; True is 1.

    ValueError naming all columns with missing values, text or infinity in them, each with how many and an example.
    """
    values = np.empty((len(frame), len(columns)))
    for index, column in enumerate(columns):
        values[:, index] = _converted(frame[column])
    try:
        x, row_shape = _validate.features(values, dtype, exact=True)
    except ValueError:
        found = _found(frame, columns)
        if not found:
            raise
        raise ValueError(f"{name} has {'; '.join(found)}: fill or encode them{hint}") from None
    return Features(x, row_shape, list(columns))


def _converted(series: Any) -> Array:
    """One column as float64: NaN for what is missing or no number."""
    pandas = pandas_module()
    types = pandas.api.types
    values: Array
    if types.is_bool_dtype(series.dtype) or (
        types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series)
    ):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    elif types.is_datetime64_any_dtype(series.dtype) or types.is_timedelta64_dtype(series.dtype):
        values = np.full(len(series), np.nan)
    else:
        values = pandas.to_numeric(series.astype(object), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values


def _found(frame: Any, columns: Sequence[str]) -> list[str]:
    """What is no number in these columns, by kind."""
    wrong: dict[str, list[str]] = {"missing values": [], "what is no number": [], "infinity": []}
    for column in columns:
        for what, (count, example) in _problems(frame[column]).items():
            wrong[what].append(f"{column!r} ({count:,} of {len(frame):,} rows{example})")
    return [f"{what} in {_places(places)}" for what, places in wrong.items() if places]


def _places(places: list[str]) -> str:
    return ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more columns" if len(places) > NAMED else "")


def _problems(series: Any) -> dict[str, tuple[int, str]]:
    """How many values of one column are not numbers, with an example."""
    values, missing = _converted(series), series.isna().to_numpy()
    other, infinite = np.isnan(values) & ~missing, np.isinf(values)
    problems = {}
    if missing.any():
        problems["missing values"] = (int(missing.sum()), "")
    if other.any():
        problems["what is no number"] = (int(other.sum()), f", such as {str(series[other].iloc[0])[:30]!r}")
    if infinite.any():
        problems["infinity"] = (int(infinite.sum()), "")
    return problems
