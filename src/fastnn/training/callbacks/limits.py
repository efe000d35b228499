"""What ends a fit without looking at how well it does: TerminateOnNaN, Timer."""

from __future__ import annotations

import math
import time

from fastnn import _validate
from fastnn.errors import DivergenceError
from fastnn.training.run import Callback, Run


class TerminateOnNaN(Callback):
    """Ends a fit whose loss becomes NaN or infinite without the DivergenceError that it raises otherwise.

    The model has the parameters from before that epoch. `error`: the DivergenceError, or None.

    >>> guard = TerminateOnNaN()
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", optim.SGD(1e20), seed=0)
    >>> history = trainer.fit(np.eye(3), [0.0, 1.0, 2.0], epochs=10, callbacks=[guard])
    >>> len(history) < 10, "learning rate 1e+20" in str(guard.error)
    (True, True)
    """

    def __init__(self) -> None:
        self.error: DivergenceError | None = None

    def on_fit_begin(self, run: Run) -> None:
        self.error = None

    def on_divergence(self, run: Run, error: DivergenceError) -> bool:
        self.error = error.with_traceback(None)  # whose frames would keep the data
        return True


class Timer(Callback):
    """Stops after the epoch in which `max_time` seconds of the fit are over. `elapsed`: its seconds so far.

    >>> timer = Timer(max_time=0.0)
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", seed=0)
    >>> len(trainer.fit(np.eye(3), [0.0, 1.0, 2.0], epochs=10, callbacks=[timer]))
    1
    """

    def __init__(self, max_time: float | None = None) -> None:
        self.max_time = math.inf if max_time is None else _validate.number("max_time", max_time, low=0.0)
        self._start: float | None = None
        self._end: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the fit began, or that it took."""
        if self._start is None:
            return 0.0
        return (time.monotonic() if self._end is None else self._end) - self._start

    def on_fit_begin(self, run: Run) -> None:
        self._start, self._end = time.monotonic(), None

    def on_epoch_end(self, run: Run) -> None:
        if self.elapsed >= self.max_time:
            run.stop(f"max_time of {self.max_time:g} s is over", resumable=True)

    def on_fit_end(self, run: Run) -> None:
        self._end = time.monotonic()
