"""What the epochs of an estimator's fit are measured on: rows held out or given, and the score by which they judge."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split

from fastnn.data import Data
from fastnn.training.run import Run

Array = np.ndarray


@dataclass(frozen=True)
class Validation:
    """Validation rows as the Trainer takes them; y and weight as they were given, for a scorer."""

    data: Data
    y: Any
    weight: Array | None

    def score(self, estimator: Any, scoring: Any, metric: str | None) -> Callable[[Run], float]:
        """What an epoch is judged by, larger being better: the Trainer's metric of that name, if it is given; minus the
        loss; or a scorer of scikit-learn."""
        if metric is not None:
            return lambda run: run.logs[f"val_{metric}"]
        if scoring == "loss":
            return lambda run: -run.logs["val_loss"]
        view = copy.copy(estimator)  # it shares the network; without names, for the rows are an array
        view.__dict__.pop("feature_names_in_", None)
        view._checked = self.data
        scorer = check_scoring(view, scoring)
        more = {"sample_weight": self.weight} if self.weight is not None and _takes_weights(scorer) else {}
        return lambda run: float(scorer(view, self.data.x, self.y, **more))


def drawn(count: int, fraction: float, random: np.random.RandomState, targets: Array | None) -> tuple[Array, Array]:
    """The numbers of the rows to learn from and of those held out: scikit-learn's for the same random state.

    targets: (n,) or (n, O), whose classes are divided alike; None: any rows.
    """
    strata = None if targets is None else targets.reshape(count, -1)
    chosen, others = train_test_split(np.arange(count), random_state=random, test_size=fraction, stratify=strata)
    if len(others) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    return chosen, others


def _takes_weights(scorer: Any) -> bool:
    """Whether a scorer has a use for sample_weight: its metric does, or the function that it is."""
    try:
        parameters = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters
    except (TypeError, ValueError):
        return False
    return "sample_weight" in parameters
