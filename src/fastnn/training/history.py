"""History: what a fit measured, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator, KeysView
from typing import Any

from fastnn.errors import missing_extra
from fastnn.report import curves


class History:
    """One list a quantity, one entry an epoch: `history["loss"]`, "val_loss", "lr", "seconds", metrics.

    NaN stands where an epoch did not measure what another one did (validation that only a later fit has).

    "loss" is the mean over the epoch's batches as they were seen, before each one's update; "lr" is the rate of
    the epoch's last step; "seconds" counts training, not validation.

    >>> history = History()
    >>> history.append({"loss": 0.5}); history.append({"loss": 0.25})
    >>> history["loss"], len(history)
    ([0.5, 0.25], 2)
    """

    def __init__(self) -> None:
        self.epochs: dict[str, list[float]] = {}

    def append(self, logs: dict[str, float]) -> None:
        """One more epoch."""
        length = len(self)
        for name, value in logs.items():
            if name not in self.epochs:
                self.epochs[name] = [math.nan] * length
            self.epochs[name].append(value)
        if len(self.epochs) > len(logs):
            for name in self.epochs.keys() - logs.keys():
                self.epochs[name].append(math.nan)

    def amend(self, logs: dict[str, float]) -> None:
        """Set quantities of the last epoch."""
        for name, value in logs.items():
            if name not in self.epochs:
                self.epochs[name] = [math.nan] * len(self)
            self.epochs[name][-1] = value

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.epochs:
            raise KeyError(f"{name!r}, expected one of: {', '.join(self.epochs)}")
        return self.epochs[name]

    def keys(self) -> KeysView[str]:
        """The names of the quantities; with them `dict(history)` and `pandas.DataFrame(dict(history))` work."""
        return self.epochs.keys()

    def items(self) -> ItemsView[str, list[float]]:
        """(name, values) pairs."""
        return self.epochs.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self.epochs)

    def __contains__(self, name: str) -> bool:
        return name in self.epochs

    def __len__(self) -> int:
        return len(next(iter(self.epochs.values()), ()))

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.epochs.items())
        return f"History({len(self)} epochs: {last})"

    def to_frame(self) -> Any:
        """A pandas DataFrame: a column a quantity, a row an epoch, numbered from 1.

        ImportError naming the extra [table] where pandas is missing.
        """
        try:
            import pandas
        except ImportError as error:
            raise missing_extra("pandas", "a DataFrame", "table") from error
        return pandas.DataFrame(self.epochs, index=pandas.RangeIndex(1, len(self) + 1, name="epoch"))

    def plot(self, axes: Any = None) -> Any:
        """Loss curves (and metrics, dashed, on the right axis) with matplotlib, the legend below; returns the axes.

        ImportError naming the extra [plot] where matplotlib is missing.
        """
        return curves.draw(axes, range(1, len(self) + 1), self.epochs)
