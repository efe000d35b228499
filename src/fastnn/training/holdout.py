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
    dealt out at equal distances. ValueError where a part would have no row.

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
    for name, rows in parts.items():
        if len(rows) == 0:
            shares = ", ".join(f"{key} is {value:g}" for key, value in fractions.items())
            raise ValueError(f"{shares}: of {count:,} rows none is left for {name}, expected one at least")
    return parts
