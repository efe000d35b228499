"""X is looked at once, at the border, whoever was given it; what was checked goes down as Data. Shapes of rows."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES, parameters

import fastnn
from fastnn import Sequential, Trainer, _validate, gradient_check, nn, optim
from fastnn.data import Data

RNG = np.random.default_rng(0)
X, HELD = RNG.normal(size=(60, 6)), RNG.normal(size=(20, 6))
Y, HELD_Y = X @ RNG.normal(size=(6, 2)), RNG.normal(size=(20, 2))
CLASSES = (X[:, 0] > 0).astype(int)
IMAGES = X.reshape(60, 1, 2, 3)


def trainer(*first, **settings) -> Trainer:
    model = Sequential([*first, nn.Dense(3, "tanh"), nn.Dense(2)], dtype=np.float64)
    return Trainer(model, "mse", **{"seed": 0, "backend": AUTOMATIC, **settings})


def fitted() -> Trainer:
    made = trainer()
    made.fit(X, Y, epochs=1, verbose=False)
    return made


# Looks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the arrays of rows in which somebody, scikit-learn too, looks for NaN."""
    seen: list[tuple[int, ...]] = []
    ours, quick = _validate.finite, _validate.taken_as_it_is

    def finite(name, array, *more):
        if "X" in name or (array.ndim > 1 and "y" not in name):
            seen.append(array.shape)
        return ours(name, array, *more)

    def taken_as_it_is(X, *more):
        taken = quick(X, *more)
        if taken:
            seen.append(X.shape)
        return taken

    make = Sequential._made_live

    def made_live(self, backend):
        """The extension looks for itself; where it asks its owner, that look counts."""
        live = make(self, backend)
        call = live.call

        def recorded(x):
            before = len(seen)
            answer = call(x)
            if len(seen) == before and isinstance(x, np.ndarray):
                seen.append(x.shape)
            return answer

        live.call = recorded
        return live

    monkeypatch.setattr(Sequential, "_made_live", made_live)
    monkeypatch.setattr(_validate, "finite", finite)
    monkeypatch.setattr(_validate, "taken_as_it_is", taken_as_it_is)
    try:
        from sklearn.utils import validation
    except ImportError:
        return seen
    theirs = validation._assert_all_finite

    def assert_all_finite(array, *more, **named):
        if np.ndim(array) > 1 and named.get("input_name", "X") != "y":
            seen.append(array.shape)
        return theirs(array, *more, **named)

    monkeypatch.setattr(validation, "_assert_all_finite", assert_all_finite)
    return seen


CALLS = {
    "fit": lambda made: made.fit(X, Y, epochs=3, verbose=False),
    "fit with metrics": lambda made: (setattr(made, "metrics", ["r2"]), made.fit(X, Y, epochs=3, verbose=False)),
    "fit with a fraction held out": lambda made: made.fit(X, Y, epochs=3, validation=0.25, verbose=False),
    "evaluate": lambda made: made.evaluate(X, Y),
    "find_lr": lambda made: made.find_lr(X, Y, steps=5),
    "gradient_check": lambda made: gradient_check(made.model, X, Y, loss="mse", limit=2),
    "predict": lambda made: made.model.predict(X),
}


@pytest.mark.parametrize("call", CALLS)
def test_rows_are_looked_at_once(call, looks):
    made = fitted()
    assert looks == [X.shape]
    looks.clear()
    CALLS[call](made)
    assert looks == [X.shape]


@pytest.mark.parametrize("value", [1e30, -3e38, 1e-45, 0.0])
def test_a_row_is_taken_whatever_the_size_of_its_values(value):
    """Their squares overflow, or are 0."""
    model = Sequential([nn.Dense(2)]).build(6, seed=0)
    row = np.full((1, 6), value, np.float32)
    np.testing.assert_array_equal(model.predict(row), model.predict(np.repeat(row, 1000, axis=0))[:1])


def test_rows_of_a_first_fit_and_of_its_validation_are_looked_at_once(looks):
    trainer(nn.Normalize()).fit(X, Y, epochs=3, validation=(HELD, HELD_Y), verbose=False)
    assert looks == [X.shape, HELD.shape]


def test_batches_are_looked_at_once_each(looks):
    trainer().fit([(X, Y), (HELD, HELD_Y)], epochs=1, verbose=False)
    assert looks == [X.shape, HELD.shape]


def test_entries_of_sparse_rows_are_looked_at_once(looks):
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.csr_matrix(np.where(X > 0, X, 0.0))
    trainer().fit(x, Y, epochs=2, validation=0.25, verbose=False)
    assert looks == [(x.nnz,)]


ESTIMATORS = {
    "fit": dict(),
    "early stopping": dict(early_stopping=True),
    "a scorer of scikit-learn": dict(early_stopping=True, scoring="neg_log_loss"),
    "lbfgs": dict(solver="lbfgs"),
    "weights of classes": dict(class_weight="balanced", early_stopping=True),
}


@pytest.mark.parametrize("case", ESTIMATORS)
def test_estimators_look_at_rows_once(case, looks):
    pytest.importorskip("sklearn")
    estimator = fastnn.MLPClassifier((4,), max_iter=3, random_state=0, tol=0.0, **ESTIMATORS[case])
    with pytest.warns(Warning, match="onverge|lbfgs"):
        estimator.fit(X, CLASSES)
    assert looks == [X.shape]
    looks.clear()
    estimator.predict_proba(X)
    assert looks == [X.shape]


def test_estimators_look_at_the_rows_for_validation_once(looks):
    pytest.importorskip("sklearn")
    estimator = fastnn.MLPClassifier((4,), max_iter=3, random_state=0, scoring="roc_auc", early_stopping=True, tol=0.0)
    with pytest.warns(Warning, match="onverge"):
        estimator.fit(X, CLASSES, eval_X=HELD, eval_y=(HELD[:, 0] > 0).astype(int))
    assert looks == [X.shape, HELD.shape]


def test_tables_are_looked_at_once(looks, tmp_path):
    pandas = pytest.importorskip("pandas")
    from fastnn import tabular

    path = tmp_path / "table.csv"
    pandas.DataFrame(X, columns=list("abcdef")).assign(y=Y[:, 0]).to_csv(path, index=False)
    result = tabular.train(path, "y", tabular.Settings(hidden=(4,), epochs=3, test=0.2, verbose=False))
    assert looks == [X.shape]
    looks.clear()
    tabular.predict(result.model, path)
    assert looks == [X.shape]


# Data -------------------------------------------------------------------------------------------------------------


def test_data_are_taken_as_they_are(looks):
    here, there, weight = trainer(), trainer(), np.linspace(0.1, 1.0, 60)
    given = here.model.checked(X, Y, weight, here.loss)
    held = here.model.checked(HELD, HELD_Y, None, here.loss)
    assert isinstance(given, Data) and np.shares_memory(given.x, X)
    looks.clear()
    here.fit(given, epochs=2, validation=held, verbose=False)
    scores, predicted = here.evaluate(given), here.model.predict(given)
    found = here.find_lr(given, steps=5)
    assert looks == []
    there.fit(X, Y, sample_weight=weight, epochs=2, validation=(HELD, HELD_Y), verbose=False)
    for name, view in parameters(here.model).items():
        np.testing.assert_array_equal(view, parameters(there.model)[name])
    assert here.history["val_loss"] == there.history["val_loss"]
    assert scores == there.evaluate(X, Y, sample_weight=weight)
    np.testing.assert_array_equal(predicted, there.model.predict(X))
    np.testing.assert_array_equal(found.loss, there.find_lr(X, Y, sample_weight=weight, steps=5).loss)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made, given: made.fit(given, Y), "X is Data, which has its own y and weights"),
        (lambda made, given: made.fit(given, sample_weight=np.ones(60)), "X is Data, which has its own y and weights"),
        (lambda made, given: made.model.predict(given), "X has 6 features, but this model was built with 4"),
        (lambda made, given: made.fit(X[:, :4], Y, validation=given), "validation X has 6 features, .* built with 4"),
    ],
)
def test_data_that_do_not_fit_are_refused(call, message):
    given = trainer().model.checked(X, Y, None, nn.LOSSES["mse"])
    made = trainer()
    made.model.build(4, seed=0)
    with pytest.raises(ValueError, match=f"^{message}"):
        call(made, given)


@pytest.mark.parametrize(
    ("loss", "dtype", "outputs"), [("hinge", np.float64, 2), ("mse", np.float32, 2), ("mse", np.float64, 3)]
)
def test_data_with_targets_of_another_kind_are_refused(loss, dtype, outputs):
    given = trainer().model.checked(X, Y, None, nn.LOSSES["mse"])
    made = Trainer(Sequential([nn.Dense(outputs)], dtype=dtype), loss)
    with pytest.raises(
        ValueError, match=rf"^X is Data with y \(60, 2\) of float64, expected what {loss} and {outputs}"
    ):
        made.fit(given)
    assert not made.model.built


# Whole numbers ---------------------------------------------------------------------------------------------------

WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("backend", ENGINES)
def test_whole_numbers_are_quantities(dtype, backend):
    """Cast as they are stored: exactly up to 2^24 in float32, and to 2^53 in float64."""
    largest = np.iinfo(dtype).max
    for wanted, exact in ((np.float32, 1 << 24), (np.float64, 1 << 53)):
        rows = np.array([[0], [1], [min(largest, exact)], [min(largest, exact) - 1]], dtype)
        model = Sequential([nn.Dense(1, init=1.0)], dtype=wanted).build(1, seed=0)
        model.loss = nn.LOSSES["mse"]  # fitted before: what rounding costs was said then
        assert np.shares_memory(model.features(rows).x, rows)
        np.testing.assert_array_equal(model.predict(rows, backend=backend).astype(np.int64), rows)


# Shapes of rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3)], ids=["length, channels", "height, width, channels"])
@pytest.mark.parametrize("backend", ENGINES)
def test_rows_of_several_dimensions_are_taken_as_they_are(shape, backend, tmp_path):
    rows = X.reshape(60, *shape)
    flat = trainer(nn.Activation("tanh"), backend=backend)
    shaped = trainer(nn.Activation("tanh"), nn.Flatten(), backend=backend)
    first = trainer(nn.Flatten(), nn.Activation("tanh"), backend=backend)
    flat.fit(X, Y, epochs=2, verbose=False)
    first.fit(rows, Y, epochs=2, verbose=False)
    shaped.fit(rows, Y, epochs=2, validation=(HELD.reshape(20, *shape), HELD_Y), verbose=False)
    np.testing.assert_array_equal(flat.model.state.parameters, shaped.model.state.parameters)
    shaped.model.save(tmp_path / "model")
    again = fastnn.load(tmp_path / "model")
    for model in (shaped.model, again):
        assert model.row_shape == shape
        np.testing.assert_array_equal(model.predict(rows), flat.model.predict(X))
        with pytest.raises(ValueError, match=r"^X has rows of shape \(3, 2\), but this model was built with"):
            model.predict(X.reshape(60, 3, 2))
        with pytest.raises(ValueError, match=r"^X has rows of shape \(6,\), but this model was built with"):
            model.predict(X)
    np.testing.assert_array_equal(first.model.predict(X), flat.model.predict(X))  # under Flatten: flattened before


def test_shaped_rows_are_a_view():
    features = trainer().model.features(IMAGES)
    assert np.shares_memory(features.x, IMAGES) and features.x.shape == (60, 6) and features.row_shape == (1, 2, 3)
    assert trainer().model.features(X).row_shape == (6,)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=0)[::2], np.ndarray.tolist])
def test_shaped_rows_in_any_layout(layout):
    model = Sequential([nn.Activation("tanh"), nn.Flatten(), nn.Dense(2)], dtype=np.float64).build((1, 2, 3), seed=0)
    np.testing.assert_array_equal(model.predict(layout(IMAGES)), model.predict(IMAGES))


def test_batches_of_shaped_rows():
    flat, shaped = trainer(nn.Activation("tanh")), trainer(nn.Activation("tanh"), nn.Flatten())
    flat.fit([(X, Y)], epochs=2, verbose=False)
    shaped.fit([(IMAGES, Y)], epochs=2, verbose=False)
    assert shaped.model.row_shape == (1, 2, 3)
    np.testing.assert_array_equal(shaped.model.predict(IMAGES), flat.model.predict(X))
    with pytest.raises(ValueError, match=r"^batch 1 of X has rows of shape \(2, 1, 3\), but this model was built with"):
        shaped.fit([(IMAGES, Y), (X.reshape(60, 2, 1, 3), Y)], epochs=1, verbose=False)


SHAPED = {
    "shaped": ((2, 3), X.reshape(60, 2, 3)),
    "flat": ((6,), X),
    "other": ((3, 2), X.reshape(60, 3, 2)),
    "an image": ((1, 2, 3), IMAGES),
    "fewer": ((2, 2), X[:, :4].reshape(60, 2, 2)),
}


@pytest.mark.parametrize("first", [nn.Dense, nn.Normalize], ids=lambda first: first.__name__)
@pytest.mark.parametrize("built", ["shaped", "flat"])
@pytest.mark.parametrize("given", SHAPED)
def test_rows_have_the_shape_that_the_model_was_built_with(first, built, given, tmp_path):
    """Flat ones, too: whatever X is given to, a model from a file as well."""
    model = Sequential([first(*[3] * (first is nn.Dense)), nn.Flatten(), nn.Dense(2)], dtype=np.float64)
    (shape, taken), (other, rows) = SHAPED[built], SHAPED[given]
    model.build(shape, seed=0).loss = nn.LOSSES["mse"]
    for layer in model.layers:
        if isinstance(layer, nn.Normalize):
            layer.adapt(taken)
    model.save(tmp_path / "model")
    expected = model.predict(taken)
    for one in (model, fastnn.load(tmp_path / "model")):
        if built == given:
            np.testing.assert_array_equal(one.predict(rows), expected)
            Trainer(one, "mse", seed=0).fit(rows, Y, epochs=1, validation=(rows, Y), verbose=False)
            continue
        wrong = re.escape(f"X has rows of shape {other}, but this model was built with rows of shape {shape}")
        for call in calls(one, taken, rows):
            with pytest.raises(ValueError, match=wrong):
                call()
        np.testing.assert_array_equal(one.predict(taken), expected)


def calls(model, taken, rows) -> list[Callable[[], object]]:
    """What refuses these rows where the model was built with rows like the ones that are taken."""
    made, elsewhere = Trainer(model, "mse", seed=0), Sequential([nn.Flatten(), nn.Dense(2)], dtype=np.float64)
    return [
        lambda: model.predict(rows),
        lambda: model.predict(rows.tolist()),
        lambda: model.evaluate(rows, Y),
        lambda: made.fit(rows, Y, verbose=False),
        lambda: made.fit(elsewhere.checked(rows, Y, None, "mse"), verbose=False),
        lambda: made.fit([(rows, Y)], epochs=1, verbose=False),
        lambda: made.fit(taken, Y, validation=(rows, Y), verbose=False),
    ]


@pytest.mark.parametrize(("shape", "rows"), [((6,), X), ((2, 3), X.reshape(60, 2, 3))], ids=["flat", "shaped"])
def test_validation_rows_have_the_shape_of_the_others(shape, rows):
    """Also before the model is built: it would read them as something else."""
    other = (2, 3) if len(shape) == 1 else (6,)
    made = Trainer(Sequential([nn.Dense(2), nn.Flatten(), nn.Dense(2)]), "mse")
    wrong = re.escape(f"X has rows of shape {other}, but X has rows of shape {shape}: reshape it to {(-1, *shape)}")
    with pytest.raises(ValueError, match=f"^validation {wrong}"):
        made.fit(rows, Y, validation=(X.reshape(60, *other), Y), verbose=False)
    assert not made.model.built


@pytest.mark.parametrize("first", [nn.Flatten, partial(nn.Reshape, (6,)), partial(nn.Reshape, (3, -1))])
def test_a_first_layer_that_reads_any_shape(first):
    """Flattened rows at any time, and rows of another shape until it has seen some."""
    model = Sequential([first(), nn.Flatten(), nn.Dense(2)], dtype=np.float64).build(6, seed=0)
    expected = model.predict(X)
    for shape in ((2, 3), (3, 2), (1, 2, 3), (1, 3, 2, 1)):
        np.testing.assert_array_equal(model.predict(X.reshape(60, *shape)), expected)
    made = Trainer(model, "mse", optim.SGD(0.0), seed=0)
    made.fit(X, Y, epochs=1, validation=(IMAGES, Y), verbose=False)
    assert model.row_shape is None
    made.fit(IMAGES, Y, epochs=1, validation=(X, Y), verbose=False)
    assert model.row_shape == (1, 2, 3)
    for rows in (X, IMAGES):
        np.testing.assert_array_equal(model.predict(rows), expected)
    with pytest.raises(ValueError, match=r"^X has rows of shape \(2, 3\), but this model was built .* \(1, 2, 3\)$"):
        model.predict(X.reshape(60, 2, 3))


def test_sparse_rows_have_one_dimension():
    sparse = pytest.importorskip("scipy.sparse").csr_array(X)
    shaped = Sequential([nn.Dense(2), nn.Flatten(), nn.Dense(2)], dtype=np.float64).build((2, 3), seed=0)
    with pytest.raises(ValueError, match=r"^X has rows of shape \(6,\), but this model was built with .* \(2, 3\)"):
        shaped.predict(sparse)
    flattened = Sequential([nn.Reshape((2, 3)), *copy.deepcopy(shaped.layers)], dtype=np.float64).build(6, seed=0)
    np.testing.assert_array_equal(flattened.predict(sparse), flattened.predict(X))


def test_rows_of_a_model_of_flat_ones_stay_flat():
    made = fitted()
    with pytest.raises(
        ValueError,
        match=r"^X has rows of shape \(1, 2, 3\), but this model was built with rows of shape \(6,\): reshape it to "
        r"\(-1, 6\) if its rows are these in C order$",
    ):
        made.model.predict(IMAGES)
    made = trainer(nn.Activation("tanh"), nn.Flatten())
    with pytest.raises(ValueError, match=r"^validation X has rows of shape \(3, 2\), but X has rows of shape \(2, 3\)"):
        made.fit(X.reshape(60, 2, 3), Y, validation=(HELD.reshape(20, 3, 2), HELD_Y), verbose=False)
    assert not made.model.built


def test_more_than_four_dimensions_are_for_flatten():
    deep = X.reshape(60, 1, 2, 3, 1)
    with pytest.raises(ValueError, match=r"^X has shape \(60, 1, 2, 3, 1\), expected two dimensions .* three or four"):
        trainer().fit(deep, Y, verbose=False)
    made = trainer(nn.Flatten())
    made.fit(deep, Y, epochs=1, verbose=False)
    assert made.model.row_shape == (1, 2, 3, 1)


def test_a_bad_value_of_shaped_rows_is_found():
    spoilt = IMAGES.copy()
    spoilt[7, 0, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"^Input X contains NaN, first at row 7, position \(0, 1, 2\)$"):
        trainer().fit(spoilt, Y, verbose=False)


def test_a_bad_value_of_sparse_rows_is_found():
    sparse = pytest.importorskip("scipy.sparse")
    rows = np.where(X > 0.5, X, 0.0)
    for value, said in ((np.nan, "NaN, first at"), (np.inf, "infinity, first at")):
        rows[[8, 9], [4, 0]] = value
        with pytest.raises(ValueError, match=rf"^Input X contains {said} row 8, column 4$"):
            trainer().fit(sparse.csr_matrix(rows), Y, verbose=False)


def test_a_layer_that_reads_the_shape_of_rows_comes_back_from_a_file(tmp_path):
    made = Sequential([nn.Dense(2), nn.Flatten(), nn.Dense(1)]).build((2, 3), seed=0)  # Dense: over the channels
    made.save(tmp_path / "model")
    again = fastnn.load(tmp_path / "model")
    assert again.plan == made.plan
    np.testing.assert_array_equal(again.predict(X.reshape(60, 2, 3)), made.predict(X.reshape(60, 2, 3)))
