"""Whether the targets of a fit are scaled, by what, and a word where they should be. Trains nothing."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np

from fastnn.data import Data
from fastnn.errors import TargetWarning, callers
from fastnn.formulas.losses import Loss
from fastnn.nn.model import Sequential
from fastnn.nn.target_scale import TargetScale, scalable
from fastnn.training.checkpoint import Saved

Array = np.ndarray
_FAR = 10.0  # times the spread of the outputs: Adam at 1e-3 takes thousands of steps there
_SAMPLE = 256  # rows that tell what an untrained network's outputs are like
_SPARSE_SAMPLE = 32  # of sparse rows, each made dense by itself: a wide one may be megabytes
_FEW = 10  # rows whose spread says nothing


_WIDER = "take Sequential(layers, dtype='float64')"
_SCALED = "take Trainer(..., scale_targets=True), which scales it before that, or Sequential(layers, dtype='float64')"


def shiftable(loss: Loss) -> bool:
    """Whether y less a constant are targets as well: of values in any range, by a formula that is known."""
    return loss.built_in and loss.y_range == (-math.inf, math.inf)


def advice(loss: Loss, *, batches: bool = False) -> str:
    """What to do where y loses its digits in the model's dtype: what this loss allows. batches: of y is known what came
    so far, which scale_targets does not learn from."""
    if scalable(loss) and not batches:
        return _SCALED
    return f"subtract its mean, or {_WIDER}" if shiftable(loss) else _WIDER


def chosen(
    model: Sequential, loss: Loss, wanted: bool, first: Data, data: Data | None, rows: Array | None, saved: Saved | None
) -> TargetScale | None:
    """What the targets of a fit are scaled by: as the model has it, or the checkpoint; else, where it is wanted,
    learned from these rows of the data (None: batches, of which nothing is known before they come), but those of
    weight 0.

    ValueError where it is wanted and cannot be.
    """
    if saved is None and model.target_scale is not None:
        found: TargetScale | None = model.target_scale
    elif saved is not None:
        found = saved.target_scale(model.plan_for(first.row_shape).outputs)
        if found is None and wanted:
            raise ValueError(f"scale_targets is True, but {saved.path} was saved without")
        if data is None and found != model.target_scale:
            raise ValueError(f"{saved.path} was saved with targets that were scaled, which X, being batches, cannot be")
    elif wanted:
        found = _learned(model, data, rows)
    else:
        return None
    if found is not None:
        found.loss(loss)
    return found


def _learned(model: Sequential, data: Data | None, rows: Array | None) -> TargetScale:
    if data is None:
        raise ValueError(
            "scale_targets is True, but X is batches, whose targets are not known before: scale them yourself"
        )
    if model.loss is not None:
        raise ValueError("scale_targets is True, but the model was fitted without: expected a new model")
    if data.y.ndim == 1:
        raise ValueError("scale_targets is True, but y has class labels, expected values")
    y = data.reported_y.reshape(len(data), -1)
    rows = data.weighing(rows)
    return TargetScale.learned((y if rows is None else y[rows]).astype(np.float64))


def warn_if_far(model: Sequential, loss: Loss, data: Data, rows: Array | None) -> None:
    """TargetWarning where the mean or the spread of the targets is far from the spread of the outputs of a model that
    has not learned yet, and nothing scales them."""
    if not scalable(loss) or data.y.ndim == 1:
        return
    rows = data.weighing(rows)
    taken = np.arange(len(data)) if rows is None else rows
    if len(taken) < _FEW:
        return
    taken = taken[:: -(-len(taken) // (_SPARSE_SAMPLE if data.sparse else _SAMPLE))]
    y = data.reported_y.reshape(len(data), -1)[taken].astype(np.float64)
    with np.errstate(all="ignore"):  # of features and targets beyond all measure
        z = _outputs(model, data, taken)
        unit = float(z.std(axis=0).max()) or 1.0  # a last layer that begins with zeros
        means, spreads = np.abs(y.mean(axis=0)), y.std(axis=0)
    worst = int(np.argmax(np.maximum(means, spreads)))
    mean, spread = float(means[worst]), float(spreads.max())
    far = max(mean, spread) > _FAR * max(unit, 1.0) or 0.0 < spread * _FAR < min(unit, 1.0)
    if not far or not math.isfinite(unit):  # outputs far from 1, of y near 1, are not mended by scaling y
        return
    warnings.warn(
        f"y is around {mean:.3g} and spreads {spread:.3g}, far from the model's outputs, which spread {unit:.3g} at "
        f"first: take Trainer(..., scale_targets=True), which learns y scaled and predicts it as it is",
        TargetWarning,
        stacklevel=callers(),
    )


def _outputs(model: Sequential, data: Data, rows: Array) -> Array:
    """What the model makes of these rows, on the backend that is always there and begins at once."""
    parts = rows.reshape(-1, 1) if data.sparse else [rows]
    z = [model._walk(model.plan, replace(data, x=data.x[part]), "numpy") for part in parts]
    return np.concatenate(z).astype(np.float64)
