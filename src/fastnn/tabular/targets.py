"""The column to predict: classes or numbers, and how to tell which."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastnn import _text
from fastnn.tabular.files import pandas_module

Array = np.ndarray

Task = Literal["auto", "classification", "regression"]
Scalar = str | int | float | bool
MISSING = frozenset(["", "NA", "N/A", "NaN", "nan", "NULL", "null"])  # in a target; "None" may well be a class
FEW_CLASSES = 20  # whole numbers with more values than these are taken for quantities
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_CODE = re.compile(r"0[0-9]+")


@dataclass(frozen=True)
class Target:
    """What is to be predicted: classes and the labels (n,) of the rows, or numbers (n,)."""

    name: str
    values: Array  # int64 labels, or float64
    classes: list[Scalar] | None  # None: numbers
    guessed: bool = False

    @property
    def task(self) -> str:
        return "regression" if self.classes is None else "classification"


def target(series: Any, name: str, task: Task = "auto") -> Target:
    """The column as a target. "auto": text, truth values, two values or few whole numbers are classes, others numbers.

    Classes are what occurs in the column: text that looks like numbers becomes numbers only if these are written alike,
    so that "007", "07" and "7" are three. Digits after a leading zero are no number to "auto": a code.

    ValueError where values are missing, all are the same, or they do not fit the task.
    """
    tasks = ("auto", "classification", "regression")
    _text.choice("task", task, tasks, "'auto', 'classification' or 'regression'")
    column = _column(series, name)
    as_numbers = task == "regression" or (task == "auto" and column.looks_like_numbers())
    if column.constant() or (as_numbers and column.real is not None and np.ptp(column.real) == 0):
        raise ValueError(
            f"the target {name!r} is {column.labels[0]!r} in all {len(column):,} rows: there is nothing to learn"
        )
    if as_numbers:
        if column.real is None:
            example = next(label for label in column.labels if not _is_number(label))
            raise ValueError(f"the target {name!r} has text such as {example!r}, expected numbers for a regression")
        return Target(name, column.real, None, task == "auto")
    labels = list(dict.fromkeys(column.labels))  # 0.0 and -0.0 are one
    if len(labels) * 2 > len(column):
        rest = "--task regression" if column.real is not None else f"numbers, which text such as {labels[0]!r} is not"
        raise ValueError(
            f"the target {name!r} has {len(labels):,} different values in {len(column):,} rows, expected classes that "
            f"come more than once, or {rest}"
        )
    classes = sorted(labels)
    number = {label: index for index, label in enumerate(classes)}
    places = np.array([number[label] for label in column.labels], np.int64)
    return Target(name, places[column.codes], classes, task == "auto")


def labels(series: Any, name: str, classes: Sequence[Scalar]) -> Array:
    """The places (n,) of the column's values among the classes that a model knows: as they are written.

    ValueError where values are missing, or are none of these.
    """
    place = {_written(label): index for index, label in enumerate(classes)}
    column = _column(series, name)
    found = [_written(label) for label in column.labels]
    unknown = next((label for label in found if label not in place), None)
    if unknown is not None:
        some = ", ".join(list(place)[:FEW_CLASSES]) + (", ..." if len(place) > FEW_CLASSES else "")
        raise ValueError(f"the target {name!r} has {unknown!r}, which the model does not know, expected one of: {some}")
    places = np.array([place[label] for label in found], np.int64)
    chosen: Array = places[column.codes]
    return chosen


def values(series: Any, name: str) -> Array:
    """The column as numbers (n,). ValueError where values are missing, infinite or text."""
    column = _column(series, name)
    if column.real is None:
        raise ValueError(f"the target {name!r} has {column.labels[0]!r}, expected numbers")
    return column.real


def _written(label: Any) -> str:
    """A label as text: 1.0 as 1, which a column of numbers with gaps has made of it."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def without_target(series: Any) -> Array:
    """The rows (n,) whose target is missing."""
    missing: Array = series.isna().to_numpy()
    if _as_text(series):
        missing = missing | np.array([str(value).strip() in MISSING for value in series], bool)
    return missing


def _as_text(series: Any) -> bool:
    types = pandas_module().api.types
    return not (types.is_numeric_dtype(series.dtype) or types.is_bool_dtype(series.dtype))


@dataclass(frozen=True)
class _Column:
    """A target by its distinct values, in the order in which they come first: of 400,000 rows of text that are looked
    at one by one, each look takes a tenth of a second.

    codes (n,): which of them a row has. real (n,): the column as numbers, None where it has text. as_text: its values
    are text.
    """

    codes: Array
    distinct: list[Any]
    real: Array | None
    as_text: bool

    def __len__(self) -> int:
        return len(self.codes)

    @functools.cached_property
    def labels(self) -> list[Any]:
        """Of each distinct value: as it is written, see `target`."""
        return _labels(self.distinct) if self.as_text and self.real is not None else self.distinct

    def constant(self) -> bool:
        """Whether all rows have one value: "0.0" and "-0.0" are one number."""
        return len(self.distinct) <= 2 and len(set(self.labels)) == 1

    def looks_like_numbers(self) -> bool:
        """Quantities, not classes."""
        if self.real is None or (self.as_text and any(map(_CODE.fullmatch, self.distinct))):
            return False
        distinct = len(np.unique(self.real))
        few = distinct <= FEW_CLASSES and 5 * distinct <= len(self)
        return not (distinct == 2 or (few and np.array_equal(self.real, np.floor(self.real))))


def _column(series: Any, name: str) -> _Column:
    """ValueError where values are missing or infinite."""
    pandas = pandas_module()
    as_text, missing = _as_text(series), without_target(series)
    if missing.any():
        raise ValueError(
            f"the target {name!r} is missing in {int(missing.sum()):,} of {len(series):,} rows: leave them out with "
            f"--drop-missing"
        )
    written = np.array([str(value).strip() for value in series], object) if as_text else series
    codes, distinct = pandas.factorize(written)
    values = distinct.tolist()
    if pandas.api.types.is_bool_dtype(series.dtype):
        return _Column(codes, [bool(value) for value in values], None, False)
    try:
        real = _numbers(values)[codes] if as_text else series.to_numpy(dtype=np.float64)
    except ValueError:
        return _Column(codes, values, None, True)
    if np.isinf(real).any():
        raise ValueError(f"the target {name!r} is infinite in {int(np.isinf(real).sum()):,} of {len(series):,} rows")
    return _Column(codes, values, real, as_text)


def _numbers(texts: list[str]) -> Array:
    """ValueError where one is none: Python's, without the _ that it allows in them."""
    if any("_" in text for text in texts):
        raise ValueError("_")
    return np.array(texts, object).astype(np.float64)


def _labels(texts: list[str]) -> list[Any]:
    """As whole numbers or as numbers where all of them are written just as here; else the text."""
    if all(_WHOLE.fullmatch(text) and abs(int(text)) < 2**63 for text in texts):  # Parquet has 64 bits
        return [int(text) for text in texts]
    if all(repr(float(text)) == text for text in texts):
        return [float(text) for text in texts]
    return texts


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(float(_numbers([str(text)])[0]))
    except ValueError:
        return False
