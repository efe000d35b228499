"""Files of models and estimators, and checkpoints, with anything changed: each is refused with a promised error, or
read as exactly what it says.

    python tests/fuzz_files.py --cases 1000000 --seed 0 --jobs 2
    python tests/fuzz_files.py --seed 0 --only 1234              # one case again, and what it is

A case is a file drafted at random (file_drafts.py), spoiled in a few places. A model or an estimator that is read is
written again, and that file must say what the first said to a reader of zip, JSON and .npy that knows nothing of
fastnn: nothing was left unread or read otherwise. A checkpoint that is gone on from and says what it said before ends
with the bits of a fit that was left alone. The memory that reading takes is bounded. Every case is a function of the
seed and its number.
"""

from __future__ import annotations

import functools
import io
import json
import math
import sys
import tempfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import file_drafts as drafts
import fuzzing
import numpy as np
from file_drafts import Draft, Random, Tree

import fastnn
from fastnn import CheckpointError, DivergenceError, ModelFormatError, nn

OFTEN = {"plain": 6, "unbuilt": 3, "fitted": 3}  # the smallest files: a tenth of the time of the largest
FREE = 16 << 20  # bytes that reading may take beyond twice the file, and for a checkpoint 55 times its header
WATCHED = 0.05  # of the cases: watching takes as long as reading


def said(data: bytes) -> tuple[Tree, dict[str, np.ndarray]]:
    """Header and arrays as any program can read them, in this machine's byte order."""
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        arrays = {
            name.removesuffix(".npy"): drafts.read_npy(members.read(name))
            for name in members.namelist()
            if name != "header.json"
        }
        header = json.loads(members.read("header.json"))
    return header, {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}


def same_tree(a: Tree, b: Tree) -> bool:
    """As JSON has it: 1 is 1.0, but not true; NaN is NaN. A whole number may have become the nearest float, and a
    short form what it stands for. Not recursive: some are deep."""
    pairs = [(a, b)]
    while pairs:
        a, b = pairs.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            pairs += [(value, b[key]) for key, value in a.items()]
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pairs += zip(a, b, strict=True)
        elif isinstance(b, dict) and "kind" in b and stands_for(a, b):
            pass
        elif is_number(a) and isinstance(b, list) and len(b) == 1:  # a shape of one size
            pairs.append((a, b[0]))
        elif not same_value(a, b):
            return False
    return True


def stands_for(a: Tree, b: dict[str, Tree]) -> bool:
    """Whether a layer takes a for b: no activation, one of that name, an initialiser's name or value."""
    if a is None:
        return b["kind"] == "identity"
    if isinstance(a, str):
        return a.lower() == b["kind"].lower() or a in nn.INITIALIZERS
    return b["kind"] == "Constant" and same_value(a, b["value"])


def is_number(value: Tree) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same_value(a: Tree, b: Tree) -> bool:
    if not (is_number(a) and is_number(b)):
        return type(a) is type(b) and a == b
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return float(a) == float(b) or (math.isnan(a) and math.isnan(b))


def same_arrays(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        array.dtype == b[name].dtype and array.shape == b[name].shape and array.tobytes() == b[name].tobytes()
        for name, array in a.items()
    )


@functools.cache
def left_alone(name: str) -> list[bytes]:
    return bits(drafts.fit(drafts.trainer(name)))


def bits(made: fastnn.Trainer) -> list[bytes]:
    return [buffer.tobytes() for buffer in made.model.state.buffers]


def refused(how: str, message: str, *expected: str) -> str:
    """The message must say of what, or whose it is, and not repeat what is in a file at length."""
    assert any(words in message for words in expected), f"an error that names nothing: {message}"
    assert len(message) < 3000, f"an error of {len(message)} letters: {message[:300]}"
    return how


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


class Case:
    """One case: drafted, spoiled; `run` reads it."""

    def __init__(self, seed: int, number: int) -> None:
        rng = self.rng = Random(f"{seed} {number}")
        names = list(drafts.contents())
        self.draft = Draft(rng, rng.choices(names, [OFTEN.get(name, 1) for name in names])[0])
        chosen = rng.choices(drafts.SPOILERS, drafts.OFTEN, k=rng.choice((0, 1, 1, 1, 1, 2, 3)))
        self.spoiled = sorted(chosen, key=drafts.SPOILERS.index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zipfile: a member is there twice
            for place, spoil in enumerate(self.spoiled):
                try:
                    spoil(self.draft)
                except Exception:
                    if place == 0:  # later ones may not find what they would change
                        raise
            self.data = bytes(self.draft)
        self.optimizer = self.draft.name.partition(",")[0] if "," in self.draft.name else None
        fitted = "estimator" if self.draft.name.startswith("estimator") else "model"
        self.kind = fitted if self.optimizer is None else "checkpoint"

    @property
    def seen(self) -> set[tuple[str, str]]:
        """The file that was read, and what had become of it."""
        return {(self.kind, spoil.__name__) for spoil in self.spoiled}

    def __str__(self) -> str:
        return f"{self.draft.name}, {[spoil.__name__ for spoil in self.spoiled]}: {len(self.data)} bytes"

    def run(self) -> str:
        path = Path(folder().name, "file")
        path.write_bytes(self.data)
        if self.rng.random() < WATCHED:
            tracemalloc.start()
        try:
            outcome = self.model(path) if self.optimizer is None else self.checkpoint(path, self.optimizer)
        finally:
            took = tracemalloc.get_traced_memory()[1] if tracemalloc.is_tracing() else 0
            tracemalloc.stop()
        header = len(self.draft.members[0][1]) if self.draft.members and self.optimizer is not None else 0
        assert took < FREE + 2 * len(self.data) + 55 * header, f"takes {took} bytes of memory for {len(self.data)}"
        untouched = self.data == self.draft.original
        assert not untouched or outcome == "run", "a file that nobody changed is refused"
        assert self.draft.sealed or untouched or outcome != "run", "damage that is not noticed"
        return outcome

    def model(self, path: Path) -> str:
        try:
            model = fastnn.load(path)
        except ModelFormatError as error:
            return refused(f"{self.kind} refused", str(error), str(path))
        again = path.with_name("again")
        try:
            model.save(again)
        except ValueError as error:  # numbers that JSON has not, which older files may have
            return refused("metadata not saved again", str(error), "which is finite")
        (header, arrays), (other, others) = said(self.data), said(again.read_bytes())
        header["written_by"] = other["written_by"]
        assert same_tree(header, other), f"read otherwise: {header} became {other}"
        assert same_arrays(arrays, others), "arrays are read otherwise"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # changed weights may predict infinity
            if not isinstance(model, fastnn.Sequential):
                if model.__sklearn_is_fitted__():
                    model.predict(np.zeros((2, model.n_features_in_)))
            elif model.built:
                model.predict(np.zeros((2, *(model.row_shape or (model.plan.inputs,)))))
        return "run"

    def checkpoint(self, path: Path, optimizer: str) -> str:
        made = drafts.trainer(optimizer)
        try:
            drafts.fit(made, resume=path)
        except CheckpointError as error:
            return refused("checkpoint refused", str(error), str(path))
        except ValueError as error:
            return refused("another fit's checkpoint refused", str(error), "was saved with", "this is fastnn")
        except DivergenceError:
            return "numbers that diverge"
        here, there = said(self.data), said(self.draft.original)
        if same_tree(here[0], there[0]) and same_arrays(here[1], there[1]):
            assert bits(made) == left_alone(optimizer), "ends with other bits"
        return "run"


if __name__ == "__main__":
    sys.exit(fuzzing.main(Case, "Files of models and estimators, and checkpoints, with anything changed."))
