"""PyTorch's side of `fastnn.nn.Normalize`, which torch.nn has no module for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn as tnn


class Normalize(tnn.Module):
    """What `to_torch` makes of `fastnn.nn.Normalize`: (x - shift) scale in float64, rounded to `dtype`. Not learned.

    `.double()`, `.float()` and `.to(...)` change what is rounded to, as they change the layers behind; shift and scale
    stay float64 whatever they say, for the digits that a time stamp needs.
    """

    def __init__(self, shift: Any, scale: Any, dtype: Any) -> None:
        super().__init__()
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64).clone())
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64).clone())
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    @property
    def dtype(self) -> Any:
        """What the rows are rounded to."""
        return self.like.dtype

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        exact = {name: getattr(self, name) for name in ("shift", "scale")}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = getattr(self, name)
            if after.dtype != torch.float64:
                setattr(self, name, before.to(after.device))
        return self

    def forward(self, x: Any) -> Any:
        return ((x.double() - self.shift) * self.scale).to(self.dtype)
