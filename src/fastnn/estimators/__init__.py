"""scikit-learn's MLPClassifier and MLPRegressor on fastnn: the same parameters, attributes and rules, and more."""

from fastnn.errors import missing_extra

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise missing_extra("scikit-learn", "an estimator", "sklearn") from error

from fastnn.estimators.mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
