"""Networks as ONNX files, and from them: onnxruntime says what they compute, onnx.checker that they are ONNX."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings

import numpy as np
import pytest
from common import LAYERS, build, every_layer, features, full, make_layer, of_ids, stir, targets

import fastnn
from fastnn import Sequential, Trainer, nn
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.ops import OPS
from fastnn.serving import onnx as exporter
from fastnn.serving import onnx_graph, onnx_nodes

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

INPUTS = 7
EVERY = [opset for opset in (13, 17, 18, 20, 24) if opset <= onnx.defs.onnx_opset_version()]
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}  # of what is at least 1
NETS = {
    "dense": lambda: [nn.Dense(33, "relu"), nn.Dense(17, "tanh"), nn.Dense(3)],
    "without bias": lambda: [nn.Dense(9, "elu", bias=False), nn.Dense(1)],
    "folded": lambda: [nn.Dense(12), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(4), nn.BatchNorm()],
    "folded in front": lambda: [nn.BatchNorm(), nn.Dense(9, "relu"), nn.BatchNorm(), nn.BatchNorm(), nn.Dense(2)],
    "not folded": lambda: [nn.BatchNorm(), nn.PReLU(), nn.Dense(9, "relu"), nn.BatchNorm(), nn.BatchNorm()],
    "norms": lambda: [nn.Dense(16), nn.LayerNorm(), nn.Scale(0.3), nn.Activation("silu"), nn.LayerNorm(epsilon=1e-3)],
    "root mean squares": lambda: [nn.RMSNorm(), nn.Dense(16), nn.RMSNorm(epsilon=1e-3), nn.Activation("silu")],
    "random": lambda: [nn.Dropout(0.2), nn.Dense(14, "rrelu"), nn.Dropout(0.5), nn.Dense(3)],
    "normalized": lambda: [nn.Normalize(), nn.Dense(8, "tanh"), nn.Dense(2)],
    "learned": lambda: [nn.Dense(10, nn.Maxout(3)), nn.Dense(9, "prelu"), nn.Softmax(), nn.Maxout(3)],
    "ordered": lambda: [nn.Dense(6, "tanh"), nn.Ordered(), nn.Ordered(targets=2), nn.Ordered(targets=6)],
    "skips": lambda: [
        nn.Residual([nn.Scale(0.7), nn.Dropout(0.1), nn.Dense(INPUTS, "tanh")]),
        nn.Residual([nn.LayerNorm(), nn.Residual([nn.Dense(7)])], shortcut=[nn.Dense(7, "tanh")]),
        nn.Residual([nn.Residual([nn.Dense(7, "silu")]), nn.Dropout(0.5)]),
        nn.Dense(3),
    ],
    "nothing but dropout": lambda: [nn.Dropout(0.5)],
}


def built(name: str, dtype: type = np.float32) -> Sequential:
    model = stir(Sequential(NETS[name](), dtype=dtype).build(INPUTS, seed=3))
    for tensor in model.plan.tensors:
        if tensor.name.endswith("running_var"):
            model.state.views[tensor.name][...] = np.random.default_rng(5).uniform(0.2, 3.0, tensor.shape)
        if tensor.name.endswith("running_mean"):
            model.state.views[tensor.name][...] = np.random.default_rng(6).normal(size=tensor.shape)
    adapt(model)
    return model


def adapt(model: Sequential) -> None:
    for layer in model.layers:
        if isinstance(layer, nn.Normalize):
            layer.adapt(3 + features(50, model.plan.inputs, seed=8).reshape(50, *model.plan.input_shape))


def checked(path) -> ort.InferenceSession:
    """A session of the file, which is ONNX and says no shape that it has not."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def exported(model: Sequential, folder, *, classes=None, **arguments) -> ort.InferenceSession:
    path = folder / "model.onnx"
    exporter.write(model.frozen(classes=classes), path, **arguments)
    return checked(path)


def run(session: ort.InferenceSession, X: np.ndarray) -> dict[str, np.ndarray]:
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"X": np.asarray(X, dtype)}), strict=True))


def rows(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that float32 holds: what the input's dtype is changes nothing."""
    return (2 * features(n, int(np.prod(shape)), seed)).astype(np.float32).reshape(n, *shape)


def agree(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert np.isfinite(expected).all()
    error = np.abs(got.astype(np.float64) - expected) / np.maximum(1, np.abs(expected))
    assert error.max() <= tolerance, error.max()


def predictions_agree(model: Sequential, folder, tolerance: float | None = None, **arguments) -> None:
    session = exported(model, folder, **arguments)
    X = rows(40, *model.plan.input_shape)
    for n in (1, 40):
        out = run(session, X[:n])
        assert list(out) == ["predictions"]
        agree(out["predictions"], model.predict(X[:n]), tolerance or TOLERANCE[model.dtype.type])


# Tables --------------------------------------------------------------------------------------------------------


def test_every_operation_is_written_or_refused():
    assert not onnx_nodes.OPERATIONS.keys() & onnx_nodes.REFUSED.keys()
    assert onnx_nodes.OPERATIONS.keys() | onnx_nodes.REFUSED.keys() == OPS.keys()


def test_every_activation_is_written():
    assert onnx_nodes.ACTIVATIONS.keys() == ACTIVATIONS.keys()


def test_every_opset_has_an_age_of_the_format():
    assert list(onnx_graph.OPSETS) == list(onnx_graph.IR_VERSION) == list(range(13, 25))
    from onnx.helper import VERSION_TABLE

    for opset, ir in onnx_graph.IR_VERSION.items():
        known = [version for _, version, least, *_ in VERSION_TABLE if least >= opset]  # of this package
        assert ir == min(known, default=ir)


# What is computed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_networks(name, dtype, opset, tmp_path):
    predictions_agree(built(name, dtype), tmp_path, opset=opset)


@pytest.mark.parametrize("opset", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, dtype, opset, tmp_path):
    inexact = activation == "gelu" and dtype == np.float64
    chosen = ACTIVATIONS[activation]
    if chosen.alpha:
        chosen = chosen.with_alpha(0.3)
    first = (
        [] if activation == "exponential" else [nn.Activation(chosen)]
    )  # exp of exp shows the rounding of its inside
    model = build(*first, nn.Dense(3, chosen), inputs=INPUTS, dtype=dtype)
    predictions_agree(model, tmp_path, 1e-6 if inexact else None, opset=opset)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "exponential"])
def test_activations_far_from_zero(activation, dtype, tmp_path):
    """What overflows on the way there: exp of a large number, a square."""
    model = Sequential([nn.Activation(activation)], dtype=dtype).build(1, seed=0)
    session = exported(model, tmp_path)
    X = np.array([[value] for size in (0.0, 1e-30, 0.5, 3.0, 30.0, 100.0, 1e4) for value in (size, -size)], np.float32)
    tolerance = 1e-6 if (activation, dtype) == ("gelu", np.float64) else TOLERANCE[dtype]
    agree(run(session, X)["predictions"], model.predict(X), tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer(kind, dtype, tmp_path):
    layers = [make_layer(kind), nn.Flatten(), nn.Dense(2)]
    model = stir(Sequential(layers, dtype=dtype).build(8, seed=0))
    adapt(model)
    predictions_agree(model, tmp_path)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layer_in_one_network(dtype, tmp_path):
    model = stir(Sequential(every_layer(12, 3, LAYERS), dtype=dtype).build(5, seed=0))
    adapt(model)
    predictions_agree(model, tmp_path, 10 * TOLERANCE[dtype])  # some 50 operations one after the other


@pytest.mark.parametrize("opset", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_with_positions(dtype, opset, tmp_path):
    layers = [
        *(nn.Normalize(), nn.Dense(6, "relu"), nn.LayerNorm(), nn.Dense(8), nn.BatchNorm(), nn.Activation("prelu")),
        *(nn.Residual([nn.Dense(8, "tanh")]), nn.Maxout(2), nn.Ordered(targets=2), nn.Softmax(), nn.Scale(2.0)),
    ]
    model = stir(Sequential(layers, dtype=dtype).build((4, 5, 3), seed=0))
    adapt(model)
    predictions_agree(model, tmp_path, opset=opset)
    assert [d.dim_value for d in value_shape(tmp_path / "model.onnx")] == [0, 4, 5, 3]
    shapes = [nn.Flatten(), nn.Dense(12, "tanh"), nn.Reshape((2, 3, 2)), nn.Dense(4), nn.Reshape((4, 6)), nn.Flatten()]
    predictions_agree(stir(Sequential([*shapes, nn.Dense(2)], dtype=dtype).build((4, 5), seed=0)), tmp_path)
    predictions_agree(stir(Sequential(shapes[:-1], dtype=dtype).build((4, 5), seed=0)), tmp_path)


def value_shape(path):
    return onnx.load(path).graph.input[0].type.tensor_type.shape.dim


# Numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("input", ["float32", "float64"])
@pytest.mark.parametrize("name", ["dense", "normalized"])
def test_input_of_both_dtypes(name, input, dtype, tmp_path):
    session = exported(built(name, dtype), tmp_path, input=input)
    assert session.get_inputs()[0].type == {"float32": "tensor(float)", "float64": "tensor(double)"}[input]
    predictions_agree(built(name, dtype), tmp_path, input=input)


def test_normalize_keeps_the_digits_of_time_stamps(tmp_path):
    """1.7e9 seconds, an hour between rows: float32 there counts in steps of 128."""
    X = 1.7e9 + 3600 * np.arange(50.0)[:, None]
    model = stir(Sequential([nn.Normalize(), nn.Dense(3)]).build(1, seed=0))
    model.layers[0].adapt(X)
    session = exported(model, tmp_path, input="float64")
    agree(run(session, X)["predictions"], model.predict(X), 1e-6)
    assert len(np.unique(run(session, X)["predictions"][:, 0])) == 50


def test_normalize_of_features_that_lie_far_apart(tmp_path):
    X = np.array([[-1.5e308], [1.5e308], [1.5e308]])  # the first less their mean is infinite
    model = stir(Sequential([nn.Normalize(), nn.Dense(2)], dtype="float64").build(1, seed=0))
    model.layers[0].adapt(X)
    agree(run(exported(model, tmp_path, input="float64"), X)["predictions"], model.predict(X), 1e-12)
    again = fastnn.from_onnx(tmp_path / "model.onnx")
    assert np.array_equal(again.layers[0].scale, model.layers[0].scale)
    assert np.array_equal(again.predict(X), model.predict(X))


def test_batch_norm_of_data_far_from_zero_keeps_its_digits(tmp_path):
    """x a + b would be off by 1e-2 here."""
    model = Sequential([nn.BatchNorm()]).build(2, seed=0)
    model.layers[0].running_mean[...] = 1e5
    model.layers[0].running_var[...] = 1.0
    X = 1e5 + features(30, 2)
    model.loss = LOSSES["mse"]
    agree(run(exported(model, tmp_path), X)["predictions"], model.predict(X.astype(np.float32)), 1e-5)


def operators(path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_batch_norm_is_folded_into_the_dense_beside_it(tmp_path):
    affine = ["Sub", "Mul", "Add"]
    expected = {
        "folded": ["Gemm", "Relu", "Gemm"],
        "folded in front": ["Gemm", "Relu", "Gemm"],
        "not folded": [*affine, "PRelu", "Gemm", "Relu", *affine, *affine],
    }
    for name, wanted in expected.items():
        exported(built(name), tmp_path)
        assert operators(tmp_path / "model.onnx") == wanted


@pytest.mark.parametrize("gamma", [1e-38, 1e38])
def test_batch_norm_is_not_folded_where_weights_would_lose_digits(gamma, tmp_path):
    model = stir(Sequential([nn.Dense(3), nn.BatchNorm(), nn.Scale()]).build(2, seed=0))
    model.layers[0].weight[...] *= 100 if gamma > 1 else 0.01
    model.layers[1].gamma[...] = gamma
    model.layers[2].factor[...] = 1 / gamma
    predictions = run(exported(model, tmp_path), 1e-3 * rows(9, 2))["predictions"]
    products = 2 if gamma < 1 else 1  # gamma / sqrt(1 + 1e-5) is no normal number
    assert operators(tmp_path / "model.onnx") == ["Gemm", "Sub", *["Mul"] * products, "Add", "Mul"]
    agree(predictions, model.predict(1e-3 * rows(9, 2)), 1e-5)


SIZES = (1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e30)


def norm_of(layer: nn.BatchNorm, gamma: float, variance: float, mean: float) -> None:
    layer.gamma[...], layer.running_var[...], layer.running_mean[...] = gamma, variance, mean


@pytest.mark.parametrize("place", ["alone", "behind", "before"])
@pytest.mark.parametrize("variance", SIZES)
def test_batch_norm_of_any_size_is_infinite_only_where_the_network_is(place, variance, tmp_path):
    """Whatever is folded, and however it is written: what is finite and normal by `predict` agrees."""
    epsilon, found = 1e-30, 0
    layers = {
        "alone": lambda: [nn.BatchNorm(epsilon=epsilon)],
        "behind": lambda: [nn.Dense(2, init=1.0), nn.BatchNorm(epsilon=epsilon)],
        "before": lambda: [nn.BatchNorm(epsilon=epsilon), nn.Dense(2, init=1.0)],
    }[place]
    for gamma in SIZES:
        for mean in (0.0, 1e-20, 1e20):
            model = Sequential(layers()).build(2, seed=0)
            norm_of(next(layer for layer in model.layers if isinstance(layer, nn.BatchNorm)), gamma, variance, mean)
            X = np.float32([[size, 0.5 * size] for size in (1e-20, 1e-10, 1.0, 1e10, 1e20)])
            X = np.concatenate([X, [[1e20, -1e20], [3.0, -3.0]]]).astype(np.float32)
            with np.errstate(over="ignore", invalid="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = model.predict(X)
            got = run(exported(model, tmp_path), X)["predictions"]
            counts = np.isfinite(expected) & (np.abs(expected) >= 1e-30)
            size = terms_of(model, X)
            error = np.abs(got[counts].astype(np.float64) - expected[counts])
            assert (error <= 1e-5 * np.maximum(size[counts], 1e-30)).all()
            found += counts.sum()
    assert found > 40


def terms_of(model: Sequential, X: np.ndarray) -> np.ndarray:
    """What is added up to the predictions of a batch_norm alone, behind or before a Dense of ones, in float64."""
    x = np.abs(X.astype(np.float64))
    for layer in model.layers:
        if isinstance(layer, nn.Dense):
            x = np.repeat(x.sum(axis=1, keepdims=True), 2, axis=1)
        else:
            factor = layer.gamma.astype(np.float64) / np.sqrt(layer.running_var.astype(np.float64) + layer.epsilon)
            x = factor * (x + np.abs(layer.running_mean.astype(np.float64)))
    return x


def test_sums_that_cancel_before_a_large_factor_stay_finite(tmp_path):
    """1e20 - 1e20 is 0, and 1e20 times 0 as well: folded, it was inf - inf."""
    model = Sequential([nn.Dense(1, init=1.0), nn.BatchNorm()]).build(2, seed=0)
    model.layers[0].weight[...] = [[1.0], [-1.0]]
    model.layers[1].gamma[...] = 1e20
    X = np.float32([[1e20, 1e20], [2.0, 1.0]])
    session = exported(model, tmp_path)
    agree(run(session, X)["predictions"], model.predict(X), 1e-5)
    q = model.predictor(dtype="int8", backend="numpy")
    assert np.isfinite(q(X)).all()


def test_weights_that_vanish_in_float64_are_not_folded(tmp_path):
    """1e-200 times 1e-200 is 0 in float64, too; times 1e200 and 1e200 it was not."""
    model = Sequential([nn.Dense(1, init=1.0), nn.BatchNorm(epsilon=1e-12), nn.Scale()], dtype="float64")
    model.build(1, seed=0)
    model.layers[0].weight[...] = model.layers[1].gamma[...] = 1e-200
    model.layers[2].factor[...] = 1e200
    X = np.array([[1e200], [3e200]])
    session = exported(model, tmp_path, input="float64")
    assert (model.predict(X) > 0.9).all()
    agree(run(session, X)["predictions"], model.predict(X), 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_of_zeros_is_folded(dtype, tmp_path):
    model = stir(Sequential([nn.Dense(3), nn.BatchNorm()], dtype=dtype).build(2, seed=0))
    model.layers[1].gamma[...] = 0
    predictions_agree(model, tmp_path)
    assert operators(tmp_path / "model.onnx") == ["Gemm"] if dtype == np.float32 else ["Cast", "Gemm"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_of_small_rows(dtype, tmp_path):
    """Where epsilon counts: the operator's is a float32."""
    model = stir(Sequential([nn.Scale(1e-2), nn.LayerNorm(epsilon=1e-5)], dtype=dtype).build(INPUTS, seed=0), seed=9)
    model.layers[0].factor[...] = 1e-3
    for opset in (13, 17, EVERY[-1]):
        predictions_agree(model, tmp_path, opset=opset)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaled_targets_come_out_in_their_units(dtype, tmp_path):
    X, y = features(90, 4), 1e5 + 50 * features(90, 2, seed=4)
    model = Sequential([nn.Dense(8, "tanh"), nn.Dense(2)], dtype=dtype)
    Trainer(model, "mse", seed=0, scale_targets=True).fit(X, y, epochs=2, verbose=False)
    out = run(exported(model, tmp_path), rows(30, 4))["predictions"]
    expected = model.predict(rows(30, 4))
    assert out.dtype == expected.dtype == np.float64
    assert np.abs(out - expected).max() <= 50 * TOLERANCE[dtype] + 1e5 * 2.0**-52


# Losses and classes --------------------------------------------------------------------------------------------


def classifier(loss: str, outputs: int, *layers: nn.Layer, dtype: type = np.float32) -> Sequential:
    model = stir(Sequential([nn.Dense(11, "tanh"), nn.Dense(outputs), *layers], dtype=dtype).build(INPUTS, seed=1))
    model.loss = LOSSES[loss]
    return model


CLASSIFIERS = {
    "softmax": lambda dtype: classifier("cross_entropy", 5, dtype=dtype),
    "softmax at the end": lambda dtype: classifier("cross_entropy", 5, nn.Softmax(), dtype=dtype),
    "focal": lambda dtype: classifier("focal", 3, dtype=dtype),
    "sigmoid": lambda dtype: classifier("binary_cross_entropy", 1, dtype=dtype),
    "sigmoid at the end": lambda dtype: classifier("binary_cross_entropy", 1, nn.Activation("sigmoid"), dtype=dtype),
    "binary focal": lambda dtype: classifier("binary_focal", 1, dtype=dtype),
    "sigmoids": lambda dtype: classifier("binary_cross_entropy", 4, dtype=dtype),
}


@pytest.mark.parametrize("opset", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_and_probabilities(name, dtype, opset, tmp_path):
    model = CLASSIFIERS[name](dtype)
    out = run(exported(model, tmp_path, opset=opset), rows(200, INPUTS))
    assert list(out) == ["label", "probabilities"]
    agree(out["probabilities"], model.predict_proba(rows(200, INPUTS)), TOLERANCE[dtype])
    labels = model.predict_class(rows(200, INPUTS))
    assert out["label"].dtype == np.int64 and np.array_equal(out["label"], labels) and len(np.unique(labels)) > 1


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].link not in ("softmax", "sigmoid")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_losses_have_predictions(loss, dtype, tmp_path):
    model = classifier(loss, 3 * LOSSES[loss].width, dtype=dtype)
    predictions_agree(model, tmp_path)
    ended = classifier(loss, LOSSES[loss].width, nn.Activation("exponential"), dtype=dtype)
    predictions_agree(ended, tmp_path)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "classes",
    [
        np.array(["yes", "né"]),
        np.array(["a", "b"], dtype=object),
        np.array([3, -7]),
        np.array([3, 250], np.uint8),
        np.array([True, False]),
        np.array([0.5, 1e300]),
        np.array([0.1, 2.0], np.float32),
    ],
    ids=lambda classes: str(classes.dtype),
)
@pytest.mark.parametrize("opset", [EVERY[0], EVERY[-1]])
def test_classes(classes, outputs, opset, tmp_path):
    model = classifier("cross_entropy" if outputs == 2 else "binary_cross_entropy", outputs)
    session = exported(model, tmp_path, classes=classes, opset=opset)
    labels = run(session, rows(60, INPUTS))["label"]
    assert labels.tolist() == classes[model.predict_class(rows(60, INPUTS))].tolist()
    assert set(labels.tolist()) == set(classes.tolist())
    said = {item.key: item.value for item in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(said["classes"]) == classes.tolist() and said["fastnn_version"] == fastnn.__version__


def test_outputs_that_are_classes_by_themselves_are_zeros_and_ones(tmp_path):
    model = CLASSIFIERS["sigmoids"](np.float32)
    labels = run(exported(model, tmp_path, classes=np.array(list("abcd"))), rows(60, INPUTS))["label"]
    assert np.array_equal(labels, model.predict_class(rows(60, INPUTS)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_chances_of_both_classes_have_all_their_digits(dtype, tmp_path):
    """1 - p has none from z = 17 on in float32, nor has onnxruntime's Sigmoid."""
    model = Sequential([nn.Dense(1, init=1.0)], dtype=dtype).build(1, seed=0)
    model.loss = LOSSES["binary_cross_entropy"]
    z = np.array([[value] for value in (-80.0, -20.0, -3.0, 0.0, 1.0, 17.0, 20.0, 80.0)])
    chances, expected = run(exported(model, tmp_path), z)["probabilities"], model.predict_proba(z)
    assert (np.abs(chances / expected - 1) <= 100 * np.finfo(dtype).eps).all()


def test_what_the_file_says_of_the_network(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(features(60, 2), columns=["größe", "b"])
    model = Sequential([nn.Dense(2)])
    Trainer(model, "mse", seed=0).fit(frame, targets(LOSSES["mse"], 60, 2), epochs=1, verbose=False)
    model.to_onnx(tmp_path / "m.onnx")
    file = onnx.load(tmp_path / "m.onnx")
    said = {item.key: item.value for item in file.metadata_props}
    assert json.loads(said["feature_names"]) == ["größe", "b"] and said["loss"] == "mse"
    assert (file.producer_name, file.producer_version) == ("fastnn", fastnn.__version__)
    assert file.ir_version == 8 and [(each.domain, each.version) for each in file.opset_import] == [("", 17)]
    assert [each.name for each in file.graph.initializer][:2] == ["0.weight", "0.bias"]
    assert [each.dim_param or each.dim_value for each in value_shape(tmp_path / "m.onnx")] == ["n", 2]


# Refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"opset": 12}, ValueError, "^opset is 12, expected"),
        ({"opset": 25}, ValueError, "^opset is 25, expected an integer from 13 to 24$"),
        ({"opset": -1}, ValueError, "^opset is -1"),
        ({"opset": "17"}, TypeError, "^opset is '17'"),
        ({"opset": 17.0}, TypeError, "^opset is 17.0"),
        ({"opset": True}, TypeError, "^opset is True"),
        ({"input": "float16"}, ValueError, "^input is 'float16', expected 'float32' or 'float64'$"),
        ({"input": np.float32}, ValueError, "^input is "),
    ],
)
def test_arguments(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        built("dense").to_onnx(tmp_path / "model.onnx", **arguments)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("path", [None, 3, b"model.onnx"])
def test_a_path_that_is_none(path):
    with pytest.raises(TypeError, match=r"^path is"):
        built("dense").to_onnx(path)


def test_what_cannot_be_written_is_named(tmp_path):
    own = nn.activation(
        "thrice", lambda z, alpha: 3.0 * z, lambda a, alpha: 0.0 * a + 3.0, saves="a"
    )  # no name that ONNX knows
    for layers in ([nn.Dense(2, own)], [nn.Activation(own)]):
        with pytest.raises(ValueError, match=r"activation thrice.* has formulas of its own"):
            Sequential(layers).build(3, seed=0).to_onnx(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="operation ids cannot be written as ONNX"):
        of_ids(build(nn.Dense(2)), 9).to_onnx(tmp_path / "m.onnx")
    with pytest.raises(fastnn.NotFittedError):
        Sequential([nn.Dense(2)]).to_onnx(tmp_path / "m.onnx")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.arange(3), r"classes has shape \(3,\), expected one for each of 2"),
        (np.array([2**63, 1], np.uint64), "classes has dtype uint64"),
        (np.array([1j, 2]), "classes has dtype complex128"),
        (np.array(["a", 1], dtype=object), "classes has dtype object"),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), r"classes has dtype datetime64"),
    ],
)
def test_classes_that_onnx_does_not_have(classes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        exported(classifier("cross_entropy", 2), tmp_path, classes=classes)
    assert not os.listdir(tmp_path)


def test_more_weights_than_a_file_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match=r"^the network has \d+ bytes of weights, expected 100 at most"):
        built("dense").to_onnx(tmp_path / "m.onnx")
    assert not os.listdir(tmp_path)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    named = re.escape("needs onnx: pip install onnx, or in a checkout of fastnn the extra [onnx]")
    with pytest.raises(ImportError, match=f"^to_onnx {named}"):
        built("dense").to_onnx(tmp_path / "m.onnx")
    assert not os.listdir(tmp_path)


def test_the_old_file_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    built("dense").to_onnx(path)
    old = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*m\.onnx"):
        built("norms").to_onnx(path)
    assert os.listdir(tmp_path) == ["m.onnx"] and path.read_bytes() == old
    monkeypatch.undo()
    built("norms").to_onnx(path)
    assert path.read_bytes() != old
    built("dense").to_onnx(path)
    assert path.read_bytes() == old  # the same network makes the same bytes


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_target_that_is_no_file(kind, tmp_path):
    path = tmp_path / "target"
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes here")
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(ValueError, match=r"^path is '.*target', which is no regular file"):
        built("dense").to_onnx(path)
    assert os.listdir(tmp_path) == ["target"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "m.onnx")
    built("dense").to_onnx(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and onnx.load(tmp_path / "m.onnx").graph.node


# Read again ------------------------------------------------------------------------------------------------------


def reads_as_it_runs(path, shape=(INPUTS,), tolerance=1e-5) -> Sequential:
    """The model of a file, which says what onnxruntime does."""
    session, model = checked(path), fastnn.from_onnx(path)
    X = rows(60, *shape)
    name = session.get_inputs()[0].name
    double = session.get_inputs()[0].type == "tensor(double)"
    out = session.run(None, {name: X.astype(np.float64) if double else X})
    if len(out) == 1:
        agree(out[0], model.predict(X), tolerance)
        return model
    label, chances = out
    if isinstance(chances, list):  # of a ZipMap
        chances = np.array([list(each.values()) for each in chances], np.float32)
    agree(chances, model.predict_proba(X), tolerance)
    found = model.predict_class(X)
    classes = np.array(model.metadata.get("classes", np.arange(chances.shape[1])))
    assert np.array_equal(label, classes[found] if found.ndim == 1 else found) and len(np.unique(label)) > 1
    return model


def kinds(model: Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.parametrize("opset", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETS)
def test_networks_are_read_again(name, dtype, opset, tmp_path):
    model = built(name, dtype)
    model.to_onnx(tmp_path / "m.onnx", opset=opset)
    again = reads_as_it_runs(tmp_path / "m.onnx", tolerance=TOLERANCE[dtype])
    assert again.dtype == dtype
    again.to_onnx(tmp_path / "again.onnx", opset=opset)
    assert operators(tmp_path / "again.onnx") == operators(tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "identity"])
def test_activations_are_read_again(activation, dtype, opset, tmp_path):
    chosen = ACTIVATIONS[activation]
    if chosen.alpha:
        chosen = chosen.with_alpha(0.25)
    build(nn.Dense(5, chosen), nn.Dense(3), inputs=INPUTS, dtype=dtype).to_onnx(tmp_path / "m.onnx", opset=opset)
    inexact = activation == "gelu" and dtype == np.float64
    model = reads_as_it_runs(tmp_path / "m.onnx", tolerance=1e-6 if inexact else TOLERANCE[dtype])
    assert kinds(model) == ["Dense", "Activation", "Dense"] and model.layers[1].activation == chosen


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layer_is_read_again(dtype, tmp_path):
    model = stir(Sequential(every_layer(12, 3, LAYERS), dtype=dtype).build(5, seed=0))
    adapt(model)
    model.to_onnx(tmp_path / "m.onnx")
    again = reads_as_it_runs(tmp_path / "m.onnx", (5,), 10 * TOLERANCE[dtype])
    wanted = {"Normalize", "LayerNorm", "Maxout", "Ordered", "PReLU", "RMSNorm", "Residual", "Scale", "Softmax"}
    assert wanted <= {*kinds(again)}


def test_a_scale_of_zeros_before_a_norm_is_read_again(tmp_path):
    model = stir(Sequential([nn.Scale(), nn.BatchNorm(), nn.Scale(), nn.BatchNorm()]).build(INPUTS, seed=0))
    model.layers[0].factor[:3] = model.layers[2].factor[2:] = 0
    model.layers[1].running_mean[...] = 0.5
    model.to_onnx(tmp_path / "m.onnx")
    reads_as_it_runs(tmp_path / "m.onnx")


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_with_positions_are_read_again(dtype, tmp_path):
    layers = [
        *(nn.Normalize(), nn.Dense(6, "relu"), nn.LayerNorm(), nn.Dense(8), nn.BatchNorm(), nn.Activation("prelu")),
        *(nn.Residual([nn.Dense(8, "tanh")]), nn.Maxout(2), nn.Ordered(targets=2), nn.Reshape((10, 8)), nn.Softmax()),
    ]
    model = stir(Sequential([*layers, nn.Flatten(), nn.Dense(2)], dtype=dtype).build((4, 5, 3), seed=0))
    adapt(model)
    model.to_onnx(tmp_path / "m.onnx")
    reads_as_it_runs(tmp_path / "m.onnx", (4, 5, 3), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_read_again(name, dtype, tmp_path):
    model = CLASSIFIERS[name](dtype)
    model.to_onnx(tmp_path / "m.onnx")
    again = reads_as_it_runs(tmp_path / "m.onnx", tolerance=TOLERANCE[dtype])
    assert again.loss == model.loss and again.metadata == {}
    agree(again.predict(rows(9, INPUTS)), model.predict(rows(9, INPUTS)), TOLERANCE[dtype])  # logits, or their link


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("classes", [["yes", "né"], [3, -7], [True, False], [0.5, 1e300]])
def test_classes_are_read_again(classes, outputs, tmp_path):
    model = classifier("cross_entropy" if outputs == 2 else "binary_cross_entropy", outputs)
    exported(model, tmp_path, classes=np.array(classes))
    assert reads_as_it_runs(tmp_path / "model.onnx").metadata == {"classes": classes}


@pytest.mark.parametrize("dtype", DTYPES)
def test_units_of_targets_and_names_are_read_again(dtype, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(features(90, 4), columns=list("badc"))
    model = Sequential([nn.Normalize(), nn.Dense(8, "tanh"), nn.Dense(2)], dtype=dtype)
    trainer = Trainer(model, "mse", seed=0, scale_targets=True)
    trainer.fit(frame, 1e5 + 50 * features(90, 2, seed=4), epochs=2, verbose=False)
    model.to_onnx(tmp_path / "m.onnx", input="float64")
    again = fastnn.from_onnx(tmp_path / "m.onnx")
    assert again.target_scale == model.target_scale and again.feature_names == list("badc")
    assert np.array_equal(again.predict(frame), model.predict(frame)) and again.predict(frame).dtype == np.float64


# Of others -------------------------------------------------------------------------------------------------------


def torch_modules(torch):
    tnn = torch.nn
    activations = [
        *(tnn.ReLU(), tnn.LeakyReLU(0.2), tnn.ELU(0.7), tnn.SELU(), tnn.GELU(), tnn.GELU("tanh"), tnn.SiLU()),
        *(tnn.Mish(), tnn.Sigmoid(), tnn.Tanh(), tnn.Softplus(), tnn.Hardsigmoid(), tnn.Hardtanh(), tnn.Softsign()),
        *(tnn.PReLU(INPUTS), tnn.PReLU(), tnn.Softmax(1), tnn.BatchNorm1d(INPUTS), tnn.LayerNorm(INPUTS)),
        *(tnn.Dropout(0.5), tnn.Identity()),
    ]
    torch.manual_seed(0)
    made = tnn.Sequential(tnn.Flatten())
    for each in activations:
        made.extend([tnn.Linear(INPUTS, INPUTS, bias=not isinstance(each, tnn.Mish)), each])
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, tnn.BatchNorm1d):
                module.running_mean += 0.3
                module.running_var *= 2.0

    class Around(tnn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.within, self.around = tnn.Linear(INPUTS, 5), tnn.Linear(INPUTS, 5)

        def forward(self, x):
            return torch.relu(self.within(x)) + self.around(x)

    return tnn.Sequential(made, Around(), tnn.Linear(5, 3)).eval()


@pytest.mark.parametrize(("opset", "dtype"), [(None, np.float32), (None, np.float64), (17, np.float32)])
@pytest.mark.filterwarnings("ignore")
def test_files_of_torch(opset, dtype, tmp_path):
    """None: of its newer exporter, which needs onnxscript; of the older one at an opset without Gelu."""
    torch = pytest.importorskip("torch")
    if opset is None:
        pytest.importorskip("onnxscript")
    kind = torch.float32 if dtype == np.float32 else torch.float64
    net, x = torch_modules(torch).to(kind), torch.from_numpy(rows(4, INPUTS)).to(kind)
    path = tmp_path / "m.onnx"
    if opset is None:
        shapes = ({0: torch.export.Dim("n")},)
        torch.onnx.export(net, (x,), path, dynamo=True, input_names=["X"], dynamic_shapes=shapes, verbose=False)
    else:
        arguments = {"input_names": ["X"], "dynamic_axes": {"X": {0: "n"}}, "opset_version": opset}
        torch.onnx.export(net, (x,), path, dynamo=False, **arguments)
    if dtype == np.float32:
        model = reads_as_it_runs(path)
    else:  # onnxruntime has no Erf, Softplus and PRelu in double
        model = fastnn.from_onnx(path)
        with torch.no_grad():
            agree(net(x).numpy(), model.predict(x.numpy()), 1e-6)  # its exporter rounds alphas to float32
    assert model.dtype == dtype and {"Residual", "LayerNorm", "PReLU", "Softmax"} <= {*kinds(model)}


@pytest.fixture(scope="module")
def sklearn_files(tmp_path_factory):
    """Files of skl2onnx by name."""
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = rows(80, INPUTS, seed=3)
    three = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    settings = {"hidden_layer_sizes": (5,), "max_iter": 20, "solver": "lbfgs", "random_state": 0}
    made = {
        "regressor": (MLPRegressor(**settings), X[:, 0], None),
        "pipeline": (make_pipeline(StandardScaler(), MLPRegressor(**settings)), X[:, 1], None),
        "three": (MLPClassifier(activation="tanh", **settings), three, {"zipmap": False}),
        "three texts in dicts": (MLPClassifier(**settings), np.array(list("abc"))[three], None),
        "two": (MLPClassifier(activation="logistic", **settings), three > 1, {"zipmap": False}),
        "two texts in dicts": (MLPClassifier(activation="identity", **settings), np.array(["a", "b"])[three % 2], None),
    }
    folder = tmp_path_factory.mktemp("skl2onnx")
    for name, (estimator, y, options) in made.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(X, y)
            chosen = None if options is None else {id(estimator): options}
            proto = skl2onnx.to_onnx(estimator, X[:1], options=chosen, target_opset=17)
        onnx.save(proto, folder / f"{name}.onnx")
    return folder


@pytest.mark.parametrize(
    ("name", "classes", "first"),
    [
        ("regressor", None, "Dense"),
        ("pipeline", None, "Normalize"),
        ("three", [0, 1, 2], "Dense"),
        ("three texts in dicts", ["a", "b", "c"], "Dense"),
        ("two", [0, 1], "Dense"),
        ("two texts in dicts", ["a", "b"], "Dense"),
    ],
)
def test_files_of_skl2onnx(name, classes, first, sklearn_files):
    model = reads_as_it_runs(sklearn_files / f"{name}.onnx")
    assert model.metadata == ({} if classes is None else {"classes": classes}) and kinds(model)[0] == first


# Files by hand ---------------------------------------------------------------------------------------------------


def by_hand(path, nodes, constants=None, *, outputs=("y",), inputs=(("X", ["n", 3]),), opset=17, domain=""):
    """A file of these nodes: (operator, inputs, outputs, attributes)."""
    helper = onnx.helper
    made = [helper.make_node(op, i, o, domain=domain, **attributes) for op, i, o, attributes in nodes]
    values = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    float_ = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        made,
        "by hand",
        [helper.make_tensor_value_info(name, float_, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, float_, [None, None]) for name in outputs],
        values,
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


W = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
V = np.array([1, -2, 3], np.float32)
ONE = np.float32(1)


@pytest.mark.parametrize(
    ("nodes", "layers"),
    [
        ([("Gemm", ["X", "w"], ["y"], {"alpha": 0.5})], ["Dense"]),
        ([("Gemm", ["X", "w", "one"], ["y"], {"beta": 3.0})], ["Dense"]),
        ([("Gemm", ["X", "wt"], ["y"], {"transB": 1})], ["Dense"]),
        ([("MatMul", ["X", "w"], ["z"], {}), ("Sub", ["z", "four"], ["y"], {})], ["Dense"]),
        ([("Transpose", ["wt"], ["t"], {}), ("MatMul", ["X", "t"], ["y"], {})], ["Dense"]),
        ([("Add", ["v", "X"], ["y"], {})], ["BatchNorm"]),
        ([("Div", ["X", "v"], ["y"], {})], ["Normalize"]),
        ([("Sub", ["X", "one"], ["z"], {}), ("Div", ["z", "v"], ["y"], {})], ["Normalize"]),
        ([("Sub", ["X", "v"], ["z"], {}), ("Mul", ["z", "v"], ["y"], {})], ["Normalize"]),
        ([("Mul", ["X", "one"], ["z"], {}), ("Add", ["z", "v"], ["y"], {})], ["BatchNorm"]),
        ([("Relu", ["X"], ["z"], {}), ("Div", ["z", "v"], ["y"], {})], ["Activation", "Scale"]),
        ([("Relu", ["X"], ["z"], {}), ("Sub", ["z", "v"], ["y"], {})], ["Activation", "BatchNorm"]),
        ([("Relu", ["X"], ["z"], {}), ("Add", ["z", "X"], ["y"], {})], ["Residual"]),
        ([("Relu", ["X"], ["z"], {}), ("Tanh", ["X"], ["t"], {}), ("Add", ["t", "z"], ["y"], {})], ["Residual"]),
        ([("Identity", ["X"], ["z"], {}), ("Dropout", ["z"], ["y"], {})], ["Activation"]),
        ([("Softmax", ["X"], ["y"], {})], ["Softmax"]),
        (
            [("Cast", ["X"], ["z"], {"to": 11}), ("Sub", ["z", "d"], ["t"], {}), ("Cast", ["t"], ["y"], {"to": 1})],
            ["Normalize"],
        ),
    ],
)
def test_forms_of_operators(nodes, layers, tmp_path):
    constants = {
        "w": W,
        "wt": W.T.copy(),
        "v": V,
        "one": ONE,
        "four": np.arange(4, dtype=np.float32),
        "d": np.arange(3.0),
    }
    read = {name for _, inputs, _, _ in nodes for name in inputs}
    path = by_hand(tmp_path / "m.onnx", nodes, {name: array for name, array in constants.items() if name in read})
    assert kinds(reads_as_it_runs(path, (3,))) == layers


def test_a_softmax_at_the_end_says_what_the_loss_is(tmp_path):
    model = fastnn.from_onnx(by_hand(tmp_path / "m.onnx", [("Softmax", ["X"], ["y"], {"axis": 1})]))
    assert model.loss == LOSSES["cross_entropy"]
    agree(model.predict_proba(rows(5, 3)), model.predict(rows(5, 3)), 1e-6)


TWICE = [
    *(("Relu", ["X"], ["a"], {}), ("Add", ["a", "X"], ["b"], {}), ("Add", ["b", "a"], ["y"], {})),
]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Sin", ["X"], ["y"], {})], r"operator Sin \(output 'y'\) has no equal"),
        ([("Relu", ["X"], ["z"], {}), ("Conv", ["z", "w"], ["y"], {})], r"operator Conv \(output 'y'\)"),
        ([("Conv", ["X", "w"], ["z"], {}), ("Relu", ["z"], ["y"], {})], r"operator Conv \(output 'z'\)"),
        ([("Clip", ["X", "one", "six"], ["y"], {})], "operator Clip"),
        ([("HardSigmoid", ["X"], ["y"], {})], "operator HardSigmoid"),
        (
            [("LeakyRelu", ["X"], ["y"], {"alpha": -0.5})],
            r"operator LeakyRelu \(output 'y'\): alpha of leaky_relu is -0.5",
        ),
        ([("Gemm", ["X", "w"], ["y"], {"transA": 1})], "operator Gemm has transA"),
        ([("Gemm", ["X", "X"], ["y"], {})], "operator Gemm has no constant matrix"),
        ([("MatMul", ["wt", "X"], ["y"], {})], "operator MatMul has no constant matrix"),
        ([("Gemm", ["X", "wt"], ["y"], {})], "is made of 4 channels, but 3 come in"),
        ([("Sub", ["one", "X"], ["y"], {})], "operator Sub"),
        ([("Mul", ["X", "X"], ["y"], {})], "operator Mul"),
        ([("Add", ["X", "w"], ["y"], {})], r"a constant has shape \(3, 4\)"),
        ([("Flatten", ["X"], ["y"], {"axis": 0})], "operator Flatten has axis 0"),
        ([("Reshape", ["X", "shape"], ["y"], {})], "operator Reshape has no constant shape that leaves the rows open"),
        ([("Reshape", ["X", "zero"], ["y"], {"allowzero": 1})], "operator Reshape has allowzero"),
        ([("Softmax", ["X"], ["y"], {"axis": 0})], "along axis 0"),
        ([("Cast", ["X"], ["y"], {"to": 7})], "operator Cast"),
        ([("Dropout", ["X", "", "yes"], ["y"], {})], "operator Dropout"),
        ([("Transpose", ["w"], ["y"], {})], "'y' does not come from the rows"),
        (TWICE, "'a' is read in several places"),
    ],
)
def test_what_no_layer_stands_for_is_refused_by_name(nodes, message, tmp_path):
    constants = {
        "w": W,
        "wt": W.T.copy(),
        "one": ONE,
        "six": 6 * ONE,
        "shape": np.array([3, -1]),
        "zero": np.array([0, 3]),
        "yes": np.array(True),
    }
    path = by_hand(tmp_path / "m.onnx", nodes, constants)
    with pytest.raises(fastnn.ModelFormatError, match=rf"m\.onnx: .*{message}"):
        fastnn.from_onnx(path)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Relu", ["X"], ["z"], {})],
        [("Relu", ["q"], ["y"], {})],
        [("Relu", ["y"], ["z"], {}), ("Relu", ["z"], ["y"], {})],
        [("Relu", ["X"], ["y"], {}), ("Relu", ["X"], ["y"], {})],
        [("Gemm", ["X"], ["y"], {})],
    ],
)
def test_graphs_that_are_none(nodes, tmp_path):
    with pytest.raises(fastnn.ModelFormatError, match=r"m\.onnx: it cannot be read as ONNX: ValidationError"):
        fastnn.from_onnx(by_hand(tmp_path / "m.onnx", nodes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 6}, "opset 6"),
        ({"domain": "com.microsoft"}, "operator Relu is of domain 'com.microsoft'"),
        ({"inputs": [("X", ["n", 3]), ("Z", ["n", 3])]}, "2 inputs"),
        ({"inputs": [("X", ["n", "m"])]}, "does not say how many values"),
        ({"inputs": [("X", ["n", 1 << 40])]}, "expected 16777216 values at most"),
        ({"outputs": ["y", "y", "y"]}, "3 outputs"),
        ({"outputs": ["y", "y"]}, "operator Relu makes 'y', expected Softmax or Sigmoid"),
    ],
)
def test_files_that_are_no_such_networks(arguments, message, tmp_path):
    path = by_hand(tmp_path / "m.onnx", [("Relu", ["X"], ["y"], {})], **arguments)
    with pytest.raises(fastnn.ModelFormatError, match=message):
        fastnn.from_onnx(path)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("ArgMax", ["X"], ["label"], {"axis": 1})], "label' is not the class"),
        ([("ArgMax", ["z"], ["label"], {"axis": 0})], "operator ArgMax makes the labels"),
        ([("ArgMin", ["z"], ["label"], {"axis": 1})], "operator ArgMin makes the labels"),
        ([("Greater", ["z", "one"], ["label"], {})], "label' is not the class"),
        (
            [("ArgMax", ["z"], ["a"], {"axis": 1}), ("Gather", ["two", "a"], ["label"], {})],
            "it has 2 classes, expected",
        ),
        (
            [
                *(("ArgMax", ["z"], ["a"], {"axis": 1}), ("Gather", ["two", "a"], ["c"], {})),
                ("Cast", ["c"], ["label"], {"to": 9}),
            ],
            r"operator Cast makes truth values of the classes \[5, 6\]",
        ),
        ([("ArgMax", ["z"], ["a"], {"axis": 1}), ("Cast", ["a"], ["label"], {"to": 9})], "it has 2 classes, expected"),
    ],
)
def test_labels_that_are_not_those_of_the_probabilities(nodes, message, tmp_path):
    network = [("Relu", ["X"], ["z"], {}), ("Softmax", ["z"], ["y"], {"axis": 1})]
    constants = {"one": ONE, "two": np.array([5, 6])}
    path = by_hand(tmp_path / "m.onnx", [*network, *nodes], constants, outputs=("label", "y"))
    with pytest.raises(fastnn.ModelFormatError, match=message):
        fastnn.from_onnx(path)


@pytest.mark.parametrize("classes", [None, [0, 1]])
def test_labels_that_are_cast_to_truth_values(classes, tmp_path):
    nodes = [
        *(("Gemm", ["X", "w"], ["z"], {}), ("Softmax", ["z"], ["y"], {"axis": 1})),
        ("ArgMax", ["z"], ["a"], {"axis": 1, "keepdims": 0}),
        *([("Gather", ["classes", "a"], ["c"], {})] if classes else []),
        ("Cast", ["c" if classes else "a"], ["label"], {"to": 9}),
    ]
    constants = {"w": W[:, :2].copy()} | ({"classes": np.array(classes)} if classes else {})
    model = fastnn.from_onnx(by_hand(tmp_path / "m.onnx", nodes, constants, outputs=("label", "y")))
    assert [type(name) for name in model.metadata["classes"]] == [bool, bool]
    assert model.metadata["classes"] == [False, True]


@pytest.mark.parametrize("attributes", [{"offset": [1.0, 2.0, 3.0]}, {"scale": [0.5, 2.0, -1.0]}, {}])
def test_a_scaler_may_lack_its_offset_or_its_scale(attributes, tmp_path):
    path = by_hand(tmp_path / "m.onnx", [("Scaler", ["X"], ["y"], attributes)], domain="ai.onnx.ml")
    x = rows(5, 3)
    expected = (x - np.float32(attributes.get("offset", 0))) * np.float32(attributes.get("scale", 1))
    np.testing.assert_allclose(fastnn.from_onnx(path).predict(x), expected, rtol=1e-6)


def test_complex_constants(tmp_path):
    path = by_hand(tmp_path / "m.onnx", [("Mul", ["X", "c"], ["y"], {})], {"c": np.array(1j, np.complex64)})
    with pytest.raises(fastnn.ModelFormatError, match="tensor c is complex64, expected real numbers"):
        fastnn.from_onnx(path)


def test_a_network_of_unknown_width_has_that_of_its_weights(tmp_path):
    nodes = [("Relu", ["X"], ["z"], {}), ("MatMul", ["z", "w"], ["y"], {})]
    path = by_hand(tmp_path / "m.onnx", nodes, {"w": W}, inputs=[("X", ["n", "m"])])
    assert fastnn.from_onnx(path).plan.inputs == 3


def test_skips_within_skips_have_an_end(tmp_path):
    nodes, value = [], "X"
    for level in range(40):
        nodes += [("Relu", [value], [f"r{level}"], {}), ("Add", [f"r{level}", "X"], [f"s{level}"], {})]
        value = f"s{level}"
    path = by_hand(tmp_path / "m.onnx", [*nodes, ("Identity", [value], ["y"], {})])
    with pytest.raises(fastnn.ModelFormatError, match="skips within skips"):
        fastnn.from_onnx(path)


def test_paths_and_missing_files(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"^path is 3"):
        fastnn.from_onnx(3)
    with pytest.raises(FileNotFoundError, match="absent"):
        fastnn.from_onnx(tmp_path / "absent")
    (tmp_path / "text").write_text("no ONNX")
    with pytest.raises(fastnn.ModelFormatError, match="text: it "):
        fastnn.from_onnx(tmp_path / "text")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"^from_onnx needs onnx: .* the extra \[onnx\]"):
        fastnn.from_onnx(tmp_path / "text")


def test_damaged_files_are_refused_or_read(tmp_path):
    """Whatever bytes there are: an error of their format, or a model of what they say."""
    path, rng, refused = tmp_path / "m.onnx", np.random.default_rng(0), 0
    for name in ("learned", "skips", "normalized"):
        built(name).to_onnx(path)
        whole = path.read_bytes()
        for _ in range(80):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), 3):
                content[place] = rng.integers(256)
            path.write_bytes(content[: rng.integers(len(content))] if rng.random() < 0.2 else content)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    fastnn.from_onnx(path)
            except fastnn.ModelFormatError as error:
                refused += len(str(error)) < 2500
    assert refused > 20
