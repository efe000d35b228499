"""An estimator from its file: `save` writes. Nothing in a file is executed; what cannot be is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn._text import short
from fastnn.errors import ModelFormatError
from fastnn.estimators import kept
from fastnn.estimators.classifier import MLPClassifier
from fastnn.estimators.regressor import MLPRegressor
from fastnn.nn.serialize import same_keys

Array = np.ndarray
Estimator = MLPClassifier | MLPRegressor
KINDS: dict[str, type[MLPClassifier] | type[MLPRegressor]] = {
    "MLPClassifier": MLPClassifier,
    "MLPRegressor": MLPRegressor,
}


def assembled(header: dict[str, Any], arrays: dict[str, Array]) -> Estimator:
    """The estimator that a file's header and arrays are. ModelFormatError where they say what cannot be."""
    parameters, fitted = kept.checked_header(header)
    kept.check_size(parameters, fitted)
    kind = KINDS.get(header["class"])
    if kind is None:
        raise ModelFormatError(f"class is {short(header['class'])}, expected one of: {', '.join(KINDS)}")
    same_keys("parameters", set(parameters), set(kind._get_param_names()))
    try:
        made = kind(**kept.parameters_from(parameters))
        made._validate_params()
        made._layout().layers(1)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"parameters: {error}") from None
    if fitted is None:
        same_keys("the estimator, which was not fitted, with its arrays,", set(arrays), set())
    else:
        if fitted.get("optimizer") is not None:  # pickles alone have one
            raise ModelFormatError(f"fitted: optimizer is {short(fitted['optimizer'])}, expected null in a file")
        kept.restore(made, fitted, arrays, classifies=not made._numeric)
    return made
