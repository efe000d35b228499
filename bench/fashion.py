"""The main job beside PyTorch: `fastnn demo`'s network on Fashion-MNIST, time to train and test accuracy.

    python -m bench.fashion [--epochs N] [--rounds N] [--data DIR] [--out NAME]

Each side trains in a process of its own, in turns, with one seed a round. fastnn is given the images as bytes, and
its time has the checks and the scaling in it; PyTorch gets them scaled and in float32, outside of its time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastnn import datasets, optim
from fastnn._cpus import usable
from fastnn.bench import demo
from fastnn.bench.report import markdown, number
from fastnn.bench.runners import FASTNN, OURS
from fastnn.bench.worker import Worker, WorkerError
from fastnn.bench.workloads import LEARNING_RATE
from fastnn.training.trainer import Trainer


class FastnnJob:
    """The demo's classifier with `Trainer.fit`."""

    def __init__(self, data: str | None, threads: int | None, backend: str) -> None:
        self.images, self.backend = datasets.find(data), backend

    def run(self, epochs: int, seed: int) -> tuple[float, float]:
        """(seconds of training, accuracy on the test images)."""
        images, setting = self.images, demo.setting_for(self.images)
        model = demo.classifier(setting.hidden, len(images.classes))
        trainer = Trainer(model, "cross_entropy", optim.Adam(LEARNING_RATE), seed=seed, backend=self.backend)
        start = time.perf_counter()
        trainer.fit(images.x, images.y, epochs=epochs, batch_size=setting.batch_size, verbose=False)
        seconds = time.perf_counter() - start
        return seconds, float(np.mean(model.predict_class(images.x_test) == images.y_test))


class TorchJob:
    """The same network with eager PyTorch: batches by index, fused Adam, He's initial weights."""

    def __init__(self, data: str | None, threads: int | None) -> None:
        import torch

        self.torch = torch
        if threads is not None:
            torch.set_num_threads(threads)
        images = datasets.find(data)
        self.setting, self.classes = demo.setting_for(images), len(images.classes)
        mean, std = float(images.x.mean()), float(images.x.std())

        def scaled(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy((x.reshape(len(x), -1).astype(np.float32) - mean) / std)

        self.x, self.x_test = scaled(images.x), scaled(images.x_test)
        self.y, self.y_test = torch.from_numpy(images.y), torch.from_numpy(images.y_test)

    def run(self, epochs: int, seed: int) -> tuple[float, float]:
        """(seconds of training, accuracy on the test images)."""
        torch, batch = self.torch, self.setting.batch_size
        torch.manual_seed(seed)
        model = self._model()
        adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
        loss_of = torch.nn.CrossEntropyLoss()
        start = time.perf_counter()
        for _ in range(epochs):
            order = torch.randperm(len(self.x))
            for first in range(0, len(order), batch):
                rows = order[first : first + batch]
                adam.zero_grad(set_to_none=True)
                loss_of(model(self.x[rows]), self.y[rows]).backward()
                adam.step()
        seconds = time.perf_counter() - start
        with torch.no_grad():
            right = model(self.x_test).argmax(dim=1) == self.y_test
        return seconds, right.float().mean().item()

    def _model(self):
        nn, sizes = self.torch.nn, (self.x.shape[1], *self.setting.hidden, self.classes)
        layers = []
        for inputs, outputs in pairwise(sizes):
            dense = nn.Linear(inputs, outputs)
            if outputs != self.classes:
                nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(dense.weight)
            nn.init.zeros_(dense.bias)
            layers += [dense, nn.ReLU()]
        return nn.Sequential(*layers[:-1])


@dataclass
class Side:
    """One runner's rounds."""

    name: str
    threads: int | None
    seconds: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def sides(backend: str) -> list[tuple[Side, str, dict[str, str]]]:
    """Who takes part: (its results, its class, further arguments)."""
    counts = sorted({1, usable()})
    torches = [(Side("PyTorch", n), "TorchJob", {}) for n in counts]
    return [(Side(f"fastnn {backend}", None), "FastnnJob", {"backend": backend}), *torches]


def race(members: list[tuple[Side, str, dict[str, str]]], data: str | None, epochs: int, rounds: int) -> list[Side]:
    """Train on every side, in turns. A side that cannot is left out, and said so."""
    workers: list[tuple[Side, Worker]] = []
    try:
        for side, kind, more in members:
            worker = Worker(side.threads)
            workers.append((side, worker))
            try:
                worker.make(f"bench.fashion:{kind}", data=data, threads=side.threads, **more)
            except WorkerError as error:
                print(f"left out: {side.name}: {error}")
                workers.pop()[1].close()
        for seed in range(rounds):
            for side, worker in workers:
                seconds, accuracy = worker.call("run", epochs=epochs, seed=seed)
                side.seconds.append(seconds)
                side.accuracies.append(accuracy)
    finally:
        for _, worker in workers:
            worker.close()
    return [side for side, _ in workers]


def table(found: list[Side], rows: int) -> str:
    """Medians in Markdown; the ratio is to the first side, round by round."""
    lines = []
    for side in found:
        median = statistics.median(side.seconds)
        ratio = statistics.median(b / a for a, b in zip(found[0].seconds, side.seconds, strict=True))
        accuracy = statistics.mean(side.accuracies)
        threads = "its own" if side.threads is None else str(side.threads)
        lines.append([side.name, threads, number(median), f"{rows / median:,.0f}", f"{accuracy:.4f}", number(ratio)])
    return markdown(["", "threads", "seconds", "rows/s", "test accuracy", "ratio"], lines, words=2)


def main(arguments: list[str] | None = None) -> None:
    present = [spec.name for spec in OURS if spec.name in FASTNN and spec.present]
    parser = argparse.ArgumentParser(prog="python -m bench.fashion", description="Fashion-MNIST beside PyTorch.")
    parser.add_argument("--backend", choices=present, default=present[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", metavar="DIR", help="a directory of idx files, or 'digits'")
    parser.add_argument("--out", metavar="NAME", help="write NAME.json")
    options = parser.parse_args(arguments)

    images = datasets.find(options.data)
    sizes = "-".join(map(str, (images.x[0].size, *demo.setting_for(images).hidden, len(images.classes))))
    print(f"{images.name}, {sizes}, {options.epochs} epochs, medians of {options.rounds} rounds\n")
    found = race(sides(options.backend), options.data, options.epochs, options.rounds)
    print(table(found, options.epochs * len(images.x)))
    if options.out is not None:
        result = {"data": images.name, "epochs": options.epochs, "sides": [asdict(side) for side in found]}
        Path(f"{options.out}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
