"""The native engine: against the Python engine on the same kernels, and the promise of the same bits on any threads."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from common import every_layer, features, of_ids, parameters, stir, targets

from fastnn import DivergenceError, Sequential, Trainer, _random, engine, nn, optim
from fastnn.backends import load, make
from fastnn.engine import Batches, Objective
from fastnn.formulas.losses import LOSSES
from fastnn.ops import OPS
from fastnn.optim import OPTIMIZERS

native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
native_engine = pytest.importorskip("fastnn.backends.native_engine", exc_type=ImportError)

ISAS = native.instruction_sets()
THREADS = [1, 2, 3, 5, 8]
INPUTS, ROWS, BATCH = 19, 131, 40  # a last batch of 11 rows; nothing is a multiple of a vector

# Every kind of operation, below and above what learns, with activations that save z and such that save a.
NETS = {
    "dense": lambda: [nn.Dense(33, "relu"), nn.Dense(17, "gelu"), nn.Dense(3)],
    "batch norm": lambda: [
        nn.BatchNorm(),
        nn.Dense(35, "tanh"),
        nn.BatchNorm(),
        nn.Dense(18),
        nn.BatchNorm(),
        nn.Dense(3),
    ],
    "layer norm": lambda: [nn.Dense(21, "silu"), nn.LayerNorm(), nn.Activation("mish"), nn.Dense(3)],
    "random": lambda: [nn.Dropout(0.2), nn.Dense(37, "rrelu"), nn.Dropout(0.5), nn.Dense(3)],
    "learned": lambda: [nn.Normalize(), nn.Dense(30, nn.Maxout(2)), nn.Dense(9, "prelu"), nn.Softmax(), nn.Dense(3)],
    "ordered": lambda: [nn.Dense(9, "gelu"), nn.Ordered(), nn.Dense(5, "tanh"), nn.Dense(3), nn.Ordered()],
    "frozen": lambda: [nn.Normalize(), nn.Activation("sigmoid"), nn.Dense(3, bias=False)],
    "skips": lambda: [
        nn.Residual([nn.Scale(0.7), nn.Dense(19, "gelu")]),
        nn.Dense(24, "relu"),
        nn.Residual(
            [nn.LayerNorm(), nn.Residual([nn.Dense(16)], shortcut=[nn.Dense(16, "tanh")])], shortcut=[nn.Dense(16)]
        ),
        nn.Dense(3),
    ],
    "positions": lambda: [
        nn.Dense(24, "silu"),
        nn.Reshape((4, -1)),
        nn.BatchNorm(),
        nn.Dense(5, nn.Maxout(2)),
        nn.LayerNorm(),
        nn.Activation("tanh"),
        nn.Flatten(),
        nn.Dense(3),
    ],
    "steps": lambda: [
        nn.Dense(28, "silu"),
        nn.Reshape((7, 4)),
        nn.LSTM(9, return_sequences=True),
        nn.SimpleRNN(6, "relu", return_sequences=True),
        nn.GRU(17),
        nn.Dense(3),
    ],
    "one output": lambda: [nn.Dense(70, "elu"), nn.Dense(1)],
    "every layer": lambda: every_layer(34, 3),
}


@pytest.fixture(autouse=True)
def all_threads():
    """Every net, however small, gets the threads that a test asks for."""
    native.set_least_work(0)
    yield
    native.set_least_work(48000)
    native.set_threads(0)


def built(name: str, dtype: type = np.float32) -> Sequential:
    model = stir(Sequential(NETS[name](), dtype=dtype).build(INPUTS, seed=3))
    for layer in model.layers:
        if isinstance(layer, nn.Normalize):
            layer.adapt(features(50, layer.shift.size, seed=5))
    return model


def run(train_steps, model: Sequential, loss="mse", optimizer=None, *, x=None, weight=None, **clip) -> np.ndarray:
    """Two epochs in calls of uneven length; the losses."""
    loss = LOSSES[loss]
    x = features(ROWS, INPUTS).astype(np.float32) if x is None else x
    y = targets(loss, ROWS, model.plan.outputs)
    y = y if y.ndim == 1 else y.astype(model.plan.dtype)
    objective = Objective(loss, optimizer or optim.AdamW(1e-2, l1=1e-4, l2=1e-3), seed=9, **clip)
    losses = []
    for epoch in range(2):
        order = _random.permutation(7, epoch, ROWS)
        for first, last in ((0, BATCH), (BATCH, ROWS)):
            rows = order[first:last]
            lr = np.linspace(1e-2, 5e-3, -(-len(rows) // BATCH))
            losses.append(train_steps(model.plan, model.state, objective, Batches(x, y, weight, rows, BATCH), lr))
    return np.concatenate(losses)


def same(left: Sequential, right: Sequential) -> None:
    assert left.state.step == right.state.step
    for mine, other in zip(left.state.buffers, right.state.buffers, strict=True):
        np.testing.assert_array_equal(mine, other)


def python_engine(isa: str):
    return make("kernels", native.kernels(isa)).train_steps


# Against the Python engine ----------------------------------------------------------------------------------


def test_the_nets_have_every_operation():
    plans = [built(name).plan for name in NETS] + [of_ids(built("dense"), 9).plan]  # see test_takes_ids
    plans.append(Sequential([nn.Embedding(9, 4)]).build(INPUTS).plan)  # test_native_operations.py trains it
    walked = {op.kind for plan in plans for op in (plan.source, *plan.ops)}
    assert walked == set(OPS), f"NETS has no layer that makes {set(OPS) - walked}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("isa", ISAS)
def test_has_the_bits_of_the_python_engine_on_the_same_kernels(isa, name, dtype):
    """Who walks the plan changes nothing: the operations, their order and every sum are the same."""
    left, right = built(name, dtype), built(name, dtype)
    expected = run(python_engine(isa), left)
    losses = run(native_engine.for_instruction_set(isa).train_steps, right)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)  # only the sum over the batch has another order
    same(left, right)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_has_the_bits_of_the_python_engine_with_every_optimizer(optimizer):
    left, right = built("dense"), built("dense")
    for model, steps in ((left, python_engine(ISAS[-1])), (right, native_engine.TRAIN_STEPS)):
        run(steps, model, optimizer=OPTIMIZERS[optimizer](decay=1e-2))
    same(left, right)


@pytest.mark.parametrize("loss", LOSSES)
def test_has_the_bits_of_the_python_engine_with_every_loss(loss):
    layers = [nn.Dense(33, "relu"), nn.Dense(17, "gelu"), nn.Dense(3 * LOSSES[loss].width)]
    left, right = (stir(Sequential(copy.deepcopy(layers), dtype=np.float32).build(INPUTS, seed=3)) for _ in range(2))
    expected = run(python_engine(ISAS[-1]), left, loss)
    np.testing.assert_allclose(run(native_engine.TRAIN_STEPS, right, loss), expected, rtol=1e-12)
    same(left, right)


CLIPS = [{"clip_norm": 0.05}, {"clip_value": 0.01}, {"clip_norm": 0.1, "clip_value": 0.02}]


@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_has_the_bits_of_the_python_engine_with_clipping(clip):
    left, right = built("batch norm"), built("batch norm")
    run(python_engine(ISAS[-1]), left, **clip)
    run(native_engine.TRAIN_STEPS, right, **clip)
    same(left, right)


@pytest.mark.parametrize("by_output", [False, True])
def test_has_the_bits_of_the_python_engine_with_weights(by_output):
    left, right = built("dense"), built("dense")
    weight = np.random.default_rng(0).uniform(0, 2, (ROWS, left.plan.outputs)).astype(np.float32)
    weight[:60] = 0
    weight = weight if by_output else weight[:, 0].copy()
    run(python_engine(ISAS[-1]), left, weight=weight)
    run(native_engine.TRAIN_STEPS, right, weight=weight)
    same(left, right)


def test_reads_rows_as_they_are_stored():
    """float64, uint8, every other row of a larger array, and what it leaves to the Python engine: the same bits."""
    whole = np.random.default_rng(0).integers(0, 255, (2 * ROWS, INPUTS))
    stored = {
        "float32": whole[::2].astype(np.float32),
        "float64": whole[::2].astype(np.float64),
        "uint8": whole[::2].astype(np.uint8),
        "every other row": whole.astype(np.float32)[::2],
        "read-only": whole[::2].astype(np.float32),
        "Fortran order": np.asfortranarray(whole[::2].astype(np.float32)),
        "int64": whole[::2],
    }
    stored["read-only"].flags.writeable = False
    models = {name: built("dense") for name in stored}
    for name, model in models.items():
        run(native_engine.TRAIN_STEPS, model, x=stored[name])
        same(models["float32"], model)


@pytest.mark.parametrize("isa", ISAS)
def test_takes_ids(isa):
    x = np.random.default_rng(0).integers(0, 255, (ROWS, INPUTS))
    for stored in (np.float32, np.uint8, np.int64):
        left, right = built("dense"), of_ids(built("dense"), 255)
        expected = run(python_engine(isa), left, x=x.astype(np.float32))
        losses = run(native_engine.for_instruction_set(isa).train_steps, right, x=x.astype(stored))
        np.testing.assert_allclose(losses, expected, rtol=1e-12)
        same(left, right)


STAMPS = {
    "float64": lambda x: x,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
    "Fortran order": np.asfortranarray,
    "int64": lambda x: (1e9 * x).astype(np.int64),
    "float32": lambda x: x.astype(np.float32),
    "uint8": lambda x: (x % 1 * 256).astype(np.uint8),
}


@pytest.mark.parametrize("stored", STAMPS)
@pytest.mark.parametrize("isa", ISAS)
def test_normalizes_with_the_bits_of_the_python_engine(isa, stored):
    """Rows of 1e9 +- 1 and others, in a float32 network, on any threads, in any batch."""
    x = STAMPS[stored](1e9 + features(ROWS, INPUTS))
    left, *others = (built("learned") for _ in range(4))
    for model in (left, *others):
        model.layers[0].adapt(x)
    expected = run(python_engine(isa), left, x=x)
    theirs = np.full((ROWS, 3), np.nan, np.float32)
    engine.predict(native.kernels(isa), left.plan, left.state, x, theirs)
    assert len(np.unique(theirs, axis=0)) > (ROWS / 2 if stored != "float32" else 0)
    fastest = native_engine.for_instruction_set(isa)
    for threads, model in zip((1, 2, 5), others, strict=True):
        native.set_threads(threads)
        np.testing.assert_allclose(run(fastest.train_steps, model, x=x), expected, rtol=1e-12)
        same(left, model)
        for first, last in ((0, ROWS), (0, 1), (77, 78), (13, 30), (5, 5)):
            out = np.full((last - first, 3), np.nan, np.float32)
            fastest.predict(model.plan, model.state, x[first:last], out)
            np.testing.assert_array_equal(out, theirs[first:last])


# The same bits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("isa", ISAS)
def test_the_number_of_threads_changes_no_bit(isa, name, dtype):
    models = {}
    for threads in THREADS:
        native.set_threads(threads)
        models[threads] = built(name, dtype)
        run(native_engine.for_instruction_set(isa).train_steps, models[threads], clip_norm=1.0)
    for threads in THREADS[1:]:
        same(models[1], models[threads])


@pytest.mark.parametrize("isa", ISAS)
def test_the_number_of_threads_changes_no_bit_of_a_large_net(isa):
    """Large enough for packing, for blocks of k and for weights in many parts."""
    x = np.random.default_rng(0).normal(size=(300, 450)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 10, 300)
    objective = Objective(LOSSES["cross_entropy"], optim.Adam(1e-3))
    states = []
    for threads in (1, 2, 3, 8):
        native.set_threads(threads)
        model = Sequential([nn.Dense(130, "relu"), nn.Dense(400, "tanh"), nn.Dense(10)]).build(450, seed=0)
        steps = native_engine.for_instruction_set(isa).train_steps
        steps(model.plan, model.state, objective, Batches(x, labels, None, np.arange(300), 150), np.full(2, 1e-3))
        states.append(model)
    for other in states[1:]:
        same(states[0], other)


@pytest.mark.parametrize("isa", ISAS)
def test_weights_beyond_the_caches_have_the_bits_of_the_python_engine(isa):
    """850,000 parameters: their panels are written past the caches, and blocks of k are more than one."""
    x = np.random.default_rng(0).normal(size=(96, 850)).astype(np.float32)
    y = np.random.default_rng(1).normal(size=(96, 33)).astype(np.float32)
    objective = Objective(LOSSES["mse"], optim.Adam(1e-3))
    models = []
    for threads, steps in (
        (1, python_engine(isa)),
        *((n, native_engine.for_instruction_set(isa).train_steps) for n in (1, 3)),
    ):
        native.set_threads(threads)
        models.append(Sequential([nn.Dense(950, "relu"), nn.Dense(33)]).build(850, seed=0))
        steps(models[-1].plan, models[-1].state, objective, Batches(x, y, None, np.arange(96), 32), np.full(3, 1e-3))
    same(models[0], models[1])
    same(models[0], models[2])


@pytest.mark.parametrize(("calls", "steps"), [(150, 20), (1, 4000)])
def test_trying_teams_and_single_threads_changes_no_bit(calls, steps):
    """Steps of about 40 us: after 50 ms, within a call or between two, fastnn tries one thread, whatever it finds."""
    native.set_least_work(48000)
    rows = 32 * steps
    x, labels = features(rows, 64).astype(np.float32), np.random.default_rng(1).integers(0, 10, rows)
    objective = Objective(LOSSES["cross_entropy"], optim.Adam(1e-3))
    models = []
    for threads in (1, 2, 4):
        native.set_threads(threads)
        models.append(Sequential([nn.Dense(128, "relu"), nn.Dense(64, "relu"), nn.Dense(10)]).build(64, seed=0))
        for call in range(calls):
            batches = Batches(x, labels, None, _random.permutation(1, call, rows), 32)
            native_engine.TRAIN_STEPS(models[-1].plan, models[-1].state, objective, batches, np.full(steps, 1e-3))
    same(models[0], models[1])
    same(models[0], models[2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_has_the_same_prediction_in_any_batch_on_any_threads(isa, name, dtype):
    model = built(name, dtype)
    predict = native_engine.for_instruction_set(isa).predict
    x = features(700, INPUTS).astype(dtype)

    def predicted(rows: np.ndarray) -> np.ndarray:
        out = np.full((len(rows), model.plan.outputs), np.nan, dtype)
        predict(model.plan, model.state, rows, out)
        return out

    native.set_threads(1)
    expected = predicted(x)
    assert np.isfinite(expected).all()
    for threads in THREADS:
        native.set_threads(threads)
        for first, last in ((0, 700), (0, 1), (350, 351), (13, 30), (100, 613), (699, 700), (5, 5)):
            np.testing.assert_array_equal(predicted(x[first:last]), expected[first:last])
        np.testing.assert_array_equal(predicted(x[::3]), expected[::3])
        np.testing.assert_array_equal(predicted(np.asfortranarray(x)), expected)


def test_concurrent_predictions_of_one_model_have_the_bits_of_one():
    model, x = built("layer norm"), features(300, INPUTS).astype(np.float32)
    expected = model.predict(x, backend="native")
    results: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: results.append(model.predict(x, backend="native"))) for _ in range(64)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 64
    for result in results:
        np.testing.assert_array_equal(result, expected)


# What goes wrong --------------------------------------------------------------------------------------------


def test_stops_before_the_step_whose_loss_is_not_finite():
    model = built("dense")
    x = features(ROWS, INPUTS).astype(np.float32)
    x[100] = np.inf
    y = features(ROWS, 3).astype(np.float32)
    objective, lr = Objective(LOSSES["mse"], optim.SGD(0.01)), np.full(4, 0.01)
    expected = built("dense")
    first, all_ = (Batches(x, y, None, np.arange(rows), BATCH) for rows in (80, ROWS))
    native_engine.TRAIN_STEPS(expected.plan, expected.state, objective, first, lr[:2])
    losses = native_engine.TRAIN_STEPS(model.plan, model.state, objective, all_, lr)
    assert np.isfinite(losses[:2]).all() and np.isnan(losses[2:]).all()
    same(model, expected)


def test_divergence_is_an_error_and_keeps_finite_parameters():
    model = Sequential([nn.Dense(8, "relu"), nn.Dense(1)])
    x = features(64, 4)
    trainer = Trainer(model, "mse", optim.SGD(1e30), backend="native", seed=0)
    with pytest.raises(DivergenceError, match="learning rate"):
        trainer.fit(x, x.sum(axis=1), epochs=20, batch_size=8, verbose=False)
    assert all(np.isfinite(view).all() for view in model.state.views.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": np.array([0, ROWS])}, "order has a row outside x"),
        ({"order": np.array([-1])}, "order has a row outside x"),
        ({"labels": np.full(ROWS, 3)}, "y has a label outside 0 .. 3 - 1"),
        ({"x": np.zeros((ROWS, INPUTS + 1), np.float32)}, "x has another number of columns"),
        ({"weight": np.zeros(3, np.float32)}, "weight has shape"),
        ({"batch": 0}, "size is 0"),
    ],
)
def test_what_would_touch_other_memory_is_an_error(change, message):
    model = built("dense")
    before = parameters(model)
    x = change.get("x", features(ROWS, INPUTS).astype(np.float32))
    labels, order = change.get("labels", np.zeros(ROWS, np.int64)), change.get("order", np.arange(2))
    objective = Objective(LOSSES["cross_entropy"], optim.SGD(0.1))
    batches = Batches(x, labels, change.get("weight"), order, change.get("batch", 2))
    with pytest.raises((ValueError, IndexError), match=message):
        native_engine.TRAIN_STEPS(model.plan, model.state, objective, batches, np.ones(1))
    for name, view in model.state.views.items():
        np.testing.assert_array_equal(view, before[name])


def test_scaling_that_is_not_there_is_an_error():
    plan = built("learned").plan
    table, none = native_engine._table(plan.ops, None, plan.dtype), built("dense")
    predictor, sizes = native_engine.extension.PredictorFloat32, (plan.size("parameters"), plan.size("statistics"))
    with pytest.raises(ValueError, match="outside its buffer"):
        predictor(0, table, INPUTS, *sizes, INPUTS)
    with pytest.raises(ValueError, match="normalize is not the first operation"):
        predictor(0, [table[0], *table], INPUTS, *sizes, plan.size("scaling"))
    *before, tensors, other, dother = table[0]
    with pytest.raises(ValueError, match="normalize has other tensors than its Spec"):
        predictor(0, [(*before, tensors[:1], other, dother), *table[1:]], INPUTS, *sizes, plan.size("scaling"))
    made = predictor(0, table, INPUTS, *sizes, plan.size("scaling"))
    state, x, out = built("learned").state, np.zeros((2, INPUTS), np.float32), np.zeros((2, 3), np.float32)
    for scaling, error in ((none.state.scaling, ValueError), (state.scaling.astype(np.float32), TypeError)):
        with pytest.raises(error, match="scaling has"):
            made.run(state.parameters, state.statistics, scaling, x, out)


# Processes --------------------------------------------------------------------------------------------------

FORKING = """
import multiprocessing, os, signal, sys, threading, time, traceback
import numpy as np
from fastnn import Sequential, Trainer, engine, nn, optim
from fastnn.backends import native, native_engine
from fastnn.formulas.losses import LOSSES

native.set_least_work(0)
native.set_threads(2)
x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
# Where the OpenMP is GCC's, a child has threads of its own.
gcc = sys.platform == "linux" and "libgomp" in open("/proc/self/maps").read()

def fitted():
    model = Sequential([nn.Dense(40, "tanh"), nn.Dense(2)])
    Trainer(model, "mse", backend="native", seed=1).fit(x, x[:, :2], epochs=3, batch_size=16, verbose=False)
    return model.predict(x, backend="native")

def never_hang():
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30)

def in_child(f):
    child = os.fork()
    if child == 0:
        never_hang()
        try:
            assert f() is not False
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def trains():
    assert np.array_equal(fitted(), expected)

def trains_on_threads():
    trains()
    assert native.threads() == (2 if gcc else 1)
    assert not gcc or len(os.listdir("/proc/self/task")) > threading.active_count()

def trains_alone():
    trains()
    assert native.threads() == 1

def in_the_call(handler, seconds=0.1):
    # Calls it from a signal's handler, once the extension is at work.
    def alarmed(_, frame):
        if frame.f_code.co_name == "train_steps":
            handler()
        else:
            signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, alarmed)
    signal.setitimer(signal.ITIMER_REAL, seconds)

def long_call(rows=1_000_000):
    # One call of the extension, much longer than a handler takes to be called.
    model = Sequential([nn.Dense(300, "tanh"), nn.Dense(6)]).build(6, seed=0)
    order = np.arange(rows) % 64
    lr = np.full(rows // 16, 1e-3)
    objective = engine.Objective(LOSSES["mse"], optim.SGD(1e-3))
    native_engine.TRAIN_STEPS(model.plan, model.state, objective, engine.Batches(x, x, None, order, 16), lr)

expected = fitted()
"""
FORKS = {
    "a child": "in_child(trains_on_threads)",
    "children, one after the other": "for _ in range(20): in_child(trains_on_threads); trains()",
    "a child of a child, and one of that": """
def child():
    in_child(grandchild)  # before it has threads of its own
    trains_on_threads()
    in_child(grandchild)  # and after
    trains_on_threads()
def grandchild():
    trains_on_threads()
    in_child(trains_on_threads)
in_child(child)
""",
    "a thread's child": """
def thread():
    trains()
    in_child(trains_on_threads)
    done.append(1)
done = []
worker = threading.Thread(target=thread)
worker.start()
worker.join()
assert done
""",
    "a thread's child that ends as its thread does": """
def thread():
    trains()
    child = os.fork()
    if child == 0:
        never_hang()
        return trains_on_threads()
    assert os.waitpid(child, 0)[1] == 0
    done.append(1)
done = []
worker = threading.Thread(target=thread)
worker.start()
worker.join()
if os.getpid() != parent: os._exit(1)
assert done
""",
    "while other threads train": """
def thread():
    while not stop.is_set():
        results.append(fitted())
stop, results = threading.Event(), []
workers = [threading.Thread(target=thread) for _ in range(2)]
for worker in workers: worker.start()
for _ in range(20):
    in_child(lambda: in_child(trains) or trains())
stop.set()
for worker in workers: worker.join()
assert results and all(np.array_equal(result, expected) for result in results)
trains()
in_child(trains_on_threads)
""",
    "while a call of another thread's is under way": """
threading.Thread(target=long_call, daemon=True).start()
time.sleep(0.3)
for _ in range(3): in_child(trains_alone)
print("all trained", flush=True)
os._exit(0)  # in the middle of the call
""",
    "a pool of processes": """
def work(_):
    trains_on_threads()
    return fitted()
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map(work, range(6), chunksize=1)
assert all(np.array_equal(result, expected) for result in results)
trains()
""",
    "within a call, the child ends in the signal's handler": """
class Done(Exception): pass
def handler():
    in_child(lambda: (trains_alone(), in_child(trains_alone)))
    raise Done
in_the_call(handler)
try: long_call()
except Done: pass
else: raise AssertionError("the call was too short")
in_child(trains_on_threads)
""",
    "within a call, the child returns into it": """
class Done(Exception): pass
def handler():
    global child
    child = os.fork()
    if child == 0: never_hang()
    else: raise Done
in_the_call(handler)
try: long_call()
except Done: assert child != 0 and os.waitpid(child, 0)[1] == 0
except RuntimeError as error:
    assert child == 0 and "in the parent only" in str(error)
    trains_alone()
    in_child(trains_alone)
    os._exit(0)
else: raise AssertionError("the call was too short")
trains()
""",
    "within a call, the child's handler raises": """
class Done(Exception): pass
def handler():
    global child
    child = os.fork()
    if child == 0: never_hang()
    raise Done
in_the_call(handler)
try: long_call()
except Done: trains()
else: raise AssertionError("the call was too short")
if child == 0: os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    "a child on one thread goes on within a call": """
def child():
    native.set_threads(1)
    seen = []
    def handler():
        grandchild = os.fork()
        seen.append(grandchild)
        if grandchild == 0: never_hang()
        else: assert os.waitpid(grandchild, 0)[1] == 0
    in_the_call(handler, 0.05)
    long_call(200_000)
    assert seen
    if seen[0] == 0:
        native.set_threads(2)
        trains_on_threads()
in_child(child)
""",
}


def forking(code: str, timeout: int = 120) -> None:
    code = f"{FORKING}\nparent = os.getpid()\n{code}\nprint('all trained')"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # NumPy has no threads to be counted
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert (done.returncode, done.stdout) == (0, "all trained\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("name", FORKS)
def test_forked_children_train_to_the_same_bits(name):
    forking(FORKS[name])


LOADED_BY_A_CHILD = """
import ctypes, os, signal
try: gomp = ctypes.CDLL("libgomp.so.1")
except OSError: os._exit(77)
nothing = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
gomp.GOMP_parallel(nothing, None, 2, 0)
child = os.fork()
if child == 0:  # its libgomp still counts on the parent's threads
    signal.alarm(30)
    import fastnn.backends.native
    grandchild = os.fork()
    if grandchild == 0: os._exit(fastnn.backends.native.threads() - 1)
    assert os.waitpid(grandchild, 0)[1] == 0
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GCC's OpenMP, by its name on Linux")
def test_a_child_that_inherited_broken_openmp_can_fork():
    done = subprocess.run([sys.executable, "-c", LOADED_BY_A_CHILD], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("no libgomp.so.1")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_thousand_children_train_to_the_same_bits():
    forking("for _ in range(1000): in_child(trains_on_threads)\ntrains()", timeout=600)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_another_user_of_openmp_is_not_disturbed():
    pytest.importorskip("sklearn")
    forking("""
from sklearn.ensemble import HistGradientBoostingClassifier
def boosted():
    return HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(x, x[:, 0] > 0).predict_proba(x)
first = boosted()
for _ in range(3):
    in_child(trains_on_threads)
    trains()
    assert np.array_equal(boosted(), first)
""")


def test_threadpoolctl_sees_and_limits_the_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    assert load("native").name == "native"
    if not any(pool["user_api"] == "openmp" for pool in threadpoolctl.threadpool_info()):
        pytest.skip("compiled without OpenMP")
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert native.threads() == 1
    assert engine.train_steps is not load("native").train_steps


def test_a_quota_and_a_limit_bound_the_threads(monkeypatch):
    _native = native_engine.extension
    default = native.threads()
    try:
        _native.set_thread_quota(1)
        assert native.threads() == (default if "OMP_NUM_THREADS" in os.environ else 1)
    finally:
        _native.set_thread_quota(0)
    native.set_threads(5)
    with load("native").limit_threads(3):
        assert native.threads() == 3
        with load("native").limit_threads(2):
            assert native.threads() == 2
        seen: list[int] = []
        other = threading.Thread(target=lambda: seen.append(native.threads()))
        other.start()
        other.join()
        assert seen == [5]  # another thread's calls are not limited
    assert native.threads() == 5


def test_a_trainer_uses_no_more_threads_than_it_is_given():
    """And ends in the same bits with any number."""
    models = []
    x = features(120, INPUTS)
    for threads in (None, 1, 3):
        model = Sequential([nn.Dense(40, "tanh"), nn.Dense(2)])
        trainer = Trainer(model, "mse", backend="native", seed=1, threads=threads)
        trainer.fit(x, x[:, :2], epochs=3, batch_size=16, verbose=False)
        models.append(model)
    same(models[0], models[1])
    same(models[0], models[2])
    with pytest.raises(ValueError, match="threads is 0"):
        Trainer(model, "mse", threads=0)


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from fastnn import Sequential, Trainer, nn
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
rows, width, batch, norm = (int(word) for word in sys.argv[1:])
x = np.random.default_rng(0).normal(size=(rows, 64)).astype(np.float32)
layers = [nn.Dense(width, "tanh"), *([nn.BatchNorm()] if norm else []), nn.Dense(width, "tanh"), nn.Dense(1)]
model = Sequential(layers)
trainer = Trainer(model, "mse", backend="native", seed=1)
trainer.fit(x[:batch], x[:batch, :1], epochs=1, batch_size=batch, shuffle=False, verbose=False)
sent = []
def interrupt():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.5, interrupt).start()
try:
    trainer.fit(x, x[:, :1], epochs=10**6, batch_size=batch, shuffle=False, verbose=False)
except KeyboardInterrupt:
    waited = time.perf_counter() - sent[0]
steps = model.state.step
again = Sequential([nn.Dense(width, "tanh"), *([nn.BatchNorm()] if norm else []), nn.Dense(width, "tanh"), nn.Dense(1)])
other = Trainer(again, "mse", backend="native", seed=1)
other.fit(x[:batch], x[:batch, :1], epochs=1, batch_size=batch, shuffle=False, verbose=False)
left = steps - 1
whole = rows // batch
if left // whole:
    other.fit(x, x[:, :1], epochs=left // whole, batch_size=batch, shuffle=False, verbose=False)
if left % whole:
    part = (left % whole) * batch
    other.fit(x[:part], x[:part, :1], epochs=1, batch_size=batch, shuffle=False, verbose=False)
assert again.state.step == steps
assert all(np.array_equal(a, b) for a, b in zip(model.state.buffers, again.state.buffers))
print("whole steps", "late" if waited > 5 else "")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("case", ["640 16 32 0", "640 16 32 1", "8192 300 4096 0", "8192 600 8192 1"])
def test_ctrl_c_leaves_the_last_completed_step(case):
    """In the middle of an epoch, of small steps and of large ones: the same bits as that many steps without it."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *case.split()], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["whole", "steps"], done.stderr


OUT_OF_MEMORY = """
import resource, sys
import numpy as np
from fastnn import Sequential, Trainer, nn
from fastnn.backends import native
native.set_least_work(0)
native.set_threads(2)
x = np.random.default_rng(0).normal(size=(4096, 64)).astype(np.float32)
def network():
    model = Sequential([nn.Dense(2048, "tanh"), nn.Dense(2)])
    return model, Trainer(model, "mse", backend="native", seed=1)
def fit(trainer, batch):
    trainer.fit(x, x[:, :2], epochs=1, batch_size=batch, verbose=False)
model, trainer = network()
fit(trainer, 8)
before = [buffer.copy() for buffer in model.state.buffers[:2]]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, resource.RLIM_INFINITY))  # a batch of 4096 needs 100 MB
try:
    fit(trainer, 4096)
except MemoryError:
    print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert all(np.array_equal(a, b) for a, b in zip(model.state.buffers, before))
fit(trainer, 4096)
print("trained")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and RLIMIT_AS")
def test_a_failed_allocation_is_a_memory_error_and_the_next_call_works():
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, check=False)
    assert done.stdout == "MemoryError\ntrained\n", done.stderr


PREDICTING = """
import os, signal, threading, time
import numpy as np
from fastnn import Sequential, backends, nn
signal.signal(signal.SIGINT, signal.default_int_handler)
model = Sequential([nn.Dense(600, "tanh"), nn.Dense(600, "tanh"), nn.Dense(1)]).build(64, seed=0)
x = np.broadcast_to(np.ones((1, 64), np.float32), (3_000_000, 64))  # 2.4 * 10^12 operations
out = np.full((len(x), 1), np.nan, np.float32)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    backends.resolve("native").predict(model.plan, model.state, x, out)
except KeyboardInterrupt:
    print("interrupted", "with rows left" if np.isnan(out[-1]) else "at its end")
assert np.isfinite(model.predict(x[:5])).all()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_prediction():
    done = subprocess.run([sys.executable, "-c", PREDICTING], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "interrupted with rows left", done.stderr


NO_MORE_THREADS = """
import resource
import numpy as np
from fastnn import Sequential, Trainer, backends, nn
from fastnn.backends import native
native.set_least_work(0)

def trained():
    x = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
    model = Sequential([nn.Dense(300, "tanh"), nn.Dense(1)])
    Trainer(model, "mse", seed=1, threads=THREADS).fit(x, x[:, :1], epochs=2, batch_size=500, verbose=False)
    return model.predict(x).tobytes()

THREADS = 1
alone = trained()
THREADS = 8
with open("/proc/self/statm") as statm:
    now = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (7 << 20), resource.RLIM_INFINITY))  # a thread's stack has 8 MB
refused = trained()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("went on alone" if refused == alone else "other bits")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_where_no_thread_can_be_started_one_goes_on():
    """libgomp, asked for a team then, ends the process."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NO_MORE_THREADS], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.stdout.strip() == "went on alone", done.stderr
