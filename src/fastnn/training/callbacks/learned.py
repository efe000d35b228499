"""Copies of what a fit changes of its model, for callbacks that keep or exchange it."""

from __future__ import annotations

import numpy as np

from fastnn.training.run import Run

Array = np.ndarray


def learned(run: Run) -> tuple[Array, ...]:
    """What training changes of the model, but for the optimizer's own."""
    return (run.model.state.parameters, run.model.state.statistics)


def copies(old: tuple[Array, ...], buffers: tuple[Array, ...]) -> tuple[Array, ...]:
    """Copies of the buffers, in the old ones' memory where there are any."""
    if not old:
        return tuple(buffer.copy() for buffer in buffers)
    put_back(buffers, old)
    return old


def put_back(kept: tuple[Array, ...], buffers: tuple[Array, ...]) -> None:
    for buffer, copy in zip(buffers, kept, strict=True):
        buffer[...] = copy
