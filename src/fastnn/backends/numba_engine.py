"""The `numba` backend's own `train_steps`: the Python engine records one step, one compiled loop repeats it.

A step runs the same kernels on the same buffers every time: only the rows, the learning rate and the step's number
change. So `engine.Step` is walked once with kernels that compute nothing and write down how they were called. That
program, a list of instructions, is then run for every step of the call by one nopython function, `_run`; 20 us of
Python a step become 0.2. Whatever the engine can walk, this can: it knows no kind of operation.

An instruction is the address of a function and 64-bit words, its arguments: where an array lies and its shape, where
a float lies, an integer. The function (`entry_of`) makes them arrays and numbers again and calls the loop. A
product that is large enough for BLAS is an instruction to call a Python object, NumPy's own matmul with its arrays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from fastnn.backends import loops, loops_table, numba_jit, reference
from fastnn.backends.numba_entries import Cell, Loop, Words, call_native, call_python, entry_of, kinds_of, words_of
from fastnn.contract import Adjustment, Array, Kernels, OpKernels
from fastnn.engine import Batches, Objective, Segment, Step
from fastnn.ops.dense import dense
from fastnn.plan import Plan, State

KERNELS = numba_jit.KERNELS

# The loop over the steps ------------------------------------------------------------------------------------

_NATIVE, _PYTHON = 0, 1
_LOW = 0xFFFFFFFF


def _run_steps(code, words, moving, random, numbers, now, first, done):
    """The program once for every row of `numbers`, the numbers of one step, which go to `now` before it.

    code: (n, 3) kind, address, address of its words. moving: (k, 2) index of a word, what to add to it after a step.
    random: (k,) index of the first of two words for the low and the high half of the step's number, from `first` on.
    done: (1,) the steps that were taken.
    """
    for s in range(numbers.shape[0]):
        for j in range(now.shape[0]):
            now[j] = numbers[s, j]
        for j in range(random.shape[0]):
            words[random[j]] = (first + s) & _LOW
            words[random[j] + 1] = (first + s) >> 32
        for i in range(code.shape[0]):
            if code[i, 0] == _NATIVE:
                call_native(code[i, 1], code[i, 2])
            else:
                call_python(code[i, 1])
        for j in range(moving.shape[0]):
            words[moving[j, 0]] += moving[j, 1]
        done[0] = s + 1


@cache
def _run() -> Callable[..., None]:
    return numba_jit.compiled(_run_steps, np.dtype(np.float64))


# Recording -------------------------------------------------------------------------------------------------------


class Program:
    """Instructions, as they are recorded."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int]] = []  # kind, address, index of its first word
        self.words: Words = []
        self.moving: list[tuple[int, int]] = []
        self.random: list[int] = []
        self.kept: list[Any] = []  # whose addresses are in code and words

    def call(self, loop: Loop, *arguments: Any) -> int:
        """loop(*arguments). Returns the index of its first word."""
        first = len(self.words)
        entry = entry_of(loop, kinds_of(arguments))
        self.code.append((_NATIVE, entry.address, first))
        self.words += words_of(arguments, self.kept)
        if loop.name == "random_bits":
            self.random.append(first + 2)  # behind the two halves of the seed
        return first

    def python(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """function(*arguments, **named), by NumPy, under the GIL."""
        self.kept.append(partial(function, *arguments, **named))
        self.code.append((_PYTHON, id(self.kept[-1]), 0))

    def kernels(self) -> Kernels:
        """The contract's kernels, each of which records its call and computes nothing."""
        products: dict[str, Callable[..., Any]] = {
            "affine": self._affine,
            "backward_input": self._backward_input,
            "backward_weights": self._backward_weights,
        }

        def find(name: str, dtype: np.dtype) -> Callable[..., Any]:
            return products.get(name) or partial(self.call, Loop(name, dtype))

        def around(name: str, dtype: np.dtype, formulas: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
            return partial(self.call, Loop(name, dtype, formulas))

        def written(function: Any) -> Any:
            return partial(self.python, function)

        rest = reference.KERNELS
        others = {name: written(getattr(rest, name)) for name in Kernels.__dataclass_fields__ if name != "ops"}
        ops = {name: OpKernels(*map(written, functions)) for name, functions in rest.ops.items()}
        return loops_table.kernels(find, around, Kernels(ops=ops, **others), numba_jit.accepts)

    def _affine(self, x: Array, w: Array, b: Array, z: Array) -> None:
        if numba_jit.small(len(x), w):
            self.call(Loop("affine", x.dtype), x, w, b, z)
        else:
            self.python(np.matmul, x, w, out=z)
            self.call(Loop("add_bias", x.dtype), b, z)

    def _backward_input(self, dz: Array, w: Array, dx: Array) -> None:
        if numba_jit.small(len(dz), w):
            self.call(Loop("backward_input", dz.dtype), dz, w, dx)
        else:
            self.python(np.matmul, dz, w.T, out=dx)

    def _backward_weights(self, x: Array, dz: Array, dw: Array, db: Array) -> None:
        if len(x) == 1 or numba_jit.small(len(x), dw):
            self.call(Loop("backward_weights", x.dtype), x, dz, dw, db)
        elif len(x) > dense.ROWS:
            self.python(dense.gradients, x, dz, dw, db)
        else:
            self.python(np.matmul, x.T, dz, out=dw)
            self.call(Loop("column_sums", x.dtype), dz, db)

    def run(self, numbers: Array, now: Array, first: int, done: Array) -> None:
        """Once for every row of `numbers`: see _run_steps."""
        words = np.array(self.words, dtype=np.int64)
        code = np.array(self.code, dtype=np.int64)
        code[:, 2] = words.ctypes.data + 8 * code[:, 2]
        moving = np.array(self.moving, dtype=np.int64).reshape(-1, 2)
        random = np.array(self.random, dtype=np.int64)
        _run()(code, words, moving, random, numbers, now, first, done)


_GATHERED = (*numba_jit.STORED, np.dtype(np.int64))


def _whole(array: Array) -> Array | None:
    """The rows of `array` as a C-ordered matrix, as wide as they lie apart; None where they do not lie in one."""
    matrix = array.reshape(len(array), -1) if array.ndim == 2 else array[:, None]
    size, width = matrix.itemsize, matrix.shape[1]
    apart, rest = divmod(matrix.strides[0], size) if len(matrix) > 1 else (width, 0)
    plain = width == 1 or matrix.strides[1] == size
    if matrix.dtype not in _GATHERED or not matrix.flags.aligned or not plain or rest or apart < width:
        return None
    return np.lib.stride_tricks.as_strided(matrix, (len(matrix), apart), (apart * size, size))


def _gather(program: Program, data: Array, rows: Array, out: Array, source: str = "cast", *constants: Array) -> None:
    """out = data[rows] by way of a source, `rows` moving on by len(out) with every step."""
    whole = _whole(data) if isinstance(data, Array) and hasattr(loops, f"{source}_forward") else None
    if whole is None:  # backward, misaligned, down the columns: NumPy knows how
        gather, steps = reference.KERNELS.ops[source].forward, itertools.count()
        program.python(lambda: gather(data, rows[next(steps) * len(out) :][: len(out)], *constants, out))
        return
    loop = Loop(f"{source}_forward", out.dtype)
    first = program.call(loop, whole, rows[: len(out)], *constants, out.reshape(len(out), -1))
    program.moving.append((first + 3, rows.itemsize * len(out)))  # behind the address and the two sizes of data


def _penalties(segment: Segment) -> tuple[float, float, float]:
    return segment.l1, segment.l2, segment.decay


def _segments(plan: Plan, objective: Objective) -> list[Segment]:
    """The engine's, and those that have come out with the same penalties put together: often all of them."""
    merged: list[Segment] = []
    for segment in Segment.cut(plan, objective.optimizer):
        if merged and _penalties(merged[-1]) == _penalties(segment):
            segment = Segment(slice(merged[-1].where.start, segment.where.stop), *_penalties(merged.pop()))
        merged.append(segment)
    return merged


def _update(program: Program, step: Step, segments: list[Segment], now: Array) -> None:
    """The optimizer's step: the coefficients lie first in `now`, then the segments' shrinks, last the clipping."""
    objective, gradient, real = step.objective, step.work.gradient, step.work.gradient.dtype.type
    cells = [Cell(now.ctypes.data + 8 * index, gradient.dtype) for index in range(len(now))]
    count = len(now) - len(segments) - 1
    if objective.clip_norm != math.inf:
        program.call(Loop("clip_scale", gradient.dtype), gradient, objective.clip_norm, now[-1:])
    rule = Loop("update", gradient.dtype, (objective.optimizer.rule.formula,))
    by_numpy = not objective.optimizer.rule.built_in and not numba_jit.accepts(objective.optimizer.rule, gradient.dtype)
    for place, (segment, shrink) in enumerate(zip(segments, cells[count:-1], strict=True), start=count):
        where = segment.where
        penalties = real(objective.clip_value), real(segment.l1), real(segment.l2)
        slots = tuple(slot[where] for slot in step.state.slots)
        parameters = step.state.parameters[where]
        if by_numpy:
            program.python(_updated_by_numpy(step, segment, now, place))
            continue
        program.call(rule, tuple(cells[:count]), cells[-1], *penalties, shrink, parameters, gradient[where], slots)


def _updated_by_numpy(step: Step, segment: Segment, now: Array, place: int) -> Callable[[], None]:
    """The same for one segment, whose shrink lies at that place, and a rule that numba cannot compile."""
    rule, clip, slots = step.objective.optimizer.rule, step.objective.clip_value, step.state.slots
    where = segment.where

    def update() -> None:
        adjustment = Adjustment(float(now[-1]), clip, segment.l1, segment.l2, float(now[place]))
        coefficients = tuple(now[: len(rule.coefficients)].tolist())
        parameters, gradient = step.state.parameters[where], step.work.gradient[where]
        reference.update(rule, coefficients, adjustment, parameters, gradient, tuple(slot[where] for slot in slots))

    return update


# The walk --------------------------------------------------------------------------------------------------------


def _record(
    plan: Plan,
    state: State,
    objective: Objective,
    segments: list[Segment],
    data: Batches,
    rows: int,
    losses: Array,
    now: Array,
) -> Program:
    """One step on the first `rows` rows of the order, whose loss goes to losses[0]; the next step's to losses[1]."""
    program = Program()
    by_output = data.weight is not None and data.weight.ndim == 2
    step = Step(program.kernels(), plan, state, objective, data.y.ndim == 1, rows, by_output)
    work = step.work
    _gather(program, data.x, data.order, work.x, step.source.op.kind, *step.source.constants)
    _gather(program, data.y, data.order, work.y)
    scale = 1.0 / (len(work.weight) * data.mean_weight)
    if data.weight is None:
        work.weight.fill(scale)
    else:
        _gather(program, data.weight, data.order, work.weight.reshape(rows, -1))
        program.call(Loop("scaled", plan.dtype), work.weight, scale)
    step.loss_and_gradient(objective.seed, state.step)
    first = program.call(Loop("weighted_sum", plan.dtype), work.value, work.weight, losses[:1])
    program.moving.append((first + 4, losses.itemsize))
    _update(program, step, segments, now)
    return program


def _numbers(objective: Objective, decays: list[float], lr: Array, taken: int) -> Array:
    """What changes from step to step, a row a step: see `_update`."""
    coefficients = objective.optimizer.coefficient_table(lr, taken + 1)
    return np.hstack([coefficients, np.outer(lr, decays), np.ones((len(lr), 1))])


def train_steps(
    plan: Plan,
    state: State,
    objective: Objective,
    batches: Batches,
    lr: Array,
) -> Array:
    """engine.train_steps, compiled."""
    state.prepare_slots(objective.optimizer.rule)
    batches = batches._replace(order=np.ascontiguousarray(batches.order, dtype=np.int64))
    order, size = batches.order, batches.size
    segments = _segments(plan, objective)
    numbers = _numbers(objective, [segment.decay for segment in segments], lr, state.step)
    losses = np.empty(len(lr))
    whole = len(order) // size  # steps; one more takes what is left
    for start, stop in ((0, whole), (whole, len(lr))):
        if start == stop:
            continue
        rest = batches._replace(order=order[start * size :])
        now, done = np.empty(numbers.shape[1]), np.zeros(1, dtype=np.int64)
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges shows in the losses
            program = _record(plan, state, objective, segments, rest, min(size, len(rest.order)), losses[start:], now)
            try:
                program.run(np.ascontiguousarray(numbers[start:stop]), now, state.step, done)
            finally:
                state.step += int(done[0])
    return losses


TRAIN_STEPS = train_steps
