"""What classes a classifier has learned, as what JSON holds, and back: checked. Encodes no targets."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fastnn._text import short
from fastnn.errors import ModelFormatError
from fastnn.estimators.labels import ANY, ONE, ONE_OF_TWO, SEVERAL, Labels
from fastnn.formulas.losses import Loss
from fastnn.nn.serialize import same_keys

Array = np.ndarray
_KINDS = (ONE_OF_TWO, ONE, ANY, SEVERAL)
_FEWEST = {ONE_OF_TWO: 1, ONE: 3, ANY: 1, SEVERAL: 1}
_MOST_TEXT = 1 << 24  # bytes of all classes that are text: NumPy pads each to the width of its dtype, a file does not


def to_config(labels: Labels) -> dict[str, Any]:
    """TypeError for classes that are neither numbers, bools nor text, and for text that takes over 16 MB."""
    most = _MOST_TEXT // len(labels.columns)
    columns = [_column(column, f"classes of column {index}", most) for index, column in enumerate(labels.columns)]
    return {"kind": labels.kind, "sparse": bool(labels.sparse), "columns": columns}


def _column(classes: Array, where: str, most: int) -> dict[str, Any]:
    values = classes.tolist()
    dtype = classes.dtype
    texts = all(isinstance(value, str) for value in values)
    if dtype.kind not in "biuf" and not (dtype.kind in "UO" and texts):
        raise TypeError(f"{where} are {short(values)} of {dtype}, expected numbers, bools or text")
    if dtype.kind == "f" and (dtype.itemsize > 8 or not np.isfinite(classes).all()):
        raise TypeError(f"{where} are {short(values)} of {dtype}, expected finite numbers of at most 64 bits")
    if dtype.kind == "U" and dtype.itemsize * len(values) > most:
        dtype = np.array(values).dtype  # as wide as the longest needs
    if dtype.kind == "U" and dtype.itemsize * len(values) > most:
        raise TypeError(f"{where} take {dtype.itemsize * len(values)} bytes as {dtype}, expected {most} at most")
    return {"dtype": "object" if dtype.kind == "O" else dtype.newbyteorder("=").str[1:], "values": values}


def from_config(config: Any, loss: Loss, outputs: int) -> Labels:
    """The labels of a network with so many outputs under this loss. ModelFormatError names what cannot be."""
    if not isinstance(config, dict):
        raise ModelFormatError(f"labels is {short(config)}, expected an object")
    same_keys("labels", set(config), {"kind", "sparse", "columns"})
    kind, columns = config["kind"], config["columns"]
    if kind not in _KINDS:
        raise ModelFormatError(f"labels.kind is {short(kind)}, expected one of: {', '.join(_KINDS)}")
    if type(config["sparse"]) is not bool or (config["sparse"] and kind != ANY):
        raise ModelFormatError(f"labels.sparse is {short(config['sparse'])}, expected a bool, true for {ANY} alone")
    if not isinstance(columns, list) or not columns or (len(columns) > 1 and kind != SEVERAL):
        raise ModelFormatError(f"labels.columns is {short(columns)}, expected a list, of one column but for {SEVERAL}")
    most = _MOST_TEXT // len(columns)
    made = [_classes(column, f"labels.columns[{index}]", most) for index, column in enumerate(columns)]
    labels = Labels.__new__(Labels)
    labels.kind, labels.sparse = kind, config["sparse"]
    labels.classes = made if kind == SEVERAL else made[0]
    _check(labels, loss, outputs)
    return labels


def _classes(config: Any, where: str, most: int) -> Array:
    if not isinstance(config, dict):
        raise ModelFormatError(f"{where} is {short(config)}, expected an object")
    same_keys(where, set(config), {"dtype", "values"})
    values = config["values"]
    if not isinstance(values, list) or not values:
        raise ModelFormatError(f"{where}.values is {short(values)}, expected a list of classes")
    dtype = _dtype(config["dtype"], most // (4 * len(values)), where)
    types = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "U": (str,), "O": (str,)}[dtype.kind]
    if not all(type(value) in types for value in values):
        raise ModelFormatError(f"{where}.values is {short(values)}, expected classes of {dtype}")
    try:
        made = np.array(values, dtype=dtype)
    except (ValueError, OverflowError, TypeError) as error:
        raise ModelFormatError(f"{where}.values: {error}") from None
    if made.tolist() != values:
        raise ModelFormatError(f"{where}.values is {short(values)}, which {dtype} does not hold")
    if not all(low < high for low, high in pairwise(values)):
        raise ModelFormatError(f"{where}.values is {short(values)}, expected each class once, in ascending order")
    return made


def _dtype(text: Any, widest: int, where: str) -> np.dtype[Any]:
    """widest: letters that text may have."""
    known = {"object": np.dtype(object), "b1": np.dtype(bool)}
    known |= {f"{kind}{size}": np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)}
    known |= {f"f{size}": np.dtype(f"f{size}") for size in (2, 4, 8)}
    if isinstance(text, str) and text in known:
        return known[text]
    if isinstance(text, str) and text[:1] == "U" and text[1:].isdecimal() and text.isascii() and len(text) < 9:
        width = int(text[1:])
        if 0 < width <= widest and text == f"U{width}":
            return np.dtype(text)
    raise ModelFormatError(f"{where}.dtype is {short(text)}, expected one of: {', '.join(known)}, U1 to U{widest}")


def _check(labels: Labels, loss: Loss, outputs: int) -> None:
    """ModelFormatError where the loss is not one of these classes, or the network's outputs do not tell them apart."""
    for index, column in enumerate(labels.columns):
        fewest = _FEWEST[labels.kind]
        if len(column) < fewest or (labels.kind == ONE_OF_TWO and len(column) > 2):
            raise ModelFormatError(f"labels.columns[{index}] has {len(column)} classes, which are not {labels.kind}")
    if labels.kind == ANY and labels.classes.tolist() != list(range(len(labels.classes))):
        raise ModelFormatError(f"labels of {ANY} are {short(labels.classes.tolist())}, expected their numbers")
    try:
        labels.loss(loss, 0.0)
    except ValueError as error:
        raise ModelFormatError(str(error)) from None
    if labels.outputs(loss) != outputs:
        raise ModelFormatError(f"the network has {outputs} outputs, expected {labels.outputs(loss)} for its labels")
