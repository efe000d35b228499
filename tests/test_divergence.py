"""What a DivergenceError says: which step, which tensor or loss, what helps. The same on every backend."""

from __future__ import annotations

import numpy as np
import pytest
from common import ENGINES

from fastnn import DivergenceError, Sequential, Trainer, nn, optim
from fastnn.training import run as run_module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3))
Y = X[:, :1].copy()


def message(backend, layers, *, x=X, y=Y, loss="mae", optimizer="adam", dtype=np.float32, batch_size=8, epochs=5):
    model = Sequential(layers, dtype=dtype).build(3, seed=0)
    trainer = Trainer(model, loss, optimizer, seed=0, backend=backend)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        trainer.fit(x, y, epochs=epochs, batch_size=batch_size, shuffle=False, verbose=False)
    assert all(np.isfinite(buffer).all() for buffer in model.state.buffers)
    return str(caught.value)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_moment_that_overflows_is_named(backend):
    """g = 1e20: Adam's v = 0.001 g^2 is 1e37 after a step, and beyond float32's 3.4e38 after the third (by hand:
    0.999 v + 0.001 g^2 with g^2 = 1e41 is 1e38, 2e38, 3e38, 4e38). The loss stays finite, and so do the parameters."""
    x = np.full((8, 3), 10**20.5)
    said = message(backend, [nn.Dense(1, init=0.0)], x=x, y=np.full((8, 1), -1e30), optimizer=optim.Adam(1e-30))
    assert said.startswith(
        "the moment v of weight of layers[0] (Dense) is NaN or infinite at step 4 with learning rate 1e-30, though the "
        "loss is finite; the model keeps the parameters of step 3"
    )
    assert said.endswith("lower the learning rate, set clip_norm, scale the data, or take dtype='float64'")


@pytest.mark.parametrize("backend", ENGINES)
def test_a_parameter_that_overflows_is_named(backend):
    layers = [nn.Residual([nn.Dense(3, "tanh")]), nn.Dense(1)]
    said = message(backend, layers, x=1e10 * X, optimizer=optim.SGD(1e30))
    assert said.startswith("weight of layers[1] (Dense) is NaN or infinite at step 1 with learning rate 1e+30, though")


@pytest.mark.parametrize("backend", ENGINES)
def test_of_float64_no_wider_type_is_advised(backend):
    said = message(backend, [nn.Dense(1)], x=1e200 * X, optimizer=optim.SGD(1e150), dtype=np.float64)
    assert "is NaN or infinite at step 1" in said
    assert said.endswith("lower the learning rate, set clip_norm, scale the data")


@pytest.mark.parametrize("backend", ENGINES)
def test_the_first_loss_of_all_does_not_depend_on_the_rate(backend):
    said = message(backend, [nn.Dense(1)], x=1e25 * X, loss="mse", optimizer=optim.Adam(0.0))
    assert said.startswith("the loss is inf at step 1 with learning rate 0;")
    assert said.endswith("scale X and y, or take dtype='float64'")


@pytest.mark.parametrize("slice_seconds", [0.0, 10.0])
def test_every_backend_says_the_same(monkeypatch, slice_seconds):
    """Whether a step ends a call or stands within one: native stops there, the others find it by going back."""
    monkeypatch.setattr(run_module, "SLICE_SECONDS", slice_seconds)
    for optimizer, loss in ((optim.SGD(30.0), "mse"), (optim.Momentum(1e8), "mse"), (optim.SGD(1e37), "mae")):
        said = {message(backend, [nn.Dense(4), nn.Dense(1)], loss=loss, optimizer=optimizer) for backend in ENGINES}
        assert len(said) == 1, said
