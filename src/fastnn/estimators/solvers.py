"""scikit-learn's solvers in terms of fastnn's: Adam and SGD as optimizers, L-BFGS over the engine's gradient.

scikit-learn's gradients are sums over the O outputs where fastnn's losses are means over them (its softmax is neither:
one loss a row). So g = O g' for what a pointwise loss gives: the rate, the penalty and Adam's epsilon take that factor
in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.backends.contract import Backend
from fastnn.engine import Recipe, Step
from fastnn.nn.model import Sequential
from fastnn.optim.optimizers import SGD, Adam, Momentum, Nesterov, Optimizer, _correction

Array = np.ndarray
_ROWS = 4096  # of L-BFGS's gradient at once: bounds its memory, and that of sparse rows made dense


@dataclass(frozen=True)
class SklearnAdam(Adam):
    """Adam as scikit-learn has it: epsilon is added before the correction of v, w <- w - lr sqrt(1 - beta2^t) /
    (1 - beta1^t) m / (sqrt(v) + epsilon): the last form of section 2 of Kingma & Ba 2015. `outputs`: see above."""

    outputs: float = dataclasses.field(default=1.0, metadata={"low": 1.0})

    def coefficients(self, lr: Any, t: Any) -> tuple[Any, ...]:
        *others, epsilon = super().coefficients(lr, t)
        return (*others, epsilon / (self.outputs * np.sqrt(_correction(self.beta2, t))))


@dataclass(frozen=True)
class Settings:
    """What the solvers of an estimator are made of: its parameters, and `outputs` = O of a pointwise loss, else 1."""

    solver: str
    rate: float
    momentum: float
    nesterov: bool
    beta1: float
    beta2: float
    epsilon: float
    outputs: int

    def optimizer(self, l2: float) -> Optimizer:
        """The optimizer with scikit-learn's gradient penalty g + l2 w."""
        l2 = l2 / self.outputs
        if self.solver == "adam":
            return SklearnAdam(self.rate, self.beta1, self.beta2, self.epsilon, outputs=float(self.outputs), l2=l2)
        rate = self.rate * self.outputs
        if self.momentum == 0.0:
            return SGD(rate, l2=l2)
        return (Nesterov if self.nesterov else Momentum)(rate, beta=self.momentum, l2=l2)


class Objective:
    """The mean loss over all rows, penalty included, and its gradient: what L-BFGS minimises. Over the flat buffer of
    the model's parameters, whose padding stays 0."""

    def __init__(
        self,
        model: Sequential,
        recipe: Recipe,
        backend: Backend,
        rows: tuple[Any, Array, Array | None],
        scale: tuple[float, float],
        penalty: float,
    ) -> None:
        self.model, self.recipe, self.kernels, self.penalty = model, recipe, backend.kernels, penalty
        self.x, self.y, self.weight = rows
        self.loss_scale, self.gradient_scale = scale
        self.weights = np.zeros(len(model.state.parameters), dtype=bool)
        for tensor in model.plan.tensors:
            if tensor.name.endswith(".weight"):
                self.weights[tensor.slice] = True
        total = len(self.y) if self.weight is None else float(self.weight.sum(dtype=np.float64))
        self.parts = [(self._part(start), self._share(start, total)) for start in range(0, len(self.y), _ROWS)]

    def _part(self, start: int) -> slice:
        return slice(start, min(start + _ROWS, len(self.y)))

    def _share(self, start: int, total: float) -> float:
        part = self._part(start)
        own = part.stop - part.start if self.weight is None else float(self.weight[part].sum(dtype=np.float64))
        return own / total

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """Loss and gradient (P,) at these parameters, both float64."""
        state = self.model.state
        state.parameters[...] = parameters
        value, gradient = 0.0, np.zeros(len(parameters))
        for part, share in self.parts:
            x = self.x[part].toarray() if hasattr(self.x, "toarray") else self.x[part]
            step = Step(self.kernels, self.model.plan, state, self.recipe, self.y.ndim == 1, len(x))
            weight = None if self.weight is None else self.weight[part]
            step.gather(x, self.y[part], weight, np.arange(len(x)))
            value += share * step.loss_and_gradient(0, 0)
            gradient += share * step.work.gradient
        own = np.where(self.weights, parameters, 0.0)
        gradient = self.gradient_scale * gradient + self.penalty * own
        return self.loss_scale * value + 0.5 * self.penalty * float(own @ own), gradient


def minimize(objective: Objective, maxiter: int, maxfun: int, tol: float, verbose: bool) -> Any:
    """scipy's L-BFGS-B from the model's parameters on, which are then the result's."""
    import scipy.optimize
    from sklearn.utils.fixes import _get_additional_lbfgs_options_dict

    state = objective.model.state
    options = {"maxfun": maxfun, "maxiter": maxiter, "gtol": tol}
    options |= _get_additional_lbfgs_options_dict("iprint", 1 if verbose else -1)
    start = state.parameters.astype(np.float64)
    fun: Callable[[Array], tuple[float, Array]] = objective
    result = scipy.optimize.minimize(fun, start, method="L-BFGS-B", jac=True, options=options)
    state.parameters[...] = result.x
    return result
