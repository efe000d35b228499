"""What metrics are called with: targets as they were passed, predictions made when one asks for them. No formulas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from fastnn.contract import OpKernels
from fastnn.data import Targets
from fastnn.formulas.losses import Loss
from fastnn.metrics.answers import classifies, decide, link, probabilities
from fastnn.metrics.definition import BINARY, LABELS, SEVERAL, Metric
from fastnn.metrics.names import METRICS

Array = np.ndarray


def check(named: Mapping[str, Metric], loss: Loss, outputs: int, data: Iterable[Targets]) -> None:
    """ValueError where a metric is none for a model of so many outputs, or for the targets or weights of these data."""
    for metric in named.values():
        if metric.task == "classes":
            _check_classes(metric, _kind(loss, outputs))
            for part in data:
                _check_rows(metric, part)
        elif metric.task == "values" and outputs > 1 and not metric.columns:
            raise ValueError(f"metric {metric.name} is for one output, but the model has {outputs}")


def _check_classes(metric: Metric, kind: str) -> None:
    if kind not in metric.among:
        bare = metric.name.removesuffix("_score")
        others = [name for name in (bare, f"{bare}_macro") if name in METRICS and kind in METRICS[name].among]
        hint = f": take {others[0]!r}" if others else ""
        expected = " or ".join(metric.among)
        raise ValueError(f"metric {metric.name} is for {expected}, but the model tells {kind} apart{hint}")


def _check_rows(metric: Metric, data: Targets) -> None:
    if metric.needs != "prediction" and data.y.ndim == 2 and not np.isin(data.y, (0, 1)).all():
        raise ValueError(f"metric {metric.name} is for rows of one class each, but y has shares between 0 and 1")
    if not metric.weights and data.weight is not None and metric.name.startswith("roc_auc_ovo"):
        raise ValueError(f"metric {metric.name} takes no sample_weight, expected none, or roc_auc_ovr in its place")


def _kind(loss: Loss, outputs: int) -> str:
    if loss.link == "sigmoid":
        return BINARY if outputs == 1 else LABELS
    return BINARY if outputs == 2 else SEVERAL


def measure(
    named: Mapping[str, Metric],
    loss: Loss,
    z: Array,
    output: Array | None,
    targets: Targets,
    kernels: Mapping[str, OpKernels],
) -> dict[str, float]:
    """What the metrics make of rows whose logits are z (B, O).

    output: what the model's `predict` gives where that is not z: it ends with the loss's own activation. kernels: the
    backend's, which make probabilities as `predict_proba` does.
    """
    if not named:
        return {}
    rows = _Rows(loss, z, output, targets, kernels)
    return {name: metric(*rows.arguments(metric), rows.weight) for name, metric in named.items()}


class _Rows:
    """Targets, predictions and weights of the rows whose weight is not 0."""

    def __init__(
        self, loss: Loss, z: Array, output: Array | None, targets: Targets, kernels: Mapping[str, OpKernels]
    ) -> None:
        self._kernels = kernels
        rows, weight = targets.weighing(), targets.reported_weight
        self._taken: Any = slice(None) if rows is None else rows
        self._loss, self._targets, self._ends = loss, targets, output is not None
        self._z: Array = z[self._taken]
        self._output = self._z if output is None else output[self._taken]
        self.weight = None if weight is None else weight[self._taken].astype(np.float64)

    def arguments(self, metric: Metric) -> tuple[Array, Array]:
        """y and the prediction as the metric wants them."""
        if metric.task == "values":
            return _column(self._values), _column(self._rates)
        if metric.task == "classes":
            return self._classes, self._probability if metric.needs == "probability" else self._decided
        y = self._given[:]
        y.flags.writeable = False  # it may be the caller's own array
        if metric.needs == "predict_proba":
            return y, self._probabilities.copy()
        answer = self._decided if classifies(self._loss) else self._predictions
        if metric.needs == "probability":
            answer = self._probability
        return y, np.array(answer.reshape(y.shape) if answer.size == y.size else answer)

    # Targets ----------------------------------------------------------------------------------------------

    @cached_property
    def _given(self) -> Array:
        """As they were passed, floats as float64."""
        y: Array = self._targets.reported_y[self._taken]
        return y.astype(np.float64, copy=False) if y.dtype.kind == "f" else y

    @cached_property
    def _values(self) -> Array:
        """(n, O) in float64."""
        return self._given.astype(np.float64, copy=False).reshape(len(self._given), -1)

    @cached_property
    def _classes(self) -> Array:
        """(n,) the numbers of classes, of shares the largest; (n, O) of 0 and 1 for several labels."""
        y: Array = self._targets.y[self._taken]
        if y.ndim == 1:
            return y
        if self._loss.link != "sigmoid":
            largest: Array = y.argmax(axis=1)
            return largest
        return _column((y > 0.5).astype(np.int64))

    # Predictions ------------------------------------------------------------------------------------------

    @cached_property
    def _decided(self) -> Array:
        return decide(self._loss, self._z)

    @cached_property
    def _probabilities(self) -> Array:
        return probabilities(self._loss, self._z, self._kernels)

    @cached_property
    def _probability(self) -> Array:
        """As scikit-learn's scorers have it: of two classes that of class 1."""
        p = self._probabilities
        return p[:, 1] if _kind(self._loss, self._z.shape[1]) == BINARY else p

    @cached_property
    def _predictions(self) -> Array:
        """What `predict` gives, (n, O) in float64."""
        return self._output.astype(np.float64)

    @cached_property
    def _rates(self) -> Array:
        """Values in the targets' unit: under poisson the rates, also where the model ends with their logarithms."""
        if self._loss.link is None or self._ends:
            return self._predictions
        return link(self._loss, self._predictions)


def _column(array: Array) -> Array:
    """(n,) where there is one output."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
