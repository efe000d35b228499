"""Sequential: a list of layers that becomes a Plan and a State. Predicts and describes itself; learns nothing."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _validate, backends
from fastnn._lock import FitLock
from fastnn.backends import reference
from fastnn.backends.contract import Backend
from fastnn.engine import PREDICT_ROWS
from fastnn.errors import NotFittedError
from fastnn.formulas import activations, losses
from fastnn.formulas.losses import Loss
from fastnn.nn.layers import Flatten, Layer, Normalize
from fastnn.plan import Op, Plan, Snapshot, State

Array = np.ndarray
Metric = str | Callable[[Array, Array], float]
RESERVED = ("loss", "lr", "seconds")  # keys of a history
_LOSS_ROWS = 4096  # rows whose loss is taken at once
_SPARSE_BYTES = 1 << 25  # of sparse rows made dense at once: 32 MB


class Sequential:
    """Layers one after the other, all computed in one float dtype (float32 or float64).

    The model is built when it first sees data, or by `build`. From then on `plan` is its table of operations,
    `state` its parameters, and `layers[i].weight` and the like are live views of them.

    TypeError where something in the list is not a layer, ValueError where the layers do not fit together.

    >>> model = Sequential([nn.Dense(4, activation="relu"), nn.Dense(2)]).build(3, seed=0)
    >>> model.layers[0].weight.shape, model.plan.parameter_count
    ((3, 4), 26)
    >>> model.predict(np.zeros((5, 3))).shape
    (5, 2)
    """

    def __init__(self, layers: Sequence[Layer], *, dtype: Any = np.float32) -> None:
        if isinstance(layers, Layer) or not isinstance(layers, Iterable):
            raise TypeError(f"layers is {layers!r}, expected a list of layers")
        self.layers: tuple[Any, ...] = tuple(layers)  # Any: which attributes a layer has, its class says
        self.dtype = _validate.float_dtype(dtype)
        if not self.layers:
            raise ValueError("layers is empty, expected at least one layer")
        used: set[int] = set()  # a file may have many layers: looked up, not gone through
        for position, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{position}] is {layer!r}, expected a layer of fastnn.nn")
            for part in layer.parts():
                if part.index is not None or id(part) in used:
                    raise ValueError(
                        f"layers[{position}] has {part!r}, which is in use already, expected a layer of its own"
                    )
                used.add(id(part))
            if isinstance(layer, Flatten) and position:
                raise ValueError(f"layers[{position}] is Flatten(), expected it first: what follows has rows already")
            if isinstance(layer, Normalize) and any(
                not isinstance(before, Flatten) for before in self.layers[:position]
            ):
                raise ValueError(f"layers[{position}] is {layer!r}, expected it directly on the data")
        for position, layer in enumerate(self.layers):
            for part in layer.parts():
                part.index = position
        self.loss: Loss | None = None  # set by a Trainer: what the outputs mean
        self.feature_names: list[str] | None = None
        self.row_shape: tuple[int, ...] | None = None  # under Flatten, once rows of several dimensions were seen
        self.metadata: dict[str, Any] = {}  # what its files say of it beside all this: the user's own
        self.fitting = FitLock()  # held by the one Trainer that may change the model
        self._plan: Plan | None = None
        self._state: State | None = None
        self._spans: list[tuple[int, int]] = []  # values into and out of each layer

    # Building ---------------------------------------------------------------------------------------------

    def build(self, inputs: int | tuple[int, ...], *, seed: int | None = None) -> Sequential:
        """Lay out the parameters for rows of `inputs` values (or of that shape, under Flatten) and draw them.

        RuntimeError while the model is being fitted.
        """
        if self.fitting.locked():
            raise RuntimeError("model is being fitted, expected to be built before or after that")
        return self._build(inputs, seed)

    def _build(self, inputs: int | tuple[int, ...], seed: int | None) -> Sequential:
        shape = inputs if isinstance(inputs, tuple) and len(inputs) > 1 else None
        if isinstance(inputs, tuple):
            inputs = int(np.prod([_validate.integer("inputs", size) for size in inputs]))
        width = _validate.integer("inputs", inputs)
        plan, spans = self._lower(width)
        state = State(plan)
        state.initialize(_validate.seed(seed))
        self._plan, self._state, self._spans = plan, state, spans
        self.feature_names, self.row_shape = None, shape
        for layer in self.layers:
            if isinstance(layer, Normalize):
                layer.adapted = False
        self._bind()
        return self

    def _lower(self, inputs: int) -> tuple[Plan, list[tuple[int, int]]]:
        """The plan, and the number of values into and out of each layer."""
        ops: list[Op] = []
        spans: list[tuple[int, int]] = []
        width = inputs
        for layer in self.layers:
            made = layer.ops(width)
            spans.append((width, made[-1].outputs if made else width))
            ops += made
            width = spans[-1][1]
        return Plan.assemble(ops, inputs, self.dtype), spans

    def _bind(self) -> None:
        """Show every layer its views, and Normalize who computes."""
        for layer in self.layers:
            layer._views.clear()
            if isinstance(layer, Normalize):
                layer._kernel = _moments
        for name, view in self.state.views.items():
            index, role = name.split(".")
            self.layers[int(index)]._views[role] = view

    def plan_for(self, inputs: int) -> Plan:
        """The plan, or the one that building for rows of `inputs` values would make."""
        return self._lower(inputs)[0] if self._plan is None else self._plan

    def set_dtype(self, dtype: Any) -> None:
        """Compute in another float dtype: before the model is built. ValueError afterwards, if it is another one."""
        wanted = _validate.float_dtype(dtype)
        if self.built and wanted != self.dtype:
            raise ValueError(f"dtype is {wanted}, but the model was built in {self.dtype}")
        self.dtype = wanted

    @property
    def built(self) -> bool:
        """Whether the number of inputs is known, and with it every parameter."""
        return self._plan is not None

    @property
    def plan(self) -> Plan:
        """The table of operations. NotFittedError before the model is built."""
        if self._plan is None:
            raise _not_built()
        return self._plan

    @property
    def state(self) -> State:
        """The parameters and all else that training changes. NotFittedError before the model is built."""
        if self._state is None:
            raise _not_built()
        return self._state

    def __copy__(self) -> Sequential:
        """A deep copy: two models cannot share layers, whose views show one model's buffers."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the layers and the buffers; plan and views are made anew around them."""
        kept = dict(self.__dict__)
        del kept["fitting"]
        state = kept.pop("_state")
        kept["_plan"], kept["_spans"] = None, []
        kept["buffers"] = None if state is None else (self.plan.inputs, Snapshot().take(state))
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        built = kept.pop("buffers")
        self.__dict__.update(kept, fitting=FitLock())
        self._state = None
        if built is not None:
            self._plan, self._spans = self._lower(built[0])
            self._state = State(self._plan)
            built[1].put_back(self._state)
            self._bind()

    def features(self, X: Any, *, name: str = "X") -> Any:
        """X checked against this model: (rows, inputs), ready to gather from; a sparse one by rows."""
        _validate.same_names(X, self.feature_names)
        return _validate.features(
            X,
            self.dtype,
            self._plan.inputs if self._plan is not None else None,
            flatten=isinstance(self.layers[0], Flatten),
            shape=self.row_shape,
            exact=any(isinstance(layer, Normalize) for layer in self.layers),
            first=self.loss is None,  # no fit before this one
            name=name,
        )

    # Predicting -------------------------------------------------------------------------------------------

    def predict(self, X: Any, *, backend: str | Backend | None = None) -> Array:
        """The last layer's output for every row: X (B, I) -> (B, O), in the model's dtype.

        NotFittedError before the model is built; ValueError or TypeError where X does not fit it.
        """
        plan = self.plan
        return self._run(plan, self.features(X), backend)

    def predict_proba(self, X: Any, *, backend: str | Backend | None = None) -> Array:
        """Probabilities (B, O) under the loss the model was trained with: each row's softmax or each value's
        sigmoid. One column of a sigmoid becomes two, (1 - p, p), as scikit-learn has it.

        ValueError where that loss is not a cross-entropy.
        """
        loss = self._known_loss()
        if loss.link not in ("softmax", "sigmoid"):
            raise ValueError(f"this model was trained with {loss}, expected a cross-entropy for probabilities")
        p = link(loss, self._logits(X, backend))
        return np.concatenate([1.0 - p, p], axis=1) if loss.link == "sigmoid" and p.shape[1] == 1 else p

    def predict_class(self, X: Any, *, backend: str | Backend | None = None) -> Array:
        """Class indices (B,) int64 of the largest output; of a sigmoid (B,), or (B, O) of 0 and 1 for O > 1."""
        return decide(self._known_loss(), self._logits(X, backend))

    def evaluate(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        metrics: Sequence[Metric] = (),
        backend: str | Backend | None = None,
    ) -> dict[str, float]:
        """The loss and the metrics over rows X (B, I) with targets y: {"loss": ..., "accuracy": ...}.

        The loss is the weighted mean over the rows, without penalties. A metric is a name, "accuracy" for losses of
        classes, "mae", "rmse" and "r2" (weighted means over rows and outputs) for those of values; or a function of
        (y, prediction), whose prediction is `predict_class` for cross-entropies and hinge, else `predict`.

        >>> model = Sequential([nn.Dense(2)]).build(3, seed=0)
        >>> model.loss = nn.LOSSES["cross_entropy"]
        >>> sorted(model.evaluate(np.eye(3), [0, 1, 0], metrics=["accuracy"]))
        ['accuracy', 'loss']
        """
        plan, loss = self.plan, self._known_loss()
        named = named_metrics(metrics, loss)
        rows = self.features(X)
        target = _validate.targets(y, loss, rows.shape[0], plan.outputs, self.dtype)
        weight = _validate.sample_weight(sample_weight, rows.shape[0], self.dtype)
        return self._score(rows, target, weight, named, backend)

    def _score(
        self, x: Any, y: Array, weight: Array | None, metrics: dict[str, Metric], backend: str | Backend | None
    ) -> dict[str, float]:
        """`evaluate` on arrays that were checked already."""
        loss, chosen = self._known_loss(), backends.resolve(backend)
        z = self._run(replace(self.plan, ops=self.plan.training_ops(loss)), x, chosen)
        value, dz, unit = np.empty(len(z), z.dtype), np.empty_like(z[:_LOSS_ROWS]), np.ones(len(z), z.dtype)
        for start in range(0, len(z), _LOSS_ROWS):
            part = slice(start, min(start + _LOSS_ROWS, len(z)))
            with np.errstate(over="ignore", invalid="ignore"):  # what diverged shows in the loss
                chosen.kernels.loss(loss, z[part], y[part], unit[part], value[part], dz[: part.stop - start])
        result = {"loss": float(np.average(value.astype(np.float64), weights=weight))}
        if metrics:
            answer = decide(loss, z) if _classifies(loss) else z
            for name, metric in metrics.items():
                if callable(metric):
                    result[name] = _call(name, metric, y, answer)
                else:
                    result[name] = METRICS[metric](loss, y, answer, weight)
        return result

    def _logits(self, X: Any, backend: str | Backend | None) -> Array:
        plan = self.plan
        return self._run(replace(plan, ops=plan.training_ops(self._known_loss())), self.features(X), backend)

    def _run(self, plan: Plan, x: Any, backend: str | Backend | None) -> Array:
        rows = x.shape[0]
        out = np.empty((rows, plan.outputs), dtype=self.dtype)
        chosen = backends.resolve(backend)
        if not _validate.is_sparse(x):
            chosen.predict(plan, self.state, x, out)
            return out
        count = max(1, _SPARSE_BYTES // (8 * x.shape[1]))
        if count > PREDICT_ROWS:  # cut where NumPy's engine cuts a dense x, whose last bits depend on that
            count -= count % PREDICT_ROWS
        for start in range(0, rows, count):
            part = slice(start, min(start + count, rows))
            chosen.predict(plan, self.state, x[part].toarray(), out[part])
        return out

    def _known_loss(self) -> Loss:
        if self.loss is None:
            raise NotFittedError("this model has no loss yet: fit it with a Trainer, or set model.loss")
        self.loss = losses.get(self.loss)
        return self.loss

    # Keeping ----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> None:
        """Put the model into a file, which `fastnn.load` reads: after a crash at any moment the old one or the new.

        It has the layers with their settings, dtype, number of inputs, loss, feature names, and every parameter and
        statistic; not the optimizer's state, without which a fit begins its moments anew (pickle and checkpoints have
        it). `metadata`: a dict of what JSON holds, for the loaded model's `metadata`; None: this model's.

        TypeError or ValueError, before anything is written, for what a file cannot hold: a layer, an initialiser or a
        loss of your own, other metadata. OSError where the file cannot be written.
        """
        from fastnn.nn import serialize  # which makes Sequentials

        serialize.save(self, path, metadata)

    # Describing -------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table of the layers with the shapes of their rows and their parameters, as text.

        >>> print(Sequential([nn.Dense(4, activation="relu"), nn.Dense(2)]).build(3, seed=0).summary())
        layer                     output  parameters
        0  Dense(4, 'relu')            4          16
        1  Dense(2)                    2          10
        total                                     26
        """
        counts = [0] * len(self.layers)
        for tensor in self.plan.tensors:
            counts[int(tensor.name.split(".")[0])] += tensor.size if tensor.trainable else 0
        names = [f"{index}  {layer!r}" for index, layer in enumerate(self.layers)]
        width = max(25, *(len(name) for name in names))
        lines = [f"{'layer':<{width}} {'output':>6}  {'parameters':>10}"]
        for name, (_, outputs), count in zip(names, self._spans, counts, strict=True):
            lines.append(f"{name:<{width}} {outputs:>6}  {count:>10,}")
        lines.append(f"{'total':<{width}} {'':>6}  {sum(counts):>10,}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}], dtype='{self.dtype}')"


def _moments(*arguments: Any) -> None:
    """The kernel of the backend that is in use."""
    backends.resolve().kernels.moments(*arguments)


def _not_built() -> NotFittedError:
    return NotFittedError("this model is not built yet: fit it with a Trainer, or call model.build(inputs)")


def link(loss: Loss, z: Array) -> Array:
    """The activation that the loss fuses, applied to its logits z (B, O)."""
    a = np.empty_like(z)
    if loss.link == "softmax":
        reference.softmax_forward(z, a)
    else:
        reference.activation_forward(activations.get(loss.link), z, a)
    return a


def decide(loss: Loss, z: Array) -> Array:
    """Classes from logits: the largest of a row, or the positive values of a sigmoid."""
    if loss.link == "sigmoid":
        positive = (z > 0).astype(np.int64)
        return positive[:, 0] if z.shape[1] == 1 else positive
    largest: Array = z.argmax(axis=1)
    return largest


def _classifies(loss: Loss) -> bool:
    return loss.link in ("softmax", "sigmoid") or loss.name == "hinge"


def named_metrics(metrics: Sequence[Metric], loss: Loss) -> dict[str, Metric]:
    """The metrics under their keys in a history. ValueError or TypeError for what is none, or none of this loss."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        example = metrics if isinstance(metrics, str) else "accuracy"
        raise TypeError(f"metrics is {metrics!r}, expected a list: [{example!r}]")
    named: dict[str, Metric] = {}
    for metric in metrics:
        if not callable(metric) and (not isinstance(metric, str) or metric not in METRICS):
            known = ", ".join(METRICS)
            raise ValueError(f"metrics has {metric!r}, expected one of {known} or a function of (y, prediction)")
        if isinstance(metric, str) and (metric == "accuracy") != _classifies(loss):
            wanted = "classes" if metric == "accuracy" else "values"
            raise ValueError(f"metrics has {metric!r}, expected a loss of {wanted} for it, not {loss}")
        name = metric if isinstance(metric, str) else str(getattr(metric, "__name__", type(metric).__name__))
        if name in named or name in RESERVED:
            problem = "is what a history calls something else" if name in RESERVED else "is there twice"
            raise ValueError(f"metrics has the name {name!r}, which {problem}, expected a name of its own for each")
        named[name] = metric
    return named


def _accuracy(loss: Loss, y: Array, answer: Array, weight: Array | None) -> float:
    if loss.link == "sigmoid":
        right = ((y > 0.5) == answer.reshape(y.shape)).all(axis=1)
    else:
        right = (y if y.ndim == 1 else y.argmax(axis=1)) == answer
    return float(np.average(right, weights=weight))


def _residuals(loss: Loss, y: Array, z: Array) -> Array:
    """y - prediction (B, O) in float64."""
    prediction = z if loss.link is None else link(loss, z)
    residuals: Array = y.astype(np.float64) - prediction
    return residuals


def _mae(loss: Loss, y: Array, z: Array, weight: Array | None) -> float:
    return float(np.average(np.abs(_residuals(loss, y, z)).mean(axis=1), weights=weight))


def _rmse(loss: Loss, y: Array, z: Array, weight: Array | None) -> float:
    return math.sqrt(np.average((_residuals(loss, y, z) ** 2).mean(axis=1), weights=weight))


def _r2(loss: Loss, y: Array, z: Array, weight: Array | None) -> float:
    truth = y.astype(np.float64)
    left = np.average(_residuals(loss, y, z) ** 2, axis=0, weights=weight)
    spread = np.average((truth - np.average(truth, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    scores = np.where(spread > 0, 1.0 - left / np.where(spread > 0, spread, 1.0), np.where(left > 0, 0.0, 1.0))
    return float(scores.mean())


METRICS: dict[str, Callable[[Loss, Array, Array, Array | None], float]] = {
    "accuracy": _accuracy,  # rows whose class, or whose every 0 and 1, is right
    "mae": _mae,  # mean |y - prediction|, over rows and outputs
    "rmse": _rmse,  # root of the mean of (y - prediction)^2
    "r2": _r2,  # 1 - sum (y - prediction)^2 / sum (y - mean y)^2, mean over the outputs
}


def _call(name: str, metric: Callable[[Array, Array], float], y: Array, answer: Array) -> float:
    truth = y[:, 0] if y.ndim == 2 and answer.ndim == 1 and y.shape[1] == 1 else y[:]
    truth.flags.writeable = False  # it may be the caller's own array
    value = metric(truth, answer)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metric {name} returned {value!r}, expected a number") from None
