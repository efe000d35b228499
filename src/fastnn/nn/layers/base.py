"""Layer: what each learns, its settings, and the operations it becomes. No arithmetic.

A layer is a declaration until a model is built from it; then `layer.weight` and its like are live numpy views
of the model's parameters: what an optimizer changes is seen there at once, and writing into them changes the
model.
"""

from __future__ import annotations

import copy
import inspect
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import _hints
from fastnn.ops.operation import Shape
from fastnn.plan import FREE, Op, Penalty, Tensor

Array = np.ndarray


class Layer:
    """Base of all layers. `index` is the layer's place in its model, "2.0" that of the first layer within the third;
    its views appear when that is built. From when it has a place on, its settings stay what they are. A copy of a layer
    (copy.copy, copy.deepcopy, pickle) is a new one with these settings, which no model has. One whose model is gone is
    free again: in another model it begins anew, as a copy does.

    >>> layer = fastnn.Sequential([nn.Dense(4, "relu")]).build(3, seed=0).layers[0]
    >>> fastnn.Sequential([copy.deepcopy(layer), nn.Dense(1)])
    Sequential([Dense(4, 'relu'), Dense(1)], dtype='float32')
    """

    KEPT: ClassVar[dict[str, Any]] = {}  # what a fit sets, first values: a model's files and copies have it
    FIRST: ClassVar[bool] = False  # whether it takes the data themselves, only Flatten being before it
    DISPENSABLE: ClassVar[tuple[str, ...]] = ()  # settings that a built model can do without: they may become None
    index: int | str | None = None
    _model: weakref.ref[Any] | None = None  # which has this layer; place and views outlive it

    def __init_subclass__(cls) -> None:
        instead = "operations from its `ops`: a function of values is nn.activation's"
        _hints.refuse_methods(cls, ("forward", "call", "__call__", "backward"), instead)
        if "__init__" in vars(cls):  # of every layer, without a decorator on each
            cls.__init__ = _hints.arguments(_hints.LAYER)(cls.__init__)  # type: ignore[method-assign]

    def __init__(self) -> None:
        self._views: dict[str, Array] = {}

    def __copy__(self) -> Layer:
        """A deep copy: the layers within this one have their place here."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """The settings. Place, views and what a fit set are the model's, which puts them back into its own copies."""
        own = {name: value for name, value in self.__dict__.items() if name not in ("index", "_model")}
        return own | {"_views": {}} | self.KEPT

    def __setattr__(self, name: str, value: Any) -> None:
        """AttributeError where it would be without effect: for a setting once the layer has a place in a model, whose
        plan is made of it, and for a view."""
        views = self.__dict__.get("_views", {})
        if name in views:
            if value is not views[name]:  # as in layer.weight *= 2, which has written into it
                raise AttributeError(
                    f"{name} of {self.where} is a live view of the model, expected values written into it: "
                    f"{name}[...] = values"
                )
        elif name in _hints.FREEZING:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: {_hints.FREEZING[name]}")
        elif self.taken and self._fixed(name, value):
            raise AttributeError(
                f"{name} of {self.where} is {getattr(self, name, None)!r} and stays so, because the layer is part of a "
                f"model: expected a new layer in a new model"
            )
        else:
            super().__setattr__(name, value)

    def _fixed(self, name: str, value: Any) -> bool:
        dispensed = value is None and name in self.DISPENSABLE
        return not name.startswith("_") and name in inspect.signature(type(self)).parameters and not dispensed

    def ops(self, inputs: Shape) -> list[Op]:
        """The operations of this layer for rows of shape `inputs`: (features,), (length, channels) or (height, width,
        channels). ValueError where it cannot take them."""
        raise NotImplementedError

    def outputs(self, inputs: Shape) -> Shape:
        """The shape of the rows that come out for rows of shape `inputs`."""
        made = self.ops(inputs)
        return made[-1].outputs if made else inputs

    def chains(self) -> dict[str, tuple[Layer, ...]]:
        """The layers that are arguments of this one, as lists by the arguments' names."""
        return {}

    def parts(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """The layer, whose path is given, and those within it, with theirs: "layers[1].shortcut[0]"."""
        yield path, self
        follow = getattr(self, "activation", None)
        if isinstance(follow, Layer):
            yield f"{path}.activation", follow
        for name, layers in self.chains().items():
            for position, layer in enumerate(layers):
                yield from layer.parts(f"{path}.{name}[{position}]")

    @property
    def taken(self) -> bool:
        """Whether a model that is there has this layer."""
        return self._model is not None and self._model() is not None

    def place(self, index: int | str, model: Any) -> None:
        """Take this place in a model. The layer that is its activation shares it."""
        if self.index is not None:  # of a model that is gone
            vars(self).update(self.KEPT, _views={})
        self.index, self._model = index, weakref.ref(model)
        follow = getattr(self, "activation", None)
        if isinstance(follow, Layer):
            follow.place(index, model)
        for name, layers in self.chains().items():
            for position, layer in enumerate(layers):
                layer.place(f"{index}.{name.removeprefix('layers')}{position}", model)

    @property
    def where(self) -> str:
        """What errors call it: the path to it and its class, "layers[1].layers[2] (Dense)"."""
        kind = type(self).__name__
        return kind if self.index is None else f"{_path(self.index)} ({kind})"

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

    def check_dtype(self, dtype: np.dtype) -> None:
        """ValueError where a model of that dtype cannot have the layer's settings."""

    def show(self, role: str, view: Array) -> None:
        """The view of that tensor of the model, now that it is built."""
        self._views[role] = view

    def _view(self, role: str) -> Array:
        if role not in self._views:
            raise AttributeError(f"this {type(self).__name__} has no {role} yet: fit its model, or call model.build")
        return self._views[role]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings()})"


def _path(index: int | str) -> str:
    """What leads to a layer from its model: of "1.2.shortcut0" it is layers[1].layers[2].shortcut[0]."""
    return re.sub(r"([a-z]*)(\d+)", lambda step: f"{step[1] or 'layers'}[{step[2]}]", str(index))


def chain(layers: Sequence[Layer], inputs: Shape) -> tuple[list[Op], list[tuple[Shape, Shape]]]:
    """The operations of layers one after the other, and the shapes of the rows into and out of each.

    ValueError names the layer that cannot take its rows: of layers within layers the innermost.
    """
    made: list[Op] = []
    spans: list[tuple[Shape, Shape]] = []
    rows = inputs
    for layer in layers:
        try:
            made += layer.ops(rows)
            spans.append((rows, layer.outputs(rows)))
        except ValueError as error:
            assert layer.index is not None
            if str(error).startswith(_path(layer.index)):  # one within it said so
                raise
            raise ValueError(f"{layer.where}: {error}") from error
        rows = spans[-1][1]
    return made, spans
