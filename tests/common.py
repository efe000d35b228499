"""What several test files share: the backends to run on, small data, one explicit gradient. No assertions."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import Sequential, Trainer, backends, nn, optim
from fastnn.contract import Backend, Kernels
from fastnn.plan import Op, Plan


def _parameters(*without: str) -> list:
    """The backends that are here. numba's are marked slow: it compiles every formula it meets, a second for each."""
    names = [name for name in backends.available() if name not in without]
    return [pytest.param(name, marks=pytest.mark.slow) if name == "numba" else name for name in names]


BACKENDS = _parameters()
VECTORISED = _parameters("python")  # fast enough for whole fits
OTHERS = _parameters("python", "numpy")  # to be compared with numpy
with warnings.catch_warnings():
    warnings.simplefilter("ignore", fastnn.FallbackWarning)
    AUTOMATIC = backends.resolve().name
ENGINES = list(dict.fromkeys(("numpy", AUTOMATIC)))  # the Python engine, and the one users get

WINDOWED: dict[type[nn.Layer], tuple[tuple, tuple[int, ...]]] = {  # arguments, and such rows as they take
    nn.Conv1D: ((2, 3, 1, "same"), (-1, 2)),
    nn.Conv2D: ((3, (2, 3), (2, 1), ((1, 0), (1, 1))), (-1, 2, 1)),
    nn.MaxPool1D: ((2,), (-1, 1)),
    nn.MaxPool2D: ((2, 1, "same"), (-1, 2, 1)),
    nn.AvgPool1D: ((3, 2, 1), (-1, 2)),
    nn.AvgPool2D: (((1, 2),), (-1, 2, 1)),
    nn.GlobalMaxPool: ((), (-1, 2)),
    nn.GlobalAvgPool: ((), (-1, 2, 1)),
    nn.ZeroPad: ((1,), (-1, 1)),
    nn.Upsample: ((2,), (-1, 2, 1)),
}
EVERY_LAYER = [kind for kind in vars(nn).values() if inspect.isclass(kind) and issubclass(kind, nn.Layer)]
EVERY_LAYER.remove(nn.Layer)
# which take rows of steps, or ids: test_sequences.py has them
OF_STEPS = [nn.SimpleRNN, nn.GRU, nn.LSTM, nn.Embedding]
TIMELESS = [kind for kind in EVERY_LAYER if kind not in OF_STEPS]
LAYERS = [kind for kind in TIMELESS if kind not in WINDOWED]  # these take rows of any shape
ARGUMENTS = {  # of layers that need some: 4 channels go in and come out
    nn.Dense: lambda: (4,),
    nn.Activation: lambda: ("tanh",),
    nn.Reshape: lambda: ((-1, 2),),
    nn.Residual: lambda: ([nn.Scale(0.5), nn.Activation("tanh")],),
    **dict.fromkeys((nn.SimpleRNN, nn.GRU, nn.LSTM), lambda: (4,)),
    nn.Embedding: lambda: (9, 4),
}


def arguments(kind: type[nn.Layer]) -> tuple:
    if kind in WINDOWED:
        return WINDOWED[kind][0]
    return ARGUMENTS[kind]() if kind in ARGUMENTS else ()


def behind(kind: type[nn.Layer]) -> list[nn.Layer]:
    """What makes rows of an even number of values such as the layer takes."""
    return [nn.Reshape(WINDOWED[kind][1])] if kind in WINDOWED else []


def row_shape(kind: type[nn.Layer]) -> tuple[int, ...]:
    """Rows that it takes."""
    return tuple(4 if size == -1 else size for size in WINDOWED[kind][1]) if kind in WINDOWED else (4,)


def make_layer(kind: type[nn.Layer]) -> nn.Layer:
    return kind(*arguments(kind))


def every_layer(width: int, outputs: int, kinds: Sequence[type[nn.Layer]] = tuple(TIMELESS)) -> list[nn.Layer]:
    """A network with every layer, each but the first behind a dense one of so many units, an even number: one that is
    added later is in it."""
    made = [make_layer(nn.Normalize)]
    for kind in kinds:
        if kind is not nn.Normalize:  # which comes first
            made += [nn.Dense(width, "tanh"), *behind(kind), make_layer(kind), nn.Flatten()]
    return [*made, nn.Dense(outputs)]


def features(rows: int = 7, inputs: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, inputs))


def targets(loss: nn.losses.Loss, rows: int, outputs: int, kind: str | None = None, seed: int = 1) -> np.ndarray:
    """Targets of that kind ("labels" or "values") for the loss; None: the first kind it takes."""
    rng = np.random.default_rng(seed)
    if (kind or loss.targets[0]) == "labels":
        return rng.integers(0, outputs, rows)
    if loss.link == "softmax":
        return rng.dirichlet(np.ones(outputs), rows)
    low, high = loss.y_range
    shape = rows, outputs // loss.width
    if np.isfinite(high):
        return rng.uniform(low, high, shape)
    return np.maximum(rng.normal(size=shape) * 2, low)


def in_threads(work: Callable[[int], None], count: int) -> None:
    """work(0) .. work(count - 1), each in a thread, at a time."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stir(model: Sequential, seed: int = 2) -> Sequential:
    """Move every trainable parameter off its initial value: no bias is 0, no gamma 1."""
    rng = np.random.default_rng(seed)
    for tensor in model.plan.tensors:
        if tensor.trainable:
            model.state.views[tensor.name][...] += 0.3 * rng.normal(size=tensor.shape)
    return model


def build(*layers: nn.Layer, inputs: int = 3, dtype: type = np.float64, seed: int = 0) -> Sequential:
    return stir(Sequential(layers, dtype=dtype).build(inputs, seed=seed))


def of_ids(model: Sequential, count: int) -> Sequential:
    """The model on rows of whole numbers below `count`: no layer begins a plan with that source."""
    plan, shape = model.plan, model.plan.input_shape
    source = Op("ids", shape, shape, settings={"count": count})
    model._plan = Plan.assemble([source, *plan.ops], shape, plan.output_shape, plan.dtype)
    return model


def with_operation(kernels: Kernels, name: str, **functions: Callable[..., None]) -> Kernels:
    """The table with other functions of one operation."""
    return dataclasses.replace(kernels, ops={**kernels.ops, name: kernels.ops[name]._replace(**functions)})


def parameters(model: Sequential) -> dict[str, np.ndarray]:
    """A copy of everything training changes, by name."""
    return {name: view.copy() for name, view in model.state.views.items()}


def gradient(model: Sequential, X, y, loss, backend: str | Backend = "numpy", **fit) -> dict[str, np.ndarray]:
    """The gradient as a user can see it: what one full-batch step of plain descent with rate 1 takes away."""
    before = parameters(model)
    settings = {key: fit.pop(key) for key in ("clip_norm", "clip_value", "optimizer", "seed") if key in fit}
    trainer = Trainer(model, loss, **{"optimizer": optim.SGD(1.0), "seed": 0, "backend": backend, **settings})
    trainer.fit(X, y, epochs=1, batch_size="full", verbose=False, **fit)
    trainable = {tensor.name for tensor in model.plan.tensors if tensor.trainable}
    taken = {name: before[name] - view for name, view in model.state.views.items() if name in trainable}
    for name, view in model.state.views.items():
        view[...] = before[name]
    return taken


def hyper_parameters(kind: type) -> list[dataclasses.Field]:
    """The numeric fields of an optimizer or a schedule that have a range."""
    return [item for item in dataclasses.fields(kind) if item.metadata]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Python code in a process of its own, with this very package and only these FASTNN_ variables."""
    package = str(Path(fastnn.__file__).parents[1])
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("FASTNN_")}
    path = os.pathsep.join(filter(None, [package, inherited.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=inherited | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def passing(outputs: int, loss: str, dtype=np.float64, end: str | None = None) -> Sequential:
    """A model whose logits are its input; its output, too, or what the activation `end` makes of it."""
    model = Sequential([nn.Dense(outputs, end, init=0.0)], dtype=dtype).build(outputs, seed=0)
    model.layers[0].weight[...] = np.eye(outputs)
    model.loss = nn.LOSSES[loss]
    return model


class EndsAt(fastnn.Callback):
    """Ends a fit after so many steps, within an epoch or at its end, as Ctrl-C does."""

    order = 3
    every = 1

    def __init__(self, step: int) -> None:
        self.last = step

    def on_step(self, run: fastnn.training.run.Run) -> None:
        if run.step == self.last:
            raise KeyboardInterrupt


def full(*arguments: object) -> None:
    """What a system call does on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")
