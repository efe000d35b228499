"""EMA: the average of the parameters over the steps. Takes none."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.training.callbacks.learned import copies, learned, put_back
from fastnn.training.checks import check_copies, check_state
from fastnn.training.run import Callback, Run

Array = np.ndarray


class EMA(Callback):
    """Keeps a running average of the parameters, e <- d e + (1 - d) w, which the model has at the end of the fit.

    Taken every `every` steps with d = decay^every, from the parameters of the first of them on: Polyak & Juditsky
    1992; Izmailov et al. 2018. Running statistics are averaged as well. Validation and what other callbacks keep
    (EarlyStopping) are of the averages, training goes on with the parameters themselves. A fit after this one begins
    with the averages. With d_t = min(d, (1 + t) / (10 + t)) after t averages, so that the beginning is forgotten soon
    (as TensorFlow's).

    >>> EMA(0.99).decay
    0.99
    """

    order = 1

    def __init__(self, decay: float = 0.999, *, every: int = 10) -> None:
        self.decay = _validate.number("decay", decay, low=0.0, high=1.0, open_high=True)
        self.every: int = _validate.integer("every", every)  # type: ignore[mutable-override,unused-ignore]
        self._averages: tuple[Array, ...] = ()
        self._training: tuple[Array, ...] = ()
        self._taken = 0
        self._sizes: tuple[int, ...] = ()

    def on_fit_begin(self, run: Run) -> None:
        self._averages, self._training, self._taken = (), (), 0
        self._sizes = tuple(map(len, learned(run)))

    @property
    def label(self) -> str:
        """See `Callback`."""
        return f"EMA({self.decay!r}, every={self.every})"

    def on_step(self, run: Run) -> None:
        if not self._averages:
            self._averages = copies((), learned(run))
        decay = min(self.decay**self.every, (1 + self._taken) / (10 + self._taken))
        for average, parameter in zip(self._averages, learned(run), strict=True):
            average += (1.0 - decay) * (parameter - average)
        self._taken += 1

    def on_evaluate(self, run: Run) -> None:
        if self._averages:
            self._training = copies(self._training, learned(run))
            put_back(self._averages, learned(run))

    def on_evaluated(self, run: Run) -> None:
        if self._training:
            put_back(self._training, learned(run))
            self._training = ()

    def on_fit_end(self, run: Run) -> None:
        if run.error is not None:
            self.on_evaluated(run)  # an error of another callback, while the averages were in
        elif self._averages:
            put_back(self._averages, learned(run))
        self._averages = self._training = ()

    def state_dict(self) -> dict[str, Any]:
        return {"averages": list(self._averages), "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state(state, averages=list, taken=int)
        check_copies("averages", state["averages"], self._sizes)
        self._averages, self._taken = tuple(state["averages"]), state["taken"]
