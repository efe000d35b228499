"""Plan: the flat table of operations every backend runs. State: what training changes. No arithmetic.

A plan is a tuple of `Op` records, in the order a row passes through them. What an operation learns or counts
lives in three flat, 64-byte-aligned buffers: `State.parameters` (an optimizer changes it), `State.statistics` (it does
not: running means) and `State.scaling` (shift and scale of the data: float64, whatever the plan's dtype, because the
data may need more digits to be shifted than afterwards). The operations see named views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastnn import _random
from fastnn.formulas.activations import Activation, identity
from fastnn.formulas.losses import Loss
from fastnn.formulas.rules import Rule
from fastnn.ops import OPS
from fastnn.ops.operation import Operation, Shape

Array = np.ndarray
ALIGNMENT = 64  # bytes: a cache line, and the widest vector
BUFFERS = ("parameters", "statistics", "scaling")  # of a State, beside the optimizer's slots


@dataclass(frozen=True)
class Penalty:
    """l1, l2 and decoupled decay of one tensor. None: whatever the optimizer sets."""

    l1: float | None = None
    l2: float | None = None
    decay: float | None = None


FREE = Penalty(0.0, 0.0, 0.0)  # biases, slopes, normalisation


@dataclass(frozen=True)
class Tensor:
    """A named piece of a flat buffer: `parameters` where an optimizer may change it, else `statistics` or `scaling`."""

    name: str  # "0.weight": layer index and role
    shape: tuple[int, ...]
    initial: Callable[[np.random.Generator], Array | float] = field(compare=False)
    trainable: bool = True
    scaling: bool = False  # of the data: not trainable, float64
    penalty: Penalty = FREE
    offset: int = -1  # in elements; set by Plan.assemble

    @property
    def buffer(self) -> str:
        """One of BUFFERS."""
        return "parameters" if self.trainable else "scaling" if self.scaling else "statistics"

    @property
    def size(self) -> int:
        return math.prod(self.shape)  # beyond 64 bits it is an error of the allocation, not a small number

    @property
    def slice(self) -> slice:
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class Op:
    """One operation of a plan: rows of shape `inputs` go in, rows of shape `outputs` come out.

    What the kind takes and does is in fastnn.ops, and so are the names: `tensors` are its parameters and statistics,
    `settings` its numbers, `activation` is fused into it where its Spec has one.
    """

    kind: str  # a key of ops.OPS; a source only first
    inputs: Shape
    outputs: Shape
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    activation: Activation = identity
    settings: Mapping[str, float] = field(default_factory=dict)
    other: int = -1  # of a skip: the operation whose input it reads in forward; set by Plan.assemble
    dother: int = -1  # and the one whose da it reads in backward

    @property
    def operation(self) -> type[Operation]:
        return OPS[self.kind]

    @property
    def learns(self) -> bool:
        return any(tensor.trainable for tensor in self.tensors.values())


@dataclass(frozen=True)
class Plan:
    """The table, the tensors it uses, and the one float dtype everything is computed in."""

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    dtype: np.dtype
    input_shape: Shape
    output_shape: Shape

    @staticmethod
    def assemble(ops: list[Op], inputs: Shape, outputs: Shape, dtype: np.dtype) -> Plan:
        """Give every tensor its place in its buffer, each on a cache line of its own; find the ends of every skip.

        An activation that follows an operation which may have one and has none becomes that operation's.
        """
        ops = _pair_skips(_fuse_activations(ops))
        assert all(op.operation.spec.phase != "source" for op in ops[1:])
        ends = dict.fromkeys(BUFFERS, 0)
        placed: list[Op] = []
        tensors: list[Tensor] = []
        for op in ops:
            here = {}
            for role, tensor in op.tensors.items():
                here[role] = _changed(tensor, offset=ends[tensor.buffer])
                ends[tensor.buffer] += _padded(tensor.size, _dtype_of(tensor.buffer, dtype))
                tensors.append(here[role])
            placed.append(_changed(op, tensors=here))
        return Plan(tuple(placed), tuple(tensors), dtype, inputs, outputs)

    @property
    def inputs(self) -> int:
        """Values of a row that comes in."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """Values of a row that goes out."""
        return math.prod(self.output_shape)

    @property
    def source(self) -> Op:
        """How a row gets into the batch: the first operation, if it is a source; else it is cast."""
        if self.ops and self.ops[0].operation.spec.phase == "source":
            return self.ops[0]
        return Op("cast", self.input_shape, self.input_shape)

    def training_ops(self, loss: Loss) -> tuple[Op, ...]:
        """The operations whose output the loss takes: without the last activation if the loss has it fused.

        softmax + cross_entropy, sigmoid + binary_cross_entropy, exponential + poisson: the loss's gradient
        with respect to the logits is stable where the activation's own derivative underflows.
        """
        if loss.link is None or not self.ops:
            return self.ops
        last = self.ops[-1]
        if last.operation.link == loss.link:
            return self.ops[:-1]
        if last.operation.spec.fuses and last.activation.name == loss.link:
            return (*self.ops[:-1], replace(last, activation=identity))
        return self.ops

    def size(self, buffer: str) -> int:
        """Elements of one of BUFFERS, padding included."""
        dtype = _dtype_of(buffer, self.dtype)
        return sum(_padded(tensor.size, dtype) for tensor in self.tensors if tensor.buffer == buffer)

    def zeros(self, buffer: str) -> Array:
        """One of BUFFERS, or something laid out like it, such as a gradient."""
        return aligned(self.size(buffer), _dtype_of(buffer, self.dtype))

    @property
    def parameter_count(self) -> int:
        return sum(tensor.size for tensor in self.tensors if tensor.trainable)

    def views(self, parameters: Array, statistics: Array, scaling: Array) -> dict[str, Array]:
        """name -> view into the flat buffers (or into arrays laid out like them, such as gradients)."""
        buffers = dict(zip(BUFFERS, (parameters, statistics, scaling), strict=True))
        return {tensor.name: buffers[tensor.buffer][tensor.slice].reshape(tensor.shape) for tensor in self.tensors}

    def with_penalties(self, penalties: Mapping[str, Penalty]) -> Plan:
        """The same plan, where the tensors that are named have other penalties."""

        def changed(tensor: Tensor) -> Tensor:
            return replace(tensor, penalty=penalties.get(tensor.name, tensor.penalty))

        ops = (replace(op, tensors={role: changed(tensor) for role, tensor in op.tensors.items()}) for op in self.ops)
        return replace(self, ops=tuple(ops), tensors=tuple(map(changed, self.tensors)))

    def segments(self) -> list[tuple[slice, Penalty]]:
        """The parameter buffer cut where the penalty changes: what one optimizer call may update at once."""
        cut: list[tuple[slice, Penalty]] = []
        for tensor in self.tensors:
            if not tensor.trainable:
                continue
            if cut and cut[-1][1] == tensor.penalty:
                cut[-1] = (slice(cut[-1][0].start, tensor.slice.stop), tensor.penalty)
            else:
                cut.append((tensor.slice, tensor.penalty))
        return cut


def _changed(record: Any, **fields: Any) -> Any:
    """`dataclasses.replace`, which calls a constructor that sets each field for itself, in a tenth of the time."""
    made = object.__new__(type(record))
    vars(made).update(vars(record), **fields)
    return made


def _fuse_activations(ops: list[Op]) -> list[Op]:
    fused: list[Op] = []
    for op in ops:
        if op.kind == "activation" and fused and fused[-1].operation.keeps_z() and fused[-1].activation == identity:
            fused[-1] = replace(fused[-1], activation=op.activation)
        else:
            fused.append(op)
    return fused


def _pair_skips(ops: list[Op]) -> list[Op]:
    """Skips nest like brackets: what opens one, what turns from its body to its shortcut (or nothing), what closes it.

    A turn reads the opening's input in forward; the close reads the input of the turn, or of the opening. In backward
    each hands its da the other way.
    """
    paired = list(ops)
    open_: list[list[int]] = []  # for each skip that is open: the indices of its opening and its turn
    for index, op in enumerate(ops):
        bracket = op.operation.bracket
        if bracket == "opens":
            open_.append([index])
        elif bracket == "turns":
            open_[-1].append(index)
            paired[index] = replace(op, other=open_[-1][0])
        elif bracket == "closes":
            *opening, last = open_.pop()
            paired[index] = replace(op, other=last)
            paired[last] = replace(paired[last], dother=index)
            if opening:
                paired[opening[0]] = replace(paired[opening[0]], dother=last)
    return paired


def _dtype_of(buffer: str, dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float64) if buffer == "scaling" else dtype


def _padded(size: int, dtype: np.dtype) -> int:
    """`size` elements rounded up to whole cache lines, in elements."""
    line = ALIGNMENT // dtype.itemsize
    return -(-size // line) * line


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> Array:
    """A zeroed C-ordered array whose first element lies on a cache line.

    >>> aligned((3, 5), np.dtype(np.float32)).ctypes.data % ALIGNMENT
    0
    """
    size = math.prod(shape) if isinstance(shape, tuple) else shape
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype).reshape(shape)


class Snapshot:
    """A copy of everything training changes, to go back to or to carry elsewhere.

    `slots=False` does not copy the optimizer's slots (of Adam, two thirds of it): going back then starts the optimizer
    anew, unless another one has begun since, which left them alone.
    """

    def __init__(self, slots: bool = True) -> None:
        self.slots = slots
        self.step = 0
        self.rule: str | None = None
        self.buffers: tuple[Array, ...] = ()
        self._slots: tuple[Array, ...] = ()

    def take(self, state: State) -> Snapshot:
        """Copy the state. The buffers of an earlier copy are used again: fresh pages cost more than the copy."""
        self.step, self.rule = state.step, state.rule
        kept = state.buffers if self.slots else state.buffers[: len(BUFFERS)]
        self._slots = () if self.slots else state.slots
        if [len(buffer) for buffer in self.buffers] != [len(buffer) for buffer in kept]:
            self.buffers = tuple(np.empty_like(buffer) for buffer in kept)
        for copy, buffer in zip(self.buffers, kept, strict=True):
            copy[...] = buffer
        return self

    def put_back(self, state: State) -> None:
        """Make the state what it was; its views stay the same arrays."""
        if self.slots:
            state.step, state.rule = self.step, self.rule
            slots = len(self.buffers) - len(BUFFERS)
            if len(state.slots) != slots:
                state.slots = tuple(aligned(len(state.parameters), state.plan.dtype) for _ in range(slots))
        elif state.rule != self.rule:
            state.step, state.rule, state.slots = self.step, self.rule, self._slots
        else:
            state.forget_optimizer()
        for buffer, copy in zip(state.buffers, self.buffers, strict=self.slots):  # the slots come last
            buffer[...] = copy


class State:
    """The buffers of one model: parameters, statistics, scaling, optimizer slots, and the number of steps taken."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parameters = plan.zeros("parameters")
        self.statistics = plan.zeros("statistics")
        self.scaling = plan.zeros("scaling")
        self.slots: tuple[Array, ...] = ()  # one buffer like `parameters` for each slot of the optimizer's rule
        self.rule: str | None = None  # the rule the slots belong to
        self.step = 0
        self.views = plan.views(self.parameters, self.statistics, self.scaling)

    @property
    def buffers(self) -> tuple[Array, ...]:
        """Everything training changes, but for the step count."""
        return (self.parameters, self.statistics, self.scaling, *self.slots)

    def finite(self) -> bool:
        """Is no value NaN or infinite? Two passes without a copy: the extremes are NaN where any value is."""
        return all(np.isfinite(buffer.min()) and np.isfinite(buffer.max()) for buffer in self.buffers if len(buffer))

    def initialize(self, seed: int) -> None:
        """Draw every tensor anew: tensor i from its own stream (seed, i), so layers do not shift each other."""
        for index, tensor in enumerate(self.plan.tensors):
            self.views[tensor.name][...] = tensor.initial(_random.generator(seed, index))
        self.forget_optimizer()

    def forget_optimizer(self) -> None:
        """No slots, no step taken: the next optimizer begins anew."""
        self.slots, self.rule, self.step = (), None, 0

    def prepare_slots(self, rule: Rule) -> None:
        """Zeroed slots and a step count of 0, unless they are this rule's already (training goes on)."""
        if self.rule != rule.key:
            self.slots = tuple(aligned(len(self.parameters), self.plan.dtype) for _ in rule.slots)
            self.rule, self.step = rule.key, 0
