"""Subject: what a report is about, as whoever has a model hands it in; and what the model says of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastnn import _frames
from fastnn.data import Data
from fastnn.formulas.losses import Loss
from fastnn.metrics.answers import classifies, has_probabilities
from fastnn.metrics.definition import Metric
from fastnn.serving.frozen import Frozen

Array = np.ndarray


class Layer(NamedTuple):
    """One layer. depth: how many layers it is within; shape: of the rows that come out."""

    name: str
    depth: int
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Subject:
    """A model, and rows that were checked with their targets.

    name: of its class. score: what the loss and metrics make of data. history: with `plot(axes)`; None: no curves.
    classes: what to call them, None: 0, 1, ...
    """

    name: str
    layers: Sequence[Layer]
    frozen: Frozen
    loss: Loss
    data: Data
    score: Callable[[Data, dict[str, Metric]], dict[str, float]]
    history: Any = None
    classes: Sequence[Any] | None = None

    @property
    def classifies(self) -> bool:
        return classifies(self.loss)

    @property
    def several_labels(self) -> bool:
        """Whether each output is a class by itself."""
        return self.loss.link == "sigmoid" and self.frozen.plan.outputs > 1

    @property
    def class_count(self) -> int:
        outputs = self.frozen.plan.outputs
        if self.frozen.classes is not None:
            return len(self.frozen.classes)  # one, where y had no other
        return 2 if self.loss.link == "sigmoid" and outputs == 1 else outputs

    @property
    def class_names(self) -> list[str]:
        named = range(self.class_count) if self.classes is None else self.classes
        return [str(name) for name in named]

    @property
    def feature_names(self) -> list[str]:
        """Those of a data frame, else the place of each value in its row: x[3], x[0, 3]."""
        names = _frames.given_names(self.data.names) or self.frozen.border.names
        if names is not None:
            return [str(name) for name in names]
        shape = self.frozen.border.row_shape or self.frozen.plan.input_shape
        return [f"x[{', '.join(map(str, place))}]" for place in np.ndindex(*shape)]

    @cached_property
    def weight(self) -> Array | None:
        """(n,) of the rows that follow, float64; None: each counts for 1."""
        given, rows = self.data.reported_weight, self.data.weighing()
        return None if given is None else (given if rows is None else given[rows]).astype(np.float64)

    # What metrics are called with: rows of weight 0 are left out, targets and predictions in the targets' own unit.

    @cached_property
    def values(self) -> tuple[Array, Array]:
        """Targets and predictions (n, O), float64, of a loss of values."""
        y, prediction = self._called_with("values", "prediction")
        return y.reshape(len(y), -1), prediction.reshape(len(prediction), -1)

    @cached_property
    def decided(self) -> tuple[Array, Array]:
        """Classes and predicted ones (n,), or (n, K) of 0 and 1 for several labels."""
        return self._called_with("classes", "prediction")

    @cached_property
    def probabilities(self) -> tuple[Array, Array] | None:
        """Classes (n,) and the probabilities (n,) of class 1 of two, (n, K) of several; None: the loss has none."""
        return self._called_with("classes", "probability") if has_probabilities(self.loss) else None

    def _called_with(self, task: Any, needs: str) -> tuple[Array, Array]:
        kept: list[tuple[Array, Array]] = []

        def keep(y: Array, prediction: Array) -> float:
            kept.append((y, prediction))
            return 0.0

        self.score(self.data, {"kept": Metric(keep, "kept", needs=needs, task=task)})
        return kept[0]
