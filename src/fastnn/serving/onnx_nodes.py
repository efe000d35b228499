"""What each activation and each operation is in ONNX: two tables, and what is refused. No files, no walk over a plan.

Plain operators of domain "" alone, which every runtime has. onnxruntime has no kernels in double for LeakyRelu, PRelu,
Elu, Selu, Softplus, HardSigmoid, Softsign, Mish and Erf: those are composed there of what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from fastnn.formulas import activations
from fastnn.ops.sources import WIDE
from fastnn.plan import Op
from fastnn.serving.folded import factors
from fastnn.serving.onnx_graph import Graph

Array = np.ndarray
Elementwise = Callable[[Graph, str, float], str]  # graph, x, alpha -> a
Written = Callable[[Graph, str, Op, Mapping[str, Array]], str]  # graph, x, operation, its tensors by role -> a

# Activations ---------------------------------------------------------------------------------------------------


def _split(g: Graph, x: str, below: str) -> str:
    """x where it is above 0, plus what `below` is there where it is not."""
    return g("Add", g("Max", x, 0.0), below)


def _leaky_relu(g: Graph, x: str, alpha: float) -> str:
    if not g.double:
        return g("LeakyRelu", x, alpha=alpha)
    return _split(g, x, g("Mul", g("Min", x, 0.0), g.constant(alpha, "alpha")))


def _falling(g: Graph, x: str) -> str:
    """exp(x) - 1 where x is below 0, else 0. Not to all digits next to 0: ONNX has no expm1."""
    return g("Sub", g("Exp", g("Min", x, 0.0)), 1.0)


def _elu(g: Graph, x: str, alpha: float) -> str:
    if not g.double:
        return g("Elu", x, alpha=alpha)
    return _split(g, x, g("Mul", _falling(g, x), g.constant(alpha, "alpha")))


def _selu(g: Graph, x: str, alpha: float) -> str:
    slope, scale = activations._SELU_ALPHA, activations._SELU_SCALE
    if not g.double:
        return g("Selu", x, alpha=slope, gamma=scale)
    return g("Mul", _split(g, x, g("Mul", _falling(g, x), slope)), scale)


def _softplus(g: Graph, x: str, alpha: float) -> str:
    if not g.double:
        return g("Softplus", x)
    return g("Add", g("Relu", x), g("Log", g("Add", g("Exp", g("Neg", g("Abs", x))), 1.0)))


def _gelu(g: Graph, x: str, alpha: float) -> str:
    if g.opset >= 20 and not g.double:
        return g("Gelu", x)
    return g("Mul", g("Mul", x, 0.5), g("Add", _erf(g, g("Mul", x, math.sqrt(0.5))), 1.0))


def _erf(g: Graph, x: str) -> str:
    """In double with float32's digits: onnxruntime has no other."""
    return g.cast(g("Erf", g.cast(x, np.float32)), np.float64) if g.double else g("Erf", x)


def _gelu_tanh(g: Graph, x: str, alpha: float) -> str:
    if g.opset >= 20 and not g.double:
        return g("Gelu", x, approximate="tanh")
    cubic = g("Add", g("Mul", g("Mul", x, x), activations._GELU_CUBIC), 1.0)
    inner = g("Mul", g("Mul", x, activations._SQRT_2_OVER_PI), cubic)
    return g("Mul", g("Mul", x, 0.5), g("Add", g("Tanh", inner), 1.0))


def _binary_step(g: Graph, x: str, alpha: float) -> str:
    """NaN stays NaN."""
    above = g("Where", g("GreaterOrEqual", x, 0.0), 1.0, x)
    return g("Where", g("Less", x, 0.0), 0.0, above)


def _hard_sigmoid(g: Graph, x: str, alpha: float) -> str:
    return g("Clip", g("Add", g("Div", x, 6.0), 0.5), 0.0, 1.0)


ACTIVATIONS: dict[str, Elementwise] = {
    "identity": lambda g, x, alpha: x,
    "binary_step": _binary_step,
    "sigmoid": lambda g, x, alpha: g("Sigmoid", x),
    "tanh": lambda g, x, alpha: g("Tanh", x),
    "relu": lambda g, x, alpha: g("Relu", x),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda g, x, alpha: g("Mul", x, g("Sigmoid", x)),
    "mish": lambda g, x, alpha: g("Mul", x, g("Tanh", _softplus(g, x, alpha))),
    "hard_sigmoid": _hard_sigmoid,
    "hard_tanh": lambda g, x, alpha: g("Clip", x, -1.0, 1.0),
    "softsign": lambda g, x, alpha: g("Div", x, g("Add", g("Abs", x), 1.0)),
    "exponential": lambda g, x, alpha: g("Exp", x),
}


def activated(g: Graph, x: str, activation: activations.Activation) -> str:
    """ValueError where the activation has formulas of one's own."""
    if not activation.built_in or activation.name not in ACTIVATIONS:
        raise ValueError(f"activation {activation} has formulas of its own, expected one of nn.ACTIVATIONS for ONNX")
    return ACTIVATIONS[activation.name](g, x, activation.alpha)


# Operations ----------------------------------------------------------------------------------------------------


def _activation(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    return activated(g, x, op.activation)


def _normalize(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    """In double, whatever the network computes in: x may need more digits to be shifted than afterwards."""
    shift, scale = t["shift"].reshape(op.inputs), t["scale"].reshape(op.inputs)
    if (scale < WIDE).any():  # a feature that spreads further than float64 goes: in halves, as the network does
        half = np.where(scale < WIDE, 0.5, 1.0)
        x, shift, scale = g("Mul", x, g.constant(half, dtype=np.float64)), half * shift, scale / half
    x = g("Sub", x, g.constant(shift, "shift", np.float64))
    return g("Mul", x, g.constant(scale, "scale", np.float64))


def _dense(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    w, b = g.constant(t["w"], "w"), g.constant(t["b"], "b")
    z = g("Gemm", x, w, b) if len(op.inputs) == 1 else g("Add", g("MatMul", x, w), b)
    return activated(g, z, op.activation)


def _maxout(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    channels = op.inputs[-1]
    pieces = channels // op.outputs[-1]
    ends, axes, steps = g.whole(channels), g.whole(-1), g.whole(pieces)
    return g("Max", *(g("Slice", x, g.whole(first), ends, axes, steps) for first in range(pieces)))


def _prelu(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    slope = g.constant(t["slope"], "slope")
    return _split(g, x, g("Mul", g("Min", x, 0.0), slope)) if g.double else g("PRelu", x, slope)


def _batch_norm(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    """Shifted first, as the network does: x a + b has no digits left where |mean| is large beside the deviation."""
    x = g("Sub", x, g.constant(t["running_mean"], "running_mean"))
    for factor in factors(op, t, g.dtype):
        x = g("Mul", x, g.constant(factor, "gamma"))
    return g("Add", x, g.constant(t["beta"], "beta"))


def _mean(g: Graph, x: str) -> str:
    """Over the last axis."""
    return g("ReduceMean", x, axes=[-1]) if g.opset < 18 else g("ReduceMean", x, g.whole(-1))


def _layer_norm(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    gamma, beta, epsilon = g.constant(t["gamma"], "gamma"), g.constant(t["beta"], "beta"), op.settings["epsilon"]
    if g.opset >= 17 and not g.double:
        return g("LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
    # the operator is of opset 17, and its epsilon a float32
    centred = g("Sub", x, _mean(g, x))
    variance = g("Add", _mean(g, g("Mul", centred, centred)), g.constant(epsilon, "epsilon"))
    return g("Add", g("Mul", g("Div", centred, g("Sqrt", variance)), gamma), beta)


def _rms_norm(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    square = g("Add", _mean(g, g("Mul", x, x)), g.constant(op.settings["epsilon"], "epsilon"))
    return g("Mul", g("Div", x, g("Sqrt", square)), g.constant(t["gamma"], "gamma"))


def _ordered(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    targets, channels = int(op.settings["targets"]), op.inputs[-1]
    axes = g.whole(-1)
    first = g("Slice", x, g.whole(0), g.whole(targets), axes)
    steps = _softplus(g, g("Slice", x, g.whole(targets), g.whole(channels), axes), 0.0)
    levels = g("Reshape", g("Concat", first, steps, axis=-1), g.whole(0, *op.inputs[:-1], channels // targets, targets))
    summed = g("CumSum", levels, g.constant(-2, dtype=np.int64))
    return g("Reshape", summed, g.whole(0, *op.inputs))


def _fork(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    g.saved.append(x)
    return x


def _turn(g: Graph, x: str, op: Op, t: Mapping[str, Array]) -> str:
    start = g.saved.pop()
    g.saved.append(x)
    return start


OPERATIONS: dict[str, Written] = {
    "cast": lambda g, x, op, t: x,
    "normalize": _normalize,
    "dense": _dense,
    "activation": _activation,
    "softmax": lambda g, x, op, t: g("Softmax", x, axis=-1),
    "maxout": _maxout,
    "prelu": _prelu,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "scale": lambda g, x, op, t: g("Mul", x, g.constant(t["factor"], "factor")),
    "ordered": _ordered,
    "fork": _fork,
    "turn": _turn,
    "join": lambda g, x, op, t: g("Add", x, g.saved.pop()),
}
REFUSED = {  # why
    "ids": "ONNX has nothing that refuses what is no id",
    "dropout": "a frozen network has none",
    "rrelu": "a frozen network has leaky_relu there",
    **dict.fromkeys(("rnn", "gru", "lstm", "last"), "recurrent layers are not written yet"),
    "embedding": "its ids would go in unchecked",
    **dict.fromkeys(("conv", "max_pool", "avg_pool", "pad", "upsample"), "images are not written as ONNX yet"),
}


def written(g: Graph, x: str, op: Op, tensors: Mapping[str, Array]) -> str:
    """The value that the operation makes of x. ValueError names one that is refused."""
    if op.kind not in OPERATIONS:
        why = REFUSED.get(op.kind, "it has no equal there")
        raise ValueError(f"operation {op.kind} cannot be written as ONNX: {why}")
    g.named = {role: tensor.name for role, tensor in op.tensors.items()}
    return OPERATIONS[op.kind](g, x, op, tensors)
