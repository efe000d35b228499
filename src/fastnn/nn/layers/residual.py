"""Residual: layers, and a way around them. No arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.nn.layers.base import Layer, chain
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
    ValueError: layers[0] (Residual): layers make rows of shape (8,), to which rows of shape (4,) are added, expected
    one shape: shortcut=[Dense(8)] would make it
    """

    def __init__(self, layers: Sequence[Layer], *, shortcut: Sequence[Layer] | None = None) -> None:
        super().__init__()
        self.layers = _checked("layers", layers)
        self.shortcut = None if shortcut is None else _checked("shortcut", shortcut)
        within = (layer.depth for layer in (*self.layers, *(self.shortcut or ())) if isinstance(layer, Residual))
        self.depth: int = 1 + max(within, default=0)
        if self.depth > _DEEPEST:
            raise ValueError(f"layers has Residual in Residual {self.depth} deep, expected at most {_DEEPEST}")

    def chains(self) -> dict[str, tuple[Layer, ...]]:
        return {"layers": self.layers, "shortcut": self.shortcut or ()}

    def ops(self, inputs: Shape) -> list[Op]:
        body, spans = chain(self.layers, inputs)
        outputs = spans[-1][1]
        made = [Op("fork", inputs, inputs), *body]
        around = inputs
        if self.shortcut is not None:
            shortcut, spans = chain(self.shortcut, inputs)
            around = spans[-1][1]
            made += [Op("turn", outputs, inputs), *shortcut]
        if around != outputs:
            hint = "" if self.shortcut else f": shortcut=[Dense({outputs[-1]})] would make it"
            raise ValueError(
                f"layers make rows of shape {outputs}, to which rows of shape {around} are added, expected one shape"
                f"{hint}"
            )
        return [*made, Op("join", outputs, outputs)]

    def outputs(self, inputs: Shape) -> Shape:
        for layer in self.layers:  # not by way of ops, which would ask those within for theirs at every level
            inputs = layer.outputs(inputs)
        return inputs

    def settings(self) -> str:
        return self._written(repr(list(self.layers)), shortcut=self.shortcut and list(self.shortcut))

    def arguments(self) -> dict[str, Any]:
        return {"layers": list(self.layers), "shortcut": self.shortcut and list(self.shortcut)}


def _checked(name: str, layers: Any) -> tuple[Layer, ...]:
    if isinstance(layers, Layer) or not isinstance(layers, (list, tuple)):
        raise TypeError(f"{name} of Residual is {layers!r}, expected a list of layers")
    if not layers:
        raise ValueError(f"{name} of Residual is empty, expected at least one layer")
    for position, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}[{position}] of Residual is {layer!r}, expected a layer of fastnn.nn")
        if any(part.FIRST for _, part in layer.parts()):
            raise ValueError(f"{name}[{position}] of Residual is {layer!r}, expected it directly on the data")
    return tuple(layers)
