"""Learning curves: drawn, and what a model's file keeps of those of its fit. Plain numbers; no models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn._plot import axes_or_new, legend_below

MOST = 500  # epochs that a file has, evenly among them: 10 kB a curve
LEFT_OUT = ("lr", "seconds")
LOSSES = ("loss", "val_loss")


def draw(axes: Any, epochs: Sequence[int], values: Mapping[str, Sequence[float]], label: str = "loss") -> Any:
    """Loss curves (and metrics, dashed, on the right axis) over the numbers of their epochs, the legend below; returns
    the axes, None for new ones. label: of the axis of the losses.

    ImportError naming the extra [plot] where matplotlib is missing.
    """
    axes = axes_or_new(axes)

    def line(axes: Any, name: str, *style: str, **options: Any) -> None:
        """Through the epochs that measured it; of one a point, which a line does not show."""
        points = [(epoch, value) for epoch, value in zip(epochs, values[name], strict=True) if not math.isnan(value)]
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, *style, label=name, marker="o" if len(points) == 1 else None, **options)

    for name in LOSSES:
        if name in values:
            line(axes, name)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    metrics = [name for name in values if name not in LOSSES + LEFT_OUT]
    if not metrics:
        legend_below(axes)
        return axes
    other = axes.twinx()
    for name in metrics:
        line(other, name, "--", color=f"C{2 + metrics.index(name)}")
    other.set_ylabel(", ".join(dict.fromkeys(name.removeprefix("val_") for name in metrics)))
    legend_below(axes, other)
    return axes


@dataclass(frozen=True)
class Curves:
    """Some epochs of a fit: their numbers, counted from 1, and a value of each for every name. best: the epoch whose
    parameters were kept. label: of the losses' axis."""

    epochs: list[int]
    values: dict[str, list[float]]
    best: int | None = None
    label: str = "loss"

    def __len__(self) -> int:
        return len(self.epochs)

    def plot(self, axes: Any = None) -> Any:
        """As `draw`, with a line at the best epoch."""
        axes = draw(axes, self.epochs, self.values, self.label)
        if self.best is not None:
            axes.axvline(self.best, color="grey", linewidth=0.8, zorder=0)
        return axes


def kept(items: Iterable[tuple[str, Sequence[float]]], best: int | None, label: str) -> dict[str, Any]:
    """What goes into the metadata, of losses and metrics by name: six digits, None for what is no number.

    >>> kept([("loss", [0.5, math.nan]), ("lr", [0.1, 0.1])], 1, "loss")
    {'epochs': [1, 2], 'values': {'loss': [0.5, None]}, 'best': 1, 'label': 'loss'}
    """
    values = {name: each for name, each in items if name not in LEFT_OUT}
    count = len(next(iter(values.values()), ()))
    taken = list(range(count))
    if count > MOST:
        taken = sorted(
            {round(place * (count - 1) / (MOST - 1)) for place in range(MOST)} | ({best - 1} if best else set())
        )
    rounded = {
        name: [float(f"{each[place]:.6g}") if math.isfinite(each[place]) else None for place in taken]
        for name, each in values.items()
    }
    return {"epochs": [place + 1 for place in taken], "values": rounded, "best": best, "label": label}


def of(metadata: Mapping[str, Any]) -> Curves | None:
    """What `kept` put under "curves"; None where there is nothing, or what is not of that form: metadata are the
    user's own."""
    found = metadata.get("curves")
    if not isinstance(found, dict) or set(found) != {"epochs", "values", "best", "label"}:
        return None
    epochs, values, best, label = (found[name] for name in ("epochs", "values", "best", "label"))
    whole = isinstance(epochs, list) and all(type(epoch) is int and abs(epoch) < 2**53 for epoch in epochs)
    marked = best is None or (type(best) is int and abs(best) < 2**53)
    if not (whole and marked and isinstance(label, str) and isinstance(values, dict)):
        return None
    if not all(
        isinstance(each, list) and len(each) == len(epochs) and all(map(_is_value, each)) for each in values.values()
    ):
        return None
    numbers = {name: [math.nan if value is None else float(value) for value in each] for name, each in values.items()}
    return Curves(epochs, numbers, best, label)


def _is_value(value: Any) -> bool:
    return value is None or type(value) is float or (type(value) is int and abs(value) < 2**53)
