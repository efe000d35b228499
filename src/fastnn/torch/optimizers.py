"""PyTorch's optimizers as fastnn's, and the weight decay of every tensor. Takes no step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn as tnn

from fastnn import optim
from fastnn.optim.optimizers import Optimizer
from fastnn.plan import Penalty
from fastnn.torch.hooks import check_optimizer
from fastnn.torch.pairs import Pair, roles


@dataclass(frozen=True)
class _OptimizerOf:
    """How a torch optimizer is made here: fields from options, and the options that must be as here."""

    make: Callable[..., Optimizer]
    fields: Mapping[str, str]  # field here -> option there
    needs: Mapping[str, Any]
    decoupled: str | None = None  # the option that says whether weight_decay is


_ADAM = {"epsilon": "eps"}
OPTIMIZERS: dict[type, _OptimizerOf] = {
    torch.optim.Adam: _OptimizerOf(optim.Adam, _ADAM | {"amsgrad": "amsgrad"}, {}, "decoupled_weight_decay"),
    torch.optim.NAdam: _OptimizerOf(
        optim.NAdam, _ADAM | {"momentum_decay": "momentum_decay"}, {}, "decoupled_weight_decay"
    ),
    torch.optim.SGD: _OptimizerOf(optim.SGD, {}, {"dampening": 0}),
    torch.optim.RMSprop: _OptimizerOf(
        optim.RMSprop, {"rho": "alpha", "epsilon": "eps"}, {"momentum": 0, "centered": False}
    ),
    torch.optim.Adagrad: _OptimizerOf(
        optim.AdaGrad, {"epsilon": "eps"}, {"lr_decay": 0, "initial_accumulator_value": 0}
    ),
    torch.optim.Adadelta: _OptimizerOf(optim.AdaDelta, {"rho": "rho", "epsilon": "eps"}, {}),
}
OPTIMIZERS[torch.optim.AdamW] = OPTIMIZERS[torch.optim.Adam]  # sets decoupled_weight_decay, or is so by its class
# lr and weight_decay have lines of their own below; the others say how PyTorch computes, not what
_OTHER = {
    "params",
    "param_names",
    "lr",
    "weight_decay",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
}
_ABSENT = object()


def as_optimizer(optimizer: Any, pairs: Sequence[Pair]) -> tuple[str | Optimizer, dict[str, Penalty]]:
    """The optimizer, if it is one of PyTorch, as fastnn's, and what it takes from every tensor by weight decay."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return optimizer, {}
    name, mapping = type(optimizer).__name__, OPTIMIZERS.get(type(optimizer))
    if mapping is None:
        known = ", ".join(kind.__name__ for kind in OPTIMIZERS)
        raise TypeError(f"optimizer is {name}, expected one of: {known}, or an optimizer of fastnn")
    check_optimizer(optimizer)
    if any(_moved(state) for state in optimizer.state.values()):
        raise ValueError(
            f"optimizer is {name}, which has taken steps, expected a new one: its moments are not taken over"
        )
    groups = optimizer.param_groups
    options = {key: value for key, value in groups[0].items() if key != "maximize" or value}
    for index, group in enumerate(groups[1:], start=1):
        for key in sorted(set(group) - {"params", "param_names", "weight_decay"}):
            if group[key] != groups[0].get(key):
                raise ValueError(
                    f"optimizer is {name} with {key}={groups[0].get(key)!r} and, in group {index}, {group[key]!r}, "
                    f"expected one for all"
                )
    made, used = _make(name, mapping, options, type(optimizer))
    for key, value in options.items():
        if key not in used | _OTHER and value != mapping.needs.get(key, _ABSENT):
            expected = (
                f", expected {key}={mapping.needs[key]!r}" if key in mapping.needs else ", which has no equal here"
            )
            raise ValueError(f"optimizer is {name} with {key}={value!r}{expected}")
    decoupled = type(optimizer) is torch.optim.AdamW or bool(mapping.decoupled and options.get(mapping.decoupled))
    return made, _decays(optimizer, pairs, decoupled)


def _moved(state: Mapping[str, Any]) -> bool:
    return float(state.get("step", 0.0)) > 0 or state.get("momentum_buffer") is not None


def _make(name: str, mapping: _OptimizerOf, options: Mapping[str, Any], kind: type) -> tuple[Optimizer, set[str]]:
    """The optimizer and the options that are in it."""
    make, values = mapping.make, {field: options[option] for field, option in mapping.fields.items()}
    used = set(mapping.fields.values()) | {mapping.decoupled or "lr"}
    if "betas" in options:
        values["beta1"], values["beta2"] = (float(beta) for beta in options["betas"])
        used.add("betas")
    if kind is torch.optim.SGD:
        used |= {"momentum", "nesterov"}
        if options["momentum"]:
            make = optim.Nesterov if options["nesterov"] else optim.Momentum
            values["beta"] = options["momentum"]
    try:
        return make(float(options["lr"]), **values), used
    except (TypeError, ValueError) as error:
        raise ValueError(f"optimizer is {name}: {error}") from None


def _decays(optimizer: Any, pairs: Sequence[Pair], decoupled: bool) -> dict[str, Penalty]:
    """The weight decay of every tensor that learns. PyTorch takes it from biases and norms as well."""
    decay = {id(tensor): float(group["weight_decay"]) for group in optimizer.param_groups for tensor in group["params"]}
    penalties = {}
    for pair in pairs:
        for role, tensor in roles(pair.module):
            if not isinstance(tensor, tnn.Parameter):
                continue
            if id(tensor) not in decay:
                raise ValueError(
                    f"optimizer does not have the {role} of {pair.path}, expected all parameters of the module"
                )
            value = decay[id(tensor)]
            penalty = Penalty(0.0, 0.0, value) if decoupled else Penalty(0.0, value, 0.0)
            penalties[f"{pair.layer.index}.{role}"] = penalty
    return penalties
