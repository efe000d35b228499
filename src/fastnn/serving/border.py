"""Border: what X must be for a network, and its rows once they were checked. Computes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastnn import _frames, _validate
from fastnn.data import Features

_NORMALIZE = (
    "begin the model with nn.Normalize(), which scales {} before it is rounded, or take "
    "Sequential(layers, dtype='float64')"
)


class Border(NamedTuple):
    """What is known of the rows that a network takes.

    inputs, input_shape: values and shape of a row, None before the network is built. row_shape: what rows of several
    dimensions must have, None where nothing is known of them. any_shape: rows of any shape are read in C order. exact:
    all digits of X are read before anything is rounded to dtype. names: of the features. new: the network was never
    fitted, so a PrecisionWarning says where rounding X to dtype loses too many digits.
    """

    dtype: np.dtype[Any]
    inputs: int | None
    input_shape: tuple[int, ...] | None
    row_shape: tuple[int, ...] | None
    any_shape: bool
    exact: bool
    names: list[str] | None
    new: bool

    def features(self, X: Any, *, name: str = "X") -> Features:
        """X checked: its values once, for `Features`, which were checked, come back as they are."""
        if isinstance(X, Features):
            self._check_names(X.names, name)
            _validate.same_row_shape(X.row_shape, self.row_shape, any_shape=self.any_shape, name=name)
            _validate.same_width(X.x.shape, self.inputs, name=name)
            if X.dtype is not None and X.dtype != self.dtype:  # 1e300 is finite in the float64 of another model alone
                _validate.finite_rows(name, X.x, X.row_shape, self.dtype, X.names)
            return X
        names = _frames.feature_names(X)
        self._check_names(names, name)
        x, row_shape = _validate.features(
            X,
            self.dtype,
            self.inputs,
            shape=self.row_shape,
            any_shape=self.any_shape,
            exact=self.exact,
            advice=_NORMALIZE.format(name) if self.new else None,
            name=name,
        )
        return Features(x, row_shape, names, self.dtype)

    def _check_names(self, names: list[str] | None, name: str) -> None:
        """ValueError where columns are not those of the fit; before one, any are."""
        if not self.new or self.names is not None:
            _frames.same_names(names, self.names, name=name)
