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
        sample = array[:: -(-len(array) // _SAMPLE)]
        centred = _centred(sample)
        center, spread = np.abs(sample[0].astype(np.float64) + centred.mean(axis=0)), centred.std(axis=0)
    noise = 0 if array.dtype.kind in "iu" else 4 * np.finfo(np.float64).eps * center
    lost = (np.finfo(dtype).eps * center > 1e-3 * spread) & (spread > noise)
    if not lost.any():
        return None
    worst = int(lost.argmax())
    return (
        f"{what.format(worst)}{name} spreads {spread[worst]:.3g} around {center[worst]:.6g}, which {dtype} rounds away"
    )


def _centred(sample: Array) -> Array:
    """What each row has more than the first: exactly 0 for a constant feature. Whole numbers that float64 rounds, those
    beyond 2^53, are subtracted as they are, where the differences stay below 2^62."""
    values = sample.astype(np.float64)
    centred: Array = values - values[0]
    if sample.dtype.kind in "iu" and np.abs(centred).max() < 2.0**62:
        whole = sample.astype(np.int64)  # of uint64 modulo 2^64, in which the differences are right
        centred = (whole - whole[0]).astype(np.float64)
    return centred


def warn_of_targets(name: str, y: Array, dtype: np.dtype, advice: str) -> None:
    """PrecisionWarning with this advice where rounding the target values y (n,) or (n, O) to dtype costs over a
    thousandth of their spread."""
    values = y.reshape(len(y), -1)
    found = rounded_away(name, values, dtype, "output {} of " if values.shape[1] > 1 else "")
    if found is not None:
        warnings.warn(f"{found}: {advice}", PrecisionWarning, stacklevel=callers())
