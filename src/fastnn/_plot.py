"""matplotlib where it is installed: the one place that says what to install. Draws nothing."""

from __future__ import annotations

from typing import Any

from fastnn.errors import missing_extra


def axes_or_new(axes: Any) -> Any:
    """The axes that were given, else new ones. ImportError naming the extra [plot] where matplotlib is missing."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise missing_extra("matplotlib", "plotting", "plot") from error
    return pyplot.subplots()[1] if axes is None else axes
