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
    """The section: rows, or their weights, by their class and the predicted one."""
    names, (y, predicted) = subject.class_names, subject.decided
    if subject.several_labels:
        return page.section("Labels", *_labels(names, y, predicted, subject.weight))
    make = _matrix if len(names) <= MATRIX else _largest
    return page.section("Confusion", *make(names, y, predicted, subject.weight))


def _ratio(part: float, whole: float) -> str:
    return page.number(part / whole if whole else float("nan"))


def _count(rows: float, weight: Array | None) -> str:
    """All digits of a number of rows, four of a sum of weights."""
    return f"{rows:,}" if weight is None else page.number(float(rows))


def _rows(weight: Array | None) -> str:
    return "rows" if weight is None else "weight"


def matrix(y: Array, predicted: Array, classes: int, weight: Array | None = None) -> Array:
    """(K, K): how many rows of each class y (n,) are predicted as each, or their weights (n,) in all.

    >>> matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, np.array([1.0, 2.0, 0.5]))
    array([[1. , 0. ],
           [2. , 0.5]])
    """
    return np.bincount(y * classes + predicted, weights=weight, minlength=classes**2).reshape(classes, classes)


def _matrix(names: list[str], y: Array, predicted: Array, weight: Array | None) -> list[str]:
    """A row for each class, a column for each predicted one, and the share of each row that is right."""
    counts = matrix(y, predicted, len(names), weight)
    head = ["actual", *(page.name(name, HEAD) for name in names), "recall"]
    rows = []
    for label, row in enumerate(counts):
        total = row.sum()
        cells = [page.cell(page.name(names[label]), "th", "")]
        cells += [page.shaded(_count(count, weight), count / total if total else 0.0) for count in row]
        rows.append([*cells, page.cell(_ratio(row[label], total))])
    precisions = [_ratio(counts[label, label], counts[:, label].sum()) for label in range(len(names))]
    rows.append([page.cell("precision", "th", ""), *map(page.cell, precisions), page.cell("")])
    what = "Rows" if weight is None else "The weight of the rows"
    return [
        page.paragraph(f"{what} by their class, left, and the class that was predicted, above."),
        page.framed([page.cell(title, "th", "n" if column else "") for column, title in enumerate(head)], rows),
    ]


def _largest(names: list[str], y: Array, predicted: Array, weight: Array | None) -> list[str]:
    """Of many classes: what is mistaken most often, and the classes that are found least."""
    off = y != predicted
    of_wrong, of_right = (None, None) if weight is None else (weight[off], weight[~off])
    pairs, places = np.unique(y[off] * len(names) + predicted[off], return_inverse=True)  # a matrix may be too large
    times = np.bincount(places, weights=of_wrong, minlength=len(pairs))
    mistaken = [
        [names[pairs[place] // len(names)], names[pairs[place] % len(names)], _count(times[place], weight)]
        for place in np.argsort(-times, kind="stable")[:MOST]
    ]
    totals = np.bincount(y, weights=weight, minlength=len(names))
    right = np.bincount(y[~off], weights=of_right, minlength=len(names))
    recall = np.where(totals > 0, right / np.where(totals > 0, totals, 1), np.inf)
    worst = [label for label in np.argsort(recall, kind="stable")[:MOST] if totals[label]]
    found = [[names[label], _count(totals[label], weight), _ratio(right[label], totals[label])] for label in worst]
    return [
        page.paragraph(f"{len(names):,} classes: the pairs that are mistaken most often, at most {MOST}."),
        page.table(["actual", "predicted", _rows(weight)], mistaken, words=2),
        page.paragraph(f"The classes that are found least, at most {MOST}."),
        page.table(["class", _rows(weight), "recall"], found),
    ]


def _labels(names: list[str], y: Array, predicted: Array, weight: Array | None) -> list[str]:
    """A line for each label that a row may have."""
    rows = []
    for label, name in list(enumerate(names))[:1000]:
        has, says = y[:, label] == 1, predicted[:, label] == 1
        counts = [_sum(each, weight) for each in (has, says, has & says)]
        shares = [_ratio(counts[2], counts[0]), _ratio(counts[2], counts[1])]
        rows.append([name, *(_count(count, weight) for count in counts), *shares])
    left_out = [page.paragraph(f"The first 1,000 of {len(names):,} labels.")] if len(names) > 1000 else []
    of = [] if weight is None else [page.paragraph("Counted by the weight of the rows.")]
    return [*left_out, *of, page.table(["label", "have it", "predicted", "both", "recall", "precision"], rows)]


def _sum(rows: Array, weight: Array | None) -> float:
    return int(rows.sum()) if weight is None else float(weight[rows].sum())


class Calibration(NamedTuple):
    """Of each bin that has rows: their mean probability, the share of them that are what it says, how many they are,
    or their weight."""

    said: Array
    found: Array
    rows: Array

    @property
    def error(self) -> float:
        """mean |share - probability| over the rows. Naeini et al. 2015."""
        return float(np.average(np.abs(self.found - self.said), weights=self.rows))


def calibration(y: Array, p: Array, weight: Array | None = None) -> Calibration:
    """Of the probability of class 1 of two (n,), of the most probable class of several (n, K), or of all labels; rows
    count for their weight (n,), None: for 1.

    >>> calibration(np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.9, 1.0])).found
    array([0., 1., 1.])
    """
    if p.ndim == 2 and y.ndim == 1:
        y, p = (p.argmax(axis=1) == y), p.max(axis=1)
    each = np.ones(p.shape) if weight is None else np.broadcast_to(weight.reshape(-1, *[1] * (p.ndim - 1)), p.shape)
    said, right, counts = p.ravel().astype(np.float64), y.ravel().astype(np.float64), each.ravel()
    place = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, weights=counts, minlength=BINS)
    there = rows > 0
    mean, share = (
        np.bincount(place, weights=values * counts, minlength=BINS)[there] / rows[there] for values in (said, right)
    )
    return Calibration(mean, share, rows[there])
