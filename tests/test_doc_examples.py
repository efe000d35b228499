"""Every example in a docstring, in README.md and in docs/ runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn

COMPILED = ("_native", "_loops_cython")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fastnn.__path__, "fastnn.")
    if module.name.rpartition(".")[2] not in (*COMPILED, "__main__")
)
ROOT = Path(__file__).parent.parent
PAGES = [path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if path.is_file()]
BLOCK = re.compile(r"(<!-- not run[^\n]*-->\s*)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# what a reader of an example has imported
PUBLIC = {"fastnn": fastnn, "np": np} | {name: getattr(fastnn, name) for name in fastnn.__all__}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        ours = (missing.name or "fastnn").partition(".")[0] == "fastnn"
        if ours and not any(compiled in str(missing) for compiled in COMPILED):
            raise
        pytest.skip(str(missing))
    failed, _ = doctest.testmod(module, globs=PUBLIC | vars(module), optionflags=OPTIONS)
    assert failed == 0


@pytest.mark.skipif(not PAGES, reason="the documentation is not beside the tests")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page, tmp_path, monkeypatch):
    """The ```python blocks of a page, in order, in one namespace; `<!-- not run: why -->` above one leaves it out."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    namespace: dict = {"__name__": "__main__"}
    for match in BLOCK.finditer(text):
        if match[1]:
            continue
        line = text.count("\n", 0, match.start(2))
        if ">>>" in match[2]:
            example = doctest.DocTestParser().get_doctest(match[2], namespace, page.name, str(page), line)
            failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(example, clear_globs=False)
            assert failed == 0
            namespace.update(example.globs)
        else:
            with warnings.catch_warnings():
                exec(compile("\n" * line + match[2], str(page), "exec"), namespace)
