"""The report's parts in their order, and its file. What is in a part, its own file says."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastnn import _plot, _text, files
from fastnn.config import config
from fastnn.metrics.measure import check
from fastnn.metrics.naming import Metrics, named_metrics
from fastnn.report import classes, figures, importance, latency, network, page
from fastnn.report.subject import Subject


def check_arguments(path: str | os.PathLike[str], importances: object) -> Path:
    """Where the page goes. TypeError, OSError or ValueError where it cannot be written, ImportError without what draws
    it: before anything is computed."""
    place = _text.path("path", path)
    if place.is_dir() or (place.exists() and not place.is_file()):
        raise ValueError(f"path is {str(place)!r}, which is no regular file, expected one, or a name that is free")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"path is {str(place)!r}, expected a folder that is there")
    if not isinstance(importances, bool):
        raise TypeError(f"importance is {importances!r}, expected True or False")
    files.check_writable(place)
    _plot.require()
    if importances:
        importance.require()
    return place


def check_subject(subject: Subject) -> None:
    """ValueError or TypeError for what is no subject of a report, by the name of the argument."""
    history, named = subject.history, subject.classes
    if history is not None and not (callable(getattr(history, "plot", None)) and hasattr(history, "__len__")):
        raise TypeError(f"history is {history!r}, expected a History, which Trainer.fit returns, or None")
    if named is not None:
        if isinstance(named, str) or not hasattr(named, "__len__"):
            raise TypeError(f"classes is {named!r}, expected a list of names")
        if not subject.classifies:
            raise ValueError(f"classes is given, but this model was trained with {subject.loss}, expected None")
        if len(named) != subject.class_count:
            raise ValueError(f"classes has {len(named)} names, expected {subject.class_count}, one for each class")
    if len(subject.data) == 0:
        raise ValueError("X has 0 rows, expected at least one")


def write(path: str | os.PathLike[str], subject: Subject, *, metrics: Metrics | None, importances: bool) -> None:
    """Put the report into `path`: after a crash at any moment the old file or the new. Arguments and errors are those
    of `Sequential.report`; `check_arguments` comes before whoever calls this makes the subject."""
    check_subject(subject)
    scores = _scores(subject, metrics)
    sections = [section for section in _sections(subject, scores, importances) if section is not None]
    rows, parameters = len(subject.data), sum(layer.parameters for layer in subject.layers if layer.depth == 0)
    weighted = "" if subject.weight is None else f", which have weights, {page.number(subject.weight.sum())} in all"
    lead = (
        f"{parameters:,} parameters, trained with {subject.loss}, on {rows:,} row{'s' * (rows != 1)} of "
        f"{subject.data.inputs:,} value{'s' * (subject.data.inputs != 1)}{weighted}."
    )
    files.write_bytes(path, page.document(f"{subject.name}: a report", lead, sections))


def _sections(subject: Subject, scores: dict[str, float], importances: bool) -> Iterator[str | None]:
    yield page.section(
        "Scores", page.table(["", "value"], [[name, page.number(value)] for name, value in scores.items()])
    )
    yield page.section("Network", network.picture(subject.frozen.plan.input_shape, subject.layers))
    yield figures.curves(subject)
    if subject.classifies:
        yield classes.confusion(subject)
        yield figures.reliability(subject)
    else:
        yield figures.residuals(subject)
    if importances:
        yield importance.importance(subject)
    yield latency.latency(subject)
    facts = [[name, str(value)] for name, value in config().items()]
    yield page.section("Versions", page.table(["", ""], facts, words=2))


def _scores(subject: Subject, metrics: Metrics | None) -> dict[str, float]:
    """The loss and the metrics. ValueError where predictions are no numbers: nothing is to be said of them."""
    named = named_metrics(_usual(subject) if metrics is None else metrics, subject.loss)
    check(named, subject.loss, subject.frozen.plan.outputs, [subject.data])
    loss = subject.score(subject.data, {})["loss"]
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss over X and y is {loss}, expected rows whose predictions and targets are within range"
        )
    return subject.score(subject.data, named)


def _usual(subject: Subject) -> list[str]:
    """Names of metrics that say something of any model of this kind, and of these rows."""
    if subject.loss.width > 1:
        return []
    if not subject.classifies:
        return ["mae", "rmse", "r2"]
    if subject.several_labels:
        return ["accuracy"]
    shares = subject.data.y.ndim == 2 and not np.isin(subject.data.y, (0, 1)).all()
    return ["accuracy", "brier"] if subject.probabilities is not None and not shares else ["accuracy"]
