"""Run: one fit as it goes, in slices of steps. Callback: what may hook into it. Checks no input, knows no files."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastnn import _validate
from fastnn.contract import Backend
from fastnn.data import Data
from fastnn.engine import Batches, Objective
from fastnn.errors import DivergenceError
from fastnn.metrics import RESERVED, Metric, Metrics
from fastnn.nn.model import Sequential
from fastnn.optim.schedules import Constant, Schedule
from fastnn.plan import Snapshot
from fastnn.training import divergence
from fastnn.training.batches import InMemory, Stream, step_means
from fastnn.training.history import History
from fastnn.training.validation import ValidationBatches

Array = np.ndarray
SLICE_SECONDS = 0.05  # one call to the backend: short enough for Ctrl-C and the progress bar


class Fitter(Protocol):
    """What a fit needs of the `Trainer`, whose file is above this one."""

    model: Sequential
    history: History
    schedule: Schedule
    metrics: Metrics
    backend: Backend
    threads: int | None

    @property
    def objective(self) -> Objective: ...

    @property
    def named(self) -> dict[str, Metric]: ...

    def score(self, data: Data | ValidationBatches) -> dict[str, float]: ...


class Resumable(Protocol):
    """What a fit needs of the checkpoint that it goes on from."""

    path: Path
    passed_over: list[Path]

    def restore(self, run: Run) -> None: ...


class Callback:
    """Base: hooks that do nothing. Each gets the `Run`; one that raises ends the fit with that very exception.

    `every`: `on_step` comes after each multiple of so many optimizer steps (calls to the engine are cut there: a small
    number costs speed); None: never. `order`: where hooks of a larger one are called later, and their `on_fit_end`
    earlier; those of equal ones in the order they were given. `essential`: whether a fit that is resumed must have
    it, if it had a state: False of what only writes down. A callback that has an attribute `monitor`, "val_...", gets
    `on_epoch_end` and `on_evaluated` after the epochs that were validated, which it counts.

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

    def stops_still(self) -> bool | None:
        """A fit is resumed that was stopped: whether this callback, as it is set now, stops it there too. None: another
        one did, or none."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: text, numbers, lists, arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; called after `on_fit_begin`."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_") or name == "before_fit"]


class Run:
    """One fit, while it runs: every hook of a `Callback` gets it.

    trainer, model, history: whose it is. epoch: of the current epoch the number, from 0 at the model's first fit;
    epochs: where the run ends. step: optimizer steps taken so far; steps: in an epoch (None: not known yet). rows: in
    an epoch (None likewise). logs: what the current epoch measured. lr_scale: a factor on the learning rate of the
    steps to come. validated: whether there is validation data; validation_freq: epochs from one validation to the next.
    error: what ended the fit, in `on_fit_end`.
    """

    def __init__(
        self,
        trainer: Fitter,
        source: InMemory | Stream,
        held_out: Data | ValidationBatches | None,
        epochs: int,
        callbacks: Sequence[Callback],
        *,
        validation_freq: int = 1,
    ) -> None:
        self.trainer, self.source, self.held_out = trainer, source, held_out
        self.model, self.history = trainer.model, trainer.history
        self.objective, self.backend, self.schedule = trainer.objective, trainer.backend, trainer.schedule
        self.validation_freq = validation_freq
        self.callbacks = sorted(callbacks, key=lambda callback: callback.order)
        self.epoch = len(self.history)
        self.epochs = self.epoch + epochs
        self.first_epoch = self.epoch
        self.logs: dict[str, float] = {}
        self.loss_unit = 1.0  # of what the network learns in that of y
        self._lr_scale = 1.0
        self.stopped: str | None = None
        self.resumable = False  # the reason to stop does not hold for who resumes
        self.error: BaseException | None = None
        self.resumed: Resumable | None = None  # what it goes on from
        self.identity: dict[str, str] = {}  # what that must be of; empty where nothing is saved
        self.described: dict[str, str] = {}  # and the same in words
        self.done = 0  # steps of this epoch
        self.seconds = 0.0  # of training, in this epoch
        self.rate = 0.0  # of its last step
        self.losses: list[Array] = []  # of those steps, as means over their rows, and what each counts for
        self.weights: list[Array] = []
        self._start = Snapshot(slots=False)  # of the epoch
        self._before = Snapshot()  # of the call, where a call may end within a step
        self._pace = _Pace()
        self._constant = np.empty(0)  # the rates of an epoch, where all are the same

    @property
    def lr_scale(self) -> float:
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, value: Any) -> None:
        self._lr_scale = _validate.number("lr_scale", value, low=0.0)

    @property
    def step(self) -> int:
        return self.model.state.step

    @property
    def steps(self) -> int | None:
        return self.source.steps

    @property
    def rows(self) -> int | None:
        return self.source.count if isinstance(self.source, InMemory) else None

    @property
    def validated(self) -> bool:
        return self.held_out is not None

    @property
    def names(self) -> list[str]:
        """What an epoch measures; callbacks may add to it."""
        names = [*RESERVED]
        if self.validated:
            names += [f"val_{name}" for name in ("loss", *self.trainer.named)]
        elif isinstance(self.source, InMemory):
            names += self.trainer.named
        return names

    def stop(self, reason: str, *, resumable: bool = False) -> None:
        """No further epoch after this one. `resumable`: a run that is resumed from here may go on."""
        self.stopped, self.resumable = reason, resumable

    # The loop ---------------------------------------------------------------------------------------------

    def go(self) -> None:
        """All epochs. Every callback whose `on_fit_begin` succeeded gets its `on_fit_end`, the last one first."""
        try:
            with ExitStack() as ends:
                try:
                    self._epochs(ends)
                except BaseException as error:
                    self.error = error
                    raise
        finally:
            self.error = None  # its traceback has this frame: a circle that would keep the data until it is collected

    def _epochs(self, ends: ExitStack) -> None:
        try:
            for callback in self.callbacks:
                callback.on_fit_begin(self)
                ends.callback(callback.on_fit_end, self)
            if self.resumed is not None:
                self.resumed.restore(self)
            while self.epoch < self.epochs and self.stopped is None:
                self._one_epoch()
        except DivergenceError as error:
            handled = [callback.on_divergence(self, error) for callback in self.callbacks]  # all are told
            if not any(handled):
                raise

    def _one_epoch(self) -> None:
        self._start.take(self.model.state)
        self.source.begin(self.epoch)
        if self.done == 0:
            self.logs = {}
            for callback in self.callbacks:
                callback.on_epoch_begin(self)
        self._train()
        losses, weights = _joined(self.losses), _joined(self.weights)
        # In one sum: added up call by call, whose lengths vary, its last bits would.
        self.logs = {"loss": float(losses @ weights / weights.sum()), "lr": self.rate, "seconds": self.seconds}
        self.logs["loss"] *= self.loss_unit
        for callback in self.callbacks:
            callback.on_evaluate(self)
        self.logs |= self._measure()
        self.history.append(self.logs)
        self.epoch, self.done, self.seconds, self.losses, self.weights = self.epoch + 1, 0, 0.0, [], []
        if not self.callbacks:
            return
        told = self._told()
        for callback in told:
            callback.on_epoch_end(self)
        self.logs = {name: _real(name, value) for name, value in self.logs.items()}
        self.history.amend(self.logs)
        for callback in told:
            callback.on_evaluated(self)

    def _told(self) -> list[Callback]:
        """The callbacks that hear of the epoch that just ended: who watches validation waits for one that has it."""
        if not self.validated or "val_loss" in self.logs:
            return self.callbacks
        watched = ((callback, getattr(callback, "monitor", None)) for callback in self.callbacks)
        return [callback for callback, name in watched if not (isinstance(name, str) and name.startswith("val_"))]

    def _train(self) -> None:
        """The steps of the epoch that are not done yet, in calls of about SLICE_SECONDS."""
        scheduled = self._rates()
        while (batches := self.source.take(self.done, self.done + self._next())) is not None:
            count = -(-len(batches.order) // batches.size)
            last = self.done + count
            lr = self._next_rates(scheduled, last)
            losses, spent = self._slice(batches, lr)
            if count >= self._pace.steps or spent > SLICE_SECONDS:  # the rest of an epoch says little
                self._pace.adjust(count, spent)
            means, weights = step_means(batches, losses)
            self.losses.append(means)
            self.weights.append(weights)
            self.done, self.seconds, self.rate = last, self.seconds + spent, float(lr[-1])
            for callback in self.callbacks:
                callback.on_slice(self, len(batches.order))
                if callback.every is not None and self.step % callback.every == 0:
                    callback.on_step(self)

    def _rates(self) -> Array:
        """The learning rate of every step of the epoch, before lr_scale; of an epoch of unknown length that of its
        beginning: who has such a schedule was refused."""
        steps = self.steps or 1
        if isinstance(self.schedule, Constant):
            if len(self._constant) != steps:
                self._constant = np.full(steps, self.objective.optimizer.lr)
            return self._constant
        factors = self.schedule.factors(self.epoch * steps, (self.epoch + 1) * steps, steps, self.epochs)
        return np.asarray(self.objective.optimizer.lr * factors)

    def _next_rates(self, scheduled: Array, last: int) -> Array:
        """The rates of steps done .. last - 1."""
        if last > len(scheduled):  # more batches than there were
            scheduled = np.append(scheduled, np.full(last - len(scheduled), scheduled[-1]))
        lr = scheduled[self.done : last]
        return lr if self.lr_scale == 1.0 else lr * self.lr_scale

    def _next(self) -> int:
        """Steps of the next call: what SLICE_SECONDS hold, up to where a callback wants to be called."""
        steps = min(self._pace.steps, self.source.most)
        for callback in self.callbacks:
            if callback.every is not None:
                steps = min(steps, callback.every - self.step % callback.every)
        return steps

    def _slice(self, batches: Batches, lr: Array) -> tuple[Array, float]:
        """One call to the backend. If anything is not finite after it the epoch is undone; if it may have ended within
        a step, the call is."""
        model, atomic = self.model, self.backend.atomic
        before = self._start if atomic else self._before.take(model.state)
        first = model.state.step
        start = time.perf_counter()
        try:
            step_losses = self.backend.train_steps(model.plan, model.state, self.objective, batches, lr)
            seconds = time.perf_counter() - start
            again = None if atomic else functools.partial(self._again, before, batches, lr)
            wrong = divergence.first_wrong_step(step_losses, model, again)
            if wrong is not None:
                rule, kept = self.objective.optimizer.rule, self._start.step
                raise divergence.error(model, rule, step_losses[wrong], first + wrong + 1, lr[wrong], kept)
        except DivergenceError:
            self._start.put_back(model.state)
            raise
        except BaseException as error:  # also KeyboardInterrupt, in the middle of an update
            if not atomic or isinstance(error, MemoryError):
                before.put_back(model.state)
            raise
        return step_losses, seconds

    def _again(self, before: Snapshot, batches: Batches, lr: Array, count: int) -> None:
        """The first `count` steps of a call, from where it began."""
        before.put_back(self.model.state)
        if count > 0:
            part = batches._replace(order=batches.order[: count * batches.size])
            self.backend.train_steps(self.model.plan, self.model.state, self.objective, part, lr[:count])

    def _measure(self) -> dict[str, float]:
        """Loss and metrics after an epoch: on the validation data, else the metrics on the training data."""
        trainer = self.trainer
        if self.held_out is not None:
            if (self.epoch + 1 - self.first_epoch) % self.validation_freq != 0:
                return {}
            scores = trainer.score(self.held_out)
            return {f"val_{name}": value for name, value in scores.items()}
        if not trainer.metrics or isinstance(self.source, Stream):
            return {}
        scores = trainer.score(self.source.measured)
        return {name: value for name, value in scores.items() if name != "loss"}


def _real(name: str, value: Any) -> float:
    """What a callback put into the logs, as a number: NumPy's and others' become Python's."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"run.logs[{name!r}] is {value!r}, expected a number") from None


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Pace:
    """How many steps a call to the backend takes: one at first, then as many as SLICE_SECONDS hold."""

    def __init__(self) -> None:
        self.steps = 1

    def adjust(self, steps: int, seconds: float) -> None:
        """The next call has at most 4 times the steps of the last one, which took `seconds`."""
        self.steps = max(1, min(4 * steps, int(SLICE_SECONDS * steps / max(seconds, 1e-9))))
