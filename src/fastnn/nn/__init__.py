"""What a network is: layers, activations, losses, initialisers."""

from typing import Any

from fastnn import _hints
from fastnn.formulas import activations, initializers, losses
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.declared import activation, loss
from fastnn.formulas.initializers import INITIALIZERS, Constant, Normal, Orthogonal, Uniform, Zeros
from fastnn.formulas.losses import (
    LOSSES,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Expectile,
    Focal,
    Huber,
    Quantile,
    Quantiles,
    Tweedie,
)
from fastnn.nn.layers import (
    GRU,
    LSTM,
    Activation,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    LayerNorm,
    Maxout,
    MaxPool1D,
    MaxPool2D,
    Normalize,
    Ordered,
    PReLU,
    Reshape,
    Residual,
    RMSNorm,
    RReLU,
    Scale,
    SimpleRNN,
    Softmax,
    Upsample,
    ZeroPad,
)

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "INITIALIZERS",
    "LOSSES",
    "LSTM",
    "Activation",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "Constant",
    "Conv1D",
    "Conv2D",
    "CrossEntropy",
    "Dense",
    "Dropout",
    "Embedding",
    "Expectile",
    "Flatten",
    "Focal",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Huber",
    "Layer",
    "LayerNorm",
    "MaxPool1D",
    "MaxPool2D",
    "Maxout",
    "Normal",
    "Normalize",
    "Ordered",
    "Orthogonal",
    "PReLU",
    "Quantile",
    "Quantiles",
    "RMSNorm",
    "RReLU",
    "Reshape",
    "Residual",
    "Scale",
    "SimpleRNN",
    "Softmax",
    "Tweedie",
    "Uniform",
    "Upsample",
    "ZeroPad",
    "Zeros",
    "activation",
    "activations",
    "initializers",
    "loss",
    "losses",
]


def __getattr__(name: str) -> Any:
    """AttributeError, with a hint for what other libraries call so."""
    hint = _hints.of_network(name, ACTIVATIONS)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}{f', expected {hint}' if hint else ''}", name=name
    )
