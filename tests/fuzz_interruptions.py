"""Ctrl-C at any moment of a fit, and the end of a process at any moment of a save.

    python tests/fuzz_interruptions.py --cases 10000 --seed 0 --jobs 2
    python tests/fuzz_interruptions.py --seed 0 --only 12           # one case again, and what it is

A fit on either engine, with callbacks, validation and checkpoints or without, gets SIGINT: it raises KeyboardInterrupt,
and what is left has the bits of a fit of so many whole steps; it can be predicted with, and fitted on. A process that
saves versions of a model, one after the other, is killed: the file is one of them, whole, and the next save removes
what was left beside it. The moment is not a function of the seed; all else is.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import fuzzing
import numpy as np
from common import EndsAt

import fastnn
from fastnn import Sequential, Trainer, backends, nn

X = np.random.default_rng(0).normal(size=(400, 6))
Y = np.abs(X[:, :3]).argmax(axis=1)
LAYERS = {
    "plain": lambda: [nn.Dense(12, "tanh"), nn.Dense(3)],
    "norm": lambda: [nn.Normalize(), nn.Dense(12, "relu"), nn.BatchNorm(), nn.Dropout(0.3), nn.Dense(3)],
    "nest": lambda: [nn.Residual([nn.Dense(6, "relu"), nn.LayerNorm()]), nn.Dense(3)],
}
LONGEST = 0.04  # seconds until the signal: some 20 epochs


class Case:
    """One interruption, or one kill."""

    def __init__(self, seed: int, number: int) -> None:
        rng = self.rng = random.Random(f"{seed} {number}")
        self.kills = rng.random() < 0.3
        self.engine = rng.choice(("numpy", "native") if "native" in backends.available() else ("numpy",))
        self.layers = rng.choice(list(LAYERS))
        self.batch = rng.choice((1, 7, 16, 400))
        self.validated, self.saved = rng.random() < 0.4, rng.random() < 0.3
        self.optimizer = rng.choice(("sgd", "momentum", "adam"))
        self.delay = rng.uniform(0.0, LONGEST)
        self.begun = threading.Event()

    @property
    def seen(self) -> set[tuple[str, ...]]:
        return {("kill",)} if self.kills else {("interruption", self.engine, self.layers)}

    def __str__(self) -> str:
        return str({name: value for name, value in vars(self).items() if name != "rng"})

    def run(self) -> str:
        with tempfile.TemporaryDirectory() as folder:
            return self.killed(Path(folder)) if self.kills else self.interrupted(Path(folder))

    # Ctrl-C -------------------------------------------------------------------------------------------------------

    def fit(self, *callbacks: fastnn.Callback, epochs: int = 10**6) -> Trainer:
        made = Trainer(Sequential(LAYERS[self.layers]()), "cross_entropy", self.optimizer, seed=1, backend=self.engine)
        try:
            self.begun.set()
            made.fit(
                X,
                Y,
                epochs=epochs,
                batch_size=self.batch,
                validation=0.2 if self.validated else None,
                callbacks=list(callbacks),
                verbose=False,
            )
        except KeyboardInterrupt:
            return made
        raise AssertionError("a fit without an end came to one")

    def interrupt(self) -> None:
        self.begun.wait()  # where KeyboardInterrupt is expected
        time.sleep(self.delay)
        os.kill(os.getpid(), signal.SIGINT)

    def interrupted(self, folder: Path) -> str:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        saver = [fastnn.Checkpoint(folder, every=self.rng.choice((3, 50)))] if self.saved else []
        sender = threading.Thread(target=self.interrupt)
        sender.start()
        made = self.fit(*saver)
        sender.join()
        if not made.model.built or made.model.state.step == 0:
            return "interrupted before the first step"
        steps = made.model.state.step
        other = self.fit(EndsAt(steps))
        assert other.model.state.step == steps
        for here, there in zip(made.model.state.buffers, other.model.state.buffers, strict=True):
            assert np.array_equal(here, there), f"not the bits of {steps} steps"
        for one in (made, other):  # both go on, in a new epoch
            one.fit(X, Y, epochs=1, batch_size=400, verbose=False)
        assert np.isfinite(made.model.predict(X)).all()
        return "run"

    # Killed -------------------------------------------------------------------------------------------------------

    def killed(self, folder: Path) -> str:
        path, versions = folder / "model", model_versions()
        versions[0].save(path)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write, b"x")
                while True:
                    for version in versions:
                        version.save(path)
            finally:
                os._exit(1)
        os.close(write)
        os.read(read, 1)
        os.close(read)
        time.sleep(self.delay)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WTERMSIG(status) == signal.SIGKILL, "a save ended the process"
        found = fastnn.load(path).state.parameters.tobytes()
        assert found in [version.state.parameters.tobytes() for version in versions], (
            "another model than any that was saved"
        )
        left = os.listdir(folder)
        assert len(left) <= 2, f"more than one temporary: {left}"
        versions[-1].save(path)
        assert os.listdir(folder) == ["model"], "what was left is still there"
        return "run"


@functools.cache
def model_versions() -> list[Sequential]:
    return [Sequential([nn.Dense(300, "tanh"), nn.Dense(3)]).build(200, seed=seed) for seed in range(3)]


if __name__ == "__main__":
    sys.exit(fuzzing.main(Case, "Ctrl-C and kills at any moment.", cases=300))
