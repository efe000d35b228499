"""The learning-rate range test: a fit that raises the rate step by step, on a copy of the model. Trains nothing."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import _random
from fastnn._plot import axes_or_new
from fastnn.data import Data
from fastnn.engine import Batches
from fastnn.errors import RateWarning, callers
from fastnn.training.run import Fitter

Array = np.ndarray
_MEMORY = 0.9  # of the running mean of the losses: about 10 steps
_FALL = 20  # steps: twice what the mean remembers
_DIVERGED = 4.0  # times the smallest running mean: no rate beyond is looked at


@dataclass(frozen=True)
class LearningRates:
    """What a range test measured: `lr` (s,) rising, the `loss` (s,) of each batch before its step, the running mean
    `smooth` (s,) of these, sum_k m^k loss_{s-k} / sum_k m^k with m = 0.9, and `suggestion`: a tenth of the rate at
    which that mean is lowest. (Where it falls fastest says less: batches differ by more than a step changes.)

    `bounded`: whether the mean rose again behind its lowest. Where it did not (few rows, say, which the steps learn by
    heart), that tenth says only how high the test went, and the suggestion is the rate around which the mean fell
    fastest, over 20 steps. Where it never fell by more than batches differ there is none: NaN. RateWarning says either.
    A loss that diverged with the next rate has risen.
    """

    lr: Array
    loss: Array
    smooth: Array
    suggestion: float
    bounded: bool = True

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
        diverged = count < len(loss)
        if len(wild):
            count = max(2, int(wild[0]))
            diverged = bool(smooth[int(wild[0])] > smooth[0])  # else a rise among losses that are next to nothing
        lr, loss, smooth = lr[:count], loss[:count], smooth[:count]
        place = int(smooth.argmin())
        if not _fell(loss, smooth):
            beyond, other = (", beyond which it diverged", "lower `low`") if diverged else ("", "higher `high`")
            _warn(
                f"the loss fell nowhere between {lr[0]:g} and {lr[-1]:g}{beyond}: there is no suggestion; a {other}, "
                f"more `steps` or another batch_size may find one"
            )
            return cls(lr, loss, smooth, math.nan, False)
        if place < count - 1 or diverged:
            return cls(lr, loss, smooth, float(lr[place]) / 10.0)
        steepest = _steepest(lr, smooth)
        _warn(
            f"the loss was lowest at the last rate, {lr[-1]:g}, so that none is known to be too high: the suggestion "
            f"{steepest:.2g} is where it fell fastest; a higher `high` or fewer `steps` may say more"
        )
        return cls(lr, loss, smooth, steepest, False)

    def plot(self, axes: Any = None) -> Any:
        """The losses over the rates (on a logarithmic axis) with matplotlib, the suggestion marked; returns the axes.

        ImportError naming the extra [plot] where matplotlib is missing.
        """
        axes = axes_or_new(axes)
        axes.plot(self.lr, self.loss, ".", alpha=0.3, label="loss of the batch")
        axes.plot(self.lr, self.smooth, label="running mean")
        if not math.isnan(self.suggestion):
            axes.axvline(self.suggestion, color="C2", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.legend()
        return axes


def _fell(loss: Array, smooth: Array) -> bool:
    """Whether the running mean fell by more than the losses of single batches differ around it at first: 4 standard
    deviations of a mean of 10."""
    unit = float(np.abs(loss).max()) or 1.0
    loss, smooth = loss / unit, smooth / unit  # of targets of 1e100 the squares of the losses overflow
    first = slice(0, max(2, len(loss) // 4))
    noise = float(np.std(loss[first] - smooth[first]))
    before = smooth[: min(10, int(smooth.argmin()) + 1)]  # what rose from the first step on fell nowhere
    return float(before.mean() - smooth.min()) > noise


def _steepest(lr: Array, smooth: Array) -> float:
    """The rate in the middle of the steps over which the mean fell most."""
    steps = max(1, min(_FALL, len(smooth) // 4))
    start = int((smooth[steps:] - smooth[:-steps]).argmin())
    return float(lr[start + steps // 2])


def _warn(message: str) -> None:
    warnings.warn(message, RateWarning, stacklevel=callers())


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
    if model.target_scale is not None:
        losses = losses * model.target_scale.unit(trainer.objective.loss)
    return LearningRates.of(rates, losses)
