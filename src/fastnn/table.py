"""The former name of `fastnn.tabular`, so that `from fastnn import table` in what was written with it goes on working.

It has the same functions and nothing of its own; what is written today takes `fastnn.tabular`.
"""

from fastnn.tabular import (
    FILLS,
    STANDARD_INPUT,
    Description,
    Encoding,
    Result,
    Settings,
    Target,
    check_writable,
    draw,
    numbers,
    predict,
    read,
    report,
    target,
    train,
    write,
)

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
