"""Several threads, one model or one estimator: all but one are refused, and that one learns what it would alone."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from common import ENGINES

import fastnn
from fastnn import Sequential, backends, nn, optim
from fastnn.engine import Batches, Objective

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6))
Y = X[:, 0] * X[:, 1]


def while_fitting(estimator, monkeypatch, then, fit=None):
    """What `then` makes within a fit of the estimator by another thread."""
    inside, go_on = threading.Event(), threading.Event()
    checks = type(estimator)._check_arrays

    def slow(self, *arguments):
        inside.set()
        go_on.wait(60)
        return checks(self, *arguments)

    monkeypatch.setattr(type(estimator), "_check_arrays", slow)
    thread = threading.Thread(target=fit or (lambda: estimator.fit(X, Y)))
    thread.start()
    inside.wait(60)
    try:
        return then()
    finally:
        go_on.set()
        thread.join()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("before", [False, True], ids=["first", "second"])
def test_an_estimator_is_not_saved_while_it_is_fitted(before, monkeypatch, tmp_path):
    estimators = pytest.importorskip("fastnn.estimators")
    model = estimators.MLPRegressor(hidden_layer_sizes=(8,), max_iter=3, random_state=0)
    if before:
        model.fit(X, Y)

    def refused():
        with pytest.raises(RuntimeError, match=r"^MLPRegressor is being fitted, expected to be saved before or after"):
            model.save(tmp_path / "model")
        return pickle.loads(pickle.dumps(model))

    copied = while_fitting(model, monkeypatch, refused)
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    for each in (model, copied.fit(X, Y)):
        each.save(tmp_path / "model")
        np.testing.assert_array_equal(fastnn.load(tmp_path / "model").predict(X), each.predict(X))
        assert not hasattr(each, "_begun")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_callback_does_not_save_its_estimator(tmp_path):
    estimators = pytest.importorskip("fastnn.estimators")
    save = fastnn.Lambda(on_epoch_end=lambda run: model.save(tmp_path / "model"))
    model = estimators.MLPRegressor(max_iter=3, callbacks=[save])
    with pytest.raises(
        RuntimeError, match=r"^MLPRegressor is being fitted, expected to be saved before or after that$"
    ):
        model.fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_estimator_is_fitted_by_one_thread(solver, monkeypatch):
    sklearn_like = pytest.importorskip("fastnn.estimators")
    settings = dict(hidden_layer_sizes=(8,), solver=solver, max_iter=5, random_state=0, warm_start=True)
    alone = sklearn_like.MLPRegressor(**settings)
    shared = sklearn_like.MLPRegressor(**settings)
    with pytest.warns(match="[Cc]onverge"):
        alone.fit(X, Y)

    def refused():
        for call in (shared.fit, shared.partial_fit) if solver == "adam" else (shared.fit,):
            with pytest.raises(
                RuntimeError, match=r"^MLPRegressor is being fitted by another thread, expected one fit at a time$"
            ):
                call(X, Y)

    while_fitting(shared, monkeypatch, refused)
    np.testing.assert_array_equal(shared.predict(X), alone.predict(X))
    monkeypatch.undo()
    with pytest.warns(match="[Cc]onverge"):
        shared.fit(X, Y)  # free again


def test_the_classes_of_a_first_call_are_of_one_thread(monkeypatch):
    """They were learned before the lock was taken: another's first call found some of them."""
    sklearn_like = pytest.importorskip("fastnn.estimators")
    shared = sklearn_like.MLPClassifier((8,), random_state=0)
    y = (Y > 0).astype(int)

    def refused():
        before = dict(shared.__dict__)
        with pytest.raises(RuntimeError, match=r"^MLPClassifier is being fitted by another thread"):
            shared.partial_fit(X, y, classes=[0, 1, 2])
        assert shared.__dict__ == before

    while_fitting(shared, monkeypatch, refused, lambda: shared.partial_fit(X, y, classes=[0, 1]))
    np.testing.assert_array_equal(shared.classes_, [0, 1])


def test_a_refused_first_call_leaves_no_classes():
    sklearn_like = pytest.importorskip("fastnn.estimators")
    made = sklearn_like.MLPClassifier((8,), random_state=0)
    with pytest.raises(ValueError, match="NaN"):
        made.partial_fit(np.full_like(X, np.nan), (Y > 0).astype(int), classes=[0, 1])
    assert not hasattr(made, "classes_")


def test_the_lock_of_an_estimator_is_not_pickled():
    sklearn_like = pytest.importorskip("fastnn.estimators")
    made = sklearn_like.MLPRegressor(hidden_layer_sizes=(4,), max_iter=300, tol=1.0, random_state=0).fit(X, Y)
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.fit(X, Y).predict(X), made.fit(X, Y).predict(X))


@pytest.mark.parametrize("backend", [name for name in ENGINES if name == "native"])
def test_the_native_engine_itself_is_entered_by_one_thread(backend):
    """Whoever calls it: a second call would change the buffers that the first computes in."""
    chosen = backends.resolve(backend)
    model = Sequential([nn.Dense(16, "tanh"), nn.Dense(1)]).build(6, seed=0)
    objective = Objective(nn.LOSSES["mse"], optim.SGD(1e-3))
    x, y = X.astype(np.float32), Y[:, None].astype(np.float32)

    def call(steps):
        batches = Batches(x, y, None, RNG.integers(0, len(x), 4 * steps), 4)
        return chosen.train_steps(model.plan, model.state, objective, batches, np.full(steps, 1e-3))

    def until_taken():
        while not taken(1_000_000):
            pass

    def taken(steps):
        try:
            call(steps)
        except RuntimeError as error:
            refused.append(str(error))
            return False
        return True

    refused = []
    thread = threading.Thread(target=until_taken)
    thread.start()
    while thread.is_alive():
        taken(1)
    thread.join()
    assert set(refused) == {"model is being fitted already, expected one fit at a time"}
    call(1)
    assert np.isfinite(model.state.parameters).all()
