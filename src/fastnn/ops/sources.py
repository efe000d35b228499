"""The sources: how a row gets from where it is stored into the batch. cast: as it is; normalize: (x - shift) scale;
ids: whole numbers, exactly.

A plan that begins with none begins with cast. `data` is an array of any real dtype, or a CSR matrix, whose rows become
dense one batch at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


def picked(data: Any, rows: Array) -> Array:
    """These rows of the data, as an array (B, F)."""
    part = data[rows]
    made: Array = part if isinstance(part, np.ndarray) else part.toarray()
    return made


class cast(Operation):
    """a = x, rounded to the plan's dtype."""

    spec = Spec(phase="source", forward="data rows -> a", a="BF")

    @staticmethod
    def forward(data: Any, rows: Array, a: Array) -> None:
        a[...] = picked(data, rows)


class normalize(Operation):
    """a = (x - shift) scale, in float64 whatever the plan's dtype, and rounded once.

    The data may need more digits to be shifted than afterwards.
    """

    spec = Spec(
        statistics="shift:F:float64 scale:F:float64", phase="source", forward="data rows shift scale -> a", a="BF"
    )

    @staticmethod
    def forward(data: Any, rows: Array, shift: Array, scale: Array, a: Array) -> None:
        a[...] = (picked(data, rows).astype(np.float64) - shift) * scale


class ids(Operation):
    """a = x, whole numbers from 0 to count - 1, exactly.

    ValueError names the first that is none. float32 holds them to 2^24, float64 to 2^53.
    """

    spec = Spec(settings="count", phase="source", forward="data rows count -> a", a="BF")

    @staticmethod
    def forward(data: Any, rows: Array, count: float, a: Array) -> None:
        assert count <= 2.0 / np.finfo(a.dtype).eps
        values = picked(data, rows)
        wrong = ~((values >= 0) & (values < count) & (values == np.trunc(values)))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"X has {values[row, column]} at row {rows[row]}, column {column}, expected an id: a whole number from "
                f"0 to {count - 1:g}"
            )
        a[...] = values
