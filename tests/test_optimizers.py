"""Optimizers step by step, from the published formulas written out here, and their hyper-parameters' ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from common import BACKENDS, VECTORISED, hyper_parameters

from fastnn import Sequential, Trainer, nn, optim
from fastnn.optim import OPTIMIZERS, optimizers

STEPS = 6


def trajectory(optimizer, slopes, start=(0.5, -1.5, 2.0), backend="numpy") -> np.ndarray:
    """Where plain weights w go when the gradient of step t is slopes[t]: (steps, 3) after each step.

    The model is x w with w (3, 1); one row x = slopes[t] under half_mse has gradient (x w - y) x, and the target
    y = x w - 1 makes that x. So each step sees exactly the gradient asked for.
    """
    model = Sequential([nn.Dense(1, bias=False)], dtype=np.float64).build(3, seed=0)
    w = model.layers[0].weight
    w[:, 0] = start
    trainer = Trainer(model, "half_mse", optimizer, seed=0, backend=backend)
    path = []
    for g in np.asarray(slopes, dtype=float):
        trainer.fit(g[None], g[None] @ w - 1.0, epochs=1, batch_size=1, verbose=False)
        path.append(w[:, 0].copy())
    return np.array(path)


SLOPES = np.random.default_rng(3).normal(size=(STEPS, 3)) * [1.0, 0.01, 10.0]
START = np.array([0.5, -1.5, 2.0])


# Each formula for one weight, a step at a time: written with loops over t, as in the papers ------------------------


def sgd(g, w, lr=0.01):
    return [w := w - lr * g_t for g_t in g]


def momentum(g, w, lr=0.01, beta=0.9):
    """v_t = beta v + g (Polyak 1964)."""
    v, path = 0.0, []
    for g_t in g:
        v = beta * v + g_t
        path.append(w := w - lr * v)
    return path


def averaged_momentum(g, w, lr=0.01, beta=0.9, correct=False):
    """v_t = (1 - beta) sum over i of beta^(t - i) g_i: the running mean, expanded."""
    path = []
    for t in range(1, len(g) + 1):
        v = (1 - beta) * sum(beta ** (t - i) * g[i - 1] for i in range(1, t + 1))
        path.append(w := w - lr * (v / (1 - beta**t) if correct else v))
    return path


def nesterov(g, w, lr=0.01, beta=0.9):
    """Sutskever et al. 2013, equations 3 and 4, with theta = w - lr beta v: the point the gradient is taken at.

    v_t = beta v - lr g(w' + beta v), w'_t = w' + v_t; the weight kept is w' + beta v, where the next g is taken.
    """
    ahead, v, path = w, 0.0, []
    point = ahead  # w' itself
    for g_t in g:
        v_next = beta * v - lr * g_t
        point = point + v_next
        v = v_next
        path.append(point + beta * v)
    return path


def adagrad(g, w, lr=0.01, epsilon=1e-10):
    path = []
    for t in range(len(g)):
        path.append(w := w - lr / (math.sqrt(sum(x * x for x in g[: t + 1])) + epsilon) * g[t])
    return path


def adadelta(g, w, lr=1.0, rho=0.9, epsilon=1e-6):
    """Zeiler 2012, algorithm 1."""
    mean_g = mean_d = 0.0
    path = []
    for g_t in g:
        mean_g = rho * mean_g + (1 - rho) * g_t**2
        step = -math.sqrt(mean_d + epsilon) / math.sqrt(mean_g + epsilon) * g_t
        mean_d = rho * mean_d + (1 - rho) * step**2
        path.append(w := w + lr * step)
    return path


def rmsprop(g, w, lr=1e-3, rho=0.9, epsilon=1e-8):
    mean, path = 0.0, []
    for g_t in g:
        mean = rho * mean + (1 - rho) * g_t**2
        path.append(w := w - lr * g_t / (math.sqrt(mean) + epsilon))
    return path


def adam(g, w, lr=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, largest=False, decay=0.0):
    """Kingma & Ba 2015, algorithm 1; Reddi et al. 2018; decay as Loshchilov & Hutter 2019, algorithm 2."""
    m = v = peak = 0.0
    path = []
    for t, g_t in enumerate(g, start=1):
        m = beta1 * m + (1 - beta1) * g_t
        v = beta2 * v + (1 - beta2) * g_t**2
        peak = max(peak, v) if largest else v
        m_hat, v_hat = m / (1 - beta1**t), peak / (1 - beta2**t)
        path.append(w := w - lr * m_hat / (math.sqrt(v_hat) + epsilon) - lr * decay * w)
    return path


def nadam(g, w, lr=2e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, psi=4e-3):
    """Dozat 2016, algorithm 2, with mu_t = beta1 (1 - 0.96^(t psi) / 2)."""

    def mu(t):
        return beta1 * (1 - 0.5 * 0.96 ** (t * psi))

    m = v = 0.0
    path = []
    for t, g_t in enumerate(g, start=1):
        m = beta1 * m + (1 - beta1) * g_t
        v = beta2 * v + (1 - beta2) * g_t**2
        now = math.prod(mu(i) for i in range(1, t + 1))
        m_bar = mu(t + 1) * m / (1 - now * mu(t + 1)) + (1 - mu(t)) * g_t / (1 - now)
        path.append(w := w - lr * m_bar / (math.sqrt(v / (1 - beta2**t)) + epsilon))
    return path


FORMULAS = {  # every optimizer with its defaults, then its variants
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": lambda g, w: adam(g, w, decay=0.01),
    "nadam": nadam,
}
VARIANTS = {
    "averaged": (optim.Momentum(averaged=True), averaged_momentum),
    "corrected": (
        optim.Momentum(averaged=True, bias_correction=True),
        lambda g, w: averaged_momentum(g, w, correct=True),
    ),
    "beta": (optim.Momentum(0.1, beta=0.5), lambda g, w: momentum(g, w, 0.1, 0.5)),
    "look-ahead": (optim.Nesterov(0.1, beta=0.5), lambda g, w: nesterov(g, w, 0.1, 0.5)),
    "adagrad": (optim.AdaGrad(0.1, epsilon=0.5), lambda g, w: adagrad(g, w, 0.1, 0.5)),
    "adadelta": (optim.AdaDelta(0.5, rho=0.8, epsilon=0.1), lambda g, w: adadelta(g, w, 0.5, 0.8, 0.1)),
    "rmsprop": (optim.RMSprop(0.1, rho=0.5, epsilon=0.1), lambda g, w: rmsprop(g, w, 0.1, 0.5, 0.1)),
    "adam": (optim.Adam(0.1, 0.5, 0.8, 0.1), lambda g, w: adam(g, w, 0.1, 0.5, 0.8, 0.1)),
    "amsgrad": (optim.Adam(0.1, 0.5, 0.2, amsgrad=True), lambda g, w: adam(g, w, 0.1, 0.5, 0.2, largest=True)),
    "adamw": (optim.AdamW(0.1, decay=0.3), lambda g, w: adam(g, w, 0.1, decay=0.3)),
    "nadam": (
        optim.NAdam(0.1, 0.5, 0.8, 0.1, momentum_decay=2.0),
        lambda g, w: nadam(g, w, 0.1, 0.5, 0.8, 0.1, psi=2.0),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("backend", VECTORISED)
def test_follows_its_paper(backend, name):
    path = trajectory(OPTIMIZERS[name](), SLOPES, START, backend)
    for j in range(3):
        np.testing.assert_allclose(path[:, j], FORMULAS[name](SLOPES[:, j], START[j]), rtol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("backend", VECTORISED)
def test_follows_its_paper_with_other_settings(backend, name):
    optimizer, formula = VARIANTS[name]
    path = trajectory(optimizer, SLOPES, START, backend)
    for j in range(3):
        np.testing.assert_allclose(path[:, j], formula(SLOPES[:, j], START[j]), rtol=1e-9)


SLOW = {  # with factors whose 1 - beta would lose digits
    "slow adadelta": optim.AdaDelta(rho=0.999),
    "slow rmsprop": optim.RMSprop(rho=0.999),
    "amsgrad": optim.Adam(amsgrad=True),
}
UNIT = 2.0**-24  # half a unit in the last place of a float32 in [1, 2)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *SLOW])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_in_float32_is_off_by_its_roundings_alone(backend, name):
    """The first step from w = 0: no sum of it cancels, so each rounding counts once, as often as its operand does.

    At most 20, in AdaDelta's u: sqrt(v + epsilon) has 3.5, half of those of v (rest g g: 3 and a sum), so the step
    has 8, u = rest step step twice that and 4 of its own. 1 - 0.999 taken in float32 would be off by 220.
    """
    optimizer = SLOW[name] if name in SLOW else OPTIMIZERS[name]()
    g = np.array([0.75, -0.015625, 3.0])
    model = Sequential([nn.Dense(1, bias=False)], dtype=np.float32).build(3, seed=0)
    w = model.layers[0].weight
    w[...] = 0.0
    trainer = Trainer(model, "half_mse", optimizer, seed=0, backend=backend)
    trainer.fit(g[None], [[-1.0]], epochs=1, batch_size=1, verbose=False)  # (x w - y) x = x, exactly
    (coefficients,) = optimizer.coefficient_table(np.array([optimizer.lr]), first=1)
    delta, slots = optimizer.rule.formula(g, tuple(np.zeros(3) for _ in optimizer.rule.slots), coefficients)
    np.testing.assert_allclose(w[:, 0], -delta, rtol=20 * UNIT)
    assert len(model.state.slots) == len(slots)
    for got, want in zip(model.state.slots, slots, strict=True):
        np.testing.assert_allclose(np.ravel(got)[:3], want, rtol=20 * UNIT)


def test_amsgrad_differs_from_adam_after_a_large_gradient():
    slopes = [[10.0] * 3] + [[0.1] * 3] * 5
    plain = trajectory(optim.Adam(0.1, beta2=0.2), slopes)
    held = trajectory(optim.Adam(0.1, beta2=0.2, amsgrad=True), slopes)
    assert np.abs(np.diff(held[-2:], axis=0)).max() < np.abs(np.diff(plain[-2:], axis=0)).max()


@pytest.mark.parametrize("t", [1, 2, 1023, 1024, 1025, 5000])
def test_nadam_far_into_a_run(t):
    """The product mu_1 .. mu_t is taken in blocks of 1024: it must not show at their edges."""
    mu = 0.9 * (1 - 0.5 * 0.96 ** (np.arange(1, t + 2) * 4e-3))
    product = np.prod(mu[:-1])
    lr_m, lr_g, *_ = optim.NAdam().coefficients(1.0, t)
    assert lr_m == pytest.approx(mu[-1] / (1 - product * mu[-1]), rel=1e-12)
    assert lr_g == pytest.approx((1 - mu[-2]) / (1 - product), rel=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_coefficients_do_not_depend_on_how_a_run_is_cut_into_calls(name):
    """Bit by bit: a resumed run, or one with another pace, takes the same steps."""
    optimizer, lr = OPTIMIZERS[name](), np.linspace(1e-2, 1e-3, 100)
    whole = optimizer.coefficient_table(lr, 1)
    cut = [optimizer.coefficient_table(lr[a:b], 1 + a) for a, b in ((0, 1), (1, 8), (8, 41), (41, 100))]
    np.testing.assert_array_equal(np.concatenate(cut), whole)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 1 - 1e-9])
def test_the_bias_correction_far_into_a_run(beta):
    """1 - beta^t, also where beta^t is too small to be taken."""
    optimizer = optim.Momentum(beta=beta, averaged=True, bias_correction=True)
    t = np.array([1, 2, 40, 370, 380, 37_000, 40_000, 10**6, 10**12])
    expected = [1.0 if beta == 0.0 else -math.expm1(n * math.log(beta)) for n in t.tolist()]
    np.testing.assert_allclose(1.0 / optimizer.coefficients(1.0, t)[0], expected, rtol=1e-12 if beta < 0.9999 else 1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("backend", VECTORISED)
def test_stays_put_without_a_gradient(backend, name):
    """A gradient of exactly 0 from the first step on (a dead unit, a blank pixel) moves nothing and is no 0 / 0."""
    optimizer = OPTIMIZERS[name](decay=0.0)
    path = trajectory(optimizer, [[1.0, 0.0, 0.0]] * 3, START, backend)
    np.testing.assert_array_equal(path[:, 1:], np.tile(START[1:], (3, 1)))
    assert (path[:, 0] != START[0]).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_learning_rate_of_0_freezes(name):
    path = trajectory(OPTIMIZERS[name](lr=0.0), SLOPES)
    np.testing.assert_array_equal(path, np.tile(START, (STEPS, 1)))


# Hyper-parameters ---------------------------------------------------------------------------------------------

FIELDS = [(name, item.name) for name, kind in OPTIMIZERS.items() for item in hyper_parameters(kind)]


@pytest.mark.parametrize(("name", "field"), FIELDS)
@pytest.mark.parametrize("value", [-0.1, -1, np.nan, np.inf, -np.inf])
def test_out_of_range_names_the_parameter(name, field, value):
    with pytest.raises(ValueError, match=rf"^{field} is {value!r}, expected a finite number in [\[(]0"):
        OPTIMIZERS[name](**{field: value})


@pytest.mark.parametrize(("name", "field"), FIELDS)
@pytest.mark.parametrize("value", ["0.1", None, True, 0.1j, [0.1]], ids=repr)
def test_not_a_number_names_the_parameter(name, field, value):
    with pytest.raises(TypeError, match=rf"^{field} is .*, expected a finite number"):
        OPTIMIZERS[name](**{field: value})


@pytest.mark.parametrize(("name", "field"), [pair for pair in FIELDS if pair[1] in ("beta", "beta1", "beta2", "rho")])
def test_an_average_that_never_forgets_is_refused(name, field):
    assert getattr(OPTIMIZERS[name](**{field: 0.0}), field) == 0.0
    with pytest.raises(ValueError, match=rf"^{field} is 1\.0, expected a finite number in \[0, 1\)"):
        OPTIMIZERS[name](**{field: 1.0})


@pytest.mark.parametrize("name", [name for name, field in FIELDS if field == "epsilon"])
def test_an_epsilon_of_0_is_refused(name):
    """It makes 0 / 0 of every gradient that is exactly 0."""
    with pytest.raises(ValueError, match=r"^epsilon is 0\.0, expected a finite number in \(0"):
        OPTIMIZERS[name](epsilon=0.0)


def test_bias_correction_needs_an_average():
    with pytest.raises(ValueError, match="bias_correction is True, expected averaged=True"):
        optim.Momentum(bias_correction=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_name_stands_for_the_defaults(name):
    assert optim.optimizers.get(name) == OPTIMIZERS[name]()
    assert optim.optimizers.get(OPTIMIZERS[name](lr=0.5)).lr == 0.5


@pytest.mark.parametrize("value", ["Adam ", "", None, 3, optim.Adam], ids=repr)
def test_an_unknown_optimizer_lists_the_known(value):
    with pytest.raises(ValueError, match=r"^optimizer is .*, expected an Optimizer or one of: sgd, .*nadam"):
        optim.optimizers.get(value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_cannot_be_changed_under_a_trainer(name):
    with pytest.raises(AttributeError):
        OPTIMIZERS[name]().lr = 1.0


@pytest.mark.parametrize("beta1", [0.0, 0.9, 0.99999])
@pytest.mark.parametrize("t", [1, 1024, 5000, 700_000, 10**12])
def test_nadams_product_of_any_step_of_a_training_that_is_resumed(beta1, t):
    """Nothing of the steps before is in a cache then."""
    optimizers._nadam_ends.cache_clear()
    optimizers._nadam_block.cache_clear()
    if beta1 == 0.99999 and t > 10**6:
        pytest.skip("a billion factors")
    momentum = [beta1 * (1 - 0.5 * 0.96 ** (0.004 * k)) for k in range(1, min(t, 10**6) + 1)]
    expected = math.prod(momentum) if beta1 else 0.0
    assert 1 - optimizers._nadam_product(beta1, 0.004, t) == pytest.approx(1 - expected, rel=1e-12)
