"""Is the gradient right? Central differences against the engine's backward pass, parameter by parameter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import _validate, backends
from fastnn.contract import Backend
from fastnn.engine import Objective, Step
from fastnn.formulas import losses
from fastnn.formulas.losses import Loss
from fastnn.nn.model import Sequential
from fastnn.plan import Plan, State

Array = np.ndarray
_ROUNDING = 64  # the loss is taken to be right within this many eps of its terms: sums of some hundred rounded ones
_NEXT_TO_NOTHING = 1e-6
_RIGHT = 1e-7


def gradient_check(
    model: Sequential,
    X: Any,
    y: Any,
    *,
    loss: str | Loss | None = None,
    sample_weight: Any = None,
    backend: str | Backend | None = None,
    epsilon: float = 1e-5,
    limit: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """The relative error of the gradient of each parameter: {"0.weight": 3e-10, "0.bias": ...}.

    Everything runs in float64 on a copy of the model, in training mode (random layers draw the same bits each
    time). For a parameter tensor with analytic gradient g and numeric gradient n,

        n_i = (loss(w_i + epsilon) - loss(w_i - epsilon)) / (2 epsilon),   error = |g - n| / (|g| + |n|)

    in Euclidean norms over at most `limit` of its entries, drawn at random. Around 1e-7 or less is right, 1e-2 is
    wrong; a value near a kink (relu at 0, |z - y| at 0) may spoil it. Above 1e-7, n is computed anew with epsilon / 2
    and extrapolated from both (Richardson 1911), which takes off what curvature puts into it; the nearest to g counts.
    What n is uncertain by is then taken off |g - n|: the rounding of the terms of the loss, which may be larger than
    the loss (a probability of 1 - 1e-20 is 1), divided by epsilon, and how far the two n are apart. Where that is all
    there is to see, the error is 0 if it is next to nothing (a bias below BatchNorm has gradient 0), else NaN (a loss
    of 1e12 hides any gradient).

    X (B, I) and y as in `Trainer.fit`; loss: the model's own unless given. ValueError or TypeError otherwise.

    >>> model = fastnn.Sequential([nn.Dense(4, activation="tanh"), nn.Dense(2)]).build(3, seed=0)
    >>> errors = gradient_check(model, np.eye(3), [0, 1, 0], loss="cross_entropy")
    >>> max(errors.values()) < 1e-7
    True
    """
    if not isinstance(model, Sequential):
        raise TypeError(f"model is {model!r}, expected a fastnn.Sequential")
    epsilon = _validate.number("epsilon", epsilon, low=0.0, open_low=True)
    limit = _validate.integer("limit", limit)
    chosen_loss = losses.get(loss if loss is not None else model._known_loss())
    dtype = np.dtype(np.float64)
    data = model.checked(X, y, sample_weight, chosen_loss, dtype=dtype)

    weighing = data.weighing()
    rows = np.arange(len(data)) if weighing is None else weighing
    step = _float64_step(model, chosen_loss, data.y.ndim == 1, len(rows), backends.resolve(backend))
    step.gather(data.x, data.y, data.weight, rows, data.mean_weight(rows))
    value = step.loss_and_gradient(seed, 0)
    analytic = step.work.gradient.copy()
    noise = _ROUNDING * float(np.finfo(dtype).eps) * (abs(value) + _terms(step)) / epsilon  # of one entry of n

    rng = np.random.default_rng(seed)
    errors = {}
    for tensor in step.state.plan.tensors:
        if not tensor.trainable:
            continue
        entries = tensor.offset + rng.permutation(tensor.size)[:limit]
        g, doubt = analytic[entries], noise * math.sqrt(len(entries))
        whole = np.array([_slope(step, entry, epsilon, seed) for entry in entries])
        error = _error(g, whole, doubt)
        if error > _RIGHT:
            half = np.array([_slope(step, entry, epsilon / 2.0, seed) for entry in entries])
            doubt = 2.0 * doubt + float(np.linalg.norm(whole - half))
            error = min(_error(g, n, doubt) for n in (whole, half, (4.0 * half - whole) / 3.0))
        errors[tensor.name] = error
    return errors


def _terms(step: Step) -> float:
    """The size of what the loss of the batch is a small difference of, whose rounding it has: the logits and, with a
    link, the terms of its logarithm or exponential, around 1 at least."""
    work, loss = step.work, step.objective.loss
    z, y, dz = work.of_loss
    dz = np.empty_like(dz)  # that of the logits: the workspace's has gone through an activation below
    step.kernels.loss(loss, z, y, work.weight, np.empty_like(work.value), dz)
    carried = float(np.abs(dz * z).sum())
    if loss.link is None and loss.rowwise is None:
        return carried
    largest = 1.0 + np.abs(z).max(axis=1)
    if y.ndim == 2:  # fewer columns than z where a loss takes several outputs for a target
        largest *= 1.0 + np.abs(y).max(axis=1)
    return carried + float(largest @ work.weight)


def _error(g: Array, numeric: Array, noise: float) -> float:
    difference = float(np.linalg.norm(g - numeric))
    scale = float(np.linalg.norm(g) + np.linalg.norm(numeric))
    if scale <= 2.0 * noise:
        return 0.0 if noise < _NEXT_TO_NOTHING else math.nan
    return max(min(difference / scale, _RIGHT), (difference - noise) / scale)


def _float64_step(model: Sequential, loss: Loss, labels: bool, rows: int, backend: Backend) -> Step:
    """A training step of a float64 copy of the model."""
    from fastnn.optim import SGD

    old = model.plan
    plan = Plan.assemble(list(old.ops), old.input_shape, old.output_shape, np.dtype(np.float64))
    state = State(plan)
    for name, view in model.state.views.items():
        state.views[name][...] = view
    return Step(backend.kernels, plan, state, Objective(loss, SGD()), labels, rows)


def _slope(step: Step, entry: int, epsilon: float, seed: int) -> float:
    parameters = step.state.parameters
    kept = parameters[entry]
    parameters[entry] = kept + epsilon
    above = step.loss_and_gradient(seed, 0)
    parameters[entry] = kept - epsilon
    below = step.loss_and_gradient(seed, 0)
    parameters[entry] = kept
    return (above - below) / (2.0 * epsilon)
