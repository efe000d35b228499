"""The declared activations against independent oracles: central differences, the standard library, PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn.formulas import activations
from fastnn.formulas.activations import ACTIVATIONS, ROW_ACTIVATIONS
from fastnn.formulas.special import erf

EVERY = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=str)
EXACT = pytest.mark.parametrize("activation", [a for a in ACTIVATIONS.values() if a.exact_derivative], ids=str)
H = 1e-6
Z = np.linspace(-6.0, 6.0, 241) + 0.0125  # off every integer and half


def derivative_at(activation, z):
    saved = z if activation.saves == "z" else np.asarray(activation.value(z, activation.alpha), float)
    return np.asarray(activation.derivative(saved, activation.alpha) * 1.0)


@EXACT
def test_derivative_is_the_slope(activation):
    z = np.array([v for v in Z if all(abs(v - kink) > 1e-3 for kink in activation.kinks)])
    assert z.size > 200
    above, below = activation.value(z + H, activation.alpha), activation.value(z - H, activation.alpha)
    # truncation h^2 f''' / 6 ~ 1e-12, cancellation eps |f| / h ~ 2e-10 |f|
    bound = 1e-9 * (1 + np.abs(above))
    assert np.all(np.abs(derivative_at(activation, z) - (above - below) / (2 * H)) <= bound)


@EVERY
def test_value_is_continuous_at_its_kinks(activation):
    for kink in activation.kinks:
        left, right = (float(activation.value(np.float64(kink + d), activation.alpha)) for d in (-1e-9, 1e-9))
        assert abs(right - left) < 1e-8


@EVERY
def test_scalars_and_arrays_agree(activation):
    z = Z[::10]
    for formula in (activation.value, activation.derivative):
        whole = np.asarray(formula(z, activation.alpha), float)
        each = np.array([float(formula(np.float64(v), activation.alpha)) for v in z])
        np.testing.assert_allclose(each, whole, rtol=4 * np.finfo(float).eps, atol=0)


@EVERY
def test_far_values_neither_overflow_nor_become_nan(activation):
    z = np.array([-1e4, -750.0, 750.0, 1e4])
    if activation.name == "exponential":
        z = z[:2]  # exp(750) itself is beyond float64
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.all(np.isfinite(activation.value(z, activation.alpha)))
        assert np.all(np.isfinite(derivative_at(activation, z)))


def phi(z):
    return 0.5 * math.erfc(-z / math.sqrt(2))


# Written from the definitions, one scalar at a time, with another library's functions
DEFINITIONS = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "tanh": math.tanh,
    "relu": lambda z: z if z > 0 else 0.0,
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else math.exp(z) - 1,
    "softplus": lambda z: math.log(1 + math.exp(z)),
    "gelu": lambda z: z * phi(z),
    "gelu_tanh": lambda z: 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * (math.exp(z) - 1)),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "mish": lambda z: z * math.tanh(math.log(1 + math.exp(z))),
    "hard_sigmoid": lambda z: 0.0 if z <= -3 else 1.0 if z >= 3 else z / 6 + 0.5,
    "hard_tanh": lambda z: -1.0 if z <= -1 else 1.0 if z >= 1 else z,
    "softsign": lambda z: z / (1 + abs(z)),
    "binary_step": lambda z: 1.0 if z >= 0 else 0.0,
    "exponential": math.exp,
    "identity": lambda z: z,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_value_is_the_definition(name):
    activation = ACTIVATIONS[name]
    want = np.array([DEFINITIONS[name](z) for z in Z])
    # a handful of operations on intermediates of at most 1 + |z| + |f|
    bound = 16 * np.finfo(float).eps * (1 + np.abs(Z) + np.abs(want))
    assert np.all(np.abs(activation.value(Z, activation.alpha) - want) <= bound)


TORCH = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "leaky_relu": "leaky_relu",
    "elu": "elu",
    "selu": "selu",
    "softplus": "softplus",
    "gelu": "gelu",
    "silu": "silu",
    "mish": "mish",
    "hard_sigmoid": "hardsigmoid",
    "hard_tanh": "hardtanh",
    "softsign": "softsign",
}


@pytest.mark.parametrize("name", [*TORCH, "gelu_tanh"])
def test_value_and_derivative_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    activation = ACTIVATIONS[name]
    z = torch.tensor(np.concatenate([Z, activation.kinks]), requires_grad=True)
    if name == "gelu_tanh":
        a = torch.nn.functional.gelu(z, approximate="tanh")
    else:
        a = getattr(torch.nn.functional, TORCH[name])(z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    here = z.detach().numpy()
    # PyTorch's softplus is the identity above 20, which Z does not reach
    np.testing.assert_allclose(activation.value(here, activation.alpha), a.detach().numpy(), rtol=1e-13, atol=1e-14)
    single = name == "hard_sigmoid"  # PyTorch's slope there is 1 / 6 in float32, whatever the dtype
    rtol = np.finfo(np.float32).eps if single else 1e-12
    np.testing.assert_allclose(derivative_at(activation, here), slope.numpy(), rtol=rtol, atol=1e-13)


def test_selu_keeps_mean_0_and_variance_1():
    """Klambauer et al. 2017: (0, 1) is its fixed point, by quadrature over the standard normal."""
    z, weight = np.polynomial.hermite_e.hermegauss(180)
    # the kink at 0 limits Gauss-Hermite to about 1e-3
    a = ACTIVATIONS["selu"].value(z, 0.0)
    weight = weight / weight.sum()
    assert abs(weight @ a) < 5e-3 and abs(weight @ a**2 - 1) < 5e-3


def test_surrogate_is_the_straight_through_estimator():
    step = ACTIVATIONS["binary_step"]
    assert not step.exact_derivative
    assert derivative_at(step, np.array([-1.5, -1.0, 0.0, 1.0, 1.5])).tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(("name", "alpha"), [("leaky_relu", 0.3), ("elu", 2.0)])
def test_alpha_changes_value_and_derivative(name, alpha):
    activation = ACTIVATIONS[name].with_alpha(alpha)
    z = np.array([-1.5, -0.25])
    want = alpha * z if name == "leaky_relu" else alpha * np.expm1(z)
    np.testing.assert_allclose(activation.value(z, activation.alpha), want, rtol=1e-15)
    want = np.full(2, alpha) if name == "leaky_relu" else alpha * np.exp(z)
    np.testing.assert_allclose(derivative_at(activation, z), want, rtol=1e-14)


def test_alpha_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"alpha of leaky_relu is -0\.1, expected a finite number in"):
        ACTIVATIONS["leaky_relu"].with_alpha(-0.1)
    with pytest.raises(ValueError, match="tanh has no parameter"):
        ACTIVATIONS["tanh"].with_alpha(0.5)
    with pytest.raises(ValueError, match="alpha of elu is nan"):
        ACTIVATIONS["elu"].with_alpha(math.nan)


def test_equality_is_name_and_alpha():
    leaky = ACTIVATIONS["leaky_relu"]
    assert leaky.with_alpha(0.01) == leaky and hash(leaky.with_alpha(0.01)) == hash(leaky)
    assert leaky.with_alpha(0.02) != leaky and leaky != ACTIVATIONS["relu"]


def test_get_takes_names_activations_and_none():
    assert activations.get("gelu") is ACTIVATIONS["gelu"]
    assert activations.get(ACTIVATIONS["gelu"]) is ACTIVATIONS["gelu"]
    assert activations.get(None) is ACTIVATIONS["identity"]
    with pytest.raises(ValueError, match=r"activation is 'swish', expected one of: identity, .*rrelu"):
        activations.get("swish")
    assert not set(ROW_ACTIVATIONS) & set(ACTIVATIONS)


def test_erf_is_within_its_stated_error():
    x = np.concatenate([np.linspace(-7, 7, 4001), np.geomspace(1e-300, 1, 200), [0.46875, 4.0, 6.0]])
    want = np.array([math.erf(v) for v in x])
    # 3e-16 its own, one ulp for math.erf
    assert np.all(np.abs(erf(x) - want) <= (3e-16 + np.finfo(float).eps) * np.abs(want))


def test_erf_at_the_edges():
    assert erf(np.array([np.inf, -np.inf])).tolist() == [1.0, -1.0]
    assert math.isnan(erf(np.nan)) and math.copysign(1, erf(-0.0)) == -1
    assert erf(np.float32(0.5)).dtype == np.float32 and erf(np.zeros((2, 3), np.float32)).shape == (2, 3)


def test_what_is_said_of_one_is_short():
    assert (
        repr(activations.get("relu")) == "Activation('relu')"
        and repr(activations.get("elu")) == "Activation('elu', alpha=1.0)"
    )
