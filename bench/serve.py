"""What a row costs, and what many cost: a predictor beside model.predict, onnxruntime, PyTorch and NumPy.

    pip install onnx onnxruntime torch; python -m bench.serve [--threads N] [--rounds N] [--only NET ...]

Each peer that is installed has a process of its own, and they take turns. A figure is the median over the rounds of
the median call, with the worst of a hundred (p99) behind it; a ratio is the median of the ratios within the rounds.
Calls of less than 20 us are timed several at a time. The answers must agree first. fastnn looks at every value for NaN,
the others do not; PyTorch takes and gives tensors, NumPy is by hand; int8 is a predictor that answers nearly the same,
onnxruntime_int8 what onnxruntime.quantization.quantize_dynamic makes of our ONNX file.
Beside them the most that a core does (multiply-adds on registers) and the share of it that a predictor reaches.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Net(NamedTuple):
    """Inputs, then the units of each layer; the activation of all but the last."""

    sizes: tuple[int, ...]
    activation: str

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} {self.activation}"

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(1)
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return [
            (rng.normal(0, i**-0.5, (i, o)).astype(np.float32), rng.normal(0, 0.1, o).astype(np.float32))
            for i, o in pairs
        ]

    def operations(self) -> int:
        """Multiply-adds count as two."""
        return 2 * sum(i * o for i, o in zip(self.sizes, self.sizes[1:], strict=False))


NETS = {
    str(net): net
    for net in (
        Net((30, 64, 64, 2), "relu"),
        Net((32, 32, 32, 1), "tanh"),
        Net((784, 128, 10), "relu"),
        Net((200, 256, 256, 128, 10), "relu"),
    )
}
ROWS = (1, 8, 64, 1024, 8192)
BUDGET = 0.15  # seconds of one turn
Call = Callable[[Any], Any]


# The peers: from rows to what is called, and what it is called with ----------------------------------------------


def _model(net: Net) -> Any:
    from fastnn import Sequential, nn

    last = len(net.sizes) - 2
    layers = [nn.Dense(units, None if i == last else net.activation) for i, units in enumerate(net.sizes[1:])]
    model = Sequential(layers).build(net.sizes[0], seed=0)
    for layer, (weight, bias) in zip(model.layers, net.parameters(), strict=True):
        layer.weight[...], layer.bias[...] = weight, bias
    model.loss = "mse"
    return model


def predictor(net: Net) -> tuple[Call, Call]:
    p = _model(net).predictor()
    return p, lambda x: x[0] if len(x) == 1 else x


def int8(net: Net) -> tuple[Call, Call]:
    p = _model(net).predictor(dtype="int8")
    return p, lambda x: x[0] if len(x) == 1 else x


def predict(net: Net) -> tuple[Call, Call]:
    return _model(net).predict, lambda x: x


def onnxruntime(net: Net) -> tuple[Call, Call]:
    from onnx import TensorProto, helper, numpy_helper

    nodes, arrays, name = [], [], "x"
    for i, (weight, bias) in enumerate(net.parameters()):
        arrays += [numpy_helper.from_array(weight, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"]))
        name = f"z{i}"
        if i < len(net.sizes) - 2:
            nodes.append(helper.make_node(net.activation.capitalize(), [name], [f"a{i}"]))
            name = f"a{i}"
    shapes = [
        helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["n", size])
        for tensor, size in (("x", net.sizes[0]), (name, net.sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", shapes[:1], shapes[1:], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return _session(model.SerializeToString(), "x"), lambda x: x


def onnxruntime_int8(net: Net) -> tuple[Call, Call]:
    """What onnxruntime makes of our file: weights in bytes, the rows' bytes with one scale for all of a call."""
    from onnxruntime import quantization

    logging.disable(logging.WARNING)  # it advises to prepare the file, which changes nothing of products and sums
    with tempfile.TemporaryDirectory() as folder:
        given, made = (os.path.join(folder, name) for name in ("float32.onnx", "int8.onnx"))
        _model(net).to_onnx(given)
        quantization.quantize_dynamic(given, made, weight_type=quantization.QuantType.QInt8)
        with open(made, "rb") as file:
            return _session(file.read(), "X"), lambda x: x


def _session(model: bytes, rows: str) -> Call:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {rows: x})[0]


def torch(net: Net) -> tuple[Call, Call]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    modules: list[Any] = []
    for weight, bias in net.parameters():
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight[...], linear.bias[...] = torch.from_numpy(weight.T), torch.from_numpy(bias)
        modules += [linear, torch.nn.Tanh() if net.activation == "tanh" else torch.nn.ReLU()]
    module = torch.nn.Sequential(*modules[:-1]).eval()
    module.inference = torch.inference_mode()  # kept: the mode ends with it
    module.inference.__enter__()
    return module, torch.from_numpy


def numpy(net: Net) -> tuple[Call, Call]:
    parameters = net.parameters()
    activate = np.tanh if net.activation == "tanh" else lambda z: np.maximum(z, 0, out=z)

    def call(x: np.ndarray) -> np.ndarray:
        for weight, bias in parameters[:-1]:
            x = activate(x @ weight + bias)
        return x @ parameters[-1][0] + parameters[-1][1]

    return call, lambda x: x


PEERS = {peer.__name__: peer for peer in (predictor, int8, predict, onnxruntime, onnxruntime_int8, torch, numpy)}
# Of the sum of squared outputs; all others agree to 1e-3. onnxruntime's int8 is 2 % of the largest outputs off, and the
# one row of 30-64-64-2 has outputs of a tenth of these.
NEAR = {"int8": 0.05, "onnxruntime_int8": 0.2}


# Turns -----------------------------------------------------------------------------------------------------------


def work(peer: str) -> None:
    """Answers a net and a number of rows with the median and the p99 of a call, us, and the sum of squared outputs."""
    made: dict[str, tuple[Call, Call]] = {}
    for line in sys.stdin:
        name, rows = json.loads(line)
        if name == "peak":
            from fastnn.backends import native

            print(json.dumps([native.fma_peak(), 0, 0]), flush=True)
            continue
        if name not in made:
            made[name] = PEERS[peer](NETS[name])
        call, given = made[name]
        x = given(np.random.default_rng(0).normal(size=(rows, NETS[name].sizes[0])).astype(np.float32))
        total = float(np.square(np.asarray(call(x)), dtype=np.float64).sum())
        start = time.perf_counter()
        call(x)
        at_once = range(max(1, int(20e-6 / (time.perf_counter() - start))))
        samples, end = [], time.perf_counter() + BUDGET
        while time.perf_counter() < end:
            start = time.perf_counter()
            for _ in at_once:
                call(x)
            samples.append((time.perf_counter() - start) / len(at_once))
        print(json.dumps([*(1e6 * np.percentile(samples, [50, 99])), total]), flush=True)


def ask(worker: subprocess.Popen[str], name: str, rows: int) -> list[float]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(json.dumps([name, rows]) + "\n")
    worker.stdin.flush()
    answer: list[float] = json.loads(worker.stdout.readline())
    return answer


def installed() -> list[str]:
    from importlib.util import find_spec

    onnx = ("onnxruntime", "onnx")
    needs = {"onnxruntime": onnx, "onnxruntime_int8": onnx, "torch": ("torch",)}
    return [peer for peer in PEERS if all(find_spec(name) for name in needs.get(peer, ()))]


def compare(threads: int, rounds: int, names: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "bench.serve", "--peer"]
    workers = {
        peer: subprocess.Popen(
            [*command, peer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for peer in installed()
    }
    others = [peer for peer in workers if peer != "predictor"]
    peak = ask(workers["predictor"], "peak", 0)[0]
    print(
        f"{threads} thread{'s' * (threads > 1)}; a core does {peak:.0f} GFLOP/s; us a call, ratios to the predictor\n"
    )
    print(f"| net | rows | predictor (p99) | of the peak | {' | '.join(others)} |")
    print(f"| --- | ---: | ---: | ---: |{' ---: |' * len(others)}")
    for name in names:
        for rows in ROWS:
            turns = [{peer: ask(worker, name, rows) for peer, worker in workers.items()} for _ in range(rounds)]
            for peer, answer in turns[0].items():
                right = np.isclose(answer[2], turns[0]["predictor"][2], rtol=NEAR.get(peer, 1e-3))
                assert right, f"{peer} predicts something else"
            ours = statistics.median(turn["predictor"][0] for turn in turns)
            worst = statistics.median(turn["predictor"][1] for turn in turns)
            share = 1e-3 * rows * NETS[name].operations() / ours / peak / threads
            cells = []
            for peer in others:
                ratio = statistics.median(turn[peer][0] / turn["predictor"][0] for turn in turns)
                cells.append(f"{statistics.median(turn[peer][0] for turn in turns):.4g} ({ratio:.2f}x)")
            print(f"| {name} | {rows} | {ours:.3g} ({worst:.3g}) | {share:.0%} | {' | '.join(cells)} |", flush=True)
    for worker in workers.values():
        worker.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Predictions of small networks beside other runtimes.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(NETS), default=list(NETS))
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)  # in this process
    options = parser.parse_args()
    work(options.peer) if options.peer else compare(options.threads, options.rounds, options.only)
