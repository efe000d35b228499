"""matplotlib where it is installed: the one place that imports it, and says what to install. Draws nothing."""

from __future__ import annotations

from typing import Any

from fastnn.errors import missing_extra


def axes_or_new(axes: Any) -> Any:
    """The axes that were given, else new ones of pyplot. ImportError naming the extra [plot] without matplotlib."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise missing_extra("matplotlib", "plotting", "plot") from error
    return pyplot.subplots(layout="constrained")[1] if axes is None else axes


def legend_below(axes: Any, *others: Any) -> None:
    """One legend for all the lines of axes that lie on each other, below the lower one's label, where no line runs."""
    lines = [line for each in (axes, *others) for line in each.get_lines() if not line.get_label().startswith("_")]
    axes.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=max(1, len(lines)), frameon=False)


def new_figure(size: tuple[float, float]) -> Any:
    """A figure of `size` inches for a file, which no window shows. ImportError naming the extra [plot] likewise."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "drawing", "plot") from error
    return Figure(figsize=size, layout="constrained")


def require() -> None:
    """ImportError naming the extra [plot] where matplotlib is missing: before what takes minutes, not after it."""
    new_figure((1.0, 1.0))
