"""Trainer: what a fit does with epochs, batches, seeds and interruptions, and that networks learn."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from common import ENGINES, build, features, gradient, parameters

import fastnn
from fastnn import DivergenceError, History, Sequential, Trainer, backends, nn, optim
from fastnn.training import run as run_module

X, Y = features(50, 4), features(50, 2, seed=9)
LABELS = np.arange(50) % 3

pytestmark = pytest.mark.parametrize("backend", ENGINES)


def network(seed: int = 0, dtype=np.float32) -> Sequential:
    layers = [nn.Dense(8, "relu"), nn.Dropout(0.2), nn.BatchNorm(), nn.Dense(2)]
    return Sequential(layers, dtype=dtype).build(4, seed=seed)


def fit(backend, model=None, *, seed=0, optimizer="adam", loss="mse", y=Y, x=X, trainer=None, **settings):
    trainer = trainer or Trainer(model or network(), loss, optimizer, seed=seed, backend=backend)
    trainer.fit(x, y, **{"epochs": 2, "batch_size": 16, "verbose": False, **settings})
    return trainer


def same_bits(left: Sequential, right: Sequential) -> None:
    for name, value in left.state.views.items():
        np.testing.assert_array_equal(right.state.views[name], value, err_msg=name)


def differ(left: Sequential, right: Sequential) -> bool:
    return any((value != right.state.views[name]).any() for name, value in left.state.views.items())


# Batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "steps"), [("full", 1), (1, 50), (16, 4), (25, 2), (50, 1), (51, 1), (10**9, 1)]
)
def test_steps_of_an_epoch(backend, batch_size, steps):
    trainer = fit(backend, epochs=3, batch_size=batch_size)
    assert trainer.model.state.step == 3 * steps


def test_one_row(backend):
    trainer = fit(backend, x=X[:1], y=Y[:1])
    assert trainer.model.state.step == 2
    assert np.isfinite(trainer.model.predict(X[:1])).all()


def test_full_batch_does_not_depend_on_the_order(backend):
    """But for rounding: shuffled or not, the mean over all rows is the same."""
    models = [build(nn.Dense(3, "tanh"), nn.Dense(2), inputs=4) for _ in range(2)]
    for model, shuffle in zip(models, (True, False), strict=True):
        fit(backend, model, batch_size="full", shuffle=shuffle, optimizer=optim.SGD(0.1), epochs=5)
    for name, value in models[0].state.views.items():
        np.testing.assert_allclose(models[1].state.views[name], value, rtol=1e-10)


def test_without_shuffle_rows_come_in_order(backend):
    """Batch by batch by hand: the same steps as slices of the data one after the other."""
    whole, parts = network(dtype=np.float64), network(dtype=np.float64)
    fit(backend, whole, epochs=1, shuffle=False, optimizer=optim.SGD(0.1))
    trainer = Trainer(parts, "mse", optim.SGD(0.1), seed=0, backend=backend)
    for start in range(0, 50, 16):
        part = slice(start, start + 16)
        trainer.fit(X[part], Y[part], epochs=1, batch_size="full", shuffle=False, verbose=False)
    for name, value in whole.state.views.items():
        np.testing.assert_allclose(parts.state.views[name], value, rtol=1e-12, err_msg=name)


def test_every_epoch_visits_every_row_once_in_a_new_order(backend):
    seen = []
    right = backends.load(backend)

    def train_steps(plan, state, objective, batches, lr):
        seen.append(batches.order.copy())
        return right.train_steps(plan, state, objective, batches, lr)

    fit(replace(right, train_steps=train_steps), epochs=3)
    epochs = np.concatenate(seen).reshape(3, 50)
    for order in epochs:
        assert sorted(order) == list(range(50))
        assert list(order) != list(range(50))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


# Seeds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_same_seed_same_bits(backend, optimizer):
    same_bits(*(fit(backend, Sequential(fresh()), optimizer=optimizer).model for _ in range(2)))


def fresh() -> list[nn.Layer]:
    return [nn.Dense(8, "rrelu"), nn.Dropout(0.2), nn.BatchNorm(), nn.Dense(2)]


def test_the_seed_draws_weights_order_and_dropout(backend):
    assert differ(*(fit(backend, Sequential(fresh()), seed=seed).model for seed in (0, 1)))
    assert differ(*(fit(backend, seed=seed, batch_size="full").model for seed in (0, 1)))  # same weights: dropout
    plain = [build(nn.Dense(2), inputs=4) for _ in range(2)]
    assert differ(*(fit(backend, model, seed=seed).model for seed, model in enumerate(plain)))  # the order alone


def test_the_slices_of_an_epoch_do_not_show(backend, monkeypatch):
    """How much work one call takes depends on the clock: it must not be seen in the result."""
    long = fit(backend, epochs=3, batch_size=4)
    monkeypatch.setattr(run_module, "SLICE_SECONDS", 0.0)  # one step a call
    short = fit(backend, epochs=3, batch_size=4)
    same_bits(long.model, short.model)
    assert short.history["loss"] == pytest.approx(long.history["loss"], rel=1e-12)


def test_without_a_seed_one_is_drawn_and_told(backend):
    first = Trainer(Sequential(fresh()), "mse", backend=backend)
    again = Trainer(Sequential(fresh()), "mse", seed=first.seed, backend=backend)
    assert Trainer(Sequential(fresh()), "mse", backend=backend).seed != first.seed
    for trainer in (first, again):
        fit(backend, trainer=trainer)
    same_bits(first.model, again.model)


@pytest.mark.parametrize("optimizer", optim.OPTIMIZERS)
def test_a_second_fit_goes_on(backend, optimizer):
    long = fit(backend, epochs=5, optimizer=optimizer)
    twice = fit(backend, epochs=2, optimizer=optimizer)
    fit(backend, trainer=twice, epochs=3)
    same_bits(long.model, twice.model)
    assert twice.history["loss"] == long.history["loss"]
    assert len(twice.history) == 5


def test_a_new_trainer_with_another_optimizer_starts_its_slots(backend):
    """Parameters go on, moments do not: as if the parameters had been loaded."""
    first = fit(backend)
    other = network()
    for name, view in other.state.views.items():
        view[...] = first.model.state.views[name]
    fit(backend, first.model, optimizer="nadam")
    fit(backend, other, optimizer="nadam")
    same_bits(first.model, other)


# History -------------------------------------------------------------------------------------------------------


def mean_error(y, prediction) -> float:
    return float(np.abs(y - prediction).mean())


def test_history_of_a_fit(backend):
    trainer = Trainer(network(), "mse", seed=0, metrics=[mean_error], backend=backend)
    history = trainer.fit(X, Y, epochs=3, verbose=False)
    assert history is trainer.history
    assert set(history.epochs) == {"loss", "lr", "seconds", "mean_error"}
    assert len(history) == 3
    assert all(len(values) == 3 for values in history.epochs.values())
    assert all(isinstance(value, float) for values in history.epochs.values() for value in values)
    assert history["mean_error"][-1] == pytest.approx(mean_error(Y, trainer.model.predict(X)), rel=1e-5)
    assert history["lr"] == [1e-3] * 3
    assert all(seconds >= 0 for seconds in history["seconds"])


def test_history_with_validation(backend):
    trainer = Trainer(network(), "mse", seed=0, metrics=[mean_error], backend=backend)
    weight = np.linspace(0, 1, 10)
    trainer.fit(X[10:], Y[10:], epochs=2, validation=(X[:10], Y[:10], weight), verbose=False)
    assert set(trainer.history.epochs) == {"loss", "lr", "seconds", "val_loss", "val_mean_error"}
    expected = trainer.model.evaluate(X[:10], Y[:10], sample_weight=weight, metrics=[mean_error], backend=backend)
    assert trainer.history["val_loss"][-1] == expected["loss"]
    assert trainer.history["val_mean_error"][-1] == expected["mean_error"]
    row_errors = ((trainer.model.predict(X[:10]) - Y[:10]) ** 2).mean(axis=1)
    assert expected["loss"] == pytest.approx(np.average(row_errors, weights=weight), rel=1e-5)


def test_validation_changes_nothing(backend):
    with_it = fit(backend, validation=(X[:10], Y[:10]))
    same_bits(fit(backend).model, with_it.model)


def test_validation_as_two_arrays_or_a_list(backend):
    assert "val_loss" in fit(backend, validation=[X[:10], Y[:10]]).history


def test_accuracy(backend):
    model = Sequential([nn.Dense(3)]).build(4, seed=0)
    trainer = Trainer(model, "cross_entropy", seed=0, metrics=["accuracy"], backend=backend)
    trainer.fit(X, LABELS, epochs=2, verbose=False)
    assert trainer.history["accuracy"][-1] == (model.predict_class(X) == LABELS).mean()
    one_hot = model.evaluate(X, np.eye(3)[LABELS], metrics=["accuracy"], backend=backend)["accuracy"]
    assert one_hot == trainer.history["accuracy"][-1]
    weight = (LABELS == 1).astype(float)
    weighted = model.evaluate(X, LABELS, sample_weight=weight, metrics=["accuracy"], backend=backend)["accuracy"]
    assert weighted == pytest.approx((model.predict_class(X) == 1)[LABELS == 1].mean())


def test_accuracy_of_a_sigmoid(backend):
    y = (X[:, 0] > 0).astype(int)
    model = Sequential([nn.Dense(1)]).build(4, seed=0)
    trainer = Trainer(model, "binary_cross_entropy", seed=0, metrics=["accuracy"], backend=backend)
    trainer.fit(X, y, epochs=2, verbose=False)
    assert trainer.history["accuracy"][-1] == (model.predict_class(X) == y).mean()


def test_a_custom_metric_of_classes_gets_classes(backend):
    seen = {}

    def look(y, prediction):
        seen.update(y=y, prediction=prediction)
        return 0.5

    model = Sequential([nn.Dense(3)]).build(4, seed=0)
    trainer = Trainer(model, "cross_entropy", seed=0, metrics=[look], backend=backend)
    trainer.fit(X, LABELS, epochs=1, verbose=False)
    np.testing.assert_array_equal(seen["y"], LABELS)
    np.testing.assert_array_equal(seen["prediction"], model.predict_class(X))
    assert trainer.history["look"] == [0.5]


def test_the_loss_of_an_epoch_is_the_mean_before_each_update(backend):
    model = build(nn.Dense(2), inputs=4)
    before = model.loss
    assert before is None
    model.loss = nn.LOSSES["mse"]
    expected = model.evaluate(X, Y, backend=backend)["loss"]
    trainer = fit(backend, model, batch_size="full", epochs=1)
    assert trainer.history["loss"] == [pytest.approx(expected, rel=1e-12)]
    frozen = fit(backend, build(nn.Dense(2), inputs=4), optimizer=optim.SGD(0.0), epochs=1, batch_size=7)
    assert frozen.history["loss"] == [pytest.approx(expected, rel=1e-12)]


def test_an_unknown_quantity_lists_the_known(backend):
    with pytest.raises(KeyError, match="'val_loss', expected one of: loss, lr, seconds"):
        fit(backend).history["val_loss"]


def test_plot(backend):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    trainer = Trainer(network(), "mse", seed=0, metrics=[mean_error], backend=backend)
    trainer.fit(X, Y, epochs=3, validation=(X, Y), verbose=False)
    axes = trainer.history.plot()
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert set(lines) == {"loss", "val_loss"}
    np.testing.assert_array_equal(lines["loss"], trainer.history["loss"])
    assert axes.figure.axes[1].get_lines()[0].get_label() == "val_mean_error"
    from matplotlib import pyplot

    given = pyplot.subplots()[1]
    assert trainer.history.plot(given) is given
    pyplot.close("all")


def test_plot_without_matplotlib(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError,
        match=r"plotting needs matplotlib: pip install matplotlib, or in a checkout of fastnn the extra \[plot\]",
    ):
        History().plot()


# Progress ------------------------------------------------------------------------------------------------------


def test_verbose_shows_a_bar_on_a_terminal(backend, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(backend, verbose=True)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert "loss=" in shown
    assert "100/100" in shown.replace(" ", "") or "100%" in shown


def test_verbose_writes_lines_elsewhere(backend, capsys):
    """Not a bar drawn over itself, which in a file is one long line."""
    fit(backend, verbose=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line[:10] for line in lines] == ["epoch 1/2 ", "epoch 2/2 "]
    assert all("loss " in line for line in lines)


@pytest.mark.parametrize("verbose", [False, None])
def test_quiet(backend, capsys, verbose):
    """None: no bar where standard error is no terminal."""
    fit(backend, verbose=verbose)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [True, None])
def test_on_a_terminal_without_tqdm(backend, monkeypatch, capsys, verbose):
    """Asked for: lines, which need no package. Not asked for: silence. A ProgressBar by name: an error."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(backend, verbose=verbose)
    assert ("epoch 1/" in capsys.readouterr().err) == (verbose is True)
    with pytest.raises(ImportError, match=r"a progress bar needs tqdm: .* extra \[progress\]"):
        fastnn.ProgressBar()


# Interruptions ---------------------------------------------------------------------------------------------------


def interrupted(backend, after: int, error: type[BaseException]):
    """A backend whose call number `after` does a part of its work and then raises."""
    right, calls = backends.load(backend), []

    def train_steps(plan, state, objective, batches, lr):
        calls.append(len(lr))
        if len(calls) <= after:
            return right.train_steps(plan, state, objective, batches, lr)
        state.prepare_slots(objective.optimizer.rule)
        state.parameters[::2] += 1.0  # half of an update
        state.step += 1
        raise error

    return replace(right, train_steps=train_steps, atomic=False), calls


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interruption_leaves_a_completed_step(backend, monkeypatch, error, after):
    monkeypatch.setattr(run_module, "SLICE_SECONDS", 0.0)
    model, expected = network(), network()
    broken, calls = interrupted(backend, after, error)
    with pytest.raises(error):
        fit(broken, model, shuffle=False)
    assert calls == [1] * (after + 1)
    if after:
        fit(backend, expected, x=X[: 16 * after], y=Y[: 16 * after], epochs=1, shuffle=False)
    assert model.state.step == after
    same_bits(expected, model)
    assert np.isfinite(model.predict(X, backend=backend)).all()
    fit(backend, model)  # and can go on


def test_a_real_interruption(backend):
    """The signal of Ctrl-C, sent in the middle of a long fit."""
    import signal
    import threading

    model = network()
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it: no end
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            fit(backend, model, epochs=10**6)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert model.state.step > 0
    assert np.isfinite(model.predict(X, backend=backend)).all()
    fit(backend, model)


# Divergence ------------------------------------------------------------------------------------------------------

TOO_FAST = optim.SGD(1e6)


def test_divergence_names_step_and_rate(backend):
    trainer = Trainer(
        build(nn.Dense(8), nn.Dense(2), inputs=4, dtype=np.float32), "mse", TOO_FAST, seed=0, backend=backend
    )
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            DivergenceError,
            match=r"the loss is (nan|inf) at step \d+ with "
            r"learning rate 1e\+06; the model keeps the parameters of step \d+",
        ),
    ):
        trainer.fit(X, Y, epochs=50, verbose=False)
    assert np.isfinite(trainer.model.state.parameters).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "optimizer", [optim.SGD(1e30), optim.SGD(1e15), optim.Momentum(1e8), optim.Adam(1e30)], ids=repr
)
@pytest.mark.parametrize("batch_size", [1, 16, "full"])
def test_after_a_divergence_everything_is_finite(backend, monkeypatch, dtype, optimizer, batch_size):
    """Parameters, statistics, moments and predictions, at any length of a call; and the trainer is usable."""
    monkeypatch.setattr(run_module, "SLICE_SECONDS", 0.0)
    layers = [nn.Dense(8), nn.BatchNorm(), nn.Dense(8), nn.Dense(2)]
    model = Sequential(layers, dtype=dtype).build(4, seed=0)
    trainer = Trainer(model, "mse", optimizer, seed=0, backend=backend)
    epochs = 3 if batch_size == 1 else 60
    with np.errstate(all="ignore"):
        for _ in range(2):
            with suppress(DivergenceError):  # some rates only make it useless
                trainer.fit(X, Y, epochs=epochs, batch_size=batch_size, verbose=False)
            for buffer in (model.state.parameters, model.state.statistics, *model.state.slots):
                assert np.isfinite(buffer).all()


def test_the_last_step_of_a_fit_is_looked_at_too(backend):
    """Its loss is finite, what it does to the parameters is not."""
    model = Sequential([nn.Dense(2)]).build(4, seed=0)
    before = parameters(model)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="at step 1 with learning rate"):
        fit(backend, model, x=1e30 * X, y=Y, optimizer=optim.SGD(1e30), epochs=1, batch_size="full", loss="mae")
    for name, value in before.items():
        np.testing.assert_array_equal(model.state.views[name], value)


def test_divergence_in_the_first_call_of_another_optimizer(backend):
    """The slots of the one before are there again."""
    model = build(nn.Dense(8), nn.Dense(2), inputs=4, dtype=np.float32)
    fit(backend, model, optimizer="adam")
    before, slots, step = parameters(model), [slot.copy() for slot in model.state.slots], model.state.step
    with np.errstate(all="ignore"), pytest.raises(DivergenceError):
        fit(backend, model, x=100 * X, optimizer=optim.SGD(1e38), epochs=20)
    assert (model.state.rule, model.state.step) == ("adam", step)
    for name, value in before.items():
        np.testing.assert_array_equal(model.state.views[name], value)
    for slot, value in zip(model.state.slots, slots, strict=True):
        np.testing.assert_array_equal(slot, value)
    fit(backend, model, optimizer="adam")


def test_clipping_tames_a_divergence(backend):
    trainer = Trainer(
        build(nn.Dense(8), nn.Dense(2), inputs=4), "mse", optim.SGD(0.5), seed=0, clip_norm=0.1, backend=backend
    )
    trainer.fit(1000 * X, Y, epochs=5, verbose=False)
    assert np.isfinite(trainer.history["loss"]).all()


# Learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [kind(**({"lr": 0.05} if name != "adadelta" else {})) for name, kind in optim.OPTIMIZERS.items()],
    ids=lambda o: o.name,
)
def test_every_optimizer_learns_a_curve(backend, optimizer):
    x = np.linspace(-1, 1, 64)[:, None]
    model = Sequential([nn.Dense(16, "tanh"), nn.Dense(1)])
    history = fit(backend, model, x=x, y=np.sin(3 * x), optimizer=optimizer, epochs=300, batch_size=16).history
    # RMSprop at this rate jumps: single epochs end between 0.01 and 0.1, their mean at 0.03
    assert np.mean(history["loss"][-20:]) < 0.1 * history["loss"][0]


def test_digits(backend):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    test = np.arange(len(x)) % 4 == 0
    model = Sequential(
        [nn.Normalize("minmax", per_feature=False), nn.Dense(64, "relu"), nn.Dense(32, "relu"), nn.Dense(10)]
    )
    trainer = Trainer(model, "cross_entropy", optim.Adam(3e-3), seed=0, metrics=["accuracy"], backend=backend)
    trainer.fit(x[~test], y[~test], epochs=15, batch_size=64, validation=(x[test], y[test]), verbose=False)
    assert trainer.history["val_accuracy"][-1] >= 0.965


def test_diabetes(backend):
    """R^2 beside linear least squares on the same rows."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    test = np.arange(len(x)) % 4 == 0
    model = Sequential([nn.Normalize(), nn.Dense(16, "tanh"), nn.Dense(1)])
    fit(backend, model, x=x[~test], y=y[~test], epochs=60, optimizer=optim.Adam(3e-3, l2=0.02))
    residual = ((model.predict(x[test])[:, 0] - y[test]) ** 2).mean()
    linear = np.linalg.lstsq(np.c_[x[~test], np.ones((~test).sum())], y[~test], rcond=None)[0]
    assert residual < 1.05 * ((np.c_[x[test], np.ones(test.sum())] @ linear - y[test]) ** 2).mean()


def test_breast_cancer(backend):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_breast_cancer(return_X_y=True)
    test = np.arange(len(x)) % 4 == 0
    model = Sequential([nn.Normalize(), nn.Dense(1)])
    fit(backend, model, x=x[~test], y=y[~test], loss="binary_cross_entropy", epochs=40, optimizer=optim.Adam(0.01))
    assert model.evaluate(x[test], y[test], metrics=["accuracy"], backend=backend)["accuracy"] >= 0.95


def test_softmax_regression_finds_the_minimum(backend):
    """A convex problem has one: scikit-learn's solver and plain descent meet there."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_iris(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    strength = 0.05
    # scikit-learn minimises C sum of losses + |w|^2 / 2: C = 1 / (strength n) is mean loss + strength |w|^2 / 2
    peer = linear_model.LogisticRegression(C=1 / (strength * len(x)), tol=1e-10, max_iter=10000).fit(x, y)
    model = Sequential([nn.Dense(3, init=0.0)], dtype=np.float64)
    trainer = Trainer(model, "cross_entropy", optim.Nesterov(0.3, l2=strength), seed=0, backend=backend)
    trainer.fit(x, y, epochs=600, batch_size="full", verbose=False)
    np.testing.assert_allclose(model.predict_proba(x), peer.predict_proba(x), atol=1e-6)
    w = model.layers[0].weight
    ours = model.evaluate(x, y, backend=backend)["loss"] + strength / 2 * (w**2).sum()
    theirs = -np.log(peer.predict_proba(x)[np.arange(len(x)), y]).mean() + strength / 2 * (peer.coef_**2).sum()
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_least_squares_finds_the_minimum(backend):
    model = Sequential([nn.Dense(2)], dtype=np.float64)
    trainer = Trainer(model, "mse", optim.Nesterov(0.2), seed=0, backend=backend)
    trainer.fit(X, Y, epochs=400, batch_size="full", verbose=False)
    expected = np.linalg.lstsq(np.c_[X, np.ones(50)], Y, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([model.layers[0].weight, model.layers[0].bias]), expected, atol=1e-8)


def test_memorises_random_labels(backend):
    """Enough units learn 50 rows by heart: nothing in the gradient's path is broken."""
    model = Sequential([nn.Dense(64, "relu"), nn.Dense(64, "relu"), nn.Dense(3)])
    y = np.random.default_rng(0).integers(0, 3, 50)
    fit(backend, model, y=y, loss="cross_entropy", epochs=200, batch_size=10)
    assert model.evaluate(X, y, metrics=["accuracy"], backend=backend)["accuracy"] == 1.0


# Construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
@pytest.mark.parametrize(
    ("value", "error"), [(0.0, ValueError), (-1, ValueError), (np.nan, ValueError), ("1", TypeError)]
)
def test_a_clip_out_of_range(backend, name, value, error):
    with pytest.raises(error, match=rf"^{name} is {value!r}, expected a finite number in \(0"):
        Trainer(network(), "mse", backend=backend, **{name: value})


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (1 << 64, ValueError), (1.5, TypeError), ("0", TypeError), (True, TypeError)]
)
def test_a_seed_out_of_range(backend, value, error):
    with pytest.raises(error, match=rf"^seed is {value!r}, expected an integer"):
        Trainer(network(), "mse", seed=value, backend=backend)


def test_the_largest_seed(backend):
    fit(backend, seed=(1 << 64) - 1)


@pytest.mark.parametrize("model", [None, nn.Dense(2), [nn.Dense(2)]], ids=repr)
def test_what_is_no_model(backend, model):
    with pytest.raises(TypeError, match=r"^model is .*, expected a fastnn.Sequential"):
        Trainer(model, "mse", backend=backend)


def test_metrics_are_checked_before_anything_runs(backend):
    with pytest.raises(TypeError, match=r"metrics is 'accuracy', expected a list: \['accuracy'\]"):
        Trainer(network(), "cross_entropy", metrics="accuracy", backend=backend)
    with pytest.raises(ValueError, match=r"metrics has 'f2', expected one of accuracy, .*mae, .* or a function"):
        Trainer(network(), "cross_entropy", metrics=["f2"], backend=backend)
    with pytest.raises(ValueError, match=r"metrics has 'accuracy', expected a loss of classes for it, not mse"):
        Trainer(network(), "mse", metrics=["accuracy"], backend=backend)
    with pytest.raises(ValueError, match=r"metrics has the name 'mean_error', which is there twice"):
        Trainer(network(), "mse", metrics=[mean_error, mean_error], backend=backend)

    def loss(y, prediction):
        return 0.0

    with pytest.raises(ValueError, match=r"metrics has the name 'loss', which is what a history calls something else"):
        Trainer(network(), "mse", metrics=[loss], backend=backend)
    model = network()
    model.loss = nn.LOSSES["mse"]
    with pytest.raises(ValueError, match=r"metrics has 'accuracy', expected a loss of classes"):
        model.evaluate(X, Y, metrics=["accuracy"], backend=backend)


def test_an_unknown_backend(backend):
    with pytest.raises(ValueError, match=r"backend is 'cuda', expected 'auto' or one of: numpy, .*native"):
        Trainer(network(), "mse", backend="cuda")
    with pytest.raises(TypeError, match="backend is 3, expected"):
        Trainer(network(), "mse", backend=3)


def test_the_backend_of_a_trainer(backend):
    assert Trainer(network(), "mse", backend=backend).backend.name == backend
    with fastnn.use_backend(backend):
        assert Trainer(network(), "mse").backend.name == backend


def test_the_explicit_gradient_puts_the_parameters_back(backend):
    """The helper the other tests lean on."""
    model = build(nn.Dense(2), inputs=4)
    before = parameters(model)
    assert any(g.any() for g in gradient(model, X, Y, "mse", backend).values())
    for name, value in before.items():
        np.testing.assert_array_equal(model.state.views[name], value)
