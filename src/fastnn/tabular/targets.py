"""The column to predict: classes or numbers, and how to tell which."""

from __future__ import annotations

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
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")  # in a target; "None" may well be a class
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
    real, labels = _target_values(series, name)
    distinct = list(dict.fromkeys(labels))
    as_numbers = task == "regression" or (task == "auto" and _looks_like_numbers(real, labels))
    if len(distinct) == 1 or (as_numbers and real is not None and np.ptp(real) == 0):
        raise ValueError(
            f"the target {name!r} is {distinct[0]!r} in all {len(labels):,} rows: there is nothing to learn"
        )
    if as_numbers:
        if real is None:
            example = next(label for label in distinct if not _is_number(label))
            raise ValueError(f"the target {name!r} has text such as {example!r}, expected numbers for a regression")
        return Target(name, real, None, task == "auto")
    if len(distinct) * 2 > len(labels):
        rest = "--task regression" if real is not None else f"numbers, which text such as {distinct[0]!r} is not"
        raise ValueError(
            f"the target {name!r} has {len(distinct):,} different values in {len(labels):,} rows, expected classes "
            f"that come more than once, or {rest}"
        )
    classes = sorted(distinct)
    number = {label: index for index, label in enumerate(classes)}
    return Target(name, np.array([number[label] for label in labels], np.int64), classes, task == "auto")


def labels(series: Any, name: str, classes: Sequence[Scalar]) -> Array:
    """The places (n,) of the column's values among the classes that a model knows: as they are written.

    ValueError where values are missing, or are none of these.
    """
    place = {_written(label): index for index, label in enumerate(classes)}
    found = [_written(label) for label in _target_values(series, name)[1]]
    unknown = next((label for label in found if label not in place), None)
    if unknown is not None:
        some = ", ".join(list(place)[:FEW_CLASSES]) + (", ..." if len(place) > FEW_CLASSES else "")
        raise ValueError(f"the target {name!r} has {unknown!r}, which the model does not know, expected one of: {some}")
    return np.array([place[label] for label in found], np.int64)


def values(series: Any, name: str) -> Array:
    """The column as numbers (n,). ValueError where values are missing, infinite or text."""
    real, written = _target_values(series, name)
    if real is None:
        raise ValueError(f"the target {name!r} has {written[0]!r}, expected numbers")
    return real


def _written(label: Any) -> str:
    """A label as text: 1.0 as 1, which a column of numbers with gaps has made of it."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def without_target(series: Any) -> Array:
    """The rows (n,) whose target is missing."""
    missing: Array = series.isna().to_numpy()
    if _as_text(series):
        written = ["" if lost else str(value).strip() for value, lost in zip(series, missing, strict=True)]
        missing = np.array([value in MISSING for value in written], bool)
    return missing


def _as_text(series: Any) -> bool:
    types = pandas_module().api.types
    return not (types.is_numeric_dtype(series.dtype) or types.is_bool_dtype(series.dtype))


def _target_values(series: Any, name: str) -> tuple[Array | None, list[Any]]:
    """The column as numbers (None where it has text) and as labels: as they are written, see `target`."""
    pandas = pandas_module()
    types = pandas.api.types
    as_text, missing = _as_text(series), without_target(series)
    if missing.any():
        raise ValueError(
            f"the target {name!r} is missing in {int(missing.sum()):,} of {len(series):,} rows: leave them out with "
            f"--drop-missing"
        )
    written = [str(value).strip() for value in series] if as_text else []
    if types.is_bool_dtype(series.dtype):
        return None, [bool(value) for value in series]
    try:
        real = np.array([_number(value) for value in written]) if as_text else series.to_numpy(dtype=np.float64)
    except ValueError:
        return None, written
    if np.isinf(real).any():
        raise ValueError(f"the target {name!r} is infinite in {int(np.isinf(real).sum()):,} of {len(series):,} rows")
    if as_text:
        return real, _labels(written)
    return real, series.tolist()


def _labels(written: list[str]) -> list[Any]:
    """As whole numbers or as numbers where all of them are written just as here; else the text."""
    distinct = set(written)
    whole = all(_WHOLE.fullmatch(text) and abs(int(text)) < 2**63 for text in distinct)  # Parquet has 64 bits
    if whole:
        return [int(text) for text in written]
    if all(repr(float(text)) == text for text in distinct):
        return [float(text) for text in written]
    return list(written)


def _number(text: str) -> float:
    if "_" in text:  # which Python allows in numbers
        raise ValueError(text)
    return float(text)


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(_number(str(text)))
    except ValueError:
        return False


def _looks_like_numbers(real: Array | None, labels: list[Any]) -> bool:
    """Quantities, not classes."""
    if real is None or any(isinstance(label, str) and _CODE.fullmatch(label) for label in labels):
        return False
    distinct = len(np.unique(real))
    few = distinct <= FEW_CLASSES and 5 * distinct <= len(real)
    return not (distinct == 2 or (few and np.array_equal(real, np.floor(real))))
