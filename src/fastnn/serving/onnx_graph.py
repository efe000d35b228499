"""Graph: nodes and constants of an ONNX model while it is made, then the file. Knows ONNX, no layers and no operations.

The package onnx is imported only where the file is made; nodes are made without it, so that who reads files can compare
theirs with ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn._version import __version__
from fastnn.errors import missing_extra

Array = np.ndarray
OPSETS = range(13, 25)
# The oldest version of the file format that may hold an opset: runtimes refuse a file that is newer than they are.
IR_VERSION = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}
MOST_BYTES = (1 << 31) - (1 << 20)  # protobuf holds 2 GiB: of weights, a MiB less for all else


def package(purpose: str) -> Any:
    """The package onnx. ImportError names the extra [onnx] where it is missing."""
    try:
        import onnx
    except ImportError as error:
        raise missing_extra("onnx", purpose, "onnx") from error
    return onnx


class Node(NamedTuple):
    """One operator of ONNX with one output."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Nodes in the order in which they are computed. `g("Add", x, 0.5)` adds one and gives the name of its output;
    numbers and arrays among its inputs become constants of `dtype`.

    named: what tensors of the operation that is being written are called in the file. saved: what skips will read
    again.
    """

    def __init__(self, opset: int, dtype: np.dtype[Any]) -> None:
        self.opset, self.dtype = opset, dtype
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.named: Mapping[str, str] = {}
        self.saved: list[str] = []

    @property
    def double(self) -> bool:
        return self.dtype == np.float64

    def __call__(self, op: str, *inputs: str | float | Array, **attributes: Any) -> str:
        names = tuple(each if isinstance(each, str) else self.constant(each) for each in inputs)
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(op, names, output, attributes))
        return output

    def constant(self, values: Any, role: str = "", dtype: Any = None) -> str:
        """The name of a constant. role: of the operation's tensor that it is, "" for a number of a formula."""
        array = np.asarray(values, dtype=self.dtype if dtype is None else dtype)
        name = self.named.get(role, role) or f"constant_{array.dtype}"
        number = 0
        while (taken := f"{name}_{number}" if number else name) in self.constants:
            if _same(self.constants[taken], array):
                return taken
            number += 1
        self.constants[taken] = array
        return taken

    def whole(self, *values: int) -> str:
        """A constant of int64, as shapes and axes are."""
        return self.constant(list(values), dtype=np.int64)

    def cast(self, x: str, dtype: Any) -> str:
        return self("Cast", x, to=np.dtype(dtype))

    def call(self, value: str, name: str) -> None:
        """Give the name to a value that becomes an output."""
        if value not in {node.output for node in self.nodes}:
            value = self("Identity", value)
        renamed = {value: name}
        self.nodes = [
            node._replace(
                inputs=tuple(renamed.get(each, each) for each in node.inputs),
                output=renamed.get(node.output, node.output),
            )
            for node in self.nodes
        ]


class Value(NamedTuple):
    """An input or an output of the model: n rows of a shape."""

    name: str
    dtype: np.dtype[Any] | type  # str: text
    shape: Sequence[int]


def serialized(g: Graph, inputs: Value, outputs: Sequence[Value], about: Mapping[str, str]) -> bytes:
    """The file. ValueError where the weights are more than one holds, ImportError without the package onnx."""
    size = sum(array.nbytes for array in g.constants.values())
    if size > MOST_BYTES:
        raise ValueError(f"the network has {size} bytes of weights, expected {MOST_BYTES} at most in an ONNX file")
    onnx = package("to_onnx")
    helper = onnx.helper
    graph = helper.make_graph(
        [_node(onnx, node) for node in g.nodes],
        "fastnn",
        [_value(onnx, inputs)],
        [_value(onnx, value) for value in outputs],
        [tensor(onnx, name, array) for name, array in g.constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", g.opset)],
        ir_version=IR_VERSION[g.opset],
        producer_name="fastnn",
        producer_version=__version__,
    )
    helper.set_model_props(model, dict(about))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _node(onnx: Any, node: Node) -> Any:
    attributes = {
        name: onnx.helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
        for name, value in node.attributes.items()
    }
    return onnx.helper.make_node(node.op, node.inputs, [node.output], name=node.output, **attributes)


def tensor(onnx: Any, name: str, array: Array) -> Any:
    """A constant as the package onnx has it."""
    if array.dtype.kind in "OU":
        text = [str(value).encode() for value in array.ravel()]
        return onnx.helper.make_tensor(name, onnx.TensorProto.STRING, array.shape, text)
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _value(onnx: Any, value: Value) -> Any:
    kind = (
        onnx.TensorProto.STRING if value.dtype is str else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    )
    return onnx.helper.make_tensor_value_info(value.name, kind, ["n", *value.shape])
