"""What users pass where they meet the package: refused by name, before anything is changed; and what they see of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from common import features

from fastnn import Sequential, Trainer, nn

X = features(20, 6) * 3 + 1
Y = features(20, 1, seed=1)

# Normalize.adapt ---------------------------------------------------------------------------------------------------


def poisoned(value: float) -> np.ndarray:
    x = X.copy()
    x[4, 2] = value
    return x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[0], ValueError, r"x has shape \(6,\), expected two dimensions"),
        (X[:, :1], ValueError, "x has 1 features, but this model was built with 6"),
        (X[:, :2], ValueError, "x has 2 features, but this model was built with 6"),
        (X[:0], ValueError, "x has 0 rows"),
        (X + 1j, ValueError, "x has complex values"),
        (poisoned(np.nan), ValueError, "Input x contains NaN, first at row 4, column 2"),
        (poisoned(-np.inf), ValueError, "Input x contains infinity, first at row 4, column 2"),
        (poisoned(1e300), ValueError, "Input x contains 1e[+]300, a value too large for float32"),
        (None, ValueError, "x is None, expected an array of numbers"),
        ("x", (TypeError, ValueError), "x has "),
        (3.0, ValueError, r"x has shape \(\), expected two dimensions"),
        (X.reshape(20, 3, 2), ValueError, r"x has rows of shape \(3, 2\), but this model was built with"),
    ],
)
def test_adapt_refuses_what_a_fit_refuses(x, error, message):
    model = Sequential([nn.Normalize(), nn.Dense(1)]).build(6, seed=0)
    layer = model.layers[0]
    with pytest.raises(error, match=f"^{message}"):
        layer.adapt(x)
    assert not layer.adapted and (layer.shift == 0).all() and (layer.scale == 1).all()


@pytest.mark.parametrize("made", [lambda model: model, copy.deepcopy], ids=["model", "copy"])
def test_adapt_takes_rows_of_the_models_shape_alone(made):
    model = made(Sequential([nn.Normalize(), nn.Flatten(), nn.Dense(1)]).build((2, 3), seed=0))
    layer = model.layers[0]
    with pytest.raises(ValueError, match=r"^x has rows of shape \(3, 2\), but this model was built with rows of shape"):
        layer.adapt(X.reshape(20, 3, 2))
    layer.adapt(X.reshape(20, 2, 3))
    np.testing.assert_allclose(layer.shift, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(layer.scale, 1 / X.std(axis=0), rtol=1e-14)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), "weight has 3 rows, but X has 20"),
        (np.full(20, np.nan), "Input weight contains NaN"),
        (np.full(20, -1.0), "weight has value -1, expected weights >= 0"),
    ],
)
def test_adapt_refuses_weights_that_a_fit_refuses(weight, message):
    layer = Sequential([model_layer := nn.Normalize(), nn.Dense(1)]).build(6, seed=0).layers[0]
    assert layer is model_layer
    with pytest.raises(ValueError, match=f"^{message}"):
        layer.adapt(X, None, weight)
    assert not layer.adapted


# Data for another loss or dtype ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["poisson", "binary_cross_entropy"])
@pytest.mark.parametrize("use", ["fit", "validation", "evaluate"])
def test_targets_of_data_are_checked_for_another_loss(loss, use):
    y = [-5.0, *[0.5] * 19]
    data = Sequential([nn.Dense(1)]).checked(X, y, None, "mse")
    trainer = Trainer(Sequential([nn.Dense(1)]).build(6, seed=0), loss)
    trainer.model.loss = nn.LOSSES[loss]
    calls = {
        "fit": lambda: trainer.fit(data, verbose=False),
        "validation": lambda: trainer.fit(X, np.full(20, 0.5), validation=data, verbose=False),
        "evaluate": lambda: trainer.model.evaluate(data),
    }
    with pytest.raises(ValueError, match="y has value -5, expected values in"):
        calls[use]()
    assert trainer.model.state.step == 0


def test_data_for_a_loss_that_takes_their_targets_are_taken():
    y = np.linspace(0.1, 0.9, 20)
    data = Sequential([nn.Dense(1)]).checked(X, y, None, "mse")
    here, there = (Trainer(Sequential([nn.Dense(1)]), "poisson", seed=0) for _ in range(2))
    here.fit(data, epochs=2, verbose=False)
    there.fit(X, y, epochs=2, verbose=False)
    np.testing.assert_array_equal(here.model.layers[0].weight, there.model.layers[0].weight)


@pytest.mark.parametrize("form", ["array", "sparse"])
def test_values_of_data_are_checked_for_another_dtype(form):
    x = poisoned(1e300)
    if form == "sparse":
        x = pytest.importorskip("scipy.sparse").csr_array(x)
    wide = Sequential([nn.Dense(2)], dtype="float64")
    data = wide.checked(x, [0, 1] * 10, None, "cross_entropy")
    trainer = Trainer(Sequential([nn.Dense(2)]).build(6, seed=0), "cross_entropy")
    trainer.model.loss = nn.LOSSES["cross_entropy"]
    for call in (trainer.fit, trainer.model.predict, trainer.model.evaluate):
        with pytest.raises(ValueError, match=r"^Input X contains 1e[+]300, a value too large for float32"):
            call(data)
    assert trainer.model.state.step == 0
    assert np.isfinite(wide.build(6, seed=0).predict(data)).all()


def test_weights_of_data_come_in_the_dtype_of_the_model():
    y, weight = [0, 1] * 10, np.linspace(0.1, 2.0, 20)
    data = Sequential([nn.Dense(2)], dtype="float64").checked(X, y, weight, "cross_entropy")
    here, there = (Trainer(Sequential([nn.Dense(2)]), "cross_entropy", seed=0) for _ in range(2))
    here.fit(data, epochs=2, verbose=False)
    there.fit(X, y, sample_weight=weight, epochs=2, verbose=False)
    np.testing.assert_array_equal(here.model.layers[0].weight, there.model.layers[0].weight)
    data = Sequential([nn.Dense(2)], dtype="float64").checked(X, y, weight * 1e-300, "cross_entropy")
    with pytest.raises(ValueError, match=r"^sample_weight is all zero in float32"):
        here.fit(data, verbose=False)


def test_the_repr_of_data_says_what_they_are():
    data = Sequential([nn.Dense(1)]).checked(X, Y, np.ones(20), "mse")
    assert repr(data) == "Data(20 rows of shape (6,) of float64, y (20, 1) of float32, weights of float32)"
    assert repr(Sequential([nn.Dense(1)]).features(X)) == "Features(20 rows of shape (6,) of float64)"


# Rows that still have positions ------------------------------------------------------------------------------------


def test_answers_need_one_row_of_outputs():
    model = Sequential([nn.Dense(3)]).build((2, 4), seed=0)
    model.loss = nn.LOSSES["cross_entropy"]
    z = features(5, 8).reshape(5, 2, 4)
    assert model.predict(z).shape == (5, 2, 3)
    for call in (model.predict_proba, model.predict_class, lambda z: model.evaluate(z, [0] * 5)):
        with pytest.raises(ValueError, match=r"^the model makes rows of shape \(2, 3\), expected .*end with Flatten"):
            call(z)


@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)])
def test_a_bad_value_is_named_by_its_position(shape):
    x = np.ones((5, *shape))
    x[3, -1, ..., 1] = np.nan
    where = np.argwhere(np.isnan(x))[0].tolist()[1:]
    with pytest.raises(ValueError, match=rf"NaN, first at row 3, position \({', '.join(map(str, where))}\)$"):
        Sequential([nn.Dense(3)]).features(x)
