"""One fit at a time: a lock that says who holds it, and that a forked child does not inherit from its parent's threads.
It guards against mistakes; it does not wait."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class FitLock:
    """Held by the thread that fits a model.

    In a forked child the other threads are gone, and nobody would release what they held: there it is free again. The
    thread that forked within its own fit goes on with that in the child, and keeps it.

    >>> lock = FitLock()
    >>> lock.acquire()
    >>> lock.acquire()
    Traceback (most recent call last):
    RuntimeError: model is being fitted by this thread already, expected one fit at a time: a metric, say, cannot fit it
    >>> lock.release()
    """

    def __init__(self, what: str = "model") -> None:
        self._what = what
        self._lock = threading.Lock()
        self._owner: int | None = None  # the thread's identifier
        _LOCKS.add(self)

    def acquire(self) -> None:
        """RuntimeError at once where a thread holds it, this one or another."""
        if not self._lock.acquire(blocking=False):
            if self._owner == threading.get_ident():
                which, why = "this thread already", ": a metric, say, cannot fit it"
            else:
                which, why = "another thread", ""
            raise RuntimeError(f"{self._what} is being fitted by {which}, expected one fit at a time{why}")
        self._owner = threading.get_ident()

    def locked(self) -> bool:
        """Whether a thread holds it."""
        return self._lock.locked()

    def check_free(self, expected: str) -> None:
        """RuntimeError where a thread holds it, of what may go on beside others of its kind but not beside a fit."""
        if self.locked():
            raise RuntimeError(f"{self._what} is being fitted, expected {expected}")

    def release(self) -> None:
        self._owner = None
        self._lock.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block by this thread."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


_LOCKS: weakref.WeakSet[FitLock] = weakref.WeakSet()
_ESTIMATORS: weakref.WeakKeyDictionary[Any, FitLock] = weakref.WeakKeyDictionary()
_NEW = threading.Lock()


def lock_of(estimator: Any) -> FitLock:
    """The lock of an estimator: kept beside it, as a lock can be neither pickled nor copied."""
    with _NEW:
        return _ESTIMATORS.setdefault(estimator, FitLock(type(estimator).__name__))


def _after_fork() -> None:
    for lock in list(_LOCKS):
        if lock._owner != threading.get_ident():
            lock._owner, lock._lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
