"""Callbacks: what each does, against values worked out by hand or by a few lines of NumPy; that none is in the way."""

from __future__ import annotations

import contextlib
import copy
import csv
import gc
import io
import math
import os
import pickle
import struct
import sys
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES, features

import fastnn
from fastnn import Callback, DivergenceError, Sequential, Trainer, nn, optim
from fastnn.training.callbacks import Lines, limits
from fastnn.training.run import HOOKS

X, XV = features(40, 4), features(16, 4, seed=5)
Y, YV = X[:, :1] * X[:, 1:2] + X[:, 2:3], XV[:, :1] * XV[:, 1:2] + XV[:, 2:3]
LABELS = (X[:, 0] > 0).astype(np.int64)

engines = pytest.mark.parametrize("backend", ENGINES)


def network(dtype=np.float32) -> Sequential:
    return Sequential([nn.Dense(8, "tanh"), nn.BatchNorm(), nn.Dropout(0.1), nn.Dense(1)], dtype=dtype)


def make(backend=AUTOMATIC, optimizer=None, *, dtype=np.float32, **settings) -> Trainer:
    return Trainer(network(dtype), "mse", optimizer or optim.Adam(0.01), seed=0, backend=backend, **settings)


def fit(trainer: Trainer, *callbacks: Callback, **settings) -> Trainer:
    given = dict(epochs=6, batch_size=8, validation=(XV, YV), verbose=False) | settings
    trainer.fit(X, Y, callbacks=callbacks, **given)
    return trainer


def learned(model: Sequential) -> tuple[np.ndarray, np.ndarray]:
    return model.state.parameters.copy(), model.state.statistics.copy()


def same(left, right) -> None:
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


class Script(Callback):
    """Says what an epoch measured."""

    def __init__(self, values, name="val_loss"):
        self.values, self.name = values, name

    def on_epoch_end(self, run):
        run.logs[self.name] = self.values[run.epoch - 1]


class Record(Callback):
    """Keeps what the model has learned at each step and at the end of each epoch (the averages, under EMA)."""

    every = 1

    def __init__(self):
        self.steps, self.epochs, self.ends = [], [], []

    def on_step(self, run):
        self.steps.append(learned(run.model))

    def on_epoch_end(self, run):
        self.epochs.append(learned(run.model))

    def on_fit_end(self, run):
        self.ends.append(run.error)


# EarlyStopping -------------------------------------------------------------------------------------------------

NAN = math.nan


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best"),
    [
        ([5, 4, 4, 4, 3], dict(patience=2), 4, 2),
        ([5, 4, 4, 3.5, 4, 4, 3], dict(patience=2), 6, 4),
        ([5, 4, 5, 5], dict(patience=1), 3, 2),
        ([5, 4, 3, 2], dict(patience=1), 4, 4),
        ([5, 4, 3.75, 3.5, 3.25, 3], dict(patience=3, min_delta=0.5), 6, 6),  # 0.5 less is not more than 0.5
        ([5, 4, 3.75, 3.5, 3.5, 3], dict(patience=3, min_delta=0.5), 5, 4),  # waited from epoch 2 on, the best is 4
        ([1, 2, 2, 1, 3], dict(patience=2, mode="max"), 4, 2),
        ([1, 2, 2, 1, 3], dict(patience=2, mode="min"), 3, 1),
        ([3, NAN, 2, NAN, NAN, 1], dict(patience=2), 5, 3),
        ([NAN, NAN, NAN], dict(patience=2), 2, None),
        ([NAN, 7, NAN], dict(patience=2), 3, 2),
        ([math.inf, 7, 8], dict(patience=2), 3, 2),
    ],
)
@engines
def test_early_stopping_counts(backend, values, settings, epochs, best):
    record, stop = Record(), fastnn.EarlyStopping(**settings)
    trainer = fit(make(backend), Script(values), stop, record, epochs=len(values))
    assert len(trainer.history) == epochs
    assert stop.stopped == (epochs < len(values) or stop.waited >= stop.patience)
    assert stop.best_epoch == best
    assert stop.best_value == (None if best is None else values[best - 1])
    same(learned(trainer.model), record.epochs[(best or epochs) - 1])


@engines
def test_early_stopping_gives_the_best_epoch_back(backend):
    """The parameters and the running statistics of it, to the bit; the optimizer's moments stay the last ones."""
    trainer, record = make(backend, optim.Adam(0.1)), Record()
    stop = fastnn.EarlyStopping(patience=100)
    fit(trainer, stop, record, epochs=12)
    best = int(np.argmin(trainer.history["val_loss"]))
    assert 0 < best < 11  # or nothing is put back
    assert (stop.best_epoch, stop.best_value) == (best + 1, trainer.history["val_loss"][best])
    same(learned(trainer.model), record.epochs[best])
    assert trainer.evaluate(XV, YV)["loss"] == stop.best_value
    assert trainer.model.state.step == 12 * 5
    assert not stop.stopped


@engines
def test_early_stopping_may_leave_the_last_epoch(backend):
    record = Record()
    trainer = fit(make(backend), Script([1, 2, 3]), fastnn.EarlyStopping(patience=2, restore_best=False), record)
    same(learned(trainer.model), record.epochs[-1])
    assert len(record.epochs) == 3


def test_after_an_error_nothing_is_put_back():
    """The last completed step, as fit says: not the best epoch, of which the next fit would not know."""
    record, trainer = Record(), make()
    crash = fastnn.Lambda(on_epoch_begin=lambda run: 1 / 0 if run.epoch == 3 else None)
    with pytest.raises(ZeroDivisionError):
        fit(trainer, Script([1, 2, 3, 4]), fastnn.EarlyStopping(), record, crash)
    same(learned(trainer.model), record.epochs[2])


@pytest.mark.parametrize(
    ("name", "larger"),
    [
        ("accuracy", True),
        ("val_accuracy", True),
        ("val_top_5_accuracy", True),
        ("val_r2", True),
        ("roc_auc", True),
        ("val_f1", True),
        ("f1_score", True),
        ("val_recall", True),
        ("loss", False),
        ("val_loss", False),
        ("val_mae", False),
        ("rmse", False),
        ("accuracy_loss", False),
    ],
)
def test_which_way_is_better(name, larger):
    assert (fastnn.EarlyStopping(name).sign > 0) == larger
    assert fastnn.EarlyStopping(name, mode="min").sign < 0 < fastnn.EarlyStopping(name, mode="max").sign


@pytest.mark.parametrize("kind", [fastnn.EarlyStopping, fastnn.ReduceLROnPlateau])
@pytest.mark.parametrize("built", [True, False])
def test_val_needs_validation(kind, built):
    """Before anything is touched: no model is built, no other callback begins, no bit changes."""
    trainer, record = make(), Record()
    if built:
        trainer.model.build(4, seed=1)
        before = learned(trainer.model)
    with pytest.raises(ValueError, match=r"monitor is 'val_loss', which needs fit\(validation=\.\.\.\)"):
        fit(trainer, record, kind("val_loss"), validation=None)
    assert trainer.model.built == built
    if built:
        same(before, learned(trainer.model))
    assert record.ends == [] and len(trainer.history) == 0
    fit(trainer, kind("loss"), validation=None)


@pytest.mark.parametrize("kind", [fastnn.EarlyStopping, fastnn.ReduceLROnPlateau])
def test_an_unknown_quantity(kind):
    with pytest.raises(ValueError, match="monitor is 'val_acuracy', expected one of: loss, lr, seconds, val_loss"):
        fit(make(), kind("val_acuracy"))


@pytest.mark.parametrize(
    ("kind", "settings", "error"),
    [
        (fastnn.EarlyStopping, dict(monitor=3), "monitor is 3, expected the name"),
        (fastnn.EarlyStopping, dict(patience=0), "patience is 0, expected an integer >= 1"),
        (fastnn.EarlyStopping, dict(min_delta=-1), "min_delta is -1"),
        (fastnn.EarlyStopping, dict(mode="best"), "mode is 'best', expected 'auto', 'min' or 'max'"),
        (fastnn.EarlyStopping, dict(restore_best="no"), "restore_best is 'no'"),
        (fastnn.ReduceLROnPlateau, dict(factor=1.0), "factor is 1.0"),
        (fastnn.ReduceLROnPlateau, dict(cooldown=-1), "cooldown is -1"),
        (fastnn.ReduceLROnPlateau, dict(min_lr=2.0), "min_lr is 2.0"),
        (fastnn.EMA, dict(decay=1.0), "decay is 1.0"),
        (fastnn.EMA, dict(every=0), "every is 0"),
        (fastnn.Timer, dict(max_time=-1.0), "max_time is -1.0"),
        (fastnn.CSVLogger, dict(path="a", append=1), "append is 1, expected True or False"),
        (fastnn.Lambda, dict(on_epoch=print), "Lambda got 'on_epoch', expected one of: before_fit, on_fit_begin, "),
        (fastnn.Lambda, dict(on_epoch_end=3), "on_epoch_end is 3, expected a function"),
        (fastnn.Lambda, dict(every=0, on_step=print), "every is 0"),
        (fastnn.Lambda, dict(on_step=print), "every is None, expected after how many steps to call on_step"),
    ],
)
def test_settings_are_checked(kind, settings, error):
    with pytest.raises((TypeError, ValueError), match=error):
        kind(**settings)


# ReduceLROnPlateau ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "settings", "rates"),
    [
        ([5] * 7, dict(patience=2), [1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
        ([5] * 7, dict(patience=2, cooldown=1), [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ([5] * 7, dict(patience=1), [1, 1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ([5] * 7, dict(patience=1, min_lr=0.25), [1, 1, 0.5, 0.25, 0.25, 0.25, 0.25]),
        ([5, 4, 4, 3, 3, 3, 3], dict(patience=2), [1, 1, 1, 1, 1, 1, 0.5]),
        ([5, NAN, NAN, 4, 4, 4, 4], dict(patience=2), [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ([5, 4.5, 4, 3.5, 3, 2.5, 2], dict(patience=2, min_delta=0.75), [1, 1, 1, 1, 1, 1, 1]),
        ([5, 4.5, 4, 3.5, 3, 2.5, 2], dict(patience=1, min_delta=0.75), [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        ([1, 2, 2, 2, 3, 3, 3], dict(patience=2, mode="max"), [1, 1, 1, 1, 0.5, 0.5, 0.5]),
    ],
)
@engines
def test_reduce_lr_on_plateau(backend, values, settings, rates):
    plateau = fastnn.ReduceLROnPlateau(factor=0.5, **settings)
    trainer = fit(make(backend, optim.SGD(0.125)), Script(values), plateau, epochs=7)
    assert trainer.history["lr"] == [0.125 * rate for rate in rates]


@engines
def test_a_reduced_rate_is_the_one_that_trains(backend):
    """As if the optimizer had been given it between two fits; a factor on top of a schedule."""
    plateau = fastnn.ReduceLROnPlateau(factor=0.5, patience=1)
    trainer = fit(make(backend, optim.SGD(0.0625)), Script([5] * 4), plateau, epochs=4)
    other = fit(make(backend, optim.SGD(0.0625)), epochs=2)
    for fraction in (2, 4):
        other.optimizer = optim.SGD(0.0625 / fraction)
        fit(other, epochs=1)
    same(learned(trainer.model), learned(other.model))
    scheduled = make(backend, optim.SGD(0.0625), schedule=optim.StepDecay(1, 0.5))
    fit(scheduled, Script([5] * 3), plateau, epochs=3)
    assert scheduled.history["lr"] == [0.0625, 0.0625 / 2, 0.0625 / 8]


# EMA -----------------------------------------------------------------------------------------------------------


@engines
@pytest.mark.parametrize(("decay", "every"), [(0.9, 1), (0.5, 3), (0.99, 7), (0.0, 2)])
def test_ema(backend, decay, every):
    """Against a loop over the parameters of every step; the validation of each epoch is of the averages then."""
    record, trainer = Record(), make(backend, dtype=np.float64)
    fit(trainer, record, fastnn.EMA(decay, every=every), epochs=5)
    average, taken, expected = None, 0, []
    for step, values in enumerate(record.steps, 1):
        if step % every == 0:
            d = min(decay**every, (1 + taken) / (10 + taken))
            average = values if average is None else [d * a + (1 - d) * v for a, v in zip(average, values, strict=True)]
            taken += 1
        if step % 5 == 0:
            expected.append(values if average is None else average)
    for here, there in zip(record.epochs, expected, strict=True):
        for one, other in zip(here, there, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    same(learned(trainer.model), record.epochs[-1])
    for values, loss in zip(record.epochs, trainer.history["val_loss"], strict=True):
        trainer.model.state.parameters[...], trainer.model.state.statistics[...] = values
        assert trainer.evaluate(XV, YV)["loss"] == loss


@engines
def test_ema_does_not_touch_training(backend):
    with_it, without = Record(), Record()
    averaged = fit(make(backend), with_it, fastnn.EMA(0.9, every=2))
    plain = fit(make(backend), without)
    assert averaged.history["loss"] == plain.history["loss"]
    for one, other in zip(with_it.steps, without.steps, strict=True):
        same(one, other)
    assert averaged.history["val_loss"] != plain.history["val_loss"]


@engines
@pytest.mark.parametrize("hook", ["on_evaluate", "on_epoch_end", "on_evaluated"])
def test_an_error_while_the_averages_are_in(backend, hook):
    """The model has the parameters that training goes on with."""
    record, trainer = Record(), make(backend)
    crash = fastnn.Lambda(**{hook: lambda run: 1 / 0 if run.epoch >= 1 and len(record.steps) > 5 else None})
    crash.order = 3  # after EMA's
    with pytest.raises(ZeroDivisionError):
        fit(trainer, record, fastnn.EMA(0.9, every=1), crash)
    assert len(record.steps) == 10
    same(learned(trainer.model), record.steps[-1])


def test_an_error_of_a_metric_while_the_averages_are_in():
    def metric(y, prediction):
        raise LookupError("mine")

    record, trainer = Record(), make(metrics=[metric])
    with pytest.raises(LookupError, match="mine"):
        fit(trainer, record, fastnn.EMA(0.9, every=1))
    same(learned(trainer.model), record.steps[-1])


def test_early_stopping_keeps_averages():
    record, trainer = Record(), make(optimizer=optim.Adam(0.1))
    fit(trainer, fastnn.EarlyStopping(), fastnn.EMA(0.5, every=2), record, epochs=9)
    best = int(np.argmin(trainer.history["val_loss"]))
    same(learned(trainer.model), record.epochs[best])
    assert trainer.evaluate(XV, YV)["loss"] == min(trainer.history["val_loss"])


def test_ema_of_fewer_steps_than_it_waits_for():
    plain, averaged = fit(make()), fit(make(), fastnn.EMA(0.9, every=1000))
    same(learned(plain.model), learned(averaged.model))


# TerminateOnNaN ------------------------------------------------------------------------------------------------


class Explode(Callback):
    """A learning rate beyond all reason from that epoch on."""

    def __init__(self, epoch=2):
        self.epoch = epoch

    def on_epoch_begin(self, run):
        if run.epoch == self.epoch:
            run.lr_scale = 1e35


@engines
def test_terminate_on_nan(backend):
    trainer, record, guard = make(backend, optim.SGD(0.1)), Record(), fastnn.TerminateOnNaN()
    fit(trainer, Explode(), record, guard)
    assert len(trainer.history) == 2
    same(learned(trainer.model), record.epochs[1])
    assert "with learning rate 1e+34" in str(guard.error) and isinstance(guard.error, DivergenceError)
    assert record.ends == [None]  # the fit ended without an error
    fit(trainer, guard)
    assert guard.error is None and len(trainer.history) == 8


@engines
def test_without_a_guard_divergence_is_an_error(backend):
    trainer, record = make(backend, optim.SGD(0.1)), Record()
    with pytest.raises(DivergenceError) as caught:
        fit(trainer, Explode(), record)
    assert record.ends == [caught.value]
    same(learned(trainer.model), record.epochs[1])


def test_every_callback_is_told_of_a_divergence():
    guards = [fastnn.TerminateOnNaN(), fastnn.TerminateOnNaN()]
    fit(make(optimizer=optim.SGD(0.1)), Explode(), *guards)
    assert guards[0].error is guards[1].error is not None


def test_the_best_epoch_before_a_divergence():
    trainer, record = make(optimizer=optim.SGD(0.1)), Record()
    fit(trainer, Script([1, 2, 3, 4]), Explode(3), record, fastnn.TerminateOnNaN(), fastnn.EarlyStopping())
    same(learned(trainer.model), record.epochs[0])


# Timer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_time", "epochs"), [(0.0, 1), (25.0, 3), (30.0, 3), (30.1, 4), (1e9, 6), (None, 6)])
def test_timer(monkeypatch, max_time, epochs):
    now = [100.0]
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def wait(run):
        now[0] += 10.0

    timer = fastnn.Timer(max_time)
    assert timer.elapsed == 0.0
    trainer = fit(make(), fastnn.Lambda(on_epoch_begin=wait), timer)
    now[0] += 50.0
    assert len(trainer.history) == epochs
    assert timer.elapsed == 10.0 * epochs
    again = fit(make(), fastnn.Lambda(on_epoch_begin=wait), timer)  # the time of the first fit is not counted
    assert len(again.history) == epochs


# CSVLogger -----------------------------------------------------------------------------------------------------


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def logged(path, history, epochs=None) -> None:
    """The file has that history, every digit of it."""
    lines = rows(path)
    assert [int(line["epoch"]) for line in lines] == list(epochs or range(1, len(history) + 1))
    for name, values in history.items():
        np.testing.assert_array_equal([float(line[name]) for line in lines], values[-len(lines) :])


@engines
def test_csv_logger(backend, tmp_path):
    trainer = fit(make(backend), fastnn.CSVLogger(tmp_path / "log.csv"))
    logged(tmp_path / "log.csv", trainer.history)
    assert (tmp_path / "log.csv").read_text().startswith("epoch,loss,lr,seconds,val_loss")


def test_csv_lines_are_there_at_once(tmp_path):
    seen = []
    count = fastnn.Lambda(on_epoch_end=lambda run: seen.append(len(rows(tmp_path / "log.csv"))))
    fit(make(), fastnn.CSVLogger(str(tmp_path / "log.csv")), count, epochs=3)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("append", [True, False])
def test_csv_of_two_fits(tmp_path, append):
    log = fastnn.CSVLogger(tmp_path / "log.csv", append=append)
    trainer = fit(make(), log, epochs=2)
    fit(trainer, log, epochs=3)
    logged(tmp_path / "log.csv", trainer.history, None if append else [3, 4, 5])


def test_csv_appended_to_other_columns(tmp_path):
    """Each value under its name: what the file has no column for is left out, what is missing is nan."""
    log = fastnn.CSVLogger(tmp_path / "log.csv", append=True)
    trainer = fit(make(), Script([7, 7], "extra"), log, epochs=2, validation=None)
    fit(trainer, log, epochs=1)
    lines = rows(tmp_path / "log.csv")
    assert list(lines[2]) == ["epoch", "loss", "lr", "seconds", "extra"]
    assert float(lines[2]["loss"]) == trainer.history["loss"][2]
    assert [line["extra"] for line in lines] == ["7", "7", "nan"]


def test_csv_of_another_kind(tmp_path):
    (tmp_path / "log.csv").write_text("name,price\nx,1\n")
    with pytest.raises(
        ValueError, match=r"log.csv begins with \['name', 'price'\], expected the columns of a CSVLogger"
    ):
        fit(make(), fastnn.CSVLogger(tmp_path / "log.csv", append=True))
    assert (tmp_path / "log.csv").read_text() == "name,price\nx,1\n"


def test_csv_of_a_resumed_fit(tmp_path):
    """Epochs that are trained again stand there once."""
    crash = fastnn.Lambda(on_epoch_begin=lambda run: 1 / 0 if run.epoch == 4 else None)
    log, saver = fastnn.CSVLogger(tmp_path / "log.csv"), fastnn.Checkpoint(tmp_path / "saved", every=10)  # 2 epochs
    with pytest.raises(ZeroDivisionError):
        fit(make(), log, saver, crash, epochs=5)
    assert len(rows(tmp_path / "log.csv")) == 4
    log, saver = fastnn.CSVLogger(tmp_path / "log.csv"), fastnn.Checkpoint(tmp_path / "saved", every=10)
    trainer = fit(make(), log, saver, epochs=5, resume=True)
    logged(tmp_path / "log.csv", trainer.history)


def test_csv_in_a_folder_that_is_not_there(tmp_path):
    trainer = make()
    with pytest.raises(FileNotFoundError):
        fit(trainer, fastnn.CSVLogger(tmp_path / "no" / "log.csv"))
    fit(trainer)


# TensorBoard ---------------------------------------------------------------------------------------------------


def events(folder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show: of each name (step, value). Of a record: length, checksum, Event, checksum."""
    from tensorboardX.proto import event_pb2

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@engines
def test_tensorboard(backend, tmp_path):
    pytest.importorskip("tensorboardX")
    trainer = fit(make(backend), fastnn.TensorBoard(tmp_path))
    found = events(tmp_path)
    assert found.keys() == trainer.history.keys()
    for name, values in trainer.history.items():
        assert found[name] == [(epoch, float(np.float32(value))) for epoch, value in enumerate(values, 1)]


def test_tensorboard_of_two_fits(tmp_path):
    pytest.importorskip("tensorboardX")
    board, trainer = fastnn.TensorBoard(tmp_path), make()
    fit(trainer, board, epochs=2)
    fit(trainer, board, epochs=1)
    assert [step for step, _ in events(tmp_path)["loss"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("package", "call", "extra"),
    [
        ("tensorboardX", lambda: fastnn.TensorBoard("somewhere"), "tensorboard"),
        ("tqdm.auto", fastnn.ProgressBar, "progress"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, package, call, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install .*, or in a checkout of fastnn the extra \[{extra}\]"):
        call()


# Progress ------------------------------------------------------------------------------------------------------


class Bar:
    """What a ProgressBar asks of tqdm, written down."""

    def __init__(self, **settings):
        self.settings, self.rows, self.descriptions, self.shown, self.closed = settings, 0, [], [], False

    def update(self, rows):
        self.rows += rows

    def set_description(self, text):
        self.descriptions.append(text)

    def set_postfix(self, values):
        self.shown.append(values)

    def close(self):
        self.closed = True


@engines
def test_progress_bar(backend):
    pytest.importorskip("tqdm")
    bars, progress = [], fastnn.ProgressBar()
    progress._make = lambda **settings: bars.append(Bar(**settings)) or bars[-1]
    trainer = fit(make(backend), progress, epochs=3)
    fit(trainer, progress, epochs=2)
    first, second = bars
    assert (first.settings["total"], first.rows, second.settings["total"], second.rows) == (120, 120, 80, 80)
    assert first.descriptions == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert second.descriptions == ["epoch 4/5", "epoch 5/5"]
    assert first.shown[2] == {name: f"{trainer.history[name][2]:.4f}" for name in ("loss", "val_loss")}
    assert first.closed and second.closed


def test_a_bar_is_closed_after_an_error():
    pytest.importorskip("tqdm")
    bars, progress = [], fastnn.ProgressBar()
    progress._make = lambda **settings: bars.append(Bar(**settings)) or bars[-1]
    with pytest.raises(ZeroDivisionError):
        fit(make(), progress, fastnn.Lambda(on_epoch_end=lambda run: 1 / 0))
    assert bars[0].closed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_verbose_shows(monkeypatch, capsys):
    """Nothing unasked where nobody watches; lines when asked; a bar on a terminal with tqdm, lines there without."""
    pytest.importorskip("tqdm")
    trainer = fit(make(), verbose=None)
    assert capsys.readouterr() == ("", "")
    fit(trainer, verbose=True, epochs=2)
    lines = capsys.readouterr().err.splitlines()
    history = trainer.history
    assert [line.split("  (")[0] for line in lines] == [
        f"epoch {n}/8  loss {history['loss'][n - 1]:.4f}  val_loss {history['val_loss'][n - 1]:.4f}" for n in (7, 8)
    ]
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(make(), verbose=None, epochs=2)
    assert "epoch 2/2" in sys.stderr.getvalue() and "rows/s" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(make(), fastnn.ProgressBar(), verbose=True, epochs=1)
    assert sys.stderr.getvalue().count("\n") == 1  # one bar, not two
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(make(), verbose=False)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    fit(make(), verbose=None)
    assert sys.stderr.getvalue() == ""
    fit(make(), verbose=True, epochs=1)
    assert sys.stderr.getvalue().startswith("epoch 1/1  loss ")


@pytest.mark.parametrize("verbose", [0, 1, "no"])
def test_verbose_is_a_flag(verbose):
    with pytest.raises(TypeError, match=f"verbose is {verbose!r}, expected True or False"):
        fit(make(), verbose=verbose)


def test_lines_of_a_batch_iterable_and_a_bar_without_a_total():
    pytest.importorskip("tqdm")
    bars, progress = [], fastnn.ProgressBar()
    progress._make = lambda **settings: bars.append(Bar(**settings)) or bars[-1]
    make().fit([(X[:10], Y[:10]), (X[10:15], Y[10:15])], epochs=2, callbacks=[progress, Lines()], verbose=False)
    assert bars[0].settings["total"] is None and bars[0].rows == 30


# Hooks ---------------------------------------------------------------------------------------------------------


class Trace(Callback):
    """Writes every hook down."""

    def __init__(self, name, trace, order=0, every=None):
        self.name, self.trace, self.order, self.every = name, trace, order, every

    def __getattribute__(self, attribute):
        if attribute in HOOKS:
            trace, name = self.trace, self.name
            return lambda run, *rest: trace.append(f"{name}.{attribute.removeprefix('on_')}")
        return super().__getattribute__(attribute)


@engines
def test_order_of_hooks(backend):
    """By `order`, among equals as they were given; the ends in reverse."""
    trace = []
    fit(make(backend), Trace("b", trace, order=1), Trace("a", trace, every=3), epochs=1)
    assert trace == [
        *("a.before_fit", "b.before_fit", "a.fit_begin", "b.fit_begin", "a.epoch_begin", "b.epoch_begin"),
        *trace[6:-8],  # slices, as long as the clock wants them
        *("a.evaluate", "b.evaluate", "a.epoch_end", "b.epoch_end", "a.evaluated", "b.evaluated"),
        *("b.fit_end", "a.fit_end"),
    ]
    middle = trace[6:-8]
    assert middle.count("a.step") == 1 and "b.step" not in middle
    assert [name for name in middle if name.endswith("slice")] == ["a.slice", "b.slice"] * (len(middle) // 2)
    before = middle[: middle.index("a.step")]
    assert before[-1] == "a.slice"  # its own slice first


@engines
@pytest.mark.parametrize("every", [(1,), (2,), (3, 4), (7, 5), (1000,)])
def test_every_cuts_at_multiples_and_changes_no_bit(backend, every):
    """40 steps of 5 an epoch, in two fits, whose step counts go on."""
    counts = [[] for _ in every]
    given = [
        fastnn.Lambda(every=n, on_step=lambda run, seen=seen: seen.append(run.step))
        for n, seen in zip(every, counts, strict=True)
    ]
    with_them, without = make(backend), make(backend)
    for trainer, callbacks in ((with_them, given), (without, [])):
        fit(trainer, *callbacks, epochs=3)
        fit(trainer, *callbacks, epochs=5)
    for n, seen in zip(every, counts, strict=True):
        assert seen == list(range(n, 41, n))
    same(with_them.model.state.buffers, without.model.state.buffers)
    for name in ("loss", "val_loss", "lr"):
        assert with_them.history[name] == without.history[name]


@engines
def test_every_after_another_optimizer(backend):
    """Whose steps are counted from 0 again."""
    trainer, seen = fit(make(backend), epochs=1), []
    trainer.optimizer = "sgd"
    fit(trainer, fastnn.Lambda(every=3, on_step=lambda run: seen.append(run.step)), epochs=2)
    assert seen == [3, 6, 9]


@pytest.mark.parametrize("every", [0, -1, 2.5, True])
def test_every_of_an_own_callback_is_checked(every):
    own = Record()
    own.every = every
    trainer = make()
    with pytest.raises((TypeError, ValueError), match=rf"every of Record is {every}, expected an integer >= 1"):
        fit(trainer, own)
    assert not trainer.model.built


@pytest.mark.parametrize(
    ("callbacks", "error"),
    [
        (fastnn.Timer(), "callbacks is a Callback, expected a list of them"),
        ([fastnn.Timer], "callbacks has <class .*>, expected objects of fastnn.Callback"),
        ([print], "callbacks has <built-in function print>"),
        (None, "callbacks is None, expected a list"),
        ([TIMER := fastnn.Timer(), TIMER], "callbacks has the same object twice"),
    ],
)
def test_what_is_no_callback(callbacks, error):
    trainer = make()
    with pytest.raises((TypeError, ValueError), match=error):
        trainer.fit(X, Y, callbacks=callbacks)
    assert not trainer.model.built


RAISE_IN = [name for name in HOOKS if name != "on_divergence"]


def descriptors() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }


@engines
@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("hook", RAISE_IN)
def test_an_error_in_a_hook(backend, hook, error, tmp_path):
    """The very exception comes out, every callback that began gets its end, and nothing is left but a model to use."""
    threads = threading.active_count()
    files = descriptors() if os.path.isdir("/proc/self/fd") else set()

    def crash(run, *rest):
        if hook not in ("on_epoch_end", "on_evaluated") or run.epoch == 2:
            raise error

    before, after = Record(), Record()
    crashing = fastnn.Lambda(every=2, **{hook: crash})
    log = fastnn.CSVLogger(tmp_path / "log.csv")
    saver = fastnn.Checkpoint(tmp_path / "saved")
    trainer = make(backend)
    given = [before, log, fastnn.EMA(0.9, every=1), saver, fastnn.EarlyStopping("loss"), crashing, after]
    with pytest.raises(type(error)) as caught:
        fit(trainer, *given)
    assert caught.value is error
    ends = {
        "before_fit": ([], []),
        "on_fit_begin": ([error], []),  # the later one never began
        "on_fit_end": ([None], [None]),  # training itself ended well
    }.get(hook, ([error], [error]))
    assert (before.ends, after.ends) == ends
    assert not trainer.model.fitting.locked()
    assert threading.active_count() == threads
    if files:
        assert descriptors() - files == set()
    if hook != "before_fit":
        assert np.isfinite(trainer.model.predict(X)).all()
        if before.steps and hook != "on_fit_end":
            same(learned(trainer.model), before.steps[-1])  # also while the averages were in
    fit(trainer)
    assert np.isfinite(trainer.history["loss"]).all()


def test_an_error_in_on_divergence():
    record, error = Record(), RuntimeError("mine")

    def crash(run, divergence):
        raise error

    trainer = make(optimizer=optim.SGD(0.1))
    with pytest.raises(RuntimeError, match="mine") as caught:
        fit(trainer, record, Explode(), fastnn.Lambda(on_divergence=crash))
    assert caught.value is error and record.ends == [error]
    assert isinstance(error.__context__, DivergenceError)
    same(learned(trainer.model), record.epochs[1])


def test_after_a_fit_nothing_holds_the_data(monkeypatch):
    """Neither the run, nor a callback, nor a circle through an error's traceback that waits for the collector."""
    crash = fastnn.Lambda(on_epoch_end=lambda run: 1 / 0)
    stop, guard = fastnn.EarlyStopping(), fastnn.TerminateOnNaN()
    gc.collect()
    gc.disable()
    try:
        for given in ([stop], [crash], [guard, Explode()]):
            x = X.astype(np.float32)
            data, trainer = weakref.ref(x), make(optimizer=optim.SGD(0.1))
            with contextlib.suppress(ZeroDivisionError):
                trainer.fit(x, Y, epochs=4, validation=(XV, YV), callbacks=given, verbose=False)
            del x
            assert data() is None
    finally:
        gc.enable()


@engines
@pytest.mark.parametrize(
    ("hook", "when", "epochs"),
    [
        ("on_fit_begin", 0, 0),
        ("on_epoch_begin", 2, 3),
        ("on_step", 1, 2),
        ("on_slice", 1, 2),
        ("on_evaluate", 1, 2),
        ("on_epoch_end", 2, 2),
        ("on_evaluated", 2, 2),
    ],
)
def test_stop(backend, hook, when, epochs):
    """No further epoch, whatever hook it is asked in; the one that runs is finished."""
    trainer, reasons = make(backend), []

    def ask(run, *rest):
        if run.epoch == when:
            run.stop("enough")

    hooks = {hook: ask, "on_fit_end": lambda run: reasons.append(run.stopped)}
    fit(trainer, fastnn.Lambda(every=3, **hooks), epochs=6)
    assert len(trainer.history) == epochs
    assert trainer.model.state.step == 5 * epochs
    assert reasons == ["enough"]
    fit(trainer, epochs=1)  # it was of that fit alone
    assert len(trainer.history) == epochs + 1


@engines
def test_lr_scale_within_an_epoch(backend):
    """A linear model step by step, a row each: the factor holds from the step after the one it was set at."""
    trainer = Trainer(
        Sequential([nn.Dense(1)], dtype=np.float64), "half_mse", optim.SGD(0.125), seed=0, backend=backend
    )
    trainer.model.build(4, seed=0)
    w, b = trainer.model.layers[0].weight.copy(), trainer.model.layers[0].bias.copy()
    scales = {2: 0.5, 5: 2.0, 6: 0.0, 7: 0.25}

    def change(run):
        run.lr_scale = scales.get(run.step, run.lr_scale)

    trainer.fit(
        X[:10],
        Y[:10],
        epochs=1,
        batch_size=1,
        shuffle=False,
        verbose=False,
        callbacks=[fastnn.Lambda(every=1, on_step=change)],
    )
    factor = 1.0
    for step, (x, y) in enumerate(zip(X[:10], Y[:10], strict=True), 1):
        error = x @ w + b - y
        w, b = w - 0.125 * factor * np.outer(x, error), b - 0.125 * factor * error
        factor = scales.get(step, factor)
    np.testing.assert_allclose(trainer.model.layers[0].weight, w, rtol=1e-12)
    np.testing.assert_allclose(trainer.model.layers[0].bias, b, rtol=1e-12)
    assert trainer.history["lr"] == [0.125 * 0.25]


def test_what_a_run_says():
    seen = []

    def look(run):
        seen.append((run.epoch, run.epochs, run.step, run.steps, run.rows, run.validated, sorted(run.logs)))

    fit(make(), fastnn.Lambda(on_epoch_begin=look, on_epoch_end=look), epochs=2)
    names = ["loss", "lr", "seconds", "val_loss"]
    assert seen == [
        (0, 2, 0, 5, 40, True, []),
        (1, 2, 5, 5, 40, True, names),
        (1, 2, 5, 5, 40, True, []),
        (2, 2, 10, 5, 40, True, names),
    ]


def test_a_hook_may_add_to_the_history():
    trainer = fit(make(), Script([3.0, 4.0], "mine"), epochs=2)
    fit(trainer, epochs=1)
    np.testing.assert_array_equal(trainer.history["mine"], [3.0, 4.0, NAN])


def test_lambda_has_every_hook():
    called = set()
    hooks = {name: lambda run, *rest, name=name: called.add(name) for name in HOOKS}
    with pytest.raises(DivergenceError):
        fit(make(optimizer=optim.SGD(0.1)), Explode(), fastnn.Lambda(every=1, **hooks))
    assert called == set(HOOKS)


def test_a_hook_cannot_fit_the_model():
    trainer = make()
    with pytest.raises(RuntimeError, match="model is being fitted"):
        fit(trainer, fastnn.Lambda(on_epoch_end=lambda run: fit(trainer)))
    fit(trainer)


# Again, copied, kept -------------------------------------------------------------------------------------------


def announce(run) -> None:
    run.logs["double"] = 2.0 * run.logs["loss"]


def makers(folder) -> dict:
    return {
        "EarlyStopping": lambda: fastnn.EarlyStopping(patience=2),
        "ReduceLROnPlateau": lambda: fastnn.ReduceLROnPlateau("loss", patience=1, min_delta=0.5, factor=0.5),
        "EMA": lambda: fastnn.EMA(0.8, every=2),
        "TerminateOnNaN": fastnn.TerminateOnNaN,
        "Timer": fastnn.Timer,
        "CSVLogger": lambda: fastnn.CSVLogger(folder / "log.csv"),
        "TensorBoard": lambda: pytest.importorskip("tensorboardX") and fastnn.TensorBoard(folder),
        "ProgressBar": lambda: pytest.importorskip("tqdm") and fastnn.ProgressBar(),
        "Checkpoint": lambda: fastnn.Checkpoint(folder / "saved"),
        "Lambda": lambda: fastnn.Lambda(on_epoch_end=announce),
        "Lines": Lines,
    }


KINDS = [*makers(None)]


def test_all_callbacks_are_here():
    public = {
        name
        for name, thing in ((name, getattr(fastnn, name)) for name in fastnn.__all__)
        if isinstance(thing, type) and issubclass(thing, Callback)
    }
    assert public - {"Callback"} <= {*KINDS, "OptunaPruning"}  # whose tests are test_model_selection.py's


def outcome(trainer: Trainer):
    return {name: values for name, values in trainer.history.items() if name != "seconds"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_fit_with_the_same_object(kind, tmp_path):
    """Is one with a new object: nothing is remembered of the first."""
    again = makers(tmp_path)[kind]()
    fit(make(), again, epochs=4)
    if kind == "Checkpoint":
        for path in (tmp_path / "saved").glob("epoch-*"):
            path.unlink()
    one = fit(make(optimizer=optim.SGD(0.3)), again, epochs=4)
    other = fit(
        make(optimizer=optim.SGD(0.3)),
        makers(tmp_path / ".." / tmp_path.name)[kind]() if kind != "Checkpoint" else fastnn.Checkpoint(tmp_path / "b"),
        epochs=4,
    )
    same(one.model.state.buffers, other.model.state.buffers)
    assert outcome(one) == outcome(other)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind, used, how, tmp_path):
    """Before a fit and after one; the copy is as good as the original."""
    made = makers(tmp_path)[kind]()
    if used:
        fit(make(), made, epochs=3)
    copied = how(made)
    assert type(copied) is type(made) and copied.every == made.every and copied.order == made.order
    if kind == "EarlyStopping":
        assert (copied.best_epoch, copied.best_value, copied.stopped) == (
            made.best_epoch,
            made.best_value,
            made.stopped,
        )
    if kind == "Checkpoint" and used:
        return  # its folder has a fit already
    one = fit(make(), copied, epochs=3)
    assert "double" in one.history or kind != "Lambda"
    assert len(one.history) == 3
