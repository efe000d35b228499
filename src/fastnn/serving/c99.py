"""A frozen network as C99: model.c, model.h and model_test.c. What is checked and written, not what layers compute.

C without math.h, allocation and static memory; the texts come from c99_ops (operations), c99_math (functions), c99_walk
(local arrays) and c99_files (headers, tests).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import _text, files
from fastnn.serving import c99_files, c99_math, c99_ops, c99_simulated
from fastnn.serving.c99_text import Source
from fastnn.serving.c99_walk import walk
from fastnn.serving.folded import folded
from fastnn.serving.frozen import Frozen
from fastnn.serving.predictor import Predictor, predictor

Array = np.ndarray
BLOCKS = (16, 32, 64)  # sums at a time
ROWS = 8  # that the test has where none are given
MOST_INT8 = (2**31 - 1) // 127**2  # inputs of a layer: the largest sum that int32_t holds
TOLERANCE = 1e-5  # of float32, beside max(1, |y|)


def write(
    frozen: Frozen,
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    name: str = "model",
    block: int = 64,
    rows: Any = None,
) -> None:
    """Write `path`, which ends with .c, and beside it the header and a test: model.c, model.h, model_test.c.

    dtype: "float32", or "int8": weights in a byte, a scale a column, and rows that are rounded to bytes as they come.
    name: the prefix of all names in C. block: how many sums are kept at a time: 16 for a CPU with few registers.
    rows: X, whose predictions the test expects; None: eight that are drawn.

    ValueError or TypeError, before anything is written, for other arguments, and for what C is not written for: a
    network of float64, formulas of one's own, weights that are not finite. OSError where a file cannot be written.
    """
    place = _path(path)
    made = sources(frozen, place.stem, dtype=dtype, name=name, block=block, rows=rows)
    texts = {f"{place.stem}.h": made.header, f"{place.stem}_test.c": made.test, place.name: made.code}
    for target in texts:
        files.check_writable(place.with_name(target))  # a folder's error is OSError's
        files.check_regular(place.with_name(target))
    for target, text in texts.items():
        files.write_bytes(place.with_name(target), text.encode())


@dataclass(frozen=True)
class Sources:
    """The three texts, and what the head of the first says."""

    code: str
    header: str
    test: str
    facts: c99_files.Facts


def sources(
    frozen: Frozen, stem: str, *, dtype: str = "float32", name: str = "model", block: int = 64, rows: Any = None
) -> Sources:
    """The texts of files that are called `stem`; arguments and errors as `write` has them."""
    _check_arguments(dtype, name, block)
    _check_network(frozen, dtype)
    x = _rows(frozen, rows)
    small = folded(frozen)
    source = Source(block, dtype)
    with np.errstate(over="ignore"):  # a table refuses what became infinite
        buffers = walk(small, source)
    offer = c99_files.Offer.of(frozen, name, stem)
    link = offer.link_lines(source)
    answers = _answers(frozen, small, x, dtype)
    stack = buffers + source.deepest + 4 * frozen.plan.outputs
    facts = c99_files.Facts(source.flash, stack, answers.error, len(x), dtype, answers.tolerance)
    return Sources(
        c99_files.code(offer, facts, source, link),
        c99_files.header(offer),
        c99_files.trial(offer, facts, x, answers.y, answers.probabilities, answers.classes),
        facts,
    )


# Checks ----------------------------------------------------------------------------------------------------------


def _path(path: str | os.PathLike[str]) -> Path:
    place = _text.path("path", path)
    if not re.fullmatch(r"[\w.+-]+\.c", place.name) or place.is_dir():  # it stands in an #include and in comments
        raise ValueError(
            f"path is {str(place)!r}, expected a file's name of letters, digits, _ . + - that ends with .c"
        )
    if not place.parent.is_dir():
        raise FileNotFoundError(f"path is {str(place)!r}, expected a folder that is there")
    return place


def _check_arguments(dtype: str, name: str, block: int) -> None:
    _text.choice("dtype", dtype, ("float32", "int8"), "'float32' or 'int8'")
    if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
        raise ValueError(f"name is {name!r}, expected a name in C: letters, digits and _, no digit first")
    if isinstance(block, bool) or not isinstance(block, int) or block not in BLOCKS:
        raise ValueError(f"block is {block!r}, expected one of: {', '.join(map(str, BLOCKS))}")


def _check_network(frozen: Frozen, dtype: str) -> None:
    """ValueError for what C is not written for, by name."""
    plan = frozen.plan
    if plan.dtype != np.float32:
        raise ValueError(f"the network computes in {plan.dtype}, expected float32 for C: build it with dtype='float32'")
    for op in plan.ops:
        if op.kind not in c99_ops.EMITTED:
            why = c99_ops.REFUSED.get(op.kind, "it is not written in C yet")
            raise ValueError(f"the network has the operation {op.kind}, expected one that C has: {why}")
        if dtype == "int8" and op.kind == "dense" and op.inputs[-1] > MOST_INT8:
            raise ValueError(f"a dense layer has {op.inputs[-1]} inputs, expected at most {MOST_INT8} for int8")
        if not op.activation.built_in or op.activation.name not in c99_math.ACTIVATIONS:
            raise ValueError(f"the network has the activation {op.activation}, expected one that C has: not one's own")
    for tensor, values in frozen.arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{tensor} has values that are not finite, expected numbers")
    if frozen.scaling is not None and not np.isfinite([*frozen.scaling[0], frozen.scaling[1]]).all():
        raise ValueError("the scale of the targets is not finite, expected numbers")


def _rows(frozen: Frozen, rows: Any) -> Array:
    """The test's rows (n, I), float32: what a caller in C has."""
    plan = frozen.plan
    if rows is None:
        drawn = np.random.default_rng(0).normal(size=(ROWS, plan.inputs))
        source = plan.source
        if frozen.normalizes:  # as the data was
            shift, scale = (frozen.arrays[source.tensors[role].name] for role in ("shift", "scale"))
            drawn = shift + drawn / np.where(scale == 0, 1.0, scale)
        made: Array = np.clip(drawn, -3e38, 3e38).astype(np.float32)
        return made
    x = frozen.border.features(rows, name="rows").x
    if x.shape[0] == 0:
        raise ValueError("rows has 0 rows, expected at least one")
    dense = x if isinstance(x, np.ndarray) else x.toarray()
    return np.asarray(dense, dtype=np.float32).reshape(len(dense), plan.inputs)


# What the test expects ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """Of the Python model, for each row: y (n, O), probabilities (n, C) and classes (n,), -1 where two are as good."""

    y: Array
    probabilities: Array | None
    classes: Array | None
    error: float  # of the C, simulated, beside max(1, |y|)
    tolerance: float


def _answers(frozen: Frozen, small: Frozen, x: Array, dtype: str) -> Answers:
    rows = x.reshape(len(x), *frozen.plan.input_shape)
    made = predictor(frozen)
    y = _flat(made(rows))
    if not np.isfinite(y).all():
        row = int(np.argmax(~np.isfinite(y).all(axis=1)))
        raise ValueError(f"the prediction of row {row} of rows is not finite, expected rows whose predictions are")
    simulated = _flat(Predictor(small, c99_simulated.backend(dtype))(rows))
    error = float((np.abs(simulated - y) / np.maximum(1.0, np.abs(y))).max())
    tolerance = TOLERANCE + 2.0 * error  # another compiler's sums are about as far off
    chances = None if frozen.link is None else made.predict_proba(rows)
    one = c99_files.one_of_many(frozen)
    classes = (
        _classes(frozen, predictor(replace(frozen, classes=None)).predict_class(rows), y, tolerance) if one else None
    )
    return Answers(y, chances, classes, error, tolerance)


def _classes(frozen: Frozen, classes: Array, y: Array, tolerance: float) -> Array:
    """-1 where a prediction within the tolerance may be of another class."""
    if y.shape[1] == 1:
        margin = np.abs(y[:, 0] - (0.5 if frozen.linked else 0.0))
    else:
        largest = np.sort(y, axis=1)[:, -2:]
        margin = largest[:, 1] - largest[:, 0]
    doubtful = margin <= 4.0 * tolerance * np.maximum(1.0, np.abs(y).max(axis=1))
    made: Array = np.where(doubtful, -1, classes)
    return made


def _flat(y: Array) -> Array:
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
