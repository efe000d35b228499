"""The estimators for skl2onnx: within its pipelines they are converted with all else. Nodes are serving.onnx's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.errors import missing_extra
from fastnn.estimators.classifier import MLPClassifier
from fastnn.estimators.regressor import MLPRegressor
from fastnn.serving.onnx import graph_of
from fastnn.serving.onnx_graph import Graph, Node, package, tensor


def register_skl2onnx() -> None:
    """Tell skl2onnx how MLPClassifier and MLPRegressor are converted, alone and in pipelines: once, before `to_onnx`.

    Outputs are those of scikit-learn's own: `label` and `probabilities`, as dicts unless the option zipmap is False;
    `variable` (n, O). ImportError without skl2onnx.

        fastnn.estimators.register_skl2onnx()
        skl2onnx.to_onnx(make_pipeline(StandardScaler(), fastnn.MLPClassifier()).fit(X, y), X[:1])
    """
    try:
        import skl2onnx
    except ImportError as error:
        raise missing_extra("skl2onnx", "register_skl2onnx", "onnx") from error
    options = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [False, True]}
    register = skl2onnx.update_registered_converter
    register(MLPClassifier, "FastnnMLPClassifier", _classifier_outputs, _convert, options=options)
    register(MLPRegressor, "FastnnMLPRegressor", _regressor_outputs, _convert)


def _classifier_outputs(operator: Any) -> None:
    _, made = _graph(operator)
    for variable, value in zip(operator.outputs, made, strict=True):
        _declare(operator, variable, value.dtype, value.shape)


def _regressor_outputs(operator: Any) -> None:
    _, (made,) = _graph(operator)
    _declare(operator, operator.outputs[0], made.dtype, made.shape or (1,))


def _declare(operator: Any, variable: Any, dtype: Any, shape: Any) -> None:
    from skl2onnx.common import data_types

    kinds = {
        str: data_types.StringTensorType,
        np.dtype(np.int64): data_types.Int64TensorType,
        np.dtype(np.float32): data_types.FloatTensorType,
        np.dtype(np.float64): data_types.DoubleTensorType,
    }
    variable.type = kinds[dtype]([operator.inputs[0].get_first_dimension(), *shape])


def _graph(operator: Any) -> tuple[Graph, Any]:
    """The nodes of an operator of skl2onnx. ValueError where its inputs are several, or no numbers."""
    from skl2onnx.common import data_types

    dtypes: dict[Any, Any] = {
        data_types.FloatTensorType: np.float32,
        data_types.DoubleTensorType: np.float64,
        data_types.Int64TensorType: np.int64,
        data_types.BooleanTensorType: np.bool_,
    }
    model, inputs = operator.raw_operator, operator.inputs
    given = dtypes.get(type(inputs[0].type))
    if len(inputs) != 1 or given is None:
        types = ", ".join(type(one.type).__name__ for one in inputs)
        raise ValueError(f"{type(model).__name__} has the inputs {types}, expected one of floats, integers or bools")
    return graph_of(model._frozen(), operator.target_opset, np.dtype(given), estimator=True)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    g, made = _graph(operator)
    if not made[0].shape and made[0].name == "predictions":  # where scikit-learn has (n,), skl2onnx has (n, 1)
        g.call(g("Reshape", "predictions", g.whole(-1, 1)), "column")
        made = [made[0]._replace(name="column")]
    names = {"X": operator.inputs[0].full_name}
    names |= {value.name: output.full_name for value, output in zip(made, operator.outputs, strict=True)}
    for name, values in g.constants.items():
        names[name] = scope.get_unique_variable_name(f"fastnn_{name}")
        made_of = tensor(package("register_skl2onnx"), names[name], values)
        container.initializers.append(made_of)
    for node in g.nodes:
        _add(scope, container, node, names, g.opset)


def _add(scope: Any, container: Any, node: Node, names: dict[str, str], opset: int) -> None:
    if node.output not in names:
        names[node.output] = scope.get_unique_variable_name(f"fastnn_{node.output}")
    onnx = package("register_skl2onnx")
    attributes = {
        name: onnx.helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
        for name, value in node.attributes.items()
    }
    inputs = [names[name] for name in node.inputs]
    name = scope.get_unique_operator_name(node.op)
    container.add_node(node.op, inputs, [names[node.output]], op_version=opset, name=name, **attributes)
