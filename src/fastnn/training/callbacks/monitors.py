"""What watches one quantity of the history: EarlyStopping, ReduceLROnPlateau. Measures nothing itself."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from fastnn import _validate
from fastnn.training.callbacks.learned import copies, learned, put_back
from fastnn.training.run import Callback, Run

Array = np.ndarray
Mode = Literal["auto", "min", "max"]
_LARGER_IS_BETTER = ("accuracy", "acc", "auc", "f1", "f1_score", "r2", "r2_score", "score", "precision", "recall")


def is_score(monitor: str) -> bool:
    """Whether that quantity is better when it is larger, by its name."""
    name = monitor.removeprefix("val_")
    return name in _LARGER_IS_BETTER or name.rpartition("_")[2] in _LARGER_IS_BETTER


def check_name(monitor: Any) -> None:
    """TypeError where it is no name."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor is {monitor!r}, expected the name of a quantity, such as 'val_loss'")


def check_validated(monitor: str, run: Run) -> None:
    """ValueError where it is a quantity of validation data, which the fit has not."""
    if monitor.startswith("val_") and not run.validated:
        raise ValueError(f"monitor is {monitor!r}, which needs fit(validation=...), or monitor='loss'")


def measured(monitor: str, run: Run) -> float:
    """What the epoch measured of it. ValueError where that is nothing."""
    if monitor not in run.logs:
        raise ValueError(f"monitor is {monitor!r}, expected one of: {', '.join(run.logs)}")
    return run.logs[monitor]


class _Monitor(Callback):
    """Watches one quantity of the history, and for how many epochs it has not become better."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Mode) -> None:
        check_name(monitor)
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode is {mode!r}, expected 'auto', 'min' or 'max'")
        self.monitor = monitor
        self.patience = _validate.integer("patience", patience)
        self.min_delta = _validate.number("min_delta", min_delta, low=0.0)
        self.mode = mode
        self.sign = 1.0 if mode == "max" or (mode == "auto" and is_score(monitor)) else -1.0
        self.forget()

    @property
    def label(self) -> str:
        """See `Callback`."""
        return f"{type(self).__name__}({self.monitor}, {'max' if self.sign > 0 else 'min'})"

    def forget(self) -> None:
        """As if nothing had been seen."""
        self.best = -math.inf  # times sign
        self.best_epoch: int | None = None
        self.waited = 0

    def before_fit(self, run: Run) -> None:
        check_validated(self.monitor, run)

    def on_fit_begin(self, run: Run) -> None:
        self.forget()

    def better(self, run: Run) -> bool:
        """Look at the epoch: is it the best so far, by more than min_delta? NaN never is."""
        value = self.sign * measured(self.monitor, run)
        if value > self.best + self.min_delta:
            self.best, self.best_epoch, self.waited = value, run.epoch, 0
            return True
        self.waited += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]


class EarlyStopping(_Monitor):
    """Stops where `monitor` has not become better by more than min_delta for `patience` epochs; Prechelt 1998.

    `mode`: whether smaller ("min") or larger ("max") is better; "auto": larger for accuracy, auc, f1, r2, score,
    precision, recall and names that end with these. `restore_best`: at the end, also where all epochs ran, the model
    gets the parameters and running statistics of its best epoch; not the optimizer's state. After the fit `best_epoch`
    (from 1), `best_value` and `stopped` say what happened. ValueError where there is no such quantity.

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

    @property
    def best_value(self) -> float | None:
        """Of the quantity; None before the first epoch."""
        return None if self.best_epoch is None else self.sign * self.best

    def on_epoch_end(self, run: Run) -> None:
        if self.better(run):
            if self.restore_best:
                self._kept = copies(self._kept, learned(run))
        elif self.waited >= self.patience:
            self.stopped = True
            run.stop(f"{self.monitor} has not become better for {self.patience} epochs, best in {self.best_epoch}")

    def on_fit_end(self, run: Run) -> None:
        if self._kept and run.error is None:
            put_back(self._kept, learned(run))
        self._kept = ()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"kept": list(self._kept), "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
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
        better = self.better(run)
        if self.resting:
            self.resting -= 1
            self.waited = 0
        elif not better and self.waited >= self.patience:
            run.lr_scale = max(run.lr_scale * self.factor, min(self.min_lr, run.lr_scale))
            self.waited, self.resting = 0, self.cooldown

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"resting": self.resting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.resting = state["resting"]
