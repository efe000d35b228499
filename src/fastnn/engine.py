"""Walks a Plan with any table of kernels: predict, train_steps. No formulas, no validation.

One training step is: gather the rows of the batch, normalised where the plan begins so; forward, operation by
operation; the loss and its gradient; backward, in the opposite order; one update of all parameters. What each of these
computes is in `backends/reference.py`, one NumPy expression a quantity, under the same names.

The gradient that travels backward is always dz: with respect to what an operation computed *before* its fused
activation. So whoever computes the gradient of an operation's input also multiplies by the derivative of the
activation below it; a dense operation does so in the same pass (`dense_backward_input`), the others afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fastnn._random import Key
from fastnn.backends.contract import Adjustment, Kernels
from fastnn.formulas.activations import ACTIVATIONS, Activation, identity
from fastnn.formulas.losses import Loss
from fastnn.optim.optimizers import Optimizer
from fastnn.plan import Op, Penalty, Plan, State, aligned

Array = np.ndarray
PREDICT_ROWS = 512  # rows taken through all layers at once: 512 x 784 float32 is 1.6 MB, about one core's cache


@dataclass(frozen=True)
class Recipe:
    """What is minimised and how. `clip_norm` bounds the global norm of the gradient, `clip_value` each entry."""

    loss: Loss
    optimizer: Optimizer
    seed: int = 0
    clip_norm: float = math.inf
    clip_value: float = math.inf


# Buffers -------------------------------------------------------------------------------------------------


class Below(NamedTuple):
    """The fused activation of the operation below, and what its derivative is written in: its z or its a."""

    activation: Activation
    saved: Array


@dataclass
class Room:
    """The buffers one operation needs for a batch of B rows; (B, O) unless said otherwise."""

    a: Array
    z: Array  # is `a` where the derivative of the activation is written in terms of a
    dz: Array  # is `a` where nothing is trained
    extra: dict[str, Array] = field(default_factory=dict)  # maxout: winner; norms: mean and inv_std

    @classmethod
    def of(cls, op: Op, rows: int, dtype: np.dtype, training: bool) -> Room:
        a = aligned((rows, op.outputs), dtype)
        keep_z = training and op.kind == "dense" and op.activation.saves == "z"
        room = cls(a, aligned(a.shape, dtype) if keep_z else a, aligned(a.shape, dtype) if training else a)
        if op.kind == "maxout":
            room.extra["winner"] = aligned(a.shape, np.dtype(np.int32))
        if op.kind in ("batch_norm", "layer_norm"):
            size = op.outputs if op.kind == "batch_norm" else rows
            room.extra |= {"mean": aligned(size, dtype), "inv_std": aligned(size, dtype)}
        return room


class Workspace:
    """Everything a training step writes besides the state: the batch, a room an operation, the gradient."""

    def __init__(self, plan: Plan, ops: Sequence[Op], labels: bool, rows: int) -> None:
        self.x = aligned((rows, plan.inputs), plan.dtype)
        self.y = aligned(rows, np.dtype(np.int64)) if labels else aligned((rows, plan.outputs), plan.dtype)
        self.weight = aligned(rows, plan.dtype)
        self.value = aligned(rows, plan.dtype)
        self.rooms = [Room.of(op, rows, plan.dtype, training=True) for op in ops]
        self.dx = aligned(self.x.shape, plan.dtype)  # of the first operation: asked for by none, written by some
        self.gradient = plan.zeros("parameters")
        self.gradients = plan.views(self.gradient, plan.zeros("statistics"), plan.zeros("scaling"))


def _by_role(op: Op, views: dict[str, Array]) -> dict[str, Array]:
    return {role: views[tensor.name] for role, tensor in op.tensors.items()}


# Forward: each writes room.a from x and returns the operation's output --------------------------------------

Tensors = dict[str, Array]
Forward = Callable[[Kernels, Op, Tensors, Room, Array, Key], Array]


def _dense_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.dense_forward(x, t["weight"], t["bias"], op.activation, room.z, room.a)
    return room.a


def _activation_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.activation_forward(op.activation, x, room.a)
    return room.a


def _softmax_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.softmax_forward(x, room.a)
    return room.a


def _maxout_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.maxout_forward(x, room.a, room.extra["winner"])
    return room.a


def _prelu_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.prelu_forward(x, t["slope"], room.a)
    return room.a


def _rrelu_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.rrelu_forward(x, op.settings["lower"], op.settings["upper"], key, room.a)
    return room.a


def mean_slope(op: Op) -> float:
    """What rrelu multiplies negative numbers by in inference."""
    return 0.5 * (op.settings["lower"] + op.settings["upper"])


def _rrelu_predict(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.activation_forward(ACTIVATIONS["leaky_relu"].with_alpha(mean_slope(op)), x, room.a)
    return room.a


def _dropout_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    k.dropout(x, op.settings["rate"], key, room.a)
    return room.a


def _dropout_predict(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    return x


def _batch_norm_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    momentum, epsilon = op.settings["momentum"], op.settings["epsilon"]
    running = t["running_mean"], t["running_var"]
    batch = room.extra["mean"], room.extra["inv_std"]
    k.batch_norm_forward(x, t["gamma"], t["beta"], momentum, epsilon, *running, *batch, room.a)
    return room.a


def _batch_norm_predict(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    epsilon = op.settings["epsilon"]
    k.batch_norm_predict(x, t["gamma"], t["beta"], epsilon, t["running_mean"], t["running_var"], room.a)
    return room.a


def _layer_norm_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    extra = room.extra
    k.layer_norm_forward(x, t["gamma"], t["beta"], op.settings["epsilon"], extra["mean"], extra["inv_std"], room.a)
    return room.a


def _normalize_forward(k: Kernels, op: Op, t: Tensors, room: Room, x: Array, key: Key) -> Array:
    return x  # it came so from gather: see Scaling


FORWARD: dict[str, Forward] = {
    "dense": _dense_forward,
    "activation": _activation_forward,
    "softmax": _softmax_forward,
    "maxout": _maxout_forward,
    "prelu": _prelu_forward,
    "rrelu": _rrelu_forward,
    "dropout": _dropout_forward,
    "batch_norm": _batch_norm_forward,
    "layer_norm": _layer_norm_forward,
    "normalize": _normalize_forward,
}
PREDICT: dict[str, Forward] = FORWARD | {
    "dropout": _dropout_predict,
    "rrelu": _rrelu_predict,
    "batch_norm": _batch_norm_predict,
}


# Backward: each takes dz (B, O), writes the gradients d of its tensors and dx (B, I), through the activation below


class Flow(NamedTuple):
    """What a backward operation sees besides its op, tensors and room."""

    x: Array  # the operation's input
    dz: Array
    dx: Array
    dx_wanted: bool  # False: nothing below learns
    below: Below
    key: Key


Backward = Callable[[Kernels, Op, Tensors, Tensors, Room, Flow], None]


def _through(k: Kernels, flow: Flow) -> None:
    """dx <- dx * f'(saved) of the activation below."""
    if flow.below.activation != identity:
        k.activation_backward(flow.below.activation, flow.below.saved, flow.dx, flow.dx)


def _dense_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.dense_backward_weights(flow.x, flow.dz, d["weight"], d["bias"])
    if flow.dx_wanted:
        k.dense_backward_input(flow.dz, t["weight"], flow.below.activation, flow.below.saved, flow.dx)


def _activation_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.activation_backward(flow.below.activation, flow.below.saved, flow.dz, flow.dx)


def _softmax_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.softmax_backward(room.a, flow.dz, flow.dx)
    _through(k, flow)


def _maxout_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.maxout_backward(room.extra["winner"], flow.dz, flow.dx)
    _through(k, flow)


def _prelu_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.prelu_backward(flow.x, t["slope"], flow.dz, flow.dx, d["slope"])
    _through(k, flow)


def _rrelu_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.rrelu_backward(flow.x, op.settings["lower"], op.settings["upper"], flow.key, flow.dz, flow.dx)
    _through(k, flow)


def _dropout_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    k.dropout(flow.dz, op.settings["rate"], flow.key, flow.dx)
    _through(k, flow)


def _batch_norm_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    batch = room.extra["mean"], room.extra["inv_std"]
    k.batch_norm_backward(flow.x, t["gamma"], *batch, flow.dz, flow.dx, d["gamma"], d["beta"])
    _through(k, flow)


def _layer_norm_backward(k: Kernels, op: Op, t: Tensors, d: Tensors, room: Room, flow: Flow) -> None:
    row = room.extra["mean"], room.extra["inv_std"]
    k.layer_norm_backward(flow.x, t["gamma"], *row, flow.dz, flow.dx, d["gamma"], d["beta"])
    _through(k, flow)


BACKWARD: dict[str, Backward] = {  # without normalize: directly on the data, where nothing below learns
    "dense": _dense_backward,
    "activation": _activation_backward,
    "softmax": _softmax_backward,
    "maxout": _maxout_backward,
    "prelu": _prelu_backward,
    "rrelu": _rrelu_backward,
    "dropout": _dropout_backward,
    "batch_norm": _batch_norm_backward,
    "layer_norm": _layer_norm_backward,
}


# The walks ------------------------------------------------------------------------------------------------


class Scaling(NamedTuple):
    """The normalisation that a plan begins with. Gathering does it: x may have digits that a cast would lose."""

    shift: Array  # (I,), float64
    scale: Array

    @classmethod
    def of(cls, ops: Sequence[Op], tensors: Sequence[Tensors]) -> Scaling | None:
        return cls(tensors[0]["shift"], tensors[0]["scale"]) if ops and ops[0].kind == "normalize" else None


def _gather(k: Kernels, x: Array, rows: Array, scaling: Scaling | None, out: Array) -> None:
    if scaling is None:
        k.gather(x, rows, out)
    else:
        k.gather_normalized(x, rows, scaling.shift, scaling.scale, out)


def penalties(penalty: Penalty, optimizer: Optimizer) -> tuple[float, float, float]:
    """l1, l2 and decay: the tensor's own, else the optimizer's."""

    def pick(own: float | None, default: float) -> float:
        return default if own is None else own

    return pick(penalty.l1, optimizer.l1), pick(penalty.l2, optimizer.l2), pick(penalty.decay, optimizer.decay)


@dataclass(frozen=True)
class Segment:
    """A run of the parameter buffer that one update call may take: same penalties throughout."""

    where: slice
    l1: float
    l2: float
    decay: float

    @staticmethod
    def cut(plan: Plan, optimizer: Optimizer) -> list[Segment]:
        return [Segment(where, *penalties(penalty, optimizer)) for where, penalty in plan.segments()]


class Step:
    """One training step of a plan, its buffers allocated once for batches of `rows` rows."""

    def __init__(self, kernels: Kernels, plan: Plan, state: State, recipe: Recipe, labels: bool, rows: int) -> None:
        self.kernels, self.state, self.recipe = kernels, state, recipe
        self.ops = plan.training_ops(recipe.loss)
        self.work = Workspace(plan, self.ops, labels, rows)
        self.tensors = [_by_role(op, state.views) for op in self.ops]
        self.scaling = Scaling.of(self.ops, self.tensors)
        self.gradients = [_by_role(op, self.work.gradients) for op in self.ops]
        self.segments = Segment.cut(plan, recipe.optimizer)
        learns = [any(tensor.trainable for tensor in op.tensors.values()) for op in self.ops]
        self.first = learns.index(True) if True in learns else len(self.ops)

    def gather(self, x: Array, y: Array, weight: Array | None, rows: Array) -> None:
        """The batch into the workspace. The weights are scaled to sum to 1: the loss is their weighted mean."""
        work = self.work
        _gather(self.kernels, x, rows, self.scaling, work.x)
        work.y[...] = y[rows]
        if weight is None:
            work.weight.fill(1.0 / len(rows))
        else:
            total = weight[rows].sum(dtype=np.float64)
            work.weight[...] = weight[rows] * (1.0 / total if total > 0 else 0.0)

    def loss_and_gradient(self, seed: int, step: int) -> float:
        """Forward, loss and backward over the gathered batch: fills work.gradient, returns the batch's loss."""
        work, kernels = self.work, self.kernels
        inputs = [work.x]
        for index, op in enumerate(self.ops):
            forward = FORWARD[op.kind]
            key = Key(seed, step, index)
            inputs.append(forward(kernels, op, self.tensors[index], work.rooms[index], inputs[index], key))

        dz = work.rooms[-1].dz if self.ops else work.dx
        kernels.loss(self.recipe.loss, inputs[-1], work.y, work.weight, work.value, dz)
        below = self._below(len(self.ops), inputs)
        if below.activation != identity:
            kernels.activation_backward(below.activation, below.saved, dz, dz)

        for index in range(len(self.ops) - 1, self.first - 1, -1):
            op = self.ops[index]
            dx = work.rooms[index - 1].dz if index else work.dx
            below = self._below(index, inputs)
            flow = Flow(inputs[index], dz, dx, index > self.first, below, Key(seed, step, index))
            backward = BACKWARD[op.kind]
            backward(kernels, op, self.tensors[index], self.gradients[index], work.rooms[index], flow)
            dz = dx
        return float(np.dot(work.value.astype(np.float64), work.weight))

    def _below(self, index: int, inputs: list[Array]) -> Below:
        """The activation whose output operation `index` takes (index = number of operations: the loss)."""
        if index == 0:
            return Below(identity, inputs[0])
        op, room = self.ops[index - 1], self.work.rooms[index - 1]
        if op.kind == "activation" and op.activation.saves == "z":
            return Below(op.activation, inputs[index - 1])
        return Below(op.activation, room.z)

    def update(self, lr: float, coefficients: tuple[float, ...]) -> None:
        """One optimizer step over all parameters with the gradient of `loss_and_gradient`."""
        state, recipe, gradient = self.state, self.recipe, self.work.gradient
        state.step += 1
        scale = 1.0
        if recipe.clip_norm != math.inf:
            norm = math.sqrt(self.kernels.squared_norm(gradient))
            scale = recipe.clip_norm / norm if norm > recipe.clip_norm else 1.0
        for segment in self.segments:
            where = segment.where
            self.kernels.update(
                recipe.optimizer.rule,
                coefficients,
                Adjustment(scale, recipe.clip_value, segment.l1, segment.l2, lr * segment.decay),
                state.parameters[where],
                gradient[where],
                tuple(slot[where] for slot in state.slots),
            )


def train_steps(
    kernels: Kernels,
    plan: Plan,
    state: State,
    recipe: Recipe,
    x: Array,  # (n, I): float32, float64 or uint8, rows contiguous
    y: Array,  # (n,) int64 labels or (n, O) values
    weight: Array | None,  # (n,)
    order: Array,  # (m,) int64: the rows to visit
    batch: int,  # rows a step; the last step takes what is left
    lr: Array,  # (ceil(m / batch),): the learning rate of each step
) -> Array:
    """Take one optimizer step for every `batch` rows of `order`. Returns the loss of each step, float64."""
    state.prepare_slots(recipe.optimizer.rule)
    coefficients = recipe.optimizer.coefficient_table(lr, state.step + 1).tolist()
    losses = np.empty(len(lr))
    step: Step | None = None
    for index in range(len(lr)):
        rows = order[index * batch : (index + 1) * batch]
        if step is None or len(step.work.x) != len(rows):
            step = Step(kernels, plan, state, recipe, y.ndim == 1, len(rows))
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges shows in the losses
            step.gather(x, y, weight, rows)
            losses[index] = step.loss_and_gradient(recipe.seed, state.step)
            step.update(float(lr[index]), tuple(coefficients[index]))
    return losses


def predict(kernels: Kernels, plan: Plan, state: State, x: Array, out: Array) -> None:
    """out (n, O) = the last operation's output for every row of x (n, I), as in inference."""
    tensors = [_by_role(op, state.views) for op in plan.ops]
    scaling = Scaling.of(plan.ops, tensors)
    rooms: list[Room] = []
    chunk = aligned((0, plan.inputs), plan.dtype)
    key = Key(0, 0, 0)  # nothing random happens in inference
    for start in range(0, len(x), PREDICT_ROWS):
        rows = np.arange(start, min(start + PREDICT_ROWS, len(x)))
        if len(chunk) != len(rows):
            chunk = aligned((len(rows), plan.inputs), plan.dtype)
            rooms = [Room.of(op, len(rows), plan.dtype, training=False) for op in plan.ops]
        with np.errstate(over="ignore", invalid="ignore"):
            _gather(kernels, x, rows, scaling, chunk)
            a = chunk
            for op, t, room in zip(plan.ops, tensors, rooms, strict=True):
                a = PREDICT[op.kind](kernels, op, t, room, a, key)
        out[start : start + len(rows)] = a
