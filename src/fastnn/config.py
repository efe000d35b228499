"""What runs here: backend, instruction set, threads, versions."""

from __future__ import annotations

import math
import platform
from importlib import import_module, metadata
from typing import Any

import numpy as np

from fastnn import _cpus, backends
from fastnn._version import __version__

_OPTIONAL = (
    *("numba", "scipy", "scikit-learn", "matplotlib", "tqdm", "pandas", "pyarrow"),
    *("torch", "optuna", "tensorboardX", "onnx"),
)


def config() -> dict[str, Any]:
    """The facts `show_config` prints, as a dictionary."""
    facts: dict[str, Any] = {
        "fastnn": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "backend": backends.resolve().name,
        "backends": ", ".join(backends.available()),
        "instruction set": "none: the compiled kernels are missing",
        "threads": f"{min(_cpus.usable(), _cpus.quota() or math.inf)} usable CPUs",
        "numpy": np.__version__,
    }
    if "native" in backends.available():
        native = import_module("fastnn.backends.native")
        facts["instruction set"] = f"{native.default_instruction_set()} (of {', '.join(native.instruction_sets())})"
        facts["threads"] = f"{native.threads()} of {facts['threads']}"
    for package in _OPTIONAL:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def show_config() -> None:
    """Print backend, instruction set, threads and versions, a line each."""
    for name, value in config().items():
        print(f"{name:<16} {value}")
