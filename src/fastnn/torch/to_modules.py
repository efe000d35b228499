"""From a fastnn.Sequential to a torch.nn.Sequential: each layer as modules, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn as tnn

from fastnn.formulas import activations
from fastnn.nn import layers
from fastnn.nn.layers import Layer
from fastnn.nn.model import Sequential
from fastnn.torch.normalize import Normalize
from fastnn.torch.pairs import NAMED, Pair, write_back


def _plain(kind: type, activation: activations.Activation) -> Any:
    return kind()


_SETTINGS: dict[str, Callable[[activations.Activation], Any]] = {
    "identity": lambda activation: tnn.Identity(),
    "leaky_relu": lambda activation: tnn.LeakyReLU(activation.alpha),
    "elu": lambda activation: tnn.ELU(activation.alpha),
    "gelu": lambda activation: tnn.GELU(),
    "gelu_tanh": lambda activation: tnn.GELU("tanh"),
    "softplus": lambda activation: tnn.Softplus(),
    "hard_tanh": lambda activation: tnn.Hardtanh(),
    **{name: partial(_plain, kind) for kind, name in NAMED.items()},
}


_IMAGES = (
    *(layers.Conv1D, layers.Conv2D, layers.MaxPool1D, layers.MaxPool2D, layers.AvgPool1D, layers.AvgPool2D),
    *(layers.GlobalMaxPool, layers.GlobalAvgPool, layers.ZeroPad, layers.Upsample),
)


def _parts(layer: Layer, inputs: int, outputs: int, options: dict[str, Any]) -> Iterator[tuple[Layer, Any]]:
    """The modules of one layer, each with the layer that has its tensors. TypeError where PyTorch has none."""
    if isinstance(layer, (layers.Dense, layers.Activation)):
        if isinstance(layer, layers.Dense):
            yield layer, tnn.Linear(inputs, outputs, bias=layer.bias_used, **options)
            inputs = outputs
        follow = layer.activation
        if isinstance(follow, Layer):
            yield from _parts(follow, inputs, outputs, options)
        elif follow.name not in _SETTINGS:
            raise TypeError(f"activation is {follow}, which torch.nn does not have")
        elif follow.name != "identity" or isinstance(layer, layers.Activation):
            yield layer, _SETTINGS[follow.name](follow)
    elif isinstance(layer, layers.PReLU):
        yield layer, tnn.PReLU(inputs, **options)
    elif isinstance(layer, layers.RReLU):
        yield layer, tnn.RReLU(layer.lower, layer.upper)
    elif isinstance(layer, layers.Softmax):
        yield layer, tnn.Softmax(dim=-1)
    elif isinstance(layer, layers.Dropout):
        yield layer, tnn.Dropout(layer.rate)
    elif isinstance(layer, layers.BatchNorm):
        yield layer, tnn.BatchNorm1d(inputs, layer.epsilon, 1.0 - layer.momentum, **options)
    elif isinstance(layer, layers.LayerNorm):
        yield layer, tnn.LayerNorm(inputs, layer.epsilon, **options)
    elif isinstance(layer, layers.RMSNorm):
        yield layer, tnn.RMSNorm(inputs, layer.epsilon, **options)
    elif isinstance(layer, layers.Flatten):
        yield layer, tnn.Flatten()
    elif isinstance(layer, (layers.SimpleRNN, layers.GRU, layers.LSTM)):
        raise TypeError("torch.nn's returns a pair, which no torch.nn.Sequential hands on")
    elif isinstance(layer, layers.Normalize):
        yield layer, Normalize(layer.shift, layer.scale, options["dtype"])
    elif isinstance(layer, _IMAGES):
        raise TypeError("convolutions, pools and what is made of images are not written as modules yet")
    else:
        raise TypeError("torch.nn has no such module")


def to_torch(model: Sequential) -> Any:
    """The torch.nn.Sequential that computes what `model` predicts: a copy of its values, in evaluation mode.

    `Normalize` becomes a `fastnn.torch.Normalize`. The model's loss is not in it: outputs are those of `predict`.

    NotFittedError before the model is built; TypeError names a layer that PyTorch has no module for (Maxout, Ordered,
    Scale, Residual, Reshape, and the activations binary_step and exponential), or none that a Sequential can hold (the
    recurrent ones, Embedding), one that is not written yet (Conv1D, Conv2D, MaxPool1D, MaxPool2D, AvgPool1D, AvgPool2D,
    GlobalMaxPool, GlobalAvgPool, ZeroPad, Upsample), or that the model scales its targets.

    >>> model = fastnn.Sequential([nn.Dense(2, activation="tanh")]).build(3, seed=0)
    >>> to_torch(model)
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): Tanh()
    )
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model is {model!r}, expected a fastnn.Sequential")
    if model.target_scale is not None:
        raise TypeError("the model has a target_scale, which no module of PyTorch has: its outputs are scaled targets")
    options = {"dtype": torch.float32 if model.plan.dtype == np.float32 else torch.float64}
    pairs: list[Pair] = []
    for index, (layer, (inputs, outputs)) in enumerate(zip(model.layers, model._spans, strict=True)):
        try:
            if len(outputs) > 1 and not isinstance(layer, (layers.SimpleRNN, layers.GRU, layers.LSTM)):
                raise TypeError(f"it has rows of shape {outputs}, expected (features,): PyTorch's have channels first")
            made = list(_parts(layer, math.prod(inputs), outputs[0], options))
        except TypeError as error:
            raise TypeError(f"layers[{index}] is {layer!r}: {error}") from None
        pairs += [Pair(f"layers[{index}]", part, module) for part, module in made]
    write_back(pairs)
    return tnn.Sequential(*(pair.module for pair in pairs)).eval()
