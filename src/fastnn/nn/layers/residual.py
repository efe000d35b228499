"""Residual: layers, and a way around them. No arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.nn.layers.base import Layer
from fastnn.nn.layers.normalize import Normalize
from fastnn.ops.operation import Shape
from fastnn.plan import Op

_DEEPEST = 32  # what a model file holds


class Residual(Layer):
    """a = layers(x) + x, or layers(x) + shortcut(x) with layers of its own on the way around: He et al. 2016.

    TypeError where something in a list is no layer. ValueError, when the model is built, where the two have rows of
    different shapes to add: `shortcut=[Dense(units)]` is then a projection.

    >>> block = nn.Residual([nn.LayerNorm(), nn.Dense(8, "relu"), nn.Dense(4)])
    >>> fastnn.Sequential([block]).build(4, seed=0).predict(np.zeros((5, 4))).shape
    (5, 4)
    >>> fastnn.Sequential([nn.Residual([nn.Dense(8)])]).build(4, seed=0)
    Traceback (most recent call last):
    ValueError: Residual makes rows of shape (8,) and adds (4,), expected one shape: shortcut=[Dense(8)] would make it
    """

    def __init__(self, layers: Sequence[Layer], *, shortcut: Sequence[Layer] | None = None) -> None:
        super().__init__()
        self.layers = _checked("layers", layers)
        self.shortcut = None if shortcut is None else _checked("shortcut", shortcut)
        self.depth: int = 1 + max((layer.depth for layer in self._within() if isinstance(layer, Residual)), default=0)
        if self.depth > _DEEPEST:
            raise ValueError(f"layers has Residual in Residual {self.depth} deep, expected at most {_DEEPEST}")

    def parts(self) -> list[Layer]:
        within = (part for layer in self._within() for part in layer.parts())
        return [self, *within]

    def place(self, index: int | str) -> None:
        self.index = index
        for position, layer in enumerate(self.layers):
            layer.place(f"{index}.{position}")
        for position, layer in enumerate(self.shortcut or ()):
            layer.place(f"{index}.shortcut{position}")

    def ops(self, inputs: Shape) -> list[Op]:
        body, outputs = _chain(self.layers, inputs)
        made = [Op("fork", inputs, inputs), *body]
        around = inputs
        if self.shortcut is not None:
            shortcut, around = _chain(self.shortcut, inputs)
            made += [Op("turn", outputs, inputs), *shortcut]
        if around != outputs:
            hint = "" if self.shortcut else f": shortcut=[Dense({outputs[-1]})] would make it"
            raise ValueError(f"Residual makes rows of shape {outputs} and adds {around}, expected one shape{hint}")
        return [*made, Op("join", outputs, outputs)]

    def outputs(self, inputs: Shape) -> Shape:
        for layer in self.layers:  # not by way of ops, which would ask those within for theirs at every level
            inputs = layer.outputs(inputs)
        return inputs

    def settings(self) -> str:
        return self._written(repr(list(self.layers)), shortcut=self.shortcut and list(self.shortcut))

    def arguments(self) -> dict[str, Any]:
        return {"layers": list(self.layers), "shortcut": self.shortcut and list(self.shortcut)}

    def _within(self) -> tuple[Layer, ...]:
        return self.layers + (self.shortcut or ())


def _checked(name: str, layers: Any) -> tuple[Layer, ...]:
    if isinstance(layers, Layer) or not isinstance(layers, (list, tuple)):
        raise TypeError(f"{name} is {layers!r}, expected a list of layers")
    if not layers:
        raise ValueError(f"{name} is empty, expected at least one layer")
    for position, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}[{position}] is {layer!r}, expected a layer of fastnn.nn")
        if any(isinstance(part, Normalize) for part in layer.parts()):
            raise ValueError(f"{name}[{position}] is {layer!r}, expected it directly on the data")
    return tuple(layers)


def _chain(layers: Sequence[Layer], inputs: Shape) -> tuple[list[Op], Shape]:
    """The operations of layers one after the other, and the shape of the rows that come out."""
    made: list[Op] = []
    for layer in layers:
        made += layer.ops(inputs)
        inputs = layer.outputs(inputs)
    return made, inputs
