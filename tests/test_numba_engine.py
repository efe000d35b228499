"""The compiled walk of the numba backend against the Python engine with the reference kernels, and its own faults."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from common import build, every_layer, features, of_ids, stir, targets

from fastnn import Sequential, Trainer, backends, engine, nn, optim
from fastnn.backends import reference
from fastnn.engine import Batches, Objective
from fastnn.formulas.losses import LOSSES
from fastnn.ops import OPS
from fastnn.optim import OPTIMIZERS

numba_engine = pytest.importorskip("fastnn.backends.numba_engine", exc_type=ImportError)
pytestmark = pytest.mark.slow  # numba compiles every formula it meets

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-11}
ROWS, BATCH = 21, 8  # the last batch is one of 5
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)


def walks(model: Sequential, objective: Objective, x, y, weight=None, *, epochs=2, batch=BATCH, order=None):
    """(losses, state) of the Python engine with the reference kernels, then of the compiled walk."""
    order = np.random.default_rng(5).permutation(len(x)) if order is None else order
    lr = np.linspace(0.01, 0.03, -(-len(order) // batch))  # another in each step
    start = [buffer.copy() for buffer in model.state.buffers]
    results = []
    for compiled in (False, True):
        state = model.state
        state.slots, state.rule, state.step = (), None, 0
        for buffer, value in zip(state.buffers, start, strict=True):
            buffer[...] = value
        arguments = model.plan, state, objective, Batches(x, y, weight, order, batch), lr
        run = numba_engine.train_steps if compiled else lambda *a: engine.train_steps(reference.KERNELS, *a)
        losses = np.concatenate([run(*arguments) for _ in range(epochs)])
        assert state.step == epochs * len(lr)
        results.append((losses, {name: view.copy() for name, view in state.views.items()}, state.slots))
    return results


def agree(model: Sequential, objective: Objective, x, y, weight=None, *, rtol=None, **how) -> None:
    dtype = model.plan.dtype.type
    rtol = rtol or TOLERANCE[dtype]
    (losses, views, slots), (own_losses, own_views, own_slots) = walks(model, objective, x, y, weight, **how)
    np.testing.assert_allclose(own_losses, losses, rtol=rtol)
    for name, expected in views.items():
        atol = rtol * np.abs(expected).max()
        np.testing.assert_allclose(own_views[name], expected, rtol=rtol, atol=atol, err_msg=name)
    assert len(slots) == len(own_slots)


def sgd(loss: str, **settings) -> Objective:
    return Objective(LOSSES[loss], optim.SGD(), seed=(7 << 32) + 3, **settings)


# What it walks ---------------------------------------------------------------------------------------------

KINDS = {
    "normalize": lambda: [nn.Normalize(), nn.Dense(4)],
    "activation first": lambda: [nn.Activation("softplus"), nn.Dense(4)],
    "activation of a norm": lambda: [nn.LayerNorm(), nn.Activation("silu"), nn.Dense(4)],
    "identity": lambda: [nn.Dense(5), nn.LayerNorm(), nn.Activation("identity"), nn.Dense(4)],
    "two activations": lambda: [nn.Dense(5, "tanh"), nn.Activation("relu"), nn.Dense(4)],
    "softmax": lambda: [nn.Dense(5), nn.Softmax(), nn.Dense(4)],
    "maxout": lambda: [nn.Dense(5, nn.Maxout(3)), nn.Dense(4)],
    "prelu": lambda: [nn.Dense(5, "prelu"), nn.Dense(4)],
    "ordered": lambda: [nn.Dense(5), nn.Ordered(), nn.Dense(4)],
    "rrelu": lambda: [nn.Dense(5, "rrelu"), nn.Dense(4)],
    "dropout": lambda: [nn.Dropout(0.2), nn.Dense(9, "relu"), nn.Dropout(0.5), nn.Dense(4)],
    "batch norm": lambda: [nn.Dense(5, "tanh"), nn.BatchNorm(momentum=0.8), nn.Dense(4)],
    "layer norm": lambda: [nn.Dense(5, "gelu"), nn.LayerNorm(), nn.Dense(4)],
    "scale": lambda: [nn.Dense(5, "tanh"), nn.Scale(0.3), nn.Dense(4)],
    "skips": lambda: [
        nn.Residual([nn.LayerNorm(), nn.Dense(3, "gelu")]),
        nn.Residual([nn.Dense(6)], shortcut=[nn.Dense(6)]),
        nn.Dense(4),
    ],
    "positions": lambda: [nn.Dense(6, "tanh"), nn.Reshape((2, 3)), nn.BatchNorm(), nn.Dense(2), nn.Flatten()],
    "steps": lambda: [
        nn.Reshape((-1, 1)),
        nn.LSTM(4, return_sequences=True),
        nn.GRU(3, return_sequences=True),
        nn.SimpleRNN(5),
        nn.Dense(4),
    ],
    "no bias": lambda: [nn.Dense(5, "elu", bias=False), nn.Dense(4)],
    "every layer": lambda: every_layer(6, 4),
    "products for BLAS": lambda: [nn.Dense(64, "relu"), nn.Dense(128, "tanh"), nn.Dense(4)],
}


def test_every_kind_of_operation_is_walked():
    models = [Sequential(layers()).build(3, seed=0) for layers in KINDS.values()]
    models.append(of_ids(build(nn.Dense(2)), 9))  # see test_ids
    models.append(build(nn.Embedding(9, 4)))
    walked = {op.kind for model in models for op in (model.plan.source, *model.plan.ops)}
    assert walked == set(OPS), f"KINDS has no layer that makes {set(OPS) - walked}"


@DTYPES
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_operation(kind, dtype):
    model = stir(Sequential(KINDS[kind](), dtype=dtype).build(3, seed=1))
    agree(model, sgd("mse"), features(ROWS).astype(dtype), features(ROWS, 4, seed=4).astype(dtype))


def test_ids():
    x = np.random.default_rng(0).integers(0, 9, (ROWS, 3))
    agree(of_ids(build(nn.Dense(2)), 9), sgd("mse"), x, features(ROWS, 2, seed=4))
    agree(build(nn.Embedding(9, 4, 2), nn.GRU(3), nn.Dense(2)), sgd("mse"), x, features(ROWS, 2, seed=4))


@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
def test_every_activation(activation):
    """Fused into a dense operation, in place where it saves a."""
    agree(build(nn.Dense(6, activation), nn.Dense(2)), sgd("mse"), features(ROWS), features(ROWS, 2, seed=4))


@DTYPES
@pytest.mark.parametrize(("loss", "kind"), [(loss, kind) for loss in LOSSES.values() for kind in loss.targets], ids=str)
def test_every_loss(loss, kind, dtype):
    outputs = 3 * loss.width
    model = build(nn.Dense(6, "tanh"), nn.Dense(outputs), dtype=dtype)
    y = targets(loss, ROWS, outputs, kind)
    y = y if kind == "labels" else y.astype(dtype)
    agree(model, sgd(loss.name), features(ROWS).astype(dtype), y, np.linspace(0, 2, ROWS).astype(dtype))


def test_a_loss_that_is_nobodys():
    """A row-wise loss that no loop knows is called in Python."""
    own = replace(LOSSES["cross_entropy"], name="mine")
    model, x, y = build(nn.Dense(6, "tanh"), nn.Dense(3)), features(ROWS), targets(own, ROWS, 3)
    agree(model, Objective(own, optim.SGD()), x, y)


@DTYPES
@pytest.mark.parametrize("optimizer", [*(kind() for kind in OPTIMIZERS.values()), optim.Adam(amsgrad=True)], ids=repr)
def test_every_rule(optimizer, dtype):
    model = build(nn.Dense(6, "tanh"), nn.Dense(3), dtype=dtype)
    y = targets(LOSSES["cross_entropy"], ROWS, 3)
    objective = Objective(LOSSES["cross_entropy"], optimizer)
    # adaptive rules divide by roots of small gradients
    agree(model, objective, features(ROWS).astype(dtype), y, rtol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("clip", [{"clip_norm": 0.1}, {"clip_value": 0.01}, {"clip_norm": 0.2, "clip_value": 0.05}])
def test_clipping(clip):
    agree(build(nn.Dense(6, "tanh"), nn.Dense(2)), sgd("mse", **clip), features(ROWS), features(ROWS, 2, seed=4))


@pytest.mark.parametrize("penalty", ["l1", "l2", "decay"])
def test_penalties(penalty):
    """The optimizer's, a layer's own, and none where a layer switches it off."""
    own, none = {penalty: 0.2}, {penalty: 0.0}
    layers = nn.Dense(4, "tanh", **own), nn.Dense(4, bias=False, **none), nn.BatchNorm(), nn.Dense(2)
    objective = Objective(LOSSES["mse"], optim.Adam(**{penalty: 0.1}), clip_norm=1.0)
    agree(build(*layers), objective, features(ROWS), features(ROWS, 2, seed=4), rtol=1e-9)


# What it is given ------------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("stored", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("layout", ["C", "wider", "every other", "backward", "Fortran"])
def test_every_dtype_and_layout_of_x(stored, layout, dtype):
    """The last two lie in no C-ordered matrix: NumPy gathers them."""
    whole = np.random.default_rng(0).integers(0, 9, (2 * ROWS, 5)).astype(stored)
    x = {
        "C": lambda: whole[:ROWS, :3].copy(),
        "wider": lambda: whole[:ROWS, 1:4],
        "every other": lambda: whole[::2, :3],
        "backward": lambda: whole[ROWS - 1 :: -1, :3],
        "Fortran": lambda: np.asfortranarray(whole[:ROWS, :3]),
    }[layout]()
    assert (numba_engine._whole(x) is None) == (layout in ("backward", "Fortran"))
    agree(build(nn.Dense(2), dtype=dtype), sgd("mse"), x, features(ROWS, 2, seed=4).astype(dtype))


@pytest.mark.parametrize("labels", [True, False])
def test_targets_and_weights_that_lie_apart(labels):
    y = np.repeat(np.arange(ROWS) % 3, 2)[::2] if labels else features(ROWS, 7)[:, 2:5]
    weight = np.linspace(0, 1, 3 * ROWS)[::3]
    agree(build(nn.Dense(3)), sgd("cross_entropy" if labels else "mse"), features(ROWS), y, weight)


@pytest.mark.parametrize("batch", [1, 2, ROWS, 7])
def test_batches(batch):
    agree(build(nn.Dense(4, "tanh"), nn.Dense(2)), sgd("mse"), features(ROWS), features(ROWS, 2, seed=4), batch=batch)


def test_rows_more_than_once_and_read_only():
    x, y, order = features(ROWS), features(ROWS, 2, seed=4), np.array([3, 1, 1, 0, 2, 20, 3, 3, 5])
    for array in (x, y, order):
        array.flags.writeable = False
    agree(build(nn.Dense(2)), sgd("mse"), x, y, batch=4, order=order)


def test_weights_of_each_output():
    weight = np.random.default_rng(0).uniform(0, 2, (ROWS, 2))
    agree(build(nn.Dense(2)), sgd("mse"), features(ROWS), features(ROWS, 2, 4), weight)


def test_weights_of_zero_teach_nothing():
    weight = np.repeat([0.0, 1.0], [16, 5])
    agree(build(nn.Dense(2)), sgd("mse"), features(ROWS), features(ROWS, 2, 4), weight, order=np.arange(ROWS))


def test_the_random_bits_of_a_late_step():
    """Beyond 2^32 the step's number takes two words."""
    x, y = features(ROWS), features(ROWS, 2, seed=4)
    taken = []
    for run in (lambda *a: engine.train_steps(reference.KERNELS, *a), numba_engine.train_steps):
        model = build(nn.Dense(6), nn.Dropout(0.5), nn.Dense(2))
        model.state.prepare_slots(optim.SGD().rule)
        model.state.step = (1 << 32) - 2
        run(model.plan, model.state, sgd("mse"), Batches(x, y, None, np.arange(ROWS), 5), np.full(5, 0.1))
        taken.append(model.state.parameters.copy())
    np.testing.assert_allclose(taken[1], taken[0], rtol=1e-11)


# What it must not do ---------------------------------------------------------------------------------------


def test_another_plan_in_turn():
    """Two plans with operations of the same kinds, but other sizes and formulas."""
    x, y = features(ROWS), features(ROWS, 2, seed=4)
    for _ in range(2):
        for layers in ([nn.Dense(5, "tanh"), nn.Dense(2)], [nn.Dense(7, "relu"), nn.Dense(4, "sigmoid"), nn.Dense(2)]):
            agree(build(*layers), sgd("mse"), x, y)


CODE = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from common import build, features, targets
from fastnn import Trainer, nn, optim
from fastnn.formulas.losses import LOSSES
model = build(nn.Dense(64, "tanh"), nn.Dropout(0.3), nn.Dense(40, "sigmoid"), nn.Dense(3), dtype=np.float32)
trainer = Trainer(model, "cross_entropy", optim.Adam(0.01), seed=1, backend="numba", clip_norm=1.0)
trainer.fit(features(99), targets(LOSSES["cross_entropy"], 99, 3), epochs=5, verbose=False)
print(model.state.parameters.tobytes().hex())
"""


def test_the_same_bits_in_every_process(tmp_path):
    """Compiled by the first process and found in the cache by the second."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", CODE.format(tests=str(Path(__file__).parent))]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert any(tmp_path.rglob("*.nbc"))


def test_what_is_raised_within_a_step_arrives():
    """And the steps that were taken before it are counted."""

    def failing(z, y, parameter):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return LOSSES["cross_entropy"].rowwise(z, y, parameter)

    calls = 0
    loss = replace(LOSSES["cross_entropy"], name="mine", rowwise=failing)
    model, x, y = build(nn.Dense(3)), features(ROWS), targets(loss, ROWS, 3)
    arguments = Batches(x, y, None, np.arange(ROWS), 4), np.full(6, 0.1)
    with pytest.raises(KeyboardInterrupt):
        numba_engine.train_steps(model.plan, model.state, Objective(loss, optim.SGD()), *arguments)
    assert model.state.step == 2
    assert np.isfinite(model.state.parameters).all()


def test_an_interrupted_fit_leaves_the_model_as_it_was():
    def interrupted(z, y, parameter):
        raise KeyboardInterrupt

    loss = replace(LOSSES["cross_entropy"], name="mine", rowwise=interrupted)
    model = build(nn.Dense(3))
    before = model.state.parameters.copy()
    with pytest.raises(KeyboardInterrupt):
        Trainer(model, loss, backend="numba").fit(features(ROWS), targets(loss, ROWS, 3), verbose=False)
    np.testing.assert_array_equal(model.state.parameters, before)
    assert model.state.step == 0


def test_two_threads_at_once():
    """Programs belong to their calls, and the loop leaves the GIL to others."""

    def fit(results, place):
        model = build(nn.Dense(40, "tanh"), nn.Dense(2), seed=place)
        trainer = Trainer(model, "mse", seed=0, backend="numba")
        trainer.fit(features(300), features(300, 2, seed=4), epochs=5, verbose=False)
        results[place] = model.state.parameters.copy()

    alone, together = [None, None], [None, None]
    for place in range(2):
        fit(alone, place)
    threads = [threading.Thread(target=fit, args=(together, place)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for left, right in zip(alone, together, strict=True):
        np.testing.assert_array_equal(left, right)


def test_it_is_what_the_backend_runs():
    assert backends.load("numba").train_steps is numba_engine.train_steps
    assert backends.load("numba").kernels is numba_engine.KERNELS
    assert backends.load("numpy").train_steps.func is engine.train_steps
