"""fastnn trains and serves neural networks on the CPU, from Python, at the speed of the hardware."""

from typing import TYPE_CHECKING, Any

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
from fastnn.nn.model import METRICS, Sequential
from fastnn.nn.serialize import load
from fastnn.training.callbacks import (
    EMA,
    Callback,
    CSVLogger,
    EarlyStopping,
    Lambda,
    ProgressBar,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
    Timer,
)
from fastnn.training.checkpoint import Checkpoint
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

if TYPE_CHECKING:
    from fastnn.estimators import MLPClassifier, MLPRegressor
    from fastnn.training.pruning import OptunaPruning

__all__ = [
    "EMA",
    "METRICS",
    "BackendUnavailable",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "CheckpointWarning",
    "DivergenceError",
    "EarlyStopping",
    "FallbackWarning",
    "History",
    "Lambda",
    "MLPClassifier",
    "MLPRegressor",
    "ModelFormatError",
    "NotFittedError",
    "OptunaPruning",
    "PrecisionWarning",
    "ProgressBar",
    "ReduceLROnPlateau",
    "Sequential",
    "TensorBoard",
    "TerminateOnNaN",
    "Timer",
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


def __getattr__(name: str) -> Any:
    """What needs an optional package, when it is named: scikit-learn takes a second to import."""
    if name in ("MLPClassifier", "MLPRegressor"):
        from fastnn import estimators

        return getattr(estimators, name)
    if name == "OptunaPruning":
        from fastnn.training import pruning

        return pruning.OptunaPruning
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
