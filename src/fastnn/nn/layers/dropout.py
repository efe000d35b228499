"""Dropout: values left out at random, in training."""

from __future__ import annotations

from fastnn import _validate
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op


class Dropout(Layer):
    """Inverted dropout: each value is 0 with probability rate, else divided by 1 - rate; nothing in inference.

    Srivastava et al. 2014. The bits depend on seed, step, layer and position alone: every backend and any
    number of threads drops the same values.
    """

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = _validate.number("rate", rate, low=0.0, high=1.0, open_high=True)

    def ops(self, inputs: Shape) -> list[Op]:
        return [Op("dropout", inputs, inputs, settings={"rate": self.rate})] if self.rate else []

    def settings(self) -> str:
        return repr(self.rate)
