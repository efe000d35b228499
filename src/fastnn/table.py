"""The former name of `fastnn.tabular`, for what was written with it. Has nothing of its own."""

from fastnn.tabular import (
    Description,
    Result,
    Settings,
    Target,
    draw,
    numbers,
    predict,
    read,
    target,
    train,
    write,
)

__all__ = [
    "Description",
    "Result",
    "Settings",
    "Target",
    "draw",
    "numbers",
    "predict",
    "read",
    "target",
    "train",
    "write",
]
