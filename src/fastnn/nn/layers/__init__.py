"""The layers, a file a subject."""

from fastnn.nn.layers.activations import Activation, Maxout, Ordered, PReLU, RReLU, Softmax
from fastnn.nn.layers.base import Layer
from fastnn.nn.layers.dense import Dense
from fastnn.nn.layers.dropout import Dropout
from fastnn.nn.layers.embedding import Embedding
from fastnn.nn.layers.norm import BatchNorm, LayerNorm, RMSNorm, Scale
from fastnn.nn.layers.normalize import Normalize
from fastnn.nn.layers.recurrent import GRU, LSTM, SimpleRNN
from fastnn.nn.layers.residual import Residual
from fastnn.nn.layers.shape import Flatten, Reshape

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
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
]
