"""The declared losses against independent oracles: central differences, hand-worked rows, PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastnn.formulas import losses
from fastnn.formulas.losses import (
    LOSSES,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Expectile,
    Focal,
    Huber,
    Quantile,
    Quantiles,
    Tweedie,
)

EVERY = pytest.mark.parametrize(
    ("loss", "kind"),
    [pytest.param(loss, kind, id=f"{loss}-{kind}") for loss in LOSSES.values() for kind in loss.targets],
)


def example(loss, kind, B=5, O=4, seed=0):
    """Logits and targets of a kind that the loss accepts."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((B, O))
    if kind == "labels":
        return z, rng.integers(0, O, B)
    y = rng.standard_normal((B, O // loss.width))
    low, high = loss.y_range
    y = np.abs(y) + low if low > -np.inf else y
    return z, (y / y.sum(axis=1, keepdims=True) if high < np.inf else y)


@EVERY
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_gradient_is_the_slope(loss, kind, outputs):
    z, y = example(loss, kind, O=outputs * loss.width)
    _, gradient = loss.evaluate(z, y)
    h = 1e-6
    for i, j in np.ndindex(*z.shape):
        moved = np.stack([z, z])
        moved[0, i, j] += h
        moved[1, i, j] -= h
        (above, _), (below, _) = loss.evaluate(moved[0], y), loss.evaluate(moved[1], y)
        slope = (above - below) / (2 * h)
        assert np.all(slope[np.arange(len(z)) != i] == 0), "a row's loss depends on another row"
        # truncation h^2, cancellation eps |value| / h; no kink lies within h of these numbers
        assert abs(gradient[i, j] - slope[i]) <= 1e-9 * (1 + abs(above[i])), (i, j)


@EVERY
def test_dtype_of_logits_is_kept(loss, kind):
    z, y = example(loss, kind)
    y = y.astype(np.float32) if kind == "values" else y
    value, gradient = loss.evaluate(z.astype(np.float32), y)
    assert value.dtype == gradient.dtype == np.float32
    assert value.shape == (5,) and gradient.shape == (5, 4)


# One row (z, y) each, worked from the published definition
def _softmax(z):
    e = [math.exp(v) for v in z]
    return [v / sum(e) for v in e]


WORKED = {
    "mse": (([1.0, -2.0], [0.5, 1.0]), (0.25 + 9.0) / 2),
    "half_mse": (([1.0, -2.0], [0.5, 1.0]), (0.25 + 9.0) / 4),
    "mae": (([1.0, -2.0], [0.5, 1.0]), (0.5 + 3.0) / 2),
    "huber": (([1.0, -2.0], [0.5, 1.0]), (0.125 + 2.5) / 2),
    "gaussian": (  # m 1 and -2, s 0 and 0.5
        ([1.0, -2.0, 0.0, 0.5], [0.5, 1.0]),
        ((0.0 + 0.25) / 2 + (0.5 + 9.0 * math.exp(-0.5)) / 2) / 2,
    ),
    "quantiles": (  # of the levels 0.1: 1 and -2, of 0.9: 0.25 and 3
        ([1.0, -2.0, 0.25, 3.0], [0.5, 1.0]),
        (0.9 * 0.5 + 0.1 * 3.0 + 0.9 * 0.25 + 0.1 * 2.0) / 4,
    ),
    "log_cosh": (([1.0, -2.0], [0.5, 1.0]), (math.log(math.cosh(0.5)) + math.log(math.cosh(3.0))) / 2),
    "quantile": (([1.0, -2.0], [0.5, 1.0]), (0.5 * 0.5 + 0.5 * 3.0) / 2),
    "expectile": (([1.0, -2.0], [0.5, 1.0]), (0.5 * 0.25 + 0.5 * 9.0) / 2),
    "gamma": (([0.0, 1.0], [3.0, 2.0]), (3.0 + (1.0 + 2.0 / math.e)) / 2),
    "tweedie": (
        ([0.0, 1.0], [3.0, 2.0]),  # power 1.5: 2 sqrt(mu) + 2 y / sqrt(mu)
        ((2.0 + 6.0) + (2.0 * math.sqrt(math.e) + 4.0 / math.sqrt(math.e))) / 2,
    ),
    "binary_focal": (
        ([0.7, -1.2], [1.0, 0.0]),  # p = 1 / (1 + e^-0.7) of a one, 1 / (1 + e^1.2) of a zero
        (
            (1 / (1 + math.exp(0.7))) ** 2 * math.log(1 + math.exp(-0.7))
            + (1 / (1 + math.exp(1.2))) ** 2 * math.log(1 + math.exp(-1.2))
        )
        / 2,
    ),
    "focal": (
        ([0.3, -0.4, 1.1], [0.2, 0.5, 0.3]),
        -sum(q * (1 - p) ** 2 * math.log(p) for q, p in zip((0.2, 0.5, 0.3), _softmax((0.3, -0.4, 1.1)), strict=True)),
    ),
    "poisson": (([0.0, 1.0], [3.0, 2.0]), (1.0 + (math.e - 2.0)) / 2),
    "binary_cross_entropy": (
        ([0.7, -1.2], [1.0, 0.25]),
        -(
            math.log(1 / (1 + math.exp(-0.7)))
            + 0.25 * math.log(1 / (1 + math.exp(1.2)))
            + 0.75 * math.log(1 / (1 + math.exp(-1.2)))
        )
        / 2,
    ),
    "cross_entropy": (
        ([0.3, -0.4, 1.1], [0.2, 0.5, 0.3]),
        -sum(q * math.log(p) for q, p in zip((0.2, 0.5, 0.3), _softmax((0.3, -0.4, 1.1)), strict=True)),
    ),
    "hinge": (([0.3, -0.4, 1.1], 0), 1 + 1.1 - 0.3),
}


def test_every_loss_is_worked():
    assert WORKED.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", WORKED)
def test_value_is_the_definition(name):
    (z, y), want = WORKED[name]
    value, _ = LOSSES[name].evaluate(np.array([z]), np.array([y]))
    assert value.tolist() == pytest.approx([want], rel=1e-14)


def test_label_is_a_distribution_with_all_its_mass_there():
    z, y = example(LOSSES["cross_entropy"], "labels")
    for loss in (LOSSES["cross_entropy"], CrossEntropy(0.1)):
        for by_label, by_values in zip(loss.evaluate(z, y), loss.evaluate(z, np.eye(4)[y]), strict=True):
            np.testing.assert_allclose(by_label, by_values, rtol=1e-13, atol=1e-15)


def test_hinge_is_zero_beyond_the_margin():
    value, gradient = LOSSES["hinge"].evaluate(np.array([[3.0, 1.0, 1.5], [1.0, 0.5, 0.25]]), np.array([0, 0]))
    assert value.tolist() == [0.0, 0.5]
    assert gradient.tolist() == [[0, 0, 0], [-1, 1, 0]]


@pytest.mark.parametrize("name", ["binary_cross_entropy", "cross_entropy", "binary_focal", "focal"])
def test_confident_logits_neither_overflow_nor_become_nan(name):
    z = np.array([[1e4, -1e4], [-1e4, 1e4]])
    y = np.array([[1.0, 0.0], [1.0, 0.0]])
    with np.errstate(over="raise", invalid="raise"):
        value, gradient = LOSSES[name].evaluate(z, y)
    assert value[0] == 0.0 and value[1] >= 1e4
    assert np.all(np.isfinite(gradient)) and np.all(gradient[0] == 0)


def torch_loss(name, functional, z, y, torch):
    """PyTorch's value of each row, in this package's convention (mean over the outputs)."""
    if name == "cross_entropy":
        return functional.cross_entropy(z, y, reduction="none")
    if name == "smoothed_cross_entropy":
        return functional.cross_entropy(z, y, reduction="none", label_smoothing=0.1)
    pointwise = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": functional.huber_loss,
        "wide_huber": lambda z, y, reduction: functional.huber_loss(z, y, reduction=reduction, delta=2.5),
        "poisson": lambda z, y, reduction: functional.poisson_nll_loss(z, y, log_input=True, reduction=reduction),
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
    }[name]
    return pointwise(z, y, reduction="none").mean(dim=1)


VARIANTS = {
    "mse": LOSSES["mse"],
    "mae": LOSSES["mae"],
    "huber": LOSSES["huber"],
    "wide_huber": Huber(2.5),
    "poisson": LOSSES["poisson"],
    "binary_cross_entropy": LOSSES["binary_cross_entropy"],
    "cross_entropy": LOSSES["cross_entropy"],
    "smoothed_cross_entropy": CrossEntropy(0.1),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, loss in VARIANTS.items() for kind in loss.targets], ids="-".join
)
def test_value_and_gradient_agree_with_pytorch(name, kind):
    torch = pytest.importorskip("torch")
    loss = VARIANTS[name]
    z, y = example(loss, kind)
    logits = torch.tensor(z, requires_grad=True)
    theirs = torch_loss(name, torch.nn.functional, logits, torch.tensor(y), torch)
    (slope,) = torch.autograd.grad(theirs.sum(), logits)
    value, gradient = loss.evaluate(z, y)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-11, atol=1e-13)


# From the definitions, written with what PyTorch differentiates by itself
def _torch_focal(z, y, gamma, torch):
    if y.ndim == 1:
        y = torch.nn.functional.one_hot(y, z.shape[1])
    p = torch.softmax(z, dim=1)
    return -(y * (1 - p) ** gamma * torch.log(p)).sum(dim=1)


def _torch_binary_focal(z, y, gamma, torch):
    p = torch.sigmoid(z)
    return (-y * (1 - p) ** gamma * torch.log(p) - (1 - y) * p**gamma * torch.log(1 - p)).mean(dim=1)


BY_AUTOGRAD = {
    "log_cosh": (LOSSES["log_cosh"], lambda z, y, torch: torch.log(torch.cosh(z - y)).mean(dim=1)),
    "expectile": (Expectile(0.8), lambda z, y, torch: ((0.8 - 0.6 * (z > y).double()) * (z - y) ** 2).mean(dim=1)),
    "focal": (Focal(), lambda z, y, torch: _torch_focal(z, y, 2.0, torch)),
    "focal below 1": (Focal(0.5), lambda z, y, torch: _torch_focal(z, y, 0.5, torch)),
    "binary_focal": (BinaryFocal(1.5), lambda z, y, torch: _torch_binary_focal(z, y, 1.5, torch)),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, (loss, _) in BY_AUTOGRAD.items() for kind in loss.targets]
)
def test_value_and_gradient_agree_with_autograd(name, kind):
    torch = pytest.importorskip("torch")
    loss, definition = BY_AUTOGRAD[name]
    z, y = example(loss, kind)
    logits = torch.tensor(z, requires_grad=True)
    theirs = definition(logits, torch.tensor(y), torch)
    (slope,) = torch.autograd.grad(theirs.sum(), logits)
    value, gradient = loss.evaluate(z, y)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-11)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_focal_of_no_focus_is_the_cross_entropy(kind):
    z, y = example(LOSSES["focal"], kind)
    for mine, theirs in zip(Focal(0.0).evaluate(z, y), LOSSES["cross_entropy"].evaluate(z, y), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-15)
    if kind == "values":
        pair = BinaryFocal(0.0).evaluate(z, y), LOSSES["binary_cross_entropy"].evaluate(z, y)
        for mine, theirs in zip(*pair, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(10))
def test_deviances_and_pinballs_are_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(50, 1)), rng.gamma(2.0, size=(50, 1))
    q, power = rng.uniform(0.05, 0.95), rng.uniform(1.05, 1.95)
    pinball = Quantile(q).evaluate(z, y)[0].mean()
    assert pinball == pytest.approx(metrics.mean_pinball_loss(y, z, alpha=q), rel=1e-12)
    for loss, deviance in (
        (LOSSES["poisson"], lambda y, mu: metrics.mean_poisson_deviance(y, mu)),
        (Tweedie(power), lambda y, mu: metrics.mean_tweedie_deviance(y, mu, power=power)),
        (LOSSES["gamma"], lambda y, mu: metrics.mean_gamma_deviance(y, mu)),
    ):
        above_least = loss.evaluate(z, y)[0].mean() - loss.evaluate(np.log(y), y)[0].mean()
        assert above_least == pytest.approx(deviance(y[:, 0], np.exp(z[:, 0])) / 2, rel=1e-9)


@pytest.mark.parametrize("targets", [1, 3])
def test_gaussian_is_pytorchs_and_scipys(targets):
    torch, stats = pytest.importorskip("torch"), pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(20, 2 * targets)), rng.normal(size=(20, targets))
    logits = torch.tensor(z, requires_grad=True)
    mean, variance = logits[:, :targets], torch.exp(logits[:, targets:])
    each = torch.nn.functional.gaussian_nll_loss(mean, torch.tensor(y), variance, reduction="none")
    theirs = each.mean(dim=1)
    (slope,) = torch.autograd.grad(theirs.sum(), logits)
    value, gradient = LOSSES["gaussian"].evaluate(z, y)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-11)
    density = stats.norm.logpdf(y, z[:, :targets], np.exp(0.5 * z[:, targets:])).mean(axis=1)
    np.testing.assert_allclose(value, -density - 0.5 * np.log(2 * np.pi), rtol=1e-12)


@pytest.mark.parametrize("levels", [[0.5], [0.1, 0.9], [0.05, 0.25, 0.5, 0.75, 0.95]], ids=len)
@pytest.mark.parametrize("targets", [1, 3])
def test_quantiles_are_the_mean_of_scikit_learns_pinball_losses(levels, targets):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(20, len(levels) * targets)), rng.normal(size=(20, targets))
    parts = np.split(z, len(levels), axis=1)
    theirs = [metrics.mean_pinball_loss(y, part, alpha=q) for q, part in zip(levels, parts, strict=True)]
    assert Quantiles(levels).evaluate(z, y)[0].mean() == pytest.approx(np.mean(theirs), rel=1e-12)
    gradients = [Quantile(q).evaluate(part, y)[1] for q, part in zip(levels, parts, strict=True)]
    np.testing.assert_allclose(Quantiles(levels).evaluate(z, y)[1], np.hstack(gradients) / len(levels), rtol=1e-12)


def test_the_least_loss_is_where_it_should_be():
    y = np.sort(np.random.default_rng(0).gamma(2.0, size=101))[:, None]
    below, above = (np.full_like(y, (y[80] + other) / 2) for other in (y[79], y[81]))  # of the 0.8-quantile, y[80]
    assert Quantile(0.8).evaluate(below, y)[1].sum() == pytest.approx(80 * 0.2 - 21 * 0.8)
    assert Quantile(0.8).evaluate(above, y)[1].sum() == pytest.approx(81 * 0.2 - 20 * 0.8)
    for loss in (LOSSES["gamma"], Tweedie(1.3), LOSSES["poisson"]):
        assert loss.evaluate(np.full_like(y, np.log(y.mean())), y)[1].sum() == pytest.approx(0.0, abs=1e-9)
    assert Expectile(0.5).evaluate(np.full_like(y, y.mean()), y)[1].sum() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_of_a_certain_class_has_no_gradient(gamma):
    value, gradient = Focal(gamma).evaluate(np.array([[800.0, 0.0], [0.0, 800.0]]), np.array([0, 0]))
    assert value.tolist() == [0.0, 800.0]
    np.testing.assert_allclose(gradient, [[0, 0], [-1, 1]], atol=1e-300)


def test_binary_smoothing_moves_targets_towards_a_half():
    z, y = np.array([[0.3, -1.0]]), np.array([[1.0, 0.0]])
    smoothed = BinaryCrossEntropy(0.2).evaluate(z, y)
    moved = LOSSES["binary_cross_entropy"].evaluate(z, np.array([[0.9, 0.1]]))
    for mine, theirs in zip(smoothed, moved, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(0.0), "delta is 0.0"),
        (lambda: Huber(math.nan), "delta is nan"),
        (lambda: CrossEntropy(1.0), r"label_smoothing is 1.0, expected a finite number in \[0, 1\)"),
        (lambda: BinaryCrossEntropy(-0.1), "label_smoothing is -0.1"),
        (lambda: Quantile(1.0), r"q is 1.0, expected a finite number in \(0, 1\)"),
        (lambda: Quantiles([]), r"levels is \[\], expected at least one"),
        (lambda: Quantiles([0.5, 0.5]), "levels is .*each above the one before it"),
        (lambda: Quantiles([0.5, 1.0]), "levels is 1.0"),
        (lambda: Expectile(0.0), "tau is 0.0"),
        (lambda: Tweedie(2.0), r"power is 2.0, expected a finite number in \(1, 2\)"),
        (lambda: Focal(-1.0), "gamma is -1.0"),
        (lambda: BinaryFocal(math.inf), "gamma is inf"),
        (lambda: losses.get("squared"), "loss is 'squared', expected one of: mse, .*hinge"),
    ],
    ids=[
        "huber-0",
        "huber-nan",
        "smoothing-1",
        "smoothing-negative",
        "q",
        "no levels",
        "equal levels",
        "level 1",
        "tau",
        "power",
        "focal",
        "binary",
        "unknown",
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_get_takes_names_and_losses():
    assert losses.get("mse") is LOSSES["mse"] and losses.get(LOSSES["mse"]) is LOSSES["mse"]
