"""A frozen network with its batch normalisation folded into the dense operations beside it. No files, no predictions.

The same function in other roundings: what exporters read, for whom each operation costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.formulas.activations import identity
from fastnn.plan import Op, Plan, State
from fastnn.serving.frozen import Frozen

Array = np.ndarray
Step = tuple[Op, dict[str, Array]]  # an operation, and what its tensors hold
# Means of so many standard deviations or less: folded in front of a product, x - mean becomes a difference of sums, and
# what x and mean have in common is rounded before it goes.
NEAR = 4.0


def folded(frozen: Frozen, dtype: Any = None) -> Frozen:
    """The network without the batch_norms that stand behind a dense operation without an activation, or right before
    one. Computed in float64, rounded once: every weight once more, as each product in a sum is, so the bound on the
    error stays that of the two, but for a factor below 2. All others stay.

    dtype: of the weights that will be read, the network's own where it is None. A batch_norm stays where one would
    leave its normal numbers, or be so large that products of it overflow where those of the network did not.
    """
    room = np.finfo(frozen.plan.dtype if dtype is None else dtype)
    steps: list[Step] = []
    for op in frozen.plan.ops:
        step = op, {role: frozen.arrays[tensor.name] for role, tensor in op.tensors.items()}
        while steps and (made := _merged(steps[-1], step, room)) is not None:
            step = made
            steps.pop()
        steps.append(step)
    if len(steps) == len(frozen.plan.ops):
        return frozen
    plan, state = _assembled(frozen.plan, steps)
    return replace(frozen, plan=plan, state=state)


def _merged(first: Step, second: Step, room: Any) -> Step | None:
    """The dense operation that does what both do; None where there is none, or not in numbers that have room."""
    with np.errstate(over="ignore", invalid="ignore"):
        if second[0].kind == "batch_norm" and _takes(first[0], second[0]):
            dense, (factor, shift) = first, affine(*second)
            arrays = {"w": dense[1]["w"] * factor, "b": dense[1]["b"] * factor + shift}
        elif first[0].kind == "batch_norm" and second[0].kind == "dense" and _near(*first, second[0]):
            dense, (factor, shift) = second, affine(*first)
            factor = factor[:, None]
            arrays = {"w": factor * dense[1]["w"], "b": dense[1]["b"] + shift @ dense[1]["w"].astype(np.float64)}
        else:
            return None
        return (dense[0], arrays) if _normal(arrays, dense[1]["w"], factor, room) else None


def _normal(arrays: Mapping[str, Array], w: Array, factor: Array, room: Any) -> bool:
    """Whether all have all their digits, and a weight is the root of the largest number at most, or no larger than it
    was: sums of products may cancel before they are multiplied by the factor, but not after."""
    size, most = np.abs(arrays["w"]), float(room.max)
    lost = (size < float(room.tiny)) & (w != 0) & (factor != 0)
    bounded = size <= np.maximum(np.abs(w), most**0.5 / 16)
    return bool(not lost.any() and bounded.all() and (np.abs(arrays["b"]) <= most).all())


def _takes(dense: Op, norm: Op) -> bool:
    return dense.kind == "dense" and dense.activation == identity and dense.outputs == norm.inputs


def _near(norm: Op, arrays: Mapping[str, Array], dense: Op) -> bool:
    spread = np.sqrt(arrays["running_var"].astype(np.float64) + norm.settings["epsilon"])
    near = bool((np.abs(arrays["running_mean"]) <= NEAR * spread).all())
    return near and norm.outputs == dense.inputs


def affine(norm: Op, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """A batch_norm's factor and shift, in float64: a = factor x + shift."""
    values = {role: array.astype(np.float64) for role, array in arrays.items()}
    factor = values["gamma"] / np.sqrt(values["running_var"] + norm.settings["epsilon"])
    return factor, values["beta"] - factor * values["running_mean"]


def factors(norm: Op, arrays: Mapping[str, Array], dtype: Any) -> list[Array]:
    """What a batch_norm that stays multiplies x - mean by, in the dtype: its factor, or, where that is not among the
    normal numbers, 1 / sqrt(variance + epsilon) and then gamma, as the network does."""
    with np.errstate(over="ignore", invalid="ignore"):
        factor, _ = affine(norm, arrays)
    room, size = np.finfo(dtype), np.abs(factor)
    if ((size <= room.max) & ((size >= room.tiny) | (arrays["gamma"] == 0))).all():
        return [factor.astype(dtype)]
    spread = np.sqrt(arrays["running_var"].astype(np.float64) + norm.settings["epsilon"])
    return [(1.0 / spread).astype(dtype), arrays["gamma"].astype(dtype)]


def _assembled(plan: Plan, steps: list[Step]) -> tuple[Plan, State]:
    kept = Plan.assemble([op for op, _ in steps], plan.input_shape, plan.output_shape, plan.dtype)
    state = State(kept)
    for op, arrays in steps:
        for role, tensor in op.tensors.items():
            state.views[tensor.name][...] = arrays[role]
    for array in (*state.buffers, *state.views.values()):
        array.flags.writeable = False
    return kept, state
