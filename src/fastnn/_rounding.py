"""What numbers lose where the model's dtype is narrower than theirs, in words. Refuses nothing."""

from __future__ import annotations

import warnings

import numpy as np

from fastnn.errors import PrecisionWarning, callers

Array = np.ndarray
FLOAT64 = np.dtype(np.float64)
_SUBTRACT = "subtract a whole number near them from all, before they become floats"
_SAMPLE = 1024  # rows that tell how far a feature spreads: within 5 %


def rounded_away(name: str, array: Array, dtype: np.dtype, what: str = "feature {} of ") -> str | None:
    """What rounding to dtype costs, in words, where that is over a thousandth of a feature's spread, which is taken
    from rows at equal distances. Features that differ by the rounding of float64 alone count as constant."""
    beyond = array.dtype.kind in "iu" and array.dtype.itemsize == 8  # NumPy casts these to float64 as if it held them
    if np.can_cast(array.dtype, dtype) and not beyond:
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
    _warn(name, values, np.dtype(dtype), advice, "output {} of " if values.shape[1] > 1 else "")


def warn_of_features(name: str, x: Array, dtype: np.dtype, advice: str, exact: bool) -> None:
    """The same of features x (n, I), of which a model that reads all their digits (exact) takes float64."""
    _warn(name, x, FLOAT64 if exact else np.dtype(dtype), advice, "feature {} of ")


def _warn(name: str, array: Array, dtype: np.dtype, advice: str, what: str) -> None:
    """The advice is for what float64 holds: of whole numbers beyond, nothing that comes after it can help."""
    for held, said in ((FLOAT64, _SUBTRACT), *([] if dtype == FLOAT64 else [(dtype, advice)])):
        found = rounded_away(name, array, held, what)
        if found is not None:
            warnings.warn(f"{found}: {said}", PrecisionWarning, stacklevel=callers())
            return
