"""What shows a fit to whoever waits for it: ProgressBar, and Lines where there is no terminal."""

from __future__ import annotations

import sys
from typing import Any

from fastnn.errors import missing_extra
from fastnn.training.run import Callback, Run


class ProgressBar(Callback):
    """A bar over the rows of all epochs, with what the last one measured; drawn by tqdm.

    ImportError naming the extra [progress] where tqdm is missing. `fit(verbose=True)` is one; where its output is no
    terminal, it is a line an epoch instead.
    """

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise missing_extra("tqdm", "a progress bar", "progress") from error
        self._make = tqdm
        self._bar: Any = None

    @classmethod
    def wanted(cls, verbose: bool | None) -> list[Callback]:
        """What fit's `verbose` asks for. None: a bar on a terminal where tqdm is installed."""
        if verbose is False or (verbose is None and not sys.stderr.isatty()):
            return []
        if verbose and not sys.stderr.isatty() and "ipykernel" not in sys.modules:
            return [Lines()]
        try:
            return [cls()]
        except ImportError:
            return [Lines()] if verbose else []  # verbose=True needs no package: lines do without

    def on_fit_begin(self, run: Run) -> None:
        total = None if run.rows is None else run.rows * (run.epochs - run.first_epoch)
        self._bar = self._make(total=total, unit=" rows", unit_scale=True, leave=True)

    def on_slice(self, run: Run, rows: int) -> None:
        self._bar.update(rows)

    def on_epoch_end(self, run: Run) -> None:
        self._bar.set_description(f"epoch {run.epoch}/{run.epochs}")
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in _shown(run).items()})

    def on_fit_end(self, run: Run) -> None:
        self._bar.close()
        self._bar = None


class Lines(Callback):
    """A line an epoch on stderr: what it measured."""

    def on_epoch_end(self, run: Run) -> None:
        values = "  ".join(f"{name} {value:.4f}" for name, value in _shown(run).items())
        print(f"epoch {run.epoch}/{run.epochs}  {values}  ({run.logs['seconds']:.2f} s)", file=sys.stderr, flush=True)


def _shown(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.logs.items() if name not in ("lr", "seconds")}
