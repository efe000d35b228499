"""Bounds, mean and spread of the columns of a table, in one pass over it: what Normalize learns.

A kernel, `moments` of contract.py, takes slices of rows; here they are cut, also from sparse matrices, and
merged. Everything is float64, whatever the table is stored in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import _sparse

Array = np.ndarray
Kernel = Callable[[Array, "Array | None", int, Array, Array, Array], None]  # x, rows, step, pivot, unit, out


_READ = tuple(map(np.dtype, (np.float32, np.float64, np.uint8)))


class Summary(NamedTuple):
    """Of each column (I,), or () of all of them together. std is 0 where float64 rounds all of the spread away."""

    low: Array
    high: Array
    mean: Array
    std: Array


class _Merged(NamedTuple):
    """Of some slices: numbers of rows (S,), mean and sum of squared deviations (S, I)."""

    rows: Array
    mean: Array
    squares: Array


def summary(x: Any, rows: Array | None = None, *, kernel: Kernel, per_feature: bool = True) -> Summary:
    """Of x (n, I), or of these rows (B,) int64 of it: n, B >= 1.

    Deviations are taken from the first row: a constant column is then exactly 0, whatever its sum rounds to, and a
    spread of 1 around 1e9 keeps its digits. Where squares could leave float64's range, columns are counted in a
    power of two near their spread, in a second pass.
    """
    count = x.shape[0] if rows is None else len(rows)
    first = _dense(x[:1] if rows is None else x[rows[:1]])[0]
    pivot = first if per_feature else np.full_like(first, first[0])
    unit = np.ones_like(pivot)
    with np.errstate(over="ignore", invalid="ignore"):  # of squares that are then counted in another unit
        low, high, merged = _pass(x, rows, pivot, unit, kernel)
        if not per_feature:
            low, high = low.min(), high.max()
        exponent = _spread_exponent(low, high)
        if exponent.any():
            unit = np.full_like(pivot, np.ldexp(1.0, -exponent))
            _, _, merged = _pass(x, rows, pivot, unit, kernel)
    if not per_feature:
        columns = len(pivot)
        count *= columns
        merged = _tree(_Merged(np.repeat(merged.rows, columns), *(part.T for part in merged[1:])))
        pivot, unit, merged = pivot[0], unit[0], merged._replace(mean=merged.mean[:, 0], squares=merged.squares[:, 0])
    mean = np.ldexp(pivot * unit + merged.mean[0], exponent)
    std = np.ldexp(np.sqrt(merged.squares[0] / count), exponent)
    noise = np.finfo(np.float64).eps * np.abs(mean)  # 0.1 + 0.2 beside 0.3: rounding, not information
    return Summary(low, high, mean, np.where(std > 4 * noise, std, 0.0))


def _spread_exponent(low: Array, high: Array) -> Array:
    """0 where the features spread between 2^-400 and 2^400, and sums of squares are safe; else e, for 2^e near it."""
    exponent = np.frexp(0.5 * high - 0.5 * low)[1]  # halves: their difference is finite
    return np.where(np.abs(exponent) < 400, 0, np.maximum(exponent, -1021))


def _pass(x: Any, rows: Array | None, pivot: Array, unit: Array, kernel: Kernel) -> tuple[Array, Array, _Merged]:
    """The bounds (I,) and the moments (1, I) of all rows."""
    low, high, merged = np.array(np.inf), np.array(-np.inf), None
    for counts, out in _slices(x, rows, pivot, unit, kernel):
        low, high = np.minimum(low, out[0].min(axis=0)), np.maximum(high, out[1].max(axis=0))
        part = _Merged(counts, out[2], out[3])
        merged = _tree(part if merged is None else _joined(merged, part))
    assert merged is not None
    return low, high, merged


def _slices(x: Any, rows: Array | None, pivot: Array, unit: Array, kernel: Kernel) -> Iterator[tuple[Array, Array]]:
    """Rows in each slice (S,) and what the kernel says of them (4, S, I): at most 256 slices at a time and 32 MB.

    Slices have at most 4096 rows and 8 MB in float64 (8 rows, where those are longer). What the kernel does not read
    as it is, such as a sparse x, is handed to it one slice at a time, cut where others are: to the same bits.
    """
    count, columns = x.shape[0] if rows is None else len(rows), x.shape[1]
    step = min(4096, max(8, (1 << 20) // columns))
    some = step * max(1, min(256, (1 << 20) // columns))
    for start in range(0, count, some):
        stop = min(start + some, count)
        begins = range(start, stop, step)
        out = np.empty((4, len(begins), columns))
        if _readable(x):
            if rows is None:
                kernel(x[start:stop], None, step, pivot, unit, out)
            else:
                kernel(x, rows[start:stop], step, pivot, unit, out)
        else:
            one = np.empty((4, 1, columns))
            for s, begin in enumerate(begins):
                taken = slice(begin, min(begin + step, stop))
                kernel(_dense(x[taken] if rows is None else x[rows[taken]]), None, step, pivot, unit, one)
                out[:, s] = one[:, 0]
        yield np.minimum(stop - np.array(begins), step).astype(np.float64), out


def _readable(x: Any) -> bool:
    """Whether every backend's kernel reads x as it is."""
    return isinstance(x, np.ndarray) and x.dtype in _READ and x.flags.aligned and bool(x[:1].flags.c_contiguous)


def _dense(part: Any) -> Array:
    return np.require(part.toarray() if _sparse.is_sparse(part) else part, np.float64, ["C", "A"])


def _tree(slices: _Merged) -> _Merged:
    """One slice of all of them: neighbours first (Chan, Golub & LeVeque 1983)."""
    while len(slices.rows) > 1:
        even = len(slices.rows) // 2 * 2
        left, right = (_Merged(*(part[i:even:2] for part in slices)) for i in (0, 1))
        total = left.rows + right.rows
        delta = right.mean - left.mean
        mean = left.mean + delta * (right.rows / total)[:, None]
        between = delta * delta * (left.rows * right.rows / total)[:, None]
        pairs = _Merged(total, mean, left.squares + right.squares + between)
        slices = _joined(pairs, _Merged(*(part[even:] for part in slices)))
    return slices


def _joined(left: _Merged, right: _Merged) -> _Merged:
    return _Merged(*(np.concatenate(both) for both in zip(left, right, strict=True)))
