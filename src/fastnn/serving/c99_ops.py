"""Each operation of a frozen network as a C99 function of one position of a row. No walks, no files.

EMITTED has who writes it, a line an operation; REFUSED why there is none. Dropout and rrelu
are in no frozen network: ABSENT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fastnn.formulas import activations
from fastnn.plan import Op
from fastnn.serving.c99_text import Source, literal
from fastnn.serving.folded import factors
from fastnn.serving.int8 import quantised

Array = np.ndarray
Arrays = Mapping[str, Array]
FEW = 4  # outputs or less: sums along the inputs, 16 at once; sums along so few outputs would wait for each other
ALONG = 16


class Written(NamedTuple):
    """How an operation is called: `function(x, a)`, or `function(a)` where it changes values in their place; whole: of
    a row with all its positions. None: nothing is computed."""

    function: str | None
    in_place: bool = True
    whole: bool = False


Write = Callable[[Source, str, Op, Arrays], Written]


def loop(count: int, statement: str, name: str = "j") -> str:
    return f"for (int {name} = 0; {name} < {count}; ++{name}) {statement}"


def sums(count: int, statement: str) -> str:
    """The loop over sums that are kept in registers. GCC takes one of 4, 8 or 16 apart before it makes vectors of it,
    and then makes none: 64 inputs and 16 outputs took 498 ns instead of 114."""
    return f"{'$_ROLLED ' if count in (4, 8, 16) else ''}{loop(count, statement)}"


def _cast(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    return Written(None)


def _normalize(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    """In double: a time stamp has more digits before it is shifted than afterwards."""
    values = arrays["shift"].size
    shift = source.table(f"{name}_shift", arrays["shift"], "double")
    scale = source.table(f"{name}_scale", arrays["scale"], "double")
    body = loop(values, f"a[j] = (float)(((double)x[j] - {shift}[j]) * {scale}[j]);")
    source.function(f"@_{name}(const float *x, float *a)", [body])
    return Written(f"@_{name}", in_place=False, whole=True)


def _dense(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    if source.dtype == "int8":
        return _dense_int8(source, name, op, arrays)
    w, b = arrays["w"], arrays["b"]
    if w.shape[1] <= FEW and w.shape[0] >= 2 * ALONG:
        return _dense_of_few(source, name, op, w, b)
    weights = source.table(f"{name}_w", panels(w, source.block), what=f"{w.shape[0]} x {w.shape[1]}, in blocks")
    bias = source.table(f"{name}_b", b)
    fast, small = [], []
    for first, width, blocks in cut(w.shape[1], source.block):
        at = f"{first} + {width} * k + j" if blocks > 1 else f"{first} + j" if first else "j"
        row = (
            f"{first * w.shape[0]} + (k * {w.shape[0]} + i) * {width}"
            if blocks > 1
            else (f"{first * w.shape[0]} + i * {width}" if first else f"i * {width}")
        )
        inner = [
            f"float s[{width}];",
            sums(width, f"s[j] = {bias}[{at}];"),
            loop(w.shape[0], "{", "i"),
            "    const float v = x[i];",
            f"    {sums(width, f's[j] += v * {weights}[{row} + j];')}",
            "}",
            sums(width, f"a[{at}] = {source.activated(op.activation, 's[j]')};"),
        ]
        one_by_one = [
            loop(width, "{"),
            f"    float s = {bias}[{at}];",
            f"    {loop(w.shape[0], f's += x[i] * {weights}[{row} + j];', 'i')}",
            f"    a[{at}] = {source.activated(op.activation, 's')};",
            "}",
        ]
        begin = loop(blocks, "{", "k") if blocks > 1 else "{"
        fast += [begin, *(f"    {line}" for line in inner), "}"]
        small += [begin, *(f"    {line}" for line in one_by_one), "}"] if blocks > 1 else one_by_one
    lines = for_size(small, fast)
    source.function(f"@_{name}(const float *x, float *a)", lines, locals_=4 * min(source.block, w.shape[1]))
    return Written(f"@_{name}", in_place=False)


def for_size(small: list[str], fast: list[str]) -> list[str]:
    """-Os takes the shorter code: 284 bytes of 30-64-64-2 on a Cortex-M4 instead of 502. It is no slower where
    there are no registers for many sums."""
    return ["#ifdef __OPTIMIZE_SIZE__", *small, "#else", *fast, "#endif"]


def cut(outputs: int, block: int) -> list[tuple[int, int, int]]:
    """Outputs as runs of blocks: the first output, the outputs of a block, how many blocks.

    >>> cut(130, 64), cut(30, 64), cut(128, 64)
    ([(0, 64, 2), (128, 2, 1)], [(0, 30, 1)], [(0, 64, 2)])
    """
    whole, rest = divmod(outputs, block)
    runs = [(0, block, whole), (whole * block, rest, 1)]
    return [run for run in runs if run[1] > 0 and run[2] > 0]


def panels(w: Array, block: int) -> Array:
    """w (I, O) as the sums read it: the block's outputs of one input after the other."""
    return np.concatenate([w[:, start : start + block].ravel() for start in range(0, w.shape[1], block)])


def _dense_of_few(source: Source, name: str, op: Op, w: Array, b: Array) -> Written:
    """Two outputs of 64 inputs would be 64 additions that wait for each other; 16 sums of four each do not."""
    inputs, outputs = w.shape
    weights = source.table(f"{name}_w", w.T, what=f"{outputs} x {inputs}")
    bias = source.table(f"{name}_b", b)
    rest = inputs % ALONG
    lines = [
        loop(outputs, "{", "o"),
        f"    float s[{ALONG}];",
        f"    {loop(ALONG, f's[j] = x[j] * {weights}[o * {inputs} + j];')}",
        f"    for (int i = {ALONG}; i + {ALONG} <= {inputs}; i += {ALONG})",
        f"        {loop(ALONG, f's[j] += x[i + j] * {weights}[o * {inputs} + i + j];')}",
    ]
    if rest:
        lines.append(
            f"    {loop(rest, f's[j] += x[{inputs - rest} + j] * {weights}[o * {inputs} + {inputs - rest} + j];')}"
        )
    half = ALONG // 2
    while half:
        lines.append(f"    {loop(half, f's[j] += s[{half} + j];')}")
        half //= 2
    value = source.activated(op.activation, f"(s[0] + {bias}[o])")
    lines += [f"    a[o] = {value};", "}"]
    small = [
        loop(outputs, "{", "o"),
        f"    float s = {bias}[o];",
        f"    {loop(inputs, f's += x[i] * {weights}[o * {inputs} + i];', 'i')}",
        f"    a[o] = {source.activated(op.activation, 's')};",
        "}",
    ]
    lines = for_size(small, lines)
    source.function(f"@_{name}(const float *x, float *a)", lines, locals_=4 * ALONG)
    return Written(f"@_{name}", in_place=False)


def _dense_int8(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    """Sums along the inputs: those of whole numbers have no order, and compilers make vectors of them as they are."""
    q, scale = quantised(arrays["w"])
    inputs, outputs = q.shape
    weights = source.table(f"{name}_w", q.T, "int8_t", f"{outputs} x {inputs}")
    scales = source.table(f"{name}_scale", scale)
    bias = source.table(f"{name}_b", arrays["b"])
    lines = [
        f"int8_t q[{inputs}];",
        f"const float scale = @_quantised(x, q, {inputs});",
        loop(outputs, "{", "o"),
        "    int32_t s = 0;",
        f"    {loop(inputs, f's += (int32_t)q[i] * {weights}[o * {inputs} + i];', 'i')}",
        f"    a[o] = (float)s * (scale * {scales}[o]) + {bias}[o];",
        "}",
    ]
    if op.activation.name != "identity":  # of many at once
        lines.append(loop(outputs, f"a[j] = {source.activated(op.activation, 'a[j]')};"))
    source.function(f"@_{name}(const float *x, float *a)", lines, ("quantised",), inputs)
    return Written(f"@_{name}", in_place=False)


def _activation(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    if op.activation.name == "identity":
        return Written(None)
    body = loop(op.outputs[-1], f"a[j] = {source.activated(op.activation, 'a[j]')};")
    source.function(f"@_{name}(float *a)", [body])
    return Written(f"@_{name}")


def _softmax(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    source.function(f"@_{name}(float *a)", [f"@_softmax_of(a, {op.outputs[-1]});"], ("softmax_of",), 32)
    return Written(f"@_{name}")


def _maxout(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    pieces = op.inputs[-1] // op.outputs[-1]
    lines = [
        loop(op.outputs[-1], "{"),
        f"    float m = x[{pieces} * j];",
        f"    for (int k = 1; k < {pieces}; ++k) {{",
        f"        const float v = x[{pieces} * j + k];",
        "        m = v > m || v != v ? v : m;",
        "    }",
        "    a[j] = m;",
        "}",
    ]
    source.function(f"@_{name}(const float *x, float *a)", lines)
    return Written(f"@_{name}", in_place=False)


def _prelu(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    slope = source.table(f"{name}_slope", arrays["slope"])
    source.function(
        f"@_{name}(float *a)",
        [loop(op.outputs[-1], f"a[j] = @_select(a[j] > 0.0f, a[j], {slope}[j] * a[j]);")],
        ("select",),
    )
    return Written(f"@_{name}")


def _scale(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    factor = source.table(f"{name}_factor", arrays["factor"])
    source.function(f"@_{name}(float *a)", [loop(op.outputs[-1], f"a[j] = a[j] * {factor}[j];")])
    return Written(f"@_{name}")


def _batch_norm(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    """What could not be folded. The mean is subtracted first: beside it a value may be small."""
    made = factors(op, arrays, np.float32)
    tables = [source.table(f"{name}_{role}", each) for role, each in zip(("factor", "gamma"), made, strict=False)]
    mean = source.table(f"{name}_mean", arrays["running_mean"])
    beta = source.table(f"{name}_beta", arrays["beta"])
    product = "".join(f" * {table}[j]" for table in tables)
    body = loop(op.outputs[-1], f"a[j] = (a[j] - {mean}[j]){product} + {beta}[j];")
    source.function(f"@_{name}(float *a)", [body])
    return Written(f"@_{name}")


def _layer_norm(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    channels = op.outputs[-1]
    gamma = source.table(f"{name}_gamma", arrays["gamma"])
    beta = source.table(f"{name}_beta", arrays["beta"])
    epsilon = literal(float(np.float32(op.settings["epsilon"])))
    lines = [
        f"const float mean = @_sum(a, {channels}) / {literal(channels)};",
        loop(channels, "a[j] = a[j] - mean;"),
        f"const float r = @_rsqrt(@_sum_of_squares(a, {channels}) / {literal(channels)} + {epsilon});",
        loop(channels, f"a[j] = {gamma}[j] * (a[j] * r) + {beta}[j];"),
    ]
    source.function(f"@_{name}(float *a)", lines, ("sum", "sum_of_squares", "rsqrt"), 32)
    return Written(f"@_{name}")


def _rms_norm(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    channels = op.outputs[-1]
    gamma = source.table(f"{name}_gamma", arrays["gamma"])
    epsilon = literal(float(np.float32(op.settings["epsilon"])))
    lines = [
        f"const float r = @_rsqrt(@_sum_of_squares(a, {channels}) / {literal(channels)} + {epsilon});",
        loop(channels, f"a[j] = {gamma}[j] * (a[j] * r);"),
    ]
    source.function(f"@_{name}(float *a)", lines, ("sum_of_squares", "rsqrt"), 32)
    return Written(f"@_{name}")


def _ordered(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    channels = op.outputs[-1]
    targets = max(1, min(channels, int(op.settings["targets"])))
    lines = [
        f"for (int j = {targets}; j < {channels}; ++j) a[j] = {source.activated(activations.get('softplus'), 'a[j]')};",
        f"for (int j = {targets}; j < {channels}; ++j) a[j] += a[j - {targets}];",
    ]
    source.function(f"@_{name}(float *a)", lines)
    return Written(f"@_{name}")


def _skip(source: Source, name: str, op: Op, arrays: Arrays) -> Written:
    """Whose x is which is the walk's."""
    return Written(None)


EMITTED: dict[str, Write] = {
    "cast": _cast,
    "normalize": _normalize,
    "dense": _dense,
    "activation": _activation,
    "softmax": _softmax,
    "maxout": _maxout,
    "prelu": _prelu,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "scale": _scale,
    "ordered": _ordered,
    "fork": _skip,
    "turn": _skip,
    "join": _skip,
}
REFUSED: dict[str, str] = {
    "ids": "a C function has no way to refuse a number that is no id",
    **dict.fromkeys(("rnn", "gru", "lstm", "last"), "recurrent layers are not written yet"),
    "embedding": "a C function has no way to refuse a number that is no id",
    **dict.fromkeys(("conv", "max_pool", "avg_pool", "pad", "upsample"), "images are not written as C yet"),
}
ABSENT = ("dropout", "rrelu")
