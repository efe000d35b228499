"""Lines 31 to 39 of what is survived: training. On the numpy backend and on the one that users get."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
from common import ENGINES, EndsAt, features, full, run_python

import fastnn
from fastnn import CheckpointError, CheckpointWarning, Sequential, Trainer, nn, optim

on_engines = pytest.mark.parametrize("backend", ENGINES)
X, LABELS = features(60, 6), np.arange(60) % 3


def trainer(backend: str, optimizer="adam", **settings) -> Trainer:
    layers = [nn.Normalize(), nn.Dense(8, "tanh"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3)]
    return Trainer(Sequential(layers), "cross_entropy", optimizer, seed=3, backend=backend, **settings)


def fit(made: Trainer, folder: Path, *callbacks: fastnn.Callback, **settings) -> Trainer:
    settings = dict(X=X, y=LABELS, epochs=4, batch_size=16, verbose=False) | settings
    made.fit(**settings, callbacks=[fastnn.Checkpoint(folder, every=3), *callbacks])
    return made


def ended(made: Trainer, folder: Path, step: int) -> Trainer:
    with pytest.raises(KeyboardInterrupt):
        fit(made, folder, EndsAt(step))
    return made


def bits(made: Trainer) -> list[bytes]:
    return [buffer.tobytes() for buffer in made.model.state.buffers]


def newest(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"))


@on_engines
def test_31_a_loss_that_diverges(backend):
    made = Trainer(Sequential([nn.Dense(8), nn.Dense(1)]), "mse", optim.SGD(1e20), seed=0, backend=backend)
    with pytest.raises(fastnn.DivergenceError, match=r"at step \d+ with learning rate 1e\+20"):
        made.fit(X, X[:, 0], epochs=5, batch_size=16, verbose=False)
    assert made.model.state.finite()


KILLED = """
    import os, signal, fastnn
    done = getattr(os, MOMENT)

    def dies(*arguments):
        if LATE:
            done(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, MOMENT, dies)
    fastnn.load(NEW).save(PATH)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@on_engines
@pytest.mark.parametrize(("moment", "late"), [("fsync", False), ("fsync", True), ("replace", False), ("replace", True)])
def test_32_sigkill_around_what_a_save_does(backend, moment, late, tmp_path):
    """At random moments: the fuzzer."""
    paths = {"PATH": tmp_path / "model", "NEW": tmp_path / "new"}
    for seed, path in enumerate(paths.values()):
        trainer(backend).model.build(6, seed=seed).save(path)
    before, after = (path.read_bytes() for path in paths.values())
    code = KILLED.replace("MOMENT", repr(moment)).replace("LATE", repr(late))
    for name, path in paths.items():
        code = code.replace(name, repr(str(path)))
    assert run_python(code).returncode == -signal.SIGKILL
    assert paths["PATH"].read_bytes() == (after if moment == "replace" and late else before)
    fastnn.load(paths["PATH"]).save(paths["PATH"])
    assert sorted(os.listdir(tmp_path)) == ["model", "new"]


@on_engines
@pytest.mark.parametrize("step", [2, 4, 5, 11])
@pytest.mark.parametrize("threads", [1, 3])
def test_33_a_resumed_fit_has_the_bits_of_a_whole_one(backend, step, threads, tmp_path):
    whole = fit(trainer(backend), tmp_path / "whole")
    ended(trainer(backend, threads=threads), tmp_path / "a", step)
    assert bits(fit(trainer(backend), tmp_path / "a", resume=True)) == bits(whole)


@on_engines
def test_34_a_disk_that_fails(backend, tmp_path, monkeypatch):
    made = fit(trainer(backend), tmp_path / "a")
    kept = {path: path.read_bytes() for path in newest(tmp_path / "a")}

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(OSError, match="No space"):
                fit(trainer(backend), tmp_path / "a", epochs=9, resume=True)
            with pytest.raises(OSError, match="No space"):
                made.model.save(tmp_path / "model")
        assert {path: path.read_bytes() for path in newest(tmp_path / "a")} == kept
        assert {path.name for path in tmp_path.rglob("*.tmp")} == set() and not (tmp_path / "model").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_34_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        trainer("numpy").model.save(tmp_path / "model")


@on_engines
def test_35_a_changed_checkpoint(backend, tmp_path):
    fit(trainer(backend), tmp_path / "a")
    path = newest(tmp_path / "a")[-1]
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 40):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot resume"):
            trainer(backend).fit(X, LABELS, epochs=4, batch_size=16, resume=path, verbose=False)
        path.write_bytes(data[:position])
        with pytest.raises(CheckpointError, match="cannot resume"):
            trainer(backend).fit(X, LABELS, epochs=4, batch_size=16, resume=path, verbose=False)


@on_engines
def test_36_the_newest_checkpoint_damaged(backend, tmp_path):
    whole = fit(trainer(backend), tmp_path / "whole")
    ended(trainer(backend), tmp_path / "a", 11)
    path = newest(tmp_path / "a")[-1]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(CheckpointWarning, match=f"skipped a damaged checkpoint: .*{path.name} is damaged"):
        again = fit(trainer(backend), tmp_path / "a", resume=True)
    assert bits(again) == bits(whole)


@on_engines
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("X", {"X": X + 1e-9}),
        ("y", {"y": np.roll(LABELS, 1)}),
        ("batch_size", {"batch_size": 8}),
        ("shuffle", {"shuffle": False}),
    ],
)
def test_37_a_resume_with_something_else(backend, name, other, tmp_path):
    ended(trainer(backend), tmp_path, 5)
    with pytest.raises(ValueError, match=f"^{name} (is|has) .* was saved with"):
        fit(trainer(backend), tmp_path, resume=True, **other)


@on_engines
def test_37_a_resume_by_another_version(backend, tmp_path, monkeypatch):
    ended(trainer(backend), tmp_path, 5)
    monkeypatch.setattr("fastnn.training.checkpoint.__version__", "99")
    with pytest.raises(ValueError, match=r"has version .*, but this is fastnn 99"):
        fit(trainer(backend), tmp_path, resume=True)


@on_engines
def test_38_two_fits_in_one_folder(backend, tmp_path):
    def second(run: fastnn.training.run.Run) -> None:
        with pytest.raises((CheckpointError, ValueError), match=r"in use by another fit|checkpoints of another fit"):
            fit(trainer(backend), tmp_path)
        with pytest.raises(CheckpointError, match="is in use by another fit"):
            fit(trainer(backend), tmp_path, resume=True)

    fit(trainer(backend), tmp_path, fastnn.Lambda(on_epoch_end=second), epochs=1)


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
@on_engines
def test_39_the_mode_follows_the_umask(backend, tmp_path):
    before = os.umask(0o027)
    try:
        made = fit(trainer(backend), tmp_path / "a")
        made.model.save(tmp_path / "model")
    finally:
        os.umask(before)
    for path in (tmp_path / "model", *newest(tmp_path / "a")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
