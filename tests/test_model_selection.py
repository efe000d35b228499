"""Searches: Optuna's trials and their pruning, scikit-learn's over joblib, the same bits in processes and threads."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES

import fastnn
from fastnn import Sequential, Trainer, nn, optim

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5))
Y = (X[:, :2] @ np.array([1.0, -2.0]))[:, None]
LABELS = (Y[:, 0] > 0).astype(np.int64)


def make(rate=0.02, backend=AUTOMATIC, loss="mse", **settings) -> Trainer:
    layers = [nn.Normalize(), nn.Dense(8, "tanh"), nn.Dropout(0.1), nn.Dense(2 if loss == "cross_entropy" else 1)]
    return Trainer(Sequential(layers), loss, optim.Adam(rate), seed=0, backend=backend, **settings)


def fit(trainer: Trainer, *callbacks, **settings) -> Trainer:
    y = LABELS if trainer.loss.name == "cross_entropy" else Y
    trainer.fit(X, y, callbacks=callbacks, **(dict(epochs=8, batch_size=16, validation=0.25, verbose=False) | settings))
    return trainer


def same(one: Trainer, other: Trainer) -> None:
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)
    assert one.history["val_loss"] == other.history["val_loss"]


# Optuna --------------------------------------------------------------------------------------------------------


@pytest.fixture
def optuna():
    package = pytest.importorskip("optuna")
    before = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.ERROR)
    yield package
    package.logging.set_verbosity(before)


def search(optuna, rates, objective=None, *, pruner=None, direction="minimize", **settings):
    """A study that tries these rates in this order; by default it prunes what is worse than the median so far."""

    def of_rate(trial):
        rate = trial.suggest_categorical("rate", list(dict.fromkeys(rates)))
        trainer = fit(make(rate), fastnn.OptunaPruning(trial))
        return trainer.history["val_loss"][-1]

    study = optuna.create_study(
        direction=direction, pruner=pruner or optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2)
    )
    for rate in rates:
        study.enqueue_trial({"rate": rate})
    study.optimize(objective or of_rate, n_trials=len(rates), **settings)
    return study


def states(study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_the_better_setting_is_found(optuna):
    study = search(optuna, [0.02, 1e-5], pruner=optuna.pruners.NopPruner())
    assert study.best_params == {"rate": 0.02}
    assert states(study) == ["COMPLETE", "COMPLETE"]
    for trial in study.trials:
        plain = fit(make(trial.params["rate"]))  # reporting changes no bit
        assert trial.value == plain.history["val_loss"][-1]
        assert trial.intermediate_values == dict(enumerate(plain.history["val_loss"]))


def test_bad_trials_are_pruned(optuna):
    """After the epochs that the pruner waits; counted as pruned, with what they measured until then."""
    study = search(optuna, [0.002, 0.003, 1e-5, 0.004, 1e-6])
    assert states(study) == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    whole = fit(make(1e-5)).history["val_loss"]
    assert study.trials[2].intermediate_values == dict(enumerate(whole[:3]))  # epochs 0, 1 are waited for
    assert study.trials[2].value == whole[2]


def test_trials_of_a_score_that_is_maximised(optuna):
    def objective(trial):
        trainer = make(trial.suggest_float("rate", 0, 1), loss="cross_entropy", metrics=["accuracy"])
        return fit(trainer, fastnn.OptunaPruning(trial, "val_accuracy")).history["val_accuracy"][-1]

    study = search(optuna, [0.05, 0.04, 1e-6], objective, direction="maximize")
    assert states(study) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert study.best_value > 0.9


def test_a_diverging_trial_is_pruned(optuna):
    """Instead of ending the search."""

    def objective(trial):
        trainer = make()
        trainer.optimizer = optim.SGD(trial.suggest_float("rate", 0, 1e30))
        return fit(trainer, fastnn.OptunaPruning(trial)).history["val_loss"][-1]

    study = search(optuna, [0.01, 1e25, 0.02], objective, pruner=optuna.pruners.NopPruner())
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE"]


class Pruned:
    """A pruner that prunes at one step."""

    def __new__(cls, optuna, step):
        class At(optuna.pruners.BasePruner):
            def prune(self, study, trial):
                return trial.last_step == step

        return At()


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("step", [0, 3])
def test_a_pruned_model_can_be_used(optuna, step, backend, tmp_path):
    """It is that of a fit of so many epochs, to the bit, and goes on as that one; every callback saw the epoch."""
    study = optuna.create_study(pruner=Pruned(optuna, step))
    ends, threads = [], threading.active_count()
    own = fastnn.Lambda(on_fit_end=lambda run: ends.append(run.error))
    log, saver = fastnn.CSVLogger(tmp_path / "log.csv"), fastnn.Checkpoint(tmp_path / "saved")
    trainer = make(backend=backend)
    given = [fastnn.OptunaPruning(study.ask()), own, log, saver, fastnn.EMA(0.9, every=1), fastnn.EarlyStopping()]
    with pytest.raises(optuna.TrialPruned, match=rf"val_loss \S+ after epoch {step + 1}$") as caught:
        fit(trainer, *given)
    assert ends == [caught.value]
    assert len(trainer.history) == step + 1 and not trainer.model.fitting.locked()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == step + 2
    assert len([*(tmp_path / "saved").glob("epoch-*")]) == min(step + 1, 3)
    assert threading.active_count() == threads
    plain = fit(make(backend=backend), epochs=step + 1)
    for here, there in zip(trainer.model.state.buffers, plain.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)  # the parameters, not their averages
    trainer.history, plain.history = fastnn.History(), fastnn.History()
    same(fit(trainer), fit(plain))


def test_trials_in_threads(optuna):
    """The values of trials one after the other, to the bit."""
    rates = [0.02, 0.03, 0.01, 0.05]
    serial = search(optuna, rates, pruner=optuna.pruners.NopPruner())
    threads = search(optuna, rates, pruner=optuna.pruners.NopPruner(), n_jobs=2)
    by_rate = [
        {trial.params["rate"]: trial.intermediate_values for trial in study.trials} for study in (serial, threads)
    ]
    assert by_rate[0] == by_rate[1] and len(by_rate[0]) == 4


def test_a_fixed_trial_is_never_pruned(optuna):
    trainer = fit(make(), fastnn.OptunaPruning(optuna.trial.FixedTrial({"rate": 0.1})))
    same(trainer, fit(make()))


@pytest.mark.parametrize(
    ("monitor", "direction", "message"),
    [
        (
            "val_loss",
            "maximize",
            "monitor is 'val_loss', of which smaller is better, but the study has the direction max",
        ),
        ("val_rmse", "maximize", "monitor is 'val_rmse', of which smaller is better"),
        (
            "val_accuracy",
            "minimize",
            "monitor is 'val_accuracy', of which larger is better, but the study has .* minimize",
        ),
        ("val_r2", "minimize", "monitor is 'val_r2'"),
        ("mine", "minimize", None),
        ("mine", "maximize", None),
        ("val_loss", "minimize", None),
        ("val_accuracy", "maximize", None),
    ],
)
def test_the_direction_of_the_study(optuna, monitor, direction, message):
    """The pruner would end the good trials."""
    trial = optuna.create_study(direction=direction).ask()
    if message is None:
        assert fastnn.OptunaPruning(trial, monitor).monitor == monitor
    else:
        with pytest.raises(ValueError, match=message):
            fastnn.OptunaPruning(trial, monitor)


def test_what_is_no_trial(optuna):
    study = optuna.create_study()
    for wrong in (study, None, {"rate": 0.1}):
        with pytest.raises(TypeError, match=r"trial is .*, expected an optuna.Trial"):
            fastnn.OptunaPruning(wrong)
    with pytest.raises(TypeError, match="monitor is 3, expected the name of a quantity"):
        fastnn.OptunaPruning(study.ask(), 3)
    several = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="trial is of a study with 2 objectives, expected one"):
        fastnn.OptunaPruning(several.ask())


def test_what_there_is_to_monitor(optuna):
    trial, trainer = optuna.create_study().ask(), make()
    with pytest.raises(ValueError, match=r"monitor is 'val_loss', which needs fit\(validation=\.\.\.\)"):
        fit(trainer, fastnn.OptunaPruning(trial), validation=None)
    assert not trainer.model.built
    with pytest.raises(ValueError, match="monitor is 'val_mae', expected one of: loss, lr, seconds, val_loss"):
        fit(trainer, fastnn.OptunaPruning(trial, "val_mae"))


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ImportError, match=r"pruning needs optuna: pip install .*, or in a checkout of fastnn the extra \[optuna\]"
    ):
        fastnn.OptunaPruning(None)


# Processes and threads -----------------------------------------------------------------------------------------


def learned(seed: int, threads: int | None = None) -> np.ndarray:
    """What a worker has learned: parameters of two threads' worth of work, more or less, and their validation."""
    wide = [nn.Normalize(), nn.Dense(256, "relu"), nn.Dropout(0.1), nn.Dense(64, "relu"), nn.Dense(1)]
    trainer = Trainer(Sequential(wide), "mse", seed=seed, threads=threads)
    fit(trainer, batch_size=64, epochs=4)
    return np.concatenate([trainer.model.state.parameters, np.float32(trainer.history["val_loss"])])


@pytest.mark.parametrize("workers", ["loky", "threading"])
@pytest.mark.parametrize("threads", [None, 1])
def test_workers_learn_the_same_bits(workers, threads):
    joblib = pytest.importorskip("joblib")
    serial = [learned(seed, threads) for seed in range(4)]
    assert (serial[0] != serial[1]).any()
    with joblib.parallel_config(backend=workers, n_jobs=2):
        parallel = joblib.Parallel()(joblib.delayed(learned)(seed, threads) for seed in range(4))
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("workers", ["loky", "threading"])
def test_searches_of_scikit_learn(workers):
    """Scores of every fold and setting, to the bit, serial or not."""
    joblib = pytest.importorskip("joblib")
    selection = pytest.importorskip("sklearn.model_selection")
    stats = pytest.importorskip("scipy.stats")
    settings = dict(hidden_layer_sizes=(8,), max_iter=20, learning_rate_init=0.01, random_state=0, n_iter_no_change=99)
    classifier, regressor = fastnn.MLPClassifier(**settings), fastnn.MLPRegressor(**settings)

    def scores():
        ranges = {"alpha": stats.loguniform(1e-5, 1.0), "hidden_layer_sizes": [(4,), (8, 8)]}
        randomized = selection.RandomizedSearchCV(regressor, ranges, n_iter=3, cv=2, random_state=0)
        grid = selection.GridSearchCV(classifier, {"alpha": [1e-4, 10.0]}, cv=2, return_train_score=True)
        searches = [randomized.fit(X, Y[:, 0]), grid.fit(X, LABELS)]
        found = [made.cv_results_[name] for made in searches for name in ("split0_test_score", "split1_test_score")]
        best = [searches[0].predict(X), searches[1].predict_proba(X)]
        return [selection.cross_val_score(classifier, X, LABELS, cv=3), *found, *best]

    serial = scores()
    with joblib.parallel_config(backend=workers, n_jobs=2):
        parallel = scores()
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


def threads_of_a_worker() -> tuple[int, int, int]:
    """The limit that fastnn sees, the threads that a wide fit started, and the process."""
    from fastnn.backends import native

    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    learned(0)  # whatever else starts threads at the first call
    before = count()
    wide = Sequential([nn.Dense(1024, "relu"), nn.Dense(1024, "relu"), nn.Dense(1)])
    fit(Trainer(wide, "mse", seed=0), batch_size=90, epochs=3)
    return native.threads(), count() - before, os.getpid()


native_only = pytest.mark.skipif(AUTOMATIC != "native", reason="threads are the native backend's")


@native_only
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")
@pytest.mark.parametrize("inner", [None, 1, 2])
def test_no_oversubscription_in_processes(inner):
    """joblib gives each of its processes a share of the CPUs in OMP_NUM_THREADS: no more threads are started."""
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=inner):
        found = joblib.Parallel()(joblib.delayed(threads_of_a_worker)() for _ in range(4))
    share = inner or int(os.environ.get("OMP_NUM_THREADS", max(1, joblib.cpu_count() // 2)))
    assert os.getpid() not in {process for *_, process in found}
    assert all(limit == share and started <= share - 1 for limit, started, _ in found)


@native_only
def test_no_oversubscription_in_threads():
    """`threads` limits the fits of a thread, threadpoolctl that thread, and neither another one."""
    joblib = pytest.importorskip("joblib")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from fastnn.backends import native

    def limited(way):
        seen = []
        look = fastnn.Lambda(on_epoch_end=lambda run: seen.append(native.threads()))
        if way == "threads":
            fit(make(threads=1), look)
        elif way == "threadpoolctl":
            with threadpoolctl.threadpool_limits(1):
                fit(make(), look)
        else:
            fit(make(), look)
        return set(seen), native.threads()

    everywhere = native.threads()
    ways = ["threads", "threadpoolctl", "not"] * 2
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(limited)(way) for way in ways)
    for way, (within, after) in zip(ways, found, strict=True):
        assert within == ({everywhere} if way == "not" else {1}) and after == everywhere
