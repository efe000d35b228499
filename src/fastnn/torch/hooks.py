"""What PyTorch would call while it trains, and fastnn does not: hooks, attached schedulers. Each is refused by name.

All that torch 2.13 has:

- of a module: forward and forward-pre hooks (also always_call and with_kwargs), backward and backward-pre hooks (full
  ones and the former kind), a `forward` set on the object, and the same hooks set for all modules. The former
  `weight_norm` and `spectral_norm`, and pruning, are forward-pre hooks; a parametrized module has a class of its own,
  which no layer is made from;
- of a parameter: hooks of its gradient (`register_hook`, `register_multi_grad_hook`), and after it was accumulated;
- of an optimizer: hooks before and after a step, also those set for all optimizers, and a step that was replaced. A
  scheduler leaves `initial_lr` in the groups, and sets their rate as it is made: that of a warm-up's first epoch.

Hooks of state_dict and load_state_dict, and of what modules register, are not called in training. What leaves no trace
cannot be seen: hooks of a node of autograd's graph (AccumulateGrad's), and torch's ReduceLROnPlateau.
"""

from __future__ import annotations

from typing import Any

from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer

_MODULE = {
    "_forward_pre_hooks": "forward-pre hooks",
    "_forward_hooks": "forward hooks",
    "_backward_pre_hooks": "backward-pre hooks",
    "_backward_hooks": "backward hooks",
}
_PARAMETER = {
    "_backward_hooks": "hooks of its gradient (register_hook)",
    "_post_accumulate_grad_hooks": "hooks of its accumulated gradient (register_post_accumulate_grad_hook)",
}
_OPTIMIZER = {
    "_optimizer_step_pre_hooks": "hooks before a step (register_step_pre_hook)",
    "_optimizer_step_post_hooks": "hooks after a step (register_step_post_hook)",
}
_ALL_OPTIMIZERS = {
    "_global_optimizer_pre_hooks": "hooks before a step",
    "_global_optimizer_post_hooks": "hooks after a step",
}


def _found(thing: Any, kinds: dict[str, str]) -> list[str]:
    return [words for name, words in kinds.items() if getattr(thing, name, None)]


def check_module(module: Any, path: str) -> None:
    """TypeError where calling the module, or its backward pass, does more than its class says."""
    found = _found(module, _MODULE)
    if "forward" in vars(module):
        found.append("a forward of its own")
    if found:
        raise TypeError(f"{path} is {type(module).__name__} with hooks, {', '.join(found)}: expected one without")
    for_all = _found(torch_module, {f"_global{name}": words for name, words in _MODULE.items()})
    if for_all:
        raise TypeError(f"all modules have {', '.join(for_all)} (torch.nn.modules.module), expected none: remove them")


def check_parameter(tensor: Any, path: str) -> None:
    """TypeError where PyTorch would change the tensor's gradient, or do something with it."""
    found = _found(tensor, _PARAMETER)
    if found:
        raise TypeError(f"{path} has {', '.join(found)}, which fastnn would not call: expected a parameter without")


def check_optimizer(optimizer: Any) -> None:
    """TypeError or ValueError where a step, or a scheduler, does more than the optimizer's class and options say."""
    name = type(optimizer).__name__
    if any("initial_lr" in group for group in optimizer.param_groups):
        rates = ", ".join(f"{float(group['lr']):g}" for group in optimizer.param_groups)
        raise ValueError(
            f"optimizer is {name} with a learning rate scheduler attached (initial_lr is in its groups; the rate is "
            f"{rates} now), which fastnn would not step: expected one without, and fit(schedule=) for a schedule"
        )
    found = _found(optimizer, _OPTIMIZER)
    if "step" in vars(optimizer):
        found.append("a step that was replaced, as schedulers do")
    if found:
        raise TypeError(
            f"optimizer is {name} with {', '.join(found)}, which fastnn would not call: expected one without"
        )
    for_all = _found(torch_optimizer, _ALL_OPTIMIZERS)
    if for_all:
        raise TypeError(f"all optimizers have {', '.join(for_all)} (torch.optim.optimizer), expected none: remove them")
