"""Schedules: values by hand, shapes, and what a fit makes of them (`history["lr"]`: of an epoch's last step)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from common import ENGINES, build, features, hyper_parameters
from hypothesis import given
from hypothesis import strategies as st

from fastnn import Trainer, nn, optim
from fastnn.optim import schedules
from fastnn.optim.schedules import SCHEDULES

VALUES = [  # schedule, total, {t: factor}
    (optim.Constant(), 10, {0: 1, 3.7: 1, 10: 1}),
    (optim.StepDecay(3), 10, {0: 1, 2.99: 1, 3: 0.1, 5.9: 0.1, 6: 0.01, 9: 0.001}),
    (optim.StepDecay(2, gamma=0.5), 10, {1.9: 1, 2: 0.5, 8: 1 / 16}),
    (optim.Exponential(0.5), 10, {0: 1, 1: 0.5, 0.5: math.sqrt(0.5), 3: 0.125}),
    (optim.InverseTime(0.5), 10, {0: 1, 2: 0.5, 6: 0.25}),
    (optim.Harmonic(4), 20, {0: 1, 3.9: 1, 4: 1, 8: 0.5, 16: 0.25}),
    (optim.Linear(), 8, {0: 1, 2: 0.75, 8: 0, 9: 0}),
    (optim.Linear(0.2), 8, {0: 1, 4: 0.6, 8: 0.2}),
    (optim.Cosine(), 12, {0: 1, 3: 0.5 + math.sqrt(0.5) / 2, 4: 0.75, 6: 0.5, 8: 0.25, 12: 0}),
    (optim.Cosine(0.1), 12, {0: 1, 6: 0.55, 12: 0.1}),
    (optim.Cosine(restart=4), 12, {0: 1, 2: 0.5, 3.9999: 0, 4: 1, 6: 0.5, 8: 1, 10: 0.5}),
    (optim.Cosine(restart=2, stretch=2), 14, {0: 1, 1: 0.5, 2: 1, 4: 0.5, 6: 1, 10: 0.5, 14: 1}),
    (optim.OneCycle(0.1, 0.01, 0.25), 8, {0: 0.1, 1: 0.55, 2: 1, 5: 0.505, 8: 0.01}),
    (optim.OneCycle(rise=0), 8, {0: 1, 4: 0.5 + 2e-6, 8: 4e-6}),
    (optim.OneCycle(0.2, rise=1), 8, {0: 0.2, 4: 0.6, 8: 1}),
    (optim.Warmup(4), 10, {0: 0.01, 2: 0.505, 4: 1, 9: 1}),
    (optim.Warmup(4, then=optim.Cosine(), start=0.0), 12, {0: 0, 1: 0.25, 4: 1, 8: 0.5, 12: 0}),
    (optim.Warmup(2, then=optim.StepDecay(3)), 12, {1.9: 0.9505, 2: 1, 4.9: 1, 5: 0.1}),
    (optim.Warmup(0, then=optim.Linear()), 4, {0: 1, 2: 0.5, 4: 0}),
    (optim.Warmup(5), 3, {0: 0.01, 2.5: 0.505}),
    (optim.Warmup(2, then=optim.Warmup(2, start=0.5), start=0.0), 8, {1: 0.5, 2: 0.5, 3: 0.75, 4: 1}),
]


@pytest.mark.parametrize(
    ("schedule", "total", "values"), VALUES, ids=lambda v: repr(v) if not isinstance(v, dict) else ""
)
def test_value(schedule, total, values):
    for t, factor in values.items():
        assert schedule.factor(t, total) == pytest.approx(factor, abs=1e-6), t


def test_every_schedule_has_values():
    assert {type(schedule) for schedule, _, _ in VALUES} == set(schedules.Schedule.__subclasses__())


@pytest.mark.parametrize(("schedule", "total"), [case[:2] for case in VALUES], ids=repr)
def test_is_never_negative_nor_above_1(schedule, total):
    factors = np.array([schedule.factor(t, total) for t in np.linspace(0, 1.5 * total, 301)])
    assert (factors >= 0).all()
    assert (factors <= 1 + 1e-12).all()


def test_restarts_reach_the_end_of_each_period():
    """SGDR: with restart 10 and stretch 2 the cosine begins at 0, 10, 30, 70 and falls in between."""
    schedule = optim.Cosine(restart=10, stretch=2)
    factors = np.array([schedule.factor(t, 100) for t in range(100)])
    starts = [0, *(np.flatnonzero(np.diff(factors) > 0) + 1)]
    assert starts == [0, 10, 30, 70]
    assert (factors[starts] == 1).all()
    assert factors[29] < factors[9] < 0.1  # the longer period comes closer to 0 in its last epoch


def test_many_restarts_are_exact():
    """A million periods in: no drift from adding them up."""
    schedule = optim.Cosine(restart=0.1)
    assert schedule.factor(1e5 + 0.05, 1e6) == pytest.approx(0.5, abs=1e-6)


def test_one_cycle_rises_once_and_falls_once():
    factors = np.array([optim.OneCycle().factor(t, 100) for t in range(101)])
    assert factors.argmax() == 30
    assert (np.diff(factors[:31]) > 0).all()
    assert (np.diff(factors[30:]) < 0).all()


# Fractions of an epoch: against arithmetic in fractions --------------------------------------------------------

FRACTIONS = sorted({Fraction(k, n) for n in range(1, 61) for k in range(1, n + 1)})


def cosine(position) -> float:
    return 0.5 * (1 + math.cos(math.pi * position))


def restarted(t: Fraction, period: Fraction, stretch: Fraction) -> float:
    while t >= period:
        t, period = t - period, period * stretch
    return cosine(t / period)


def warmed(t: Fraction, length: Fraction, then, start=0.01) -> float:
    return float(start + (1 - start) * float(t / length)) if t < length else then(t - length)


def one_cycle(t: Fraction, rise: Fraction, start=0.04, final=4e-6) -> float:
    if t < rise:
        return start + (1 - start) * cosine(1 - t / rise)
    return final + (1 - final) * cosine((t - rise) / (1 - rise) if rise < 1 else 0)


KINDS_OF_JUMPS = {  # the schedule for a length as float64 has it, and its factor at t in exact arithmetic
    "decay": (lambda f: optim.StepDecay(f, 0.5), lambda t, f: 0.5 ** (t // f)),
    "restart": (lambda f: optim.Cosine(restart=f), lambda t, f: cosine(t % f / f)),
    "stretch": (lambda f: optim.Cosine(restart=f, stretch=2), lambda t, f: restarted(t, f, Fraction(2))),
    "slow stretch": (lambda f: optim.Cosine(restart=f, stretch=1.1), lambda t, f: restarted(t, f, Fraction(11, 10))),
    "warm-up, restart": (
        lambda f: optim.Warmup(f, optim.Cosine(restart=1)),
        lambda t, f: warmed(t, f, lambda rest: cosine(rest % 1)),
    ),
    "warm-up, decay": (
        lambda f: optim.Warmup(f, optim.StepDecay(f, 0.1)),
        lambda t, f: warmed(t, f, lambda rest: 0.1 ** (rest // f)),
    ),
    "two warm-ups, restart": (
        lambda f: optim.Warmup(f, optim.Warmup(0.3, optim.Cosine(restart=0.7), start=0.5)),
        lambda t, f: warmed(
            t,
            f,
            lambda rest: warmed(
                rest, Fraction(3, 10), lambda u: cosine(u % Fraction(7, 10) / Fraction(7, 10)), start=0.5
            ),
        ),
    ),
    "warm-up, cycle": (
        lambda f: optim.Warmup(f, optim.OneCycle()),
        lambda t, f: warmed(t, f, lambda rest: one_cycle(rest / (2 - f), Fraction(3, 10))),
    ),
    "harmonic": (optim.Harmonic, lambda t, f: float(f / max(t, f))),
    "cycle": (lambda f: optim.OneCycle(rise=f), lambda t, f: one_cycle(t / 2, f)),
}


@pytest.mark.parametrize("kind", KINDS_OF_JUMPS)
def test_every_fraction_of_an_epoch_is_exact(kind):
    """All k / n to n = 60, in epochs of n and of 10 steps: no factor is that of the step before or after."""
    made, exact = KINDS_OF_JUMPS[kind]
    for fraction in FRACTIONS:
        for steps in {fraction.denominator, 10 if fraction.denominator <= 20 else fraction.denominator}:
            factors = made(float(fraction)).factors(0, 2 * steps, steps, 2)
            right = [exact(Fraction(step, steps), fraction) for step in range(2 * steps)]
            np.testing.assert_allclose(factors, right, rtol=0, atol=1e-9, err_msg=f"{fraction}, {steps} steps")


@pytest.mark.parametrize("kind", ["decay", "restart", "warm-up, restart"])
@given(data=st.data())
def test_long_fractions_and_late_epochs_are_exact(kind, data):
    """Up to 100,000 steps an epoch and 10,000 epochs: a length of so many steps ends at just that step."""
    made, exact = KINDS_OF_JUMPS[kind]
    steps = data.draw(st.integers(1, 100_000), label="steps")
    length = Fraction(data.draw(st.integers(1, 3 * steps), label="length"), steps)
    periods = data.draw(st.integers(0, 50), label="periods")
    first = max(0, min(int(length * periods * steps), 10_000 * steps) - 2)
    factors = made(float(length)).factors(first, first + 5, steps, 20_000)
    right = [exact(Fraction(step, steps), length) for step in range(first, first + 5)]
    np.testing.assert_allclose(factors, right, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS_OF_JUMPS)
def test_a_time_and_a_step_have_the_same_factor(kind):
    """`factor` takes a time in float64 for the fraction that it stands for."""
    for length in (0.1, 0.2, 0.3, 1 / 3, 0.7):
        schedule = KINDS_OF_JUMPS[kind][0](length)
        one_by_one = [schedule.factor(step / 30, 2.0) for step in range(60)]
        np.testing.assert_allclose(one_by_one, schedule.factors(0, 60, 30, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("computed", [0.1 + 0.2, 1 - 0.7, 0.9 / 3, 3 * 0.1, sum([0.1] * 3)], ids=repr)
def test_a_computed_fraction_is_the_one_that_is_meant(computed):
    assert optim.StepDecay(computed, 0.5).factors(0, 7, 10, 1).tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("length", [5e-324, 1e-308, 1e-300, 1e300, 1.7e308])
@pytest.mark.parametrize("kind", KINDS_OF_JUMPS)
def test_extreme_lengths_have_factors_from_0_to_1(kind, length):
    if kind == "cycle":
        length = min(length, 1.0)
    factors = KINDS_OF_JUMPS[kind][0](length).factors(0, 20, 7, 3)
    assert ((factors >= 0) & (factors <= 1)).all()


@pytest.mark.parametrize("stretch", [1 + 2.3e-16, 1.5, 1e308])
@pytest.mark.parametrize("restart", [5e-324, 1e-3, 1e308])
def test_extreme_stretches_have_factors_from_0_to_1(restart, stretch):
    """Their number of periods has no part in how long it takes."""
    factors = optim.Cosine(restart=restart, stretch=stretch).factors(10**9, 10**9 + 5, 7, 10**9)
    assert ((factors >= 0) & (factors <= 1)).all()


def test_growth_beyond_float64_is_infinite():
    """Such a step diverges, which the fit then says with its learning rate."""
    assert optim.Exponential(2.0).factor(1e6, 1e6) == math.inf
    assert optim.StepDecay(1e-308, gamma=2.0).factors(0, 2, 1, 2).tolist() == [1, math.inf]
    assert optim.StepDecay(1e-308, gamma=1.0).factors(0, 2, 1, 2).tolist() == [1, 1]


def test_time_in_steps_stays_as_it_was():
    """Periods of whole steps: floor and remainder of whole numbers, to the same bits as in float64."""
    decay, restarts = optim.StepDecay(7, 0.3, per="step"), optim.Cosine(0.1, restart=9, per="step")
    steps = np.arange(1000)
    assert decay.factors(0, 1000, 10, 100).tolist() == [math.pow(0.3, step // 7) for step in steps]
    assert restarts.factors(0, 1000, 10, 100).tolist() == [
        0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (k % 9 / 9))) for k in range(1000)
    ]


# In a fit -----------------------------------------------------------------------------------------------------


def rates(schedule, *, epochs=4, rows=12, batch_size=4, lr=0.5, fits=1, backend="numpy") -> list[float]:
    model = build(nn.Dense(1))
    trainer = Trainer(model, "mse", optim.SGD(lr), schedule=schedule, seed=0, backend=backend)
    for _ in range(fits):
        trainer.fit(features(rows), features(rows, 1), epochs=epochs, batch_size=batch_size, verbose=False)
    return trainer.history["lr"]


def test_time_in_epochs_counts_fractions():
    """3 steps an epoch: the last step of epoch e is at e + 2/3, and the 4 epochs are 4 long."""
    expected = [0.5 * (1 - (epoch + 2 / 3) / 4) for epoch in range(4)]
    assert rates(optim.Linear()) == pytest.approx(expected)


def test_time_in_steps():
    """The last of an epoch's 3 steps is step 3 e + 2 of 12."""
    assert rates(optim.Linear(per="step")) == pytest.approx([0.5 * (1 - step / 12) for step in (2, 5, 8, 11)])
    assert rates(optim.StepDecay(4, per="step")) == pytest.approx([0.5, 0.05, 0.005, 0.005])


def test_step_decay_in_epochs():
    assert rates(optim.StepDecay(2)) == pytest.approx([0.5, 0.5, 0.05, 0.05])


def test_a_short_last_batch_is_a_step_too():
    assert rates(optim.Linear(per="step"), rows=10) == rates(optim.Linear(per="step"), rows=12)


def test_a_second_fit_goes_on_in_time():
    """Its end is the end of both fits together."""
    second = rates(optim.Linear(), epochs=2, fits=2)[2:]
    assert second == pytest.approx(rates(optim.Linear(), epochs=4)[2:])


@pytest.mark.parametrize("backend", ENGINES)
def test_each_step_takes_its_own_rate(backend):
    """Under plain descent on a loss of constant gradient, the way gone is lr times the sum of the factors."""
    model = build(nn.Dense(1, bias=False), inputs=1)
    start = float(model.layers[0].weight[0, 0])
    trainer = Trainer(
        model, "mae", optim.SGD(0.01), schedule=optim.Warmup(1, then=optim.Cosine()), seed=0, backend=backend
    )
    trainer.fit(np.ones((8, 1)), np.full((8, 1), -100.0), epochs=3, batch_size=2, verbose=False)
    t = np.arange(12) / 4
    factors = np.where(t < 1, 0.01 + 0.99 * t, 0.5 * (1 + np.cos(np.pi * (t - 1) / 2)))
    assert start - float(model.layers[0].weight[0, 0]) == pytest.approx(0.01 * factors.sum(), rel=1e-9)


# Settings -------------------------------------------------------------------------------------------------------

KINDS = schedules.Schedule.__subclasses__()
REQUIRED = {optim.StepDecay: {"every": 1}, optim.Exponential: {"gamma": 0.5}, optim.InverseTime: {"rate": 1}}
REQUIRED |= {optim.Harmonic: {"tau": 1}, optim.Warmup: {"length": 1}}
FIELDS = [(kind, item.name) for kind in KINDS for item in hyper_parameters(kind)]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_out_of_range_names_the_setting(kind, field, value):
    with pytest.raises(ValueError, match=rf"^{field} is {value!r}, expected a finite number"):
        kind(**REQUIRED.get(kind, {}) | {field: value})


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_not_a_number_names_the_setting(kind, field):
    with pytest.raises(TypeError, match=rf"^{field} is '1', expected a finite number"):
        kind(**REQUIRED.get(kind, {}) | {field: "1"})


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_none_is_no_number_but_no_restart(kind, field):
    settings = REQUIRED.get(kind, {}) | {field: None}
    if (kind, field) == (optim.Cosine, "restart"):
        assert kind(**settings) == optim.Cosine()
    else:
        with pytest.raises(TypeError, match=rf"^{field} is None, expected a finite number"):
            kind(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_unit_of_time(kind):
    with pytest.raises(ValueError, match="per is 'batch', expected 'epoch' or 'step'"):
        kind(**REQUIRED.get(kind, {}), per="batch")


def test_warmup_checks_what_follows():
    with pytest.raises(TypeError, match="then is 'cosine', expected a Schedule"):
        optim.Warmup(5, then="cosine")
    with pytest.raises(ValueError, match="then counts time per epoch, expected per step"):
        optim.Warmup(5, then=optim.Cosine(), per="step")
    assert optim.Warmup(5, per="step").factor(10, 100) == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_name_stands_for_the_defaults(name):
    assert schedules.get(name) == SCHEDULES[name]()


def test_none_is_constant():
    assert schedules.get(None) == optim.Constant()


@pytest.mark.parametrize("value", ["cosines", 3, optim.Cosine], ids=repr)
def test_an_unknown_schedule_lists_the_known(value):
    with pytest.raises(ValueError, match=r"^schedule is .*, expected a Schedule or one of: constant, cosine"):
        schedules.get(value)
