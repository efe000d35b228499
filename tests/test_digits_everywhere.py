"""One network of scikit-learn's digits, wherever it can run: each gives the labels of `model.predict_class`."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fastnn import Sequential, Trainer, nn, optim

datasets = pytest.importorskip("sklearn.datasets")
GCC = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
WASM = pytest.mark.skipif(
    shutil.which("node") is None or importlib.util.find_spec("ziglang") is None, reason="no node, or no ziglang"
)
ZIG = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-msimd128", "-nostdlib"]
JAVASCRIPT = """
const { readFileSync, writeFileSync } = require("fs");
const bytes = readFileSync("model.wasm"), rows = readFileSync("rows.f32");
const { memory, model_classify } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
const place = memory.grow(1) * 65536;
const labels = [];
for (let row = 0; row * 256 < rows.length; ++row) {
    new Uint8Array(memory.buffer, place, 256).set(rows.subarray(row * 256, row * 256 + 256));
    labels.push(model_classify(place));
}
writeFileSync("labels.json", JSON.stringify(labels));
"""


@pytest.fixture(scope="module")
def digits():
    """A network with everything that exporters fold, rows that it has not seen, and what it says of them."""
    x, y = datasets.load_digits(return_X_y=True)
    layers = [nn.Normalize(), nn.Dense(64, "relu"), nn.BatchNorm(), nn.Dense(32, "tanh"), nn.Dense(10)]
    model = Sequential(layers)
    Trainer(model, "cross_entropy", optim.Adam(3e-3), seed=0).fit(x[:1200], y[:1200], epochs=20, verbose=False)
    rows = np.ascontiguousarray(x[1200:], np.float32)
    labels = model.predict_class(rows)
    assert (labels == y[1200:]).mean() > 0.93  # a network whose answers say something
    return model, rows, labels


def run_program(*command: object, cwd) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, timeout=300, check=True, capture_output=True)


def in_c(model, rows, folder, **options) -> np.ndarray:
    model.to_c(folder / "model.c", **options)
    run_program("gcc", "-std=c99", "-O2", "-shared", "-fPIC", "model.c", "-o", "model.so", cwd=folder)
    classify = ctypes.CDLL(str(folder / "model.so")).model_classify
    return np.array([classify(ctypes.c_void_p(row.ctypes.data)) for row in rows])


@GCC
@pytest.mark.parametrize("block", [16, 64])
def test_as_a_c_program(digits, block, tmp_path):
    model, rows, labels = digits
    np.testing.assert_array_equal(in_c(model, rows, tmp_path, block=block), labels)


@WASM
def test_as_web_assembly(digits, tmp_path):
    model, rows, labels = digits
    model.to_c(tmp_path / "model.c", block=16)
    (tmp_path / "rows.f32").write_bytes(rows.tobytes())
    (tmp_path / "run.cjs").write_text(JAVASCRIPT)
    linking = ["-Wl,--no-entry", "-Wl,--export=model_classify"]
    run_program(*ZIG, "-O2", *linking, "model.c", "-o", "model.wasm", cwd=tmp_path)
    run_program("node", "run.cjs", cwd=tmp_path)
    np.testing.assert_array_equal(json.loads((tmp_path / "labels.json").read_text()), labels)


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_as_onnx(digits, opset, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, rows, labels = digits
    model.to_onnx(tmp_path / "model.onnx", opset=opset)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found, probabilities = session.run(["label", "probabilities"], {session.get_inputs()[0].name: rows})
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels)


@pytest.mark.parametrize("form", ["predictor", "C"])
def test_in_bytes(digits, form, tmp_path):
    """Rows that float32 is sure of, by a tenth of a probability, keep their label: all but one in twenty."""
    model, rows, labels = digits
    if form == "C" and shutil.which("gcc") is None:
        pytest.skip("no gcc")
    predictor = model.predictor(dtype="int8")
    found = predictor.predict_class(rows) if form == "predictor" else in_c(model, rows, tmp_path, dtype="int8")
    two = np.sort(model.predict_proba(rows), axis=1)[:, -2:]
    sure = two[:, 1] - two[:, 0] > 0.1
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(found[sure], labels[sure])
    assert (found != labels).sum() <= 3
