"""What Normalize learns: bounds, means and deviations against long doubles, and their bits wherever rows come from."""

from __future__ import annotations

import numpy as np
import pytest
from common import AUTOMATIC, VECTORISED
from conftest import backend_parameters

import fastnn
from fastnn import Sequential, Trainer, backends, nn
from fastnn.backends import reference
from fastnn.formulas import moments

KERNELS = [  # of the loops and of numba it is the reference's
    pytest.param(getattr(table.values[1], "moments", None), id=table.values[0], marks=table.marks)
    for table in backend_parameters()
    if table.values[0].split("-")[0] in ("numpy", "native")
]
EVERY = pytest.mark.parametrize("kernel", KERNELS)
U = 2.0**-53
RNG = np.random.default_rng


def exact(x: np.ndarray, axis: int | None = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in long double, 11 bits more than float64 has, from deviations of the first row."""
    pivot = x[0].astype(np.longdouble) if axis == 0 else np.longdouble(x[0, 0])
    d = x.astype(np.longdouble) - pivot
    mean = d.mean(axis=axis)
    return pivot + mean, np.sqrt(((d - mean) ** 2).mean(axis=axis))


def errors(x: np.ndarray, kernel: moments.Kernel, **options: bool) -> tuple[float, float]:
    """How far mean and deviation are off, in units of what n roundings come to: 4 sqrt(n) u (Higham & Mary 2019), where
    NumPy adds the 4096 rows of a slice in a row, and native 128 rows to a chunk and 35 chunks to a slice."""
    found = moments.summary(x, kernel=kernel, **options)
    mean, std = exact(x, 0 if options.get("per_feature", True) else None)
    most = 4096 if kernel is reference.moments else 128 + 35
    unit = 4 * np.sqrt(min(x.size if mean.ndim == 0 else len(x), most) + 12) * U
    reach = std + np.abs(mean - x[0])  # what the terms of the sum are like
    assert (found.low == x.min(axis=0 if mean.ndim else None)).all()
    assert (found.high == x.max(axis=0 if mean.ndim else None)).all()
    with np.errstate(invalid="ignore"):
        off_mean = np.abs(found.mean - mean) / (U * np.abs(mean) + unit * reach)
        off_std = np.abs(found.std - std) / (unit * std)
    return float(np.nan_to_num(off_mean).max()), float(np.nan_to_num(off_std).max())


SPREADS = {
    "standard normal": lambda x: x,
    "time stamps": lambda x: 1e9 + x,
    "a large first row": lambda x: np.concatenate([x[:1] + 1e6, x[1:]]),
    "sorted": lambda x: np.sort(x, axis=0),
    "a trend": lambda x: x + 1e3 * np.arange(len(x))[:, None],
    "a step": lambda x: np.where(np.arange(len(x))[:, None] < len(x) // 2, x, 1e8 + x),
    "squares underflow": lambda x: x * 1e-170,
    "squares overflow": lambda x: x * 1e154,
    "differences overflow": lambda x: 1.7e308 * np.tanh(3 * x),
}


@EVERY
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("rows", [2, 7, 8, 9, 31, 129, 4096, 4097, 9003])
def test_mean_and_deviation_are_those_of_long_doubles(rows, spread, kernel):
    """Rows around the sizes of groups, chunks and slices."""
    x = SPREADS[spread](RNG(0).normal(size=(rows, 5)))
    assert max(errors(x, kernel)) <= 1
    assert max(errors(x, kernel, per_feature=False)) <= 1


@EVERY
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 65, 511, 513, 600, 1100])
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
def test_every_column_is_counted_once(stored, columns, kernel):
    """Columns around the vectors and the panels of the native kernel."""
    x = RNG(1).uniform(0, 255, (300, columns)).astype(stored)
    assert max(errors(x, kernel)) <= 1


@EVERY
def test_few_long_rows(kernel):
    """8 rows a slice, 8 slices a call: both are left over at the end."""
    x = RNG(2).integers(0, 255, (70, 1 << 17), dtype=np.uint8)
    found = moments.summary(x, kernel=kernel)
    some = slice(None, None, 997)
    mean, std = exact(x[:, some])
    np.testing.assert_allclose(found.mean[some], mean.astype(np.float64), rtol=1e-14)
    np.testing.assert_allclose(found.std[some], std.astype(np.float64), rtol=1e-14)
    np.testing.assert_array_equal(found.low, x.min(axis=0))
    np.testing.assert_array_equal(found.high, x.max(axis=0))


@EVERY
@pytest.mark.parametrize("value", [0.1, 1e9 / 3, -1e-30, 5e-324, 1.7e308])
def test_a_constant_column_has_no_spread(value, kernel):
    """Also beside others, which are counted in other units, and where one in 10,000 differs by the rounding."""
    x = np.full((10_000, 4), value)
    x[:, 1] = RNG(3).normal(size=len(x)) * 1e-200
    x[:, 2] = RNG(4).normal(size=len(x)) * 1e200
    x[7, 3] = np.nextafter(value, np.inf) if abs(value) > 1e-300 else value
    found = moments.summary(x, kernel=kernel)
    assert found.std[0] == found.std[3] == 0 and found.mean[0] == value
    assert (found.std[1:3] > 0).all()


# Bits ------------------------------------------------------------------------------------------------------------


def same(left: moments.Summary, right: moments.Summary) -> None:
    for name, a, b in zip(left._fields, left, right, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def table(rows: int = 9000, columns: int = 21) -> np.ndarray:
    return RNG(5).integers(0, 255, (rows, columns)).astype(np.float64)


@EVERY
@pytest.mark.parametrize("stored", ["float32", "uint8", "int16", "float16", "longdouble", ">f8"])
def test_the_stored_dtype_changes_no_bit(stored, kernel):
    x = table()
    same(moments.summary(x.astype(stored), kernel=kernel), moments.summary(x, kernel=kernel))


LAYOUTS = {
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "a window": lambda x: np.pad(x, 3)[3:-3, 3:-3],
    "rows reversed": lambda x: x[::-1].copy()[::-1],
    "columns reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
    "Fortran order": np.asfortranarray,
    "misaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
}


@EVERY
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_changes_no_bit(layout, kernel):
    x = table() / 7
    same(moments.summary(LAYOUTS[layout](x), kernel=kernel), moments.summary(x, kernel=kernel))


@EVERY
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8", "int32"])
def test_rows_by_number_are_as_if_copied(stored, kernel):
    """In any order, some of them several times."""
    x, rows = table().astype(stored), RNG(6).integers(0, 9000, 12_345)
    same(moments.summary(x, rows, kernel=kernel), moments.summary(x[rows], kernel=kernel))


@EVERY
@pytest.mark.parametrize("columns", [3, 700])
def test_a_sparse_table_has_the_bits_of_a_dense_one(columns, kernel):
    sparse = pytest.importorskip("scipy.sparse")
    x = table(5000, columns) * (RNG(7).uniform(size=(5000, columns)) < 0.1)
    rows = np.sort(RNG(8).permutation(5000)[:4999])
    for csr in (sparse.csr_array(x), sparse.csr_matrix(x.astype(np.float32))):
        same(moments.summary(csr, kernel=kernel), moments.summary(x, kernel=kernel))
        same(moments.summary(csr, rows, kernel=kernel), moments.summary(x, rows, kernel=kernel))


@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("shape", [(60_000, 17), (3000, 1200)])
def test_the_number_of_threads_changes_no_bit(shape, stored):
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    x = table(*shape).astype(stored)
    rows = RNG(9).integers(0, len(x), len(x))
    for isa in native.instruction_sets():
        kernel, found = native.kernels(isa).moments, []
        try:
            for threads in (1, 2, 3, 5):
                native.set_threads(threads)
                found += [(moments.summary(x, kernel=kernel), moments.summary(x, rows, kernel=kernel))]
        finally:
            native.set_threads(0)
        for whole, some in found[1:]:
            same(whole, found[0][0])
            same(some, found[0][1])


def test_native_reads_nothing_outside():
    """What is no table of this kernel is left to NumPy, or an error."""
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    kernel, x = native.KERNELS.moments, np.ones((4, 3))
    pivot, unit, out = np.zeros(3), np.ones(3), np.empty((4, 2, 3))
    with pytest.raises(IndexError):
        kernel(x, np.array([0, 4]), 1, pivot, unit, out)
    kernel(x, np.array([0, -1]), 1, pivot, unit, out)
    np.testing.assert_array_equal(out[0], 1)
    with pytest.raises(ValueError, match=r"out has shape \(4, 2, 3\), expected \(4, 4, 3\)"):
        kernel(x, None, 1, pivot, unit, out)
    with pytest.raises(ValueError, match="step is 0"):
        kernel(x, None, 0, pivot, unit, out)
    with pytest.raises(ValueError, match="pivot has shape"):
        kernel(x, None, 2, pivot[:2], unit, out)


# Normalize -------------------------------------------------------------------------------------------------------


def adapted(x: object, *arguments: object, mode: str = "standard", **options: object) -> np.ndarray:
    layer = nn.Normalize(mode)
    Sequential([layer]).build(x.shape[1])
    layer.adapt(x, *arguments, **options)
    return np.stack([layer.shift, layer.scale])


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_rows_of_weight_0_do_not_count(mode):
    x, weight = table(500, 4), RNG(10).integers(0, 3, 500).astype(np.float32)
    x[weight == 0] *= 1e6
    rows = np.arange(100, 400)
    np.testing.assert_array_equal(adapted(x, None, weight, mode=mode), adapted(x[weight > 0], mode=mode))
    np.testing.assert_array_equal(
        adapted(x, rows, weight, mode=mode), adapted(x[100:400][weight[100:400] > 0], mode=mode)
    )
    np.testing.assert_array_equal(adapted(x, None, weight + 1, mode=mode), adapted(x, mode=mode))


def test_rows_may_be_any_integers_but_no_mask():
    x, weight = table(50, 3), np.arange(50) % 3
    for rows in ([4, 1, 30], np.array([4, 1, 30], np.uint8), np.array([4, 9, 1, 9, 30])[::2]):
        np.testing.assert_array_equal(adapted(x, rows), adapted(x[[4, 1, 30]]))
        np.testing.assert_array_equal(adapted(x, rows, weight), adapted(x[[4, 1]]))
    np.testing.assert_array_equal(adapted(x, np.array([4, -20])), adapted(x[[4, 30]]))
    with pytest.raises(TypeError, match=r"rows is an array \(50,\) of bool, expected integers \(B,\), numbers of rows"):
        adapted(x, weight > 0)
    with pytest.raises(IndexError):
        adapted(x, [50])


def test_no_row_of_a_weight_is_an_error():
    with pytest.raises(ValueError, match="weight is all zero in float64, expected at least one weight > 0"):
        adapted(table(5, 2), None, np.zeros(5))
    with pytest.raises(ValueError, match="x has no row of a weight > 0 to learn from"):
        adapted(table(5, 2), [1, 2], [1, 0, 0, 1, 1])
    with pytest.raises(ValueError, match="x has no row of a weight > 0 to learn from"):
        adapted(table(5, 2), [])
    with pytest.raises(AttributeError, match="this Normalize has no shift yet"):
        nn.Normalize().adapt(table(5, 2))


@pytest.mark.parametrize("backend", VECTORISED)
def test_a_fit_leaves_rows_of_weight_0_out(backend):
    """The weights of samples and of classes, and the rows held out."""
    x, y = table(300, 4), RNG(11).integers(0, 3, 300)
    weight = (RNG(12).uniform(size=300) < 0.7).astype(np.float64)

    def fitted(x: np.ndarray, y: np.ndarray, **options: object) -> np.ndarray:
        model = Sequential([nn.Normalize(), nn.Dense(3)])
        Trainer(model, "cross_entropy", seed=0, backend=backend).fit(x, y, epochs=1, verbose=False, **options)
        return np.stack([model.layers[0].shift, model.layers[0].scale])

    left = weight > 0
    np.testing.assert_array_equal(fitted(x, y, sample_weight=weight), fitted(x[left], y[left]))
    np.testing.assert_array_equal(fitted(x, y, class_weight={1: 0.0}), fitted(x[y != 1], y[y != 1]))
    both = fitted(x, y, sample_weight=weight, class_weight={1: 0.0, 2: 5.0})
    np.testing.assert_array_equal(both, fitted(x[left & (y != 1)], y[left & (y != 1)]))
    held = fitted(x, y, sample_weight=weight, validation=0.25)
    assert (held != fitted(x, y, sample_weight=weight)).any()


def test_adapt_takes_the_kernel_of_the_backend_in_use():
    """As predict does: of a backend that is chosen, else the fastest; a copy of the model as well."""
    x = table(9000, 6) / 7
    with fastnn.use_backend("numpy"):
        np.testing.assert_array_equal(adapted(x), adapted(x, kernel=reference.moments))
    own = backends.load(AUTOMATIC).kernels.moments
    np.testing.assert_array_equal(adapted(x), adapted(x, kernel=own))
