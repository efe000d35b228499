"""Text as an argument: paths, which are some; numbers, which are none; names of columns, each there once; choices."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def path(name: str, value: Any) -> Path:
    """A path to a file or folder, or TypeError: 3 is none, though `open` takes it for a file that is open.

    >>> path("directory", "runs").name
    'runs'
    """
    try:
        given = os.fspath(value)
    except TypeError:
        given = None
    if not isinstance(given, str):
        raise TypeError(f"{name} is {short(value)}, expected a path: text, or an os.PathLike of it")
    return Path(given)


def refuse_numerals(name: str, array: np.ndarray) -> None:
    """ValueError where text in the array looks like a number: "1.5" is none, as in y. What other text is not, NumPy
    says."""
    if array.dtype.kind not in "USO":
        return
    text = next((value for value in array.ravel().tolist() if isinstance(value, (str, bytes))), None)
    try:
        float("" if text is None else text)
    except ValueError:
        return
    raise ValueError(
        f"{name} has dtype {array.dtype}, expected numbers: it has text such as {short(text)}, of which "
        f"astype(float) makes numbers"
    )


def choice(name: str, value: Any, choices: Collection[str], expected: str) -> str:
    """The value, or ValueError where it is none of those: an array of them is none, nor an error of NumPy's."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {short(value)}, expected {expected}")
    return value


def unique_names(names: Sequence[str]) -> list[str]:
    """The names of columns. ValueError where one is there twice: which of these a name means, nobody knows."""
    if len(set(names)) < len(names):
        name = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"X has {list(names).count(name)} columns {name!r}, expected names of their own")
    return list(names)


def short(value: Any, most: int = 80) -> str:
    """Its repr in an error, without the rest of what is long: nobody reads 400 digits.

    >>> short(0.5), short(10**400), short(["a" * 100], most=10)
    ('0.5', 'an integer of 401 digits', "['aaaaa...")
    """
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
    except ValueError:  # Python makes no text of over 4,300 digits
        return "an integer of over 4300 digits" if isinstance(value, int) else f"a {type(value).__name__}"
    if len(text) <= most:
        return text
    if isinstance(value, int):
        return f"{'a negative' if value < 0 else 'an'} integer of {len(text.lstrip('-'))} digits"
    return text[: most - 3] + "..."


def kind(value: Any) -> str:
    """What a value is, in errors: its type, and how many items a tuple or list has."""
    name = type(value).__name__
    return f"{name} of {len(value)}" if isinstance(value, (tuple, list)) else name
