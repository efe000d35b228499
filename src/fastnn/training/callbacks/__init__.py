"""What may happen around training: stopping, averaging, showing, writing down. Checkpoints: `checkpoint.py` beside this
folder. The base class `Callback` is in `run.py`, with the `Run` that its hooks get."""

from fastnn.training.callbacks.averaging import EMA
from fastnn.training.callbacks.functions import Lambda
from fastnn.training.callbacks.limits import TerminateOnNaN, Timer
from fastnn.training.callbacks.loggers import CSVLogger, TensorBoard
from fastnn.training.callbacks.monitors import EarlyStopping, ReduceLROnPlateau
from fastnn.training.callbacks.progress import Lines, ProgressBar
from fastnn.training.callbacks.pruning import OptunaPruning
from fastnn.training.run import Callback

__all__ = [
    "EMA",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "Lambda",
    "Lines",
    "OptunaPruning",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "Timer",
]
