"""A fastnn.Sequential as a file of `torch.export`, which PyTorch runs without fastnn. Its modules are to_modules'."""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn as tnn

from fastnn import files
from fastnn.nn.model import Sequential
from fastnn.nn.target_scale import TargetScale
from fastnn.torch.to_modules import to_torch

ABOUT = "fastnn.json"  # among the file's extra files


class _Undone(tnn.Module):
    """Scaled targets in their own unit, float64."""

    def __init__(self, scale: TargetScale) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(scale.shift, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale.scale, dtype=torch.float64))

    def forward(self, z: Any) -> Any:
        return self.shift + self.scale * z.double()


def write(model: Sequential, path: str | os.PathLike[str], *, classes: Sequence[Any] | None = None) -> None:
    """Put what predicts into `path`, a .pt2 file: a graph of PyTorch's own operators, no pickle of fastnn's classes.

    X (n, I) of the model's dtype -> what `predict` gives, logits after a cross-entropy, y in its own unit where the
    targets are scaled. Its extra file "fastnn.json" has the names of the features and the classes.

    NotFittedError before the model is built; TypeError for what `to_torch` refuses but for the scale of targets;
    OSError where the file cannot be written: `path` is then what it was.
    """
    plain = copy.copy(model)
    plain.target_scale = None
    module = to_torch(plain)
    if model.target_scale is not None:
        module.append(_Undone(model.target_scale))
    shape = model.plan.input_shape
    rows = torch.zeros((3, *shape), dtype=getattr(torch, model.dtype.name))  # 0 and 1 would stay what they are
    made = torch.export.export(module, (rows,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    about = {"features": model.feature_names, "classes": None if classes is None else list(classes)}
    content = io.BytesIO()
    torch.export.save(made, content, extra_files={ABOUT: json.dumps(about)})
    files.write_bytes(path, content.getvalue())
