"""The `numba` backend's own `train_steps`: the Python engine records one step, one compiled loop repeats it.

A step runs the same kernels on the same buffers every time: only the rows, the learning rate and the step's number
change. So `engine.Step` is walked once with kernels that compute nothing and write down how they were called. That
program, a list of instructions, is then run for every step of the call by one nopython function, `_run`; 20 us of
Python a step become 0.2. Whatever the engine can walk, this can: it knows no kind of operation.

An instruction is the address of a function and 64-bit words, its arguments: where an array lies and its shape, where
a float lies, an integer. The function (`_entry`) makes them arrays and numbers again and calls the loop of loops.py. A
product that is large enough for BLAS is an instruction to call a Python object, NumPy's own matmul with its arrays.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from fastnn.backends import loops, loops_table, numba_jit, numba_math, reference
from fastnn.backends.contract import Array, Kernels, OpKernels
from fastnn.engine import Batches, Recipe, Segment, Step
from fastnn.formulas import activations, losses, rules, special
from fastnn.plan import Plan, State

KERNELS = numba_jit.KERNELS
Words = list[int]

# Calling by address ----------------------------------------------------------------------------------------


@intrinsic
def _pointer(typingctx, address):
    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return numba.types.voidptr(numba.int64), build


@intrinsic
def _call_native(typingctx, function, words):
    """function(words), both addresses."""

    def build(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return numba.void(numba.int64, numba.int64), build


@intrinsic
def _call_python(typingctx, thing):
    """thing(), the address of a Python object. Its exception ends the function this stands in, and is raised there."""

    def build(context, builder, signature, arguments):
        python = context.get_python_api(builder)
        lock = python.gil_ensure()
        result = python.call_function_objargs(builder.inttoptr(arguments[0], python.pyobj), ())
        failed = builder.icmp_unsigned("==", result, ir.Constant(result.type, None))
        with builder.if_else(failed) as (then, otherwise):
            with then:
                python.gil_release(lock)
                context.call_conv.return_exc(builder)
            with otherwise:
                python.decref(result)
                python.gil_release(lock)
        return context.get_dummy_value()

    return numba.void(numba.int64), build


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
                _call_native(code[i, 1], code[i, 2])
            else:
                _call_python(code[i, 1])
        for j in range(moving.shape[0]):
            words[moving[j, 0]] += moving[j, 1]
        done[0] = s + 1


@cache
def _run() -> Callable[..., None]:
    return numba_jit.compiled(_run_steps, np.dtype(np.float64))


# Loops that the Python engine has as NumPy expressions ----------------------------------------------------------


def add_bias(b, z):
    for i in range(z.shape[0]):
        for o in range(z.shape[1]):
            z[i, o] += b[o]


def column_sums(dz, db):
    for o in range(db.shape[0]):
        db[o] = 0.0
    for i in range(dz.shape[0]):
        for o in range(db.shape[0]):
            db[o] += dz[i, o]


def scale_to_one(weight):
    """The weights of a batch, scaled to sum to 1; all 0 if they are."""
    total = 0.0
    for i in range(weight.shape[0]):
        total += 1.0 * float(weight[i])
    scale = 1.0 / total if total > 0 else 0.0
    for i in range(weight.shape[0]):
        weight[i] *= scale


def weighted_sum(value, weight, out):
    total = 0.0
    for i in range(value.shape[0]):
        total += 1.0 * float(value[i]) * float(weight[i])
    out[0] = total


def clip_scale(g, bound, out):
    """out[0] = what bounds the norm of g."""
    norm = math.sqrt(_squared_norm(g))
    out[0] = bound / norm if norm > bound else 1.0


_OWN = {function.__name__: function for function in (add_bias, column_sums, scale_to_one, weighted_sum, clip_scale)}
_IN_FLOAT64 = {"scale_to_one", "weighted_sum", "clip_scale"}  # their sums
_squared_norm = numba.njit(numba_jit.copy(loops.squared_norm, np.dtype(np.float64)), inline="always")


# Entries: from words to a loop's arguments -----------------------------------------------------------------------


class Loop(NamedTuple):
    """A loop of loops.py or of this module, for one dtype, around these formulas."""

    name: str
    dtype: np.dtype
    formulas: tuple[Any, ...] = ()  # functions

    def inlined(self) -> Any:
        """Becomes part of the entry that calls it: it is not compiled by itself."""
        function = _OWN.get(self.name) or getattr(loops, self.name)
        dtype = np.dtype(np.float64) if self.name in _IN_FLOAT64 else self.dtype
        made = function(*self.formulas) if self.formulas else function
        return numba.njit(numba_jit.copy(made, dtype), inline="always")


class Cell(NamedTuple):
    """Where a number lies that changes from step to step, and the dtype in which the loop takes it."""

    address: int
    dtype: np.dtype


def _words(argument: Any, kept: list[Any]) -> Words:
    """An argument as words. What must stay alive for them goes to `kept`."""
    if isinstance(argument, Cell):
        return [argument.address]
    if isinstance(argument, tuple):
        return [word for each in argument for word in _words(each, kept)]
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        kept.append(argument)
        return [argument.ctypes.data, *argument.shape]
    if isinstance(argument, float | np.floating):
        kept.append(np.array([argument], dtype=np.float64))
        return [kept[-1].ctypes.data]
    return [int(argument)]


def _kinds(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What an entry must know of each argument: of an array its dtype and dimensions, of a number its dtype.

    Of an array that was there before, at which place, so that the entry passes one array twice: LLVM tests whether
    arrays overlap, and has vector instructions only for where they do not. In place, tanh of 32 x 32 took 5.6 us, and
    takes 1.
    """
    kinds: list[Any] = []
    seen: dict[Any, int] = {}
    for place, argument in enumerate(arguments):
        if isinstance(argument, Cell):
            kinds.append(argument.dtype.char)
        elif isinstance(argument, tuple):
            kinds.append(("tuple", *_kinds(argument)))
        elif isinstance(argument, np.ndarray):
            where = argument.ctypes.data, argument.shape, argument.dtype.char
            first = seen.setdefault(where, place)
            kinds.append((argument.dtype.char, argument.ndim) if first == place else ("same", first))
        elif isinstance(argument, float | np.floating):
            kinds.append("f" if isinstance(argument, np.float32) else "d")
        else:
            kinds.append("l")
    return tuple(kinds)


_TYPES = {np.dtype(name).char: name for name in ("float32", "float64", "int32", "int64", "uint8", "uint32")}


class _Source:
    """Writes an entry; counts the words its arguments take."""

    def __init__(self) -> None:
        self.words = 0

    def take(self) -> str:
        self.words += 1
        return f"words[{self.words - 1}]"

    def expressions(self, kinds: tuple[Any, ...]) -> list[str]:
        made: list[str] = []
        for kind in kinds:
            if kind[0] == "same":
                made.append(made[kind[1]])
                self.words += made[kind[1]].count("words[")
            else:
                made.append(self.expression(kind))
        return made

    def expression(self, kind: Any) -> str:
        if kind[0] == "tuple":
            return "(" + "".join(f"{each}, " for each in self.expressions(kind[1:])) + ")"
        if isinstance(kind, tuple):
            at, sizes = self.take(), [self.take() for _ in range(kind[1])]
            return f"carray(pointer({at}), ({', '.join(sizes)},), {_TYPES[kind[0]]})"
        if kind == "l":
            return self.take()
        return f"{_TYPES[kind]}(carray(pointer({self.take()}), (1,), float64)[0])"


_NAMES: dict[str, Any] = {"__name__": __name__, "carray": numba.carray, "pointer": _pointer} | {
    name: getattr(np, name) for name in _TYPES.values()
}


@cache
def _entry(loop: Loop, kinds: tuple[Any, ...]) -> Any:
    """The C function void(address of words) that calls the loop with arguments of these kinds."""
    writer = _Source()
    arguments = ", ".join(writer.expressions(kinds))
    name = f"{loop.name}_{_digest(loop, kinds)}"
    source = (
        f"def {name}(address):\n    words = carray(pointer(address), ({writer.words},), int64)\n    loop({arguments})\n"
    )
    made: dict[str, Any] = {}
    # numba caches beside the file that a function says it is from
    exec(compile(source, __file__, "exec"), _NAMES | {"loop": loop.inlined()}, made)
    ours = all(formula.__module__.startswith("fastnn.") for formula in loop.formulas)
    options = numba_jit.OPTIONS | {"fastmath": numba_jit.LOOP_MATH}
    try:
        return numba.cfunc("void(int64)", cache=ours, **options)(made[name])
    except RuntimeError:  # no directory to cache in can be written
        return numba.cfunc("void(int64)", **options)(made[name])


@cache
def _sources() -> str:
    """A digest of all that is compiled into an entry: numba's own cache looks at one file."""
    modules = (loops, numba_jit, numba_math, activations, losses, special, rules)
    files = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _digest(loop: Loop, kinds: tuple[Any, ...]) -> str:
    """Distinguishes entries of one loop, in this and in all other processes that share the cache."""
    formulas = [(f.__code__.co_filename, f.__code__.co_firstlineno, f.__code__.co_code) for f in loop.formulas]
    constants = [f.__code__.co_consts for f in loop.formulas]  # two lambdas may stand on a line
    what = repr((_sources(), loop.dtype, formulas, constants, kinds))
    return hashlib.sha256(what.encode()).hexdigest()[:16]


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
        entry = _entry(loop, _kinds(arguments))
        self.code.append((_NATIVE, entry.address, first))
        self.words += _words(arguments, self.kept)
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
        return loops_table.kernels(find, around, Kernels(ops=ops, **others))

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
    whole = _whole(data)
    if whole is None:  # backward, misaligned, down the columns: NumPy knows how
        gather, steps = reference.KERNELS.ops[source].forward, itertools.count()
        program.python(lambda: gather(data, rows[next(steps) * len(out) :][: len(out)], *constants, out))
        return
    loop = Loop(f"{source}_forward", out.dtype)
    first = program.call(loop, whole, rows[: len(out)], *constants, out.reshape(len(out), -1))
    program.moving.append((first + 3, rows.itemsize * len(out)))  # behind the address and the two sizes of data


def _penalties(segment: Segment) -> tuple[float, float, float]:
    return segment.l1, segment.l2, segment.decay


def _segments(plan: Plan, recipe: Recipe) -> list[Segment]:
    """The engine's, and those that have come out with the same penalties put together: often all of them."""
    merged: list[Segment] = []
    for segment in Segment.cut(plan, recipe.optimizer):
        if merged and _penalties(merged[-1]) == _penalties(segment):
            segment = Segment(slice(merged[-1].where.start, segment.where.stop), *_penalties(merged.pop()))
        merged.append(segment)
    return merged


def _update(program: Program, step: Step, segments: list[Segment], now: Array) -> None:
    """The optimizer's step: the coefficients lie first in `now`, then the segments' shrinks, last the clipping."""
    recipe, gradient, real = step.recipe, step.work.gradient, step.work.gradient.dtype.type
    cells = [Cell(now.ctypes.data + 8 * index, gradient.dtype) for index in range(len(now))]
    count = len(now) - len(segments) - 1
    if recipe.clip_norm != math.inf:
        program.call(Loop("clip_scale", gradient.dtype), gradient, recipe.clip_norm, now[-1:])
    rule = Loop("update", gradient.dtype, (recipe.optimizer.rule.formula,))
    for segment, shrink in zip(segments, cells[count:-1], strict=True):
        where = segment.where
        penalties = real(recipe.clip_value), real(segment.l1), real(segment.l2)
        slots = tuple(slot[where] for slot in step.state.slots)
        parameters = step.state.parameters[where]
        program.call(rule, tuple(cells[:count]), cells[-1], *penalties, shrink, parameters, gradient[where], slots)


# The walk --------------------------------------------------------------------------------------------------------


def _record(
    plan: Plan,
    state: State,
    recipe: Recipe,
    segments: list[Segment],
    data: Batches,
    rows: int,
    losses: Array,
    now: Array,
) -> Program:
    """One step on the first `rows` rows of the order, whose loss goes to losses[0]; the next step's to losses[1]."""
    program = Program()
    step = Step(program.kernels(), plan, state, recipe, data.y.ndim == 1, rows)
    work = step.work
    _gather(program, data.x, data.order, work.x, step.source.op.kind, *step.source.constants)
    _gather(program, data.y, data.order, work.y)
    if data.weight is None:
        work.weight.fill(1.0 / rows)
    else:
        _gather(program, data.weight, data.order, work.weight)
        program.call(Loop("scale_to_one", plan.dtype), work.weight)
    step.loss_and_gradient(recipe.seed, state.step)
    first = program.call(Loop("weighted_sum", plan.dtype), work.value, work.weight, losses[:1])
    program.moving.append((first + 4, losses.itemsize))
    _update(program, step, segments, now)
    return program


def _numbers(recipe: Recipe, decays: list[float], lr: Array, taken: int) -> Array:
    """What changes from step to step, a row a step: see `_update`."""
    coefficients = recipe.optimizer.coefficient_table(lr, taken + 1)
    return np.hstack([coefficients, np.outer(lr, decays), np.ones((len(lr), 1))])


def train_steps(
    plan: Plan,
    state: State,
    recipe: Recipe,
    batches: Batches,
    lr: Array,
) -> Array:
    """engine.train_steps, compiled."""
    state.prepare_slots(recipe.optimizer.rule)
    batches = batches._replace(order=np.ascontiguousarray(batches.order, dtype=np.int64))
    order, size = batches.order, batches.size
    segments = _segments(plan, recipe)
    numbers = _numbers(recipe, [segment.decay for segment in segments], lr, state.step)
    losses = np.empty(len(lr))
    whole = len(order) // size  # steps; one more takes what is left
    for start, stop in ((0, whole), (whole, len(lr))):
        if start == stop:
            continue
        rest = batches._replace(order=order[start * size :])
        now, done = np.empty(numbers.shape[1]), np.zeros(1, dtype=np.int64)
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges shows in the losses
            program = _record(plan, state, recipe, segments, rest, min(size, len(rest.order)), losses[start:], now)
            try:
                program.run(np.ascontiguousarray(numbers[start:stop]), now, state.step, done)
            finally:
                state.step += int(done[0])
    return losses


TRAIN_STEPS = train_steps
