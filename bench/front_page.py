"""The first page's table and pictures of training beside others, from the table of docs/performance.md. No measuring.

python -m bench.front_page    # draws docs/beside_light.png and docs/beside_dark.png, prints the table
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from fastnn._plot import new_figure
from fastnn.bench.report import markdown

DOCS = Path(__file__).parents[1] / "docs"
NETWORKS = {
    "logreg": "logistic regression 30-2",
    "tiny": "surrogate 10-32-1",
    "digits": "digits 64-128-64-10",
    "tabular": "table 27-256-256-1",
    "mnist_mlp": "images 784-128-10",
    "wide": "wide 784-1024-1024-10",
}
DRAWN = ("tiny", "digits", "tabular", "mnist_mlp")
PEERS = {  # the columns of each; the fastest of its forms counts
    "PyTorch": ("PyTorch",),
    "torch.compile": ("torch.compile",),
    "JAX": ("JAX scan", "JAX scan, NumPy's shuffle"),
    "scikit-learn": ("scikit-learn",),
}
FOREGROUND = {"light": "#1f2328", "dark": "#e6edf3"}  # GitHub's own colours of text
OURS, THEIRS = "#2da44e", "#8c959f"


class Row(NamedTuple):
    """One network: fastnn's µs a step, and how many times longer each peer takes."""

    network: str
    microseconds: float
    ratios: dict[str, float]


def rows(text: str, names: tuple[str, ...] = tuple(NETWORKS)) -> list[Row]:
    """The networks of the first page, from the text of docs/performance.md.

    >>> columns = ["workload", "µs a step", *(column for forms in PEERS.values() for column in forms)]
    >>> lines = [f"| {' | '.join(columns)} |", "| --- |"]
    >>> lines += ["| tiny 10-32-1 tanh, 32 | 2.2 | **164** (140) | 68 | 10.0 (12) | 2.4 | **88** (80) |"]
    >>> rows("\\n".join(lines), ("tiny",))[0].ratios
    {'PyTorch': 164.0, 'torch.compile': 68.0, 'JAX': 2.4, 'scikit-learn': 88.0}
    """
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    columns = [column for forms in PEERS.values() for column in forms]
    start = next(index for index, line in enumerate(lines) if {"µs a step", *columns} <= set(line))
    header, found = lines[start], {}
    for cells in lines[start + 2 :]:
        if len(cells) != len(header):
            break
        found[cells[0].split()[0]] = dict(zip(header, map(_first_number, cells), strict=True))
    return [
        Row(
            NETWORKS[name],
            found[name]["µs a step"],
            {peer: min(found[name][form] for form in forms) for peer, forms in PEERS.items()},
        )
        for name in names
    ]


def _first_number(cell: str) -> float:
    digits = re.search(r"\d[\d.]*", cell)
    return float(digits[0]) if digits else float("nan")


def table(text: str) -> str:
    """The Markdown of the first page; tests/test_bench.py holds README.md to it."""
    header = ["network", "fastnn, µs a step", *PEERS]
    return markdown(header, [[r.network, f"{r.microseconds:,g}", *map(_times, r.ratios.values())] for r in rows(text)])


def _times(ratio: float) -> str:
    return f"{ratio:g}x"


def draw(text: str, path: Path, theme: str) -> None:
    """A PNG, transparent, legible at 700 pixels: one panel a network, linear bars from zero, values on them."""
    colour = FOREGROUND[theme]
    drawn = rows(text, DRAWN)
    figure = new_figure((7.0, 1.45 * -(-len(drawn) // 2)))
    panels = figure.subplots(-(-len(drawn) // 2), 2, squeeze=False).ravel()
    for axes, row in zip(panels, drawn, strict=False):
        times = {"fastnn": 1.0, **row.ratios}
        bars = axes.barh(list(times), list(times.values()), color=[OURS, *[THEIRS] * len(row.ratios)], height=0.72)
        axes.bar_label(bars, [*map(_times, times.values())], padding=3, fontsize=9, color=colour)
        axes.set_xlim(0, 1.2 * max(times.values()))
        axes.set_title(f"{row.network}: {row.microseconds:,g} µs a step", fontsize=9.5, color=colour, loc="left")
        axes.invert_yaxis()
        axes.tick_params(left=False, bottom=False, labelbottom=False, labelsize=9, labelcolor=colour)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.savefig(path, dpi=200, transparent=True)


def main() -> None:
    text = (DOCS / "performance.md").read_text(encoding="utf-8")
    for theme in FOREGROUND:
        draw(text, DOCS / f"beside_{theme}.png", theme)
    print(table(text))


if __name__ == "__main__":
    main()
