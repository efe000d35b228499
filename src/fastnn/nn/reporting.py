"""A model's report: what `fastnn.report` needs of it. Draws and measures nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import report
from fastnn.data import Data
from fastnn.nn import summary
from fastnn.nn.answers import Answers
from fastnn.nn.layers.base import Layer
from fastnn.serving import Frozen


def subject(
    model: Answers, layers: Sequence[Layer], data: Data, frozen: Frozen, *, name: str, classes: Any, history: Any
) -> report.Subject:
    """What there is to say of the model of these layers and the data it was checked against."""
    lines = summary.lines(layers, model.plan)
    rows = [report.Layer(f"{line.label}  {line.name}", line.depth, line.outputs, line.parameters) for line in lines]
    loss = data.loss if model.loss is None else model.loss
    return report.Subject(name, rows, frozen, loss, data, model.score, classes=classes, history=history)
