"""Walks a Plan with any table of kernels: predict, train_steps. No formulas, no validation.

One training step is: gather the rows of the batch from their source; forward, operation by operation; the loss and its
gradient; backward, in the opposite order; one update of all parameters. What an operation computes is in its file in
fastnn/ops, one NumPy expression a quantity, and so are the names of what it takes: a walk binds them to arrays, and
knows no kind of operation.

The gradient that travels backward is always dz: with respect to what an operation computed *before* its fused
activation. So whoever computes the gradient of an operation's input also multiplies by the derivative of the
activation below it: the operation itself where its Spec names `below`, `activation_backward` after it otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn._random import Key
from fastnn.contract import Adjustment, Kernels
from fastnn.formulas.activations import Activation, identity
from fastnn.formulas.losses import Loss
from fastnn.ops.operation import sizes
from fastnn.plan import Op, Penalty, Plan, State, aligned

if TYPE_CHECKING:
    from fastnn.optim.optimizers import Optimizer

Array = np.ndarray
PREDICT_ROWS = 512  # rows taken through all layers at once: 512 x 784 float32 is 1.6 MB, about one core's cache


@dataclass(frozen=True)
class Objective:
    """What is minimised and how. `clip_norm` bounds the global norm of the gradient, `clip_value` each entry."""

    loss: Loss
    optimizer: Optimizer
    seed: int = 0
    clip_norm: float = math.inf
    clip_value: float = math.inf


class Batches(NamedTuple):
    """What the steps of one call visit: the rows `order` of x, y and weight, `size` of them a step, in the last what is
    left.

    The loss of a step is sum(weight * loss of the row) / (rows of the step * mean_weight). Divided by the sum of its
    own weights, a batch of one row would forget its weight, and the optimum would depend on the size of a batch. A
    weight for each output, of a point-wise loss: the same over rows and outputs.
    """

    x: Any  # (n, I), of any real dtype; or a CSR matrix
    y: Array  # (n,) int64 labels or (n, O / the loss's width) values
    weight: Array | None  # (n,) or (n, O); None: all 1
    order: Array  # (m,) int64
    size: int
    mean_weight: float = 1.0  # of the data that the rows are of


# Buffers and calls ------------------------------------------------------------------------------------------

Named = dict[str, Any]  # what the arguments of an operation's functions are, by the names of its Spec


def buffers(op: Op, x: Array, training: bool) -> Named:
    """x (B, ...), and what the operation writes for a batch of B rows.

    z is `a` where the derivative of the activation is written in terms of a; what passes its input on has it for `a`.
    """
    spec = op.operation.spec
    call = spec.calls["forward"] if training else spec.prediction
    size = sizes(op.inputs, op.outputs, len(x), op.settings)
    shape = tuple(dim.size(size) for dim in spec.dims("a"))
    a = x if call.passes or spec.phase == "source" else aligned(shape, x.dtype)
    keep_z = training and "z" in call.outputs and op.activation.saves == "z"
    made: Named = {"x": x.reshape([dim.size(size) for dim in spec.dims("x")]), "a": a.reshape(shape)}
    made["z"] = aligned(shape, x.dtype) if keep_z else made["a"]
    if training:
        made["da"] = made["dz"] = aligned(shape, x.dtype)
    return made | {each.name: aligned(each.shape(size), each.dtype or x.dtype) for each in spec.scratch_fields}


def arguments(op: Op, views: dict[str, Array]) -> Named:
    """The operation's tensors, settings and activation."""
    tensors = {name: views[tensor.name] for name, tensor in op.tensors.items()}
    return {**tensors, **op.settings, "activation": op.activation}


class Bound:
    """A kernel with its arguments. What changes from step to step is set before it runs."""

    def __init__(self, function: Callable[..., None], names: Sequence[str], named: Named) -> None:
        self.function = function
        self.arguments = [None if name == "key" else named[name] for name in names]
        self.key = names.index("key") if "key" in names else None

    def run(self, seed: int, step: int, index: int) -> None:
        if self.key is not None:
            self.arguments[self.key] = Key(seed, step, index)
        self.function(*self.arguments)


class Workspace:
    """Everything a training step writes besides the state: the batch, the gradient, and buffers for each operation."""

    def __init__(self, plan: Plan, ops: Sequence[Op], targets: int | None, rows: int, by_output: bool) -> None:
        self.x = aligned((rows, plan.inputs), plan.dtype)
        self.y = aligned(rows, np.dtype(np.int64)) if targets is None else aligned((rows, targets), plan.dtype)
        self.weight = aligned(rows * plan.outputs if by_output else rows, plan.dtype)
        self.value = aligned(self.weight.shape, plan.dtype)
        self.dx = aligned(self.x.shape, plan.dtype)  # of the first operation: asked for by none, written by some
        self.gradient = plan.zeros("parameters")
        self.gradients = plan.views(self.gradient, plan.zeros("statistics"), plan.zeros("scaling"))
        self.ops: list[Named] = []
        x = self.x
        for op in ops:
            self.ops.append(buffers(op, x, training=True))
            x = self.ops[-1]["a"].reshape(rows, -1)
        self.dz = self.ops[-1]["da"].reshape(rows, -1) if ops else self.dx
        # What the loss takes: z, y, and its gradient. With a weight for each output every value is a row of its own.
        self.of_loss = x, self.y, self.dz
        if by_output:
            self.of_loss = x.reshape(-1, 1), self.y.reshape(-1, 1), self.dz.reshape(-1, 1)


# The walks ------------------------------------------------------------------------------------------------


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


class Source:
    """How rows get into the batch, with what that takes."""

    def __init__(self, kernels: Kernels, plan: Plan, state: State) -> None:
        self.op = plan.source
        named = arguments(self.op, state.views)
        _, _, *names = self.op.operation.spec.calls["forward"].inputs  # data and rows come with the batch
        self.constants = [named[name] for name in names]
        self.kernel = kernels.ops[self.op.kind].forward

    def gather(self, x: Array, rows: Array, out: Array) -> None:
        """out (B, I) = the rows of x, cast or normalised: x may have digits that a cast would lose."""
        self.kernel(x, rows, *self.constants, out)


class Step:
    """One training step of a plan, its buffers allocated and its calls bound once for batches of `rows` rows."""

    def __init__(
        self,
        kernels: Kernels,
        plan: Plan,
        state: State,
        objective: Objective,
        labels: bool,
        rows: int,
        by_output: bool = False,
    ) -> None:
        self.kernels, self.state, self.objective = kernels, state, objective
        self.ops = plan.training_ops(objective.loss)
        targets = None if labels else plan.outputs // objective.loss.width
        self.work = Workspace(plan, self.ops, targets, rows, by_output)
        self.source = Source(kernels, plan, state)
        self.segments = Segment.cut(plan, objective.optimizer)
        learns = [op.learns for op in self.ops]
        self.first = learns.index(True) if True in learns else len(self.ops)
        self.forward = [self._forward(index) for index in range(len(self.ops))]
        self.backward = [self._backward(index) for index in range(self.first, len(self.ops))]

    def _forward(self, index: int) -> Bound | None:
        op = self.ops[index]
        call = op.operation.spec.calls["forward"]
        if call.passes or op.operation.spec.phase == "source":
            return None
        named = self.work.ops[index] | arguments(op, self.state.views)
        if op.other >= 0:
            named["other"] = self.work.ops[op.other]["x"].reshape(named["a"].shape)
        return Bound(self.kernels.ops[op.kind].forward, call.names, named)

    def _backward(self, index: int) -> list[Bound]:
        """The gradients of the operation's parameters and of its input, that one through the activation below."""
        op, work = self.ops[index], self.work
        spec = op.operation.spec
        call = spec.calls["backward"]
        own = work.ops[index]
        below, saved = self._below(index)
        dx = (work.ops[index - 1]["da"] if index else work.dx).reshape(own["x"].shape)
        wanted = index > self.first or "dx" not in call.optional
        named = own | arguments(op, self.state.views) | {"below": below, "dx": dx if wanted else None}
        named["saved"] = saved.reshape(dx.shape)
        named |= {f"d{name}": work.gradients[tensor.name] for name, tensor in op.tensors.items()}
        if op.dother >= 0:
            named["dother"] = work.ops[op.dother]["da"].reshape(own["x"].shape)
        bound = [Bound(self.kernels.ops[op.kind].backward, call.names, named)]
        return bound if spec.goes_below else bound + self._through(index, dx)

    def _below(self, index: int) -> tuple[Activation, Array]:
        """The activation whose output operation `index` takes (index = number of operations: the loss), and what its
        derivative is written in."""
        if index == 0:
            return identity, self.work.x
        op, named = self.ops[index - 1], self.work.ops[index - 1]
        spec = op.operation.spec
        if not spec.fuses or op.activation.saves == "a":
            return (op.activation if spec.fuses else identity), named["a"]
        return op.activation, named["z" if "z" in spec.calls["forward"].outputs else "x"]

    def _through(self, index: int, dx: Array) -> list[Bound]:
        """dx <- dx * f'(saved) of the activation below operation `index`."""
        below, saved = self._below(index)
        if below == identity:
            return []
        flat = dx.reshape(-1, dx.shape[-1])  # of (rows, positions, channels)
        named = {"below": below, "saved": saved.reshape(flat.shape), "da": flat, "dz": flat}
        return [Bound(self.kernels.activation_backward, ("below", "saved", "da", "dz"), named)]

    def gather(self, x: Array, y: Array, weight: Array | None, rows: Array, mean_weight: float) -> None:
        """The batch into the workspace, its weights divided as in `Batches`."""
        work = self.work
        self.source.gather(x, rows, work.x)
        work.y[...] = y[rows]
        scale = 1.0 / (len(work.weight) * mean_weight)
        if weight is None:
            work.weight.fill(scale)
        else:
            work.weight[...] = weight[rows].reshape(-1).astype(np.float64) * scale

    def loss_and_gradient(self, seed: int, step: int) -> float:
        """Forward, loss and backward over the gathered batch: fills work.gradient, returns the batch's loss."""
        work, kernels = self.work, self.kernels
        for index, bound in enumerate(self.forward):
            if bound is not None:
                bound.run(seed, step, index)
        z, y, dz = work.of_loss
        kernels.loss(self.objective.loss, z, y, work.weight, work.value, dz)
        for bound in self._through(len(self.ops), work.dz):
            bound.run(seed, step, len(self.ops))
        for index in range(len(self.ops) - 1, self.first - 1, -1):
            for bound in self.backward[index - self.first]:
                bound.run(seed, step, index)
        return float(np.dot(work.value.astype(np.float64), work.weight))

    def update(self, lr: float, coefficients: tuple[float, ...]) -> None:
        """One optimizer step over all parameters with the gradient of `loss_and_gradient`."""
        state, objective, gradient = self.state, self.objective, self.work.gradient
        state.step += 1
        scale = 1.0
        if objective.clip_norm != math.inf:
            norm = math.sqrt(self.kernels.squared_norm(gradient))
            scale = objective.clip_norm / norm if norm > objective.clip_norm else 1.0
        for segment in self.segments:
            where = segment.where
            self.kernels.update(
                objective.optimizer.rule,
                coefficients,
                Adjustment(scale, objective.clip_value, segment.l1, segment.l2, lr * segment.decay),
                state.parameters[where],
                gradient[where],
                tuple(slot[where] for slot in state.slots),
            )


def train_steps(
    kernels: Kernels,
    plan: Plan,
    state: State,
    objective: Objective,
    batches: Batches,
    lr: Array,  # (ceil(m / size),): the learning rate of each step
) -> Array:
    """Take one optimizer step for every `size` rows of the batches. Returns the loss of each step, float64."""
    x, y, weight, order, size, mean_weight = batches
    by_output = weight is not None and weight.ndim == 2
    state.prepare_slots(objective.optimizer.rule)
    coefficients = objective.optimizer.coefficient_table(lr, state.step + 1).tolist()
    losses = np.empty(len(lr))
    step: Step | None = None
    for index in range(len(lr)):
        rows = order[index * size : (index + 1) * size]
        if step is None or len(step.work.x) != len(rows):
            step = Step(kernels, plan, state, objective, y.ndim == 1, len(rows), by_output)
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges shows in the losses
            step.gather(x, y, weight, rows, mean_weight)
            losses[index] = step.loss_and_gradient(objective.seed, state.step)
            step.update(float(lr[index]), tuple(coefficients[index]))
    return losses


def _bind_prediction(kernels: Kernels, plan: Plan, state: State, x: Array) -> tuple[list[Bound], Array]:
    """The calls that predict for the rows x (B, I) of a batch, and where the result is, (B, O)."""
    made: list[Named] = []
    calls: list[Bound] = []
    a = x
    for op in plan.ops:
        spec = op.operation.spec
        made.append(buffers(op, a, training=False))
        a = made[-1]["a"].reshape(len(x), -1)
        if spec.phase == "source" or spec.prediction.passes:
            continue
        named = made[-1] | arguments(op, state.views)
        if op.other >= 0:
            named["other"] = made[op.other]["x"].reshape(named["a"].shape)
        calls.append(Bound(kernels.ops[op.kind].predict, spec.prediction.names, named))
    return calls, a


def _run(calls: list[Bound]) -> None:
    for call in calls:
        call.run(0, 0, 0)  # nothing random happens in inference


def predict(kernels: Kernels, plan: Plan, state: State, x: Array, out: Array) -> None:
    """out (n, O) = the last operation's output for every row of x (n, I), as in inference."""
    source = Source(kernels, plan, state)
    chunk = aligned((0, plan.inputs), plan.dtype)
    calls: list[Bound] = []
    a = chunk
    count = x.shape[0]  # a CSR matrix has no length
    for start in range(0, count, PREDICT_ROWS):
        rows = np.arange(start, min(start + PREDICT_ROWS, count))
        if len(chunk) != len(rows):
            calls.clear()
            chunk = a = aligned((0, plan.inputs), plan.dtype)  # the old one first: never two at a time
            chunk = aligned((len(rows), plan.inputs), plan.dtype)
            calls, a = _bind_prediction(kernels, plan, state, chunk)
        with np.errstate(over="ignore", invalid="ignore"):
            source.gather(x, rows, chunk)
            _run(calls)
        out[start : start + len(rows)] = a
