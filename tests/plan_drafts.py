"""Valid plans at random, as the native engine takes them: every operation, by its Spec. fuzz_plans.py spoils them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import _native
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.ops import OPS
from fastnn.ops.operation import NONE, Shape, sizes

Random = random.Random
Tree = Any  # of lists, with numbers and strings for leaves

BUFFERS = ("parameters", "statistics", "scaling")
# the fields of an operation: kind, inputs, outputs, activation, alpha, saves_z, settings, tensors, other, dother
KIND, INPUTS, OUTPUTS, SETTINGS, TENSORS, OTHER, DOTHER = 0, 1, 2, 6, 7, 8, 9
SETTING_VALUES = {"rate": 0.25, "epsilon": 1e-3, "count": 50.0, "ids": 50.0, "padding": 7.0, "relu": 1.0}


class Draft:
    """A plan that is being made: its operations, and what they take of each buffer."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.ops: list[list[Tree]] = []
        self.ends = dict.fromkeys(BUFFERS, 0)
        self.shape = self.input_shape = self.any_shape()
        self.geometry: Mapping[str, float] = {}  # of the operation that comes next
        sources = [kind for kind, op in OPS.items() if op.spec.phase == "source"]
        if rng.random() < 0.7:
            self.add(rng.choice(sources), self.shape)
        self.body(depth=0)

    @property
    def inputs(self) -> int:
        return math.prod(self.input_shape)

    def body(self, depth: int) -> None:
        kinds = [kind for kind, op in OPS.items() if op.spec.phase != "source" and op.bracket in ("", "opens")]
        for _ in range(self.rng.randint(1, 4 - depth)):
            kind = self.rng.choice(kinds)
            if OPS[kind].bracket and depth < 2:
                self.skip(kind, depth)
            elif not OPS[kind].bracket:
                self.add(kind, self.outputs_for(kind), self.geometry)
            if self.rng.random() < 0.2:
                self.shape = self.any_shape(math.prod(self.shape))

    def skip(self, kind: str, depth: int) -> None:
        (turn,) = (kind for kind, op in OPS.items() if op.bracket == "turns")
        (join,) = (kind for kind, op in OPS.items() if op.bracket == "closes")
        before, opening = self.shape, self.add(kind, self.shape)
        last = opening
        self.body(depth + 1)
        after = self.shape
        if before != after or self.rng.random() < 0.5:
            last = self.add(turn, before)
            self.ops[last][OTHER], self.ops[opening][DOTHER] = opening, last
            if before[:-1] != after[:-1]:
                self.shape = (math.prod(before),)
            self.add("dense", after if before[:-1] == after[:-1] else (math.prod(after),))
            self.shape = after
        closing = self.add(join, after)
        self.ops[closing][OTHER], self.ops[last][DOTHER] = last, closing

    def add(self, kind: str, outputs: Shape, geometry: Mapping[str, float] = NONE) -> int:
        """Its place."""
        spec, rng, inputs = OPS[kind].spec, self.rng, self.shape
        activation = rng.choice(list(ACTIVATIONS)) if spec.fuses else "identity"
        saves_z = spec.fuses and ACTIVATIONS[activation].saves == "z"
        known = SETTING_VALUES | geometry
        settings = [known.get(name, 0.5) for name in spec.setting_names]
        letters = sizes(inputs, outputs, 1, known)
        tensors = []
        for place, field in enumerate(spec.param_fields + spec.statistic_fields):
            trainable = place < len(spec.param_fields) and rng.random() < 0.9
            buffer = "parameters" if trainable else "scaling" if field.dtype == np.float64 else "statistics"
            size = math.prod(field.shape(letters))
            offset = self.ends[buffer] + rng.choice((0, 0, 1, 5, 16))
            self.ends[buffer] = offset + size
            tensors.append([offset, size, trainable, 0.0, rng.choice((0.0, 0.1)), 0.0])
        code = _native.ACTIVATIONS.index(activation)
        self.ops.append([kind, list(inputs), list(outputs), code, 0.25, saves_z, settings, tensors, -1, -1])
        self.shape = outputs
        return len(self.ops) - 1

    def outputs_for(self, kind: str) -> Shape:
        """Some that the operation can make of the present shape."""
        spec, shape = OPS[kind].spec, self.shape
        self.geometry = {}
        if spec.x == spec.a:
            return shape
        if "channels" in spec.setting_names:
            outputs, self.geometry = self.windows(kind)
            assert OPS[kind].fits(shape, outputs, self.geometry), (kind, shape, outputs, self.geometry)
            return outputs
        for _ in range(8):
            channels = self.any_size()
            outputs = self.rng.choice(((*shape[:-1], channels), shape[-1:], (*shape, channels)))
            if OPS[kind].fits(shape, outputs, SETTING_VALUES):
                return outputs
        return next(
            each for each in ((*shape[:-1], 1), shape[-1:], (*shape, 1)) if OPS[kind].fits(shape, each, SETTING_VALUES)
        )

    def windows(self, kind: str) -> tuple[Shape, dict[str, float]]:
        """Of an operation on images: rows are taken for images of several rows or of one."""
        rng, shape, names = self.rng, self.shape, OPS[kind].spec.setting_names
        pixels, channels = math.prod(shape[:-1]), shape[-1]
        height = rng.choice([size for size in range(1, pixels + 1) if pixels % size == 0])
        made = {"height": height, "width": pixels // height, "channels": channels}
        outputs = []
        for side, before in (("height", "top"), ("width", "left")):
            size, kernel, stride = made[side], rng.randint(1, 3), rng.randint(1, 3)
            dilation = rng.randint(1, 3) if f"dilation_{side}" in names else 1
            border = rng.randrange(kernel), rng.randrange(kernel)
            room = size + sum(border) - (kernel - 1) * dilation - 1
            if room < 0:
                kernel, border, room = 1, (0, 0), size - 1
            windows = room // stride + 1
            if kind == "pad":
                border = rng.randrange(3), rng.randrange(3)
                windows = size + sum(border)
            if kind == "upsample":
                windows = size * stride
            outputs.append(windows)
            made |= {f"out_{side}": windows, f"kernel_{side}": kernel, f"stride_{side}": stride, before: border[0]}
            made |= {f"dilation_{side}": dilation, f"factor_{side}": stride}
        groups = rng.choice([each for each in range(1, channels + 1) if channels % each == 0])
        filters = groups * rng.randint(1, 3) if kind == "conv" else channels
        made["groups"] = groups
        positions = rng.choice((tuple(outputs), (math.prod(outputs),)))
        return (*positions, filters), {name: float(made[name]) for name in names}

    def any_size(self) -> int:
        if self.rng.random() < 0.05:
            return self.rng.choice((64, 100, 130))
        return self.rng.choice((1, 2, 3, 4, 6, 7, 8, 9, 15, 16, 17, 31, 33))

    def any_shape(self, values: int | None = None) -> Shape:
        """Of one to three sizes; of so many values, or of a few."""
        if values is None:
            return self.rng.choice(
                ((self.any_size(),), (self.rng.randint(1, 5), self.any_size()), (2, self.rng.randint(1, 3), 8))
            )
        channels = self.rng.choice([size for size in range(1, min(values, 40) + 1) if values % size == 0])
        return self.rng.choice(((values,), (values // channels, channels)))


def learns(ops: list[Tree]) -> bool:
    return any(trainable for op in ops for _, _, trainable, *_ in op[TENSORS])


def drafted(rng: Random) -> dict[str, Tree]:
    """The arguments of a Trainer of a valid plan, by name."""
    draft = Draft(rng)
    outputs = math.prod(draft.ops[-1][OUTPUTS])
    losses = [i for i, name in enumerate(_native.LOSSES) if outputs % LOSSES[name].width == 0]
    objective = [
        loss := rng.choice(losses),
        (0.25, 0.75) if LOSSES[_native.LOSSES[loss]].levels else 0.25,
        rng.randrange(len(_native.RULES)),
        rng.getrandbits(64),
        rng.choice((math.inf, 1.0)),
        rng.choice((math.inf, 0.1)),
    ]
    ends = {buffer: end + rng.choice((0, 0, 0, 7)) for buffer, end in draft.ends.items()}
    isa = rng.randrange(len(_native.instruction_sets()))
    return {"isa": isa, "ops": draft.ops, "inputs": draft.inputs, **ends, "objective": objective}
