"""Parameters of an estimator as what JSON holds, and back. Refuses by name; knows no files and no networks.

None, bools, whole numbers, finite floats, text and lists are themselves. All else is an object of one key, which says
what it is: {"tuple": [...]}, {"dict": [[key, value], ...]}, {"float": "inf"}, {"loss": {...}}, {"layer": {...}}
(activations too), {"optimizer": {...}}, {"schedule": {...}}.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn._text import short
from fastnn.errors import ModelFormatError
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.nn.layers import Layer
from fastnn.nn.serialize import (
    MOST,
    classes_of,
    from_config,
    loss_from_config,
    loss_to_config,
    same_keys,
    to_config,
)
from fastnn.optim import optimizers, schedules
from fastnn.optim.optimizers import Optimizer
from fastnn.optim.schedules import Schedule

_DEEPEST = 20  # lists in lists; schedules in schedules
_FLOATS = {str(value): value for value in (math.inf, -math.inf, math.nan)}
_DECLARED: dict[str, tuple[type, dict[str, Any]]] = {
    "optimizer": (Optimizer, classes_of(optimizers, Optimizer)),
    "schedule": (Schedule, classes_of(schedules, Schedule)),
}


def without_numpy(value: Any) -> Any:
    """The same with NumPy's numbers as Python's, and arrays as lists."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if type(value) in (list, tuple):
        return type(value)(map(without_numpy, value))
    if type(value) is dict:
        return {without_numpy(key): without_numpy(each) for key, each in value.items()}
    return value


def encoded(value: Any, where: str, depth: int = 0) -> Any:
    """The value as what JSON holds. `where` names it in the TypeError for what it does not.

    >>> encoded((64, 32), "hidden_layer_sizes"), encoded({"a": 2.0}, "class_weight")
    ({'tuple': [64, 32]}, {'dict': [['a', 2.0]]})
    """
    if depth > _DEEPEST:
        raise TypeError(f"{where} is nested too deeply")
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int and abs(value) < MOST:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) in (list, tuple):
        items = [encoded(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if type(value) is dict:
        pairs = [[encoded(each, where, depth + 1) for each in pair] for pair in value.items()]
        return {"dict": pairs}
    return _object(value, where, depth)


def _object(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, Loss):
        return {"loss": loss_to_config(value, where)}
    if isinstance(value, (Layer, Activation)):
        return {"layer": to_config(value, where)}
    for name, (base, kinds) in _DECLARED.items():
        if isinstance(value, base) and kinds.get(type(value).__name__) is type(value):
            said = {
                field.name: encoded(without_numpy(getattr(value, field.name)), f"{where}.{field.name}", depth + 1)
                for field in dataclasses.fields(kinds[type(value).__name__])
            }
            return {name: {"kind": type(value).__name__} | said}
    raise TypeError(
        f"{where} is {short(value)} ({type(value).__name__}), expected numbers, text, lists, dicts, or a loss, an "
        f"activation, an optimizer or a schedule of fastnn"
    )


def decoded(value: Any, where: str, depth: int = 0) -> Any:
    """What `encoded` wrote. ModelFormatError names what it cannot have written.

    >>> decoded({"tuple": [64, {"float": "inf"}]}, "n")
    (64, inf)
    """
    if depth > _DEEPEST:
        raise ModelFormatError(f"{where} is nested too deeply")
    if isinstance(value, list):
        return [decoded(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelFormatError(f"{where} is {value}, expected an object of the key 'float'")
    if isinstance(value, int) and abs(value) >= MOST:
        raise ModelFormatError(f"{where} is a whole number of over 4000 digits, expected fewer")
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ModelFormatError(f"{where} is {short(value)}, expected an object of one key")
    ((kind, content),) = value.items()
    reader = _READERS.get(kind)
    if reader is None:
        raise ModelFormatError(f"{where} has the key {short(kind)}, which this version of fastnn does not know")
    try:
        return reader(content, where, depth + 1)
    except ModelFormatError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise ModelFormatError(f"{where} ({kind}): {error}") from None


def _tuple(content: Any, where: str, depth: int) -> tuple[Any, ...]:
    return tuple(_list(content, where, depth))


def _list(content: Any, where: str, depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise ModelFormatError(f"{where} is {short(content)}, expected a list")
    made: list[Any] = decoded(content, where, depth)
    return made


def _dict(content: Any, where: str, depth: int) -> dict[Any, Any]:
    pairs = _list(content, where, depth)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ModelFormatError(f"{where} is {short(content)}, expected pairs of a key and a value")
    made = dict(pairs)  # TypeError: a key that is none
    if len(made) != len(pairs):
        raise ModelFormatError(f"{where} has a key twice")
    return made


def _loss(content: Any, where: str, depth: int) -> Loss:
    if not isinstance(content, dict):
        raise ModelFormatError(f"{where} is {short(content)}, expected a loss")
    made = loss_from_config(content)
    assert made is not None, "of None alone"
    return made


def _layer(content: Any, where: str, depth: int) -> Layer | Activation:
    made = from_config(content, where)
    if not isinstance(made, (Layer, Activation)):
        raise ModelFormatError(f"{where} is {short(content)}, expected a layer or an activation")
    return made


def _declared(name: str) -> Callable[[Any, str, int], Any]:
    _, kinds = _DECLARED[name]

    def read(content: Any, where: str, depth: int) -> Any:
        kind = content.get("kind") if isinstance(content, dict) else None
        if not isinstance(kind, str) or kind not in kinds:
            raise ModelFormatError(f"{where} is {short(content)}, expected one of: {', '.join(kinds)}")
        maker = kinds[kind]
        names = {field.name for field in dataclasses.fields(maker)}
        same_keys(f"{where} ({kind})", set(content) - {"kind"}, names)
        return maker(**{key: decoded(content[key], f"{where}.{key}", depth) for key in sorted(names)})

    return read


def _float(content: Any, where: str, depth: int) -> float:
    if not isinstance(content, str) or content not in _FLOATS:
        raise ModelFormatError(f"{where} is {short(content)}, expected one of: {', '.join(_FLOATS)}")
    return _FLOATS[content]


_READERS: Mapping[str, Callable[[Any, str, int], Any]] = {
    "float": _float,
    "tuple": _tuple,
    "dict": _dict,
    "loss": _loss,
    "layer": _layer,
    "optimizer": _declared("optimizer"),
    "schedule": _declared("schedule"),
}
