"""What MLPClassifier and MLPRegressor share: checks, one fit by Trainer or L-BFGS, predictions. No gradients."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import assert_all_finite, validate_data

from fastnn import _frames, _sparse, _validate, backends
from fastnn._lock import lock_of
from fastnn.data import Features
from fastnn.errors import DivergenceError, callers
from fastnn.estimators import lbfgs
from fastnn.estimators.keeping import Keeping
from fastnn.estimators.kept import attach
from fastnn.estimators.network import Layout, dense_layers, optimizer_for
from fastnn.estimators.parameters import (
    AUTO_BATCH,
    CONSTRAINTS,
    ONLY_STOCHASTIC,
    STOCHASTIC,
    no_dates,
    no_huge_integers,
)
from fastnn.estimators.predicting import Predicting
from fastnn.estimators.reporting import Reporting
from fastnn.estimators.samples import Samples, weights_of
from fastnn.estimators.stopping import ReportedLoss, Stopping
from fastnn.estimators.validation import Validation, drawn
from fastnn.formulas.losses import Loss
from fastnn.plan import Snapshot
from fastnn.training.callbacks import EMA, ProgressBar
from fastnn.training.run import Callback
from fastnn.training.targets import shiftable
from fastnn.training.trainer import Trainer

Array = np.ndarray
_ARRAYS: dict[str, Any] = {  # of X: its values are read once, by `_validate.features`
    "accept_sparse": ["csr", "csc"],
    "dtype": (np.float64, np.float32, np.uint8),  # what rows are gathered from as it is; others become the first
    "ensure_all_finite": False,
}
_WIDER = "take dtype='float64'"
_SCALE = f"scale it, as with sklearn.preprocessing.StandardScaler, or {_WIDER}"


class Views(list[Array]):
    """Live views of a model's parameters: setting an entry writes into the model."""

    def __setitem__(self, index: Any, value: Any) -> None:
        for view, new in zip(self[index], value, strict=True) if isinstance(index, slice) else [(self[index], value)]:
            view[...] = new

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([view.copy() for view in self],)


class BaseMLP(Keeping, Reporting, Predicting, BaseEstimator):
    """Parameters, fitted attributes and the fit of both estimators."""

    _parameter_constraints = CONSTRAINTS
    solver: str
    loss: Any
    _metric: str  # of the Trainer, what early stopping judges by where no scoring is asked for

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        """Scikit-learn's, which reads the signature anew at every fit: a tenth of a millisecond."""
        names: list[str] = super()._get_param_names()
        return names

    def _validate_params(self) -> None:
        """Scikit-learn calls it before a fit."""
        super()._validate_params()
        for name, value in self.get_params(False).items():
            no_huge_integers(name, value)

    # Fitted attributes ------------------------------------------------------------------------------------

    @property
    def coefs_(self) -> list[Array]:
        """The weights (I, O) of each layer: live views, in the network's dtype."""
        return Views(layer.weight for layer in self._dense("coefs_"))

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        self.coefs_[:] = values

    @property
    def intercepts_(self) -> list[Array]:
        """The biases (O,) of each layer: live views, in the network's dtype."""
        return Views(layer.bias for layer in self._dense("intercepts_"))

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        self.intercepts_[:] = values

    def _dense(self, name: str) -> list[Any]:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return list(dense_layers(self._model))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_trainer")

    @property
    def _speaks(self) -> bool:
        return self.verbose != "progress" and (self.verbose is True or self.verbose >= 1)

    # What the two differ in -------------------------------------------------------------------------------

    def _learn_targets(self, y: Any, incremental: bool) -> None:
        """Note what y has (classes), or check that it has what it had."""
        raise NotImplementedError

    def _resolved_loss(self) -> tuple[Loss, int]:
        """The Trainer's loss, and the outputs it takes for the y that was learned."""
        raise NotImplementedError

    def _targets(self, y: Any) -> Array:
        """y as the Trainer takes it."""
        raise NotImplementedError

    def _answer(self, z: Array) -> Any:
        """What `predict` returns for these logits."""
        raise NotImplementedError

    def _weights(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        """The weight of each row; None: 1."""
        return sample_weight

    def _terms(self, y: Array, weight: Array | None) -> tuple[float, float]:
        """Of the loss as scikit-learn reports it: see `ReportedLoss`."""
        raise NotImplementedError

    _stratified: bool = False  # whether the validation rows are drawn class by class

    _numeric: bool = False  # whether y has numbers

    # Fitting ----------------------------------------------------------------------------------------------

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        incremental: bool,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """One fit, and what comes before it. Where its arguments are refused the estimator is what it was before;
        RuntimeError within another."""
        _frames.plain("y", y)  # before its classes are learned
        with lock_of(self).held(), self._restored():
            before()
            self._checked_fit(X, y, sample_weight, validation, incremental)

    @contextmanager
    def _restored(self) -> Iterator[None]:
        """The estimator is what it was if this fails before a fit has begun."""
        before = dict(self.__dict__)
        state = self._model.state if self.__sklearn_is_fitted__() else None
        optimizer = None if state is None else (state.slots, state.rule, state.step)
        self._begun = False
        try:
            yield
        except BaseException:
            if not self._begun:
                self.__dict__.clear()
                self.__dict__.update(before)
                if state is not None and optimizer is not None:
                    state.slots, state.rule, state.step = optimizer
            raise
        finally:
            self.__dict__.pop("_begun", None)

    def _checked_fit(
        self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any], incremental: bool
    ) -> None:
        layout = self._layout()
        self._check_solver_takes(validation)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        anew = not self.__sklearn_is_fitted__() or not (self.warm_start or incremental)
        X, y = self._check_arrays(X, y, anew)
        sample_weight, rows = weights_of(sample_weight, X)
        dtype = self._dtype(X.dtype) if anew else self._model.dtype
        features = self._features(X, dtype, _SCALE if anew else None)
        if rows is not None:
            features, y, sample_weight = replace(features, x=features.x[rows]), y[rows], sample_weight[rows]
        self._learn_targets(y, incremental)
        loss, outputs = self._resolved_loss()
        weight = self._weights(y, sample_weight, incremental)
        random = check_random_state(self.random_state)
        if anew:
            self._begin(layout, loss, outputs, features.inputs, dtype, random)
        elif layout != self._fitted_layout or loss != self._trainer.loss:
            raise ValueError(
                "the network's layers or loss are not those of the previous fit, expected the same parameters "
                "(hidden_layer_sizes, activation, dropout, batch_norm, loss) to continue a fit"
            )
        if not incremental:
            self._forget_optimizer()
        if self.solver in STOCHASTIC and not hasattr(self, "loss_curve_"):
            self._begin_curves()
        targets = self._targets(y)
        data = self._model.checked(features, targets, None, loss, advice=_SCALE if shiftable(loss) else _WIDER)
        checked = self._checked_weight(weight, sample_weight, len(data), outputs)
        samples = Samples(replace(data, weight=checked), y, targets, weight, sample_weight)
        if self.solver == "lbfgs":
            self._fit_lbfgs(samples)
        else:
            self._fit_stochastic(samples, validation, random, incremental)
        if not self._model.state.finite():
            raise _not_finite()

    def _checked_weight(self, weight: Any, given: Any, rows: int, outputs: int) -> Array | None:
        """The weights as the Trainer takes them. Where they have a class's, those that were given by themselves first,
        so that errors name the argument that is wrong."""
        dtype = self._model.dtype
        if weight is given:
            return _validate.sample_weight(weight, rows, dtype)
        _validate.sample_weight(given, rows, dtype)
        return _validate.sample_weight(weight, rows, dtype, name="class_weight", outputs=outputs)

    def _check_arrays(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """X and y as arrays that fit together, as scikit-learn has it. The values of X are not looked at."""
        if self._numeric:
            no_dates("y", y)
        X, y = self._as_arrays(X, y, multi_output=True, y_numeric=self._numeric, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _as_arrays(self, X: Any, *y: Any, **options: Any) -> Any:
        no_dates("X", X)
        for name, value in zip(("X", "y"), (X, *y), strict=False):
            _frames.plain(name, value)
        try:
            return validate_data(self, X, *y, **options, **_ARRAYS)
        except OverflowError:
            names = "X or y has" if y else "X has"
            raise ValueError(f"{names} a whole number beyond float64 (1.8e308), expected smaller ones") from None

    def _features(self, X: Any, dtype: np.dtype, advice: str | None = None) -> Features:
        """The one look at the values of X. Where it finds some that are not finite, scikit-learn has the word."""
        try:
            return Features(*_validate.features(X, dtype, advice=advice))
        except ValueError:
            values = X.data if _sparse.is_sparse(X) else X
            assert_all_finite(values, estimator_name=type(self).__name__, input_name="X")
            raise

    def _layout(self) -> Layout:
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, (Set, Mapping)):
            raise TypeError(f"hidden_layer_sizes is {sizes!r}, expected a list or tuple, in the order of the layers")
        hidden = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        for units in hidden:
            if not isinstance(units, Integral):
                raise TypeError(f"hidden_layer_sizes has {units!r}, expected integers")
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        return Layout.of([int(units) for units in hidden], self.activation, self.dropout, self.batch_norm)

    def _check_solver_takes(self, validation: tuple[Any, Any, Any]) -> None:
        """ValueError for what lbfgs, which has no steps and no epochs, cannot do."""
        if (validation[0] is None) != (validation[1] is None):
            raise ValueError("eval_X and eval_y: one is None, expected both or neither")
        if self.solver in STOCHASTIC:
            return
        given = [name for name in ONLY_STOCHASTIC if np.any(getattr(self, name) not in (None, False, 0.0, [], ()))]
        if validation[0] is not None:
            given.append("eval_X")
        if given:
            raise ValueError(f"solver is 'lbfgs', which takes no {', '.join(given)}: expected 'adam' or 'sgd' for that")

    def _begin(
        self, layout: Layout, loss: Loss, outputs: int, inputs: int, dtype: np.dtype, random: np.random.RandomState
    ) -> None:
        """A new network with its first weights."""
        model = layout.build(inputs, outputs, dtype)
        layout.draw(model, random)
        model.loss = loss
        attach(self, model, layout)
        self.n_iter_ = self.t_ = 0
        self._rate = self.learning_rate_init
        for name in (
            "loss_curve_",
            "validation_loss_curve_",
            "best_loss_",
            "validation_scores_",
            "best_validation_score_",
        ):
            self.__dict__.pop(name, None)

    def _begin_curves(self) -> None:
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_: float | None = -np.inf if self.early_stopping else None
        self._best: Snapshot | None = Snapshot(slots=False).take(self._model.state) if self.early_stopping else None

    def _dtype(self, given: np.dtype) -> np.dtype:
        """That of X, as scikit-learn's: float64 but for float32; and float64 for L-BFGS, which has no noise to hide
        rounding. `fit` and `partial_fit` of any number of rows take the same."""
        if self.dtype != "auto":
            return np.dtype(self.dtype)
        single = given == np.float32 and self.solver != "lbfgs"
        return np.dtype(np.float32 if single else np.float64)

    def _forget_optimizer(self) -> None:
        self._model.state.forget_optimizer()
        self._rate = self.learning_rate_init

    def _fit_lbfgs(self, samples: Samples) -> None:
        trainer, samples = self._trainer, samples.weighing()
        report, constant = self._terms(samples.targets, samples.weight)
        outputs = self._summed(trainer.loss)
        objective = lbfgs.LossAndGradient(trainer, samples.data, self.alpha, outputs)
        self._begun = True
        with self._model.fitting.held(), self._limited():
            result = lbfgs.fit(
                objective, max_iter=self.max_iter, max_fun=self.max_fun, tol=self.tol, verbose=self._speaks
            )
        if result.status != 0:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
            for warning in caught:
                warnings.warn(warning.message, stacklevel=callers())
        else:
            self.n_iter_ = min(result.nit, self.max_iter)
        penalty = objective.penalty()
        self.loss_ = report * (float(result.fun) - penalty) / outputs + constant + penalty

    def _summed(self, loss: Loss) -> int:
        """Outputs whose gradients scikit-learn adds up where the loss takes their mean."""
        return self.n_outputs_ if loss.pointwise is not None else 1

    def _fit_stochastic(
        self,
        samples: Samples,
        validation: tuple[Any, Any, Any],
        random: np.random.RandomState,
        incremental: bool,
    ) -> None:
        held: Validation | None = None
        if validation[0] is not None:
            held = self._given(*validation)
        elif self.early_stopping:
            samples, held = self._split(samples, random)
        samples = samples.weighing()
        count, mean_weight = len(samples.data), samples.data.mean_weight()
        batch = self._batch(count)
        report, constant = self._terms(samples.targets, samples.weight)
        reported = ReportedLoss(report, constant, self.alpha, count, batch, mean_weight)

        trainer = self._set_trainer(batch * mean_weight, random)
        judged_by_trainer = self.scoring is None and self._trainer_scores
        score = None
        if held is not None:
            score = held.score(self, self.scoring, self._metric if judged_by_trainer else None)
            self.validation_scores_ = self.validation_scores_ or []
            self.validation_loss_curve_ = getattr(self, "validation_loss_curve_", [])
            if self.best_validation_score_ is None:
                self.best_validation_score_ = -np.inf
        if not self.early_stopping and self.best_loss_ is None:  # a warm start whose first fit stopped early
            self.best_loss_ = np.inf
        if self.early_stopping and self._best is None:  # a warm start whose first fit had none
            self._best = Snapshot(slots=False).take(self._model.state)
        trainer.metrics = [self._metric] if held is not None and judged_by_trainer else []
        stopping = Stopping(self, reported, score, self._best, stop=self.early_stopping)
        self.n_iter_ = 0
        try:
            trainer.fit(
                samples.data,
                epochs=1 if incremental else int(self.max_iter),
                batch_size=batch,
                validation=None if held is None else held.data,
                shuffle=self.shuffle,
                callbacks=self._callbacks(stopping),
                verbose=False,
            )
        except DivergenceError as error:
            raise _not_finite() from error
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=callers())
        else:
            if not incremental and stopping.stopped is None:
                message = (
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet."
                )
                warnings.warn(message, ConvergenceWarning, stacklevel=callers())
        if self._best is not None and self.early_stopping and self.restore_best:
            if self.best_validation_score_ == -np.inf:
                message = "The validation score was NaN after every epoch: the weights of the last one are kept."
                warnings.warn(message, stacklevel=callers())
            else:
                self._best.put_back(self._model.state)

    def _callbacks(self, stopping: Stopping) -> list[Callback]:
        made: list[Callback] = [stopping, *(self.callbacks or ())]
        if self.ema is not None:
            made.append(EMA(self.ema))
        if self.verbose == "progress":
            made += ProgressBar.wanted(True)
        return made

    def _batch(self, count: int) -> int:
        if self.batch_size == "auto":
            return min(AUTO_BATCH, count)
        if self.batch_size > count:
            message = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            warnings.warn(message, stacklevel=callers())
        return min(int(self.batch_size), count)

    def _set_trainer(self, weight: float, random: np.random.RandomState) -> Trainer:
        """The Trainer with this fit's settings. weight: of a batch, which scikit-learn divides alpha by."""
        trainer: Trainer = self._trainer
        outputs = self._summed(trainer.loss) if self.optimizer is None else 1
        l2 = self.alpha / (weight * outputs) if weight > 0 else 0.0
        trainer.optimizer = optimizer_for(self, l2, outputs)
        trainer.schedule = self.schedule
        trainer.clip_norm = None if self.clip_norm is None else self.clip_norm / outputs
        trainer.threads = self.threads
        trainer.backend = backends.resolve()
        if len(trainer.history) == 0:
            trainer.seed = int(random.randint(np.iinfo(np.int32).max))
        return trainer

    # Validation -------------------------------------------------------------------------------------------

    def _split(self, samples: Samples, random: np.random.RandomState) -> tuple[Samples, Validation]:
        """The rows to learn from, and those held out."""
        strata = samples.targets.astype(bool) if self._stratified else None  # what scikit-learn names in its errors
        chosen, others = drawn(len(samples.data), self.validation_fraction, random, strata)
        own = None if samples.own is None else samples.own[others]
        weight = _validate.sample_weight(own, len(others), self._model.dtype, name="validation sample_weight")
        held = replace(samples.data.part(others), weight=weight, given_weight=own)
        return samples.part(chosen), Validation(held, samples.y[others], own)

    def _given(self, X: Any, y: Any, sample_weight: Any) -> Validation:
        """The validation rows that `fit` was given."""
        x, values = self._check_arrays(X, y, False)
        sample_weight, rows = weights_of(sample_weight, x)
        if rows is not None:
            x, values, sample_weight = x[rows], values[rows], sample_weight[rows]
        self._check_known(values)
        if self.early_stopping and x.shape[0] < 2:
            raise ValueError(f"eval_X has {x.shape[0]} row, expected at least 2 to stop by")
        data = self._model.checked(x, self._targets(values), sample_weight, self._trainer.loss, prefix="eval_")
        return Validation(data, values, sample_weight)

    def _check_known(self, y: Any) -> None:
        """ValueError where the validation's y has what the training's has not."""

    _trainer_scores: bool = True  # whether the Trainer's own metric is scikit-learn's score

    def _check_solver(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags


def _not_finite() -> ValueError:
    return ValueError(
        "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
        "preprocessed."
    )
