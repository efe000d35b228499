"""Embedding: ids as rows of a learned table. No arithmetic."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fastnn import _validate
from fastnn.formulas import initializers
from fastnn.formulas.initializers import Initializer
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op, Penalty

Array = np.ndarray


class Embedding(Layer):
    """a_t = row x_t of a learned table, for rows of whole numbers from 0 to ids - 1: (steps,) become (steps, units).

    Only directly on the data, whose ids may be of any dtype. `padding_id`: one that stands for nothing, such as what
    fills short rows up: it is 0 in all channels, and learns nothing. `init` is of the table (None: N(0, 1), as in
    PyTorch); `l1`, `l2` and `decay` penalise it. A float32 model tells 2^24 ids apart.

    ValueError names row and column of what is no id.

    >>> model = fastnn.Sequential([nn.Embedding(100, 8), nn.GRU(4)]).build(20, seed=0)
    >>> model.predict(np.full((5, 20), 99)).shape
    (5, 4)
    """

    DISPENSABLE = ("init",)
    FIRST: ClassVar = True

    def __init__(
        self,
        ids: int,
        units: int,
        padding_id: int | None = None,
        *,
        init: str | Initializer | float | None = None,
        l1: float | None = None,
        l2: float | None = None,
        decay: float | None = None,
    ) -> None:
        super().__init__()
        self.ids, self.units = _validate.integer("ids", ids), _validate.integer("units", units)
        self.padding_id = None if padding_id is None else _validate.integer("padding_id", padding_id, low=0)
        if self.padding_id is not None and self.padding_id >= self.ids:
            raise ValueError(f"padding_id is {padding_id!r}, expected one of the ids, 0 to {self.ids - 1}")
        self.init = None if init is None else initializers.get(init)
        self.l1, self.l2, self.decay = (
            None if value is None else _validate.number(name, value, low=0.0)
            for name, value in (("l1", l1), ("l2", l2), ("decay", decay))
        )

    @property
    def weight(self) -> Array:
        """(ids, units), live: the table."""
        return self._view("weight")

    @property
    def penalty(self) -> Penalty:
        """Of the table."""
        return Penalty(self.l1, self.l2, self.decay)

    def ops(self, inputs: Shape) -> list[Op]:
        if len(inputs) != 1:
            raise ValueError(f"takes rows of shape (steps,), an id a step, but they have shape {inputs}")
        shape = (self.ids, self.units)
        table = self._tensor("weight", shape, self._draw, penalty=self.penalty)
        padding = -1 if self.padding_id is None else self.padding_id
        settings = {"ids": float(self.ids), "padding": float(padding)}
        source = Op("ids", inputs, inputs, settings={"count": float(self.ids)})
        return [source, Op("embedding", inputs, (*inputs, self.units), {"w": table}, settings=settings)]

    def check_dtype(self, dtype: np.dtype) -> None:
        most = int(2.0 / np.finfo(dtype).eps)
        if self.ids > most:
            raise ValueError(f"ids of {self.where} is {self.ids}, expected at most {most}, which {dtype} tells apart")

    def _draw(self, rng: np.random.Generator) -> Array:
        init = initializers.Normal(1.0) if self.init is None else self.init
        drawn = init.draw(rng, (self.ids, self.units), self.ids, self.units)
        if self.padding_id is not None:
            drawn[self.padding_id] = 0.0
        return drawn

    def settings(self) -> str:
        given = self.arguments()
        given["init"] = initializers.name_of(self.init)
        return self._written(repr(given.pop("ids")), repr(given.pop("units")), **given)
