"""Every source of every backend, on data of every dtype and layout: what it makes of them, what it refuses.

Dense data within the bounds of test_kernels.py are that file's.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import backend_parameters
from guarded import Guarded
from kernel_cases import OPERATIONS, Draw, operation

from fastnn.ops import OPS, sources

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
SOURCES = [name for name, op in OPS.items() if op.spec.phase == "source"]

LAYOUTS = ["rows", "columns", "every other", "reversed", "misaligned", "read-only"]
STORED = ["float32", "float64", "uint8", "int8", "int16", "int32", "int64", "uint32", "float16", "bool", ">f4"]
ROWS = np.array([3, 0, 11, 3, 7, 1, 1, 10, 5], dtype=np.int64)


def laid_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same values in that layout."""
    if layout == "columns":
        return np.asfortranarray(values)
    if layout == "every other":
        return np.repeat(np.repeat(values, 2, axis=0), 2, axis=1)[::2, ::2]
    if layout == "reversed":
        return values[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "misaligned":
        raw = np.zeros(values.nbytes + 1, np.uint8)
        x = raw[1:].view(values.dtype).reshape(values.shape)
        x[...] = values
        return x
    x = values.copy()
    x.flags.writeable = layout != "read-only"
    return x


@BACKENDS
@DTYPES
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cast_takes_any_dtype_and_layout(layout, stored, dtype, backend, kernels):
    values = np.random.default_rng(1).integers(0, 100, (12, 17)).astype(stored)
    x = laid_out(values, layout)
    for count in (0, 1, len(ROWS)):
        guarded = Guarded()
        a = guarded(np.full((count, 17), np.nan, dtype))
        kernels.ops["cast"].forward(x, ROWS[:count], a)
        guarded.check()
        np.testing.assert_array_equal(a, values[ROWS[:count]].astype(dtype))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_normalize_has_the_same_bits_everywhere(layout, stored, dtype, backend, kernels):
    """Of any dtype and layout: in float64 a subtraction and a product, which nothing can contract or reorder."""
    rng = np.random.default_rng(1)
    for columns in (1, 7, 17, 67):
        values = rng.integers(0, 100, (12, columns)).astype(stored)
        if (
            np.dtype(stored).itemsize > 4
        ):  # a small spread around a large number, of which float32 keeps half the digits
            values = values + np.dtype(stored).type(1e9)
        x, shift, scale = (
            laid_out(values, layout),
            values.mean(axis=0) + rng.normal(size=columns),
            rng.normal(size=columns),
        )
        guarded = Guarded()
        a = guarded(np.full((len(ROWS), columns), np.nan, dtype))
        kernels.ops["normalize"].forward(x, ROWS, guarded(shift), guarded(scale), a)
        guarded.check()
        np.testing.assert_array_equal(a, ((values[ROWS].astype(np.float64) - shift) * scale).astype(dtype))


@BACKENDS
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
def test_normalize_of_extremes(stored, backend, kernels):
    """A constant column is 0, what leaves float32 infinite, NaN a NaN; no rows are no rows."""
    x = np.array([[7, 200, 3], [7, 100, 250]], stored)
    shift, scale = np.array([7.0, 0.0, np.nan]), np.array([1.0, 1e38, 1.0])
    a = np.full((2, 3), 5, np.float32)
    with np.errstate(over="ignore"):
        kernels.ops["normalize"].forward(x, np.arange(2), shift, scale, a)
        kernels.ops["normalize"].forward(x, np.arange(0), shift, scale, a[:0])
    np.testing.assert_array_equal(a, [[0, np.inf, np.nan], [0, np.inf, np.nan]])


@BACKENDS
def test_cast_rounds_to_the_nearest(backend, kernels):
    x = np.random.default_rng(2).standard_normal((4, 33)) * 1e3
    a = np.full((4, 33), np.nan, np.float32)
    kernels.ops["cast"].forward(x, np.arange(4), a)
    np.testing.assert_array_equal(a, x.astype(np.float32))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_take_any_dtype_and_layout(layout, stored, dtype, backend, kernels):
    values = np.random.default_rng(1).integers(0, 100, (12, 17)).astype(stored)
    a = np.full((len(ROWS), 17), np.nan, dtype)
    kernels.ops["ids"].forward(laid_out(values, layout), ROWS, 100.0, a)
    np.testing.assert_array_equal(a, values[ROWS].astype(dtype))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("wrong", [-1, 9, 2.5, np.nan, np.inf, -0.25, 1e9])
def test_ids_refuse_what_is_none(wrong, dtype, backend, kernels):
    """And name the first in the order of the batch; rows that do not come are not looked at."""
    stored = np.float64 if wrong != wrong or wrong != np.trunc(wrong) or abs(wrong) == np.inf else np.int64
    data = np.random.default_rng(0).integers(0, 9, (6, 5)).astype(stored)
    data[4, 3], data[2, 1] = wrong, wrong
    a = np.zeros((3, 5), dtype)
    with pytest.raises(ValueError, match=r"^X has \S+ at row 4, column 3, expected an id: .* from 0 to 8$"):
        kernels.ops["ids"].forward(data, np.array([0, 4, 2]), 9.0, a)
    kernels.ops["ids"].forward(data, np.array([0, 5, 3]), 9.0, a)
    np.testing.assert_array_equal(a, data[[0, 5, 3]].astype(dtype))


@BACKENDS
@DTYPES
def test_ids_are_exact_up_to_the_last(dtype, backend, kernels):
    """The largest count that a dtype's whole numbers reach: 2^24 in float32, 2^53 in float64."""
    count = 2.0 / np.finfo(dtype).eps
    data = np.array([[0, int(count) - 1], [int(count) - 2, 1]])
    a = np.zeros((2, 2), dtype)
    kernels.ops["ids"].forward(data, np.arange(2), count, a)
    np.testing.assert_array_equal(a.astype(np.int64), data)


@DTYPES
def test_the_numpy_ids_assert_that_the_dtype_holds_them(dtype):
    """That a count is in range was checked at the border."""
    with pytest.raises(AssertionError):
        OPS["ids"].forward(np.zeros((1, 1)), np.arange(1), 2.5 / np.finfo(dtype).eps, np.zeros((1, 1), dtype))


SPARSE = ["float32", "float64", "uint8", "int8", "int16", "int32", "int64"]


@BACKENDS
@DTYPES
@pytest.mark.parametrize("stored", SPARSE)
@pytest.mark.parametrize("index", [np.int32, np.int64], ids=["int32", "int64"])
@pytest.mark.parametrize("name", SOURCES)
def test_sparse_rows_are_the_dense_ones(name, index, stored, dtype, backend, kernels):
    """CSR, with rows of no entries, entries of 0 and columns in any order."""
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    dense = (rng.integers(0, 9, (12, 17)) * (rng.random((12, 17)) < 0.3)).astype(stored)
    dense[5] = 0
    data = sparse.csr_matrix(dense)
    for row in range(12):  # columns from last to first
        part = slice(data.indptr[row], data.indptr[row + 1])
        data.indices[part], data.data[part] = data.indices[part][::-1].copy(), data.data[part][::-1].copy()
    data.indices, data.indptr = data.indices.astype(index), data.indptr.astype(index)
    case = operation(Draw(dtype), name, "forward", len(ROWS), 17, 17)
    constants = [case.arguments[each] for each in OPS[name].spec.calls["forward"].inputs[2:]]
    constants = [getattr(each, "value", each) for each in constants]
    guarded = Guarded()
    a, expected = (guarded(np.full((len(ROWS), 17), np.nan, dtype)) for _ in range(2))
    kernels.ops[name].forward(data, ROWS, *constants, a)
    OPS[name].forward(dense, ROWS, *constants, expected)
    guarded.check()
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("values_at_once", [1, 12, 17, 40, 10**6])
def test_sparse_rows_that_are_cast_become_dense_a_part_at_a_time_on_numpy(values_at_once, monkeypatch):
    """Also where one row has more values than a part."""
    scipy = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(sources, "_PART", values_at_once)
    values = np.arange(12 * 17.0).reshape(12, 17) % 3
    a = np.full((len(ROWS), 17), np.nan)
    OPS["cast"].forward(scipy.csr_matrix(values), ROWS, a)
    np.testing.assert_array_equal(a, values[ROWS])


def test_every_source_is_tested_here():
    """Beside the registry's tests: what each of these makes of any dtype."""
    assert SOURCES == ["cast", "normalize", "ids"] and set(SOURCES) <= OPERATIONS.keys()
