"""Layer: what each learns, its settings, and the operations it becomes. No arithmetic.

A layer is a declaration until a model is built from it; then `layer.weight` and its like are live numpy views
of the model's parameters: what an optimizer changes is seen there at once, and writing into them changes the
model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastnn.ops.operation import Shape
from fastnn.plan import FREE, Op, Penalty, Tensor

Array = np.ndarray


class Layer:
    """Base of all layers. `index` is the layer's place in its model, "2.0" that of the first layer within the third;
    its views appear when that is built."""

    KEPT: ClassVar[tuple[str, ...]] = ()  # attributes that a fit sets, beside the tensors: a model file has them too
    index: int | str | None = None

    def __init__(self) -> None:
        self._views: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_views": {}}  # a copy gets views of its own model's buffers, or none

    def ops(self, inputs: Shape) -> list[Op]:
        """The operations of this layer for rows of shape `inputs`: (features,), (length, channels) or (height, width,
        channels). ValueError where it cannot take them."""
        raise NotImplementedError

    def outputs(self, inputs: Shape) -> Shape:
        """The shape of the rows that come out for rows of shape `inputs`."""
        made = self.ops(inputs)
        return made[-1].outputs if made else inputs

    def parts(self) -> list[Layer]:
        """The layer, and those within it: the one that is its activation shares its place."""
        follow = getattr(self, "activation", None)
        return [self, follow] if isinstance(follow, Layer) else [self]

    def place(self, index: int | str) -> None:
        """Take this place in a model."""
        for part in self.parts():
            part.index = index

    def settings(self) -> str:
        """The layer's arguments as they are written, for its repr: those that say most, and what differs from the
        defaults. Nothing is rounded, and `eval` makes the same layer of it with the names of `fastnn.nn`."""
        return self._written(**self.arguments())

    def _written(self, *first: str, **named: Any) -> str:
        """The arguments written in first, and those named here that differ from the default."""
        known = inspect.signature(type(self)).parameters
        changed = (name for name, value in named.items() if value != known[name].default)
        return ", ".join([*first, *(f"{name}={named[name]!r}" for name in changed)])

    def arguments(self) -> dict[str, Any]:
        """What to call the class with to get such a layer: the attributes that are called like the arguments.

        >>> nn.RReLU(0.1, 0.3).arguments()
        {'lower': 0.1, 'upper': 0.3}
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def _tensor(
        self,
        role: str,
        shape: tuple[int, ...],
        initial: Callable[[np.random.Generator], Array | float],
        *,
        trainable: bool = True,
        scaling: bool = False,
        penalty: Penalty = FREE,
    ) -> Tensor:
        assert self.index is not None
        return Tensor(f"{self.index}.{role}", shape, initial, trainable, scaling, penalty)

    def _view(self, role: str) -> Array:
        if role not in self._views:
            raise AttributeError(f"this {type(self).__name__} has no {role} yet: fit its model, or call model.build")
        return self._views[role]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings()})"
