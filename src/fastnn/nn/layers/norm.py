"""Normalisation within the network, and a learned scale."""

from __future__ import annotations

import numpy as np

from fastnn import _validate
from fastnn.nn.layers.base import Layer
from fastnn.ops.operation import Shape
from fastnn.plan import Op, Tensor

Array = np.ndarray


class _Norm(Layer):
    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = _validate.number("epsilon", epsilon, low=0.0, open_low=True)

    @property
    def gamma(self) -> Array:
        """(O,), live: the learned scale, 1 at first."""
        return self._view("gamma")

    def _gamma(self, inputs: Shape) -> Tensor:
        return self._tensor("gamma", inputs[-1:], lambda rng: 1.0)


class _Centred(_Norm):
    @property
    def beta(self) -> Array:
        """(O,), live: the learned shift, 0 at first."""
        return self._view("beta")

    def _affine(self, inputs: Shape) -> dict[str, Tensor]:
        return {
            "gamma": self._gamma(inputs),
            "beta": self._tensor("beta", inputs[-1:], lambda rng: 0.0),
        }


class BatchNorm(_Centred):
    """a = gamma (x - mean) / sqrt(var + epsilon) + beta, mean and var of each channel: over the rows of the batch and
    their positions.

    Of the batch in training; in inference of the running averages, running <- momentum running + (1 - momentum)
    batch, whose variance is the unbiased one. Ioffe & Szegedy 2015. A batch of one value a channel (one row without
    positions, which a batch size may leave over) has no variance: it comes out as beta, and leaves the running
    averages alone. Values whose variance is beyond the dtype (around 2e19 in float32) end a fit with a
    DivergenceError that names running_var: it cannot be kept.
    """

    def __init__(self, *, momentum: float = 0.9, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)
        self.momentum = _validate.number("momentum", momentum, low=0.0, high=1.0, open_high=True)

    @property
    def running_mean(self) -> Array:
        """(O,), live."""
        return self._view("running_mean")

    @property
    def running_var(self) -> Array:
        """(O,), live."""
        return self._view("running_var")

    def ops(self, inputs: Shape) -> list[Op]:
        tensors = self._affine(inputs) | {
            "running_mean": self._tensor("running_mean", inputs[-1:], lambda rng: 0.0, trainable=False),
            "running_var": self._tensor("running_var", inputs[-1:], lambda rng: 1.0, trainable=False),
        }
        settings = {"momentum": self.momentum, "epsilon": self.epsilon}
        return [Op("batch_norm", inputs, inputs, tensors, settings=settings)]


class LayerNorm(_Centred):
    """a = gamma (x - mean) / sqrt(var + epsilon) + beta, mean and var over the channels of each row, or of
    each of its positions. Ba et al. 2016."""

    def __init__(self, *, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)

    def ops(self, inputs: Shape) -> list[Op]:
        return [Op("layer_norm", inputs, inputs, self._affine(inputs), settings={"epsilon": self.epsilon})]


class RMSNorm(_Norm):
    """a = gamma x / sqrt(mean(x^2) + epsilon), the mean over the channels of each row, or of each of its positions: no
    shift. Zhang & Sennrich 2019."""

    def __init__(self, *, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)

    def ops(self, inputs: Shape) -> list[Op]:
        return [Op("rms_norm", inputs, inputs, {"gamma": self._gamma(inputs)}, settings={"epsilon": self.epsilon})]


class Scale(Layer):
    """a = factor x, with one learned factor a channel, `init` at first.

    >>> fastnn.Sequential([nn.Scale(2.0), nn.Dense(1)]).build(3, seed=0).layers[0].factor
    array([2., 2., 2.], dtype=float32)
    """

    def __init__(self, init: float = 1.0) -> None:
        super().__init__()
        self.init = _validate.number("init", init)

    @property
    def factor(self) -> Array:
        """(O,), live."""
        return self._view("factor")

    def ops(self, inputs: Shape) -> list[Op]:
        factor = self._tensor("factor", inputs[-1:], lambda rng: self.init)
        return [Op("scale", inputs, inputs, {"factor": factor})]
