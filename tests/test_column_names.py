"""Columns whose names are not text are compared as well: no frame is read in another order than the fit's."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import fastnn
from fastnn import MLPClassifier, Sequential, Trainer, nn, optim

pd = pytest.importorskip("pandas")
X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
NAMES = {  # of a fit, and the same in another order
    "mixed": (["a", 1, "b"], ["b", 1, "a"]),
    "counted": ([0, 1, 2], [2, 1, 0]),
    "counted backwards": ([2, 1, 0], [0, 1, 2]),
    "numbers": ([10, 20, 30], [30, 20, 10]),
    "tuples": ([("a", 1), ("a", 2), ("b", 1)], [("b", 1), ("a", 2), ("a", 1)]),
    "dates": (list(pd.date_range("2020", periods=3)), list(pd.date_range("2020", periods=3))[::-1]),
}


def frame(names, x=X):
    made = pd.DataFrame(x)
    made.columns = pd.Index(list(names), tupleize_cols=False)
    return made


def fitted(X, **settings):
    trainer = Trainer(Sequential([nn.Dense(2)]), "cross_entropy", optim.Adam(0.1), seed=0)
    trainer.fit(X, Y, epochs=20, verbose=False, **settings)
    return trainer


@pytest.mark.parametrize(("names", "others"), NAMES.values(), ids=NAMES)
def test_another_order_is_refused(names, others, tmp_path):
    good, bad = frame(names), frame(names)[others]
    trainer = fitted(good)
    model = trainer.model
    right = model.predict(X)
    assert np.array_equal(model.predict(good), right) and (right.argmax(axis=1) == Y).mean() > 0.97
    message = rf"has column .* at position 0, but this model was fitted with .*{re.escape(str(names[0]))}.* there"
    model.save(tmp_path / "model")
    read = fastnn.load(tmp_path / "model")
    doors = [model.predict, model.predict_class, model.predictor(), read.predict, read.predictor()]
    doors += [
        lambda rows: model.evaluate(rows, Y),
        lambda rows: trainer.fit(rows, Y, epochs=1, verbose=False),
        lambda rows: trainer.fit([(good, Y), (rows, Y)], epochs=1, verbose=False),
        lambda rows: trainer.fit(good, Y, epochs=1, validation=(rows, Y), verbose=False),
        lambda rows: trainer.find_lr(rows, Y, steps=5),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnn.RateWarning)  # of 5 steps
        for door in doors:
            with pytest.raises(ValueError, match=message):
                door(bad)
            door(good)


def test_another_order_within_the_first_fit():
    with pytest.raises(ValueError, match=r"^validation X has column '2' at position 0, but .* fitted with '0' there"):
        fitted(frame([0, 1, 2]), validation=(frame([2, 1, 0]), Y))
    new = Trainer(Sequential([nn.Dense(2)]), "cross_entropy", seed=0)
    with pytest.raises(ValueError, match=r"^batch 1 of X has column '2' at position 0, but .* fitted with '0' there"):
        new.fit([(frame([0, 1, 2]), Y), (frame([2, 1, 0]), Y)], epochs=1, verbose=False)


def test_counted_columns_are_no_names():
    """pd.DataFrame(array) is as good as the array, whatever the columns of the fit were called."""
    for rows in (X, frame([0, 1, 2]), frame("abc"), frame(["a", 1, "b"])):
        trainer = fitted(rows)
        right = trainer.model.predict(X)
        assert np.array_equal(trainer.model.predict(frame([0, 1, 2])), right)
        trainer.fit(frame([0, 1, 2]), Y, epochs=1, verbose=False)
    assert fitted(frame([0, 1, 2])).model.feature_names is None
    assert np.array_equal(fitted(frame([0, 1, 2])).model.predict(frame("abc")), fitted(X).model.predict(X))
    with pytest.raises(ValueError, match=r"^Input X contains NaN, first at row 0, column 1$"):
        fitted(frame([0, 1, 2], np.full((200, 3), [1.0, np.nan, 1.0])))


def test_frames_side_by_side():
    twice = pd.concat([pd.DataFrame(X), pd.DataFrame(X)], axis=1)  # 0 1 2 0 1 2
    assert fitted(twice).model.predict(twice).shape == (200, 2)


def test_names_that_are_the_same_as_text():
    with pytest.raises(ValueError, match=r"^X has 2 columns 'a', expected names of their own"):
        fitted(frame(["a", "b", "a"]))


def test_a_row_by_names_that_are_no_text():
    predict = fitted(frame(["a", 1, "b"])).model.predictor()
    row = {"b": float(X[0, 2]), 1: float(X[0, 1]), "a": float(X[0, 0])}
    assert np.array_equal(predict(row), predict(X[0]))
    assert np.array_equal(predict(pd.Series(row)), predict(X[0]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_do_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    for made in (MLPClassifier((), max_iter=5), LogisticRegression()):
        with pytest.raises(TypeError, match="names are only supported if all input features have string names"):
            made.fit(frame(["a", 1, "b"]), Y)
        made.fit(frame("abc"), Y)
        with pytest.raises(TypeError, match="names are only supported if all input features have string names"):
            made.predict(frame(["a", 1, "b"]))
        with pytest.raises(ValueError, match="feature names should match"):
            made.predict(frame("cba"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made.predict(frame([2, 1, 0]))
        assert ["does not have valid feature names" in str(warning.message) for warning in caught] == [True]
