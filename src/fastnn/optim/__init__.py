"""Optimizers and learning-rate schedules."""

from fastnn.optim.optimizers import (
    OPTIMIZERS,
    SGD,
    AdaDelta,
    AdaGrad,
    Adam,
    AdamW,
    Momentum,
    NAdam,
    Nesterov,
    Optimizer,
    RMSprop,
)
from fastnn.optim.own import rule
from fastnn.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    Harmonic,
    InverseTime,
    Linear,
    OneCycle,
    Schedule,
    StepDecay,
    Warmup,
)

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Exponential",
    "Harmonic",
    "InverseTime",
    "Linear",
    "Momentum",
    "NAdam",
    "Nesterov",
    "OneCycle",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "StepDecay",
    "Warmup",
    "rule",
]
