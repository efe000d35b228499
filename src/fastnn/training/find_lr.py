"""The learning-rate range test: a fit that raises the rate step by step, on a copy of the model. Trains nothing."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import _random
from fastnn._plot import axes_or_new
from fastnn.data import Data
from fastnn.engine import Batches
from fastnn.training.run import Fitter

Array = np.ndarray
_MEMORY = 0.9  # of the running mean of the losses: about 10 steps
_DIVERGED = 4.0  # times the smallest running mean: no rate beyond is looked at


@dataclass(frozen=True)
class LearningRates:
    """What a range test measured: `lr` (s,) rising, the `loss` (s,) of each batch before its step, the running mean
    `smooth` (s,) of these, sum_k m^k loss_{s-k} / sum_k m^k with m = 0.9, and `suggestion`: a tenth of the rate at
    which that mean is lowest. (Where it falls fastest says less: batches differ by more than a step changes.)"""

    lr: Array
    loss: Array
    smooth: Array
    suggestion: float

    @classmethod
    def of(cls, lr: Array, loss: Array) -> LearningRates:
        """The steps up to the first that diverged. ValueError where that is the first of all."""
        ends = np.flatnonzero(~np.isfinite(loss))
        count = int(ends[0]) if len(ends) else len(loss)
        if count < 2:
            raise ValueError(f"low is {lr[0]:g}, with which the first steps already diverge, expected a lower rate")
        smooth = _running_mean(loss[:count])
        lowest = np.minimum.accumulate(smooth)
        wild = np.flatnonzero(smooth - lowest > (_DIVERGED - 1.0) * np.abs(lowest))
        count = max(2, int(wild[0])) if len(wild) else count
        return cls(lr[:count], loss[:count], smooth[:count], float(lr[smooth[:count].argmin()]) / 10.0)

    def plot(self, axes: Any = None) -> Any:
        """The losses over the rates (on a logarithmic axis) with matplotlib, the suggestion marked; returns the axes.

        ImportError naming the extra [plot] where matplotlib is missing.
        """
        axes = axes_or_new(axes)
        axes.plot(self.lr, self.loss, ".", alpha=0.3, label="loss of the batch")
        axes.plot(self.lr, self.smooth, label="running mean")
        axes.axvline(self.suggestion, color="C2", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.legend()
        return axes


def _running_mean(loss: Array) -> Array:
    weight = total = 0.0
    means = np.empty(len(loss))
    for index, value in enumerate(loss.tolist()):
        weight, total = _MEMORY * weight + 1.0, _MEMORY * total + value
        means[index] = total / weight
    return means


def range_test(trainer: Fitter, data: Data, batch: int, rates: Array) -> LearningRates:
    """Take a step with each of the rates on a copy of the trainer's built model, the optimizer beginning anew."""
    model = copy.deepcopy(trainer.model)
    model.state.forget_optimizer()
    weighing = data.weighing()
    among = np.arange(len(data)) if weighing is None else weighing
    rows = min(batch, len(among))
    epochs = -(-len(rates) * rows // len(among))
    order = np.concatenate([_random.permutation(trainer.objective.seed, epoch, len(among)) for epoch in range(epochs)])
    order = among[order[: len(rates) * rows]]
    batches = Batches(data.x, data.y, data.weight, order, rows, data.mean_weight(among))
    losses = trainer.backend.train_steps(model.plan, model.state, trainer.objective, batches, rates)
    return LearningRates.of(rates, losses)
