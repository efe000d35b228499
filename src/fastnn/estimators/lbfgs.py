"""L-BFGS: scipy's minimiser over a model's loss and gradient, which the backend computes. No stopping rules."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from fastnn.data import Data
from fastnn.engine import Objective
from fastnn.estimators.network import dense_layers, squares
from fastnn.optim.optimizers import Optimizer
from fastnn.training.batches import InMemory, step_rows
from fastnn.training.trainer import Trainer

Array = np.ndarray
ROWS = 1024  # a step's: with 100 values a row and layer, what a core's cache holds
_DENSE = 16 << 20  # bytes of sparse rows that a step makes dense; their gradients' buffer has as many


@dataclass(frozen=True)
class Gather(Optimizer):
    """v <- v + lr g, w <- w: adds up the gradients of a mean over rows whose parts are the steps' learning rates."""

    name = "momentum"

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        return (0.0, 1.0, lr)


class LossAndGradient:
    """F(w) = outputs * mean loss + alpha / 2 * sum of the squared weights / total weight, and its gradient.

    outputs: how many the loss is the mean of. w: the model's flat buffer of parameters, in float64.
    """

    def __init__(self, trainer: Trainer, data: Data, alpha: float, outputs: int) -> None:
        self.trainer, self.model, self.outputs, self.alpha = trainer, trainer.model, outputs, alpha
        most = max(1, _DENSE // (data.inputs * self.model.dtype.itemsize)) if data.sparse else ROWS
        self.rows = InMemory(data, None, min(ROWS, most), False, 0, trainer.backend.kernels)
        self.rows.begin(0)
        self.total = self.rows.count * self.rows.mean_weight
        self.objective = Objective(trainer.loss, Gather(1.0, l2=alpha / (self.total * outputs)), trainer.seed)
        self.weights = [layer.weight for layer in dense_layers(self.model)]

    def __call__(self, w: Array) -> tuple[float, Array]:
        state = self.model.state
        state.parameters[...] = w
        state.forget_optimizer()
        loss = self._walk()
        gradient = state.slots[0].astype(np.float64) * self.outputs
        return self.outputs * loss + self.penalty(), gradient

    def penalty(self) -> float:
        """Its second term."""
        return 0.5 * self.alpha * squares(self.weights) / self.total

    def _walk(self) -> float:
        """Once through the rows: the gradient into the slot, the mean loss returned."""
        model, backend, done, loss = self.model, self.trainer.backend, 0, 0.0
        while (batches := self.rows.take(done, done + self.rows.most)) is not None:
            shares = step_rows(batches) / self.rows.count
            losses = backend.train_steps(model.plan, model.state, self.objective, batches, shares)
            loss += float(losses @ shares)
            done += len(shares)
        return loss


def fit(objective: LossAndGradient, *, max_iter: int, max_fun: int, tol: float, verbose: bool) -> OptimizeResult:
    """Minimise it, and leave the model at the minimum."""
    state = objective.model.state

    iterations = itertools.count(1)

    def show(intermediate_result: OptimizeResult) -> None:
        print(f"Iteration {next(iterations)}, loss = {intermediate_result.fun:.8f}")

    result = minimize(
        objective,
        state.parameters.astype(np.float64),
        method="L-BFGS-B",
        jac=True,
        options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
        callback=show if verbose else None,
    )
    state.parameters[...] = result.x
    state.forget_optimizer()
    return result
