"""Every gradient against central differences, in float64, through the public `gradient_check`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from common import (
    BACKENDS,
    LAYERS,
    TIMELESS,
    behind,
    build,
    features,
    gradient,
    make_layer,
    parameters,
    targets,
    with_operation,
)

import fastnn
from fastnn import Sequential, backends, nn
from fastnn.formulas.activations import ACTIVATIONS, ELEMENTWISE, ROW_ACTIVATIONS, Activation
from fastnn.formulas.losses import LOSSES

# Rounding: eps / epsilon = 2e-11 over a gradient of about 0.01; truncation: epsilon^2 = 1e-10 times a third derivative.
TOLERANCE = 1e-6
EXACT = [activation for activation in ELEMENTWISE if activation.exact_derivative]
WITH_ALPHA = [
    activation.with_alpha(alpha)
    for activation in ELEMENTWISE
    if activation.alpha_range != (0.0, 0.0)
    for alpha in (0.0, 0.3)
]

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def worst_error(model, backend, loss="mse", kind=None, rows=7, y=None, **settings) -> float:
    slow = backend == "python"
    loss = nn.losses.get(loss)
    X = features(3 if slow else rows, model.plan.inputs)
    y = targets(loss, len(X), model.plan.outputs, kind) if y is None else y[: len(X)]
    errors = fastnn.gradient_check(model, X, y, loss=loss, backend=backend, limit=4 if slow else 40, **settings)
    assert set(errors) == {tensor.name for tensor in model.plan.tensors if tensor.trainable}
    return max(errors.values())


# Activations ---------------------------------------------------------------------------------------------

FORMS = {
    "fused": lambda activation: (nn.Dense(4, activation),),
    "layer": lambda activation: (nn.Dense(4), nn.Activation(activation)),
    "unfused": lambda activation: (nn.Dense(4), nn.LayerNorm(), nn.Activation(activation)),
    "second": lambda activation: (nn.Dense(4, "sigmoid"), nn.Activation(activation)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", [*EXACT, *WITH_ALPHA, *ROW_ACTIVATIONS], ids=str)
def test_activation_between_layers(backend, activation, form):
    model = build(nn.Dense(5, "tanh"), *FORMS[form](activation), nn.Dense(2))
    assert worst_error(model, backend) < TOLERANCE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", [*EXACT, *ROW_ACTIVATIONS], ids=str)
def test_activation_at_the_end(backend, activation, form):
    model = build(nn.Dense(5, "tanh"), *FORMS[form](activation))
    assert worst_error(model, backend) < TOLERANCE


@pytest.mark.parametrize("form", ["fused", "layer"])
@pytest.mark.parametrize("activation", [a for a in ELEMENTWISE if not a.exact_derivative], ids=str)
def test_surrogate_derivative(backend, activation: Activation, form):
    """binary_step learns through the straight-through estimator: dz = da where |z| <= 1, else 0."""
    model = build(*FORMS[form](activation), nn.Dense(2))
    x, y = 2 * features(), targets(LOSSES["mse"], 7, 2)
    first, last = model.layers[0], model.layers[-1]
    z = x @ first.weight + first.bias
    assert (np.abs(z) > 1).any()
    assert (np.abs(z) < 1).any()
    a = (z >= 0).astype(float)
    d_output = 2 * (a @ last.weight + last.bias - y) / y.size
    dz = (d_output @ last.weight.T) * (np.abs(z) <= 1)
    taken = gradient(model, x, y, "mse", backend)
    np.testing.assert_allclose(taken["0.weight"], x.T @ dz, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(taken["0.bias"], dz.sum(axis=0), rtol=1e-9, atol=1e-12)


# Layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TIMELESS, ids=lambda kind: kind.__name__)
def test_layer(backend, kind):
    layer = make_layer(kind)
    if kind in (nn.Flatten, nn.Normalize):
        model = build(layer, nn.Dense(4, "tanh"), nn.Dense(2), nn.Flatten())
    else:
        model = build(nn.Dense(4, "tanh"), *behind(kind), layer, nn.Dense(2), nn.Flatten())
    assert worst_error(model, backend) < TOLERANCE


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind is not nn.Flatten], ids=lambda kind: kind.__name__)
def test_layer_on_the_data(backend, kind):
    """First in the network there is nothing below to send a gradient to."""
    model = build(make_layer(kind), nn.Dense(4, "tanh"), nn.Dense(2), nn.Flatten(), inputs=4)
    assert worst_error(model, backend) < TOLERANCE


def test_normalize_scales_what_it_passes_on(backend):
    model = build(nn.Normalize(), nn.PReLU(), nn.Dense(2))
    model.layers[0].shift[...] = [0.1, -0.2, 0.3]
    model.layers[0].scale[...] = [2.0, 0.5, 3.0]
    assert worst_error(model, backend) < TOLERANCE


# Losses --------------------------------------------------------------------------------------------------

LOSS_CASES = [
    *LOSSES.values(),
    nn.Huber(0.3),
    nn.Huber(5.0),
    nn.CrossEntropy(label_smoothing=0.1),
    nn.BinaryCrossEntropy(label_smoothing=0.1),
]
TARGETS = [(loss, kind) for loss in LOSS_CASES for kind in loss.targets]


def _target_id(value) -> str:
    return f"{value}-{value.parameter:g}" if isinstance(value, nn.losses.Loss) else str(value)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize(("loss", "kind"), TARGETS, ids=_target_id)
def test_loss(backend, loss, kind, weighted):
    model = build(nn.Dense(5, "tanh"), nn.Dense(3 * loss.width))
    weight = np.array([0.0, 2.0, 1.0, 0.5, 3.0, 1.0, 0.0])
    weight = weight[: 3 if backend == "python" else 7] if weighted else None
    assert worst_error(model, backend, loss, kind, sample_weight=weight) < TOLERANCE


@pytest.mark.parametrize("loss", [loss for loss in LOSS_CASES if "values" in loss.targets], ids=_target_id)
def test_loss_of_one_output(backend, loss):
    if loss.link == "softmax":
        pytest.skip("one output has no distribution")
    model = build(nn.Dense(5, "tanh"), nn.Dense(loss.width))
    assert worst_error(model, backend, loss, "values") < TOLERANCE


@pytest.mark.parametrize("loss", [loss for loss in LOSS_CASES if loss.link], ids=_target_id)
@pytest.mark.parametrize("form", FORMS)
def test_loss_after_its_own_activation(backend, loss, form):
    model = build(nn.Dense(5, "tanh"), *FORMS[form](loss.link))
    assert worst_error(model, backend, loss) < TOLERANCE


# Combinations --------------------------------------------------------------------------------------------

COMBINATIONS = {
    "linear": lambda: [nn.Dense(2)],
    "no bias": lambda: [nn.Dense(4, "tanh", bias=False), nn.Dense(2, bias=False)],
    "norm, dense": lambda: [nn.BatchNorm(), nn.Dense(4, "relu"), nn.Dense(2)],
    "dense, norm, activation, dropout": lambda: [
        nn.Dense(6, bias=False),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.Dropout(0.3),
        nn.Dense(2),
    ],
    "dense with gelu, dropout": lambda: [nn.Dense(6, "gelu"), nn.Dropout(0.3), nn.Dense(2)],
    "dropout first": lambda: [nn.Dropout(0.3), nn.Dense(4, "silu"), nn.Dense(2)],
    "dropout twice": lambda: [nn.Dense(6, "mish"), nn.Dropout(0.2), nn.Dropout(0.3), nn.Dense(2)],
    "dropout last": lambda: [nn.Dense(4, "tanh"), nn.Dense(2), nn.Dropout(0.2)],
    "norms in a row": lambda: [nn.Dense(4, "softplus"), nn.LayerNorm(), nn.BatchNorm(), nn.LayerNorm(), nn.Dense(2)],
    "norm last": lambda: [nn.Dense(4, "tanh"), nn.Dense(3), nn.LayerNorm()],
    "softmax inside": lambda: [nn.Dense(4, "elu"), nn.Dense(5), nn.Softmax(), nn.Dense(2)],
    "maxout and prelu": lambda: [
        nn.Dense(6, nn.Maxout(3)),
        nn.BatchNorm(),
        nn.PReLU(),
        nn.Maxout(2),
        nn.Dense(4, "prelu"),
        nn.Dense(2),
    ],
    "rrelu and dropout": lambda: [nn.Dense(6, "rrelu"), nn.Dropout(0.3), nn.Dense(4), nn.RReLU(), nn.Dense(2)],
    "activation on the data": lambda: [nn.Activation("tanh"), nn.Activation("softplus"), nn.Dense(2)],
    "activations in a row": lambda: [
        nn.Dense(4, "gelu"),
        nn.Activation("silu"),
        nn.Activation("tanh"),
        nn.Activation("softplus"),
        nn.Dense(2),
    ],
    "deep": lambda: [*(nn.Dense(4, name) for name in ACTIVATIONS if ACTIVATIONS[name].exact_derivative), nn.Dense(2)],
    "everything": lambda: [
        nn.Normalize(),
        nn.Dense(6, "selu"),
        nn.LayerNorm(),
        nn.Dropout(0.1),
        nn.Dense(4, "maxout"),
        nn.BatchNorm(),
        nn.PReLU(),
        nn.Dense(4, "hard_tanh"),
        nn.Activation("softsign"),
        nn.Dense(4, nn.RReLU(0.1, 0.4)),
        nn.Dense(2),
    ],
}


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_combination(backend, name, loss):
    model = build(*COMBINATIONS[name]())
    assert worst_error(model, backend, loss) < TOLERANCE


def test_flattened_images(backend):
    model = build(nn.Flatten(), nn.Dense(4, "tanh"), nn.Dense(2), inputs=(2, 3))
    X = features(3, 6).reshape(3, 2, 3)
    assert max(fastnn.gradient_check(model, X, [0, 1, 0], loss="cross_entropy", backend=backend).values()) < TOLERANCE


# The check itself ----------------------------------------------------------------------------------------


def test_leaves_the_model_alone(backend):
    model = build(nn.Dense(4, "tanh"), nn.BatchNorm(), nn.Dense(2))
    before, step = parameters(model), model.state.step
    worst_error(model, backend)
    assert model.state.step == step
    for name, view in model.state.views.items():
        np.testing.assert_array_equal(view, before[name])


def test_a_float32_model_is_checked_in_float64(backend):
    model = build(nn.Dense(4, "tanh"), nn.Dense(2), dtype=np.float32)
    assert worst_error(model, backend) < TOLERANCE


def _wrong_weights(kernels):
    def backward(x, w, below, saved, dz, dx, dw, db):
        kernels.ops["dense"].backward(x, w, below, saved, dz, dx, dw, db)
        dw *= 1.01

    return with_operation(kernels, "dense", backward=backward)


def _no_derivative(kernels):
    def backward(x, w, below, saved, dz, dx, dw, db):
        kernels.ops["dense"].backward(x, w, nn.activations.identity, saved, dz, dx, dw, db)

    return with_operation(kernels, "dense", backward=backward)


def _wrong_loss(kernels):
    def loss(loss, z, y, weight, value, dz):
        kernels.loss(loss, z, y, weight, value, dz)
        dz[:, 0] = 0.0

    return replace(kernels, loss=loss)


def _wrong_mean(kernels):
    def backward(x, gamma, mean, inv_std, da, dx, dgamma, dbeta):
        da = da.copy()
        kernels.ops["batch_norm"].backward(x, gamma, mean, inv_std, da, dx, dgamma, dbeta)
        dx[...] = gamma * inv_std * da  # as if mean and variance were constants

    return with_operation(kernels, "batch_norm", backward=backward)


@pytest.mark.parametrize("mistake", [_wrong_weights, _no_derivative, _wrong_loss, _wrong_mean])
def test_finds_a_mistake(backend, mistake):
    right = backends.load(backend)
    wrong = backends.make("wrong", mistake(right.kernels))
    model = build(nn.Dense(4, "tanh"), nn.BatchNorm(), nn.Dense(3, "tanh"), nn.Dense(2))
    assert worst_error(model, right) < TOLERANCE
    assert worst_error(model, wrong) > 1e-3


def test_a_gradient_of_zero_is_no_mistake(backend):
    """BatchNorm takes any bias below it out again; what central differences then see is rounding."""
    model = build(nn.Dense(4), nn.BatchNorm(), nn.Dense(2))
    X, y = features(), targets(LOSSES["mse"], 7, 2)
    assert fastnn.gradient_check(model, X, y, loss="mse", backend=backend)["0.bias"] < TOLERANCE


# Where rounding or curvature is what central differences see -----------------------------------------------------


def sure(weight: float) -> Sequential:
    model = build(nn.Dense(2), inputs=1)
    model.layers[0].weight[...] = [[weight, -weight]]
    return model


@pytest.mark.parametrize("weight", [3.0, 10.0, 15.0, 30.0, 300.0])
def test_a_network_that_is_sure_is_no_mistake(backend, weight):
    """exp(-2 weight) beside 1: from weight = 18 on the loss is 0 and its gradient 1e-16 or less."""
    errors = fastnn.gradient_check(sure(weight), [[1.0]], [0], loss="cross_entropy", backend=backend)
    assert max(errors.values()) <= TOLERANCE
    assert all(type(error) is float for error in errors.values())


def test_a_mistake_in_a_network_that_is_sure_is_found(backend):
    """Sure and wrong: the loss is 60, its gradient (1, -1), which a mistake makes (0, -1)."""
    wrong = backends.make("wrong", _wrong_loss(backends.load(backend).kernels))
    for model, label in ((sure(30.0), 1), (sure(1.0), 0)):
        for name, good in ((backend, True), (wrong, False)):
            errors = fastnn.gradient_check(model, [[1.0]], [label], loss="cross_entropy", backend=name)
            assert (max(errors.values()) <= TOLERANCE) == good


def test_curvature_is_no_mistake(backend):
    """X of 3000 below a tanh: its slope changes within 1e-4 of a weight, of which 1e-5 is a large part."""
    model = build(nn.Dense(16, "tanh"), nn.Dense(1))
    X, y = features(30) * 3000, features(30, 1, seed=2)
    assert max(fastnn.gradient_check(model, X, y, loss="mse", backend=backend).values()) <= TOLERANCE
    wrong = backends.make("wrong", _wrong_weights(backends.load(backend).kernels))
    assert max(fastnn.gradient_check(model, X, y, loss="mse", backend=wrong).values()) > 1e-3


@pytest.mark.parametrize("norm", [nn.BatchNorm, nn.LayerNorm])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_gradient_of_zero_below_a_norm_is_no_mistake(backend, norm, offset):
    """A norm takes out what moves all rows, or all channels, alike; the mean of 1e4 has lost 4 digits more."""
    model = build(nn.Dense(6), norm(), nn.Dense(8, "tanh"), nn.Dense(2))
    model.layers[0].weight[...] = model.layers[0].weight[:, :1]  # all channels alike
    X, y = features(30) + offset, targets(LOSSES["mse"], 30, 2)
    assert max(fastnn.gradient_check(model, X, y, loss="mse", backend=backend).values()) <= TOLERANCE


def test_the_model_is_named(backend):
    with pytest.raises(TypeError, match=r"^model is 3, expected a fastnn\.Sequential"):
        fastnn.gradient_check(3, [[1.0]], [0], backend=backend)
