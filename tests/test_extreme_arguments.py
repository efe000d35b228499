"""Numbers at the ends of what Python, float64 and C hold: each is refused in one line that names the argument."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest
from common import LAYERS

from fastnn import EarlyStopping, MLPClassifier, Sequential, Trainer, nn, optim

X = np.random.default_rng(0).normal(size=(20, 2))
Y = X[:, 0]
HUGE = 10**400  # no float64
DATES = np.arange("2020-01-01", "2020-01-21", dtype="M8[D]")


def trainer(*layers, loss="mse", optimizer="adam", dtype="float32", **settings):
    model = Sequential(layers or [nn.Dense(1)], dtype=dtype)
    return Trainer(model, loss, optimizer, **{"seed": 0} | settings)


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_whole_numbers_beyond_float64(name):
    given = {"X": [[1, 2], [3, 4]], "y": [1, 2], "sample_weight": [1, 1]}
    given[name] = [[HUGE, 2], [3, 4]] if name == "X" else [HUGE, 1]
    with pytest.raises(ValueError, match=rf"^{name} has a whole number beyond float64"):
        trainer().fit(given["X"], given["y"], sample_weight=given["sample_weight"])


@pytest.mark.parametrize("label", [1e300, -1e300, 2.0**63])
def test_a_large_label_is_printed_short(label):
    with pytest.raises(ValueError, match=r"expected labels 0 .. 1 for 2 outputs") as caught:
        trainer(nn.Dense(2), loss="cross_entropy").fit(X[:2], [label, 1])
    assert len(str(caught.value)) < 80
    assert f"{label:g}" in str(caught.value)


@pytest.mark.parametrize("threads", [2**31, 2**40, 10**400])
def test_more_threads_than_a_c_int_holds(threads):
    said = threads if threads < HUGE else "an integer of 401 digits"
    with pytest.raises(ValueError, match=rf"^threads is {said}, expected an integer from 1 to 2147483647$"):
        trainer(threads=threads)


def test_as_many_threads_as_it_holds():
    trainer(threads=2**31 - 1).fit(X, Y, epochs=1, verbose=False)


CLASSES = (Y > 0).astype(int)
LONG = "x" * 10_000
SHOWN = {
    "units": lambda huge: nn.Dense(-huge),
    "seed": lambda huge: trainer(seed=huge),
    "batch_size": lambda huge: trainer().fit(X, Y, batch_size=-huge),
    "patience": lambda huge: EarlyStopping(patience=-huge),
    "shape": lambda huge: Sequential([nn.Reshape((huge, 2))]).build(2),
    "inputs": lambda huge: Sequential([nn.Dense(1)]).build(huge),
    "several inputs": lambda huge: Sequential([nn.Dense(1)]).build((huge, 2)),
    "weight": lambda huge: Sequential([nn.Dense(huge)]).build(2),
    "class_weight": lambda huge: trainer(nn.Dense(2), loss="cross_entropy").fit(X, CLASSES, class_weight={huge: 1.0}),
    "classifier": lambda huge: MLPClassifier(class_weight={huge: -1.0}).fit(X, CLASSES),
    "loss": lambda huge: trainer(loss=LONG),
    "optimizer": lambda huge: trainer(optimizer=LONG),
    "schedule": lambda huge: trainer(schedule=LONG),
    "metrics": lambda huge: trainer(metrics=[LONG]),
    "backend": lambda huge: trainer(backend=LONG),
    "activation": lambda huge: nn.Dense(1, LONG),
    "init": lambda huge: nn.Dense(1, init=LONG),
    "text": lambda huge: Sequential([nn.Dense(1)]).build(1).predict([["1" * 300]]),
}


@pytest.mark.parametrize("huge", [10**400, 10**5000], ids=["400", "5000"])  # Python makes no text of the second
@pytest.mark.parametrize("what", SHOWN)
def test_long_values_are_shown_short(what, huge):
    with pytest.raises(ValueError, match=r"expected") as caught:
        SHOWN[what](huge)
    longest = max(map(len, str(caught.value).replace(",", " ").split()))
    assert longest < 90 and len(str(caught.value)) < 900, caught.value  # with all names of metrics


def test_an_integer_is_shown_by_its_digits():
    with pytest.raises(ValueError, match=r"^seed is an integer of 401 digits, expected an integer below 2\^64$"):
        trainer(seed=10**400)
    with pytest.raises(ValueError, match=r"^patience is a negative integer of 401 digits, expected an integer >= "):
        EarlyStopping(patience=-(10**400))


# An epsilon that a dtype rounds to 0, or that makes a division infinite ----------------------------------

WITH_EPSILON = [optim.AdaGrad, optim.AdaDelta, optim.RMSprop, optim.Adam, optim.AdamW, optim.NAdam]
TINY = {"float32": 1.17e-38, "float64": 2.2e-308}  # a little below the smallest normal number


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("kind", WITH_EPSILON)
def test_epsilon_of_an_optimizer(kind, dtype):
    model = trainer(optimizer=kind(epsilon=TINY[dtype]), dtype=dtype)
    for start in (model.fit, model.find_lr):
        with pytest.raises(
            ValueError, match=rf"^epsilon of the optimizer is {TINY[dtype]}, expected at least .*{dtype}"
        ):
            start(X, Y)
    assert not model.model.built
    trainer(optimizer=kind(epsilon=1.02 * TINY[dtype]), dtype=dtype).fit(0 * X, 0 * Y, epochs=2, verbose=False)


@pytest.mark.parametrize("dtype", TINY)
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if "epsilon" in signature(kind).parameters])
def test_epsilon_of_a_layer(kind, dtype):
    with pytest.raises(ValueError, match=r"^epsilon of layers\[0\].layers\[0\] \(.*Norm\) is .*, expected at least"):
        Sequential([nn.Residual([kind(epsilon=TINY[dtype])])], dtype=dtype).build(2)
    for constant in (np.ones((8, 2)), np.zeros((8, 2))):  # no variance, no squares: epsilon alone is divided by
        model = Sequential([kind(epsilon=1.02 * TINY[dtype])], dtype=dtype).build(2)
        assert np.isfinite(model.predict(constant)).all()
        Trainer(model, "mse", seed=0).fit(constant, constant, epochs=1, verbose=False)


# Settings that a dtype makes infinite ---------------------------------------------------------------------------------

_leaky = nn.ACTIVATIONS["leaky_relu"].with_alpha
_elu = nn.ACTIVATIONS["elu"].with_alpha
SETTINGS = {
    "alpha of leaky_relu": lambda huge: nn.Activation(_leaky(huge)),
    "alpha of elu": lambda huge: nn.Dense(2, _elu(huge)),
    "upper": lambda huge: nn.RReLU(0.1, huge),
    "lower": lambda huge: nn.Dense(2, nn.RReLU(huge, huge)),
    "epsilon": lambda huge: nn.BatchNorm(epsilon=huge),
    "epsilon of a LayerNorm": lambda huge: nn.LayerNorm(epsilon=huge),
    "epsilon of an RMSNorm": lambda huge: nn.RMSNorm(epsilon=huge),
    "l1": lambda huge: nn.Dense(2, l1=huge),
    "l2": lambda huge: nn.Dense(2, l2=huge),
    "decay": lambda huge: nn.Dense(2, decay=huge),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_a_setting_that_float32_makes_infinite(what):
    name = what.split(" of a ")[0].split(" of an ")[0]
    for layers in ([SETTINGS[what](1e39)], [nn.Residual([SETTINGS[what](1e39)])]):
        with pytest.raises(ValueError, match=rf"^{name} of layers\[0\].* is 1e\+39, expected at most 3.4e\+38, which"):
            Sequential(layers).build(2)
    Sequential([SETTINGS[what](3e38)]).build(2)
    Sequential([SETTINGS[what](1e39)], dtype="float64").build(2)


@pytest.mark.parametrize("kind", WITH_EPSILON)
def test_an_epsilon_of_an_optimizer_that_float32_makes_infinite(kind):
    made = trainer(optimizer=kind(epsilon=1e39))
    for start in (made.fit, made.find_lr):
        with pytest.raises(ValueError, match=r"^epsilon of the optimizer is 1e\+39, expected at most 3.4e\+38, which"):
            start(X, Y)
    assert not made.model.built
    trainer(optimizer=kind(epsilon=1e39), dtype="float64").fit(X, Y, epochs=1, verbose=False)


# What scikit-learn would convert ------------------------------------------------------


@pytest.fixture(params=["MLPClassifier", "MLPRegressor"])
def estimator(request):
    pytest.importorskip("sklearn")
    import fastnn

    return getattr(fastnn, request.param)(max_iter=1)


def dates(kind):
    if kind == "list":
        return [[day] for day in DATES]
    if kind in ("array", "timedelta"):
        return (DATES if kind == "array" else DATES - DATES[0]).reshape(-1, 1)
    pandas = pytest.importorskip("pandas")
    index = pandas.to_datetime(DATES)
    return pandas.DataFrame({"a": Y, "when": index.tz_localize("UTC") if kind == "zone" else index})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["array", "timedelta", "list", "frame", "zone"])
def test_estimators_refuse_dates(estimator, kind):
    x = dates(kind)
    with pytest.raises(TypeError, match=r"^X has dtype (date|time)[^ ]+.*, expected numbers$"):
        estimator.fit(x, Y > 0)
    with pytest.raises(TypeError, match=r"^X has dtype (date|time)"):
        estimator.fit(np.ones((20, np.shape(x)[1])), Y > 0).predict(x)


def test_regression_targets_are_no_dates(estimator):
    if type(estimator).__name__ == "MLPRegressor":
        with pytest.raises(TypeError, match=r"^y has dtype datetime64\[D\], expected numbers"):
            estimator.fit(X, DATES)


def test_estimators_name_what_float64_cannot_hold(estimator):
    with pytest.raises(ValueError, match=r"^X or y has a whole number beyond float64"):
        estimator.fit([[HUGE]] * 20, Y > 0)
    with pytest.raises(ValueError, match=r"^The 'threads' parameter .* range \[1, 2147483647\]"):
        estimator.set_params(threads=2**40).fit(X, Y > 0)


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {name: HUGE}
            for name in ("alpha", "tol", "learning_rate_init", "epsilon", "clip_norm", "power_t", "max_iter")
        ),
        *({name: HUGE} for name in ("n_iter_no_change", "batch_size", "max_fun")),
        {"class_weight": {0: HUGE, 1: 1}},
        {"hidden_layer_sizes": (4, HUGE)},
        {"dropout": [HUGE]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_estimators_beyond_float64(settings):
    estimators = pytest.importorskip("fastnn.estimators")
    (name,) = settings
    with pytest.raises(ValueError, match=rf"^{name} has a whole number beyond float64"):
        estimators.MLPClassifier(**settings).fit(X, Y > 0)
