"""Classes as they are and as they were predicted: confusion, labels, calibration. Text and numbers; no pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastnn.report import page
from fastnn.report.subject import Subject

Array = np.ndarray
MATRIX = 30  # classes of which the whole matrix is shown
MOST = 20  # lines of a table
HEAD = 24  # characters of a class above its column
BINS = 10


def confusion(subject: Subject) -> str:
    """The section: rows by their class and the predicted one."""
    names, (y, predicted) = subject.class_names, subject.decided
    if subject.several_labels:
        return page.section("Labels", *_labels(names, y, predicted))
    parts = _matrix(names, y, predicted) if len(names) <= MATRIX else _largest(names, y, predicted)
    return page.section("Confusion", *parts)


def _ratio(part: int, whole: int) -> str:
    return page.number(part / whole if whole else float("nan"))


def _matrix(names: list[str], y: Array, predicted: Array) -> list[str]:
    """A row for each class, a column for each predicted one, and the share of each row that is right."""
    counts = np.bincount(y * len(names) + predicted, minlength=len(names) ** 2).reshape(len(names), len(names))
    head = ["actual", *(page.name(name, HEAD) for name in names), "recall"]
    rows = []
    for label, row in enumerate(counts):
        total = int(row.sum())
        cells = [page.cell(page.name(names[label]), "th", "")]
        cells += [page.shaded(f"{count:,}", count / total if total else 0.0) for count in row]
        rows.append([*cells, page.cell(_ratio(row[label], total))])
    precisions = [_ratio(counts[label, label], counts[:, label].sum()) for label in range(len(names))]
    rows.append([page.cell("precision", "th", ""), *map(page.cell, precisions), page.cell("")])
    return [
        page.paragraph("Rows by their class, left, and the class that was predicted, above."),
        page.framed([page.cell(title, "th", "n" if column else "") for column, title in enumerate(head)], rows),
    ]


def _largest(names: list[str], y: Array, predicted: Array) -> list[str]:
    """Of many classes: what is mistaken most often, and the classes that are found least."""
    off = y != predicted
    pairs, times = np.unique(y[off] * len(names) + predicted[off], return_counts=True)  # a matrix may be too large
    mistaken = [
        [names[pairs[place] // len(names)], names[pairs[place] % len(names)], f"{times[place]:,}"]
        for place in np.argsort(-times, kind="stable")[:MOST]
    ]
    totals, right = (np.bincount(each, minlength=len(names)) for each in (y, y[~off]))
    recall = np.where(totals > 0, right / np.maximum(totals, 1), np.inf)
    worst = [label for label in np.argsort(recall, kind="stable")[:MOST] if totals[label]]
    found = [[names[label], f"{totals[label]:,}", _ratio(right[label], totals[label])] for label in worst]
    return [
        page.paragraph(f"{len(names):,} classes: the pairs that are mistaken most often, at most {MOST}."),
        page.table(["actual", "predicted", "rows"], mistaken, words=2),
        page.paragraph(f"The classes that are found least, at most {MOST}."),
        page.table(["class", "rows", "recall"], found),
    ]


def _labels(names: list[str], y: Array, predicted: Array) -> list[str]:
    """A line for each label that a row may have."""
    rows = []
    for label, name in list(enumerate(names))[:1000]:
        has, says = y[:, label] == 1, predicted[:, label] == 1
        right = int((has & says).sum())
        counts = [int(has.sum()), int(says.sum()), right]
        shares = [_ratio(right, counts[0]), _ratio(right, counts[1])]
        rows.append([name, *(f"{count:,}" for count in counts), *shares])
    left_out = [page.paragraph(f"The first 1,000 of {len(names):,} labels.")] if len(names) > 1000 else []
    return [*left_out, page.table(["label", "have it", "predicted", "both", "recall", "precision"], rows)]


class Calibration(NamedTuple):
    """Of each bin that has rows: their mean probability, the share of them that are what it says, how many."""

    said: Array
    found: Array
    rows: Array

    @property
    def error(self) -> float:
        """mean |share - probability| over the rows. Naeini et al. 2015."""
        return float(np.average(np.abs(self.found - self.said), weights=self.rows))


def calibration(y: Array, p: Array) -> Calibration:
    """Of the probability of class 1 of two (n,), of the most probable class of several (n, K), or of all labels.

    >>> calibration(np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.9, 1.0])).found
    array([0., 1., 1.])
    """
    if p.ndim == 2 and y.ndim == 1:
        y, p = (p.argmax(axis=1) == y), p.max(axis=1)
    said, right = p.ravel().astype(np.float64), y.ravel().astype(np.float64)
    place = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    there = rows > 0
    mean, share = (np.bincount(place, weights=each, minlength=BINS)[there] / rows[there] for each in (said, right))
    return Calibration(mean, share, rows[there])
