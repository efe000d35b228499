"""What matplotlib draws for a report: curves, calibration, residuals. Names of data in it: those of metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _plot
from fastnn.report import page
from fastnn.report.classes import calibration
from fastnn.report.subject import Subject

Array = np.ndarray
POINTS = 1000  # drawn at most
OUTPUTS = 4  # drawn at most
COLOR = "#3b78e7"
SIZE = (4.4, 3.6)  # inches: what a phone shows without making the text small


def _drawn(draw: Callable[[Any], None], size: tuple[float, float], name: str, label: str) -> str:
    """The picture, with what a reader that sees none says of it."""
    return _plot.svg(draw, size, name).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def curves(subject: Subject) -> str | None:
    """The section of the history, None without one."""
    history = subject.history
    if history is None or not len(history):
        return None

    def draw(figure: Any) -> None:
        history.plot(figure.subplots())

    return page.section("Learning curves", _drawn(draw, (5.6, 3.9), "curves", "loss and metrics by epoch"))


def reliability(subject: Subject) -> str | None:
    """The section of the calibration, None where the loss has no probabilities."""
    if subject.probabilities is None:
        return None
    found = calibration(*subject.probabilities, subject.weight)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], "--", color=_plot.INK, linewidth=0.8, alpha=0.6)
        axes.plot(found.said, found.found, color=COLOR)
        axes.scatter(found.said, found.found, s=10 + 190 * found.rows / found.rows.max(), color=COLOR, alpha=0.7)
        axes.set(xlabel="probability", ylabel="share that is right", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))

    sentence = (
        f"The probability {_which(subject)}, in ten bins, and how often it came true. Mean distance from the line: "
    )
    return page.section(
        "Calibration",
        page.paragraph(f"{sentence}{page.number(found.error)}."),
        _drawn(draw, SIZE, "calibration", "share that is right by probability"),
    )


def _which(subject: Subject) -> str:
    if subject.several_labels:
        return "of each label"
    return f"of {page.shortened(subject.class_names[1])}" if subject.class_count == 2 else "of the most probable class"


def residuals(subject: Subject) -> str:
    """The section of predicted and actual values."""
    y, prediction = subject.values
    if y.shape != prediction.shape:
        why = f"The loss {subject.loss} has {prediction.shape[1]} outputs for {y.shape[1]} target values."
        return page.section("Residuals", page.paragraph(why))
    shown = min(y.shape[1], OUTPUTS)
    parts = [
        page.paragraph("Predicted and actual values, and how many rows are off by how much: actual less predicted.")
    ]
    for output in range(shown):
        of = f"output {output}" if y.shape[1] > 1 else ""
        parts.append(
            page.beside(*_of_output(y[:, output], prediction[:, output], subject.weight, of, f"residuals{output}"))
        )
    if shown < y.shape[1]:
        parts.append(page.paragraph(f"The first {shown} of {y.shape[1]:,} outputs."))
    return page.section("Residuals", *parts)


def _of_output(y: Array, prediction: Array, weight: Array | None, title: str, name: str) -> tuple[str, str]:
    left = y - prediction
    some = np.unique(np.linspace(0, len(y) - 1, min(len(y), POINTS)).astype(np.int64))
    ends = [min(y.min(), prediction.min()), max(y.max(), prediction.max())]

    def pairs(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(ends, ends, "--", color=_plot.INK, linewidth=0.8, alpha=0.6)
        axes.scatter(prediction[some], y[some], s=9, color=COLOR, alpha=0.5)
        axes.set(xlabel="predicted", ylabel="actual", title=title)

    def spread(figure: Any) -> None:
        axes = figure.subplots()
        axes.hist(left, bins=_edges(left), weights=weight, color=COLOR)
        axes.set(xlabel="residual", ylabel="rows" if weight is None else "weight of rows", title=title)

    return _drawn(pairs, SIZE, f"{name}p", "actual by predicted"), _drawn(spread, SIZE, f"{name}s", "residuals")


def _edges(values: Array) -> Array:
    """30 bins, fewer where float64 has not so many numbers there."""
    low, high = float(values.min()), float(values.max())
    edges = np.unique(np.linspace(low, high, 31))
    wide: Array = edges if len(edges) > 1 else np.array([low - 0.5 - abs(low) / 2, low + 0.5 + abs(low) / 2])
    return wide
