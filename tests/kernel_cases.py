"""Arguments for each call of each operation, made from its Spec, and what a Spec does not say: OPERATIONS.

A bound gives for each output the magnitude M of a first-order rounding bound, |output - exact| <= M eps, from the
float64 arguments after the reference ran. Sums of n terms contribute n * (sum of the terms' absolute values); each
further operation contributes its result once, and a library function (exp, tanh, erf, log1p) up to FUNCTION ulp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import recurrent_bounds
from guarded import Case, InOut, Out, Own

from fastnn._random import Key
from fastnn.contract import Kernels
from fastnn.formulas.activations import ACTIVATIONS, Activation
from fastnn.ops import OPS
from fastnn.ops.operation import Shape, sizes
from fastnn.ops.spec import Call, Spec
from fastnn.ops.window import DILATED, WINDOW, Window

Array = np.ndarray
Named = dict[str, Any]

# An element-wise formula is at most a dozen operations, one or two of them library functions of up to 4 ulp.
FUNCTION = 16

KEY = Key(seed=0x123456789ABCDEF0, step=(7 << 32) + 11, op=3)
STORED_ROWS = 5  # of the data that a source takes rows from


class Draw:
    """Standard normal arrays in a dtype."""

    def __init__(self, dtype: Any, seed: int = 0) -> None:
        self.dtype, self.rng = np.dtype(dtype), np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def positive(self, *shape: int) -> Array:
        return np.abs(self(*shape)) + self.dtype.type(0.5)

    def distributions(self, *shape: int) -> Array:
        e = np.exp(self(*shape))
        return e / e.sum(axis=1, keepdims=True)

    def ids(self, *shape: int) -> Array:
        return self.rng.integers(0, IDS, shape).astype(self.dtype)

    def squashed(self, *shape: int) -> Array:
        return np.tanh(self(*shape))

    def small(self, *shape: int) -> Array:
        return self(*shape) / 8

    def places(self, *shape: int) -> Array:
        return self.rng.integers(0, 6, shape).astype(np.int32)

    def winners(self, *shape: int) -> Array:
        return self.rng.integers(0, PIECES, shape).astype(np.int32)


# From a Spec to a case --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What the Spec of an operation does not say."""

    bounds: Mapping[str, Callable[[Named], Named]]  # of forward, backward, and predict where it is another one
    settings: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, Callable[..., Array]] = field(default_factory=dict)  # how inputs of a special range are drawn
    inputs: Callable[[int, int], int] = lambda I, O: I  # of the channels that are asked for, what it takes
    window: Mapping[str, int] | None = None  # settings of one that reads images: of rows (2, 3, channels)
    needs_rows: bool = False  # the mean of no rows is not a number
    steps: int = 1  # positions of a row, where they are steps in time


def call_of(name: str, which: str) -> Call:
    spec = OPS[name].spec
    return spec.prediction if which == "predict" else spec.calls[which]


def calls() -> list[tuple[str, str]]:
    """(operation, "forward", "backward" or "predict") of everything that is computed."""
    declared = [(name, which) for name, op in OPS.items() for which in (*op.spec.calls, "predict")]
    return [(name, which) for name, which in dict.fromkeys(declared) if not call_of(name, which).passes]


CALLS = calls()


def kernel(kernels: Kernels, name: str, which: str) -> Callable[..., Any]:
    made: Callable[..., Any] = getattr(kernels.ops[name], which)
    return made


def saved_of(activation: Activation, z: Array) -> Array:
    """What a forward pass keeps for this activation."""
    return z if activation.saves == "z" else np.asarray(activation.value(z, activation.alpha), z.dtype)


def operation(
    draw: Draw, name: str, which: str, B: int, I: int, O: int, activation: Activation = ACTIVATIONS["tanh"]
) -> Case:
    """Arguments for that call of an operation: B rows of the positions it wants, I channels in and O out."""
    assert name in OPERATIONS, f"kernel_cases.OPERATIONS has no bounds for {name}"
    known, call = OPERATIONS[name], call_of(name, which)
    I = known.inputs(I, O)
    shapes = passage(name, I, O) if known.window else ((I,), (O,))
    settings = settings_of(name, I, O)
    size = sizes(*shapes, B, settings)
    if known.steps > 1:
        size = {**size, "P": known.steps, "N": B * known.steps}
    spec = OPS[name].spec
    arguments = {each: _argument(draw, spec, call, known, settings, each, size, activation) for each in call.names}
    return Case(arguments, known.bounds[which if which in OPS[name].spec.calls else "forward"])


def settings_of(name: str, I: int, O: int) -> dict[str, float]:
    known = OPERATIONS[name]
    if known.window is None:
        return dict(known.settings)
    groups = {"groups": groups_of(I, O)} if "groups" in OPS[name].spec.setting_names else {}
    made = {"height": 2, "width": 3, "channels": I, **known.window, **groups}
    return {each: made[each] for each in OPS[name].spec.setting_names}


def groups_of(I: int, O: int) -> int:
    """One channel each, two of several, or one of all."""
    return O if I == O else 2 if I % 2 == O % 2 == 0 else 1


def passage(name: str, I: int, O: int) -> tuple[Shape, Shape]:
    """The rows that go in and out of an operation that has positions."""
    s = settings_of(name, I, O)
    factors = s.get("factor_height", 1), s.get("factor_width", 1)
    height, width = s.get("out_height", 2 * factors[0]), s.get("out_width", 3 * factors[1])
    return (2, 3, I), (int(height), int(width), O)


def _argument(
    draw: Draw,
    spec: Spec,
    call: Call,
    known: Known,
    settings: Mapping[str, float],
    name: str,
    size: Mapping[str, int],
    activation: Activation,
) -> Any:
    if name in spec.setting_names:
        return settings[name]
    if name == "key":
        return KEY
    if name in ("activation", "below"):
        return activation
    if name == "rows":
        return draw.rng.integers(0, STORED_ROWS, size["B"])
    dims = (STORED_ROWS, size["F"]) if name == "data" else tuple(dim.size(size) for dim in spec.dims(name))
    own = spec.fields[name].dtype if name in spec.fields else None
    statistic = name in {each.name for each in spec.statistic_fields}
    if name in call.outputs and not statistic:
        return Out(dims, own)
    value = known.draws.get(name, Draw.__call__)(draw, *dims)
    if name == "saved":
        value = saved_of(activation, value)
    if name in call.outputs:
        return InOut(value)
    return value if own is None or own.kind != "f" else Own(value.astype(own))


# Bounds -----------------------------------------------------------------------------------------------------


def exact(*outputs: str) -> Callable[[Named], Named]:
    """Nothing is rounded."""
    return lambda r: dict.fromkeys(outputs, 0.0)


def roundings(count: float, *outputs: str) -> Callable[[Named], Named]:
    """So many roundings of each element, one after the other."""
    return lambda r: {name: count * np.abs(r[name]) for name in outputs}


def near(activation: Activation, z: Array, f: Array) -> Array:
    """Magnitude of the rounding in a formula of z with value f: no intermediate exceeds 1 + |z| + |f|."""
    return FUNCTION * (1 + abs(activation.alpha)) * (1 + np.abs(z) + np.abs(f))


def dense_forward(r: Named) -> Named:
    # a is checked against the formula at the kernel's own z: see test_kernels.check_operation
    return dict(z=(r["x"].shape[1] + 4) * (np.abs(r["x"]) @ np.abs(r["w"]) + np.abs(r["b"])))


def dense_backward(r: Named) -> Named:
    x, dz, below = np.abs(r["x"]), np.abs(r["dz"]), r["below"]
    B, O = dz.shape
    derivative = np.abs(below.derivative(r["saved"], below.alpha) * 1.0)
    product = dz @ np.abs(r["w"]).T
    dx = (O + 4) * product * derivative + product * near(below, r["saved"], derivative)
    return dict(dx=dx, dw=(B + 4) * (x.T @ dz), db=(B + 4) * dz.sum(axis=0))


def activation_backward(r: Named) -> Named:
    below = r["below"]
    derivative = below.derivative(r["saved"], below.alpha)
    return dict(dx=np.abs(r["dz"]) * near(below, r["saved"], derivative))


def depth(x: Array) -> Array:
    """How far a row reaches below its maximum: the rounding of exp's argument is relative to that."""
    return (x.max(axis=1, keepdims=True) - x.min(axis=1, keepdims=True)) if x.size else x


def softmax_backward(r: Named) -> Named:
    a, da = r["a"], np.abs(r["da"])
    return dict(dx=(a.shape[1] + 8) * a * (da + (da * a).sum(axis=1, keepdims=True)))


def ordered_forward(r: Named) -> Named:  # those of all targets: more than those of each
    return dict(a=(r["a"].shape[1] + FUNCTION) * np.cumsum(1 + np.abs(r["x"]), axis=1))


def ordered_backward(r: Named) -> Named:
    return dict(dx=(r["da"].shape[1] + FUNCTION) * np.cumsum(np.abs(r["da"])[:, ::-1], axis=1)[:, ::-1])


def prelu_backward(r: Named) -> Named:
    products = np.abs(r["da"] * np.minimum(r["x"], 0))
    return dict(dx=2 * np.abs(r["dx"]), dslope=(len(products) + 4) * products.sum(axis=0))


def scale_backward(r: Named) -> Named:
    products = np.abs(r["da"] * r["x"])
    return dict(dx=np.abs(r["dx"]), dfactor=(len(products) + 4) * products.sum(axis=0))


def norm_forward(r: Named, axis: int) -> Named:
    """mean, inv_std and a of a two-pass normalisation along `axis`."""
    x, n, epsilon = r["x"], r["x"].shape[axis], r["epsilon"]
    mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
    inv_std = 1 / np.sqrt(var + epsilon)
    of_mean = (n + 4) * np.abs(x).mean(axis=axis, keepdims=True)
    of_centred = np.abs(x) + of_mean
    centred = np.abs(x - mean)
    of_var = (2 * centred * of_centred).mean(axis=axis, keepdims=True) + (n + 8) * (var + epsilon)
    relative = of_var / (2 * (var + epsilon)) + 4
    of_a = np.abs(r["gamma"]) * inv_std * (of_centred + centred * (relative + 4)) + 4 * np.abs(r["beta"])
    return dict(mean=of_mean.squeeze(axis), inv_std=(relative * inv_std).squeeze(axis), a=of_a)


def batch_norm_forward(r: Named) -> Named:
    rows = len(r["x"])
    of = norm_forward(r, 0)
    of_var = 2 * of["inv_std"] / r["inv_std"] ** 3  # d var = -2 d(inv_std) / inv_std^3
    unbias = rows / max(rows - 1, 1)
    return of | dict(
        running_mean=of["mean"] + 4 * (np.abs(r["running_mean"]) + np.abs(r["mean"])),
        running_var=unbias * of_var + 4 * np.abs(r["running_var"]),
    )


def batch_norm_predict(r: Named) -> Named:
    reach = (np.abs(r["x"]) + np.abs(r["running_mean"])) / np.sqrt(r["running_var"] + r["epsilon"])
    return dict(a=8 * (np.abs(r["gamma"]) * reach + np.abs(r["beta"])))


def batch_norm_backward(r: Named) -> Named:
    B = len(r["x"])
    da, reach = np.abs(r["da"]), (np.abs(r["x"]) + np.abs(r["mean"])) * r["inv_std"]
    dgamma, dbeta = (da * reach).sum(axis=0), da.sum(axis=0)
    dx = (B + 16) * np.abs(r["gamma"]) * r["inv_std"] * (da + (dbeta + reach * dgamma) / B)
    return dict(dgamma=(B + 8) * dgamma, dbeta=(B + 4) * dbeta, dx=dx)


def layer_norm_backward(r: Named) -> Named:
    B, O = r["x"].shape
    inv_std = r["inv_std"][:, None]
    da, reach = np.abs(r["da"]), (np.abs(r["x"]) + np.abs(r["mean"])[:, None]) * inv_std
    scaled = da * np.abs(r["gamma"])
    means = scaled.mean(axis=1, keepdims=True) + reach * (scaled * reach).mean(axis=1, keepdims=True)
    return dict(
        dgamma=(B + 8) * (da * reach).sum(axis=0),
        dbeta=(B + 4) * da.sum(axis=0),
        dx=(O + 16) * inv_std * (scaled + means),
    )


def rms_norm_forward(r: Named) -> Named:
    relative = (r["x"].shape[1] + 8) / 2 + 4  # half of what the sum of the squares is off by, a root and a quotient
    return dict(inv_rms=relative * r["inv_rms"], a=(relative + 4) * np.abs(r["a"]))


def rms_norm_backward(r: Named) -> Named:
    B, O = r["x"].shape
    inv_rms = r["inv_rms"][:, None]
    da, reach = np.abs(r["da"]), np.abs(r["x"]) * inv_rms
    scaled = da * np.abs(r["gamma"])
    dx = (O + 16) * inv_rms * (scaled + reach * (scaled * reach).mean(axis=1, keepdims=True))
    return dict(dgamma=(B + 8) * (da * reach).sum(axis=0), dx=dx)


def embedding_backward(r: Named) -> Named:
    """dw as the reference sums it, of sizes; nothing reaches x."""
    dx, sums = np.empty_like(r["dx"]), np.empty_like(r["dw"])
    OPS["embedding"].backward(r["x"], r["ids"], r["padding"], np.abs(r["da"]), dx, sums)
    return dict(dx=0.0, dw=(r["x"].size + 4) * sums)


def recurrent(op: str, **settings: float) -> Known:
    """Of three steps, with weights of states that do not let errors grow beyond what is bounded."""
    draws = {"u": Draw.small, "gates": Draw.squashed} | ({"a": Draw.squashed} if op == "rnn" else {})
    bounds = {each: getattr(recurrent_bounds, f"{op}_{each}") for each in ("forward", "backward")}

    def predict(r: Named) -> Named:
        """As forward, of which it keeps a alone."""
        kept = {"gates": 4, "cell": 1, "before": 1}
        kept = {name: np.empty((*r["a"].shape[:2], n * r["a"].shape[2])) for name, n in kept.items()}
        made = r | kept | {"a": r["a"].copy()}
        OPS[op].forward(*(made[name] for name in call_of(op, "forward").names))
        return {"a": bounds["forward"](made)["a"]}

    bounds["predict"] = predict
    return Known(bounds, settings, draws, steps=3)


def window_of(r: Named) -> Window:
    names = DILATED if "groups" in r else WINDOW
    return Window.of(*(r[name] for name in names.split()))


def conv_forward(r: Named) -> Named:
    z, over = np.zeros_like(r["z"]), window_of(r)
    geometry = {name: r[name] for name in DILATED.split()}
    OPS["conv"].forward(
        **geometry, x=np.abs(r["x"]), w=np.abs(r["w"]), b=np.abs(r["b"]), activation=ACTIVATIONS["identity"], z=z, a=z
    )
    return dict(z=(r["w"].shape[0] * r["w"].shape[1] + over.groups + 4) * z)


def conv_backward(r: Named) -> Named:
    below, geometry = r["below"], {name: r[name] for name in DILATED.split()}
    derivative = np.abs(below.derivative(r["saved"], below.alpha) * 1.0)
    x, dz = np.abs(r["x"]), np.abs(r["dz"])
    product, dw, db = np.zeros_like(x), np.zeros_like(r["dw"]), np.zeros_like(r["db"])
    plain = dict(below=ACTIVATIONS["identity"], saved=x, dz=dz, dx=product, dw=dw, db=db)
    OPS["conv"].backward(**geometry, x=x, w=np.abs(r["w"]), **plain)
    pixels = dz.shape[0] * dz.shape[1] + 4
    terms = r["w"].shape[0] * dz.shape[2] + 4
    dx = terms * product * derivative + product * near(below, r["saved"], derivative)
    return dict(dx=dx, dw=pixels * dw, db=pixels * db)


def pool_size(r: Named) -> int:
    return int(r["kernel_height"] * r["kernel_width"]) + 4


def avg_pool_forward(r: Named) -> Named:
    a, geometry = np.zeros_like(r["a"]), {name: r[name] for name in WINDOW.split()}
    OPS["avg_pool"].forward(**geometry, x=np.abs(r["x"]), a=a)
    return dict(a=pool_size(r) * a)


def pool_backward(r: Named) -> Named:
    name, geometry = "max_pool" if "winner" in r else "avg_pool", {name: r[name] for name in WINDOW.split()}
    dx, own = np.zeros_like(r["dx"]), {"winner": r["winner"]} if "winner" in r else {}
    OPS[name].backward(**geometry, **own, da=np.abs(r["da"]), dx=dx)
    return dict(dx=pool_size(r) * dx)


def upsample_backward(r: Named) -> Named:
    dx = np.zeros_like(r["dx"])
    geometry = {name: r[name] for name in OPS["upsample"].spec.setting_names}
    OPS["upsample"].backward(**geometry, da=np.abs(r["da"]), dx=dx)
    return dict(dx=(geometry["factor_height"] * geometry["factor_width"] + 1) * dx)


# What the Specs do not say ------------------------------------------------------------------------------------

PIECES = 3  # of maxout
IDS = 9
OFF_CENTRE = {"x": lambda draw, *shape: draw(*shape) + draw.dtype.type(0.5)}  # so that a mean that is left out shows

# Of 2 x 3 pixels: above and left of them is a border of 1, right of them another; windows 3 wide, 2 apart
PLACES = dict(
    out_height=2, out_width=2, kernel_height=2, kernel_width=2, stride_height=1, stride_width=2, top=1, left=1
)

OPERATIONS: dict[str, Known] = {
    "cast": Known({"forward": exact("a")}),
    # in float64 on both sides; to the plan's dtype it is rounded once, to the nearest
    "normalize": Known({"forward": roundings(0.5, "a")}),
    "ids": Known({"forward": exact("a")}, settings={"count": IDS}, draws={"data": Draw.ids}),
    "dense": Known({"forward": dense_forward, "backward": dense_backward}),
    "activation": Known(
        {"forward": lambda r: dict(a=near(r["activation"], r["x"], r["a"])), "backward": activation_backward}
    ),
    "softmax": Known(
        {
            "forward": lambda r: dict(a=(r["x"].shape[1] + FUNCTION + depth(r["x"])) * r["a"]),
            "backward": softmax_backward,
        },
        draws={"a": Draw.distributions},
    ),
    "maxout": Known(
        {"forward": exact("a", "winner"), "backward": exact("dx")},
        draws={"winner": Draw.winners},
        inputs=lambda I, O: PIECES * O,
    ),
    "prelu": Known({"forward": roundings(2, "a"), "backward": prelu_backward}),
    "rrelu": Known(
        {"forward": roundings(4, "a"), "backward": roundings(4, "dx"), "predict": roundings(4, "a")},
        settings={"lower": 0.1, "upper": 0.4},
    ),
    "dropout": Known({"forward": roundings(4, "a"), "backward": roundings(4, "dx")}, settings={"rate": 0.3}),
    "batch_norm": Known(
        {"forward": batch_norm_forward, "backward": batch_norm_backward, "predict": batch_norm_predict},
        settings={"momentum": 0.9, "epsilon": 1e-3},
        draws=OFF_CENTRE | {"inv_std": Draw.positive, "running_var": Draw.positive},
        needs_rows=True,
    ),
    "layer_norm": Known(
        {"forward": lambda r: norm_forward(r, 1), "backward": layer_norm_backward},
        settings={"epsilon": 1e-3},
        draws=OFF_CENTRE | {"inv_std": Draw.positive},
    ),
    "rms_norm": Known(
        {"forward": rms_norm_forward, "backward": rms_norm_backward},
        settings={"epsilon": 1e-3},
        draws={"inv_rms": Draw.positive},
    ),
    "scale": Known({"forward": roundings(1, "a"), "backward": scale_backward}),
    "ordered": Known({"forward": ordered_forward, "backward": ordered_backward}, settings={"targets": 2}),
    "fork": Known({"backward": lambda r: dict(dx=np.abs(r["da"]) + np.abs(r["dother"]))}),
    "turn": Known({"forward": exact("a"), "backward": exact("dx")}),
    "conv": Known(
        {"forward": conv_forward, "backward": conv_backward},
        inputs=lambda I, O: O if O % 3 == 0 else 2 * I if O % 2 == 0 else I,
        window=PLACES | dict(dilation_height=1, dilation_width=2),
    ),
    "max_pool": Known(
        {"forward": exact("a", "winner"), "backward": pool_backward},
        draws={"winner": Draw.places},
        inputs=lambda I, O: O,
        window=PLACES | dict(kernel_width=3),
    ),
    "avg_pool": Known(
        {"forward": avg_pool_forward, "backward": pool_backward},
        inputs=lambda I, O: O,
        window=PLACES | dict(kernel_width=3),
    ),
    "pad": Known(
        {"forward": exact("a"), "backward": exact("dx")},
        inputs=lambda I, O: O,
        window=dict(out_height=4, out_width=6, top=1, left=2),
    ),
    "upsample": Known(
        {"forward": exact("a"), "backward": upsample_backward},
        inputs=lambda I, O: O,
        window=dict(factor_height=2, factor_width=3),
    ),
    "join": Known({"forward": lambda r: dict(a=np.abs(r["x"]) + np.abs(r["other"])), "backward": exact("dx")}),
    "rnn": recurrent("rnn", relu=0.0),
    "gru": recurrent("gru"),
    "lstm": recurrent("lstm"),
    "last": Known({"forward": exact("a"), "backward": exact("dx")}, inputs=lambda I, O: 3 * O),
    "embedding": Known(
        {"forward": exact("a"), "backward": embedding_backward},
        settings={"ids": IDS, "padding": 4.0},
        draws={"x": Draw.ids},
        inputs=lambda I, O: 5,
        steps=5,
    ),
}
