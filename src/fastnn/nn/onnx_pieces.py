"""What nodes of an ONNX file are as layers: the tables of serving.onnx_nodes backwards, and what other exporters write.

A piece ends at a value and begins at another. Nodes that make one together are found by comparing them with those that
fastnn writes itself, in which NaN stands for a number that is to be found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from fastnn.errors import ModelFormatError
from fastnn.formulas import activations
from fastnn.nn import layers
from fastnn.nn.layers import Layer
from fastnn.nn.onnx_file import DEFAULTS, FLOATS, Found, Given
from fastnn.ops.operation import Shape
from fastnn.serving import onnx_nodes
from fastnn.serving.onnx_graph import Graph

Array = np.ndarray
_NAN = float("nan")
_COMMUTATIVE = ("Add", "Mul", "Max", "Min")


@dataclass
class Piece:
    """A layer that is still to be made, and its values: of as many channels as there are, where one number stands for
    all. affine: x - v, x v, x / v or x + v by a constant, of which several become one layer. axis: that it works on,
    which must be the last."""

    output: str
    make: Callable[[], Layer] | None = None
    values: dict[str, Array] = field(default_factory=dict)
    affine: str = ""
    axis: int | None = None
    body: list[Piece] = field(default_factory=list)
    shortcut: list[Piece] = field(default_factory=list)
    reads: int = 0  # channels that it must find; 0: any
    depth: int = 0  # of bodies within bodies


class Step(NamedTuple):
    """From one value on the way to another: what is between them, in the order of computation."""

    before: str
    pieces: list[Piece]


# Nodes compared with ours ----------------------------------------------------------------------------------------


class Template(Graph):
    """Nodes that end at `end` and begin at "x", as fastnn writes them: without casts, which a file was freed of."""

    end = "x"

    def cast(self, x: str, dtype: Any) -> str:
        return x

    @property
    def makers(self) -> dict[str, Found]:
        made = {}
        for node in self.nodes:
            known = DEFAULTS.get(node.op, {})
            attributes = {name: node.attributes.get(name, known[name]) for name in known}
            made[node.output] = Found(node.op, node.inputs, node.output, attributes)
        return made


def template(write: Callable[[Graph], str], opset: int = 17, dtype: Any = np.float64) -> Template:
    made = Template(opset, np.dtype(dtype))
    made.end = write(made)
    return made


def _of_x(write: Callable[..., str], *settings: Any) -> Callable[[Graph], str]:
    """What writes the nodes of "x"."""
    return lambda g: write(g, "x", *settings)


def matched(given: Given, value: str, wanted: Template) -> tuple[str, dict[str, Array]] | None:
    """What stands for "x" where the nodes that make the value are those wanted, and what for NaN, by names."""
    found: dict[str, Any] = {}
    fits = _fits(given, value, wanted, wanted.makers, wanted.end, found)
    return (found.pop("x"), found) if fits and isinstance(found.get("x"), str) else None


def _all_that_fit(
    given: Given, value: str, templates: Iterable[tuple[str, Template]]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each template that makes the value: its name, what it is of, what it is with."""
    for name, wanted in templates:
        fits = matched(given, value, wanted)
        if fits is not None:
            yield name, *fits


def _fits(
    given: Given, value: str, wanted: Template, makers: dict[str, Found], end: str, found: dict[str, Any]
) -> bool:
    if end == "x":
        return value not in given.constants and found.setdefault("x", value) == value
    if end in wanted.constants:
        return value in given.constants and _equal(end, wanted.constants[end], given.constants[value], found)
    node, ours = given.makers.get(value), makers[end]
    if node is None or node.op != ours.op or len(node.inputs) != len(ours.inputs):
        return False
    if not all(_equal(name, ours.attributes[name], node.attributes[name], found) for name in ours.attributes):
        return False
    orders = [ours.inputs, ours.inputs[::-1]] if node.op in _COMMUTATIVE and len(ours.inputs) == 2 else [ours.inputs]
    for order in orders:
        tried = dict(found)
        if all(
            _fits(given, theirs, wanted, makers, own, tried) for theirs, own in zip(node.inputs, order, strict=True)
        ):
            found.update(tried)
            return True
    return False


def _equal(name: str, ours: Any, theirs: Any, found: dict[str, Any]) -> bool:
    if isinstance(ours, (str, bytes)) or ours is None or theirs is None or isinstance(theirs, str):
        return bool(ours == theirs)
    wanted, value = np.asarray(ours), np.asarray(theirs)
    if value.dtype.kind not in "iuf":
        return False
    if wanted.dtype.kind == "f" and np.isnan(wanted).all():
        found[name] = value
        return True
    if wanted.dtype.kind == "i":
        return wanted.shape == value.shape and bool((wanted == value).all())
    return value.size == 1 and bool(np.isclose(value, wanted, rtol=1e-6, atol=0).all())


# Activations -----------------------------------------------------------------------------------------------------


def _torch_gelu(g: Graph) -> str:
    cdf = g("Add", g("Erf", g("Div", "x", math.sqrt(2.0))), 1.0)
    return g("Mul", g("Mul", "x", cdf), 0.5)


def _torch_gelu_tanh(g: Graph) -> str:
    cubic = g("Add", "x", g("Mul", g("Mul", "x", g("Mul", "x", "x")), activations._GELU_CUBIC))
    inner = g("Mul", cubic, activations._SQRT_2_OVER_PI)
    return g("Mul", g("Mul", "x", g("Add", g("Tanh", inner), 1.0)), 0.5)


def _torch_softplus(g: Graph) -> str:
    return g("Where", g("Greater", "x", 20.0), "x", g("Softplus", "x"))


FOREIGN: dict[str, list[Callable[[Graph], str]]] = {  # as others write them
    "gelu": [_torch_gelu],
    "gelu_tanh": [_torch_gelu_tanh],
    "softplus": [_torch_softplus, lambda g: g("Softplus", "x")],
    "mish": [lambda g: g("Mish", "x")],
    "silu": [lambda g: g("Swish", "x", alpha=1.0)],
    "hard_sigmoid": [lambda g: g("HardSigmoid", "x", alpha=1 / 6, beta=0.5)],
    "softsign": [lambda g: g("Softsign", "x")],
}


@cache
def _activation_templates() -> list[tuple[str, Template]]:
    """Largest first: sigmoid is a part of silu."""
    made = []
    for name, write in onnx_nodes.ACTIVATIONS.items():
        if name == "identity":
            continue
        alpha = _NAN if activations.ACTIVATIONS[name].alpha_range != (0.0, 0.0) else 0.0
        forms = [(17, np.float32), (17, np.float64), (20, np.float32)]
        made += [(name, template(_of_x(write, alpha), *form)) for form in forms]
        made += [(name, template(foreign)) for foreign in FOREIGN.get(name, [])]
    return sorted(made, key=lambda pair: -len(pair[1].nodes))


def _activation(given: Given, value: str) -> Step | None:
    for name, before, found in _all_that_fit(given, value, _activation_templates()):
        activation = activations.ACTIVATIONS[name]
        if "alpha" in found:
            if found["alpha"].ndim > 0:  # of channels: a PReLU
                continue
            activation = activation.with_alpha(float(found["alpha"]))
        return Step(before, [Piece(value, partial(layers.Activation, activation))])
    return None


# Layers of several nodes -----------------------------------------------------------------------------------------


def _tensors(*roles: str) -> dict[str, Array]:
    return {role: np.full(1, _NAN) for role in roles}


@cache
def _layer_templates() -> list[tuple[str, Template]]:
    settings = SimpleNamespace(settings={"epsilon": _NAN}, inputs=(1,), outputs=(1,))
    made = []
    for name, roles in (("layer_norm", ("gamma", "beta")), ("rms_norm", ("gamma",)), ("prelu", ("slope",))):
        write = onnx_nodes.OPERATIONS[name]
        for opset in (17, 18):
            made.append((name, template(_of_x(write, settings, _tensors(*roles)), opset)))
    return made


def _learned(given: Given, value: str) -> Step | None:
    for name, before, found in _all_that_fit(given, value, _layer_templates()):
        if name == "prelu":
            return Step(before, [Piece(value, layers.PReLU, {"slope": found["slope"]})])
        make = _layer_norm if name == "layer_norm" else _rms_norm
        return Step(before, [make(value, float(found.pop("epsilon")), found)])
    return None


def _layer_norm(value: str, epsilon: float, found: dict[str, Array]) -> Piece:
    width = found["gamma"].size
    return Piece(value, lambda: layers.LayerNorm(epsilon=epsilon), found, axis=-1, reads=width)


def _rms_norm(value: str, epsilon: float, found: dict[str, Array]) -> Piece:
    return Piece(value, lambda: layers.RMSNorm(epsilon=epsilon), found, axis=-1, reads=found["gamma"].size)


def _maxout(given: Given, node: Found) -> Step | None:
    """Max of k slices, each of every k-th channel."""
    pieces = len(node.inputs)
    slices = [given.makers.get(each) for each in node.inputs]
    before, channels_in = None, None
    for first, each in enumerate(slices):
        if each is None or each.op != "Slice" or len(each.inputs) != 5 or pieces < 2:
            return None
        numbers = [given.constants.get(name) for name in each.inputs[1:]]
        if any(number is None or number.size != 1 for number in numbers):
            return None
        start, end, axis, step = (int(number.item()) for number in numbers if number is not None)
        before = each.inputs[0] if before is None else before
        channels_in = end if channels_in is None else channels_in
        wanted = (first, channels_in, -1, pieces)
        if (start, end, axis, step) != wanted or end % pieces or each.inputs[0] != before:
            return None
    assert before is not None
    return Step(before, [Piece(node.output, lambda: layers.Maxout(pieces), reads=end)])


def _ordered(given: Given, node: Found) -> Step | None:
    """The last Reshape of what serving.onnx_nodes writes."""
    summed = given.makers.get(node.inputs[0])
    levels = given.makers.get(summed.inputs[0]) if summed is not None and summed.op == "CumSum" else None
    shape = given.constants.get(levels.inputs[1]) if levels is not None and levels.op == "Reshape" else None
    if shape is None or shape.ndim != 1 or len(shape) < 3 or (shape[1:] < 1).any():
        return None
    *positions, count, targets = (int(size) for size in shape[1:])
    inputs = (*positions, count * targets)
    op = SimpleNamespace(settings={"targets": float(targets)}, inputs=inputs)
    forms = ((17, np.float32), (17, np.float64))
    wanted = (template(_of_x(onnx_nodes.OPERATIONS["ordered"], op, {}), *form) for form in forms)
    before = next((fits[0] for each in wanted if (fits := matched(given, node.output, each))), None)
    if before is None:
        return None
    return Step(before, [Piece(node.output, lambda: layers.Ordered(targets), reads=inputs[-1])])


# Layers of one node ----------------------------------------------------------------------------------------------


def _weights(given: Given, node: Found) -> Array:
    w = given.constants.get(node.inputs[1])
    if w is None or node.inputs[0] in given.constants or w.ndim != 2:
        raise ModelFormatError(f"operator {node.op} has no constant matrix as its second input")
    return w


def _dense(value: str, w: Array, b: Array | None) -> Piece:
    make = partial(layers.Dense, w.shape[1], bias=b is not None)
    return Piece(value, make, {"weight": w} | ({} if b is None else {"bias": b}), reads=len(w))


def _gemm(given: Given, node: Found) -> Step:
    w, said = _weights(given, node), node.attributes
    if said["transA"]:
        raise ModelFormatError("operator Gemm has transA, expected rows as they are")
    w = (w.T if said["transB"] else w) * w.dtype.type(said["alpha"])
    b = None
    if len(node.inputs) > 2 and node.inputs[2]:
        b = given.constants.get(node.inputs[2])
        if b is None:
            raise ModelFormatError("operator Gemm has no constant as its third input")
        b = b * b.dtype.type(said["beta"])
    return Step(node.inputs[0], [_dense(node.output, w, b)])


def _matmul(given: Given, node: Found) -> Step:
    return Step(node.inputs[0], [_dense(node.output, _weights(given, node), None)])


def _by_constant(given: Given, node: Found) -> Step | None:
    """Add, Sub, Mul or Div of a value and a constant; None where both are values."""
    places = [place for place, each in enumerate(node.inputs) if each in given.constants]
    if len(places) != 1 or (places == [0] and node.op in ("Sub", "Div")):
        return None
    constant = given.constants[node.inputs[places[0]]]
    if constant.dtype not in FLOATS:  # whole numbers are divided and multiplied otherwise
        raise ModelFormatError(f"operator {node.op} has a constant of {constant.dtype}, expected float32 or float64")
    return Step(node.inputs[1 - places[0]], [Piece(node.output, values={"by": constant}, affine=node.op)])


def _scaler(given: Given, node: Found) -> Step:
    """(x - offset) scale, of ai.onnx.ml, where either may be left out."""
    pieces = [
        Piece(f"{node.output} {name}", values={"by": np.asarray(node.attributes[name], np.float64)}, affine=op)
        for name, op in (("offset", "Sub"), ("scale", "Mul"))
        if node.attributes[name] is not None
    ]
    return Step(node.inputs[0], pieces)


def _softmax(given: Given, node: Found) -> Step:
    axis = node.attributes["axis"]
    return Step(node.inputs[0], [Piece(node.output, layers.Softmax, axis=-1 if axis is None else axis)])


def _flatten(given: Given, node: Found) -> Step:
    if node.attributes["axis"] != 1:
        raise ModelFormatError(f"operator Flatten has axis {node.attributes['axis']}, expected 1")
    return Step(node.inputs[0], [Piece(node.output, layers.Flatten)])


def _reshape(given: Given, node: Found) -> Step:
    shape = given.constants.get(node.inputs[1])
    if shape is None or shape.ndim != 1 or len(shape) < 2 or int(shape[0]) not in (0, -1):
        raise ModelFormatError(
            "operator Reshape has no constant shape that leaves the rows open: (-1, ...) or (0, ...)"
        )
    if node.attributes["allowzero"] and not shape.all():
        raise ModelFormatError("operator Reshape has allowzero and a shape with 0: rows without values")
    row = tuple(int(size) for size in shape[1:])
    make = layers.Flatten if row == (-1,) else lambda: layers.Reshape(row)
    return Step(node.inputs[0], [Piece(node.output, make)])


def _constants(given: Given, node: Found, *roles: str) -> dict[str, Array]:
    found = dict(zip(roles, (given.constants.get(each) for each in node.inputs[1:]), strict=False))
    missing = [role for role in roles if found.get(role) is None]
    if missing:
        raise ModelFormatError(f"operator {node.op} has no constant {missing[0]}")
    return {role: array for role, array in found.items() if array is not None}


def _batch_normalization(given: Given, node: Found) -> Step:
    if node.attributes["training_mode"]:
        raise ModelFormatError("operator BatchNormalization has training_mode, expected a network that predicts")
    found = _constants(given, node, "gamma", "beta", "running_mean", "running_var")
    make = partial(layers.BatchNorm, epsilon=node.attributes["epsilon"])
    return Step(node.inputs[0], [Piece(node.output, make, found, axis=1, reads=found["gamma"].size)])


def _layer_normalization(given: Given, node: Found) -> Step:
    found = _constants(given, node, "gamma") | {"beta": np.zeros(1)}
    if len(node.inputs) > 2:
        found |= _constants(given, node, "gamma", "beta")
    piece = _layer_norm(node.output, node.attributes["epsilon"], found)
    piece.axis = node.attributes["axis"]
    return Step(node.inputs[0], [piece])


def _prelu(given: Given, node: Found) -> Step:
    return Step(node.inputs[0], [Piece(node.output, layers.PReLU, _constants(given, node, "slope"))])


READERS: dict[str, Callable[[Given, Found], Step | None]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _by_constant),
    "Scaler": _scaler,
    "Softmax": _softmax,
    "Flatten": _flatten,
    "Reshape": lambda given, node: _ordered(given, node) or _reshape(given, node),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "PRelu": _prelu,
    "Max": _maxout,
}


def step(given: Given, value: str) -> Step | None:
    """What ends at the value; None where it is nothing that is known, or the sum of two values."""
    node = given.makers[value]
    for read in (_activation, _learned):
        found = read(given, value)
        if found is not None:
            return found
    reader = READERS.get(node.op)
    return None if reader is None else reader(given, node)


def walked(pieces: list[Piece]) -> Iterator[Piece]:
    """They and those within them."""
    for piece in pieces:
        yield piece
        yield from walked(piece.body)
        yield from walked(piece.shortcut)


def channels(array: Array, shape: Shape) -> Array:
    """A constant for each channel of rows of that shape; one number stands for all of them."""
    if array.ndim <= len(shape) + 1 and array.size in (1, shape[-1]) and array.size == (array.shape or (1,))[-1]:
        return np.broadcast_to(array.ravel(), shape[-1:])
    raise ModelFormatError(f"a constant has shape {array.shape}, expected one number, or {shape[-1]} for the channels")
