"""Frozen: a network that only predicts, with arrays of its own. What exporters and predictors read; no arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn.formulas import activations
from fastnn.formulas.activations import Activation
from fastnn.formulas.losses import Loss
from fastnn.plan import BUFFERS, Op, Plan, State
from fastnn.serving.border import Border

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Frozen:
    """The operations of a prediction with read-only copies of their tensors, and what the outputs mean.

    plan: what dropout left, rrelu being leaky_relu with its mean slope; where `link` is known, up to the values that
    it takes. link: what makes probabilities of the outputs, "softmax" or "sigmoid", or None. linked: predictions are
    probabilities, too: the network ends with the link. scaling: shift of each output and the scale of all that undo
    what was done to the targets: y = shift + scale z. classes: what the outputs stand for; None: 0, 1, ...

    It computes what the model computed when it was made, to the bit.
    """

    plan: Plan
    state: State
    border: Border
    loss: Loss | None = None
    link: str | None = None
    linked: bool = False
    scaling: tuple[tuple[float, ...], float] | None = None
    classes: Array | None = None

    @classmethod
    def of(
        cls,
        plan: Plan,
        state: State,
        border: Border,
        loss: Loss | None,
        *,
        scaling: tuple[tuple[float, ...], float] | None = None,
        classes: Array | None = None,
        end: Activation | None = None,
    ) -> Frozen:
        """A copy of what predicts in a plan and its state. end: an activation behind it."""
        link = None if loss is None or end is not None or len(plan.output_shape) > 1 else loss.link
        if link not in ("softmax", "sigmoid"):
            link = None
        ops = plan.ops if loss is None or link is None else plan.training_ops(loss)
        predicting = _predicting(ops)
        if end is not None:
            predicting.append(Op("activation", plan.output_shape, plan.output_shape, activation=end))
        kept = Plan.assemble(predicting, plan.input_shape, plan.output_shape, plan.dtype)
        if classes is not None:
            classes = np.array(classes)
            classes.flags.writeable = False
        copied = State(kept)
        for name, view in copied.views.items():
            view[...] = state.views[name]
        return cls(kept, _read_only(copied), border, loss, link, ops is not plan.ops, scaling, classes)

    @property
    def arrays(self) -> dict[str, Array]:
        """Its tensors by name: "0.weight"."""
        return self.state.views

    @property
    def normalizes(self) -> bool:
        """Whether rows are scaled first, in float64."""
        return self.plan.source.kind == "normalize"

    @property
    def one_value(self) -> bool:
        """Whether each output is a class by itself, one where its value is above 0."""
        return self.link == "sigmoid"

    def __getstate__(self) -> dict[str, Any]:
        kept = dict(self.__dict__)
        kept["state"] = [getattr(self.state, buffer) for buffer in BUFFERS]
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        state = State(kept["plan"])
        for buffer, values in zip(BUFFERS, kept["state"], strict=True):
            getattr(state, buffer)[...] = values
        self.__dict__.update(kept, state=_read_only(state))


def _predicting(ops: Sequence[Op]) -> list[Op]:
    kept = []
    for op in ops:
        if op.operation.spec.prediction.passes and not op.operation.bracket:
            continue
        if op.kind == "rrelu":
            mean = 0.5 * (op.settings["lower"] + op.settings["upper"])
            leaky = replace(activations.get("leaky_relu"), alpha=mean)
            op = Op("activation", op.inputs, op.outputs, activation=leaky)
        tensors = {role: replace(tensor, initial=_kept) for role, tensor in op.tensors.items()}
        kept.append(replace(op, tensors=tensors, other=-1, dother=-1))
    return kept


def _kept(generator: np.random.Generator) -> float:
    """In the place of what drew a tensor, which may not pickle."""
    raise AssertionError("a frozen network draws nothing")


def _read_only(state: State) -> State:
    for array in (*state.buffers, *state.views.values()):
        array.flags.writeable = False
    return state
