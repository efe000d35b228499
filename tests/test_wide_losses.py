"""Losses of several outputs for a target, in fits: where their minimum lies, what they accept, what is kept."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from common import VECTORISED

import fastnn
from fastnn import Sequential, Trainer, nn, optim

ROWS = 500


def constants(loss, outputs, y, backend="auto"):
    """What a model that knows nothing of its rows learns: one number an output."""
    X = np.ones((len(y), 1))
    model = Sequential([nn.Dense(outputs, init=0.0)], dtype="float64")
    trainer = Trainer(model, loss, optim.Adam(0.05), schedule="cosine", seed=0, backend=backend)
    trainer.fit(X, y, epochs=600, batch_size="full", verbose=False)
    return model.predict(X[:1], backend=backend)[0], trainer


@pytest.mark.parametrize("backend", VECTORISED)
def test_gaussian_learns_mean_and_variance(backend):
    y = np.random.default_rng(0).normal(size=(ROWS, 2)) * [0.3, 2.0] + [1.0, -1.0]
    got, trainer = constants("gaussian", 4, y, backend)
    np.testing.assert_allclose(got[:2], y.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(np.exp(got[2:]), y.var(axis=0), rtol=1e-3)
    least = 0.5 * (np.log(y.var(axis=0)) + 1.0).mean()
    assert trainer.evaluate(np.ones((ROWS, 1)), y)["loss"] == pytest.approx(least, abs=1e-5)


@pytest.mark.parametrize("backend", VECTORISED)
def test_quantiles_learns_each_level(backend):
    levels = [0.1, 0.5, 0.9]
    y = np.random.default_rng(0).gamma(2.0, size=(ROWS, 2)) * [0.3, 1.0]
    got, _ = constants(nn.Quantiles(levels), 6, y, backend)
    np.testing.assert_allclose(got.reshape(3, 2), np.quantile(y, levels, axis=0), atol=0.05)


@pytest.mark.parametrize("backend", VECTORISED)
def test_weights(backend):
    """A row of weight 2 is that row twice."""
    rng = np.random.default_rng(0)
    X, y, weight = rng.normal(size=(21, 3)), rng.normal(size=(21, 1)), rng.integers(0, 3, 21).astype(float)

    def fit(rows, **weights):
        model = Sequential([nn.Dense(5, "tanh"), nn.Dense(2)], dtype="float64")
        trainer = Trainer(model, "gaussian", "sgd", seed=0, backend=backend)
        trainer.fit(X[rows], y[rows], epochs=3, batch_size="full", verbose=False, **weights)
        return model.predict(X)

    twice = np.repeat(np.arange(21), weight.astype(int))
    np.testing.assert_allclose(fit(np.arange(21), sample_weight=weight), fit(twice), rtol=1e-9)


def test_what_they_do_not_take_is_refused():
    X, y = np.ones((4, 1)), np.ones(4)
    with pytest.raises(ValueError, match="the model has 3 outputs, expected a multiple of 2 for gaussian"):
        Trainer(Sequential([nn.Dense(3)]), "gaussian").fit(X, y)
    with pytest.raises(ValueError, match=r"y has shape \(4, 2\), expected \(4, 1\) for 2 outputs"):
        Trainer(Sequential([nn.Dense(2)]), "gaussian").fit(X, np.ones((4, 2)))
    with pytest.raises(ValueError, match="metrics has 'mae', expected a function: gaussian has 2 outputs for a target"):
        Trainer(Sequential([nn.Dense(2)]), "gaussian", metrics=["mae"])


def test_a_metric_of_ones_own_gets_all_outputs():
    def covered(y, prediction):
        return float(((prediction[:, 0] <= y) & (y <= prediction[:, 1])).mean())

    y = np.random.default_rng(0).normal(size=ROWS)
    _, trainer = constants(nn.Quantiles([0.1, 0.9]), 2, y)
    trainer.metrics = [covered]
    assert trainer.evaluate(np.ones((ROWS, 1)), y)["covered"] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("loss", [nn.Quantiles([0.2, 0.4, 0.8]), nn.LOSSES["gaussian"]], ids=str)
def test_they_come_back(loss, tmp_path):
    assert pickle.loads(pickle.dumps(loss)) == loss
    model = Sequential([nn.Dense(6)]).build(2, seed=0)
    model.loss = loss
    model.save(tmp_path / "m")
    assert fastnn.load(tmp_path / "m").loss == loss


@pytest.mark.parametrize("backend", VECTORISED)
def test_ordered_quantiles_do_not_cross(backend):
    """Where a network of few rows crosses them."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    crossings = {}
    for last in ([], [nn.Ordered()]):
        model = Sequential([nn.Dense(32, "tanh"), nn.Dense(5), *last])
        trainer = Trainer(model, nn.Quantiles([0.1, 0.3, 0.5, 0.7, 0.9]), optim.Adam(0.02), seed=0, backend=backend)
        trainer.fit(X, y, epochs=60, verbose=False)
        crossings[len(last)] = (np.diff(model.predict(3 * rng.normal(size=(500, 3))), axis=1) < 0).sum()
    assert crossings[0] > 0 and crossings[1] == 0


@pytest.mark.parametrize("backend", VECTORISED)
def test_ordered_quantiles_of_several_targets(backend):
    """Each target's own: one is ten times the other, so their quantiles interleave."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2))
    y = np.stack([rng.normal(size=2000), 10 * rng.normal(size=2000)], axis=1)
    model = Sequential([nn.Dense(6), nn.Ordered(targets=2)])
    trainer = Trainer(model, nn.Quantiles([0.1, 0.5, 0.9]), optim.Adam(0.1), seed=0, backend=backend)
    trainer.fit(X, y, epochs=60, verbose=False)
    levels = model.predict(X).reshape(-1, 3, 2)
    assert (np.diff(levels, axis=1) >= 0).all()
    below = (y[:, None] < levels).mean(axis=0)
    np.testing.assert_allclose(below, np.repeat([[0.1], [0.5], [0.9]], 2, axis=1), atol=0.05)


def test_ordered_refuses_targets_that_do_not_fit():
    with pytest.raises(ValueError, match=r"targets is 4, expected a divisor of the 6 values"):
        Sequential([nn.Dense(6), nn.Ordered(4)]).build(2, seed=0)
