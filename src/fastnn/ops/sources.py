"""The sources: how a row gets from where it is stored into the batch. cast: as it is; normalize: (x - shift) scale.

A plan that begins with none begins with cast. normalize computes in float64, whatever the plan's dtype, because the
data may need more digits to be shifted than afterwards, and rounds once.
"""

from __future__ import annotations

import numpy as np

from fastnn.ops.operation import Array, Operation
from fastnn.ops.spec import Spec


class cast(Operation):
    spec = Spec(phase="source", forward="data rows -> a", a="BF")

    @staticmethod
    def forward(data: Array, rows: Array, a: Array) -> None:
        a[...] = data[rows]


class normalize(Operation):
    spec = Spec(
        statistics="shift:F:float64 scale:F:float64", phase="source", forward="data rows shift scale -> a", a="BF"
    )

    @staticmethod
    def forward(data: Array, rows: Array, shift: Array, scale: Array, a: Array) -> None:
        a[...] = (data[rows].astype(np.float64) - shift) * scale
