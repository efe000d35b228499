"""scikit-learn's estimators on fastnn's engine: MLPClassifier, MLPRegressor. Needs the extra [sklearn]."""

from fastnn.errors import missing_extra

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise missing_extra("scikit-learn", "an estimator (MLPClassifier, MLPRegressor)", "sklearn") from error

from fastnn.estimators.classifier import MLPClassifier
from fastnn.estimators.regressor import MLPRegressor
from fastnn.estimators.skl2onnx import register_skl2onnx

__all__ = ["MLPClassifier", "MLPRegressor", "register_skl2onnx"]
