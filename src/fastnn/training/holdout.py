"""Which rows are held out of a fit: drawn at random, classes in proportion. Knows no data, only counts and labels.

The estimators alone draw theirs with scikit-learn's train_test_split: the same rows as scikit-learn's own.
"""

from __future__ import annotations

import numpy as np

from fastnn import _random, _validate

Array = np.ndarray
_PLAIN, _BY_CLASS = (1 << 64) - 1, (1 << 64) - 2  # epochs whose shuffles draw the rows: no run gets there


def split(count: int, fractions: dict[str, float], seed: int, labels: Array | None = None) -> dict[str, Array]:
    """Row numbers, ascending, drawn at random: for each name its fraction of the rows, and "training" the others.

    With `labels` every class is divided in these proportions, to within one row: shuffled rows, sorted by class, are
    dealt out at equal distances. A class all of whose rows were dealt out takes one back: what nothing was learned of
    cannot be measured, and a class of one row is always learned from. ValueError where a part would have no row.

    >>> {name: len(rows) for name, rows in split(10, {"validation": 0.2, "test": 0.3}, seed=0).items()}
    {'validation': 2, 'test': 3, 'training': 5}
    """
    left = _random.permutation(seed, _PLAIN if labels is None else _BY_CLASS, count)
    if labels is not None:
        left = left[np.argsort(labels[left], kind="stable")]
    parts: dict[str, Array] = {}
    taken = 0.0
    for name, fraction in fractions.items():
        share = _validate.number(name, fraction, 0.0, 1.0, open_low=True, open_high=True)
        share = share / (1.0 - taken) if taken + share < 1.0 else 1.0
        taken += fraction
        if labels is None:
            chosen = np.arange(len(left)) < round(share * len(left))
        else:
            chosen = np.diff(np.floor(np.arange(len(left) + 1) * share + 0.5)) > 0
        parts[name], left = np.sort(left[chosen]), left[~chosen]
    parts["training"] = np.sort(left)
    if labels is not None and len(left) > 0:
        _take_back(parts, labels)
    for name, rows in parts.items():
        if len(rows) == 0:
            shares = ", ".join(f"{key} is {value:g}" for key, value in fractions.items())
            kept = "" if labels is None else ", beside one of each class to learn from"
            raise ValueError(f"{shares}: of {count:,} rows none is left for {name}, expected one at least{kept}")
    return parts


def _take_back(parts: dict[str, Array], labels: Array) -> None:
    """One row to training of each class that has none there, from the first part that has some."""
    for name in parts:
        if name == "training":
            continue
        rows = parts[name]
        classes, first = np.unique(labels[rows], return_index=True)
        back = rows[first[~np.isin(classes, labels[parts["training"]])]]
        if len(back) > 0:
            parts[name] = np.setdiff1d(rows, back, assume_unique=True)
            parts["training"] = np.sort(np.append(parts["training"], back))


def classes_of(y: Array) -> Array | None:
    """The class (n,) of each row of checked targets: labels, one column of 0 and 1, or one 1 a row. None of others.

    >>> classes_of(np.array([[0.0, 1.0], [1.0, 0.0]])), classes_of(np.array([[0.0], [0.5]]))
    (array([1, 0]), None)
    """
    if y.ndim == 1:
        return y
    if not ((y == 0) | (y == 1)).all():
        return None
    if y.shape[1] == 1:
        return y[:, 0]
    return y.argmax(axis=1) if (y.sum(axis=1) == 1).all() else None
