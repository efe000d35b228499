"""Layers: shapes, settings, what they compute in inference, and what they refuse."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import re
from functools import partial

import numpy as np
import pytest
from common import BACKENDS, LAYERS, TIMELESS, arguments, build, features, make_layer, parameters, row_shape, stir

from fastnn import NotFittedError, Sequential, Trainer, nn, optim
from fastnn.formulas import activations, initializers

X = features(9, 4)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


COMPUTE = {  # in inference, written out for a built layer
    nn.Dense: lambda l, x: x @ l.weight + l.bias,
    nn.Activation: lambda l, x: np.tanh(x),
    nn.Softmax: lambda l, x: softmax(x),
    nn.Maxout: lambda l, x: np.maximum(x[:, 0::2], x[:, 1::2]),
    nn.PReLU: lambda l, x: np.where(x > 0, x, l.slope * x),
    nn.RReLU: lambda l, x: np.where(x > 0, x, 11 / 48 * x),
    nn.Dropout: lambda l, x: x,
    nn.BatchNorm: lambda l, x: l.gamma * (x - l.running_mean) / np.sqrt(l.running_var + 1e-5) + l.beta,
    nn.LayerNorm: lambda l, x: (
        l.gamma * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) + l.beta
    ),
    nn.RMSNorm: lambda l, x: l.gamma * x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5),
    nn.Scale: lambda l, x: l.factor * x,
    nn.Ordered: lambda l, x: np.cumsum(np.hstack([x[:, :1], np.log1p(np.exp(x[:, 1:]))]), axis=1),
    nn.Residual: lambda l, x: np.tanh(l.layers[0].factor * x) + x,
    nn.Flatten: lambda l, x: x,
    nn.Reshape: lambda l, x: x.reshape(-1, 2, 2),
    nn.Normalize: lambda l, x: (x - l.shift) * l.scale,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_computes(kind, backend):
    model = build(make_layer(kind), inputs=4)
    rng = np.random.default_rng(5)
    for view in model.state.views.values():
        view[...] = rng.uniform(0.5, 2.0, view.shape)
    assert kind in COMPUTE, f"COMPUTE does not say what {kind.__name__} computes"
    expected = COMPUTE[kind](model.layers[0], X)
    np.testing.assert_allclose(model.predict(X, backend=backend), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes_and_dtype(kind, dtype):
    model = Sequential([make_layer(kind)], dtype=dtype).build(4, seed=0)
    for rows in (1, 3):
        a = model.predict(X[:rows])
        assert a.shape == (rows, *model.plan.output_shape)
        assert a.dtype == dtype
    assert model.plan.outputs == (2 if kind is nn.Maxout else 4)


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_repr_names_the_layer(kind):
    assert repr(make_layer(kind)).startswith(f"{kind.__name__}(")
    named = make_layer(kind).layers[0] if kind is nn.Residual else make_layer(kind)  # which has lines of its own
    assert repr(named) in Sequential([make_layer(kind)]).build(4, seed=0).summary()


OTHER = {  # every argument of every layer, away from its default
    nn.Dense: {"units": 7, "activation": "elu", "init": "he_uniform", "bias": False, "l1": 1e-9, "l2": 0.1, "decay": 0},
    nn.Activation: {"activation": "gelu"},
    nn.Softmax: {},
    nn.Ordered: {"targets": 2},
    nn.Maxout: {"pieces": 5},
    nn.PReLU: {"init": 0.1 + 0.2},
    nn.RReLU: {"lower": 0.1, "upper": 1 / 7},
    nn.Dropout: {"rate": 0.9999999999},
    nn.BatchNorm: {"momentum": 0.5, "epsilon": 1e-7},
    nn.LayerNorm: {"epsilon": 1.23456789e-7},
    nn.RMSNorm: {"epsilon": 1e-6},
    nn.Scale: {"init": 1 / 3},
    nn.Residual: {"layers": [nn.Dense(4, nn.PReLU())], "shortcut": [nn.Scale(), nn.Dense(4)]},
    nn.Flatten: {},
    nn.Reshape: {"shape": (2, -1, 1)},
    nn.Conv1D: {
        "filters": 6,
        "kernel": 2,
        "stride": 2,
        "padding": (2, 1),
        "dilation": 3,
        "groups": 2,
        "activation": "elu",
        "init": "he_uniform",
        "bias": False,
        "l1": 1e-9,
        "l2": 0.1,
        "decay": 0,
    },
    nn.Conv2D: {
        "filters": 6,
        "kernel": [1, 2],
        "stride": (1, 3),
        "padding": [[1, 0], (0, 3)],
        "dilation": (2, 1),
        "groups": 3,
        "activation": nn.PReLU(),
        "init": nn.Normal(0.1),
        "bias": False,
        "l1": 0.5,
        "l2": 0.1,
        "decay": 0,
    },
    nn.MaxPool1D: {"size": 3, "stride": 1, "padding": (0, 1)},
    nn.MaxPool2D: {"size": (2, 3), "stride": 3, "padding": 1},
    nn.AvgPool1D: {"size": 4, "stride": 1, "padding": "same"},
    nn.AvgPool2D: {"size": 2, "stride": [2, 1], "padding": ((0, 0), (0, 1))},
    nn.GlobalMaxPool: {},
    nn.GlobalAvgPool: {},
    nn.ZeroPad: {"padding": ((1, 2), (0, 3))},
    nn.Upsample: {"factor": (1, 2)},
    nn.Normalize: {"mode": "minmax", "per_feature": False},
}


def contents(layer):
    """What a layer was made with, and its parts' likewise."""
    if isinstance(layer, (list, tuple)):
        return [contents(each) for each in layer]
    if not isinstance(layer, nn.Layer):
        return layer
    return type(layer), {key: contents(value) for key, value in vars(layer).items() if key != "_model"}


def required(kind):
    """The arguments that it needs, by name."""
    return dict(zip(inspect.signature(kind).parameters, arguments(kind), strict=False))


def remade(layer):
    return eval(repr(layer), dict(vars(nn)))


@pytest.mark.parametrize("kind", TIMELESS, ids=lambda kind: kind.__name__)
def test_every_argument_of_every_layer_is_tried(kind):
    assert set(inspect.signature(kind).parameters) == set(OTHER.get(kind, ())), f"OTHER lacks some of {kind.__name__}"


@pytest.mark.parametrize("kind", TIMELESS)
def test_repr_makes_the_same_layer(kind):
    """With the defaults, with one other argument, with all."""
    plain = make_layer(kind)
    assert contents(remade(plain)) == contents(plain)
    for name, value in OTHER[kind].items():
        layer = kind(**required(kind) | {name: value})
        assert contents(remade(layer)) == contents(layer) != contents(plain)
        assert repr(layer) != repr(plain)
    everything = kind(**OTHER[kind])
    assert contents(remade(everything)) == contents(everything)


@pytest.mark.parametrize("activation", [*nn.ACTIVATIONS.values(), *activations.ROW_ACTIVATIONS], ids=str)
@pytest.mark.parametrize("kind", [nn.Dense, nn.Activation])
def test_repr_makes_the_same_activation(kind, activation):
    before = (4,) if kind is nn.Dense else ()
    layer = kind(*before, activation)
    assert contents(remade(layer)) == contents(layer)
    if isinstance(activation, activations.Activation) and activation.alpha_range != (0.0, 0.0):
        layer = kind(*before, activation.with_alpha(1 / 3))
        assert contents(remade(layer)) == contents(layer)


@pytest.mark.parametrize("init", [*nn.INITIALIZERS, 0.1 + 0.2, nn.Normal(1 / 3), nn.Uniform(2), nn.Orthogonal(0.5)])
def test_repr_makes_the_same_initialiser(init):
    layer = nn.Dense(4, init=init)
    assert contents(remade(layer)) == contents(layer)


def test_repr_of_numpy_numbers():
    layers = [
        nn.Dense(np.int64(3), l2=np.float32(0.5)),
        nn.Dropout(np.float64(0.25)),
        nn.BatchNorm(momentum=np.float32(0.5)),
    ]
    assert [*map(repr, layers)] == ["Dense(3, l2=0.5)", "Dropout(0.25)", "BatchNorm(momentum=0.5)"]


def test_repr_of_a_model_makes_the_same_layers():
    model = Sequential([nn.Normalize(), nn.Dense(4, "relu"), nn.Dropout(0.1), nn.Dense(2)], dtype="float64")
    other = eval(repr(model), dict(vars(nn)) | {"Sequential": Sequential})
    assert repr(other) == repr(model) and other.dtype == model.dtype
    assert [*map(contents, other.layers)] == [*map(contents, model.layers)]


@pytest.mark.parametrize("kind", TIMELESS, ids=lambda kind: kind.__name__)
def test_a_layer_belongs_to_one_place(kind):
    layer = make_layer(kind)
    model = Sequential([layer])
    with pytest.raises(ValueError, match=r"^layers\[0\] is .* in use already"):
        Sequential([layer])
    del model
    other = make_layer(kind)
    with pytest.raises(ValueError, match=r"^layers\[1\] is .* in use already"):
        Sequential([other, other])
    Sequential([other])  # the failed attempt left it free


@pytest.mark.parametrize("inside", [nn.Dense, nn.Activation], ids=lambda kind: kind.__name__)
def test_so_does_a_layer_inside_a_layer(inside):
    def wrap(layer):
        return nn.Dense(4, layer) if inside is nn.Dense else nn.Activation(layer)

    slope = nn.PReLU()
    with pytest.raises(ValueError, match=r"^layers\[1\]\.activation is .* in use already"):
        Sequential([wrap(slope), wrap(slope)])
    model = Sequential([wrap(slope)]).build(4, seed=0)
    with pytest.raises(ValueError, match=r"^layers\[0\]\.activation is .* in use already"):
        Sequential([wrap(slope)])
    with pytest.raises(ValueError, match=r"layers\[0\] .* in use already"):
        Sequential([slope])
    del model
    gc.collect()
    Sequential([slope])


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_a_layer_whose_model_is_gone_begins_anew(kind):
    """In another model, as a layer that never was in one: other rows, no views, nothing that a fit set."""
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.zeros((20, 2))
    layer = make_layer(kind)
    model = Sequential([layer, nn.Flatten(), nn.Dense(2)])
    Trainer(model, "mse", seed=0).fit(x, y, epochs=2, verbose=False)
    del model
    gc.collect()
    again, new = (Sequential([one, nn.Flatten(), nn.Dense(2)]) for one in (layer, make_layer(kind)))
    for name in layer.KEPT:
        assert getattr(layer, name) == layer.KEPT[name]
    for one in (again, new):
        Trainer(one, "mse", seed=1).fit(x[:, :2], y, epochs=2, verbose=False)
    np.testing.assert_array_equal(again.predict(x[:, :2]), new.predict(x[:, :2]))


def test_settings_of_a_layer_whose_model_is_gone_may_change():
    layer = nn.Dense(4)
    model = Sequential([layer])
    with pytest.raises(AttributeError, match="the layer is part of a model"):
        layer.units = 5
    del model
    gc.collect()
    layer.units = 5
    assert Sequential([layer]).build(2, seed=0).predict(np.zeros((1, 2))).shape == (1, 5)


# What cannot be changed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, other in OTHER.items() for name in other])
def test_a_layer_of_a_model_keeps_its_settings(kind, name, built):
    """Setting them would change nothing, or what a file says of the model."""
    layer = make_layer(kind)
    model = Sequential([layer])
    if built:
        model.build(row_shape(kind), seed=0)
    before = contents(layer)
    fixed = (
        rf"^{name} of layers\[0\] \({kind.__name__}\) is .*: expected a new layer|^bias of .* expected values written"
    )
    if name == "bias" and not built:
        fixed = "bias"  # Python's own words for a property
    with pytest.raises(AttributeError, match=fixed):
        setattr(layer, name, OTHER[kind][name])
    assert contents(layer) == before


def test_an_initialiser_may_be_forgotten():
    """A file cannot hold one of the user's own, and a built model needs it no more; but no other one either."""
    layer = nn.Dense(2, init="he_normal")
    models = [Sequential([layer]).build(3, seed=0)]
    with pytest.raises(AttributeError, match=r"^init of layers\[0\] \(Dense\) is .* and stays so"):
        layer.init = nn.Normal(0.1)
    layer.init = None
    assert repr(layer) == "Dense(2)"
    scale = nn.Scale(2.0)
    models.append(Sequential([scale]))
    with pytest.raises(AttributeError, match=r"^init of layers\[0\] \(Scale\) is 2.0 and stays so"):
        scale.init = None


def test_settings_may_change_before_there_is_a_model():
    layer = nn.Dense(2)
    layer.units, layer.activation, layer.l2 = 3, nn.ACTIVATIONS["relu"], 0.5
    model = Sequential([layer]).build(4, seed=0)
    (op,) = model.plan.ops
    assert op.outputs == (3,) and op.activation.name == "relu" and op.tensors["w"].penalty.l2 == 0.5
    assert repr(layer) == "Dense(3, 'relu', l2=0.5)"


def test_a_view_is_written_into():
    model = build(nn.Dense(2, nn.PReLU()))
    layer, before = model.layers[0], parameters(model)
    for owner, role in ((layer, "weight"), (layer, "bias"), (layer.activation, "slope")):
        with pytest.raises(
            AttributeError, match=rf"^{role} of layers\[0\] .* expected values written into it: {role}\["
        ):
            setattr(owner, role, np.zeros_like(getattr(owner, role)))
    layer.weight *= 2.0  # sets it to itself, once it is written into
    np.testing.assert_array_equal(model.state.views["0.weight"], 2.0 * before["0.weight"])
    np.testing.assert_array_equal(model.state.views["0.bias"], before["0.bias"])


def test_a_model_keeps_its_layers_and_once_built_its_dtype():
    model = Sequential([nn.Dense(2)])
    with pytest.raises(AttributeError):
        model.layers = (nn.Dense(3),)
    model.dtype = "float64"
    assert model.build(3, seed=0).predict(features()).dtype == model.dtype == np.float64
    with pytest.raises(ValueError, match=r"^dtype is float32, but the model was built in float64$"):
        model.dtype = np.float32
    with pytest.raises(ValueError, match=r"^dtype is 'int8', expected float32 or float64$"):
        model.dtype = "int8"
    assert model.dtype == np.float64


# Dense ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [2, 3, 5])
def test_maxout_makes_its_own_pieces(pieces):
    model = build(nn.Dense(4, nn.Maxout(pieces)), nn.Dense(1))
    assert model.layers[0].weight.shape == (3, 4 * pieces)
    assert model.layers[0].bias.shape == (4 * pieces,)
    assert model.layers[1].weight.shape == (4, 1)
    z = features() @ model.layers[0].weight + model.layers[0].bias
    a = z.reshape(-1, 4, pieces).max(axis=2)
    expected = a @ model.layers[1].weight + model.layers[1].bias
    np.testing.assert_allclose(model.predict(features()), expected, rtol=1e-10)


def test_maxout_wants_whole_units():
    with pytest.raises(ValueError, match="pieces is 3, expected a divisor of the 4 values"):
        Sequential([nn.Maxout(3)]).build(4)


@pytest.mark.parametrize("optimizer", optim.OPTIMIZERS)
@pytest.mark.parametrize("layers", [(), ("tanh",), ("maxout",)], ids=["last", "tanh", "maxout"])
def test_without_a_bias_it_stays_zero(optimizer, layers):
    first = nn.Dense(4, *layers, bias=False)
    model = Sequential([first, nn.Dense(2)]).build(3, seed=0)
    Trainer(model, "mse", optimizer, seed=0).fit(features(), features(7, 2), epochs=3, batch_size=2, verbose=False)
    np.testing.assert_array_equal(first.bias, 0)
    assert model.layers[1].bias.any()


@pytest.mark.parametrize("name", [*activations.ACTIVATIONS, *activations.ROW_ACTIVATIONS])
def test_default_initialiser_follows_the_activation(name):
    rectifiers = {"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "prelu", "rrelu", "maxout"}
    family = "he_normal" if name in rectifiers else "lecun_normal" if name == "selu" else "glorot_uniform"
    weights = [
        Sequential([nn.Dense(6, name, init=init)]).build(5, seed=3).layers[0].weight.copy() for init in (None, family)
    ]
    np.testing.assert_array_equal(*weights)


# Normalize -----------------------------------------------------------------------------------------------------

DATA = np.random.default_rng(6).normal(3.0, 2.0, size=(5000, 3)) * [1.0, 100.0, 1e-3]


def adapted(layer: nn.Normalize, data: np.ndarray = DATA, dtype=np.float64) -> Sequential:
    model = Sequential([layer, nn.Dense(1)], dtype=dtype)
    Trainer(model, "mse", optim.SGD(0.0), seed=0).fit(data, np.zeros((len(data), 1)), epochs=1, verbose=False)
    return model


def test_normalize_to_mean_0_and_deviation_1():
    layer = nn.Normalize()
    adapted(layer)
    np.testing.assert_allclose(layer.shift, DATA.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.scale, 1 / DATA.std(axis=0), rtol=1e-12)


def test_normalize_to_0_and_1():
    layer = nn.Normalize("minmax")
    adapted(layer)
    z = (DATA - layer.shift) * layer.scale
    np.testing.assert_allclose(z.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.max(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_normalize_all_features_alike(mode):
    layer = nn.Normalize(mode, per_feature=False)
    adapted(layer)
    assert len(np.unique(layer.shift)) == len(np.unique(layer.scale)) == 1
    low, spread = (DATA.mean(), DATA.std()) if mode == "standard" else (DATA.min(), np.ptp(DATA))
    assert layer.shift[0] == pytest.approx(low)
    assert layer.scale[0] == pytest.approx(1 / spread)


@pytest.mark.parametrize("mode", ["standard", "minmax"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e9, 1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_feature_has_scale_1(mode, value, dtype):
    layer = nn.Normalize(mode)
    adapted(layer, np.full((1000, 2), value), dtype)
    np.testing.assert_array_equal(layer.scale, 1)
    np.testing.assert_allclose(layer.shift, value, rtol=1e-6)


def test_large_numbers_keep_their_small_spread():
    """A variance of 1 around 1e6 drowns in float32 unless it is taken in two passes of float64."""
    data = 1e6 + np.random.default_rng(0).normal(size=(20000, 1))
    layer = nn.Normalize()
    adapted(layer, data)
    assert layer.scale[0] == pytest.approx(1 / data.std(), rel=1e-9)


def test_normalize_learns_once():
    layer = nn.Normalize()
    model = adapted(layer)
    before = parameters(model)
    Trainer(model, "mse", optim.SGD(0.0), seed=0).fit(2 * DATA, DATA[:, :1], epochs=1, verbose=False)
    np.testing.assert_array_equal(layer.shift, before["0.shift"])
    model.build(3, seed=0)
    np.testing.assert_array_equal(layer.shift, 0)
    Trainer(model, "mse", optim.SGD(0.0), seed=0).fit(2 * DATA, DATA[:, :1], epochs=1, verbose=False)
    np.testing.assert_allclose(layer.shift, 2 * before["0.shift"], rtol=1e-12)


# Flatten -------------------------------------------------------------------------------------------------------


def test_flatten_reads_rows_in_c_order():
    images = np.random.default_rng(0).normal(size=(5, 2, 3, 4))
    flat = build(nn.Flatten(), nn.Dense(2), inputs=(2, 3, 4))
    np.testing.assert_array_equal(flat.predict(images), flat.predict(images.reshape(5, -1)))
    np.testing.assert_array_equal(flat.predict(np.asfortranarray(images)), flat.predict(images))


LAST, FIRST = (4, 5, 3), (3, 4, 5)  # channels last and first: as many values
SHAPES = r"X has rows of shape \(3, 4, 5\), but this model was built with rows of shape \(4, 5, 3\)"


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("known", ["built", "fitted", "built flat, fitted"])
def test_flatten_keeps_the_shape_of_rows(known, copied):
    model = Sequential([nn.Flatten(), nn.Dense(1)])
    if known != "fitted":
        model.build(LAST if known == "built" else 60, seed=0)
    if known != "built":
        Trainer(model, "mse", seed=0).fit(np.ones((2, *LAST)), [[0.0], [1.0]], epochs=1, verbose=False)
    model = copied(model)
    assert model.row_shape == LAST
    model.loss = nn.LOSSES["mse"]
    for rows in (np.ones((2, *FIRST)), np.ones((2, *FIRST)).tolist()):
        for call in (model.predict, lambda x: model.evaluate(x, [[0.0], [1.0]])):
            with pytest.raises(ValueError, match=f"^{SHAPES}"):
                call(rows)
        before = parameters(model)
        with pytest.raises(ValueError, match=f"^{SHAPES}"):
            Trainer(model, "mse", seed=0).fit(rows, [[0.0], [1.0]], verbose=False)
        for name, kept in parameters(model).items():
            np.testing.assert_array_equal(kept, before[name])
    with pytest.raises(ValueError, match=r"^X has rows of shape \(4, 5, 2\), but .* \(4, 5, 3\)"):
        model.predict(np.ones((2, 4, 5, 2)))
    np.testing.assert_array_equal(model.predict(np.ones((2, *LAST))), model.predict(np.ones((2, 60))))
    Trainer(model, "mse", seed=0).fit(np.ones((2, 60)), [[0.0], [1.0]], epochs=1, verbose=False)
    assert model.row_shape == LAST


def test_flatten_compares_validation_rows_with_the_others():
    model = Sequential([nn.Flatten(), nn.Dense(1)])
    y = [[0.0], [1.0]]
    with pytest.raises(
        ValueError, match=r"^validation X has rows of shape \(3, 4, 5\), but X has rows of shape \(4, 5"
    ):
        Trainer(model, "mse").fit(np.ones((2, *LAST)), y, validation=(np.ones((2, *FIRST)), y), verbose=False)
    assert not model.built and model.row_shape is None


def test_building_anew_forgets_the_shape_of_rows():
    model = build(nn.Flatten(), nn.Dense(2), inputs=LAST)
    assert model.build(60, seed=0).row_shape is None
    np.testing.assert_array_equal(model.predict(np.ones((2, *FIRST))), model.predict(np.ones((2, 60))))
    assert model.row_shape is None  # a prediction decides nothing


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Dense(2), nn.Normalize()], r"layers\[1\] is Normalize\('standard'\), expected it directly on the data"),
        ([nn.Normalize(), nn.Normalize()], r"layers\[1\] is Normalize\('standard'\), expected it directly on the data"),
        ([], "layers is empty, expected at least one layer"),
    ],
)
def test_order_of_layers(layers, message):
    with pytest.raises(ValueError, match=message):
        Sequential(layers)


def test_normalize_may_follow_flatten():
    build(nn.Flatten(), nn.Normalize(), nn.Dense(2), inputs=(2, 2))


@pytest.mark.parametrize("layers", [[nn.Dense(2), "relu"], [nn.Dense], [None]], ids=repr)
def test_what_is_no_layer(layers):
    with pytest.raises(TypeError, match=r"layers\[\d\] is .*, expected a layer of fastnn.nn"):
        Sequential(layers)


@pytest.mark.parametrize("layers", [nn.Dense(2), 3, None], ids=repr)
def test_layers_that_are_no_list(layers):
    with pytest.raises(TypeError, match=r"layers is .*, expected a list of layers"):
        Sequential(layers)


# Settings ------------------------------------------------------------------------------------------------------

OUT_OF_RANGE = [
    (nn.Dense, "units", [0, -1]),
    (nn.Dense, "l1", [-1.0, np.nan, np.inf]),
    (nn.Dense, "l2", [-1.0, np.nan, np.inf]),
    (nn.Dense, "decay", [-1.0, np.nan, np.inf]),
    (nn.Dense, "init", ["he", "", np.nan]),
    (nn.Dense, "activation", ["rleu", "", 3]),
    (nn.Activation, "activation", ["rleu", 3]),
    (nn.Maxout, "pieces", [1, 0, -2]),
    (nn.Ordered, "targets", [0, -1]),
    (nn.PReLU, "init", [np.nan, np.inf]),
    (nn.RReLU, "lower", [-0.1, 0.5, np.nan]),
    (nn.RReLU, "upper", [0.1, np.nan, np.inf]),
    (nn.Dropout, "rate", [-0.1, 1.0, 1.5, np.nan]),
    (nn.BatchNorm, "momentum", [-0.1, 1.0, np.nan]),
    (nn.BatchNorm, "epsilon", [0.0, -1e-5, np.nan]),
    (nn.LayerNorm, "epsilon", [0.0, -1e-5, np.nan]),
    (nn.RMSNorm, "epsilon", [0.0, -1e-5, np.nan]),
    (nn.Scale, "init", [np.nan, np.inf]),
    (nn.Normalize, "mode", ["zscore", None]),
    *(
        (kind, name, [0, -1])
        for kind, names in {
            **dict.fromkeys((nn.Conv1D, nn.Conv2D), ("filters", "kernel", "stride", "dilation", "groups")),
            **dict.fromkeys((nn.MaxPool1D, nn.MaxPool2D, nn.AvgPool1D, nn.AvgPool2D), ("size", "stride")),
            nn.Upsample: ("factor",),
        }.items()
        for name in names
    ),
    *(
        (conv, name, values)
        for conv in (nn.Conv1D, nn.Conv2D)
        for name, values in {
            **{penalty: [-1.0, np.nan, np.inf] for penalty in ("l1", "l2", "decay")},
            "init": ["he"],
            "activation": ["rleu"],
            "padding": ["full", -1, (1, 2, 3)],
        }.items()
    ),
    *((pool, "padding", ["full", -1, 3, (4, 0)]) for pool in (nn.MaxPool1D, nn.MaxPool2D, nn.AvgPool1D, nn.AvgPool2D)),
    (nn.Conv2D, "padding", [((1, 2), 3), ((1,), (2,)), (-1, 0)]),
    (nn.ZeroPad, "padding", ["same", -1, (1, 2, 3)]),
]


def test_every_number_is_tried_out_of_range():
    numbers = {
        (kind, name)
        for kind, values in OTHER.items()
        for name, value in values.items()
        if name == "init" or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }
    lacking = numbers - {(kind, name) for kind, name, _ in OUT_OF_RANGE}
    assert not lacking, f"OUT_OF_RANGE has nothing for {sorted(f'{kind.__name__}.{name}' for kind, name in lacking)}"


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, name, value) for kind, name, values in OUT_OF_RANGE for value in values]
)
def test_out_of_range_names_the_setting(kind, name, value):
    given = required(kind) | {name: value}
    expected = "upper|lower" if kind is nn.RReLU else "init|value" if name == "init" else name
    with pytest.raises(ValueError, match=rf"^({expected}) is .*, expected"):
        kind(**given)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (kind, name, value)
        for kind, name, _ in OUT_OF_RANGE
        if name not in ("init", "activation", "mode", "padding")
        for value in ("3", True, [1], 1j)
    ],
)
def test_not_a_number_names_the_setting(kind, name, value):
    given = required(kind) | {name: value}
    with pytest.raises(TypeError, match=rf"^{name} is .*, expected"):
        kind(**given)


@pytest.mark.parametrize("value", ["no", 0, None], ids=repr)
def test_a_flag_is_true_or_false(value):
    for make in (partial(nn.Dense, 4, bias=value), partial(nn.Normalize, per_feature=value)):
        with pytest.raises(TypeError, match=rf"^(bias|per_feature) is {value!r}, expected True or False$"):
            make()


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((2, 3), (2, 3)),
        ([-1, 3], (-1, 3)),
        (np.array([2, 3]), (2, 3)),
        (np.array([1, 2, 3], np.uint8), (1, 2, 3)),
        (6, (6,)),
        (np.int64(-1), (-1,)),
        (np.array(6), (6,)),
    ],
    ids=repr,
)
def test_sizes_of_a_reshape(given, shape):
    layer = nn.Reshape(given)
    assert layer.shape == shape and all(type(size) is int for size in layer.shape)
    assert contents(remade(layer)) == contents(layer)
    assert Sequential([layer]).build(6, seed=0).plan.output_shape == np.zeros(6).reshape(shape).shape


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((), ValueError),
        ((2, 0), ValueError),
        ((-2, 3), ValueError),
        ((-1, -1), ValueError),
        ((1, 2, 3, 1), ValueError),
        (np.array([]), ValueError),
        ("23", TypeError),
        ((2, None), TypeError),
        ((-1.0, 3), TypeError),
        (np.array([2.0, 3.0]), TypeError),
        (np.array([[2, 3]]), TypeError),
        ((True, 3), TypeError),
        (None, TypeError),
    ],
    ids=repr,
)
def test_what_is_no_shape(given, error):
    wrong = re.escape(f"shape is {given!r}, expected an integer >= 1 or several, three at most, of which one may be -1")
    with pytest.raises(error, match=f"^{wrong}$"):
        nn.Reshape(given)


def test_units_are_whole():
    with pytest.raises(TypeError, match=r"units is 3\.0, expected an integer >= 1"):
        nn.Dense(3.0)
    assert nn.Dense(np.int64(3)).units == 3


@pytest.mark.parametrize("name", nn.ACTIVATIONS)
@pytest.mark.parametrize("alpha", [-0.1, np.nan, np.inf, "0.1", None])
def test_alpha_out_of_range(name, alpha):
    with pytest.raises((ValueError, TypeError), match=rf"alpha of {name} is .*, expected"):
        nn.ACTIVATIONS[name].with_alpha(alpha)


@pytest.mark.parametrize("make", [nn.Huber, nn.CrossEntropy, nn.BinaryCrossEntropy])
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0.1", None, True], ids=repr)
def test_parameter_of_a_loss_out_of_range(make, value):
    name = "delta" if make is nn.Huber else "label_smoothing"
    with pytest.raises((ValueError, TypeError), match=rf"^{name} is .*, expected"):
        make(value)


def test_bounds_of_a_losses_parameter():
    with pytest.raises(ValueError, match=r"delta is 0\.0"):
        nn.Huber(0.0)
    for make in (nn.CrossEntropy, nn.BinaryCrossEntropy):
        with pytest.raises(ValueError, match=r"label_smoothing is 1\.0"):
            make(1.0)
        assert make(0.0).parameter == 0.0


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match=r"activation is 'rleu', expected one of: identity, .*relu, .*maxout"):
        nn.Dense(3, "rleu")
    with pytest.raises(ValueError, match=r"init is 'he', expected a number or one of: zeros, .*he_normal, .*xavier"):
        initializers.get("he")
    with pytest.raises(ValueError, match=r"loss is 'crossentropy', expected one of: mse, .*cross_entropy"):
        Trainer(Sequential([nn.Dense(2)]), "crossentropy")


@pytest.mark.parametrize("value", [np.float16, np.int32, "float128x", object, None], ids=repr)
def test_dtype_of_a_model(value):
    with pytest.raises(ValueError, match=r"dtype is .*, expected float32 or float64"):
        Sequential([nn.Dense(2)], dtype=value)


def test_big_endian_dtype_becomes_native():
    assert Sequential([nn.Dense(2)], dtype=">f4").dtype.isnative


@pytest.mark.parametrize(
    ("inputs", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("3", TypeError), ((2, 0), ValueError)]
)
def test_inputs_of_a_model(inputs, error):
    model = Sequential([nn.Dense(2)])
    with pytest.raises(error, match=r"inputs is .*, expected an integer >= 1"):
        model.build(inputs)
    assert not model.built


@pytest.mark.parametrize("inputs", [(2, 3), [2, 3], np.array([2, 3])], ids=repr)
def test_inputs_of_several_sizes(inputs):
    assert Sequential([nn.Dense(2)]).build(inputs, seed=0).plan.input_shape == (2, 3)


# The model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.predict(X),
        lambda model: model.predict_class(X),
        lambda model: model.predict_proba(X),
        lambda model: model.evaluate(X, [0] * 9),
        lambda model: model.summary(),
        lambda model: model.plan,
        lambda model: model.state,
    ],
    ids=["predict", "predict_class", "predict_proba", "evaluate", "summary", "plan", "state"],
)
def test_an_unbuilt_model_says_so(use):
    with pytest.raises(NotFittedError, match=r"this model (is not built|has no loss) yet"):
        use(Sequential([nn.Dense(2)]))


def test_probabilities_and_classes():
    model = build(nn.Dense(3), inputs=4)
    model.loss = nn.LOSSES["cross_entropy"]
    np.testing.assert_allclose(model.predict_proba(X), softmax(model.predict(X)), rtol=1e-12)
    np.testing.assert_array_equal(model.predict_class(X), model.predict(X).argmax(axis=1))
    model.loss = nn.LOSSES["hinge"]
    np.testing.assert_array_equal(model.predict_class(X), model.predict(X).argmax(axis=1))
    with pytest.raises(ValueError, match="trained with hinge, expected a cross-entropy"):
        model.predict_proba(X)


@pytest.mark.parametrize("end", [None, "sigmoid"])
def test_probabilities_of_a_sigmoid(end):
    """One output becomes the two columns 1 - p and p; several are labels of their own."""
    single, several = build(nn.Dense(1, end), inputs=4), build(nn.Dense(3, end), inputs=4)
    for model in (single, several):
        model.loss = nn.LOSSES["binary_cross_entropy"]
    z = X @ single.layers[0].weight + single.layers[0].bias
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(single.predict_proba(X), np.hstack([1 - p, p]), rtol=1e-10)
    np.testing.assert_array_equal(single.predict_class(X), (z[:, 0] > 0).astype(int))
    assert several.predict_proba(X).shape == (9, 3)
    assert set(np.unique(several.predict_class(X))) <= {0, 1}
    assert several.predict_class(X).shape == (9, 3)


def test_stir_reaches_every_parameter():
    """The helper the other tests lean on."""
    model = Sequential([nn.Dense(3, "prelu"), nn.BatchNorm()]).build(3, seed=0)
    before = parameters(model)
    stir(model)
    for tensor in model.plan.tensors:
        assert (model.state.views[tensor.name] != before[tensor.name]).any() == tensor.trainable
