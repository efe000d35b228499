"""What may happen around training: stopping, averaging, showing, writing down. Each a Callback; checkpoints: a file of
their own."""

from __future__ import annotations

import csv
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastnn import _validate
from fastnn.errors import DivergenceError, missing_extra
from fastnn.training.run import Run

Array = np.ndarray
Mode = Literal["auto", "min", "max"]
_LARGER_IS_BETTER = ("accuracy", "acc", "auc", "f1", "f1_score", "r2", "r2_score", "score", "precision", "recall")


class Callback:
    """Base: hooks that do nothing. Each gets the `Run`; one that raises ends the fit with that very exception.

    `every`: `on_step` comes after each multiple of so many optimizer steps (calls to the engine are cut there: a small
    number costs speed); None: never. `order`: where hooks of a larger one are called later, and their `on_fit_end`
    earlier; those of equal ones in the order they were given. `essential`: whether a fit that is resumed must have
    it, if it had a state: False of what only writes down.

    >>> class Announce(Callback):
    ...     def on_epoch_end(self, run):
    ...         print(run.epoch, "loss" in run.logs)
    ...         if run.epoch == 2:
    ...             run.stop("enough")
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", seed=0)
    >>> history = trainer.fit(np.eye(3), [0.0, 1.0, 2.0], epochs=10, callbacks=[Announce()])
    1 True
    2 True
    """

    every: int | None = None
    order: int = 0
    essential: bool = True

    @property
    def label(self) -> str:
        """What a checkpoint knows its state by: the class, and the settings that give the state its meaning."""
        return type(self).__name__

    def before_fit(self, run: Run) -> None:
        """Raise here what speaks against this fit: nothing is touched yet, the model may have no parameters."""

    def on_fit_begin(self, run: Run) -> None:
        """Before the first step. Where a fit is resumed it is put where it was after this."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before an epoch's first step."""

    def on_slice(self, run: Run, rows: int) -> None:
        """After each call to the engine: some 50 ms of steps over `rows` rows."""

    def on_step(self, run: Run) -> None:
        """After each multiple of `every` steps."""

    def on_evaluate(self, run: Run) -> None:
        """Before the epoch's validation."""

    def on_epoch_end(self, run: Run) -> None:
        """After it: `run.logs` has what the epoch measured (and may be added to), `run.epoch` counts it."""

    def on_evaluated(self, run: Run) -> None:
        """After every callback's `on_epoch_end`."""

    def on_divergence(self, run: Run, error: DivergenceError) -> bool:
        """Whether the fit shall end without the error that is about to be raised."""
        return False

    def on_fit_end(self, run: Run) -> None:
        """At the end, also where it is an error: `run.error`."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: text, numbers, lists, arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; called after `on_fit_begin`."""


class _Monitor(Callback):
    """Watches one quantity of the history, and for how many epochs it has not become better."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Mode) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor is {monitor!r}, expected the name of a quantity, such as 'val_loss'")
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
        if self.monitor.startswith("val_") and not run.validated:
            raise ValueError(f"monitor is {self.monitor!r}, which needs fit(validation=...), or monitor='loss'")

    def on_fit_begin(self, run: Run) -> None:
        self.forget()

    def better(self, run: Run) -> bool:
        """Look at the epoch: is it the best so far, by more than min_delta? NaN never is."""
        if self.monitor not in run.logs:
            raise ValueError(f"monitor is {self.monitor!r}, expected one of: {', '.join(run.logs)}")
        value = self.sign * run.logs[self.monitor]
        if value > self.best + self.min_delta:
            self.best, self.best_epoch, self.waited = value, run.epoch, 0
            return True
        self.waited += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]


def is_score(monitor: str) -> bool:
    """Whether that quantity is better when it is larger, by its name."""
    name = monitor.removeprefix("val_")
    return name in _LARGER_IS_BETTER or name.rpartition("_")[2] in _LARGER_IS_BETTER


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
                self._kept = _copies(self._kept, _learned(run))
        elif self.waited >= self.patience:
            self.stopped = True
            run.stop(f"{self.monitor} has not become better for {self.patience} epochs, best in {self.best_epoch}")

    def on_fit_end(self, run: Run) -> None:
        if self._kept and run.error is None:
            _put_back(self._kept, _learned(run))
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

    def on_fit_begin(self, run: Run) -> None:
        self._averages, self._training, self._taken = (), (), 0

    @property
    def label(self) -> str:
        """See `Callback`."""
        return f"EMA({self.decay!r}, every={self.every})"

    def on_step(self, run: Run) -> None:
        if not self._averages:
            self._averages = _copies((), _learned(run))
        decay = min(self.decay**self.every, (1 + self._taken) / (10 + self._taken))
        for average, parameter in zip(self._averages, _learned(run), strict=True):
            average += (1.0 - decay) * (parameter - average)
        self._taken += 1

    def on_evaluate(self, run: Run) -> None:
        if self._averages:
            self._training = _copies(self._training, _learned(run))
            _put_back(self._averages, _learned(run))

    def on_evaluated(self, run: Run) -> None:
        if self._training:
            _put_back(self._training, _learned(run))
            self._training = ()

    def on_fit_end(self, run: Run) -> None:
        if run.error is not None:
            self.on_evaluated(run)  # an error of another callback, while the averages were in
        elif self._averages:
            _put_back(self._averages, _learned(run))
        self._averages = self._training = ()

    def state_dict(self) -> dict[str, Any]:
        return {"averages": list(self._averages), "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._averages, self._taken = tuple(state["averages"]), state["taken"]


def _learned(run: Run) -> tuple[Array, ...]:
    """What training changes of the model, but for the optimizer's own."""
    return (run.model.state.parameters, run.model.state.statistics)


def _copies(old: tuple[Array, ...], buffers: tuple[Array, ...]) -> tuple[Array, ...]:
    """Copies of the buffers, in the old ones' memory where there are any."""
    if not old:
        return tuple(buffer.copy() for buffer in buffers)
    _put_back(buffers, old)
    return old


def _put_back(kept: tuple[Array, ...], buffers: tuple[Array, ...]) -> None:
    for buffer, copy in zip(buffers, kept, strict=True):
        buffer[...] = copy


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


class CSVLogger(Callback):
    """Writes a line an epoch to `path`: the epoch, from 1, and what the history has, each line flushed to the file.

    A fit that is resumed goes on in the file: lines of epochs that are trained again are dropped. Any other begins it
    anew, or goes on behind what is there, in its columns, with `append=True`. Quantities that appear after the first
    epoch are left out, those that are missing are nan.
    """

    essential = False

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self.path = Path(path).absolute()  # whatever the working directory will be
        self.append = _validate.flag("append", append)
        self._file: Any = None
        self._names: list[str] = []

    def on_fit_begin(self, run: Run) -> None:
        self._names = self._there() if self.append else []
        self._file = open(self.path, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115

    def _there(self) -> list[str]:
        """The columns of the file to go on with. ValueError where it is none of these."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        if header[:1] != ["epoch"]:
            raise ValueError(f"{self.path} begins with {header}, expected the columns of a CSVLogger, epoch first")
        return header[1:]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        kept = state["lines"]
        if not kept:
            return
        self._file.close()
        self._names = kept[0][1:]
        self._file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115
        csv.writer(self._file).writerows(kept)
        self._file.flush()

    def state_dict(self) -> dict[str, Any]:
        if not self.path.exists():  # somebody took it away: no reason to end a fit
            return {"lines": []}
        with open(self.path, newline="", encoding="utf-8") as file:
            return {"lines": list(csv.reader(file))}

    def on_epoch_end(self, run: Run) -> None:
        writer = csv.writer(self._file)
        if not self._names:
            self._names = list(run.logs)
            writer.writerow(["epoch", *self._names])
        writer.writerow([run.epoch, *(run.logs.get(name, math.nan) for name in self._names)])
        self._file.flush()

    def on_fit_end(self, run: Run) -> None:
        self._file.close()
        self._file = None  # what is closed cannot be copied either


class TensorBoard(Callback):
    """Writes what the history has of every epoch for TensorBoard into a folder, with the package tensorboardX.

    ImportError naming the extra [tensorboard] where that is missing.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise missing_extra("tensorboardX", "TensorBoard", "tensorboard") from error
        self.log_dir = Path(log_dir)
        self._make = tensorboardX.SummaryWriter
        self._writer: Any = None

    def on_fit_begin(self, run: Run) -> None:
        self._writer = None

    def on_epoch_end(self, run: Run) -> None:
        if self._writer is None:  # not before it is known where a fit goes on: later entries are dropped
            # Its file is named after the second, in which another fit may have begun: after the epoch as well.
            suffix = f".epoch-{run.epoch:08}"
            self._writer = self._make(str(self.log_dir), purge_step=run.epoch, filename_suffix=suffix)
        for name, value in run.logs.items():
            self._writer.add_scalar(name, value, run.epoch)

    def on_fit_end(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class ProgressBar(Callback):
    """A bar over the rows of all epochs, with what the last one measured; drawn by tqdm.

    ImportError naming the extra [progress] where tqdm is missing. `fit(verbose=True)` is one; where its output is no
    terminal, it is a line an epoch instead.
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise missing_extra("tqdm", "a progress bar", "progress") from error
        self._make = tqdm
        self._bar: Any = None

    @classmethod
    def wanted(cls, verbose: bool | None) -> list[Callback]:
        """What fit's `verbose` asks for. None: a bar on a terminal where tqdm is installed."""
        if verbose is False or (verbose is None and not sys.stderr.isatty()):
            return []
        if verbose and not sys.stderr.isatty() and "ipykernel" not in sys.modules:
            return [Lines()]
        try:
            return [cls()]
        except ImportError:
            return [Lines()] if verbose else []  # verbose=True needs no package: lines do without

    def on_fit_begin(self, run: Run) -> None:
        total = None if run.rows is None else run.rows * (run.epochs - run.first_epoch)
        self._bar = self._make(total=total, unit=" rows", unit_scale=True, leave=True)

    def on_slice(self, run: Run, rows: int) -> None:
        self._bar.update(rows)

    def on_epoch_end(self, run: Run) -> None:
        self._bar.set_description(f"epoch {run.epoch}/{run.epochs}")
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in _shown(run).items()})

    def on_fit_end(self, run: Run) -> None:
        self._bar.close()
        self._bar = None


class Lines(Callback):
    """A line an epoch on stderr: what it measured."""

    def on_epoch_end(self, run: Run) -> None:
        values = "  ".join(f"{name} {value:.4f}" for name, value in _shown(run).items())
        print(f"epoch {run.epoch}/{run.epochs}  {values}  ({run.logs['seconds']:.2f} s)", file=sys.stderr, flush=True)


def _shown(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.logs.items() if name not in ("lr", "seconds")}


_HOOKS = [name for name in vars(Callback) if name.startswith("on_") or name == "before_fit"]


class Lambda(Callback):
    """Hooks from functions: `Lambda(on_epoch_end=lambda run: print(run.logs))`. TypeError for what is no hook,
    ValueError for an `on_step` without `every`, which would never be called.

    >>> seen = []
    >>> trainer = fastnn.Trainer(fastnn.Sequential([nn.Dense(1)]), "mse", seed=0)
    >>> note = Lambda(on_epoch_end=lambda run: seen.append(run.epoch))
    >>> history = trainer.fit(np.eye(3), [0.0, 1.0, 2.0], epochs=3, callbacks=[note])
    >>> seen
    [1, 2, 3]
    """

    def __init__(self, *, every: int | None = None, **hooks: Callable[..., Any]) -> None:
        self.every = None if every is None else _validate.integer("every", every)
        for name, hook in hooks.items():
            if name not in _HOOKS:
                raise TypeError(f"Lambda got {name!r}, expected one of: {', '.join(_HOOKS)}")
            if not callable(hook):
                raise TypeError(f"{name} is {hook!r}, expected a function")
            setattr(self, name, hook)
        if "on_step" in hooks and every is None:
            raise ValueError("every is None, expected after how many steps to call on_step")
