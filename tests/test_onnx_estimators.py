"""Estimators as ONNX, in files and in skl2onnx's pipelines: onnxruntime gives what they do, in scikit-learn's form."""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np
import pytest
from common import features

pytest.importorskip("sklearn")
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from sklearn.neural_network import MLPRegressor as SklearnRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import MLPClassifier, MLPRegressor

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

X = features(60, 5)
K = np.random.default_rng(0).integers(0, 3, len(X))
NAMES = np.array(["a", "bb", "c é"])
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
TYPES = {"float32": "tensor(float)", "float64": "tensor(double)"}
TARGETS = {
    "ints": K * 5 - 3,
    "two": K % 2,
    "bytes": K.astype(np.uint8),
    "bools": K > 0,
    "floats": K.astype(float),
    "text": NAMES[K],
    "two texts": NAMES[K % 2],
    "objects": NAMES.astype(object)[K],
    "labels": np.stack([K > 0, K == 1, K == 0], axis=1).astype(int),
    "one": np.full(60, 7),
}


def fitted(kind, y, rows=X, **settings):
    settings = dict(hidden_layer_sizes=(8,), max_iter=30, random_state=0) | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**settings).fit(rows, y)


def session(model) -> ort.InferenceSession:
    """A session of a file or of a model of skl2onnx."""
    loaded = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
    onnx.checker.check_model(loaded, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(loaded.SerializeToString(), options, providers=["CPUExecutionProvider"])


def described(opened) -> dict[str, tuple]:
    """Types and shapes of the outputs, rows left out, by name."""
    return {output.name: (output.type, output.shape[1:]) for output in opened.get_outputs()}


def run(opened, x: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, {"X": x}), strict=True))


def close(found: np.ndarray, expected: np.ndarray, dtype: str, tolerance: float | None = None) -> None:
    assert found.dtype == dtype and found.shape == expected.shape
    worst = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    assert worst.max() <= (tolerance or TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_labels_and_probabilities(y, dtype, tmp_path):
    model = fitted(MLPClassifier, y, dtype=dtype)
    model.to_onnx(tmp_path / "m.onnx")
    out = run(session(tmp_path / "m.onnx"), X.astype(dtype))
    assert list(out) == ["label", "probabilities"]
    expected = model.predict(X.astype(dtype))
    assert out["label"].dtype == (object if expected.dtype.kind in "UO" else np.int64)
    assert out["label"].shape == expected.shape and (out["label"] == expected).all()
    close(out["probabilities"], model.predict_proba(X.astype(dtype)), dtype)


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("one", "objects", "labels")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_names_types_and_shapes_are_those_of_scikit_learns(name, dtype, tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    other = fitted(SklearnClassifier, TARGETS[name])
    x = X.astype(dtype)
    theirs = session(skl2onnx.to_onnx(other, x[:1], options={"zipmap": False}, target_opset=17))
    fitted(MLPClassifier, TARGETS[name], dtype="float64").to_onnx(tmp_path / "m.onnx", input=dtype)
    ours = session(tmp_path / "m.onnx")
    assert described(ours) == described(theirs)
    for found, expected in zip(run(ours, x).values(), run(theirs, x).values(), strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gamma", "huber"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_values(outputs, loss, dtype, tmp_path):
    y = np.exp(0.3 * features(60, outputs, seed=3))
    model = fitted(MLPRegressor, y[:, 0] if outputs == 1 else y, loss=loss, dtype=dtype)
    model.to_onnx(tmp_path / "m.onnx")
    out = run(session(tmp_path / "m.onnx"), X.astype(dtype))
    assert list(out) == ["predictions"]
    close(out["predictions"], model.predict(X.astype(dtype)), dtype)
    again = fastnn.from_onnx(tmp_path / "m.onnx").predict(X.astype(dtype))
    assert np.allclose(again.reshape(out["predictions"].shape), out["predictions"], rtol=1e-5)


def test_numbers_are_in_the_dtype_of_the_input(tmp_path):
    """Whatever the network computes in, as predict's of a regressor and skl2onnx's are."""
    for model, name in ((fitted(MLPClassifier, K), "probabilities"), (fitted(MLPRegressor, X[:, 0]), "predictions")):
        for input in TYPES:
            model.to_onnx(tmp_path / "m.onnx", input=input, opset=13)
            opened = session(tmp_path / "m.onnx")
            assert opened.get_inputs()[0].type == TYPES[input] and described(opened)[name][0] == TYPES[input]
            answers = model.predict_proba if name == "probabilities" else model.predict
            close(run(opened, X.astype(input))[name], answers(X.astype(input)), input)


@pytest.mark.parametrize("y", [K, K % 2, NAMES[K]])
def test_a_hinge_has_scores(y, tmp_path):
    model = fitted(MLPClassifier, y, loss="hinge")
    model.to_onnx(tmp_path / "m.onnx")
    out = run(session(tmp_path / "m.onnx"), X)
    assert list(out) == ["label", "scores"] and (out["label"] == model.predict(X)).all()
    close(out["scores"], model.decision_function(X), "float64")


def test_a_file_of_a_classifier_is_read_again(tmp_path):
    for input in TYPES:
        model = fitted(MLPClassifier, NAMES[K])
        model.to_onnx(tmp_path / "m.onnx", input=input)
        again = fastnn.from_onnx(tmp_path / "m.onnx")
        assert again.metadata["classes"] == NAMES.tolist()
        assert np.array_equal(NAMES[again.predict_class(X)], model.predict(X))


WORDS = {  # by what a classifier is fitted on, and what its file says instead
    "text": (NAMES[K], NAMES.tolist()),
    "two texts": (NAMES[K % 2], NAMES[:2].tolist()),
    "whole numbers": (np.array([-7, 3, 2**40])[K], [-7, 3, 2**40]),
    "bools": (K > 0, [0, 1]),  # skl2onnx has them as int64, too
}


@pytest.mark.parametrize("kind", WORDS)
def test_classes_and_names_of_features_survive_both_ways(kind, tmp_path):
    """The labels of a file that was read and written again are the first one's, in its dtype."""
    pandas = pytest.importorskip("pandas")
    y, wanted = WORDS[kind]
    frame = pandas.DataFrame(X, columns=[f"column {place}" for place in range(X.shape[1])])
    model = fitted(MLPClassifier, y, frame, dtype="float32")
    model.to_onnx(tmp_path / "m.onnx", input="float32")
    fastnn.from_onnx(tmp_path / "m.onnx").to_onnx(tmp_path / "again.onnx")
    first, second = (run(session(tmp_path / name), X.astype(np.float32)) for name in ("m.onnx", "again.onnx"))
    assert first["label"].dtype == second["label"].dtype
    assert (first["label"] == second["label"]).all() and (first["label"] == model.predict(frame)).all()
    last = fastnn.from_onnx(tmp_path / "again.onnx")
    assert last.metadata["classes"] == wanted and last.feature_names == list(frame.columns)
    last.save(tmp_path / "m.fastnn")
    loaded = fastnn.load(tmp_path / "m.fastnn")
    assert loaded.class_names.tolist() == wanted and loaded.feature_names == last.feature_names
    last.to_c(tmp_path / "m.c")
    assert all(f'"{name}"' in (tmp_path / "m.c").read_text() for name in wanted[:2])  # the third is not ASCII


def test_bools_of_a_network_stay_bools(tmp_path):
    """A network's own, which are written as they are."""
    model = fastnn.Sequential([fastnn.nn.Dense(1)]).build(3, seed=0)
    model.loss, model.metadata = "binary_cross_entropy", {"classes": [False, True]}
    model.to_onnx(tmp_path / "m.onnx")
    assert run(session(tmp_path / "m.onnx"), X[:, :3].astype(np.float32))["label"].dtype == bool
    assert fastnn.from_onnx(tmp_path / "m.onnx").metadata["classes"] == [False, True]


@pytest.mark.parametrize(
    "classes", ["ab", ["a"], ["a", 1], [True, 1], ["a", None], [2**63, 1], {"a": 1, "b": 2}, [[1], [2]]]
)
def test_metadata_that_are_no_classes_are_the_users_own(classes, tmp_path):
    model = fastnn.Sequential([fastnn.nn.Dense(2)]).build(3, seed=0)
    model.loss, model.metadata = "cross_entropy", {"classes": classes}
    assert model.class_names is None
    model.to_onnx(tmp_path / "m.onnx")
    assert run(session(tmp_path / "m.onnx"), X[:, :3].astype(np.float32))["label"].dtype == np.int64
    model.metadata, model.loss = {"classes": ["a", "b"]}, "mse"
    assert model.class_names is None


def test_what_is_refused_leaves_the_file_alone(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    two = fitted(MLPClassifier, np.stack([K, K + 1], axis=1))
    shared = fitted(MLPClassifier, K, loss="binary_cross_entropy")
    for model, error, message, arguments in (
        (MLPClassifier(), NotFittedError, "not fitted", {}),
        (two, ValueError, "2 columns of classes", {}),
        (shared, ValueError, "expected cross_entropy", {}),
        (fitted(MLPClassifier, K), ValueError, "opset is 12", {"opset": 12}),
        (fitted(MLPClassifier, K), ValueError, "input is 'float16'", {"input": "float16"}),
    ):
        with pytest.raises(error, match=message):
            model.to_onnx(path, **arguments)
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.onnx"]


# Within skl2onnx ------------------------------------------------------------------------------------------------


@pytest.fixture
def skl2onnx():
    made = pytest.importorskip("skl2onnx")
    from fastnn.estimators import register_skl2onnx

    register_skl2onnx()
    register_skl2onnx()  # as often as one likes
    return made


def pipeline(kind, y, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_pipeline(StandardScaler(), kind((8,), max_iter=30, random_state=0, **settings)).fit(X * 3 + 5, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_classifiers_in_pipelines(y, dtype, skl2onnx):
    model, x = pipeline(MLPClassifier, y), (X * 3 + 5).astype(dtype)
    options = {"zipmap": False}
    opened = session(skl2onnx.to_onnx(model, x[:1], options=options, target_opset=17))
    out = run(opened, x)
    assert list(out) == ["label", "probabilities"]
    assert (out["label"] == model.predict(x)).all()
    close(out["probabilities"], model.predict_proba(x), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_regressors_in_pipelines(outputs, dtype, skl2onnx):
    y = features(60, outputs, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0))
        model.fit(X, y[:, 0] if outputs == 1 else y)
        other = SklearnRegressor(max_iter=2).fit(X, y[:, 0] if outputs == 1 else y)
    x = X.astype(dtype)
    opened = session(skl2onnx.to_onnx(model, x[:1], target_opset=17))
    theirs = described(session(skl2onnx.to_onnx(other, x[:1], target_opset=17)))
    assert described(opened) == {"variable": (theirs["variable"][0], [outputs])}  # theirs says 1 of 3, too
    close(run(opened, x)["variable"], model.predict(x).reshape(60, outputs), dtype)


def test_by_default_probabilities_are_dicts(skl2onnx):
    model = pipeline(MLPClassifier, NAMES[K])
    out = session(skl2onnx.to_onnx(model, X[:1].astype(np.float32))).run(
        None, {"X": (X[:4] * 3 + 5).astype(np.float32)}
    )
    assert out[0].tolist() == model.predict(X[:4] * 3 + 5).tolist()
    assert [sorted(row) for row in out[1]] == [NAMES.tolist()] * 4


def test_a_hinge_and_whole_numbers_in_pipelines(skl2onnx):
    model = pipeline(MLPClassifier, K, loss="hinge")
    out = run(session(skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})), X)
    assert (out["label"] == model.predict(X)).all()
    close(out["probabilities"], model.decision_function(X), "float64")
    whole = np.arange(60).reshape(20, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = MLPClassifier((4,), max_iter=5, random_state=0).fit(whole, np.arange(20) % 3)
    out = run(session(skl2onnx.to_onnx(alone, whole[:1], options={"zipmap": False})), whole)
    assert (out["label"] == alone.predict(whole)).all()
    close(out["probabilities"], alone.predict_proba(whole), "float32")


def test_two_in_one_graph(skl2onnx):
    """Names do not collide."""
    from sklearn.ensemble import VotingClassifier

    parts = [(str(seed), MLPClassifier((4,), max_iter=5, random_state=seed)) for seed in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = VotingClassifier(parts, voting="soft", flatten_transform=False).fit(X, K)
    out = run(session(skl2onnx.to_onnx(model, X[:1], options={"zipmap": False}, target_opset=17)), X)
    assert (out["label"] == model.predict(X)).all()
    close(out["probabilities"], model.predict_proba(X), "float64")


def test_without_skl2onnx_the_error_names_the_extra(monkeypatch):
    from fastnn.estimators import register_skl2onnx

    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r"register_skl2onnx needs skl2onnx: .*\[onnx\]"):
        register_skl2onnx()


def test_opsets_that_are_refused(skl2onnx):
    with pytest.raises(ValueError, match="opset is 12"):
        skl2onnx.to_onnx(pipeline(MLPClassifier, K), X[:1], target_opset=12)
