"""The examples in docstrings and documents run, and say what they print."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from common import AUTOMATIC

import fastnn
from fastnn import nn, optim

ROOT = Path(__file__).parents[1]
NAMES = {"fastnn": fastnn, "Sequential": fastnn.Sequential, "nn": nn, "optim": optim, "np": np, "math": math}


def module_names() -> list[str]:
    """Every module of the package that can be imported here; compiled ones may be missing."""
    names = ["fastnn"]
    for info in pkgutil.walk_packages(fastnn.__path__, "fastnn."):
        if info.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(info.name)
        except ImportError:
            continue
        names.append(info.name)
    return names


@pytest.mark.parametrize("name", module_names())
def test_docstrings(name):
    """In the module's own names, and those a user of the package has at hand."""
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    with fastnn.use_backend(AUTOMATIC):
        result = doctest.testmod(module, extraglobs={**NAMES, **vars(module)}, optionflags=flags)
    assert result.failed == 0


def test_there_are_examples():
    """That the modules are found: those that show how the package is used have some."""
    finder = doctest.DocTestFinder()
    with_examples = {
        name for name in module_names() if any(t.examples for t in finder.find(importlib.import_module(name)))
    }
    assert {
        "fastnn.nn.layers.dense",
        "fastnn.nn.model",
        "fastnn.optim.optimizers",
        "fastnn.training.trainer",
    } <= with_examples


DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if path.exists()]
NEEDS = re.compile(r"^<!-- needs: ([\w, ]+) -->$", re.MULTILINE)  # packages beyond the tests': skipped without them
BLOCK = re.compile(r"^```python[^\S\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents(path, tmp_path, monkeypatch, capsys):
    """A file's python blocks run one after the other, in one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "BENTOML_DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    text = path.read_text(encoding="utf-8")
    for packages in NEEDS.findall(text):
        for package in packages.split(","):
            pytest.importorskip(package.strip())
    names: dict[str, object] = {"__name__": "__main__"}
    with fastnn.use_backend(AUTOMATIC):
        for match in BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 1
            code = compile("\n" * line + match[1], str(path), "exec")  # so that a traceback has the file's lines
            exec(code, names)


def test_public_names_have_docstrings():
    """What `__all__` offers, and the public methods of its classes, say what they are."""
    missing = []
    for module in (fastnn, nn, optim):
        for name in module.__all__:
            thing = getattr(module, name)
            if not (callable(thing) or isinstance(thing, type)):
                continue
            if not (thing.__doc__ or "").strip():
                missing.append(f"{module.__name__}.{name}")
            if isinstance(thing, type):
                for attribute, value in vars(thing).items():
                    inherited = any(hasattr(base, attribute) for base in thing.__mro__[1:])
                    described = getattr(value, "__doc__", None) or inherited
                    if (
                        not attribute.startswith("_")
                        and (callable(value) or isinstance(value, property))
                        and not described
                    ):
                        missing.append(f"{module.__name__}.{name}.{attribute}")
    assert missing == []


@pytest.mark.parametrize("module", [fastnn, nn, optim], ids=lambda module: module.__name__)
def test_public_names_exist_once(module):
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)
