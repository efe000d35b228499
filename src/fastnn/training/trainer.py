"""Trainer: fits a Sequential to data. Settings and checks; the loop is in run.py, what it visits in batches.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from fastnn import _frames, _hints, _rounding, _text, _validate, backends
from fastnn.contract import Backend
from fastnn.data import Data
from fastnn.engine import Objective
from fastnn.formulas.losses import Loss
from fastnn.metrics import Metric, Metrics, named_metrics
from fastnn.metrics import check as check_metrics
from fastnn.nn.layers import Normalize
from fastnn.nn.model import Sequential
from fastnn.nn.target_scale import TargetScale
from fastnn.optim import optimizers
from fastnn.optim.optimizers import Optimizer
from fastnn.optim.schedules import Constant, Schedule
from fastnn.training import checkpoint, find_lr, targets
from fastnn.training.batches import InMemory, Stream, is_batches
from fastnn.training.callbacks import ProgressBar
from fastnn.training.checkpoint import Checkpoint
from fastnn.training.class_weight import class_weights
from fastnn.training.ends import check_end
from fastnn.training.find_lr import LearningRates
from fastnn.training.history import History
from fastnn.training.holdout import classes_of, split
from fastnn.training.identity import described, identity
from fastnn.training.run import Callback, Run
from fastnn.training.settings import CHECKS
from fastnn.training.validation import ValidationBatches, is_validation_batches

Array = np.ndarray
_SETTINGS = [name for name in (*CHECKS, "metrics") if name != "history"]
_ATTRIBUTES = {*_SETTINGS, "advises", "history", "model", "_seed_drawn"}
_OF_OPTIMIZERS = {field.name for field in fields(optimizers.Adam)}


class Trainer:
    """Trains `model` to minimise `loss` by gradient descent in batches; its settings are the arguments here.

    loss: a name of `fastnn.nn.LOSSES` or one of `nn.Huber(delta)`, `nn.CrossEntropy(label_smoothing)`, ... optimizer:
    a name of `fastnn.optim.OPTIMIZERS` or an optimizer. schedule: factors on its learning rate. metrics: a list, or a
    dict by the names they shall have, of names of `fastnn.METRICS`, functions of (y, prediction) and what
    `fastnn.metric` makes of these; measured each epoch on the validation data, else on the training data. seed: of
    the initial weights, shuffles and random layers; None draws one (`trainer.seed`). backend: who computes; "auto" is
    the fastest there is. clip_norm: bound on the gradient's global norm; clip_value: bound on each of its entries,
    after that (`optim.Optimizer` has the order). threads: the most that the native backend uses, None for all there
    are; their number changes no bit of the result. dtype: of a model that is not built yet, float32 or float64; None:
    its own. scale_targets: learn (y - mean) / spread, mean and spread being those of the first fit's targets, in
    float64 before they are rounded; for mse, half_mse, mae, huber, quantile and expectile.
    The scale is the model's from then on (`model.target_scale`, also in files and checkpoints): `predict` gives y, in
    float64, and losses, metrics and delta are in y's units. What is minimised is the loss of y but for a factor;
    learning rate, clipping and penalties are those of scaled targets. TargetWarning where it is False and y is far
    from the outputs.

    All but the model and the dtype are attributes, the only ones, checked as they are set: `trainer.optimizer =
    optim.Adam(1e-4)` between two fits goes on with a lower rate, the moments kept.

    ValueError or TypeError where an argument is out of range, BackendUnavailable where the backend is missing.

    >>> model = fastnn.Sequential([nn.Dense(8, activation="tanh"), nn.Dense(1)])
    >>> trainer = Trainer(model, loss="mse", optimizer=optim.Adam(0.01), seed=0)
    >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = trainer.fit(x, x**2, epochs=200, batch_size=16)
    >>> history["loss"][-1] < 0.01
    True
    >>> trainer
    Trainer(Sequential([Dense(8, 'tanh'), Dense(1)], dtype='float32'), mse, Adam(lr=0.01), 200 epochs)
    """

    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    seed: int
    backend: Backend
    threads: int | None
    clip_norm: float | None
    clip_value: float | None
    scale_targets: bool
    advises = True  # where targets are far or rounded: not for those who fit in their own name

    @_hints.arguments(_hints.TRAINER)
    def __init__(
        self,
        model: Sequential,
        loss: str | Loss,
        optimizer: str | Optimizer = "adam",
        *,
        schedule: str | Schedule | None = None,
        metrics: Metrics = (),
        seed: int | None = None,
        backend: str | Backend = "auto",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
        dtype: Any = None,
        scale_targets: bool = False,
    ) -> None:
        if not isinstance(model, Sequential):
            raise TypeError(f"model is {model!r}, expected a fastnn.Sequential")
        given: dict[str, Any] = dict(
            loss=loss, optimizer=optimizer, schedule=schedule, seed=seed, backend=backend, threads=threads
        )
        given |= dict(clip_norm=clip_norm, clip_value=clip_value, scale_targets=scale_targets)
        for name, value in given.items():
            setattr(self, name, value)
        self.metrics = metrics
        if dtype is not None:
            model.set_dtype(dtype)
        self.model = model
        self.history = History()

    def __setattr__(self, name: str, value: Any) -> None:
        if type(self) is Trainer and name not in _ATTRIBUTES:  # a subclass may have its own
            hint = f": {_hints.TRAINER[name]}" if name in _hints.TRAINER else ""
            if name in _OF_OPTIMIZERS:
                hint = f": set trainer.optimizer, as to optim.Adam({name}=...)"
            raise AttributeError(f"a Trainer has no setting {name!r}, expected one of: {', '.join(_SETTINGS)}{hint}")
        if name == "model" and "model" in self.__dict__:
            raise AttributeError("model of a Trainer stays what it is, expected a new Trainer for another one")
        check = CHECKS.get(name)
        checked = check(value) if check is not None else value
        if name == "metrics":
            if isinstance(value, Iterable) and not isinstance(value, str):
                checked = dict(value) if isinstance(value, Mapping) else list(value)
            named_metrics(checked, self.loss)
        if name == "seed":
            self._seed_drawn = value is None
        object.__setattr__(self, name, checked)

    def __getattr__(self, name: str) -> Any:
        raise _hints.attribute(self, name, _hints.TRAINER_ATTRIBUTES)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"backend": self.backend.name}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept | {"backend": backends.load(kept["backend"])})

    def __repr__(self) -> str:
        optimizer = f"{type(self.optimizer).__name__}(lr={self.optimizer.lr:g})"
        return f"Trainer({self.model!r}, {self.loss}, {optimizer}, {len(self.history)} epochs)"

    @property
    def objective(self) -> Objective:
        """What is minimised and how, as the engine wants it."""
        return self._objective(self.model.target_scale)

    def _objective(self, scale: TargetScale | None) -> Objective:
        norm, value = (math.inf if bound is None else bound for bound in (self.clip_norm, self.clip_value))
        loss = self.loss if scale is None else scale.loss(self.loss)
        return Objective(loss, self.optimizer, self.seed, norm, value)

    @property
    def named(self) -> dict[str, Metric]:
        """The metrics by their keys in the history. ValueError or TypeError for what is none, or none of this loss."""
        return named_metrics(self.metrics, self.loss)

    @_hints.arguments(_hints.FIT)
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int = 10,
        batch_size: int | Literal["full"] = 32,
        validation: tuple[Any, Any] | tuple[Any, Any, Any] | Data | Iterable[Any] | float | None = None,
        validation_freq: int = 1,
        stratify: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        verbose: bool | None = None,
        resume: Any = None,
    ) -> History:
        """Go through the rows `epochs` times, a step for every `batch_size` of them, and return the History.

        X (n, I) real numbers, or rows of shape (length, channels) or (height, width, channels), of any where the model
        begins with Flatten or Reshape: an array, a DataFrame of pandas or polars, anything with `__array__` or DLPack,
        a memory-mapped array, a scipy.sparse matrix. y (n,) class labels 0 .. O-1 or values (n, O), as the loss takes
        them. Or, with y left out, X is an iterable of batches (X, y) or (X, y, sample_weight), a step for each, gone
        through anew in every epoch; batch_size and shuffle are then not looked at, weights and a fraction for
        validation refused. Or X is `Data`, which has y and weights, as validation may be: what was checked is not read
        again.

        batch_size "full" is one step an epoch, 1 is stochastic descent; a last short batch is taken as it is.
        validation: what is measured after each epoch: (X, y) or (X, y, sample_weight); Data; an iterable of batches of
        these, such as a DataLoader, gone through anew each time; or the fraction of the rows to hold out, drawn by the
        seed, from each class in proportion, though a class keeps one row to learn from: as the command line does.
        stratify: False draws them without a look at the classes. validation_freq: after every so many epochs only;
        what watches validation, such as EarlyStopping, counts those; the others have NaN in the history.
        sample_weight (n,) >= 0, by position: a batch's loss is sum(weight * loss) / (its rows * the mean weight), so
        that the optimum does not depend on batch_size; a row of weight 0 is as if it were not there. Of batches the
        mean weight is that of all rows so far.
        class_weight: "balanced", a dict or Series {label: weight} or one weight a class, multiplied with it; not in
        validation. Where y has several columns of 0 and 1: "balanced", or a list with one of these for each column,
        which is then weighted by itself.
        callbacks: see `Callback`. verbose: True shows progress, None does on a terminal where tqdm is installed.
        resume: True to go on from the newest file of the Checkpoint among the callbacks, or begin where there is none;
        a file, or a folder of them.

        A second fit goes on where the first ended: same parameters, optimizer state, step count and history.

        ValueError or TypeError where the data is not that, before anything is touched. DivergenceError where the
        loss or a parameter becomes NaN or infinite: the model then has its parameters from before that epoch, and its
        optimizer starts anew. After KeyboardInterrupt and any other error it is as a completed step left it: the
        last one on the native backend, else the last of the last call that succeeded. It can go on either way.
        RuntimeError where another thread is fitting the model, or this one is: in a metric, say. CheckpointError where
        there is none to resume from.
        """
        with self._alone():
            shuffled, made = _validate.flag("shuffle", shuffle), _callbacks(callbacks, verbose)
            weights = sample_weight, class_weight
            measured = validation, validation_freq, _validate.flag("stratify", stratify)
            run = self._prepared(X, y, epochs, batch_size, measured, weights, shuffled, made, resume)
            run.go()
            return self.history

    def evaluate(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> dict[str, float]:
        """The loss and the trainer's metrics over rows X with targets y: see `Sequential.evaluate`."""
        if self.model.built:
            self.model.loss = self.loss
        with nullcontext() if self.threads is None else self.backend.limit_threads(self.threads):
            return self.model.evaluate(X, y, sample_weight=sample_weight, metrics=self.metrics, backend=self.backend)

    def find_lr(
        self,
        X: Any,
        y: Any = None,
        *,
        low: float = 1e-6,
        high: float = 10.0,
        steps: int = 200,
        batch_size: int = 32,
        sample_weight: Any = None,
    ) -> LearningRates:
        """The range test of Smith 2017: `steps` steps, their rates rising from `low` to `high` geometrically.

        X (n, I), y and sample_weight as in `fit`; steps >= 2. On a copy of the model: it and the trainer stay as they
        are, but that the model is built and its Normalize has learned from X. `LearningRates.suggestion` is a tenth
        of the rate at which the loss was lowest, `.plot()` draws the losses. RateWarning where no rate was too high,
        the suggestion then being where the loss fell fastest, or where the loss did not fall: see `LearningRates`.

        >>> trainer = Trainer(fastnn.Sequential([nn.Dense(16, "tanh"), nn.Dense(1)]), "mse", seed=0)
        >>> x = np.random.default_rng(0).normal(size=(500, 4))
        >>> found = trainer.find_lr(x, x[:, 0] * x[:, 1])
        >>> 1e-4 < found.suggestion < 1.0, len(trainer.history)
        (True, 0)
        """
        low = _validate.number("low", low, low=0.0, open_low=True)
        high = _validate.number("high", high, low=0.0, open_low=True)
        if high <= low:
            raise ValueError(f"high is {high} and low is {low}, expected a high above low")
        steps = _validate.integer("steps", steps, low=2)
        batch = _validate.integer("batch_size", batch_size)
        self._check_epsilon()
        data = self._checked(X, y, sample_weight)
        with self._alone():
            scale = targets.chosen(self.model, self.loss, self.scale_targets, data, data, None, None)
            data = data if scale is None else scale.applied(data, self.model.dtype)
            self._prepare_model(data, data, None, scale, adapt=True)
            return find_lr.range_test(self, data, batch, np.geomspace(low, high, steps))

    def score(self, data: Data | ValidationBatches) -> dict[str, float]:
        """`evaluate` on rows that were checked already."""
        return self.model.score(data, self.named, self.backend)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The one who may change the model, on `threads` threads. RuntimeError where a thread is that already."""
        limit = nullcontext() if self.threads is None else self.backend.limit_threads(self.threads)
        with self.model.fitting.held(), limit:
            yield

    # Preparing --------------------------------------------------------------------------------------------

    def _prepared(
        self,
        X: Any,
        y: Any,
        epochs: int,
        batch_size: int | Literal["full"],
        measured: tuple[Any, Any, bool],
        weights: tuple[Any, Any],
        shuffle: bool,
        callbacks: list[Callback],
        resume: Any,
    ) -> Run:
        """Everything checked, then the model prepared: a Run that is ready to go."""
        sample_weight, class_weight = weights
        epochs = _validate.integer("epochs", epochs)
        validation, every, stratify = measured
        every = _validation_freq(every, epochs, validation)
        named = self.named  # checked anew: the loss may be another one by now
        self._check_epsilon()
        saved = checkpoint.find(resume, callbacks)
        if saved is not None and self._seed_drawn:
            self.seed, self._seed_drawn = saved.seed, True
        source: InMemory | Stream
        if y is None and is_batches(X):
            if sample_weight is not None or class_weight is not None:
                name = "class_weight" if sample_weight is None else "sample_weight"
                raise ValueError(f"{name} is given, but X is batches, expected (X, y, sample_weight) from each of them")
            source, data, rows = Stream(X, self._checked_batch, epochs), None, None
            first = source.first()
            held_out = self._validation(validation, first, fraction=False)
            self._check_stream(source)
            scale = targets.chosen(self.model, self.loss, self.scale_targets, first, None, None, saved)
        else:
            first = data = self._checked(X, y, sample_weight)
            rows, held_out = None, None
            if isinstance(validation, (float, np.floating)):
                rows, held_out = self._held_out(data, validation, stratify)
            else:
                held_out = self._validation(validation, data)
            scale = targets.chosen(self.model, self.loss, self.scale_targets, data, data, rows, saved)
            if scale is not None:
                first = data = scale.applied(data, self.model.dtype)
                if isinstance(held_out, Data):
                    held_out = scale.applied(held_out, self.model.dtype)
            if class_weight is not None:
                data = self._weighted(data, rows, class_weight)
            whole = isinstance(batch_size, str) and batch_size == "full"
            batch = len(data) if whole else _validate.integer("batch_size", batch_size)
            source = InMemory(data, rows, batch, shuffle, self.seed, self.backend.kernels)
            source.measured = first
        outputs = self.model.plan_for(first.row_shape).outputs
        held = [held_out] if isinstance(held_out, Data) else [first] if held_out is None else held_out.seen
        check_metrics(named, self.loss, outputs, held)
        run = Run(self, source, held_out, epochs, callbacks, validation_freq=every)
        run.resumed = saved
        if scale is not None:
            run.objective, run.loss_unit = self._objective(scale), scale.unit(self.loss)
        for callback in run.callbacks:
            callback.before_fit(run)
        if saved is not None or any(isinstance(callback, Checkpoint) for callback in callbacks):
            run.identity = identity(run, self.model.plan_for(first.row_shape))
            run.described = described(run)
        if saved is not None:
            saved.check(run, self.model.plan_for(first.row_shape))
        check_end(self.model.plan_for(first.row_shape), self.loss, first.y)
        self._prepare_model(first, data, rows, scale, adapt=saved is None)
        return run

    def _check_epsilon(self) -> None:
        """ValueError where the optimizer's epsilon is 0 in the model's dtype, so that the first gradient of 0 would be
        NaN, or infinite: nothing would be learned."""
        epsilon = getattr(self.optimizer, "epsilon", None)
        if isinstance(epsilon, float):
            _validate.epsilon(epsilon, self.model.dtype, "the optimizer")

    def _checked_batch(self, X: Any, y: Any, sample_weight: Any, prefix: str) -> Data:
        said = self.advises and prefix.startswith("batch 0 ")  # once, not of every batch
        advice = targets.advice(self.loss, batches=True) if said else None
        return self.model.checked(X, y, sample_weight, self.loss, prefix=prefix, advice=advice)

    def _held_out(self, data: Data, validation: Any, stratify: bool) -> tuple[Array, Data]:
        """The numbers of the rows to learn from, ascending, and a copy of the others, drawn by the seed from those that
        have a weight. ValueError where either would have no row."""
        weighing = data.weighing()
        among = np.arange(len(data)) if weighing is None else weighing
        labels = classes_of(data.y[among]) if stratify else None
        parts = split(len(among), {"validation": validation}, self.seed, labels)
        return among[parts["training"]], data.part(among[parts["validation"]])

    def _validation(self, validation: Any, data: Data, *, fraction: bool = True) -> Data | ValidationBatches | None:
        """The validation data that were given, each batch as like `data` as it must be."""
        if validation is None:
            return None
        if not fraction and isinstance(validation, (float, np.floating)):
            raise ValueError(
                f"validation is {validation:g}, a fraction of rows, but X is batches, expected (X, y) or batches"
            )
        check = partial(self._checked_validation, data)
        if is_validation_batches(validation):
            return ValidationBatches(validation, check)
        if isinstance(validation, Data):
            validation = (validation, None)
        if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
            raise TypeError(
                f"validation is {_text.kind(validation)}, expected (X, y), (X, y, sample_weight), an iterable of "
                f"such batches or a fraction"
            )
        X, y, *weight = validation
        return check(X, y, weight[0] if weight else None, "validation ")

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> Data:
        """Rows to learn from. Targets that are scaled lose what float64 does not hold, others what the model's dtype
        does not."""
        scaled = self.scale_targets
        advice = targets.advice(self.loss) if self.advises and not scaled else None
        data = self.model.checked(X, y, sample_weight, self.loss, advice=advice, scaled=scaled)
        if scaled and data.y.ndim == 2:
            _rounding.warn_of_targets("y", data.reported_y, _rounding.FLOAT64, "")
        return data

    def _checked_validation(self, data: Data, X: Any, y: Any, sample_weight: Any, prefix: str) -> Data:
        """Rows to measure on, which must be like `data`, those to learn from."""
        name = f"{prefix}X"
        names = X.names if isinstance(X, Data) else _frames.feature_names(X)
        _frames.same_names(names, data.names, name=name)
        features = self.model.features(X, name=name)
        any_shape, other = self.model.takes_any_shape, "X has rows of shape"
        _validate.same_row_shape(features.row_shape, data.row_shape, any_shape=any_shape, name=name, other=other)
        if features.inputs != data.inputs:
            raise ValueError(f"{name} has {features.inputs} features, but X has {data.inputs}")
        return self.model.checked(features, y, sample_weight, self.loss, prefix=prefix, scaled=self.scale_targets)

    def _weighted(self, data: Data, rows: Array | None, class_weight: Any) -> Data:
        """The data with weights by class, which depend on the rows to learn from alone."""
        model = self.model
        outputs = model.plan_for(data.row_shape).outputs
        taken: Any = slice(None) if rows is None else rows
        own = None if data.weight is None else data.weight[taken]
        by_class = class_weights(class_weight, data.y[taken], own, self.loss, outputs, model.dtype)
        weight = np.ones((len(data), *by_class.shape[1:]), model.dtype)
        weight[taken] = by_class
        return replace(data, weight=weight)

    def _check_stream(self, source: Stream) -> None:
        if source.steps is None and not isinstance(self.schedule, Constant):
            raise ValueError(
                f"schedule is {self.schedule!r}, which needs to know the number of batches, expected an X with a len()"
            )
        if any(isinstance(layer, Normalize) and not layer.adapted for layer in self.model.layers):
            raise ValueError(
                "X is an iterable of batches, from which Normalize cannot learn before the first step: call "
                "model.build(inputs) and model.layers[0].adapt(rows) with an array of rows"
            )

    def _prepare_model(
        self, first: Data, data: Data | None, rows: Array | None, scale: TargetScale | None, *, adapt: bool
    ) -> None:
        """The model built, its Normalize adapted, its loss, column names, shape of rows and scale of targets set."""
        model = self.model
        new = model.loss is None
        if not model.built:
            model._build(first.row_shape, self.seed)
        for layer in model.layers:
            if isinstance(layer, Normalize) and not layer.adapted:
                if adapt:
                    assert data is not None
                    layer.adapt(data, data.weighing(rows), kernel=self.backend.kernels.moments)
                layer.adapted = True  # or about to be put back from a checkpoint
        if new and self.advises and scale is None and data is not None:
            targets.warn_if_far(model, self.loss, data, rows)
        model.loss, model.target_scale = self.loss, scale
        if model.feature_names is None:
            model.feature_names = _frames.given_names(first.names)
        model._note_shape(first.row_shape)


def _validation_freq(every: Any, epochs: int, validation: Any) -> int:
    """Epochs from one validation to the next. ValueError where a fit would have none of those that were asked for."""
    count = _validate.integer("validation_freq", every)
    if count > 1 and validation is None:
        raise ValueError(f"validation_freq is {count}, but validation is None, expected what to measure on")
    if count > epochs:
        raise ValueError(
            f"validation_freq is {count}, but epochs is {epochs}, expected at most that: nothing would be measured"
        )
    return count


def _callbacks(callbacks: Any, verbose: bool | None) -> list[Callback]:
    """The user's callbacks, and what shows progress if it is asked for. TypeError or ValueError where they are none."""
    if isinstance(callbacks, Callback):
        raise TypeError("callbacks is a Callback, expected a list of them")
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks is {callbacks!r}, expected a list of objects of fastnn.Callback")
    made = list(callbacks)
    for callback in made:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks has {callback!r}, expected objects of fastnn.Callback")
        if callback.every is not None:
            _validate.integer(f"every of {type(callback).__name__}", callback.every)
    if len({id(callback) for callback in made}) < len(made):
        raise ValueError("callbacks has the same object twice, expected each once")
    shown = any(isinstance(callback, ProgressBar) for callback in made)
    return made if shown else made + ProgressBar.wanted(None if verbose is None else _validate.flag("verbose", verbose))
