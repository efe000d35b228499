"""Predictions that are no numbers, of rows that are: said once."""

from __future__ import annotations

import warnings

import numpy as np

from fastnn.errors import callers
from fastnn.plan import Plan


def warn_of_overflow(out: np.ndarray, plan: Plan) -> None:
    """RuntimeWarning where predictions are NaN or infinite though X was finite."""
    if np.isfinite(out).all():
        return
    rows = int((~np.isfinite(out)).reshape(len(out), -1).any(axis=1).sum())
    scaled = plan.source.kind == "normalize"
    why = "X, as Normalize scales it, or what follows" if scaled else "what the layers make of X"
    warnings.warn(
        f"predictions of {rows} of {len(out)} rows are NaN or infinite: {why} is beyond {out.dtype}",
        RuntimeWarning,
        stacklevel=callers(),
    )
