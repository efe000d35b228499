"""Malformed plans for the native engine: it computes or raises, and says of what; it never ends the process.

    python tests/fuzz_plans.py --cases 1000000 --seed 0 --jobs 2
    python tests/fuzz_plans.py --seed 0 --only 1234              # one case again, and what it is

A case is a valid plan, drafted at random (plan_drafts.py) and spoiled in a few places: numbers, types, shapes, tensors
left out, operations exchanged. It goes to a trainer or a predictor of the extension. Where that takes it, a call runs,
with arrays of the declared sizes between bytes that must not change. Every case is a function of the seed and its
number. Under the address sanitizer (`.ci/run sanitize`) the arrays end where their memory ends.
"""

from __future__ import annotations

import copy
import math
import operator
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import fuzzing
import numpy as np
from plan_drafts import BUFFERS, DOTHER, INPUTS, KIND, OTHER, OUTPUTS, SETTINGS, TENSORS, Random, Tree, drafted, learns

from fastnn import _native
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES
from fastnn.ops import OPS

MOST_VALUES = 100_000  # of a buffer, or of a row: what is larger is made, if it is, but not run

ALLOWED = (ValueError, TypeError, IndexError, MemoryError, OverflowError)
ARGUMENTS = (
    "isa ops inputs parameters statistics scaling objective state batches rates losses taken slot slots step x X y"
)
ARGUMENTS += " weight mean_weight order size coefficients lr out data indices indptr operation operations"
NAMED = re.compile(rf"\b({'|'.join([*ARGUMENTS.split(), *OPS])})\b")

# What spoils them -------------------------------------------------------------------------------------------------

COUNTS = (
    0,
    1,
    2,
    3,
    16,
    255,
    4000,
    4_000_000,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**56,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
NUMBERS = (*COUNTS, -1, -2, -(2**31), -(2**63), 2**64, 10**30, 0.5, -0.0, 1e-320, 1e300, -1e300)
NUMBERS += (math.nan, math.inf, -math.inf)  # type: ignore[assignment]
OTHERS = (
    None,
    "",
    "dense",
    "1",
    "\ud800",
    b"x",
    [],
    (),
    [1],
    {},
    {1: 2},
    set(),
    True,
    False,
    1j,
    object(),
    int,
    np.int64(3),
)
OTHERS += (np.float32(0.5), np.zeros(3), np.zeros((2, 6)), range(3), [[[]]], "x" * 300)  # type: ignore[assignment]


def any_branch(rng: Random, args: dict[str, Tree]) -> list[Tree]:
    """A list somewhere in the operations or the objective."""
    branch = args["ops"] if rng.random() < 0.9 else args["objective"]
    while rng.random() < 0.8:
        children = [child for child in branch if type(child) is list]
        if not children:
            break
        branch = rng.choice(children)
    return branch


def changed(rng: Random, value: Tree) -> Tree:
    """A number near it, or any other one."""
    if isinstance(value, (int, float)) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, value * 2, -value))
    return rng.choice(NUMBERS)


def another_number(rng: Random, args: dict[str, Tree]) -> None:
    branch = any_branch(rng, args)
    leaves = [place for place, child in enumerate(branch) if isinstance(child, (int, float))]
    if leaves:
        place = rng.choice(leaves)
        branch[place] = changed(rng, branch[place])


def another_type(rng: Random, args: dict[str, Tree]) -> None:
    branch = any_branch(rng, args)
    if branch:
        branch[rng.randrange(len(branch))] = copy.deepcopy(rng.choice(OTHERS))


def left_out(rng: Random, args: dict[str, Tree]) -> None:
    branch = any_branch(rng, args)
    if branch:
        del branch[rng.randrange(len(branch))]


def twice(rng: Random, args: dict[str, Tree]) -> None:
    branch = any_branch(rng, args)
    if branch:
        branch.insert(rng.randrange(len(branch) + 1), rng.choice(branch))


def exchanged(rng: Random, args: dict[str, Tree]) -> None:
    branch = any_branch(rng, args)
    if len(branch) > 1:
        a, b = rng.sample(range(len(branch)), 2)
        branch[a], branch[b] = branch[b], branch[a]


def another_kind(rng: Random, args: dict[str, Tree]) -> None:
    rng.choice(args["ops"])[KIND] = rng.choice([*OPS, "no_such_operation", ""])


def another_shape(rng: Random, args: dict[str, Tree]) -> None:
    """The same in two neighbours, so that they agree, and in no tensor."""
    place = rng.randrange(len(args["ops"]))
    shape = [rng.choice((*COUNTS[:7], 5, 7)) for _ in range(rng.randint(0, 3))]
    args["ops"][place][OUTPUTS] = shape
    for neighbour in args["ops"][place + 1 : place + 2]:
        neighbour[INPUTS] = list(shape)
    if rng.random() < 0.5:  # of the operation itself too
        args["ops"][place][INPUTS] = list(shape)


def other_ends(rng: Random, args: dict[str, Tree]) -> None:
    rng.choice(args["ops"])[rng.choice((OTHER, DOTHER))] = rng.randint(-3, len(args["ops"]) + 1)


def other_tensors(rng: Random, args: dict[str, Tree]) -> None:
    """Those of another operation, or moved."""
    op = rng.choice(args["ops"])
    if rng.random() < 0.3 or not op[TENSORS]:
        op[TENSORS] = [list(tensor) for tensor in rng.choice(args["ops"])[TENSORS]]
    else:
        tensor = rng.choice(op[TENSORS])
        place = rng.randrange(3)
        tensor[place] = (
            rng.random() < 0.5 if place == 2 else rng.choice((*COUNTS, tensor[place] + 1, tensor[place] - 1))
        )


def other_settings(rng: Random, args: dict[str, Tree]) -> None:
    op = rng.choice(args["ops"])
    op[SETTINGS] = [rng.choice((*NUMBERS, *op[SETTINGS])) for _ in range(rng.choice((0, 1, 2, len(op[SETTINGS]))))]


def other_sizes(rng: Random, args: dict[str, Tree]) -> None:
    name = rng.choice((*BUFFERS, "inputs", "isa"))
    args[name] = changed(rng, args[name])


SPOILERS: tuple[Callable[[Random, dict[str, Tree]], None], ...] = (
    another_kind,  # in this order: these know where they are
    another_shape,
    other_ends,
    other_tensors,
    other_settings,
    other_sizes,
    another_number,  # and these take whatever they find
    another_type,
    left_out,
    twice,
    exchanged,
)


def frozen(tree: Tree) -> Tree:
    """Tuples, as the adapter makes them."""
    return tuple([frozen(child) for child in tree]) if type(tree) is list else tree


# A call -----------------------------------------------------------------------------------------------------------

GUARD = 64  # bytes
SANITIZED = "ASAN_OPTIONS" in os.environ


class Arrays:
    """Arrays between bytes that must not change; of those that are read, nothing must."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.numbers = np.random.default_rng(rng.getrandbits(32))
        self.guards: list[np.ndarray] = []
        self.read: list[tuple[np.ndarray, bytes]] = []

    def empty(self, dtype: Any, *shape: int) -> np.ndarray:
        """Full of NaN, or of -1. Behind it nothing where a sanitizer watches, which sees more than a guard does."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = np.full(GUARD + size + (0 if SANITIZED else GUARD), 0xFF, dtype=np.uint8)
        self.guards += [raw[:GUARD], raw[GUARD + size :]]
        return raw[GUARD : GUARD + size].view(dtype).reshape(shape)

    def normal(self, dtype: Any, *shape: int) -> np.ndarray:
        made = self.empty(dtype, *shape)
        made[...] = self.numbers.normal(size=shape)
        if made.size and self.rng.random() < 0.1:
            made.flat[self.rng.randrange(made.size)] = self.rng.choice((math.nan, math.inf, 1e38))
        return made

    def integers(self, dtype: Any, low: int, high: int, *shape: int) -> np.ndarray:
        made = self.empty(dtype, *shape)
        made[...] = self.numbers.integers(low, max(high, low + 1), shape)
        return made

    def fixed(self, array: np.ndarray) -> np.ndarray:
        self.read.append((array, array.tobytes()))
        return array

    def intact(self) -> bool:
        kept = all((guard == 0xFF).all() for guard in self.guards)
        return kept and all(array.tobytes() == before for array, before in self.read)


def data_set(arrays: Arrays, dtype: Any, rows: int, inputs: int) -> Any:
    rng = arrays.rng
    stored = rng.choice((dtype, dtype, np.uint8, np.int64, np.int16))
    if rng.random() < 0.25:
        entries, index = rows * min(inputs, 3), rng.choice((np.int32, np.int64))
        bound = inputs if rng.random() < 0.8 else inputs + 2
        starts = arrays.empty(index, rows + 1)
        starts[...] = np.linspace(0, entries + (rng.random() < 0.1), rows + 1)
        values = arrays.integers(stored, 0, 60, entries)
        return (
            arrays.fixed(values),
            arrays.fixed(arrays.integers(index, 0, bound, entries)),
            arrays.fixed(starts),
            inputs,
        )
    whole = rng.random() < 0.5 or not np.issubdtype(stored, np.floating)
    numbers = arrays.integers(stored, 0, 60, rows, inputs) if whole else arrays.normal(stored, rows, inputs)
    return arrays.fixed(numbers)


def buffers(arrays: Arrays, args: dict[str, Tree], dtype: Any) -> list[np.ndarray]:
    kinds = {"parameters": dtype, "statistics": dtype, "scaling": np.float64}
    return [arrays.normal(kinds[name], args[name]) for name in BUFFERS]


def with_a_wrong_one(rng: Random, arguments: list[list[Any]]) -> bool:
    """One argument of a call is another thing, now and then: whether it is."""
    if rng.random() < 0.9:
        return False
    group = rng.choice(arguments)
    group[rng.randrange(len(group))] = copy.deepcopy(rng.choice((*NUMBERS, *OTHERS)))
    return True


def predict(predictor: Any, args: dict[str, Tree], outputs: int, dtype: Any, arrays: Arrays) -> None:
    rows = arrays.rng.choice((1, 3, 16, 40) if max(outputs, args["inputs"]) > 200 else (1, 3, 16, 16, 40, 600))
    tensors = [arrays.fixed(buffer) for buffer in buffers(arrays, args, dtype)]
    out = arrays.empty(dtype, rows, outputs)
    arguments = [*tensors, data_set(arrays, dtype, rows, args["inputs"]), out]
    wrong = with_a_wrong_one(arrays.rng, [arguments])
    read = predictor.run(*arguments)
    assert read or wrong, "not read: x"
    assert wrong or not (out.view(f"i{out.itemsize}") == -1).any(), "not written: out"


def train(trainer: Any, args: dict[str, Tree], outputs: int, dtype: Any, arrays: Arrays) -> None:
    rng, objective = arrays.rng, args["objective"]
    rule = RULES[_native.RULES[objective[2]]]
    n = rng.choice((1, 5, 5, 33, 33, 150))  # matrices of 150 rows are packed
    visited = rng.choice((0, 1, n, 2 * n))
    size = rng.choice((1, 4, 16, 16, n, 1000, 2**64 - 1))
    steps = -(-visited // size)
    slots = tuple(arrays.normal(dtype, args["parameters"]) for _ in rule.slots)
    state = [*buffers(arrays, args, dtype), slots, rng.choice((0, 7, 2**40, 2**64 - 1))]
    loss = LOSSES[_native.LOSSES[objective[0]]]
    labels = "labels" in loss.targets and rng.random() < 0.6
    outside = rng.random() < 0.05
    y = arrays.integers(np.int64, 0, outputs + outside, n) if labels else arrays.normal(dtype, n, outputs // loss.width)
    each = loss.pointwise is not None and rng.random() < 0.3  # a weight for each value
    weight = arrays.normal(dtype, n, *[outputs] * each) if rng.random() < 0.3 else None
    order = arrays.fixed(arrays.integers(np.int64, 0, n + (rng.random() < 0.03), visited))
    batches = [
        data_set(arrays, dtype, n, args["inputs"]),
        y,
        weight,
        order,
        size,
        rng.choice((*[1.0] * 20, 0.3, 1e300, 0.0, math.nan)),
    ]
    rates = [arrays.normal(np.float64, steps, len(rule.coefficients)), arrays.normal(np.float64, steps)]
    written = [arrays.empty(np.float64, steps), arrays.empty(np.int64, 1)]
    wrong = with_a_wrong_one(rng, [state, batches, rates, written])
    read = trainer.run(tuple(state), tuple(batches), tuple(rates), *written)
    assert read or wrong, "not read: x"
    assert wrong or 0 <= written[1][0] <= steps, f"{written[1][0]} of {steps} steps taken"


# Cases ------------------------------------------------------------------------------------------------------------


class Case:
    """One case: drafted, spoiled; `run` makes it and calls it."""

    def __init__(self, seed: int, number: int) -> None:
        rng = self.rng = Random(f"{seed} {number}")
        self.args = drafted(rng)
        chosen = [rng.choice(SPOILERS) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))]
        self.spoiled = sorted(chosen, key=SPOILERS.index)
        self.trains = rng.random() < 0.7 and (bool(self.spoiled) or learns(self.args["ops"]))
        for spoil in self.spoiled:
            spoil(rng, self.args)
        self.args["ops"] = list(map(frozen, self.args["ops"]))
        self.args["objective"] = frozen(self.args["objective"])
        self.dtype = np.dtype(rng.choice(("float32", "float64")))
        if not self.trains:
            del self.args["objective"]

    @property
    def seen(self) -> set[tuple[str, str]]:
        """What a call that ran has run: Trainer or Predictor, and the operation."""
        return {(self.kind.partition("F")[0], op[KIND]) for op in self.args["ops"]}

    @property
    def kind(self) -> str:
        return ("Trainer" if self.trains else "Predictor") + self.dtype.name.capitalize()

    def __str__(self) -> str:
        return f"{self.kind}, {[spoil.__name__ for spoil in self.spoiled]}: {self.args}"

    def run(self) -> str:
        """How far it came. AssertionError, or whatever it should not raise, where the engine is wrong."""
        try:
            made = getattr(_native, self.kind)(**self.args)
        except ALLOWED as error:
            if not self.spoiled:
                raise AssertionError("a valid plan is refused") from error
            return f"plan refused: {checked(error)}"
        outputs = self.outputs()
        if outputs is None:
            return "plan taken, too large to run"
        _native.set_least_work(0.0 if self.rng.random() < 0.1 else 48000.0)  # 0: the smallest plan gets several threads
        try:
            for _ in range(self.rng.choice((1, 1, 2))):  # the second with the buffers of the first, or larger ones
                self.call(made, outputs)
        except ALLOWED as error:
            return f"call refused: {checked(error)}"
        finally:
            _native.set_least_work(48000.0)
        return "run"

    def call(self, made: Any, outputs: int) -> None:
        arrays = Arrays(self.rng)
        try:
            (train if self.trains else predict)(made, self.args, outputs, self.dtype, arrays)
        finally:
            assert arrays.intact(), "bytes changed that should not"

    def outputs(self) -> int | None:
        """Values of a row that goes out; None where anything is too large to be run here."""
        rows = [math.prod(map(operator.index, op[OUTPUTS])) for op in self.args["ops"]]
        self.args |= {name: operator.index(self.args[name]) for name in (*BUFFERS, "inputs")}
        largest = max(*rows, *(self.args[name] for name in (*BUFFERS, "inputs")))
        return rows[-1] if largest <= MOST_VALUES else None


def checked(error: Exception) -> str:
    """Its type. The message must say of what: an argument or an operation."""
    assert isinstance(error, MemoryError) or NAMED.search(str(error)), f"an error that names nothing: {error!r}"
    return type(error).__name__


if __name__ == "__main__":
    sys.exit(fuzzing.main(Case, "Malformed plans for the native engine."))
