"""What is looked at once more: Data that were checked, perhaps for another model, and predictions that overflow."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastnn import _validate
from fastnn.data import Data
from fastnn.errors import callers
from fastnn.formulas.losses import Loss
from fastnn.nn.layers import Flatten, Layer, Normalize
from fastnn.plan import Plan


def one_row_of_outputs(plan: Plan) -> None:
    """ValueError where rows that come out have positions: no loss says what these mean."""
    if len(plan.output_shape) > 1:
        raise ValueError(
            f"the model makes rows of shape {plan.output_shape}, expected (outputs,) for a loss: end with Flatten()"
        )


def taken(data: Data, loss: Loss, outputs: int, model_dtype: np.dtype, dtype: np.dtype, prefix: str) -> Data:
    """The data themselves where they were checked for this loss and dtype; else what these make of y and the weights.

    ValueError where they take no such y. dtype: of the weights.
    """
    _check_kind(data, loss, outputs, model_dtype, f"{prefix}X")
    if data.y.ndim == 2 and data.loss is not None and data.loss != loss:
        y = _validate.targets(data.reported_y, loss, len(data), outputs, data.y.dtype, name=f"{prefix}y")
        data = replace(data, y=y, loss=loss)
    if data.weight is None or data.weight.dtype == dtype:
        return data
    weight = _validate.sample_weight(data.reported_weight, len(data), dtype, name=f"{prefix}sample_weight")
    return replace(data, weight=weight)


def warn_of_overflow(out: np.ndarray, layers: Sequence[Layer]) -> None:
    """RuntimeWarning where predictions are NaN or infinite though X was finite: Normalize scaled it beyond its dtype.
    Other models say nothing of an overflow, as NumPy does in what it compiles."""
    if isinstance(layers[0], (Normalize, Flatten)) and not np.isfinite(out).all():
        if not any(isinstance(layer, Normalize) for layer in layers):
            return
        rows = int((~np.isfinite(out)).reshape(len(out), -1).any(axis=1).sum())
        warnings.warn(
            f"predictions of {rows} of {len(out)} rows are NaN or infinite: X, as Normalize scales it, or what follows "
            f"is beyond {out.dtype}",
            RuntimeWarning,
            stacklevel=callers(),
        )


def _check_kind(data: Data, loss: Loss, outputs: int, dtype: np.dtype, name: str) -> None:
    """ValueError where y is not of the kind that the loss and this model take: Data from elsewhere."""
    y = data.y
    kind, wanted, shape = "labels", np.dtype(np.int64), y.shape
    if y.ndim == 2:
        kind, wanted, shape = "values", dtype, (len(y), outputs // loss.width)
    other = outputs % loss.width > 0 or kind not in loss.targets or y.dtype != wanted or y.shape != shape
    if other or (kind == "labels" and (y.min() < 0 or y.max() >= outputs)):
        raise ValueError(
            f"{name} is Data with y {y.shape} of {y.dtype}, expected what {loss} and {outputs} outputs in {dtype} "
            f"take: Data from this model's `checked`"
        )
