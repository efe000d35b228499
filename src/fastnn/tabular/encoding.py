"""Text as columns of 0 and 1, numbers for missing values: learned from the rows to learn from, kept with the model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fastnn.errors import TableWarning, callers
from fastnn.tabular.files import pandas_module
from fastnn.tabular.targets import FEW_CLASSES

Array = np.ndarray
Fill = Literal["mean", "median", "zero"]
FILLS: dict[str, Callable[[Array], float]] = {
    "mean": lambda values: float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "zero": lambda values: 0.0,
}
_MANY = 20  # rows: whole numbers of fewer may be in order by chance
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Encoding:
    """What becomes of columns that are not plain numbers.

    categories: of a column of text its values, None among them where some were missing: each becomes a column of 0 and
    1. fill: of a column of numbers what stands in for a missing value.
    """

    categories: Mapping[str, list[str | None]] = field(default_factory=dict)
    fill: Mapping[str, float] = field(default_factory=dict)

    def inputs(self, columns: Sequence[str]) -> list[str]:
        """The names of the features that these columns become.

        >>> Encoding({"island": ["Biscoe", None]}).inputs(["mass", "island"])
        ['mass', 'island=Biscoe', 'island is missing']
        """
        names = []
        for column in columns:
            if column in self.categories:
                names += [
                    f"{column} is missing" if value is None else f"{column}={value}"
                    for value in self.categories[column]
                ]
            else:
                names.append(column)
        return names


PLAIN = Encoding()


def learned(frame: Any, columns: Sequence[str], rows: Array, *, text: bool, fill: Fill | None) -> Encoding:
    """The encoding of these columns by what these rows have: with `text`, of those of text; with `fill`, of the others.

    ValueError where a column has nothing to fill from.
    """
    part = frame.iloc[rows]
    encoded = [column for column in columns if text and is_text(frame[column])]
    categories = {column: _categories(part[column]) for column in encoded}
    filled = {}
    for column in columns if fill is not None else ():
        if column in categories:
            continue
        values = as_numbers(part[column])
        values = values[np.isfinite(values)]
        if len(values) == 0 and fill != "zero":
            raise ValueError(
                f"column {column!r} has no numbers in the rows to learn from, expected some to fill it with"
            )
        filled[column] = FILLS[fill](values) if fill is not None else 0.0
    return Encoding(categories, filled)


def as_numbers(series: Any) -> Array:
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


def is_text(series: Any) -> bool:
    """Whether a column has text to encode: most values are no numbers, or there are but few different ones. Numbers
    with a "?" where one is missing are not text, nor are numbers with decimal commas."""
    types = pandas_module().api.types
    if types.is_numeric_dtype(series.dtype) or types.is_bool_dtype(series.dtype):
        return False
    if types.is_datetime64_any_dtype(series.dtype) or types.is_timedelta64_dtype(series.dtype):
        return False
    there = series[~series.isna()]
    words = there[np.isnan(as_numbers(there))]
    if len(words) == 0 or DECIMAL_COMMA.fullmatch(str(words.iloc[0]).strip()):
        return False
    return 2 * len(words) >= len(there) or there.nunique() <= FEW_CLASSES


def names_its_rows(series: Any) -> bool:
    """Whether a column of text is different in most rows: names, which say nothing of other rows."""
    return is_text(series) and 2 * int(series.nunique()) > len(series)


def counts_its_rows(series: Any) -> bool:
    """Whether a column has the whole numbers n, n + 1, ..., each once, in any order."""
    values = as_numbers(series)
    if len(values) < _MANY or np.isnan(values).any() or not np.array_equal(values, np.floor(values)):
        return False
    return bool(values.max() - values.min() == len(values) - 1 and len(np.unique(values)) == len(values))


def written(series: Any) -> list[str | None]:
    """The values of a column of text, None where they are missing."""
    missing = series.isna().to_numpy()
    return [None if lost else str(value).strip() for value, lost in zip(series, missing, strict=True)]


def _categories(series: Any) -> list[str | None]:
    values = set(written(series))
    missing: list[str | None] = [None] if None in values else []
    return sorted(value for value in values if value is not None) + missing


def one_hot(series: Any, categories: Sequence[str | None], out: Array) -> None:
    """A column of text into one of 0 and 1 for each category, `out` (rows, len(categories)). Another value is 0 in
    all of them, of which TableWarning tells."""
    place = {value: index for index, value in enumerate(categories)}
    values = written(series)
    codes = np.array([place.get(value, -1) for value in values])
    out[...] = codes[:, None] == np.arange(len(categories))
    unseen = np.flatnonzero(codes < 0)
    if len(unseen):
        first = values[unseen[0]]
        example = "a missing value" if first is None else repr(first)
        warnings.warn(
            f"column {series.name!r} has values in {len(unseen):,} of {len(values):,} rows that the training has "
            f"not, such as {example}: they count as none of its categories",
            TableWarning,
            stacklevel=callers(),
        )
