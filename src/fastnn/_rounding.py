"""What numbers lose where the model's dtype is narrower than theirs, in words. Refuses nothing."""

from __future__ import annotations

import warnings

import numpy as np

from fastnn.errors import PrecisionWarning, callers

Array = np.ndarray
_SAMPLE = 1024  # rows that tell how far a feature spreads: within 5 %


def rounded_away(name: str, array: Array, dtype: np.dtype, what: str = "feature {} of ") -> str | None:
    """What rounding to dtype costs, in words, where that is over a thousandth of a feature's spread, which is taken
    from rows at equal distances. Features that differ by the rounding of float64 alone count as constant."""
    if np.can_cast(array.dtype, dtype):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # a longdouble's squares
        sample = array[:: -(-len(array) // _SAMPLE)].astype(np.float64)
        centred = sample - sample[0]  # exactly 0 for a constant feature
        center, spread = np.abs(sample[0] + centred.mean(axis=0)), centred.std(axis=0)
    lost = (np.finfo(dtype).eps * center > 1e-3 * spread) & (spread > 4 * np.finfo(np.float64).eps * center)
    if not lost.any():
        return None
    worst = int(lost.argmax())
    return (
        f"{what.format(worst)}{name} spreads {spread[worst]:.3g} around {center[worst]:.6g}, which {dtype} rounds away"
    )


def warn_of_targets(name: str, y: Array, dtype: np.dtype, advice: str) -> None:
    """PrecisionWarning with this advice where rounding the target values y (n,) or (n, O) to dtype costs over a
    thousandth of their spread."""
    values = y.reshape(len(y), -1)
    found = rounded_away(name, values, dtype, "output {} of " if values.shape[1] > 1 else "")
    if found is not None:
        warnings.warn(f"{found}: {advice}", PrecisionWarning, stacklevel=callers())
