"""The rows an estimator learns from, with their weights: as they were given, and as the Trainer takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from fastnn import _frames
from fastnn.data import Data

Array = np.ndarray


@dataclass(frozen=True)
class Samples:
    """What a fit learns from: data as the Trainer takes it, and the same unrounded, for what is reported of it.

    y: as it was given; targets: as the loss takes it. own: the weights that were given; weight: these times the
    class's, which data have.
    """

    data: Data
    y: Any
    targets: Array
    weight: Array | None
    own: Array | None

    def part(self, rows: Array) -> Samples:
        weight, own = (None if one is None else one[rows] for one in (self.weight, self.own))
        return Samples(self.data.part(rows), self.y[rows], self.targets[rows], weight, own)

    def weighing(self) -> Samples:
        """Without the rows of weight 0, which here are those of a class of weight 0. ValueError where none is left."""
        self.data.check_weights(np.arange(len(self.data)), "to learn from")
        rows = self.data.weighing()
        return self if rows is None else self.part(rows)


def weights_of(sample_weight: Any, X: Any) -> tuple[Any, Array | None]:
    """The weights as an array, and the numbers of the rows whose weight is not 0, None where that is all: a row of
    weight 0 is as if it were not there, its class too. ValueError where none has one."""
    if sample_weight is None:
        return None, None
    _frames.plain("sample_weight", sample_weight)
    weight = _check_sample_weight(sample_weight, X)
    rows = np.flatnonzero(weight)
    if len(rows) == 0:
        raise ValueError(f"sample_weight is all zero in {len(weight)} rows, expected at least one weight > 0")
    return weight, None if len(rows) == len(weight) else rows
