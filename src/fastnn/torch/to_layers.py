"""From a torch.nn.Sequential to a fastnn.Sequential: each module as a layer, or refused by name."""

from __future__ import annotations

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
from fastnn.torch.hooks import check_module
from fastnn.torch.normalize import Normalize
from fastnn.torch.pairs import NAMED, Pair, tensors

_LOWEST_THRESHOLD = 20.0  # PyTorch's Softplus is z above it: log(1 + exp(-20)) = 2e-9 away


def _expect(module: Any, option: str, value: Any) -> None:
    got = getattr(module, option)
    if got != value:
        raise ValueError(f"{option} is {got!r}, expected {value!r}")


def _elementwise(name: str, alpha: float | None = None) -> Layer:
    found = activations.ACTIVATIONS[name]
    return layers.Activation(found if alpha is None else found.with_alpha(alpha))


def _named(name: str, module: Any) -> Layer:
    return _elementwise(name)


def _linear(module: Any) -> Layer:
    return layers.Dense(module.out_features, bias=module.bias is not None)


def _gelu(module: Any) -> Layer:
    return _elementwise("gelu_tanh" if module.approximate == "tanh" else "gelu")


def _softplus(module: Any) -> Layer:
    _expect(module, "beta", 1.0)
    if module.threshold < _LOWEST_THRESHOLD:
        raise ValueError(f"threshold is {module.threshold!r}, expected at least {_LOWEST_THRESHOLD:g}")
    return _elementwise("softplus")


def _hardtanh(module: Any) -> Layer:
    _expect(module, "min_val", -1.0)
    _expect(module, "max_val", 1.0)
    return _elementwise("hard_tanh")


def _softmax(module: Any) -> Layer:
    if module.dim not in (1, -1):
        raise ValueError(f"dim is {module.dim!r}, expected 1 or -1")
    return layers.Softmax()


def _learned_norm(module: Any, *names: str) -> None:
    for name in names:
        if getattr(module, name) is None:
            raise ValueError(f"it has no {name} (affine, elementwise_affine or bias is False), expected one")


def _batch_norm(module: Any) -> Layer:
    _expect(module, "affine", True)
    _expect(module, "track_running_stats", True)
    _learned_norm(module, "weight", "bias")
    if module.momentum is None:
        raise ValueError("momentum is None (a cumulative average), expected a number")
    return layers.BatchNorm(momentum=1.0 - module.momentum, epsilon=module.eps)


def _of_rows(module: Any) -> None:
    if len(module.normalized_shape) != 1:
        raise ValueError(f"normalized_shape is {tuple(module.normalized_shape)}, expected one number")


def _layer_norm(module: Any) -> Layer:
    _of_rows(module)
    _learned_norm(module, "weight", "bias")
    return layers.LayerNorm(epsilon=module.eps)


def _rms_norm(module: Any) -> Layer:
    _of_rows(module)
    _learned_norm(module, "weight")
    return layers.RMSNorm(epsilon=torch.finfo(module.weight.dtype).eps if module.eps is None else module.eps)


def _flatten(module: Any) -> Layer:
    _expect(module, "start_dim", 1)
    _expect(module, "end_dim", -1)
    return layers.Flatten()


def _log_softmax(module: Any) -> Layer:
    raise ValueError("it is not needed: leave it out and take the logits with CrossEntropyLoss, which has it inside")


LAYER_OF: dict[type, Callable[[Any], Layer | None]] = {
    tnn.Linear: _linear,
    **{kind: partial(_named, name) for kind, name in NAMED.items()},
    tnn.LeakyReLU: lambda module: _elementwise("leaky_relu", module.negative_slope),
    tnn.ELU: lambda module: _elementwise("elu", module.alpha),
    tnn.GELU: _gelu,
    tnn.Softplus: _softplus,
    tnn.Hardtanh: _hardtanh,
    tnn.PReLU: lambda module: layers.PReLU(),
    tnn.RReLU: lambda module: layers.RReLU(module.lower, module.upper),
    tnn.Softmax: _softmax,
    tnn.Dropout: lambda module: layers.Dropout(module.p),
    tnn.BatchNorm1d: _batch_norm,
    tnn.LayerNorm: _layer_norm,
    tnn.RMSNorm: _rms_norm,
    tnn.Flatten: _flatten,
    tnn.Identity: lambda module: None,
    Normalize: lambda module: layers.Normalize(),
    tnn.LogSoftmax: _log_softmax,
}


def _supported() -> str:
    return ", ".join(sorted(kind.__name__ for kind in LAYER_OF if kind is not tnn.LogSoftmax)) + ", nested Sequential"


def _width(module: Any) -> int | None:
    """The number of values a row must have for the module; None where it takes any."""
    if type(module) is tnn.PReLU:
        return None if module.num_parameters == 1 else int(module.num_parameters)
    if type(module) is Normalize:
        return len(module.shift)
    shape = getattr(module, "normalized_shape", None)
    width = getattr(module, "in_features", getattr(module, "num_features", shape and shape[0]))
    return None if width is None else int(width)


def _leaves(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The modules within nested Sequentials, in order, each with its position."""
    if isinstance(module, tnn.Sequential) and type(module).forward is tnn.Sequential.forward:
        check_module(module, path)
        for index, child in enumerate(module):
            yield from _leaves(child, f"{path}[{index}]")
    else:
        yield path, module


def _pairs(module: Any) -> list[Pair]:
    if not isinstance(module, tnn.Module):
        raise TypeError(f"module is {type(module).__name__}, expected a torch.nn.Sequential")
    pairs: list[Pair] = []
    for path, leaf in _leaves(module, "module"):
        make = LAYER_OF.get(type(leaf))
        if make is None:
            raise TypeError(f"{path} is {type(leaf).__name__}, expected one of: {_supported()}")
        check_module(leaf, path)
        if any(leaf is other.module for other in pairs) and list(leaf.parameters()):
            raise ValueError(f"{path} is {type(leaf).__name__}, which is in use already, expected one of its own")
        try:
            layer = make(leaf)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is {type(leaf).__name__}: {error}") from None
        if layer is not None:
            pairs.append(Pair(path, layer, leaf))
    return _flatten_first(pairs)


def _flatten_first(pairs: list[Pair]) -> list[Pair]:
    """Flatten where fastnn has it: first. It moves past what acts on single values; on vectors it does nothing."""
    free = (layers.Activation, layers.Dropout, layers.RReLU)
    kept: list[Pair] = []
    for pair in pairs:
        if not isinstance(pair.layer, layers.Flatten):
            kept.append(pair)
        elif all(isinstance(before.layer, free) for before in kept):
            kept.insert(0, pair)
    return kept


def _dtype(module: Any) -> np.dtype:
    """The one dtype of the module's floating-point tensors. ValueError where they are elsewhere, or have several."""
    found: dict[Any, str] = {}
    for path, leaf in _leaves(module, "module"):
        for name, tensor in (*leaf.named_parameters(), *leaf.named_buffers()):
            if tensor.device.type != "cpu":
                raise ValueError(f"{path}.{name} is on {tensor.device}, expected cpu: call module.cpu()")
            if tensor.is_floating_point() and (name == "like" or not isinstance(leaf, Normalize)):
                found.setdefault(tensor.dtype, f"{path}.{name}")
    if len(found) > 1:
        has = ", ".join(f"{name} {dtype}" for dtype, name in found.items())
        raise ValueError(f"module has several dtypes ({has}), expected one")
    dtype = next(iter(found), torch.get_default_dtype())
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{found.get(dtype, 'module')} has dtype {dtype}, expected torch.float32 or torch.float64")
    return np.dtype(np.float32 if dtype == torch.float32 else np.float64)


def convert(module: Any) -> tuple[Sequential, list[Pair]]:
    """The model, with the module's values in it where its number of inputs is known."""
    pairs = _pairs(module)
    dtype = _dtype(module)
    model = Sequential([pair.layer for pair in pairs] or [layers.Activation("identity")], dtype=dtype)
    width = inputs = None
    for pair in pairs:
        needed = _width(pair.module)
        if width is not None and needed is not None and needed != width:
            raise ValueError(
                f"{pair.path} is {type(pair.module).__name__} of {needed} values, but {width} come out before it"
            )
        if inputs is None:
            inputs = needed
        width = needed if width is None else width
        width = getattr(pair.module, "out_features", width)
    if inputs is not None:
        model.build(inputs, seed=0)
        for pair in pairs:
            for view, tensor in tensors(pair):
                view[...] = tensor.detach().numpy()  # one slope of PReLU: for all columns
            if isinstance(pair.layer, layers.Normalize):
                pair.layer.adapted = True
    elif any(isinstance(pair.layer, layers.PReLU) for pair in pairs):
        raise ValueError("module does not say how many values its rows have, expected a Linear or a norm in it")
    return model, pairs


def from_torch(module: Any) -> Sequential:
    """The fastnn model that computes what `module`, a torch.nn.Sequential, does in evaluation: a copy of its values.

    Supported: Linear, the activations of `docs/torch.md`, Dropout, BatchNorm1d, LayerNorm, RMSNorm, Flatten, Softmax,
    Identity and Sequentials of them, in float32 or float64 on the CPU. The model is built where a module says how many
    values a row has.

    TypeError names position and class of a module that has no equal here; ValueError an option that has none.

    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> from_torch(net)
    Sequential([Dense(8), Activation('relu'), Dense(2)], dtype='float32')
    >>> x = torch.ones(1, 4)
    >>> np.allclose(from_torch(net).predict(x.numpy()), net(x).detach().numpy(), atol=1e-5)
    True
    """
    return convert(module)[0]
