"""How a loop is called by address: a C function for it, and its arguments as 64-bit words. What numba_engine runs.

A word is where an array lies, one of its sizes, where a float lies, or an integer. An entry makes them arrays and
numbers again and calls the loop, of loops.py or one of those here, which the Python engine has as NumPy expressions.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from fastnn.backends import loops, numba_formulas, numba_jit, numba_math
from fastnn.formulas import activations, losses, rules, special

Words = list[int]

# Calling by address ----------------------------------------------------------------------------------------


@intrinsic
def pointer(typingctx, address):
    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return numba.types.voidptr(numba.int64), build


@intrinsic
def call_native(typingctx, function, words):
    """function(words), both addresses."""

    def build(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return numba.void(numba.int64, numba.int64), build


@intrinsic
def call_python(typingctx, thing):
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


def scaled(weight, scale):
    for i in range(weight.shape[0]):
        weight[i] = 1.0 * float(weight[i]) * scale


def weighted_sum(value, weight, out):
    total = 0.0
    for i in range(value.shape[0]):
        total += 1.0 * float(value[i]) * float(weight[i])
    out[0] = total


def clip_scale(g, bound, out):
    """out[0] = what bounds the norm of g."""
    norm = math.sqrt(_squared_norm(g))
    out[0] = bound / norm if norm > bound else 1.0


_OWN = {function.__name__: function for function in (add_bias, column_sums, scaled, weighted_sum, clip_scale)}
_IN_FLOAT64 = {"scaled", "weighted_sum", "clip_scale"}  # their products and sums
_squared_norm = numba.njit(numba_formulas.copy(loops.squared_norm, np.dtype(np.float64)), inline="always")


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
        return numba.njit(numba_formulas.copy(made, dtype), inline="always")


class Cell(NamedTuple):
    """Where a number lies that changes from step to step, and the dtype in which the loop takes it."""

    address: int
    dtype: np.dtype


def words_of(argument: Any, kept: list[Any]) -> Words:
    """An argument as words. What must stay alive for them goes to `kept`."""
    if isinstance(argument, Cell):
        return [argument.address]
    if isinstance(argument, tuple):
        return [word for each in argument for word in words_of(each, kept)]
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        kept.append(argument)
        return [argument.ctypes.data, *argument.shape]
    if isinstance(argument, float | np.floating):
        kept.append(np.array([argument], dtype=np.float64))
        return [kept[-1].ctypes.data]
    return [int(argument)]


def kinds_of(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
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
            kinds.append(("tuple", *kinds_of(argument)))
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


_NAMES: dict[str, Any] = {"__name__": __name__, "carray": numba.carray, "pointer": pointer} | {
    name: getattr(np, name) for name in _TYPES.values()
}


@cache
def entry_of(loop: Loop, kinds: tuple[Any, ...]) -> Any:
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
    options = numba_formulas.OPTIONS | {"fastmath": numba_formulas.LOOP_MATH}
    try:
        return numba.cfunc("void(int64)", cache=ours, **options)(made[name])
    except RuntimeError:  # no directory to cache in can be written
        return numba.cfunc("void(int64)", **options)(made[name])


@cache
def _sources() -> str:
    """A digest of all that is compiled into an entry: numba's own cache looks at one file."""
    modules = (loops, numba_formulas, numba_jit, numba_math, activations, losses, special, rules)
    files = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _digest(loop: Loop, kinds: tuple[Any, ...]) -> str:
    """Distinguishes entries of one loop, in this and in all other processes that share the cache."""
    formulas = [(f.__code__.co_filename, f.__code__.co_firstlineno, f.__code__.co_code) for f in loop.formulas]
    constants = [f.__code__.co_consts for f in loop.formulas]  # two lambdas may stand on a line
    what = repr((_sources(), loop.dtype, formulas, constants, kinds))
    return hashlib.sha256(what.encode()).hexdigest()[:16]
