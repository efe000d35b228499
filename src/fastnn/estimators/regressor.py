"""MLPRegressor: scikit-learn's, trained by fastnn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fastnn import _frames
from fastnn.estimators.base import BaseMLP
from fastnn.estimators.frozen import of_regressor
from fastnn.formulas.losses import LOSSES, Loss
from fastnn.metrics import link
from fastnn.serving import Frozen

Array = np.ndarray
SKLEARN_LOSSES = {"squared_error": "half_mse", "absolute_error": "mae"}
LOSS_NAMES = (*SKLEARN_LOSSES, *(name for name, loss in LOSSES.items() if loss.pointwise is not None))


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron for values: a drop-in for `sklearn.neural_network.MLPRegressor`.

    Everything of scikit-learn's parameters means what it means there, and has its default. Beyond them:

    activation: a name, an `Activation` or a layer such as `nn.PReLU()`, or a list of these, one a hidden layer; beside
    scikit-learn's four all of `nn.ACTIVATIONS`, "maxout", "prelu", "rrelu", "softmax". verbose: "progress" shows a bar.
    dropout: the rate after each hidden layer, or a list. batch_norm: normalise between a hidden layer's sum and its
    activation.
    loss: "squared_error", "poisson" (both scikit-learn's), "absolute_error", "huber" or any other loss of values of
    `nn.LOSSES`, or an object such as `nn.Huber(2.0)`.
    optimizer: one of `fastnn.optim`, or its name, which then has learning_rate_init, in place of the solver's; alpha
    stays, on top of its own l2. schedule: factors on the learning rate, an object or a name. clip_norm: bound on the
    gradient's norm. ema: decay of a running average of the parameters, which the fit ends with. callbacks: a list of
    `fastnn.Callback`.
    scoring: what early stopping judges by: any scorer of scikit-learn, its name or "loss"; None: R^2.
    restore_best: early stopping ends with the parameters of its best epoch.
    dtype: what is computed in, "float32" or "float64"; "auto" is float32 where X is and the solver is not lbfgs, else
    float64: "float32" is up to twice as fast for any X. threads: the most that are used; None: all there are.

    `fit` takes eval_X and eval_y, on which each epoch is measured: `validation_loss_curve_`, `validation_scores_`. With
    early_stopping they are what it judges by, instead of rows split off.

    y (n,) or (n, O) numbers. Sparse X is made dense a slice at a time. ValueError where a parameter is out of range or
    the data are not that.

    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> y = np.sin(X[:, 0]) + X[:, 1]
    >>> model = MLPRegressor(hidden_layer_sizes=(32,), max_iter=500, learning_rate_init=0.01, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.95), model.predict(X).shape
    (True, (300,))
    """

    _parameter_constraints = BaseMLP._parameter_constraints | {"loss": [StrOptions(set(LOSS_NAMES)), Loss]}
    _metric = "r2"
    _numeric = True

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Sequence[int] | int = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        optimizer: Any = None,
        schedule: Any = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        scoring: Any = None,
        restore_best: bool = True,
        callbacks: Any = None,
        dtype: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.ema = ema
        self.scoring = scoring
        self.restore_best = restore_best
        self.callbacks = callbacks
        self.dtype = dtype
        self.threads = threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        eval_X: Any = None,
        eval_y: Any = None,
        eval_sample_weight: Any = None,
    ) -> MLPRegressor:
        """Learn from X (n, I), an array, a data frame or a sparse matrix, and its values y; weights (n,) >= 0.

        eval_X, eval_y: rows to measure every epoch on. ConvergenceWarning where max_iter epochs were not enough.
        """
        self._fit(X, y, sample_weight, (eval_X, eval_y, eval_sample_weight), incremental=False)
        return self

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One epoch over these rows, going on from where the model is."""
        self._fit(X, y, sample_weight, (None, None, None), incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """The values of rows X (n, I): (n,), or (n, O) as y was; float32 for such an X, else float64."""
        answer = self._answer(self._logits(X))
        return answer.astype(np.float32) if getattr(X, "dtype", None) == np.float32 else answer

    # For BaseMLP -------------------------------------------------------------------------------------------

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 of the predictions, by weight: scikit-learn's, but that masked values are refused."""
        _frames.plain("y", y)
        _frames.plain("sample_weight", sample_weight)
        return float(super().score(X, y, sample_weight))

    def _learn_targets(self, y: Any, incremental: bool) -> None:
        self._outputs = 1 if y.ndim == 1 else y.shape[1]

    def _resolved_loss(self) -> tuple[Loss, int]:
        loss = self.loss if isinstance(self.loss, Loss) else LOSSES[SKLEARN_LOSSES.get(self.loss, self.loss)]
        if loss.pointwise is None:
            raise ValueError(f"loss is {loss}, expected a loss of values: {', '.join(LOSS_NAMES)}")
        return loss, self._outputs

    def _targets(self, y: Any) -> Array:
        values: Array = np.asarray(y).reshape(len(y), -1)
        if values.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {values.shape[1]} columns, but this model was fitted with {self.n_outputs_}")
        return values

    def _terms(self, y: Array, weight: Array | None) -> tuple[float, float]:
        if self._trainer.loss.name != "poisson":
            return 1.0, 0.0
        values = y.astype(np.float64)
        constant = np.average((xlogy(values, values) - values).sum(axis=1), weights=weight)
        return float(self.n_outputs_), float(constant)

    def _frozen(self) -> Frozen:
        return of_regressor(self._model, self._trainer.loss, self._names)

    def _answer(self, z: Array) -> Array:
        values = z.astype(np.float64)
        if self._trainer.loss.link is not None:
            values = link(self._trainer.loss, values)
        return values[:, 0] if values.shape[1] == 1 else values
