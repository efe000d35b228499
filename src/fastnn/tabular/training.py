"""A network for a table: split, scaled, trained, measured, its curves drawn. Prints nothing; see `cli.py`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from fastnn import nn, optim
from fastnn._plot import new_figure
from fastnn.data import Features
from fastnn.metrics import mae, r2, rmse
from fastnn.nn.model import Sequential
from fastnn.tabular.columns import numbers
from fastnn.tabular.description import Description
from fastnn.tabular.files import known, read
from fastnn.tabular.prediction import answers
from fastnn.tabular.targets import Target, Task, target
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


def train(
    path: str | os.PathLike[str],
    target_name: str,
    settings: Settings | None = None,
    *,
    task: Task = "auto",
    ignore: Sequence[str] = (),
    separator: str | None = None,
) -> Result:
    """Train a network to predict one column of the table in `path` from all others but those to ignore.

    The features are normalised within the model; numbers to predict are scaled to mean 0 and variance 1 and back.
    ValueError, before training, for what the file or the settings have wrong, naming columns; see also `read`.
    """
    chosen = settings or Settings()
    name = os.fspath(path)
    frame = read(path, text=(target_name,), separator=separator)
    names = list(frame.columns)
    target_name, *ignore = (known(wanted, names, name) for wanted in (target_name, *ignore))
    features = [column for column in names if column != target_name and column not in ignore]
    if not features:
        raise ValueError(f"{name} has no column beside the target {target_name!r} to learn from")
    if len(frame) == 1:
        raise ValueError(f"{name} has 1 row, expected rows to learn from and others to validate with")
    aim = target(frame[target_name], target_name, task)
    rows = numbers(frame, features, name, hint=", or leave columns out with --ignore")
    fractions = {"validation": chosen.validation} | ({"test": chosen.test} if chosen.test else {})
    labels = aim.values if aim.classes is not None else np.zeros(len(rows), np.int64)  # numbers: as of one class
    return _fit(rows, aim, split(len(rows), fractions, chosen.seed, labels), chosen)


def _fit(features: Features, aim: Target, parts: dict[str, Array], settings: Settings) -> Result:
    mean, scale = (0.0, 1.0) if aim.classes is not None else _moments(aim.values[parts["training"]])
    description = Description(aim.task, aim.name, features.names or [], aim.classes, mean, scale)
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
    data = model.checked(features, y, None, trainer.loss)
    held = {part: data.part(rows) for part, rows in parts.items() if part != "training"}
    history = trainer.fit(
        data.part(parts["training"]),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        validation=held["validation"],
        callbacks=[stopping],
        verbose=settings.verbose,
    )
    model.metadata = {"table": asdict(description)}
    scores = {part: score(model, description, rows, aim.values[parts[part]]) for part, rows in held.items()}
    return Result(
        model=model,
        description=description,
        history=history,
        scores=scores,
        rows={part: len(rows) for part, rows in parts.items()},
        guessed=aim.guessed,
        best_epoch=stopping.best_epoch,
        stopped=stopping.stopped,
        backend=trainer.backend.name,
    )


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


def score(model: Sequential, description: Description, features: Features, truth: Array) -> dict[str, float]:
    """Accuracy, and what always naming the largest class of these rows would have; or errors in the target's unit."""
    if description.classes is not None:
        right = model.predict_class(features) == truth
        return {"accuracy": float(right.mean()), "largest class": float(np.bincount(truth).max() / len(truth))}
    prediction = answers(model, description, features)
    return {metric.__name__: metric(truth[:, None], prediction[:, None]) for metric in (mae, rmse, r2)}


def draw(result: Result, path: str | os.PathLike[str]) -> None:
    """A PNG of the loss and the metric over the epochs. ImportError naming the extra [plot] without matplotlib."""
    figure = new_figure((8, 5))
    axes = figure.subplots()
    result.history.plot(axes)
    if result.best_epoch is not None:
        axes.axvline(result.best_epoch, color="grey", linewidth=0.8)
    axes.set_title(f"{result.description.target}: kept are the parameters of epoch {result.best_epoch}")
    figure.savefig(path, dpi=110, format="png")
