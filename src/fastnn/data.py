"""Data: rows that were checked, as they go down from whoever was given them. No checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn import _sparse

Array = np.ndarray


@dataclass(eq=False, repr=False)  # not frozen: that takes 1 us of the 15 of a prediction of one row
class Features:
    """Rows X that were checked: whoever gets them reads them as they are, and looks for NaN no more.

    x (n, I): as it is stored, an array with contiguous rows of a dtype in _validate.GATHERED, or a scipy.sparse CSR.
    row_shape: that of a row as it came, whose product is I: (features,), (length, channels), (height, width, channels).
    names: of a data frame's columns. dtype: of the model that checked them, in which they are finite; None: of whoever
    takes them.
    """

    x: Any
    row_shape: tuple[int, ...]
    names: list[str] | None = None
    dtype: np.dtype | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._described())})"

    def _described(self) -> list[str]:
        return [f"{len(self)} rows of shape {self.row_shape} of {self.x.dtype}"]

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def inputs(self) -> int:
        """Values of a row: I."""
        return int(self.x.shape[1])

    @property
    def sparse(self) -> bool:
        return _sparse.is_sparse(self.x)


@dataclass(eq=False, repr=False, kw_only=True)
class Targets:
    """Targets y, (n,) labels or (n, O) values, and weights of the rows (n,), or none: each counts for 1.

    The weights are (n, O) where the classes of each output are weighted by themselves, to learn from.
    given_y, given_weight: the same as they were passed, of another dtype or shape, for what is reported; None: as they
    are here. loss: what y was made for, a loss or a model's scale of its targets;
    None: any.
    """

    y: Array
    weight: Array | None = None
    given_y: Array | None = None
    given_weight: Array | None = None
    loss: Any = None

    @property
    def reported_y(self) -> Array:
        """The targets that metrics and the reported loss are computed from: not rounded to the model's dtype."""
        return self.y if self.given_y is None else self.given_y

    @property
    def reported_weight(self) -> Array | None:
        return self.weight if self.given_weight is None else self.given_weight

    @staticmethod
    def joined(parts: Sequence[Targets]) -> Targets:
        """Those of all parts, one after the other; weights of 1 where only others have some."""
        if len(parts) == 1:
            return parts[0]
        weights = None
        if any(part.weight is not None for part in parts):
            each = [(part.reported_weight, len(part.y)) for part in parts]
            weights = np.concatenate([np.ones(rows) if weight is None else weight for weight, rows in each])
        y, given = ([part.y for part in parts], [part.reported_y for part in parts])
        if len({each.ndim for each in given}) > 1:  # columns among vectors
            given = [each.reshape(len(each), -1) for each in given]
        return Targets(y=np.concatenate(y), weight=weights, given_y=np.concatenate(given))

    def weighing(self, rows: Array | None = None) -> Array | None:
        """Those of `rows` that have a weight other than 0: the others are as if they were not there. None: all."""
        if self.weight is None:
            return rows
        weight = self.weight if rows is None else self.weight[rows]
        weighs = weight != 0 if weight.ndim == 1 else (weight != 0).any(axis=1)
        if weighs.all():
            return rows
        return np.flatnonzero(weighs) if rows is None else rows[weighs]


@dataclass(eq=False, repr=False, kw_only=True)
class Data(Features, Targets):
    """Rows with their targets and weights.

    >>> fastnn.Sequential([nn.Dense(2)]).checked(np.eye(3), [0, 1, 0], None, "cross_entropy")
    Data(3 rows of shape (3,) of float64, y (3,) of int64)
    """

    def _described(self) -> list[str]:
        weights = [] if self.weight is None else [f"weights of {self.weight.dtype}"]
        return [*super()._described(), f"y {self.y.shape} of {self.y.dtype}", *weights]

    @property
    def targets(self) -> Targets:
        """Without the rows, which they do not keep in memory."""
        return Targets(y=self.y, weight=self.weight, given_y=self.given_y, given_weight=self.given_weight)

    def part(self, rows: Array) -> Data:
        """A copy of these rows."""
        parts = (self.y, self.weight, self.given_y, self.given_weight)
        y, weight, given_y, given_weight = (None if each is None else each[rows] for each in parts)
        assert y is not None
        return replace(self, x=self.x[rows], y=y, weight=weight, given_y=given_y, given_weight=given_weight)

    def check_weights(self, rows: Array, what: str) -> None:
        """ValueError where all of these rows have weight 0: of weights that have something together, parts may not."""
        if self.weight is not None and not self.weight[rows].any():
            raise ValueError(
                f"sample_weight is all zero in the {len(rows)} rows {what}, expected at least one weight > 0"
            )

    def mean_weight(self, rows: Array | None = None) -> float:
        """Of `rows`; None: of all. In float64 and one order of summation: the same bits on any number of threads."""
        if self.weight is None:
            return 1.0
        return float((self.weight if rows is None else self.weight[rows]).mean(dtype=np.float64))
