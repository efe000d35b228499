"""A model from an ONNX file: the way from its output back to its rows, piece by piece, then a Sequential of the pieces.

onnx_file reads the file, onnx_pieces says what nodes are. `Sequential.to_onnx` writes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastnn import _text, files
from fastnn.errors import ModelFormatError
from fastnn.formulas.losses import LOSSES
from fastnn.nn import layers, onnx_file
from fastnn.nn.layers import Layer
from fastnn.nn.model import Sequential
from fastnn.nn.onnx_file import Given
from fastnn.nn.onnx_layers import layers_of
from fastnn.nn.onnx_pieces import Piece, Step, matched, step, template, walked
from fastnn.nn.target_scale import TargetScale
from fastnn.serving.onnx_graph import Graph

Array = np.ndarray
_MOST_VALUES = 1 << 24  # of a row: one number of a file may become a parameter for each
_BOOL = 9  # of onnx.TensorProto
_DEEPEST = 32  # bodies within bodies, as in nn.Residual
# Labels that fit probabilities p of values z: the largest, or those above a number.
_CHOICES: dict[str, list[tuple[str, Any]]] = {
    "softmax": [("z", "ArgMax"), ("p", "ArgMax")],
    "both": [("z", 0.0), ("p", "ArgMax")],
    "sigmoid": [("z", 0.0), ("p", 0.5)],
}
_LOSSES = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}  # where the file does not say


def from_onnx(path: str | os.PathLike[str]) -> Sequential:
    """The model that computes what the network in the ONNX file `path` does: docs/onnx.md says which operators.

    Files of `Sequential.to_onnx`, and multi-layer perceptrons of torch.onnx.export and skl2onnx. Of a file with the
    outputs label and probabilities the model has a loss, so that `predict_class` and `predict_proba` give them, and the
    classes in metadata["classes"].

    ImportError without the package onnx, OSError where the file cannot be read; ModelFormatError where it is no ONNX
    file, or has an operator that no layer stands for, which it names.
    """
    try:
        with np.errstate(all="ignore"):  # what the numbers of a file make of each other is its own affair
            return _model(onnx_file.read(path))
    except ModelFormatError as error:
        raise ModelFormatError(f"{os.fspath(path)}: {files.brief(error)}") from None


class _Tail(NamedTuple):
    """What is behind the network's last value z: its link, and the classes of its outputs. alone: z is one value a row,
    which is (n,), as estimators predict it."""

    z: str
    link: str | None = None
    classes: list[Any] | None = None
    alone: bool = False


def _model(given: Given) -> Sequential:
    tail = _tail(given)
    pieces, scaling = _scaled(given, _pieces(given, tail.z)) if tail.link is None else (_pieces(given, tail.z), None)
    _seen_once(pieces)
    try:
        shape = _row_shape(given, pieces)
        made, outputs, values = layers_of(pieces, shape)
        if tail.alone and math.prod(outputs) != 1:
            raise ModelFormatError(f"operator Reshape makes (n,) of rows of shape {outputs}, expected one value")
        made += _linked(given, tail)
        model = Sequential(made or [layers.Activation("identity")], dtype=given.dtype)
        _check_size(model, given, shape)
        model.build(shape, seed=0)
        if scaling is not None:
            config = {"shift": np.broadcast_to(scaling[0].ravel(), outputs).tolist(), "scale": scaling[1]}
            model.target_scale = TargetScale.from_config(config, model.plan.outputs)
    except ModelFormatError:
        raise
    except (TypeError, ValueError) as error:  # of a layer that cannot be: a size, an epsilon
        raise ModelFormatError(str(error)) from None
    _fill(values)
    try:
        _describe(model, given, tail, made)
    except (TypeError, ValueError) as error:  # ModelFormatError is a ValueError
        raise ModelFormatError(str(error)) from None
    return model


def _fill(values: list[tuple[Layer, dict[str, Array]]]) -> None:
    for layer, arrays in values:
        for role, array in arrays.items():
            view = getattr(layer, role)
            if view.shape != array.shape or array.dtype.kind not in "fiu":
                raise ModelFormatError(
                    f"{role} of {layer.where} is {array.dtype} {array.shape}, expected floats {view.shape}"
                )
            view[...] = array
        if isinstance(layer, layers.Normalize):
            layer.adapted = True


# From the last value to the rows -------------------------------------------------------------------------------


def _pieces(given: Given, end: str) -> list[Piece]:
    """In the order of computation. ModelFormatError names the operator that is in the way."""
    steps: dict[str, Step] = {}
    problems: dict[str, str] = {}
    for value in given.makers:  # in the order of computation: what comes before a value is known
        try:
            found = step(given, value) or _sum(given, value, steps)
        except ModelFormatError as error:
            found, problems[value] = None, str(error)
        except (TypeError, ValueError) as error:  # of an activation or a layer that cannot be: a slope below 0
            found, problems[value] = None, f"operator {given.makers[value].op} (output {value!r}): {error}"
        if found is not None:
            steps[value] = found
    way, value = _way(end, steps)
    if value != given.rows:
        raise _in_the_way(given, value, steps, problems)
    return [piece for each in reversed(way) for piece in each.pieces]


def _way(value: str, steps: dict[str, Step]) -> tuple[list[Step], str]:
    """The steps back from a value, the last one first, and where they end."""
    way = []
    while value in steps:
        way.append(steps[value])
        value = steps[value].before
    return way, value


def _in_the_way(given: Given, value: str, steps: dict[str, Step], problems: dict[str, str]) -> ModelFormatError:
    """The error for a value that nothing leads on from: of a sum it is what is in the way of one of its values."""
    while value not in problems:
        node = given.makers.get(value)
        if node is None:
            return ModelFormatError(f"output {value!r} does not come from the rows")
        ends = [_way(each, steps)[1] for each in node.inputs] if node.op == "Add" else []
        further = next((each for each in ends if each in given.makers), None)
        if further is None:
            expected = "expected operators that a layer stands for: see docs/onnx.md"
            return ModelFormatError(f"operator {node.op} (output {value!r}) has no equal, {expected}")
        value = further
    return ModelFormatError(problems[value])


def _sum(given: Given, value: str, steps: dict[str, Step]) -> Step | None:
    """A Residual: the sum of two values that come from one. None where it is no such sum."""
    node = given.makers[value]
    if node.op != "Add" or len(node.inputs) != 2:
        return None
    ways = [_way(each, steps) for each in node.inputs]
    passed = [[each, *(step.before for step in way)] for each, (way, _) in zip(node.inputs, ways, strict=True)]
    behind = set(passed[1])
    common = next((each for each in passed[0] if each in behind), None)
    if common is None:
        return None
    parts = [
        [piece for each in reversed(way[: names.index(common)]) for piece in each.pieces]
        for (way, _), names in zip(ways, passed, strict=True)
    ]
    shortcut, body = parts if parts[1] else parts[::-1]  # fastnn's own order, where both have pieces
    if node.inputs[0] == node.inputs[1]:  # of a body that does nothing
        body = [Piece(value, lambda: layers.Activation("identity"))]
    if not body:
        return None
    depth = 1 + max(piece.depth for piece in (*body, *shortcut))
    if depth > _DEEPEST:
        raise ModelFormatError(f"operator Add is the end of {depth} skips within skips, expected {_DEEPEST} at most")
    return Step(common, [Piece(value, body=body, shortcut=shortcut, depth=depth)])


def _seen_once(pieces: list[Piece]) -> None:
    """A value that several read, other than a skip and its end, would be layers that are there twice."""
    seen: set[int] = set()
    for piece in walked(pieces):
        if id(piece) in seen:
            raise ModelFormatError(
                f"value {piece.output!r} is read in several places, expected layers in a row, and skips"
            )
        seen.add(id(piece))


def _row_shape(given: Given, pieces: list[Piece]) -> tuple[int, ...]:
    """Of the input; where that leaves it open, of the first layer that says so."""
    if given.shape and None not in given.shape:
        shape = tuple(size for size in given.shape if size is not None)
        if math.prod(shape) > _MOST_VALUES:
            raise ModelFormatError(f"its rows have shape {shape}, expected {_MOST_VALUES} values at most")
        return shape
    width = next((piece.reads for piece in walked(pieces) if piece.reads), 0)
    if len(given.shape) > 1 or not width:
        raise ModelFormatError("its input does not say how many values a row has")
    return (width,)


# From the outputs to the last value ----------------------------------------------------------------------------


def _tail(given: Given) -> _Tail:
    if len(given.outputs) == 1:
        return _alone(given, given.outputs[0])
    if len(given.outputs) != 2:
        raise ModelFormatError(f"it has {len(given.outputs)} outputs, expected one, or label and probabilities")
    label, chances = given.outputs
    node = given.makers.get(chances)
    if node is not None and node.op == "ZipMap":
        chances = node.inputs[0]
    z, kind = _link(given, chances)
    classes, chosen = _classes(given, label)
    if chosen not in [({"z": z, "p": chances}[of], by) for of, by in _CHOICES[kind]]:
        raise ModelFormatError(f"output {label!r} is not the class that is likeliest by {chances!r}")
    return _Tail(z, "softmax" if kind == "softmax" else "sigmoid", classes)


def _alone(given: Given, output: str) -> _Tail:
    value = output
    while (node := given.makers.get(value)) is not None and node.op == "Cast":
        value = node.inputs[0]
    if node is None or node.op != "Reshape" or given.constants.get(node.inputs[1], np.zeros(2)).tolist() != [-1]:
        return _Tail(output)
    return _Tail(node.inputs[0], alone=True)


def _link(given: Given, chances: str) -> tuple[str, str]:
    """The values that the probabilities are made of, and how: a key of _CHOICES."""
    forms: tuple[tuple[str, Callable[[Graph], str]], ...] = (
        ("both", _two),
        ("both", _both),
        ("sigmoid", lambda g: g("Sigmoid", "x")),
        *(("softmax", lambda g, axis=axis: g("Softmax", "x", axis=axis)) for axis in (None, 1, -1)),
    )
    for kind, write in forms:
        found = matched(given, chances, template(write))
        if found is not None:
            return found[0], kind
    node = given.makers.get(chances)
    raise ModelFormatError(f"operator {node.op if node else None} makes {chances!r}, expected Softmax or Sigmoid")


def _two(g: Graph) -> str:
    """As fastnn writes the chances of two classes."""
    half = g("Mul", "x", 0.5)
    return g("Softmax", g("Concat", g("Neg", half), half, axis=1), axis=1)


def _both(g: Graph) -> str:
    """As skl2onnx does."""
    p = g("Sigmoid", "x")
    return g("Concat", g("Sub", 1.0, p), p, axis=1)


def _classes(given: Given, label: str) -> tuple[list[Any] | None, tuple[str, Any]]:
    """The classes, and the value whose largest is chosen, or that is compared with a number: (value, number)."""
    classes, truth = None, False
    while True:
        node = given.makers.get(label)
        if node is None:
            raise ModelFormatError(f"label is {label!r}, expected ArgMax or Greater in it")
        if classes is None and node.op in ("Gather", "ArrayFeatureExtractor") and node.inputs[0] in given.constants:
            classes, label = _listed(given.constants[node.inputs[0]]), node.inputs[1]
        elif node.op in ("Cast", "Reshape", "Squeeze"):
            label, truth = node.inputs[0], truth or (node.op == "Cast" and node.attributes["to"] == _BOOL)
        elif node.op == "ArgMax" and node.attributes["axis"] in (1, -1) and not node.attributes["select_last_index"]:
            return _as_truth(classes, truth), (node.inputs[0], "ArgMax")
        elif node.op == "Greater" and _one_number(given, node.inputs[1]):
            number = float(given.constants[node.inputs[1]].item())
            return _as_truth(classes, truth), (node.inputs[0], number)
        else:
            raise ModelFormatError(f"operator {node.op} makes the labels, expected ArgMax, or Greater than a number")


def _as_truth(classes: list[Any] | None, truth: bool) -> list[Any] | None:
    """The classes where the file casts them to BOOL: False and True, if it has no others."""
    if not truth:
        return classes
    if classes not in (None, [0, 1]):
        raise ModelFormatError(f"operator Cast makes truth values of the classes {classes}, expected 0 and 1")
    return [False, True]


def _check_size(model: Sequential, given: Given, shape: tuple[int, ...]) -> None:
    """A file of 4 kB may say a thousand times that each of 2^24 values is multiplied by one number."""
    size = sum(tensor.size for tensor in model._lower(shape)[0].tensors)
    if size > _MOST_VALUES + 2 * sum(array.size for array in given.constants.values()):
        raise ModelFormatError(f"its network has {size} parameters, far more than the file has numbers")


def _one_number(given: Given, value: str) -> bool:
    found = given.constants.get(value)
    return found is not None and found.size == 1 and found.dtype.kind in "fiu"


def _listed(classes: Array) -> list[Any]:
    return [value.decode(errors="replace") if isinstance(value, bytes) else value for value in classes.ravel().tolist()]


def _scaled(given: Given, pieces: list[Piece]) -> tuple[list[Piece], tuple[Array, float] | None]:
    """The pieces without the units of the targets, and those: shift and scale, where they are the end in float64."""
    if [piece.affine for piece in pieces[-2:]] != ["Mul", "Add"]:
        return pieces, None
    scale, shift = (piece.values["by"] for piece in pieces[-2:])
    double = scale.dtype == shift.dtype == np.float64
    if not double or scale.ndim > 0 or shift.ndim != 1 or scale <= 0:
        return pieces, None
    return pieces[:-2], (shift, float(scale))


# What else the file says -----------------------------------------------------------------------------------------


def _linked(given: Given, tail: _Tail) -> list[Layer]:
    """The link as a layer, where the network that was written ended with it."""
    if tail.link is None or given.about.get("predict") != "probabilities":
        return []
    return [layers.Softmax() if tail.link == "softmax" else layers.Activation("sigmoid")]


def _describe(model: Sequential, given: Given, tail: _Tail, made: list[Layer]) -> None:
    named = LOSSES.get(given.about.get("loss", ""))
    if tail.link is not None:
        model.loss = named if named is not None and named.link == tail.link else LOSSES[_LOSSES[tail.link]]
        _validate_classes(model, tail)
    elif made and isinstance(made[-1], layers.Softmax) and len(model.plan.output_shape) == 1:
        model.loss = LOSSES["cross_entropy"]
    if "feature_names" in given.about:
        model.feature_names = _names(given.about["feature_names"], model.plan.inputs)


def _validate_classes(model: Sequential, tail: _Tail) -> None:
    if tail.classes is None:
        return
    count = 2 if tail.link == "sigmoid" and model.plan.outputs == 1 else model.plan.outputs
    if len(tail.classes) != count:
        raise ModelFormatError(f"it has {len(tail.classes)} classes, expected one for each of {count} probabilities")
    model.metadata = {"classes": tail.classes}


def _names(text: str, inputs: int) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or len(names) != inputs or not all(isinstance(name, str) for name in names):
        raise ModelFormatError(f"feature_names is {files.brief(text)}, expected a list of {inputs} texts")
    return _text.unique_names(names)
