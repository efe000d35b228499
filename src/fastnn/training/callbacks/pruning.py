"""OptunaPruning: tells an Optuna trial how its fit goes and ends what is not worth going on with. Searches nothing."""

from __future__ import annotations

from typing import Any

from fastnn.errors import DivergenceError, missing_extra
from fastnn.training.callbacks.monitors import check_name, check_validated, is_score, measured
from fastnn.training.run import Callback, Run

_LOSSES = ("loss", "mae", "mse", "rmse", "error")  # names of what is to be minimised


class OptunaPruning(Callback):
    """Reports `monitor` to an Optuna trial after each epoch, counted from 0, and raises `optuna.TrialPruned` where the
    study's pruner says so, or where the fit diverges.

    `study.optimize` counts such a trial as pruned. The model stays usable, as a completed step left it; other callbacks
    have seen the epoch, checkpoints are saved. monitor: of the history, as the study's objective is: what the objective
    returns at the end is to be the same quantity.

    ImportError naming the extra [optuna] where Optuna is missing. ValueError where the study has several objectives, or
    a direction that is not the monitor's: 'val_loss' in a study that maximises; where `monitor` is of validation that
    the fit has not, or no quantity of the history.

    An objective (a whole one, that runs: docs/model_selection.md):

        trainer = fastnn.Trainer(model, "mse", optim.Adam(trial.suggest_float("lr", 1e-5, 1e-1, log=True)), seed=0)
        history = trainer.fit(X, y, validation=0.2, callbacks=[fastnn.OptunaPruning(trial)])
        return history["val_loss"][-1]
    """

    order = 3  # the averages are out again, the checkpoint is saved

    def __init__(self, trial: Any, monitor: str = "val_loss") -> None:
        try:
            import optuna
        except ImportError as error:
            raise missing_extra("optuna", "pruning", "optuna") from error
        if not isinstance(trial, optuna.trial.BaseTrial):
            raise TypeError(f"trial is {trial!r}, expected an optuna.Trial")
        check_name(monitor)
        self.trial, self.monitor = trial, monitor
        self._pruned: type[Exception] = optuna.TrialPruned
        directions = [direction.name for direction in trial.study.directions] if isinstance(trial, optuna.Trial) else []
        if len(directions) > 1:
            raise ValueError(f"trial is of a study with {len(directions)} objectives, expected one: none decides alone")
        wrong = "MINIMIZE" if is_score(monitor) else "MAXIMIZE" if monitor.rpartition("_")[2] in _LOSSES else None
        if wrong is not None and wrong in directions:
            better = "larger" if wrong == "MINIMIZE" else "smaller"
            raise ValueError(
                f"monitor is {monitor!r}, of which {better} is better, but the study has the direction {wrong.lower()}"
            )

    def before_fit(self, run: Run) -> None:
        check_validated(self.monitor, run)

    def on_evaluated(self, run: Run) -> None:
        value = measured(self.monitor, run)
        self.trial.report(value, run.epoch - 1)
        if self.trial.should_prune():
            raise self._pruned(f"{self.monitor} {value:g} after epoch {run.epoch}")

    def on_divergence(self, run: Run, error: DivergenceError) -> bool:
        raise self._pruned(str(error)) from error
