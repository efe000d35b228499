"""A model from its file: what the header and the tensors say, checked against each other, then a Sequential of it.

Nothing in a file is executed; what cannot be is refused by name. `Sequential.save` writes.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import _text, _validate, files
from fastnn._text import short
from fastnn.errors import ModelFormatError
from fastnn.nn import rechecks
from fastnn.nn.model import Sequential
from fastnn.nn.serialize import check_header, layer_from_config, loss_from_config, same_keys
from fastnn.nn.target_scale import TargetScale
from fastnn.plan import Plan, State

Array = np.ndarray


def load(path: str | os.PathLike[str]) -> Sequential:
    """The model in the file `path`: `fastnn.load` for who expects a model. ModelFormatError where there is none."""
    header, arrays = files.read(path, views=True)
    with naming(path):
        return assembled(header, arrays)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """A ModelFormatError says of which file."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"{os.fspath(path)}: {files.brief(error)}") from None


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What is refused of a model is, of a file, a ModelFormatError."""
    try:
        yield
    except ValueError as error:
        raise ModelFormatError(str(error)) from None


def assembled(header: dict[str, Any], arrays: dict[str, Array]) -> Sequential:
    """The model that a file's header and arrays are. ModelFormatError where they say what cannot be."""
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
        restore_state(model, header["inputs"], arrays)
    if "target_scale" in header:
        outputs = model.plan.outputs if model.built else None
        model.target_scale = TargetScale.from_config(header["target_scale"], outputs)
    if model.built:
        with _refusing():
            rechecks.loss_fits(model.loss, model.plan)
    model.feature_names = checked_names(header["feature_names"], header["inputs"])
    return model


def restore_state(model: Sequential, inputs: int, arrays: dict[str, Array]) -> None:
    """Build the model with the state from the arrays, which are compared with its plan before any is allocated."""
    try:
        plan, spans = model._lower(model.row_shape or _validate.integer("inputs", inputs))
    except (TypeError, ValueError) as error:
        raise ModelFormatError(str(error)) from None
    model._state = state_of(plan, arrays)
    model._plan, model._spans = plan, spans
    model._bind()


def state_of(plan: Plan, arrays: dict[str, Array]) -> State:
    """A state with the tensors in `arrays`. ModelFormatError, before it is allocated, where they are not the plan's."""
    _check_tensors(plan, arrays)
    with _refusing():
        rechecks.biases_are_used(plan, arrays)
    state = State(plan)
    for name, view in state.views.items():
        view[...] = arrays[name]
    return state


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


def checked_names(names: Any, inputs: int | None) -> list[str] | None:
    """The names of the features, a text each; None where there are none. ModelFormatError otherwise."""
    if names is None:
        return None
    if not all(isinstance(name, str) for name in names) or len(names) != inputs:
        raise ModelFormatError(f"feature_names is {short(names)}, expected one text for each of {inputs} inputs")
    with _refusing():
        return _text.unique_names(names)
