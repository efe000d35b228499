"""TargetScale: the network learns (y - shift) / scale, and everybody outside sees y. Part of a model beside its
plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn import _validate
from fastnn.data import Data
from fastnn.errors import ModelFormatError
from fastnn.formulas.losses import LOSSES, Loss

Array = np.ndarray
# loss(s z, s y) = s^degree loss(z, y); what has a length for its parameter (delta of huber) has delta / s on the right
_DEGREE = {"mse": 2, "half_mse": 2, "mae": 1, "huber": 2, "quantile": 1, "expectile": 2}
_LENGTHS = ("huber",)


def scalable(loss: Loss) -> bool:
    """Whether the loss of scaled values is a multiple of that of the values themselves: not of likelihoods such as
    poisson, whose outputs are logarithms, nor of a formula of one's own."""
    known = LOSSES.get(loss.name)
    return loss.name in _DEGREE and known is not None and known.pointwise == loss.pointwise


@dataclass(frozen=True)
class TargetScale:
    """y = shift + scale z, where z (n, O) is what the network computes: in float64.

    shift: of each output, the mean of its y; scale: one for all of them, the root of their mean variance. One,
    because a loss is a mean over the outputs: divided by scales of their own they would count otherwise than in the
    loss of y.
    """

    shift: tuple[float, ...]
    scale: float

    @classmethod
    def learned(cls, y: Array) -> TargetScale:
        """Of y (n, O). ValueError where its squares are beyond float64.

        >>> TargetScale.learned(np.array([[10.0], [14.0]]))
        TargetScale(shift=(12.0,), scale=2.0)
        """
        with np.errstate(over="ignore", invalid="ignore"):
            shift = y.mean(axis=0)
            scale = float(np.sqrt(((y - shift) ** 2).mean()))
        if not np.isfinite(scale):
            raise ValueError("y has numbers that are too large, expected squares below 1.8e308: scale it")
        return cls(tuple(shift.tolist()), scale if scale >= np.finfo(np.float64).tiny else 1.0)

    def applied(self, data: Data, dtype: np.dtype) -> Data:
        """The data with y as the network learns it, from what was passed: applied twice it is the same. ValueError
        where that is beyond dtype."""
        given = data.reported_y
        values = given.reshape(len(given), -1).astype(np.float64)
        with np.errstate(over="ignore"):  # of the cast, whose result is looked at
            scaled = _validate.plain((values - np.array(self.shift)) / self.scale, dtype)
        if not np.isfinite(scaled).all():
            raise ValueError(f"y has numbers that are too large for {dtype} where they are scaled by {self.scale:g}")
        return replace(data, y=scaled, given_y=given, loss=self)

    def undone(self, z: Array) -> Array:
        """What the network's outputs z (n, O) say of y, in float64."""
        y: Array = np.array(self.shift) + self.scale * z.astype(np.float64)
        return y

    def loss(self, loss: Loss) -> Loss:
        """The loss of what the network learns. ValueError where it is none of those that scale."""
        if not scalable(loss):
            raise ValueError(f"loss is {loss}, whose targets cannot be scaled, expected one of: {', '.join(_DEGREE)}")
        return replace(loss, parameter=loss.parameter / self.scale) if loss.name in _LENGTHS else loss

    def unit(self, loss: Loss) -> float:
        """What a loss of the network's outputs is multiplied with to be that of y."""
        return float(self.scale ** _DEGREE[loss.name])

    def config(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {"shift": list(self.shift), "scale": self.scale}

    @classmethod
    def from_config(cls, config: Any, outputs: int | None) -> TargetScale:
        """What `config` made. ModelFormatError where it is not that of so many outputs."""
        if not isinstance(config, dict) or set(config) != {"shift", "scale"} or not isinstance(config["shift"], list):
            raise ModelFormatError("target_scale is not an object with shift and scale")
        try:
            shift = tuple(_validate.number("target_scale.shift", value) for value in config["shift"])
            scale = _validate.number("target_scale.scale", config["scale"], low=0.0, open_low=True)
        except (TypeError, ValueError) as error:
            raise ModelFormatError(str(error)) from None
        if len(shift) != outputs:
            raise ModelFormatError(f"target_scale has {len(shift)} shifts, but the model has {outputs} outputs")
        return cls(shift, scale)
