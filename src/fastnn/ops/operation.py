"""Operation: the base of what a plan is made of. Each is one file: its Spec, its shapes, its formulas in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from fastnn.ops.spec import Spec

Array = np.ndarray
NONE: Mapping[str, float] = MappingProxyType({})
Shape = tuple[int, ...]  # of a row: (features,), (length, channels) or (height, width, channels)


class Operation:
    """One kind of operation: never made, only named. Its functions are the numpy backend's kernels, and the oracle of
    all others: they take arrays of the dimensions that the Spec says, and write into their outputs."""

    spec: ClassVar[Spec]
    link: ClassVar[str | None] = None  # the activation of a loss that it is all of: softmax
    bracket: ClassVar[str] = ""  # "opens", "turns" or "closes" a skip: see plan.pair
    forward: Callable[..., None]
    backward: Callable[..., None]

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    @classmethod
    def summary(cls) -> str:
        """The first paragraph of its docstring, on one line."""
        assert cls.__doc__, f"operation {cls.name()} does not say what it computes"
        return " ".join(cls.__doc__.split("\n\n")[0].split())

    @classmethod
    def function(cls, name: str) -> Callable[..., None] | None:
        """forward, backward or predict: None where the output is the input, or there is none."""
        spec = cls.spec
        call = spec.prediction if name == "predict" else spec.calls.get(name)
        if call is None or call.passes:
            return None
        made: Callable[..., None] = getattr(cls, name if name in spec.calls else "forward")
        return made

    @classmethod
    def keeps_z(cls) -> bool:
        """Whether an activation that follows may become part of it."""
        return "z" in cls.spec.calls["forward"].outputs

    @staticmethod
    def fits(inputs: Shape, outputs: Shape, settings: Mapping[str, float]) -> bool:
        """Whether rows of these shapes may go in and out. Asked where the Spec lets them differ (x is not NO)."""
        return inputs[:-1] == outputs[:-1]


def sizes(inputs: Shape, outputs: Shape, rows: int, settings: Mapping[str, float] = NONE) -> Mapping[str, int]:
    """What the letters of a Spec stand for."""
    positions = math.prod(outputs[:-1])
    channels = {"I": inputs[-1], "O": outputs[-1]}
    values = {"F": math.prod(inputs), "G": math.prod(outputs)}
    places = int(settings.get("kernel_height", 1) * settings.get("kernel_width", 1))
    others = {"K": places, "J": inputs[-1] // int(settings.get("groups", 1)), "V": int(settings.get("ids", 0))}
    return {"B": rows, "P": positions, "N": rows * positions} | channels | values | others
