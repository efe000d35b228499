"""Checkpoints: what is resumed ends with the same bits; what does not belong together, or is damaged, is refused."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES, EndsAt, full

import fastnn
from fastnn import CheckpointError, CheckpointWarning, Sequential, Trainer, backends, files, nn, optim
from fastnn.training import checkpoint, digests

rng = np.random.default_rng(0)
X = rng.normal(size=(230, 6))
Y = np.abs(X[:, :3]).argmax(axis=1)
WEIGHT = rng.uniform(0.5, 2.0, 230)


def trainer(optimizer="adam", seed: int | None = 3, **settings) -> Trainer:
    layers = [nn.Normalize(), nn.Dense(16, "relu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)]
    settings = dict(schedule=optim.Cosine(), metrics=["accuracy"], clip_norm=1.0, backend=AUTOMATIC) | settings
    loss = settings.pop("loss", "cross_entropy")
    return Trainer(Sequential(layers), loss, optimizer, seed=seed, **settings)


def watchers() -> list[fastnn.Callback]:
    """Callbacks with a state of their own."""
    return [
        fastnn.EarlyStopping(patience=6),
        fastnn.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=0.05),
        fastnn.EMA(0.9, every=3),
    ]


def fit(made: Trainer, folder: Path | None = None, *, every=4, crash: int | None = None, **fit) -> Trainer:
    callbacks = fit.pop("callbacks", None)
    callbacks = watchers() if callbacks is None else callbacks
    if folder is not None:
        callbacks.append(fastnn.Checkpoint(folder, every=every))
    if crash is not None:
        callbacks.append(EndsAt(crash))
    fit = dict(epochs=6, batch_size=16, validation=0.2, verbose=False) | fit
    try:
        made.fit(X, Y, callbacks=callbacks, **fit)
    except KeyboardInterrupt:
        assert crash is not None
    return made


def same(one: Trainer, other: Trainer) -> None:
    """Every bit, of the model, the optimizer and the history but for the clock."""
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)
    assert one.model.state.step == other.model.state.step
    assert one.history.keys() == other.history.keys()
    for name, values in one.history.items():
        if name != "seconds":
            assert values == other.history[name], name


# Going on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("crash", [1, 6, 12, 13, 29, 71])
def test_resumed_ends_with_the_same_bits(backend, crash, tmp_path):
    """12 steps an epoch, a file every 4: what was done since the last one is done again."""
    whole = fit(trainer(backend=backend), tmp_path / "whole")
    fit(trainer(backend=backend), tmp_path / "a", crash=crash)
    same(fit(trainer(backend=backend), tmp_path / "a", resume=True), whole)


def test_checkpoints_change_no_bit(tmp_path):
    same(fit(trainer(), tmp_path), fit(trainer()))


@pytest.mark.parametrize("every", ["epoch", 1, 5, 1000])
def test_crash_after_crash(every, tmp_path):
    whole = fit(trainer())
    for crash in (3, 14, 15, 40, 60):
        fit(trainer(), tmp_path, every=every, crash=crash, resume=True)
    same(fit(trainer(), tmp_path, every=every, resume=True), whole)


@pytest.mark.parametrize("name", [*optim.OPTIMIZERS])
def test_every_optimizer(name, tmp_path):
    whole = fit(trainer(name))
    fit(trainer(name), tmp_path, crash=30)
    same(fit(trainer(name), tmp_path, resume=True), whole)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (None, 3)])
def test_at_another_number_of_threads(before, after, tmp_path):
    whole = fit(trainer(threads=before))
    fit(trainer(threads=before), tmp_path, crash=31)
    same(fit(trainer(threads=after), tmp_path, resume=True), whole)


def test_with_weights_and_given_validation(tmp_path):
    settings = dict(validation=(X[:50], Y[:50], WEIGHT[:50]), sample_weight=WEIGHT, class_weight="balanced")
    whole = fit(trainer(), **settings)
    fit(trainer(), tmp_path, crash=50, **settings)
    same(fit(trainer(), tmp_path, resume=True, **settings), whole)


def test_over_batches(tmp_path):
    batches = [(X[start : start + 20], Y[start : start + 20]) for start in range(0, 230, 20)]

    def fit_batches(folder: Path, crash: int | None = None, resume: bool | None = None) -> Trainer:
        made = Trainer(Sequential([nn.Dense(5, "tanh"), nn.Dropout(0.1), nn.Dense(3)]), "cross_entropy", seed=0)
        callbacks = [fastnn.Checkpoint(folder, every=5), *([] if crash is None else [EndsAt(crash)])]
        try:
            made.fit(batches, epochs=4, callbacks=callbacks, resume=resume, verbose=False)
        except KeyboardInterrupt:
            assert crash is not None
        return made

    whole = fit_batches(tmp_path / "a")
    fit_batches(tmp_path / "b", crash=19)
    same(fit_batches(tmp_path / "b", resume=True), whole)


def test_the_seed_that_was_drawn_comes_back(tmp_path):
    first = fit(trainer(seed=None), tmp_path, crash=20)
    second = fit(trainer(seed=None), tmp_path, resume=True)
    assert second.seed == first.seed
    same(second, fit(trainer(seed=first.seed)))


def test_resuming_what_has_ended_changes_nothing(tmp_path):
    """Also where EarlyStopping ended it, and with the best parameters, which no file holds as the current ones."""
    stopping = dict(epochs=60, callbacks=None)
    whole = fit(trainer(optim.Adam(0.05)), tmp_path, every="epoch", **stopping)
    assert len(whole.history) < 60
    again = fit(trainer(optim.Adam(0.05)), tmp_path, every="epoch", resume=True, **stopping)
    same(again, whole)


def test_more_epochs(tmp_path):
    constant = dict(schedule=None)
    fit(trainer(**constant), tmp_path, every="epoch", epochs=3, callbacks=[])
    longer = fit(trainer(**constant), tmp_path, every="epoch", epochs=7, callbacks=[], resume=True)
    same(longer, fit(trainer(**constant), epochs=7, callbacks=[]))


def test_from_a_file_and_from_a_folder_without_writing(tmp_path):
    whole = fit(trainer())
    fit(trainer(), tmp_path, crash=30)
    files = sorted(tmp_path.glob("*.fastnn"))
    same(fit(trainer(), resume=files[0]), whole)
    same(fit(trainer(), resume=str(tmp_path)), whole)
    assert sorted(tmp_path.glob("*.fastnn")) == files


def test_a_timer_ends_a_fit_that_may_go_on(tmp_path):
    first = fit(trainer(), tmp_path, every="epoch", callbacks=[*watchers(), fastnn.Timer(0.0)])
    assert len(first.history) == 1
    same(fit(trainer(), tmp_path, every="epoch", resume=True), fit(trainer()))


def test_the_lines_of_a_csv_file(tmp_path):
    """Those of epochs that are trained again are there once."""

    def lines(path: Path) -> list[list[str]]:
        return [line.split(",")[:2] for line in path.read_text().splitlines()]

    fit(trainer(), callbacks=[fastnn.CSVLogger(tmp_path / "whole.csv")])
    fit(trainer(), tmp_path / "a", every=20, crash=39, callbacks=[fastnn.CSVLogger(tmp_path / "a.csv")])
    fit(trainer(), tmp_path / "a", every=20, callbacks=[fastnn.CSVLogger(tmp_path / "a.csv")], resume=True)
    assert lines(tmp_path / "a.csv") == lines(tmp_path / "whole.csv")
    assert len(lines(tmp_path / "a.csv")) == 7


# Refused ---------------------------------------------------------------------------------------------------------

ANOTHER = {
    "X": lambda: Trainer.fit(trainer(), X + 1e-9, Y, **COMMON),
    "y": lambda: Trainer.fit(trainer(), X, np.roll(Y, 1), **COMMON),
    "sample_weight": lambda: Trainer.fit(trainer(), X, Y, sample_weight=WEIGHT, **COMMON),
    "validation": lambda: Trainer.fit(trainer(), X, Y, **COMMON | {"validation": 0.3}),
    "batch_size": lambda: Trainer.fit(trainer(), X, Y, **COMMON | {"batch_size": 8}),
    "shuffle": lambda: Trainer.fit(trainer(), X, Y, **COMMON | {"shuffle": False}),
    "seed": lambda: Trainer.fit(trainer(seed=4), X, Y, **COMMON),
    "optimizer": lambda: Trainer.fit(trainer(optim.Adam(0.002)), X, Y, **COMMON),
    "schedule": lambda: Trainer.fit(trainer(schedule=None), X, Y, **COMMON),
    "clip_norm": lambda: Trainer.fit(trainer(clip_norm=2.0), X, Y, **COMMON),
    "metrics": lambda: Trainer.fit(trainer(metrics=[]), X, Y, **COMMON),
    "loss": lambda: Trainer.fit(
        Trainer(trainer().model, nn.CrossEntropy(0.1), "adam", schedule=optim.Cosine(), seed=3), X, Y, **COMMON
    ),
    r"layers\[1\]": lambda: Trainer.fit(
        _with([nn.Normalize(), nn.Dense(16, "tanh"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)]), X, Y, **COMMON
    ),
    "callbacks": lambda: Trainer.fit(trainer(), X, Y, **COMMON | {"callbacks": []}),
    "dtype": lambda: Trainer.fit(trainer(dtype="float64"), X, Y, **COMMON),
}
COMMON = dict(epochs=6, batch_size=16, validation=0.2, verbose=False)


def _with(layers) -> Trainer:
    return Trainer(
        Sequential(layers), "cross_entropy", schedule=optim.Cosine(), metrics=["accuracy"], clip_norm=1.0, seed=3
    )


@pytest.mark.parametrize("name", ANOTHER)
def test_what_was_saved_with_something_else(name, tmp_path, monkeypatch):
    fit(trainer(), tmp_path, crash=30)
    monkeypatch.setitem(COMMON, "resume", tmp_path)
    monkeypatch.setitem(COMMON, "callbacks", watchers())
    with pytest.raises(ValueError, match=rf"^{name} (is|has) .* was saved with"):
        ANOTHER[name]()


LAYERS = [nn.Normalize(), nn.Dense(16, "relu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)]
VARIANTS = {  # what becomes of LAYERS
    "units": (lambda l: [l[0], nn.Dense(8, "relu"), *l[2:]], "layers[1] is Dense(8, 'relu'), but Dense(16, 'relu') is"),
    "bias": (
        lambda l: [l[0], nn.Dense(16, "relu", bias=False), *l[2:]],
        "layers[1] is Dense(16, 'relu', bias=False), but Dense(16, 'relu') is",
    ),
    "another kind": (lambda l: [*l[:2], nn.LayerNorm(), *l[3:]], "layers[2] is LayerNorm(), but BatchNorm() is"),
    "a setting": (lambda l: [*l[:3], nn.Dropout(0.3), l[4]], "layers[3] is Dropout(0.3), but Dropout(0.2) is"),
    "one less": (lambda l: [*l[:3], l[4]], "layers[3] is Dense(3), but Dropout(0.2) is"),
    "one more": (lambda l: [*l, nn.Scale()], "layers[5] is Scale(), but no layer is"),
    "a nest": (lambda l: [*l[:2], nn.Residual([l[2]]), *l[3:]], "layers[2] is Residual, but BatchNorm() is"),
    "another initialiser": (  # which a built model does not need: it is not what differs
        lambda l: [l[0], nn.Dense(16, "relu", init="zeros"), l[2], nn.Dropout(0.5), l[4]],
        "layers[3] is Dropout(0.5), but Dropout(0.2) is",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), VARIANTS.values(), ids=VARIANTS)
def test_other_layers_are_named(change, sentence, tmp_path):
    """The first that differs, by its place and as it is written."""
    fit(_with(copy.deepcopy(LAYERS)), tmp_path, every="epoch", epochs=1)
    message = f"^{re.escape(f'{sentence} what {tmp_path}')}.* was saved with$"
    with pytest.raises(ValueError, match=message):
        fit(_with(change(copy.deepcopy(LAYERS))), resume=tmp_path, epochs=2)


def test_layers_within_layers_are_named(tmp_path):
    def nest(rate: float) -> list[nn.Layer]:
        return [nn.Residual([nn.Dense(6, nn.PReLU()), nn.Residual([nn.Dropout(rate)])]), nn.Dense(3)]

    fit(_with(nest(0.1)), tmp_path, every="epoch", epochs=1)
    with pytest.raises(
        ValueError,
        match=r"^layers\[0\]\.layers\[1\]\.layers\[0\] is Dropout\(0\.2\), but Dropout\(0\.1\) is what .* was saved",
    ):
        fit(_with(nest(0.2)), resume=tmp_path)


@pytest.mark.parametrize(("first", "second"), [((False, True), (True, False)), ((True, False), (True, True))])
def test_parameters_of_another_layout_are_not_taken(first, second, tmp_path):
    """A bias that is not learned is kept elsewhere; two such models may have as many parameters."""

    def layers(biases: tuple[bool, bool]) -> list[nn.Layer]:
        return [*(nn.Dense(6, "tanh", bias=bias) for bias in biases), nn.Dense(3)]

    fit(_with(layers(first)), tmp_path, every="epoch", epochs=1)
    with pytest.raises(ValueError, match=r"^layers\[[01]\] is Dense\(6, 'tanh'.*\), but Dense\(6, 'tanh'"):
        fit(_with(layers(second)), resume=tmp_path)
    fit(_with(layers(first)), resume=tmp_path)


BY_CLASS = {0: 1.0, 1: 2.0, 2: 1.0}
SENTENCES = {
    "optimizer": (
        lambda: trainer(optim.Adam(0.002, beta1=0.8)),
        {},
        "optimizer is Adam(lr=0.002, beta1=0.8), but Adam(lr=0.001, beta1=0.9) is",
    ),
    "another optimizer": (lambda: trainer("sgd"), {}, "optimizer is SGD(lr=0.01), but Adam(lr=0.001) is"),
    "schedule": (
        lambda: trainer(schedule=optim.Warmup(2, then=optim.Cosine(final=0.1))),
        {},
        "schedule is Warmup(length=2.0, then=Cosine(final=0.1)), but Cosine() is",
    ),
    "clip_norm": (lambda: trainer(clip_norm=None), {}, "clip_norm is None, but 1.0 is"),
    "metrics": (lambda: trainer(metrics=[]), {}, "metrics is [], but [accuracy] is"),
    "loss": (lambda: trainer(loss=nn.CrossEntropy(0.1)), {}, "loss is cross_entropy(0.1), but cross_entropy is"),
    "rows": (trainer, {"X": X[:200], "y": Y[:200]}, "X is float64 (200, 6), but float64 (230, 6) is"),
    "values": (trainer, {"X": X + 1.0}, "X has other values than"),
    "dtype": (trainer, {"X": X.astype(np.float32)}, "X is float32 (230, 6), but float64 (230, 6) is"),
    "labels": (trainer, {"y": 2 - Y}, "y has other values than"),
    "weights": (trainer, {"sample_weight": WEIGHT}, "sample_weight is float32 (230,), but None is"),
    "class weights": (trainer, {"class_weight": BY_CLASS}, "sample_weight is None with class_weight, but None is"),
    "fraction": (trainer, {"validation": 0.3}, "validation is a fraction of 69 rows, but a fraction of 46 rows is"),
    "validation": (
        trainer,
        {"validation": (X[:9], Y[:9])},
        "validation is float64 (9, 6) with y int64 (9,), but a fraction of 46 rows is",
    ),
    "batch_size": (trainer, {"batch_size": 8}, "batch_size is 8, but 16 is"),
    "seed": (lambda: trainer(seed=4), {}, "seed is 4, but"),
}


@pytest.mark.parametrize(("make", "given", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_what_differs_is_said_in_words(make, given, sentence, tmp_path):
    fit(trainer(), tmp_path, every="epoch", epochs=1)
    rows = {"X": X, "y": Y, "epochs": 2, "batch_size": 16, "validation": 0.2, "verbose": False}
    with pytest.raises(
        ValueError, match=rf"^{re.escape(sentence)} (what )?{re.escape(str(tmp_path))}.* was saved with"
    ):
        make().fit(**rows | given, callbacks=watchers(), resume=tmp_path)


def test_batches_do_not_go_on_from_rows_in_memory(tmp_path):
    def made() -> Trainer:
        return Trainer(Sequential([nn.Dense(3)]), "cross_entropy", seed=0)

    made().fit(X, Y, epochs=1, callbacks=[fastnn.Checkpoint(tmp_path)], verbose=False)
    with pytest.raises(ValueError, match=r"^X is an iterable of batches, but float64 \(230, 6\) is what"):
        made().fit([(X, Y)], epochs=2, resume=tmp_path, verbose=False)


def test_a_file_without_words_is_compared_all_the_same(tmp_path):
    """As those were that were written before there were words."""
    fit(trainer(), tmp_path, every="epoch", epochs=1)
    (path,) = tmp_path.glob("*.fastnn")
    header, arrays = files.read(path)
    for described in ({}, {"described": ["X"]}):
        files.write(path, {key: value for key, value in header.items() if key != "described"} | described, arrays)
        with pytest.raises(ValueError, match=r"^optimizer is Adam\(lr=0\.002\), but Adam\(lr=0\.\d+\) is what"):
            fit(trainer(optim.Adam(0.002)), resume=tmp_path)
        with pytest.raises(ValueError, match=r"^X has other values than what"):
            trainer().fit(X[:200], Y[:200], resume=tmp_path, callbacks=watchers(), **COMMON)
        with pytest.raises(ValueError, match=r"^layer 1 is dense 8 relu .*, but dense 16 relu .* is what"):
            fit(_with(VARIANTS["units"][0](copy.deepcopy(LAYERS))), resume=tmp_path)
        fit(trainer(), resume=tmp_path, epochs=2)


def test_other_rows_leave_the_model_unbuilt(tmp_path):
    """Else it could not be fitted to the right ones afterwards."""
    fit(trainer(), tmp_path, crash=30)
    fresh = trainer()
    with pytest.raises(ValueError, match=r"^inputs is 5, but 6 is what"):
        fresh.fit(X[:, 1:], Y, resume=tmp_path, callbacks=watchers(), **COMMON)
    same(fit(fresh, resume=tmp_path), fit(trainer()))


def test_another_version(tmp_path, monkeypatch):
    fit(trainer(), tmp_path, crash=30)
    monkeypatch.setattr(checkpoint, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"has version .*, but this is fastnn 99\.0"):
        fit(trainer(), tmp_path, resume=True)


def test_another_backend_is_a_warning(tmp_path):
    others = [name for name in backends.available() if name in ("numpy", "native")]
    if len(others) < 2:
        pytest.skip("there is one backend")
    fit(trainer(backend="native"), tmp_path, crash=30)
    with pytest.warns(CheckpointWarning, match="not bit by bit"):
        fit(trainer(backend="numpy"), tmp_path, resume=True)


def test_nothing_is_overwritten_unasked(tmp_path):
    """A folder with another fit's files: an error before anything is touched; one's own second fit may go on."""
    fit(trainer(), tmp_path, every="epoch")
    fresh = trainer()
    with pytest.raises(ValueError, match=r"has 3 checkpoints of another fit, the newest epoch-00000006.*resume=True"):
        fit(fresh, tmp_path)
    assert not fresh.model.built
    saver, made = fastnn.Checkpoint(tmp_path / "own"), trainer(schedule=None)
    for _ in range(2):
        made.fit(X, Y, epochs=2, callbacks=[saver], verbose=False)
    assert [path.name[:14] for path in checkpoint.checkpoints(tmp_path / "own")] == [
        "epoch-00000002",
        "epoch-00000003",
        "epoch-00000004",
    ]


def test_two_fits_in_one_folder(tmp_path):
    """The second one is refused while the first runs, in this process and in another."""
    seen = []

    class Second(fastnn.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 1:
                with pytest.raises(CheckpointError, match="in use by another fit") as error:
                    fit(trainer(), tmp_path, resume=True)
                seen.append(error)

    fit(trainer(), tmp_path, callbacks=[Second()])
    assert len(seen) == 1
    fit(trainer(), tmp_path, callbacks=[], resume=True)  # the lock is gone with the fit


@pytest.mark.parametrize(
    ("resume", "error", "message"),
    [
        (True, ValueError, "resume is True, which needs a Checkpoint among the callbacks"),
        ("nowhere", FileNotFoundError, "resume is 'nowhere', which has no checkpoint"),
        (3.5, TypeError, "resume is 3.5, expected True, a checkpoint or a directory"),
    ],
)
def test_nothing_to_resume_from(resume, error, message):
    with pytest.raises(error, match=message):
        fit(trainer(), resume=resume)


@pytest.mark.parametrize("kind", ["a model", "another file of fastnn"])
def test_a_file_that_is_no_checkpoint(kind, tmp_path):
    path = tmp_path / "file"
    if kind == "a model":
        Sequential([nn.Dense(1)]).save(path)
    else:
        files.write(path, {}, {})
    with pytest.raises(CheckpointError, match=rf"^cannot resume: .*file is {kind}, expected a checkpoint$"):
        fit(trainer(), resume=path)


@pytest.mark.parametrize("settings", [dict(every=0), dict(every=1.5), dict(keep=0), dict(every="step")], ids=str)
def test_settings(settings, tmp_path):
    with pytest.raises((ValueError, TypeError), match=rf"^{next(iter(settings))} is .*, expected"):
        fastnn.Checkpoint(tmp_path, **settings)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="which is a file"):
        fit(trainer(), tmp_path / "file")


# Damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_newest_file_is_passed_over(tmp_path):
    whole = fit(trainer())
    fit(trainer(), tmp_path, crash=30)
    *_, before, newest = checkpoint.checkpoints(tmp_path)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(CheckpointWarning, match="skipped a damaged checkpoint: .* is damaged"):
        same(fit(trainer(), tmp_path, resume=True), whole)
    assert before.name < newest.name


def test_all_files_damaged(tmp_path):
    fit(trainer(), tmp_path, crash=30)
    for path in checkpoint.checkpoints(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(CheckpointWarning), pytest.raises(CheckpointError, match=r"all 3 checkpoints .* are damaged"):
        fit(trainer(), tmp_path, resume=True)


def test_what_keep_keeps(tmp_path):
    fit(trainer(), tmp_path, every=4, callbacks=[])
    assert len(checkpoint.checkpoints(tmp_path)) == 3
    everything = fastnn.Checkpoint(tmp_path / "all", keep=None)
    trainer().fit(X, Y, epochs=5, callbacks=[everything], verbose=False)
    assert len(everything.saved) == len(checkpoint.checkpoints(tmp_path / "all")) == 5


def test_an_error_of_the_disk_is_what_the_user_sees(tmp_path, monkeypatch):
    """The files that were there are whole, no temporary is left, the lock is gone."""
    saver, made = fastnn.Checkpoint(tmp_path), trainer(schedule=None)
    made.fit(X, Y, epochs=2, callbacks=[saver], verbose=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            made.fit(X, Y, epochs=2, callbacks=[saver], verbose=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    made.fit(X, Y, epochs=1, callbacks=[saver], verbose=False)


@pytest.fixture
def sliced(monkeypatch):
    """Arrays count as large."""
    monkeypatch.setattr(digests, "_WHOLE", 1000)
    monkeypatch.setattr(digests, "_SLICE", 20 * X[0].nbytes)
    monkeypatch.setattr(digests, "_PIECE", 7 * X[0].nbytes)


def test_a_digest_of_slices_is_that_of_theirs(sliced):
    expected = hashlib.blake2b(b"<f8 (230, 6)", digest_size=16)
    for start in range(0, 230, 20):
        expected.update(hashlib.blake2b(X[start : start + 20].tobytes(), digest_size=16).digest())
    for threads in (None, 1, 2, 7):
        assert digests.digest(X, threads) == f"slices:{expected.hexdigest()}"
    assert digests.digest(np.asfortranarray(X)) == digests.digest(X)
    assert len({digests.digest(x) for x in (X, X.astype(np.float32), X.T, X.reshape(6, 230), X[::-1])}) == 5


@pytest.mark.parametrize("large", [False, True])
def test_every_value_counts_in_a_digest(large, request):
    step = 1
    if large:
        request.getfixturevalue("sliced")
        step = 7  # places: each starts threads anew
    for array in (X, X.astype(np.float32), WEIGHT, Y, X.reshape(115, 2, 6)):
        array = array.copy()
        before, seen = digests.digest(array), set()
        places = range(0, array.size, step)
        for place in places:
            kept = array.flat[place]
            array.flat[place] += 1
            seen.add(digests.digest(array))
            array.flat[place] = kept
        assert len(seen) == len(places) and before not in seen


def test_a_digest_where_no_thread_can_be_started(sliced, monkeypatch):
    expected = digests.digest(X, 3)

    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert digests.digest(X, 3) == expected


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_other_rows_of_large_data_are_refused(layout, sliced, tmp_path):
    x = X
    if layout == "sparse":
        x = pytest.importorskip("scipy.sparse").csr_matrix(X)
    for change in (slice(1, None, 2), slice(229, None), slice(0, 1)):
        other = X.copy()
        other[change] *= 0.5
        other = type(x)(other) if layout == "sparse" else other
        folder = tmp_path / str(change.start)
        made = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", seed=0)
        made.fit(x, Y, epochs=1, callbacks=[fastnn.Checkpoint(folder)], verbose=False)
        again = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", seed=0)
        with pytest.raises(ValueError, match=r"^X has other values than what .* was saved with"):
            again.fit(other, Y, epochs=2, resume=folder, verbose=False)
        again.fit(x, Y, epochs=2, resume=folder, verbose=False)
        assert len(again.history) == 2


def test_a_file_with_a_digest_of_some_rows_is_refused_with_the_reason(sliced, tmp_path):
    """As they were written of data over 256 MB."""
    fit(trainer(), tmp_path, crash=30)
    for path in checkpoint.checkpoints(tmp_path):
        header, arrays = files.read(path)
        header["identity"]["X"] = "0123456789abcdef" * 2
        files.write(path, header, arrays)
    with pytest.raises(
        ValueError, match=r"^X is over 256 MB: all its rows are compared now, but only some are known of"
    ):
        fit(trainer(), tmp_path, resume=True)


# What users found ----------------------------------------------------------------------------------------------


def test_going_back_to_an_older_file_overwrites_no_newer_ones(tmp_path):
    """Else the files of the fit that is running would be the ones taken for old."""
    fit(trainer(), tmp_path, every="epoch", callbacks=[])
    oldest, *newer = checkpoint.checkpoints(tmp_path)
    with pytest.raises(ValueError, match=r"has checkpoints that are newer than epoch-0*4-.*, the newest epoch-0*6-"):
        fit(trainer(), tmp_path, every="epoch", callbacks=[], resume=oldest)
    assert checkpoint.checkpoints(tmp_path) == [oldest, *newer]
    for path in newer:
        path.unlink()
    same(fit(trainer(), tmp_path, every="epoch", callbacks=[], resume=oldest), fit(trainer(), callbacks=[]))
    assert checkpoint.checkpoints(tmp_path) == [oldest, *newer]


def test_one_checkpoint_object_in_two_fits(tmp_path):
    saver = fastnn.Checkpoint(tmp_path)
    trainer().fit(X, Y, epochs=6, callbacks=[saver], verbose=False)
    other = trainer(seed=5)
    with pytest.raises(ValueError, match="checkpoints of another fit"):
        other.fit(X, Y, epochs=2, callbacks=[saver], verbose=False)
    assert not other.model.built


def test_only_the_files_of_this_fit_are_deleted(tmp_path):
    """Resumed from another folder, with keep=1: what lies there stays."""
    fit(trainer(), tmp_path / "a", every="epoch", callbacks=[], epochs=3)
    before = checkpoint.checkpoints(tmp_path / "a")
    saver = fastnn.Checkpoint(tmp_path / "b", keep=1)
    trainer().fit(
        X, Y, epochs=6, batch_size=16, validation=0.2, callbacks=[saver], resume=tmp_path / "a", verbose=False
    )
    assert checkpoint.checkpoints(tmp_path / "a") == before
    assert checkpoint.checkpoints(tmp_path / "b") == saver.saved


def test_two_watchers_get_their_own_state_back_in_any_order(tmp_path):
    """States are known by what they are of, not by their place."""

    def both() -> list[fastnn.Callback]:
        return [fastnn.EarlyStopping("val_loss", 50), fastnn.EarlyStopping("val_accuracy", 50)]

    first, second = both(), both()
    fit(trainer(), tmp_path, crash=50, callbacks=list(first))
    fit(trainer(), tmp_path, callbacks=second[::-1], resume=True)
    whole = both()
    fit(trainer(), callbacks=list(whole))
    for resumed, alone in zip(second, whole, strict=True):
        assert (resumed.best_value, resumed.best_epoch) == (alone.best_value, alone.best_epoch)


@pytest.mark.parametrize(
    "other", [fastnn.EarlyStopping("val_accuracy"), fastnn.EarlyStopping("val_loss", mode="max"), fastnn.EMA(0.5)]
)
def test_a_state_of_other_settings(other, tmp_path):
    known = [fastnn.EarlyStopping("val_loss")] if isinstance(other, fastnn.EarlyStopping) else [fastnn.EMA(0.9)]
    fit(trainer(), tmp_path, crash=50, callbacks=known)
    with pytest.raises(ValueError, match=r"callbacks has no .*\(.*\), but .* was saved with one"):
        fit(trainer(), tmp_path, callbacks=[other], resume=True)


def test_a_logger_may_come_or_go(tmp_path):
    fit(trainer(), tmp_path / "a", crash=50, callbacks=[fastnn.CSVLogger(tmp_path / "a.csv")])
    same(fit(trainer(), tmp_path / "a", callbacks=[], resume=True), fit(trainer(), callbacks=[]))
    fit(trainer(), tmp_path / "b", crash=50, callbacks=[])
    logger = fastnn.CSVLogger(tmp_path / "b.csv")
    same(fit(trainer(), tmp_path / "b", callbacks=[logger], resume=True), fit(trainer(), callbacks=[]))


def test_a_log_that_was_taken_away_ends_no_fit(tmp_path):
    class Rotate(fastnn.Callback):
        def on_epoch_end(self, run):
            (tmp_path / "log.csv").unlink(missing_ok=True)

    fit(trainer(), tmp_path / "a", callbacks=[fastnn.CSVLogger(tmp_path / "log.csv"), Rotate()])


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(1), np.array(0.25), True], ids=repr)
def test_numbers_of_any_kind_in_the_logs(value, tmp_path):
    class Note(fastnn.Callback):
        def on_epoch_end(self, run):
            run.logs["note"] = value

    made = fit(trainer(), tmp_path, every="epoch", callbacks=[Note()])
    assert made.history["note"] == [float(value)] * 6
    assert type(made.history["note"][0]) is float
    resumed = fit(trainer(), tmp_path, every="epoch", callbacks=[Note()], resume=True)
    assert resumed.history["note"] == made.history["note"]


def test_text_in_the_logs():
    note = fastnn.Lambda(on_epoch_end=lambda run: run.logs.update(note="ok"))
    with pytest.raises(TypeError, match=r"^run.logs\['note'\] is 'ok', expected a number"):
        fit(trainer(), callbacks=[note])


@pytest.mark.parametrize("state", [{"a": {1, 2}}, {"a": {0: "x"}}, {"a": Path()}], ids=["set", "key", "path"])
def test_states_that_no_file_holds(state, tmp_path):
    class Mine(fastnn.Callback):
        def state_dict(self):
            return state

    with pytest.raises(TypeError, match=r"^state_dict\(\) of callback\.0.* has .*, expected text, numbers"):
        fit(trainer(), tmp_path, callbacks=[Mine()])


@pytest.mark.parametrize("value", [-1.0, "x", np.nan, None], ids=repr)
def test_factors_on_the_rate(value):
    def lower(run):
        run.lr_scale = value

    with pytest.raises((ValueError, TypeError), match=r"^lr_scale is .*, expected a finite number"):
        fit(trainer(), callbacks=[fastnn.Lambda(on_epoch_end=lower)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_folder(tmp_path):
    """As a data loader's worker that outlives its killed parent: the fit itself is over, the child is not."""
    child = 0

    def spawn(run):
        nonlocal child
        if not child:
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(0)

    try:
        fit(trainer(), tmp_path, callbacks=[fastnn.Lambda(on_epoch_end=spawn)], epochs=1)
        fit(trainer(), tmp_path, callbacks=[], epochs=2, resume=True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(os.name == "nt", reason="locks of an open file that two descriptors share")
def test_a_folder_is_free_before_a_forked_child_has_closed_it(tmp_path):
    lock = checkpoint._Lock(tmp_path)
    childs = os.dup(lock.file.fileno())
    try:
        lock.release()
        lock.release()
        checkpoint._Lock(tmp_path).release()
    finally:
        os.close(childs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_its_parent_the_folder(tmp_path):
    lock = checkpoint._Lock(tmp_path)
    child = os.fork()
    if not child:
        os._exit(0 if lock.file.closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(fastnn.CheckpointError, match="in use by another fit"):
        checkpoint._Lock(tmp_path)
    lock.release()


def test_a_relative_folder_is_that_of_the_beginning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saver, logger = fastnn.Checkpoint("files"), fastnn.CSVLogger("log.csv")
    (tmp_path / "elsewhere").mkdir()
    leave = fastnn.Lambda(on_epoch_begin=lambda run: os.chdir(tmp_path / "elsewhere"))
    trainer().fit(X, Y, epochs=2, callbacks=[leave, logger, saver], verbose=False)
    assert len(checkpoint.checkpoints(tmp_path / "files")) == 2
    assert (tmp_path / "log.csv").read_text().count("\n") == 3


HOSTILE = {
    "a field less": lambda header, arrays: header.pop("history"),
    "a million slots": lambda header, arrays: header.update(slots=10**6),
    "a step before the first": lambda header, arrays: header.update(step=-1),
    "an epoch before the first": lambda header, arrays: header.update(epoch=-5),
    "text for a number": lambda header, arrays: header.update(done="1"),
    "short parameters": lambda header, arrays: arrays.update(parameters=arrays["parameters"][:-1]),
    "a slot less": lambda header, arrays: arrays.pop("slot.1"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_files_that_say_what_cannot_be(change, tmp_path):
    """With a digest that is right: refused, and the model is as it was."""
    fit(trainer(), tmp_path, crash=30)
    newest = checkpoint.checkpoints(tmp_path)[-1]
    header, arrays = fastnn.files.read(newest)
    change(header, arrays)
    (tmp_path / "one").mkdir()
    fastnn.files.write(tmp_path / "one" / newest.name, header, arrays)
    fresh = trainer()
    with pytest.raises((CheckpointError, fastnn.ModelFormatError), match=newest.name):
        fit(fresh, resume=tmp_path / "one")
    assert not fresh.model.built


def test_a_folder_called_like_a_checkpoint(tmp_path):
    (tmp_path / "epoch-99999999-step-000000000000.fastnn").mkdir()
    same(fit(trainer(), tmp_path), fit(trainer()))


# Killed ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, numpy as np, fastnn
from fastnn import nn, optim
folder, threads = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 20))
y = np.abs(X[:, :4]).argmax(axis=1)
model = fastnn.Sequential([nn.Normalize(), nn.Dense(64, "relu"), nn.BatchNorm(), nn.Dropout(0.1), nn.Dense(4)])
trainer = fastnn.Trainer(model, "cross_entropy", schedule=optim.Cosine(), seed=0, threads=threads)
watchers = [fastnn.EarlyStopping(patience=5), fastnn.EMA(0.99), fastnn.ReduceLROnPlateau("loss", 0.5, 1, 0.02)]
print("ready", flush=True)
trainer.fit(X, y, epochs=12, batch_size=16, validation=0.2, resume=True, verbose=False,
            callbacks=[*watchers, fastnn.Checkpoint(folder, every=50)])
history = {name: values for name, values in trainer.history.items() if name != "seconds"}
fastnn.files.write(sys.argv[3], {"history": history}, {"parameters": model.state.parameters,
    "statistics": model.state.statistics, **{f"slot{i}": slot for i, slot in enumerate(model.state.slots)}})
"""


def _start(folder: Path, out: Path, threads: int) -> subprocess.Popen:
    package = str(Path(fastnn.__file__).parents[1])
    arguments = [sys.executable, "-c", "import fastnn.files\n" + SCRIPT, str(folder), str(threads), str(out)]
    environment = os.environ | {"PYTHONPATH": package}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)


def _killed_until_it_ends(folder: Path, dice: random.Random, longest: float) -> tuple[dict, dict, int]:
    """Start, kill after a random time, start again, until a run comes to its end; how often it was killed."""
    out, kills = folder / "out", 0
    while True:
        process = _start(folder, out, dice.choice([1, 2, 3]))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(timeout=dice.uniform(0, longest))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        process.stdout.close()
        if process.returncode == 0:
            return *fastnn.files.read(out), kills
        assert process.returncode == -signal.SIGKILL


def _killed(tmp_path: Path, kills: int) -> None:
    """The bits of a training killed so often are those of one that was left alone."""
    whole = _start(tmp_path / "whole", tmp_path / "out", 2)
    start = time.perf_counter()
    assert whole.wait() == 0
    assert whole.stdout is not None
    whole.stdout.close()
    longest = min(1.0, time.perf_counter() - start)
    header, arrays = fastnn.files.read(tmp_path / "out")
    dice, done, trainings = random.Random(0), 0, 0
    while done < kills:
        trainings += 1
        folder = tmp_path / str(trainings)
        folder.mkdir()
        again, parameters, killed = _killed_until_it_ends(folder, dice, longest)
        done += killed
        assert again == header
        for name, array in arrays.items():
            np.testing.assert_array_equal(parameters[name], array, err_msg=name)
    print(f"{done} kills in {trainings} trainings")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(kills, tmp_path):
    _killed(tmp_path, kills)
