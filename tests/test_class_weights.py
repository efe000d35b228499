"""`MLPClassifier(class_weight=)`: what is refused, by its own name and the class's; and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import MLPClassifier

X = np.random.default_rng(0).normal(size=(60, 3))
TWO = (X[:, 0] > 0).astype(int)
NAMES = np.where(TWO, "yes", "no")
BOTH = np.stack([TWO, 1 - TWO], axis=1)


def fit(class_weight, y=TWO, sample_weight=None, **settings):
    settings = dict(hidden_layer_sizes=(), alpha=0.0, max_iter=1, solver="lbfgs", random_state=0) | settings
    return MLPClassifier(class_weight=class_weight, **settings).fit(X, y, sample_weight)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    ("class_weight", "y", "message"),
    [
        ({0: float("nan"), 1: 1}, TWO, r"class_weight\[0\] is nan, expected a finite number in \[0, inf\)"),
        ({0: 1, 1: -1}, TWO, r"class_weight\[1\] is -1, expected a finite number in \[0, inf\)"),
        ({"no": np.inf, "yes": 1}, NAMES, r"class_weight\['no'\] is inf, expected a finite number"),
        ({np.int64(0): np.float64(-2.0)}, TWO, r"class_weight\[0\] is -2.0, expected a finite number"),
        ({0: 0, 1: 0.0}, TWO, "class_weight is 0 for all classes that y has, expected at least one > 0"),
        ([{0: 1.0}, {1: float("nan")}], BOTH, r"class_weight\[1\]\[1\] is nan, expected a finite number"),
        ([{0: 1.0}, "even"], BOTH, r"class_weight\[1\] is 'even', expected 'balanced' or a dict"),
        ([3.0, 0.5], TWO, r"class_weight is \[3.0, 0.5\], expected 'balanced' or a dict {class: weight}"),
        ([{0: 3.0, 1: 0.5}], TWO, r"class_weight is \[{0: 3.0, 1: 0.5}\], expected 'balanced' or a dict"),
    ],
)
def test_errors_name_class_weight_and_the_class(solver, class_weight, y, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(class_weight, y, solver=solver)


def test_a_weight_that_is_no_number():
    with pytest.raises(TypeError, match=r"^class_weight\[1\] is 'much', expected a finite number"):
        fit({1: "much"})


def test_the_argument_that_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"^sample_weight has value -1, expected weights >= 0"):
        fit({0: 2.0}, sample_weight=-np.ones(60))
    with pytest.raises(ValueError, match=r"^Input class_weight contains 2e\+300, a value too large for float32"):
        fit({0: 1e300}, sample_weight=np.full(60, 2.0), dtype="float32")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_share_of_a_class_is_that_of_its_weight():
    """Without features the optimum is the share of the weights: w1 n1 / (w0 n0 + w1 n1)."""
    zeros, ones = 60 - TWO.sum(), TWO.sum()
    model = MLPClassifier((), class_weight={0: 3.0, 1: 0.5}, solver="lbfgs", alpha=0.0, tol=1e-9, random_state=0)
    found = model.fit(np.zeros((60, 1)), TWO).predict_proba([[0.0]])[0, 1]
    assert found == pytest.approx(0.5 * ones / (3.0 * zeros + 0.5 * ones), rel=1e-4)
