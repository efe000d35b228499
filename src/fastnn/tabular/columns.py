"""Columns as numbers: the features of a network. Anything else than numbers is refused, by name and count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.tabular.files import NAMED, pandas_module

Array = np.ndarray


def numbers(frame: Any, columns: Sequence[str], name: str, *, hint: str = "") -> Array:
    """These columns as numbers (rows, columns), float64; True is 1.

    ValueError naming all columns with missing values, text or infinity in them, each with how many and an example.
    """
    values = np.empty((len(frame), len(columns)))
    wrong: dict[str, list[str]] = {"missing values": [], "what is no number": [], "infinity": []}
    for index, column in enumerate(columns):
        values[:, index], problems = _column(frame[column])
        for what, (count, example) in problems.items():
            wrong[what].append(f"{column!r} ({count:,} of {len(frame):,} rows{example})")
    found = [f"{what} in {_places(places)}" for what, places in wrong.items() if places]
    if found:
        raise ValueError(f"{name} has {'; '.join(found)}: fill or encode them{hint}")
    return values


def _places(places: list[str]) -> str:
    return ", ".join(places[:NAMED]) + (f" and {len(places) - NAMED} more columns" if len(places) > NAMED else "")


def _column(series: Any) -> tuple[Array, dict[str, tuple[int, str]]]:
    """One column as float64, and how many of its values are not numbers, with an example."""
    pandas = pandas_module()
    types = pandas.api.types
    missing = series.isna().to_numpy()
    if types.is_bool_dtype(series.dtype) or (
        types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series)
    ):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        other = np.zeros(len(series), bool)
    else:
        plain = series.astype(object)
        if types.is_datetime64_any_dtype(series.dtype) or types.is_timedelta64_dtype(series.dtype):
            values = np.full(len(series), np.nan)
        else:
            values = pandas.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        other = np.isnan(values) & ~missing
    problems = {}
    if missing.any():
        problems["missing values"] = (int(missing.sum()), "")
    if other.any():
        example = str(series[other].iloc[0])
        problems["what is no number"] = (int(other.sum()), f", such as {example[:30]!r}")
    if np.isinf(values).any():
        problems["infinity"] = (int(np.isinf(values).sum()), "")
    return values, problems
