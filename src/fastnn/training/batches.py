"""What a fit visits, rows in memory or a stream of batches, and which of them a step takes. Checks no rows itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastnn import _random, _text
from fastnn.contract import Kernels
from fastnn.data import Data
from fastnn.engine import Batches

Array = np.ndarray
_END = object()  # of an iterable of batches


def step_means(batches: Batches, losses: Array) -> tuple[Array, Array]:
    """From the losses of the steps, sum(w l) / (rows * mean weight): sum(w l) / sum(w) of each, and its sum(w), with
    which it counts in the epoch's."""
    rows = step_rows(batches)
    if batches.weight is None and batches.mean_weight == 1.0:
        return losses, rows
    weights = rows
    if batches.weight is not None:
        of_rows = batches.weight[batches.order].astype(np.float64)
        starts = np.arange(0, len(batches.order), batches.size)
        weights = np.add.reduceat(of_rows if of_rows.ndim == 1 else of_rows.mean(axis=1), starts)
    return losses * (rows * batches.mean_weight / weights), weights


def step_rows(batches: Batches) -> Array:
    """The rows of each step."""
    return _rows_of_steps(len(batches.order), batches.size)


@functools.lru_cache(maxsize=8)
def _rows_of_steps(rows: int, batch: int) -> Array:
    """Kept, for every epoch asks for the same."""
    counts = np.full(-(-rows // batch), float(batch))
    counts[-1] = rows - (len(counts) - 1) * batch
    counts.flags.writeable = False
    return counts


class InMemory:
    """Epochs over rows of `data`: all of them, or `among` these, shuffled by (seed, epoch) or in their order. Rows of
    weight 0 are visited by none: an epoch is that of the data without them, to the bit."""

    def __init__(self, data: Data, among: Array | None, batch: int, shuffle: bool, seed: int, kernels: Kernels) -> None:
        self.divided = among is not None  # into rows to learn from and rows held out
        among = data.weighing(among)
        self.measured = data  # what metrics look at: without the weights of classes, where there are some
        self.data, self.among, self.shuffle, self.seed, self.kernels = data, among, shuffle, seed, kernels
        self.count = len(data) if among is None else len(among)
        self.mean_weight = data.mean_weight(among)
        self.batch = min(batch, self.count)
        self.steps: int = -(-self.count // self.batch)
        self.seen: tuple[int, float] = 0, 0.0  # for the Stream's sake
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
        return Batches(data.x, data.y, data.weight, order, self.batch, self.mean_weight)


class Stream:
    """Epochs over an iterable of (X, y) or (X, y, sample_weight): a step for each. `check` makes Data of one.

    The mean weight, which is not known before the end, is that of all rows so far: a batch's own would make the weights
    of batches of one row nothing, and 1 the learning rate depend on the weights' unit.
    """

    most = 1
    batch = 0  # each has rows of its own

    def __init__(self, batches: Iterable[Any], check: Callable[..., Data], epochs: int) -> None:
        self._rest: Iterator[Any] = iter(batches)  # also of the first epoch: who begins anew may start processes
        if self._rest is batches and epochs > 1:
            raise ValueError(
                f"X is a {type(batches).__name__}, which can be iterated only once, expected an iterable that starts "
                f"anew for each of {epochs} epochs: a list, or an object whose __iter__ makes an iterator"
            )
        self.batches, self.check = batches, check
        try:
            self.steps: int | None = len(batches)  # type: ignore[arg-type]
        except TypeError:
            self.steps = None  # as many as come
        self.seen: tuple[int, float] = 0, 0.0  # rows of the fit so far, and the sum of their weights
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
            ahead = self._ahead.pop() if self._ahead else None  # checked already
            batch: Any = next(self._rest, _END) if ahead is None else ahead
            if batch is _END:
                if self._taken == 0:
                    raise ValueError("X has no batches in this epoch, expected an iterable that begins anew")
                self.steps = self._taken
                return None
            self._taken += 1
            if self._taken > first:
                data = self._checked(batch, f"batch {self._taken - 1} of ") if ahead is None else ahead
                return self._of(data)

    def _of(self, data: Data) -> Batches:
        weighing = data.weighing()
        rows = np.arange(len(data)) if weighing is None else weighing
        count, weight = self.seen
        more = float(len(rows)) if data.weight is None else float(data.weight[rows].sum(dtype=np.float64))
        self.seen = count + len(rows), weight + more
        return Batches(data.x, data.y, data.weight, rows, len(rows), self.seen[1] / self.seen[0])

    def _checked(self, batch: Any, prefix: str) -> Data:
        if isinstance(batch, Data):
            return self.check(batch, None, None, prefix=prefix)
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"X yields {_text.kind(batch)}, expected batches (X, y) or (X, y, sample_weight)")
        return self.check(*batch, *[None] * (3 - len(batch)), prefix=prefix)


def is_batches(X: Any) -> bool:
    """Whether X is an iterable of batches and not something array-like, which has a shape or holds numbers."""
    if any(hasattr(X, name) for name in ("shape", "__array__", "__dlpack__", "columns")):
        return False
    if isinstance(X, (list, tuple)):
        if X and isinstance(X[0], Data):
            return True
        if not X or not isinstance(X[0], (tuple, list)) or len(X[0]) == 0:
            return False
        arrays = isinstance(X[0], tuple) or hasattr(X[0][0], "shape")  # of any number: batches, though wrong ones
        return (len(X[0]) in (2, 3) or arrays) and np.ndim(X[0][0]) >= 2
    return isinstance(X, Iterable) and not isinstance(X, (str, bytes, dict, set))
