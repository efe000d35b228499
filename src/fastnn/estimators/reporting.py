"""An estimator's report: its rows, classes and curves for `fastnn.report`. Draws and measures nothing itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastnn import report
from fastnn.metrics import Metrics
from fastnn.nn import reporting
from fastnn.nn.model import Sequential
from fastnn.serving import Frozen
from fastnn.training.history import History
from fastnn.training.trainer import Trainer

_CURVES = {"loss": "loss_curve_", "val_loss": "validation_loss_curve_", "val_score": "validation_scores_"}


class Reporting:
    """`report`."""

    # Of the classes beside and beyond this one: scikit-learn's and BaseMLP.
    _trainer: Trainer
    _model: Sequential
    _numeric: bool
    _frozen: Callable[[], Frozen]
    _targets: Callable[[Any], Any]
    _check_known: Callable[[Any], None]
    _check_arrays: Callable[[Any, Any, bool], tuple[Any, Any]]

    def report(
        self,
        path: str | os.PathLike[str],
        X: Any,
        y: Any,
        *,
        metrics: Metrics | None = None,
        importance: bool = True,
        sample_weight: Any = None,
    ) -> None:
        """Write one HTML page on the estimator and rows X (n, I) with their targets y: see `Sequential.report`.
        sample_weight: of the rows, by which all figures weigh them as `score` does.

        With the curves of the last fit, but for lbfgs, and with `classes_`. NotFittedError before a fit; ValueError or
        TypeError where X and y do not fit it or y has several columns of classes.

            model = fastnn.MLPClassifier().fit(X, y)
            model.report("report.html", X_test, y_test)
        """
        check_is_fitted(self)
        frozen = self._frozen()
        report.check_arguments(path, importance)
        x, values = self._check_arrays(X, y, False)
        self._check_known(values)
        data = self._model.checked(x, self._targets(values), sample_weight, self._trainer.loss)
        made = reporting.subject(
            self._model,
            self._model.layers,
            data,
            frozen,
            name=type(self).__name__,
            classes=None if self._numeric else self._class_names(frozen),
            history=self._curves(),
        )
        report.write(path, made, metrics=metrics, importances=importance)

    def _class_names(self, frozen: Frozen) -> list[Any]:
        """Of a y of several labels, their numbers."""
        return list(range(frozen.plan.outputs)) if frozen.classes is None else list(frozen.classes)

    def _curves(self) -> History:
        """What scikit-learn's attributes say of the last fit's epochs: those of a file have them, too."""
        found = {name: list(getattr(self, attribute, None) or ()) for name, attribute in _CURVES.items()}
        epochs = max(map(len, found.values()))
        history = History()
        history.epochs = {
            name: [math.nan] * (epochs - len(values)) + [float(value) for value in values]
            for name, values in found.items()
            if values
        }
        return history
