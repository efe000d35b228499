"""A layer and the module that has the same values: which tensor is which, and copying them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn as tnn

from fastnn.nn.layers import Layer
from fastnn.torch.normalize import Normalize

Array = np.ndarray
NAMED = {  # activations that have no setting
    tnn.ReLU: "relu",
    tnn.SELU: "selu",
    tnn.SiLU: "silu",
    tnn.Mish: "mish",
    tnn.Sigmoid: "sigmoid",
    tnn.Tanh: "tanh",
    tnn.Softsign: "softsign",
    tnn.Hardsigmoid: "hard_sigmoid",
}
# role of a layer's tensor -> attribute of the module; weights are (I, O) here and (O, I) there
_NORM = {"gamma": "weight", "beta": "bias"}
_TENSORS: dict[type, dict[str, str]] = {
    tnn.Linear: {"weight": "weight", "bias": "bias"},
    tnn.PReLU: {"slope": "weight"},
    tnn.LayerNorm: _NORM,
    tnn.RMSNorm: {"gamma": "weight"},
    tnn.BatchNorm1d: _NORM | {"running_mean": "running_mean", "running_var": "running_var"},
    Normalize: {"shift": "shift", "scale": "scale"},
}


class Pair(NamedTuple):
    """A layer and the module it was made from."""

    path: str  # "module[1][0]"
    layer: Layer
    module: Any


def tensors(pair: Pair) -> Iterator[tuple[Array, Any]]:
    """Each live view of the layer with the module's tensor of the same values; both change in place."""
    for role, tensor in roles(pair.module):
        view = pair.layer._view(role)
        yield view.T if role == "weight" else view, tensor


def roles(module: Any) -> Iterator[tuple[str, Any]]:
    for role, attribute in _TENSORS.get(type(module), {}).items():
        tensor = getattr(module, attribute)
        if tensor is not None:
            yield role, tensor


def write_back(pairs: Sequence[Pair]) -> None:
    with torch.no_grad():
        for pair in pairs:
            for view, tensor in tensors(pair):
                tensor.copy_(torch.from_numpy(view))
