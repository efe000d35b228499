"""Predictors of scikit-learn's estimators: the classes, probabilities and values of the estimator itself."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from common import features

pytest.importorskip("sklearn")
from sklearn.exceptions import NotFittedError

from fastnn import MLPClassifier, MLPRegressor, backends

X = features(60, 5)


def fitted(kind, y, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(hidden_layer_sizes=(8,), max_iter=3, random_state=0, **settings).fit(X, y)


def drawn(names) -> np.ndarray:
    return np.asarray(names)[np.random.default_rng(0).integers(0, len(names), len(X))]


@pytest.mark.parametrize("loss", ["log_loss", "cross_entropy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "c"], [3, 1], [2, 5, 9, 11], [False, True], ["one", "one"]])
def test_classes_and_probabilities(names, loss, dtype):
    model = fitted(MLPClassifier, drawn(names), loss=loss, dtype=dtype)
    p = model.predictor()
    assert np.array_equal(p.predict_class(X), model.predict(X))
    found = [p.predict_class(x) for x in X]
    assert found == model.predict(X).tolist() and type(found[0]) is type(model.classes_.tolist()[0])
    bound = 30 * np.finfo(dtype).eps
    if len(model.classes_) > 1:
        assert np.allclose(p.predict_proba(X), model.predict_proba(X), rtol=bound, atol=bound)
        assert np.array_equal(p.classes, model.classes_)
    assert pickle.loads(pickle.dumps(p)).predict_class(X[7]) == found[7]


def test_several_labels():
    y = (features(60, 3, seed=2) > 0).astype(int)
    model = fitted(MLPClassifier, y)
    p = model.predictor()
    assert np.array_equal(p.predict_class(X), model.predict(X))
    assert np.array_equal(p.predict_class(X[3]), model.predict(X[3:4])[0])
    assert np.allclose(p.predict_proba(X), model.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gamma", "quantile"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_values(loss, outputs):
    y = np.exp(features(60, outputs, seed=3))
    model = fitted(MLPRegressor, y[:, 0] if outputs == 1 else y, loss=loss)
    p = model.predictor()
    assert np.allclose(p(X), model.predict(X).reshape(60, outputs), rtol=1e-6)
    assert np.allclose([p(x) for x in X], p(X), rtol=1e-5)


def test_names_of_features():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("vwxyz"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier(max_iter=2, random_state=0).fit(frame, drawn(["a", "b", "c"]))
    p = model.predictor()
    row = frame.iloc[4].to_dict()
    assert p.feature_names == list("vwxyz")
    assert p.predict_class(dict(reversed(row.items()))) == model.predict(frame)[4] == p.predict_class(frame.iloc[4])
    with pytest.raises(ValueError, match="'x'"):
        p({name: value for name, value in row.items() if name != "x"})


def test_its_classes_are_its_own():
    model = fitted(MLPClassifier, drawn(["a", "b", "c"]))
    p = model.predictor()
    before = p.predict_class(X)
    model.classes_[:] = ["x", "y", "z"]
    assert np.array_equal(p.predict_class(X), before) and p.predict_class(X[0]) == before[0]
    with pytest.raises(ValueError, match="read-only"):
        p.classes[0] = "x"


def test_what_has_no_predictor():
    with pytest.raises(NotFittedError):
        MLPClassifier().predictor()
    two = np.stack([drawn(["a", "b"]), drawn(["c", "d"])], axis=1)
    with pytest.raises(ValueError, match="2 columns of classes"):
        fitted(MLPClassifier, two).predictor()
    with pytest.raises(ValueError, match="expected cross_entropy"):
        fitted(MLPClassifier, drawn(["a", "b", "c"]), loss="binary_cross_entropy").predictor()
    hinge = fitted(MLPClassifier, drawn(["a", "b", "c"]), loss="hinge")
    assert np.array_equal(hinge.predictor().predict_class(X), hinge.predict(X))
    with pytest.raises(ValueError, match="expected a cross-entropy"):
        hinge.predictor().predict_proba(X)


def test_plain_arrays_skip_no_check_of_scikit_learns():
    """`predict` of a plain array asks the network first: what it refuses has scikit-learn's words, as before."""
    model = fitted(MLPClassifier, drawn(["a", "b", "c"]))
    hole = X.copy()
    hole[3, 2] = np.nan
    for wrong, message in (
        (hole, "contains NaN"),
        (X[:, :4], "X has 4 features, but MLPClassifier is expecting 5 features as input"),
        (X[0], "Expected 2D array, got 1D array instead"),
        (X[:0], "Found array with 0 sample"),
        (X[None], "dim 3"),
    ):
        for call in (model.predict, model.predict_proba):
            with pytest.raises(ValueError, match=message):
                call(wrong)
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(X)
    for Y in (X.tolist(), np.asfortranarray(X), X[::-1][::-1], X.astype(object)):
        assert np.array_equal(model.predict_proba(Y), model.predict_proba(X))
    whole = np.arange(300).reshape(60, 5) % 7
    assert np.array_equal(model.predict_proba(whole), model.predict_proba(whole.astype(float)))


def test_the_backend_in_use_predicts():
    model = fitted(MLPRegressor, X[:, 0])
    native = model.predict(X)
    with backends.use_backend("numpy"):
        assert np.allclose(model.predict(X), native, rtol=1e-5)
        assert model.predictor().backend == "numpy"
    assert np.array_equal(model.predict(X), native)
