"""Metrics: what functions are given, their names, and that all is computed from the y that was passed, in float64."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
from common import ENGINES, passing

import fastnn
from fastnn import Sequential, Trainer, nn, optim
from fastnn.metrics import named_metrics

engines = pytest.mark.parametrize("backend", ENGINES)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))


# What functions are given ------------------------------------------------------------------------------------------


def seen(model, x, y, weight=None, **settings):
    """The arguments that a function gets."""
    got = []

    def look(*arguments):
        got.extend(arguments)
        return 0.0

    model.evaluate(x, y, sample_weight=weight, metrics=[fastnn.metric(look, **settings)])
    return got


@engines
@pytest.mark.parametrize("shape", [(60,), (60, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, bool])
def test_values_come_in_the_shape_of_y(backend, shape, dtype):
    y = (RNG.normal(size=shape) > 0).astype(dtype)
    got, prediction = _seen_of_a_fit(backend, y)
    assert got.shape == prediction.shape == shape and prediction.dtype == np.float64
    assert got.dtype == (np.float64 if dtype == np.float32 else dtype)
    np.testing.assert_array_equal(got, y)


def _seen_of_a_fit(backend, y):
    got = []

    def look(y, prediction):
        got[:] = [y, prediction]
        return 0.0

    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", metrics=[look], seed=0, backend=backend)
    trainer.fit(X, y, epochs=1, verbose=False)
    np.testing.assert_array_equal(got[1].ravel(), trainer.model.predict(X, backend=backend)[:, 0])
    return got


def test_correlation_needs_no_reshaping():
    def corr(y, p):
        return np.corrcoef(y, p)[0, 1]

    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", metrics=[corr], seed=0)
    history = trainer.fit(X, X[:, 0], epochs=3, verbose=False)
    expected = np.corrcoef(X[:, 0], trainer.model.predict(X)[:, 0])[0, 1]
    assert history["corr"][-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("loss", "outputs", "shape"), [
    ("binary_cross_entropy", 1, (60,)), ("cross_entropy", 2, (60,)), ("cross_entropy", 3, (60, 3)),
    ("binary_cross_entropy", 3, (60, 3)),
])  # fmt: skip
def test_probabilities(loss, outputs, shape):
    """For two classes that of class 1, as scikit-learn's scorers have it; "predict_proba" is that."""
    z = RNG.normal(size=(60, outputs))
    y = RNG.integers(0, 2, (60, outputs) if loss == "binary_cross_entropy" and outputs > 1 else 60)
    model = passing(outputs, loss, np.float32)
    truth, p = seen(model, z, y, needs="probability")
    expected = model.predict_proba(z)
    np.testing.assert_array_equal(p, expected[:, 1] if len(shape) == 1 else expected)
    np.testing.assert_array_equal(truth, y)
    np.testing.assert_array_equal(seen(model, z, y, needs="predict_proba")[1], expected)


def test_weights():
    """By name or in third place, of the rows that have one; where a function names them it gets them."""
    model, z, y = passing(1, "mse"), RNG.normal(size=(60, 1)), RNG.normal(size=60)
    weight = np.where(np.arange(60) % 3 == 0, 0.0, RNG.lognormal(size=60))
    left = weight > 0
    truth, p, own = seen(model, z, y, weight, weights=True)
    np.testing.assert_array_equal(truth, y[left])
    np.testing.assert_array_equal(p, z[left, 0])
    np.testing.assert_array_equal(own, weight[left])
    assert len(seen(model, z, y, weight)) == 2  # of any arguments: not asked for
    assert seen(model, z, y, None, weights=True)[2] is None

    def by_name(y, p, *, sample_weight=None):
        return np.average((y - p) ** 2, weights=sample_weight)

    def by_place(y, p, w):
        return by_name(y, p, sample_weight=w)

    def any_keywords(y, p, **more):
        return by_name(y, p, **more)

    found = model.evaluate(
        z, y, sample_weight=weight,
        metrics=["mse", by_name, fastnn.metric(by_place, weights=True), fastnn.metric(any_keywords, weights=True)],
    )  # fmt: skip
    assert found["by_name"] == found["by_place"] == found["any_keywords"] == pytest.approx(found["mse"], rel=1e-12)
    plain = model.evaluate(z[left], y[left], metrics=[fastnn.metric(by_name, weights=False)])
    assert model.evaluate(z, y, sample_weight=weight, metrics=[fastnn.metric(by_name, weights=False)])[
        "by_name"
    ] == pytest.approx(plain["by_name"], rel=1e-12)


def test_weights_are_not_rounded():
    """Of float64, in a float32 model."""
    model, z, y = passing(1, "mse", np.float32), np.zeros((3, 1)), np.array([0.0, 1.0, 2.0])
    weight = np.array([1.0, 1.0 + 1e-12, 1.0])
    assert model.evaluate(z, y, sample_weight=weight)["loss"] == np.average(y**2, weights=weight)


def test_a_function_cannot_change_what_the_next_one_sees():
    def spoil(y, p):
        p[...] = 0
        return 0.0

    model, z, y = passing(1, "mse"), RNG.normal(size=(60, 1)), RNG.normal(size=60)
    found = model.evaluate(z, y, metrics=[spoil, "mae"])
    assert found["mae"] == pytest.approx(np.abs(z[:, 0] - y).mean(), rel=1e-12)


@engines
def test_predictions_are_those_of_predict(backend):
    """A poisson model that ends with its exponential: rates, to the bit; one that does not: its own output for
    functions, rates for names."""

    def total(y, p):
        return p.sum()

    y = RNG.poisson(3.0, 60)
    for end in ("exponential", None):
        model = Sequential([nn.Dense(1, end)])
        trainer = Trainer(model, "poisson", optim.Adam(0.02), metrics=[total, "mae"], seed=0, backend=backend)
        trainer.fit(X, y, epochs=3, verbose=False)
        found, prediction = trainer.evaluate(X, y), model.predict(X, backend=backend)[:, 0].astype(np.float64)
        assert found["total"] == pytest.approx(prediction.sum(), rel=1e-14)
        rates = prediction if end else np.exp(prediction)
        assert found["mae"] == pytest.approx(np.abs(y - rates).mean(), rel=1e-12)
        assert found["loss"] == pytest.approx((rates - y * np.log(rates)).mean(), rel=1e-6)


# Names of functions ------------------------------------------------------------------------------------------------


def gain(y, p, kind="a", times=1):
    return float(times)


def test_names():
    made = named_metrics(
        [gain, functools.partial(gain, kind="b"), functools.partial(gain, times=2), fastnn.metric(gain, name="mine")],
        nn.LOSSES["mse"],
    )
    assert list(made) == ["gain", "gain_b", "gain_times=2", "mine"]
    twice = {"first": "mae", "second": "mae", "third": gain}
    model = passing(1, "mse")
    found = model.evaluate(X[:, :1], X[:, 1], metrics=twice)
    assert list(found) == ["loss", "first", "second", "third"] and found["first"] == found["second"]
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", metrics=twice, seed=0)
    history = pickle.loads(pickle.dumps(trainer)).fit(X, X[:, 1], epochs=1, validation=0.2, verbose=False)
    assert {"val_first", "val_second", "val_third"} < set(history)


@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        ({3: "mae"}, "metrics has the name 3, expected text"),
        ({"loss": "mae"}, "metrics has the name 'loss', which is what a history calls something else"),
        ({"val_mae": "mae"}, "metrics has the name 'val_mae', which is what a history calls something else"),
        ({"a": 3}, "metrics has 3, expected one of accuracy, .* or a function"),
        ([gain, gain], "metrics has the name 'gain', which is there twice"),
    ],
)
def test_names_that_cannot_be(metrics, error):
    with pytest.raises((TypeError, ValueError), match=error):
        Trainer(Sequential([nn.Dense(1)]), "mse", metrics=metrics)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (dict(needs="proba"), "needs is 'proba', expected one of: prediction, probability, predict_proba"),
        (dict(mode="up"), "mode is 'up', expected 'min', 'max' or None"),
        (dict(weights="yes"), "weights is 'yes', expected True, False or None"),
        (dict(name=3), "name is 3, expected text"),
    ],
)
def test_settings_of_a_metric(settings, error):
    with pytest.raises((TypeError, ValueError), match=error):
        fastnn.metric(gain, **settings)
    with pytest.raises(TypeError, match="function is 3, expected a function"):
        fastnn.metric(3)


# Targets as they were passed ---------------------------------------------------------------------------------------

STAMPS = 1.7e9 + 5 * RNG.normal(size=60)  # seconds: float32 has steps of 128 there


def constant(value: float) -> Sequential:
    model = Sequential([nn.Dense(1, init=0.0)]).build(3, seed=0)
    model.layers[0].bias[...] = value
    model.loss = nn.LOSSES["mse"]
    return model


@engines
@pytest.mark.parametrize("y", [STAMPS, STAMPS[:, None], 2**24 + np.arange(60) % 2, (1.7e9 + np.arange(60)).astype(int)])
def test_targets_are_not_rounded(backend, y):
    model = constant(y.mean())
    p = model.predict(X, backend=backend).astype(float).reshape(y.shape)
    found = model.evaluate(X, y, metrics=["mae", "rmse", "r2"], backend=backend)
    assert found["loss"] == pytest.approx(((y - p) ** 2).mean(), rel=1e-12)
    assert found["mae"] == pytest.approx(np.abs(y - p).mean(), rel=1e-12)
    assert found["rmse"] == pytest.approx(np.sqrt(((y - p) ** 2).mean()), rel=1e-12)
    assert found["r2"] == pytest.approx(1 - ((y - p) ** 2).mean() / y.var(), rel=1e-9)


@engines
@pytest.mark.filterwarnings("ignore::fastnn.PrecisionWarning")
def test_of_a_fit_neither(backend):
    """The validation that a history has and EarlyStopping sees, held out or given."""
    for validation in (0.5, (X, STAMPS)):
        model = constant(1.7e9)
        trainer = Trainer(model, "mse", optim.SGD(0.0), metrics=["mae"], seed=0, backend=backend)
        stop = fastnn.EarlyStopping("val_mae")
        history = trainer.fit(X, STAMPS, epochs=1, validation=validation, callbacks=[stop], verbose=False)
        assert 1.0 < history["val_mae"][0] < 64.0 and stop.best_value == history["val_mae"][0]
        if validation != 0.5:
            assert history["val_mae"][0] == pytest.approx(np.abs(STAMPS - 1.7e9).mean(), rel=1e-12)
            assert history["val_loss"][0] == pytest.approx(((STAMPS - 1.7e9) ** 2).mean(), rel=1e-12)
        training = Trainer(constant(1.7e9), "mse", optim.SGD(0.0), metrics=["mae"], seed=0, backend=backend)
        measured = training.fit(X, STAMPS, epochs=1, verbose=False)["mae"][0]
        assert measured == pytest.approx(np.abs(STAMPS - 1.7e9).mean(), rel=1e-12)


@engines
@pytest.mark.parametrize("loss", [name for name, loss in nn.LOSSES.items()])
def test_the_reported_loss_is_of_float64(backend, loss):
    """As the formula has it in float64, of the float32 logits and the y that was passed."""
    chosen = nn.LOSSES[loss]
    outputs = 3 if chosen.width == 1 else chosen.width
    y = RNG.integers(0, 2, 60) if "labels" in chosen.targets else RNG.random((60, outputs // chosen.width))
    model, rows = passing(outputs, loss, np.float32), X[:, :outputs]
    z = model.predict(rows).astype(np.float64)
    expected = chosen.evaluate(z, y)[0].mean()
    assert model.evaluate(rows, y, backend=backend)["loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("y", [X[:, 0] + 1e8, 2**25 + np.arange(60), np.stack([X[:, 0], X[:, 1] + 1e8], axis=1)])
def test_targets_that_are_rounded_away_to_learn_from(y):
    columns = 1 if y.ndim == 1 else 2
    rounded = r"y spreads .* around .*, which float32 rounds away: "
    with pytest.warns(fastnn.PrecisionWarning, match=rounded + r"take Trainer\(..., scale_targets=True\)") as caught:
        Trainer(Sequential([nn.Dense(columns)]), "mse", seed=0).fit(X, y, epochs=1, verbose=False)
    assert caught[0].filename == __file__ and ("output 1 of y" in str(caught[0].message)) == (columns == 2)
    with pytest.warns(fastnn.PrecisionWarning, match=rounded + "subtract its mean"):
        Trainer(Sequential([nn.Dense(columns)]), "mse", seed=0).fit([(X, y)], epochs=1, verbose=False)


WIDER = r"take Sequential\(layers, dtype='float64'\)$"
SHIFTED = "subtract its mean, or " + WIDER


def own_loss():
    return nn.loss("own", lambda z, y, p: (z - y) ** 2, lambda z, y, p: 2.0 * (z - y))


@pytest.mark.filterwarnings("ignore::fastnn.TargetWarning")
@pytest.mark.parametrize(
    ("loss", "advice"),
    {
        "mse": r"take Trainer\(..., scale_targets=True\)", "mae": r"take Trainer\(..., scale_targets=True\)",
        "log_cosh": SHIFTED, "gaussian": SHIFTED, "quantiles": SHIFTED,  # less a constant they are targets as well
        "gamma": WIDER, "poisson": WIDER, "tweedie": WIDER, "own": WIDER,  # > 0; nobody knows
    }.items(),
)  # fmt: skip
def test_the_advice_fits_the_loss(loss, advice):
    chosen = {"quantiles": nn.Quantiles([0.1, 0.9]), "own": own_loss()}.get(loss, loss)
    y = 1e8 + X[:, 0]
    for rows, said in (((X, y), advice), (([(X, y)],), WIDER if advice == WIDER else SHIFTED)):
        made = Trainer(Sequential([nn.Dense(2 if loss in ("gaussian", "quantiles") else 1)]), chosen, optim.SGD(0.0))
        with pytest.warns(fastnn.PrecisionWarning, match=rf"which float32 rounds away: {said}") as caught:
            made.fit(*rows, epochs=1, verbose=False)
        assert len([w for w in caught if w.category is fastnn.PrecisionWarning]) == 1
        if "scale_targets" in said:  # what is advised is taken
            Trainer(Sequential([nn.Dense(1)]), chosen, scale_targets=True).fit(*rows, epochs=1, verbose=False)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "scale it, as with .*StandardScaler, or take dtype='float64'$"),
        ({"loss": "gamma"}, "take dtype='float64'$"),
    ],
)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_an_estimator_says_it_once_in_its_own_words(settings, said, solver):
    with pytest.warns(fastnn.PrecisionWarning, match=rf"which float32 rounds away: {said}") as caught:
        fastnn.MLPRegressor(hidden_layer_sizes=(), dtype="float32", max_iter=1, solver=solver, **settings).fit(
            X, 1e8 + X[:, 0]
        )
    assert len([w for w in caught if w.category is fastnn.PrecisionWarning]) == 1


@pytest.mark.filterwarnings("error::fastnn.PrecisionWarning")
@pytest.mark.parametrize("y", [X[:, 0] + 100, np.full(60, 1e8), np.arange(60), X[:, 0] * 1e15])
def test_targets_that_float32_holds(y):
    for dtype, given in (("float32", y), ("float64", STAMPS)):
        trainer = Trainer(Sequential([nn.Dense(1)], dtype=dtype), "mse", optim.SGD(0.0), seed=0)
        assert len(trainer.fit(X, given, epochs=1, verbose=False)) == 1


@pytest.mark.filterwarnings("ignore::fastnn.PrecisionWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "absolute_error"])
def test_estimators_judge_by_the_y_that_was_passed(loss):
    """R^2 of the rows for validation, of predict, as score gives it."""
    pytest.importorskip("sklearn")
    y = 1e7 + RNG.random(60) if loss != "poisson" else RNG.poisson(5.0, 60) + 0.1
    model = fastnn.MLPRegressor(
        loss, (), solver="sgd", max_iter=1, random_state=0, early_stopping=True, dtype="float32", restore_best=False,
        learning_rate_init=1e-9,
    )  # fmt: skip
    weight = RNG.lognormal(size=60)
    model.fit(X, y, eval_X=X, eval_y=y, eval_sample_weight=weight)
    assert model.validation_scores_[-1] == pytest.approx(model.score(X, y, weight), rel=1e-9)


@engines
@pytest.mark.parametrize("end", ["exponential", None])
def test_batches_are_scored_as_one(backend, end):
    """Their outputs are put together: no mean of means. Batches without weights among others count for 1 a row."""
    model = Sequential([nn.Dense(1, end)], dtype=np.float64).build(3, seed=0)
    model.loss = nn.LOSSES["poisson"]
    y, weight = RNG.poisson(3.0, 60).astype(float), np.r_[RNG.lognormal(size=20), np.ones(40)]
    named = named_metrics(["mae", "r2", gain], model.loss)
    parts = [model.checked(X[rows], y[rows], None, model.loss) for rows in (slice(20, 50), slice(50, 60))]
    parts.insert(0, model.checked(X[:20], y[:20], weight[:20], model.loss))
    whole = model.score(model.checked(X, y, weight, model.loss), named, backend)
    assert model.score(iter(parts), named, backend) == pytest.approx(whole, rel=1e-12)
    assert model.score(parts[1:], named, backend) == pytest.approx(
        model.score(model.checked(X[20:], y[20:], None, model.loss), named, backend), rel=1e-12
    )


def test_a_row_of_weight_0_may_have_any_loss():
    model, y = passing(1, "mse"), np.zeros(3)
    z, weight = np.array([[1.0], [1e200], [2.0]]), np.array([1.0, 0.0, 1.0])
    assert model.evaluate(z, y, sample_weight=weight, metrics=["mse"]) == {"loss": 2.5, "mse": 2.5}
