"""What watches one quantity of the history: EarlyStopping, ReduceLROnPlateau. Measures nothing itself."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, Literal

import numpy as np

from fastnn import _text, _validate
from fastnn._text import short
from fastnn.errors import callers
from fastnn.metrics import direction
from fastnn.training.callbacks.learned import copies, learned, put_back
from fastnn.training.checks import NUMBER, Kinds, check_copies, check_state
from fastnn.training.run import Callback, Run

Array = np.ndarray
Mode = Literal["auto", "min", "max"]


def check_monitor(monitor: Any, mode: Any) -> None:
    """TypeError where it is no name, ValueError where mode is none."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor is {short(monitor)}, expected the name of a quantity, such as 'val_loss'")
    _text.choice("mode", mode, ("auto", "min", "max"), "'auto', 'min' or 'max'")


def check_there(monitor: str, run: Run) -> None:
    """ValueError where no epoch of the fit will measure it. Before the first step: a callback of one's own may add it
    yet, and is waited for."""
    if monitor.startswith("val_") and not run.validated:
        raise ValueError(f"monitor is {short(monitor)}, which needs fit(validation=...), or monitor='loss'")
    if monitor not in run.names and not any(map(_may_add, run.callbacks)):
        raise ValueError(f"monitor is {short(monitor)}, expected one of: {', '.join(run.names)}")


def _may_add(callback: Callback) -> bool:
    """Whether it could put a quantity into `run.logs`: a hook that is not the package's."""
    hooks = (callback.on_evaluate, callback.on_epoch_end)
    return any(str(getattr(hook, "__module__", "")).partition(".")[0] != "fastnn" for hook in hooks)


def measured(monitor: str, run: Run) -> float:
    """What the epoch measured of it. ValueError where that is nothing."""
    if monitor not in run.logs:
        raise ValueError(f"monitor is {short(monitor)}, expected one of: {', '.join(run.logs)}")
    return run.logs[monitor]


def sign_of(monitor: str, mode: Mode, run: Run | None = None) -> float | None:
    """1 where a larger value is better, -1 where a smaller one is: as `mode` says, or the metric of the fit, or the
    name; None where nothing says it."""
    found: str | None = mode
    if mode == "auto":
        metric = None if run is None else run.trainer.named.get(monitor.removeprefix("val_"))
        found = direction(monitor) if metric is None or metric.mode is None else metric.mode
    return None if found is None else 1.0 if found == "max" else -1.0


def _unknown(monitor: str) -> ValueError:
    return ValueError(
        f"monitor is {short(monitor)}, of which nobody knows whether larger or smaller is better, expected mode='min' "
        "or mode='max' with it, or a metric that says so: fastnn.metric(function, mode=...)"
    )


class _Monitor(Callback):
    """Watches one quantity of the history: its best value, and for how many epochs it has not become better."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Mode) -> None:
        check_monitor(monitor, mode)
        self.monitor = monitor
        self.patience = _validate.integer("patience", patience)
        self.min_delta = _validate.number("min_delta", min_delta, low=0.0)
        self.mode = mode
        self._sign = sign_of(monitor, mode)
        self.forget()

    @property
    def sign(self) -> float:
        """1 where a larger value is better, -1 where a smaller one is. ValueError where that is not known: a fit with
        a metric that says so makes it known."""
        if self._sign is None:
            raise _unknown(self.monitor)
        return self._sign

    @property
    def label(self) -> str:
        """See `Callback`."""
        return f"{type(self).__name__}({self.monitor}, {'max' if self.sign > 0 else 'min'})"

    def forget(self) -> None:
        """As if nothing had been seen."""
        self.best = -math.inf  # times sign
        self.best_epoch: int | None = None
        self.reference = -math.inf  # times sign: what patience compares with
        self.waited = 0

    def before_fit(self, run: Run) -> None:
        check_there(self.monitor, run)
        found = sign_of(self.monitor, self.mode, run)
        if found is None:
            raise _unknown(self.monitor)
        self._sign = found

    def on_fit_begin(self, run: Run) -> None:
        self.forget()

    def look(self, run: Run) -> bool:
        """Look at the epoch: is it the best so far? By min_delta better than what was so last, it ends the waiting.
        NaN is neither."""
        value = self.sign * measured(self.monitor, run)
        if value > self.reference + self.min_delta:
            self.reference, self.waited = value, 0
        else:
            self.waited += 1
        if value > self.best:
            self.best, self.best_epoch = value, run.epoch
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "reference": self.reference,
            "waited": self.waited,
        }

    KINDS: ClassVar[dict[str, Kinds]] = {  # of its state
        "best": NUMBER,
        "best_epoch": (int, type(None)),
        "reference": NUMBER,
        "waited": int,
    }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = {"reference": state.get("best"), **state}  # files of before it
        check_state(state, **self.KINDS)
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self.reference = state["reference"]


class EarlyStopping(_Monitor):
    """Stops where `monitor` has not become better by more than min_delta for `patience` epochs; Prechelt 1998.

    `mode`: whether smaller ("min") or larger ("max") is better; "auto": what the metric of that name says
    (`fastnn.metric`), or the name, where it is one of `fastnn.METRICS`, of scikit-learn's, or ends as theirs do.
    min_delta is for patience alone: an epoch that is better by less does not end the waiting, but may be the best.
    `restore_best`: at the end, also where all epochs ran, the model gets the parameters and running statistics of its
    best epoch, the one with the best value; not the optimizer's state. After the fit `best_epoch` (from 1),
    `best_value` and `stopped` say what happened.

    ValueError, before the first step, where the fit has no such quantity, or nothing says which way it is better.

    >>> model = fastnn.Sequential([nn.Dense(1)])
    >>> x = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> stop = fastnn.EarlyStopping(patience=3, min_delta=1e-9)
    >>> trainer = fastnn.Trainer(model, "mse", optim.SGD(0.5), seed=0)
    >>> history = trainer.fit(x, 2 * x, epochs=1000, validation=0.2, callbacks=[stop])
    >>> len(history) < 200, stop.stopped, stop.best_value < 1e-6
    (True, True, True)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        *,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        self.restore_best = _validate.flag("restore_best", restore_best)
        super().__init__(monitor, patience, min_delta, mode)

    def forget(self) -> None:
        super().forget()
        self.stopped = False
        self._kept: tuple[Array, ...] = ()
        self._sizes: tuple[int, ...] = ()

    def on_fit_begin(self, run: Run) -> None:
        super().on_fit_begin(run)
        self._sizes = tuple(map(len, learned(run)))

    @property
    def best_value(self) -> float | None:
        """Of the quantity; None before the first epoch."""
        return None if self.best_epoch is None else self.sign * self.best

    def on_epoch_end(self, run: Run) -> None:
        if self.look(run) and self.restore_best:
            self._kept = copies(self._kept, learned(run))
        if self.waited >= self.patience:
            self.stopped = True
            if self.best_epoch is None:
                warnings.warn(f"{self.monitor} was NaN in every epoch: nothing was judged", stacklevel=callers())
            run.stop(f"{self.monitor} has not become better for {self.patience} epochs, best in {self.best_epoch}")

    def on_fit_end(self, run: Run) -> None:
        if self._kept and run.error is None:
            put_back(self._kept, learned(run))
        self._kept = ()

    def stops_still(self) -> bool | None:
        if not self.stopped:
            return None
        self.stopped = self.waited >= self.patience
        return self.stopped

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"kept": list(self._kept), "stopped": self.stopped}

    KINDS: ClassVar[dict[str, Kinds]] = _Monitor.KINDS | {"kept": list, "stopped": bool}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        check_copies("kept", state["kept"], self._sizes)
        self._kept, self.stopped = tuple(state["kept"]), state["stopped"]


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by `factor` where `monitor` has not become better for `patience` epochs.

    Not below `min_lr` times the optimizer's; then `cooldown` epochs are not counted. On top of the schedule, and for
    this fit only. `monitor`, `min_delta`, `mode`: see EarlyStopping.

    >>> ReduceLROnPlateau("loss", factor=0.5, patience=2).factor
    0.5
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        *,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: Mode = "auto",
    ) -> None:
        self.factor = _validate.number("factor", factor, low=0.0, high=1.0, open_high=True)
        self.cooldown = _validate.integer("cooldown", cooldown, low=0)
        self.min_lr = _validate.number("min_lr", min_lr, low=0.0, high=1.0)
        super().__init__(monitor, patience, min_delta, mode)

    def forget(self) -> None:
        super().forget()
        self.resting = 0

    def on_epoch_end(self, run: Run) -> None:
        self.look(run)
        if self.resting:
            self.resting -= 1
            self.waited = 0
        elif self.waited >= self.patience:
            run.lr_scale = max(run.lr_scale * self.factor, min(self.min_lr, run.lr_scale))
            self.waited, self.resting = 0, self.cooldown

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"resting": self.resting}

    KINDS: ClassVar[dict[str, Kinds]] = _Monitor.KINDS | {"resting": int}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.resting = state["resting"]
