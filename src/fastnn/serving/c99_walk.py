"""The operations of a frozen network as calls over local arrays, one after the other. What they compute is c99_ops'."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fastnn.plan import Op
from fastnn.serving import c99_ops
from fastnn.serving.c99_text import Source
from fastnn.serving.frozen import Frozen

INPUT, OUTPUT = "x", "y"  # the caller's arrays: read only, and written last


@dataclass
class Memory:
    """The local arrays: each is used again as soon as nobody reads it any more. held: what skips remember."""

    sizes: list[int] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    def new(self, size: int, current: str) -> str:
        """One that holds neither `current` nor what a skip remembers."""
        names = [f"m{number}" for number in range(len(self.sizes) + 1)]
        number = next(i for i, name in enumerate(names) if name != current and name not in self.held)
        self.sizes[number : number + 1] = (
            [max(size, *self.sizes[number : number + 1])] if (number < len(self.sizes)) else [size]
        )
        return names[number]

    def owned(self, current: str, lines: list[str], size: int) -> str:
        """`current` itself where it may be changed, else a copy."""
        if current not in (INPUT, *self.held):
            return current
        made = self.new(size, current)
        lines.append(copied(current, made, size))
        return made


def copied(source: str, target: str, size: int) -> str:
    return c99_ops.loop(size, f"{target}[j] = {source}[j];")


def walk(frozen: Frozen, source: Source) -> int:
    """Adds the function `@_network(x, y)`, up to what a link takes, and all that it calls; the bytes of its arrays."""
    memory, lines, current = Memory(), list[str](), INPUT
    ops = frozen.plan.ops
    for index, op in enumerate(ops):
        arrays = {role: frozen.arrays[tensor.name] for role, tensor in op.tensors.items()}
        written = c99_ops.EMITTED[op.kind](source, f"{index}_{op.kind}", op, arrays)
        if op.operation.bracket:
            current = _skip(op, current, memory, lines)
        elif written.function is not None:
            current = _call(op, written, current, memory, lines, last=index == len(ops) - 1)
    if current != OUTPUT:
        lines.append(copied(current, OUTPUT, frozen.plan.outputs))
    arrays_ = [f"float m{number}[{size}];" for number, size in enumerate(memory.sizes)]
    source.functions.append(
        "\n".join(["static void @_network(const float *x, float *y) {", *(f"    {s}" for s in arrays_ + lines), "}"])
    )
    return 4 * sum(memory.sizes)


def _skip(op: Op, current: str, memory: Memory, lines: list[str]) -> str:
    """What the brackets of a skip do with the arrays: nothing is computed but the sum at its end."""
    if op.operation.bracket == "opens":
        memory.held.append(current)
        return current
    remembered = memory.held.pop()
    if op.operation.bracket == "turns":
        memory.held.append(current)
        return remembered
    size = math.prod(op.outputs)
    memory.held.append(remembered)  # while a copy may be made
    own = memory.owned(current, lines, size)
    memory.held.pop()
    lines.append(c99_ops.loop(size, f"{own}[j] += {remembered}[j];"))
    return own


def _call(op: Op, written: c99_ops.Written, current: str, memory: Memory, lines: list[str], last: bool) -> str:
    into, out = op.inputs[-1], op.outputs[-1]
    positions = 1 if written.whole else math.prod(op.outputs[:-1])
    size = math.prod(op.outputs)
    made = OUTPUT if last and not written.in_place else None
    target = made or (memory.owned(current, lines, size) if written.in_place else memory.new(size, current))
    if positions == 1:
        arguments = target if written.in_place else f"{current}, {target}"
        lines.append(f"{written.function}({arguments});")
    else:
        there = f"{target} + p * {out}"
        arguments = there if written.in_place else f"{current} + p * {into}, {there}"
        lines.append(c99_ops.loop(positions, f"{written.function}({arguments});", "p"))
    return target
