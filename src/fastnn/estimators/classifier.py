"""MLPClassifier: scikit-learn's, trained by fastnn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, unique_labels

from fastnn import _frames
from fastnn.estimators.base import BaseMLP
from fastnn.estimators.class_weights import class_weights
from fastnn.estimators.frozen import of_classifier
from fastnn.estimators.labels import ANY, LOSS_NAMES, ONE_OF_TWO, SEVERAL, Labels, kind_of
from fastnn.formulas.losses import Loss
from fastnn.serving import Frozen

Array = np.ndarray


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron for classes: a drop-in for `sklearn.neural_network.MLPClassifier`.

    Everything of scikit-learn's parameters means what it means there, and has its default. Beyond them:

    activation: a name, an `Activation` or a layer such as `nn.PReLU()`, or a list of these, one a hidden layer; beside
    scikit-learn's four all of `nn.ACTIVATIONS`, "maxout", "prelu", "rrelu", "softmax". verbose: "progress" shows a bar.
    dropout: the rate after each hidden layer, or a list. batch_norm: normalise between a hidden layer's sum and its
    activation.
    loss: "log_loss" (softmax over several classes, sigmoids for two and for multi-label y), "hinge", "cross_entropy",
    "binary_cross_entropy" or such a `Loss`. label_smoothing: of the two cross-entropies, in [0, 1). class_weight:
    "balanced", a dict or, where y has several columns, a list of these.
    optimizer: one of `fastnn.optim`, or its name, which then has learning_rate_init, in place of the solver's; alpha
    stays, on top of its own l2. schedule: factors on the learning rate, an object or a name. clip_norm: bound on the
    gradient's norm. ema: decay of a running average of the parameters, which the fit ends with. callbacks: a list of
    `fastnn.Callback`.
    scoring: what early stopping judges by: any scorer of scikit-learn, its name or "loss"; None: accuracy.
    restore_best: early stopping ends with the parameters of its best epoch.
    dtype: what is computed in, "float32" or "float64"; "auto" is float32 where X is and the solver is not lbfgs, else
    float64: "float32" is up to twice as fast for any X. threads: the most that are used; None: all there are.

    `fit` takes eval_X and eval_y, on which each epoch is measured: `validation_loss_curve_`, `validation_scores_`. With
    early_stopping they are what it judges by, instead of rows split off.

    y (n,) classes; (n, K) of 0 and 1: any of K labels; (n, k) of classes: one in each column, whose probabilities are
    sigmoids over their sum; `classes_` and `predict_proba` are then lists, one entry a column. Sparse X is made dense a
    slice at a time. ValueError where a parameter is out of range or the data are not that.

    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> model = MLPClassifier((32,), max_iter=300, learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95), model.predict_proba(X).shape, [w.shape for w in model.coefs_]
    (True, (300, 2), [(4, 32), (32, 1)])
    """

    _parameter_constraints = BaseMLP._parameter_constraints | {
        "loss": [StrOptions(set(LOSS_NAMES)), Loss],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }
    _metric = "accuracy"

    def __init__(
        self,
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
        loss: str | Loss = "log_loss",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
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
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
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
    ) -> MLPClassifier:
        """Learn from X (n, I), an array, a data frame or a sparse matrix, and its classes y; weights (n,) >= 0.

        eval_X, eval_y: rows to measure every epoch on. ConvergenceWarning where max_iter epochs were not enough.
        """
        self._fit(X, y, sample_weight, (eval_X, eval_y, eval_sample_weight), incremental=False)
        return self

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One epoch over these rows, going on from where the model is.

        classes: (K,) all that there will be, needed in the first call; not where y is (n, K) of 0 and 1; a list of
        arrays, one a column, where y has several columns of classes.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, pass "
                "sklearn.utils.class_weight.compute_class_weight's as a dict"
            )
        learn = partial(self._learn_classes, y, classes)
        self._fit(X, y, sample_weight, (None, None, None), incremental=True, before=learn)
        return self

    def _learn_classes(self, y: Any, classes: Any) -> None:
        """At the first call: from `classes`, or from a y that has a column a class."""
        known = getattr(self, "classes_", None)
        several = classes is not None and all(np.ndim(column) == 1 for column in classes)
        if several:
            labels = Labels.of_columns(classes)
            if known is None:
                self._labels, self.classes_ = labels, labels.classes
            elif not isinstance(known, list) or not all(map(np.array_equal, known, labels.classes)):
                raise ValueError(f"classes is {classes!r}, expected those of the first call: {known!r}")
        elif isinstance(known, list):
            return
        elif classes is None and known is None and kind_of(y) == ANY:
            self._labels = Labels(y)
            self.classes_ = self._labels.classes
        elif _check_partial_fit_first_call(self, classes):
            self._labels = Labels(y if kind_of(y) == ANY else np.asarray(classes))

    def predict(self, X: Any) -> Any:
        """The classes of rows X (n, I): (n,), or (n, k) as y was."""
        return self._answer(self._logits(X))

    @available_if(lambda self: self._check_probabilities())
    def predict_proba(self, X: Any) -> Any:
        """Probabilities (n, K) in float64, the classes as in `classes_`; a list of them where that is one."""
        z = self._logits(X)
        return self._labels.probabilities(z, self._trainer.loss)

    @available_if(lambda self: self._check_probabilities())
    def predict_log_proba(self, X: Any) -> Any:
        """The logarithms of `predict_proba`, from the network's outputs: finite where a probability rounds to 0."""
        z = self._logits(X)
        return self._labels.log_probabilities(z, self._trainer.loss)

    @available_if(lambda self: self._check_margins())
    def decision_function(self, X: Any) -> Array:
        """The network's outputs (n, K) of the loss "hinge"; of two classes their difference (n,)."""
        z = self._logits(X).astype(np.float64)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    def _check_margins(self) -> bool:
        loss = self.loss.name if isinstance(self.loss, Loss) else self.loss
        if loss != "hinge":
            raise AttributeError(f"decision_function is of loss='hinge', but loss is {loss!r}: see predict_proba")
        return True

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy: the share of rows whose classes are all right, by weight."""
        _frames.plain("y", y)
        _frames.plain("sample_weight", sample_weight)
        if not isinstance(getattr(self, "classes_", None), list):
            return float(super().score(X, y, sample_weight))
        right = (np.asarray(y) == self.predict(X)).all(axis=1)
        return float(np.average(right, weights=sample_weight))

    def _check_probabilities(self) -> bool:
        loss = self.loss.name if isinstance(self.loss, Loss) else self.loss
        if loss == "hinge":
            raise AttributeError("probability estimates are not available for loss='hinge'")
        return True

    # For BaseMLP -------------------------------------------------------------------------------------------

    def _learn_targets(self, y: Any, incremental: bool) -> None:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._labels = Labels(y)
            self.classes_ = self._labels.classes
        elif self._labels.kind == SEVERAL:
            self._check_known(y)
        elif self.warm_start:
            classes = unique_labels(y)
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
        else:
            self._check_known(y)

    def _check_known(self, y: Any) -> None:
        if self._labels.unknown(y):
            has = unique_labels(y) if self._labels.kind != SEVERAL else "others"
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {has}."
            )

    def _resolved_loss(self) -> tuple[Loss, int]:
        loss = self._labels.loss(self.loss, self.label_smoothing)
        return loss, self._labels.outputs(loss)

    def _targets(self, y: Any) -> Array:
        return self._labels.encode(y, self._trainer.loss, self._model.dtype)

    def _weights(self, y: Any, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if self._labels.kind in (ANY, SEVERAL):
            weight = self._labels.class_weights(self.class_weight, y, sample_weight)
        else:
            weight = class_weights(self.class_weight, y, sample_weight)
        return weight if sample_weight is None else (weight.T * sample_weight).T

    def _terms(self, y: Array, weight: Array | None) -> tuple[float, float]:
        return float(self._summed(self._trainer.loss)), 0.0

    def _frozen(self) -> Frozen:
        return of_classifier(self._model, self._labels, self._trainer.loss, self._names)

    def _answer(self, z: Array) -> Any:
        return self._labels.decide(z)

    @property
    def _stratified(self) -> bool:  # type: ignore[override]
        return bool(self._labels.kind == ONE_OF_TWO)

    @property
    def _trainer_scores(self) -> bool:  # type: ignore[override]  # its accuracy of sigmoids is of a row's zeros and ones
        return self._trainer.loss.link != "sigmoid" or self._labels.kind in (ONE_OF_TWO, ANY)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
