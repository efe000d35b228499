"""Weights in MLPClassifier and MLPRegressor: scikit-learn's minimum where there is one, and rows of weight 0."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.utils.class_weight import compute_sample_weight

from fastnn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

_rng = np.random.default_rng(0)
X = _rng.normal(size=(300, 5))
WEIGHT = np.exp(_rng.normal(size=300)) * (_rng.random(300) > 0.25)
THERE = np.flatnonzero(WEIGHT)
CLASSES = np.array(["a", "b", "c"])[(X[:, 0] + _rng.normal(size=300) > 1).astype(int) + (X[:, 1] > 0.8)]
BINARY = np.where(X[:, 0] + _rng.normal(size=300) > 1.5, "yes", "no")
LABELS = (X @ _rng.normal(size=(5, 4)) / 2 + _rng.normal(size=(300, 4)) > [0.5, 1.5, -1.0, 2.0]).astype(int)
COLUMNS = np.stack([(X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0.5), 10 * (X[:, 2] > 0.8).astype(int) + 7], axis=1)
VALUE = X @ _rng.normal(size=5) + _rng.normal(size=300)
ATOL = 2e-4  # scipy ends where F falls by less than 2e-9 of itself: a probability is then off by the root of that
EXACT = dict(hidden_layer_sizes=(), solver="lbfgs", max_iter=3000, max_fun=100000, tol=1e-9, alpha=1.0, random_state=0)


def logistic(**settings) -> LogisticRegression:
    return LogisticRegression(tol=1e-10, max_iter=10000, **settings)


def small(kind=MLPClassifier, **settings):
    return kind(hidden_layer_sizes=(8,), max_iter=5, random_state=0, **settings)


def balance(y, weight):
    """n / (2 x rows of the class), rows counted by their weights."""
    return np.where(y == 1, weight.sum() / (2 * weight[y == 1].sum()), weight.sum() / (2 * weight[y == 0].sum()))


def alike(one, other) -> None:
    """Every bit of what was learned and noted."""
    for here, there in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(here, there)
    for name in ("loss_", "loss_curve_", "validation_scores_", "n_iter_", "best_validation_score_", "classes_"):
        np.testing.assert_array_equal(getattr(one, name, None), getattr(other, name, None), err_msg=name)


# The minimum of scikit-learn's -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
@pytest.mark.parametrize("class_weight", [None, "balanced", {"yes": 5.0, "no": 0.5}], ids=str)
def test_two_classes_have_the_minimum_of_logistic_regression(weight, class_weight):
    own = np.ones(len(X)) if weight is None else weight
    if class_weight == "balanced":  # by hand: scikit-learn counts the rows by their weights since 1.7
        own = own * balance((BINARY == "yes").astype(int), own)
    else:
        own = own * compute_sample_weight(class_weight, BINARY)
    right = logistic(C=1.0).fit(X, BINARY, own)
    ours = MLPClassifier(**EXACT, class_weight=class_weight).fit(X, BINARY, weight)
    np.testing.assert_allclose(ours.predict_proba(X), right.predict_proba(X), atol=ATOL)


def test_two_values_have_the_minimum_of_ridge():
    right = Ridge(alpha=1.0).fit(X, VALUE, WEIGHT)
    ours = MLPRegressor(**EXACT).fit(X, VALUE, WEIGHT)
    np.testing.assert_allclose(ours.predict(X), right.predict(X), atol=1e-5)
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0] / 2))
    right = PoissonRegressor(alpha=1.0 / WEIGHT.sum(), tol=1e-10, max_iter=10000).fit(X, counts, WEIGHT)
    ours = MLPRegressor(loss="poisson", **EXACT).fit(X, counts, WEIGHT)
    np.testing.assert_allclose(ours.predict(X), right.predict(X), rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 8, 32, 200])
def test_the_minimum_does_not_depend_on_the_batch(batch):
    """Nothing to learn from but the share of the classes, which weights make equal."""
    y = np.zeros(4000, int)
    y[:40] = 1
    model = MLPClassifier(
        (), solver="sgd", momentum=0.0, learning_rate_init=0.05, schedule="linear", batch_size=batch, random_state=0,
        class_weight="balanced", max_iter=30 if batch < 200 else 300, n_iter_no_change=1000, alpha=0.0,
    ).fit(np.zeros((4000, 1)), y)  # fmt: skip
    assert model.predict_proba(np.zeros((1, 1)))[0, 1] == pytest.approx(0.5, abs=0.03)
    assert model.loss_ == pytest.approx(np.log(2.0), abs=0.01)


# Several labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    "class_weight", ["balanced", [{0: 1.0, 1: 3.0}, {1: 0.5}, {0: 2.0}, {}]], ids=["balanced", "dicts"]
)
def test_each_label_has_the_minimum_of_its_own_logistic_regression(class_weight, form, weight):
    ours = MLPClassifier(**EXACT, class_weight=class_weight).fit(X, form(LABELS), weight)
    rows = slice(None) if weight is None else THERE
    w = np.ones(len(X)) if weight is None else weight[rows]
    each = [class_weight] * 4 if isinstance(class_weight, str) else class_weight
    by_label = [
        w * (balance(y, w) if one == "balanced" else compute_sample_weight(one, y))
        for one, y in zip(each, LABELS[rows].T, strict=True)
    ]
    for label, own in enumerate(by_label):
        right = logistic(C=1.0).fit(X[rows], LABELS[rows, label], own)
        np.testing.assert_allclose(ours.predict_proba(X)[:, label], right.predict_proba(X)[:, 1], atol=ATOL)


def test_columns_of_classes_are_balanced_each_by_itself():
    ours = MLPClassifier(**EXACT, class_weight="balanced").fit(X, COLUMNS)
    right = logistic(C=1.0, class_weight="balanced").fit(X, COLUMNS[:, 1])
    np.testing.assert_allclose(ours.predict_proba(X)[1], right.predict_proba(X), atol=ATOL)
    weight = compute_sample_weight("balanced", COLUMNS[:, 0])
    for unit in range(3):  # a sigmoid for each of three classes
        right = logistic(C=1.0).fit(X, COLUMNS[:, 0] == unit, weight)
        sigmoid = 1.0 / (1.0 + np.exp(-(X @ ours.coefs_[0][:, unit] + ours.intercepts_[0][unit])))
        np.testing.assert_allclose(sigmoid, right.predict_proba(X)[:, 1], atol=ATOL)


def test_three_hundred_balanced_labels_are_learned():
    """Their product would be 1e-45 for some rows: no label is missed for the others."""
    rng = np.random.default_rng(0)
    y = (X @ rng.normal(size=(5, 300)) / 2 + rng.normal(size=(300, 300)) > 1.5).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, balanced = (
            MLPClassifier((), class_weight=one, max_iter=60, learning_rate_init=0.02, random_state=0).fit(X, y)
            for one in (None, "balanced")
        )
    found = [model.predict(X)[y == 1].mean() for model in (plain, balanced)]
    assert found[1] > 0.75 > 0.55 > found[0]
    assert balanced.loss_ < 300 * np.log(2.0)


@settings(max_examples=15, deadline=None)
@given(labels=st.integers(2, 6), seed=st.integers(0, 1000), batch=st.sampled_from([7, 40, 200]))
def test_a_label_does_not_see_the_others_weights(labels, seed, batch):
    """Of a network of one layer a column depends on its label alone: balanced beside any others it is the same."""
    rng = np.random.default_rng(seed)
    y = (rng.random((40, labels)) < rng.uniform(0.1, 0.9, labels)).astype(int)
    y[:2] = [[0] * labels, [1] * labels]
    settings = dict(solver="sgd", momentum=0.0, learning_rate_init=0.05, shuffle=False, alpha=0.0, dtype="float64")
    settings |= dict(batch_size=min(batch, 40), max_iter=3, random_state=0, class_weight="balanced")
    one = MLPClassifier((), **settings).fit(X[:40], y)
    changed = y.copy()
    changed[2:, 1:] = (rng.random((38, labels - 1)) < 0.5).astype(int)
    other = MLPClassifier((), **settings).fit(X[:40], changed)
    np.testing.assert_allclose(one.coefs_[0][:, 0], other.coefs_[0][:, 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("y", "class_weight"),
    [(LABELS, {0: 1.0, 1: 2.0}), (LABELS, [{0: 1.0}] * 3), (COLUMNS, {7: 1.0}), (COLUMNS, [{}])],
    ids=["dict", "three", "dict for columns", "one for columns"],
)
def test_several_labels_need_weights_for_each(y, class_weight):
    model = small(class_weight=class_weight)
    with pytest.raises(ValueError, match=r"class_weight is .*, expected 'balanced' or a list of . dicts"):
        model.fit(X, y)
    assert not hasattr(model, "classes_")


# Rows of weight 0 ------------------------------------------------------------------------------------------------

FITS = {
    "batches": dict(batch_size=16),
    "lbfgs": dict(solver="lbfgs"),
    "early stopping": dict(early_stopping=True, batch_size=16),
    "balanced": dict(class_weight="balanced", batch_size=16),
    "norm": dict(batch_norm=True, dropout=0.1, batch_size=16),
    "auto": dict(),
}


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("y", [BINARY, CLASSES, LABELS, COLUMNS], ids=["binary", "classes", "labels", "columns"])
def test_rows_of_weight_0_are_not_there_for_a_classifier(how, y):
    one = small(**FITS[how]).fit(X, y, WEIGHT)
    alike(one, small(**FITS[how]).fit(X[THERE], y[THERE], WEIGHT[THERE])) if y is not COLUMNS else None
    other = small(**FITS[how]).fit(X[THERE], y[THERE], WEIGHT[THERE])
    for here, there in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("how", [name for name in FITS if name != "balanced"])
def test_rows_of_weight_0_are_not_there_for_a_regressor(how):
    one = small(MLPRegressor, **FITS[how]).fit(X, VALUE, WEIGHT)
    alike(one, small(MLPRegressor, **FITS[how]).fit(X[THERE], VALUE[THERE], WEIGHT[THERE]))


def test_a_class_of_rows_of_weight_0_alone_is_not_there():
    y = CLASSES.astype(object)
    y[:3] = "never"
    weight = WEIGHT.copy()
    weight[:3] = 0.0
    assert list(small().fit(X, y, weight).classes_) == ["a", "b", "c"]


def test_partial_fit_and_given_validation_do_not_see_rows_of_weight_0():
    one, other = small(), small()
    for _ in range(3):
        one.partial_fit(X, CLASSES, WEIGHT, classes=["a", "b", "c"])
        other.partial_fit(X[THERE], CLASSES[THERE], WEIGHT[THERE], classes=["a", "b", "c"])
    alike(one, other)
    fits = []
    for rows in (slice(None), THERE):
        fits.append(small(early_stopping=True, scoring="balanced_accuracy").fit(
            X, CLASSES, eval_X=X[rows], eval_y=CLASSES[rows], eval_sample_weight=WEIGHT[rows]
        ))  # fmt: skip
    alike(*fits)
    assert fits[0].validation_loss_curve_ == fits[1].validation_loss_curve_


def test_where_no_row_has_a_weight():
    with pytest.raises(ValueError, match=r"sample_weight is all zero|Sample weights must contain"):
        small().fit(X, BINARY, np.zeros(300))
    with pytest.raises(ValueError, match="class_weight is 0 for all classes"):
        small(class_weight={"yes": 0.0, "no": 0.0}).fit(X, BINARY)
    y = np.array(["b", "c", "a"] + ["b", "c"] * 15)[:30]
    weighs = small(class_weight={"b": 0.0, "c": 0.0}, early_stopping=True, validation_fraction=0.9)
    with pytest.raises(ValueError, match=r"sample_weight is all zero in the 3 rows to learn from"):
        weighs.fit(X[:30], y)  # the one row of "a" is held out


@pytest.mark.parametrize("sizes", [{64, 32}, {8: 1, 4: 2}, {8: 1}.keys()], ids=["set", "dict", "keys"])
def test_layer_sizes_without_order_are_refused(sizes):
    with pytest.raises((TypeError, ValueError), match="hidden_layer_sizes"):
        MLPClassifier(sizes).fit(X, BINARY)
