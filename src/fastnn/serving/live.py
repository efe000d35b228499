"""Live: the predictions of a model that may be trained between them. Checks nothing: it knows who does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.contract import Backend
from fastnn.plan import State
from fastnn.serving.frozen import Frozen

Array = np.ndarray
Checked = Callable[[Any, Backend], Array]  # predictions of whatever X is


class Live:
    """`call(X)` predicts as a model does, while it is `of` the same. Plain arrays go to the backend at once.

    view: the model's own plan and state. checked: gives the method of the model that takes everything else, or None
    once the model is gone.
    """

    __slots__ = ("_backend", "_new", "_scale", "_state", "call")

    def __init__(self, view: Frozen, scale: object, backend: Backend, checked: Callable[[], Checked | None]) -> None:
        self._state, self._scale, self._new, self._backend = view.state, scale, view.border.new, backend
        asked = _Asked(backend, checked)
        native = None if backend.freeze is None else backend.freeze(view, asked, live=True)
        self.call: Callable[[Any], Array] = asked if native is None else native

    def of(self, state: State | None, scale: object, new: bool, backend: Backend) -> bool:
        """Whether these are still what it was made for."""
        return self._state is state and self._backend is backend and self._scale is scale and self._new is new


class _Asked:
    """The owner of a backend's predictor: hands on what that does not take."""

    def __init__(self, backend: Backend, checked: Callable[[], Checked | None]) -> None:
        self._backend, self._checked = backend, checked

    def __call__(self, X: Any) -> Array:
        predict = self._checked()
        assert predict is not None, "the model calls, so it lives"
        return predict(X, self._backend)

    def predict_for(self, run: object, X: Any) -> Array:
        """As the extension asks."""
        return self(X)
