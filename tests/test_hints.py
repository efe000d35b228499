"""Names that other libraries taught: the errors say what is called so here, and nothing that works is changed."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from common import LAYERS, arguments, make_layer

import fastnn
from fastnn import Sequential, Trainer, _hints, nn, optim

X = np.zeros((6, 2))


def trainer() -> Trainer:
    return Trainer(Sequential([nn.Dense(1)]), "mse", seed=0)


CALLS = {
    "fit(validation_split=)": (lambda: trainer().fit(X, X[:, 0], validation_split=0.2), "expected validation=0.2"),
    "fit(validation_data=)": (
        lambda: trainer().fit(X, X[:, 0], validation_data=(X, X)),
        r"expected validation=\(X, y\)",
    ),
    "Trainer(learning_rate=)": (lambda: Trainer(trainer().model, "mse", learning_rate=1e-3), "optimizer=optim.Adam"),
    "Trainer(random_state=)": (lambda: Trainer(trainer().model, "mse", random_state=1), "expected seed="),
    "Adam(learning_rate=)": (
        lambda: optim.Adam(learning_rate=0.1),
        "^Adam has no argument 'learning_rate', expected lr=",
    ),
    "AdamW(weight_decay=)": (lambda: optim.AdamW(0.1, weight_decay=0.1), "^AdamW .*expected decay="),
    "SGD(momentum=)": (lambda: optim.SGD(0.1, momentum=0.9), "optim.Momentum"),
    "Dense(use_bias=)": (lambda: nn.Dense(3, use_bias=False), "^Dense has no argument 'use_bias', expected bias="),
    "Dropout(p=)": (lambda: nn.Dropout(p=0.5), "^Dropout has no argument 'p', expected rate="),
    "LayerNorm(eps=)": (lambda: nn.LayerNorm(eps=0.5), "expected epsilon="),
}


@pytest.mark.parametrize(("call", "hint"), CALLS.values(), ids=CALLS)
def test_arguments(call, hint):
    with pytest.raises(TypeError, match=hint):
        call()


@pytest.mark.parametrize("name", ["nonsense", "sample_wieght"])
def test_other_arguments_are_pythons_errors(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        trainer().fit(X, X[:, 0], **{name: 1})
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        optim.Adam(**{name: 1})


def test_signatures_stay():
    assert list(inspect.signature(Trainer.fit).parameters)[:4] == ["self", "X", "y", "epochs"]
    assert list(inspect.signature(optim.Adam).parameters)[:3] == ["lr", "beta1", "beta2"]
    assert list(inspect.signature(nn.Dense).parameters)[:2] == ["units", "activation"]


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_an_argument_that_a_layer_has_is_its_own(kind):
    for name in inspect.signature(kind).parameters.keys() & _hints.LAYER.keys():
        kind(*arguments(kind), **{name: getattr(make_layer(kind), name)})


@pytest.mark.parametrize("name", ["fit", "compile", "forward", "parameters", "state_dict", "add"])
def test_attributes_of_a_model(name):
    with pytest.raises(AttributeError, match=rf"'Sequential' object has no attribute '{name}': "):
        getattr(trainer().model, name)


def test_a_model_says_who_fits_and_a_trainer_who_predicts():
    with pytest.raises(AttributeError, match=r"a Trainer fits: Trainer\(model, loss\)\.fit\(X, y\)"):
        trainer().model.fit(X, X)
    with pytest.raises(AttributeError, match=r"its model does: trainer\.model\.predict$"):
        trainer().predict(X)
    assert not hasattr(trainer().model, "fit") and not hasattr(trainer(), "predict")
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        _ = trainer().nonsense


def test_copies_and_pickles_are_as_before():
    made = trainer()
    made.fit(X, X[:, 0], epochs=1, verbose=False)
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(again.model.predict(X), made.model.predict(X))
    assert copy.copy(optim.Adam(0.5)) == optim.Adam(0.5) == pickle.loads(pickle.dumps(optim.Adam(0.5)))


NAMES = {
    "ReLU": r"nn\.Activation\('relu'\), or nn\.Dense\(units, 'relu'\)",
    "LeakyReLU": "leaky_relu",
    "Tanh": "'tanh'",
    "Hardtanh": "hard_tanh",
    "Linear": r"nn\.Dense\(units\)",
    "BatchNorm1d": "BatchNorm",
    "MSELoss": "loss='mse'",
}


@pytest.mark.parametrize(("name", "hint"), NAMES.items(), ids=NAMES)
def test_names_of_layers_elsewhere(name, hint):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}', expected .*{hint}"):
        getattr(nn, name)


def test_names_that_are_nowhere():
    with pytest.raises(AttributeError, match=r"module 'fastnn\.nn' has no attribute 'Nonsense'$"):
        _ = nn.Nonsense
    with pytest.raises(AttributeError, match=r"expected fastnn\.nn\.Dense$"):
        _ = fastnn.Dense


def test_text_labels():
    with pytest.raises(TypeError, match=r"np\.unique\(y, return_inverse=True\), or take fastnn\.MLPClassifier"):
        Trainer(Sequential([nn.Dense(2)]), "cross_entropy").fit(X, list("ababab"))


@pytest.mark.parametrize("kind", sorted(optim.OPTIMIZERS))
def test_an_optimizer_says_its_rate_first_and_no_defaults(kind):
    made = optim.OPTIMIZERS[kind]
    name = made.__name__
    assert repr(made(0.25)) == f"{name}(lr=0.25)"
    other = made(0.25, l2=0.5)
    assert repr(other) == f"{name}(lr=0.25, l2=0.5)" and eval(repr(other), vars(optim).copy()) == other


def test_errors_of_properties_stay_their_own():
    """NotFittedError is an AttributeError, for scikit-learn's sake: `__getattr__` must not hide it."""
    model = Sequential([nn.Dense(1)])
    for name in ("plan", "state"):
        with pytest.raises(fastnn.NotFittedError, match="not built yet"):
            getattr(model, name)
    assert not hasattr(model, "plan")


@pytest.mark.parametrize("name", ["forward", "call", "__call__", "backward"])
@pytest.mark.parametrize("base", [nn.Dense, nn.Layer, nn.BatchNorm])
def test_a_layer_with_a_computation_of_its_own_is_refused(base, name):
    """It would be computed as its base."""
    with pytest.raises(
        TypeError, match=rf"^Mine has a method '{name}', which fastnn does not call, expected oper.*`ops`"
    ):
        type("Mine", (base,), {name: lambda self, x: 2 * x})


@pytest.mark.parametrize("name", ["step", "update", "update_step", "apply_gradients"])
@pytest.mark.parametrize("base", [optim.Adam, optim.SGD, optim.Optimizer])
def test_an_optimizer_with_a_step_of_its_own_is_refused(base, name):
    with pytest.raises(TypeError, match=rf"^Mine has a method '{name}', which fastnn does not call, .* optim\.rule"):
        type("Mine", (base,), {name: lambda self, g: g})


def test_other_methods_of_a_subclass_are_its_own():
    class Wide(nn.Dense):
        def double(self):
            return Wide(2 * self.units)

    assert Sequential([Wide(1).double()]).build(2, seed=0).predict(X[:, :2]).shape == (6, 2)
