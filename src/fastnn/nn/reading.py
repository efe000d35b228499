"""A model from its file: what the header and the tensors say, checked against each other, then a Sequential of it.

Nothing in a file is executed; what cannot be is refused by name. `Sequential.save` writes.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from fastnn import _validate, files
from fastnn.errors import ModelFormatError
from fastnn.nn.model import Sequential
from fastnn.nn.serialize import check_header, layer_from_config, loss_from_config, same_keys, short
from fastnn.nn.target_scale import TargetScale
from fastnn.plan import Plan, State

Array = np.ndarray


def load(path: str | os.PathLike[str]) -> Sequential:
    """The model that `Sequential.save` put into the file `path`: it predicts the same bits.

    Nothing in the file is executed. OSError where it cannot be read; ModelFormatError where it is not a model's, is
    damaged, or says what cannot be: an unknown layer, a number out of range, tensors that are not those of the layers.

    >>> import tempfile
    >>> model = fastnn.Sequential([nn.Dense(2, activation="relu")]).build(3, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model", metadata={"unit": "m"})
    ...     again = fastnn.load(f"{folder}/model")
    >>> again.metadata, np.array_equal(again.predict(np.eye(3)), model.predict(np.eye(3)))
    ({'unit': 'm'}, True)
    """
    header, arrays = files.read(path)
    try:
        return _assemble(header, arrays)
    except ModelFormatError as error:
        raise ModelFormatError(f"{os.fspath(path)}: {files.brief(error)}") from None


def _assemble(header: dict[str, Any], arrays: dict[str, Array]) -> Sequential:
    check_header(header)
    parts = [layer_from_config(config, f"layers[{index}]") for index, config in enumerate(header["layers"])]
    try:
        model = Sequential(parts, dtype=header["dtype"])
    except (TypeError, ValueError) as error:
        raise ModelFormatError(str(error)) from None
    model.loss = loss_from_config(header["loss"])
    vars(model)["metadata"] = header["metadata"]  # as it is: files of before have NaN, which is refused since
    model.row_shape = _row_shape(header["row_shape"], header["inputs"])
    if header["inputs"] is None:
        same_keys("the model, which was not built, with its tensors,", set(arrays), set())
    else:
        _restore_state(model, header["inputs"], arrays)
    if "target_scale" in header:
        outputs = model.plan.outputs if model.built else None
        model.target_scale = TargetScale.from_config(header["target_scale"], outputs)
    model.feature_names = _feature_names(header["feature_names"], header["inputs"])
    return model


def _restore_state(model: Sequential, inputs: int, arrays: dict[str, Array]) -> None:
    """The state from the arrays: compared with the plan before anything of the plan's size is allocated."""
    try:
        plan, spans = model._lower(model.row_shape or _validate.integer("inputs", inputs))
    except (TypeError, ValueError) as error:
        raise ModelFormatError(str(error)) from None
    _check_tensors(plan, arrays)
    state = State(plan)
    for name, view in state.views.items():
        view[...] = arrays[name]
    model._plan, model._state, model._spans = plan, state, spans
    model._bind()


def _check_tensors(plan: Plan, arrays: dict[str, Array]) -> None:
    same_keys("the model with its tensors", set(arrays), {tensor.name for tensor in plan.tensors})
    for tensor in plan.tensors:
        got = arrays[tensor.name]
        dtype = np.dtype(np.float64) if tensor.scaling else plan.dtype
        if got.shape != tensor.shape or got.dtype.newbyteorder("=") != dtype:
            raise ModelFormatError(
                f"tensor {tensor.name} is {got.dtype} {got.shape}, but its layer has {dtype} {tensor.shape}"
            )


def _row_shape(shape: Any, inputs: int | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    if not all(type(size) is int and size > 0 for size in shape) or math.prod(shape) != inputs:
        raise ModelFormatError(f"row_shape is {short(shape)}, expected sizes whose product is {inputs}")
    return tuple(shape)


def _feature_names(names: Any, inputs: int | None) -> list[str] | None:
    if names is None:
        return None
    if not all(isinstance(name, str) for name in names) or len(names) != inputs:
        raise ModelFormatError(f"feature_names is {short(names)}, expected one text for each of {inputs} inputs")
    return list(names)
