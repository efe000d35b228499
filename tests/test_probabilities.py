"""Probabilities and their logarithms keep their digits where one minus the other has none."""

from __future__ import annotations

import numpy as np
import pytest
from common import passing

from fastnn import Sequential, nn

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

LOGITS = st.lists(st.floats(-700.0, 700.0), min_size=1, max_size=20)


def log_sigmoid(z):
    """In the widest floating point there is."""
    return -np.logaddexp(np.longdouble(0), -np.asarray(z, np.longdouble))


def log_softmax(z):
    z = np.asarray(z, np.longdouble)
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(LOGITS)
@settings(deadline=None, max_examples=50)
def test_one_sigmoid(dtype, logits):
    """Both columns are sigmoids, to a few roundings of exp: its argument is exact, its error a rounding or two."""
    z = np.array(logits, dtype).reshape(-1, 1)
    found = passing(1, "binary_cross_entropy", dtype).predict_proba(z)
    expected = np.exp(np.hstack([log_sigmoid(-z), log_sigmoid(z)]))
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(found, expected.astype(np.float64), rtol=8 * np.finfo(dtype).eps, atol=tiny)
    assert found.dtype == dtype


@pytest.mark.parametrize("end", [[nn.Dense(1, "sigmoid", init=1.0)], [nn.Dense(1, init=1.0), nn.Activation("sigmoid")]])
def test_a_model_that_ends_with_its_sigmoid(end):
    model = Sequential(end).build(1, seed=0)
    model.loss = nn.LOSSES["binary_cross_entropy"]
    assert model.predict_proba([[20.0]])[0, 0] == pytest.approx(2.0611536181902037e-09, rel=1e-6)
    assert model.predict_proba([[80.0]])[0, 0] == pytest.approx(1.8048513878454153e-35, rel=1e-6)


# Estimators ----------------------------------------------------------------------------------------------------


def answering(y, columns: int, loss: str = "log_loss"):
    """A fitted classifier whose logits are its input."""
    pytest.importorskip("sklearn")
    from sklearn.exceptions import ConvergenceWarning

    from fastnn import MLPClassifier

    model = MLPClassifier((), loss=loss, max_iter=1, dtype="float64", random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(np.random.default_rng(0).normal(size=(len(y), columns)), y)
    model.coefs_ = [np.eye(columns)]
    model.intercepts_ = [np.zeros(columns)]
    return model


def test_two_classes_of_an_estimator():
    z = np.array([-900.0, -40.0, -1.0, 0.0, 2.5, 37.0, 40.0, 800.0])
    model = answering([0, 1, 1, 0], 1)
    logs = np.stack([log_sigmoid(-z), log_sigmoid(z)], axis=1)
    np.testing.assert_allclose(model.predict_proba(z[:, None]), np.exp(logs).astype(float), rtol=1e-14, atol=1e-308)
    np.testing.assert_allclose(model.predict_log_proba(z[:, None]), logs.astype(float), rtol=1e-14)


@pytest.mark.parametrize("loss", ["log_loss", "cross_entropy"])
def test_several_classes_of_an_estimator(loss):
    """A difference of 900 between logits: e^-900 is no float64, its logarithm is -900."""
    z = np.array([[0.0, 900.0, -900.0], [1.0, 2.0, 3.0], [-745.0, 0.0, 0.0]])
    found = answering([0, 1, 2, 1], 3, loss).predict_log_proba(z)
    np.testing.assert_allclose(found, log_softmax(z).astype(float), rtol=1e-14)
    assert found[0, 0] == -900.0


def test_several_labels_of_an_estimator():
    z = np.array([[0.0, 900.0], [-900.0, 3.0]])
    found = answering(np.array([[0, 1], [1, 0], [1, 1], [0, 0]]), 2).predict_log_proba(z)
    np.testing.assert_allclose(found, log_sigmoid(z).astype(float), rtol=1e-14)


def test_several_columns_of_an_estimator():
    """One of two classes, and the shares of three sigmoids."""
    z = np.array([[40.0, -800.0, -801.0, -802.0], [-40.0, 1.0, 2.0, 3.0]])
    two, three = answering(np.array([[0, 5], [1, 6], [1, 7], [0, 5]]), 4).predict_log_proba(z)
    np.testing.assert_allclose(two[:, 0], log_sigmoid(-z[:, 0]).astype(float), rtol=1e-14)
    np.testing.assert_allclose(three, log_softmax(log_sigmoid(z[:, 1:])).astype(float), rtol=1e-13)


def test_logarithms_are_those_of_the_probabilities():
    rng = np.random.default_rng(1)
    for model, columns in ((answering([0, 1, 1, 0], 1), 1), (answering([0, 1, 2, 1], 3), 3)):
        z = rng.normal(0, 3, (50, columns))
        np.testing.assert_allclose(np.exp(model.predict_log_proba(z)), model.predict_proba(z), rtol=1e-13)
