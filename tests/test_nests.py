"""Layers within layers: where errors say that something is wrong, and what becomes of a copy, how they are shown."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from common import LAYERS, features, make_layer, parameters, stir

import fastnn
from fastnn import Sequential, Trainer, nn

X = features(9, 4)

# Errors say where --------------------------------------------------------------------------------------------------


def nest(wrong: nn.Layer) -> nn.Residual:
    """The layer two levels down, behind a Dense of 4 units each."""
    return nn.Residual([nn.Scale(), nn.Residual([nn.Dense(4), wrong])])


WRONG = {
    "a layer": (lambda: [nn.Dense(5), nn.Maxout(2)], r"layers\[1\] \(Maxout\): pieces is 2, expected a divisor"),
    "an activation": (lambda: [nn.Activation(nn.Maxout(3))], r"layers\[0\] \(Activation\): pieces is 3"),
    "the tenth": (
        lambda: [*(nn.Scale() for _ in range(10)), nn.Maxout(3)],  # layers[1] begins like it
        r"layers\[10\] \(Maxout\): pieces is 3",
    ),
    "within a Residual": (
        lambda: [nn.Scale(), nn.Residual([nn.Dense(6), nn.Dense(4), nn.Reshape((3, 5))])],
        r"layers\[1\]\.layers\[2\] \(Reshape\): shape is \(3, 5\), expected sizes for the 4 values",
    ),
    "two levels down": (
        lambda: [nn.Scale(), nest(nn.Maxout(3))],
        r"layers\[1\]\.layers\[1\]\.layers\[1\] \(Maxout\): pieces is 3",
    ),
    "in a shortcut": (
        lambda: [nn.Residual([nn.Dense(4)], shortcut=[nn.Dense(4), nn.Maxout(3)])],
        r"layers\[0\]\.shortcut\[1\] \(Maxout\): pieces is 3",
    ),
    "a sum": (
        lambda: [nn.Scale(), nn.Residual([nn.Dense(5)])],
        r"layers\[1\] \(Residual\): layers make rows of shape \(5,\), to which rows of shape \(4,\) are added, "
        r"expected one shape: shortcut=\[Dense\(5\)\] would make it$",
    ),
    "a sum two levels down": (
        lambda: [nest(nn.Residual([nn.Dense(5)], shortcut=[nn.Dense(3)]))],
        r"layers\[0\]\.layers\[1\]\.layers\[1\] \(Residual\): layers make .* \(5,\), .* \(3,\) are added, .*one shape$",
    ),
}


@pytest.mark.parametrize(("layers", "message"), WRONG.values(), ids=WRONG)
def test_rows_that_a_layer_cannot_take(layers, message):
    model = Sequential(layers())
    with pytest.raises(ValueError, match=f"^{message}"):
        model.build(4)
    with pytest.raises(ValueError, match=f"^{message}"):
        Trainer(model, "mse").fit([[0.0] * 4] * 2, [0.0] * 2, verbose=False)
    assert not model.built


IN_USE = {
    "twice": (lambda layer: [nn.Residual([layer], shortcut=[nn.Scale(), layer])], r"layers\[0\]\.shortcut\[1\]"),
    "in an activation": (
        lambda layer: [nn.Dense(4, layer), nn.Residual([nn.Dense(4, layer)])],
        r"layers\[1\]\.layers\[0\]\.activation",
    ),
}


@pytest.mark.parametrize(("layers", "path"), IN_USE.values(), ids=IN_USE)
def test_a_layer_that_is_there_twice(layers, path):
    with pytest.raises(ValueError, match=rf"^{path} is PReLU\(\), which is in use already"):
        Sequential(layers(nn.PReLU()))


def test_a_layer_of_another_model():
    layer = nn.PReLU()
    model = Sequential([layer])
    with pytest.raises(
        ValueError, match=r"^layers\[0\]\.layers\[1\]\.layers\[1\] is PReLU\(\), which is in use already"
    ):
        Sequential([nest(layer)])
    assert model.layers == (layer,)


REFUSED = {
    "no list": (lambda: nn.Residual(nn.Dense(2)), TypeError, r"layers of Residual is Dense\(2\), expected a list"),
    "empty": (lambda: nn.Residual([]), ValueError, "layers of Residual is empty"),
    "no layer": (lambda: nn.Residual([nn.Dense(2), "relu"]), TypeError, r"layers\[1\] of Residual is 'relu'"),
    "shortcut": (
        lambda: nn.Residual([nn.Dense(2)], shortcut=[nn.Dense]),
        TypeError,
        r"shortcut\[0\] of Residual is <class",
    ),
    "Normalize": (
        lambda: nn.Residual([nn.Residual([nn.Normalize()])]),
        ValueError,
        r"layers\[0\] of Residual is Normalize\('standard'\), expected it directly on the data",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_residual_does_not_take(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


# Copies ----------------------------------------------------------------------------------------------------------

COPIED = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}
MAKE = {
    **{kind.__name__: lambda kind=kind: make_layer(kind) for kind in LAYERS},
    "Dense with a layer": lambda: nn.Dense(4, nn.PReLU(0.1), l2=0.5),
    "nest": lambda: nest(nn.Dense(4, nn.PReLU(0.1))),
}


@pytest.mark.parametrize("copied", COPIED.values(), ids=COPIED)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_copy_of_a_layer_is_a_new_one(make, copied):
    """With the same settings, unbuilt, in no model, sharing nothing with the first."""
    layer = make()
    model = stir(Sequential([layer], dtype=np.float64).build(4, seed=0))
    if isinstance(layer, nn.Normalize):
        layer.adapt(X)
    before, predicted = parameters(model), model.predict(X)
    new = copied(layer)
    assert type(new) is type(layer) and repr(new) == repr(layer)
    assert all(part.index is None and not part._views for _, part in new.parts())
    assert not any(getattr(new, name) for name in new.KEPT)
    other = Sequential([new], dtype=np.float64).build(4, seed=0)
    for name, view in other.state.views.items():
        view[...] = before[name]
    assert other.state.views.keys() == before.keys()
    np.testing.assert_array_equal(other.predict(X), predicted)
    other.state.parameters[...] = 0.0
    np.testing.assert_array_equal(model.predict(X), predicted)


@pytest.mark.parametrize("copied", COPIED.values(), ids=COPIED)
def test_a_copy_of_a_model_is_built(copied):
    """Its nested layers have their places and views in it, Normalize what it learned."""
    layers = [nn.Normalize(), nest(nn.Dense(4, nn.PReLU())), nn.Dense(1)]
    trainer = Trainer(Sequential(layers, dtype=np.float64), "mse", seed=0)
    trainer.fit(X, X[:, :1], epochs=1, verbose=False)
    model = trainer.model
    new = copied(model)
    assert new.plan == model.plan and [p.where for _, p in walk(new)] == [p.where for _, p in walk(model)]
    assert new.layers[0].adapted
    np.testing.assert_array_equal(new.predict(X), model.predict(X))
    slope = new.layers[1].layers[1].layers[1].activation.slope
    assert np.shares_memory(slope, new.state.parameters) and not np.shares_memory(slope, model.state.parameters)
    for one in (model, new):
        Trainer(one, "mse", seed=0).fit(X, X[:, :1], epochs=1, verbose=False)
    for name, values in parameters(model).items():
        np.testing.assert_array_equal(new.state.views[name], values)


def walk(model):
    return [part for layer in model.layers for part in layer.parts()]


def test_a_copied_normalize_learns_anew():
    """The data of its new model: also where these come as batches, which it cannot learn from by itself."""
    model = Sequential([nn.Normalize(), nn.Dense(1)])
    Trainer(model, "mse", seed=0).fit(X, X[:, 0], epochs=1, verbose=False)
    new = Sequential([copy.deepcopy(model.layers[0]), nn.Dense(1)])
    with pytest.raises(ValueError, match="from which Normalize cannot learn"):
        Trainer(new, "mse", seed=0).fit([(X, X[:, :1])], epochs=1, verbose=False)
    Trainer(new, "mse", seed=0).fit(X + 5.0, X[:, 0], epochs=1, verbose=False)
    np.testing.assert_allclose(new.layers[0].shift, X.mean(axis=0) + 5.0)


def test_a_copy_of_a_model_and_its_layer_keeps_them_together():
    model = Sequential([nn.Dense(2)]).build(4, seed=0)
    new, layer = copy.deepcopy([model, model.layers[0]])
    assert layer is new.layers[0] and layer.weight is new.state.views["0.weight"]


def test_estimators_take_a_layer_of_another_model():
    """Also where scikit-learn clones them, as a search does."""
    base = pytest.importorskip("sklearn.base")
    slope = Sequential([nn.Dense(3, nn.PReLU(0.1))]).build(4, seed=0).layers[0].activation
    made = fastnn.MLPRegressor(hidden_layer_sizes=(3,), activation=slope, max_iter=1, random_state=0, batch_size=3)
    fits = [base.clone(made), made]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is none too many
        first, second = (one.fit(X, X[:, 0]).predict(X) for one in fits)
    np.testing.assert_array_equal(first, second)
    assert fits[1].activation is slope


# Shown -----------------------------------------------------------------------------------------------------------

SUMMARY = """\
layer                         output  parameters
0  Dense(4, PReLU())               4          24
1  Residual                        6         118
   0  Scale()                      4           4
   1  Residual                     6          80
      0  Dense(6)                  6          30
      1  LayerNorm()               6          12
      shortcut 0  BatchNorm()      4           8
      shortcut 1  Dense(6)         6          30
   2  Dropout(0.5)                 6           0
   shortcut 0  Scale()             4           4
   shortcut 1  Dense(6)            6          30
2  Reshape((3, 2))               3x2           0
3  Dense(128)                  3x128         384
total                                        526"""


def test_a_summary_has_a_line_for_each_layer():
    """Of a Residual the parameters of all within it; the total counts nothing twice."""
    inner = nn.Residual([nn.Dense(6), nn.LayerNorm()], shortcut=[nn.BatchNorm(), nn.Dense(6)])
    outer = nn.Residual([nn.Scale(), inner, nn.Dropout(0.5)], shortcut=[nn.Scale(), nn.Dense(6)])
    model = Sequential([nn.Dense(4, nn.PReLU()), outer, nn.Reshape((3, 2)), nn.Dense(128)]).build(4, seed=0)
    assert model.summary() == SUMMARY
    assert model.plan.parameter_count == 526


def test_a_summary_is_as_wide_as_its_shapes():
    model = Sequential([nn.Dense(16)]).build((100, 200, 3), seed=0)
    head, line, total = model.summary().splitlines()
    assert line.split() == ["0", "Dense(16)", "100x200x16", "64"]
    assert len(head) == len(line) == len(total)
