"""Predictor: a frozen network that is called. The checks and the shapes; who computes is the backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import _sparse, backends
from fastnn.contract import Backend
from fastnn.data import Features
from fastnn.metrics.answers import decide, probabilities
from fastnn.serving.frozen import Frozen
from fastnn.serving.overflow import warn_of_overflow

Array = np.ndarray
PREDICTION, PROBABILITIES, LOGITS = range(3)  # of csrc/engine/frozen.hpp
Run = Callable[[Any, int, Array], bool]  # x, one of those, out -> whether x was read


class Predictor:
    """A network that only predicts. `model.predictor()` makes it; later fits of the model do not change it.

    `p(x)` takes a row (I,) and gives (O,), or rows (n, I) and gives (n, O), to the bits of `model.predict`; `p(x, out)`
    writes into an array of that shape and dtype, which it returns. x: an array of any real dtype, a list or a tuple, a
    data frame, a dict or a Series of a row by the names of its features. Errors are those of `model.predict`.

    For any number of threads at a time, without a lock; it starts none below 60 us of work, survives a fork, and
    pickles. With the native backend a plain row costs 0.1 us beside its arithmetic.

    >>> model = fastnn.Sequential([nn.Dense(4, "relu"), nn.Dense(2)]).build(3, seed=0)
    >>> p = model.predictor()
    >>> row = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    >>> p(row).shape, p(row[None]).shape, bool((p(row) == model.predict(row[None])[0]).all())
    ((2,), (1, 2), True)
    """

    def __init__(self, frozen: Frozen, backend: Backend) -> None:
        self.frozen = frozen
        self._backend = backend

    def __repr__(self) -> str:
        plan = self.frozen.plan
        return f"Predictor({_shape(plan.input_shape)} -> {_shape(plan.output_shape)}, {plan.dtype}, {self.backend})"

    @property
    def backend(self) -> str:
        """Who computes, by name."""
        return self._backend.name

    @property
    def dtype(self) -> np.dtype:
        """What it computes in."""
        return self.frozen.plan.dtype

    @property
    def feature_names(self) -> list[str] | None:
        """Of the columns of the data frame that the network was fitted on."""
        return self.frozen.border.names

    @property
    def classes(self) -> Array | None:
        """What `predict_class` chooses from; None: 0, 1, ..."""
        return self.frozen.classes

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        return self.predict_for(None, x, out)

    def predict_proba(self, x: Any) -> Array:
        """The probabilities of a row (C,) or of rows (n, C): see `Sequential.predict_proba`.

        ValueError where the network was not trained with a cross-entropy.
        """
        return self.predict_proba_for(None, x)

    def predict_class(self, x: Any) -> Any:
        """The class of a row, as an object of Python, or of rows, as an array (n,): one of `classes`, or its index.

        Where each output is a class by itself, zeros and ones (C,) or (n, C).
        """
        return self.predict_class_for(None, x)

    def reduce(self) -> Any:
        """For pickle."""
        return predictor, (self.frozen, None if self._backend.freeze is not None else self._backend.name)

    __reduce__ = reduce

    # What the extension's Predictor asks for where it does not answer itself; `run` is its own.

    def predict_for(self, run: Run | None, x: Any, out: Array | None = None) -> Array:
        rows, single = self._rows(x)
        frozen = self.frozen
        result = self._answer(run, rows, PREDICTION)
        if frozen.scaling is not None:
            shift, scale = frozen.scaling
            result = np.array(shift) + scale * result.astype(np.float64)
        result = result.reshape(len(rows), *frozen.plan.output_shape)
        return _into(out, result[0] if single else result)

    def predict_proba_for(self, run: Run | None, x: Any) -> Array:
        loss = self.frozen.loss
        if self.frozen.link is None:
            trained = "no known loss" if loss is None else loss
            raise ValueError(f"this network was trained with {trained}, expected a cross-entropy for probabilities")
        rows, single = self._rows(x)
        result = self._answer(run, rows, PROBABILITIES)
        return result[0] if single else result

    def predict_class_for(self, run: Run | None, x: Any) -> Any:
        loss, classes = self.frozen.loss, self.frozen.classes
        if loss is None or len(self.frozen.plan.output_shape) > 1:
            raise ValueError(f"this network was trained with {loss}, expected a loss that knows classes")
        rows, single = self._rows(x)
        found = decide(loss, self._answer(run, rows, LOGITS))
        if classes is not None and found.ndim == 1:
            found = classes[found]
        return found if not single else found[0].tolist() if found.ndim == 1 else found[0]

    def _rows(self, x: Any) -> tuple[Features, bool]:
        """x checked, and whether it was a row alone."""
        border = self.frozen.border
        sparse = _sparse.is_sparse(x)  # of which dok_matrix is a dict
        if not sparse and (isinstance(x, Mapping) or (hasattr(x, "to_dict") and getattr(x, "ndim", 2) == 1)):
            return border.features([self._by_name(x)], name="x"), True
        single = not sparse and not hasattr(x, "columns") and np.ndim(x) == len(self.frozen.plan.input_shape)
        return border.features(np.asanyarray(x)[np.newaxis] if single else x, name="x"), single  # masks are refused

    def _by_name(self, x: Any) -> list[Any]:
        """The values of a row in the order of the features. ValueError where they are not these."""
        names = self.frozen.border.names
        given = x if isinstance(x, Mapping) else x.to_dict()
        values = {str(name): value for name, value in given.items()}  # as the names of a data frame's columns
        if names is None:
            raise ValueError("x names its features, but this network was fitted without names, expected an array")
        if len(values) != len(x):
            raise ValueError(f"x has {len(x)} values by {len(values)} names, expected each name once")
        missing = [name for name in names if name not in values]
        if missing or len(values) != len(names):
            unknown = [name for name in values if name not in names]
            wrong = f"no {missing[0]!r}" if missing else f"{unknown[0]!r}, which is no feature"
            raise ValueError(f"x has {wrong}, expected the {len(names)} features {_few(names)}")
        text = next((name for name in names if isinstance(values[name], (str, bytes))), None)
        if text is not None:
            raise ValueError(f"x has {values[text]!r} as {text!r}, expected a number")
        return [values[name] for name in names]

    def _answer(self, run: Run | None, rows: Features, answer: int) -> Array:
        frozen, plan = self.frozen, self.frozen.plan
        two = answer == PROBABILITIES and frozen.one_value and plan.outputs == 1
        out = np.empty((len(rows), 2 if two else plan.outputs), dtype=plan.dtype)
        if run is None or not run(_sparse.parts(rows.x), answer, out):
            z = np.empty((len(rows), plan.outputs), dtype=plan.dtype)
            self._backend.predict(plan, frozen.state, rows.x, z)
            linked = answer == PROBABILITIES or (answer == PREDICTION and frozen.linked)
            out = z
            if linked and frozen.loss is not None:
                out = probabilities(frozen.loss, z, self._backend.kernels.ops)[:, -plan.outputs if not two else 0 :]
        warn_of_overflow(out, plan)
        return out


def predictor(frozen: Frozen, backend: str | Backend | None = None) -> Any:
    """What predicts with a frozen network: a `Predictor`, in C where the backend has one that does the same."""
    chosen = backends.resolve(backend)
    made = Predictor(frozen, chosen)
    native = None if chosen.freeze is None else chosen.freeze(frozen, made)
    return made if native is None else native


def _into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    if not isinstance(out, np.ndarray) or out.shape != result.shape or out.dtype != result.dtype:
        got = f"{out.shape} of {out.dtype}" if isinstance(out, np.ndarray) else repr(out)
        raise ValueError(f"out is {got}, expected an array {result.shape} of {result.dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only, expected an array to write into")
    out[...] = result
    return out


def _shape(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(sizes) == 1 else str(sizes)


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
