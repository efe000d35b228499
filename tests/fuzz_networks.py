"""Random networks on every backend: the engines have the same bits, the backends the same values.

    python tests/fuzz_networks.py --cases 10000 --seed 0 --jobs 2
    python tests/fuzz_networks.py --seed 0 --only 12             # one case again, and what it is

A network of any layers, with any loss, optimizer, clipping, weights and batches, is trained for a few steps by the
native engine on one thread and on three, and by the Python engine on the same kernels: every bit is the same. In
float64 its predictions and its gradient are those of the numpy backend, as far as rounding lets them. Every case is a
function of the seed and its number.
"""

from __future__ import annotations

import functools
import random
import sys
from typing import Any

import fuzzing
import numpy as np
from common import gradient, stir, targets

from fastnn import DivergenceError, Sequential, Trainer, backends, nn, optim
from fastnn.contract import Backend

TOLERANCE = 1e-8  # of the largest value of a tensor, in float64: sums of some thousand products, through 12 operations
COMPARED = [name for name in ("cython", "native") if name in backends.available()]
NATIVE = "native" in COMPARED


def a_layer(rng: random.Random) -> nn.Layer:
    """Some fit nowhere: then another network is drawn."""
    units = rng.choice((1, 2, 3, 4, 8, 15, 16, 17, 33))
    follow = rng.choice((*nn.ACTIVATIONS, nn.PReLU(), nn.RReLU(), nn.Softmax(), nn.Maxout(rng.choice((2, 3)))))
    penalty = {rng.choice(("l1", "l2", "decay")): rng.choice((1e-3, 0.1))} if rng.random() < 0.3 else {}
    if rng.random() < 0.5:
        return nn.Dense(units, follow, bias=rng.random() < 0.8, **penalty)
    inner = [nn.Dense(units, rng.choice(("relu", "tanh"))), nn.Scale(0.5)]
    return rng.choice(
        (
            lambda: nn.Activation(follow),
            lambda: nn.BatchNorm(momentum=rng.choice((0.5, 0.9))),
            lambda: nn.LayerNorm(),
            lambda: nn.RMSNorm(),
            lambda: nn.Ordered(),
            lambda: nn.Dropout(rng.choice((0.1, 0.5))),
            lambda: nn.Scale(rng.choice((0.3, 1.0))),
            lambda: nn.Residual(inner),
            lambda: nn.Residual(inner, shortcut=[nn.Dense(units)]),
            lambda: rng.choice((nn.SimpleRNN, nn.GRU, nn.LSTM))(units, return_sequences=rng.random() < 0.5),
            lambda: nn.Reshape((-1, rng.choice((1, 2, 3)))),
            lambda: nn.Flatten(),
            *(lambda make=make: make(rng, units) for make in WINDOWED),
        )
    )()


def a_padding(rng: random.Random, most: int = 3) -> str | int:
    return rng.choice(("valid", "same", "same", 0, rng.randrange(most)))


WINDOWED = (  # given a generator and a number of filters
    lambda rng, n: nn.Conv1D(
        n,
        rng.randint(1, 4),
        rng.randint(1, 2),
        a_padding(rng),
        rng.randint(1, 2),
        activation=rng.choice(("relu", "gelu")),
    ),
    lambda rng, n: nn.Conv1D(2 * n, 2, padding=(1, 0), groups=2, bias=False),
    lambda rng, n: nn.Conv2D(n, (rng.randint(1, 3), 2), rng.randint(1, 3), a_padding(rng), activation="tanh"),
    lambda rng, n: nn.MaxPool1D(2, rng.choice((None, 1)), a_padding(rng, 2)),
    lambda rng, n: nn.MaxPool2D(2, rng.choice((None, 1)), "same"),
    lambda rng, n: nn.AvgPool1D(2, rng.choice((None, 3)), a_padding(rng, 2)),
    lambda rng, n: nn.AvgPool2D((2, 1), rng.choice((None, 3)), "same"),
    lambda rng, n: nn.GlobalAvgPool(),
    lambda rng, n: nn.GlobalMaxPool(),
    lambda rng, n: nn.ZeroPad(rng.choice((1, (2, 0)))),
    lambda rng, n: nn.Upsample(2),
)


@functools.cache
def python_engine() -> Backend:
    from fastnn.backends import native

    return backends.make("kernels", native.kernels(native.default_instruction_set()))


class Case:
    """One network, and what it learns from."""

    def __init__(self, seed: int, number: int) -> None:
        rng = self.rng = random.Random(f"{seed} {number}")
        self.numbers = np.random.default_rng(rng.getrandbits(32))
        self.loss = nn.LOSSES[rng.choice(list(nn.LOSSES))]
        self.kind = rng.choice(self.loss.targets)
        self.shape = rng.choice(((1,), (3,), (6,), (17,), (40,), (3, 4), (2, 3, 2)))
        self.outputs = (
            rng.choice((2, 3, 9)) if "labels" in self.loss.targets else self.loss.width * rng.choice((1, 2, 3))
        )
        self.layers = self.network()
        self.rows = rng.choice((2, 5, 16, 33, 100))
        self.batch = rng.choice((1, 3, 16, 64, self.rows))
        self.optimizer = rng.choice(list(optim.OPTIMIZERS))
        self.clip = rng.choice(({}, {}, {"clip_norm": 0.5}, {"clip_value": 0.01}))
        self.weighted = rng.random() < 0.3
        self.dtype = rng.choice((np.float32, np.float64))
        self.stored = rng.choice((np.float32, np.float64, np.uint8, np.int64))

    def network(self) -> str:
        """Its repr: every use makes layers anew."""
        while True:
            layers = [nn.Normalize()] * (self.rng.random() < 0.3) + [
                a_layer(self.rng) for _ in range(self.rng.randint(0, 5))
            ]
            try:
                made = Sequential([*layers, nn.Flatten(), nn.Dense(self.outputs)])
                made.build(self.shape, seed=0)
            except ValueError:
                continue
            return repr(list(made.layers))

    @property
    def seen(self) -> set[str]:
        return {kind for kind in vars(nn) if f"{kind}(" in self.layers}

    def __str__(self) -> str:
        return str({name: value for name, value in vars(self).items() if name not in ("rng", "numbers")})

    def model(self, dtype: Any) -> Sequential:
        made = Sequential(eval(self.layers, dict(vars(nn))), dtype=dtype).build(self.shape, seed=1)
        for layer in made.layers:
            if isinstance(layer, nn.Normalize):
                layer.adapt(self.x)
        return stir(made)

    def run(self) -> str:
        whole = self.numbers.integers(0, 9, (self.rows, *self.shape))
        self.x = (whole if np.issubdtype(self.stored, np.integer) else self.numbers.normal(size=whole.shape)).astype(
            self.stored
        )
        self.y = targets(self.loss, self.rows, self.outputs, self.kind, seed=self.rng.getrandbits(16))
        self.weight = self.numbers.uniform(0.1, 2.0, self.rows) if self.weighted else None
        if NATIVE:
            self.bits()
        try:
            self.values()
        except DivergenceError:  # of exp, mostly
            return "the loss is too large for a gradient"
        return "run"

    def bits(self) -> None:
        """Of the engines on the native kernels."""
        from fastnn import _native

        _native.set_least_work(0.0)  # the smallest network gets several threads
        try:
            one, three = self.trained("native", 1), self.trained("native", 3)
        finally:
            _native.set_least_work(48000.0)
        assert one == three, "other bits on three threads"
        assert one == self.trained(python_engine(), None), "other bits on the Python engine"

    def trained(self, backend: str | Backend, threads: int | None) -> list[bytes] | str:
        """The state after two epochs and a prediction, or how it ended."""
        model = self.model(self.dtype)
        trainer = Trainer(model, self.loss, self.optimizer, seed=5, backend=backend, threads=threads, **self.clip)
        settings = dict(epochs=2, batch_size=self.batch, sample_weight=self.weight, verbose=False)
        try:
            trainer.fit(self.x, self.y, **settings)
        except Exception as error:  # a loss that diverges, say: of the same words
            return f"{type(error).__name__}: {error}"
        prediction = model.predict(self.x, backend=backend)
        return [*(buffer.tobytes() for buffer in model.state.buffers), prediction.tobytes()]

    def values(self) -> None:
        """Of the backends, in float64."""
        predictions, gradients = {}, {}
        for name in ("numpy", *COMPARED):
            model = self.model(np.float64)
            predictions[name] = model.predict(self.x, backend=name)
            gradients[name] = gradient(model, self.x, self.y, self.loss, name, sample_weight=self.weight)
        for name in COMPARED:
            close("predictions", {"": predictions[name]}, {"": predictions["numpy"]})
            close("the gradient", gradients[name], gradients["numpy"])


def close(what: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Relative to the largest value of all: a bias before BatchNorm has a gradient of rounding alone, and
    of less than 1e-5, of rows whose loss is next to nothing, a gradient is what is left of terms around 1."""
    size = max(float(np.abs(values).max()) for values in expected.values())
    for name, values in expected.items():
        worst = float(np.abs(found[name] - values).max())
        assert worst <= TOLERANCE * max(size, 1e-5), f"{what} {name} differs by {worst:g}, the largest being {size:g}"


if __name__ == "__main__":
    sys.exit(fuzzing.main(Case, "Random networks on every backend.", cases=1000))
