"""What people who were given the package found, each with the least that shows it."""

import copy
import gzip
import os
import pickle
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from common import BACKENDS, ENGINES, run_python, with_operation

import fastnn
from fastnn import DivergenceError, Sequential, Trainer, backends, cli, datasets, nn, optim
from fastnn.formulas.activations import Activation
from fastnn.training import run as run_module

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


def fitted(**options):
    trainer = Trainer(
        Sequential([nn.Normalize(), nn.Dense(5, activation="tanh"), nn.Dense(2)]), "cross_entropy", seed=0
    )
    trainer.fit(X, Y, epochs=1, **options)
    return trainer


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_a_model_of_its_own(duplicate):
    model = fitted().model
    before = model.predict(X)
    other = duplicate(model)
    assert np.array_equal(other.predict(X), before)
    other.layers[1].weight[...] = 0.0
    assert np.shares_memory(model.layers[1].weight, model.state.parameters)
    assert np.array_equal(model.predict(X), before)
    assert not np.array_equal(other.predict(X), before)


def test_a_pickled_trainer_goes_on_where_it_was():
    one = fitted()
    two = pickle.loads(pickle.dumps(one))
    one.fit(X, Y, epochs=2)
    two.fit(X, Y, epochs=2)
    assert np.array_equal(one.model.state.parameters, two.model.state.parameters)
    assert one.history["loss"] == two.history["loss"]


def test_a_metric_cannot_change_the_data():
    def spoil(y, prediction):
        y.fill(0)
        return 0.0

    y = np.ones((60, 1), np.float32)
    with pytest.raises(ValueError, match="read-only"):
        Trainer(Sequential([nn.Dense(1)]), "mse", metrics=[spoil]).fit(X.astype(np.float32), y, epochs=1)
    assert y.all()


@pytest.mark.parametrize("value", [None, np.zeros(3)], ids=["none", "array"])
def test_a_metric_returns_a_number(value):
    def odd(y, prediction):
        return value

    with pytest.raises(TypeError, match=r"metric odd returned .*, expected a number"):
        Trainer(Sequential([nn.Dense(2)]), "cross_entropy", metrics=[odd]).fit(X, Y, epochs=1)


def test_one_fit_at_a_time():
    trainer = fitted()
    inside, go_on, errors = threading.Event(), threading.Event(), []

    def slow(y, prediction):
        inside.set()
        go_on.wait(30)
        return 0.0

    other = Trainer(trainer.model, "cross_entropy", metrics=[slow], seed=0)
    thread = threading.Thread(target=other.fit, args=(X, Y), kwargs={"epochs": 1})
    thread.start()
    inside.wait(30)
    try:
        trainer.fit(X, Y, epochs=1)
    except RuntimeError as error:
        errors.append(str(error))
    go_on.set()
    thread.join()
    assert errors == ["model is being fitted by another thread, expected one fit at a time"]
    trainer.fit(X, Y, epochs=1)


def test_a_metric_cannot_fit_its_own_model():
    trainer = fitted()

    def greedy(y, prediction):
        trainer.fit(X, Y, epochs=1)
        return 0.0

    message = "model is being fitted by this thread already, expected one fit at a time: a metric, say, cannot fit it"
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        Trainer(trainer.model, "cross_entropy", metrics=[greedy], seed=0).fit(X, Y, epochs=1)
    trainer.fit(X, Y, epochs=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_may_fit_what_a_thread_of_its_parent_was_fitting():
    """There the thread is gone; the one that forked within its own fit is not, and finishes it."""
    run = run_python("""
    import os, threading, numpy as np
    from fastnn import Sequential, Trainer, nn
    X, Y = np.eye(4, dtype=np.float32), [0, 1, 0, 1]
    model = Sequential([nn.Dense(2)])
    inside, go_on = threading.Event(), threading.Event()

    def fit(*metrics):
        Trainer(model, "cross_entropy", metrics=metrics, seed=0).fit(X, Y, epochs=1, verbose=False)

    def message():
        try:
            fit()
        except RuntimeError as error:
            return str(error)

    def in_child(work):
        child = os.fork()
        if child == 0:
            try:
                work()
            except BaseException as error:
                print(error, flush=True)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    def slow(y, prediction):
        inside.set()
        go_on.wait(60)
        return 0.0

    def twice():
        fit()
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()

    thread = threading.Thread(target=fit, args=(slow,))
    thread.start()
    inside.wait(60)
    in_child(twice)
    assert "another thread" in message(), message()
    go_on.set()
    thread.join()
    fit()

    forked = []
    def forks(y, prediction):
        forked.append(os.fork())
        assert "this thread already" in message(), message()
        return 0.0
    fit(forks)  # both go on
    fit()
    if forked[0] == 0:
        os._exit(0)
    assert os.waitpid(forked[0], 0)[1] == 0
    """)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_activation_is_its_formula_not_its_name(backend):
    """One that nobody lists is computed on every backend; one by the name of another is refused."""
    with pytest.raises(ValueError, match="activation is relu with formulas of its own, expected another name"):
        nn.Dense(2, activation=Activation("relu", lambda z, alpha: z, lambda z, alpha: z, "z", ""))
    cube = Activation("cube", lambda z, alpha: z**3, lambda z, alpha: 3 * z**2, "z", "")
    plain = Sequential([nn.Dense(2)]).build(X.shape[1], seed=0)
    model = Sequential([nn.Dense(2, activation=cube)]).build(X.shape[1], seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnn.FallbackWarning)  # without numba
        np.testing.assert_allclose(
            model.predict(X, backend=backend), plain.predict(X, backend="numpy") ** 3, rtol=1e-4, atol=1e-6
        )


def test_gradient_check_does_not_call_the_invisible_right():
    kernels = backends.load("numpy").kernels

    def wrong(x, w, below, saved, dz, dx, dw, db):
        kernels.ops["dense"].backward(x, w, below, saved, dz, dx, dw, db)
        dw *= -1.0

    broken = backends.make("wrong", with_operation(kernels, "dense", backward=wrong))
    model = Sequential([nn.Dense(1)]).build(4, seed=0)
    near = fastnn.gradient_check(model, X, X[:, :1] + 3, loss="mae", backend=broken)
    assert near["0.weight"] == pytest.approx(1.0)
    far = fastnn.gradient_check(model, X, X[:, :1] + 1e12, loss="mae", backend=broken)
    assert np.isnan(far["0.weight"])


@pytest.mark.parametrize("weight", [np.full(60, 1e-310), np.full(60, 1e308)], ids=["tiny", "huge"])
def test_weights_at_the_end_of_their_range(weight):
    model = Sequential([nn.Dense(2)], dtype=np.float64)
    with pytest.raises(ValueError, match="sample_weight has"):
        Trainer(model, "cross_entropy").fit(X, Y, sample_weight=weight)


def test_building_again_forgets_the_columns():
    model = fitted().model
    model.feature_names = ["a", "b", "c", "d"]
    model.build(5)
    assert model.feature_names is None


def test_layers_are_fixed():
    with pytest.raises(AttributeError):
        fitted().model.layers.append(nn.Dense(2))


def test_hyperparameters_become_floats():
    assert type(optim.Adam(np.float64(1e-3)).lr) is float
    assert type(optim.StepDecay(every=2).every) is float
    with pytest.raises(TypeError, match="averaged is 'no', expected True or False"):
        optim.Momentum(averaged="no")
    with pytest.raises(ValueError, match="lr is too large a number"):
        optim.SGD(10**400)
    with pytest.raises(TypeError, match="shuffle is 'no', expected True or False"):
        fitted(shuffle="no")


def test_history_is_a_mapping():
    history = fitted().history
    assert dict(history) == {name: history[name] for name in history}
    assert set(history.keys()) == {name for name, _ in history.items()} == {"loss", "lr", "seconds"}


def test_damaged_deflate_stream(tmp_path):
    data = bytearray(gzip.compress(bytes(range(256)) * 8))
    data[12:100] = b"\xff" * 88
    (tmp_path / "bad.gz").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="damaged"):
        datasets.read_idx(tmp_path / "bad.gz")


@pytest.mark.parametrize("out", ["nodir/x.png", "noext", ".", ""])
def test_where_the_picture_goes_is_checked_first(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "find", lambda source: pytest.fail("began before checking --out"))
    assert cli.main(["demo", "--out", out]) == 1
    assert "--out is" in capsys.readouterr().err


def test_a_wrong_instruction_set_is_one_line(monkeypatch, capsys):
    def refuse(options):
        raise RuntimeError("FASTNN_ISA is 'nonsense'")

    monkeypatch.setattr(cli, "show_config", lambda: refuse(None))
    assert cli.main(["info"]) == 1
    assert capsys.readouterr().err == "fastnn: FASTNN_ISA is 'nonsense'\n"


def test_the_history_has_the_same_bits_however_long_the_calls_are(monkeypatch):
    """Sums over calls, whose lengths follow the clock, differed in the last digits."""
    x, y = np.random.default_rng(0).normal(size=(203, 7)), np.arange(203) % 3
    histories = []
    for seconds in (0.0, 1e-4, 10.0):
        monkeypatch.setattr(run_module, "SLICE_SECONDS", seconds)
        model = Sequential([nn.Dense(9, "tanh"), nn.Dense(3)], dtype=np.float64)
        trainer = Trainer(model, "cross_entropy", seed=3)
        histories.append(trainer.fit(x, y, epochs=4, batch_size=4, verbose=False)["loss"])
    assert histories[0] == histories[1] == histories[2]


@pytest.mark.parametrize("backend", ENGINES)
def test_a_model_built_anew_for_other_columns_can_be_fitted_by_its_trainer(backend):
    """The trainer's copy of the state had the old size."""
    model = Sequential([nn.Dense(16), nn.Dense(3)])
    trainer = Trainer(model, "cross_entropy", seed=0, backend=backend)
    x, y = np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) % 3
    trainer.fit(x, y, epochs=1, verbose=False)
    model.build(5, seed=1)
    trainer.fit(x[:, :5], y, epochs=1, verbose=False)
    assert model.plan.inputs == 5


TOO_FAST = [optim.SGD(1e5), optim.SGD(1e20), optim.Momentum(1e10), optim.Adam(1e30)]


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("optimizer", TOO_FAST, ids=lambda optimizer: f"{optimizer.name}-{optimizer.lr:g}")
def test_a_fit_that_diverges_in_its_first_epoch_leaves_the_model_as_it_was(backend, optimizer):
    """It kept what the first step had made of it: finite, and beyond repair."""
    x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    model = Sequential([nn.Dense(16, "relu"), nn.Dense(1)]).build(8, seed=0)
    before = {name: view.copy() for name, view in model.state.views.items()}
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="parameters of step 0, before that epoch"):
        Trainer(model, "mse", optimizer, seed=0, backend=backend).fit(x, x[:, 0] ** 3 * 100, epochs=20, verbose=False)
    for name, view in model.state.views.items():
        np.testing.assert_array_equal(view, before[name])
    trainer = Trainer(model, "mse", optim.Adam(1e-2), seed=0, backend=backend)
    history = trainer.fit(x, x[:, 0], epochs=5, verbose=False)
    assert history["loss"][-1] < history["loss"][0]


def test_metrics_of_training_are_not_weighted_by_class():
    """The history's accuracy is evaluate's, whatever the classes count for in the loss."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 3)), (np.arange(1000) < 50).astype(int)
    trainer = Trainer(Sequential([nn.Dense(2)]), "cross_entropy", metrics=["accuracy"], seed=0)
    history = trainer.fit(x, y, epochs=3, class_weight="balanced", verbose=False)
    assert history["accuracy"][-1] == trainer.evaluate(x, y)["accuracy"]


def test_none_among_batches_is_no_end():
    x, y = np.ones((4, 2)), np.zeros(4)
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", seed=0)
    with pytest.raises(TypeError, match="X yields NoneType, expected batches"):
        trainer.fit([(x, y), None, (x, y)], epochs=1, verbose=False)


def test_building_a_model_that_is_being_fitted():
    model = Sequential([nn.Dense(1)])
    caught = []

    def build(run):
        with pytest.raises(RuntimeError, match="model is being fitted, expected to be built before or after"):
            model.build(2)
        caught.append(True)

    Trainer(model, "mse", seed=0).fit(
        np.ones((4, 2)), np.zeros(4), epochs=1, callbacks=[fastnn.Lambda(on_epoch_end=build)], verbose=False
    )
    assert caught


def test_finding_a_rate_needs_the_rows_it_visits_alone():
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.eye(6000, format="csr")
    trainer = Trainer(Sequential([nn.Dense(1)]), "mse", optim.SGD(), seed=0)
    tracemalloc.start()
    try:
        trainer.find_lr(x, np.ones(6000), steps=5, batch_size=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # all rows are 288 MB


@pytest.mark.parametrize("backend", ENGINES)
def test_a_loss_that_is_infinite_is_no_warning(backend):
    """As a diverging fit's validation has it: the number says so."""
    model = Sequential([nn.Dense(2)]).build(1, seed=0)
    model.layers[0].weight[...] = [[np.inf, -np.inf]]
    model.loss = nn.LOSSES["cross_entropy"]
    assert not np.isfinite(model.evaluate(np.ones((3, 1)), [0, 1, 0], backend=backend)["loss"])
