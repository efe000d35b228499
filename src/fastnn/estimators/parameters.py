"""What the parameters that both estimators have may be, as scikit-learn checks them. Their meaning: network.py."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, Options, StrOptions

from fastnn._validate import MOST_THREADS
from fastnn.formulas.activations import ACTIVATIONS, ROW_ACTIVATIONS, Activation
from fastnn.nn.layers import Maxout, PReLU, RReLU, Softmax
from fastnn.optim.optimizers import OPTIMIZERS, Optimizer
from fastnn.optim.schedules import SCHEDULES, Schedule

STOCHASTIC = ("sgd", "adam")
ONLY_STOCHASTIC = ("dropout", "batch_norm", "optimizer", "schedule", "clip_norm", "ema", "callbacks")
AUTO_BATCH = 200  # scikit-learn's batch_size="auto"

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [
        StrOptions({"logistic", *ACTIVATIONS, *ROW_ACTIVATIONS}),
        Activation,
        Maxout,
        PReLU,
        RReLU,
        Softmax,
        list,
        tuple,
    ],
    "solver": [StrOptions({"lbfgs", *STOCHASTIC})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose", StrOptions({"progress"})],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    # beyond scikit-learn's
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "batch_norm": ["boolean"],
    "optimizer": [None, StrOptions(set(OPTIMIZERS)), Optimizer],
    "schedule": [None, StrOptions(set(SCHEDULES)), Schedule],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "ema": [None, Interval(Real, 0, 1, closed="neither")],
    "scoring": [None, StrOptions({"loss", *get_scorer_names()}), callable],
    "restore_best": ["boolean"],
    "callbacks": [None, list, tuple],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "threads": [None, Interval(Integral, 1, MOST_THREADS, closed="both")],
}


def no_huge_integers(name: str, value: Any) -> None:
    """ValueError for a whole number that no float holds, in a dict or a list too: scikit-learn's checks let it pass."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            no_huge_integers(name, each)
    elif isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            raise ValueError(f"{name} has a whole number beyond float64 (1.8e308), expected a smaller one") from None


def no_dates(name: str, value: Any) -> None:
    """TypeError for dates and times, of an array or a column: scikit-learn counts them in units of their own."""
    if isinstance(value, (list, tuple)):
        value = np.asarray(value, dtype=None if np.ndim(value[:1]) else object)
    dtypes = [value.dtype] if hasattr(value, "dtype") else list(getattr(value, "dtypes", ()))
    for dtype in dtypes:
        if getattr(dtype, "kind", None) in ("m", "M") or str(dtype).lower().startswith(("date", "time", "duration")):
            raise TypeError(f"{name} has dtype {dtype}, expected numbers")
