"""`fastnn export`: a file of fastnn's as one of ONNX, C or PyTorch. Chooses; who writes which is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import _text
from fastnn.loading import load
from fastnn.nn.model import Sequential
from fastnn.serving import c99, onnx
from fastnn.tabular.description import Description

SUFFIXES = {"onnx": ".onnx", "c": ".c", "torch": ".pt2"}


def place(path: str | os.PathLike[str], to: str, out: str | os.PathLike[str] | None) -> str:
    """Where the file goes: `out`, else beside the model, under its name with another ending.

    ValueError where `to` is none of SUFFIXES, or `out` ends otherwise.
    """
    _text.choice("to", to, SUFFIXES, f"one of: {', '.join(SUFFIXES)}")
    if out is None:
        return str(Path(path).with_suffix(SUFFIXES[to]))
    if Path(out).suffix != SUFFIXES[to]:
        raise ValueError(f"out is {os.fspath(out)!r}, expected a name that ends with {SUFFIXES[to]}")
    return os.fspath(out)


def export(
    path: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str] | None = None,
    *,
    opset: int | None = None,
    input: str | None = None,
) -> list[str]:
    """Write what is in a file of `save` or of `fastnn train` as `to`, "onnx", "c" or "torch"; what whoever calls the
    result has to know, a sentence each.

    A network for a table answers in the target's unit or with its classes, as `fastnn predict` does. opset, input: as
    in `to_onnx`, which alone has them; None: what it takes by itself.

    ValueError, before anything is written, for what the other format has not; OSError for files; ImportError naming the
    extra [onnx] or [torch] without that package.
    """
    target = place(path, to, out)
    options = {name: value for name, value in (("opset", opset), ("input", input)) if value is not None}
    if options and to != "onnx":
        name, value = next(iter(options.items()))
        raise ValueError(f"{name} is {value!r}, but to is {to!r}, expected to='onnx', which alone has it")
    loaded = load(path)
    if not isinstance(loaded, Sequential):
        _estimator(loaded, to, target, options)
        return []
    about = Description.of(loaded) if "table" in loaded.metadata else None
    if about is None:
        _model(loaded, loaded.class_names if loaded.built else None, to, target, options)
        return []
    classes = None if about.classes is None else np.array(about.classes)
    _model(about.in_own_unit(loaded), classes, to, target, options)
    return about.encoded_columns()


def _model(model: Sequential, classes: np.ndarray | None, to: str, out: str, options: dict[str, Any]) -> None:
    if to == "torch":
        _torch(model, None if classes is None else classes.tolist(), out)
        return
    frozen = model.frozen(classes=classes)
    if to == "onnx":
        onnx.write(frozen, out, **options)
    else:
        c99.write(frozen, out)


def _estimator(estimator: Any, to: str, out: str, options: dict[str, Any]) -> None:
    if to == "onnx":
        estimator.to_onnx(out, **options)
    elif to == "c":
        estimator.to_c(out)
    else:
        raise ValueError(
            f"to is 'torch', but the file has an {type(estimator).__name__}, expected a model, or to='onnx' or 'c'"
        )


def _torch(model: Sequential, classes: list[Any] | None, out: str) -> None:
    from fastnn.torch import exported  # PyTorch takes seconds

    try:
        exported.write(model, out, classes=classes)
    except TypeError as error:
        raise ValueError(f"to is 'torch': {error}") from None
