"""Every line of what fastnn survives has a test, every test that is named exists, and the page says so."""

from __future__ import annotations

import re
from pathlib import Path

import fault_lines as lines
import pytest
from written import ROOT

HERE = Path(__file__).parent


def test_all_lines_are_there():
    assert list(lines.LINES) == list(range(1, 48))


@pytest.mark.parametrize("number", lines.LINES)
def test_a_line_is_tried(number):
    line = lines.LINES[number]
    stages = [test for test in line.tests if "::" not in test]
    if stages and not (ROOT / ".ci").is_dir():
        pytest.skip("not a source tree")
    missing = [test for test in line.tests if not lines.exists(test)]
    assert not missing, "tests that are named and do not exist"
    assert bool(lines.here(number) or line.tests) == line.built


def test_what_does_not_exist_is_noticed():
    assert not lines.exists("test_faults.py::test_nothing") and not lines.exists("test_nothing.py::test_rows")
    assert lines.exists("test_faults.py::test_rows")


def test_every_test_here_is_of_a_line():
    for path in sorted(HERE.glob("test_*.py")):
        if path.name != "test_lines.py":
            numbers = [re.match(r"test_(\d\d)_", name) for name in lines.functions(path)]
            assert all(numbers), path.name
            assert [int(number[1]) for number in numbers if number] == sorted(int(n[1]) for n in numbers if n)


def test_the_page_has_the_table():
    if not lines.TABLE.page.exists():
        pytest.skip("not a source tree")
    page = lines.TABLE.page.read_text(encoding="utf-8")
    assert lines.TABLE.refreshed(page) == page, lines.TABLE.refresh
