"""Metrics that have a name, and functions of scikit-learn: against scikit-learn itself, called by hand."""

from __future__ import annotations

import re
import sys
from functools import partial

import numpy as np
import pytest
from common import passing

import fastnn
from fastnn import Sequential, Trainer, nn

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))


# Names against scikit-learn --------------------------------------------------------------------------------------

BINARY_ONLY = ("f1", "precision", "recall", "jaccard")
CLASSES = {  # name: scikit-learn's function with its arguments, of predict_class
    "accuracy": ("accuracy_score", {}),
    "balanced_accuracy": ("balanced_accuracy_score", {}),
    "mcc": ("matthews_corrcoef", {}),
    "kappa": ("cohen_kappa_score", {}),
    "zero_one_loss": ("zero_one_loss", {}),
    "hamming_loss": ("hamming_loss", {}),
    **{name: (f"{name}_score", dict(average="binary", zero_division=0)) for name in BINARY_ONLY},
    **{
        f"{name}_{average}": (f"{name}_score", dict(average=average, zero_division=0))
        for name in BINARY_ONLY
        for average in ("macro", "micro", "weighted", "samples")
    },
}
PROBABILITIES = {  # of predict_proba, as a scorer takes it
    "roc_auc": ("roc_auc_score", dict(multi_class="ovr")),
    "roc_auc_ovr": ("roc_auc_score", dict(multi_class="ovr")),
    "roc_auc_ovo": ("roc_auc_score", dict(multi_class="ovo")),
    "roc_auc_ovr_weighted": ("roc_auc_score", dict(multi_class="ovr", average="weighted")),
    "roc_auc_ovo_weighted": ("roc_auc_score", dict(multi_class="ovo", average="weighted")),
    "average_precision": ("average_precision_score", {}),
    "log_loss": ("log_loss", {}),
    "brier": ("brier_score_loss", {}),
    "d2_log_loss": ("d2_log_loss_score", {}),
    "d2_brier": ("d2_brier_score", {}),
    "top_k_accuracy": ("top_k_accuracy_score", {}),
    "top_3_accuracy": ("top_k_accuracy_score", dict(k=3)),
}
VALUES = {  # of predict
    "mae": ("mean_absolute_error", {}),
    "mse": ("mean_squared_error", {}),
    "r2": ("r2_score", {}),
    "median_ae": ("median_absolute_error", {}),
    "max_error": ("max_error", {}),
    "mape": ("mean_absolute_percentage_error", {}),
    "msle": ("mean_squared_log_error", {}),
    "rmsle": ("root_mean_squared_log_error", {}),
    "root_mean_squared_error": ("root_mean_squared_error", {}),
    "explained_variance": ("explained_variance_score", {}),
    "pinball": ("mean_pinball_loss", {}),
    "poisson_deviance": ("mean_poisson_deviance", {}),
    "gamma_deviance": ("mean_gamma_deviance", {}),
    "tweedie_deviance": ("mean_tweedie_deviance", dict(power=1.5)),
    "mean_tweedie_deviance": ("mean_tweedie_deviance", {}),
    "d2_tweedie_score": ("d2_tweedie_score", {}),
    "d2_absolute_error": ("d2_absolute_error_score", {}),
    "d2_pinball": ("d2_pinball_score", {}),
}
ONE_COLUMN = ("max_error", "d2_tweedie_score", *(name for name in VALUES if name.endswith("_deviance")))


def theirs(which, y, prediction, weight):
    metrics = pytest.importorskip("sklearn.metrics")
    function, arguments = getattr(metrics, which[0]), dict(which[1])
    if which[0] != "max_error":
        arguments["sample_weight"] = weight
    if which[0] == "roc_auc_score" and y.ndim == 2:
        del arguments["multi_class"]
    return function(y, prediction, **arguments)


def test_every_name_is_compared():
    assert set(fastnn.METRICS) <= {*CLASSES, *PROBABILITIES, *VALUES, "rmse"}


def weights(seed: int, rows: int):
    """None, some, and some of which are 0: those rows are as if they were not there."""
    rng = np.random.default_rng(seed)
    some = rng.lognormal(size=rows)
    return [None, some, np.where(rng.random(rows) < 0.2, 0.0, some)]


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss", "outputs"),
    [("binary_cross_entropy", 1), ("binary_cross_entropy", 3), ("cross_entropy", 2), ("cross_entropy", 4)],
)
@given(seed=st.integers(0, 2**32 - 1), weighting=st.integers(0, 2))
@settings(deadline=None, max_examples=5)
def test_names_of_classes(loss, outputs, dtype, seed, weighting):
    """Of predict_class and predict_proba, which scikit-learn gets as its own scorers would pass them."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(80, outputs)) * 2
    several = loss == "binary_cross_entropy" and outputs > 1
    if several:
        y = (z + rng.normal(size=z.shape) * 2 > 0).astype(int)
    else:
        y = rng.integers(0, max(outputs, 2), 80)
        y[: max(outputs, 2) * 2] = np.tile(np.arange(max(outputs, 2)), 2)  # every class, also among the weighted
    two = not several and max(outputs, 2) == 2
    model = passing(outputs, loss, dtype)
    names = [name for name in CLASSES if two or (name not in BINARY_ONLY)]
    names = [name for name in names if name.endswith("_samples") <= several]
    names += [name for name in PROBABILITIES if name.startswith("top") <= (not two)]
    if several:
        single = ("balanced_accuracy", "mcc", "kappa", "top_k_accuracy", "top_3_accuracy", "log_loss", "brier")
        names = [name for name in names if name not in single and not name.startswith(("d2_", "roc_auc_"))]
    weight = weights(seed, 80)[weighting]
    if weight is not None:
        names = [name for name in names if "ovo" not in name]  # scikit-learn's takes no weights
        weight[: max(outputs, 2) * 2] += 0.5
    found = model.evaluate(z, y, sample_weight=weight, metrics=names)
    taken = slice(None) if weight is None else weight > 0
    own = None if weight is None else weight[taken]
    p = model.predict_proba(z)
    p = p[taken, 1] if two else p[taken]
    for name in names:
        which = CLASSES.get(name) or PROBABILITIES[name]
        prediction = model.predict_class(z)[taken] if name in CLASSES else p
        expected = theirs(which, y[taken], prediction, own)
        rel = 1e-6 if name == "brier" and dtype is np.float32 else 1e-12  # which scikit-learn adds up in float32
        assert found[name] == pytest.approx(expected, rel=rel, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("outputs", [1, 3])
@given(seed=st.integers(0, 2**32 - 1), weighting=st.integers(0, 2))
@settings(deadline=None, max_examples=5)
def test_names_of_values(outputs, seed, weighting):
    """Positive ones, of which every name has a value."""
    rng = np.random.default_rng(seed)
    prediction, y = rng.lognormal(size=(2, 50, outputs))
    y = y[:, 0] if outputs == 1 else y
    names = [name for name in VALUES if outputs == 1 or name not in ONE_COLUMN]
    model = passing(outputs, "mse")
    weight = weights(seed, 50)[weighting]
    found = model.evaluate(prediction, y, sample_weight=weight, metrics=names)
    taken = slice(None) if weight is None else weight > 0
    own = None if weight is None else weight[taken]
    for name in names:
        expected = theirs(VALUES[name], y[taken], model.predict(prediction).reshape(y.shape)[taken], own)
        assert found[name] == pytest.approx(expected, rel=1e-12, abs=1e-12), name


def test_classes_that_no_row_has():
    """Of four classes the rows have three: scikit-learn is told of the fourth."""
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = RNG.normal(size=(50, 4)), RNG.integers(0, 3, 50)
    model = passing(4, "cross_entropy")
    p = model.predict_proba(z)
    found = model.evaluate(z, y, metrics=["log_loss", "top_2_accuracy", "brier"])
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p, labels=range(4)), rel=1e-12)
    assert found["top_2_accuracy"] == metrics.top_k_accuracy_score(y, p, k=2, labels=range(4))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(y, p, labels=range(4)), rel=1e-12)


def test_one_hot_targets_are_classes():
    z, y = RNG.normal(size=(50, 3)), RNG.integers(0, 3, 50)
    pytest.importorskip("sklearn")
    model, names = passing(3, "cross_entropy"), ["accuracy", "f1_macro", "roc_auc", "log_loss", "brier", "mcc"]
    assert model.evaluate(z, np.eye(3)[y], metrics=names) == pytest.approx(model.evaluate(z, y, metrics=names))
    with pytest.raises(ValueError, match="metric roc_auc is for rows of one class each, but y has shares"):
        model.evaluate(z, np.eye(3)[y] * 0.4 + 0.2, metrics=["roc_auc"])


def test_names_with_neg():
    """As scikit-learn's scorers: what is to be minimised, its sign turned round."""
    pytest.importorskip("sklearn")
    model = passing(2, "cross_entropy")
    z, y = RNG.normal(size=(50, 2)), RNG.integers(0, 2, 50)
    found = model.evaluate(z, y, metrics=["log_loss", "neg_log_loss", "neg_brier_score", "brier_score_loss"])
    assert found["neg_log_loss"] == -found["log_loss"] and found["neg_brier_score"] == -found["brier_score_loss"]


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.UndefinedMetricWarning")
def test_names_of_scorers_are_names_of_metrics():
    """All that judge predictions: with scikit-learn's own scorer of a classifier, and of a regressor."""
    metrics = pytest.importorskip("sklearn.metrics")
    from fastnn.metrics.names import lookup

    clustering = re.compile(r".*(_score|likelihood_ratio)$")
    names = [name for name in metrics.get_scorer_names() if lookup(name) is not None]
    left = set(metrics.get_scorer_names()) - set(names)
    assert all(clustering.match(name) for name in left) and len(left) <= 12, left
    z, labels, values = RNG.normal(size=(50, 2)), RNG.integers(0, 2, 50), RNG.lognormal(size=50)
    for name in names:
        if lookup(name).task == "values":
            model, y, x = passing(1, "mse"), values, np.exp(z[:, :1])
        else:
            model, y, x = passing(2, "cross_entropy"), labels, z
        if name.endswith("samples") or name == "top_k_accuracy":  # of several labels; of several classes
            continue
        scorer = metrics.get_scorer(name)
        shown = model.predict_proba(x)[:, 1] if lookup(name).needs == "probability" else None
        answer = (model.predict(x)[:, 0] if y is values else model.predict_class(x)) if shown is None else shown
        expected = scorer._sign * scorer._score_func(y, answer, **scorer._kwargs)
        assert model.evaluate(x, y, metrics=[name])[name] == pytest.approx(expected, rel=1e-12), name


FUNCTIONS = [
    "f1_score",
    "roc_auc_score",
    "log_loss",
    "average_precision_score",
    "matthews_corrcoef",
    "brier_score_loss",
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_scikit_learn_get_what_they_are_for(function):
    metrics = pytest.importorskip("sklearn.metrics")
    function = getattr(metrics, function)
    model = passing(2, "cross_entropy")
    z, y, weight = RNG.normal(size=(50, 2)), RNG.integers(0, 2, 50), RNG.lognormal(size=50)
    classes = function.__name__ in ("f1_score", "matthews_corrcoef")
    expected = function(y, model.predict_class(z) if classes else model.predict_proba(z)[:, 1], sample_weight=weight)
    found = model.evaluate(z, y, sample_weight=weight, metrics=[function])
    assert found[function.__name__] == pytest.approx(expected, rel=1e-12)
    assert model.evaluate(z, y, sample_weight=weight, metrics=[fastnn.metric(function)]) == found


def test_functions_of_scikit_learn_beyond_what_they_are_for():
    """The AUC of values that rank, the absolute error of numbered classes."""
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = RNG.normal(size=(50, 1)), RNG.integers(0, 2, 50)
    found = passing(1, "mse").evaluate(z, y, metrics=[metrics.roc_auc_score])
    assert found["roc_auc_score"] == pytest.approx(metrics.roc_auc_score(y, z), rel=1e-12)
    z, y = RNG.normal(size=(50, 3)), RNG.integers(0, 3, 50)
    found = passing(3, "cross_entropy").evaluate(z, y, metrics=[metrics.mean_absolute_error])
    assert found["mean_absolute_error"] == np.abs(z.argmax(axis=1) - y).mean()


@pytest.mark.parametrize(
    ("metrics", "loss", "outputs", "error"),
    [
        (["f1"], "cross_entropy", 3, "metric f1 is for two classes, but the model tells several .*: take 'f1_macro'"),
        (["mcc"], "binary_cross_entropy", 2, "metric mcc is for two classes or several classes, but .* several labels"),
        (["gamma_deviance"], "mse", 2, "metric gamma_deviance is for one output, but the model has 2"),
        (["roc_auc"], "hinge", 3, "metrics has 'roc_auc', which needs probabilities, expected .*, not hinge"),
        (["roc_auc"], "mse", 1, "metrics has 'roc_auc', expected a loss of classes for it, not mse"),
        (["mape"], "cross_entropy", 3, "metrics has 'mape', expected a loss of values for it"),
    ],
)  # fmt: skip
def test_metrics_of_other_models_are_refused_before_the_first_step(metrics, loss, outputs, error):
    pytest.importorskip("sklearn")
    model = Sequential([nn.Dense(outputs)])
    y = RNG.integers(0, 2, (60, outputs)) if outputs == 2 else RNG.integers(0, max(2, outputs), 60)
    with pytest.raises(ValueError, match=error):
        Trainer(model, loss, metrics=metrics, seed=0).fit(X, y, epochs=1, verbose=False)
    assert not model.built


@pytest.mark.parametrize(
    ("function", "outputs", "error"),
    [
        ("f1_score", 3, "metric f1_score is for two classes, .* several classes apart: take 'f1_macro'"),
        ("roc_auc_score", 3, "metric roc_auc_score is for two classes or several labels, .*: take 'roc_auc'"),
    ],
)
def test_functions_of_scikit_learn_that_ask_for_more(function, outputs, error):
    """Before the first step; with the arguments that they ask for they are taken."""
    metrics = pytest.importorskip("sklearn.metrics")
    y, model = np.arange(60) % outputs, Sequential([nn.Dense(outputs)])
    with pytest.raises(ValueError, match=error):
        Trainer(model, "cross_entropy", metrics=[getattr(metrics, function)], seed=0).fit(X, y, epochs=1)
    assert not model.built
    more = dict(average="macro") if function == "f1_score" else dict(multi_class="ovr")
    given = [partial(getattr(metrics, function), **more), "f1_macro", "roc_auc"]
    found = Trainer(model, "cross_entropy", metrics=given, seed=0).fit(X, y, epochs=1, verbose=False)
    assert found[f"{function}_{next(iter(more.values()))}"] == found["f1_macro" if "average" in more else "roc_auc"]


def test_scorers_are_refused():
    metrics = pytest.importorskip("sklearn.metrics")
    with pytest.raises(
        ValueError, match=r"metrics has make_scorer\(f1_score.*, a scorer of \(estimator, X, y\), expected"
    ):
        Trainer(Sequential([nn.Dense(2)]), "cross_entropy", metrics=[metrics.make_scorer(metrics.f1_score)])


def test_weights_where_scikit_learn_takes_none():
    pytest.importorskip("sklearn")
    z, y = RNG.normal(size=(60, 3)), RNG.integers(0, 3, 60)
    with pytest.raises(ValueError, match="metric roc_auc_ovo takes no sample_weight, expected none, or roc_auc_ovr"):
        passing(3, "cross_entropy").evaluate(z, y, sample_weight=np.ones(60), metrics=["roc_auc_ovo"])


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    Trainer(Sequential([nn.Dense(2)]), "cross_entropy", metrics=["accuracy", "brier"])
    with pytest.raises(
        ImportError, match=r"f1_score needs scikit-learn: pip install scikit-learn, or .* the extra \[sklearn\]"
    ):
        Trainer(Sequential([nn.Dense(2)]), "cross_entropy", metrics=["f1"])


def test_r2_of_a_single_row_is_nan():
    """As scikit-learn has it, whose warning says why; also where all other rows have no weight."""
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", seed=0)
    x, y = np.zeros((3, 2)), np.array([1.0, 2.0, 4.0])
    trainer.fit(x, y, epochs=1, verbose=False)
    assert np.isnan(trainer.model.evaluate(x[:1], y[:1], metrics=["r2"])["r2"])
    assert np.isnan(trainer.model.evaluate(x, y, sample_weight=[1, 0, 0], metrics=["r2"])["r2"])
    assert np.isfinite(trainer.model.evaluate(x[:2], y[:2], metrics=["r2"])["r2"])


@pytest.mark.parametrize(
    "name",
    ["hinge_loss", "ndcg_score", "coverage_error", "label_ranking_loss", "label_ranking_average_precision_score"],
)
def test_scores_are_asked_for_where_classes_would_be_given(name):
    function = getattr(pytest.importorskip("sklearn.metrics"), name)
    for form in (function, partial(function, sample_weight=None)):
        with pytest.raises(ValueError, match=rf"^{name} of scikit-learn is of scores, not of classes, expected needs="):
            fastnn.metric(form)
        assert fastnn.metric(form, needs="predict_proba").needs == "predict_proba"


def test_a_ranking_of_labels_is_of_their_probabilities():
    ranking = pytest.importorskip("sklearn.metrics").label_ranking_loss
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = (x @ rng.normal(size=(3, 4)) + rng.normal(size=(60, 4)) > 0).astype(int)
    model = Sequential([nn.Dense(4)])
    Trainer(model, "binary_cross_entropy", seed=0).fit(x, y, epochs=5, verbose=False)
    found = model.evaluate(x, y, metrics=[fastnn.metric(ranking, needs="probability", mode="min")])
    assert found["label_ranking_loss"] == pytest.approx(ranking(y, model.predict_proba(x)), abs=1e-12)
