"""The main job: train a classifier on the real images that are here, say how well it does, draw it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import nn, optim
from fastnn._plot import new_figure
from fastnn.datasets import Images
from fastnn.nn.model import Sequential
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

Array = np.ndarray
GRID = (4, 8)  # predictions shown, rows by columns


@dataclass(frozen=True)
class Setting:
    """A network and how long it learns."""

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int


FASHION = Setting((256, 128), epochs=10, batch_size=128)  # scikit-learn and PyTorch reach 0.880 to 0.883 with it
SMALL = Setting((128, 64), epochs=30, batch_size=32)  # for data sets of a few thousand images


@dataclass(frozen=True)
class Result:
    """What the demo measured."""

    model: Sequential
    history: History
    accuracy: float
    rows_per_second: float
    backend: str


def setting_for(images: Images) -> Setting:
    return FASHION if len(images.x) >= 10_000 else SMALL


def classifier(hidden: tuple[int, ...], classes: int) -> Sequential:
    """Images -> scaled pixels -> dense relu layers -> one logit a class."""
    return Sequential(
        [
            nn.Flatten(),
            nn.Normalize(per_feature=False),
            *(nn.Dense(units, activation="relu") for units in hidden),
            nn.Dense(classes),
        ]
    )


def run(
    images: Images, *, backend: str = "auto", epochs: int | None = None, seed: int = 0, verbose: bool | None = None
) -> Result:
    """Train on the images and measure the test accuracy after each epoch."""
    setting = setting_for(images)
    model = classifier(setting.hidden, len(images.classes))
    trainer = Trainer(
        model, loss="cross_entropy", optimizer=optim.Adam(1e-3), metrics=["accuracy"], seed=seed, backend=backend
    )
    history = trainer.fit(
        images.x,
        images.y,
        epochs=setting.epochs if epochs is None else epochs,
        batch_size=setting.batch_size,
        validation=(images.x_test, images.y_test),
        verbose=verbose,
    )
    rows = len(images.x) * len(history)
    return Result(model, history, history["val_accuracy"][-1], rows / sum(history["seconds"]), trainer.backend.name)


def draw(result: Result, images: Images, path: str | Path) -> None:
    """A PNG: the loss and accuracy curves beside a grid of test images, each with its prediction.

    ImportError naming the extra [plot] where matplotlib is missing.
    """
    figure = new_figure((15, 6))
    curves, grid = np.asarray(figure.subfigures(1, 2, width_ratios=(1, 1.5)))
    axes = curves.subplots()
    result.history.plot(axes)
    axes.set_title(f"{images.name}: test accuracy {result.accuracy:.3f}")
    _grid(grid, result.model, images, result.backend)
    figure.savefig(path, dpi=110)


def _grid(figure: Any, model: Sequential, images: Images, backend: str) -> None:
    count = min(GRID[0] * GRID[1], len(images.x_test))
    predicted = model.predict_class(images.x_test[:count], backend=backend)
    figure.suptitle("Test images and what the network says (in red: wrong, and what it is)")
    for index, axes in enumerate(figure.subplots(*GRID).flat):
        axes.axis("off")
        if index >= count:
            continue
        truth, answer = int(images.y_test[index]), int(predicted[index])
        title = images.classes[answer] + ("" if answer == truth else f" ({images.classes[truth]})")
        axes.imshow(images.x_test[index], cmap="gray_r")
        axes.set_title(title, fontsize=8, color="black" if answer == truth else "red")
