"""Metrics: how good predictions are, in numbers that people report. Knows losses, no model and no training.

A metric is a name of METRICS or a function of (y, prediction); `metric` says more of a function. Each is computed in
float64 from y as it was passed, from what `predict`, `predict_class` or `predict_proba` return, with the rows' weights.
"""

from fastnn.metrics.answers import classifies, decide, link, log_shares, probabilities, shares
from fastnn.metrics.definition import Metric, Mode
from fastnn.metrics.direction import direction
from fastnn.metrics.measure import check, measure
from fastnn.metrics.names import METRICS
from fastnn.metrics.naming import RESERVED, Metrics, metric, named_metrics
from fastnn.metrics.values import mae, r2, rmse

__all__ = [
    "METRICS",
    "RESERVED",
    "Metric",
    "Metrics",
    "Mode",
    "check",
    "classifies",
    "decide",
    "direction",
    "link",
    "log_shares",
    "mae",
    "measure",
    "metric",
    "named_metrics",
    "probabilities",
    "r2",
    "rmse",
    "shares",
]
