"""Predictors whose dense layers multiply whole numbers: what is rounded, and what that costs. No files, no kernels.

Weights become bytes once, with a scale for each output; a row becomes bytes as it comes, with a scale of its own, so
nothing has to be known of the data. Sums of bytes in 32 bits have no rounding, and no order that matters.

    w_q[i, o] = rint(w[i, o] / scale[o]),       scale[o] = max over i of |w[i, o]| / 127
    x_q[i] = rint(x[i] (levels / most)),        most = max over i of |x[i]|, levels = 127 where some x < 0, else 255
    z[o] = (sum over i of x_q[i] w_q[i, o] scale[o]) (most / levels) + b[o]

in float32, each operation rounded by itself: the extension computes the same bits (csrc/kernels/serve_int8.hpp).

Source: dynamic quantisation by rows and channels, as in Dettmers et al. 2022, "LLM.int8()", section 2.1.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from fastnn import _text, backends
from fastnn.contract import Backend
from fastnn.formulas.activations import Activation
from fastnn.metrics.answers import classifies
from fastnn.ops.activation import activate
from fastnn.plan import Op, Plan, State
from fastnn.serving import predictor as plain
from fastnn.serving.folded import folded
from fastnn.serving.frozen import Frozen

Array = np.ndarray
MOST_INPUTS = 65536  # of a dense layer: that many products of 255 and 127 are 2,122,383,360, and 2^31 is 2,147,483,648
LEAST = np.float32(2.0**-120)  # of a row whose values are not all taken for 0: 255 / LEAST is the last that is finite


class Whole(NamedTuple):
    """A dense layer's weights (I, O), int8 from -127 to 127; scale (O,) of each output and bias (O,), float32."""

    weights: Array
    scale: Array
    bias: Array


class Compared(NamedTuple):
    """What int8 changes beside float32, over some rows.

    error: the worst |difference| of two predictions. changed: of how many of the `rows` another class is predicted;
    None where the network knows no classes. bytes, bytes_float32: of the arrays that a prediction reads, the latter of
    the model itself, in whose dtype they are.
    """

    error: float
    changed: int | None
    rows: int
    bytes: int
    bytes_float32: int


class Int8Predictor(plain.Predictor):
    """A `Predictor` with dense layers in int8, and what it costs: `model.predictor(dtype="int8")` makes it.

    It is called, asked and pickled as a `Predictor` is, with its errors; what it gives is float32, whatever the model's
    dtype. Weights are rounded to 255 values an output, a row to 255, or to 256 where none of its values is negative;
    other layers compute in float32. batch_norm beside a dense layer becomes part of it. docs/serving.md says what has
    the same bits where. It keeps the model's own arrays, for `compare` and for pickle.

    >>> model = fastnn.Sequential([nn.Dense(64, "relu"), nn.Dense(3)]).build(30, seed=0)
    >>> q = model.predictor(dtype="int8")
    >>> X = np.random.default_rng(0).normal(size=(100, 30)).astype(np.float32)
    >>> q(X).shape, bool(abs(q(X) - model.predict(X)).max() < 0.05), q.compare(X).bytes
    ((100, 3), True, 2648)
    """

    def __init__(self, frozen: Frozen, small: Frozen, backend: Backend) -> None:
        super().__init__(small, computing(backend))
        self.original = frozen
        self._given = backend

    @property
    def dtype(self) -> np.dtype:
        """What its dense layers multiply."""
        return np.dtype(np.int8)

    def __repr__(self) -> str:
        return super().__repr__().replace(str(self.frozen.plan.dtype), "int8")

    def compare(self, X: Any) -> Compared:
        """The predictions of rows (n, I) beside those in float32, on the same backend.

        error is NaN where a prediction is no number. ValueError or TypeError as for a call, and for no rows.

        >>> model = fastnn.Sequential([nn.Dense(1, init=1.0)]).build(2, seed=0)
        >>> model.predictor(dtype="int8").compare([[127.0, -1.5], [3.0, 4.0]])
        Compared(error=0.5, changed=None, rows=2, bytes=10, bytes_float32=12)
        """
        border = self.original.border
        rows = border.features(X)
        mine = _made(self.original, self.frozen, self._given)
        exact = plain.predictor(self.original, self._given)
        with np.errstate(invalid="ignore"):
            error = float(np.abs(mine(X).astype(np.float64) - exact(X)).max())
        changed = None
        if (
            self.original.loss is not None
            and classifies(self.original.loss)
            and len(self.frozen.plan.output_shape) == 1
        ):
            differ = mine.predict_class(X) != exact.predict_class(X)
            changed = int(differ.reshape(len(rows), -1).any(axis=1).sum())
        return Compared(
            error, changed, len(rows), _bytes(self.frozen, matrices(self.frozen)), _bytes(self.original, ())
        )

    def reduce(self) -> Any:
        return _made, (self.original, self.frozen, None if self._given.freeze is not None else self._given.name)

    __reduce__ = reduce


def predictor(frozen: Frozen, backend: str | Backend | None = None, dtype: str | None = None) -> Any:
    """What predicts with a frozen network: in its own dtype for None, else in "int8".

    A network of float64 is rounded to float32 first. ValueError for another dtype, and for a network that int8 is not
    for: without a dense layer, with weights that are not finite in float32, or with more than 65,536 inputs of a layer.
    """
    if dtype is None:
        return plain.predictor(frozen, backend)
    _text.choice("dtype", dtype, ("int8",), "'int8', or None for what the network computes in")
    small = _narrowed(folded(frozen, np.float32))
    _check(small)
    return _made(frozen, small, backend)


def _made(frozen: Frozen, small: Frozen, backend: str | Backend | None) -> Any:
    """small: what `folded` made of it where it was asked first: another machine's BLAS may round a bias otherwise."""
    chosen = backends.resolve(backend)
    made = Int8Predictor(frozen, small, chosen)
    native = None if chosen.freeze is None else chosen.freeze(small, made, int8=matrices(small))
    return made if native is None else native


def _narrowed(frozen: Frozen) -> Frozen:
    """The same in float32, whose X must be in its range."""
    plan, dtype = frozen.plan, np.dtype(np.float32)
    if plan.dtype == dtype:
        return frozen
    kept = Plan.assemble(list(plan.ops), plan.input_shape, plan.output_shape, dtype)
    state = State(kept)
    with np.errstate(over="ignore", under="ignore"):
        for name, view in state.views.items():
            view[...] = frozen.arrays[name]
    for array in (*state.buffers, *state.views.values()):
        array.flags.writeable = False
    return dataclasses.replace(frozen, plan=kept, state=state, border=frozen.border._replace(dtype=dtype))


def _check(small: Frozen) -> None:
    dense = [op for op in small.plan.ops if op.kind == "dense"]
    if not dense:
        raise ValueError("the network has no dense layer, expected one, whose products int8 is for")
    for op in dense:
        inputs = op.inputs[-1]
        if inputs > MOST_INPUTS:
            raise ValueError(f"a dense layer has {inputs} inputs, expected at most {MOST_INPUTS} for int8")
        for tensor in op.tensors.values():
            if not np.isfinite(small.arrays[tensor.name]).all():
                raise ValueError(f"{tensor.name} has values that are not finite in float32, expected numbers")


# Weights --------------------------------------------------------------------------------------------------------


def quantised(w: Array) -> tuple[Array, Array]:
    """w (I, O) as whole numbers from -127 to 127, and the scale (O,) of each column, float32: w is about q scale."""
    scale = (np.abs(w).max(axis=0) / np.float32(127)).astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(w / safe), -127, 127).astype(np.int8), scale


def matrices(small: Frozen) -> tuple[Whole | None, ...]:
    """Of each operation: None where it is not dense."""
    return tuple(_whole(small, op) if op.kind == "dense" else None for op in small.plan.ops)


def _whole(small: Frozen, op: Op) -> Whole:
    w, b = (small.arrays[op.tensors[role].name] for role in ("w", "b"))
    return Whole(*quantised(w), b)


def _bytes(frozen: Frozen, wholes: tuple[Whole | None, ...]) -> int:
    """Of all tensors, those of dense layers in whole numbers where they are given."""
    total = sum(array.nbytes for array in frozen.arrays.values())
    for op, whole in zip(frozen.plan.ops, wholes, strict=False):
        if whole is not None:
            total += whole.weights.nbytes + whole.scale.nbytes - frozen.arrays[op.tensors["w"].name].nbytes
    return total


# The definition, in NumPy -----------------------------------------------------------------------------------------


def computing(backend: Backend) -> Backend:
    """The backend with dense layers in whole numbers: its other kernels, walked in Python."""
    kernels = backend.kernels
    dense = kernels.ops["dense"]._replace(forward=_dense, predict=_dense)
    ops = {**kernels.ops, "dense": dense}
    return backends.make(backend.name, dataclasses.replace(kernels, ops=ops))


def rows_quantised(x: Array) -> tuple[Array, Array]:
    """x (B, I) as whole numbers, int16, and the factor (B, 1) of each row: x is about q factor. NaN where a row is not
    finite."""
    most = np.abs(x).max(axis=1, keepdims=True)
    levels = np.where((x < 0).any(axis=1, keepdims=True), np.float32(127), np.float32(255))
    finite = np.isfinite(most)
    counts = finite & (most >= LEAST)
    inverse = levels / np.where(counts, most, np.float32(1))
    q = np.where(counts, np.rint(np.where(counts, x, np.float32(0)) * inverse), np.float32(0))
    return q.astype(np.int16), np.where(finite, most / levels, np.float32(np.nan))


def _dense(x: Array, w: Array, b: Array, activation: Activation, z: Array, a: Array) -> None:
    with np.errstate(all="ignore"):  # as in what is compiled
        whole, scale = quantised(w)
        q, factor = rows_quantised(x)
        sums = q.astype(np.float64) @ whole.astype(np.float64)  # exact, below 2^31, in any order
        z[...] = (sums.astype(np.float32) * scale) * factor + b
        activate(activation, z, a)
