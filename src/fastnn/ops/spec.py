"""Spec: what an operation declares of itself, in words that Python and C++ read alike. No arithmetic.

A field is `name:DIMS`, a letter for each dimension, and `name:DIMS:dtype` where it is not of the plan's dtype. A digit
before a letter multiplies it: "I3O" is (I, 3 O).

    B  rows of the batch            P  positions of a row: 1 for (features,), height * width for an image
    N  B * P                        I, O  channels, the last size of a row, that come in and go out
    F  all values of a row that comes in             G     of one that goes out
    K  places of a kernel: kernel_height * kernel_width, two settings
    J  channels that come in to an output: I / groups, a setting
    V  rows of a table: the setting ids

A call is `inputs -> outputs`, by name, in the order of the function's parameters. Beside the fields that the Spec
declares it may name

    x, a          the input and the output                      z   what the fused activation takes; may be a
    da, dx        gradients of a and of x                       dz  da, where the activation was the operation's own
    dNAME         the gradient of parameter NAME
    activation    the fused activation                          key what random bits depend on
    below, saved  the activation fused into the operation below, and what its derivative is written in
    data, rows    where rows are stored, and which of them come: a source's input
    other, dother the x and the da of the operation that this one is paired with: of the dimensions of a and of x

`out~in` means that out may share the memory of in, `out?` that it may be None: nobody asks for it. `x -> x`: the
output is the input, and nothing is computed. A statistic among the outputs is read and written.

>>> call = Call.parse("x gamma epsilon -> mean a~x")
>>> call.inputs, call.outputs, call.alias, call.passes
(('x', 'gamma', 'epsilon'), ('mean', 'a'), ('a', 'x'), False)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

PHASES = ("rows", "columns", "source")
LETTERS = "BPNIOFGKJV"


class Dim(NamedTuple):
    """One dimension: so many times what the letter stands for."""

    letter: str
    times: int = 1

    def size(self, sizes: Mapping[str, int]) -> int:
        return self.times * sizes[self.letter]


def dimensions(text: str) -> tuple[Dim, ...]:
    """What the DIMS of a field say.

    >>> dimensions("I3O")
    (Dim(letter='I', times=1), Dim(letter='O', times=3))
    """
    made = tuple(Dim(letter, int(times or 1)) for times, letter in re.findall(r"(\d?)(\D)", text))
    assert {dim.letter for dim in made} <= set(LETTERS), text
    return made


class Field(NamedTuple):
    """A tensor or a scratch array: its name, its dimensions, its dtype (None: the plan's)."""

    name: str
    dims: tuple[Dim, ...]
    dtype: np.dtype[Any] | None = None

    @staticmethod
    def parse(text: str) -> Field:
        name, dims, *dtype = text.split(":")
        return Field(name, dimensions(dims), np.dtype(dtype[0]) if dtype else None)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(dim.size(sizes) for dim in self.dims)


class Call(NamedTuple):
    """What a function of an operation takes, by name."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    alias: tuple[str, str] | None = None  # an output, and the input whose memory it may share
    optional: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> Call:
        before, _, after = text.partition("->")
        outputs, alias, optional = [], None, []
        for word in after.split():
            name, _, shared = word.partition("~")
            if name.endswith("?"):
                name = name[:-1]
                optional.append(name)
            if shared:
                alias = (name, shared)
            outputs.append(name)
        return Call(tuple(before.split()), tuple(outputs), alias, tuple(optional))

    @property
    def names(self) -> tuple[str, ...]:
        return self.inputs + self.outputs

    @property
    def passes(self) -> bool:
        """Whether the output is the input."""
        return self.outputs == self.inputs == ("x",)


@dataclass(frozen=True)
class Spec:
    """The declaration of one operation: see the module. Held against the one in csrc/ops when `_native` is imported.

    phase: "rows", whatever rows of the batch a task has; "columns": training goes by columns, each over all rows of the
    batch; "source": the first operation of a plan, which takes rows from where they are stored.
    """

    forward: str
    backward: str = ""
    predict: str = ""  # "": as forward
    params: str = ""
    statistics: str = ""
    settings: str = ""
    scratch: str = ""
    phase: str = "rows"
    x: str = "NO"  # NI where the channels that come in are not those that go out
    a: str = "NO"

    def __post_init__(self) -> None:
        assert self.phase in PHASES
        known = {
            "x",
            "a",
            "z",
            "da",
            "dz",
            "dx",
            "activation",
            "below",
            "saved",
            "key",
            "data",
            "rows",
            "other",
            "dother",
        }
        known |= set(self.fields) | {f"d{field.name}" for field in self.param_fields} | set(self.setting_names)
        for call in self.calls.values():
            assert set(call.names) <= known, (call, known)

    def texts(self) -> dict[str, str]:
        """Its fields, as C++ declares them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def param_fields(self) -> tuple[Field, ...]:
        return tuple(map(Field.parse, self.params.split()))

    @cached_property
    def statistic_fields(self) -> tuple[Field, ...]:
        return tuple(map(Field.parse, self.statistics.split()))

    @cached_property
    def scratch_fields(self) -> tuple[Field, ...]:
        return tuple(map(Field.parse, self.scratch.split()))

    @cached_property
    def setting_names(self) -> tuple[str, ...]:
        return tuple(self.settings.split())

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Every tensor and scratch array by its name."""
        return {field.name: field for field in self.param_fields + self.statistic_fields + self.scratch_fields}

    @cached_property
    def calls(self) -> dict[str, Call]:
        """forward, and backward and predict where they are declared."""
        texts = {"forward": self.forward, "backward": self.backward, "predict": self.predict}
        return {name: Call.parse(text) for name, text in texts.items() if text}

    @cached_property
    def prediction(self) -> Call:
        return self.calls.get("predict", self.calls["forward"])

    @property
    def fuses(self) -> bool:
        """Whether an activation may be part of it."""
        return "activation" in self.calls["forward"].inputs

    @property
    def goes_below(self) -> bool:
        """Whether its backward also multiplies by the derivative of the activation below it."""
        return "backward" in self.calls and "below" in self.calls["backward"].inputs

    def dims(self, name: str) -> tuple[Dim, ...]:
        """The dimensions of an array that a call may name."""
        if name in ("x", "dx", "saved", "dother"):
            return dimensions(self.x)
        if name in ("a", "z", "da", "dz", "other"):
            return dimensions(self.a)
        if name in self.fields:
            return self.fields[name].dims
        return self.fields[name.removeprefix("d")].dims
