"""Predicting: what both estimators do with rows once they are fitted. Turns no logits into answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from fastnn import backends
from fastnn.data import Features
from fastnn.nn.model import Sequential
from fastnn.serving import Frozen, Predictor, int8
from fastnn.training.trainer import Trainer

Array = np.ndarray


class Predicting:
    """The network's outputs for rows, in a call or by a function that is only that."""

    threads: int | None
    _trainer: Trainer  # of the last fit

    @property
    def _model(self) -> Sequential:
        return self._trainer.model

    # Declared for the type checker; BaseMLP and the two estimators have them.

    def _as_arrays(self, X: Any, *y: Any, **options: Any) -> Any:
        raise NotImplementedError

    def _features(self, X: Any, dtype: np.dtype, advice: str | None = None) -> Features:
        raise NotImplementedError

    def _logits(self, X: Any) -> Array:
        """The last layer's output (n, O) for rows of X, before the loss's softmax, sigmoid or exponential."""
        fitted = self.__dict__
        checked: Features | None = fitted.get("_checked")  # what a scorer has each epoch: see `Validation`
        if checked is None or X is not checked.x:
            plain = type(X) is np.ndarray and X.dtype.kind == "f" and "feature_names_in_" not in fitted
            if plain and self.threads is None and "_trainer" in fitted:  # 50 us less than scikit-learn's checks
                try:
                    return self._model.predict(X)
                except (ValueError, TypeError):
                    pass  # which scikit-learn says in its own words
            check_is_fitted(self)
            checked = self._features(self._as_arrays(X, reset=False), self._model.dtype)
        with self._limited():
            return self._model.predict(checked)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """On no more than `threads` threads."""
        if self.threads is None:
            yield
        else:
            with backends.resolve().limit_threads(self.threads):
                yield

    def predictor(self, *, dtype: str | None = None) -> Predictor:
        """A function of a row (I,), or of rows, that this estimator is now: see `fastnn.serving.Predictor`.

        p(x) is what the network computes (O,) in its dtype, of a regressor what `predict` gives, as a row;
        `predict_class` gives one of `classes_`. ValueError where y has several columns of classes.
        dtype: None, or "int8": see `Sequential.predictor`.
        """
        check_is_fitted(self)
        made: Predictor = int8.predictor(self._frozen(), dtype=dtype)
        return made

    def _frozen(self) -> Frozen:
        """What predicts, for `predictor` and the exporters."""
        raise NotImplementedError

    @property
    def _names(self) -> list[str] | None:
        names = self.__dict__.get("feature_names_in_")
        return None if names is None else list(names)
