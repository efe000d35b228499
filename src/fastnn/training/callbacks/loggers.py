"""What writes a fit down as it goes: CSVLogger, TensorBoard. Decides nothing."""

from __future__ import annotations

import csv
import math
import os
from typing import Any

from fastnn import _text, _validate, files
from fastnn.errors import missing_extra
from fastnn.training.checks import check_state
from fastnn.training.run import Callback, Run


class CSVLogger(Callback):
    """Writes a line an epoch to `path`: the epoch, from 1, and what the history has, each line flushed to the file.

    A fit that is resumed goes on in the file: lines of epochs that are trained again are dropped. Any other begins it
    anew, or goes on behind what is there, in its columns, with `append=True`. Quantities that appear after the first
    epoch are left out, those that are missing are nan.
    """

    essential = False

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self.path = _text.path("path", path).absolute()  # whatever the working directory will be
        self.append = _validate.flag("append", append)
        self._file: Any = None
        self._names: list[str] = []

    def before_fit(self, run: Run) -> None:
        if self.append:
            self._there()
        files.check_writable(self.path)

    def on_fit_begin(self, run: Run) -> None:
        self._names = self._there() if self.append else []
        self._file = open(self.path, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115

    def _there(self) -> list[str]:
        """The columns of the file to go on with. ValueError where it is none of these."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        if header[:1] != ["epoch"]:
            raise ValueError(f"{self.path} begins with {header}, expected the columns of a CSVLogger, epoch first")
        return header[1:]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_state(state, lines=list)
        kept = state["lines"]
        if not kept:
            return
        self._file.close()
        self._names = kept[0][1:]
        self._file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115
        csv.writer(self._file).writerows(kept)
        self._file.flush()

    def state_dict(self) -> dict[str, Any]:
        if not self.path.exists():  # somebody took it away: no reason to end a fit
            return {"lines": []}
        with open(self.path, newline="", encoding="utf-8") as file:
            return {"lines": list(csv.reader(file))}

    def on_epoch_end(self, run: Run) -> None:
        writer = csv.writer(self._file)
        if not self._names:
            self._names = list(dict.fromkeys([*run.names, *run.logs]))
            writer.writerow(["epoch", *self._names])
        writer.writerow([run.epoch, *(run.logs.get(name, math.nan) for name in self._names)])
        self._file.flush()

    def on_fit_end(self, run: Run) -> None:
        self._file.close()
        self._file = None  # what is closed cannot be copied either


class TensorBoard(Callback):
    """Writes what the history has of every epoch for TensorBoard into a folder, with the package tensorboardX.

    ImportError naming the extra [tensorboard] where that is missing.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise missing_extra("tensorboardX", "TensorBoard", "tensorboard") from error
        self.log_dir = _text.path("log_dir", log_dir)
        self._make = tensorboardX.SummaryWriter
        self._writer: Any = None

    def before_fit(self, run: Run) -> None:
        files.check_folder(self.log_dir)

    def on_fit_begin(self, run: Run) -> None:
        self._writer = None

    def on_epoch_end(self, run: Run) -> None:
        if self._writer is None:  # not before it is known where a fit goes on: later entries are dropped
            # Its file is named after the second, in which another fit may have begun: after the epoch as well.
            suffix = f".epoch-{run.epoch:08}"
            self._writer = self._make(str(self.log_dir), purge_step=run.epoch, filename_suffix=suffix)
        for name, value in run.logs.items():
            self._writer.add_scalar(name, value, run.epoch)

    def on_fit_end(self, run: Run) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
