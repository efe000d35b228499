"""Where windows lie in rows and images: what convolutions and pools check and compute of their arguments. No layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastnn import _validate
from fastnn.ops.operation import Shape
from fastnn.ops.window import MOST_VALUES

Sizes = int | tuple[int, ...]
Padding = str | int | tuple[Any, ...]
SIDES = ("height", "width")


def sizes(name: str, value: Any, axes: int, low: int = 1) -> Sizes:
    """One number for all axes, or one for each, as short as it can be written."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != axes or axes == 1:
            pair = "" if axes == 1 else ", or a pair of height and width"
            raise TypeError(f"{name} is {value!r}, expected an integer >= {low}{pair}")
        made = tuple(_validate.integer(name, each, low) for each in value)
        return made[0] if len(set(made)) == 1 else made
    return _validate.integer(name, value, low)


def each(value: Sizes, axes: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * axes


def padding(value: Any, axes: int) -> Padding:
    """As it was given, tuples for lists. Of one axis it may be one pair."""
    if isinstance(value, str):
        if value not in ("valid", "same"):
            raise ValueError(f"padding is {value!r}, expected {_paddings(axes)}")
        return value
    if not isinstance(value, Sequence):
        return _validate.integer("padding", value, 0)
    if axes == 1:
        return _pair(value, value, axes)
    pairs = [isinstance(side, Sequence) and not isinstance(side, str) for side in value]
    if len(value) != axes or any(pairs) != all(pairs):
        raise ValueError(f"padding is {value!r}, expected {_paddings(axes)}")
    if all(pairs):
        return tuple(_pair(side, value, axes) for side in value)
    return tuple(_validate.integer("padding", side, 0) for side in value)


def _pair(side: Sequence[Any], value: Any, axes: int) -> tuple[int, ...]:
    if len(side) != 2:
        raise ValueError(f"padding is {value!r}, expected {_paddings(axes)}")
    return tuple(_validate.integer("padding", end, 0) for end in side)


def _paddings(axes: int) -> str:
    several = "a pair (before, behind)" if axes == 1 else "a pair (height, width), or ((top, bottom), (left, right))"
    return f"'valid', 'same', an integer >= 0, or {several}"


def ends(value: Padding, axes: int) -> tuple[tuple[int, int], ...] | None:
    """Before and behind of each axis; None: "same"."""
    if isinstance(value, str):
        return None if value == "same" else ((0, 0),) * axes
    if not isinstance(value, tuple):
        return ((value, value),) * axes
    if axes == 1:
        return ((value[0], value[1]),)
    return tuple(side if isinstance(side, tuple) else (side, side) for side in value)


def image(inputs: Shape, axes: int) -> Shape:
    """Rows as (length, channels) or (height, width, channels): without channels they have one. Others: ValueError."""
    if len(inputs) == axes:
        return (*inputs, 1)
    if len(inputs) != axes + 1:
        names = "(length, channels) or (length,)" if axes == 1 else "(height, width, channels) or (height, width)"
        raise ValueError(f"takes rows of shape {names}, not {inputs}")
    return inputs


class Along(NamedTuple):
    """Windows along one axis."""

    size: int
    out: int
    kernel: int
    stride: int
    before: int
    dilation: int


def along(
    name: str, side: str, size: int, kernel: int, stride: int, pad: tuple[int, int] | None, dilation: int = 1
) -> Along:
    """ValueError where no window is in it. "same" makes ceil(size / stride) windows, the odd cell of padding behind."""
    extent = (kernel - 1) * dilation + 1
    if pad is None:
        out = -(-size // stride)
        before = max(0, (out - 1) * stride + extent - size) // 2
        return Along(size, out, kernel, stride, before, dilation)
    room = size + sum(pad) - extent
    if room < 0:
        spread = f" with dilation {dilation}" if dilation > 1 else ""
        around = f" with padding {pad[0]} + {pad[1]}" if any(pad) else ""
        raise ValueError(f"{name} {kernel}{spread} is larger than the rows' {side} of {size}{around}")
    return Along(size, room // stride + 1, kernel, stride, pad[0], dilation)


def settings(name: str, axes: tuple[Along, ...], channels: int) -> dict[str, float]:
    """Those of an operation with a window, in its order, but for dilation and groups."""
    h, w = axes if len(axes) == 2 else (Along(1, 1, 1, 1, 0, 1), axes[0])
    reach = [(axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1 for axis in (h, w)]
    if max(reach[0], h.size) * max(reach[1], w.size) * channels > MOST_VALUES // 4:
        raise ValueError(f"{name} makes images of more than {MOST_VALUES // 4} values, padding and all")
    return {
        "height": h.size,
        "width": w.size,
        "channels": channels,
        "out_height": h.out,
        "out_width": w.out,
        "kernel_height": h.kernel,
        "kernel_width": w.kernel,
        "stride_height": h.stride,
        "stride_width": w.stride,
        "top": h.before,
        "left": w.before,
    }


def axes(
    count: int, inputs: Shape, name: str, kernel: tuple[int, ...], stride: Sizes, pad: Padding, dilation: Sizes
) -> tuple[Along, ...]:
    """Those of rows (length, channels) or (height, width, channels)."""
    around = ends(pad, count) or (None,) * count
    names = ("length",) if count == 1 else SIDES
    given = zip(names, inputs, kernel, each(stride, count), around, each(dilation, count), strict=False)
    return tuple(along(name, *one) for one in given)


def axes_of(inputs: Shape, given: Any) -> int:
    """1 of rows (length, channels), 2 of images. ValueError for others, and where what was given is for images."""
    count = len(inputs) - 1
    pairs = isinstance(given, tuple) and any(isinstance(side, tuple) for side in given)
    others = "" if pairs else "(length, channels) or "
    if count < 1 or (count == 1 and pairs):
        raise ValueError(f"takes rows of shape {others}(height, width, channels), not {inputs}")
    return count
