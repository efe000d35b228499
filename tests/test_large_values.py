"""Values near the ends of float32 and float64, and sums over very many rows: every backend against NumPy's float64."""

from __future__ import annotations

import numpy as np
import pytest
from common import gradient

from fastnn import DivergenceError, Sequential, Trainer, backends, nn, optim

INSTALLED = backends.available()
BACKENDS = [name for name in INSTALLED if name != "python"]  # interpreted loops take a minute for what these do
DTYPES = {"float32": (1e20, 1e37, 1.5e38), "float64": (1e20, 1e154, 1e300, 8e307)}
SIZES = [(dtype, size) for dtype, sizes in DTYPES.items() for size in (*sizes, 1e-20)]
RNG = np.random.default_rng(0)


def values(dtype, size, rows=20, columns=6):
    """With a 0 in every row and column, beside what is large."""
    x = np.random.default_rng(1).uniform(-1, 1, size=(rows, columns))
    x[np.arange(rows), np.arange(rows) % columns] = 0
    return (x * size).astype(dtype)


def standardized(x, axis, epsilon=1e-5):
    """Each row or column at mean 0 and variance 1, counted in its largest value."""
    unit = np.abs(x).max().astype(np.float64)
    x = x / unit
    spread = np.sqrt(x.var(axis=axis, keepdims=True) + epsilon / unit / unit)
    return (x - x.mean(axis=axis, keepdims=True)) / spread


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_layer_norm(backend, dtype, size):
    x = values(dtype, size)
    model = Sequential([nn.LayerNorm()], dtype=dtype).build(6, seed=0)
    gamma, beta = RNG.normal(size=(2, 6)).astype(dtype)
    model.layers[0].gamma[...], model.layers[0].beta[...] = gamma, beta
    made = model.predict(x, backend=backend)
    right = gamma.astype(np.float64) * standardized(x.astype(np.float64), 1) + beta
    np.testing.assert_allclose(made, right, rtol=0, atol=1e-5 * np.abs(right).max())


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_gradients_of_layer_norm(backend, dtype, size):
    """Of y = 0 the gradient of what comes out is a / n: dgamma = sum of a^2 / n, dbeta = sum of a / n."""
    x = values(dtype, size)
    model = Sequential([nn.LayerNorm()], dtype=dtype).build(6, seed=0)
    taken = gradient(model, x, np.zeros_like(x), "half_mse", backend, shuffle=False)
    a = standardized(x.astype(np.float64), 1)
    for name, right in (("0.gamma", (a * a).sum(axis=0)), ("0.beta", a.sum(axis=0))):
        np.testing.assert_allclose(taken[name], right / x.size, rtol=0, atol=1e-5 * np.abs(a).max() + 1e-30)


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_rms_norm(backend, dtype, size):
    """Its values, and of y = 0 the gradient of what comes out is a / n: dgamma = sum of a^2 / n."""
    x = values(dtype, size)
    unit = np.abs(x).max().astype(np.float64)
    a = x / unit
    a /= np.sqrt((a**2).mean(axis=1, keepdims=True) + 1e-5 / unit / unit)
    model = Sequential([nn.RMSNorm()], dtype=dtype).build(6, seed=0)
    np.testing.assert_allclose(model.predict(x, backend=backend), a, rtol=0, atol=1e-5 * np.abs(a).max())
    taken = gradient(model, x, np.zeros_like(x), "half_mse", backend, shuffle=False)
    right = (a * a).sum(axis=0) / x.size
    np.testing.assert_allclose(taken["0.gamma"], right, rtol=0, atol=1e-5 * np.abs(a).max() + 1e-30)


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_softmax_and_scale(backend, dtype, size):
    x = values(dtype, size)
    with np.errstate(over="ignore"):
        e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True).astype(np.float64))
    made = Sequential([nn.Softmax()], dtype=dtype).build(6, seed=0).predict(x, backend=backend)
    np.testing.assert_allclose(made, e / e.sum(axis=1, keepdims=True), rtol=0, atol=1e-6)
    made = Sequential([nn.Scale(0.5)], dtype=dtype).build(6, seed=0).predict(x, backend=backend)
    np.testing.assert_array_equal(made, x / 2)


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_batch_norm_is_right_or_says_what_overflows(backend, dtype, size):
    """The loss of y = 0 is the mean square of what comes out. Where the variance itself is beyond the dtype (1e40 in
    float32) the running average cannot hold it: never zeros in silence."""
    x = values(dtype, size)
    model = Sequential([nn.BatchNorm()], dtype=dtype).build(6, seed=0)
    trainer = Trainer(model, "mse", optim.SGD(0.0), seed=0, backend=backend)
    layer = model.layers[0]
    layer.running_mean[...] = 0.25 * size
    gamma, beta = RNG.normal(size=(2, 6)).astype(dtype)
    layer.gamma[...], layer.beta[...] = gamma, beta
    with np.errstate(over="ignore"):
        holds = 0.1 * (x / np.abs(x).max()).astype(np.float64).var(axis=0, ddof=1).max() * size * size
    if holds > np.finfo(dtype).max:
        with pytest.raises(DivergenceError, match=r"^running_var of layers\[0\] \(BatchNorm\) is NaN or infinite at"):
            trainer.fit(x, np.zeros_like(x), epochs=1, batch_size="full", verbose=False)
        assert np.isfinite(model.layers[0].running_var).all()
        return
    loss = trainer.fit(x, np.zeros_like(x), epochs=1, batch_size="full", verbose=False)["loss"][0]
    right = gamma.astype(np.float64) * standardized(x.astype(np.float64), 0) + beta
    assert loss == pytest.approx(np.mean(right**2), rel=1e-5)
    mean = (x / np.abs(x).max()).astype(np.float64).mean(axis=0) * np.abs(x).max()
    right = layer.momentum * 0.25 * size + (1 - layer.momentum) * mean
    np.testing.assert_allclose(layer.running_mean, right, rtol=1e-5, atol=1e-7 * size)


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("mode", ["minmax", "standard"])
@pytest.mark.parametrize("size", [1e30, 1e150, 8e307, 1.79e308])
def test_normalize_of_a_spread_beyond_float64(backend, mode, size):
    """high - low of 1.79e308 and its negative is infinite, and so is x less either. Halves are not."""
    x = values("float64", size)
    x[:2] = [[size] * 6, [-size] * 6]
    x[2:, 0] = -size  # the mean far from the largest
    model = Sequential([nn.Normalize(mode)], dtype="float64").build(6, seed=0)
    model.layers[0].adapt(x)
    half = x / size / 2
    if mode == "minmax":
        right = (half - half.min(axis=0)) / (half.max(axis=0) - half.min(axis=0))
    else:
        right = (half - half.mean(axis=0)) / half.std(axis=0)
    np.testing.assert_allclose(model.predict(x, backend=backend), right, rtol=1e-13, atol=1e-13)


# Sums over many rows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_norm_keeps_the_variance(backend):
    """float32 around 10,000: added up one by one the variance of 1 comes out as 56."""
    x = (1e4 + RNG.normal(size=(100_000, 4))).astype(np.float32)
    model = Sequential([nn.BatchNorm(momentum=0.0)]).build(4, seed=0)
    trainer = Trainer(model, "mse", optim.SGD(0.0), seed=0, backend=backend)
    trainer.fit(x, np.zeros_like(x), epochs=1, batch_size="full", verbose=False)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(model.layers[0].running_mean, exact.mean(axis=0), rtol=1.2e-7)  # an ulp
    np.testing.assert_allclose(model.layers[0].running_var, exact.var(axis=0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [4096, 4097, 9001])  # as many as a run of sums has, and more
@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (130, 64), (130, 65)])  # the last two are packed
def test_dense_gradients_of_more_rows_than_are_added_up_at_once(sizes, rows, dtype, backend):
    """Of the mean of (h v + b - y)^2 / 2 over rows and outputs, h = x w. A run of 4096 sums rounds as often; the
    roundings of n sums add up to about the root of n: 64 of them, of the numbers without their signs."""
    inputs, outputs = sizes
    x = np.random.default_rng(3).normal(size=(rows, inputs)).astype(dtype)
    y = np.random.default_rng(4).normal(size=(rows, outputs)).astype(dtype)
    model = Sequential([nn.Dense(inputs), nn.Dense(outputs)], dtype=dtype).build(inputs, seed=0)
    w, v = (layer.weight.astype(np.float64) for layer in model.layers)
    hidden = x.astype(np.float64) @ w
    dz = (hidden @ v - y) / (rows * outputs)
    dh = dz @ v.T
    ones = np.ones((rows, 1))
    terms = {"0.weight": (x, dh), "0.bias": (ones, dh), "1.weight": (hidden, dz), "1.bias": (ones, dz)}
    taken = gradient(model, x, y, "half_mse", backend, shuffle=False)
    for name, (a, b) in terms.items():
        bound = 64 * np.finfo(dtype).eps * (np.abs(a).T @ np.abs(b))
        assert (np.abs(taken[name] - a.T @ b) <= bound).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_over_ten_million_rows(backend):
    """d(half_mse)/dw of y = w x with w = 0, x = 1, y = 1 is -1, and so is that of the bias, however many rows it is the
    mean of. The bound is half a rounding for each of the 8192 rows that are added up in float32."""
    rows = 10_000_000
    x = np.ones((rows, 1), np.float32)
    model = Sequential([nn.Dense(1, init=0.0)]).build(1, seed=0)
    trainer = Trainer(model, "half_mse", optim.SGD(1.0), seed=0, backend=backend)
    trainer.fit(x, x, epochs=1, batch_size="full", shuffle=False, verbose=False)
    tolerance = 8192 * 2.0**-24
    assert model.layers[0].weight.item() == pytest.approx(1.0, abs=tolerance)
    assert model.layers[0].bias.item() == pytest.approx(1.0, abs=tolerance)
