"""Networks for tables: reads CSV and Parquet, checks, splits, scales, trains, predicts. Prints nothing; see `cli.py`.

A model made here has what it was trained on in its metadata, under "table": names of the features and of the target,
the task, the classes or the scaling of the target. With these `predict` needs nothing but the file.
"""

from fastnn.tabular.columns import numbers
from fastnn.tabular.description import Description
from fastnn.tabular.encoding import FILLS, Encoding
from fastnn.tabular.files import STANDARD_INPUT, check_writable, read, write
from fastnn.tabular.prediction import predict
from fastnn.tabular.reporting import report
from fastnn.tabular.targets import Target, target
from fastnn.tabular.training import Result, Settings, draw, train

__all__ = [
    "FILLS",
    "STANDARD_INPUT",
    "Description",
    "Encoding",
    "Result",
    "Settings",
    "Target",
    "check_writable",
    "draw",
    "numbers",
    "predict",
    "read",
    "report",
    "target",
    "train",
    "write",
]
