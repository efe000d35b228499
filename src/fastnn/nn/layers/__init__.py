"""The layers, a file a subject."""

from fastnn.nn.layers.activations import Activation, Maxout, Ordered, PReLU, RReLU, Softmax
from fastnn.nn.layers.base import Layer
from fastnn.nn.layers.conv import Conv1D, Conv2D
from fastnn.nn.layers.dense import Dense
from fastnn.nn.layers.dropout import Dropout
from fastnn.nn.layers.embedding import Embedding
from fastnn.nn.layers.norm import BatchNorm, LayerNorm, RMSNorm, Scale
from fastnn.nn.layers.normalize import Normalize
from fastnn.nn.layers.pool import (
    AvgPool1D,
    AvgPool2D,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1D,
    MaxPool2D,
    Upsample,
    ZeroPad,
)
from fastnn.nn.layers.recurrent import GRU, LSTM, SimpleRNN
from fastnn.nn.layers.residual import Residual
from fastnn.nn.layers.shape import Flatten, Reshape

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "AvgPool1D",
    "AvgPool2D",
    "BatchNorm",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Layer",
    "LayerNorm",
    "MaxPool1D",
    "MaxPool2D",
    "Maxout",
    "Normalize",
    "Ordered",
    "PReLU",
    "RMSNorm",
    "RReLU",
    "Reshape",
    "Residual",
    "Scale",
    "SimpleRNN",
    "Softmax",
    "Upsample",
    "ZeroPad",
]
