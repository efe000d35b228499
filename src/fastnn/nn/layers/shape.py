"""Flatten, Reshape: the same values, read as rows of another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastnn import _validate
from fastnn._text import short
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op


class Flatten(Layer):
    """Rows of any shape (B, d1, d2, ...) read in C order as (B, d1 d2 ...).

    >>> model = fastnn.Sequential([nn.Flatten(), nn.Dense(2)]).build((28, 28), seed=0)
    >>> model.predict(np.zeros((5, 28, 28))).shape, model.predict(np.zeros((5, 784))).shape
    ((5, 2), (5, 2))

    As the first layer it takes rows that were flattened before, too. The model keeps the shape that it was built with
    or first fitted on, and refuses rows of another shape with as many values, such as channels first instead of last:

    >>> model.predict(np.zeros((5, 14, 56)))
    Traceback (most recent call last):
    ValueError: X has rows of shape (14, 56), but this model was built with rows of shape (28, 28)
    """

    def ops(self, inputs: Shape) -> list[Op]:
        return []  # a row is contiguous, whatever its shape

    def outputs(self, inputs: Shape) -> Shape:
        return (math.prod(inputs),)


class Reshape(Layer):
    """Rows read in C order as rows of another shape: (features,), (length, channels) or (height, width, channels).

    One size may be -1: what is left over. ValueError where the sizes are not those of the rows that come in. As the
    first layer it takes rows of any shape with as many values, as Flatten does.

    >>> fastnn.Sequential([nn.Reshape((4, -1)), nn.Dense(3)]).build(8, seed=0).predict(np.zeros((5, 8))).shape
    (5, 4, 3)
    """

    def __init__(self, shape: int | Sequence[int]) -> None:
        super().__init__()
        also = ", three at most, of which one may be -1"
        self.shape = _validate.sizes("shape", shape, low=-1, also=also)
        if not 1 <= len(self.shape) <= 3 or 0 in self.shape or self.shape.count(-1) > 1:
            raise ValueError(f"shape is {short(shape)}, expected an integer >= 1 or several{also}")

    def ops(self, inputs: Shape) -> list[Op]:
        self.outputs(inputs)
        return []

    def outputs(self, inputs: Shape) -> Shape:
        known, values = math.prod(size for size in self.shape if size != -1), math.prod(inputs)
        if values % known or (-1 not in self.shape and values != known):
            raise ValueError(
                f"shape is {short(self.shape)}, expected sizes for the {values} values of rows of shape {inputs}"
            )
        return tuple(values // known if size == -1 else size for size in self.shape)

    def settings(self) -> str:
        return repr(self.shape)
