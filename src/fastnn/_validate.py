"""Checks of what users pass, for whoever takes it: numbers, rows, targets, weights. What only one function takes, such
as a list of layers, that function checks itself. Messages name the argument, what it was and what was expected.

`features`, `targets` and `sample_weight` return arrays that the engine may gather rows from as they are: real, finite,
2-D, of a dtype the kernels cast from. Nothing is copied that already is such an array. What they return goes down as a
`Data`, and is not looked at again.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _frames, _rounding, _sparse, _text
from fastnn._text import short

Array = np.ndarray
GATHERED = tuple(
    map(np.dtype, ["float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64"])
)  # as stored
MOST_DIMENSIONS = 4  # (rows, height, width, channels)
MOST_THREADS = 2**31 - 1
_CHUNK = 1 << 17  # values looked at once: 1 MB of float64 stays in a core's cache from the minimum to the maximum
_SMALL = 4096  # values: a dot product of so many takes 1 us, and no thread of a BLAS


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """A finite real number within [low, high] (an open end excluded), or TypeError / ValueError.

    >>> number("rate", 0.5, 0, 1)
    0.5
    """
    infinite = math.isinf(low) and math.isinf(high)
    left, right = "(" if open_low or math.isinf(low) else "[", ")" if open_high or math.isinf(high) else "]"
    expected = "a finite number" if infinite else f"a finite number in {left}{low:g}, {high:g}{right}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {short(value)}, expected {expected}")
    try:
        real = float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large a number, expected {expected}") from None
    outside = real < low or real > high or (open_low and real == low) or (open_high and real == high)
    if not math.isfinite(real) or outside:
        raise ValueError(f"{name} is {short(value)}, expected {expected}")
    return real


def integer(name: str, value: Any, low: int = 1) -> int:
    """An integer >= low, or TypeError / ValueError."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {short(value)}, expected an integer >= {low}")
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {short(value)}, expected an integer >= {low}") from None
    if whole < low:
        raise ValueError(f"{name} is {short(value)}, expected an integer >= {low}")
    return whole


def held(name: str, value: float, dtype: np.dtype, whose: str) -> None:
    """ValueError for a setting that is infinite in dtype, though it is a number."""
    largest = float(np.finfo(dtype).max)
    if abs(value) > largest:
        raise ValueError(f"{name} of {whose} is {short(value)}, expected at most {largest:.2g}, which {dtype} holds")


def epsilon(value: float, dtype: np.dtype, whose: str) -> None:
    """ValueError for an epsilon that is infinite in dtype, or 0, or makes divisions infinite: below the smallest normal
    number."""
    held("epsilon", value, dtype, whose)
    smallest = float(np.finfo(dtype).tiny)
    if value < smallest:
        raise ValueError(
            f"epsilon of {whose} is {short(value)}, expected at least {smallest:.2g}, which {dtype} can divide by"
        )


def sizes(name: str, value: Any, low: int = 1, also: str = "") -> tuple[int, ...]:
    """The shape of a row: integers >= low, of a tuple, a list or an array, or one by itself. TypeError or ValueError.

    also: what else the message has to say of them.

    >>> sizes("shape", np.array([28, 28])), sizes("shape", 784)
    ((28, 28), (784,))
    """
    several = isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)
    try:
        return tuple(integer(name, size, low) for size in (value if several else (value,)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is {short(value)}, expected an integer >= 1 or several{also}") from None


def indices(name: str, value: Any) -> Array:
    """Numbers of rows (B,) as int64, or TypeError: a mask is none."""
    array = np.asarray(value)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size > 0):
        raise TypeError(f"{name} is an array {array.shape} of {array.dtype}, expected integers (B,), numbers of rows")
    return np.ascontiguousarray(array, dtype=np.int64)


def flag(name: str, value: Any) -> bool:
    """True or False, or TypeError: "no" is not False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {short(value)}, expected True or False")
    return bool(value)


def seed(value: Any) -> int:
    """A seed in [0, 2^64); None draws one."""
    if value is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    whole = integer("seed", value, low=0)
    if whole >= 1 << 64:
        raise ValueError(f"seed is {short(value)}, expected an integer below 2^64")
    return whole


def float_dtype(value: Any) -> np.dtype:
    """float32 or float64, or ValueError."""
    try:
        dtype = np.dtype(value if value is not None else object)  # NumPy reads None as float64
    except TypeError:
        raise ValueError(f"dtype is {short(value)}, expected float32 or float64") from None
    if dtype.type not in (np.float32, np.float64):
        raise ValueError(f"dtype is {short(value)}, expected float32 or float64")
    native: np.dtype = np.dtype(dtype.type)  # of this machine's byte order
    return native


def _array(name: str, value: Any) -> Array:
    """`value` as an array of any dtype. ValueError or TypeError for what is none."""
    if value is None:
        raise ValueError(f"{name} is None, expected an array of numbers")
    if _sparse.is_sparse(value):
        raise TypeError(f"{name} is a sparse matrix, expected a dense array: call {name}.toarray()")
    _frames.plain(name, value)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            shared: Array = np.from_dlpack(value)
            return shared
        return np.asarray(value)
    except (ValueError, RuntimeError, BufferError) as error:  # RuntimeError: a tensor that needs its gradient
        raise ValueError(f"{name} is not an array: {error}") from None
    except TypeError as error:  # a tensor of bfloat16
        raise TypeError(f"{name} is not an array: {error}") from None


def _real(name: str, value: Any) -> Array:
    """`value` as a real array. TypeError for what has no numbers, ValueError for text that is not numeric."""
    array = _array(name, value)
    kind = array.dtype.kind
    if kind in "fiub":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if kind == "c":
        raise ValueError(f"{name} has complex values ({array.dtype}), expected real numbers")
    if kind in "mMV":  # the last of records in a list
        raise TypeError(f"{name} has dtype {array.dtype}, expected numbers")
    _text.refuse_numerals(name, array)
    try:
        return _missing_as_nan(array).astype(np.float64)
    except OverflowError:
        raise ValueError(f"{name} has a whole number beyond float64 (1.8e308), expected smaller ones") from None
    except (TypeError, ValueError) as error:
        where = _without_numbers(value, array)
        raise type(error)(f"{name} has dtype {array.dtype}, expected numbers: {error}{where}") from None


def _without_numbers(value: Any, array: Array) -> str:
    """Which column of a table has something else first: " in column 1 ('b')"."""
    for column in range(array.shape[1] if array.ndim == 2 else 0):
        try:
            _missing_as_nan(array[:, column]).astype(np.float64)
        except (TypeError, ValueError):
            names = getattr(value, "columns", None)
            return f" in column {column}" + ("" if names is None else f" ({names[column]!r})")
    return ""


def _missing_as_nan(array: Array) -> Array:
    """The array with NaN for each pandas.NA, which is no number, nor equal to itself or to anything else."""
    missing = getattr(sys.modules.get("pandas"), "NA", None)
    if array.dtype != object or missing is None:
        return array
    where = np.array([value is missing for value in array.ravel()], dtype=bool).reshape(array.shape)
    return np.where(where, math.nan, array) if where.any() else array


def _dot_product(array: Array) -> float:
    """NaN, which says nothing, of an array that is not small."""
    return float(np.vdot(array, array)) if array.size <= _SMALL else math.nan


_squared_norm: Callable[[Array], float] = _dot_product


def use_squared_norm(squared_norm: Callable[[Array], float]) -> None:
    """Look for NaN with this sum of the squares of a 1-D array: one pass at the speed of memory instead of NumPy's two,
    a third of the time. The native backend has one."""
    global _squared_norm
    _squared_norm = squared_norm


def _surely_finite(array: Array, dtype: np.dtype) -> bool:
    """Whether one look is enough: a float array of dtype in one piece, the sum of whose squares is finite. False also
    where values are finite but their squares overflow."""
    return (
        array.dtype == dtype
        and array.flags.c_contiguous
        and array.flags.aligned
        and math.isfinite(_squared_norm(array.ravel()))
    )


def finite(name: str, array: Array, dtype: np.dtype, place: Callable[[int], str] | None = None) -> None:
    """ValueError where a value is NaN, infinite, or overflows dtype. place: what to call where the k-th value is."""
    if array.dtype.kind != "f" or _surely_finite(array, dtype):
        return
    columns = array.shape[1] if array.ndim == 2 else 1
    largest = float(np.finfo(dtype).max)
    rows = max(1, _CHUNK // max(1, columns))
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        low, high = float(part.min()), float(part.max())  # NaN if any value is
        if low >= -largest and high <= largest and not math.isinf(low) and not math.isinf(high):
            continue
        if math.isnan(low) or math.isnan(high):
            what, wrong = "NaN, first", np.isnan(part)
        elif math.isinf(low) or math.isinf(high):
            with np.errstate(over="ignore"):  # a longdouble beyond float64 counts as infinite
                what, wrong = "infinity, first", np.isinf(part.astype(np.float64))
        else:
            what, wrong = f"{max(-low, high):g}, a value too large for {dtype},", np.abs(part)
        value = start * columns + int(wrong.argmax())
        where = place(value) if place is not None else _place(value, columns)
        raise ValueError(f"Input {name} contains {what} at {where}")


def _place(value: int, columns: int, names: list[str] | None = None, shape: tuple[int, ...] = ()) -> str:
    row, column = divmod(value, columns)
    if len(shape) > 1:
        return f"row {row}, position {tuple(map(int, np.unravel_index(column, shape)))}"
    if names is not None and len(names) == columns:
        return f"row {row}, column {column} ({names[column]!r})"
    return f"row {row}" + (f", column {column}" if columns > 1 else "")


def finite_rows(
    name: str, x: Any, shape: tuple[int, ...], dtype: np.dtype, names: list[str] | None, real: Array | None = None
) -> None:
    """`finite` of rows x (n, I) that have this shape, dense or CSR. real: the values of the latter, as real numbers."""

    def sparse_place(entry: int) -> str:
        row = int(np.searchsorted(x.indptr, entry, side="right")) - 1
        return f"row {row}, column {x.indices[entry]}"

    if _sparse.is_sparse(x):
        finite(name, x.data if real is None else real, dtype, sparse_place)
    else:
        finite(name, x, dtype, lambda value: _place(value, x.shape[1], names, shape))


def _by_rows(array: Array) -> Array:
    """The array itself where its rows are contiguous, else a copy."""
    if array.flags.aligned and array[:1].flags.c_contiguous:
        return array
    return np.require(array, requirements=["C", "A"])


def _size(name: str, shape: tuple[int, ...], inputs: int | None) -> None:
    """ValueError where there are no rows, no features, or not `inputs` of them."""
    if shape[0] == 0:
        raise ValueError(f"{name} has 0 rows (shape {shape}), expected at least 1")
    if shape[1] == 0:
        raise ValueError(f"{name} has 0 features (shape {shape}), expected at least 1")
    same_width(shape, inputs, name=name)


def same_width(shape: tuple[int, ...], inputs: int | None, *, name: str = "X") -> None:
    """ValueError where rows have not so many features."""
    if inputs is not None and shape[1] != inputs:
        raise ValueError(f"{name} has {shape[1]} features, but this model was built with {inputs}")


def _sparse_features(X: Any, dtype: np.dtype, inputs: int | None, exact: bool, name: str) -> Array:
    """See `features`."""
    _size(name, X.shape, inputs)
    rows = _sparse.by_rows(name, X)
    finite_rows(name, rows, rows.shape[1:], dtype, None, _real(name, rows.data))
    wanted = np.dtype(np.float32 if np.can_cast(rows.dtype, np.float32) else np.float64) if exact else dtype
    cast: Array = rows.astype(wanted)  # no array, but used like one: by rows
    return cast


def taken_as_it_is(X: Any, dtype: np.dtype, row_shape: tuple[int, ...]) -> bool:
    """Whether `features` gives X back as it is: found in 1 us instead of 9, which a prediction of one row feels."""
    return type(X) is np.ndarray and X.shape[1:] == row_shape and len(X) > 0 and _surely_finite(X, dtype)


def features(
    X: Any,
    dtype: np.dtype,
    inputs: int | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    any_shape: bool = False,
    exact: bool = False,
    advice: str | None = None,
    name: str = "X",
) -> tuple[Array, tuple[int, ...]]:
    """X as (rows, inputs), and the shape of a row: TypeError or ValueError where it is not that, has NaN, or overflows
    dtype.

    A row of X is (features,), (length, channels) or (height, width, channels), with `any_shape` one of any shape; it
    comes back read in C order. inputs: the number of features the model was built with, shape: that of its rows (see
    `same_row_shape`); None before that. exact: the model reads all digits of X before it rounds anything to dtype;
    otherwise PrecisionWarning with this `advice`, if there is some, where rounding loses too many. A scipy.sparse X
    comes back as one by rows (CSR), its values in such a dtype.
    """
    if _sparse.is_sparse(X):
        if len(X.shape) != 2:
            raise ValueError(f"{name} has shape {X.shape}, expected two dimensions (rows, features)")
        same_row_shape(X.shape[1:], shape, any_shape=any_shape, name=name)
        return _sparse_features(X, dtype, inputs, exact, name), (int(X.shape[1]),)
    array = _real(name, X)
    if array.ndim < 2 or (array.ndim > MOST_DIMENSIONS and not any_shape):
        expected = "two or more dimensions" if any_shape else "two dimensions (rows, features), three or four"
        hint = f": {name}.reshape(-1, 1) if it has one feature, {name}.reshape(1, -1) if it is one row"
        raise ValueError(f"{name} has shape {array.shape}, expected {expected}{hint if array.ndim == 1 else ''}")
    row_shape: tuple[int, ...] = array.shape[1:]
    if len(array) > 0:
        same_row_shape(row_shape, shape, any_shape=any_shape, name=name)
        array = array.reshape(len(array), -1)
    _size(name, array.shape, inputs)
    if array.dtype in GATHERED:  # in its own dtype: Normalize sees the same values in any memory layout
        array = _by_rows(array)
    finite_rows(name, array, row_shape, dtype, _frames.given_names(_frames.feature_names(X)))
    if advice is not None:
        _rounding.warn_of_features(name, array, dtype, advice, exact)
    if array.dtype not in GATHERED:  # whole numbers of over 24 bits, such as time stamps, need more than float32
        exactly = np.float32 if np.can_cast(array.dtype, np.float32) else np.float64
        array = np.ascontiguousarray(array, dtype=exactly if exact else dtype)
    return array, row_shape


def same_row_shape(
    shape: tuple[int, ...],
    expected: tuple[int, ...] | None,
    *,
    any_shape: bool = False,
    name: str = "X",
    other: str = "this model was built with rows of shape",
) -> None:
    """ValueError where rows have another shape than expected: other values, or as many in another order. Two numbers of
    features are left to `same_width`.

    any_shape: the model reads rows of any shape in C order, so that one side may have been flattened before.
    """
    if expected is None or shape == expected or len(shape) == len(expected) == 1:
        return
    flat = 1 in (len(shape), len(expected))
    if flat and any_shape:
        return
    hint = ""
    if flat and math.prod(shape) == math.prod(expected):
        hint = f": reshape it to {(-1, *expected)} if its rows are these in C order"
    raise ValueError(f"{name} has rows of shape {shape}, but {other} {expected}{hint}")


def same_length(name: str, array: Array, rows: int, other: str = "X") -> None:
    if len(array) != rows:
        raise ValueError(f"{name} has {len(array)} rows, but {other} has {rows}")


def labels(name: str, y: Array, outputs: int, names: list[str] | None = None) -> Array:
    """y (B,) as int64 class indices below `outputs`, or ValueError."""
    flat = y.reshape(-1)
    if flat.dtype.kind == "f":
        finite(name, flat, np.dtype(np.float64), lambda value: _place(value, 1, names))
        if not np.array_equal(flat, np.floor(flat)):
            raise ValueError(f"{name} has values that are not whole numbers, expected class labels 0 .. {outputs - 1}")
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or high >= outputs:
        wrong = low if low < 0 else high
        label = f"{wrong:g}" if abs(wrong) >= 1 << 63 else wrong  # of a float: 1e300 has 301 digits
        raise ValueError(f"{name} has label {label}, expected labels 0 .. {outputs - 1} for {outputs} outputs")
    return flat.astype(np.int64)


def plain(array: Array, dtype: np.dtype) -> Array:
    """C-contiguous and aligned in that dtype: the array itself where it is that."""
    return np.require(array, dtype=dtype, requirements=["C_CONTIGUOUS", "ALIGNED"])


def target_numbers(y: Any, *, name: str = "y") -> Array:
    """y as an array of numbers, otherwise as it was given. TypeError or ValueError for what is none."""
    array = _array(name, y)
    if array.dtype.kind in "USO":
        kinds = {type(item).__name__ for item in array.ravel()[:1000].tolist()}
        if kinds & {"str", "bytes"}:
            raise TypeError(
                f"{name} has text ({', '.join(sorted(kinds))}), expected numbers: encode labels as 0 .. n-1, as by "
                f"classes, y = np.unique(y, return_inverse=True), or take fastnn.MLPClassifier"
            )
    return _real(name, array)


def targets(
    array: Array,
    loss: Any,
    rows: int,
    outputs: int,
    dtype: np.dtype,
    *,
    name: str = "y",
    names: list[str] | None = None,
) -> Array:
    """`target_numbers` as the loss wants them: int64 labels (B,), or values (B, O) in dtype. ValueError otherwise, by
    the names of the columns where there are some."""
    if outputs % loss.width:
        raise ValueError(f"the model has {outputs} outputs, expected a multiple of {loss.width} for {loss}")
    outputs //= loss.width  # from here on: values of a row's targets
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {array.shape}, expected (rows,) or (rows, {outputs})")
    same_length(name, array, rows)
    column = array.ndim == 1 or array.shape[1] == 1
    if "labels" in loss.targets and column and outputs > 1:
        return labels(name, array, outputs, names)
    if "values" not in loss.targets or (loss.link == "softmax" and outputs == 1):
        problem = "one output" if outputs == 1 else f"shape {array.shape}"
        raise ValueError(
            f"{name}: {loss} with {problem}, expected class labels (rows,) and two or more outputs"
            + (", or binary_cross_entropy" if outputs == 1 else "")
        )
    if column and outputs == 1:
        array = array.reshape(-1, 1)
    if array.shape != (rows, outputs):
        made = outputs * loss.width
        raise ValueError(f"{name} has shape {array.shape}, expected ({rows}, {outputs}) for {made} outputs")
    finite(name, array, dtype, lambda value: _place(value, outputs, names))
    low, high = loss.y_range
    if array.min() < low or array.max() > high:
        wrong = array.min() if array.min() < low else array.max()
        raise ValueError(f"{name} has value {wrong:g}, expected values in [{low:g}, {high:g}] for {loss}")
    if loss.link == "softmax" and not np.allclose(array.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(f"{name} has rows that do not sum to 1, expected a distribution over the {outputs} classes")
    return plain(array, dtype)


def given_weight(weight: Any, *, name: str = "sample_weight") -> Array | None:
    """Weights as they were given, of any real dtype: for what is reported."""
    return None if weight is None else _real(name, weight)


def sample_weight(
    weight: Any, rows: int, dtype: np.dtype, *, name: str = "sample_weight", outputs: int | None = None
) -> Array | None:
    """Weights (rows,), or (rows, outputs) where these are given, in dtype, not negative, not all zero; None stays None.

    What has labels, a Series, is read by position, whatever y has: as scikit-learn does.
    """
    if weight is None:
        return None
    array = _real(name, weight)
    if array.ndim != 1 and (outputs is None or array.shape[1:] != (outputs,)):
        raise ValueError(f"{name} has shape {array.shape}, expected ({rows},)")
    same_length(name, array, rows)
    finite(name, array, dtype)
    if array.min() < 0:
        raise ValueError(f"{name} has value {array.min():g}, expected weights >= 0")
    array = plain(array, dtype)
    if not array.any():
        raise ValueError(f"{name} is all zero in {dtype}, expected at least one weight > 0")
    with np.errstate(over="ignore"):
        smallest, total = array[array > 0].min(), array.sum(dtype=np.float64)
    if smallest < np.finfo(dtype).tiny or not np.isfinite(total):
        wrong = f"the sum {total:g}" if not np.isfinite(total) else f"value {smallest:g}"
        raise ValueError(f"{name} has {wrong}, expected weights within the range of {dtype}: scale them")
    return array
