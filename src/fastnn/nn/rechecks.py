"""What is looked at once more: Data that were checked, perhaps for another model or loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.data import Data
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.plan import Plan


def one_row_of_outputs(plan: Plan) -> None:
    """ValueError where rows that come out have positions: no loss says what these mean."""
    if len(plan.output_shape) > 1:
        raise ValueError(
            f"the model makes rows of shape {plan.output_shape}, expected (outputs,) for a loss: end with Flatten()"
        )


def settings_fit(layer: Any, dtype: np.dtype) -> None:
    """ValueError where a number among the layer's settings is none in dtype: it would be infinite, or divide by 0. What
    parameters begin with is said where they are drawn."""
    for name, value in vars(layer).items():
        if type(value) is float and name != "init":
            _validate.held(name, value, dtype, layer.where)
    if hasattr(layer, "epsilon"):
        _validate.epsilon(layer.epsilon, dtype, layer.where)
    activation = getattr(layer, "activation", None)
    if isinstance(activation, Activation):
        _validate.held(f"alpha of {activation.name}", activation.alpha, dtype, layer.where)
    layer.check_dtype(dtype)


def loss_fits(loss: Loss | None, plan: Plan) -> None:
    """ValueError where no targets make a loss of so many outputs: of one the softmax is 1, whatever is learned."""
    if loss is None or len(plan.output_shape) > 1:
        return
    if plan.outputs % loss.width:
        raise ValueError(f"the model has {plan.outputs} outputs, expected a multiple of {loss.width} for {loss}")
    if plan.outputs == 1 and ("values" not in loss.targets or loss.link == "softmax"):
        raise ValueError(f"the loss is {loss}, but the model has one output, expected two or more")


def biases_are_used(plan: Plan, arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError where a layer without a bias has one that is not 0: predictions would have it, and no other format."""
    for op in plan.ops:
        bias = op.tensors.get("b")
        if op.kind == "dense" and bias is not None and not bias.trainable and arrays[bias.name].any():
            raise ValueError(f"{bias.name} is not all 0, but its layer has bias=False")


def taken(data: Data, loss: Loss, outputs: int, model_dtype: np.dtype, dtype: np.dtype, prefix: str) -> Data:
    """The data themselves where they were checked for this loss and dtype; else what these make of y and the weights.

    ValueError where they take no such y. dtype: of the weights.
    """
    _check_kind(data, loss, outputs, model_dtype, f"{prefix}X")
    if data.y.ndim == 2 and data.loss is not None and data.loss != loss:
        y = _validate.targets(data.reported_y, loss, len(data), outputs, data.y.dtype, name=f"{prefix}y")
        data = replace(data, y=y, loss=loss)
    if data.weight is None or data.weight.dtype == dtype:
        return data
    weight = _validate.sample_weight(data.reported_weight, len(data), dtype, name=f"{prefix}sample_weight")
    return replace(data, weight=weight)


def _check_kind(data: Data, loss: Loss, outputs: int, dtype: np.dtype, name: str) -> None:
    """ValueError where y is not of the kind that the loss and this model take: Data from elsewhere."""
    y = data.y
    kind, wanted, shape = "labels", np.dtype(np.int64), y.shape
    if y.ndim == 2:
        kind, wanted, shape = "values", dtype, (len(y), outputs // loss.width)
    other = outputs % loss.width > 0 or kind not in loss.targets or y.dtype != wanted or y.shape != shape
    if other or (kind == "labels" and (y.min() < 0 or y.max() >= outputs)):
        raise ValueError(
            f"{name} is Data with y {y.shape} of {y.dtype}, expected what {loss} and {outputs} outputs in {dtype} "
            f"take: Data from this model's `checked`"
        )
