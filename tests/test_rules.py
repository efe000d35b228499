"""Each update rule against its published algorithm, written out here step by step for one weight."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn.backends import reference
from fastnn.contract import Adjustment
from fastnn.formulas.rules import RULES

EVERY = pytest.mark.parametrize("rule", RULES.values(), ids=str)
GRADIENTS = [0.5, -1.25, 2.0, 0.0, -0.75, 0.125]
START, LR, EPS = 1.5, 0.1, 1e-8


def plain_sgd():
    """Robbins & Monro: w <- w - lr g"""
    w = START
    for g in GRADIENTS:
        w -= LR * g
        yield w, (LR,)


def heavy_ball():
    """Polyak: v <- beta v + g; w <- w - lr v"""
    w, v = START, 0.0
    for g in GRADIENTS:
        v = 0.9 * v + g
        w -= LR * v
        yield w, (LR, 0.9, 1.0)


def averaged_momentum():
    """The averaged form: v <- beta v + (1 - beta) g"""
    w, v = START, 0.0
    for g in GRADIENTS:
        v = 0.9 * v + (1 - 0.9) * g
        w -= LR * v
        yield w, (LR, 0.9, 1 - 0.9)


def nesterov():
    """Sutskever et al. 2013, equations 3 and 4, kept at the look-ahead point p = w + mu u where g is taken:
    u <- mu u - lr g(p); p <- p + mu u_new + (u_new - mu u_old) written in p alone.
    """
    p, u = START, 0.0
    for g in GRADIENTS:
        w = p - 0.9 * u  # the point the velocity belongs to
        u = 0.9 * u - LR * g
        w += u
        p = w + 0.9 * u
        yield p, (LR, 0.9)


def adagrad():
    """Duchi et al.: G <- G + g^2; w <- w - lr g / (sqrt(G) + eps)"""
    w, G = START, 0.0
    for g in GRADIENTS:
        G += g**2
        w -= LR * g / (math.sqrt(G) + EPS)
        yield w, (LR, EPS)


def adadelta():
    """Zeiler 2012, algorithm 1, with a learning rate in front (1 in the paper)"""
    w, Eg, Ex, rho, eps = START, 0.0, 0.0, 0.95, 1e-6
    for g in GRADIENTS:
        Eg = rho * Eg + (1 - rho) * g**2
        dx = -math.sqrt(Ex + eps) / math.sqrt(Eg + eps) * g
        Ex = rho * Ex + (1 - rho) * dx**2
        w += LR * dx
        yield w, (LR, rho, 1 - rho, eps)


def rmsprop():
    """Tieleman & Hinton: v <- rho v + (1 - rho) g^2; w <- w - lr g / (sqrt(v) + eps)"""
    w, v = START, 0.0
    for g in GRADIENTS:
        v = 0.9 * v + 0.1 * g**2
        w -= LR * g / (math.sqrt(v) + EPS)
        yield w, (LR, 0.9, 0.1, EPS)


B1, B2 = 0.9, 0.999


def _adam_coefficients(t):
    return LR / (1 - B1**t), B1, 1 - B1, B2, 1 - B2, 1 / math.sqrt(1 - B2**t), EPS


def adam():
    """Kingma & Ba 2015, algorithm 1"""
    w, m, v = START, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        m_hat, v_hat = m / (1 - B1**t), v / (1 - B2**t)
        w -= LR * m_hat / (math.sqrt(v_hat) + EPS)
        yield w, _adam_coefficients(t)


def amsgrad():
    """Reddi et al. 2018, algorithm 2, with Adam's bias corrections (the peak is of the uncorrected v)"""
    w, m, v, peak = START, 0.0, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        peak = max(peak, v)
        w -= LR * (m / (1 - B1**t)) / (math.sqrt(peak / (1 - B2**t)) + EPS)
        yield w, _adam_coefficients(t)


def nadam():
    """Dozat 2016, algorithm 2: m_bar = (1 - mu_t) g_hat + mu_{t+1} m_hat, mu_t = beta1 (1 - 0.96^(t/250) / 2)"""
    w, m, v, product = START, 0.0, 0.0, 1.0

    def mu(t):
        return B1 * (1 - 0.5 * 0.96 ** (t / 250))

    for t, g in enumerate(GRADIENTS, start=1):
        product *= mu(t)
        g_hat = g / (1 - product)
        m = B1 * m + (1 - B1) * g
        m_hat = m / (1 - product * mu(t + 1))
        v = B2 * v + (1 - B2) * g**2
        v_hat = v / (1 - B2**t)
        m_bar = (1 - mu(t)) * g_hat + mu(t + 1) * m_hat
        w -= LR * m_bar / (math.sqrt(v_hat) + EPS)
        lr_m, lr_g = LR * mu(t + 1) / (1 - product * mu(t + 1)), LR * (1 - mu(t)) / (1 - product)
        yield w, (lr_m, lr_g, *_adam_coefficients(t)[1:])


PUBLISHED = [
    ("sgd", plain_sgd),
    ("momentum", heavy_ball),
    ("momentum", averaged_momentum),
    ("nesterov", nesterov),
    ("adagrad", adagrad),
    ("adadelta", adadelta),
    ("rmsprop", rmsprop),
    ("adam", adam),
    ("amsgrad", amsgrad),
    ("nadam", nadam),
]


@pytest.mark.parametrize(("name", "published"), PUBLISHED, ids=[published.__name__ for _, published in PUBLISHED])
def test_six_steps_follow_the_published_algorithm(name, published):
    rule = RULES[name]
    w = np.array([START])
    slots = tuple(np.zeros(1) for _ in rule.slots)
    for g, (want, coefficients) in zip(GRADIENTS, published(), strict=True):
        assert len(coefficients) == len(rule.coefficients)
        reference.update(rule, coefficients, Adjustment(), w, np.array([g]), slots)
        assert w[0] == pytest.approx(want, rel=1e-13)


TORCH = {
    "sgd": (plain_sgd, "SGD", {}),
    "momentum": (heavy_ball, "SGD", {"momentum": 0.9}),
    "nesterov": (nesterov, "SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": (adagrad, "Adagrad", {"eps": EPS}),
    "adadelta": (adadelta, "Adadelta", {"rho": 0.95, "eps": 1e-6}),
    "rmsprop": (rmsprop, "RMSprop", {"alpha": 0.9, "eps": EPS}),
    "adam": (adam, "Adam", {"betas": (B1, B2), "eps": EPS}),
    "amsgrad": (amsgrad, "Adam", {"betas": (B1, B2), "eps": EPS, "amsgrad": True}),
    "nadam": (nadam, "NAdam", {"betas": (B1, B2), "eps": EPS, "momentum_decay": 4e-3}),
}


@pytest.mark.parametrize("which", TORCH)
def test_the_algorithms_written_here_are_pytorchs_too(which):
    """Guards the oracle above: PyTorch takes the same steps."""
    torch = pytest.importorskip("torch")
    published, kind, options = TORCH[which]
    w = torch.tensor([START], dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([w], lr=LR, **options)
    for g, (want, _) in zip(GRADIENTS, published(), strict=True):
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        # PyTorch computes NAdam's mu from a float32 step count
        assert w.item() == pytest.approx(want, rel=1e-7 if which == "nadam" else 1e-12)


@EVERY
def test_no_gradient_and_empty_slots_leave_the_weight_alone(rule):
    w, slots = np.array([START]), tuple(np.zeros(1) for _ in rule.slots)
    reference.update(rule, (0.5,) * len(rule.coefficients), Adjustment(), w, np.zeros(1), slots)
    assert w.tolist() == [START] and not any(slot.any() for slot in slots)


@EVERY
def test_formula_changes_nothing_and_returns_every_slot(rule):
    rng = np.random.default_rng(0)
    g, slots = rng.standard_normal(5), tuple(rng.uniform(0.5, 1, 5) for _ in rule.slots)
    before = [g.copy(), *(slot.copy() for slot in slots)]
    delta, new = rule.formula(g, slots, (0.5,) * len(rule.coefficients))
    assert delta.shape == (5,) and len(new) == len(slots)
    for array, copy in zip((g, *slots), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@EVERY
def test_scalars_and_arrays_agree(rule):
    rng = np.random.default_rng(1)
    g, slots = rng.standard_normal(5), tuple(rng.uniform(0.5, 1, 5) for _ in rule.slots)
    coefficients = tuple(rng.uniform(0.2, 0.9, len(rule.coefficients)))
    delta, new = rule.formula(g, slots, coefficients)
    for i in range(5):
        one, each = rule.formula(g[i], tuple(slot[i] for slot in slots), coefficients)
        np.testing.assert_allclose([one, *each], [delta[i], *(slot[i] for slot in new)], rtol=4e-16)


@EVERY
def test_steps_descend(rule):
    """A short walk on w^2 / 2 from 1.5 ends nearer to 0: a wrong sign cannot."""
    w, slots = np.array([START]), tuple(np.zeros(1) for _ in rule.slots)
    coefficients = dict(zip(rule.coefficients, (0.0,) * len(rule.coefficients), strict=True))
    for key in coefficients:
        decays = key.startswith(("beta", "rho", "1 - "))
        coefficients[key] = (
            0.5 if decays else 1e-2 if key == "epsilon" else 1.0 if key.startswith(("1 /", "gain")) else 0.05
        )
    for _ in range(40):
        reference.update(rule, tuple(coefficients.values()), Adjustment(), w, w.copy(), slots)
    assert abs(w[0]) < START - 0.05


class TestAdjustment:
    """What surrounds a rule, worked by hand for sgd with lr 1: delta is the adjusted gradient."""

    def adjusted(self, adjustment, w=2.0, g=3.0):
        weight = np.array([w])
        reference.update(RULES["sgd"], (1.0,), adjustment, weight, np.array([g]), ())
        return w - weight[0]

    def test_scale(self):
        assert self.adjusted(Adjustment(scale=0.5)) == 1.5

    def test_limit_follows_scale(self):
        assert self.adjusted(Adjustment(scale=0.5, limit=1.0)) == 1.0
        assert self.adjusted(Adjustment(limit=1.0), g=-3.0) == -1.0

    def test_penalties_are_not_clipped(self):
        assert self.adjusted(Adjustment(limit=1.0, l2=0.25)) == 1.5
        assert self.adjusted(Adjustment(limit=1.0, l1=0.25)) == 1.25
        assert self.adjusted(Adjustment(limit=1.0, l1=0.25), w=-2.0) == 0.75

    def test_l1_leaves_zero_alone(self):
        assert self.adjusted(Adjustment(l1=0.25), w=0.0, g=0.0) == 0.0

    def test_decay_shrinks_the_weight_before_the_step(self):
        assert self.adjusted(Adjustment(shrink=0.25)) == 0.5 + 3.0

    def test_decay_stays_out_of_the_slots(self):
        w, v = np.array([2.0]), np.zeros(1)
        reference.update(RULES["momentum"], (1.0, 0.9, 1.0), Adjustment(shrink=0.5), w, np.array([3.0]), (v,))
        assert v[0] == 3.0 and w[0] == 1.0 - 3.0
