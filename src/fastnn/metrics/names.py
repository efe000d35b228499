"""METRICS: the metrics that have a name. Those not in values.py call scikit-learn, imported when one is asked for."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.errors import missing_extra
from fastnn.metrics import values
from fastnn.metrics.definition import BINARY, LABELS, SEVERAL, Metric, Mode, names_weights, unwrapped

Array = np.ndarray
_AVERAGES = ("macro", "micro", "weighted")


class _OfSklearn:
    """A function of sklearn.metrics, looked up when it is called. call: what is done with it, given y, the prediction
    and the weights."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.__name__, self._call = name, call

    def __call__(self, y: Array, prediction: Array, sample_weight: Array | None = None) -> Any:
        return self._call(_imported(self.__name__), y, prediction, sample_weight)


def _sklearn(name: str, **arguments: Any) -> _OfSklearn:
    return _OfSklearn(name, lambda function, y, p, weight: function(y, p, sample_weight=weight, **arguments))


def _imported(name: str) -> Callable[..., Any]:
    """ImportError where scikit-learn is missing, or too old to have it."""
    try:
        import sklearn.metrics
    except ImportError as error:
        raise missing_extra("scikit-learn", f"the metric {name}", "sklearn") from error
    try:
        function: Callable[..., Any] = getattr(sklearn.metrics, name)
    except AttributeError:
        raise ImportError(f"the metric {name} needs a newer scikit-learn than {sklearn.__version__}") from None
    return function


def available(metric: Metric) -> None:
    """ImportError where what computes it is not installed."""
    function = inspect.unwrap(metric.function)
    if isinstance(function, _OfSklearn):
        _imported(function.__name__)


def _with_labels(name: str, **arguments: Any) -> _OfSklearn:
    """Of probabilities (B,) of class 1, or (B, K): classes that no row has are classes all the same."""

    def call(function: Callable[..., Any], y: Array, p: Array, weight: Array | None) -> Any:
        labels = np.arange(2 if p.ndim == 1 else p.shape[1])
        return function(y, p, sample_weight=weight, labels=labels, **arguments)

    return _OfSklearn(name, call)


def _roc_auc(multi_class: str, average: str = "macro") -> _OfSklearn:
    """Of several classes one against the rest ("ovr") or each against each ("ovo"), whatever classes the rows have."""

    def call(function: Callable[..., Any], y: Array, p: Array, weight: Array | None) -> Any:
        several: dict[str, Any] = {}
        if p.ndim == 2 and y.ndim == 1:
            several = dict(multi_class=multi_class, labels=np.arange(p.shape[1]))
        return function(y, p, sample_weight=weight, average=average, **several)

    return _OfSklearn("roc_auc_score", call)


def _average_precision(function: Callable[..., Any], y: Array, p: Array, weight: Array | None) -> Any:
    """Of several classes the mean of each against the rest: as columns of 0 and 1, for rows may lack a class."""
    truth = np.eye(p.shape[1], dtype=np.int64)[y] if p.ndim == 2 and y.ndim == 1 else y
    return function(truth, p, sample_weight=weight)


def _top(k: int) -> Metric:
    function = _with_labels("top_k_accuracy_score", k=k)
    return _of_probabilities(f"top_{k}_accuracy", "max", function, SEVERAL)


# The table -----------------------------------------------------------------------------------------------------


def _of_classes(name: str, mode: Mode, function: Callable[..., Any], *among: str) -> Metric:
    return Metric(function, name, mode, weights=True, task="classes", among=among or (BINARY, SEVERAL, LABELS))


def _of_probabilities(name: str, mode: Mode, function: Callable[..., Any], *among: str) -> Metric:
    return Metric(function, name, mode, "probability", True, task="classes", among=among or (BINARY, SEVERAL))


def _of_values(name: str, mode: Mode, function: Callable[..., Any], *, columns: bool = True) -> Metric:
    return Metric(function, name, mode, weights=True, task="values", columns=columns)


def _averaged(name: str) -> list[Metric]:
    """f1, precision, recall and jaccard: of class 1 of two, or of all classes in one of scikit-learn's averages."""
    function = functools.partial(_sklearn, f"{name}_score", zero_division=0.0)  # what it gives with a warning otherwise
    return [
        _of_classes(name, "max", function(average="binary"), BINARY),
        *(_of_classes(f"{name}_{average}", "max", function(average=average)) for average in _AVERAGES),
        _of_classes(f"{name}_samples", "max", function(average="samples"), LABELS),
    ]


def _max_error(y: Array, prediction: Array, sample_weight: Array | None = None) -> float:
    """max |y - prediction|. Hence rows of weight 0 count for nothing, all others alike."""
    return float(np.abs(y - prediction).max())


_ALL: tuple[Metric, ...] = (
    _of_classes("accuracy", "max", values.accuracy),
    _of_classes("balanced_accuracy", "max", _sklearn("balanced_accuracy_score"), BINARY, SEVERAL),
    *(metric for name in ("f1", "precision", "recall", "jaccard") for metric in _averaged(name)),
    _of_classes("mcc", "max", _sklearn("matthews_corrcoef"), BINARY, SEVERAL),
    _of_classes("kappa", "max", _sklearn("cohen_kappa_score"), BINARY, SEVERAL),
    _of_classes("zero_one_loss", "min", _sklearn("zero_one_loss")),
    _of_classes("hamming_loss", "min", _sklearn("hamming_loss")),
    _of_probabilities("roc_auc", "max", _roc_auc("ovr"), BINARY, SEVERAL, LABELS),
    _of_probabilities("roc_auc_ovr", "max", _roc_auc("ovr")),
    _of_probabilities("roc_auc_ovr_weighted", "max", _roc_auc("ovr", "weighted")),
    replace(_of_probabilities("roc_auc_ovo", "max", _roc_auc("ovo")), weights=False),  # scikit-learn's takes none
    replace(_of_probabilities("roc_auc_ovo_weighted", "max", _roc_auc("ovo", "weighted")), weights=False),
    _of_probabilities(
        "average_precision", "max", _OfSklearn("average_precision_score", _average_precision), BINARY, SEVERAL, LABELS
    ),
    _of_probabilities("log_loss", "min", _with_labels("log_loss")),
    _of_probabilities("brier", "min", values.brier),
    _of_probabilities("d2_log_loss", "max", _with_labels("d2_log_loss_score")),
    _of_probabilities("d2_brier", "max", _with_labels("d2_brier_score")),
    replace(_top(2), name="top_k_accuracy"),
    _of_values("mae", "min", values.mae),
    _of_values("mse", "min", values.mse),
    _of_values("rmse", "min", values.rmse),
    _of_values("r2", "max", values.r2),
    _of_values("median_ae", "min", _sklearn("median_absolute_error")),
    _of_values("max_error", "min", _max_error, columns=False),
    _of_values("mape", "min", _sklearn("mean_absolute_percentage_error")),
    _of_values("msle", "min", _sklearn("mean_squared_log_error")),
    _of_values("rmsle", "min", _sklearn("root_mean_squared_log_error")),
    _of_values("explained_variance", "max", _sklearn("explained_variance_score")),
    _of_values("pinball", "min", _sklearn("mean_pinball_loss")),
    _of_values("poisson_deviance", "min", _sklearn("mean_poisson_deviance"), columns=False),
    _of_values("gamma_deviance", "min", _sklearn("mean_gamma_deviance"), columns=False),
    _of_values("tweedie_deviance", "min", _sklearn("mean_tweedie_deviance", power=1.5), columns=False),
    _of_values("d2_absolute_error", "max", _sklearn("d2_absolute_error_score")),
    _of_values("d2_pinball", "max", _sklearn("d2_pinball_score")),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

_SCORES = (  # scikit-learn's functions that are called <name>_score
    *("accuracy", "balanced_accuracy", "f1", "precision", "recall", "jaccard", "roc_auc", "average_precision", "brier"),
    *("d2_log_loss", "d2_brier", "top_k_accuracy", "r2", "explained_variance", "d2_absolute_error", "d2_pinball"),
)
_ALIASES = {f"{name}_score": name for name in _SCORES} | {  # its other names, of functions and of scorers
    "matthews_corrcoef": "mcc",
    "cohen_kappa_score": "kappa",
    "brier_score_loss": "brier",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "median_absolute_error": "median_ae",
    "mean_absolute_percentage_error": "mape",
    "mean_squared_log_error": "msle",
    "root_mean_squared_log_error": "rmsle",
    "mean_pinball_loss": "pinball",
    "mean_poisson_deviance": "poisson_deviance",
    "mean_gamma_deviance": "gamma_deviance",
}
# scikit-learn's own defaults where METRICS differs: of several outputs the mean of the roots, a power of 0
_MORE = {
    "root_mean_squared_error": _of_values("root_mean_squared_error", "min", _sklearn("root_mean_squared_error")),
    "d2_tweedie_score": _of_values("d2_tweedie_score", "max", _sklearn("d2_tweedie_score"), columns=False),
    "mean_tweedie_deviance": _of_values(
        "mean_tweedie_deviance", "min", _sklearn("mean_tweedie_deviance"), columns=False
    ),
}


def lookup(name: str) -> Metric | None:
    """The metric of that name: one of METRICS, of scikit-learn's functions or scorers, "top_<k>_accuracy", or what is
    to be minimised with "neg_" before it; None: nobody knows it.

    >>> lookup("neg_log_loss").mode, lookup("f1_score").name, lookup("top_5_accuracy").mode, lookup("mea")
    ('max', 'f1_score', 'max', None)
    """
    found = METRICS.get(name) or _MORE.get(name) or METRICS.get(_ALIASES.get(name, ""))
    if found is None and re.fullmatch(r"top_[1-9][0-9]{0,8}_accuracy", name):
        found = _top(int(name.split("_")[1]))
    if found is None and name.startswith("neg_"):
        positive = lookup(name.removeprefix("neg_"))
        if positive is not None and positive.mode == "min":
            found = replace(positive, function=_negative(positive.function), mode="max")
    return None if found is None else replace(found, name=name)


def _negative(function: Callable[..., Any]) -> Callable[..., Any]:
    def negative(y: Array, prediction: Array, sample_weight: Array | None = None) -> float:
        return -float(function(y, prediction, sample_weight))

    return functools.update_wrapper(negative, function)


# Of decision values, or of scores that rank: classes in their place give numbers that look like theirs.
_OF_SCORES = (
    *("hinge_loss", "ndcg_score", "dcg_score", "coverage_error", "label_ranking_loss"),
    "label_ranking_average_precision_score",
)


def _name_in_sklearn(function: Any) -> str | None:
    """What sklearn.metrics calls it, under functools.partial; None: another function."""
    inner = unwrapped(function)
    found = str(getattr(inner, "__module__", "")).startswith("sklearn.metrics")
    return getattr(inner, "__name__", "") if found else None


def is_of_scores(function: Any) -> bool:
    """Whether it is a function of sklearn.metrics that takes scores and is not in the table."""
    return _name_in_sklearn(function) in _OF_SCORES


def recognised(function: Any) -> Metric | None:
    """The metric that a function of sklearn.metrics, or a functools.partial of one, is: it needs the same and is judged
    alike, but calls this very function. None: another function."""
    name = _name_in_sklearn(function)
    known = None if name is None else lookup(name)
    if known is None:
        return None
    among, columns = known.among, known.columns
    if (
        unwrapped(function) is not function
    ):  # arguments may make it one for others, too; else the function itself refuses them
        among, columns = (BINARY, SEVERAL, LABELS), True
    elif known.name == "roc_auc_score":  # of several classes it asks for multi_class=
        among = (BINARY, LABELS)
    weights = names_weights(function) is True  # max_error, say, takes none
    return replace(known, function=function, weights=weights, by_name=True, among=among, columns=columns)
