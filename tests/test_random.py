"""The random bits: Random123's known answers, uniform, independent, the same in every backend."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import backend_parameters

from fastnn import _random
from fastnn._random import Key

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])

# Random123 1.14, tests/kat_vectors, the lines `philox4x32 7`
KNOWN = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
    ),
}


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN.values(), ids=KNOWN)
def test_philox_gives_the_published_words(counter, key, words):
    assert tuple(int(word) for word in _random.philox(counter, key)) == words


def test_philox_of_arrays_is_philox_of_each():
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**32, (4, 9), dtype=np.uint64)
    together = np.stack(_random.philox(tuple(counters), (5, 6)))
    apart = [_random.philox(tuple(int(c) for c in counters[:, i]), (5, 6)) for i in range(9)]
    np.testing.assert_array_equal(together, np.array(apart, dtype=np.uint64).T)


def test_element_reads_the_documented_word():
    """Element e is word e mod 4 of block e div 4, and the counter and key hold what the docstring says."""
    key = Key(seed=0x1111222233334444, step=0x5555666677778888, op=9)
    bits = _random.bits(key, (3, 7)).reshape(-1)
    for e in (0, 1, 6, 20):
        words = _random.philox((e // 4, 9, 0x77778888, 0x55556666), (0x33334444, 0x11112222))
        assert int(bits[e]) == int(words[e % 4])


def test_bits_depend_on_the_flat_index_only():
    key = Key(1, 2, 3)
    np.testing.assert_array_equal(_random.bits(key, (6, 10)).reshape(-1), _random.bits(key, (1, 64))[0, :60])


@pytest.mark.parametrize(
    "other", [Key(8, 5, 3), Key(7, 6, 3), Key(7, 5, 4), Key(7 + (1 << 32), 5, 3), Key(7, 5 + (1 << 32), 3)]
)
def test_keys_give_unrelated_bits(other):
    """Between two streams each bit agrees half of the time: 5 standard deviations of a fair coin."""
    shape = (64, 256)
    differ = np.unpackbits((_random.bits(Key(7, 5, 3), shape) ^ _random.bits(other, shape)).view(np.uint8))
    assert abs(differ.mean() - 0.5) < 5 * 0.5 / np.sqrt(differ.size)


def test_bits_are_uniform():
    """Chi-squared over 256 equal bins, and each of the 32 bits fair: both within 5 standard deviations."""
    bits = _random.bits(Key(3, 1, 4), (512, 512)).reshape(-1)
    counts = np.bincount(bits >> 24, minlength=256)
    expected = bits.size / 256
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - 255) < 5 * np.sqrt(2 * 255)
    for bit in range(32):
        assert abs(((bits >> np.uint32(bit)) & np.uint32(1)).mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_neighbours_are_uncorrelated():
    uniform = _random.bits(Key(3, 1, 4), (512, 512)).reshape(-1) * 2.0**-32
    for lag in (1, 2, 3, 4, 512):
        assert abs(np.corrcoef(uniform[:-lag], uniform[lag:])[0, 1]) < 5 / np.sqrt(uniform.size - lag)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(rate, dtype, backend, kernels):
    rows = 16 if backend == "python" else 256
    x = np.ones((rows, 257), dtype)
    out = np.full_like(x, np.nan)
    kernels.ops["dropout"].forward(x, rate, Key(11, 12, 13), out)
    kept = (out != 0).mean()
    assert abs(kept - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose(out[out != 0], 1 / (1 - rate), rtol=4 * np.finfo(dtype).eps)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("rate", [0.0, 0.25, 1 - 2.0**-20])
@pytest.mark.parametrize("key", [Key(0, 0, 0), Key(2**64 - 1, 2**64 - 1, 2**32 - 1), Key(2**63, 2**32, 1)], ids=str)
def test_every_backend_s_dropout_drops_the_same_elements(key, rate, dtype, backend, kernels):
    for shape in ((1, 1), (3, 5), (7, 16), (5, 67)):
        x = np.ones(shape, dtype)
        out = np.full_like(x, np.nan)
        kernels.ops["dropout"].forward(x, rate, key, out)
        keep = np.array([int(bits) >= rate * 2**32 for bits in _random.bits(key, shape).reshape(-1)]).reshape(shape)
        np.testing.assert_array_equal(out != 0, keep)


@BACKENDS
@DTYPES
def test_dropout_keeps_the_threshold_itself(dtype, backend, kernels):
    """Dropped is bits < threshold: a rate of exactly bits / 2^32 keeps that element, the next rate drops it."""
    key, x, out = Key(1, 2, 3), np.ones((4, 9), dtype), np.full((4, 9), np.nan, dtype)
    for e in (0, 7, 35):
        bits = int(_random.bits(key, x.shape).flat[e])
        kernels.ops["dropout"].forward(x, bits / 2**32, key, out)
        assert out.flat[e] != 0
        kernels.ops["dropout"].forward(x, (bits + 1) / 2**32, key, out)
        assert out.flat[e] == 0


@BACKENDS
@DTYPES
def test_dropout_at_a_rate_that_rounds_to_one(dtype, backend, kernels):
    """The largest below 1, whose threshold is 2^32: nothing is left, and no scale makes a NaN of it."""
    x = np.ones((9, 67), dtype)
    kernels.ops["dropout"].forward(x, 1 - 2.0**-53, Key(1, 2, 3), x)
    assert not x.any()


@BACKENDS
@DTYPES
def test_rrelu_slopes_stay_in_range_and_repeat_in_backward(dtype, backend, kernels):
    z = np.full((9, 33), -1.0, dtype)
    a, dz, again = (np.full_like(z, np.nan) for _ in range(3))
    key = Key(1, 2, 3)
    kernels.ops["rrelu"].forward(z, 0.125, 0.375, key, a)
    kernels.ops["rrelu"].backward(z, 0.125, 0.375, key, np.ones_like(z), dz)
    assert np.all((-a >= 0.125) & (-a <= 0.375)) and np.unique(a).size > 200
    np.testing.assert_array_equal(dz, -a)
    kernels.ops["rrelu"].forward(z, 0.125, 0.375, Key(1, 3, 3), again)
    assert np.any(again != a)


@BACKENDS
@pytest.mark.parametrize("n", [0, 1, 2, 3, 127, 128, 129, 1000, 70_001])
def test_every_backend_shuffles_alike(n, backend, kernels):
    """And as the definition says, in Python's integers of any length."""
    key = _random.epoch_key(2**63 + 5, 2**40 + 3)
    order = np.full(n, -1, dtype=np.int64)
    kernels.shuffle(key, order)
    bits = [int(b) for b in _random.bits(key, (n, 2)).reshape(-1)]
    expected = list(range(n))
    for i in range(n - 1, 0, -1):
        place = (bits[2 * i] + (bits[2 * i + 1] << 32)) * (i + 1) >> 64
        expected[i], expected[place] = expected[place], expected[i]
    np.testing.assert_array_equal(order, expected)


def test_every_order_is_equally_likely():
    """Chi-squared over the 24 orders of 4 rows, and where each of 20 rows ends: within 5 standard deviations."""
    epochs = 24_000
    orders = [tuple(_random.permutation(3, epoch, 4).tolist()) for epoch in range(epochs)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 24
    assert abs(((counts - epochs / 24) ** 2).sum() / (epochs / 24) - 23) < 5 * np.sqrt(2 * 23)
    ends = np.zeros((20, 20))
    for epoch in range(4000):
        ends[np.arange(20), _random.permutation(3, epoch, 20)] += 1
    assert abs(((ends - 200) ** 2).sum() / 200 - 19 * 19) < 5 * np.sqrt(2 * 19 * 19)


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_permutation_visits_every_row_once(n):
    order = _random.permutation(5, 6, n)
    assert order.dtype == np.int64 and sorted(order) == list(range(n))


def test_permutation_depends_on_seed_and_epoch_alone():
    base = _random.permutation(5, 6, 1000)
    np.testing.assert_array_equal(base, _random.permutation(5, 6, 1000))
    assert np.any(base != _random.permutation(5, 7, 1000)) and np.any(base != _random.permutation(6, 6, 1000))
