"""The bits of the native backend: short trainings of everything it computes, as digests in golden.json.

    python tests/golden.py --write    # after a change that is meant to change bits: say in its commit message which

They are for changes that must not change a bit. Whether the numbers are right is for the other tests to say.

What the digests depend on, beside the C++ kernels and the engine: the compiler, which may fuse any product and sum
(-ffp-contract=fast), so that they are compared where `compiler` is the one in the file alone. Nothing else of the
machine: rows, targets, weights of samples and initial parameters are random integers over powers of two, from a bit
generator whose stream NumPy promises to keep, and the optimizers' coefficients are made of numbers whose powers
float64 holds exactly (see EXACT), because NumPy's `power` and `exp` are other code on other CPUs. Normalize merges
what the kernel says of slices with NumPy's sums, products and roots, which are rounded the same way everywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import Sequential, Trainer, backends, nn, optim

FILE = Path(__file__).with_name("golden.json")
DTYPES = ("float32", "float64")
INPUTS, HIDDEN, OUTPUTS = 19, 33, 7  # nothing is a multiple of a vector
ROWS, BATCH = 80, 13  # 7 steps, the last one of 2 rows

Array = np.ndarray
Disturb = Callable[[Sequential], None]


# What touches more than the public API --------------------------------------------------------------------------


def instruction_sets() -> tuple[str, ...]:
    """Those of this CPU and this build. ImportError where the native backend is missing."""
    from fastnn.backends import native

    return tuple(native.instruction_sets())


def backend_for(isa: str, losses: list[Array]) -> backends.Backend:
    """The native backend on that instruction set. The loss of every step goes into `losses`."""
    from fastnn.backends import native_engine

    engine = native_engine.for_instruction_set(isa)

    def train_steps(*arguments: Any) -> Array:
        losses.append(engine.train_steps(*arguments))
        return losses[-1]

    properties = native_engine.PROPERTIES | {"freeze": engine.freeze}
    return backends.make(f"native {isa}", engine.kernels, engine.predict, train_steps, **properties)


@functools.cache
def compiler() -> str:
    """What compiled the extension, and for what: "GCC 12 x86_64"."""
    from fastnn import _native

    code = Path(_native.__file__).read_bytes()  # GCC and Clang sign what they compile
    found = re.search(rb"GCC: \([^)\0]*\) (\d+)", code)
    name = "another compiler" if found is None or b"clang version" in code else f"GCC {found[1].decode()}"
    return f"{name} {platform.machine()}"


def tensors_of(model: Sequential) -> dict[str, list[Array]]:
    """All that training changed, in the order of the layers and without the padding between."""
    plan, state = model.plan, model.state
    parts: dict[str, list[Array]] = {"parameters": [], "statistics": [], "scaling": []}
    for tensor in plan.tensors:
        parts[tensor.buffer].append(state.views[tensor.name])
    trained = [tensor for tensor in plan.tensors if tensor.trainable]
    for number, slot in enumerate(state.slots):
        parts[f"slot {number}"] = [slot[tensor.slice] for tensor in trained]
    return parts


# Exact data -----------------------------------------------------------------------------------------------------


def integers(seed: int, *shape: int) -> Array:
    """int64 from 0 to 255."""
    raw = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(int(np.prod(shape)))
    return (raw >> np.uint64(56)).astype(np.int64).reshape(shape)


def dyadic(seed: int, *shape: int) -> Array:
    """float64 from -2 to 2, in steps of 1 / 64."""
    return (integers(seed, *shape) - 128) / 64.0


def targets(loss: Any, kind: str, rows: int, outputs: int) -> Array:
    """Labels, or values within the loss's range: of a distribution 3/4 and 1/4 on two classes, or all on one."""
    numbers = integers(2, rows, outputs // loss.width)
    if kind == "labels":
        return numbers[:, 0] % outputs
    if loss.link == "softmax":
        classes = np.eye(outputs)
        return 0.75 * classes[numbers[:, 0] % outputs] + 0.25 * classes[numbers[:, 1] % outputs]
    low, high = loss.y_range
    if np.isfinite(high):
        return low + (high - low) * (numbers % 9) / 8.0
    return np.maximum((numbers - 128) / 64.0, low)


def set_parameters(model: Sequential) -> None:
    """Weights of about 1 / sqrt(I) and everything else a little off its initial value, which is 0, 1 or 1/4."""
    for seed, tensor in enumerate(model.plan.tensors, start=100):
        view = model.state.views[tensor.name]
        if view.ndim >= 2:
            terms = view.size // view.shape[-1]
            view[...] = dyadic(seed, *view.shape) * 2.0 ** -(terms.bit_length() // 2)
        elif tensor.trainable:
            view += dyadic(seed, *view.shape) / 16.0


# Cases ----------------------------------------------------------------------------------------------------------

# Hyper-parameters by name. The powers up to the 14th of 7/8, and up to the 13th of 15/16, have at most 53 bits.
EXACT = {"beta": 0.875, "beta1": 0.875, "rho": 0.875, "beta2": 0.9375, "momentum_decay": 0.0}


PENALTIES = {"l1": 2.0**-8, "l2": 2.0**-6, "decay": 2.0**-4}


def optimizer(kind: Callable[..., Any], lr: float = 2.0**-7, **settings: Any) -> optim.Optimizer:
    known = {item.name for item in dataclasses.fields(kind)}
    return kind(lr=lr, **{name: value for name, value in EXACT.items() if name in known}, **settings)


@dataclass(frozen=True)
class Case:
    """A network, and how it is trained. No more than 12 steps: see EXACT."""

    layers: Callable[[], list[nn.Layer]]
    loss: Any = "mse"  # a name or a loss
    targets: str | None = None  # kind of; None: the first one the loss takes
    optimizer: optim.Optimizer = field(default_factory=lambda: optimizer(optim.Momentum))
    rows: int = ROWS
    shape: tuple[int, ...] = (INPUTS,)  # of a row
    stored: Callable[[Array], Array] = lambda numbers: ((numbers - 128) / 64.0).astype(np.float32)
    weighted: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)


def around(*layers: Callable[[], nn.Layer], **settings: Any) -> Case:
    """These layers after a dense one and before another."""
    outputs = OUTPUTS * settings["loss"].width if "loss" in settings else OUTPUTS
    return Case(lambda: [nn.Dense(HIDDEN), *(make() for make in layers), nn.Dense(outputs)], **settings)


def activation_cases() -> Iterator[tuple[str, Case]]:
    """Each fused into a dense layer, and alone; with another parameter where it has one."""
    slow = optimizer(optim.Momentum, lr=2.0**-10)  # at 2^-7 exponential diverges
    for name, plain in nn.ACTIVATIONS.items():
        low, high = plain.alpha_range
        variants = {name: plain} if low == high else {name: plain, f"{name}(0.375)": plain.with_alpha(0.375)}
        for variant, f in variants.items():
            yield f"dense {variant}", around(lambda f=f: nn.Activation(f), optimizer=slow)  # fused into the dense one
            yield f"activation {variant}", around(nn.LayerNorm, lambda f=f: nn.Activation(f), optimizer=slow)
        yield f"last {name}", Case(lambda f=plain: [nn.Dense(HIDDEN, "softsign"), nn.Dense(OUTPUTS, f)])


def layer_cases() -> Iterator[tuple[str, Case]]:
    yield "dense", Case(lambda: [nn.Dense(OUTPUTS)])
    yield "one output", Case(lambda: [nn.Dense(HIDDEN, "elu"), nn.Dense(1)])
    yield "without bias", Case(lambda: [nn.Dense(HIDDEN, "gelu", bias=False), nn.Dense(OUTPUTS, bias=False)])
    yield (
        "deep",
        Case(
            lambda: [
                *(nn.Dense(n, f) for n, f in ((HIDDEN, "relu"), (18, "gelu"), (31, "tanh"), (16, "silu"))),
                nn.Dense(3),
            ]
        ),
    )
    yield "activation first", Case(lambda: [nn.Activation("sigmoid"), nn.Dense(OUTPUTS)])
    kinds: dict[str, Callable[[], nn.Layer]] = {
        "softmax": nn.Softmax,
        "maxout": lambda: nn.Maxout(3),
        "prelu": nn.PReLU,
        "rrelu": lambda: nn.RReLU(0.125, 0.375),
        "dropout": lambda: nn.Dropout(0.25),
        "batch_norm": lambda: nn.BatchNorm(momentum=0.75),
        "layer_norm": nn.LayerNorm,
        "rms_norm": nn.RMSNorm,
    }
    for name, make in kinds.items():
        yield name, around(make)
        yield f"{name} below gelu", around(make, lambda: nn.Dense(21, "gelu"))
        yield f"{name} above gelu", around(lambda: nn.Activation("gelu"), make)
        yield f"{name} last", Case(lambda make=make: [nn.Dense(HIDDEN, "relu"), nn.Dense(12), make()])
        yield f"{name} first", Case(lambda make=make: [make(), nn.Dense(OUTPUTS)], shape=(21,))
    # of 33 channels the last would be 23 above the first, and the loss diverge
    yield "ordered", Case(lambda: [nn.Dense(HIDDEN, "tanh"), nn.Dense(4), nn.Ordered(), nn.Dense(OUTPUTS)])
    yield "ordered last", Case(lambda: [nn.Dense(HIDDEN, "tanh"), nn.Dense(4), nn.Ordered()])
    steps: dict[str, Callable[..., nn.Layer]] = {
        "rnn": nn.SimpleRNN,
        "rnn of relu": lambda units, **settings: nn.SimpleRNN(units, "relu", **settings),
        "gru": nn.GRU,
        "lstm": nn.LSTM,
    }
    for name, of in steps.items():
        yield name, Case(lambda of=of: [of(HIDDEN), nn.Dense(OUTPUTS)], shape=(6, 5))
        yield (
            f"{name} of every step",
            Case(
                lambda of=of: [nn.Dense(9, "gelu"), of(5, return_sequences=True), nn.Dense(4, "gelu"), of(3)],
                shape=(6, 5),
            ),
        )
    numbers = lambda values: (values % 11).astype(np.int16)  # noqa: E731
    yield "embedding", Case(lambda: [nn.Embedding(11, 9, 3), nn.GRU(5), nn.Dense(OUTPUTS)], shape=(6,), stored=numbers)
    yield "maxout in a dense", Case(lambda: [nn.Dense(HIDDEN, nn.Maxout(2)), nn.Dense(OUTPUTS)])
    yield "dropout twice", around(nn.Dropout, lambda: nn.Activation("relu"), lambda: nn.Dropout(0.125))
    yield "batch_norm, a last batch of one row", around(nn.BatchNorm, rows=ROWS - 1)


def image_cases() -> Iterator[tuple[str, Case]]:
    """Channels below and above a vector and a panel, kernels with and without strides, borders and groups."""
    yield (
        "conv",
        Case(
            lambda: [
                nn.Conv2D(HIDDEN, 3, padding="same", activation="relu"),
                nn.MaxPool2D(2),
                nn.Flatten(),
                nn.Dense(3),
            ],
            shape=(10, 9, 3),
        ),
    )
    yield (
        "conv strided",
        Case(
            lambda: [
                nn.Conv2D(5, (2, 3), padding=1),
                nn.Conv2D(18, 3, (2, 1), ((1, 0), (2, 1)), (1, 2), activation="gelu"),
                nn.Conv2D(36, 1, groups=2, bias=False),
                nn.AvgPool2D(2, padding="same"),
                nn.Conv2D(36, 2, groups=36, activation="tanh"),
                nn.GlobalAvgPool(),
                nn.Dense(3),
            ],
            shape=(9, 8),
        ),
    )
    yield (
        "conv of sequences",
        Case(
            lambda: [
                nn.Conv1D(16, 5, stride=2, padding=2),
                nn.BatchNorm(momentum=0.75),
                nn.ZeroPad((1, 2)),
                nn.Upsample(2),
                nn.MaxPool1D(3, 2, 1),
                nn.Conv1D(32, 3, activation="silu"),
                nn.GlobalMaxPool(),
                nn.Dense(3),
            ],
            shape=(31, 4),
        ),
    )


def loss_cases() -> Iterator[tuple[str, Case]]:
    """Each with every kind of target, with another parameter where it has one, and after its own link."""
    for name, plain in nn.LOSSES.items():
        variants = {name: plain} if name != "expectile" else {}  # of 0.5 it is half_mse, bit by bit
        with contextlib.suppress(ValueError):  # where it has none
            variants[f"{name}(0.25)"] = plain.with_parameter([0.25, 0.75] if plain.levels else 0.25)
        for variant, loss in variants.items():
            for kind in loss.targets:
                settings = {"loss": loss, "targets": kind}
                yield f"loss {variant}, {kind}", around(lambda: nn.Activation("tanh"), **settings)
                yield f"loss {variant}, {kind}, weighted", around(nn.PReLU, weighted=True, **settings)
        if plain.link is not None:
            yield (
                f"loss {name} after {plain.link}",
                Case(lambda f=plain.link: [nn.Dense(HIDDEN, "tanh"), nn.Dense(OUTPUTS, f)], loss=plain),
            )


def optimizer_cases() -> Iterator[tuple[str, Case]]:
    """Each alone, with its flags one after the other, with all penalties, and with everything around the rule."""
    for name, kind in optim.OPTIMIZERS.items():
        penalties = PENALTIES | {"decay": kind().decay + PENALTIES["decay"]}
        flags = [item.name for item in dataclasses.fields(kind) if isinstance(item.default, bool)]
        for count in range(len(flags) + 1):
            chosen = dict.fromkeys(flags[:count], True)
            called = " ".join([f"optimizer {name}", *chosen])
            yield called, around(nn.PReLU, nn.LayerNorm, optimizer=optimizer(kind, **chosen))
            yield f"{called}, penalties", around(nn.LayerNorm, optimizer=optimizer(kind, **chosen, **penalties))
            yield (
                f"{called}, clipped, penalties",
                around(
                    nn.BatchNorm,
                    optimizer=optimizer(kind, **chosen, **penalties),
                    trainer={"clip_norm": 0.5, "clip_value": 2.0**-6},
                ),
            )
    for penalty, value in PENALTIES.items():
        yield f"penalty {penalty}", around(nn.PReLU, optimizer=optimizer(optim.SGD, **{penalty: value}))
        yield (
            f"penalty {penalty} of a layer",
            Case(lambda own={penalty: value}: [nn.Dense(HIDDEN, "relu", **own), nn.Dense(OUTPUTS)]),
        )
    for bound in ({"clip_norm": 0.25}, {"clip_value": 2.0**-5}, {"clip_norm": 0.5, "clip_value": 2.0**-5}):
        yield f"clipped {' '.join(bound)}", around(nn.BatchNorm, trainer=bound)


def normalized(stored: Callable[[Array], Array], *mode: str, **how: bool) -> Case:
    return Case(
        lambda: [nn.Normalize(*mode, **how), nn.Dense(HIDDEN, "relu"), nn.Dense(OUTPUTS)],
        stored=stored,
    )


def data_cases() -> Iterator[tuple[str, Case]]:
    """How rows are stored, normalised, weighted and cut into batches."""
    stored: dict[str, Callable[[Array], Array]] = {
        "float32": lambda numbers: numbers.astype(np.float32) / 8,
        "float64": lambda numbers: numbers / 8.0 + 2.0**30,  # a float32 has no room for the fraction
        "uint8": lambda numbers: numbers.astype(np.uint8),
        "int64": lambda numbers: numbers * 1000,
        "every other column": lambda numbers: np.repeat(numbers / 16.0, 2, axis=-1)[..., ::2],
    }
    for name, store in stored.items():
        for mode in ("standard", "minmax"):
            yield f"normalize {mode}, {name}", normalized(store, mode)
        yield f"normalize all, {name}", normalized(store, per_feature=False)
    for name in ("uint8", "int64", "every other column"):
        small = lambda numbers, store=stored[name]: store(numbers % 4)  # noqa: E731
        yield f"rows of {name}", around(lambda: nn.Activation("tanh"), stored=small)
    fine: Callable[[Array], Array] = lambda numbers: (numbers - 128) / 96.0  # noqa: E731  float32 rounds it
    yield "rows of float64", around(lambda: nn.Activation("tanh"), stored=fine)
    yield "flatten", Case(lambda: [nn.Flatten(), nn.Dense(HIDDEN, "relu"), nn.Dense(OUTPUTS)], shape=(4, 3, 2))
    yield (
        "flatten, normalize",
        Case(
            lambda: [nn.Flatten(), nn.Normalize(), nn.Dense(OUTPUTS)],
            shape=(5, 5),
            stored=lambda numbers: numbers.astype(np.uint8),
        ),
    )
    relu: Callable[[], nn.Layer] = lambda: nn.Activation("relu")  # noqa: E731
    yield "weighted", around(relu, weighted=True)
    yield "in order", around(relu, fit={"shuffle": False})
    yield "one row a step", around(relu, rows=12, fit={"batch_size": 1})
    yield "full batch", around(nn.BatchNorm, fit={"batch_size": "full", "epochs": 3})


def large_cases() -> Iterator[tuple[str, Case]]:
    """Weights of over 16 kB in batches of 40, which are packed; then 16 MB, and more inputs than a block of k."""
    wide: dict[str, Any] = {"rows": 100, "shape": (96,), "fit": {"batch_size": 40}}
    for f in ("relu", "gelu", "tanh"):
        yield f"wide {f}", Case(lambda f=f: [nn.Dense(160, f), nn.Dense(120, f), nn.Dense(5)], **wide)
    yield (
        "wide, everything",
        Case(
            lambda: [
                nn.Normalize(),
                nn.Dense(160),
                nn.BatchNorm(),
                nn.Activation("silu"),
                nn.Dropout(0.25),
                nn.Dense(120, nn.Maxout(2)),
                nn.LayerNorm(),
                nn.Dense(5),
            ],
            loss="cross_entropy",
            optimizer=optimizer(optim.AdamW),
            trainer={"clip_norm": 1.0},
            **wide,
        ),
    )
    yield (
        "beyond the caches",
        Case(
            lambda: [nn.Dense(950, "relu", init=0.0), nn.Dense(33, init=0.0)],
            optimizer=optimizer(optim.Adam),
            rows=72,
            shape=(850,),
            fit={"batch_size": 41},
        ),
    )


CASES: dict[str, Case] = {}
for _source in (activation_cases, layer_cases, image_cases, loss_cases, optimizer_cases, data_cases, large_cases):
    for _name, _case in _source():
        assert _name not in CASES, _name
        CASES[_name] = _case


# Digests --------------------------------------------------------------------------------------------------------


def digest(arrays: list[Array]) -> str:
    """Of all bits, dtypes and shapes. AssertionError where a value is NaN or infinite: such bits hold nothing."""
    total = hashlib.sha256()
    for array in arrays:
        assert np.isfinite(array).all()
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:8]


def run(
    name: str, isa: str, dtype: str, *, threads: int | None = None, disturb: Disturb = lambda model: None
) -> dict[str, str]:
    """The digest of each part of what a case computes. `disturb(model)` is called before the first step."""
    case = CASES[name]
    losses: list[Array] = []
    backend = backend_for(isa, losses)
    model = Sequential(case.layers(), dtype=dtype).build(case.shape if len(case.shape) > 1 else case.shape[0], seed=0)
    set_parameters(model)
    disturb(model)
    trainer = Trainer(model, case.loss, case.optimizer, seed=5, backend=backend, threads=threads, **case.trainer)
    x = case.stored(integers(1, case.rows, *case.shape))
    y = targets(trainer.loss, case.targets or trainer.loss.targets[0], case.rows, model.plan.outputs)
    weight = integers(3, case.rows) % 9 / 4.0 if case.weighted else None
    settings = {"epochs": 1, "batch_size": BATCH} | case.fit
    trainer.fit(x, y, sample_weight=weight, verbose=False, **settings)
    parts = {"losses": [np.concatenate(losses)], **tensors_of(model), "predict": [model.predict(x, backend=backend)]}
    return {part: digest(arrays) for part, arrays in parts.items() if arrays}


def changed(stored: str, now: dict[str, str]) -> list[str]:
    """The parts whose digests are not those that are stored, in their order with spaces between."""
    was = stored.split()
    if len(was) != len(now):
        return [f"{len(now)} parts where {len(was)} are stored"]
    return [part for part, old in zip(now, was, strict=True) if now[part] != old]


def write() -> None:
    """Every digest of today into golden.json. SystemExit where this machine lacks an instruction set that is in it."""
    here = instruction_sets()
    before = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"digests": {}}
    if missing := [isa for isa in before["digests"] if isa not in here]:
        raise SystemExit(f"{FILE.name} has {', '.join(missing)}, which this CPU or this build lacks: nothing written")
    digests = {
        isa: {dtype: {name: " ".join(run(name, isa, dtype).values()) for name in CASES} for dtype in DTYPES}
        for isa in here
    }
    text = json.dumps({"compiler": compiler(), "digests": digests}, indent=1)
    FILE.write_text(text + "\n", encoding="utf-8")
    print(f"{FILE.name}: {len(CASES)} cases in {', '.join(DTYPES)} on {', '.join(here)}, compiled by {compiler()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The bits of the native backend.")
    parser.add_argument("--write", action="store_true", required=True, help=f"write {FILE.name} anew")
    parser.parse_args()
    write()
