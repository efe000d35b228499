"""Model files: every layer comes back with its bits; damage, and headers that say what cannot be, are refused."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
from common import ENGINES, EVERY_LAYER, LAYERS, WINDOWED, behind, build, features, make_layer, parameters
from file_drafts import set_in_header

import fastnn
from fastnn import Sequential, Trainer, files, nn, optim
from fastnn.errors import ModelFormatError
from fastnn.formulas.initializers import Initializer, VarianceScaling
from fastnn.nn import serialize

ROWS = nn.Softmax, nn.Maxout, nn.PReLU, nn.RReLU
EVEN = nn.Maxout, nn.Reshape  # which do not take rows of 3 values
CASES = {
    **{kind.__name__: lambda kind=kind: [make_layer(kind), nn.Dense(2)] for kind in LAYERS if kind not in EVEN},
    **{
        kind.__name__: lambda kind=kind: [nn.Dense(4), *behind(kind), make_layer(kind), nn.Flatten(), nn.Dense(2)]
        for kind in WINDOWED
    },
    "maxout": lambda: [nn.Dense(6), nn.Maxout(3), nn.Dense(2)],
    "Reshape": lambda: [nn.Dense(4), nn.Reshape((-1, 2)), nn.Dense(2)],
    **{f"Dense({name})": lambda name=name: [nn.Dense(4, name), nn.Dense(2)] for name in nn.ACTIVATIONS},
    **{f"Dense({kind.__name__})": lambda kind=kind: [nn.Dense(4, kind()), nn.Dense(2)] for kind in ROWS},
    **{f"Activation({kind.__name__})": lambda kind=kind: [nn.Dense(4), nn.Activation(kind())] for kind in ROWS},
    **{f"init {name}": lambda name=name: [nn.Dense(2, init=name)] for name in nn.INITIALIZERS},
    "settings": lambda: [
        nn.Flatten(),
        nn.Normalize("minmax", per_feature=False),
        nn.Dense(5, nn.ACTIVATIONS["leaky_relu"].with_alpha(0.3), bias=False, l1=0.1, l2=0.0, decay=1e-3),
        nn.BatchNorm(momentum=0.5, epsilon=1e-3),
        nn.Dropout(0.25),
        nn.Dense(4, nn.Maxout(4), init=nn.Constant(np.float32(0.1))),
        nn.Dense(4, nn.PReLU(0.1), init=nn.Orthogonal(0.5)),
        nn.Dense(4, nn.RReLU(0.1, 0.2), init=VarianceScaling(3, "average", uniform=True)),
        nn.LayerNorm(epsilon=1e-4),
        nn.Activation(nn.ACTIVATIONS["elu"].with_alpha(2)),
        nn.Dense(3, init=1),
    ],
}


def round_trip(model: Sequential, path, **arguments) -> Sequential:
    model.save(path, **arguments)
    return fastnn.load(path)


def same(a: Sequential, b: Sequential) -> bool:
    """Plan, layers and every bit of the state; an initialiser is compared by what it says."""
    settings = [[serialize.to_config(layer) for layer in model.layers] for model in (a, b)]
    assert settings[0] == settings[1]
    assert a.plan == b.plan and a.dtype == b.dtype
    return all(view.tobytes() == b.state.views[name].tobytes() for name, view in a.state.views.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_every_layer_comes_back(make, dtype, tmp_path):
    model = build(*make(), dtype=dtype)
    for layer in model.layers:
        if isinstance(layer, nn.Normalize):
            layer.adapt(features(20) * 5 + 1)
    again = round_trip(model, tmp_path / "m")
    assert same(model, again)
    assert [getattr(layer, "adapted", None) for layer in again.layers] == [
        getattr(layer, "adapted", None) for layer in model.layers
    ]
    for backend in ENGINES:
        expected = model.predict(features(9), backend=backend)
        assert again.predict(features(9), backend=backend).tobytes() == expected.tobytes()


def test_every_layer_and_initialiser_has_a_case():
    """A layer that is added later is in `nn`, and by that in LAYERS; the table of serialize finds it itself."""
    assert set(serialize.LAYERS) == {kind.__name__ for kind in EVERY_LAYER}
    assert {type(init).__name__ for init in nn.INITIALIZERS.values()} < set(serialize.INITIALIZERS)


def test_what_a_fit_leaves_comes_back_and_learns_on(tmp_path):
    """After the loading, training on equals that of a copy whose optimizer begins anew: Normalize does not adapt."""
    x, y = features(40) * 3 + 2, np.arange(40) % 2
    model = Sequential([nn.Normalize(), nn.Dense(6, "tanh"), nn.BatchNorm(), nn.Dense(2)])
    Trainer(model, nn.CrossEntropy(0.1), optim.SGD(0.1), seed=0).fit(x, y, epochs=2, verbose=False)
    again = round_trip(model, tmp_path / "m")
    assert same(model, again)
    assert again.loss == model.loss and again.loss.parameter == 0.1
    for one in (model, again):
        Trainer(one, nn.CrossEntropy(0.1), optim.SGD(0.1), seed=3).fit(x - 1, y, epochs=2, verbose=False)
    assert parameters(model).keys() == parameters(again).keys()
    assert same(model, again)


@pytest.mark.parametrize("loss", [*nn.LOSSES.values(), nn.Huber(0.5), nn.BinaryCrossEntropy(0.2)], ids=str)
def test_losses_come_back(loss, tmp_path):
    model = build(nn.Dense(2))
    model.loss = loss
    assert round_trip(model, tmp_path / "m").loss == loss


def test_the_shape_of_rows_comes_back(tmp_path):
    model = Sequential([nn.Flatten(), nn.Dense(2)]).build((3, 4), seed=0)
    again = round_trip(model, tmp_path / "m")
    assert again.row_shape == (3, 4)
    with pytest.raises(ValueError, match=r"X has rows of shape \(4, 3\)"):
        again.predict(np.zeros((1, 4, 3)))


def test_names_metadata_and_what_is_not_built(tmp_path):
    pandas = pytest.importorskip("pandas")
    model = Sequential([nn.Dense(1)])
    assert round_trip(model, tmp_path / "m").built is False
    frame = pandas.DataFrame(features(8), columns=["α", "b", "c"])
    Trainer(model, "mse", seed=0).fit(frame, np.arange(8.0), epochs=1, verbose=False)
    model.metadata = {"classes": ["a", 1, None, 2.5, True], "nested": {"x": [[]]}}
    again = round_trip(model, tmp_path / "m")
    assert again.feature_names == ["α", "b", "c"] and again.metadata == model.metadata
    assert round_trip(again, tmp_path / "m", metadata={}).metadata == {}
    with pytest.raises(ValueError, match="column 'b' at position 0"):
        again.predict(frame[["b", "α", "c"]])
    assert pickle.loads(pickle.dumps(again)).metadata == model.metadata


# What is refused before anything is written ----------------------------------------------------------------


@dataclass(frozen=True)
class Ones(Initializer):
    def draw(self, rng, shape, fan_in, fan_out):
        return np.ones(shape)


class MyDense(nn.Dense):
    pass


def of_loss(loss) -> Sequential:
    model = build(nn.Dense(2))
    model.loss = loss
    return model


def softmax_of_one() -> Sequential:
    model = build(nn.Dense(1))
    model.loss = "cross_entropy"
    return model


def unused_bias() -> Sequential:
    model = build(nn.Dense(2, bias=False))
    model.layers[0].bias[1] = 0.5
    return model


def names_twice() -> Sequential:
    model = build(nn.Dense(2))
    model.feature_names = ["a", "b", "a"]
    return model


def changed() -> Sequential:
    model = build(nn.Dense(2, "relu"))
    vars(model.layers[0])["activation"] = nn.ACTIVATIONS["tanh"]  # behind its back: setting it is refused
    return model


REFUSED = {
    "initialiser": (lambda: build(nn.Dense(2), nn.Dense(2, init=Ones())), TypeError, r"layers\[1\]\.init is Ones\(\)"),
    "layer": (lambda: build(MyDense(2)), TypeError, r"layers\[0\] is MyDense"),
    "loss": (lambda: of_loss(replace(nn.LOSSES["mse"], name="mine")), TypeError, "loss is mine"),
    "formulas": (lambda: of_loss(replace(nn.LOSSES["mse"], pointwise=nn.LOSSES["mae"].pointwise)), TypeError, "mse"),
    "a softmax of one": (softmax_of_one, ValueError, "the loss is cross_entropy, but the model has one output"),
    "a bias that is not learned": (unused_bias, ValueError, r"0\.bias is not all 0, but its layer has bias=False"),
    "names twice": (names_twice, ValueError, "X has 2 columns 'a', expected names of their own"),
    "a changed layer": (changed, ValueError, "changed after it was built"),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_before_the_file_is_touched(make, error, message, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    model = make()
    with pytest.raises(error, match=message):
        model.save(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m"]


def itself() -> dict:
    loop: dict = {}
    loop["loop"] = loop
    return loop


METADATA = {
    "array": ({"a": [np.zeros(2)]}, TypeError, r"metadata\['a'\]\[0\] is array"),
    "number as key": ({"a": {1: 2}}, TypeError, r"metadata\['a'\] has the key 1"),
    "list": ([1], TypeError, "metadata is"),
    "itself": (itself(), ValueError, "itself"),
}


@pytest.mark.parametrize(("metadata", "error", "message"), METADATA.values(), ids=METADATA)
def test_metadata_that_json_does_not_hold(metadata, error, message, tmp_path):
    with pytest.raises(error, match=message):
        build(nn.Dense(2)).save(tmp_path / "m", metadata=metadata)
    assert os.listdir(tmp_path) == []


def test_custom_initialiser_can_be_left_behind(tmp_path):
    model = build(nn.Dense(2, init=Ones()))
    model.layers[0].init = None
    assert round_trip(model, tmp_path / "m").predict(features()).tobytes() == model.predict(features()).tobytes()


# Damage ---------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    model = build(nn.Normalize(), nn.Dense(2, "leaky_relu"), nn.BatchNorm(), dtype=np.float32)
    model.loss = nn.LOSSES["mse"]
    model.save(tmp_path / "m", metadata={"unit": "m"})
    return tmp_path / "m"


def test_flipped_bits_and_truncation_anywhere(saved):
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        saved.write_bytes(damaged)
        with pytest.raises(ModelFormatError, match=str(saved.name)):
            fastnn.load(saved)
    for size in range(0, len(data), 11):
        saved.write_bytes(data[:size])
        with pytest.raises(ModelFormatError):
            fastnn.load(saved)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickles_are_not_opened(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    for content in (pickle.dumps(Bomb()), pickle.dumps(build(nn.Dense(2)))):
        saved.write_bytes(content)
        with pytest.raises(ModelFormatError, match="not a file of fastnn"):
            fastnn.load(saved)
    files.write(saved, files_header := {"format": "something else"}, {})
    with pytest.raises(ModelFormatError, match="this is not a model: format is 'something else'"):
        fastnn.load(saved)
    assert files_header and os.listdir(saved.parent) == ["m"]


def test_missing_files_are_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastnn.load(tmp_path / "m")
    with pytest.raises(OSError, match="missing"):
        build(nn.Dense(2)).save(tmp_path / "missing" / "m")


def nested(depth: int) -> dict:
    config: dict = {"kind": "Softmax"}
    for _ in range(depth):
        config = {"kind": "Activation", "activation": config}
    return config


SET = {
    "no layers": (("layers",), [], "layers is empty"),
    "layers no list": (("layers",), {}, "layers is {}"),
    "dtype": (("dtype",), "float16", "dtype is 'float16'"),
    "inputs": (("inputs",), 0, "inputs is 0"),
    "inputs a bool": (("inputs",), True, "inputs is True"),
    "inputs of another model": (("inputs",), 4, r"tensor 0.shift is float64 \(3,\), but its layer has float64 \(4,\)"),
    "inputs left out": (("inputs",), None, "not built.* has the unknown field 0.scale"),
    "dtype of another model": (("dtype",), "float64", "tensor 1.weight is float32"),
    "a layer that is text": (("layers", 1), "Dense", r"layers\[1\] is 'Dense', expected a layer"),
    "a layer that is a list": (("layers", 1), [], r"layers\[1\] is \[\], expected an object"),
    "no kind": (("layers", 1), {"units": 2}, r"layers\[1\] is .* expected an object with a kind"),
    "a kind that is none": (("layers", 1, "kind"), ["Dense"], r"layers\[1\] is .* with a kind"),
    "unknown layer": (("layers", 1, "kind"), "Conv", r"layers\[1\] has kind 'Conv'"),
    "a layer's base": (("layers", 1, "kind"), "Layer", "kind 'Layer'"),
    "an activation for a layer": (("layers", 1), {"kind": "relu", "alpha": 0}, r"layers\[1\] is .*expected a layer"),
    "another layer": (("layers", 1), {"kind": "Softmax"}, "unknown field 1.bias, 1.weight"),
    "unknown activation": (("layers", 1, "activation", "kind"), "snake", r"layers\[1\].activation has kind 'snake'"),
    "alpha": (("layers", 1, "activation", "alpha"), -1, r"layers\[1\].activation \(leaky_relu\): alpha of leaky_relu"),
    "alpha infinite": (("layers", 1, "activation", "alpha"), float("inf"), "alpha of leaky_relu is inf"),
    "an initialiser as activation": (("layers", 1, "activation"), {"kind": "Zeros", "value": 0}, "activation is Zeros"),
    "init": (("layers", 1, "init"), {"kind": "VarianceScaling", "scale": "a", "fan": "in", "uniform": True}, "scale"),
    "init's fan": (("layers", 1, "init"), {"kind": "VarianceScaling", "scale": 1, "fan": "x", "uniform": True}, "fan"),
    "init of nothing": (("layers", 1, "init"), "magic", "init is 'magic'"),
    "units": (("layers", 1, "units"), 2.5, r"layers\[1\] \(Dense\): units is 2.5"),
    "units too many": (("layers", 1, "units"), 10**12, r"tensor 1.weight is .* \(3, 1000000000000\)"),
    "units far too many": (("layers", 1, "units"), 10**40, "tensor 1.weight"),
    "l1": (("layers", 1, "l1"), -1, "l1 is -1"),
    "another argument": (("layers", 1, "color"), "red", "unknown field color"),
    "momentum": (("layers", 2, "momentum"), 1.0, r"layers\[2\] \(BatchNorm\): momentum is 1.0"),
    "mode": (("layers", 0, "mode"), "max", "mode is 'max'"),
    "kept": (("layers", 0, "kept"), [], r"layers\[0\].kept is \[\]"),
    "kept of another type": (("layers", 0, "kept", "adapted"), 1, "adapted is 1, expected bool"),
    "kept by a layer that keeps nothing": (("layers", 1, "kept"), {"adapted": True}, "unknown field adapted"),
    "order": (("layers", 0), {"kind": "Softmax"}, "0.scale, 0.shift"),
    "nesting": (("layers", 1), nested(100), "nested too deeply"),
    "much nesting": (("layers", 1), nested(900), "nested too deeply|cannot be read"),
    "loss": (("loss", "name"), "magic", "loss: loss is 'magic'"),
    "a loss of no name": (("loss",), {}, "loss has no name, parameter"),
    "loss's parameter": (("loss", "parameter"), 1.0, "parameter of mse"),
    "feature names": (("feature_names",), ["a", "b"], "feature_names is .* each of 3"),
    "a feature's name twice": (("feature_names",), ["a", "b", "a"], "X has 2 columns 'a', expected names of their own"),
    "feature names of numbers": (("feature_names",), [1, 2, 3], "feature_names is"),
    "row shape": (("row_shape",), [2, 2], "row_shape is .* whose product is 3"),
    "row shape of text": (("row_shape",), ["3"], "row_shape is"),
    "metadata": (("metadata",), [], r"metadata is \[\], of the wrong type"),
    "version": (("version",), 2, "version is 2, expected 1: written by 'fastnn"),
    "version of no number": (("version",), None, "version is None"),
    "another field": (("extra",), 1, "the header has the unknown field extra"),
}


@pytest.mark.parametrize(("where", "value", "message"), SET.values(), ids=SET)
def test_headers_that_say_what_cannot_be(where, value, message, saved):
    set_in_header(saved, where, value)
    with pytest.raises(ModelFormatError, match=message) as caught:
        fastnn.load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("field", list(serialize.FIELDS))
def test_a_field_left_out(field, saved):
    header, arrays = files.read(saved)
    del header[field]
    files.write(saved, header, arrays)
    with pytest.raises(ModelFormatError, match=field):
        fastnn.load(saved)


@pytest.mark.parametrize("key", ["units", "activation", "bias", "kind"])
def test_an_argument_left_out(key, saved):
    header, arrays = files.read(saved)
    del header["layers"][1][key]
    files.write(saved, header, arrays)
    with pytest.raises(ModelFormatError, match=rf"layers\[1\].*{key}"):
        fastnn.load(saved)


def test_many_layers_take_time_that_grows_with_their_number():
    """20,000 of them took 4.7 s, with the square of their number, where each was compared with all before it."""
    assert len(Sequential([nn.Softmax() for _ in range(40_000)]).layers) == 40_000


def test_tensors_that_are_not_the_layers(saved):
    header, arrays = files.read(saved)
    for change, message in (
        ({"1.weight": arrays["1.weight"].T.copy()}, r"tensor 1.weight is float32 \(2, 3\)"),
        ({"1.weight": arrays["1.weight"].astype(np.int32)}, "tensor 1.weight is int32"),
        ({"0.scale": arrays["0.scale"].astype(np.float32)}, "tensor 0.scale is float32"),
        ({"9.weight": np.zeros(2)}, "unknown field 9.weight"),
    ):
        files.write(saved, header, copy.copy(arrays) | change)
        with pytest.raises(ModelFormatError, match=message):
            fastnn.load(saved)
    del arrays["2.gamma"]
    files.write(saved, header, arrays)
    with pytest.raises(ModelFormatError, match=r"has no 2\.gamma"):
        fastnn.load(saved)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_a_softmax_over_one_output_is_refused(loss, tmp_path):
    """Its probability is 1, whatever is learned: no Trainer makes such a model."""
    model = build(nn.Dense(1))
    model.loss = "binary_cross_entropy"
    model.save(tmp_path / "m")
    assert fastnn.load(tmp_path / "m").loss.name == "binary_cross_entropy"
    set_in_header(tmp_path / "m", ("loss",), serialize.loss_to_config(nn.LOSSES[loss]))
    with pytest.raises(ModelFormatError, match=f"m: the loss is {loss}.*, but the model has one output, expected two"):
        fastnn.load(tmp_path / "m")


def test_an_uneven_number_of_outputs_under_gaussian_is_refused(tmp_path):
    model = build(nn.Dense(3))
    model.loss = "mse"
    model.save(tmp_path / "m")
    set_in_header(tmp_path / "m", ("loss",), serialize.loss_to_config(nn.LOSSES["gaussian"]))
    with pytest.raises(ModelFormatError, match="the model has 3 outputs, expected a multiple of 2 for gaussian"):
        fastnn.load(tmp_path / "m")


def test_a_bias_of_a_layer_that_has_none_is_refused(tmp_path):
    """Predictions had it, and neither ONNX files nor modules of PyTorch that were made of the layer."""
    Sequential([nn.Dense(2)]).build(3, seed=0).save(tmp_path / "m")
    set_in_header(tmp_path / "m", ("layers", 0, "bias"), False)
    assert not fastnn.load(tmp_path / "m").layers[0].bias.any()  # zeros are what such a layer has
    header, arrays = files.read(tmp_path / "m")
    files.write(tmp_path / "m", header, arrays | {"0.bias": np.array([0.0, 1e-30], arrays["0.bias"].dtype)})
    with pytest.raises(ModelFormatError, match=r"m: 0\.bias is not all 0, but its layer has bias=False"):
        fastnn.load(tmp_path / "m")


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
def test_a_model_goes_into_a_pipe(tmp_path):
    """/dev/stdout leads to what has no name: a temporary was to be made beside it."""
    code = "import fastnn; fastnn.Sequential([fastnn.nn.Dense(2)]).build(3, seed=0).save('/dev/stdout')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    (tmp_path / "m").write_bytes(done.stdout)
    assert same(fastnn.load(tmp_path / "m"), Sequential([nn.Dense(2)]).build(3, seed=0))


def test_arrays_of_the_other_byte_order_are_read(saved):
    expected = fastnn.load(saved)
    header, arrays = files.read(saved)
    files.write(saved, header, {name: array.astype(array.dtype.newbyteorder()) for name, array in arrays.items()})
    assert same(expected, fastnn.load(saved))


def test_other_programs_can_read_it(saved):
    """With what they have for zip, JSON and npy."""
    with zipfile.ZipFile(saved) as members:
        header = json.loads(members.read("header.json"))
        weight = np.load(io.BytesIO(members.read("1.weight.npy")), allow_pickle=False)
    assert [layer["kind"] for layer in header["layers"]] == ["Normalize", "Dense", "BatchNorm"]
    np.testing.assert_array_equal(weight, fastnn.load(saved).layers[1].weight)
