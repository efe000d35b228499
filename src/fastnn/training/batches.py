"""What a fit visits, rows in memory or a stream of batches, and which of them a step takes. Checks no rows itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastnn import _random
from fastnn.contract import Kernels
from fastnn.data import Data
from fastnn.engine import Batches

Array = np.ndarray
_END = object()  # of an iterable of batches


def step_weights(batches: Batches) -> Array:
    """What the loss of each step counts for in the epoch's: its rows, or the sum of their weights."""
    if batches.weight is None:
        return _rows_of_steps(len(batches.order), batches.size)
    starts = np.arange(0, len(batches.order), batches.size)
    return np.add.reduceat(batches.weight[batches.order].astype(np.float64), starts)


@functools.lru_cache(maxsize=8)
def _rows_of_steps(rows: int, batch: int) -> Array:
    """Kept, for every epoch asks for the same."""
    counts = np.full(-(-rows // batch), float(batch))
    counts[-1] = rows - (len(counts) - 1) * batch
    counts.flags.writeable = False
    return counts


class InMemory:
    """Epochs over rows of `data`: all of them, or `among` these, shuffled by (seed, epoch) or in their order."""

    def __init__(self, data: Data, among: Array | None, batch: int, shuffle: bool, seed: int, kernels: Kernels) -> None:
        self.measured = data  # what metrics look at: without the weights of classes, where there are some
        self.data, self.among, self.batch, self.shuffle, self.seed, self.kernels = (
            data, among, batch, shuffle, seed, kernels
        )  # fmt: skip
        self.count = len(data) if among is None else len(among)
        self.steps: int = -(-self.count // batch)
        self._order = np.arange(self.count)

    @property
    def most(self) -> int:
        """Steps that one call may take."""
        return self.steps

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch."""
        if self.shuffle:
            self.kernels.shuffle(_random.epoch_key(self.seed, epoch), self._order)
        self._visited = self._order if self.among is None else self.among[self._order]

    def take(self, first: int, last: int) -> Batches | None:
        """Steps first .. last - 1 of the epoch; None after its last one."""
        if first >= self.steps:
            return None
        order = self._visited[first * self.batch : last * self.batch]
        data = self.data
        return Batches(data.x, data.y, data.weight, order, self.batch)


class Stream:
    """Epochs over an iterable of (X, y) or (X, y, sample_weight): a step for each. `check` makes Data of one."""

    most = 1
    batch = 0  # each has rows of its own

    def __init__(self, batches: Iterable[Any], check: Callable[..., Data], epochs: int) -> None:
        self._rest: Iterator[Any] = iter(batches)  # also of the first epoch: who begins anew may start processes
        if self._rest is batches and epochs > 1:
            raise ValueError(
                f"X is a {type(batches).__name__}, which can be gone through once, expected an iterable that begins "
                f"anew for each of {epochs} epochs: a list, or an object whose __iter__ makes an iterator"
            )
        self.batches, self.check = batches, check
        try:
            self.steps: int | None = len(batches)  # type: ignore[arg-type]
        except TypeError:
            self.steps = None  # as many as come
        self._taken = 0
        self._ahead: list[Data] = []  # the first batch, until the first epoch takes it

    def first(self) -> Data:
        """The first batch, looked at before the fit begins."""
        for batch in self._rest:
            self._ahead = [self._checked(batch, "batch 0 of ")]
            return self._ahead[0]
        raise ValueError("X has no batches, expected at least one (X, y)")

    def begin(self, epoch: int) -> None:
        if not self._ahead:
            self._rest = iter(self.batches)
        self._taken = 0

    def take(self, first: int, last: int) -> Batches | None:
        """Batch number `first`, those before it skipped; None where there are no more."""
        while True:
            batch: Any = self._ahead.pop() if self._ahead else next(self._rest, _END)
            if batch is _END:
                if self._taken == 0:
                    raise ValueError("X has no batches in this epoch, expected an iterable that begins anew")
                self.steps = self._taken
                return None
            self._taken += 1
            if self._taken > first:
                data = batch if isinstance(batch, Data) else self._checked(batch, f"batch {self._taken - 1} of ")
                return Batches(data.x, data.y, data.weight, np.arange(len(data)), len(data))

    def _checked(self, batch: Any, prefix: str) -> Data:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"X yields {type(batch).__name__}, expected batches (X, y) or (X, y, sample_weight)")
        return self.check(*batch, *[None] * (3 - len(batch)), prefix=prefix)


def is_batches(X: Any) -> bool:
    """Whether X is an iterable of batches and not something array-like, which has a shape or holds numbers."""
    if any(hasattr(X, name) for name in ("shape", "__array__", "__dlpack__", "columns")):
        return False
    if isinstance(X, (list, tuple)):
        return bool(X) and isinstance(X[0], (tuple, list)) and len(X[0]) in (2, 3) and np.ndim(X[0][0]) >= 2
    return isinstance(X, Iterable) and not isinstance(X, (str, bytes, dict, set))
