"""An ONNX file as nodes and constants by the names of their values: read and tidied. Knows no layers.

What does nothing in inference is gone: Identity, Dropout, casts between floats, whatever makes a constant of constants.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn import _text, files
from fastnn.errors import ModelFormatError
from fastnn.serving.onnx_graph import package

Array = np.ndarray
_LEAST_OPSET = 7  # before it, operators broadcast by attributes
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Attributes that say what an operator computes, with their defaults: the others of a node are not looked at.
DEFAULTS: dict[str, dict[str, Any]] = {
    "ArgMax": {"axis": 0, "keepdims": 1, "select_last_index": 0},
    "BatchNormalization": {"epsilon": 1e-5, "training_mode": 0},
    "Cast": {"to": 1},
    "Concat": {"axis": None},
    "CumSum": {"exclusive": 0, "reverse": 0},
    "Elu": {"alpha": 1.0},
    "Flatten": {"axis": 1},
    "Gather": {"axis": 0},
    "Gelu": {"approximate": "none"},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "LayerNormalization": {"axis": -1, "epsilon": 1e-5},
    "LeakyRelu": {"alpha": 0.01},
    "ReduceMean": {"axes": None, "keepdims": 1},
    "Reshape": {"allowzero": 0},
    "Scaler": {"offset": None, "scale": None},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Softmax": {"axis": None},  # -1 from opset 13 on, 1 before: the same where rows are vectors
    "Swish": {"alpha": 1.0},
    "ZipMap": {"classlabels_strings": None, "classlabels_int64s": None},
}
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


class Found(NamedTuple):
    """A node of the file: its operator, what it reads, the value that it makes, what its attributes say."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Given(NamedTuple):
    """The graph of a file. makers: the node that makes each value; they are in the order of computation.

    shape: of a row, None for a size that the file leaves open. dtype: of the weights.
    """

    rows: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    makers: dict[str, Found]
    constants: dict[str, Array]
    outputs: list[str]
    about: dict[str, str]


def read(path: str | os.PathLike[str]) -> Given:
    """OSError where the file cannot be read, ModelFormatError where it is none or says what cannot be."""
    onnx = package("from_onnx")
    target = _text.path("path", path)
    with open(target, "rb"):  # the error of who cannot read it, not that of the package
        pass
    try:
        model = onnx.load(target, format="protobuf")
        onnx.checker.check_model(model)  # operators with the inputs they need, each value made once, before it is read
        return _given(onnx, model)
    except (OSError, ModelFormatError):
        raise
    except Exception as error:  # of protobuf, the checker and numpy_helper, which do not say what they may raise
        raise ModelFormatError(f"it cannot be read as ONNX: {type(error).__name__}: {files.brief(error)}") from None


def _given(onnx: Any, model: Any) -> Given:
    versions = {each.domain: each.version for each in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset < _LEAST_OPSET:
        raise ModelFormatError(f"it has opset {opset}, expected {_LEAST_OPSET} or a later one of ONNX itself")
    graph = model.graph
    constants = {each.name: _array(onnx, each) for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise ModelFormatError(f"it has {len(inputs)} inputs, expected one: rows")
    makers, names = _tidied(onnx, graph.node, constants, opset)
    outputs = [names.get(each.name, each.name) for each in graph.output]
    shape = tuple(
        each.dim_value if each.WhichOneof("value") == "dim_value" and each.dim_value > 0 else None
        for each in inputs[0].type.tensor_type.shape.dim
    )
    about = {each.key: each.value for each in model.metadata_props}
    dtype = _dtype(onnx, makers, constants, graph)
    return Given(inputs[0].name, shape[1:], dtype, makers, constants, outputs, about)


def _array(onnx: Any, tensor: Any) -> Array:
    array: Array = onnx.numpy_helper.to_array(tensor)
    if array.dtype.kind == "c":
        raise ModelFormatError(f"tensor {tensor.name} is {array.dtype}, expected real numbers or text")
    return array


def _tidied(onnx: Any, nodes: Any, constants: dict[str, Array], opset: int) -> tuple[dict[str, Found], dict[str, str]]:
    """The nodes that are left by the values that they make, and what other values are: the names of their equals."""
    makers: dict[str, Found] = {}
    names: dict[str, str] = {}
    for node in nodes:
        if node.domain not in _DOMAINS:
            raise ModelFormatError(f"operator {node.op_type} is of domain {node.domain!r}, expected one of ONNX itself")
        attributes = {each.name: _attribute(onnx, each) for each in node.attribute}
        inputs = tuple(names.get(each, each) for each in node.input)
        found = Found(node.op_type, inputs, node.output[0], attributes)
        made = _constant(onnx, found, constants)
        if made is not None:
            constants[found.output] = made
        elif _passes(onnx, found, constants):
            names[found.output] = inputs[0]
        else:
            known = DEFAULTS.get(found.op, {})
            if found.op == "Softmax":
                known = {"axis": 1 if opset < 13 else -1}
            makers[found.output] = found._replace(
                attributes={name: attributes.get(name, known[name]) for name in known}
            )
    return makers, names


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (list, tuple)) or type(value).__name__.startswith("Repeated"):
        return [each.decode(errors="replace") if isinstance(each, bytes) else each for each in value]
    return value


def _passes(onnx: Any, node: Found, constants: Mapping[str, Array]) -> bool:
    """Whether what comes out is what went in."""
    if node.op == "Dropout":
        return not (len(node.inputs) > 2 and bool(np.any(constants.get(node.inputs[2], True))))
    return node.op == "Identity" or (node.op == "Cast" and _cast_to(onnx, node) in FLOATS)


def _cast_to(onnx: Any, node: Found) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    return dtype


# What exporters leave to the runtime to make of constants: weights that are transposed, numbers that are cast.
_OF_CONSTANTS: dict[str, Callable[..., Array]] = {
    "Identity": lambda node, value: value,
    "Transpose": lambda node, value: np.transpose(value, node.attributes.get("perm")),
    "Reshape": lambda node, value, shape: value.reshape([int(size) for size in shape]),
    "Unsqueeze": lambda node, value, axes=None: np.expand_dims(
        value, tuple(node.attributes["axes"] if axes is None else axes.tolist())
    ),
}


def _constant(onnx: Any, node: Found, constants: Mapping[str, Array]) -> Array | None:
    if node.op == "Constant":
        if "value" in node.attributes:
            return _array(onnx, node.attributes["value"])
        found = next((value for name, value in node.attributes.items() if name.startswith("value_")), None)
        return None if found is None else np.asarray(found, np.float32 if isinstance(found, float) else None)
    if not node.inputs or any(each not in constants for each in node.inputs):
        return None
    values = [constants[each] for each in node.inputs]
    if node.op == "Cast":
        return values[0].astype(_cast_to(onnx, node))
    return _OF_CONSTANTS[node.op](node, *values) if node.op in _OF_CONSTANTS else None


def _dtype(onnx: Any, makers: Mapping[str, Found], constants: Mapping[str, Array], graph: Any) -> np.dtype[Any]:
    """Of the first weights; where there are none, of what comes out."""
    for node in makers.values():
        if node.op in ("Gemm", "MatMul"):
            weights = next((constants[each].dtype for each in node.inputs if each in constants), FLOATS[0])
            if weights not in FLOATS:
                raise ModelFormatError(f"operator {node.op} has weights of {weights}, expected float32 or float64")
            return np.dtype(weights)
    double = graph.output[-1].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    return FLOATS[1] if double else FLOATS[0]
