"""Columns as numbers: the features of a network. What its encoding says nothing of is refused, by name and count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.data import Features
from fastnn.tabular.encoding import DECIMAL_COMMA, PLAIN, Encoding, as_numbers, one_hot
from fastnn.tabular.files import NAMED, shown

Array = np.ndarray
_FLOAT32 = np.dtype(np.float32)


def numbers(
    frame: Any,
    columns: Sequence[str],
    name: str,
    *,
    hint: str = "",
    dtype: np.dtype = _FLOAT32,
    encoding: Encoding = PLAIN,
) -> Features:
    """These columns as numbers (rows, features), float64, within the range of dtype; True is 1. A column that the
    encoding has categories for becomes several.

    ValueError naming all columns with missing values, text or infinity in them, each with how many and an example.
    """
    names = encoding.inputs(columns)
    values = np.empty((len(frame), len(names)))
    start = 0
    for column in columns:
        if column in encoding.categories:
            categories = encoding.categories[column]
            one_hot(frame[column], categories, values[:, start : start + len(categories)])
            start += len(categories)
        else:
            values[:, start] = _filled(frame[column], encoding)
            start += 1
    try:
        x, row_shape = _validate.features(values, dtype, exact=True)
    except ValueError:
        found = _found(frame, columns, encoding)
        if not found:
            raise
        raise ValueError(f"{shown(name)} has {'; '.join(found)}: fill or encode them{hint}") from None
    return Features(x, row_shape, names)


def _filled(series: Any, encoding: Encoding) -> Array:
    """One column of numbers, with what the encoding has for those that are missing."""
    values = as_numbers(series)
    if series.name in encoding.fill:
        values = np.where(series.isna().to_numpy(), encoding.fill[series.name], values)
    return values


def _found(frame: Any, columns: Sequence[str], encoding: Encoding) -> list[str]:
    """What is no number in these columns, by kind."""
    wrong: dict[str, list[str]] = {"missing values": [], "values that are not numbers": [], "infinity": []}
    for column in columns:
        if column in encoding.categories:
            continue
        for what, (count, example) in _problems(frame[column]).items():
            if what != "missing values" or column not in encoding.fill:
                wrong[what].append(f"{column!r} ({count:,} of {len(frame):,} rows{example})")
    return [f"{what} in {_places(places)}" for what, places in wrong.items() if places]


def _places(places: list[str]) -> str:
    return ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more columns" if len(places) > NAMED else "")


def _problems(series: Any) -> dict[str, tuple[int, str]]:
    """How many values of one column are not numbers, with an example."""
    values, missing = as_numbers(series), series.isna().to_numpy()
    other, infinite = np.isnan(values) & ~missing, np.isinf(values)
    problems = {}
    if missing.any():
        problems["missing values"] = (int(missing.sum()), "")
    if other.any():
        example = str(series[other].iloc[0])[:30]
        comma = ", a decimal comma" if DECIMAL_COMMA.fullmatch(example.strip()) else ""
        problems["values that are not numbers"] = (int(other.sum()), f", such as {example!r}{comma}")
    if infinite.any():
        problems["infinity"] = (int(infinite.sum()), "")
    return problems
