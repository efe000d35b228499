"""What a model's file says of it: layers and losses <-> plain dicts. `Sequential.save` writes, `reading.py` reads.

A layer is written as its constructor's arguments, `{"kind": "Dense", "units": 4, "activation": {"kind": "relu",
"alpha": 0.0}, ...}`, and read by calling that constructor: whatever it refuses, a file cannot hold. A new layer,
activation or initialiser is therefore known here as soon as its own module has it.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from fastnn._text import short
from fastnn._version import __version__
from fastnn.errors import ModelFormatError
from fastnn.formulas import activations, initializers, losses
from fastnn.formulas.activations import Activation
from fastnn.formulas.initializers import Initializer
from fastnn.formulas.losses import Loss
from fastnn.nn import layers
from fastnn.nn.layers import Layer

Array = np.ndarray
FORMAT = "fastnn model"
ESTIMATOR = "fastnn estimator"  # what estimators/kept.py has; its name here, where scikit-learn is not needed
VERSION = 1  # of the header; the layout of the bytes has one of its own, in files.MAGIC
MOST = 10**4000  # of a whole number in metadata: Python reads and writes 4300 digits
MOST_LAYERS = 4096  # of a file, where one may have 20 bytes: it takes 1,400 in memory, and 50 us to make
_DEEPEST = 100  # a Dense, its activation; a Residual, its list, and so on for 32 of them
FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "version": int,
    "written_by": str,
    "dtype": str,
    "layers": list,
    "inputs": (int, type(None)),
    "loss": (dict, type(None)),
    "row_shape": (list, type(None)),
    "feature_names": (list, type(None)),
    "metadata": dict,
}
OPTIONAL = {"target_scale"}  # of models that have one


def classes_of(module: Any, base: type) -> dict[str, type]:
    """Those of that base which a module has for users, by name."""
    return {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base and not name.startswith("_")
    }


LAYERS = classes_of(layers, Layer)
INITIALIZERS = classes_of(initializers, Initializer)
MAKERS: dict[str, Callable[..., Any]] = {
    **LAYERS,
    **INITIALIZERS,
    **{name: activation.with_alpha for name, activation in activations.ACTIVATIONS.items()},
}
assert len(MAKERS) == len(LAYERS) + len(INITIALIZERS) + len(activations.ACTIVATIONS)


# Layers as dicts ------------------------------------------------------------------------------------------


def to_config(thing: Any, where: str = "layer") -> Any:
    """A layer, activation, initialiser or plain value as what JSON holds. `where` names it in errors.

    TypeError for a class of the user's own, and for values that are none of these.

    >>> to_config(layers.PReLU(0.1))
    {'kind': 'PReLU', 'init': 0.1}
    """
    if thing is None or isinstance(thing, (bool, str)):
        return thing
    if isinstance(thing, (int, float, np.integer, np.floating, np.bool_)):
        return thing.item() if isinstance(thing, np.generic) else thing
    if isinstance(thing, Activation):
        if not thing.built_in:
            raise TypeError(f"{where} is {thing}, an activation of your own, expected one of fastnn.nn.ACTIVATIONS")
        return {"kind": thing.name, "alpha": thing.alpha}
    if isinstance(thing, (list, tuple)):
        return [to_config(each, f"{where}[{index}]") for index, each in enumerate(thing)]
    name = type(thing).__name__
    if MAKERS.get(name) is not type(thing):
        hint = ": set it to None, the weights that it drew are kept" if isinstance(thing, Initializer) else ""
        raise TypeError(f"{where} is {thing!r}, expected a layer, activation or initialiser of fastnn.nn{hint}")
    arguments = thing.arguments() if isinstance(thing, Layer) else vars(thing)
    return {"kind": name} | {key: to_config(value, f"{where}.{key}") for key, value in arguments.items()}


def from_config(config: Any, where: str = "layer", depth: int = 0) -> Any:
    """What `to_config` wrote. ModelFormatError names the field that is unknown, missing or out of range.

    >>> from_config({"kind": "PReLU", "init": 0.1})
    PReLU(init=0.1)
    """
    if not isinstance(config, (dict, list)):
        return config
    if depth == _DEEPEST:
        raise ModelFormatError(f"{where[:100]} ... is nested too deeply")
    if isinstance(config, list) and depth > 0:
        return [from_config(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(config)]
    if isinstance(config, list) or not isinstance(config.get("kind"), str):
        raise ModelFormatError(f"{where} is {short(config)}, expected an object with a kind")
    kind = config["kind"]
    maker = MAKERS.get(kind)
    if maker is None:
        raise ModelFormatError(f"{where} has kind {kind!r}, which this version of fastnn does not know")
    expected = _parameters(maker)
    same_keys(f"{where} ({kind})", set(config) - {"kind"}, expected)
    arguments = {key: from_config(config[key], f"{where}.{key}", depth + 1) for key in expected}
    try:
        return maker(**arguments)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{where} ({kind}): {error}") from None


@functools.cache
def _parameters(maker: Callable[..., Any]) -> Set[str]:
    """Their names: reading a signature takes a third of the time that a small model's file does."""
    return frozenset(inspect.signature(maker).parameters)


def same_keys(where: str, got: Set[str], expected: Set[str]) -> None:
    for problem, names in (("has no", expected - got), ("has the unknown field", got - expected)):
        if names:
            raise ModelFormatError(f"{where} {problem} {', '.join(sorted(names))}")


# Losses ---------------------------------------------------------------------------------------------------


def loss_to_config(loss: Loss | None, where: str = "the model's loss") -> dict[str, Any] | None:
    """A loss as what JSON holds. TypeError, in which `where` names it, for one of the user's own."""
    if loss is None:
        return None
    if not loss.known:
        raise TypeError(f"{where} is {loss}, a loss of your own, expected one of: {', '.join(losses.LOSSES)}")
    return {"name": loss.name, "parameter": list(loss.levels) if loss.levels else float(loss.parameter)}


def loss_from_config(config: Any) -> Loss | None:
    if config is None:
        return None
    same_keys("loss", set(config), {"name", "parameter"})
    try:
        return losses.get(config["name"]).with_parameter(config["parameter"])
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"loss: {error}") from None


# What else a file says ------------------------------------------------------------------------------------


def header(
    *,
    dtype: np.dtype,
    layers: Sequence[Layer],
    inputs: int | None,
    loss: Loss | None,
    row_shape: tuple[int, ...] | None,
    feature_names: list[str] | None,
    metadata: Mapping[str, Any],
    target_scale: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that is not tensors; inputs is None before the model is built. TypeError or ValueError for what it cannot be.

    >>> made = header(dtype=np.dtype("f4"), layers=[layers.PReLU()], inputs=3, loss=None, row_shape=None,
    ...               feature_names=None, metadata={"unit": "m"})
    >>> made["layers"], made["metadata"]
    ([{'kind': 'PReLU', 'init': 0.25}], {'unit': 'm'})
    """
    configs = [_layer_to_config(layer, f"layers[{index}]") for index, layer in enumerate(layers)]
    check_count(configs, "the model")
    return {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"fastnn {__version__}, NumPy {np.__version__}",
        "dtype": dtype.name,
        "layers": configs,
        "inputs": inputs,
        "loss": loss_to_config(loss),
        "row_shape": None if row_shape is None else list(row_shape),
        "feature_names": feature_names,
        "metadata": _checked_metadata(metadata),
        **({} if target_scale is None else {"target_scale": target_scale}),
    }


def check_count(config: Any, where: str) -> None:
    """ModelFormatError where there are more layers in it, at any depth, than a file may have."""
    layers, waiting = 0, [config]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            kind = each.get("kind")
            layers += isinstance(kind, str) and kind in LAYERS
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    if layers > MOST_LAYERS:
        raise ModelFormatError(f"{where} has {layers:,} layers, expected at most {MOST_LAYERS:,} in a file")


def _layer_to_config(layer: Layer, where: str) -> dict[str, Any]:
    config: dict[str, Any] = to_config(layer, where)
    kept = {name: to_config(getattr(layer, name)) for name in layer.KEPT}
    return config | {"kept": kept} if kept else config


def check_metadata(metadata: Any) -> None:
    """TypeError or ValueError for what JSON does not hold, or would not give back."""
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is {metadata!r}, expected a dict of what JSON holds")
    try:
        _only_text_keys(metadata, "metadata")
    except RecursionError:
        raise ValueError("metadata is nested too deeply, or has itself in it") from None


def _checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as JSON gives it back. TypeError or ValueError for what it does not hold, or would not give back."""
    try:
        check_metadata(metadata)
        copy: dict[str, Any] = json.loads(json.dumps(dict(metadata)))
    except RecursionError:
        raise ValueError("metadata is nested too deeply, or has itself in it") from None
    return copy


def _only_text_keys(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, expected text")
            _only_text_keys(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _only_text_keys(item, f"{where}[{index}]")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"{where} is {short(value)} ({type(value).__name__}), expected what JSON holds")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, expected what JSON holds, which is finite")
    elif isinstance(value, int) and abs(value) >= MOST:
        raise ValueError(f"{where} is a whole number of over 4000 digits, expected fewer: as text, any")


def check_header(header: dict[str, Any]) -> None:
    """Its format, its version, then its fields and their types."""
    if header.get("format") != FORMAT:
        raise ModelFormatError(f"this is not a model: format is {short(header.get('format'))}, expected {FORMAT!r}")
    if header.get("version") != VERSION:
        found, writer = short(header.get("version")), short(header.get("written_by"))
        raise ModelFormatError(f"version is {found}, expected {VERSION}: written by {writer}, this is {__version__}")
    same_keys("the header", set(header) - OPTIONAL, set(FIELDS))
    for name, kind in FIELDS.items():
        if not isinstance(header[name], kind) or isinstance(header[name], bool):
            raise ModelFormatError(f"{name} is {short(header[name])}, of the wrong type")
    check_count(header["layers"], "the model")


def layer_from_config(config: Any, where: str) -> Layer:
    kept: Any = {}
    if isinstance(config, dict) and "kept" in config:
        kept = config["kept"]
        config = {key: value for key, value in config.items() if key != "kept"}
    layer = from_config(config, where)
    if not isinstance(layer, Layer):
        raise ModelFormatError(f"{where} is {short(config)}, expected a layer")
    if not isinstance(kept, dict):
        raise ModelFormatError(f"{where}.kept is {short(kept)}, expected an object")
    same_keys(f"{where}.kept", set(kept), set(layer.KEPT))
    for name, value in kept.items():
        if type(value) is not type(getattr(layer, name)):
            raise ModelFormatError(
                f"{where}.kept.{name} is {short(value)}, expected {type(getattr(layer, name)).__name__}"
            )
        setattr(layer, name, value)
    return layer
