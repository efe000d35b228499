"""Keeping: a fitted estimator as a file, its own, ONNX's or C's, or a pickle. What is in its own, kept.py says."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastnn import files
from fastnn._lock import lock_of
from fastnn.estimators import kept
from fastnn.estimators.network import Layout
from fastnn.estimators.plain import encoded, without_numpy
from fastnn.nn.model import Sequential
from fastnn.serving import Frozen, c99, onnx

_STATE = {"header", "arrays", "objects", "others"}  # of a pickle; one of before has the attributes themselves


class Keeping:
    """`save`, `to_onnx`, `to_c`, and what pickle, copy and skops ask for."""

    # Of the classes beside and beyond this one: scikit-learn's and BaseMLP.
    _numeric: bool
    _model: Sequential
    get_params: Callable[[bool], dict[str, Any]]
    _validate_params: Callable[[], None]
    _layout: Callable[[], Layout]
    _frozen: Callable[[], Frozen]
    __sklearn_is_fitted__: Callable[[], bool]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Put the estimator into a file, which `fastnn.load` reads: after a crash at any moment the old one or the new.

        It has the parameters, and of a fit the network, classes, names of features, losses, scores and best epoch: what
        is loaded predicts the same bits, and fits on. Not the optimizer's moments: `partial_fit` begins them anew, as a
        `fit` does. NumPy's numbers become Python's, arrays among the parameters lists.

        TypeError or ValueError, before anything is written, for what a file cannot hold, by name: a parameter that is
        an object of your own (callbacks, a scorer, a RandomState, a loss), one that `fit` would refuse, an attribute
        that is not scikit-learn's, an estimator of a class of your own. RuntimeError while it is being fitted, by this
        thread or another. OSError where the file cannot be written.

        >>> import tempfile
        >>> X, y = np.eye(6), np.array(list("aabbcc"))
        >>> model = fastnn.MLPClassifier((8,), max_iter=2, solver="lbfgs", random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model")
        ...     again = fastnn.load(f"{folder}/model")
        >>> again, bool((again.predict_proba(X) == model.predict_proba(X)).all())
        (MLPClassifier(hidden_layer_sizes=(8,), max_iter=2, random_state=0,
                      solver='lbfgs'), True)
        """
        lock, expected = lock_of(self), "to be saved before or after that"
        lock.check_free(expected)
        try:
            header, arrays = self._for_file()
        finally:  # whatever came of a fit that began meanwhile
            lock.check_free(expected)
        files.write(path, header, arrays)

    def _for_file(self) -> tuple[dict[str, Any], kept.Arrays]:
        parameters = {name: encoded(without_numpy(value), name) for name, value in self.get_params(False).items()}
        self._check_for_file()
        fitted, arrays = kept.fitted_of(self, optimizer=False) if self.__sklearn_is_fitted__() else (None, {})
        kept.check_size(parameters, fitted)
        return kept.header_of(type(self).__name__, parameters, fitted), arrays

    def _check_for_file(self) -> None:
        kind = type(self)
        if kind.__module__.rpartition(".")[0] != __name__.rpartition(".")[0]:
            raise TypeError(f"the estimator is a {kind.__name__}, expected fastnn's MLPClassifier or MLPRegressor")
        self._validate_params()
        self._layout().layers(1)
        others = vars(self).keys() - self.get_params(False).keys()
        unknown = sorted(others - kept.KNOWN if self.__sklearn_is_fitted__() else others)
        if unknown:
            raise TypeError(f"the estimator has the attribute {unknown[0]}, which a file does not hold, expected none")

    def to_onnx(self, path: str | os.PathLike[str], *, opset: int = 17, input: str | None = None) -> None:
        """Put what predicts into an ONNX file: docs/onnx.md. Its outputs are those of skl2onnx without ZipMap.

        X (n, I) -> label (n,), int64 or text, and probabilities (n, K); of several labels both (n, K); of the loss
        "hinge" label and scores, the `decision_function`. Of a regressor predictions, (n,) or (n, O). input: the dtype
        of X, and of all numbers that come out, "float32" or "float64"; None: the one that the network computes in.
        opset: 13 to 24.

        NotFittedError before a fit; ValueError, before anything is written, for other arguments, several columns of
        classes and sigmoids that share a row's classes; ImportError without the package onnx.

            model = fastnn.MLPRegressor().fit(X, y)
            model.to_onnx("model.onnx")
            (y,) = onnxruntime.InferenceSession("model.onnx").run(None, {"X": X})
        """
        check_is_fitted(self)
        given = self._model.dtype.name if input is None else input
        onnx.write(self._frozen(), path, opset=opset, input=given, estimator=True)

    def to_c(
        self, path: Any, *, dtype: str = "float32", name: str = "model", block: int = 64, rows: Any = None
    ) -> None:
        """Write what predicts as C: `path`, "model.c", model.h and model_test.c beside it: `fastnn.serving.c99.write`.

        `model_classify` gives an index into `model_classes`, the names of `classes_`. NotFittedError before a fit;
        ValueError for a network of float64, which an estimator has but for dtype="float32", and as `to_onnx`.

        >>> import os, tempfile
        >>> X, y = np.eye(6), np.array(list("aabbcc"))
        >>> model = fastnn.MLPClassifier((8,), max_iter=2, dtype="float32", solver="lbfgs").fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.to_c(f"{folder}/model.c", rows=X)
        ...     sorted(os.listdir(folder))
        ['model.c', 'model.h', 'model_test.c']
        """
        check_is_fitted(self)
        c99.write(self._frozen(), path, dtype=dtype, name=name, block=block, rows=rows)

    # Pickles and copies -----------------------------------------------------------------------------------

    def __copy__(self) -> Any:
        """A shallow copy, which shares the network."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Plain values and arrays, so that who unpickles has one class to trust; with the optimizer's moments.

        Parameters and attributes that are none of these stay what they are. A network with formulas of one's own is
        pickled as it is.
        """
        given = self.get_params(False)
        parameters, objects = {}, {}
        for name, value in given.items():
            try:
                parameters[name] = encoded(value, name)
            except TypeError:
                objects[name] = value
        is_fitted, fitted = self.__sklearn_is_fitted__(), None
        arrays: kept.Arrays = {}
        if is_fitted:
            try:
                fitted, arrays = kept.fitted_of(self, optimizer=True)
            except TypeError:
                whole: dict[str, Any] = super().__getstate__()  # type: ignore[misc]  # BaseEstimator's, behind this base
                return whole
        known = {*given, *(kept.KNOWN if is_fitted else ()), "_begun"}  # the last of a fit in progress
        others = {name: value for name, value in vars(self).items() if name not in known}
        header = kept.header_of(type(self).__name__, parameters, fitted)
        return {"header": header, "arrays": arrays, "objects": objects, "others": others}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.keys() != _STATE:
            super().__setstate__(state)  # type: ignore[misc]  # as above
            return
        parameters, fitted = kept.checked_header(state["header"])
        vars(self).update(kept.parameters_from(parameters) | state["objects"] | state["others"])
        if fitted is not None:
            kept.restore(self, fitted, state["arrays"], classifies=not self._numeric)
