"""What a fit shows while it runs: tqdm's bar, or nothing. No measuring."""

from __future__ import annotations

import sys
from typing import Any

from fastnn.errors import missing_extra


class Progress:
    """A bar over the rows of all epochs. `show` None: a bar on a terminal where tqdm is installed; True: a bar,
    or ImportError naming the extra [demo]; False: nothing."""

    def __init__(self, show: bool | None, rows: int, epochs: int) -> None:
        self.bar: Any = None
        if show is False or (show is None and not sys.stderr.isatty()):
            return
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            if show:
                raise missing_extra("tqdm", "a progress bar (verbose=True)", "demo") from error
            return
        self.bar = tqdm(total=rows * epochs, unit=" rows", unit_scale=True, leave=True)

    def advance(self, rows: int) -> None:
        if self.bar is not None:
            self.bar.update(rows)

    def report(self, epoch: int, epochs: int, logs: dict[str, float]) -> None:
        if self.bar is not None:
            shown = {name: f"{value:.4f}" for name, value in logs.items() if name not in ("lr", "seconds")}
            self.bar.set_description(f"epoch {epoch}/{epochs}")
            self.bar.set_postfix(shown)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
