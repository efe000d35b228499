"""A classifier whose rows were all of one class: it is certain, and so is whatever is made of it."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from common import BACKENDS

import fastnn
from fastnn import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
LOSSES = ["log_loss", "cross_entropy", "binary_cross_entropy"]


def fitted(loss="log_loss", y=("a",) * 60, **settings):
    return MLPClassifier((5,), loss=loss, max_iter=3, random_state=0, dtype="float32", **settings).fit(X, list(y))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("label", ["a", 7, True])
def test_its_probability_is_1(loss, label, tmp_path):
    model = fitted(loss, [label] * 60)
    model.save(tmp_path / "model")
    for each in (model, fastnn.load(tmp_path / "model")):
        assert (
            each.classes_.tolist() == [label] and (each.predict(X) == label).all() and each.score(X, [label] * 60) == 1
        )
        assert np.array_equal(each.predict_proba(X), np.ones((60, 1)))
        assert np.array_equal(each.predict_log_proba(X), np.zeros((60, 1)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_predictor_is_certain(loss, backend):
    with fastnn.use_backend(backend):
        model = fitted(loss)
        predictors = [model.predictor(), model.predictor(dtype="int8")]
        for p in predictors:
            assert p.classes.tolist() == ["a"] and p(X).shape == (60, 1)
            assert np.array_equal(p.predict_proba(X), np.ones((60, 1))) and p.predict_proba(X[0]).tolist() == [1.0]
            assert p.predict_class(X).tolist() == ["a"] * 60 and p.predict_class(X[0]) == "a"


def test_a_column_of_one_class_among_others():
    y = np.stack([np.where(X[:, 0] > 0, "b", "c"), np.full(60, "a")], axis=1)
    model = fitted(y=y.tolist())
    two, one = model.predict_proba(X)
    assert two.shape == (60, 2) and np.array_equal(one, np.ones((60, 1)))
    assert np.array_equal(model.predict_log_proba(X)[1], np.zeros((60, 1)))
    assert (model.predict(X)[:, 1] == "a").all()


def test_classes_that_partial_fit_was_told_of_are_classes():
    model = MLPClassifier((5,), random_state=0).partial_fit(X, ["a"] * 60, classes=["a", "b"])
    assert model.predict_proba(X).shape == (60, 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_as_onnx(loss, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted(loss).to_onnx(tmp_path / "m.onnx")
    label, probabilities = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"X": X})
    assert label.tolist() == ["a"] * 60 and np.array_equal(probabilities, np.ones((60, 1), np.float32))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_as_c(loss, tmp_path):
    fitted(loss).to_c(tmp_path / "model.c", rows=X)
    made = ["model.c", "model_test.c", "-o", "model_test", "-std=c99"]
    subprocess.run(["cc", *made], cwd=tmp_path, check=True)
    subprocess.run(["./model_test"], cwd=tmp_path, check=True)


def test_a_hinge_has_no_probabilities():
    model = fitted("hinge")
    assert (model.predict(X) == "a").all() and model.predictor().predict_class(X[0]) == "a"
