"""Predictions that are no numbers, of rows that are: said once, where Normalize may be why."""

from __future__ import annotations

import warnings

import numpy as np

from fastnn.errors import callers
from fastnn.plan import Plan


def warn_of_overflow(out: np.ndarray, plan: Plan) -> None:
    """RuntimeWarning where predictions are NaN or infinite though X was finite, and Normalize scaled it. Other models
    say nothing of an overflow, as NumPy does in what it compiles."""
    if plan.source.kind != "normalize" or np.isfinite(out).all():
        return
    rows = int((~np.isfinite(out)).reshape(len(out), -1).any(axis=1).sum())
    warnings.warn(
        f"predictions of {rows} of {len(out)} rows are NaN or infinite: X, as Normalize scales it, or what follows is "
        f"beyond {out.dtype}",
        RuntimeWarning,
        stacklevel=callers(),
    )
