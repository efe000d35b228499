"""A frozen network as an ONNX file: the walk over its plan, and what its outputs mean. The nodes are onnx_nodes'.

X (n, I)  ->  predictions (n, O), or of a network trained with a cross-entropy  label (n,), probabilities (n, C)

An estimator's are what skl2onnx makes of scikit-learn's: numbers in the dtype of X, classes as int64 or text; beside
these scores (n, C) or (n,) of a hinge, and predictions (n,) of one output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import _text, _validate, files
from fastnn._version import __version__
from fastnn.ops.operation import Shape
from fastnn.plan import Op
from fastnn.serving.folded import folded
from fastnn.serving.frozen import Frozen
from fastnn.serving.onnx_graph import OPSETS, Graph, Value, serialized
from fastnn.serving.onnx_nodes import written

Array = np.ndarray


def write(
    frozen: Frozen,
    path: str | os.PathLike[str],
    *,
    opset: int = 17,
    input: str = "float32",
    estimator: bool = False,
) -> None:
    """Put the network into an ONNX file: see `Sequential.to_onnx`. Nothing is written where anything is refused.

    estimator: with the outputs of one.
    """
    files.write_bytes(path, content(frozen, opset=opset, input=input, estimator=estimator))


def content(frozen: Frozen, *, opset: int = 17, input: str = "float32", estimator: bool = False) -> bytes:
    """The bytes of that file."""
    _text.choice("input", input, ("float32", "float64"), "'float32' or 'float64'")
    g, outputs = graph_of(frozen, opset, np.dtype(input), estimator=estimator)
    rows = Value("X", np.dtype(input), frozen.plan.input_shape)
    return serialized(g, rows, outputs, _about(frozen, _classes(frozen.classes, estimator)))


def graph_of(frozen: Frozen, opset: int, given: np.dtype[Any], *, estimator: bool) -> tuple[Graph, list[Value]]:
    """The nodes from "X", of the dtype that is given, to the outputs. ValueError for an opset that is not written."""
    number = _validate.integer("opset", opset, low=OPSETS[0])
    if number not in OPSETS:
        raise ValueError(f"opset is {number}, expected an integer from {OPSETS[0]} to {OPSETS[-1]}")
    classes = _classes(frozen.classes, estimator)
    g = Graph(number, frozen.plan.dtype)
    z = _walk(g, folded(frozen), given)
    if estimator:
        return g, _of_estimator(g, frozen, z, classes, given if given.kind == "f" else np.dtype(np.float32))
    return g, _outputs(g, frozen, z, classes)


# From rows to what the last operation makes of them ------------------------------------------------------------


def _walk(g: Graph, frozen: Frozen, given: np.dtype[Any]) -> str:
    plan = frozen.plan
    source, ops = plan.source, plan.ops
    if ops and ops[0] is source:
        ops = ops[1:]
    x, shape = _source(g, frozen, source, given), source.outputs
    for op in ops:
        x = written(g, _reshaped(g, x, shape, op.inputs), op, _tensors(op, frozen.arrays))
        shape = op.outputs
    return _reshaped(g, x, shape, plan.output_shape)


def _source(g: Graph, frozen: Frozen, source: Op, given: np.dtype[Any]) -> str:
    """Rows in the dtype that the network computes in."""
    x, dtype = "X", given
    if source.kind == "normalize" and dtype != np.float64:
        x, dtype = g.cast(x, np.float64), np.dtype(np.float64)
    x = written(g, x, source, _tensors(source, frozen.arrays))
    return x if dtype == g.dtype else g.cast(x, g.dtype)


def _reshaped(g: Graph, x: str, shape: Shape, wanted: Shape) -> str:
    """Flatten and Reshape are no operations of a plan: the next one finds its rows in another shape."""
    if shape == wanted:
        return x
    return g("Flatten", x, axis=1) if len(wanted) == 1 else g("Reshape", x, g.whole(0, *wanted))


def _tensors(op: Op, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {role: arrays[tensor.name] for role, tensor in op.tensors.items()}


# What the outputs mean -----------------------------------------------------------------------------------------


def _outputs(g: Graph, frozen: Frozen, z: str, classes: Array | None) -> list[Value]:
    plan = frozen.plan
    if frozen.link is not None:
        return _chosen(g, frozen, z, classes, plan.dtype)
    if frozen.scaling is not None:
        shift, scale = frozen.scaling
        z = z if g.double else g.cast(z, np.float64)
        z = g("Mul", z, g.constant(scale, "target_scale", np.float64))
        z = g("Add", z, g.constant(shift, "target_shift", np.float64))
    g.call(z, "predictions")
    return [Value("predictions", plan.dtype if frozen.scaling is None else np.dtype(np.float64), plan.output_shape)]


def _of_estimator(g: Graph, frozen: Frozen, z: str, classes: Array | None, numbers: np.dtype[Any]) -> list[Value]:
    """numbers: their dtype."""
    if frozen.link is not None:
        return _chosen(g, frozen, z, classes, numbers)
    outputs, label = frozen.plan.outputs, []
    if classes is not None:  # of a hinge
        label = [_label(g, g("ArgMax", z, axis=1, keepdims=0), classes, outputs)]
        if outputs == 2:
            first, second = (g("Gather", z, g.constant(column, dtype=np.int64), axis=1) for column in (0, 1))
            z, outputs = g("Sub", second, first), 1
    elif outputs == 1:
        z = g("Reshape", z, g.whole(-1))
    name = "predictions" if classes is None else "scores"
    g.call(_in(g, z, numbers), name)
    return [*label, Value(name, numbers, (outputs,) if outputs > 1 else ())]


def _chosen(g: Graph, frozen: Frozen, z: str, classes: Array | None, numbers: np.dtype[Any]) -> list[Value]:
    """label and probabilities, of that dtype."""
    plan = frozen.plan
    if frozen.link == "softmax":
        label, chances, shape = g("ArgMax", z, axis=1, keepdims=0), g("Softmax", z, axis=1), plan.outputs
    elif plan.outputs == 1:  # the softmax of -z / 2 and z / 2: onnxruntime's Sigmoid, and 1 - p, are 0 from z = 17 on
        label = g("Reshape", g.cast(g("Greater", z, 0.0), np.int64), g.whole(-1))
        half = g("Mul", z, 0.5)
        chances, shape = g("Softmax", g("Concat", g("Neg", half), half, axis=1), axis=1), 2
    else:
        label, chances, shape = g.cast(g("Greater", z, 0.0), np.int64), g("Sigmoid", z), plan.outputs
    if frozen.one_value and plan.outputs > 1:
        g.call(label, "label")
        made = Value("label", np.dtype(np.int64), (shape,))
    else:
        made = _label(g, label, classes, shape)
    g.call(_in(g, chances, numbers), "probabilities")
    return [made, Value("probabilities", numbers, (shape,))]


def _label(g: Graph, label: str, classes: Array | None, count: int) -> Value:
    """The class, or its index where there are no classes."""
    kind: Any = np.dtype(np.int64)
    if classes is not None:
        _validate_classes(classes, count)
        label = g("Gather", g.constant(classes, "classes", classes.dtype), label)
        kind = str if classes.dtype.kind == "O" else classes.dtype
    g.call(label, "label")
    return Value("label", kind, ())


def _in(g: Graph, value: str, dtype: np.dtype[Any]) -> str:
    return value if dtype == g.dtype else g.cast(value, dtype)


def _classes(given: Array | None, estimator: bool) -> Array | None:
    """As ONNX has them: int64, float64, bool or text (object); of an estimator, whose floats are whole, int64 or text.

    ValueError where they are none of these.
    """
    if given is None:
        return None
    classes = np.asarray(given)
    if classes.dtype.kind in "iu" and (classes.size == 0 or int(classes.max()) < 2**63):
        return classes.astype(np.int64)
    if estimator and (classes.dtype.kind == "b" or (classes.dtype.kind == "f" and (np.abs(classes) < 2**63).all())):
        return classes.astype(np.int64)
    if classes.dtype.kind == "f":
        return classes.astype(np.float64)
    if classes.dtype.kind == "b":
        return classes
    if all(isinstance(value, str) for value in classes.tolist()):
        return classes.astype(object)
    raise ValueError(f"classes has dtype {classes.dtype}, expected integers of 64 bits, floats, bools or text for ONNX")


def _validate_classes(classes: Array, count: int) -> None:
    if classes.shape != (count,):
        raise ValueError(f"classes has shape {classes.shape}, expected one for each of {count} classes")


def _about(frozen: Frozen, classes: Array | None) -> dict[str, str]:
    """What the file says beside the graph: JSON where it is no text."""
    said = {"fastnn_version": __version__}
    if frozen.loss is not None:
        said["loss"] = frozen.loss.name
    if frozen.linked:
        said["predict"] = "probabilities"
    if frozen.border.names is not None:
        said["feature_names"] = json.dumps(frozen.border.names)
    if classes is not None:
        said["classes"] = json.dumps(classes.tolist())
    return said
