"""Which way a monitored quantity is better, whether there will be one, and which epoch is the best."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from fastnn import Sequential, Trainer, nn, optim
from fastnn.metrics import direction

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

X = np.random.default_rng(0).normal(size=(120, 5))
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
KINDS = [fastnn.EarlyStopping, fastnn.ReduceLROnPlateau]


def trainer(metrics=(), loss="cross_entropy") -> Trainer:
    return Trainer(Sequential([nn.Dense(2)]), loss, optim.Adam(0.01), metrics=metrics, seed=0)


def fit(made: Trainer, *callbacks, **arguments):
    return made.fit(X, Y, **{"epochs": 4, "validation": 0.25, "callbacks": callbacks, "verbose": False, **arguments})


def worth(y, p):
    """A number nobody knows the direction of."""
    return float((y == p).mean())


# Directions --------------------------------------------------------------------------------------------------------


def test_scorers_of_scikit_learn():
    """Of each a larger value is better; of the function below it, as its sign says."""
    metrics = pytest.importorskip("sklearn.metrics")
    for name in metrics.get_scorer_names():
        assert direction(name) == direction(f"val_{name}") == "max", name
        scorer = metrics.get_scorer(name)
        function = scorer._score_func.__name__
        if function not in ("positive_likelihood_ratio", "negative_likelihood_ratio"):  # of a pair, both
            assert direction(function) == ("max" if scorer._sign > 0 else "min"), function


@pytest.mark.parametrize(
    "name",
    ["AUC", "auroc", "roc_auc", "ACC", "f1_macro", "val_F1", "mcc", "top_5_accuracy", "iou", "neg_my_loss", "r2"],
)
def test_larger_is_better(name):
    assert direction(name) == "max" and fastnn.EarlyStopping(name).sign == 1


@pytest.mark.parametrize(
    "name",
    ["loss", "val_loss", "brier_score", "brier", "mean_tweedie_deviance", "my_error", "huber", "MAPE", "neg_auc"],
)
def test_smaller_is_better(name):
    assert direction(name) == "min" and fastnn.ReduceLROnPlateau(name).sign == -1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["val_anomaly_score", "val_error_score", "worth", "val_partial", "lr", "", "neg_", "val_"]
)
def test_what_nobody_knows_is_not_guessed(kind, name):
    assert direction(name) is None
    with pytest.raises(ValueError, match=rf"monitor is '{name}', of which nobody knows .*mode='min' or mode='max'"):
        _ = kind(name).sign
    assert kind(name, mode="max").sign == 1 and kind(name, mode="min").sign == -1


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_is_asked_for_before_the_first_step(kind):
    made = trainer([worth])
    with pytest.raises(ValueError, match="monitor is 'val_worth', of which nobody knows whether larger or smaller"):
        fit(made, kind("val_worth"))
    assert not made.model.built and len(made.history) == 0
    assert len(fit(made, kind("val_worth", mode="max"))) == 4


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_metrics_carry_theirs(mode, sign):
    """Also against what their name says; what the callback says itself comes first."""
    for name in ("worth", "mse"):
        metric = fastnn.metric(worth, mode=mode, name=name)
        stop, own = fastnn.EarlyStopping(f"val_{name}"), fastnn.EarlyStopping(f"val_{name}", mode="min")
        history = fit(trainer([metric]), stop, own)
        values = history[f"val_{name}"]
        assert stop.sign == sign and own.sign == -1
        assert stop.best_value == (max(values) if sign > 0 else min(values))


def test_functions_of_scikit_learn_carry_theirs():
    metrics = pytest.importorskip("sklearn.metrics")
    stop = fastnn.EarlyStopping("val_matthews_corrcoef")
    history = fit(trainer([metrics.matthews_corrcoef]), stop, epochs=20)
    assert stop.best_value == max(history["val_matthews_corrcoef"])
    for average in ("macro", "micro"):
        stop = fastnn.EarlyStopping(f"val_f1_score_{average}")
        history = fit(trainer([functools.partial(metrics.f1_score, average=average)]), stop)
        assert stop.best_value == max(history[f"val_f1_score_{average}"])
    stop = fastnn.EarlyStopping("val_mine")
    fit(trainer({"mine": functools.partial(metrics.fbeta_score, beta=2)}), stop)
    assert stop.sign == 1


# What there will be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize(
    ("monitor", "validation", "expected"),
    [
        ("val_acc", 0.25, "loss, lr, seconds, val_loss, val_accuracy$"),
        ("accuracy", 0.25, "loss, lr, seconds, val_loss, val_accuracy$"),
        ("acc", None, "loss, lr, seconds, accuracy$"),
    ],
)
def test_a_quantity_that_cannot_be_is_refused_before_the_first_step(
    kind, built, monitor, validation, expected, tmp_path
):
    made = trainer(["accuracy"])
    if built:
        made.model.build(5, seed=0)
        before = made.model.state.parameters.copy()
    with pytest.raises(ValueError, match=f"monitor is '{monitor}', expected one of: {expected}"):
        fit(made, fastnn.CSVLogger(tmp_path / "log.csv"), kind(monitor, mode="max"), validation=validation)
    assert made.model.built == built and len(made.history) == 0 and not list(tmp_path.iterdir())
    if built:
        np.testing.assert_array_equal(made.model.state.parameters, before)


def test_of_batches_there_are_no_metrics_of_training():
    made = trainer(["accuracy"])
    with pytest.raises(ValueError, match="monitor is 'accuracy', expected one of: loss, lr, seconds"):
        made.fit([(X, Y)], epochs=2, callbacks=[fastnn.EarlyStopping("accuracy")], verbose=False)


def test_a_callback_may_add_a_quantity():
    """One of one's own, of which nobody knows beforehand; where it does not, the first epoch says so."""
    add = fastnn.Lambda(on_epoch_end=lambda run: run.logs.update(gap=1.0 / run.epoch))

    class Add(fastnn.Callback):
        order = -1

        def on_epoch_end(self, run):
            run.logs["gap"] = 1.0 / run.epoch

    for own in (add, Add()):
        stop = fastnn.EarlyStopping("gap", mode="min")
        fit(trainer(), own, stop)
        assert stop.best_epoch == 4
    with pytest.raises(ValueError, match="monitor is 'gab', expected one of: loss, lr, seconds, val_loss, gap"):
        fit(trainer(), add, fastnn.EarlyStopping("gab", mode="min"))
    with pytest.raises(ValueError, match="monitor is 'gap', expected one of: loss, lr, seconds, val_loss"):
        fit(trainer(), fastnn.Lambda(on_fit_end=print), fastnn.EMA(0.9), fastnn.EarlyStopping("gap", mode="min"))


# Optuna ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ask():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return lambda which: optuna.create_study(direction=which).ask()


@pytest.mark.parametrize(
    ("monitor", "right", "wrong"),
    [
        ("val_brier_score", "minimize", "maximize"),
        ("val_neg_log_loss", "maximize", "minimize"),
        ("val_matthews_corrcoef", "maximize", "minimize"),
        ("val_mape", "minimize", "maximize"),
    ],
)
def test_the_study_goes_the_way_of_the_monitor(ask, monitor, right, wrong):
    assert fastnn.OptunaPruning(ask(right), monitor).monitor == monitor
    with pytest.raises(ValueError, match=f"monitor is '{monitor}', .* the direction {wrong}: change either"):
        fastnn.OptunaPruning(ask(wrong), monitor)
    mode = "max" if wrong == "maximize" else "min"
    assert fastnn.OptunaPruning(ask(wrong), monitor, mode=mode).mode == mode


def test_the_study_goes_the_way_of_the_metric(ask):
    metric = fastnn.metric(worth, mode="max")
    made = trainer([metric])
    with pytest.raises(ValueError, match="monitor is 'val_worth', of which larger is better"):
        fit(made, fastnn.OptunaPruning(ask("minimize"), "val_worth"))
    assert not made.model.built
    fit(made, fastnn.OptunaPruning(ask("maximize"), "val_worth"))
    fit(trainer([worth]), fastnn.OptunaPruning(ask("minimize"), "val_worth"))  # the study knows
    with pytest.raises(ValueError, match="mode is 'up', expected 'auto', 'min' or 'max'"):
        fastnn.OptunaPruning(ask("minimize"), mode="up")


# The best epoch ----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.floats(-10, 10), st.just(float("nan"))), min_size=1, max_size=30),
    st.floats(0, 3),
    st.sampled_from(["min", "max"]),
)
@settings(deadline=None, max_examples=200)
def test_the_best_epoch_has_the_best_value(values, min_delta, mode):
    """The first of the best, whatever min_delta; patience counts epochs that are not better by more than that than the
    last that was."""
    stop = fastnn.EarlyStopping("x", 3, min_delta, mode=mode)
    signed = np.array(values) * (1 if mode == "max" else -1)
    reference, waited = -np.inf, 0
    for epoch, value in enumerate(signed, 1):
        stop.look(SimpleNamespace(logs={"x": values[epoch - 1]}, epoch=epoch))
        reference, waited = (value, 0) if value > reference + min_delta else (reference, waited + 1)
        assert stop.waited == waited
        seen = signed[:epoch]
        if np.isnan(seen).all():
            assert stop.best_epoch is None and stop.best_value is None
        else:
            assert stop.best_epoch == int(np.nanargmax(seen)) + 1 and stop.best_value == values[stop.best_epoch - 1]


def test_the_parameters_of_the_best_value_are_kept():
    """Epoch 5, better by less than min_delta each time, is the best; epoch 2 the one that patience counts from."""
    kept = []

    class Script(fastnn.Callback):
        order = -1

        def on_epoch_end(self, run):
            run.logs["val_loss"] = [1, 0.5, 0.495, 0.492, 0.491, 0.6, 0.7][run.epoch - 1]
            kept.append(run.model.state.parameters.copy())

    made, stop = trainer(), fastnn.EarlyStopping(patience=4, min_delta=0.01)
    assert len(fit(made, Script(), stop, epochs=7)) == 6
    assert (stop.best_epoch, stop.best_value, stop.stopped) == (5, 0.491, True)
    np.testing.assert_array_equal(made.model.state.parameters, kept[4])


def test_a_quantity_that_is_nan_in_every_epoch_is_said():
    def f(y, p):
        return np.nan

    x = np.linspace(-1, 1, 20).reshape(-1, 1)
    stop = fastnn.EarlyStopping("val_f", patience=3, mode="min")
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", metrics=[f], seed=0)
    with pytest.warns(UserWarning, match="^val_f was NaN in every epoch: nothing was judged"):
        trainer.fit(x, x, epochs=20, validation=0.2, callbacks=[stop], verbose=False)
    assert stop.best_epoch is None and stop.stopped and len(trainer.history) == 3
