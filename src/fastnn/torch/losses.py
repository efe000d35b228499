"""PyTorch's losses as fastnn's. Computes none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn as tnn

from fastnn.formulas import losses
from fastnn.formulas.losses import Loss
from fastnn.plan import Plan
from fastnn.torch.hooks import check_module


@dataclass(frozen=True)
class _LossOf:
    """How a torch loss is made here: `make` of the module, whose options must be `needs`."""

    make: Callable[[Any], Loss]
    needs: Mapping[str, Any]


LOSSES: dict[type, _LossOf] = {
    tnn.CrossEntropyLoss: _LossOf(
        lambda loss: losses.CrossEntropy(loss.label_smoothing), {"weight": None, "ignore_index": -100}
    ),
    tnn.BCEWithLogitsLoss: _LossOf(
        lambda loss: losses.LOSSES["binary_cross_entropy"], {"weight": None, "pos_weight": None}
    ),
    tnn.MSELoss: _LossOf(lambda loss: losses.LOSSES["mse"], {}),
    tnn.L1Loss: _LossOf(lambda loss: losses.LOSSES["mae"], {}),
    tnn.HuberLoss: _LossOf(lambda loss: losses.Huber(loss.delta), {}),
    tnn.PoissonNLLLoss: _LossOf(lambda loss: losses.LOSSES["poisson"], {"log_input": True, "full": False}),
}


def as_loss(loss: Any, plan: Plan) -> str | Loss:
    """The loss, if it is a module of PyTorch, as fastnn's."""
    if not isinstance(loss, tnn.Module):
        return loss
    name, mapping = type(loss).__name__, LOSSES.get(type(loss))
    if mapping is None:
        known = ", ".join(kind.__name__ for kind in LOSSES)
        raise TypeError(f"loss is {name}, expected one of: {known}, or a loss of fastnn")
    for option, expected in {"reduction": "mean", **mapping.needs}.items():
        got = getattr(loss, option)
        if got is not expected and (isinstance(got, torch.Tensor) or got != expected):
            raise ValueError(f"loss is {name} with {option}={got!r}, expected {option}={expected!r}")
    check_module(loss, "loss")
    made = mapping.make(loss)
    if plan.training_ops(made) != plan.ops:
        raise ValueError(
            f"loss is {name}, which takes logits, but the module ends with their {made.link}: leave it out"
        )
    return made
