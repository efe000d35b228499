"""The operations as a table for the guide: read from their Specs, nothing is written twice. No assertions.

python tests/ops_table.py            # print the table
python tests/ops_table.py --write    # put it into docs/guide.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastnn.ops import OPS
from fastnn.ops.operation import Operation

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"
REFRESH = "python tests/ops_table.py --write"
BEGIN, END = f"<!-- operations: {REFRESH} -->", "<!-- operations: end -->"


def row(op: type[Operation]) -> str:
    """Name, what it computes, parameters and statistics with a letter for each dimension, settings, phase."""
    spec = op.spec
    cells = (f"`{op.name()}`", op.summary(), spec.params, spec.statistics, spec.settings, spec.phase)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def table() -> str:
    head = [
        "| operation | computes | learns | keeps | settings | trained by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join(head + [row(op) for op in OPS.values()])


def refreshed(page: str) -> str:
    """The page with the table between the markers. ValueError where these are not there once each."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"expected {BEGIN} and {END} once each")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        GUIDE.write_text(refreshed(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
