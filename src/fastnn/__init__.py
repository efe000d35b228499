"""fastnn trains and serves neural networks on the CPU, from Python, at the speed of the hardware."""

from fastnn import backends, nn, optim
from fastnn._version import __version__
from fastnn.backends import use_backend
from fastnn.config import show_config
from fastnn.errors import (
    BackendUnavailable,
    CheckpointError,
    CheckpointWarning,
    DivergenceError,
    FallbackWarning,
    ModelFormatError,
    NotFittedError,
    PrecisionWarning,
)
from fastnn.gradient_check import gradient_check
from fastnn.nn.model import Sequential
from fastnn.nn.serialize import load
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

__all__ = [
    "BackendUnavailable",
    "CheckpointError",
    "CheckpointWarning",
    "DivergenceError",
    "FallbackWarning",
    "History",
    "ModelFormatError",
    "NotFittedError",
    "PrecisionWarning",
    "Sequential",
    "Trainer",
    "__version__",
    "backends",
    "gradient_check",
    "load",
    "nn",
    "optim",
    "show_config",
    "use_backend",
]
