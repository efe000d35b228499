"""A part of a document that a script writes, between markers of its own. No assertions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Written(NamedTuple):
    """The part called `name` of the document `page`, which `command` with --write puts there and without prints."""

    name: str
    page: Path
    command: str
    make: Callable[[], str]
    gap: str = "\n\n"  # around it: a table needs an empty line

    @property
    def refresh(self) -> str:
        return f"{self.command} --write"

    def refreshed(self, text: str) -> str:
        """The document with the part as it is now. ValueError where the markers are not there once each."""
        begin, end = f"<!-- {self.name}: {self.refresh} -->", f"<!-- {self.name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"expected {begin} and {end} once each")
        before, rest = text.split(begin)
        return f"{before}{begin}{self.gap}{self.make()}{self.gap}{end}{rest.partition(end)[2]}"

    def main(self) -> None:
        if sys.argv[1:] == ["--write"]:
            self.page.write_text(self.refreshed(self.page.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            print(self.make())
