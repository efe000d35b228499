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
    return pyplot.subplots()[1] if axes is None else axes


def new_figure(size: tuple[float, float]) -> Any:
    """A figure of `size` inches for a file, which no window shows. ImportError naming the extra [plot] likewise."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "drawing", "plot") from error
    return Figure(figsize=size, layout="constrained")
