"""Predictions of 784-128-10 beside onnxruntime, one thread each: its time divided by ours, at each number of rows.

    pip install onnx onnxruntime; python bench/predict.py [--rounds N]

Each has a process of its own and they take turns; a ratio is the median over the rounds of the ratios within them. The
sums of the squares of their answers must agree. fastnn looks at every value for NaN, onnxruntime does not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

INPUTS, HIDDEN, OUTPUTS = 784, 128, 10
ROWS = (1, 32, 512, 2000, 10_000)
RUNNERS = ("fastnn", "onnxruntime")
BUDGET = 0.1  # seconds of one turn
Predict = Callable[[np.ndarray], np.ndarray]


def parameters() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = [(INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (OUTPUTS,)]
    return [rng.normal(0, 0.05, shape).astype(np.float32) for shape in shapes]


def fastnn() -> Predict:
    from fastnn import Sequential, nn

    model = Sequential([nn.Dense(HIDDEN, "relu"), nn.Dense(OUTPUTS)]).build(INPUTS, seed=0)
    w1, b1, w2, b2 = parameters()
    for layer, weight, bias in ((model.layers[0], w1, b1), (model.layers[1], w2, b2)):
        layer.weight[...], layer.bias[...] = weight, bias
    model.loss = nn.LOSSES["cross_entropy"]
    return model.predict


def onnxruntime() -> Predict:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    names = ["w1", "b1", "w2", "b2"]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["z"]),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OUTPUTS])],
        [numpy_helper.from_array(array, name) for array, name in zip(parameters(), names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def work(runner: str) -> None:
    """Answers a number of rows with the best time of a call, µs, and the sum of the squared outputs."""
    predict = {"fastnn": fastnn, "onnxruntime": onnxruntime}[runner]()
    data = np.random.default_rng(0).normal(size=(max(ROWS), INPUTS)).astype(np.float32)
    for line in sys.stdin:
        x = data[: int(line)]
        answer, best, end = predict(x), np.inf, time.perf_counter() + BUDGET
        while time.perf_counter() < end:
            start = time.perf_counter()
            predict(x)
            best = min(best, time.perf_counter() - start)
        print(json.dumps([1e6 * best, float(np.square(answer, dtype=np.float64).sum())]), flush=True)


def ask(worker: subprocess.Popen[str], rows: int) -> tuple[float, float]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(f"{rows}\n")
    worker.stdin.flush()
    microseconds, total = json.loads(worker.stdout.readline())
    return microseconds, total


def compare(rounds: int) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    workers = {
        runner: subprocess.Popen(
            [sys.executable, __file__, "--runner", runner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for runner in RUNNERS
    }
    print("| rows | fastnn, µs | onnxruntime, µs | ratio |\n| ---: | ---: | ---: | ---: |")
    for rows in ROWS:
        turns = [{runner: ask(worker, rows) for runner, worker in workers.items()} for _ in range(rounds)]
        ours, theirs = ([turn[runner] for turn in turns] for runner in RUNNERS)
        assert np.isclose(ours[0][1], theirs[0][1], rtol=1e-4), "they predict something else"
        ratio = statistics.median(b[0] / a[0] for a, b in zip(ours, theirs, strict=True))
        print(f"| {rows:,} | {min(ours)[0]:.1f} | {min(theirs)[0]:.1f} | {ratio:.2f} |", flush=True)
    for worker in workers.values():
        worker.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Predictions of 784-128-10 beside onnxruntime.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runner", choices=RUNNERS, help=argparse.SUPPRESS)  # in this process
    options = parser.parse_args()
    work(options.runner) if options.runner else compare(options.rounds)
