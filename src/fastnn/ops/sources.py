"""The sources: how a row gets from where it is stored into the batch. cast: as it is; normalize: (x - shift) scale;
ids: whole numbers, exactly.

A plan that begins with none begins with cast. `data` is an array of any real dtype, or a CSR matrix, whose rows become
dense one batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec

_PART = 1 << 20  # values of sparse rows that are dense at once, beside the batch

WIDE = 1e-30  # the scale of a feature whose values may lie further apart than float64 goes: in halves, to the same bits


def parts(data: Any, rows: Array) -> Iterator[tuple[slice, Array]]:
    """These rows of the data as arrays, with their places: at once, or of a sparse matrix a part at a time."""
    step = max(1, len(rows) if isinstance(data, np.ndarray) else _PART // data.shape[1])
    for start in range(0, len(rows), step):
        place = slice(start, start + step)
        part = data[rows[place]]
        yield place, part if isinstance(part, np.ndarray) else part.toarray()


class cast(Operation):
    """a = x, rounded to the plan's dtype."""

    spec = Spec(phase="source", forward="data rows -> a", a="BF")

    @staticmethod
    def forward(data: Any, rows: Array, a: Array) -> None:
        for place, x in parts(data, rows):
            a[place] = x


class normalize(Operation):
    """a = (x - shift) scale, in float64 whatever the plan's dtype, and rounded once.

    The data may need more digits to be shifted than afterwards.
    """

    spec = Spec(
        statistics="shift:F:float64 scale:F:float64", phase="source", forward="data rows shift scale -> a", a="BF"
    )

    @staticmethod
    def forward(data: Any, rows: Array, shift: Array, scale: Array, a: Array) -> None:
        for place, x in parts(data, rows):
            half = np.where(scale < WIDE, 0.5, 1.0)
            a[place] = (half * x.astype(np.float64) - half * shift) * (scale / half)


class ids(Operation):
    """a = x, whole numbers from 0 to count - 1, exactly.

    ValueError names the first that is none. float32 holds them to 2^24, float64 to 2^53.
    """

    spec = Spec(settings="count", phase="source", forward="data rows count -> a", a="BF")

    @staticmethod
    def forward(data: Any, rows: Array, count: float, a: Array) -> None:
        assert count <= 2.0 / np.finfo(a.dtype).eps
        for place, x in parts(data, rows):
            wrong = ~((x >= 0) & (x < count) & (x == np.trunc(x)))
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                raise ValueError(
                    f"X has {x[row, column]} at row {rows[place][row]}, column {column}, expected an id: a whole "
                    f"number from 0 to {count - 1:g}"
                )
            a[place] = x
