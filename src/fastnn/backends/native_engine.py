"""The native engine: whole slices of an epoch, and predictions, in one call of the C++ extension. An adapter.

`train_steps` and `predict` mean what engine.py's mean. What the extension does not read (rows that are not contiguous,
another dtype of x) and a plan without operations go through the Python engine with the same native kernels, to the same
bits.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastnn import _cpus, _sparse, engine
from fastnn.backends import native
from fastnn.backends.native import extension
from fastnn.contract import Array
from fastnn.engine import Batches, Objective
from fastnn.plan import Op, Plan, State, Tensor

_TRAINERS: dict[np.dtype, Any] = {
    np.dtype(np.float32): extension.TrainerFloat32,
    np.dtype(np.float64): extension.TrainerFloat64,
}
_PREDICTORS: dict[np.dtype, Any] = {
    np.dtype(np.float32): extension.PredictorFloat32,
    np.dtype(np.float64): extension.PredictorFloat64,
}

# Plans as plain tuples ------------------------------------------------------------------------------------


def _tensors(op: Op, objective: Objective | None) -> tuple[tuple[Any, ...], ...]:
    def described(tensor: Tensor) -> tuple[Any, ...]:
        penalty = (0.0, 0.0, 0.0) if objective is None else engine.penalties(tensor.penalty, objective.optimizer)
        return (tensor.offset, tensor.size, tensor.trainable, *penalty)

    spec = op.operation.spec
    return tuple(described(op.tensors[field.name]) for field in spec.param_fields + spec.statistic_fields)


def _table(ops: Sequence[Op], objective: Objective | None, dtype: np.dtype) -> list[tuple[Any, ...]]:
    """The operations for the extension, in the order of their Specs; for a prediction where objective is None."""
    described = []
    for op in ops:
        code = native.activation_code(op.activation, dtype)
        saves_z = op.operation.spec.fuses and op.activation.saves == "z"
        settings = tuple(op.settings[name] for name in op.operation.spec.setting_names)
        tensors = _tensors(op, objective)
        shapes, ends = (op.inputs, op.outputs), (op.other, op.dother)
        described.append((op.kind, *shapes, code, op.activation.alpha, saves_z, settings, tensors, *ends))
    return described


def _compiled(ops: Sequence[Op], objective: Objective, dtype: np.dtype) -> bool:
    """Whether the extension can run all its formulas; a warning says once which it cannot."""
    codes = [native.activation_code(op.activation, dtype) for op in ops]
    codes += [native.loss_code(objective.loss, dtype), native.rule_code(objective.optimizer.rule, dtype)]
    return None not in codes


# The calls ------------------------------------------------------------------------------------------------


class _Trained(NamedTuple):
    """A trainer of the extension, with its buffers, and what it was made for; None where it cannot run that."""

    plan: Plan
    objective: Objective
    trainer: Any


class _Predicting(NamedTuple):
    plan: Plan
    predictor: Any


class Engine:
    """`train_steps` and `predict` on one instruction set. Keeps an engine of the extension for each living state."""

    def __init__(self, isa: str | None = None) -> None:
        self.kernels = native.kernels(isa)
        self.isa = extension.instruction_sets().index(isa or extension.default_instruction_set())
        self.int8_way = len(extension.int8_ways(self.isa)) - 1  # the best
        self.trained: weakref.WeakKeyDictionary[State, _Trained] = weakref.WeakKeyDictionary()
        self.predictors: weakref.WeakKeyDictionary[State, list[_Predicting]] = weakref.WeakKeyDictionary()

    def train_steps(self, plan: Plan, state: State, objective: Objective, batches: Batches, lr: Array) -> Array:
        """See `engine.train_steps`. From the first loss that is not finite on they are NaN, and no step is taken."""
        ops = plan.training_ops(objective.loss)
        trainer = self._trainer(plan, ops, state, objective) if ops and plan.parameter_count else None
        if trainer is None:
            return self._in_python(plan, state, objective, batches, lr)
        state.prepare_slots(objective.optimizer.rule)
        lr = np.ascontiguousarray(lr, dtype=np.float64)
        coefficients = objective.optimizer.coefficient_table(lr, state.step + 1)
        losses = np.full(len(lr), np.nan)
        taken = np.zeros(1, dtype=np.int64)
        buffers = (state.parameters, state.statistics, state.scaling, state.slots, state.step)
        ordered = batches._replace(x=_sparse.parts(batches.x), order=np.ascontiguousarray(batches.order))
        try:
            done = trainer.run(buffers, ordered, (coefficients, lr), losses, taken)
        finally:
            state.step += int(taken[0])  # also where a signal or a failed allocation ended the call early
        return losses if done else self._in_python(plan, state, objective, batches, lr)

    def _in_python(self, plan: Plan, state: State, objective: Objective, batches: Batches, lr: Array) -> Array:
        losses = engine.train_steps(self.kernels, plan, state, objective, batches, lr)
        if not state.finite():
            losses[-1] = np.nan  # as contract.Backend promises of one that is atomic
        return losses

    def predict(self, plan: Plan, state: State, x: Array, out: Array) -> None:
        """See `engine.predict`."""
        predictor = self._predictor(plan, state) if plan.ops else None
        if predictor is not None:
            buffers = state.parameters, state.statistics, state.scaling
            if predictor.run(*buffers, _sparse.parts(x), out):
                return
        engine.predict(self.kernels, plan, state, x, out)

    def freeze(self, frozen: Any, owner: Any, live: bool = False, int8: tuple[Any, ...] | None = None) -> Any:
        """A predictor of the extension; None where it cannot run that network.

        frozen: serving's Frozen. owner: who answers what it does not, a Predictor. live: it reads the tensors where
        they lie, at each call, and takes rows, never a row alone. int8: of each operation the matrix in whole numbers
        (weights, scale, bias), or None.
        """
        plan, state, border = frozen.plan, frozen.state, frozen.border
        if not plan.ops or any(native.activation_code(op.activation, plan.dtype) is None for op in plan.ops):
            return None
        link = None
        if frozen.link is not None:
            softmax = frozen.link == "softmax"
            code = extension.ACTIVATIONS.index("identity" if softmax else frozen.link)
            link = ("softmax" if softmax else "activation", code, not softmax and plan.outputs == 1, frozen.linked)
        names, classes = border.names, frozen.classes
        return extension.freeze(
            self.isa,
            _table(plan.ops, None, plan.dtype),
            (state.parameters, state.statistics, state.scaling),
            link,
            owner,
            (plan.input_shape, plan.output_shape),
            None if names is None else tuple(names),
            None if classes is None else tuple(classes.tolist()),
            frozen.scaling,
            (border.new and not border.exact, frozen.one_value, live),
            None if int8 is None else (self.int8_way, int8),
        )

    def _trainer(self, plan: Plan, ops: Sequence[Op], state: State, objective: Objective) -> Any:
        made = self.trained.get(state)
        if made is None or made.plan is not plan or made.objective != objective:
            trainer = None
            if _compiled(ops, objective, plan.dtype):
                numbers = (
                    native.loss_code(objective.loss, plan.dtype),
                    objective.loss.numbers,
                    native.rule_code(objective.optimizer.rule, plan.dtype),
                    objective.seed,
                    objective.clip_norm,
                    objective.clip_value,
                )
                sizes = len(state.parameters), len(state.statistics), len(state.scaling)
                described = _table(ops, objective, plan.dtype)
                trainer = _TRAINERS[plan.dtype](self.isa, described, plan.inputs, *sizes, numbers)
            made = self.trained[state] = _Trained(plan, objective, trainer)
        return made.trainer

    def _predictor(self, plan: Plan, state: State) -> Any:
        made = self.predictors.setdefault(state, [])  # at most two: with the last activation and, for the loss, without
        for known in made:
            if known.plan is plan or known.plan == plan:
                return known.predictor
        predictor = None
        if all(native.activation_code(op.activation, plan.dtype) is not None for op in plan.ops):
            sizes = len(state.parameters), len(state.statistics), len(state.scaling)
            described = _table(plan.ops, None, plan.dtype)
            predictor = _PREDICTORS[plan.dtype](self.isa, described, plan.inputs, *sizes)
        made.append(_Predicting(plan, predictor))
        return predictor


@functools.cache
def for_instruction_set(isa: str | None = None) -> Engine:
    """The engine of an instruction set; None: FASTNN_ISA, else the best one this CPU runs."""
    return Engine(isa)


@contextmanager
def limit_threads(n: int) -> Iterator[None]:
    """Within the block, calls from this thread use at most n threads."""
    before = extension.limit_threads(n)
    try:
        yield
    finally:
        extension.limit_threads(before)


extension.set_thread_quota(_cpus.quota() or 0)
KERNELS = native.KERNELS
PREDICT = for_instruction_set().predict
TRAIN_STEPS = for_instruction_set().train_steps
PROPERTIES = {"atomic": True, "limit_threads": limit_threads, "freeze": for_instruction_set().freeze}
