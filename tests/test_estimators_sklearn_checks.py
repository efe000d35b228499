"""scikit-learn's own checks of an estimator, all of them, without an expected failure.

Not with early_stopping=True: it refuses partial_fit and fewer than two rows to validate on, as scikit-learn's own
MLPClassifier does, which fails seven of these checks with it.
"""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn import MLPClassifier, MLPRegressor, backends, optim

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPClassifier(solver="lbfgs", max_iter=30),
    MLPClassifier(solver="sgd", activation="tanh", learning_rate="adaptive", learning_rate_init=0.1, max_iter=100),
    MLPClassifier((20, 10), ["prelu", "silu"], optimizer="nadam", ema=0.9, max_iter=100, learning_rate_init=0.01),
    MLPRegressor(max_iter=100),
    MLPRegressor(solver="lbfgs", max_iter=30),
    MLPRegressor(solver="sgd", max_iter=100),
    MLPRegressor(
        "huber",
        (20, 10),
        ["gelu", "tanh"],
        optimizer=optim.AdamW(0.01),
        schedule="cosine",
        clip_norm=1.0,
        dtype="float64",
        max_iter=100,
    ),
]
if "native" not in backends.available():  # where they were a third of all tests' time: backends train alike
    ESTIMATORS = [ESTIMATORS[0], ESTIMATORS[4]]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS)
def test_check_estimator(estimator, check):
    check(estimator)
