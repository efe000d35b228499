"""A network for a table: split, scaled, trained, measured, its curves drawn. Prints nothing; see `cli.py`."""

from __future__ import annotations

import csv
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastnn import _text, _validate, nn, optim
from fastnn._plot import new_figure
from fastnn.data import Features
from fastnn.errors import TableWarning, callers
from fastnn.files import naming
from fastnn.metrics import mae, r2, rmse
from fastnn.nn.model import Sequential
from fastnn.report import curves
from fastnn.tabular.columns import numbers
from fastnn.tabular.description import Description
from fastnn.tabular.encoding import (
    FILLS,
    Encoding,
    Fill,
    as_numbers,
    counts_its_rows,
    is_text,
    learned,
    names_its_rows,
)
from fastnn.tabular.files import known, read, shown
from fastnn.tabular.prediction import answers
from fastnn.tabular.targets import Target, Task, target, without_target
from fastnn.training.callbacks import EarlyStopping
from fastnn.training.history import History
from fastnn.training.holdout import split
from fastnn.training.trainer import Trainer

Array = np.ndarray


@dataclass(frozen=True)
class Settings:
    """How a network for a table is made and trained: hidden layers of relu, Adam, early stopping on the validation."""

    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 200
    batch_size: int = 32
    lr: float = 1e-3
    seed: int = 0
    validation: float = 0.2
    test: float = 0.0
    patience: int = 20
    backend: str = "auto"
    verbose: bool | None = None
    class_weight: Literal["balanced"] | None = None  # each class as much as the others: in the validation's loss too


@dataclass(frozen=True)
class Result:
    """A trained model, how it came to be, and how well it does: {"validation": {"accuracy": ...}, ...}."""

    model: Sequential
    description: Description
    history: History
    scores: dict[str, dict[str, float]]
    rows: dict[str, int]  # of each part
    guessed: bool  # whether the task was
    best_epoch: int | None
    stopped: bool  # before the last epoch
    backend: str
    left_out: int = 0  # rows with missing values


@dataclass(frozen=True)
class _Table:
    """What is learned from: a frame without the rows to leave out, the columns of it to take, the weights of its
    rows."""

    frame: Any
    features: list[str]
    weight: Array | None
    left_out: int


def train(
    path: str | os.PathLike[str],
    target_name: str,
    settings: Settings | None = None,
    *,
    task: Task = "auto",
    ignore: Sequence[str] = (),
    separator: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    encode: bool = False,
    fill: Fill | None = None,
    drop_missing: bool = False,
    weight: str | None = None,
) -> Result:
    """Train a network to predict one column of the table in `path` from all others but those to ignore.

    The features are normalised within the model; numbers to predict are scaled to mean 0 and variance 1 and back.

    ignore: names of columns, or several in one text with commas between, quoted as in a CSV. separator, decimal,
    encoding: as in `read`. encode: columns of text become one of 0 and 1 for each value that the rows to learn from
    have, also for a missing one; those that name their rows are left out. fill: missing numbers become the "mean" or
    "median" of those rows, or "zero". drop_missing: rows with missing values are left out, but for what `fill` fills;
    rows without a target are with either of the two. weight: the column with the weights of the rows, which is no
    feature.

    ValueError, before training, for what the file or the settings have wrong, naming columns; see also `read`.
    TableWarning of columns that count or name the rows.
    """
    chosen = settings or Settings()
    name = os.fspath(path)
    if fill is not None:
        _text.choice("fill", fill, FILLS, f"one of: {', '.join(FILLS)}")
    skips = fill is not None or drop_missing  # what has no target is left out
    frame = read(path, text=(target_name,), separator=separator, decimal=decimal, encoding=encoding, blank_lines=skips)
    names = list(frame.columns)
    target_name = known(target_name, names, name)
    ignored = [known(each, names, name) for text in ignore for each in _names_in(text, names)]
    weight = None if weight is None else known(weight, names, name)
    if weight == target_name:
        raise ValueError(f"weight is {weight!r}, which is the target, expected another column")
    features = [column for column in names if column not in (target_name, weight, *ignored)]
    if not features:
        raise ValueError(f"{shown(name)} has no column beside the target {target_name!r} to learn from")
    if len(frame) == 1:
        raise ValueError(f"{shown(name)} has 1 row, expected rows to learn from and others to validate with")
    features = _noted(frame, features, name, encode)
    table = _rows(frame, features, target_name, weight, name, fill, drop_missing)
    aim = target(table.frame[target_name], target_name, task)
    fractions = {"validation": chosen.validation} | ({"test": chosen.test} if chosen.test else {})
    labels = aim.values if aim.classes is not None else np.zeros(len(table.frame), np.int64)  # numbers: as of one class
    parts = split(len(table.frame), fractions, chosen.seed, labels)
    rows = _counting(table, parts["training"])
    codes = learned(table.frame, features, rows, text=encode, fill=fill)
    hint = " (--fill, --encode, --drop-missing), or leave columns out with --ignore"
    matrix = numbers(table.frame, features, name, hint=hint, encoding=codes)
    return _fit(matrix, table, aim, codes, parts, chosen)


def _names_in(text: str, names: Sequence[str]) -> list[str]:
    """The names of columns in a text: itself, where a column is called so, else what commas divide as in a CSV."""
    if text in names or text.strip() in names:
        return [text]
    return [name for line in csv.reader([text], skipinitialspace=True) for name in line]


def _noted(frame: Any, features: list[str], name: str, encode: bool) -> list[str]:
    """The features without those columns of text to encode that name the rows. TableWarning of these, and of numbers
    that count the rows, which stay: they may mean something, a year, say."""
    kept = []
    for column in features:
        series = frame[column]
        if encode and names_its_rows(series):
            _warn(f"column {column!r} has {series.nunique():,} different texts in {len(frame):,} rows: left out")
            continue
        if counts_its_rows(series):
            first = as_numbers(series).min()
            _warn(
                f"column {column!r} counts the rows ({first:.0f}, {first + 1:.0f}, ...): leave it out with --ignore "
                f"{_quoted(column)} unless it means something"
            )
        kept.append(column)
    if not kept:
        raise ValueError(f"{shown(name)} has no column to learn from: all of them name the rows")
    return kept


def _quoted(column: str) -> str:
    return f"'{column}'" if re.search(r"[^\w.-]", column) else column


def _warn(message: str) -> None:
    warnings.warn(message, TableWarning, stacklevel=callers())


def _rows(
    frame: Any,
    features: list[str],
    target_name: str,
    weight: str | None,
    name: str,
    fill: Fill | None,
    drop_missing: bool,
) -> _Table:
    """The rows to take, see `train`."""
    lost = np.zeros(len(frame), bool)
    if fill is not None or drop_missing:
        lost |= without_target(frame[target_name])
    if drop_missing:
        looked_at = [*features, *([] if weight is None else [weight])]
        for column in looked_at:
            filled = fill is not None and column != weight and not is_text(frame[column])
            if not filled:
                lost |= frame[column].isna().to_numpy()
    if lost.all():
        raise ValueError(f"{shown(name)} has missing values in all of its {len(frame):,} rows, expected others")
    if lost.any():
        frame = frame[~lost].reset_index(drop=True)
    weights = None
    if weight is not None:
        values = numbers(frame, [weight], name).x[:, 0]
        weights = _validate.sample_weight(values, len(frame), np.dtype(np.float32), name=f"the weight {weight!r}")
    return _Table(frame, features, weights, int(lost.sum()))


def _counting(table: _Table, rows: Array) -> Array:
    """Those of the rows whose weight is not 0."""
    return rows if table.weight is None else rows[table.weight[rows] > 0]


def _fit(
    features: Features, table: _Table, aim: Target, codes: Encoding, parts: dict[str, Array], settings: Settings
) -> Result:
    learned_from = _counting(table, parts["training"])
    mean, scale = (0.0, 1.0) if aim.classes is not None else _moments(aim.values[learned_from])
    description = Description(
        aim.task, aim.name, table.features, aim.classes, mean, scale, dict(codes.categories), dict(codes.fill)
    )
    y = aim.values if aim.classes is not None else (aim.values - mean) / scale
    model = network(settings.hidden, 1 if aim.classes is None else len(aim.classes))
    stopping = EarlyStopping(patience=settings.patience)
    trainer = Trainer(
        model,
        "mse" if aim.classes is None else "cross_entropy",
        optim.Adam(settings.lr),
        metrics=["r2" if aim.classes is None else "accuracy"],
        seed=settings.seed,
        backend=settings.backend,
    )
    trainer.advises = False  # the targets are scaled here
    weight = table.weight
    if settings.class_weight is not None:
        weight = _balanced(aim, learned_from, weight)
    data = model.checked(features, y, weight, trainer.loss)
    for part, rows in parts.items():
        data.check_weights(rows, f"for {part}")
    held = {part: data.part(rows) for part, rows in parts.items() if part != "training"}
    history = trainer.fit(
        data.part(parts["training"]),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        validation=held["validation"],
        callbacks=[stopping],
        verbose=settings.verbose,
    )
    best = stopping.best_epoch
    model.metadata = {"table": description.kept(), "curves": curves.kept(history.items(), best, _axis(description))}
    scores = {
        part: score(
            model,
            description,
            rows,
            aim.values[parts[part]],
            None if table.weight is None else table.weight[parts[part]],
        )
        for part, rows in held.items()
    }
    return Result(
        model=model,
        description=description,
        history=history,
        scores=scores,
        rows={part: len(rows) for part, rows in parts.items()},
        guessed=aim.guessed,
        best_epoch=best,
        stopped=stopping.stopped,
        backend=trainer.backend.name,
        left_out=table.left_out,
    )


def _balanced(aim: Target, rows: Array, weight: Array | None) -> Array:
    """The weight (n,) of each row, so that the classes have the same in all among `rows`. Of the validation too: by a
    loss that it weighs otherwise, the epoch would be chosen against the balance."""
    if aim.classes is None:
        raise ValueError(f"class_weight is 'balanced', but the target {aim.name!r} is numbers, expected classes")
    own = np.ones(len(aim.values)) if weight is None else weight.astype(np.float64)
    counts = np.bincount(aim.values[rows], weights=own[rows], minlength=len(aim.classes))
    present = counts > 0
    balance = np.where(present, counts.sum() / (present.sum() * np.where(present, counts, 1.0)), 1.0)
    balanced: Array = own * balance[aim.values]
    return balanced


def _moments(values: Array) -> tuple[float, float]:
    """Mean and standard deviation; 1 where all the values are the same."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(np.mean(values)), float(np.std(values))
    if not math.isfinite(deviation):
        raise ValueError("the target has numbers that are too large, expected squares below 1.8e308: scale it")
    return mean, deviation or 1.0


def network(hidden: Sequence[int], outputs: int) -> Sequential:
    """Normalize, hidden layers of relu, linear outputs: the logits of classes, or one number."""
    return Sequential([nn.Normalize(), *(nn.Dense(units, activation="relu") for units in hidden), nn.Dense(outputs)])


def score(
    model: Sequential, description: Description, features: Features, truth: Array, weight: Array | None = None
) -> dict[str, float]:
    """Accuracy, and what always naming the largest class of these rows would have; or errors in the target's unit. With
    the weights of the rows, where they have some."""
    if description.classes is not None:
        right = model.predict_class(features) == truth
        shares = np.bincount(truth, weights=weight)
        return {
            "accuracy": float(np.average(right, weights=weight)),
            "largest class": float(shares.max() / shares.sum()),
        }
    prediction = answers(model, description, features)
    return {metric.__name__: metric(truth[:, None], prediction[:, None], weight) for metric in (mae, rmse, r2)}


def _axis(description: Description) -> str:
    """What the losses are, above their curves."""
    return "loss" if description.classes is not None else "loss: squared error, the target in standard deviations"


def draw(result: Result, path: str | os.PathLike[str]) -> None:
    """A PNG of the loss and the metric over the epochs. ImportError naming the extra [plot] without matplotlib."""
    figure = new_figure((8, 5))
    axes = figure.subplots()
    history, best = result.history, result.best_epoch
    curves.Curves([*range(1, len(history) + 1)], dict(history.items()), best, _axis(result.description)).plot(axes)
    axes.set_title(f"{result.description.target}: parameters of epoch {best} are kept")
    with naming(path):
        figure.savefig(path, dpi=110, format="png")
