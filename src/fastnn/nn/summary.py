"""A model's layers as a table of text: names, shapes of the rows that come out, parameters. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Plan


class Line(NamedTuple):
    """One layer. `parameters` are those that training changes, of the layer and all within it; depth: how many layers
    it is within."""

    label: str
    name: str
    depth: int
    outputs: Shape
    parameters: int


def lines(layers: Sequence[Layer], plan: Plan) -> list[Line]:
    """A line for each layer, those of layers within layers behind theirs."""
    return list(_lines(layers, plan.input_shape, _counts(plan)))


def table(layers: Sequence[Layer], plan: Plan) -> str:
    """A line for each layer, those of layers within layers indented below theirs, and the total."""
    rows = [
        (f"{'   ' * line.depth}{line.label}  {line.name}", "x".join(map(str, line.outputs)), line.parameters)
        for line in lines(layers, plan)
    ]
    rows.append(("total", "", sum(_counts(plan).values())))
    name = max(25, *(len(row[0]) for row in rows))
    outputs = max(6, *(len(row[1]) for row in rows))
    head = f"{'layer':<{name}} {'output':>{outputs}}  {'parameters':>10}"
    return "\n".join([head, *(f"{n:<{name}} {o:>{outputs}}  {p:>10,}" for n, o, p in rows)])


def _counts(plan: Plan) -> Counter[str]:
    """Parameters by the index of the layer that has them."""
    counts: Counter[str] = Counter()
    for tensor in plan.tensors:
        counts[tensor.name.rpartition(".")[0]] += tensor.size if tensor.trainable else 0
    return counts


def _lines(
    layers: Sequence[Layer], inputs: Shape, counts: Counter[str], depth: int = 0, label: str = ""
) -> Iterator[Line]:
    for position, layer in enumerate(layers):
        chains, outputs = layer.chains(), layer.outputs(inputs)
        name = type(layer).__name__ if chains else repr(layer)  # what is within it has lines of its own
        places = {str(part.index) for _, part in layer.parts()}  # an activation shares its layer's
        yield Line(f"{label}{position}", name, depth, outputs, sum(counts[place] for place in places))
        for argument, within in chains.items():
            below = "" if argument == "layers" else f"{argument} "
            yield from _lines(within, inputs, counts, depth + 1, below)
        inputs = outputs
