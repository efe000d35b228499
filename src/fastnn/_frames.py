"""What data frames, masked arrays and records say beside their values: names, and that values do not count."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from fastnn import _text


def plain(name: str, value: Any) -> None:
    """ValueError where values are masked, TypeError for records, arrays whose dtype has names: NumPy's functions, and
    scikit-learn's, take what is below the mask, and records of one number for that number.

    >>> plain("y", np.ma.masked_array([1.0, -999.0], mask=[False, True]))
    Traceback (most recent call last):
    ValueError: y is a masked array with 1 masked values, expected none
    """
    ma = sys.modules.get("numpy.ma")  # which made it, if it is masked, and takes 20 ms to import
    if ma is not None and ma.is_masked(value):
        masked = int(ma.getmaskarray(value).sum())
        raise ValueError(f"{name} is a masked array with {masked} masked values, expected none")
    fields = getattr(getattr(value, "dtype", None), "names", None)
    if isinstance(fields, tuple) and fields:
        listed = ", ".join(fields)
        raise TypeError(f"{name} has records with the fields {listed}, expected numbers: those of [{fields[0]!r}]")


def feature_names(X: Any) -> list[str] | None:
    """The names of a data frame's columns as text, None for what is none. ValueError where text is there twice.

    pandas counts columns 0 .. n-1 where nobody has named them: `given_names` leaves those out, `same_names` knows them.
    Frames of these side by side, 0 1 0 1, have no names.
    """
    given = _columns(X) or []
    names = [str(name) for name in given]
    if len(set(names)) < len(names) and not all(isinstance(name, str) for name in given):
        return None
    return _text.unique_names(names) if names else None


def given_names(names: list[str] | None) -> list[str] | None:
    """The names, None where they only count the columns."""
    return None if names is None or names == _counted(len(names)) else names


def _counted(columns: int) -> list[str]:
    return [str(column) for column in range(columns)]


def same_names(names: Sequence[str] | None, fitted: Sequence[str] | None, *, name: str = "X") -> None:
    """ValueError where X is a data frame whose columns are not those of the fit, in their order.

    Columns of an array, fitted being None, count as pandas counts them. Counted ones go with any names: those of a
    frame that was made anew from its values; but not where the names are the same numbers in another order.
    """
    if names is None:
        return
    counted = _counted(len(names))
    expected = counted if fitted is None else list(fitted)
    if list(names) == expected or (counted in (list(names), expected) and set(names) != set(expected)):
        return
    shorter = min(len(names), len(expected))
    wrong = next((i for i in range(shorter) if names[i] != expected[i]), shorter)
    got = f"column {names[wrong]!r}" if wrong < len(names) else "no column"
    there = repr(expected[wrong]) if wrong < len(expected) else "none"
    raise ValueError(f"{name} has {got} at position {wrong}, but this model was fitted with {there} there")


def column_names(y: Any) -> list[str] | None:
    """What messages call the columns of a data frame, which may have one name several times; None for what is none."""
    columns = _columns(y)
    return None if columns is None else [str(name) for name in columns]


def _columns(value: Any) -> list[Any] | None:
    columns = getattr(value, "column_names", getattr(value, "columns", None))  # the former of pyarrow
    return None if columns is None or callable(columns) else list(columns)
