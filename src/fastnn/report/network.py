"""The network as a picture: a row for each layer, as wide as the logarithm of its values. Knows no layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastnn.report.page import shortened, text
from fastnn.report.subject import Layer

MOST = 40  # layers in the picture: of more, the first and the last
WIDTH, HEIGHT, SHAPES = 460, 44, 130  # of the picture, of a layer, of the shapes at its left
NAME = 44  # characters


def picture(inputs: tuple[int, ...], layers: Sequence[Layer]) -> str:
    """An <svg> of the layers from the top down, rows of shape `inputs` coming in."""
    widest = max(_logarithm(shape) for shape in (inputs, *(layer.shape for layer in layers)))
    shown, left_out = _shown(layers)
    before = [inputs, *(layer.shape for layer in layers)]
    parts, y = [_text("input", _shape(inputs), 0)], HEIGHT
    for position in shown:
        if position is None:
            parts.append(_text(f"… {left_out:,} more layers", "", y))
        else:
            layer = layers[position]
            parts.append(_shape_of(before[position], layer.shape, widest, y, layer.depth))
            detail = f"{_shape(layer.shape)} · {layer.parameters:,} parameter{'s' * (layer.parameters != 1)}"
            parts.append(_text(layer.name, detail, y, layer.depth))
        y += HEIGHT
    label = f"the network: {len(layers)} layers"
    return (
        f'<svg class="net" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _shown(layers: Sequence[Layer]) -> tuple[list[int | None], int]:
    """The positions in the picture, None for all that are left out, and how many those are."""
    everything: list[int | None] = list(range(len(layers)))
    if len(layers) <= MOST:
        return everything, 0
    half = MOST // 2
    return [*everything[:half], None, *everything[-half:]], len(layers) - 2 * half


def _logarithm(shape: tuple[int, ...]) -> float:
    return math.log2(1 + math.prod(shape))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(f"{size:,}" for size in shape)


def _shape_of(inputs: tuple[int, ...], outputs: tuple[int, ...], widest: float, y: int, depth: int) -> str:
    """From as wide as the values that go in to as wide as those that come out."""
    top, bottom = (0.5 * (16 + (SHAPES - 16) * _logarithm(shape) / widest) for shape in (inputs, outputs))
    middle = SHAPES / 2
    corners = [(middle - top, y), (middle + top, y), (middle + bottom, y + 38), (middle - bottom, y + 38)]
    points = " ".join(f"{x:.1f},{height}" for x, height in corners)
    return f'<polygon points="{points}"{" stroke-dasharray=" + chr(34) + "4 3" + chr(34) if depth else ""}/>'


def _text(name: str, detail: str, y: int, depth: int = 0) -> str:
    x = SHAPES + 16 + 14 * min(depth, 6)
    short = shortened(name, NAME)
    title = "" if short == name else f"<title>{text(name)}</title>"
    return (
        f'<text x="{x}" y="{y + 16}">{title}{text(short)}</text>'
        f'<text x="{x}" y="{y + 33}" class="dim">{text(detail)}</text>'
    )
