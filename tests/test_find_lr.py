"""The learning-rate range test: what it measures, what it suggests, and that it trains nothing."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from common import ENGINES, parameters

import fastnn
from fastnn import Sequential, Trainer, nn, optim
from fastnn.training.find_lr import LearningRates

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5))
Y = X[:, 0] * X[:, 1]


def trainer(backend="auto", optimizer="adam", **settings) -> Trainer:
    return Trainer(
        Sequential([nn.Dense(16, "tanh"), nn.Dense(1)]), "mse", optimizer, seed=0, backend=backend, **settings
    )


@pytest.mark.parametrize("backend", ENGINES)
def test_model_and_trainer_stay_as_they_are(backend):
    made = trainer(backend)
    made.fit(X, Y, epochs=2, verbose=False)
    before, slots = parameters(made.model), [slot.copy() for slot in made.model.state.slots]
    step, history = made.model.state.step, len(made.history)
    made.find_lr(X, Y)
    for name, view in made.model.state.views.items():
        np.testing.assert_array_equal(view, before[name])
    for slot, copy in zip(made.model.state.slots, slots, strict=True):
        np.testing.assert_array_equal(slot, copy)
    assert (made.model.state.step, len(made.history)) == (step, history)


def test_a_fit_afterwards_is_the_fit_without_it():
    one, other = trainer(), trainer()
    one.find_lr(X, Y)
    for made in (one, other):
        made.fit(X, Y, epochs=2, verbose=False)
    for name, view in one.model.state.views.items():
        np.testing.assert_array_equal(view, other.model.state.views[name])


@pytest.mark.parametrize("backend", ENGINES)
def test_the_losses_are_those_of_the_steps(backend):
    """Plain descent on a constant row, by hand: y = w x with x = 1, w0 = 0, y = 1: the loss is (w - 1)^2."""
    made = Trainer(Sequential([nn.Dense(1, init=0.0, bias=False)]), "mse", optim.SGD(1.0), seed=0, backend=backend)
    found = made.find_lr(np.ones((4, 1)), np.ones(4), low=0.01, high=0.4, steps=20, batch_size=2)
    rates, w, losses = np.geomspace(0.01, 0.4, 20), 0.0, []
    for rate in rates:
        losses.append((w - 1.0) ** 2)
        w -= rate * 2.0 * (w - 1.0)
    np.testing.assert_allclose(found.lr, rates)
    np.testing.assert_allclose(found.loss, losses, rtol=1e-5, atol=1e-12)  # 20 steps of float32


def test_the_running_mean_and_the_suggestion():
    loss, lr = np.array([4.0, 4.0, 3.9, 3.0, 1.0, 0.9, 9.0]), np.geomspace(1e-3, 1.0, 7)
    found = LearningRates.of(lr, loss)
    weights = 0.9 ** np.arange(7)
    expected = [weights[: s + 1] @ loss[s::-1] / weights[: s + 1].sum() for s in range(7)]
    np.testing.assert_allclose(found.smooth, expected)
    assert found.suggestion == lr[5] / 10 and found.bounded


def test_where_no_rate_was_too_high_it_says_so():
    """A fall of 0.1 a step, of 0.5 for 20 steps in the middle: the running mean follows within ten steps."""
    falls = np.full(120, 0.1)
    falls[40:60] = 0.5
    lr = np.geomspace(1e-6, 10.0, 120)
    with pytest.warns(fastnn.RateWarning, match="lowest at the last rate, 10, so that none is known to be too high"):
        found = LearningRates.of(lr, 100.0 - np.cumsum(falls))
    assert not found.bounded and lr[45] < found.suggestion < lr[65]


@pytest.mark.parametrize("seed", range(3))
def test_where_the_loss_did_not_fall_there_is_no_suggestion(seed):
    loss = 1.0 + 0.1 * np.random.default_rng(seed).normal(size=200)
    with pytest.warns(fastnn.RateWarning, match="the loss fell nowhere between 1e-06 and 10: there is no suggestion"):
        found = LearningRates.of(np.geomspace(1e-6, 10.0, 200), loss)
    assert np.isnan(found.suggestion) and not found.bounded


@pytest.mark.parametrize("seed", range(4))
def test_few_rows_learned_by_heart(seed):
    """wine: 178 rows, whose loss goes to 0 whatever the rate. The suggestion trains, as Adam(1.0) does not."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_wine(return_X_y=True)

    def made(lr: float = 1e-3) -> Trainer:
        return Trainer(
            Sequential([nn.Normalize(), nn.Dense(32, "relu"), nn.Dense(3)]), "cross_entropy", optim.Adam(lr), seed=seed
        )

    with pytest.warns(fastnn.RateWarning):
        rate = made().find_lr(X, y).suggestion
    assert 1e-3 < rate < 0.05
    assert made(rate).fit(X, y, epochs=20, validation=0.2, verbose=False)["val_loss"][-1] < 0.3


def test_it_ends_where_the_loss_diverges():
    found = trainer(optimizer=optim.SGD()).find_lr(X, Y, high=1e6, steps=400)
    assert len(found.lr) < 400
    assert np.isfinite(found.loss).all()
    assert found.suggestion < 1.0


def test_a_suggestion_is_a_good_rate():
    """Better, after as many steps, than a hundredth of it and than a hundred times it."""
    rate = trainer().find_lr(X, Y).suggestion

    def loss(lr: float) -> float:
        return trainer(optimizer=optim.Adam(lr), clip_norm=1.0).fit(X, Y, epochs=20, verbose=False)["loss"][-1]

    assert loss(rate) < min(loss(rate / 100), loss(rate * 100))


def test_sparse_rows():
    sparse = pytest.importorskip("scipy.sparse")
    dense, rows = trainer().find_lr(X, Y), trainer().find_lr(sparse.csr_matrix(X), Y)
    np.testing.assert_array_equal(dense.loss, rows.loss)


@pytest.mark.parametrize(
    "settings", [dict(low=0.0), dict(high=1e-7), dict(steps=1), dict(batch_size=0), dict(low=np.nan)], ids=str
)
def test_settings(settings):
    made = trainer()
    with pytest.raises(ValueError, match=rf"^{next(iter(settings))} is .*, expected"):
        made.find_lr(X, Y, **settings)
    assert not made.model.built


def test_it_diverges_at_once():
    with pytest.raises(ValueError, match=r"low is 1e\+30, with which the first steps already diverge"):
        trainer(optimizer=optim.SGD()).find_lr(X, Y, low=1e30, high=1e35)


def test_plot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = trainer().find_lr(X, Y).plot()
    assert axes.get_xscale() == "log"
    assert "suggestion" in " ".join(text.get_text() for text in axes.get_legend().get_texts())
    pyplot.close("all")


def test_a_loss_that_diverged_with_the_next_rate_was_lowest_at_one_that_is_known():
    """It said that no rate was too high, and advised higher ones."""
    rates = np.geomspace(1e-5, 1, 100)
    falling = np.linspace(2, 1, 60)
    for rest in (np.full(40, np.inf), np.r_[1e9, np.full(39, np.nan)]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = LearningRates.of(rates, np.r_[falling, rest])
        assert found.bounded and found.suggestion == rates[59] / 10 and len(found.lr) == 60


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (np.full(100, 1.0), "between 1e-05 and 1: there is no suggestion; a higher `high`, more `steps`"),
        (
            np.r_[np.full(50, 1.0), np.full(50, np.inf)],
            "beyond which it diverged: there is no suggestion; a lower `low`",
        ),
        (np.linspace(1, 3, 100), "fell nowhere between 1e-05 and 1"),  # whose lowest was the first
    ],
)
def test_what_to_try_where_the_loss_fell_nowhere(loss, message):
    with pytest.warns(fastnn.RateWarning, match=message):
        found = LearningRates.of(np.geomspace(1e-5, 1, 100), loss)
    assert math.isnan(found.suggestion) and not found.bounded
