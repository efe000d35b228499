"""Initialisers: each one's variance and shape against its formula, and reproducibility."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn import Sequential, nn
from fastnn.formulas import initializers
from fastnn.formulas.initializers import ALIASES, INITIALIZERS

I, O = 300, 200
N = I * O
VARIANCE = {  # straight from the papers that initializers.py names
    "zeros": 0.0,
    "normal": 0.01**2,
    "uniform": 0.05**2 / 3,
    "glorot_normal": 2 / (I + O),
    "glorot_uniform": 2 / (I + O),
    "he_normal": 2 / I,
    "he_uniform": 2 / I,
    "lecun_normal": 1 / I,
    "lecun_uniform": 1 / I,
    "inverse_sqrt": 1 / (3 * I),
    "orthogonal": 1 / I,  # columns of length 1 in I dimensions
}
UNIFORM = {"uniform", "glorot_uniform", "he_uniform", "lecun_uniform", "inverse_sqrt"}


def weight(init, inputs: int = I, outputs: int = O, seed: int = 0, **settings) -> np.ndarray:
    model = Sequential([nn.Dense(outputs, init=init, **settings)], dtype=np.float64)
    return model.build(inputs, seed=seed).layers[0].weight


@pytest.mark.parametrize("name", INITIALIZERS)
def test_mean_and_variance(name):
    """Within 6 standard errors: sqrt(v / n) of the mean; the variance's is v sqrt((kurtosis - 1) / n)."""
    w, variance = weight(name), VARIANCE[name]
    assert abs(w.mean()) <= 6 * math.sqrt(variance / N)
    kurtosis = 1.8 if name in UNIFORM else 3.0
    assert abs(w.var() - variance) <= 6 * variance * math.sqrt((kurtosis - 1) / N)


@pytest.mark.parametrize("name", sorted(UNIFORM))
def test_uniform_fills_its_range(name):
    """Variance limit^2 / 3, and 60000 draws come within a thousandth of the limit."""
    limit = math.sqrt(3 * VARIANCE[name])
    w = weight(name)
    assert 0.999 * limit < w.max() <= limit
    assert -limit <= w.min() < -0.999 * limit


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) - UNIFORM - {"zeros", "orthogonal"}))
def test_normal_has_normal_tails(name):
    w = weight(name) / math.sqrt(VARIANCE[name])
    beyond_2 = (np.abs(w) > 2).mean()
    assert abs(beyond_2 - 0.0455) < 6 * math.sqrt(0.0455 / N)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (35, 35), (1, 5), (5, 1), (300, 260), (129, 300)])
def test_orthogonal(shape):
    w = weight("orthogonal", *shape)
    few = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(few, np.eye(min(shape)), atol=1e-14)


@pytest.mark.parametrize("shape", [(128, 128), (129, 129), (300, 257)])
def test_orthogonal_in_blocks_is_lapacks_q_of_all(shape):
    a = np.random.default_rng(0).normal(size=shape)
    q, r = np.linalg.qr(a)
    got = nn.Orthogonal().draw(np.random.default_rng(0), shape, *shape)
    np.testing.assert_allclose(got, q * np.sign(np.diag(r)), atol=1e-12)


def test_orthogonal_is_uniform_over_signs():
    """QR alone would give a diagonal of R with one sign; a uniform Q of size 1 is +1 or -1 evenly (Mezzadri 2007)."""
    signs = [weight("orthogonal", 1, 1, seed)[0, 0] for seed in range(200)]
    assert abs(np.mean(signs)) < 6 / math.sqrt(200)


def test_arguments():
    assert (weight(0.25) == 0.25).all()
    assert (weight(nn.Constant(-2)) == -2).all()
    assert not weight(nn.Zeros()).any()
    assert weight(nn.Normal(3.0)).std() == pytest.approx(3.0, rel=0.02)
    assert np.abs(weight(nn.Uniform(2.0))).max() == pytest.approx(2.0, rel=1e-3)
    assert np.linalg.norm(weight(nn.Orthogonal(gain=5.0)), axis=0) == pytest.approx(5.0)


def test_a_piece_of_maxout_counts_as_its_unit():
    """fan_out is the units, not their pieces."""
    w = weight("glorot_uniform", activation=nn.Maxout(4))
    assert w.shape == (I, 4 * O)
    assert np.abs(w).max() == pytest.approx(math.sqrt(6 / (I + O)), rel=1e-3)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_same_seed_same_bits(name):
    np.testing.assert_array_equal(weight(name, 7, 5, seed=3), weight(name, 7, 5, seed=3))
    if name != "zeros":
        assert (weight(name, 7, 5, seed=3) != weight(name, 7, 5, seed=4)).any()


def test_layers_draw_from_streams_of_their_own():
    """Two equal layers differ, and a layer's weights do not depend on the widths of the others."""
    narrow = Sequential([nn.Dense(4), nn.Dense(4), nn.Dense(4)]).build(4, seed=0)
    first, second, third = (layer.weight for layer in narrow.layers)
    assert (first != second).any()
    wide = Sequential([nn.Dense(9), nn.Dense(4), nn.Dense(4)]).build(4, seed=0)
    np.testing.assert_array_equal(wide.layers[2].weight, third)


def test_biases_start_at_zero():
    assert not Sequential([nn.Dense(4, init="he_normal")]).build(4, seed=0).layers[0].bias.any()


def test_float32_is_the_rounded_float64():
    left = Sequential([nn.Dense(4)], dtype=np.float32).build(4, seed=0).layers[0].weight
    np.testing.assert_array_equal(left, weight(None, 4, 4).astype(np.float32))


@pytest.mark.parametrize("alias", ALIASES)
def test_alias(alias):
    assert initializers.get(alias) is INITIALIZERS[ALIASES[alias]]


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (nn.Normal, "std", -1.0),
        (nn.Normal, "std", np.nan),
        (nn.Uniform, "limit", -1.0),
        (nn.Orthogonal, "gain", np.inf),
        (nn.Constant, "value", np.nan),
    ],
)
def test_out_of_range_names_the_setting(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}, expected"):
        make(value)
