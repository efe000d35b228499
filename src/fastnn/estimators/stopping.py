"""scikit-learn's rules of when to stop and how to lower the rate, as a callback; what it records of every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.training.callbacks import Callback
from fastnn.training.run import Run

Array = np.ndarray
_LOWEST_RATE = 1e-6  # "adaptive" ends below it
_ADAPTIVE = 5.0  # what it divides the rate by


class Rules(Callback):
    """Fills `loss_curve_` and its like of an estimator and stops its fit as scikit-learn does.

    `score`: None, or what gives the validation score after an epoch. `l2`: alpha / (rows of a batch), of the penalty
    that scikit-learn counts into the loss; `scale`: what makes fastnn's loss scikit-learn's; `offset`: likewise, added.
    """

    def __init__(self, estimator: Any, rows: int, *, score: Any, l2: float, scale: float, offset: float) -> None:
        self.estimator, self.rows, self.score = estimator, rows, score
        self.l2, self.scale, self.offset = l2, scale, offset
        self._squares = 0.0  # of the weights, when the epoch begins
        self._kept: Array | None = None

    def on_fit_begin(self, run: Run) -> None:
        self.weights = self.estimator.coefs_
        self._squares = self._sum_of_squares()
        run.lr_scale = self.estimator._rate_scale

    def _sum_of_squares(self) -> float:
        return float(sum(np.vdot(weight, weight) for weight in self.weights)) if self.l2 else 0.0

    def on_epoch_end(self, run: Run) -> None:
        estimator = self.estimator
        before, self._squares = self._squares, self._sum_of_squares()
        # scikit-learn adds the penalty of every step, taken before it: here as if it changed evenly over the steps.
        steps = run.steps or 1
        penalty = before + (self._squares - before) * (steps - 1) / (2 * steps)
        estimator.n_iter_ += 1
        estimator.t_ += self.rows
        estimator.loss_ = self.scale * run.logs["loss"] + self.offset + 0.5 * self.l2 * penalty
        estimator.loss_curve_.append(estimator.loss_)
        if "val_loss" in run.logs:
            estimator.validation_loss_curve_.append(self.scale * run.logs["val_loss"])
        self._say(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        self._count(run)
        self._lower_by_time(run)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._stop_or_lower(run)

    def _count(self, run: Run) -> None:
        """Epochs without an improvement by tol, of the validation score or of the loss."""
        estimator = self.estimator
        if self.score is not None:
            last, best = self.score(run), estimator.best_validation_score_
            estimator.validation_scores_.append(last)
            self._say(f"Validation score: {last:f}")
            worse = last < best + estimator.tol
            if last > best:
                estimator.best_validation_score_ = last
                self._kept = np.concatenate([run.model.state.parameters, run.model.state.statistics])
        else:
            last, best = estimator.loss_, estimator.best_loss_
            worse = last > best - estimator.tol
            estimator.best_loss_ = min(last, best)
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0

    def _lower_by_time(self, run: Run) -> None:
        estimator = self.estimator
        if estimator._lowers("invscaling"):
            self._rate(run, 1.0 / (estimator.t_ + 1) ** estimator.power_t)

    def _stop_or_lower(self, run: Run) -> None:
        estimator = self.estimator
        what = "Training loss" if self.score is None else "Validation score"
        message = f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive"
        message += " epochs."
        rate = estimator.learning_rate_init * run.lr_scale
        if not estimator._lowers("adaptive"):
            self._say(f"{message} Stopping.")
            run.stop(message)
        elif rate <= _LOWEST_RATE:
            self._say(f"{message} Learning rate too small. Stopping.")
            run.stop(message)
        else:
            self._say(f"{message} Setting learning rate to {rate / _ADAPTIVE:f}")
            self._rate(run, run.lr_scale / _ADAPTIVE)
            estimator._no_improvement_count = 0

    def _say(self, text: str) -> None:
        if self.estimator.verbose and self.estimator.verbose != "bar":
            print(text)

    def _rate(self, run: Run, scale: float) -> None:
        """Another rate from here on. scikit-learn's velocity has the rate in it, ours has not: it takes the change
        in."""
        for slot in run.model.state.slots:
            slot *= run.lr_scale / scale
        run.lr_scale = self.estimator._rate_scale = scale

    def on_fit_end(self, run: Run) -> None:
        """Also after Ctrl-C, which scikit-learn ends a fit with: the best weights."""
        if self._kept is not None:
            state = run.model.state
            state.parameters[...] = self._kept[: len(state.parameters)]
            state.statistics[...] = self._kept[len(state.parameters) :]
