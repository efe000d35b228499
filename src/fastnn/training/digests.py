"""Digests of data, by which a fit that goes on from a checkpoint knows that it has the same. Every value counts.

An array of over 256 MB is digested in slices of 64 MB, on several threads, and its digest is that of theirs: at 1 GB/s
on each core. The sizes are fixed, so that the number of threads does not matter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fastnn import _cpus, _sparse

Array = np.ndarray
_WHOLE = 1 << 28  # bytes of an array that is digested in one piece
_SLICE = 1 << 26  # bytes of a slice of a larger one
_PIECE = 1 << 24  # bytes made contiguous at once
_SLICED = "slices:"  # before the digest of such an array: that of its slices


def digest(array: Any, threads: int | None = None) -> str:
    """Of dtype, shape and all values, in whatever order they lie; "" for None. threads: at most so many.

    >>> x = np.arange(6.0).reshape(2, 3)
    >>> digest(x) == digest(np.asfortranarray(x)), digest(x) == digest(x.T), digest(None)
    (True, False, '')
    """
    if array is None:
        return ""
    if _sparse.is_sparse(array):
        return "".join(digest(part, threads) for part in (array.data, array.indices, array.indptr)) + str(array.shape)
    taken = hashlib.blake2b(f"{array.dtype.str} {array.shape}".encode(), digest_size=16)
    if array.nbytes <= _WHOLE:
        _take(taken, array)
        return taken.hexdigest()
    for part in _digests(list(_by_bytes(array, _SLICE)), threads or _threads()):
        taken.update(part)
    return _SLICED + taken.hexdigest()


def comparable(here: str, there: str) -> bool:
    """Whether two digests that differ are of data that do: before there were slices, only some rows of a large array
    had been digested."""
    return here.count(_SLICED) == there.count(_SLICED)


def _by_bytes(array: Array, size: int) -> Iterator[Array]:
    """The array in runs of rows of about so many bytes."""
    row = array.itemsize * (1 if array.ndim == 1 else max(1, array[0].size))
    rows = max(1, size // row)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _take(taken: Any, array: Array) -> None:
    for piece in _by_bytes(array, _PIECE):
        taken.update(np.ascontiguousarray(piece).data)  # without the interpreter lock


def _slice(array: Array) -> bytes:
    taken = hashlib.blake2b(digest_size=16)
    _take(taken, array)
    return taken.digest()


def _digests(slices: list[Array], threads: int) -> Iterator[bytes]:
    """Of each slice; on this thread alone where no other can be started."""
    pool = ThreadPoolExecutor(min(threads, len(slices)))
    try:
        made: Iterator[bytes] = pool.map(_slice, slices)
    except RuntimeError:
        made = map(_slice, slices)
    try:
        yield from made
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C: the slices that were begun take 0.1 s


def _threads() -> int:
    """As many as a fit may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    most = int(given) if given.isdigit() and int(given) > 0 else _cpus.quota() or _cpus.usable()
    return min(most, _cpus.usable())
