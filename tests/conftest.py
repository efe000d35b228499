"""What every test file shares: the backends of this installation. No fixtures that hide work."""

from __future__ import annotations

import importlib

import pytest

from fastnn.backends import reference
from fastnn.contract import Kernels


def backends_under_test() -> dict[str, Kernels | str]:
    """Each backend's kernel table, or the reason why it cannot be tested here. One entry per instruction set."""
    tables: dict[str, Kernels | str] = {"numpy": reference.KERNELS}
    for name, module in (("python", "python_loops"), ("cython", "cython_loops"), ("numba", "numba_jit")):
        try:
            tables[name] = importlib.import_module(f"fastnn.backends.{module}").KERNELS
        except ImportError as error:
            tables[name] = f"{name}: {error}"
    try:
        native = importlib.import_module("fastnn.backends.native")
    except ImportError as error:
        tables["native"] = f"native: {error}"
    else:
        for isa in native.instruction_sets():
            tables[f"native-{isa}"] = native.kernels(isa)
    return tables


def backend_parameters() -> list:
    """One pytest parameter (name, table) per backend, skipped with the reason where it is missing."""
    return [
        pytest.param(name, table, id=name, marks=pytest.mark.skipif(isinstance(table, str), reason=str(table)))
        for name, table in backends_under_test().items()
    ]
