"""What a network is: layers, activations, losses, initialisers."""

from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.initializers import INITIALIZERS, Constant, Normal, Orthogonal, Uniform, Zeros
from fastnn.nn.layers import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    Maxout,
    Normalize,
    PReLU,
    RReLU,
    Softmax,
)
from fastnn.nn.losses import LOSSES, BinaryCrossEntropy, CrossEntropy, Huber

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LOSSES",
    "Activation",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Constant",
    "CrossEntropy",
    "Dense",
    "Dropout",
    "Flatten",
    "Huber",
    "Layer",
    "LayerNorm",
    "Maxout",
    "Normal",
    "Normalize",
    "Orthogonal",
    "PReLU",
    "RReLU",
    "Softmax",
    "Uniform",
    "Zeros",
]
