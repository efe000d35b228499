"""fastnn trains and serves neural networks on the CPU, from Python, at the speed of the hardware."""

from importlib.util import find_spec as _find_spec
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
    RateWarning,
    TableWarning,
    TargetWarning,
)
from fastnn.gradient_check import gradient_check
from fastnn.loading import load
from fastnn.metrics import METRICS, metric
from fastnn.nn.from_onnx import from_onnx
from fastnn.nn.model import Sequential
from fastnn.training.callbacks import (
    EMA,
    CSVLogger,
    EarlyStopping,
    Lambda,
    OptunaPruning,
    ProgressBar,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
    Timer,
)
from fastnn.training.checkpoint import Checkpoint
from fastnn.training.history import History
from fastnn.training.run import Callback
from fastnn.training.trainer import Trainer

if TYPE_CHECKING:
    from fastnn.estimators import MLPClassifier, MLPRegressor

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
    "ModelFormatError",
    "NotFittedError",
    "OptunaPruning",
    "PrecisionWarning",
    "ProgressBar",
    "RateWarning",
    "ReduceLROnPlateau",
    "Sequential",
    "TableWarning",
    "TargetWarning",
    "TensorBoard",
    "TerminateOnNaN",
    "Timer",
    "Trainer",
    "__version__",
    "backends",
    "from_onnx",
    "gradient_check",
    "load",
    "metric",
    "nn",
    "optim",
    "show_config",
    "use_backend",
]

_ESTIMATORS = ("MLPClassifier", "MLPRegressor")  # scikit-learn, which they need, is imported when one is asked for
try:
    if _find_spec("sklearn") is not None:
        __all__ += ["MLPClassifier", "MLPRegressor"]
except ImportError:  # of a finder that hides it
    pass


def __getattr__(name: str) -> Any:
    """The estimators when they are named: scikit-learn takes a second to import."""
    if name in _ESTIMATORS:
        from fastnn import estimators

        return getattr(estimators, name)
    hint = f", expected fastnn.nn.{name}" if name in nn.__all__ else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
