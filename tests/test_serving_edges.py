"""At the edges of what predictors and exporters take: each gives what predict gives, or says why not."""

from __future__ import annotations

import itertools
import os
import re

import numpy as np
import pytest

import fastnn
from fastnn import MLPRegressor, Sequential, Trainer, files, nn
from fastnn.errors import ModelFormatError

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


def regressor(loss: str) -> MLPRegressor:
    return MLPRegressor(loss, (4,), max_iter=200, random_state=0, dtype="float32").fit(X, (X[:, 0] > 0) * 1.0)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "binary_focal", "squared_error"])
def test_a_regressor_knows_no_classes(loss, tmp_path):
    """Its sigmoid is at its end: nothing puts another behind it."""
    made = regressor(loss)
    p = made.predictor()
    np.testing.assert_allclose(p(X)[:, 0], made.predict(X), rtol=3e-7)
    for ask in (p.predict_proba, p.predict_class):
        with pytest.raises(ValueError, match="expected a"):
            ask(X)
    made.to_c(tmp_path / "m.c")
    assert "classify" not in (tmp_path / "m.h").read_text()


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared_error"])
def test_a_regressor_in_onnx(loss, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    made = regressor(loss)
    made.to_onnx(tmp_path / "m.onnx")
    session = ort.InferenceSession(str(tmp_path / "m.onnx"))
    assert [output.name for output in session.get_outputs()] == ["predictions"]
    np.testing.assert_allclose(session.run(None, {"X": X})[0], made.predict(X), rtol=1e-5)


def test_a_predictor_has_names_of_its_own():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    model = Sequential([nn.Dense(1)])
    Trainer(model, "mse", seed=0).fit(frame, X[:, 2], epochs=1, verbose=False)
    p = model.predictor()
    rows = {"a": 1.0, "b": 2.0}, {"a": np.float32(1.0), "b": 2.0}  # read in C, and in Python
    before = [p(row) for row in rows]
    model.feature_names.reverse()
    assert [p(row) for row in rows] == before


def far_apart(kind: str) -> tuple[Sequential, np.ndarray]:
    """A Dense and a BatchNorm in float32 whose product is beyond it."""
    if kind == "before":
        model = Sequential([nn.BatchNorm(), nn.Dense(1)]).build(2, seed=0)
        model.layers[0].gamma[...] = model.layers[1].weight[...] = 1e20
        return model, np.float32([[1e-10, 1e-10], [1e-9, 0]])
    model = Sequential([nn.Dense(2), nn.BatchNorm(), nn.Dense(1)]).build(2, seed=0)
    dense, norm, last = model.layers
    if kind == "overflow":
        dense.weight[...], norm.gamma[...] = [[1e30, 1], [0, 1]], 1e10
        return model, np.float32([[1e-30, 1], [2e-30, 1]])
    dense.weight[...], norm.gamma[...], last.weight[...] = 1e-30, 1e-15, 1e15
    return model, np.float32([[1e30, 1e30], [2e30, 1e30]])


@pytest.mark.parametrize("kind", ["before", "overflow", "underflow"])
def test_what_cannot_be_folded_stays_as_it_is(kind, tmp_path):
    model, rows = far_apart(kind)
    model.to_c(tmp_path / "m.c", rows=rows)
    text = (tmp_path / "m.c").read_text()
    assert "inf" not in text.lower().replace("info", "") and "nan" not in text.replace("NaN", "")
    said = float(text.split("Worst error: ")[1].split()[0])
    assert said < 1e-5


def test_a_batch_norm_whose_factor_is_beyond_float32_is_two_products(tmp_path):
    """gamma / sqrt(variance + epsilon) is 1e45: 1e15, then 1e30."""
    model = Sequential([nn.Activation("relu"), nn.BatchNorm(epsilon=1e-30), nn.Activation("relu")]).build(2, seed=0)
    model.layers[1].running_var[...], model.layers[1].gamma[...] = 0, 1e30
    rows = np.float32([[1e-20, 3e-30]])
    assert np.allclose(model.predict(rows), [[1e25, 3e15]])
    model.to_c(tmp_path / "m.c", rows=rows)
    text = (tmp_path / "m.c").read_text()
    assert re.search(r"\(a\[j\] - model_\w+_mean\[j\]\) \* model_\w+_factor\[j\] \* model_\w+_gamma\[j\] \+", text)
    assert "9.99999987e+14f" in text and "1.00000002e+30f" in text


def test_c_refuses_what_it_cannot_hold(tmp_path):
    wide = Sequential([nn.Dense(1)]).build(140_000, seed=0)
    with pytest.raises(ValueError, match=r"140000 inputs, expected at most 133144 for int8"):
        wide.to_c(tmp_path / "m.c", dtype="int8", rows=np.ones((1, 140_000)))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe")
def test_no_file_is_written_where_one_cannot_be(tmp_path):
    os.mkfifo(tmp_path / "m_test.c")
    with pytest.raises(ValueError, match="no regular file"):
        Sequential([nn.Dense(1)]).build(2, seed=0).to_c(tmp_path / "m.c")
    assert [path.name for path in tmp_path.iterdir()] == ["m_test.c"]


def test_a_member_that_is_no_array(tmp_path):
    """ "w" beside "w.npy" was one of them, whichever came last."""
    import hashlib
    import zipfile

    files.write(tmp_path / "a", {}, {"w": np.arange(3.0)})
    content = (tmp_path / "a").read_bytes()[len(files.MAGIC) : -32]
    (tmp_path / "z").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "z", "a") as members:
        members.writestr("w", members.read("w.npy"))
    whole = files.MAGIC + (tmp_path / "z").read_bytes()
    (tmp_path / "b").write_bytes(whole + hashlib.sha256(whole).digest())
    with pytest.raises(ModelFormatError, match="member 'w' is neither"):
        files.read(tmp_path / "b")


def test_bytes_between_members(tmp_path):
    """Who reads the zip from its beginning would find another header there."""
    import hashlib
    import struct

    files.write(tmp_path / "a", {}, {"w": np.arange(3.0)})
    content = bytearray((tmp_path / "a").read_bytes()[:-32])
    place = content.index(b"PK\1\2")  # the directory begins
    content[place:place] = b"between"
    (begin,) = struct.unpack_from("<L", content, len(content) - 6)
    struct.pack_into("<L", content, len(content) - 6, begin + 7)
    (tmp_path / "b").write_bytes(bytes(content) + hashlib.sha256(content).digest())
    with pytest.raises(ModelFormatError, match="bytes between its members"):
        files.read(tmp_path / "b")


def test_a_rate_beyond_float64_in_a_file(tmp_path):
    regressor("squared_error").save(tmp_path / "m")
    header, arrays = files.read(tmp_path / "m")
    for name, value in (("rate", 10**400), ("optimizer", {"rule": "adam", "step": 1})):
        changed = {**header, "fitted": {**header["fitted"], name: value}}
        files.write(tmp_path / "n", changed, arrays)
        with pytest.raises(ModelFormatError, match=name):
            fastnn.load(tmp_path / "n")


# ONNX in ---------------------------------------------------------------------------------------------------------


def onnx_file(path, nodes, constants=(), shape=("n", 4), outputs=("y",), opset=17):
    onnx = pytest.importorskip("onnx")
    h = onnx.helper
    graph = h.make_graph(
        [h.make_node(op, inputs, made, **attributes) for op, inputs, made, attributes in nodes],
        "g",
        [h.make_tensor_value_info("X", onnx.TensorProto.FLOAT, shape)],
        [h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"] + [None] * (len(shape) - 1)) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8), path)
    return path


def slices(*ends):
    nodes = [("Slice", ["X", f"s{i}", f"e{i}", "axis", "step"], [f"p{i}"], {}) for i in range(2)]
    constants = {f"s{i}": np.array([i]) for i in range(2)} | {f"e{i}": np.array([end]) for i, end in enumerate(ends)}
    return [*nodes, ("Max", ["p0", "p1"], ["y"], {})], constants | {"axis": np.array([-1]), "step": np.array([2])}


def test_what_is_not_what_it_looks_like(tmp_path):
    refused = {
        "axis": ([("Softmax", ["X"], ["y"], {})], {}, ("n", 2, 3), 11),  # of opset 11: over all values of a row
        "int64": ([("Div", ["X", "c"], ["y"], {})], {"c": np.array([2, 2, 2, 2])}, ("n", 4), 17),
        "Max": (*slices(2, 4), ("n", 4), 17),
    }
    onnx = pytest.importorskip("onnx")
    for word, (nodes, constants, shape, opset) in refused.items():
        path = tmp_path / "m.onnx"
        try:
            onnx_file(path, nodes, constants, shape, opset=opset)
        except (ValueError, onnx.checker.ValidationError):
            continue
        with pytest.raises(ModelFormatError, match=f"m.onnx: .*({word}|operator)"):
            fastnn.from_onnx(path)
    made = fastnn.from_onnx(onnx_file(tmp_path / "m.onnx", *slices(4, 4)))
    np.testing.assert_array_equal(made.predict(X), np.maximum(X[:, ::2], X[:, 1::2]))


def test_a_small_file_asks_for_little_memory(tmp_path):
    names = ["X", *(f"v{i}" for i in range(200))]
    nodes = [("Mul", [before, "c"], [after], {}) for before, after in itertools.pairwise(names)]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"c": np.float32(2)}, ("n", 1 << 24), (names[-1],))
    with pytest.raises(ModelFormatError, match="parameters, far more than the file has numbers"):
        fastnn.from_onnx(path)


@pytest.mark.parametrize("name", ["m.json", "m.textproto", "m.onnx"])
def test_written_is_read_whatever_its_name(name, tmp_path):
    pytest.importorskip("onnx")
    model = Sequential([nn.Residual([nn.Dropout(0.5)]), nn.Dense(2)]).build(4, seed=0)
    model.to_onnx(tmp_path / name)
    np.testing.assert_allclose(fastnn.from_onnx(tmp_path / name).predict(X), model.predict(X), rtol=1e-6)
