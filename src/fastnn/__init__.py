"""fastnn trains and serves neural networks on the CPU, from Python, at the speed of the hardware."""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING, Any

from fastnn import backends, nn
from fastnn._version import __version__
from fastnn.backends import use_backend
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
from fastnn.nn.model import Sequential

if TYPE_CHECKING:
    from fastnn import optim
    from fastnn.config import show_config
    from fastnn.estimators import MLPClassifier, MLPRegressor
    from fastnn.nn.from_onnx import from_onnx
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

# What a process that only serves a model does not need is imported when it is named: half of what `import fastnn` took
# beside NumPy. scikit-learn, which the estimators need, takes a second.
_WHEN_NAMED = {
    "MLPClassifier": "fastnn.estimators",
    "MLPRegressor": "fastnn.estimators",
    "from_onnx": "fastnn.nn.from_onnx",
    "show_config": "fastnn.config",
    "Callback": "fastnn.training.run",
    "Checkpoint": "fastnn.training.checkpoint",
    "History": "fastnn.training.history",
    "Trainer": "fastnn.training.trainer",
    **dict.fromkeys(
        (
            "EMA",
            "CSVLogger",
            "EarlyStopping",
            "Lambda",
            "OptunaPruning",
            "ProgressBar",
            "ReduceLROnPlateau",
            "TensorBoard",
            "TerminateOnNaN",
            "Timer",
        ),
        "fastnn.training.callbacks",
    ),
}
_ROOMS = ("config", "optim", "report", "training")
try:
    if _find_spec("sklearn") is not None:
        __all__ += ["MLPClassifier", "MLPRegressor"]
except ImportError:  # of a finder that hides it
    pass


def __getattr__(name: str) -> Any:
    """What is imported when it is named."""
    if name in _WHEN_NAMED:
        globals()[name] = found = getattr(_import_module(_WHEN_NAMED[name]), name)
        return found
    if name in _ROOMS:
        return _import_module(f"fastnn.{name}")
    hint = f", expected fastnn.nn.{name}" if name in nn.__all__ else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
