"""The operations as a table for the guide: read from their Specs, nothing is written twice. No assertions.

python tests/ops_table.py            # print the table
python tests/ops_table.py --write    # put it into docs/guide.md
"""

from __future__ import annotations

from written import ROOT, Written

from fastnn.ops import OPS
from fastnn.ops.operation import Operation


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


TABLE = Written("operations", ROOT / "docs" / "guide.md", "python tests/ops_table.py", table)

if __name__ == "__main__":
    TABLE.main()
