"""What users get wrong: an error that names the argument, before anything is touched; and what must not matter."""

from __future__ import annotations

import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from common import ENGINES, VECTORISED, build, features, parameters, run_python

import fastnn
from fastnn import Sequential, Trainer, backends, engine, nn, optim
from fastnn.formulas.losses import LOSSES

X, Y, LABELS = features(12, 4), features(12, 3, seed=9), np.arange(12) % 3


def fitted(loss: str = "cross_entropy", backend: str = "numpy", dtype=np.float32) -> Trainer:
    trainer = Trainer(build(nn.Dense(5, "tanh"), nn.Dense(3), inputs=4, dtype=dtype), loss, seed=0, backend=backend)
    y = LABELS if loss in ("cross_entropy", "hinge") else (Y > 0) * 1.0
    trainer.fit(X, y, epochs=1, verbose=False)
    return trainer


DOORS = {  # every way in for rows and targets
    "fit": lambda trainer, X, y: trainer.fit(X, y, epochs=1, verbose=False),
    "validation": lambda trainer, x, y: trainer.fit(X, good(trainer), epochs=1, verbose=False, validation=(x, y)),
    "evaluate": lambda trainer, X, y: trainer.model.evaluate(X, y),
    "gradient_check": lambda trainer, X, y: fastnn.gradient_check(trainer.model, X, y, limit=1),
}
ROWS = DOORS | {
    "predict": lambda trainer, X, y: trainer.model.predict(X),
    "predict_class": lambda trainer, X, y: trainer.model.predict_class(X),
    "predict_proba": lambda trainer, X, y: trainer.model.predict_proba(X),
}


def good(trainer: Trainer) -> np.ndarray:
    return LABELS if trainer.loss.targets[0] == "labels" else (Y > 0) * 1.0


def refused(trainer: Trainer, attempt, error, message: str) -> None:
    """The attempt raises that, and afterwards everything is as it was and works."""
    model, before = trainer.model, parameters(trainer.model)
    slots, step, epochs = [slot.copy() for slot in model.state.slots], model.state.step, len(trainer.history)
    with pytest.raises(error, match=message):
        attempt()
    assert (model.state.step, len(trainer.history)) == (step, epochs)
    for name, value in before.items():
        np.testing.assert_array_equal(model.state.views[name], value)
    for slot, value in zip(model.state.slots, slots, strict=True):
        np.testing.assert_array_equal(slot, value)
    trainer.fit(X, good(trainer), epochs=1, verbose=False)
    assert np.isfinite(model.predict(X)).all()


def with_value(value, dtype=np.float64) -> np.ndarray:
    array = X.astype(dtype)
    array[7, 2] = value
    return array


class Table:
    """The part of a data frame that is looked at."""

    def __init__(self, columns, array=X) -> None:
        self.columns, self.array = columns, array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


# 1, 3, 4, 6, 8: rows ------------------------------------------------------------------------------------------

BAD_ROWS = {
    "NaN": (with_value(np.nan), ValueError, "Input {X} contains NaN"),
    "NaN in float32": (with_value(np.nan, np.float32), ValueError, "Input {X} contains NaN"),
    "NaN in float16": (with_value(np.nan, np.float16), ValueError, "Input {X} contains NaN"),
    "infinity": (with_value(np.inf), ValueError, "Input {X} contains infinity"),
    "-infinity": (with_value(-np.inf), ValueError, "Input {X} contains infinity"),
    "too large for float32": (
        with_value(1e39),
        ValueError,
        r"Input {X} contains 1e\+39, a value too large for float32",
    ),
    "-too large": (with_value(-1e39), ValueError, r"Input {X} contains 1e\+39, a value too large for float32"),
    "one row as a vector": (
        X[0],
        ValueError,
        r"{X} has shape \(4,\), expected two dim.*reshape\(1, -1\) if .* one row",
    ),
    "3-D": (X[None], ValueError, r"{X} has rows of shape \(12, 4\), but this model was built with .* \(4,\)"),
    "5-D": (X[None, None, None], ValueError, r"{X} has shape \(1, 1, 1, 12, 4\), expected two .*, three or four"),
    "a number": (3.0, ValueError, r"{X} has shape \(\), expected two dimensions"),
    "0 rows": (X[:0], ValueError, r"{X} has 0 rows \(shape \(0, 4\)\), expected at least 1"),
    "0 features": (X[:, :0], ValueError, r"{X} has 0 features \(shape \(12, 0\)\), expected at least 1"),
    "empty list": ([], ValueError, r"{X} has shape \(0,\), expected two dimensions"),
    "too many features": (features(12, 5), ValueError, "{X} has 5 features, but this model was built with 4"),
    "too few features": (X[:, :3], ValueError, "{X} has 3 features, but this model was built with 4"),
    "None": (None, ValueError, "{X} is None, expected an array of numbers"),
    "complex": (X + 0j, ValueError, r"{X} has complex values \(complex128\), expected real numbers"),
    "dates": (X.astype("datetime64[s]"), TypeError, r"{X} has dtype datetime64\[s\], expected numbers"),
    "times": (X.astype("timedelta64[s]"), TypeError, r"{X} has dtype timedelta64\[s\], expected numbers"),
    "dictionaries": ([[{}, {}, {}, {}]], TypeError, "{X} has dtype object, expected numbers"),
    "date objects": ([[datetime.date.today()] * 4], TypeError, "{X} has dtype object, expected numbers"),
    "text": ([["a", "b", "c", "d"]], ValueError, "{X} has dtype <U1, expected numbers.*'a'"),
    "ragged": ([[1, 2, 3, 4], [1, 2, 3]], ValueError, "{X} is not an array"),
    "records": (np.zeros(3, dtype="f4,f4"), (TypeError, ValueError), "{X} has records with the fields"),
    "None among numbers": ([[None, 1.0, 2.0, 3.0]], ValueError, "Input {X} contains NaN"),
    "masked": (np.ma.masked_greater(X, 1.0), ValueError, "{X} is a masked array with [0-9]+ masked values"),
}


@pytest.mark.parametrize("door", ROWS)
@pytest.mark.parametrize("fault", BAD_ROWS)
def test_rows(fault, door):
    value, error, message = BAD_ROWS[fault]
    trainer = fitted()
    name = "validation X" if door == "validation" else "X"
    refused(trainer, lambda: ROWS[door](trainer, value, LABELS), error, "^" + message.replace("{X}", name))


def test_numbers_too_large_for_float32_fit_into_float64():
    model = build(nn.Dense(1), inputs=4, dtype=np.float64)
    assert np.isfinite(model.predict(with_value(1e39))).all()


@pytest.mark.parametrize("position", [0, 1, -1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e39])
def test_a_bad_value_is_found_wherever_it_hides(position, value, monkeypatch):
    """Also beyond the first chunk of the check; where several are bad, the first one's place is said."""
    monkeypatch.setattr("fastnn._validate._CHUNK", 8)
    X_ = X.copy()
    X_[position, position] = value
    X_[-1, -1] = value
    row, column = (11, 3) if position < 0 else (position, position)
    with pytest.raises(ValueError, match=rf"^Input X contains .*at row {row}, column {column}$"):
        fitted().model.predict(X_)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_the_place_of_a_bad_target_or_weight(value):
    trainer = fitted("mse")
    for y, place in ((_spoil(Y, value), "row 11, column 2"), (_spoil(Y[:, 0], value), "row 11")):
        with pytest.raises(ValueError, match=rf"^Input y contains (NaN|infinity), first at {place}$"):
            Trainer(Sequential([nn.Dense(y.shape[1] if y.ndim == 2 else 1)]), "mse").fit(X, y, verbose=False)
    with pytest.raises(ValueError, match=r"^Input sample_weight contains (NaN|infinity), first at row 11$"):
        trainer.model.evaluate(X, Y, sample_weight=_spoil(np.ones(12), value))


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="longdouble is float64 here")
def test_the_place_of_a_value_beyond_float64():
    with pytest.raises(ValueError, match=r"^Input X contains infinity, first at row 7, column 2$"):
        fitted().model.predict(with_value(np.longdouble("1e400"), np.longdouble))


def test_sparse_targets_and_weights():
    sparse = pytest.importorskip("scipy.sparse")
    trainer = fitted()
    message = r"^y is a sparse matrix, expected a dense array: call y\.toarray\(\)"
    refused(trainer, lambda: trainer.fit(X, sparse.csr_matrix(Y)), TypeError, message)


@pytest.mark.parametrize("door", ROWS)
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "contains NaN"), (np.inf, "contains inf"), (1e39, "too large")]
)
def test_sparse_rows_with_a_bad_value(door, value, message):
    sparse = pytest.importorskip("scipy.sparse")
    trainer = fitted()
    refused(trainer, lambda: ROWS[door](trainer, sparse.csr_matrix(with_value(value)), LABELS), ValueError, message)


def test_columns_in_another_order():
    model = Sequential([nn.Dense(2)])
    trainer = Trainer(model, "mse", seed=0)
    trainer.fit(Table(["a", "b", "c", "d"]), Y[:, :2], epochs=1, verbose=False)
    message = r"^X has column 'c' at position 1, but this model was fitted with 'b' there"
    wrong = Table(["a", "c", "b", "d"])
    for attempt in (
        lambda: model.predict(wrong),
        lambda: model.evaluate(wrong, Y[:, :2]),
        lambda: trainer.fit(wrong, Y[:, :2], verbose=False),
        lambda: fastnn.gradient_check(model, wrong, Y[:, :2]),
    ):
        with pytest.raises(ValueError, match=message):
            attempt()
    with pytest.raises(ValueError, match=r"^X has no column at position 3, .* with 'd' there"):
        model.predict(Table(["a", "b", "c"], X[:, :3]))
    with pytest.raises(ValueError, match=r"^X has column 'e' at position 4, .* with none there"):
        model.predict(Table(list("abcde"), features(12, 5)))
    np.testing.assert_array_equal(model.predict(Table(["a", "b", "c", "d"])), model.predict(X))


def test_columns_of_the_validation_data():
    """Already at the first fit, which is where the names come from."""
    trainer = Trainer(Sequential([nn.Dense(2)]), "mse", seed=0)
    with pytest.raises(ValueError, match=r"^validation X has column 'b' at position 0, .* fitted with 'a'"):
        trainer.fit(Table(list("abcd")), Y[:, :2], validation=(Table(list("badc")), Y[:, :2]), verbose=False)
    assert not trainer.model.built


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_data_frames(package):
    frames = pytest.importorskip(package)
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate("abcd")})
    trainer = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", seed=0)
    trainer.fit(frame, frames.Series(LABELS), epochs=1, verbose=False)
    np.testing.assert_array_equal(trainer.model.predict(frame), trainer.model.predict(X))
    with pytest.raises(ValueError, match="X has column 'b' at position 0"):
        trainer.model.predict(frame[["b", "a", "c", "d"]])


# 2, 5, 9: targets ---------------------------------------------------------------------------------------------


def _spoil(array, value):
    array = np.array(array, dtype=object if value is None else None)
    array.flat[-1] = value
    return array


BAD_TARGETS = {
    ("cross_entropy", "NaN"): (_spoil(LABELS * 1.0, np.nan), ValueError, "Input {y} contains NaN"),
    ("cross_entropy", "infinity"): (_spoil(LABELS * 1.0, np.inf), ValueError, "Input {y} contains infinity"),
    ("mse", "NaN"): (_spoil(Y, np.nan), ValueError, "Input {y} contains NaN"),
    ("mse", "infinity"): (_spoil(Y, -np.inf), ValueError, "Input {y} contains infinity"),
    ("mse", "too large for float32"): (_spoil(Y, 1e39), ValueError, "Input {y} contains .* too large for float32"),
    ("cross_entropy", "too short"): (LABELS[:5], ValueError, "{y} has 5 rows, but X has 12"),
    ("mse", "too long"): (np.vstack([Y, Y]), ValueError, "{y} has 24 rows, but X has 12"),
    ("mse", "too narrow"): (Y[:, :2], ValueError, r"{y} has shape \(12, 2\), expected \(12, 3\) for 3 outputs"),
    ("mse", "1-D for three outputs"): (Y[:, 0], ValueError, r"{y} has shape \(12,\), expected \(12, 3\)"),
    ("mse", "3-D"): (Y[None], ValueError, r"{y} has shape \(1, 12, 3\), expected \(rows,\) or \(rows, 3\)"),
    ("cross_entropy", "a number"): (1, ValueError, r"{y} has shape \(\), expected \(rows,\)"),
    ("cross_entropy", "None"): (None, ValueError, "{y} is None, expected an array of numbers"),
    ("mse", "None"): (None, ValueError, "{y} is None, expected an array of numbers"),
    ("cross_entropy", "text"): (["a"] * 12, TypeError, r"{y} has text \(str\), expected numbers: encode labels"),
    ("cross_entropy", "mixed"): (["a", *LABELS[1:]], TypeError, r"{y} has text \(str\), expected numbers"),
    ("hinge", "mixed objects"): (_spoil(LABELS.astype(object), "b"), TypeError, r"{y} has text \(int, str\), expected"),
    ("mse", "text"): (["a"] * 12, TypeError, "{y} has text"),
    ("cross_entropy", "ragged"): ([[1], [1, 2]] * 6, ValueError, "{y} is not an array"),
    ("cross_entropy", "continuous"): (
        LABELS + 0.5,
        ValueError,
        r"{y} has values that are not whole numbers.* 0 \.\. 2",
    ),
    ("cross_entropy", "label too high"): (LABELS + 1, ValueError, r"{y} has label 3, expected labels 0 \.\. 2 for 3"),
    ("cross_entropy", "label too low"): (LABELS - 1, ValueError, "{y} has label -1, expected labels"),
    ("hinge", "label too high"): (LABELS + 1, ValueError, "{y} has label 3, expected labels"),
    ("cross_entropy", "huge label"): (LABELS * 1e300, ValueError, "{y} has label"),
    ("cross_entropy", "no distribution"): (np.full((12, 3), 0.5), ValueError, "{y} has rows that do not sum to 1"),
    ("cross_entropy", "negative"): (np.tile([-1, 1, 1], (12, 1)), ValueError, r"{y} has value -1, expected values in"),
    ("binary_cross_entropy", "above 1"): (Y * 0 + 1.5, ValueError, r"{y} has value 1.5, expected values in \[0, 1\]"),
    ("poisson", "negative"): (Y * 0 - 2, ValueError, r"{y} has value -2, expected values in \[0, inf\] for poisson"),
    ("hinge", "one-hot"): (np.eye(3)[LABELS], ValueError, "{y}: hinge with shape .*, expected class labels"),
    ("mse", "complex"): (Y + 0j, ValueError, "{y} has complex values"),
    ("mse", "dates"): (Y.astype("datetime64[s]"), TypeError, r"{y} has dtype datetime64\[s\]"),
    ("cross_entropy", "dates"): (LABELS.astype("datetime64[s]"), TypeError, r"{y} has dtype datetime64\[s\]"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("loss", "fault"), BAD_TARGETS)
def test_targets(loss, fault, door):
    if "float32" in fault and door == "gradient_check":
        pytest.skip("which computes in float64")
    value, error, message = BAD_TARGETS[loss, fault]
    trainer = fitted(loss)
    message = message.replace("{y}", "validation y" if door == "validation" else "y")
    refused(trainer, lambda: DOORS[door](trainer, X, value), error, "^" + message)


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_one_output_has_no_classes(loss):
    trainer = Trainer(Sequential([nn.Dense(1)]), loss, seed=0)
    with pytest.raises(ValueError, match=rf"^y: {loss} with one output, expected class labels .* two or more outputs"):
        trainer.fit(X, LABELS, verbose=False)
    assert not trainer.model.built


@pytest.mark.parametrize("form", [LABELS, LABELS * 1.0, LABELS.astype(np.uint8), list(LABELS), LABELS[:, None]])
def test_labels_in_any_form(form):
    expected = trained_on(LABELS).model.predict(X)
    np.testing.assert_array_equal(expected, trained_on(form).model.predict(X), err_msg=repr(form))


def trained_on(labels) -> Trainer:
    trainer = Trainer(build(nn.Dense(5, "tanh"), nn.Dense(3), inputs=4, dtype=np.float32), "cross_entropy", seed=0)
    trainer.fit(X, labels, epochs=1, verbose=False)
    return trainer


def test_one_output_takes_a_vector_or_a_column():
    outs = []
    for y in (Y[:, 0], Y[:, :1]):
        model = build(nn.Dense(1), inputs=4)
        Trainer(model, "mse", seed=0).fit(X, y, epochs=1, verbose=False)
        outs.append(model.predict(X))
    np.testing.assert_array_equal(*outs)


# 10: one class ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ENGINES)
def test_a_single_class(backend):
    model = Sequential([nn.Dense(3)])
    trainer = Trainer(model, "cross_entropy", optim.SGD(1.0), seed=0, backend=backend)
    trainer.fit(X, np.full(12, 1), epochs=200, verbose=False)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1.0, atol=0.02)


# 11: weights --------------------------------------------------------------------------------------------------

BAD_WEIGHTS = {
    "negative": (np.linspace(-1, 1, 12), ValueError, "{w} has value -1, expected weights >= 0"),
    "all zero": (np.zeros(12), ValueError, "{w} is all zero in float(32|64), expected at least one weight > 0"),
    "NaN": (_spoil(np.ones(12), np.nan), ValueError, "Input {w} contains NaN"),
    "infinity": (_spoil(np.ones(12), np.inf), ValueError, "Input {w} contains infinity"),
    "too short": (np.ones(3), ValueError, "{w} has 3 rows, but X has 12"),
    "2-D": (np.ones((12, 1)), ValueError, r"{w} has shape \(12, 1\), expected \(12,\)"),
    "text": (["a"] * 12, ValueError, "{w} has dtype <U1, expected numbers"),
    "a number": (1.0, ValueError, r"{w} has shape \(\), expected \(12,\)"),
    "zero in float32": (np.full(12, 1e-60), ValueError, "{w} is all zero"),
}


@pytest.mark.parametrize("door", ["fit", "validation", "evaluate", "gradient_check"])
@pytest.mark.parametrize("fault", BAD_WEIGHTS)
def test_sample_weights(fault, door):
    weight, error, message = BAD_WEIGHTS[fault]
    trainer = fitted()
    if "float32" in fault and door == "gradient_check":
        pytest.skip("which computes in float64")
    attempt = {
        "fit": lambda: trainer.fit(X, LABELS, sample_weight=weight, verbose=False),
        "validation": lambda: trainer.fit(X, LABELS, validation=(X, LABELS, weight), verbose=False),
        "evaluate": lambda: trainer.model.evaluate(X, LABELS, sample_weight=weight),
        "gradient_check": lambda: fastnn.gradient_check(trainer.model, X, LABELS, sample_weight=weight),
    }[door]
    name = "validation sample_weight" if door == "validation" else "sample_weight"
    refused(trainer, attempt, error, "^" + message.replace("{w}", name))


# 7, 12: order and settings ------------------------------------------------------------------------------------


def test_a_model_without_a_loss():
    model = build(nn.Dense(3), inputs=4)
    for attempt in (
        lambda: model.predict_proba(X),
        lambda: model.predict_class(X),
        lambda: model.evaluate(X, LABELS),
        lambda: fastnn.gradient_check(model, X, LABELS),
    ):
        with pytest.raises(fastnn.NotFittedError, match="this model has no loss yet: fit it with a Trainer, or set"):
            attempt()
    assert issubclass(fastnn.NotFittedError, (ValueError, AttributeError))


def test_gradient_check_of_an_unbuilt_model():
    with pytest.raises(fastnn.NotFittedError, match="this model is not built yet"):
        fastnn.gradient_check(Sequential([nn.Dense(3)]), X, LABELS, loss="cross_entropy")


BAD_SETTINGS = {
    "epochs": [
        (0, ValueError),
        (-1, ValueError),
        (1.5, TypeError),
        ("3", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
    "batch_size": [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("all", TypeError), (None, TypeError)],
    "validation": [
        (X, TypeError),
        ((X,), TypeError),
        ((X, LABELS, None, None), TypeError),
        (1, TypeError),
        ("0.2", TypeError),
        (0.0, ValueError),
        (1.0, ValueError),
        (-0.2, ValueError),
        (np.nan, ValueError),
        (0.01, ValueError),
    ],
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [(name, *case) for name, cases in BAD_SETTINGS.items() for case in cases],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_settings_of_a_fit(name, value, error):
    trainer = fitted()
    attempt = partial(trainer.fit, X, LABELS, verbose=False, **{name: value})
    refused(trainer, attempt, error, rf"^{name} is .*, expected")


def test_validation_with_other_features():
    trainer = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", seed=0)
    with pytest.raises(ValueError, match=r"^validation X has 3 features, but X has 4"):
        trainer.fit(X, LABELS, validation=(X[:, :3], LABELS), verbose=False)
    assert not trainer.model.built


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("epsilon", 0.0, ValueError), ("epsilon", "1", TypeError), ("limit", 0, ValueError), ("limit", 1.5, TypeError)],
)
def test_settings_of_a_gradient_check(name, value, error):
    trainer = fitted()
    attempt = partial(fastnn.gradient_check, trainer.model, X, LABELS, **{name: value})
    refused(trainer, attempt, error, rf"^{name} is {value!r}, expected")


@pytest.mark.parametrize("fault", ["NaN", "text", "0 rows"])
def test_a_refused_first_fit_leaves_an_unbuilt_model(fault):
    value, error, _ = BAD_ROWS[fault]
    trainer = Trainer(Sequential([nn.Normalize(), nn.Dense(3)]), "cross_entropy", seed=0)
    with pytest.raises(error):
        trainer.fit(value, LABELS, verbose=False)
    assert not trainer.model.built
    assert trainer.model.feature_names is None
    trainer.fit(features(12, 7), LABELS, epochs=1, verbose=False)  # any number of features still fits


# 13, 14: what must not matter ---------------------------------------------------------------------------------

WHOLE = np.random.default_rng(1).integers(-9, 9, size=(40, 6))  # the same numbers in every dtype


def _misaligned(array):
    raw = np.zeros(array.nbytes + 1, dtype=np.uint8)
    out = raw[1:].view(array.dtype).reshape(array.shape)
    out[...] = array
    assert out.ctypes.data % 2 == 1
    return out


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _memmap(array, folder: Path):
    path = folder / "rows.bin"
    array.tofile(path)
    return np.memmap(path, dtype=array.dtype, mode="r", shape=array.shape)


LAYOUTS = {
    "reversed rows": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "reversed columns": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "Fortran order": np.asfortranarray,
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "a window": lambda a: np.pad(a, 3)[3:-3, 3:-3],
    "read-only": _read_only,
    "misaligned": _misaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "list": lambda a: a.tolist(),
    "object": lambda a: a.astype(object),
    "subclass": lambda a: a.view(np.matrix),
}
DTYPES = [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.int64, np.uint8, np.uint64, np.bool_]


def outcome(x, y, weight, backend, dtype) -> dict[str, np.ndarray]:
    model = Sequential([nn.Normalize(), nn.Dense(5, "tanh"), nn.Dense(2)], dtype=dtype)
    trainer = Trainer(model, "mse", seed=0, backend=backend)
    trainer.fit(x, y, sample_weight=weight, epochs=2, batch_size=16, verbose=False)
    return parameters(model) | {"prediction": model.predict(x, backend=backend)}


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    for name, value in left.items():
        np.testing.assert_array_equal(right[name], value, err_msg=name)


@pytest.mark.parametrize("compute", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
@pytest.mark.parametrize("layout", [*LAYOUTS, "memmap"])
@pytest.mark.parametrize("backend", ENGINES)
def test_memory_layout_does_not_matter(backend, layout, dtype, compute, tmp_path):
    """With values that are not whole, so that another order of a sum would show."""
    change = partial(_memmap, folder=tmp_path) if layout == "memmap" else LAYOUTS[layout]
    rng = np.random.default_rng(2)
    scale = 1.0 if np.dtype(dtype).kind in "iu" else 0.1
    x = (rng.integers(0, 99, size=(40, 6)) * scale).astype(dtype)
    y, weight = (0.1 * rng.integers(0, 99, size=(40, 2))), 0.1 * rng.integers(1, 9, size=40)
    if layout in ("list", "object"):
        x = x.astype(np.float64 if dtype == np.float32 else dtype)  # which is what a list of its values holds
    if layout in ("list", "object") and np.dtype(dtype).kind in "iu":
        pytest.skip("a list of whole numbers is an int64 array, an object array of them float64")
    expected = outcome(x, y, weight, backend, compute)
    same(expected, outcome(change(x), y, weight, backend, compute))
    if layout not in ("memmap", "subclass"):
        same(expected, outcome(x, change(y), weight, backend, compute))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("backend", ENGINES)
def test_dtype_does_not_matter(backend, dtype):
    """Whole numbers and a float32 model: each dtype as its float32 copy."""
    x = (np.abs(WHOLE) if np.dtype(dtype).kind in "ub" else WHOLE).astype(dtype)
    y, weight = x[:, :2], np.ones(40, dtype=dtype)
    expected = outcome(x.astype(np.float32), y.astype(np.float32), weight.astype(np.float32), backend, np.float32)
    same(expected, outcome(x, y, weight, backend, np.float32))


def test_data_is_left_alone():
    x, y, weight = X.copy(), LABELS.copy(), np.ones(12)
    trainer = Trainer(Sequential([nn.Normalize(), nn.Dense(3)], dtype=np.float64), "cross_entropy", seed=0)
    trainer.fit(x, y, sample_weight=weight, epochs=2, verbose=False)
    trainer.model.predict(x)[...] = 7.0
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, LABELS)
    np.testing.assert_array_equal(weight, 1)


@pytest.mark.parametrize("layers", [[nn.Flatten()], [nn.Dropout(0.5)]], ids=repr)
def test_a_prediction_is_never_a_view_of_the_data(layers):
    x = X.copy()
    prediction = Sequential(layers, dtype=np.float64).build(4).predict(x)
    prediction[...] = 7.0
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 100, "full"])
@pytest.mark.parametrize("backend", ENGINES)
def test_few_rows(backend, rows, batch_size):
    layers = [nn.Normalize(), nn.Dense(4), nn.BatchNorm(), nn.LayerNorm(), nn.Dense(3)]
    trainer = Trainer(Sequential(layers), "cross_entropy", seed=0, backend=backend)
    trainer.fit(X[:rows], LABELS[:rows], epochs=3, batch_size=batch_size, verbose=False)
    assert np.isfinite(trainer.model.state.parameters).all()
    assert np.isfinite(trainer.history["loss"]).all()


# 15: sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ENGINES)
def test_rows_beyond_2_to_the_31_elements(backend, tmp_path):
    """The last rows of a (sparse) file of 2.2 GB are those that are asked for."""
    columns, extra = 64, 5
    rows = 2**31 // columns + extra
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(rows * columns)
    large = np.memmap(path, dtype=np.uint8, mode="r+", shape=(rows, columns))
    large[-extra:] = np.random.default_rng(0).integers(0, 255, size=(extra, columns))
    small, y = np.array(large[-extra:]), np.arange(rows - extra, rows) % 3
    results = []
    for x, order, labels in (
        (large, np.arange(rows - extra, rows), None),
        (small, np.arange(extra), y),
    ):
        model = build(nn.Dense(3), inputs=columns, dtype=np.float32)
        if labels is None:
            labels = np.zeros(rows, dtype=np.int64)
            labels[-extra:] = y
        objective = engine.Objective(LOSSES["cross_entropy"], optim.SGD())
        run = backends.load(backend).train_steps
        batches = engine.Batches(np.asarray(x), labels, None, order, 2)
        losses = run(model.plan, model.state, objective, batches, np.full(3, 0.01))
        results.append((losses, parameters(model)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    same(results[0][1], results[1][1])


# 17, 18: numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ENGINES)
def test_a_nan_in_a_parameter_reaches_the_prediction(backend):
    model = build(nn.Dense(5, "relu"), nn.BatchNorm(), nn.Dense(3, "softmax"), inputs=4)
    model.layers[0].weight[0, 0] = np.nan
    assert np.isnan(model.predict(X, backend=backend)).any()


@pytest.mark.parametrize("backend", VECTORISED)
def test_denormal_numbers_survive_every_call(backend):
    """A library that sets flush-to-zero changes everybody's arithmetic."""
    tiny = np.full(100, 1e-310)
    half = tiny / 2
    assert half[0] > 0
    trainer = fitted(backend=backend)
    trainer.model.predict(X, backend=backend)
    np.testing.assert_array_equal(tiny / 2, half)
    assert float(np.float32(1e-40) * np.float32(0.5)) > 0


# 28, 30: errors from elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("backend", ENGINES)
def test_an_error_in_a_metric_is_passed_on(backend, error):
    def metric(y, prediction):
        raise error

    trainer = Trainer(Sequential([nn.Dense(3)]), "cross_entropy", metrics=[metric], seed=0, backend=backend)
    with pytest.raises(type(error)) as caught:
        trainer.fit(X, LABELS, epochs=3, verbose=False)
    assert caught.value is error
    assert np.isfinite(trainer.model.predict(X, backend=backend)).all()


BLOCK = """
    import sys, warnings
    for name in {blocked!r}:
        sys.modules["fastnn.backends." + name] = None
    import fastnn, numpy as np
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            model = fastnn.Sequential([fastnn.nn.Dense(2)])
            trainer = fastnn.Trainer(model, "mse", seed=0)
            trainer.fit(np.eye(3), np.eye(3)[:, :2], epochs=1, verbose=False)
            model.predict(np.eye(3))
    print(trainer.backend.name, len(caught), *(f"{{w.category.__name__}}: {{w.message}}" for w in caught))
"""


def test_falling_back_is_said_once():
    done = run_python(BLOCK.format(blocked=["native", "numba_jit"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("numpy 1 FallbackWarning: using numpy, which is slower: backend 'native' is not")
    assert "install a C++ compiler" in done.stdout


def test_what_was_chosen_is_no_fallback():
    done = run_python(BLOCK.format(blocked=["native", "numba_jit"]), FASTNN_BACKEND="numpy")
    assert done.stdout.strip() == "numpy 0", done.stderr


def test_asking_for_what_is_missing_is_an_error():
    code = """
        import sys
        sys.modules["fastnn.backends.native"] = sys.modules["fastnn.backends.numba_jit"] = None
        import fastnn
        for name in ("native", "numba"):
            for ask in (fastnn.backends.load, lambda name: fastnn.use_backend(name).__enter__()):
                try:
                    ask(name)
                except fastnn.BackendUnavailable as error:
                    assert isinstance(error, ImportError)
                    print(error)
    """
    done = run_python(code)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all("backend 'native' is not available" in line and "compiler" in line for line in lines[:2])
    assert all("backend 'numba' is not available" in line and "[numba]" in line for line in lines[2:])


def test_a_library_that_cannot_be_mapped_means_the_next_backend():
    """As under a limit of memory, where numba's import ends with an OSError of llvmlite's."""
    code = """
        import sys, warnings
        class Unmapped:
            def find_spec(self, name, path=None, target=None):
                if name in ("llvmlite", "fastnn._native"):
                    raise OSError(f"Could not find/load shared object file of {name!r}")
        sys.meta_path.insert(0, Unmapped())
        import fastnn
        from fastnn import backends, nn
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print(backends.resolve().name, [str(warning.message)[:90] for warning in caught])
        print("numba" in backends.available(), "native" in backends.available())
        try:
            backends.load("numba")
        except fastnn.BackendUnavailable as error:
            print(error)
        model = fastnn.Sequential([nn.Dense(1)])
        print(len(fastnn.Trainer(model, "mse", seed=0).fit([[0.0], [1.0]], [0.0, 1.0], epochs=2)))
    """
    done = run_python(code)
    first, kinds, numba, epochs = done.stdout.splitlines()
    assert first.startswith("numpy [") and "using numpy, which is slower: backend 'native'" in first, done.stderr
    assert kinds == "False False" and epochs == "2"
    why = "Could not find/load shared object file of 'llvmlite'" if find_spec("numba") else "No module named 'numba'"
    assert f"backend 'numba' is not available ({why})" in numba


def test_an_unknown_backend_in_the_environment():
    done = run_python("import fastnn; fastnn.backends.resolve()", FASTNN_BACKEND="cuda")
    assert "ValueError: FASTNN_BACKEND is 'cuda', expected 'auto' or one of: numpy" in done.stderr


def test_use_backend_ends_with_its_block():
    with fastnn.use_backend("numpy"):
        assert backends.resolve().name == "numpy"
        with pytest.raises(ValueError, match="backend is 'cuda'"), fastnn.use_backend("cuda"):
            pass
        assert backends.resolve("auto").name == "numpy"


def test_importing_needs_numpy_alone():
    """Neither the optional packages nor a warning."""
    code = """
        import sys, warnings
        warnings.simplefilter("error")
        for name in ("numba", "sklearn", "scipy", "matplotlib", "tqdm", "torch", "pandas"):
            sys.modules[name] = None
        import fastnn
        fastnn.show_config()
    """
    done = run_python(code, FASTNN_BACKEND="numpy")
    assert done.returncode == 0, done.stderr
    assert "backend          numpy" in done.stdout
