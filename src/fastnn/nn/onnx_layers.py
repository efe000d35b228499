"""Pieces of an ONNX file as layers, and the values for them once they are built. Knows no nodes.

x - v, x v, x / v and x + v, one after the other, become one layer: on the data Normalize, else Scale or BatchNorm.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from fastnn.errors import ModelFormatError
from fastnn.nn import layers
from fastnn.nn.layers import Layer
from fastnn.nn.onnx_pieces import Piece, channels
from fastnn.ops.operation import Shape

Array = np.ndarray
Values = list[tuple[Layer, dict[str, Array]]]
_EPSILON = 2.0**-17  # of a BatchNorm with variance 1 - epsilon, whose root is 1 exactly in both dtypes


def layers_of(pieces: list[Piece], shape: Shape, *, on_data: bool = True) -> tuple[list[Layer], Shape, Values]:
    """The layers for rows of that shape, the shape of the rows that come out, and what to put into the layers.

    on_data: they come first in the network.
    """
    made: list[Layer] = []
    values: Values = []
    for run in _runs(_with_bias(pieces)):
        layer, inner, outputs = _layer(run, shape, made if on_data else None)
        if isinstance(layer, (layers.Flatten, layers.Reshape)) and outputs == shape:
            continue
        made.append(layer)
        values += inner
        shape = outputs
    return made, shape, values


def _layer(run: list[Piece], shape: Shape, before: list[Layer] | None) -> tuple[Layer, Values, Shape]:
    """A layer, what to put into it, and the shape of the rows that come out. before: the layers from the data to it."""
    piece = run[0]
    if piece.affine:
        on_data = before is not None and all(isinstance(layer, layers.Flatten) for layer in before)
        layer, arrays = _affine(run, shape, on_data)
        return layer, [(layer, arrays)], shape
    if piece.body:
        return _residual(piece, shape)
    assert piece.make is not None
    _check(piece, shape)
    layer = piece.make()
    outputs = _outputs(layer, shape)
    return layer, [(layer, _of_channels(piece.values, outputs))], outputs


def _outputs(layer: Layer, shape: Shape) -> Shape:
    """Without the layer's operations, whose tensors need its place in a model."""
    if isinstance(layer, layers.Dense):
        return (*shape[:-1], layer.units)
    if isinstance(layer, layers.Maxout):
        return (*shape[:-1], shape[-1] // layer.pieces)
    return layer.outputs(shape) if isinstance(layer, (layers.Flatten, layers.Reshape)) else shape


def _check(piece: Piece, shape: Shape) -> None:
    if piece.reads and piece.reads != shape[-1]:
        raise ModelFormatError(f"value {piece.output!r} is made of {piece.reads} channels, but {shape[-1]} come in")
    if piece.axis is not None and piece.axis not in (-1, len(shape)):
        raise ModelFormatError(
            f"value {piece.output!r} is made along axis {piece.axis}, expected the last, {len(shape)}"
        )


def _of_channels(values: dict[str, Array], outputs: Shape) -> dict[str, Array]:
    return {role: array if role == "weight" else channels(array, outputs) for role, array in values.items()}


def _residual(piece: Piece, shape: Shape) -> tuple[Layer, Values, Shape]:
    body, outputs, values = layers_of(piece.body, shape, on_data=False)
    around, _, more = layers_of(piece.shortcut, shape, on_data=False)
    layer = layers.Residual(body or [layers.Activation("identity")], shortcut=around or None)
    return layer, values + more, outputs


# Constants -------------------------------------------------------------------------------------------------------


def _with_bias(pieces: list[Piece]) -> list[Piece]:
    """MatMul and Add are one Dense."""
    merged: list[Piece] = []
    for piece in pieces:
        before = merged[-1] if merged else None
        if piece.affine in ("Add", "Sub") and before is not None and set(before.values) == {"weight"}:
            by, w = piece.values["by"], before.values["weight"]
            b = by if piece.affine == "Add" else -by
            make = partial(layers.Dense, w.shape[1])
            merged[-1] = replace(before, make=make, values={"weight": w, "bias": b}, output=piece.output)
        else:
            merged.append(piece)
    return merged


def _runs(pieces: list[Piece]) -> list[list[Piece]]:
    """Each piece alone, but for those that become one: Mul by halves, Sub, Mul or Div, Add."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        kinds = [each.affine for each in runs[-1]] if runs else [""]
        scaled = kinds[-1] in ("Mul", "Div")
        goes_on = (piece.affine in ("Mul", "Div") and kinds[-1] == "Sub") or (piece.affine == "Add" and scaled)
        if goes_on or (piece.affine == "Sub" and kinds == ["Mul"] and _halves(runs[-1][0])):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _halves(piece: Piece) -> bool:
    """Whether Normalize may have written it: see ops.normalize. Others may be 0, by which nothing can be divided."""
    return bool(np.isin(piece.values["by"], (0.5, 1.0)).all())


def _affine(run: list[Piece], shape: Shape, on_data: bool) -> tuple[Layer, dict[str, Array]]:
    """x h, then - shift, then times scale, then + b, as one layer."""
    by = {"first": np.ones(1), "Sub": np.zeros(1), "scale": np.ones(1), "Add": np.zeros(1)}
    for place, piece in enumerate(run):
        value = piece.values["by"].astype(np.float64)
        if piece.affine in ("Sub", "Add"):
            by[piece.affine] = value
        else:
            first = place == 0 and len(run) > 1 and run[1].affine == "Sub"
            by["first" if first else "scale"] = value if piece.affine == "Mul" else 1.0 / value
    kinds = {piece.affine for piece in run}
    scale = by["scale"] * by["first"]
    if on_data and "Add" not in kinds and kinds & {"Sub", "Div"}:
        found = {"shift": by["Sub"] / by["first"], "scale": scale}
        return layers.Normalize(), {role: _of_rows(array, shape) for role, array in found.items()}
    if kinds <= {"Mul", "Div"}:
        return layers.Scale(), {"factor": channels(scale, shape)}
    found = {"gamma": scale, "beta": by["Add"], "running_mean": by["Sub"] / by["first"]}
    arrays = {role: channels(array, shape) for role, array in found.items()}
    arrays["running_var"] = np.full(shape[-1], 1.0 - _EPSILON)
    return layers.BatchNorm(epsilon=_EPSILON), arrays


def _of_rows(array: Array, shape: Shape) -> Array:
    try:
        return np.broadcast_to(array, (1, *shape)).reshape(math.prod(shape))
    except ValueError:
        raise ModelFormatError(f"a constant has shape {array.shape}, expected that of rows, {shape}") from None
