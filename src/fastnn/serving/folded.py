"""A frozen network with its batch normalisation folded into the dense operations beside it. No files, no predictions.

The same function in other roundings: what exporters read, for whom each operation costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastnn.formulas.activations import identity
from fastnn.plan import Op, Plan, State
from fastnn.serving.frozen import Frozen

Array = np.ndarray
Step = tuple[Op, dict[str, Array]]  # an operation, and what its tensors hold
# Means of so many standard deviations or less: folded in front of a product, x - mean becomes a difference of sums, and
# what x and mean have in common is rounded before it goes.
NEAR = 4.0


def folded(frozen: Frozen) -> Frozen:
    """The network without the batch_norms that stand behind a dense operation without an activation, or right before
    one. Computed in float64, rounded once. All others stay."""
    steps: list[Step] = []
    for op in frozen.plan.ops:
        arrays = {role: frozen.arrays[tensor.name] for role, tensor in op.tensors.items()}
        behind = steps[-1] if steps else None
        made: Step | None = None
        with np.errstate(over="ignore", invalid="ignore"):
            if behind is not None and op.kind == "batch_norm" and _takes(behind[0], op):
                made = behind[0], _behind(behind[1], *affine(op, arrays))
            elif behind is not None and behind[0].kind == "batch_norm" and op.kind == "dense" and _near(*behind, op):
                made = op, _before(arrays, *affine(*behind))
            if made is None or not _normal(made[1], frozen.plan.dtype):
                steps.append((op, arrays))
            else:
                steps[-1] = made
    if len(steps) == len(frozen.plan.ops):
        return frozen
    plan, state = _assembled(frozen.plan, steps)
    return replace(frozen, plan=plan, state=state)


def _normal(arrays: Mapping[str, Array], dtype: np.dtype) -> bool:
    """Whether all are numbers of the dtype with all their digits: else the two stay apart, as they were."""
    least, most = np.finfo(dtype).tiny, np.finfo(dtype).max
    size = np.abs(arrays["w"])
    return bool(((size == 0) | (size >= least)).all() and (size <= most).all() and (np.abs(arrays["b"]) <= most).all())


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


def _behind(dense: Mapping[str, Array], factor: Array, shift: Array) -> dict[str, Array]:
    return {"w": dense["w"] * factor, "b": dense["b"] * factor + shift}


def _before(dense: Mapping[str, Array], factor: Array, shift: Array) -> dict[str, Array]:
    return {"w": factor[:, None] * dense["w"], "b": dense["b"] + shift @ dense["w"].astype(np.float64)}


def _assembled(plan: Plan, steps: list[Step]) -> tuple[Plan, State]:
    kept = Plan.assemble([op for op, _ in steps], plan.input_shape, plan.output_shape, plan.dtype)
    state = State(kept)
    for op, arrays in steps:
        for role, tensor in op.tensors.items():
            state.views[tensor.name][...] = arrays[role]
    for array in (*state.buffers, *state.views.values()):
        array.flags.writeable = False
    return kept, state
