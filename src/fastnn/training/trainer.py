"""Trainer: fits a Sequential to data. Checks the input once, then asks the backend for slices of each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastnn import _random, _validate, backends
from fastnn.backends.contract import Backend
from fastnn.engine import Recipe
from fastnn.errors import DivergenceError
from fastnn.nn import losses
from fastnn.nn.layers import Normalize
from fastnn.nn.losses import Loss
from fastnn.nn.model import Metric, Sequential, named_metrics
from fastnn.optim import optimizers, schedules
from fastnn.optim.optimizers import Optimizer
from fastnn.optim.schedules import Schedule
from fastnn.plan import Snapshot, State
from fastnn.training.history import History
from fastnn.training.progress import Progress

Array = np.ndarray
SLICE_SECONDS = 0.05  # one call to the backend: short enough for Ctrl-C and the progress bar


@dataclass(frozen=True)
class Data:
    """Rows that were checked: x (n, I), y (n,) labels or (n, O) values, weight (n,) or None."""

    x: Array
    y: Array
    weight: Array | None

    def __len__(self) -> int:
        return len(self.x)

    def step_weights(self, rows: Array, batch: int) -> Array:
        """What the loss of each step counts for in the epoch's: its rows, or the sum of their weights."""
        starts = np.arange(0, len(rows), batch)
        if self.weight is None:
            return np.minimum(batch, len(rows) - starts).astype(np.float64)
        return np.add.reduceat(self.weight[rows].astype(np.float64), starts)


class Trainer:
    """Trains `model` to minimise `loss`: gradient descent in batches, with everything of it here to set.

    loss: a name of `fastnn.nn.LOSSES` or one of `nn.Huber(delta)`, `nn.CrossEntropy(label_smoothing)`, ...
    optimizer: a name of `fastnn.optim.OPTIMIZERS` or an optimizer. schedule: factors on its learning rate.
    metrics: "accuracy" or functions of (y, prediction), measured each epoch on the validation data, else on the
    training data. seed: of the initial weights, shuffles and random layers; None draws one (`trainer.seed`).
    backend: who computes; "auto" is the fastest there is. clip_norm: bound on the gradient's global norm;
    clip_value: bound on each of its entries, after that (`optim.Optimizer` has the order). threads: the most that the
    native backend uses, None for all there are; their number changes no bit of the result.

    ValueError or TypeError where an argument is out of range, BackendUnavailable where the backend is missing.

    >>> model = fastnn.Sequential([nn.Dense(8, activation="tanh"), nn.Dense(1)])
    >>> trainer = Trainer(model, loss="mse", optimizer=optim.Adam(0.01), seed=0)
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = trainer.fit(x, x**2, epochs=200, batch_size=16)
    >>> history["loss"][-1] < 0.01
    True
    """

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss,
        optimizer: str | Optimizer = "adam",
        *,
        schedule: str | Schedule | None = None,
        metrics: Sequence[Metric] = (),
        seed: int | None = None,
        backend: str | Backend = "auto",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(model, Sequential):
            raise TypeError(f"model is {model!r}, expected a fastnn.Sequential")
        self.model = model
        self.loss = losses.get(loss)
        self.schedule = schedules.get(schedule)
        self.metrics = named_metrics(metrics, self.loss)
        self.seed = _validate.seed(seed)
        self.backend = backends.resolve(backend)
        self.threads = None if threads is None else _validate.integer("threads", threads)
        self.recipe = Recipe(
            self.loss,
            optimizers.get(optimizer),
            self.seed,
            math.inf if clip_norm is None else _validate.number("clip_norm", clip_norm, low=0.0, open_low=True),
            math.inf if clip_value is None else _validate.number("clip_value", clip_value, low=0.0, open_low=True),
        )
        self.history = History()
        self._start = Snapshot(slots=False)  # of the epoch
        self._before = Snapshot()  # of the call, where a call may end within a step

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"backend": self.backend.name, "_start": Snapshot(slots=False), "_before": Snapshot()}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept | {"backend": backends.load(kept["backend"])})

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int | Literal["full"] = 32,
        validation: tuple[Any, Any] | tuple[Any, Any, Any] | None = None,
        sample_weight: Any = None,
        shuffle: bool = True,
        verbose: bool | None = None,
    ) -> History:
        """Go through the rows `epochs` times, a step for every `batch_size` of them, and return the History.

        X (n, I) real numbers (more dimensions under Flatten); y (n,) class labels 0 .. O-1 or values (n, O), as
        the loss takes them; sample_weight (n,) >= 0: a batch's loss is its weighted mean. batch_size "full" is
        one step an epoch, 1 is stochastic descent; a last short batch is taken as it is. validation: (X, y) or
        (X, y, sample_weight), measured after each epoch. verbose: see `Progress`.

        A second fit goes on where the first ended: same parameters, optimizer state, step count and history.

        ValueError or TypeError where the data is not that, before anything is touched. DivergenceError where the
        loss or a parameter becomes NaN or infinite: the model then has its parameters from before that epoch, and its
        optimizer starts anew. After KeyboardInterrupt and any other error it is as a completed step left it: the
        last one on the native backend, else the last of the last call that succeeded. It can go on either way.
        RuntimeError where another thread is fitting the model, or this one is: in a metric, say.
        """
        self.model.fitting.acquire()
        try:
            limit = nullcontext() if self.threads is None else self.backend.limit_threads(self.threads)
            with limit:
                return self._fit(X, y, epochs, batch_size, validation, sample_weight, shuffle, verbose)
        finally:
            self.model.fitting.release()

    def _fit(
        self,
        X: Any,
        y: Any,
        epochs: int,
        batch_size: int | Literal["full"],
        validation: Any,
        sample_weight: Any,
        shuffle: bool,
        verbose: bool | None,
    ) -> History:
        shuffle = _validate.flag("shuffle", shuffle)
        epochs = _validate.integer("epochs", epochs)
        data = self._data(X, y, sample_weight)
        batch = len(data) if batch_size == "full" else min(_validate.integer("batch_size", batch_size), len(data))
        held_out = self._validation(validation, X, data)

        first = len(self.history)
        steps = -(-len(data) // batch)
        pace = _Pace()
        order = np.arange(len(data))
        with Progress(verbose, len(data), epochs) as progress:
            self._prepare(X, data)
            for epoch in range(first, first + epochs):
                if shuffle:
                    self.backend.kernels.shuffle(_random.epoch_key(self.seed, epoch), order)
                factors = self.schedule.factors(epoch * steps, (epoch + 1) * steps, steps, first + epochs)
                lr = self.recipe.optimizer.lr * factors
                logs = self._epoch(data, order, batch, lr, progress, pace)
                logs |= self._measure(held_out, data)
                self.history.append(logs)
                progress.report(epoch + 1, first + epochs, logs)
        return self.history

    # Preparing --------------------------------------------------------------------------------------------

    def _data(self, X: Any, y: Any, sample_weight: Any, prefix: str = "") -> Data:
        """The arguments checked against each other and the model; nothing is changed."""
        model = self.model
        x = model.features(X, name=f"{prefix}X")
        outputs = model.plan.outputs if model.built else model.outputs_for(x.shape[1])
        target = _validate.targets(y, self.loss, len(x), outputs, model.dtype, name=f"{prefix}y")
        weight = _validate.sample_weight(sample_weight, len(x), model.dtype, name=f"{prefix}sample_weight")
        return Data(x, target, weight)

    def _validation(self, validation: Any, X: Any, data: Data) -> Data | None:
        if validation is None:
            return None
        if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
            raise TypeError(f"validation is {type(validation).__name__}, expected (X, y) or (X, y, sample_weight)")
        weight = validation[2] if len(validation) == 3 else None
        _validate.same_names(validation[0], _validate.feature_names(X), name="validation X")
        held_out = self._data(validation[0], validation[1], weight, "validation ")
        _validate.same_row_shape(
            validation[0], _validate.row_shape(X), name="validation X", other="X has rows of shape"
        )
        if held_out.x.shape[1] != data.x.shape[1]:
            raise ValueError(f"validation X has {held_out.x.shape[1]} features, but X has {data.x.shape[1]}")
        return held_out

    def _prepare(self, X: Any, data: Data) -> None:
        """The model built, its Normalize adapted, its loss and column names set."""
        model = self.model
        if not model.built:
            model.build(data.x.shape[1], seed=self.seed)
        for layer in model.layers:
            if isinstance(layer, Normalize) and not layer.adapted:
                layer.adapt(data.x)
        model.loss = self.loss
        if model.feature_names is None:
            model.feature_names = _validate.feature_names(X)
        if model.row_shape is None:
            model.row_shape = _validate.row_shape(X)

    # Running ----------------------------------------------------------------------------------------------

    def _epoch(
        self, data: Data, order: Array, batch: int, lr: Array, progress: Progress, pace: _Pace
    ) -> dict[str, float]:
        """One pass over `order`, in calls of about SLICE_SECONDS. Returns the epoch's logs."""
        self._start.take(self.model.state)
        step_losses = np.empty(len(lr))
        seconds = 0.0
        first = 0
        while first < len(lr):
            last = min(first + pace.steps, len(lr))
            rows = order[first * batch : last * batch]
            step_losses[first:last], spent = self._slice(data, rows, batch, lr[first:last])
            if last - first == pace.steps or spent > SLICE_SECONDS:  # the rest of an epoch says little
                pace.adjust(last - first, spent)
            first = last
            seconds += spent
            progress.advance(len(rows))
        weights = data.step_weights(order, batch)
        # In one sum: added up call by call, whose lengths vary, its last bits would.
        return {"loss": float(step_losses @ weights / weights.sum()), "lr": float(lr[-1]), "seconds": seconds}

    def _slice(self, data: Data, rows: Array, batch: int, lr: Array) -> tuple[Array, float]:
        """One call to the backend. If anything is not finite after it the epoch is undone; if it may have ended within
        a step, the call is."""
        model, atomic = self.model, self.backend.atomic
        before = self._start if atomic else self._before.take(model.state)
        first = model.state.step
        start = time.perf_counter()
        try:
            step_losses = self.backend.train_steps(
                model.plan, model.state, self.recipe, data.x, data.y, data.weight, rows, batch, lr
            )
            seconds = time.perf_counter() - start
            _raise_if_diverged(step_losses, lr, model.state, first, self._start.step, atomic)
        except DivergenceError:
            self._start.put_back(model.state)
            raise
        except BaseException as error:  # also KeyboardInterrupt, in the middle of an update
            if not atomic or isinstance(error, MemoryError):
                before.put_back(model.state)
            raise
        return step_losses, seconds

    def _measure(self, held_out: Data | None, data: Data) -> dict[str, float]:
        """Loss and metrics after an epoch: on the validation data, else the metrics on the training data."""
        if held_out is not None:
            scores = self.model._score(held_out.x, held_out.y, held_out.weight, self.metrics, self.backend)
            return {f"val_{name}": value for name, value in scores.items()}
        if not self.metrics:
            return {}
        scores = self.model._score(data.x, data.y, data.weight, self.metrics, self.backend)
        return {name: value for name, value in scores.items() if name != "loss"}


def _raise_if_diverged(losses: Array, lr: Array, state: State, first: int, kept: int, atomic: bool) -> None:
    """DivergenceError where one of the steps' losses, or what the last step left behind, is NaN or infinite.

    `first`: the step count before these; `kept`: the one whose parameters the model will have.
    """
    finite = np.isfinite(losses)
    if finite.all() and (atomic or state.finite()):
        return
    wrong = len(losses) - 1 if finite.all() else int(finite.argmin())
    what = "a parameter or a moment is NaN or infinite" if finite.all() else f"the loss is {losses[wrong]}"
    raise DivergenceError(
        f"{what} at step {first + wrong + 1} with learning rate {lr[wrong]:g}; the model keeps the parameters of step "
        f"{kept}, before that epoch, and its optimizer starts anew: lower the learning rate, or set clip_norm"
    )


class _Pace:
    """How many steps a call to the backend takes: one at first, then as many as SLICE_SECONDS hold."""

    def __init__(self) -> None:
        self.steps = 1

    def adjust(self, steps: int, seconds: float) -> None:
        """The next call has at most 4 times the steps of the last one, which took `seconds`."""
        self.steps = max(1, min(4 * steps, int(SLICE_SECONDS * steps / max(seconds, 1e-9))))
