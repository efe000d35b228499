"""Sequential: a list of layers that becomes a Plan and a State. Predicts and describes itself; learns nothing."""

from __future__ import annotations

import copy
import math
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from fastnn import _frames, _hints, _rounding, _text, _validate, backends, files
from fastnn._lock import FitLock
from fastnn._text import short
from fastnn._validate import MOST_DIMENSIONS
from fastnn.data import Data, Features
from fastnn.formulas import losses
from fastnn.formulas.losses import Loss
from fastnn.metrics import Metrics
from fastnn.nn import initial, rechecks, serialize, summary
from fastnn.nn.answers import Answers
from fastnn.nn.layers import Flatten, Layer, Normalize, Reshape
from fastnn.nn.layers.base import chain
from fastnn.nn.target_scale import TargetScale
from fastnn.ops.operation import Shape
from fastnn.plan import Plan, Snapshot, State
from fastnn.serving.border import Border
from fastnn.serving.live import Live

Array = np.ndarray


class Sequential(Answers):
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
        if isinstance(layers, (Layer, Set)) or not isinstance(layers, Iterable):
            raise TypeError(f"layers is {layers!r}, expected a list of layers")
        self._layers = tuple(layers)
        self._dtype = _validate.float_dtype(dtype)
        if not self.layers:
            raise ValueError("layers is empty, expected at least one layer")
        used: set[int] = set()  # a file may have many layers: looked up, not gone through
        for position, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{position}] is {layer!r}, expected a layer of fastnn.nn")
            for path, part in layer.parts(f"layers[{position}]"):
                if part.taken or id(part) in used:
                    raise ValueError(
                        f"{path} is {part!r}, which is in use already, expected one of its own, such as a copy"
                    )
                used.add(id(part))
            if layer.FIRST and any(not isinstance(before, Flatten) for before in self.layers[:position]):
                raise ValueError(f"layers[{position}] is {layer!r}, expected it directly on the data")
        self._place_layers()
        self.loss: Loss | None = None  # set by a Trainer: what the outputs mean
        self.feature_names: list[str] | None = None
        self.row_shape: tuple[int, ...] | None = None  # once rows of several dimensions were built for, or seen
        self.target_scale: TargetScale | None = None  # where a Trainer has learned one: predictions are in y's units
        self.metadata: dict[str, Any] = {}  # what its files say of it beside all this: the user's own
        self.fitting = FitLock()  # held by the one Trainer that may change the model
        self._plan: Plan | None = None
        self._state: State | None = None
        self._spans: list[tuple[Shape, Shape]] = []  # of the rows into and out of each layer
        self._live: Live | None = None  # what answered the last `predict`

    def __getattr__(self, name: str) -> Any:
        raise _hints.attribute(self, name, _hints.MODEL_ATTRIBUTES)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _hints.FREEZING:
            raise AttributeError(f"Sequential has no attribute {name!r}: {_hints.FREEZING[name]}")
        if name == "loss" and value is not None:
            value = losses.get(value)
        elif name == "metadata":
            serialize.check_metadata(value)
        object.__setattr__(self, name, value)

    def _place_layers(self) -> None:
        for position, layer in enumerate(self.layers):
            layer.place(position, self)

    # Building ---------------------------------------------------------------------------------------------

    def build(self, inputs: int | Sequence[int], *, seed: int | None = None) -> Sequential:
        """Lay out the parameters for rows of `inputs` values (or of that shape) and draw them.

        RuntimeError while the model is being fitted.
        """
        if self.fitting.locked():
            raise RuntimeError("model is being fitted, expected to be built before or after that")
        return self._build(inputs, seed)

    def _build(self, inputs: int | Sequence[int], seed: int | None) -> Sequential:
        shape = _validate.sizes("inputs", inputs, also=", the shape of a row")
        most = MOST_DIMENSIONS - 1
        if not shape or (len(shape) > most and not self.takes_any_shape) or math.prod(shape) > initial.MOST_VALUES:
            raise ValueError(
                f"inputs is {short(inputs)}, expected one to {most} sizes of a row (more under Flatten or Reshape), "
                f"2^40 values at most"
            )
        plan, spans = self._lower(shape)
        state = initial.state(self.layers, plan, _validate.seed(seed))
        self._plan, self._state, self._spans = plan, state, spans
        self.feature_names = self.row_shape = self.target_scale = None
        self._note_shape(shape)
        for layer in self.layers:
            if isinstance(layer, Normalize):
                layer.adapted = False
        self._bind()
        return self

    def _lower(self, inputs: int | Shape) -> tuple[Plan, list[tuple[Shape, Shape]]]:
        """The plan for rows of that shape, and the shapes of the rows into and out of each layer."""
        shape = inputs if isinstance(inputs, tuple) else (inputs,)
        ops, spans = chain(self.layers, shape)
        for layer in self.layers:
            for _, part in layer.parts():
                rechecks.settings_fit(part, self.dtype)
        return Plan.assemble(ops, shape, spans[-1][1], self.dtype), spans

    def _bind(self) -> None:
        """Show every layer its views, and Normalize who computes."""
        places: dict[str, Layer] = {}
        for _, part in (part for layer in self.layers for part in layer.parts()):
            part._views.clear()
            if isinstance(part, Normalize):
                part._kernel, part._features = _moments, weakref.WeakMethod(self.features)
            places.setdefault(str(part.index), part)  # a layer, not its activation, whose views are the layer's
        for name, view in self.state.views.items():
            index, _, role = name.rpartition(".")
            places[index].show(role, view)

    def plan_for(self, inputs: int | Shape) -> Plan:
        """The plan, or the one that building for rows of `inputs` values would make."""
        return self._lower(inputs)[0] if self._plan is None else self._plan

    def _note_shape(self, shape: tuple[int, ...]) -> None:
        """The rows that the model was built for or fitted on have this shape. Flat ones say nothing: they may have been
        flattened where others are taken too."""
        if self.row_shape is None and len(shape) > 1:
            self.row_shape = shape

    @property
    def _expected_shape(self) -> tuple[int, ...] | None:
        """What rows of several dimensions must have; None where nothing is known of them."""
        if self.row_shape is not None or self._plan is None or self.takes_any_shape:
            return self.row_shape
        return self._plan.input_shape

    @property
    def _normalizes(self) -> bool:
        return any(isinstance(layer, Normalize) for layer in self.layers)

    @property
    def takes_any_shape(self) -> bool:
        """Whether the model begins by reading rows of any shape in C order: it takes flattened ones, too."""
        return isinstance(self.layers[0], (Flatten, Reshape))

    @property
    def layers(self) -> tuple[Any, ...]:  # Any: which attributes a layer has, its class says
        """The layers, for good."""
        return self._layers

    @property
    def dtype(self) -> np.dtype:
        """What the model computes in. To be set before it is built: ValueError afterwards, if it is another one."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self.set_dtype(dtype)

    def set_dtype(self, dtype: Any) -> None:
        """Compute in another float dtype: before the model is built. ValueError afterwards, if it is another one."""
        wanted = _validate.float_dtype(dtype)
        if self.built and wanted != self.dtype:
            raise ValueError(f"dtype is {wanted}, but the model was built in {self.dtype}")
        self._dtype = wanted

    @property
    def built(self) -> bool:
        """Whether the number of inputs is known, and with it every parameter."""
        return self._plan is not None

    def __copy__(self) -> Sequential:
        """A deep copy: two models cannot share layers, whose views show one model's buffers."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the layers and the buffers; plan and views are made anew around them."""
        kept = dict(self.__dict__)
        del kept["fitting"]
        state = kept.pop("_state")
        kept["_plan"], kept["_spans"], kept["_live"] = None, [], None
        kept["buffers"] = None if state is None else (self.plan.input_shape, Snapshot().take(state))
        kept["of_layers"] = [{name: getattr(layer, name) for name in layer.KEPT} for layer in self.layers]
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        built, of_layers = kept.pop("buffers"), kept.pop("of_layers")
        self.__dict__.update(kept, fitting=FitLock())
        self._place_layers()
        for layer, values in zip(self.layers, of_layers, strict=True):
            vars(layer).update(values)
        self._state = None
        if built is not None:
            self._plan, self._spans = self._lower(built[0])
            self._state = State(self._plan)
            built[1].put_back(self._state)
            self._bind()

    # Checking ---------------------------------------------------------------------------------------------

    def features(self, X: Any, *, name: str = "X") -> Features:
        """X checked against this model: its values once, for `Features`, which were checked, come back as they are."""
        if self._plan is not None and _validate.taken_as_it_is(X, self.dtype, self._plan.input_shape):
            return Features(X.reshape(len(X), -1), self._plan.input_shape, dtype=self.dtype)
        return self._border().features(X, name=name)

    def _border(self) -> Border:
        """What X must be."""
        plan = self._plan
        return Border(
            dtype=self.dtype,
            inputs=None if plan is None else plan.inputs,
            input_shape=None if plan is None else plan.input_shape,
            row_shape=self._expected_shape,
            any_shape=self.takes_any_shape,
            exact=self._normalizes,
            names=None if self.feature_names is None else list(self.feature_names),
            new=self.loss is None,
        )

    def checked(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        loss: str | Loss,
        *,
        dtype: Any = None,
        prefix: str = "",
        advice: str | None = None,
        scaled: bool = False,
    ) -> Data:
        """X, y and their weights checked against each other, this model and the loss; nothing is changed. `Data` in the
        place of X has all three, and was checked.

        dtype: of targets and weights, the model's where it is None. prefix: of the arguments' names in errors. advice:
        what to do, said with a PrecisionWarning, where targets to learn from lose their digits in that dtype; None:
        nothing is learned from them. scaled: their scale is to be learned: they come back in float64, which it is taken
        from.
        """
        loss = losses.get(loss)
        if isinstance(X, Data) and (y is not None or sample_weight is not None):
            raise ValueError(f"{prefix}X is Data, which has its own y and weights, expected no others")
        features = self.features(X, name=f"{prefix}X")
        plan = self.plan_for(features.row_shape)
        rechecks.one_row_of_outputs(plan)
        outputs, wanted = plan.outputs, self.dtype if dtype is None else dtype
        if isinstance(features, Data):
            data = rechecks.taken(features, loss, outputs, self.dtype, wanted, prefix)
            if advice is not None and data.y.ndim == 2 and self.target_scale is None:
                _rounding.warn_of_targets(f"{prefix}y", data.reported_y, self.dtype, advice)
            return self._scaled(data)
        rows = len(features)
        given = _validate.target_numbers(y, name=f"{prefix}y")
        columns = _frames.column_names(y)
        widest = np.dtype(np.float64) if scaled or self.target_scale is not None else wanted
        target = _validate.targets(given, loss, rows, outputs, widest, name=f"{prefix}y", names=columns)
        given_weight = _validate.given_weight(sample_weight, name=f"{prefix}sample_weight")
        weight = _validate.sample_weight(given_weight, rows, wanted, name=f"{prefix}sample_weight")
        if advice is not None and target.ndim == 2 and self.target_scale is None:
            _rounding.warn_of_targets(f"{prefix}y", given, wanted, advice)
        return self._scaled(
            Data(
                *(features.x, features.row_shape, features.names),
                y=target,
                weight=weight,
                given_y=given,
                given_weight=given_weight,
                dtype=features.dtype,
                loss=loss,
            ),
            wanted,
        )

    def _scaled(self, data: Data, dtype: np.dtype | None = None) -> Data:
        """With targets as the network learns them."""
        if self.target_scale is None or data.y.ndim == 1:
            return data
        return self.target_scale.applied(data, self.dtype if dtype is None else dtype)

    # Keeping ----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> None:
        """Put the model into a file, which `fastnn.load` reads: after a crash at any moment the old one or the new.

        It has the layers with their settings, dtype, number of inputs, loss, feature names, and every parameter and
        statistic; not the optimizer's state, without which a fit begins its moments anew (pickle and checkpoints have
        it). `metadata`: a dict of what JSON holds, for the loaded model's `metadata`; None: this model's.

        TypeError or ValueError, before anything is written, for what a file cannot hold: a layer, an initialiser or a
        loss of your own, other metadata, or, with the names of features, over 4 MB and a 16th of the parameters.
        OSError where the file cannot be written.
        """
        header = serialize.header(
            dtype=self.dtype,
            layers=self.layers,
            inputs=self.plan.inputs if self.built else None,
            loss=self.loss if self.loss is None else self._known_loss(),
            row_shape=self.row_shape,
            feature_names=self.feature_names,
            target_scale=None if self.target_scale is None else self.target_scale.config(),
            metadata=self.metadata if metadata is None else metadata,
        )
        if self.built and self._lower(self.plan.input_shape)[0] != self.plan:
            raise ValueError("the model's layers were changed after it was built, expected them as its plan has them")
        if self.built:
            rechecks.loss_fits(self.loss, self.plan)
            rechecks.biases_are_used(self.plan, self.state.views)
        if self.feature_names is not None:
            _text.unique_names(self.feature_names)
        files.write(path, header, self.state.views if self.built else {})

    def to_onnx(self, path: str | os.PathLike[str], *, opset: int = 17, input: str = "float32") -> None:
        """Put what predicts into an ONNX file: docs/onnx.md. opset: 13 to 24; input: the dtype of its rows "X"."""
        from fastnn.serving import onnx

        onnx.write(self.frozen(classes=self.class_names), path, opset=opset, input=input)

    def to_c(
        self, path: Any, *, dtype: str = "float32", name: str = "model", block: int = 64, rows: Any = None
    ) -> None:
        """Write the model as C: `path`, "model.c", model.h and model_test.c beside it: `fastnn.serving.c99.write`."""
        from fastnn.serving import c99

        c99.write(self.frozen(classes=self.class_names), path, dtype=dtype, name=name, block=block, rows=rows)

    # Describing -------------------------------------------------------------------------------------------

    def report(
        self,
        path: str | os.PathLike[str],
        X: Any,
        y: Any,
        *,
        classes: Sequence[Any] | None = None,
        history: Any = None,
        metrics: Metrics | None = None,
        importance: bool = True,
        sample_weight: Any = None,
    ) -> None:
        """Write one HTML page on the model and rows X (n, I) with their targets y: docs/report.md.

        It needs no script and no network.

        classes: what to call them, one name each; None: as in metadata["classes"], or 0, 1, ... history: what
        `Trainer.fit` returned, for its curves; None: those in the file of `fastnn train`. metrics: as in `evaluate`;
        None: some that fit the loss. importance: permutes each feature of up to 1,000 rows five times. sample_weight:
        of the rows, by which all figures weigh them as `evaluate` does.

        NotFittedError before the model is built and has a loss; ImportError without matplotlib, and without
        scikit-learn for the importance; ValueError or TypeError where X, y or another argument does not fit, also where
        the loss over X and y is no number; OSError where the file cannot be written. Then `path` is what it was.

            history = trainer.fit(X, y, validation=0.2)
            model.report("report.html", X_test, y_test, classes=["no", "yes"], history=history)
        """
        from fastnn import report
        from fastnn.nn import reporting

        frozen, loss = self.frozen(), self._known_loss()
        report.check_arguments(path, importance)
        data = self.checked(X, y, sample_weight, loss)
        curves = report.curves.of(self.metadata) if history is None else history
        names = self.class_names if classes is None else classes
        subject = reporting.subject(self, self.layers, data, frozen, name="Sequential", classes=names, history=curves)
        report.write(path, subject, metrics=metrics, importances=importance)

    def summary(self) -> str:
        """A table of the layers with the shapes of their rows and their parameters, as text.

        >>> block = nn.Residual([nn.LayerNorm(), nn.Dense(4, "relu")])
        >>> print(Sequential([nn.Dense(4), block, nn.Dense(2)]).build(3, seed=0).summary())
        layer                     output  parameters
        0  Dense(4)                    4          16
        1  Residual                    4          28
           0  LayerNorm()              4           8
           1  Dense(4, 'relu')         4          20
        2  Dense(2)                    2          10
        total                                     54

        The layers of a Residual have lines below its own, which counts their parameters together.
        """
        return summary.table(self.layers, self.plan)

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}], dtype='{self.dtype}')"


def _moments(*arguments: Any) -> None:
    """The kernel of the backend that is in use."""
    backends.resolve().kernels.moments(*arguments)
