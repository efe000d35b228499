"""Answers: what a built model says of rows, and how good that is. The base of Sequential; it knows no layers."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fastnn import backends
from fastnn.contract import Backend
from fastnn.data import Data, Features
from fastnn.errors import NotFittedError
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.metrics import Metric, Metrics, decide, named_metrics, probabilities
from fastnn.metrics import check as check_metrics
from fastnn.nn import class_names, rechecks, scoring
from fastnn.nn.target_scale import TargetScale
from fastnn.plan import Plan, State
from fastnn.serving import Frozen, Predictor, int8
from fastnn.serving.border import Border
from fastnn.serving.live import Live
from fastnn.serving.overflow import warn_of_overflow

Array = np.ndarray


class Answers:
    """Predictions and scores of a model. What raises NotImplementedError here is Sequential's, declared for mypy."""

    loss: Loss | None
    target_scale: TargetScale | None
    metadata: dict[str, Any]
    _plan: Plan | None
    _state: State | None
    _live: Live | None  # what answered the last `predict`

    # What the model has -----------------------------------------------------------------------------------

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

    def features(self, X: Any, *, name: str = "X") -> Features:
        """X checked against this model."""
        raise NotImplementedError

    def checked(self, X: Any, y: Any, sample_weight: Any, loss: str | Loss) -> Data:
        """X, y and their weights, checked against each other."""
        raise NotImplementedError

    def _border(self) -> Border:
        """What X must be."""
        raise NotImplementedError

    # Predicting -------------------------------------------------------------------------------------------

    def predict(self, X: Any, *, backend: str | Backend | None = None) -> Array:
        """The last layer's output for every row: X (B, I) -> (B, O), or (B, ..., O) where its rows have positions, in
        the model's dtype; in float64 where a Trainer has scaled the targets.

        NotFittedError before the model is built; ValueError or TypeError where X does not fit it.
        """
        chosen, live = backends.resolve(backend), self._live
        if live is None or not live.of(self._state, self.target_scale, self.loss is None, chosen):
            live = self._live = self._made_live(chosen)
        return live.call(X)

    def _made_live(self, backend: Backend) -> Live:
        """What answers `predict` until the model is another one."""
        view = Frozen(self.plan, self.state, self._border(), scaling=self._scaling)
        return Live(view, self.target_scale, backend, weakref.WeakMethod(self._predict_rows))

    def _predict_rows(self, X: Any, backend: Backend) -> Array:
        """`predict`, whatever X is."""
        plan = self.plan
        out = self._walk(plan, self.features(X), backend)
        warn_of_overflow(out, plan)
        if self.target_scale is not None:
            out = self.target_scale.undone(out)
        return out if len(plan.output_shape) == 1 else out.reshape(len(out), *plan.output_shape)

    def predict_proba(self, X: Any, *, backend: str | Backend | None = None) -> Array:
        """Probabilities (B, O) under the loss the model was trained with: each row's softmax or each value's
        sigmoid. One column z of a sigmoid becomes two, as scikit-learn has it: sigmoid(-z) and sigmoid(z), each with
        all its digits (1 - p would have none left from z = 17 on in float32, where p rounds to 1).

        ValueError where that loss is not a cross-entropy, or the model's rows still have positions.

        >>> model = Sequential([nn.Dense(1, init=1.0)]).build(1, seed=0)
        >>> model.loss = nn.LOSSES["binary_cross_entropy"]
        >>> print(model.predict_proba([[20.0]]))
        [[2.0611537e-09 1.0000000e+00]]
        """
        loss = self._known_loss()
        if loss.link not in ("softmax", "sigmoid"):
            raise ValueError(f"this model was trained with {loss}, expected a cross-entropy for probabilities")
        chosen = backends.resolve(backend)
        return probabilities(loss, self._logits(X, chosen), chosen.kernels.ops)

    def predict_class(self, X: Any, *, backend: str | Backend | None = None) -> Array:
        """Class indices (B,) int64 of the largest output; of a sigmoid (B,), or (B, O) of 0 and 1 for O > 1."""
        return decide(self._known_loss(), self._logits(X, backend))

    def evaluate(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        metrics: Metrics = (),
        backend: str | Backend | None = None,
    ) -> dict[str, float]:
        """The loss and the metrics over rows X (B, I) with targets y: {"loss": ..., "accuracy": ...}.

        The loss is sum(weight * loss) / sum(weight) over the rows, without penalties, in float64 from y as it was
        passed; a row of weight 0 is as if it were not there. metrics: a list, or a dict by the names they shall have,
        of names of `fastnn.METRICS`, functions of (y, prediction), whose prediction is `predict_class` for
        cross-entropies and hinge, else `predict`, and what `fastnn.metric` makes.

        >>> model = Sequential([nn.Dense(2)]).build(3, seed=0)
        >>> model.loss = nn.LOSSES["cross_entropy"]
        >>> sorted(model.evaluate(np.eye(3), [0, 1, 0], metrics=["accuracy"]))
        ['accuracy', 'loss']
        """
        if self._plan is None:
            raise _not_built()
        loss = self._known_loss()
        named = named_metrics(metrics, loss)
        data = self.checked(X, y, sample_weight, loss)
        check_metrics(named, loss, self._plan.outputs, [data])
        return self.score(data, named, backend)

    def score(
        self, data: Data | Iterable[Data], metrics: dict[str, Metric], backend: str | Backend | None = None
    ) -> dict[str, float]:
        """`evaluate` on data that was checked, or batches of them, with what `named_metrics` made of the metrics."""
        chosen, undone = backends.resolve(backend), None if self.target_scale is None else self.target_scale.undone
        parts = [data] if isinstance(data, Data) else data
        walk = partial(self._walk, backend=chosen)
        return scoring.score(chosen, self.plan, walk, self._known_loss(), parts, metrics, undone)

    def _logits(self, X: Any, backend: str | Backend | None) -> Array:
        plan = self.plan
        rechecks.one_row_of_outputs(plan)
        z = self._walk(replace(plan, ops=plan.training_ops(self._known_loss())), self.features(X), backend)
        warn_of_overflow(z, plan)
        return z

    def _walk(self, plan: Plan, features: Features, backend: str | Backend | None) -> Array:
        """What the plan's last operation makes of these rows (n, O)."""
        out = np.empty((len(features), plan.outputs), dtype=plan.dtype)
        chosen = backends.resolve(backend)
        chosen.predict(plan, self.state, features.x, out)
        return out

    def _known_loss(self) -> Loss:
        if self.loss is None:
            raise NotFittedError("this model has no loss yet: fit it with a Trainer, or set model.loss")
        return self.loss

    def frozen(self, *, classes: Array | None = None, end: Activation | None = None) -> Frozen:
        """What predicts, with arrays of its own: what `predictor` reads. classes: what the outputs stand for.
        end: an activation behind the last layer.

        NotFittedError before the model is built.
        """
        return Frozen.of(
            self.plan, self.state, self._border(), self.loss, scaling=self._scaling, classes=classes, end=end
        )

    @property
    def class_names(self) -> Array | None:
        """What exporters call the classes: `metadata["classes"]` where it is a list of as many names; else None."""
        return class_names.class_names(self.metadata, self.plan, self.loss)

    @property
    def _scaling(self) -> tuple[tuple[float, ...], float] | None:
        scale = self.target_scale
        return None if scale is None else (scale.shift, scale.scale)

    def predictor(self, *, backend: str | Backend | None = None, dtype: str | None = None) -> Predictor:
        """A function of a row, or of rows, that this model is now: `p(x)` takes (I,) and gives (O,), see
        `fastnn.serving.Predictor`.

        dtype: "int8" multiplies bytes in dense layers, smaller and faster, and not to the same bits: an
        `fastnn.serving.Int8Predictor`, whose `compare(X)` says what that changes. None: as the model computes.

        NotFittedError before the model is built; ValueError for another dtype, or a model that int8 is not for.
        """
        made: Predictor = int8.predictor(self.frozen(), backend, dtype)  # or what is one to isinstance
        return made


def _not_built() -> NotFittedError:
    return NotFittedError("this model is not built yet: fit it with a Trainer, or call model.build(inputs)")
