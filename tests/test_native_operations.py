"""Each operation within a plan, on rows of several positions, by both engines on the same native kernels.

The Python engine calls a kernel once, for all rows and positions; the native one for ranges of rows, or of columns, on
as many threads as it is given. Both arrive at the same bits, and a kernel that shares its work out itself does, too.
Plans are made from the registry.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from common import features
from guarded import call
from kernel_cases import CALLS, IDS, OPERATIONS, Draw, call_of, kernel, operation, passage, settings_of

from fastnn import engine, optim
from fastnn.backends import make
from fastnn.formulas.activations import ACTIVATIONS, identity
from fastnn.formulas.losses import LOSSES
from fastnn.ops import OPS
from fastnn.ops.operation import Shape, sizes
from fastnn.ops.spec import Field
from fastnn.plan import Op, Plan, State, Tensor

native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
native_engine = pytest.importorskip("fastnn.backends.native_engine", exc_type=ImportError)

POSITIONS, INPUTS, CHANNELS = (2, 3), 4, 37  # channels for several tasks, where training goes by columns
ROWS, BATCH = 93, 37  # a last batch of 19 rows; nothing is a multiple of a vector
ISAS = pytest.mark.parametrize("isa", native.instruction_sets())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
EVERY = pytest.mark.parametrize("name", OPS)
THREADS = (1, 2, 3, 5)


@pytest.fixture(autouse=True)
def all_threads():
    """Every plan, however small, gets the threads that a test asks for."""
    native.set_least_work(0)
    yield
    native.set_least_work(48000)
    native.set_threads(0)


def tensor_of(field: Field, index: int, shape: tuple[int, ...], trainable: bool) -> Tensor:
    """Of both signs where it learns; statistics are positive, as a variance is."""

    def initial(rng: np.random.Generator) -> np.ndarray:
        return 0.5 * rng.standard_normal(shape) if trainable else rng.uniform(0.2, 1.2, shape)

    scaling = field.dtype == np.float64
    return Tensor(f"{index}.{field.name}", shape, initial, trainable=trainable, scaling=scaling)


def op_of(kind: str, index: int, inputs: Shape, channels: int | None = None, activation=identity) -> Op:
    """The operation for rows of that shape, with the tensors that its Spec declares."""
    spec, outputs = OPS[kind].spec, (*inputs[:-1], channels or inputs[-1])
    settings = OPERATIONS[kind].settings
    if kind == "last":
        outputs = inputs[-1:]
    elif kind == "embedding":
        outputs = (*inputs, channels)
    elif OPERATIONS[kind].window is not None:
        settings, outputs = settings_of(kind, inputs[-1], outputs[-1]), passage(kind, inputs[-1], outputs[-1])[1]
    size = sizes(inputs, outputs, 1, settings)
    tensors = {
        field.name: tensor_of(field, index, field.shape(size), field in spec.param_fields)
        for field in spec.param_fields + spec.statistic_fields
    }
    return Op(kind, inputs, outputs, tensors, activation, settings)


def plan_of(name: str, dtype: type) -> Plan:
    """A dense operation, the one in question, another dense one: something learns below it, and something above."""
    spec, start = OPS[name].spec, (*POSITIONS, INPUTS)
    if name == "embedding":  # of ids, which nothing below learns
        ids, rows = (math.prod(start),), (math.prod(start), CHANNELS)
        ops = [op_of("ids", 0, ids), op_of(name, 1, ids, CHANNELS), op_of("dense", 2, rows, 2)]
        return Plan.assemble(ops, ids, (*ids, 2), np.dtype(dtype))
    between, wide = (*POSITIONS, CHANNELS), OPERATIONS[name].inputs(CHANNELS, CHANNELS)
    ops = [op_of(name, 0, start)] if spec.phase == "source" else []
    wide = CHANNELS if name == "last" else wide
    ops.append(op_of("dense", 1, start, wide, ACTIVATIONS["gelu"]))
    if OPS[name].bracket:
        ops += [op_of("fork", 2, between), op_of("dense", 3, between, 5, ACTIVATIONS["relu"])]
        ops += [
            op_of("turn", 4, (*POSITIONS, 5), CHANNELS),
            op_of("dense", 5, between, 5),
            op_of("join", 6, (*POSITIONS, 5)),
        ]
        between = (*POSITIONS, 5)
    elif spec.phase != "source":
        ops.append(op_of(name, 2, (*POSITIONS, wide), CHANNELS, ACTIVATIONS["tanh"] if spec.fuses else identity))
        between = ops[-1].outputs
    ops.append(op_of("dense", 7, between, 2))
    assert name == "cast" or name in [op.kind for op in ops]
    return Plan.assemble(ops, start, ops[-1].outputs, np.dtype(dtype))


def rows_of(plan: Plan, dtype: type = np.float32, rows: int = ROWS) -> np.ndarray:
    """Whole numbers, which every source takes; half of them 0, and all of row 7."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, IDS, (rows, plan.inputs)) * rng.integers(0, 2, (rows, plan.inputs))
    x[7] = 0
    return x.astype(dtype)


def trained(train_steps, plan: Plan, x=None) -> State:
    """After two epochs."""
    state = State(plan)
    state.initialize(3)
    x = rows_of(plan) if x is None else x
    y = features(ROWS, plan.outputs).astype(plan.dtype)
    objective, lr = engine.Objective(LOSSES["mse"], optim.Adam(), seed=9), np.array([0.02, 0.01, 0.03])
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(ROWS)
        losses = train_steps(plan, state, objective, engine.Batches(x, y, None, order, BATCH), lr)
        assert np.isfinite(losses).all()
    return state


def same(left: State, right: State) -> None:
    for mine, other in zip(left.buffers, right.buffers, strict=True):
        np.testing.assert_array_equal(mine, other)


@ISAS
@DTYPES
@EVERY
def test_trains_to_the_bits_of_the_python_engine(name, dtype, isa):
    plan = plan_of(name, dtype)
    expected = trained(make("kernels", native.kernels(isa)).train_steps, plan)
    start = State(plan)
    start.initialize(3)
    for tensor in plan.tensors:
        assert not tensor.trainable or (expected.views[tensor.name] != start.views[tensor.name]).any(), tensor.name
    for threads in THREADS:
        native.set_threads(threads)
        same(trained(native_engine.for_instruction_set(isa).train_steps, plan), expected)


@ISAS
@DTYPES
def test_packed_copies_of_dense_weights_change_no_bit(dtype, isa):
    """Matrices of more than 16 kB, and gradients of more: both have copies, made and read in ranges."""
    start, wide = (2, 131), (2, 150)
    ops = [
        op_of("dense", 1, start, 150, ACTIVATIONS["tanh"]),
        op_of("dense", 2, wide, 131),
        op_of("dense", 3, start, 40),
    ]
    plan = Plan.assemble(ops, start, (2, 40), np.dtype(dtype))
    expected = trained(make("kernels", native.kernels(isa)).train_steps, plan)
    for threads in THREADS:
        native.set_threads(threads)
        same(trained(native_engine.for_instruction_set(isa).train_steps, plan), expected)


@ISAS
@DTYPES
@EVERY
def test_predicts_the_bits_of_the_python_engine(name, dtype, isa):
    """In any batch, on any threads; in batches of more than 512 rows also with packed weights."""
    plan = plan_of(name, dtype)
    state = State(plan)
    state.initialize(3)
    x = rows_of(plan, rows=1100)
    expected = np.full((len(x), plan.outputs), np.nan, dtype)
    engine.predict(native.kernels(isa), plan, state, x, expected)
    for threads in THREADS:
        native.set_threads(threads)
        for first, last in ((0, 1100), (0, 1), (7, 20), (500, 1013), (3, 3)):
            out = np.full((last - first, plan.outputs), np.nan, dtype)
            native_engine.for_instruction_set(isa).predict(plan, state, x[first:last], out)
            np.testing.assert_array_equal(out, expected[first:last])


# 0.9 million elements: at 0.1 ns each, as the cheapest operation states, work for three threads
WIDE = (2053, 9, 449)
WIDE_STEPS = (253, 9, 97)  # where each goes through time, with products of u


@ISAS
@pytest.mark.parametrize(("name", "which"), CALLS)
def test_a_kernel_alone_has_the_same_bits_on_any_threads(name, which, isa):
    """Also where it writes over what it reads, if it may: nothing is read once it is written, or done twice."""
    known = OPERATIONS[name]
    wide = WIDE if known.steps == 1 else WIDE_STEPS
    wide = (wide[0] // (6 if known.window else 1), *wide[1:])
    case, run = operation(Draw(np.float64), name, which, *wide), kernel(native.kernels(isa), name, which)
    native.set_threads(1)
    expected = call(run, case, np.float64)
    alias = call_of(name, which).alias
    for threads in THREADS:
        native.set_threads(threads)
        for shared in {None, alias}:
            got = call(run, case, np.float64, alias=shared)
            for output in case.outputs():
                assert not np.isnan(expected[output]).any()
                if shared is None or output != shared[1]:
                    np.testing.assert_array_equal(got[output], expected[output], output)


# Sources: what an engine cannot read it refuses itself ---------------------------------------------------------

SOURCES = pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.spec.phase == "source"])


def csr(dense: np.ndarray):
    return pytest.importorskip("scipy.sparse").csr_matrix(dense)


def refused(plan: Plan, isa: str, x, message: str) -> None:
    """In predicting and in training."""
    native_one = native_engine.for_instruction_set(isa)
    with pytest.raises(ValueError, match=message):
        native_one.predict(plan, State(plan), x, np.empty((ROWS, plan.outputs), plan.dtype))
    with pytest.raises(ValueError, match=message):
        trained(native_one.train_steps, plan, x)


@ISAS
@DTYPES
@SOURCES
@pytest.mark.parametrize("stored", [np.float32, np.float64, np.uint8, np.int64], ids=lambda stored: stored.__name__)
def test_sparse_rows_are_those_of_a_dense_x(stored, name, dtype, isa):
    plan, native_one = plan_of(name, dtype), native_engine.for_instruction_set(isa)
    dense = rows_of(plan, stored)
    expected = trained(native_one.train_steps, plan, dense)
    same(trained(native_one.train_steps, plan, csr(dense)), expected)
    outs = [np.full((ROWS, plan.outputs), np.nan, dtype) for _ in range(2)]
    for x, out in zip((dense, csr(dense)), outs, strict=True):
        native_one.predict(plan, expected, x, out)
    np.testing.assert_array_equal(*outs)


@ISAS
@DTYPES
@pytest.mark.parametrize("wrong", [-1, IDS, 2.5, np.nan])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_ids_say_where_there_is_none(kind, wrong, dtype, isa):
    native.set_threads(1)
    plan = plan_of("ids", dtype)
    x = rows_of(plan, np.float64)
    x[40, 5] = x[40, 11] = wrong
    refused(plan, isa, csr(x) if kind == "sparse" else x, "row 40, column 5")


@ISAS
@SOURCES
@pytest.mark.parametrize("fault", ["column", "negative column", "end", "start", "order"])
def test_broken_sparse_rows_are_refused(fault, name, isa):
    """Whatever an index would reach: beyond a row, beyond the entries, or before them."""
    native.set_threads(1)
    plan = plan_of(name, np.float32)
    x = csr(rows_of(plan))
    if "column" in fault:
        x.indices[x.indptr[40]] = plan.inputs if fault == "column" else -1
    else:
        place, value = {"end": (41, x.nnz + 1), "start": (40, -1), "order": (41, x.indptr[40] - 1)}[fault]
        x.indptr[place] = value
    refused(plan, isa, x, "row (39|40|41), column 0")
