"""matplotlib where it is installed: the one place that imports it, and says what to install. Knows no data."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
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


INK = "#010203"  # of what becomes the colour of the page's text


def svg(draw: Callable[[Any], None], size: tuple[float, float], name: str) -> str:
    """What `draw` puts into a figure of `size` inches, as an element for a page: its text and lines of INK take the
    colour of the text around it. name: letters and digits, other than that of any other picture on the page.

    Text is text: nothing in it is mathematics, a tag or a link. ImportError as `new_figure`.
    """
    figure = new_figure(size)
    import matplotlib
    from matplotlib import style
    from matplotlib.text import Text

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": name} | dict.fromkeys(inked, INK)
    with matplotlib.rc_context(), style.context(["default", settings]):  # whatever style the user has chosen
        draw(figure)
        figure.patch.set_alpha(0.0)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        for text in figure.findobj(Text):
            text.set_parse_math(False)  # "$" in a name is no formula
        made = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(made, format="svg", metadata=nothing)
    text = made.getvalue()
    element = text[text.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", element)
