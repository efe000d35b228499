"""What the logits of a model say under its loss: probabilities, classes. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastnn.contract import OpKernels
from fastnn.formulas import activations
from fastnn.formulas.losses import Loss
from fastnn.ops.activation import activate
from fastnn.ops.softmax import softmax

Array = np.ndarray


def link(loss: Loss, z: Array, kernels: Mapping[str, OpKernels] | None = None) -> Array:
    """The activation that the loss fuses, applied to its logits z (B, O): by a backend's kernels, else by NumPy."""
    by_softmax = loss.link == "softmax"
    a = np.empty_like(z)
    with np.errstate(over="ignore", invalid="ignore"):  # of logits that are infinite: predictions say so themselves
        if kernels is not None and by_softmax:
            kernels["softmax"].forward(z, a)
        elif kernels is not None:
            kernels["activation"].forward(z, activations.get(loss.link), a)
        elif by_softmax:
            softmax.forward(z, a)
        else:
            activate(activations.get(loss.link), z, a)
    return a


def shares(z: Array) -> Array:
    """The softmax of each row of z (B, O)."""
    a = np.empty_like(z)
    softmax.forward(z, a)
    return a


def log_shares(z: Array) -> Array:
    """The logarithm of the softmax of each row of z (B, O): z - log sum exp z, finite where the softmax rounds to 0."""
    shifted = z - z.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def probabilities(loss: Loss, z: Array, kernels: Mapping[str, OpKernels] | None = None) -> Array:
    """What `predict_proba` gives for logits z (B, O), in their dtype: softmaxes (B, O), sigmoids (B, O), or for one
    sigmoid both of its classes (B, 2)."""
    both = loss.link == "sigmoid" and z.shape[1] == 1
    return link(loss, np.concatenate([-z, z], axis=1) if both else z, kernels)


def decide(loss: Loss, z: Array) -> Array:
    """Classes from logits: the largest of a row, or the positive values of a sigmoid."""
    if loss.link == "sigmoid":
        positive = (z > 0).astype(np.int64)
        return positive[:, 0] if z.shape[1] == 1 else positive
    largest: Array = z.argmax(axis=1)
    return largest


def classifies(loss: Loss) -> bool:
    return has_probabilities(loss) or "labels" in loss.targets


def has_probabilities(loss: Loss) -> bool:
    return loss.link in ("softmax", "sigmoid")
