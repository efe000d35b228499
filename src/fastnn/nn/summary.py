"""A model's layers as a table of text: names, shapes of the rows that come out, parameters. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Plan


class Line(NamedTuple):
    """One layer. `parameters` are those that training changes, of the layer and all within it."""

    name: str
    outputs: str
    parameters: int


def table(layers: Sequence[Layer], plan: Plan) -> str:
    """A line for each layer, those of layers within layers indented below theirs, and the total."""
    counts: Counter[str] = Counter()
    for tensor in plan.tensors:
        counts[tensor.name.rpartition(".")[0]] += tensor.size if tensor.trainable else 0
    lines = [*_lines(layers, plan.input_shape, counts), Line("total", "", sum(counts.values()))]
    name = max(25, *(len(line.name) for line in lines))
    outputs = max(6, *(len(line.outputs) for line in lines))
    head = f"{'layer':<{name}} {'output':>{outputs}}  {'parameters':>10}"
    return "\n".join([head, *(f"{n:<{name}} {o:>{outputs}}  {p:>10,}" for n, o, p in lines)])


def _lines(
    layers: Sequence[Layer], inputs: Shape, counts: Counter[str], indent: str = "", label: str = ""
) -> Iterator[Line]:
    for position, layer in enumerate(layers):
        chains, outputs = layer.chains(), layer.outputs(inputs)
        name = type(layer).__name__ if chains else repr(layer)  # what is within it has lines of its own
        places = {str(part.index) for _, part in layer.parts()}  # an activation shares its layer's
        parameters = sum(counts[place] for place in places)
        yield Line(f"{indent}{label}{position}  {name}", "x".join(map(str, outputs)), parameters)
        for argument, within in chains.items():
            below = "" if argument == "layers" else f"{argument} "
            yield from _lines(within, inputs, counts, f"{indent}   ", below)
        inputs = outputs
