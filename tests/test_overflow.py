"""Predictions that are no numbers of rows that are: said once, whatever the model begins with and whoever predicts."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from common import BACKENDS

import fastnn
from fastnn import MLPClassifier, MLPRegressor, Sequential, nn

ROWS = np.array([[1.0] * 4, [3e38] * 4, [-3e38] * 4], dtype=np.float32)  # 4 * 3e38 is beyond float32's 3.4e38
SAID = r"^predictions of {} of {} rows are NaN or infinite: what the layers make of X is beyond float32$"
MODELS = {
    "dense": [nn.Dense(2, init=1.0)],
    "two": [nn.Dense(3, init=1.0), nn.Dense(2, init=1.0)],
    "residual": [nn.Residual([nn.Dense(4, init=1.0)])],
    "scale": [nn.Scale(2.0)],
    "ordered": [nn.Ordered()],
    "alpha": [nn.Activation(nn.ACTIVATIONS["leaky_relu"].with_alpha(2.0))],
}


def said(predict, rows, match):
    """What it gives, with one warning, of the line that calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = predict(rows)
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert caught[0].filename == __file__
    assert re.match(match, str(caught[0].message)), caught[0].message
    return made


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_what_overflows_is_said(name, backend):
    model = Sequential(MODELS[name]).build(4, seed=0)
    with np.errstate(over="ignore"):
        right = model.predict(ROWS.astype(np.float64)[:1])
    with fastnn.use_backend(backend), warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.predict(ROWS[:1]), right, rtol=1e-5)
        predictor = model.predictor()
        predictor(ROWS[0])
        wrong = ~np.isfinite(_quietly(model, ROWS)).all(axis=1)
        assert wrong.any() and not wrong[0]
        for predict in (model.predict, predictor):
            made = said(predict, ROWS, SAID.format(wrong.sum(), 3))
            assert (np.isfinite(made).all(axis=1) == ~wrong).all()
        row = int(wrong.argmax())
        said(predictor, ROWS[row], SAID.format(1, 1))
        said(lambda x: predictor(x, np.empty(made.shape[1], np.float32)), ROWS[row], SAID.format(1, 1))


def _quietly(model, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.predict(rows)


def test_large_predictions_of_many_rows():
    model = Sequential([nn.Dense(2, init=1.0)]).build(4, seed=0)
    rows = np.ones((50_000, 4), np.float32)
    rows[49_999] = 3e38
    for predict in (model.predict, model.predictor()):
        said(predict, rows, SAID.format(1, 50_000))


def test_a_class_of_what_overflows():
    model = Sequential([nn.Dense(2, init=1.0)]).build(4, seed=0)
    model.loss = nn.LOSSES["cross_entropy"]
    for each in (model, model.predictor()):
        said(each.predict_class, ROWS, SAID.format(2, 3))
        said(each.predict_proba, ROWS, SAID.format(2, 3))
    said(model.predictor().predict_class, ROWS[1], SAID.format(1, 1))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [MLPRegressor, MLPClassifier])
def test_estimators(kind):
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    model = kind(hidden_layer_sizes=(), max_iter=2).fit(X, (X[:, 0] > 0).astype(int))
    model.coefs_[0][...] = 1.0
    said(model.predict, ROWS, SAID.format(2, 3))
    said(model.predictor(), ROWS, SAID.format(2, 3)) if kind is MLPRegressor else None


def test_what_is_finite_is_not_said():
    """The largest numbers, and NaN in X, which is an error of its own."""
    model = Sequential([nn.Dense(1, init=1.0)]).build(1, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for predict in (model.predict, model.predictor()):
            assert predict(np.array([[3.4e38]], np.float32))[0, 0] == np.float32(3.4e38)
            with pytest.raises(ValueError, match="contains NaN"):
                predict(np.array([[np.nan]], np.float32))
