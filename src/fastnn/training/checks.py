"""What the header of a checkpoint may say, and what it means for its arrays. Reads no files, and knows no fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Kinds = type | tuple[type, ...]
NUMBER = (int, float)
_LARGEST = 1 << 63  # steps, epochs; and of a seed the half
_MOST_SLOTS = 16  # of an optimizer's rule: no rule has more than 3
_FIELDS: dict[str, Kinds] = {
    "version": str,
    "backend": str,
    "instruction_set": (str, type(None)),
    "identity": dict,
    "seed": int,
    "slots": int,
    "rule": (str, type(None)),
    "step": int,
    "epoch": int,
    "first_epoch": int,
    "done": int,
    "seconds": NUMBER,
    "rate": NUMBER,
    "logs": dict,
    "lr_scale": NUMBER,
    "stopped": (str, type(None)),
    "history": dict,
    "callbacks": list,
}
_COUNTS = ("seed", "slots", "step", "epoch", "first_epoch", "done")


def is_a(value: Any, kinds: Kinds) -> bool:
    """isinstance, but that True is no number."""
    return isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))


def wrong(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> str | None:
    """What in a header cannot be, by name; None where all can."""
    for name, kinds in _FIELDS.items():
        if name not in header or not is_a(header[name], kinds):
            return name
    for name in _COUNTS:
        if not 0 <= header[name] < (_MOST_SLOTS if name == "slots" else 2 * _LARGEST if name == "seed" else _LARGEST):
            return name
    if header["first_epoch"] > header["epoch"]:
        return "first_epoch"
    if not 0.0 <= header["lr_scale"] < math.inf:
        return "lr_scale"
    if not _is_seen(header.get("seen", [0, 0.0])):
        return "seen"
    if not all(is_a(value, str) for value in header["identity"].values()):
        return "identity"
    if not all(is_a(value, NUMBER) for value in header["logs"].values()):
        return "logs"
    if not all(_is_column(values, header["epoch"]) for values in header["history"].values()):
        return "history"
    if not all(_is_callback(kept, arrays) for kept in header["callbacks"]):
        return "callbacks"
    steps = [arrays[name] for name in ("losses", "weights") if name in arrays]
    shape, many = (header["done"],), 2 if header["done"] else 0
    if len(steps) != many or any(each.shape != shape or each.dtype != np.float64 for each in steps):
        return "losses and weights"
    return None


def _is_seen(seen: Any) -> bool:
    """Whether it is a number of rows and what they weigh."""
    if not is_a(seen, list) or len(seen) != 2 or not is_a(seen[0], int) or not is_a(seen[1], NUMBER):
        return False
    return bool(0 <= seen[0] < _LARGEST and 0.0 <= seen[1] < math.inf)


def _is_column(values: Any, length: int) -> bool:
    return is_a(values, list) and len(values) == length and all(is_a(value, NUMBER) for value in values)


def _is_callback(kept: Any, arrays: Mapping[str, Array]) -> bool:
    if not is_a(kept, list) or [type(part) for part in kept] != [str, dict, bool]:
        return False
    return kept[1].keys() == {"items"} and _is_state(kept[1], arrays)


def _is_state(value: Any, arrays: Mapping[str, Array]) -> bool:
    """Whether it is what a callback's state became: arrays by their names, objects within "items"."""
    if isinstance(value, list):
        return all(_is_state(item, arrays) for item in value)
    if not isinstance(value, dict):
        return True
    if value.keys() == {"array"}:
        return isinstance(value["array"], str) and value["array"] in arrays
    inside = value.get("items")
    return value.keys() == {"items"} and isinstance(inside, dict) and all(_is_state(v, arrays) for v in inside.values())


def check_state(state: Mapping[str, Any], **kinds: Kinds) -> None:
    """ValueError where a callback's state has something else than these, or of other types."""
    if state.keys() != kinds.keys():
        raise ValueError(f"its state has {', '.join(state) or 'nothing'}, expected {', '.join(kinds)}")
    for name, kind in kinds.items():
        if not is_a(state[name], kind):
            raise ValueError(f"{name} of its state is {str(state[name])[:80]!r}, which it cannot be")


def check_copies(name: str, copies: list[Any], sizes: tuple[int, ...]) -> None:
    """ValueError where a callback's copies are not arrays of these sizes, or none at all."""
    found = [copy.shape if isinstance(copy, np.ndarray) and copy.dtype.kind == "f" else None for copy in copies]
    if found and found != [(size,) for size in sizes]:
        raise ValueError(f"{name} of its state has not the {len(sizes)} arrays of the model")
