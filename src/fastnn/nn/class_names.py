"""What a model calls its classes: `metadata["classes"]`, where `from_onnx` puts them and exporters find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.formulas.losses import Loss
from fastnn.plan import Plan

Array = np.ndarray


def class_names(metadata: Mapping[str, Any], plan: Plan, loss: Loss | None) -> Array | None:
    """The list under "classes", one for each class of the predictions: all text, all bools, all whole numbers of 64
    bits or all floats. None where it is anything else: metadata are the user's own.

    >>> model = Sequential([nn.Dense(1)]).build(3, seed=0)
    >>> class_names({"classes": ["no", "yes"]}, model.plan, nn.LOSSES["binary_cross_entropy"])
    array(['no', 'yes'], dtype=object)
    """
    found = metadata.get("classes")
    if loss is None or loss.link not in ("softmax", "sigmoid") or len(plan.output_shape) > 1:
        return None
    count = 2 if loss.link == "sigmoid" and plan.outputs == 1 else plan.outputs
    if not isinstance(found, list) or len(found) != count or len({type(name) for name in found}) != 1:
        return None
    kind = type(found[0])
    if kind is int and not all(-(2**63) <= name < 2**63 for name in found):
        return None
    return np.array(found, dtype=object if kind is str else kind) if kind in (str, bool, int, float) else None
