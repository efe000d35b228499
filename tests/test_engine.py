"""Whole training steps: backends against each other, a network written out, computation by hand, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from common import BACKENDS, ENGINES, OTHERS, VECTORISED, build, features, gradient, parameters, stir, targets

from fastnn import Sequential, Trainer, backends, engine, nn, optim
from fastnn.formulas.losses import LOSSES
from fastnn.optim import OPTIMIZERS

STEPS = 20
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-10}


def fit(model, X, y, loss, optimizer="adam", *, backend="numpy", epochs=1, **settings):
    """A quiet fit without shuffling."""
    trainer = {key: settings.pop(key) for key in ("clip_norm", "clip_value", "seed", "schedule") if key in settings}
    settings = {"batch_size": "full", "shuffle": False, "verbose": False, **settings}
    trainer = Trainer(model, loss, optimizer, backend=backend, **{"seed": 0, **trainer})
    trainer.fit(X, y, epochs=epochs, **settings)
    return trainer


def agree(left: Sequential, right: Sequential, rtol: float) -> None:
    """Each tensor within rtol of its own largest value."""
    for name, expected in left.state.views.items():
        size = np.abs(expected).max()
        np.testing.assert_allclose(right.state.views[name], expected, rtol=rtol, atol=rtol * size, err_msg=name)


# Backends against numpy ------------------------------------------------------------------------------------

MODELS = {
    "dense": (lambda: [nn.Dense(7, "tanh"), nn.Dense(3)], "cross_entropy"),
    "norms": (
        # no bias below BatchNorm: its gradient is 0, and adaptive optimizers make whole steps of its rounding
        lambda: [
            nn.Normalize(),
            nn.Dense(9, bias=False),
            nn.BatchNorm(),
            nn.Activation("silu"),
            nn.LayerNorm(),
            nn.Dense(2),
        ],
        "huber",
    ),
    "random": (
        lambda: [nn.Dense(9, "rrelu"), nn.Dropout(0.3), nn.Dense(8, nn.Maxout(3)), nn.Dropout(0.5), nn.Dense(3)],
        "hinge",
    ),
    "learned": (lambda: [nn.Dense(8, "prelu"), nn.Dense(6), nn.Softmax(), nn.Dense(2, "exponential")], "poisson"),
    "sigmoid": (lambda: [nn.Dense(17, "gelu"), nn.Dense(1, "sigmoid", bias=False)], "binary_cross_entropy"),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", OTHERS)
def test_backends_agree_after_20_steps(backend, name, optimizer, dtype):
    layers, loss = MODELS[name]
    X = features(37, 5).astype(dtype)
    models = [stir(Sequential(layers(), dtype=dtype).build(5, seed=3)) for _ in range(2)]
    y = targets(LOSSES[loss], 37, models[0].plan.outputs)
    step = OPTIMIZERS[optimizer]
    chosen = step(lr=step().lr, l1=1e-4, l2=1e-3, decay=1e-2)
    for model, engine_ in zip(models, ("numpy", backend), strict=True):
        fit(model, X, y, loss, chosen, backend=engine_, batch_size=8, epochs=STEPS // 5, shuffle=True, clip_norm=5.0)
    assert models[1].state.step == STEPS
    agree(*models, TOLERANCE[dtype])
    np.testing.assert_allclose(
        models[1].predict(X, backend=backend),
        models[0].predict(X, backend="numpy"),
        rtol=10 * TOLERANCE[dtype],
        atol=10 * TOLERANCE[dtype],
    )


@pytest.mark.parametrize("activation", [*nn.ACTIVATIONS, "softmax", "maxout", "prelu", "rrelu"])
@pytest.mark.parametrize("backend", OTHERS)
def test_backends_agree_on_every_activation(backend, activation):
    models = [build(nn.Dense(6, activation), nn.Dense(2)) for _ in range(2)]
    X, y = features(19), targets(LOSSES["mse"], 19, 2)
    for model, chosen in zip(models, ("numpy", backend), strict=True):
        fit(model, X, y, "mse", optim.SGD(0.05), backend=chosen, epochs=5, batch_size=8)
    agree(*models, TOLERANCE[np.float64])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", OTHERS)
def test_backends_agree_on_every_loss(backend, loss):
    outputs = 3 * LOSSES[loss].width
    models = [build(nn.Dense(6, "tanh"), nn.Dense(outputs)) for _ in range(2)]
    X, y, weight = features(19), targets(LOSSES[loss], 19, outputs), np.linspace(0, 2, 19)
    for model, chosen in zip(models, ("numpy", backend), strict=True):
        fit(model, X, y, loss, optim.SGD(0.05), backend=chosen, epochs=5, batch_size=8, sample_weight=weight)
    agree(*models, TOLERANCE[np.float64])
    scores = [
        model.evaluate(X, y, sample_weight=weight, backend=chosen)["loss"]
        for model, chosen in zip(models, ("numpy", backend), strict=True)
    ]
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_are_cast_as_they_are_gathered(backend, dtype):
    X = np.arange(24).reshape(8, 3).astype(dtype)
    out = []
    for x in (X, X.astype(np.float32)):
        model = build(nn.Dense(2, "tanh"), dtype=np.float32)
        fit(model, x, features(8, 2), "mse", optim.SGD(0.001), batch_size=3, backend=backend)
        out.append(parameters(model))
    for name, expected in out[1].items():
        np.testing.assert_array_equal(out[0][name], expected)


# A network written out -----------------------------------------------------------------------------------------


def two_layers_by_hand(X, y, w1, b1, w2, b2, lr, beta, batch, epochs):
    """x -> tanh -> softmax, cross-entropy, momentum: every line from the textbook, nothing from the package."""
    values = [w1, b1, w2, b2]
    velocity = [np.zeros_like(value) for value in values]
    losses = []
    for _ in range(epochs):
        for start in range(0, len(X), batch):
            x, labels = X[start : start + batch], y[start : start + batch]
            h = np.tanh(x @ values[0] + values[1])
            z = h @ values[2] + values[3]
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            losses.append(-np.log(p[np.arange(len(x)), labels]).mean())
            dz = (p - np.eye(p.shape[1])[labels]) / len(x)
            dh = dz @ values[2].T * (1 - h**2)
            gradients = [x.T @ dh, dh.sum(0), h.T @ dz, dz.sum(0)]
            for i, g in enumerate(gradients):
                velocity[i] = beta * velocity[i] + g
                values[i] = values[i] - lr * velocity[i]
    return values, losses


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 4, 10, 23])
def test_equals_a_network_written_out(backend, batch):
    """23 rows: batches of 4 and 10 end with a short one of 3."""
    rows = 11 if backend == "python" else 23
    X, y = features(rows, 5), np.arange(rows) % 3
    model = build(nn.Dense(7, "tanh"), nn.Dense(3), inputs=5)
    start = [model.state.views[name].copy() for name in ("0.weight", "0.bias", "1.weight", "1.bias")]
    expected, losses = two_layers_by_hand(X, y, *start, lr=0.1, beta=0.9, batch=batch, epochs=3)
    trainer = fit(model, X, y, "cross_entropy", optim.Momentum(0.1), batch_size=batch, epochs=3, backend=backend)
    for value, name in zip(expected, ("0.weight", "0.bias", "1.weight", "1.bias"), strict=True):
        np.testing.assert_allclose(model.state.views[name], value, rtol=1e-10, atol=1e-12)
    steps = -(-rows // batch)
    for epoch in range(3):
        sizes = np.minimum(batch, rows - batch * np.arange(steps))
        mean = np.average(losses[epoch * steps : (epoch + 1) * steps], weights=sizes)
        assert trainer.history["loss"][epoch] == pytest.approx(mean, rel=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_of_the_rows_decides_the_batches(backend):
    """train_steps with order [3, 1, 1, 0, 2] and batch 2 is descent on rows 3 1, then 1 0, then 2."""
    X, y = features(4), features(4, 1, seed=5)
    order = np.array([3, 1, 1, 0, 2])
    model, expected = build(nn.Dense(1)), build(nn.Dense(1))
    objective = engine.Objective(LOSSES["mse"], optim.SGD())
    run = backends.load(backend).train_steps
    losses = run(model.plan, model.state, objective, engine.Batches(X, y, None, order, 2), np.array([0.1, 0.2, 0.3]))
    w, b = expected.layers[0].weight.copy(), expected.layers[0].bias.copy()
    for rows, lr, loss in zip(([3, 1], [1, 0], [2]), (0.1, 0.2, 0.3), losses, strict=True):
        error = X[rows] @ w + b - y[rows]
        assert loss == pytest.approx((error**2).mean(), rel=1e-12)
        w, b = w - lr * 2 * X[rows].T @ error / len(rows), b - lr * 2 * error.mean(axis=0)
    np.testing.assert_allclose(model.layers[0].weight, w, rtol=1e-11)
    np.testing.assert_allclose(model.layers[0].bias, b, rtol=1e-11)


# Fused last activations ------------------------------------------------------------------------------------

LINKED = [loss for loss in LOSSES.values() if loss.link]


@pytest.mark.parametrize("separate", [False, True], ids=["Dense(activation)", "Activation"])
@pytest.mark.parametrize("loss", LINKED, ids=str)
@pytest.mark.parametrize("backend", VECTORISED)
def test_a_loss_fuses_its_own_activation(backend, loss, separate):
    """Trained with its link as last activation, a model ends with the very bits of one that ends in logits."""
    end = [nn.Dense(3), nn.Activation(loss.link)] if separate else [nn.Dense(3, loss.link)]
    linked, logits = build(nn.Dense(5, "tanh"), *end), build(nn.Dense(5, "tanh"), nn.Dense(3))
    X, y = features(20), targets(loss, 20, 3)
    for model in (linked, logits):
        fit(model, X, y, loss, epochs=4, batch_size=8, backend=backend)
    for name, value in logits.state.views.items():
        np.testing.assert_array_equal(linked.state.views[name], value)
    z, a = logits.predict(X, backend=backend), linked.predict(X, backend=backend)
    expected = {"softmax": np.exp(z) / np.exp(z).sum(1, keepdims=True), "sigmoid": 1 / (1 + np.exp(-z))}
    np.testing.assert_allclose(a, expected.get(loss.link, np.exp(z)), rtol=1e-12)
    left, right = (model.evaluate(X, y, backend=backend)["loss"] for model in (linked, logits))
    assert left == right


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize(("loss", "y"), [("cross_entropy", [1]), ("binary_cross_entropy", [[1.0, 0.0]])])
def test_saturated_logits_still_learn(backend, loss, y):
    """softmax or sigmoid of -1000 is 0 in any float: the gradient must come from the logits."""
    link = LOSSES[loss].link
    model = Sequential([nn.Dense(2, link)]).build(1, seed=0)
    model.layers[0].weight[...] = [[1000.0, -1000.0]] if link == "softmax" else [[-1000.0, 1000.0]]
    taken = gradient(model, [[1.0]], y, loss, backend)["0.weight"]
    scale = 1.0 if link == "softmax" else 0.5  # the mean over two outputs
    np.testing.assert_allclose(taken, scale * np.array([[1.0, -1.0]]) * (1 if link == "softmax" else -1), atol=1e-4)


# Clipping, penalties, weights ----------------------------------------------------------------------------------


def _small() -> tuple[Sequential, np.ndarray, np.ndarray]:
    return build(nn.Dense(4, "tanh"), nn.Dense(2)), features(9), targets(LOSSES["mse"], 9, 2)


def _norm(gradients: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum((g**2).sum() for g in gradients.values())))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fraction", [0.1, 0.999, 1.001, 10.0])
def test_clip_norm_bounds_the_global_norm(backend, fraction):
    model, X, y = _small()
    free = gradient(model, X, y, "mse", backend)
    clipped = gradient(model, X, y, "mse", backend, clip_norm=fraction * _norm(free))
    for name, g in free.items():
        np.testing.assert_allclose(clipped[name], min(fraction, 1.0) * g, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clip_value_bounds_each_entry(backend):
    model, X, y = _small()
    free = gradient(model, X, y, "mse", backend)
    bound = float(np.median(np.abs(free["0.weight"])))
    clipped = gradient(model, X, y, "mse", backend, clip_value=bound)
    for name, g in free.items():
        np.testing.assert_allclose(clipped[name], np.clip(g, -bound, bound), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_clips_norm_first(backend):
    model, X, y = _small()
    free = gradient(model, X, y, "mse", backend)
    half, bound = 0.5 * _norm(free), 0.3 * float(np.abs(free["1.weight"]).max())
    clipped = gradient(model, X, y, "mse", backend, clip_norm=half, clip_value=bound)
    np.testing.assert_allclose(clipped["1.weight"], np.clip(0.5 * free["1.weight"], -bound, bound), rtol=1e-9)


PENALTIES = {
    "l1": lambda lr, strength, w: lr * strength * np.sign(w),
    "l2": lambda lr, strength, w: lr * strength * w,
    "decay": lambda lr, strength, w: lr * strength * w,
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_of_the_optimizer(backend, name):
    """One step of plain descent: g + penalty of w. Biases, slopes and normalisation stay free of it."""
    model = build(nn.Dense(4, "prelu"), nn.BatchNorm(), nn.Dense(3), nn.LayerNorm(), nn.Dense(2))
    X, y = features(9), targets(LOSSES["mse"], 9, 2)
    lr, strength = 0.5, 0.3
    free = gradient(model, X, y, "mse", backend, optimizer=optim.SGD(lr))
    held = gradient(model, X, y, "mse", backend, optimizer=optim.SGD(lr, **{name: strength}))
    penalised = {"0.weight", "2.weight", "4.weight"}
    for tensor, taken in free.items():
        w = model.state.views[tensor]
        extra = PENALTIES[name](lr, strength, w) if tensor in penalised else 0.0
        np.testing.assert_allclose(held[tensor], taken + extra, rtol=1e-9, atol=1e-13, err_msg=tensor)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PENALTIES)
def test_a_layer_sets_its_own_penalty(backend, name):
    """Its own beside the optimizer's for the others; 0 switches the optimizer's off."""
    plain = build(nn.Dense(4), nn.Dense(4), nn.Dense(2))
    own = build(nn.Dense(4, **{name: 0.2}), nn.Dense(4, **{name: 0.0}), nn.Dense(2))
    X, y, lr = features(9), targets(LOSSES["mse"], 9, 2), 0.5
    free = gradient(plain, X, y, "mse", backend, optimizer=optim.SGD(lr))
    held = gradient(own, X, y, "mse", backend, optimizer=optim.SGD(lr, **{name: 0.7}))
    for layer, strength in enumerate((0.2, 0.0, 0.7)):
        tensor = f"{layer}.weight"
        w = own.state.views[tensor]
        np.testing.assert_allclose(
            held[tensor], free[tensor] + PENALTIES[name](lr, strength, w), rtol=1e-9, atol=1e-13, err_msg=tensor
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_clipping_comes_before_the_penalty(backend):
    model, X, y = _small()
    free = gradient(model, X, y, "mse", backend)
    held = gradient(model, X, y, "mse", backend, optimizer=optim.SGD(1.0, l2=0.5), clip_norm=1e-3 * _norm(free))
    w = model.state.views["0.weight"]
    np.testing.assert_allclose(held["0.weight"], 1e-3 * free["0.weight"] + 0.5 * w, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_decay_goes_past_the_moments_and_l2_through_them(backend):
    """The first step of Adam is lr g / |g| whatever the size of g: l2 drowns in it, decoupled decay does not."""
    model, X, y = _small()
    w = model.state.views["0.weight"].copy()
    lr = 0.01
    free = gradient(model, X, y, "mse", backend, optimizer=optim.Adam(lr))["0.weight"]
    decayed = gradient(model, X, y, "mse", backend, optimizer=optim.Adam(lr, decay=0.5))["0.weight"]
    coupled = gradient(model, X, y, "mse", backend, optimizer=optim.Adam(lr, l2=1e-6))["0.weight"]
    np.testing.assert_allclose(decayed, free + lr * 0.5 * w, rtol=1e-9)
    np.testing.assert_allclose(coupled, free, rtol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_sample_weight_is_a_number_of_copies(backend, loss):
    outputs = 3 * LOSSES[loss].width
    model = build(nn.Dense(4, "tanh"), nn.LayerNorm(), nn.Dense(outputs))
    X, y = features(6), targets(LOSSES[loss], 6, outputs)
    copies = np.array([0, 3, 1, 2, 0, 1])
    weighted = gradient(model, X, y, loss, backend, sample_weight=copies)
    repeated = gradient(model, np.repeat(X, copies, axis=0), np.repeat(y, copies, axis=0), loss, backend)
    for name, g in repeated.items():
        np.testing.assert_allclose(weighted[name], g, rtol=1e-9, atol=1e-13, err_msg=name)
    left = model.evaluate(X, y, sample_weight=copies, backend=backend)
    right = model.evaluate(np.repeat(X, copies, axis=0), np.repeat(y, copies, axis=0), backend=backend)
    assert left["loss"] == pytest.approx(right["loss"], rel=1e-12)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_batch_without_weight_is_no_step(backend):
    """Rows 0 to 3 weigh nothing: there is one step, and the epoch's loss is that of the others."""
    model, X, y = _small()
    X, y = X[:8], y[:8]
    only = gradient(model, X[4:], y[4:], "mse", backend)
    alone = model.evaluate(X[4:], y[4:], backend=backend)["loss"]
    before, taken = parameters(model), model.state.step
    weight = np.repeat([0.0, 1.0], 4)
    trainer = fit(model, X, y, "mse", optim.SGD(1.0), batch_size=4, sample_weight=weight, backend=backend)
    for name, g in only.items():
        np.testing.assert_allclose(before[name] - model.state.views[name], g, rtol=1e-12, atol=1e-15)
    assert trainer.history["loss"] == [pytest.approx(alone)]
    assert model.state.step == taken + 1


# Random layers ---------------------------------------------------------------------------------------------


def kept(backend: str, *, seed: int = 0, step: int = 0, below: tuple[nn.Layer, ...] = (), rate: float = 0.5):
    """Which of 64 values a Dropout layer keeps: with an input of ones, d loss / d w is 0 where it drops."""
    model = Sequential([*below, nn.Dropout(rate), nn.Dense(1, init=0.01)], dtype=np.float64).build(64, seed=0)
    for layer in below:
        layer.adapted = True  # a Normalize that changes nothing
    for _ in range(step + 1):
        taken = gradient(model, np.ones((1, 64)), [[9.0]], "mse", backend, seed=seed)
    return taken[f"{len(below) + 1}.weight"][:, 0]


@pytest.mark.parametrize("backend", VECTORISED)
def test_dropout_depends_on_seed_step_and_layer(backend):
    first = kept(backend)
    np.testing.assert_array_equal(kept(backend), first)
    np.testing.assert_array_equal(kept("numpy") != 0, first != 0)
    assert 10 < (first != 0).sum() < 54  # 64 coins: 6 sigma around 32 is 8 to 56
    for other in ({"seed": 1}, {"seed": 1 << 40}, {"step": 1}, {"below": (nn.Normalize(),)}):
        assert ((kept(backend, **other) != 0) != (first != 0)).any(), other


@pytest.mark.parametrize("backend", VECTORISED)
def test_dropout_keeps_the_mean(backend):
    """Each kept value is divided by 1 - rate: d loss / d w of a kept one is 2 (out - 9) / (1 - rate)."""
    taken = kept(backend, rate=0.75)
    values = np.unique(taken.round(12))
    assert len(values) == 2
    out = 0.01 * (taken != 0).sum() / 0.25
    np.testing.assert_allclose(values[values != 0], 2 * (out - 9) / 0.25, rtol=1e-9)


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("layer", [nn.Dropout, nn.RReLU])
def test_nothing_is_random_in_inference(backend, layer):
    model = build(nn.Dense(16), layer(), nn.Dense(2))
    X = features(30)
    expected = X @ model.layers[0].weight + model.layers[0].bias
    if layer is nn.RReLU:
        expected = np.where(expected > 0, expected, (1 / 8 + 1 / 3) / 2 * expected)
    expected = expected @ model.layers[2].weight + model.layers[2].bias
    np.testing.assert_allclose(model.predict(X, backend=backend), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X, backend=backend), model.predict(X, backend=backend))


@pytest.mark.parametrize("backend", VECTORISED)
def test_rrelu_draws_slopes_between_its_bounds(backend):
    """With z = -1 and weights of one, d loss / d w of each unit's next layer shows its slope."""
    model = Sequential([nn.RReLU(0.2, 0.4), nn.Dense(1, init=0.0)], dtype=np.float64).build(400, seed=0)
    taken = gradient(model, -np.ones((1, 400)), [[0.5]], "mse", backend)["1.weight"][:, 0]  # 2 (0 - 0.5) (-slope)
    assert taken.min() >= 0.2
    assert taken.max() <= 0.4
    assert abs(taken.mean() - 0.3) < 6 * 0.2 / np.sqrt(12 * 400)
    assert len(np.unique(taken)) == 400


# Prediction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("rows", [1, 2, engine.PREDICT_ROWS - 1, engine.PREDICT_ROWS, 2 * engine.PREDICT_ROWS + 3])
def test_a_prediction_does_not_depend_on_its_batch(backend, rows):
    """Row by row, in one call and over the edges of the engine's chunks; BLAS may sum in another order."""
    model = build(
        nn.Dense(9, "relu"), nn.BatchNorm(), nn.Dense(7, nn.Maxout(2)), nn.LayerNorm(), nn.Dense(3, "softmax")
    )
    X = features(rows)
    whole = model.predict(X, backend=backend)
    assert whole.shape == (rows, 3)
    picked = sorted({0, rows // 2, rows - 1, min(rows - 1, engine.PREDICT_ROWS)})
    single = np.concatenate([model.predict(X[i : i + 1], backend=backend) for i in picked])
    np.testing.assert_allclose(whole[picked], single, rtol=1e-12, atol=1e-14)
    if backend == "native":  # promised there: the same bits
        np.testing.assert_array_equal(whole[picked], single)


@pytest.mark.parametrize("backend", VECTORISED)
def test_batch_norm_predicts_with_running_averages(backend):
    model = build(nn.BatchNorm(epsilon=0.01), nn.Dense(1))
    norm, dense = model.layers
    norm.running_mean[...], norm.running_var[...] = [1.0, 2.0, 3.0], [4.0, 0.25, 1.0]
    X = features(5)
    hat = (X - norm.running_mean) / np.sqrt(norm.running_var + 0.01) * norm.gamma + norm.beta
    np.testing.assert_allclose(model.predict(X, backend=backend), hat @ dense.weight + dense.bias, rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [2, 6])
def test_batch_norm_averages_while_it_trains(backend, rows):
    """running <- 0.8 running + 0.2 batch, the variance unbiased."""
    model = build(nn.BatchNorm(momentum=0.8), nn.Dense(1))
    X = features(rows)
    fit(model, X, features(rows, 1), "mse", optim.SGD(0.0), epochs=2, backend=backend)
    mean, var = X.mean(axis=0), X.var(axis=0, ddof=1)
    kept_ = 0.8**2
    np.testing.assert_allclose(model.layers[0].running_mean, (1 - kept_) * mean, rtol=1e-10)
    np.testing.assert_allclose(model.layers[0].running_var, kept_ + (1 - kept_) * var, rtol=1e-10)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_norm_learns_no_average_from_one_row(backend, dtype):
    """Seven rows in batches of three: the one left over, and a batch size of 1, leave the running averages alone."""
    X, y = features(7), features(7, 1, seed=5)
    with_last, without = (build(nn.BatchNorm(), nn.Dense(1), dtype=dtype) for _ in range(2))
    fit(with_last, X, y, "mse", optim.SGD(0.0), batch_size=3, backend=backend)
    fit(without, X[:6], y[:6], "mse", optim.SGD(0.0), batch_size=3, backend=backend)
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(getattr(with_last.layers[0], name), getattr(without.layers[0], name))
    before = parameters(without)
    fit(without, X, y, "mse", optim.SGD(0.0), batch_size=1, backend=backend)
    for name, value in before.items():
        np.testing.assert_array_equal(without.state.views[name], value, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_norm_makes_beta_of_one_row(backend):
    model = build(nn.BatchNorm(), nn.Dense(1))
    norm, dense = model.layers
    expected = float(((norm.beta @ dense.weight + dense.bias) ** 2).item())  # beside a target of 0
    trainer = fit(model, features(1), [[0.0]], "mse", optim.SGD(0.0), backend=backend)
    assert trainer.history["loss"] == pytest.approx([expected], rel=1e-12)


# PyTorch -------------------------------------------------------------------------------------------------------

TORCH_OPTIMIZERS = {
    "sgd": lambda t, p: t.optim.SGD(p, lr=0.01),
    "momentum": lambda t, p: t.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda t, p: t.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adagrad": lambda t, p: t.optim.Adagrad(p, lr=0.01, eps=1e-10),
    "adadelta": lambda t, p: t.optim.Adadelta(p, lr=1.0, rho=0.9, eps=1e-6),
    "rmsprop": lambda t, p: t.optim.RMSprop(p, lr=1e-3, alpha=0.9, eps=1e-8),
    "adam": lambda t, p: t.optim.Adam(p, lr=1e-3),
    "adamw": lambda t, p: t.optim.AdamW(
        [{"params": [w for w in p if w.ndim == 2]}, {"params": [b for b in p if b.ndim == 1], "weight_decay": 0.0}],
        lr=1e-3,
        weight_decay=0.01,
    ),
    "nadam": lambda t, p: t.optim.NAdam(p, lr=2e-3, momentum_decay=4e-3),
}
TORCH_LOSSES = {
    "mse": lambda t: t.nn.MSELoss(),
    "half_mse": lambda t: lambda z, y: 0.5 * t.nn.functional.mse_loss(z, y),
    "mae": lambda t: t.nn.L1Loss(),
    "huber": lambda t: t.nn.HuberLoss(delta=1.0),
    "poisson": lambda t: t.nn.PoissonNLLLoss(log_input=True, full=False),
    "binary_cross_entropy": lambda t: t.nn.BCEWithLogitsLoss(),
    "cross_entropy": lambda t: t.nn.CrossEntropyLoss(),
    # Crammer & Singer's maximum over the rivals; torch's own MultiMarginLoss sums over them.
    "hinge": lambda t: (
        lambda z, y: (z - z.gather(1, y[:, None]) + 1 - t.nn.functional.one_hot(y, z.shape[1])).amax(1).mean()
    ),
    "log_cosh": lambda t: lambda z, y: t.log(t.cosh(z - y)).mean(),
    "quantile": lambda t: lambda z, y: torch_quantile(t, z, y, LOSSES["quantile"].parameter),
    "expectile": lambda t: (
        lambda z, y: (
            t.where(z > y, 1 - LOSSES["expectile"].parameter, LOSSES["expectile"].parameter) * (z - y) ** 2
        ).mean()
    ),
    "gamma": lambda t: lambda z, y: (z + y * t.exp(-z)).mean(),
    "tweedie": lambda t: lambda z, y: torch_tweedie(t, z, y, LOSSES["tweedie"].parameter),
    "binary_focal": lambda t: lambda z, y: torch_focal(t, z, y, LOSSES["binary_focal"].parameter),
    "focal": lambda t: (
        lambda z, y: t.nn.functional.nll_loss(
            t.log_softmax(z, 1) * (1 - t.softmax(z, 1)) ** LOSSES["focal"].parameter, y
        )
    ),
    "gaussian": lambda t: lambda z, y: t.nn.GaussianNLLLoss()(z[:, : y.shape[1]], y, z[:, y.shape[1] :].exp()),
    "quantiles": lambda t: (
        lambda z, y: (
            sum(
                torch_quantile(t, part, y, level)
                for part, level in zip(z.split(y.shape[1], 1), LOSSES["quantiles"].levels, strict=True)
            )
            / len(LOSSES["quantiles"].levels)
        )
    ),
}


def torch_quantile(torch, z, y, level):
    return torch.maximum(level * (y - z), (level - 1) * (y - z)).mean()


def torch_tweedie(torch, z, y, power):
    return (torch.exp((2 - power) * z) / (2 - power) - y * torch.exp((1 - power) * z) / (1 - power)).mean()


def torch_focal(torch, z, y, gamma):
    p = torch.sigmoid(z)
    cross = torch.nn.functional.binary_cross_entropy
    hits, misses = (cross(p, torch.full_like(p, right), reduction="none") for right in (1.0, 0.0))
    return (y * (1 - p) ** gamma * hits + (1 - y) * p**gamma * misses).mean()


def torch_twin(torch, model: Sequential):
    """The same network with the same numbers in PyTorch, in float64."""
    modules = []
    for layer in model.layers:
        if isinstance(layer, nn.Dense):
            linear = torch.nn.Linear(*layer.weight.shape, dtype=torch.float64)
            linear.weight.data = torch.from_numpy(layer.weight.T.copy())
            linear.bias.data = torch.from_numpy(layer.bias.copy())
            modules += [linear, torch.nn.Tanh()] if layer.activation.name == "tanh" else [linear]
        else:
            kind = torch.nn.BatchNorm1d if isinstance(layer, nn.BatchNorm) else torch.nn.LayerNorm
            norm = kind(len(layer.gamma), dtype=torch.float64)
            norm.weight.data, norm.bias.data = torch.from_numpy(layer.gamma.copy()), torch.from_numpy(layer.beta.copy())
            modules.append(norm)
    return torch.nn.Sequential(*modules)


def torch_fit(torch, twin, optimizer, loss, X, y, batch, steps):
    data = torch.from_numpy(X), torch.from_numpy(y)
    for step in range(steps):
        part = slice(step * batch % len(X), step * batch % len(X) + batch)
        optimizer.zero_grad()
        loss(twin(data[0][part]), data[1][part]).backward()
        optimizer.step()


def same_as_torch(model: Sequential, twin, rtol: float = 1e-9) -> None:
    for layer, module in zip(model.layers, [m for m in twin if hasattr(m, "weight")], strict=True):
        pairs = (("weight", "bias") if isinstance(layer, nn.Dense) else ("gamma", "beta")), ("weight", "bias")
        for ours, theirs in zip(*pairs, strict=True):
            value = getattr(module, theirs).detach().numpy()
            np.testing.assert_allclose(getattr(layer, ours), value.T, rtol=rtol, atol=1e-12)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("name", [*OPTIMIZERS, "amsgrad"])
@pytest.mark.parametrize("backend", ENGINES)
def test_ten_steps_as_torch_optimizers_take_them(torch, backend, name):
    model = build(nn.Dense(6, "tanh"), nn.Dense(3))
    twin = torch_twin(torch, model)
    X, y = features(20), targets(LOSSES["cross_entropy"], 20, 3)
    if name == "amsgrad":
        ours, theirs = optim.Adam(amsgrad=True), torch.optim.Adam(twin.parameters(), amsgrad=True)
    else:
        ours, theirs = OPTIMIZERS[name](), TORCH_OPTIMIZERS[name](torch, list(twin.parameters()))
    torch_fit(torch, twin, theirs, torch.nn.CrossEntropyLoss(), X, y, batch=4, steps=10)
    fit(model, X, y, "cross_entropy", ours, batch_size=4, epochs=2, backend=backend)
    same_as_torch(model, twin, rtol=1e-7 if name == "nadam" else 1e-9)  # torch keeps NAdam's product in float32


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("backend", ENGINES)
def test_ten_steps_on_torch_losses(torch, backend, name):
    outputs = 3 * LOSSES[name].width
    model = build(nn.Dense(6, "tanh"), nn.Dense(outputs))
    twin = torch_twin(torch, model)
    X, y = features(20), targets(LOSSES[name], 20, outputs)
    torch_fit(torch, twin, TORCH_OPTIMIZERS["sgd"](torch, twin.parameters()), TORCH_LOSSES[name](torch), X, y, 4, 10)
    fit(model, X, y, name, optim.SGD(0.01), batch_size=4, epochs=2, backend=backend)
    same_as_torch(model, twin)


@pytest.mark.parametrize("kind", ["labels", "values"])
@pytest.mark.parametrize("backend", ENGINES)
def test_label_smoothing_as_torch_has_it(torch, backend, kind):
    model = build(nn.Dense(6, "tanh"), nn.Dense(3))
    twin = torch_twin(torch, model)
    X, y = features(20), targets(LOSSES["cross_entropy"], 20, 3, kind)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
    torch_fit(torch, twin, TORCH_OPTIMIZERS["sgd"](torch, twin.parameters()), loss, X, y, 4, 10)
    fit(model, X, y, nn.CrossEntropy(label_smoothing=0.2), optim.SGD(0.01), batch_size=4, epochs=2, backend=backend)
    same_as_torch(model, twin)


@pytest.mark.parametrize("backend", ENGINES)
def test_huber_delta_as_torch_has_it(torch, backend):
    model = build(nn.Dense(2))
    twin = torch_twin(torch, model)
    X, y = features(20), targets(LOSSES["huber"], 20, 2)
    loss = torch.nn.HuberLoss(delta=0.4)
    torch_fit(torch, twin, TORCH_OPTIMIZERS["sgd"](torch, twin.parameters()), loss, X, y, 4, 10)
    fit(model, X, y, nn.Huber(0.4), optim.SGD(0.01), batch_size=4, epochs=2, backend=backend)
    same_as_torch(model, twin)


@pytest.mark.parametrize("backend", ENGINES)
def test_normalisation_as_torch_has_it(torch, backend):
    model = build(nn.Dense(6, "tanh"), nn.BatchNorm(), nn.Dense(5), nn.LayerNorm(), nn.Dense(2))
    twin = torch_twin(torch, model)
    X, y = features(20), features(20, 2, seed=8)
    torch_fit(torch, twin, TORCH_OPTIMIZERS["adam"](torch, twin.parameters()), torch.nn.MSELoss(), X, y, 4, 10)
    fit(model, X, y, "mse", batch_size=4, epochs=2, backend=backend)
    same_as_torch(model, twin, rtol=1e-7)  # Adam divides gradients that BatchNorm makes nearly 0
    norm = next(module for module in twin if isinstance(module, torch.nn.BatchNorm1d))
    np.testing.assert_allclose(model.layers[1].running_mean, norm.running_mean.numpy(), rtol=1e-7)
    np.testing.assert_allclose(model.layers[1].running_var, norm.running_var.numpy(), rtol=1e-7)
    twin.eval()
    expected = twin(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(model.predict(X, backend=backend), expected, rtol=1e-7, atol=1e-9)
