"""Targets scaled within the model: the numbers that come out are those of y, whatever its unit, on every backend."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from common import ENGINES, VECTORISED

import fastnn
from fastnn import Sequential, Trainer, files, nn, optim
from fastnn.nn.target_scale import TargetScale

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4))
Z = np.column_stack([X[:, 0] * X[:, 1] + X[:, 2], np.tanh(X[:, 3]) - X[:, 0]])
Y = 25_000 + 700 * Z[:, :1]
LOSSES = {
    "mse": lambda r: (r**2).mean(),
    "half_mse": lambda r: (r**2).sum(axis=1).mean() / 2 if r.shape[1] == 1 else (r**2).mean() / 2,
    "mae": lambda r: np.abs(r).mean(),
    "huber": lambda r: np.where(np.abs(r) <= 500.0, r**2 / 2, 500.0 * (np.abs(r) - 250.0)).mean(),
    "quantile": lambda r: np.where(r < 0, -0.9 * r, 0.1 * r).mean(),
    "expectile": lambda r: (np.where(r > 0, 0.1, 0.9) * r**2).mean(),
}
OWN = {"huber": nn.Huber(500.0), "quantile": nn.Quantile(0.9), "expectile": nn.Expectile(0.9)}


def loss_of(name: str):
    return OWN.get(name, name)


def trainer(loss="mse", outputs: int = 1, scaled: bool = True, **settings) -> Trainer:
    model = Sequential([nn.Dense(16, "tanh"), nn.Dense(outputs)])
    return Trainer(
        model, loss_of(loss), **{"optimizer": optim.Adam(0.01), "seed": 0, "scale_targets": scaled, **settings}
    )


def fit(made: Trainer, y=Y, epochs: int = 5, **settings):
    return made.fit(X, y, epochs=epochs, verbose=False, **settings)


def moments(y) -> tuple[np.ndarray, float]:
    return y.mean(axis=0), float(np.sqrt(((y - y.mean(axis=0)) ** 2).mean()))


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_the_fit_of_targets_scaled_by_hand(loss, outputs, backend):
    """Bit for bit in the parameters, and in y's units in all that is reported."""
    y = 25_000 + 700 * Z[:, :outputs]
    shift, scale = moments(y)
    made, by_hand = (
        trainer(loss, outputs, backend=backend, metrics=["mae", "r2"]),
        trainer(loss, outputs, False, backend=backend),
    )
    if loss == "huber":
        by_hand.loss = nn.Huber(500.0 / scale)
    history = fit(made, y, validation=(X, y))
    other = by_hand.fit(X, (y - shift) / scale, epochs=5, verbose=False)
    np.testing.assert_array_equal(made.model.state.parameters, by_hand.model.state.parameters)
    unit = scale if loss in ("mae", "quantile") else scale**2
    np.testing.assert_allclose(history["loss"], np.array(other["loss"]) * unit, rtol=1e-12)
    prediction = made.model.predict(X)
    assert prediction.dtype == np.float64
    np.testing.assert_allclose(prediction, shift + scale * by_hand.model.predict(X).astype(float), rtol=1e-14)
    assert history["val_loss"][-1] == pytest.approx(LOSSES[loss](prediction - y), rel=1e-6)  # z: float32
    assert history["val_mae"][-1] == pytest.approx(np.abs(prediction - y).mean(), rel=1e-6)
    assert made.evaluate(X, y)["loss"] == history["val_loss"][-1]


def test_without_it_nothing_is_changed():
    one, other = (
        trainer(scaled=False),
        Trainer(Sequential([nn.Dense(16, "tanh"), nn.Dense(1)]), "mse", optim.Adam(0.01), seed=0),
    )
    for made in (one, other):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fastnn.TargetWarning)
            fit(made)
    np.testing.assert_array_equal(one.model.state.parameters, other.model.state.parameters)
    assert one.model.target_scale is None and one.model.predict(X).dtype == np.float32


@pytest.mark.parametrize("backend", ENGINES)
def test_targets_that_float32_has_not(backend, recwarn):
    """Unix seconds: float32 has them in steps of 128. scikit-learn's numbers, from what predict gives."""
    metrics = pytest.importorskip("sklearn.metrics")
    y = 1.7e9 + 5 * Z[:, 0]
    made = trainer(metrics=["mae", "rmse", "r2"], backend=backend)
    fit(made, y, epochs=60)
    assert not recwarn.list
    scores, prediction = made.evaluate(X, y), made.model.predict(X)[:, 0]
    assert scores["mae"] == pytest.approx(metrics.mean_absolute_error(y, prediction), rel=1e-6)
    assert scores["r2"] == pytest.approx(metrics.r2_score(y, prediction), rel=1e-6)
    assert scores["loss"] == pytest.approx(metrics.mean_squared_error(y, prediction), rel=1e-6)
    assert scores["r2"] > 0.9 and scores["mae"] < 2


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1.0, 1e3, 1e9])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_unit_of_y_does_not_matter(unit, offset):
    made = trainer(metrics=["r2"])
    y = unit * (Z[:, 0] + offset)
    assert fit(made, y, epochs=30, validation=(X, y))["val_r2"][-1] > 0.8


@pytest.mark.parametrize("case", ["held out", "weight 0"])
def test_the_scale_is_that_of_the_rows_to_learn_from(case):
    """Not of those held out, nor of those whose weight is 0."""
    rows = fastnn.training.holdout.split(300, {"validation": 0.25}, 0)["training"]
    wild = np.full_like(Y, 1e7)
    wild[rows] = Y[rows]
    made = trainer()
    if case == "held out":
        fit(made, wild, validation=0.25)
    else:
        fit(made, wild, sample_weight=np.isin(np.arange(300), rows).astype(float))
    shift, scale = moments(Y[rows])
    assert made.model.target_scale.shift == pytest.approx(tuple(shift), rel=1e-12)
    assert made.model.target_scale.scale == pytest.approx(scale, rel=1e-12)


def test_a_second_fit_keeps_the_scale():
    made = trainer()
    fit(made)
    scale = made.model.target_scale
    fit(made, Y + 1e4)
    again = Trainer(made.model, "mse", optim.Adam(0.01), seed=0)
    again.fit([(X, Y + 2e4)], epochs=300, verbose=False)  # of batches, too, and of another trainer
    assert made.model.target_scale == scale and abs(made.model.predict(X).mean() - 45_000) < 500


def test_constant_targets():
    made = trainer()
    fit(made, np.full(300, 7.0), epochs=40)
    assert made.model.target_scale == TargetScale((7.0,), 1.0)
    assert np.abs(made.model.predict(X) - 7.0).max() < 0.5


def test_files_and_copies_have_it(tmp_path):
    made = trainer()
    fit(made)
    made.model.save(tmp_path / "m")
    for model in (fastnn.load(tmp_path / "m"), copy.deepcopy(made.model), pickle.loads(pickle.dumps(made)).model):
        assert model.target_scale == made.model.target_scale
        np.testing.assert_array_equal(model.predict(X), made.model.predict(X))
        assert model.evaluate(X, Y) == made.evaluate(X, Y)
    made.model.build(4, seed=0)
    assert made.model.target_scale is None


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (None, "target_scale is not an object"),
        ({"shift": [1.0]}, "target_scale is not an object"),
        ({"shift": [1.0, 2.0], "scale": 1.0}, "target_scale has 2 shifts, but the model has 1 outputs"),
        ({"shift": [1.0], "scale": 0.0}, "target_scale.scale is 0.0"),
        ({"shift": ["a"], "scale": 1.0}, "target_scale.shift is 'a'"),
        ({"shift": [float("inf")], "scale": 1.0}, "target_scale.shift is inf"),
    ],
)
def test_files_that_say_what_cannot_be(scale, message, tmp_path):
    made = trainer()
    fit(made, epochs=1)
    made.model.save(tmp_path / "m")
    header, arrays = files.read(tmp_path / "m")
    files.write(tmp_path / "m", header | {"target_scale": scale}, arrays)
    with pytest.raises(fastnn.ModelFormatError, match=message):
        fastnn.load(tmp_path / "m")


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_a_fit_that_is_resumed_ends_with_the_same_bits(loss, backend, tmp_path):
    """A new process has a new model; the scale is that of the first fit's data, which the second does not have."""

    def begun(folder):
        made = trainer(loss, backend=backend)
        fit(made, 2 * Y)
        return made, [fastnn.Checkpoint(tmp_path / folder, every="epoch")]

    whole, callbacks = begun("whole")
    fit(whole, epochs=4, callbacks=callbacks)
    half, callbacks = begun("half")
    fit(half, epochs=2, callbacks=callbacks)
    resumed = trainer(loss, backend=backend)
    fit(resumed, epochs=4, resume=tmp_path / "half")
    np.testing.assert_array_equal(resumed.model.state.parameters, whole.model.state.parameters)
    assert resumed.model.target_scale == whole.model.target_scale
    assert resumed.history["loss"] == whole.history["loss"]


def test_a_checkpoint_without_it(tmp_path):
    made = trainer(scaled=False)
    with pytest.warns(fastnn.TargetWarning):
        fit(made, epochs=1, callbacks=[fastnn.Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match=r"scale_targets is True, but .* was saved without"):
        fit(trainer(), epochs=2, resume=tmp_path)


def test_find_lr_has_losses_of_y():
    made = trainer()
    found = made.find_lr(X, Y)
    assert found.loss[0] == pytest.approx(700.0**2 * np.mean(Z[:, 0] ** 2), rel=1.0)
    assert 1e-4 < found.suggestion < 1.0 and made.model.target_scale is not None


REFUSED = {
    "poisson": (lambda: fit(trainer("poisson"), np.abs(Z[:, 0])), "loss is poisson, whose targets cannot be scaled"),
    "classes": (lambda: trainer("cross_entropy", 2).fit(X, [0, 1] * 150), "y has class labels, expected values"),
    "batches": (lambda: trainer().fit([(X, Y)]), "X is batches, whose targets are not known before"),
    "huge": (
        lambda: fit(trainer(), 1e200 * Z[:, 0]),
        "y has numbers that are too large, expected squares below 1.8e308",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_scaled(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("validation", ["rows", "fraction", "batches", None])
def test_targets_that_float32_does_not_hold(validation):
    """They are scaled in float64: a fit of 1e100 y is one of y, in other units."""
    unit = 1e100
    histories = []
    for factor in (1.0, unit):
        y = factor * (Z[:, 0] + 3.0)
        held = {"rows": (X[:50], y[:50]), "fraction": 0.25, "batches": [(X[:50], y[:50])], None: None}[validation]
        made = trainer(metrics=["mae"])
        fit(made, y, epochs=3, validation=held)
        fit(made, y, epochs=2, validation=held)
        found = made.evaluate(X, y)
        assert found["loss"] == pytest.approx(((made.model.predict(X)[:, 0] - y) ** 2).mean(), rel=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fastnn.RateWarning)  # of 5 steps
            warnings.simplefilter("error", RuntimeWarning)
            assert made.find_lr(X, y, steps=5).loss[0] > 0.0
        histories.append((made.history, made.model.predict(X) / factor))
    (plain, z), (huge, large) = histories
    for name, power in {"loss": 2, "mae": 1, "val_loss": 2, "val_mae": 1}.items():
        if name in plain:
            np.testing.assert_allclose(np.array(huge[name]) / unit**power, plain[name], rtol=1e-4)
    np.testing.assert_allclose(large, z, rtol=1e-3, atol=1e-5)


def test_targets_far_beyond_those_of_the_first_fit():
    made = trainer()
    fit(made, Z[:, 0])
    before = made.model.state.parameters.copy()
    with pytest.raises(ValueError, match=r"^y has numbers that are too large for float32 where they are scaled by"):
        fit(made, 1e60 * Z[:, 0])
    assert np.array_equal(made.model.state.parameters, before)


def test_a_model_that_was_fitted_without():
    made = trainer(scaled=False)
    fit(made, Z[:, 0])
    made.scale_targets = True
    with pytest.raises(ValueError, match="scale_targets is True, but the model was fitted without"):
        fit(made, Z[:, 0])
    with pytest.raises(TypeError, match="scale_targets is 'auto', expected True or False"):
        trainer(scaled="auto")


def test_pytorch_has_no_module_for_it():
    bridge = pytest.importorskip("fastnn.torch", exc_type=ImportError)
    made = trainer()
    fit(made)
    with pytest.raises(TypeError, match="the model has a target_scale"):
        bridge.to_torch(made.model)


# Where nothing scales -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 100.0), (100.0, 0.0), (1e-3, 0.0), (700.0, 25_000.0)])
def test_targets_that_are_far_are_told_of_once(factor, offset):
    made = trainer(scaled=False)
    with pytest.warns(fastnn.TargetWarning, match=r"y is around .* take Trainer\(\.\.\., scale_targets=T") as caught:
        fit(made, factor * Z[:, 0] + offset, epochs=1)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(made, factor * Z[:, 0] + offset, epochs=1)


@pytest.mark.parametrize("case", ["near", "scaled", "classes", "poisson", "few rows", "own", "wild features"])
def test_where_there_is_nothing_to_say(case, recwarn):
    y = {"near": 2 * Z[:, 0] + 3, "poisson": np.full(300, 50.0)}.get(case, Y)
    if case == "classes":
        Trainer(Sequential([nn.Dense(2)]), "cross_entropy", seed=0).fit(X, [0, 1] * 150, epochs=1, verbose=False)
    elif case == "wild features":  # of which Normalize is the cure
        made = Trainer(Sequential([nn.Dense(1)]), "mse", optim.Adam(0.01), seed=0)
        made.fit(1000 * X, Z[:, 0], epochs=1, verbose=False)
    elif case == "few rows":
        trainer(scaled=False).fit(X[:9], Y[:9], epochs=1, verbose=False)
    else:
        made = trainer("poisson" if case == "poisson" else "mse", scaled=case == "scaled")
        made.advises = case != "own"
        fit(made, y, epochs=1)
    assert not [one for one in recwarn if one.category is fastnn.TargetWarning]


def test_the_estimators_say_nothing(recwarn):
    pytest.importorskip("sklearn")
    fastnn.MLPRegressor(hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X, Y[:, 0])
    assert not [one for one in recwarn if one.category is fastnn.TargetWarning]
