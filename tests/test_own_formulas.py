"""Formulas of one's own: the one that was passed is what is computed, on every backend, whatever it is called."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from common import VECTORISED

from fastnn import FallbackWarning, Sequential, Trainer, nn, optim
from fastnn.formulas.rules import RULES, Rule

pytestmark = pytest.mark.filterwarnings("ignore::fastnn.FallbackWarning")
QUANTILE = 0.9


def pinball_value(z, y, p):
    return np.maximum(QUANTILE * (y - z), (QUANTILE - 1.0) * (y - z))


def pinball_gradient(z, y, p):
    return np.where(y > z, -QUANTILE, 1.0 - QUANTILE)


def sign_step(g, s, c):
    return c[0] * np.sign(g), s


PINBALL = replace(nn.LOSSES["mse"], pointwise=(pinball_value, pinball_gradient))


@dataclass(frozen=True)
class SignSGD(optim.SGD):
    rule = property(lambda self: replace(RULES["sgd"], formula=sign_step))


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("name", ["mse", "pinball"])
def test_a_loss_is_its_formula_not_its_name(name, backend):
    y = np.random.default_rng(0).normal(size=600)
    trainer = Trainer(Sequential([nn.Dense(1)]), replace(PINBALL, name=name), optim.SGD(0.1), seed=0, backend=backend)
    trainer.fit(np.ones((600, 1)), y, epochs=300, batch_size="full", verbose=False)
    assert trainer.model.predict(np.ones((1, 1))).item() == pytest.approx(np.quantile(y, QUANTILE), abs=1e-3)
    told = trainer.evaluate(np.ones((600, 1)), y)["loss"]
    rest = y - trainer.model.predict(np.ones((1, 1))).item()
    assert told == pytest.approx(np.mean(np.maximum(QUANTILE * rest, (QUANTILE - 1) * rest)), rel=1e-5)


@pytest.mark.parametrize("backend", VECTORISED)
def test_a_rule_is_its_formula_not_its_name(backend):
    X = np.random.default_rng(0).normal(size=(200, 3))
    model = Sequential([nn.Dense(1, init=0.0)])
    Trainer(model, "mse", SignSGD(0.01), seed=0, backend=backend).fit(X, X[:, 0], epochs=1, batch_size="full")
    np.testing.assert_allclose(np.abs(model.layers[0].weight), 0.01, rtol=1e-6)


def test_an_activation_that_borrows_a_name_is_refused():
    for changed in ({"value": np.abs}, {"derivative": lambda a, alpha: a}, {"saves": "z"}):
        with pytest.raises(ValueError, match="activation is relu"):
            nn.Dense(1, activation=replace(nn.ACTIVATIONS["relu"], **changed))


def test_a_rule_that_nobody_knows_is_refused_before_anything_is_touched():
    class Lion(optim.Optimizer):
        name = "lion"

    class Nameless(optim.Optimizer):
        pass

    class Wrong(optim.SGD):
        rule = "sgd"

    for optimizer, message in ((Lion(0.1), "name 'lion', expected one of sgd"), (Nameless(0.1), "name None")):
        with pytest.raises(ValueError, match=message):
            Trainer(Sequential([nn.Dense(1)]), "mse", optimizer)
    with pytest.raises(TypeError, match="rule 'sgd', expected a Rule"):
        Trainer(Sequential([nn.Dense(1)]), "mse", Wrong(0.1))


def test_slots_of_another_rule_of_the_same_name_are_not_taken_over():
    other = Rule("momentum", ("v",), ("lr", "beta", "gain"), lambda g, s, c: (c[0] * g, (s[0] + 1.0,)), "counts")

    class Counting(optim.Momentum):
        rule = property(lambda self: other)

    X = np.ones((8, 1))
    model = Sequential([nn.Dense(1)])
    Trainer(model, "mse", optim.Momentum(0.1), seed=0, backend="numpy").fit(X, X[:, 0], epochs=3, batch_size="full")
    Trainer(model, "mse", Counting(0.1), seed=0, backend="numpy").fit(X, X[:, 0], epochs=2, batch_size="full")
    assert {*model.state.slots[0][:1]} == {2.0} and model.state.step == 2


def test_pickle_keeps_an_importable_formula_and_refuses_any_other():
    copy = pickle.loads(pickle.dumps(PINBALL))
    assert copy == PINBALL and not copy.built_in
    assert pickle.loads(pickle.dumps(nn.Huber(2.0))) == nn.Huber(2.0)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(replace(PINBALL, pointwise=(lambda z, y, p: z - y, pinball_gradient)))


def test_a_model_with_a_loss_of_ones_own_is_not_saved(tmp_path):
    model = Sequential([nn.Dense(1)]).build(1, seed=0)
    model.loss = PINBALL
    with pytest.raises(TypeError, match="loss is mse, a loss of your own"):
        model.save(tmp_path / "model.fnn")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_formula_is_not_gone_on_from(tmp_path):
    import fastnn

    X = np.ones((8, 1))

    def fit(loss, **resume):
        trainer = Trainer(Sequential([nn.Dense(1)]), loss, "sgd", seed=0, backend="numpy")
        trainer.fit(X, X[:, 0], epochs=1, callbacks=[fastnn.Checkpoint(tmp_path)], verbose=False, **resume)

    fit(PINBALL)
    with pytest.raises(ValueError, match=r"loss is .*formula [0-9a-f]{16}"):
        fit(replace(PINBALL, pointwise=(lambda z, y, p: z - y, pinball_gradient)), resume=True)
    with pytest.raises(ValueError, match=r"loss is .*formula [0-9a-f]{16}"):
        fit("mse", resume=True)


def test_native_says_once_that_python_computes_it():
    import warnings

    loss = replace(PINBALL, name="told once")
    X = np.ones((8, 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            trainer = Trainer(Sequential([nn.Dense(1)]), loss, "sgd", seed=0, backend="native")
            trainer.fit(X, X[:, 0], epochs=1, verbose=False)
    told = [each for each in caught if issubclass(each.category, FallbackWarning)]
    assert len(told) == 1 and "loss told once" in str(told[0].message)
