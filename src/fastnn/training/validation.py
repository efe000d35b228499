"""What a fit is measured on where that is an iterable of batches, gone through anew after every validated epoch.

Rows that are in memory are a `Data`, and need nothing of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastnn.data import Data
from fastnn.training.batches import is_batches

Check = Callable[..., Data]  # (X, y, sample_weight, prefix)


class ValidationBatches:
    """Batches (X, y), (X, y, sample_weight) or Data, as `check` makes them of what the user's iterable yields.

    The batches of a list or tuple are checked once, at the beginning; of anything else the first, and each one whenever
    it comes, for it may be another one. ValueError for what can be gone through once, or has no batches.
    """

    def __init__(self, batches: Iterable[Any], check: Check) -> None:
        if isinstance(batches, Iterator):
            raise ValueError(
                f"validation is a {type(batches).__name__}, which can be gone through once, but it is measured after "
                f"every epoch: expected an iterable that begins anew, a list, a DataLoader or an object whose __iter__ "
                f"makes an iterator"
            )
        self.batches, self._check = batches, check
        self._kept = list(self._read()) if isinstance(batches, (list, tuple)) else None
        self.seen = [next(self._read())] if self._kept is None else self._kept  # before the first step

    def __iter__(self) -> Iterator[Data]:
        return self._read() if self._kept is None else iter(self._kept)

    def _read(self) -> Iterator[Data]:
        empty = True
        for number, batch in enumerate(self.batches):
            empty = False
            yield self._checked(batch, f"batch {number} of validation ")
        if empty:
            raise ValueError("validation has no batches, expected at least one (X, y) each time it is gone through")

    def _checked(self, batch: Any, prefix: str) -> Data:
        parts = (batch,) if isinstance(batch, Data) else batch
        if not isinstance(parts, (tuple, list)) or (len(parts) not in (2, 3) and parts is batch):
            raise TypeError(
                f"validation yields {type(batch).__name__}, expected batches (X, y) or (X, y, sample_weight)"
            )
        return self._check(*parts, *[None] * (3 - len(parts)), prefix)


def is_validation_batches(validation: Any) -> bool:
    """Whether it is an iterable of batches, and not (X, y) or (X, y, sample_weight) of nested lists."""
    if isinstance(validation, (list, tuple)):
        return bool(validation) and all(_is_batch(entry) for entry in validation[:3])
    return is_batches(validation)


def _is_batch(entry: Any) -> bool:
    if isinstance(entry, Data):
        return True
    return isinstance(entry, (tuple, list)) and len(entry) in (2, 3) and np.ndim(entry[0]) >= 2
