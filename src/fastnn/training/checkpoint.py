"""Checkpoints: a fit as it stands, in a file, and going on from there to the same bits. The loop is in run.py.

A file holds all that the rest of a fit depends on: parameters, statistics, scaling, the optimizer's slots and step
count (of which dropout's bits and the schedule are functions), the place in the epoch (of which the shuffle is one)
with the losses of its steps so far, the history and the state of every callback. And what it must not be mixed with:
the version, the plan, the settings, the seed, digests of the data.
"""

from __future__ import annotations

import os
import re
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastnn import _text, _validate, files
from fastnn._version import __version__
from fastnn.errors import CheckpointError, CheckpointNotFound, CheckpointWarning, ModelFormatError, callers
from fastnn.nn.target_scale import TargetScale
from fastnn.plan import Plan, aligned
from fastnn.training import checks
from fastnn.training.history import History
from fastnn.training.identity import differs, in_words
from fastnn.training.run import Callback, Run

Array = np.ndarray
_NAME = re.compile(r"epoch-(\d{8})-step-(\d{12})\.fastnn")
_MOST_HEADER = 1 << 28  # bytes: it has the losses of every epoch


class Checkpoint(Callback):
    """Saves the fit into `directory`: after each epoch, or after every `every` optimizer steps, also within an epoch.

    The newest `keep` files stay (None: all). A file is written beside the others, synced and renamed: after a crash at
    any moment the files that were there are whole. The folder is locked while a fit writes to it: CheckpointError
    where another one does. ValueError where it has checkpoints and the fit does not go on from them.

    `trainer.fit(..., callbacks=[Checkpoint(directory)], resume=True)` goes on from the newest file, or begins where
    there is none: the same command again after a crash ends with the bits of a run without one, at any number of
    threads.

    >>> import tempfile
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> def fit(folder, epochs):
    ...     model = fastnn.Sequential([nn.Dense(8, activation="tanh"), nn.Dropout(0.1), nn.Dense(1)])
    ...     trainer = fastnn.Trainer(model, "mse", seed=0)
    ...     trainer.fit(x, x**2, epochs=epochs, callbacks=[fastnn.Checkpoint(folder)], resume=True)
    ...     return model.predict(x)
    >>> with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
    ...     stopped, resumed, at_once = fit(a, 3), fit(a, 9), fit(b, 9)
    >>> np.array_equal(resumed, at_once), np.array_equal(stopped, at_once)
    (True, False)
    """

    order = 2

    def __init__(
        self, directory: str | os.PathLike[str], *, every: int | Literal["epoch"] = "epoch", keep: int | None = 3
    ) -> None:
        self.directory = _text.path("directory", directory).absolute()  # whatever the working directory will be
        self.every = None if isinstance(every, str) and every == "epoch" else _validate.integer("every", every)
        self.keep = None if keep is None else _validate.integer("keep", keep)
        self.saved: list[Path] = []  # of this fit, the newest last
        self._history: History | None = None  # whose fit that is
        self._lock: _Lock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None, "_history": None}

    def before_fit(self, run: Run) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"directory is {os.fspath(self.directory)!r}, which is a file")
        files.check_folder(self.directory)
        there = checkpoints(self.directory)
        if run.resumed is not None and run.resumed.path.parent == self.directory:
            newer = [path for path in there if path > run.resumed.path and path not in run.resumed.passed_over]
            if newer:
                raise ValueError(
                    f"{os.fspath(self.directory)} has checkpoints that are newer than {run.resumed.path.name}, the "
                    f"newest {newer[-1].name}: move them away, or save into another directory"
                )
            return
        if there and not (self._history is run.history and run.resumed is None):
            raise ValueError(
                f"{os.fspath(self.directory)} has {len(there)} checkpoints of another fit, the newest {there[-1].name}"
                f": go on from it with fit(resume=True), or take another directory"
            )

    def on_fit_begin(self, run: Run) -> None:
        if self._history is not run.history:
            self.saved, self._history = [], run.history
        if run.resumed is not None:
            self.saved = [path for path in checkpoints(self.directory) if path not in run.resumed.passed_over]
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _Lock(self.directory)
        for left in self.directory.glob(".epoch-*.tmp"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)

    def on_step(self, run: Run) -> None:
        self.save(run)

    def on_evaluated(self, run: Run) -> None:
        if self.every is None:
            self.save(run)

    def on_fit_end(self, run: Run) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def save(self, run: Run) -> Path:
        """Write a file now. OSError where that fails, the others being left as they are."""
        path = self.directory / f"epoch-{run.epoch:08}-step-{run.done:012}.fastnn"
        files.write(path, *content(run), most_header=_MOST_HEADER)
        self.saved = [*(known for known in self.saved if known != path), path]
        if self.keep is not None:
            for old in self.saved[: -self.keep]:
                old.unlink(missing_ok=True)
            self.saved = self.saved[-self.keep :]
        return path


class _Lock:
    """One fit at a time writes into a folder. The system lets go of it when the process ends, however it ends: forked
    children, which would hold it longer, close their end of it."""

    def __init__(self, directory: Path) -> None:
        self.file = open(directory / ".lock", "a+b")  # noqa: SIM115
        _LOCKS.add(self)
        try:
            if os.name == "nt":
                import msvcrt

                self.file.seek(0)
                msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise CheckpointError(f"{os.fspath(directory)} is in use by another fit, expected one at a time") from None

    def release(self) -> None:
        """For every process that has the file: a child that was forked a moment ago may not have closed it yet."""
        if os.name != "nt" and not self.file.closed:
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_UN)
        self.file.close()


_LOCKS: weakref.WeakSet[_Lock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_LOCKS):
        lock.file.close()  # not released: the parent keeps it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a folder, the newest last."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name) and path.is_file())


# What a file holds ----------------------------------------------------------------------------------------------


def content(run: Run) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and arrays of the fit as it stands."""
    state = run.model.state
    arrays = {"parameters": state.parameters, "statistics": state.statistics, "scaling": state.scaling}
    arrays |= {f"slot.{index}": slot for index, slot in enumerate(state.slots)}
    if run.losses:
        arrays |= {"losses": np.concatenate(run.losses), "weights": np.concatenate(run.weights)}
    kept = []
    for index, callback in enumerate(run.callbacks):
        state_dict = _without_arrays(callback.state_dict(), f"callback.{index}", arrays)
        kept.append((callback.label, state_dict, callback.essential))
    header = {
        "kind": "checkpoint",
        "version": __version__,
        "numpy": np.__version__,
        "backend": run.backend.name,
        "instruction_set": instruction_set(run),
        "identity": run.identity,
        "described": run.described,
        "seed": run.objective.seed,
        "slots": len(state.slots),
        "rule": state.rule,
        "step": state.step,
        "epoch": run.epoch,
        "first_epoch": run.first_epoch,
        "done": run.done,
        "seconds": run.seconds,
        "rate": run.rate,
        "seen": run.source.seen,
        "logs": run.logs,
        "lr_scale": run.lr_scale,
        "stopped": None if run.resumable else run.stopped,
        "history": dict(run.history.epochs),
        "feature_names": run.model.feature_names,
        "target_scale": None if run.model.target_scale is None else run.model.target_scale.config(),
        "callbacks": kept,
    }
    return header, arrays


def _without_arrays(value: Any, place: str, arrays: dict[str, Array]) -> Any:
    """The value with its arrays moved to `arrays`, under the name of their place."""
    if isinstance(value, np.ndarray):
        arrays[place] = value
        return {"array": place}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"items": {key: _without_arrays(item, f"{place}.{key}", arrays) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(item, f"{place}.{index}", arrays) for index, item in enumerate(value)]
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(
            f"state_dict() of {place} has {value!r}, expected text, numbers, arrays, lists or dicts by text"
        )
    return value


def _with_arrays(value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _with_arrays(item, arrays) for key, item in value["items"].items()}
    return value


def instruction_set(run: Run) -> str | None:
    """Of the native kernels: another one has other bits."""
    if run.backend.name != "native":
        return None
    from fastnn.backends import native

    return native.default_instruction_set()


# Going on -------------------------------------------------------------------------------------------------------


class Saved:
    """A checkpoint that was read and not looked into yet."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.passed_over: list[Path] = []  # newer ones that are damaged
        self.header, self.arrays = files.read(path, _MOST_HEADER)
        if self.header.get("kind") != "checkpoint":
            what = "a model" if "format" in self.header else "another file of fastnn"
            raise ModelFormatError(f"{path} is {what}, expected a checkpoint")
        wrong = checks.wrong(self.header, self.arrays)
        if wrong is not None:
            raise ModelFormatError(f"{path} says what cannot be of {wrong}")
        version = files.brief(self.header["version"])
        if version != __version__:
            raise ValueError(f"{path} has version {version}, but this is fastnn {__version__}: the bits may differ")

    @property
    def seed(self) -> int:
        return int(self.header["seed"])

    def target_scale(self, outputs: int) -> TargetScale | None:
        """What the targets were scaled by."""
        config = self.header.get("target_scale")
        try:
            return None if config is None else TargetScale.from_config(config, outputs)
        except ModelFormatError as error:
            raise CheckpointError(f"cannot resume: {self.path} has another model's: {error}") from None

    def _check_array(self, name: str, size: int, dtype: np.dtype) -> None:
        array = self.arrays.get(name)
        if array is None or array.shape != (size,) or array.dtype != dtype:
            raise CheckpointError(f"cannot resume: {self.path} has not the {size} values of {name} in {dtype}")

    def check(self, run: Run, plan: Plan) -> None:
        """ValueError where the fit is not the one that was saved, naming what differs; nothing is touched.
        CheckpointWarning where it is computed otherwise."""
        header = self.header
        if header["seed"] != run.objective.seed:
            raise ValueError(f"seed is {run.objective.seed}, but {self.path} was saved with {header['seed']}")
        name = differs(run.identity, header["identity"])
        if name is not None:
            words = header.get("described")
            there = header["identity"], words if isinstance(words, dict) else {}
            said = in_words(name, (run.identity, run.described), there)
            raise ValueError(f"{files.brief(said)} what {self.path} was saved with")
        kept = [name for name, values, essential in header["callbacks"] if values["items"] and essential]
        labels = [callback.label for callback in run.callbacks]
        for name in kept:
            if kept.count(name) > labels.count(name):
                raise ValueError(f"callbacks has no {files.brief(name)}, but {self.path} was saved with one")
        for name in ("parameters", "statistics", "scaling"):
            dtype = np.dtype(np.float64) if name == "scaling" else plan.dtype
            self._check_array(name, plan.size(name), dtype)
        for index in range(header["slots"]):
            self._check_array(f"slot.{index}", plan.size("parameters"), plan.dtype)
        rule, steps = run.objective.optimizer.rule, run.steps
        if header["rule"] == rule.name and header["slots"] != len(rule.slots):
            raise CheckpointError(f"cannot resume: {self.path} has {header['slots']} slots of {rule.name}")
        if steps is not None and header["done"] > steps:
            raise CheckpointError(f"cannot resume: {self.path} has {header['done']} of {steps} steps of an epoch")
        computed = header["backend"], header["instruction_set"]
        if computed != (run.backend.name, instruction_set(run)):
            warnings.warn(
                f"{self.path} was computed by {computed}, and goes on with {(run.backend.name, instruction_set(run))}: "
                f"results agree, but not bit by bit",
                CheckpointWarning,
                stacklevel=callers(),
            )

    def restore(self, run: Run) -> None:
        """Make the run, its model and its callbacks what they were."""
        self._restore_callbacks(run)  # which may find that it cannot be
        header, arrays, state = self.header, self.arrays, run.model.state
        state.parameters[...] = arrays["parameters"]
        state.statistics[...] = arrays["statistics"]
        state.scaling[...] = arrays["scaling"]
        state.slots = tuple(aligned(len(state.parameters), run.model.dtype) for _ in range(header["slots"]))
        for index, slot in enumerate(state.slots):
            slot[...] = arrays[f"slot.{index}"]
        state.rule, state.step = header["rule"], header["step"]
        run.history.epochs.clear()
        run.history.epochs.update(header["history"])
        run.epochs += header["first_epoch"] - run.first_epoch
        run.epoch, run.first_epoch = header["epoch"], header["first_epoch"]
        run.done, run.seconds, run.rate = header["done"], header["seconds"], header["rate"]
        run.source.seen = tuple(header.get("seen", (0, 0.0)))  # files of before had none
        run.losses = [arrays["losses"]] if "losses" in arrays else []
        run.weights = [arrays["weights"]] if "weights" in arrays else []
        run.logs, run.lr_scale, run.stopped = header["logs"], header["lr_scale"], header["stopped"]
        if run.stopped is not None:
            self._stopped(run)

    def _restore_callbacks(self, run: Run) -> None:
        waiting = list(run.callbacks)
        for name, values, _ in self.header["callbacks"]:
            callback = next((one for one in waiting if one.label == name), None)
            if callback is not None:
                waiting.remove(callback)
                try:
                    callback.load_state_dict(_with_arrays(values, self.arrays))
                except ValueError as error:
                    raise CheckpointError(
                        f"cannot resume: {self.path} has no state for {name}: {files.brief(error)}"
                    ) from error

    def _stopped(self, run: Run) -> None:
        """Go on where who stopped the fit would not stop it now: with a larger patience. Else say that it is over."""
        answers = [callback.stops_still() for callback in run.callbacks]
        if False in answers and True not in answers:
            run.stopped = None
        elif run.epoch < run.epochs:
            warnings.warn(
                f"nothing is trained: the fit in {self.path} was stopped after epoch {run.epoch} of {run.epochs}: "
                f"{run.stopped}. With a larger patience it would go on; another directory begins anew",
                CheckpointWarning,
                stacklevel=callers(),
            )


def find(resume: Any, callbacks: Sequence[Callback]) -> Saved | None:
    """The checkpoint that `fit(resume=)` asks for; None where it is to begin.

    True: the newest of the Checkpoint among the callbacks, if it has one. A file, or a folder: the newest of it, or
    CheckpointNotFound. A damaged file is passed over with a CheckpointWarning; CheckpointError where all are damaged.
    """
    if resume is None or resume is False:
        return None
    if resume is True:
        folders = [callback.directory for callback in callbacks if isinstance(callback, Checkpoint)]
        if not folders:
            raise ValueError("resume is True, which needs a Checkpoint among the callbacks: or give it a directory")
        found = checkpoints(folders[0])
        if not found:
            return None
    else:
        try:
            path = Path(resume)
        except TypeError:
            raise TypeError(f"resume is {resume!r}, expected True, a checkpoint or a directory of them") from None
        found = checkpoints(path) if path.is_dir() else [path]
        if not found or not path.exists():
            raise CheckpointNotFound(f"resume is {resume!r}, which has no checkpoint")
    damaged: list[Path] = []
    for path in reversed(found):
        try:
            saved = Saved(path)
            saved.passed_over = damaged
            return saved
        except ModelFormatError as error:
            damaged.append(path.absolute())
            if len(found) == 1:
                raise CheckpointError(f"cannot resume: {error}") from error
            warnings.warn(f"skipped a damaged checkpoint: {error}", CheckpointWarning, stacklevel=callers())
    raise CheckpointError(f"cannot resume: all {len(found)} checkpoints in {found[0].parent} are damaged")
