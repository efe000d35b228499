"""Numbers, names and tables as C99 text, gathered with the functions that use them. Knows no operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.formulas.activations import Activation
from fastnn.serving import c99_math

Array = np.ndarray
KINDS = {"float": ("%.9g", "f", 4), "double": ("%.17g", "", 8), "int8_t": ("%d", "", 1)}  # digits that give the bits


def literal(value: float, kind: str = "float") -> str:
    """A number that is finite, to its bits.

    >>> literal(1.0), literal(-1e-30), literal(0.1, "double")
    ('1.0f', '-1e-30f', '0.10000000000000001')
    """
    digits, suffix, _ = KINDS[kind]
    text = digits % value
    if kind == "int8_t":
        return text
    text = text if any(mark in text for mark in ".e") else f"{text}.0"
    return f"{text}{suffix}"


def rows_of(values: Array, kind: str = "float", indent: str = "    ") -> str:
    """Values as the lines of an initialiser, of up to 120 columns."""
    lines, line = [], indent
    for value in values.ravel().tolist():
        text = f"{literal(value, kind)},"
        if len(line) + len(text) > 119:
            lines.append(line.rstrip())
            line = indent
        line += f"{text} "
    return "\n".join([*lines, line.rstrip()])


def quoted(text: str) -> str:
    """A string literal: UTF-8, of which all but plain letters are octal escapes: three digits, so that none goes on.

    >>> print(quoted('a "b" é?'))
    "a \\"b\\" \\303\\251\\077"
    """
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?@$' else f"\\{byte:03o}" for byte in text.encode())
    escaped = "".join(plain).replace("\\042", '\\"').replace("\\134", "\\\\")
    return f'"{escaped}"'


class Source:
    """What a model.c is made of, as the operations fill it.

    In their texts `@` stands for the prefix of all names, `$` for that of macros.
    """

    def __init__(self, block: int, dtype: str) -> None:
        self.block, self.dtype = block, dtype
        self.tables: list[str] = []
        self.functions: list[str] = []
        self.needed: set[str] = set()
        self.activations: dict[str, bool] = {}  # by name, whether it takes alpha
        self.flash = 0  # bytes of the tables
        self.deepest = 0  # bytes of the locals of the function with most of them

    def table(self, name: str, values: Array, kind: str = "float", what: str = "") -> str:
        """A constant table; its name."""
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has values that are not finite in C's {kind}, expected numbers")
        self.flash += values.size * KINDS[kind][2]
        comment = f"  /* {what} */" if what else ""
        head = f"static $_CONST {kind} @_{name}[{values.size}] = {{{comment}"
        self.tables.append(f"{head}\n{rows_of(values, kind)}\n}};")
        return f"@_{name}"

    def function(self, head: str, lines: Sequence[str], needs: Sequence[str] = (), locals_: int = 0) -> None:
        body = [line if line.startswith("#") else f"    {line}" for line in lines]
        self.functions.append("\n".join([f"static void {head} {{", *body, "}"]))
        self.needed.update(needs)
        self.deepest = max(self.deepest, locals_)

    def activated(self, activation: Activation, value: str) -> str:
        """The C expression of an activation of a C expression."""
        if activation.name == "identity":
            return value
        takes_alpha = activation.alpha_range != (0.0, 0.0)
        self.activations[activation.name] = takes_alpha
        self.needed.update(c99_math.ACTIVATIONS[activation.name].needs)
        alpha = f", {literal(float(np.float32(activation.alpha)))}" if takes_alpha else ""
        return f"@_act_{activation.name}({value}{alpha})"

    def text(self) -> str:
        """All of it, in the order of C."""
        acts = [c99_math.activation(name, alpha) for name, alpha in self.activations.items()]
        return "\n\n".join([*c99_math.functions(self.needed), *acts, *self.tables, *self.functions])


def named(text: str, name: str) -> str:
    """The text with that prefix in all its names, and in capitals where `$` stands: in its macros."""
    return text.replace("@", name).replace("$", name.upper())


def class_names(classes: Any, count: int) -> list[str]:
    """What the classes are called, one line a class: their text; their numbers where there are no names."""
    return [str(value) for value in (range(count) if classes is None else np.asarray(classes).tolist())]
