"""Layers of steps: SimpleRNN, GRU, LSTM, Embedding. PyTorch is the oracle where it is installed.

The operations below them are in the registry, so that every test of operations has them, too.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES, OF_STEPS, arguments, build, features, make_layer, parameters, stir

import fastnn
from fastnn import Sequential, Trainer, nn, optim
from fastnn.gradient_check import gradient_check

RECURRENT = [kind for kind in OF_STEPS if kind is not nn.Embedding]
SHAPES = [(1, 1, 1), (2, 3, 5), (7, 9, 16), (20, 4, 17), (5, 70, 33), (3, 2, 70)]  # steps, channels, units
IDS = 11

recurrent = pytest.mark.parametrize("kind", RECURRENT, ids=lambda kind: kind.__name__)
every = pytest.mark.parametrize("kind", OF_STEPS, ids=lambda kind: kind.__name__)
engines = pytest.mark.parametrize("backend", ENGINES)


def steps_for(kind: type, rows: int = 6, steps: int = 5, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 9, (rows, steps)) if kind is nn.Embedding else rng.normal(size=(rows, steps, channels))


def built(kind: type, **settings) -> Sequential:
    """A model of one such layer."""
    x = steps_for(kind)
    return stir(Sequential([kind(*arguments(kind), **settings)], dtype=np.float64).build(x.shape[1:], seed=0))


# Beside PyTorch ---------------------------------------------------------------------------------------------


def module_of(torch, layer: nn.Layer):
    """The module of PyTorch with the layer's values. fastnn has one bias where two would be added to one sum."""
    if isinstance(layer, nn.Embedding):
        module = torch.nn.Embedding(layer.ids, layer.units, padding_idx=layer.padding_id).double()
        pairs = [(module.weight, layer.weight)]
    else:
        kinds = {nn.SimpleRNN: torch.nn.RNN, nn.GRU: torch.nn.GRU, nn.LSTM: torch.nn.LSTM}
        more = {"nonlinearity": layer.activation} if isinstance(layer, nn.SimpleRNN) else {}
        module = kinds[type(layer)](len(layer.weight), layer.units, batch_first=True, **more).double()
        inner = layer.recurrent_bias if isinstance(layer, nn.GRU) else np.zeros_like(layer.bias)
        pairs = [
            (module.weight_ih_l0, layer.weight.T),
            (module.weight_hh_l0, layer.recurrent_weight.T),
            (module.bias_ih_l0, layer.bias),
            (module.bias_hh_l0, inner),
        ]
        if not isinstance(layer, nn.GRU):
            module.bias_hh_l0.requires_grad_(False)
    with torch.no_grad():
        for tensor, value in pairs:
            tensor.copy_(torch.from_numpy(value.copy()))
    return module


def values_of(layer: nn.Layer, module) -> list[tuple[np.ndarray, object]]:
    """What the layer learns, and the tensors of the module with the same values."""
    if isinstance(layer, nn.Embedding):
        return [(layer.weight, module.weight)]
    made = [(layer.weight.T, module.weight_ih_l0), (layer.recurrent_weight.T, module.weight_hh_l0)]
    made.append((layer.bias, module.bias_ih_l0))
    return [*made, (layer.recurrent_bias, module.bias_hh_l0)] if isinstance(layer, nn.GRU) else made


def through(layers: tuple, modules: list, x):
    for layer, module in zip(layers, modules, strict=True):
        x = module(x)
        if isinstance(x, tuple):
            x = x[0] if layer.return_sequences else x[0][:, -1]
    return x


def close(got: np.ndarray, want, tolerance: float) -> None:
    want = want.detach().numpy()
    assert np.abs(got - want).max() <= tolerance * max(1.0, np.abs(want).max())


def check_beside_pytorch(model: Sequential, x: np.ndarray, backend: str) -> None:
    """Predictions of that layer, perhaps Flatten behind it, and the gradients: what a step of descent takes away."""
    torch = pytest.importorskip("torch")
    layer = model.layers[0]
    module = module_of(torch, layer)
    before, y = parameters(model), features(len(x), model.plan.outputs, seed=1)
    out = through((layer,), [module], torch.from_numpy(x)).reshape(len(x), -1)
    close(model.predict(x, backend=backend), out, 1e-12)
    torch.nn.functional.mse_loss(out, torch.from_numpy(y)).backward()
    trainer = Trainer(model, "mse", optimizer=optim.SGD(1.0), seed=0, backend=backend)
    trainer.fit(x, y, epochs=1, batch_size="full", verbose=False)
    pairs = values_of(layer, module)
    assert len(pairs) == len(before)
    for (name, old), (_, tensor) in zip(before.items(), pairs, strict=True):
        taken = old - model.state.views[name]
        close(taken.T if "weight" in name and not isinstance(layer, nn.Embedding) else taken, tensor.grad, 1e-11)


@engines
@recurrent
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_values_and_gradients_are_those_of_pytorch(shape, kind, backend):
    steps, channels, units = shape
    several = (steps + units) % 2 == 0
    model = build(kind(units, return_sequences=several), *([nn.Flatten()] if several else []), inputs=shape[:2])
    check_beside_pytorch(model, steps_for(kind, 9, steps, channels), backend)


@engines
def test_relu_in_the_place_of_tanh(backend):
    check_beside_pytorch(build(nn.SimpleRNN(17, "relu"), inputs=(6, 5)), steps_for(nn.SimpleRNN, 9, 6, 5), backend)


@engines
@pytest.mark.parametrize("padding", [None, 0, 4])
def test_an_embedding_is_that_of_pytorch(padding, backend):
    """Ids stand several times in a row, in several rows, or nowhere; what is padding is 0 here."""
    model = Sequential([nn.Embedding(IDS, 17, padding), nn.Flatten()], dtype=np.float64).build(13, seed=0)
    check_beside_pytorch(model, np.random.default_rng(0).integers(0, IDS - 2, (40, 13)), backend)


@engines
def test_a_training_is_that_of_pytorch(backend):
    """Adam, batches of 16 and a last one of 8, to 1e-9: ids, two recurrent layers, a dense one."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, IDS, (40, 9)), rng.integers(0, 3, 40)
    layers = [nn.Embedding(IDS, 6), nn.LSTM(7, return_sequences=True), nn.GRU(5), nn.Dense(3)]
    model = stir(Sequential(layers, dtype=np.float64).build(9, seed=0))
    modules = [module_of(torch, layer) for layer in layers[:-1]]
    last = torch.nn.Linear(5, 3).double()
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(layers[-1].weight.T.copy()))
        last.bias.copy_(torch.from_numpy(layers[-1].bias.copy()))
    learned = [tensor for module in [*modules, last] for tensor in module.parameters() if tensor.requires_grad]
    theirs = torch.optim.Adam(learned, lr=0.01, eps=1e-8)
    for _ in range(6):
        for rows in (slice(0, 16), slice(16, 32), slice(32, 40)):
            theirs.zero_grad()
            logits = last(through(layers[:-1], modules, torch.from_numpy(x[rows])))
            torch.nn.functional.cross_entropy(logits, torch.from_numpy(y[rows])).backward()
            theirs.step()
    trainer = Trainer(model, "cross_entropy", optimizer=optim.Adam(0.01, epsilon=1e-8), seed=0, backend=backend)
    trainer.fit(x, y, epochs=6, batch_size=16, shuffle=False, verbose=False)
    for layer, module in zip(layers[:-1], modules, strict=True):
        for view, tensor in values_of(layer, module):
            np.testing.assert_allclose(view, tensor.detach().numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(layers[-1].weight.T, last.weight.detach().numpy(), rtol=0, atol=1e-9)


# Gradients --------------------------------------------------------------------------------------------------

NETS = {
    "SimpleRNN": lambda: [nn.SimpleRNN(5), nn.Dense(2)],
    "GRU": lambda: [nn.GRU(5), nn.Dense(2)],
    "LSTM": lambda: [nn.LSTM(5), nn.Dense(2)],
    "above and below gelu": lambda: [
        nn.Dense(6, "gelu"),
        nn.GRU(5, return_sequences=True),
        nn.Dense(4, "gelu"),
        nn.LSTM(3, return_sequences=True),
        nn.LayerNorm(),
        nn.SimpleRNN(4),
        nn.Dense(2),
    ],
    "around": lambda: [nn.Dense(4), nn.Residual([nn.GRU(4, return_sequences=True)]), nn.Flatten(), nn.Dense(2)],
}


@engines
@pytest.mark.parametrize("name", NETS)
def test_the_gradient_is_right(name, backend):
    model = build(*NETS[name](), inputs=(6, 3))
    x, y = steps_for(nn.GRU, 7, 6, 3), features(7, 2, seed=1)
    assert max(gradient_check(model, x, y, loss="mse", backend=backend).values()) < 1e-6


@engines
def test_the_gradient_of_ids_is_right(backend):
    model = build(nn.Embedding(9, 4, 2), nn.GRU(3), nn.Dense(2), inputs=6)
    x = steps_for(nn.Embedding, 7, 6)
    errors = gradient_check(model, x, features(7, 2, seed=1), loss="mse", backend=backend)
    assert max(errors.values()) < 1e-6


# What they compute ------------------------------------------------------------------------------------------


@recurrent
def test_the_last_step_is_that_of_the_whole_sequence(kind):
    x = steps_for(kind)
    every_step, last = built(kind, return_sequences=True), built(kind)
    assert every_step.plan.output_shape == (5, 4) and last.plan.output_shape == (4,)
    np.testing.assert_array_equal(every_step.predict(x)[:, -1], last.predict(x))


@recurrent
def test_a_step_knows_nothing_of_those_behind_it(kind):
    x = steps_for(kind)
    changed = x.copy()
    changed[:, 3:] += 1.0
    model = built(kind, return_sequences=True)
    before, after = model.predict(x), model.predict(changed)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] != before[:, 3:]).all()


@every
@pytest.mark.skipif(AUTOMATIC != "native", reason="of NumPy's products the number of rows changes bits")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_the_same_bits_in_any_batch_and_in_a_predictor(kind, dtype):
    x = steps_for(kind, 70)
    model = stir(Sequential([make_layer(kind), nn.Flatten(), nn.Dense(2)], dtype=dtype).build(x.shape[1:], seed=0))
    whole, predictor = model.predict(x), model.predictor()
    np.testing.assert_array_equal(model.predict(x[20:21]), whole[20:21])
    np.testing.assert_array_equal(predictor(x), whole)
    np.testing.assert_array_equal(predictor(x[3:8]), whole[3:8])
    np.testing.assert_array_equal(predictor(x[20:21]), whole[20:21])


@every
def test_the_first_parameters(kind):
    layer = Sequential([make_layer(kind)], dtype=np.float64).build(steps_for(kind).shape[1:], seed=0).layers[0]
    if kind is nn.Embedding:
        assert 0.5 < layer.weight.std() < 1.5
        return
    gates = layer.recurrent_weight.reshape(4, -1, 4).transpose(1, 0, 2)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-12)
    forget = np.repeat([0.0, 1.0, 0.0, 0.0], 4) if kind is nn.LSTM else 0.0
    np.testing.assert_array_equal(layer.bias, np.broadcast_to(forget, layer.bias.shape))


def test_what_is_padding_is_zero_and_learns_nothing():
    x = np.array([[1, 2, 2], [2, 0, 1]])
    model = Sequential([nn.Embedding(4, 3, padding_id=2), nn.Flatten(), nn.Dense(1)]).build(3, seed=0)
    table = model.layers[0]
    assert not table.weight[2].any()
    table.weight[2] = 7.0  # whatever stands there
    only = Sequential([nn.Embedding(4, 3, padding_id=2)]).build(3, seed=0)
    only.layers[0].weight[...] = table.weight
    assert not only.predict(x)[0, 1:].any() and only.predict(x)[0, 0].all()
    before = table.weight.copy()
    Trainer(model, "mse", optimizer=optim.Adam(0.1), seed=0).fit(x, [[1.0], [2.0]], epochs=2, verbose=False)
    moved = (table.weight != before).all(axis=1)
    np.testing.assert_array_equal(moved, [True, True, False, False])  # of 3 there is none


def test_a_gru_learns_what_came_first():
    """What the first of twelve steps was, told at the last: nothing in between says it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 12, 2)).astype(np.float32)
    y = (x[:, 0, 0] > 0).astype(int)
    model = Sequential([nn.GRU(16), nn.Dense(2)])
    Trainer(model, "cross_entropy", optimizer=optim.Adam(0.02), seed=0).fit(x, y, epochs=25, verbose=False)
    assert (model.predict_class(x) == y).mean() > 0.95


# Settings, files, copies ------------------------------------------------------------------------------------

OTHER = {
    "return_sequences": True,
    "init": "he_normal",
    "recurrent_init": nn.Uniform(0.1),
    "l1": 1e-3,
    "l2": 0.1,
    "decay": 0.0,
}
SETTINGS = {
    nn.SimpleRNN: {"units": 7, "activation": "relu"} | OTHER,
    nn.GRU: {"units": 7} | OTHER,
    nn.LSTM: {"units": 7} | OTHER,
    nn.Embedding: {"ids": 12, "units": 7, "padding_id": 0, "init": 0.5, "l1": 1e-3, "l2": 0.1, "decay": 0.0},
}


@every
def test_layers_come_back_from_repr_files_and_copies(kind, tmp_path):
    layer = kind(**SETTINGS[kind])
    assert layer.arguments().keys() == SETTINGS[kind].keys()
    for again in (eval(repr(layer), dict(vars(nn))), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert again.arguments() == layer.arguments()
    x = steps_for(kind)
    model = stir(Sequential([layer], dtype=np.float64).build(x.shape[1:], seed=0))
    model.save(tmp_path / "model")
    again = fastnn.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.layers[0].arguments() == layer.arguments()
    assert repr(layer) in model.summary()


@every
def test_penalties_are_of_the_weights(kind):
    model = built(kind, l2=0.5)
    penalties = {tensor.name: tensor.penalty.l2 for tensor in model.plan.tensors}
    assert all(penalty == (0.5 if "weight" in name else 0.0) for name, penalty in penalties.items())


@every
@pytest.mark.parametrize(
    "name", ["units", "ids", "padding_id", "init", "recurrent_init", "l1", "l2", "decay", "activation"]
)
def test_what_is_out_of_range_is_named(name, kind):
    given = SETTINGS[kind]
    if name not in given:
        pytest.skip("has no such argument")
    for wrong in (-1 if name not in ("init", "recurrent_init") else np.nan, "3"):
        with pytest.raises((ValueError, TypeError), match=rf"^{name} is .*, expected"):
            kind(**given | {name: wrong})
    if name == "padding_id":
        with pytest.raises(ValueError, match="padding_id is 12, expected one of the ids, 0 to 11"):
            kind(**given | {name: 12})


@recurrent
@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_rows_without_steps_are_refused(shape, kind):
    with pytest.raises(
        ValueError, match=rf"layers\[0\] \({kind.__name__}\): takes rows of shape \(steps, channels\), .*"
    ):
        Sequential([kind(4)]).build(shape)


def test_rows_of_ids_are_of_steps_alone():
    with pytest.raises(ValueError, match=r"layers\[0\] \(Embedding\): takes rows of shape \(steps,\), .*\(3, 4\)"):
        Sequential([nn.Embedding(9, 4)]).build((3, 4))


@pytest.mark.parametrize(
    "layers",
    [lambda: [nn.Dense(3), nn.Embedding(9, 4)], lambda: [nn.Residual([nn.Embedding(9, 4)])]],
)
def test_an_embedding_is_directly_on_the_data(layers):
    with pytest.raises(ValueError, match="expected it directly on the data"):
        Sequential(layers())
    Sequential([nn.Flatten(), nn.Embedding(9, 4)]).build(3)


@pytest.mark.parametrize("wrong", [-1, 9, 2.5])
@engines
def test_what_is_no_id_is_named(wrong, backend):
    model = build(nn.Embedding(9, 4), nn.Flatten(), nn.Dense(1), inputs=5)
    x = np.zeros((6, 5), type(wrong))
    x[4, 3] = wrong
    expected = "at row 4, column 3.* expected an id"
    with pytest.raises(ValueError, match=expected):
        model.predict(x, backend=backend)
    with pytest.raises(ValueError, match=expected):
        Trainer(model, "mse", seed=0, backend=backend).fit(x, np.zeros((6, 1)), verbose=False)
    with pytest.raises(ValueError, match=expected):
        model.predictor()(x)


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.int64, np.uint32, np.float32, np.float64])
def test_ids_of_any_dtype(stored):
    x = steps_for(nn.Embedding, 8)
    model = built(nn.Embedding)
    np.testing.assert_array_equal(model.predict(x.astype(stored)), model.predict(x))


def test_more_ids_than_float32_tells_apart():
    with pytest.raises(ValueError, match=r"ids of layers\[0\] \(Embedding\) is 16777217, expected at most 16777216"):
        Sequential([nn.Embedding(2**24 + 1, 1)]).build(3)


# Elsewhere --------------------------------------------------------------------------------------------------


@every
def test_exporters_say_what_they_do_not_write(kind, tmp_path):
    pytest.importorskip("onnx")
    model = Sequential([make_layer(kind), nn.Flatten(), nn.Dense(1)]).build(steps_for(kind).shape[1:], seed=0)
    named = {nn.SimpleRNN: "rnn", nn.GRU: "gru", nn.LSTM: "lstm", nn.Embedding: "ids"}[kind]
    with pytest.raises(ValueError, match=f"operation {named} cannot be written as ONNX: "):
        model.to_onnx(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=named):
        model.to_c(tmp_path / "model.c")


@recurrent
def test_the_bridge_to_pytorch_says_what_it_has_no_module_for(kind):
    bridge = pytest.importorskip("fastnn.torch", exc_type=ImportError)
    for several in (False, True):
        with pytest.raises(TypeError, match=rf"layers\[0\] is {kind.__name__}\(4.*returns a pair"):
            bridge.to_torch(built(kind, return_sequences=several))


@engines
@recurrent
def test_large_values_are_those_of_float64(kind, backend):
    """What the gates take overflows no exp: they are open or shut."""
    x = steps_for(kind) * np.array([1.0, 1e20, 1e-20])
    exact = built(kind, return_sequences=True)
    model = Sequential([kind(4, return_sequences=True)], dtype=np.float32).build(x.shape[1:], seed=0)
    for name, view in exact.state.views.items():
        model.state.views[name][...] = view
    want = exact.predict(x, backend="numpy")
    np.testing.assert_allclose(model.predict(x.astype(np.float32), backend=backend), want, rtol=0, atol=1e-5)
