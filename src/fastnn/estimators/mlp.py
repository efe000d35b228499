"""MLPClassifier and MLPRegressor: scikit-learn's parameters and rules around a Sequential and a Trainer.

What an estimator does itself is to check, to encode targets and to record; the loop is the Trainer's, with
`stopping.Rules` as a callback, and the solvers are in solvers.py.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
)
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastnn import backends, nn
from fastnn.errors import DivergenceError
from fastnn.estimators.solvers import Objective, Settings, minimize
from fastnn.estimators.stopping import Rules
from fastnn.nn.losses import LOSSES, BinaryCrossEntropy, CrossEntropy, Loss
from fastnn.nn.model import Sequential
from fastnn.optim import optimizers
from fastnn.optim.optimizers import Optimizer
from fastnn.optim.schedules import Schedule
from fastnn.training.callbacks import EMA, Callback, ProgressBar
from fastnn.training.trainer import Trainer

Array = np.ndarray
_NAMES = {"logistic": "sigmoid"}  # scikit-learn's names of activations that have another one here
_LOSSES = {"squared_error": "half_mse", "absolute_error": "mae"}  # and of losses
_POINTWISE = [name for name, loss in LOSSES.items() if loss.pointwise is not None]
_FEW = 1000  # rows below which dtype="auto" is float64: a fit of so few is quick, and its rounding is scikit-learn's
_USER = 5  # frames from _by_batches to who called fit: _fit, fit, scikit-learn's wrapper
_NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def _interval(low: float, high: float | None, closed: str, kind: type = Real) -> Any:
    return Interval(kind, low, high, closed=closed)


_COUNT = _interval(1, None, "left", Integral)
_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", _COUNT],
    "activation": [str, "array-like"],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [_interval(0, None, "left")],
    "batch_size": [StrOptions({"auto"}), _COUNT],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [_interval(0, None, "neither")],
    "power_t": [_interval(0, None, "left")],
    "max_iter": [_COUNT],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [_interval(0, None, "left")],
    "verbose": ["verbose", StrOptions({"bar"})],
    "warm_start": ["boolean"],
    "momentum": [_interval(0, 1, "left")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [_interval(0, 1, "left")],
    "beta_1": [_interval(0, 1, "left")],
    "beta_2": [_interval(0, 1, "left")],
    "epsilon": [_interval(0, None, "neither")],
    "n_iter_no_change": [_COUNT, Options(Real, {np.inf})],
    "max_fun": [_COUNT],
    "dropout": [_interval(0, 1, "left"), "array-like"],
    "batch_norm": ["boolean"],
    "scoring": [str, callable, None],
    "optimizer": [str, Optimizer, None],
    "schedule": [str, Schedule, None],
    "clip_norm": [_interval(0, None, "neither"), None],
    "ema": [_interval(0, 1, "left"), None],
    "callbacks": ["array-like", None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "threads": [_COUNT, None],
    "backend": [StrOptions({"auto", *backends.BACKENDS})],
}


def _stochastic(estimator: Any) -> bool:
    """`partial_fit` is there for the solvers that go by batches."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
    return True


@dataclasses.dataclass
class _Rows:
    """Rows as the Trainer takes them: X dense or sparse, y encoded, weight (n,) or None."""

    x: Any
    y: Array
    weight: Array | None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def arguments(self) -> tuple[Any, Array, Array | None]:
        return self.x, self.y, self.weight


class _MLP(BaseEstimator):  # type: ignore[misc]
    """What the two estimators share."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = _CONSTRAINTS

    # The network ------------------------------------------------------------------------------------------

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _each(self, name: str, sizes: list[int]) -> list[Any]:
        """The parameter's value for every hidden layer: one for all, or one each."""
        value = getattr(self, name)
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            return [value] * len(sizes)
        if len(value) != len(sizes):
            raise ValueError(f"{name} has {len(value)} entries, expected {len(sizes)}: one for each hidden layer")
        return list(value)

    def _layers(self, outputs: int) -> list[nn.Layer]:
        sizes = self._hidden()
        layers: list[nn.Layer] = []
        for size, name, rate in zip(sizes, self._each("activation", sizes), self._each("dropout", sizes), strict=True):
            activation = _NAMES.get(name, name) if isinstance(name, str) else name
            if self.batch_norm:
                layers += [nn.Dense(size), nn.BatchNorm(), nn.Activation(activation)]
            else:
                layers.append(nn.Dense(size, activation))
            if rate:
                layers.append(nn.Dropout(rate))
        return [*layers, nn.Dense(outputs)]

    def _float_dtype(self, rows: int, incremental: bool) -> str:
        """What dtype="auto" stands for."""
        if self.dtype != "auto":
            return str(self.dtype)
        exact = self.solver == "lbfgs" or (rows < _FEW and not incremental)
        return "float64" if exact else "float32"

    def _build(self, inputs: int, outputs: int, dtype: str) -> None:
        """A new network, its weights drawn as scikit-learn draws them: the same numbers for the same random_state."""
        self._model = Sequential(self._layers(outputs), dtype=dtype).build(inputs, seed=0)
        sizes = [inputs, *self._hidden(), outputs]
        factor = 2.0 if self.activation == "logistic" else 6.0  # Glorot & Bengio 2010, equation 16
        for layer, fan_in, fan_out in zip(self._dense(), sizes[:-1], sizes[1:], strict=True):
            bound = np.sqrt(factor / (fan_in + fan_out))
            layer.weight[...] = self._random_state.uniform(-bound, bound, (fan_in, fan_out))
            layer.bias[...] = self._random_state.uniform(-bound, bound, fan_out)
        self._model.loss = self._loss()
        self._trainer: Trainer | None = None
        self._rate_scale = 1.0
        self.n_iter_, self.t_, self.n_outputs_, self.n_layers_ = 0, 0, outputs, len(sizes)
        self.out_activation_ = self._out_activation()
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.best_loss_ = None if self.early_stopping else np.inf

    def _dense(self) -> list[nn.Dense]:
        return [layer for layer in self._model.layers if isinstance(layer, nn.Dense)]

    def _fitted(self, name: str) -> Sequential:
        if "_model" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        model: Sequential = self._model
        return model

    @property
    def coefs_(self) -> list[Array]:
        """Weights of each layer (I, O): live views, writing into them changes the model."""
        self._fitted("coefs_")
        return [layer.weight for layer in self._dense()]

    @property
    def intercepts_(self) -> list[Array]:
        """Biases of each layer (O,): live views."""
        self._fitted("intercepts_")
        return [layer.bias for layer in self._dense()]

    @property
    def model_(self) -> Sequential:
        """The network itself."""
        return self._fitted("model_")

    def __sklearn_is_fitted__(self) -> bool:
        return "_model" in vars(self) or "estimators_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # Fitting ----------------------------------------------------------------------------------------------

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, *, incremental: bool = False, eval_set: tuple[Any, Any] = (None, None)
    ) -> Any:
        self._hidden()
        first = not self.__sklearn_is_fitted__() or not (self.warm_start or incremental)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=not is_classifier(self),
            dtype=(np.float64, np.float32),
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weight = self._weights(X, y, sample_weight)
        encoded = self._encode(y, first, incremental)
        self._random_state = check_random_state(self.random_state)
        outputs = self._outputs(encoded)
        if first:
            self.__dict__.pop("estimators_", None)
            self._build(X.shape[1], outputs, self._float_dtype(X.shape[0], incremental))
        rows = _Rows(X, encoded, weight)
        if self.solver == "lbfgs":
            self._by_lbfgs(rows)
        else:
            self._by_batches(rows, y, eval_set, incremental)
        if not self._model.state.finite():
            raise ValueError(_NON_FINITE)
        return self

    def _weights(self, X: Any, y: Array, sample_weight: Any) -> Any:
        """sample_weight times class_weight (n,) float64, or None where there is neither."""
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if getattr(self, "class_weight", None) is None:
            return sample_weight
        own: Array = compute_sample_weight(self.class_weight, y)
        return own if sample_weight is None else own * sample_weight

    @property
    def _outputs_of_loss(self) -> int:
        """O where the loss is a mean over the outputs, see solvers.py."""
        return self.n_outputs_ if self._loss().name in _POINTWISE else 1

    def _loss_scale(self) -> float:
        """What fastnn's loss is multiplied with to be scikit-learn's: the cross-entropy of several labels is a sum."""
        return float(self.n_outputs_) if self._loss().name == "binary_cross_entropy" else 1.0

    def _lowers(self, how: str) -> bool:
        return self.solver == "sgd" and self.optimizer is None and self.learning_rate == how

    def _penalty(self, rows: _Rows, batch: int) -> float:
        """alpha over the sum of a batch's weights."""
        mean = 1.0 if rows.weight is None else float(rows.weight.mean())
        return float(self.alpha) / (batch * mean)

    def _made_optimizer(self, l2: float) -> Optimizer:
        if self.optimizer is not None:
            own = optimizers.get(self.optimizer)
            return own if own.l2 else dataclasses.replace(own, l2=l2 / self._outputs_of_loss)
        settings = Settings(
            self.solver,
            self.learning_rate_init,
            self.momentum,
            self.nesterovs_momentum,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self._outputs_of_loss,
        )
        return settings.optimizer(l2)

    def _batch(self, rows: int) -> int:
        if isinstance(self.batch_size, str):  # "auto"
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=_USER + 1,
            )
        return int(min(self.batch_size, rows))

    def _by_batches(self, rows: _Rows, y: Array, eval_set: tuple[Any, Any], incremental: bool) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        validation, truth = self._given(eval_set)
        if self.early_stopping and validation is None:
            rows, validation, truth = self._split(rows, y)
        batch = self._batch(len(rows))
        l2 = self._penalty(rows, batch)
        trainer = self._prepared(l2, incremental, validation is not None)
        rules = Rules(
            self,
            len(rows),
            score=self._score_of(validation, truth) if self.early_stopping else None,
            l2=l2,
            scale=self._loss_scale(),
            offset=self._loss_offset(rows),
        )
        self.n_iter_ = 0
        epochs = 1 if incremental else self.max_iter
        try:
            trainer.fit(
                rows.x,
                rows.y,
                epochs=epochs,
                batch_size=batch,
                validation=None if validation is None else validation.arguments(),
                sample_weight=rows.weight,
                shuffle=bool(self.shuffle),
                callbacks=[rules, *self._extra_callbacks()],
                verbose=False,
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=_USER)
        except DivergenceError as error:
            raise ValueError(f"{_NON_FINITE} {error}") from error
        if self.n_iter_ == self.max_iter and not incremental and self._no_improvement_count <= self.n_iter_no_change:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                f"converged yet.",
                ConvergenceWarning,
                stacklevel=_USER,
            )

    def _prepared(self, l2: float, incremental: bool, validated: bool) -> Trainer:
        """The trainer of this fit: a new one, whose optimizer begins anew, or with `partial_fit` the one there is."""
        optimizer = self._made_optimizer(l2)
        if incremental and self._trainer is not None:
            self._trainer.optimizer = optimizer
            return self._trainer
        state = self._model.state
        state.slots, state.rule, state.step = (), None, 0
        self._rate_scale = 1.0
        self._trainer = Trainer(
            self._model,
            self._loss(),
            optimizer,
            schedule=self.schedule,
            metrics=[self._metric] if self.early_stopping and self.scoring is None else [],
            seed=int(self._random_state.randint(np.iinfo(np.int32).max)),
            backend=self.backend,
            clip_norm=self.clip_norm,
            threads=self.threads,
        )
        return self._trainer

    def _extra_callbacks(self) -> list[Callback]:
        made = list(self.callbacks) if self.callbacks is not None else []
        if self.ema is not None:
            made.append(EMA(self.ema))
        if self.verbose == "bar":
            made.append(ProgressBar())
        return made

    def _split(self, rows: _Rows, y: Array) -> tuple[_Rows, _Rows, Array]:
        """scikit-learn's split for early stopping: the same rows for the same random_state."""
        stratify = rows.y if is_classifier(self) and self.n_outputs_ == 1 else None
        learn, held = train_test_split(
            np.arange(len(rows)),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )

        def part(chosen: Array) -> _Rows:
            return _Rows(rows.x[chosen], rows.y[chosen], None if rows.weight is None else rows.weight[chosen])

        return part(learn), part(held), y[held]

    def _given(self, eval_set: tuple[Any, Any]) -> tuple[_Rows | None, Array | None]:
        """The validation set that `fit` got, checked and encoded."""
        X, y = eval_set
        if X is None and y is None:
            return None, None
        if X is None or y is None:
            raise ValueError("eval_X and eval_y belong together, expected both or none")
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=(np.float64, np.float32), reset=False
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return _Rows(X, self._transform(y), None), y

    def _score_of(self, validation: _Rows | None, truth: Array | None) -> Any:
        """What gives the validation score after an epoch: the Trainer's metric, or the scorer."""
        assert validation is not None
        if self.scoring is None:
            return lambda run: run.logs[f"val_{self._metric}"]
        scorer = check_scoring(self, self.scoring)
        seen = copy.copy(self)  # shares the model; without names of columns, which arrays do not have
        seen.__dict__.pop("feature_names_in_", None)
        weight = {} if validation.weight is None else {"sample_weight": validation.weight}
        return lambda run: float(scorer(seen, validation.x, truth, **weight))

    def _by_lbfgs(self, rows: _Rows) -> None:
        if self.batch_norm or np.any(self.dropout):
            raise ValueError("dropout and batch_norm need batches, expected solver='adam' or 'sgd' with them")
        backend = backends.resolve(self.backend)
        model = self._model
        weight = None if rows.weight is None else rows.weight.astype(model.dtype)
        y = rows.y if rows.y.ndim == 1 else rows.y.astype(model.dtype)
        x = model.features(rows.x)
        recipe = Trainer(model, self._loss(), backend=self.backend).recipe
        scale = self._loss_scale(), float(self._outputs_of_loss)
        objective = Objective(model, recipe, backend, (x, y, weight), scale, self._penalty(rows, len(rows)))
        result = minimize(objective, self.max_iter, self.max_fun, self.tol, bool(self.verbose))
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = float(result.fun) + self._loss_offset(rows)

    def _loss_offset(self, rows: _Rows) -> float:
        """What scikit-learn's loss has and fastnn's has not: of poisson, the part that depends on y alone."""
        if self._loss().name != "poisson":
            return 0.0
        y = rows.y.astype(np.float64)
        constant = np.where(y > 0, y * np.log(np.where(y > 0, y, 1.0)), 0.0) - y
        return float(np.average(constant.mean(axis=1), weights=rows.weight))

    def _raw(self, X: Any) -> Array:
        """The last layer's output (n, O) before the loss's link, in float64."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        backend = backends.resolve(self.backend)
        if self.threads is None:
            return self._model._logits(X, backend).astype(np.float64)
        with backend.limit_threads(self.threads):
            return self._model._logits(X, backend).astype(np.float64)


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron for classes: scikit-learn's `MLPClassifier` with its parameters, attributes and rules.

    Minimises -log p(y) + alpha / (2 n) |W|^2 over n rows: softmax for several classes, sigmoid for two, one sigmoid a
    label for several labels. X (n, I) dense or sparse; y (n,) of any labels, or (n, L) of 0 and 1, or (n, k) of several
    classes each (k networks then: `estimators_`). The parameters up to max_fun are scikit-learn's
    (sklearn.neural_network.MLPClassifier); `docs/estimators.md` says where the two differ. Beyond them:

    activation, dropout: also a list, one for each hidden layer; activations of `fastnn.nn.ACTIVATIONS`. batch_norm:
    before each activation. loss: "log_loss" or "hinge". label_smoothing in [0, 1). class_weight: "balanced" or a dict.
    scoring: any of scikit-learn's, for early stopping. optimizer, schedule: of `fastnn.optim`, instead of the
    solver's. clip_norm: bound on the gradient. ema: decay of a running average of the weights. callbacks: of
    `fastnn.Callback`. dtype: "auto" is float32, but float64 for lbfgs and in a fit of under 1000 rows. threads: at
    most. verbose="bar": a progress bar. `fit(eval_X=, eval_y=)`: validation rows of one's own.

    ValueError and TypeError as scikit-learn raises them; ImportError where scikit-learn is missing.

    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> classifier = MLPClassifier((32,), learning_rate_init=0.01, random_state=0, max_iter=1000).fit(X, y)
    >>> classifier.score(X, y) > 0.95, classifier.predict_proba(X).shape
    (True, (300, 2))
    """

    _metric = "accuracy"
    classes_: Any  # (classes,), of several columns a list of such
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = _CONSTRAINTS | {
        "loss": [StrOptions({"log_loss", "hinge"})],
        "label_smoothing": [_interval(0, 1, "left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
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
        loss: str = "log_loss",
        label_smoothing: float = 0.0,
        class_weight: dict[Any, float] | str | None = None,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        scoring: Any = None,
        optimizer: str | Optimizer | None = None,
        schedule: str | Schedule | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        callbacks: Sequence[Callback] | None = None,
        dtype: str = "auto",
        threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        for name, value in list(locals().items()):
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, eval_X: Any = None, eval_y: Any = None
    ) -> MLPClassifier:
        """Train on X (n, I) and y, rows weighted by sample_weight (n,); eval_X, eval_y: own validation rows."""
        shape: tuple[int, ...] = np.shape(y) if isinstance(y, (list, tuple)) else getattr(y, "shape", ())
        if len(shape) == 2 and shape[1] > 1 and type_of_target(y, input_name="y") == "multiclass-multioutput":
            return self._fit_each(X, np.asarray(y), sample_weight, (eval_X, eval_y))
        return self._fit(X, y, sample_weight, eval_set=(eval_X, eval_y))

    @available_if(_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One pass over X and y. `classes`: all there will be, with the first call (not for several labels)."""
        several = type_of_target(y, input_name="y").startswith("multilabel")
        if classes is None and several and not hasattr(self, "classes_"):
            classes = np.arange(np.shape(y)[1])
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def _fit_each(self, X: Any, y: Array, sample_weight: Any, eval_set: tuple[Any, Any]) -> MLPClassifier:
        """A network for each column of y."""
        eval_X, eval_y = eval_set
        self.__dict__.pop("_model", None)
        validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32))
        self.estimators_ = []
        for column in range(y.shape[1]):
            held = {} if eval_X is None else {"eval_X": eval_X, "eval_y": np.asarray(eval_y)[:, column]}
            self.estimators_.append(clone(self).fit(X, y[:, column], sample_weight, **held))
        self.classes_ = [estimator.classes_ for estimator in self.estimators_]
        self.n_outputs_ = y.shape[1]
        return self

    # Targets: classes as numbers ------------------------------------------------------------------------------

    def _loss(self) -> Loss:
        if self.loss == "hinge":
            return LOSSES["hinge"]
        make = CrossEntropy if self._kind == "multiclass" else BinaryCrossEntropy
        return make(self.label_smoothing)

    def _out_activation(self) -> str:
        if self.loss == "hinge":
            return "identity"
        return "softmax" if self._kind == "multiclass" else "logistic"

    def _encode(self, y: Array, first: bool, incremental: bool) -> Array:
        kind = type_of_target(y, input_name="y")  # half a millisecond: asked once
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            check_classification_targets(y)  # raises
        several = kind == "multilabel-indicator"
        found = np.arange(y.shape[1]) if several else np.unique(y)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self.classes_ = found
        if first:
            if several and self.loss == "hinge":
                raise ValueError("loss is 'hinge', expected 'log_loss' for several labels")
            two = len(self.classes_) <= 2 and self.loss != "hinge"
            self._kind = "multilabel" if several else "binary" if two else "multiclass"
        elif several != (self._kind == "multilabel"):
            raise ValueError(f"y is {kind}, but this classifier was fitted with {self._kind} targets")
        if not several and found is not self.classes_:
            self._same_classes(found)
        return self._transform(y)

    def _same_classes(self, classes: Array) -> None:
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _transform(self, y: Array) -> Array:
        """Of several classes the number (n,); of two 0 or 1 (n, 1); labels as they are (n, L)."""
        if self._kind == "multilabel":
            return np.asarray(y.toarray() if hasattr(y, "toarray") else y, dtype=np.float32)
        found, places = np.unique(y, return_inverse=True)
        unknown = np.setdiff1d(found, self.classes_, assume_unique=True)
        if len(unknown):
            raise ValueError(f"y contains previously unseen labels: {unknown}")
        numbers = np.searchsorted(self.classes_, found)[places.reshape(-1)]
        return numbers if self._kind == "multiclass" else numbers.astype(np.float32).reshape(-1, 1)

    def _outputs(self, encoded: Array) -> int:
        return max(len(self.classes_), 2) if encoded.ndim == 1 else encoded.shape[1]

    # Predicting -----------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """The class of every row (n,), or the labels (n, L) as 0 and 1."""
        check_is_fitted(self)
        if hasattr(self, "estimators_"):
            return np.column_stack([estimator.predict(X) for estimator in self.estimators_])
        z = self._raw(X)
        if self._kind == "multilabel":
            return (z > 0).astype(np.int64)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(z))
        return self.classes_[z.argmax(axis=1) if self._kind == "multiclass" else (z[:, 0] > 0).astype(np.intp)]

    @available_if(lambda estimator: estimator.loss == "log_loss")
    def predict_proba(self, X: Any) -> Any:
        """Probabilities (n, classes), or of every label (n, L); of several columns a list. In float64 from the
        network's output on. Only for the loss "log_loss"."""
        check_is_fitted(self)
        if hasattr(self, "estimators_"):
            return [estimator.predict_proba(X) for estimator in self.estimators_]
        z = self._raw(X)
        if self._kind == "multiclass":
            p = np.exp(z - z.max(axis=1, keepdims=True))
            return p / p.sum(axis=1, keepdims=True)
        if len(self.classes_) == 1 and self._kind == "binary":
            return np.ones((len(z), 1))
        p = 1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))
        return p if self._kind == "multilabel" else np.concatenate([1.0 - p, p], axis=1)

    @available_if(lambda estimator: estimator.loss == "log_loss")
    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of `predict_proba`."""
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return [np.log(one) for one in p] if isinstance(p, list) else np.log(p)

    @available_if(lambda estimator: estimator.loss == "hinge")
    def decision_function(self, X: Any) -> Any:
        """The scores (n, classes) of the loss "hinge"; of two classes their difference (n,)."""
        z = self._raw(X)
        return z[:, 1] - z[:, 0] if len(self.classes_) == 2 else z

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """Multi-layer perceptron for numbers: scikit-learn's `MLPRegressor` with its parameters, attributes and rules.

    Minimises the loss + alpha / (2 n) |W|^2 over n rows. X (n, I) dense or sparse; y (n,) or (n, O). The parameters up
    to max_fun are scikit-learn's (sklearn.neural_network.MLPRegressor), and so are "squared_error" ((y - p)^2 / 2,
    mean over the outputs) and "poisson" of `loss`, which also takes "absolute_error", "huber", the names of
    `fastnn.nn.LOSSES` and losses such as `nn.Huber(2.0)`. The parameters beyond are those of `MLPClassifier`.

    ValueError and TypeError as scikit-learn raises them; ImportError where scikit-learn is missing.

    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(400, 2))
    >>> y = np.sin(3 * X[:, 0]) + X[:, 1] ** 2
    >>> regressor = MLPRegressor(hidden_layer_sizes=(32, 32), learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> regressor.score(X, y) > 0.98, regressor.coefs_[0].shape
    (True, (2, 32))
    """

    _metric = "r2"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = _CONSTRAINTS | {
        "loss": [StrOptions({*_POINTWISE, *_LOSSES} - {"binary_cross_entropy"}), Loss],
    }

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
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
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        scoring: Any = None,
        optimizer: str | Optimizer | None = None,
        schedule: str | Schedule | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        callbacks: Sequence[Callback] | None = None,
        dtype: str = "auto",
        threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        for name, value in list(locals().items()):
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, eval_X: Any = None, eval_y: Any = None) -> MLPRegressor:
        """Train on X (n, I) and y, rows weighted by sample_weight (n,); eval_X, eval_y: own validation rows."""
        return self._fit(X, y, sample_weight, eval_set=(eval_X, eval_y))

    @available_if(_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One pass over X and y."""
        return self._fit(X, y, sample_weight, incremental=True)

    def _loss(self) -> Loss:
        name = self.loss
        return name if isinstance(name, Loss) else LOSSES[_LOSSES.get(str(name), str(name))]

    def _out_activation(self) -> str:
        return "exp" if self._loss().link == "exponential" else "identity"

    def _encode(self, y: Array, first: bool, incremental: bool) -> Array:
        if not first and self.n_outputs_ != (1 if y.ndim == 1 else y.shape[1]):
            raise ValueError(f"y has shape {y.shape}, but this regressor was fitted with {self.n_outputs_} outputs")
        low = self._loss().y_range[0]
        if y.min() < low:
            raise ValueError(f"Some value(s) of y are out of the valid range of the loss {self._loss().name!r}.")
        self._flat = y.ndim == 1
        return self._transform(y)

    def _transform(self, y: Array) -> Array:
        return y.reshape(len(y), -1)

    def _outputs(self, encoded: Array) -> int:
        return int(encoded.shape[1])

    def predict(self, X: Any) -> Any:
        """The predicted values (n,) or (n, O), float64; float32 where X is that."""
        z = self._raw(X)
        prediction = np.exp(z) if self.out_activation_ == "exp" else z
        if getattr(X, "dtype", None) == np.float32:
            prediction = prediction.astype(np.float32)
        return prediction[:, 0] if self.n_outputs_ == 1 else prediction
