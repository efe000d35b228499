"""Where a model's last activation does not fit the loss, one warning says so; where it fits, none does."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn
from fastnn import Sequential, Trainer, nn
from fastnn.training.ends import _RANGES

_rng = np.random.default_rng(0)
X = _rng.normal(size=(80, 5))
LABELS = (X[:, 0] > 0).astype(int)


def target(loss, outputs):
    """Targets that the loss takes, within [0, 1]; above 0 where it takes no 0."""
    if "labels" in loss.targets and outputs > 1:
        return LABELS
    return np.repeat(np.maximum(LABELS[:, None], loss.y_range[0]).astype(float), outputs // loss.width, axis=1)


def said(last, loss, y=None, outputs=2, layers=(), **settings):
    """The warnings of one epoch of a model that ends so."""
    model = Sequential([nn.Dense(outputs), *([] if last is None else [nn.Activation(last)]), *layers])
    trainer = Trainer(model, loss, seed=0)
    values = target(trainer.loss, outputs) if y is None else y
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(X, values, epochs=1, verbose=False, **settings)
    assert all(warning.filename == __file__ and warning.category is UserWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", _RANGES)
def test_ranges_are_those_of_the_formulas(name):
    z = np.concatenate([-np.logspace(3, -6, 200), [0.0], np.logspace(-6, 2.5, 200)])
    a = nn.ACTIVATIONS[name].value(z, 0.0) if name != "softmax" else np.array([0.0, 1.0])
    low, high = _RANGES[name]
    assert low <= a.min() < low + 1e-2 and a.max() <= high
    assert a.max() > (high - 1e-2 if np.isfinite(high) else 100.0)


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
def test_activations_without_a_range_have_none(name):
    """A new activation that is bounded on both sides belongs into the table."""
    a = nn.ACTIVATIONS[name].value(np.array([-200.0, 200.0]), nn.ACTIVATIONS[name].alpha)
    assert (name in _RANGES) or a.max() - a.min() > 50.0


@pytest.mark.parametrize("loss", nn.LOSSES)
def test_every_losss_own_link_is_fine_and_so_is_none(loss):
    link = nn.LOSSES[loss].link
    assert said(None, loss) == []
    if link is not None and link in nn.ACTIVATIONS:
        assert said(link, loss) == []
    assert link != "softmax" or said(None, loss, layers=[nn.Softmax()]) == []


@pytest.mark.parametrize("last", ["sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "softsign", "binary_step", "softmax"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "poisson", "hinge"])
def test_bounded_ends_of_losses_that_take_logits(last, loss):
    layers, name = ([nn.Softmax()], None) if last == "softmax" else ([], last)
    messages = said(name, loss, layers=layers)
    if nn.LOSSES[loss].link == last:
        assert messages == []
        return
    assert len(messages) == 1
    assert messages[0].startswith(f"the model ends with {last}, which gives numbers in [")
    assert f"but {loss} takes numbers of any size: end with no activation" in messages[0]


@pytest.mark.parametrize("last", ["relu", "softplus", "exponential"])
def test_ends_without_negative_numbers(last):
    """A sigmoid of these is 1/2 at least, a rate exp(z) 1 at least; differences of logits are not bounded."""
    assert len(said(last, "binary_cross_entropy")) == 1
    assert len(said(last, "poisson")) == (last != "exponential")
    assert said(last, "cross_entropy") == said(last, "hinge") == []


@pytest.mark.parametrize("loss", ["mse", "half_mse", "mae", "huber"])
def test_losses_of_values_look_at_the_targets(loss):
    within = np.abs(np.sin(X[:, :2]))
    assert said("sigmoid", loss, within) == said("tanh", loss, 2 * within - 1) == said("relu", loss, 5 * within) == []
    (message,) = said("sigmoid", loss, 5 * within)
    assert "y has values from" in message and "scale y" in message
    assert len(said("tanh", loss, 2 * within)) == len(said("relu", loss, -within)) == 1
    rare = within.copy()
    rare[0, 0] = 1.2  # 1 of 160
    assert said("sigmoid", loss, rare) == []


def test_wherever_the_activation_stands():
    for model in (
        Sequential([nn.Dense(2, "tanh")]),
        Sequential([nn.Dense(2), nn.Activation("tanh"), nn.Dropout(0.1)]),
        Sequential([nn.Dense(2), nn.BatchNorm(), nn.Activation("tanh")]),
    ):
        with pytest.warns(UserWarning, match="the model ends with tanh"):
            Trainer(model, "cross_entropy", seed=0).fit(X, LABELS, epochs=1, verbose=False)
    for layers in ([nn.Dense(4, "tanh"), nn.Dense(2)], [nn.Dense(2, "tanh"), nn.Scale()]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Trainer(Sequential(layers), "cross_entropy", seed=0).fit(X, LABELS, epochs=1, verbose=False)


def test_batches_are_told_too():
    trainer = Trainer(Sequential([nn.Dense(2, "sigmoid")]), "cross_entropy", seed=0)
    with pytest.warns(UserWarning, match="ends with sigmoid") as caught:
        trainer.fit([(X[:40], LABELS[:40]), (X[40:], LABELS[40:])], epochs=3, verbose=False)
    assert len(caught) == 1


def test_two_logits_in_0_to_1_are_never_sure():
    """The number of the docstring: softmax of (1, 0)."""
    model = Sequential([nn.Dense(2, "sigmoid")])
    with pytest.warns(UserWarning, match="ends with sigmoid"):
        Trainer(model, "cross_entropy", fastnn.optim.Adam(0.5), seed=0).fit(X, LABELS, epochs=50, verbose=False)
    assert model.predict_proba(X).max() <= np.e / (1 + np.e) + 1e-6
