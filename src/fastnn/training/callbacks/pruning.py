"""OptunaPruning: tells an Optuna trial how its fit goes and ends what is not worth going on with. Searches nothing."""

from __future__ import annotations

from typing import Any

from fastnn.errors import DivergenceError, missing_extra
from fastnn.training.callbacks.monitors import Mode, check_monitor, check_there, measured, sign_of
from fastnn.training.run import Callback, Run


class OptunaPruning(Callback):
    """Reports `monitor` to an Optuna trial after each epoch, counted from 0, and raises `optuna.TrialPruned` where the
    study's pruner says so, or where the fit diverges.

    `study.optimize` counts such a trial as pruned. The model stays usable, as a completed step left it; other callbacks
    have seen the epoch, checkpoints are saved. monitor: of the history, as the study's objective is: what the objective
    returns at the end is to be the same quantity. mode: which way it is better, "min" or "max"; "auto": as its metric
    or its name says, and where neither does, as the study.

    ImportError naming the extra [optuna] where Optuna is missing. ValueError where the study has several objectives, or
    a direction that is not the monitor's: 'val_loss' in a study that maximises; before the first step where the fit has
    no such quantity.

    An objective (a whole one, that runs: docs/model_selection.md):

        trainer = fastnn.Trainer(model, "mse", optim.Adam(trial.suggest_float("lr", 1e-5, 1e-1, log=True)), seed=0)
        history = trainer.fit(X, y, validation=0.2, callbacks=[fastnn.OptunaPruning(trial)])
        return history["val_loss"][-1]
    """

    order = 3  # the averages are out again, the checkpoint is saved

    def __init__(self, trial: Any, monitor: str = "val_loss", *, mode: Mode = "auto") -> None:
        try:
            import optuna
        except ImportError as error:
            raise missing_extra("optuna", "pruning", "optuna") from error
        if not isinstance(trial, optuna.trial.BaseTrial):
            raise TypeError(f"trial is {trial!r}, expected an optuna.Trial")
        check_monitor(monitor, mode)
        self.trial, self.monitor, self.mode = trial, monitor, mode
        self._pruned: type[Exception] = optuna.TrialPruned
        directions = [direction.name for direction in trial.study.directions] if isinstance(trial, optuna.Trial) else []
        if len(directions) > 1:
            raise ValueError(f"trial is of a study with {len(directions)} objectives, expected one: none decides alone")
        self._directions = directions
        self._check_direction(sign_of(monitor, mode))

    def _check_direction(self, sign: float | None) -> None:
        """ValueError where the study goes the other way."""
        if sign is None or ("MINIMIZE" if sign > 0 else "MAXIMIZE") not in self._directions:
            return
        better, wrong = ("larger", "minimize") if sign > 0 else ("smaller", "maximize")
        raise ValueError(
            f"monitor is {self.monitor!r}, of which {better} is better, but the study has the direction {wrong}: "
            "change either, or say which way the monitor is better with mode="
        )

    def before_fit(self, run: Run) -> None:
        check_there(self.monitor, run)
        self._check_direction(sign_of(self.monitor, self.mode, run))

    def on_evaluated(self, run: Run) -> None:
        value = measured(self.monitor, run)
        self.trial.report(value, run.epoch - 1)
        if self.trial.should_prune():
            raise self._pruned(f"{self.monitor} {value:g} after epoch {run.epoch}")

    def on_divergence(self, run: Run, error: DivergenceError) -> bool:
        raise self._pruned(str(error)) from error
