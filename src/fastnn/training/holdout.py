"""Which rows are held out of a fit: drawn at random, classes in proportion. Knows no data, only counts and labels."""

from __future__ import annotations

import numpy as np

from fastnn import _random, _validate

Array = np.ndarray
_SPLIT_STREAM = (1 << 64) - 2  # an epoch of this number would be shuffled alike: no run gets there


def split(count: int, fractions: dict[str, float], seed: int, labels: Array | None = None) -> dict[str, Array]:
    """Row numbers, ascending, drawn at random: for each name its fraction of the rows, and "training" the others.

    With `labels` every class is divided in these proportions, to within one row: shuffled rows, sorted by class, are
    dealt out at equal distances. ValueError where a part would have no row.

    >>> {name: len(rows) for name, rows in split(10, {"validation": 0.2, "test": 0.3}, seed=0).items()}
    {'validation': 2, 'test': 3, 'training': 5}
    """
    order = _random.permutation(seed, _SPLIT_STREAM, count)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    parts: dict[str, Array] = {}
    taken = 0.0
    for name, fraction in fractions.items():
        share = _validate.number(name, fraction, 0.0, 1.0, open_low=True, open_high=True)
        share = share / (1.0 - taken) if taken + share < 1.0 else 1.0
        taken += fraction
        dealt = np.floor(np.arange(len(order) + 1) * share + 0.5).astype(np.int64)
        chosen = np.diff(dealt) > 0
        parts[name] = np.sort(order[chosen])
        order = order[~chosen]
    parts["training"] = np.sort(order)
    for name, rows in parts.items():
        if len(rows) == 0:
            shares = ", ".join(f"{key} {value:g}" for key, value in fractions.items())
            raise ValueError(f"{shares} of {count:,} rows leave none for {name}, expected one at least")
    return parts
