"""What the machine does at most, measured in the same run: multiply-adds, and bytes from memory.

Every core has a worker of its own, and all of them measure at once.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fastnn._cpus import usable
from fastnn.bench.worker import Worker, WorkerError

BLOCK = 16384  # values of a triad's part: three of them, 192 kB, stay in L2


class Core:
    """What one worker measures."""

    def fma(self) -> float:
        """GFLOP/s of float32 multiply-adds on registers. ImportError without the native extension."""
        from fastnn.backends import native

        return native.fma_peak()

    def bandwidth(self, megabytes: int) -> tuple[float, float]:
        """GB/s read and written by a copy, and by a triad a = b + s c in parts that stay in L2; best of 3."""
        size = megabytes * 1_000_000 // 4 // BLOCK * BLOCK
        a, b, c = (np.full(size, value, np.float32) for value in (0, 1, 2))
        part = np.empty(BLOCK, np.float32)
        copied = min(_seconds(np.copyto, a, b) for _ in range(3))
        summed = min(_seconds(_triad, a, b, c, part) for _ in range(3))
        return 2 * a.nbytes / copied / 1e9, 3 * a.nbytes / summed / 1e9


def _triad(a: np.ndarray, b: np.ndarray, c: np.ndarray, part: np.ndarray) -> None:
    for start in range(0, len(a), BLOCK):
        here = slice(start, start + BLOCK)
        np.multiply(c[here], np.float32(3), out=part)
        np.add(b[here], part, out=a[here])


def _seconds(call: object, *arguments: np.ndarray) -> float:
    assert callable(call)
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def print_peaks() -> None:
    """A line with what all cores and one of them reach now, where that can be measured."""
    machine = Machine()
    peaks = machine.peaks()
    machine.close()
    if peaks is not None:
        print(f"multiply-adds: {peaks[0]:.0f} GFLOP/s on one core, {peaks[1]:.0f} on all\n")


class Machine:
    """A worker a core; None in place of a figure where the native extension is missing."""

    def __init__(self) -> None:
        self.cores = [Worker(threads=1) for _ in range(usable())]
        for core in self.cores:
            core.make(f"{__name__}:Core")

    def peaks(self) -> tuple[float, float] | None:
        """GFLOP/s of one core alone, and of all cores at once."""
        try:
            return self.cores[0].call("fma"), sum(self._together("fma"))
        except WorkerError:
            return None

    def bandwidths(self, megabytes: int) -> dict[str, tuple[float, float]]:
        """GB/s of (copy, triad) with arrays of that size: "one" core alone, and "all" at once."""
        one = self.cores[0].call("bandwidth", megabytes=megabytes)
        each = self._together("bandwidth", megabytes=megabytes)
        return {"one": tuple(one), "all": (sum(pair[0] for pair in each), sum(pair[1] for pair in each))}

    def _together(self, method: str, **arguments: int) -> list[Any]:
        for core in self.cores:
            core.send({"call": method, "with": arguments})
        answers = []
        for core in self.cores:
            answers.append(core.receive())
        return answers

    def close(self) -> None:
        for core in self.cores:
            core.close()
