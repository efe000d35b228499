"""Trains a PyTorch module natively and puts what it learned back into its tensors. Converts nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn as tnn

from fastnn import _rounding
from fastnn.formulas.losses import Loss
from fastnn.metrics import Metrics
from fastnn.nn import layers
from fastnn.optim.schedules import Schedule
from fastnn.torch.hooks import check_parameter
from fastnn.torch.losses import as_loss
from fastnn.torch.optimizers import as_optimizer
from fastnn.torch.pairs import Pair, roles, write_back
from fastnn.torch.to_layers import convert
from fastnn.training.history import History
from fastnn.training.targets import shiftable
from fastnn.training.trainer import Trainer


def _array(value: Any) -> Any:
    """A tensor as the array of its values; anything else as it is, pairs and triples of them too."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return tuple(map(_array, value)) if isinstance(value, tuple) else value


def _warn_of_rounding(y: Any, loss: Loss, dtype: np.dtype) -> None:
    """The Trainer's PrecisionWarning of targets, with what helps here."""
    if loss.pointwise is None or not isinstance(y, np.ndarray) or y.dtype.kind not in "fiu" or not y.size:
        return
    advice = "take module.double()"
    if y.ndim in (1, 2):
        _rounding.warn_of_targets("y", y, dtype, f"subtract its mean, or {advice}" if shiftable(loss) else advice)


def _all_learn(pairs: Sequence[Pair]) -> None:
    """ValueError where fastnn would train what PyTorch would not, or in another way, or could not write it back."""
    for pair in pairs:
        for name, tensor in (*pair.module.named_parameters(), *pair.module.named_buffers()):
            if tensor.is_inference() and not torch.is_inference_mode_enabled():
                raise ValueError(
                    f"{pair.path}.{name} was made in torch.inference_mode, outside of which it cannot be changed: "
                    f"make the module outside of it, or call fit within"
                )
        for role, tensor in roles(pair.module):
            check_parameter(tensor, f"the {role} of {pair.path}")
            if isinstance(tensor, tnn.Parameter) and not tensor.requires_grad:
                raise ValueError(
                    f"the {role} of {pair.path} does not require a gradient, expected parameters that learn"
                )
        if isinstance(pair.layer, layers.PReLU) and pair.module.num_parameters != len(pair.layer.slope):
            raise ValueError(
                f"{pair.path} is PReLU with num_parameters={pair.module.num_parameters}, expected "
                f"{len(pair.layer.slope)} to train it: one slope a column"
            )
    parameters = [tensor for pair in pairs for _, tensor in roles(pair.module) if isinstance(tensor, tnn.Parameter)]
    if len({tensor.data_ptr() for tensor in parameters}) < len(parameters):  # also two that share their memory
        raise ValueError("module has a parameter in two places, expected each in one")


def fit(
    module: Any,
    X: Any,
    y: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    schedule: str | Schedule | None = None,
    metrics: Metrics = (),
    seed: int | None = None,
    backend: str = "auto",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    threads: int | None = None,
    **arguments: Any,
) -> History:
    """Train `module`, a torch.nn.Sequential that `from_torch` takes, and put what it learned into its tensors.

    loss, optimizer: fastnn's, or PyTorch's: CrossEntropyLoss, BCEWithLogitsLoss, MSELoss, L1Loss, HuberLoss,
    PoissonNLLLoss; Adam, AdamW, SGD, RMSprop, Adagrad, Adadelta, NAdam over the module's parameters, whose weight decay
    may differ between them. Names and optimizers of fastnn decay weights alone; PyTorch's all that they were given.
    X, y and what goes with them may be tensors. schedule .. threads: see `Trainer`; arguments (epochs, batch_size,
    validation, shuffle, callbacks, ...): see `Trainer.fit`.

    The parameters stay the same objects, gradients and the mode (train or eval) what they were; Dropout and BatchNorm
    work as in training in any mode. An optimizer of PyTorch gives its settings only: its state is neither read nor
    changed. When the fit ends with an error, Ctrl-C included, the module has what `Trainer.fit` leaves its model.

    TypeError and ValueError, before anything is changed, name what has no equal here.

    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> x = torch.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = fit(net, x, x**2, loss=torch.nn.MSELoss(), optimizer=torch.optim.Adam(net.parameters(), lr=0.02),
    ...               epochs=200, batch_size=16, seed=0)
    >>> history["loss"][-1] < 0.01
    True
    """
    model, pairs = convert(module)
    if not model.built:
        raise ValueError("module has nothing to learn, expected a Linear, a norm or a PReLU in it")
    _all_learn(pairs)
    chosen, penalties = as_optimizer(optimizer, pairs)
    trainer = Trainer(
        model,
        as_loss(loss, model.plan),
        chosen,
        schedule=schedule,
        metrics=metrics,
        seed=seed,
        backend=backend,
        clip_norm=clip_norm,
        clip_value=clip_value,
        threads=threads,
    )
    trainer.advises = False  # of Trainer's settings
    plan = model.plan.with_penalties(penalties)
    model._plan = model.state.plan = plan
    values = _array(y)
    _warn_of_rounding(values, trainer.loss, model.dtype)
    try:
        return trainer.fit(_array(X), values, **{name: _array(value) for name, value in arguments.items()})
    finally:
        write_back(pairs)
        for pair in pairs:
            if isinstance(pair.module, tnn.BatchNorm1d):
                pair.module.num_batches_tracked += model.state.step
