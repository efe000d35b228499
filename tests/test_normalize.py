"""Normalize as a part of gathering: every digit that X has, on every backend, in every dtype and from where X lies."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from common import BACKENDS, ENGINES, build, gradient, parameters

import fastnn
from fastnn import Sequential, Trainer, _rounding, backends, nn, optim
from fastnn.plan import Op, Plan

ROWS, INPUTS = 37, 5
ROUNDING = {np.float32: 2.0**-24, np.float64: 2.0**-53}  # u, the largest relative error of one rounding
DOUBLE = ROUNDING[np.float64]
DTYPES = pytest.mark.parametrize("dtype", ROUNDING, ids=lambda dtype: dtype.__name__)
EVERYWHERE = pytest.mark.parametrize("backend", BACKENDS)


def stamps(rows: int = ROWS, inputs: int = INPUTS) -> np.ndarray:
    """float64 numbers of 1e9 +- 1: float32 has none between 1e9 and 1e9 + 64."""
    return 1e9 + np.random.default_rng(0).uniform(-1, 1, (rows, inputs))


def normalized(x: np.ndarray, layer: nn.Normalize) -> np.ndarray:
    """What shift and scale make of x, with the 11 bits more of an x86 long double, if it is one."""
    return (x.astype(np.longdouble) - layer.shift) * layer.scale


# Exactness -------------------------------------------------------------------------------------------------


@EVERYWHERE
@DTYPES
@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_time_stamps_are_normalised_to_half_an_ulp(mode, dtype, backend):
    """Two roundings in float64 and one to the model's dtype: (u + 2^-52 (1 + u)) |a|."""
    x, layer = stamps(), nn.Normalize(mode)
    model = Sequential([layer], dtype=dtype).build(INPUTS)
    layer.adapt(x)
    want = normalized(x, layer)
    error = np.abs(model.predict(x, backend=backend) - want)
    assert (error <= (ROUNDING[dtype] + 2.0001 * DOUBLE) * np.abs(want)).all()
    assert (np.ptp(want, axis=0) > 0.9).all()


@EVERYWHERE
def test_a_float32_model_learns_from_time_stamps(backend):
    """The weights after one full step from 0 are -d loss / dw = 2/n x^T y, of the x that NumPy normalises in float64.

    Bound: n + 4 roundings of the sum of |terms|, as for any such product, and what the float64 mean and deviation are
    off, at most 1e-7 of a deviation."""
    x, y = stamps(), np.random.default_rng(1).normal(size=(ROWS, 2)).astype(np.float32)
    model = Sequential([nn.Normalize(), nn.Dense(2, init=0.0)])
    Trainer(model, "half_mse", optim.SGD(1.0), seed=0, backend=backend).fit(
        x, y, epochs=1, batch_size="full", verbose=False
    )
    exact = (x - x.mean(axis=0)) / x.std(axis=0)
    share = 1 / (2 * ROWS)
    relative, absolute = (ROWS + 4) * 2 * ROUNDING[np.float32] + 3e-7, 3e-7 * np.abs(y).sum(axis=0)
    bound = share * (relative * (np.abs(exact).T @ np.abs(y)) + absolute)
    error = np.abs(model.layers[1].weight - share * exact.T @ y)
    assert (error <= bound).all(), (error / bound).max()


def test_mean_and_deviation_of_time_stamps():
    """After adapt a float32 model's rows have mean 0 and deviation 1, up to the rounding of shift to float64."""
    x, layer = stamps(2000, 2), nn.Normalize()
    model = Sequential([layer]).build(2)
    layer.adapt(x)
    a = model.predict(x).astype(np.float64)
    np.testing.assert_allclose(a.mean(axis=0), 0, atol=2 * DOUBLE * 1e9 * layer.scale.max() + 1e-8)
    np.testing.assert_allclose(a.std(axis=0), 1, rtol=1e-6)


@EVERYWHERE
@DTYPES
def test_the_gradient_is_right_above_time_stamps(backend, dtype):
    x, y = stamps(6, 3), np.random.default_rng(1).normal(size=(6, 2))
    model = build(nn.Normalize(), nn.Dense(4, "tanh"), nn.Dense(2), dtype=dtype)
    model.layers[0].adapt(x)
    assert max(fastnn.gradient_check(model, x, y, loss="mse", backend=backend).values()) < 1e-6


def trained(x: np.ndarray, backend: str, dtype: type) -> dict[str, np.ndarray]:
    model = Sequential([nn.Normalize(), nn.Dense(4, "tanh"), nn.Dense(2)], dtype=dtype)
    y = np.random.default_rng(1).normal(size=(len(x), 2))
    Trainer(model, "mse", seed=0, backend=backend).fit(x, y, epochs=2, batch_size=8, verbose=False)
    return parameters(model) | {"prediction": model.predict(x, backend=backend)}


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    for name, value in left.items():
        np.testing.assert_array_equal(right[name], value, err_msg=name)


@EVERYWHERE
@DTYPES
@pytest.mark.parametrize("stored", ["uint8", "float32", "int16", "uint16", "float16", "int64"])
def test_the_dtype_of_whole_numbers_changes_no_bit(stored, dtype, backend):
    """uint8 as float64: a constant column, a column of one value but for one, and columns of all values."""
    x = np.random.default_rng(2).integers(0, 256, (ROWS, 4))
    x[:, 0], x[:, 1] = 255, 254
    x[3, 1] = 255
    same(trained(x.astype(np.float64), backend, dtype), trained(x.astype(stored), backend, dtype))


@EVERYWHERE
@pytest.mark.parametrize("stored", ["int64", "uint64", "uint32"])
def test_whole_numbers_beyond_float32_keep_their_digits(stored, backend):
    """Seconds since 1970, as they come from a database."""
    x = 1_700_000_000 + np.random.default_rng(2).integers(-99, 99, (ROWS, 3))
    found = trained(x.astype(stored), backend, np.float32)
    same(trained(x.astype(np.float64), backend, np.float32), found)
    assert len(np.unique(found["prediction"], axis=0)) == len(np.unique(x, axis=0))


@EVERYWHERE
@DTYPES
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
def test_a_constant_feature_is_0(stored, dtype, backend):
    x = np.full((9, 3), [0, 7, 255]).astype(stored)
    if stored != "uint8":
        x += np.array([0.1, 1e9 / 3, -1e-30], stored)
    layer = nn.Normalize()
    model = Sequential([layer], dtype=dtype).build(3)
    layer.adapt(x)
    np.testing.assert_array_equal(layer.scale, 1)
    np.testing.assert_array_equal(model.predict(x, backend=backend), 0)


@pytest.mark.parametrize("power", [-1010, -565, -520, -401, 401, 520, 1000])
@pytest.mark.parametrize("per_feature", [True, False])
@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_a_feature_of_any_spread_is_normalised(mode, per_feature, power):
    """Bit by bit as the same feature in other units: 2^-565 is 1e-170, whose square float64 does not have."""
    x = np.random.default_rng(4).normal(size=(5000, 3)) + np.array([0, 3, -40])
    plain, other = nn.Normalize(mode, per_feature=per_feature), nn.Normalize(mode, per_feature=per_feature)
    want, model = (Sequential([layer], dtype=np.float64).build(3) for layer in (plain, other))
    moved = np.ldexp(x, [power] * 3 if not per_feature else [power, 0, power])
    plain.adapt(x)
    other.adapt(moved)
    for backend in ENGINES:
        np.testing.assert_array_equal(model.predict(moved, backend=backend), want.predict(x, backend=backend))


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_a_spread_below_the_normal_numbers_counts_as_constant(mode):
    """1 / 2^-1074 is infinite."""
    x = np.random.default_rng(4).integers(0, 5, (50, 3)) * 5e-324
    layer = nn.Normalize(mode)
    Sequential([layer], dtype=np.float64).build(3)
    layer.adapt(x)
    np.testing.assert_array_equal(layer.scale, 1)
    assert np.isfinite(layer.shift).all()


# Where X lies ----------------------------------------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize("layout", ["every other row", "a window", "reversed", "Fortran order", "read-only"])
def test_the_layout_changes_no_bit(layout, backend):
    x = stamps()
    same(
        trained(x, backend, np.float32),
        trained(
            {
                "every other row": lambda: np.repeat(x, 2, axis=0)[::2],
                "a window": lambda: np.pad(x, 3)[3:-3, 3:-3],
                "reversed": lambda: x[::-1, ::-1].copy()[::-1, ::-1],
                "Fortran order": lambda: np.asfortranarray(x),
                "read-only": lambda: np.frombuffer(x.tobytes()).reshape(x.shape),
            }[layout](),
            backend,
            np.float32,
        ),
    )


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=pytest.mark.slow), "native"])
@pytest.mark.parametrize("stored", [np.float64, np.uint8])
def test_a_memory_mapped_array_is_not_copied(stored, backend, tmp_path):
    """All that a fit and a prediction allocate is less than half of it; the rest of the memory is the file's."""
    if backend not in backends.available():
        pytest.skip(f"{backend} is not here")
    x = np.random.default_rng(0).integers(0, 256, (100_000, 128)).astype(stored)  # and an order of 32 bytes a row
    x.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype=stored, mode="r", shape=x.shape)
    y = x[:, :1].astype(np.float32)
    model = Sequential([nn.Normalize("minmax"), nn.Dense(1)])
    trainer = Trainer(model, "mse", seed=0, backend=backend)
    trainer.fit(mapped[:64], y[:64], epochs=1, verbose=False)  # whatever is allocated once
    assert np.shares_memory(model.features(mapped).x, mapped)
    fresh = Sequential([nn.Normalize("minmax"), nn.Dense(1)])
    trainer = Trainer(fresh, "mse", seed=0, backend=backend)
    tracemalloc.start()
    trainer.fit(mapped, y, epochs=1, batch_size=512, verbose=False)
    fresh.predict(mapped, backend=backend)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < x.nbytes / 2


# Shift and scale -------------------------------------------------------------------------------------------


@DTYPES
def test_shift_and_scale_are_live_float64_views(dtype):
    model = Sequential([nn.Normalize(), nn.Dense(2)], dtype=dtype).build(INPUTS, seed=0)
    layer = model.layers[0]
    for view in (layer.shift, layer.scale):
        assert view.dtype == np.float64 and np.shares_memory(view, model.state.scaling)
    assert model.state.statistics.dtype == model.state.parameters.dtype == dtype
    layer.shift[...], layer.scale[...] = 1e9, 0.5
    ones = Sequential([nn.Dense(2)], dtype=dtype).build(INPUTS, seed=0)
    ones.layers[0].weight[...] = model.layers[1].weight
    x = 1e9 + 2 * np.arange(2 * INPUTS).reshape(2, INPUTS)
    np.testing.assert_array_equal(model.predict(x), ones.predict(x * 0.5 - 5e8))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_all_digits(duplicate):
    x = stamps()
    model = Sequential([nn.Normalize(), nn.BatchNorm(), nn.Dense(2)])
    Trainer(model, "mse", "adam", seed=0).fit(x, x[:, :2] - 1e9, epochs=2, verbose=False)
    other = duplicate(model)
    np.testing.assert_array_equal(other.layers[0].shift, model.layers[0].shift)
    assert (other.layers[0].shift != other.layers[0].shift.astype(np.float32)).any()
    assert len(other.state.slots) == 2 and other.state.slots[0].dtype == np.float32
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    other.layers[0].shift[...] = 0
    assert (model.layers[0].shift != 0).all()


def test_summary_counts_no_parameter_of_it():
    model = Sequential([nn.Normalize(), nn.Dense(2)]).build(INPUTS, seed=0)
    assert model.plan.parameter_count == 12
    assert "0  Normalize('standard')       5           0" in model.summary()


def test_it_stands_on_the_data():
    """Gathering does it, so no plan has it anywhere else."""
    ops = [*nn_ops(nn.Normalize(), 0), *nn_ops(nn.Normalize(), 1)]
    with pytest.raises(AssertionError):
        Plan.assemble(ops, (INPUTS,), (INPUTS,), np.dtype(np.float32))


def nn_ops(layer: nn.Layer, index: int) -> list[Op]:
    layer.index = index
    return layer.ops((INPUTS,))


@EVERYWHERE
def test_training_leaves_it_alone(backend):
    """Nothing is learned below it, and nothing of it: also with weights that clip and penalise."""
    x = stamps()
    model = build(nn.Normalize(), nn.Dense(2), inputs=INPUTS, dtype=np.float32)
    model.layers[0].adapt(x)
    model.layers[0].adapted = True
    before = model.state.scaling.copy()
    taken = gradient(model, x, x[:, :2] - 1e9, "mse", backend, optimizer=optim.SGD(1.0, decay=0.1), clip_norm=1.0)
    assert set(taken) == {"1.weight", "1.bias"} and all(np.isfinite(g).all() for g in taken.values())
    np.testing.assert_array_equal(model.state.scaling, before)


# What is said of lost digits -------------------------------------------------------------------------------


def said(x, layers: list[nn.Layer], dtype: type = np.float32, fits: int = 1) -> list[str]:
    trainer = Trainer(Sequential(layers, dtype=dtype), "mse", seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(fits):
            trainer.fit(x, np.zeros((len(x), 2)), epochs=1, verbose=False)
        trainer.model.predict(x)
    assert all(w.category is fastnn.PrecisionWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize("layers", [lambda: [nn.Dense(2)], lambda: [nn.BatchNorm(), nn.Dense(2)]])
@pytest.mark.parametrize("stored", ["float64", "int64", "int32"])
def test_rounding_away_a_feature_is_said_once(stored, layers):
    x = np.random.default_rng(0).normal(size=(3000, 3)) * 20
    x[:, 1] += 1.7e9
    (message,) = said(x.astype(stored), layers(), fits=2)
    assert message.startswith("feature 1 of X spreads ")
    assert "which float32 rounds away: begin the model with nn.Normalize()" in message


@pytest.mark.parametrize(
    ("first", "stored"),
    [(1 << 60, np.int64), (-(1 << 60), np.int64), ((1 << 64) - 3000, np.uint64), ((1 << 31) - 3000, np.int32)],
    ids=["2^60", "-2^60", "the last of uint64", "the last of int32"],
)
def test_whole_numbers_that_float64_itself_rounds(first, stored):
    """Neighbours beyond 2^53 are the same float64: they are no constant feature. 0 .. 2999 have a deviation of
    sqrt((3000^2 - 1) / 12) = 866, by which a sample is off by less than 1."""
    x = (np.arange(3000).astype(stored) + np.array(first, stored)).reshape(-1, 1)
    (message,) = said(x, [nn.BatchNorm(), nn.Dense(2)])
    assert message.startswith("feature 0 of X spreads 866 around")


@pytest.mark.parametrize("layers", [[nn.Dense(2)], [nn.Normalize(), nn.Dense(2)]], ids=["float64", "normalized"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers_that_no_float_holds(layers, dtype):
    """Two neighbours at 2^60 are one float64, whatever reads it; a thousand apart they are two."""
    for apart, count in ((1, 1), (1 << 20, 0 if len(layers) == 2 or dtype == np.float64 else 1)):
        x = (1 << 60) + apart * (np.arange(300) % 2).reshape(-1, 1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = Sequential(copy.deepcopy(layers), dtype=dtype)
            Trainer(model, "cross_entropy", optim.SGD(1e-30), seed=0).fit(x, x[:, 0] // apart % 2, epochs=1)
        found = [str(w.message) for w in caught if w.category is fastnn.PrecisionWarning]
        assert len(found) == count
        assert all("subtract a whole number near them" in message for message in found) or apart > 1


@pytest.mark.parametrize("scaled", [False, True])
def test_targets_that_no_float_holds(scaled):
    y = (1 << 60) + np.arange(300) % 2
    trainer = Trainer(Sequential([nn.Dense(1)], dtype=np.float64), "mse", seed=0, scale_targets=scaled)
    lost = r"^y spreads .* which float64 rounds away: subtract a whole number"
    with pytest.warns(fastnn.PrecisionWarning, match=lost):
        trainer.fit(np.zeros((300, 1)), y, epochs=1, verbose=False)


def test_whole_numbers_at_both_ends_of_int64_do_not_wrap():
    x = np.tile(np.array([[-(1 << 63)], [(1 << 63) - 1]]), (500, 1))
    assert _rounding.rounded_away("X", x, np.dtype(np.float32)) is None


@pytest.mark.parametrize(
    ("x", "layers", "dtype"),
    [
        (stamps(), [nn.Normalize(), nn.Dense(2)], np.float32),
        (stamps().reshape(ROWS, 1, INPUTS), [nn.Flatten(), nn.Normalize(), nn.Dense(2)], np.float32),
        (stamps(), [nn.Dense(2)], np.float64),
        (stamps().astype(np.float32), [nn.Dense(2)], np.float32),
        (np.full((ROWS, 2), 1e9 / 3), [nn.Dense(2)], np.float32),
        (np.full((ROWS, 2), 2**60), [nn.BatchNorm(), nn.Dense(2)], np.float32),
        (np.arange(ROWS * 2).reshape(-1, 2).astype(np.uint8), [nn.Dense(2)], np.float32),
        (1e3 + np.random.default_rng(0).normal(size=(ROWS, 2)), [nn.Dense(2)], np.float32),
    ],
    ids=[
        "normalized",
        "flattened",
        "float64",
        "float32 already",
        "constant",
        "constant of int64",
        "uint8",
        "small enough",
    ],
)
def test_where_nothing_is_lost_nothing_is_said(x, layers, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = Trainer(Sequential(copy.deepcopy(layers), dtype=dtype), "mse", optim.SGD(1e-30), seed=0)
        trainer.fit(x, np.zeros((len(x), 2)), epochs=1, verbose=False)


def test_few_rows_of_sorted_data_tell_how_far_it_spreads():
    """A day's seconds, in order: what neighbours differ by is lost, the day is not."""
    day = np.arange(0.0, 86400.0).reshape(-1, 1)
    assert said(1e8 + day, [nn.Dense(2)]) == []  # 12 of a deviation of 25000
    assert len(said(1e9 + day, [nn.Dense(2)])) == 1


# Rows of several dimensions --------------------------------------------------------------------------------


def test_each_value_of_a_row_is_a_feature():
    """Not each channel: a position has a shift and a scale of its own."""
    x = np.random.default_rng(0).normal(size=(50, 4, 3)) + np.arange(12.0).reshape(4, 3)
    model = Sequential([nn.Normalize(), nn.Flatten(), nn.Dense(1)], dtype=np.float64)
    Trainer(model, "mse", seed=0).fit(x, x[:, 0, :1], epochs=1, verbose=False)
    np.testing.assert_allclose(model.layers[0].shift, x.mean(axis=0).ravel(), rtol=1e-12)
    np.testing.assert_allclose(model.layers[0].scale, 1.0 / x.std(axis=0).ravel(), rtol=1e-12)
