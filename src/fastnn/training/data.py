"""What a fit visits: rows that were checked, or batches that come one by one; which of them a step takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastnn import _random, _validate
from fastnn.backends.contract import Kernels

Array = np.ndarray
DENSE_BYTES = 1 << 25  # of sparse rows made dense for one call to the backend: 32 MB
_END = object()  # of an iterable of batches
_SPLIT = (1 << 64) - 1  # the epoch whose shuffle draws the validation rows: no run gets there


class Piece(NamedTuple):
    """What one call to the backend visits: rows `order` of x, y and weight, `batch` of them a step."""

    x: Array
    y: Array
    weight: Array | None
    order: Array
    batch: int

    def step_weights(self) -> Array:
        """What the loss of each step counts for in the epoch's: its rows, or the sum of their weights."""
        if self.weight is None:
            return _rows_of_steps(len(self.order), self.batch)
        starts = np.arange(0, len(self.order), self.batch)
        return np.add.reduceat(self.weight[self.order].astype(np.float64), starts)


@functools.lru_cache(maxsize=8)
def _rows_of_steps(rows: int, batch: int) -> Array:
    """Kept, for every epoch asks for the same."""
    counts = np.full(-(-rows // batch), float(batch))
    counts[-1] = rows - (len(counts) - 1) * batch
    counts.flags.writeable = False
    return counts


@dataclass(frozen=True)
class Data:
    """Rows that were checked: x (n, I), perhaps sparse; y (n,) labels or (n, O) values; weight (n,)."""

    x: Any
    y: Array
    weight: Array | None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def sparse(self) -> bool:
        return _validate.is_sparse(self.x)

    def part(self, rows: Array) -> Data:
        """A copy of these rows."""
        return Data(self.x[rows], self.y[rows], None if self.weight is None else self.weight[rows])

    def split(self, fraction: float, seed: int) -> tuple[Array, Data]:
        """The numbers of the rows to learn from, ascending, and a copy of the others, drawn at random.

        ValueError where either would have no row.
        """
        held = round(fraction * len(self))
        if not 0 < held < len(self):
            raise ValueError(
                f"validation is {fraction:g}, expected one that holds out some of {len(self)} rows, not {held}"
            )
        order = _random.permutation(seed, _SPLIT, len(self))
        left, out = np.sort(order[held:]), np.sort(order[:held])
        for part, what in ((left, "to learn from"), (out, "held out")):
            if self.weight is not None and not self.weight[part].any():
                raise ValueError(
                    f"sample_weight is all zero in the {len(part)} rows {what}, expected at least one weight > 0"
                )
        return left, self.part(out)


class Rows:
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
        """Steps that one call may take: no more sparse rows are made dense at once than DENSE_BYTES hold."""
        row = 8 * self.data.x.shape[1] * self.batch
        return max(1, DENSE_BYTES // row) if self.data.sparse else self.steps

    def begin(self, epoch: int) -> None:
        """Draw the order of an epoch."""
        if self.shuffle:
            self.kernels.shuffle(_random.epoch_key(self.seed, epoch), self._order)
        self._visited = self._order if self.among is None else self.among[self._order]

    def take(self, first: int, last: int) -> Piece | None:
        """Steps first .. last - 1 of the epoch; None after its last one."""
        if first >= self.steps:
            return None
        order = self._visited[first * self.batch : last * self.batch]
        data = self.data
        if data.sparse:
            dense = data.part(order)
            return Piece(dense.x.toarray(), dense.y, dense.weight, np.arange(len(order)), self.batch)
        return Piece(data.x, data.y, data.weight, order, self.batch)


class Batches:
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
        self._ahead: list[Any] = []

    def first(self) -> Data:
        """The first batch, looked at before the fit begins."""
        for batch in self._rest:
            self._ahead = [batch]
            return self._checked(batch, "batch 0 of ")
        raise ValueError("X has no batches, expected at least one (X, y)")

    def begin(self, epoch: int) -> None:
        if not self._ahead:
            self._rest = iter(self.batches)
        self._taken = 0

    def take(self, first: int, last: int) -> Piece | None:
        """Batch number `first`, those before it skipped; None where there are no more."""
        while True:
            batch = self._ahead.pop() if self._ahead else next(self._rest, _END)
            if batch is _END:
                if self._taken == 0:
                    raise ValueError("X has no batches in this epoch, expected an iterable that begins anew")
                self.steps = self._taken
                return None
            self._taken += 1
            if self._taken > first:
                data = self._checked(batch, f"batch {self._taken - 1} of ")
                return Piece(data.x, data.y, data.weight, np.arange(len(data)), len(data))

    def _checked(self, batch: Any, prefix: str) -> Data:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"X yields {type(batch).__name__}, expected batches (X, y) or (X, y, sample_weight)")
        data = self.check(*batch, *[None] * (3 - len(batch)), prefix=prefix)
        return replace(data, x=data.x.toarray()) if data.sparse else data


def is_batches(X: Any) -> bool:
    """Whether X is an iterable of batches and not something array-like, which has a shape or holds numbers."""
    if any(hasattr(X, name) for name in ("shape", "__array__", "__dlpack__", "columns")):
        return False
    if isinstance(X, (list, tuple)):
        return bool(X) and isinstance(X[0], (tuple, list)) and len(X[0]) in (2, 3) and np.ndim(X[0][0]) >= 2
    return isinstance(X, Iterable) and not isinstance(X, (str, bytes, dict, set))


def class_weights(class_weight: Any, y: Array, weight: Array | None, outputs: int, dtype: np.dtype) -> Array:
    """The weight (n,) of each row, whose targets are y: its class's, times its own.

    class_weight: "balanced" (n / (classes * rows of the class)), a dict {label: weight} where those left out have 1,
    or one weight a class. ValueError or TypeError where it is none of these, or the targets are no labels.
    """
    labels = y if y.ndim == 1 else y[:, 0] if y.shape[1] == 1 else None
    if labels is None or (y.ndim == 2 and not np.isin(labels, (0, 1)).all()):
        raise ValueError("class_weight needs class labels (rows,), but y has values")
    labels = labels.astype(np.int64)
    classes = max(outputs, 2)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight is {class_weight!r}, expected 'balanced', a dict or one weight a class")
        own = np.ones(len(labels)) if weight is None else weight.astype(np.float64)
        counts = np.bincount(labels, weights=own, minlength=classes)
        present = np.count_nonzero(counts)
        weights = np.where(counts > 0, counts.sum() / (present * np.where(counts > 0, counts, 1.0)), 0.0)
    else:
        weights = np.ones(classes)
        items = class_weight.items() if isinstance(class_weight, dict) else _numbered(class_weight, classes)
        for label, value in items:
            index = _validate.integer("a label of class_weight", label, low=0)
            if index >= classes:
                raise ValueError(f"class_weight has label {index}, expected labels 0 .. {classes - 1}")
            weights[index] = _validate.number(f"class_weight[{index}]", value, low=0.0)
    product = weights[labels] if weight is None else weights[labels] * weight
    checked = _validate.sample_weight(product, len(labels), dtype, name="class_weight")
    assert checked is not None
    return checked


def _numbered(class_weight: Any, classes: int) -> Iterable[tuple[int, Any]]:
    try:
        weights = list(class_weight)
    except TypeError:
        raise TypeError(
            f"class_weight is {class_weight!r}, expected 'balanced', a dict {{label: weight}} or one weight a class"
        ) from None
    if len(weights) != classes:
        raise ValueError(f"class_weight has {len(weights)} weights, expected {classes}, one a class")
    return enumerate(weights)
