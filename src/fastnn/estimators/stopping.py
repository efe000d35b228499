"""When an estimator's fit ends, and the loss it reports, as scikit-learn has it: a Callback. Trains nothing itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import DivergenceError
from fastnn.estimators.network import change_rate, dense_layers, squares
from fastnn.plan import Snapshot
from fastnn.training.run import Callback, Run

Array = np.ndarray


class ReportedLoss:
    """From the Trainer's loss to scikit-learn's: report * loss + constant + alpha / 2 * sum of the squared weights / n.

    report: outputs whose sum scikit-learn reports where the Trainer takes their mean. constant: what it adds to
    poisson's. batch: rows a step; rows: in an epoch, whose weights are mean_weight on average.
    """

    def __init__(self, report: float, constant: float, alpha: float, rows: int, batch: int, mean_weight: float) -> None:
        self.report, self.constant, self.alpha = report, constant, alpha
        self.rows, self.mean_weight = rows, mean_weight
        self.steps = -(-rows // batch)

    def loss(self, run: Run, before: float, after: float) -> float:
        """Of the epoch that just ran, the squared weights before its first and after its last step.

        Those between are taken to lie on a straight line: exact for one step, and scikit-learn adds them up before
        each step's update.
        """
        steps = self.steps
        mean_squares = before + (steps - 1) / (2 * steps) * (after - before)
        penalty = 0.5 * self.alpha * mean_squares * steps / (self.rows * self.mean_weight)
        return self.report * run.logs["loss"] + self.constant + penalty


class Stopping(Callback):
    """scikit-learn's bookkeeping after each epoch: losses and scores noted, the best kept, the rate lowered, the end.

    owner: the estimator, whose fitted attributes these are. score: what the epoch is judged by, larger being better;
    None: by the training loss. best: where the parameters of the best epoch are kept.
    """

    def __init__(
        self,
        owner: Any,
        reported: ReportedLoss,
        score: Callable[[Run], float] | None,
        best: Snapshot | None,
        *,
        stop: bool,
    ) -> None:
        self.owner, self.reported, self.score, self.best = owner, reported, score, best
        self.stops = stop
        self.stopped: str | None = None
        self._squares = 0.0

    def on_fit_begin(self, run: Run) -> None:
        self.owner._begun = True
        self._weights = [layer.weight for layer in dense_layers(run.model)] if self.reported.alpha else []
        self._squares = squares(self._weights)
        run.lr_scale = self.owner._rate / self.owner.learning_rate_init

    def on_evaluate(self, run: Run) -> None:  # before EMA puts its averages in
        owner, before = self.owner, self._squares
        self._squares = squares(self._weights)
        owner.loss_ = self.reported.loss(run, before, self._squares)
        owner.n_iter_ += 1
        owner.t_ += self.reported.rows
        owner.loss_curve_.append(owner.loss_)

    def on_epoch_end(self, run: Run) -> None:
        owner = self.owner
        if owner._speaks:
            print(f"Iteration {owner.n_iter_}, loss = {owner.loss_:.8f}")
        if "val_loss" in run.logs:
            owner.validation_loss_curve_.append(self.reported.report * run.logs["val_loss"] + self.reported.constant)
        if self.score is not None:
            self._judge_score(self.score(run), run)
        if self.score is None or not self.stops:
            self._judge_loss()
        self._lower_rate(run)
        if owner._no_improvement_count > owner.n_iter_no_change:
            self._no_longer_improving(run)

    def on_divergence(self, run: Run, error: DivergenceError) -> bool:
        """No error of early stopping, which ends with its best epoch's weights: as scikit-learn's, whose fit runs on to
        max_iter, the epochs that are left measure NaN. They are not run here, for nothing can become of them."""
        if not self.stops or self.score is None:
            return False
        owner = self.owner
        left = int(owner.max_iter) - owner.n_iter_
        owner.loss_ = math.nan
        owner.n_iter_ += left
        owner.t_ += left * self.reported.rows
        for curve in (owner.loss_curve_, owner.validation_scores_, owner.validation_loss_curve_):
            curve += [math.nan] * left
        return True

    def on_fit_end(self, run: Run) -> None:
        self.stopped = run.stopped  # by this or another callback

    def _judge_score(self, score: float, run: Run) -> None:
        owner = self.owner
        owner.validation_scores_.append(score)
        if owner._speaks:
            print(f"Validation score: {score:f}")
        if self.stops:
            worse = not score >= owner.best_validation_score_ + owner.tol  # NaN is no improvement
            owner._no_improvement_count = owner._no_improvement_count + 1 if worse else 0
        if score > owner.best_validation_score_:
            owner.best_validation_score_ = score
            if self.best is not None:
                self.best.take(run.model.state)

    def _judge_loss(self) -> None:
        owner = self.owner
        worse = owner.loss_ > owner.best_loss_ - owner.tol
        owner._no_improvement_count = owner._no_improvement_count + 1 if worse else 0
        owner.best_loss_ = min(owner.best_loss_, owner.loss_)

    def _lower_rate(self, run: Run) -> None:
        owner = self.owner
        if self._sgd and owner.learning_rate == "invscaling":
            self._set_rate(run, float(owner.learning_rate_init) / (owner.t_ + 1) ** owner.power_t)

    @property
    def _sgd(self) -> bool:
        return self.owner.solver == "sgd" and self.owner.optimizer is None

    def _set_rate(self, run: Run, rate: float) -> None:
        owner = self.owner
        if rate != owner._rate:
            change_rate(run.objective.optimizer, run.model, owner._rate, rate)
            run.lr_scale *= rate / owner._rate
            owner._rate = rate

    def _no_longer_improving(self, run: Run) -> None:
        """Stop, or go on with a fifth of the learning rate."""
        owner = self.owner
        what = "Validation score" if self.score is not None and self.stops else "Training loss"
        message = (
            f"{what} did not improve more than tol={owner.tol:f} for {owner.n_iter_no_change:d} consecutive epochs."
        )
        if not (self._sgd and owner.learning_rate == "adaptive"):
            self._stop(run, message + " Stopping.")
        elif owner._rate <= 1e-6:
            self._stop(run, message + " Learning rate too small. Stopping.")
        else:
            self._set_rate(run, owner._rate / 5.0)
            owner._no_improvement_count = 0
            if owner._speaks:
                print(f"{message} Setting learning rate to {owner._rate:f}")

    def _stop(self, run: Run, message: str) -> None:
        if self.owner._speaks:
            print(message)
        run.stop(message)
