"""What a fit takes: frames, tensors, sparse matrices, batches, fractions, weights by class; settings and metrics."""

from __future__ import annotations

import math
import sys
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from common import AUTOMATIC, ENGINES, features, parameters

import fastnn
from fastnn import History, Sequential, Trainer, backends, nn, optim

X = np.round(features(50, 4), 3) + 2.0
Y = np.round(X[:, :1] * X[:, 1:2] - X[:, 2:3], 3)
LABELS = (X[:, 0] > 2.2).astype(np.int64) + (X[:, 1] > 2.5)
WEIGHT = np.linspace(0.5, 2.0, 50)

engines = pytest.mark.parametrize("backend", ENGINES)


def make(backend=AUTOMATIC, loss="mse", *first, outputs=1, dtype=np.float32, **settings) -> Trainer:
    layers = [*(kind() for kind in first), nn.Dense(8, "tanh"), nn.BatchNorm(), nn.Dropout(0.1), nn.Dense(outputs)]
    settings = dict(seed=0) | settings
    return Trainer(
        Sequential(layers, dtype=dtype), loss, settings.pop("optimizer", "adam"), backend=backend, **settings
    )


def fit(trainer: Trainer, x=X, y=Y, **settings) -> Trainer:
    trainer.fit(x, y, **(dict(epochs=2, batch_size=8, verbose=False) | settings))
    return trainer


def same(one: Trainer, other: Trainer) -> None:
    """Every bit of what was learned and measured, but for the clock."""
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)
    assert one.history.keys() == other.history.keys()
    for name in one.history.keys() - {"seconds"}:
        np.testing.assert_array_equal(one.history[name], other.history[name], err_msg=name)


# Kinds of arrays -----------------------------------------------------------------------------------------------


class Array:
    """Whatever says that it is an array."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


class Shared:
    """DLPack and nothing else."""

    def __init__(self, values):
        self.values = np.ascontiguousarray(values)

    def __dlpack__(self, **settings):
        return self.values.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def memory_mapped(values):
    from tempfile import TemporaryFile

    mapped = np.memmap(TemporaryFile(), values.dtype, "w+", shape=values.shape)  # noqa: SIM115
    mapped[...] = values
    return mapped


def frame(library, dtype=None):
    def made(values):
        package = pytest.importorskip(library)
        if values.ndim == 1:
            return package.Series(values, dtype=dtype) if dtype else package.Series(values)
        columns = {f"c{index}": values[:, index] for index in range(values.shape[1])}
        built = package.DataFrame(columns)
        return built.astype(dtype) if dtype else built

    return made


def mixed_frame(values):
    """Columns of float64, nullable Float64, float32 and object."""
    pandas = pytest.importorskip("pandas")
    made = pandas.DataFrame(values).astype({0: "Float64", 3: object})
    assert len(set(map(str, made.dtypes))) > 2
    return made


def arrow(values):
    pyarrow = pytest.importorskip("pyarrow")
    if values.ndim == 1:
        return pyarrow.chunked_array([values[:10], values[10:]])
    return pyarrow.table({f"c{index}": values[:, index] for index in range(values.shape[1])})


ARRAYS = {
    "list": lambda values: values.tolist(),
    "fortran": np.asfortranarray,
    "strided": lambda values: np.repeat(np.repeat(values, 2, 0), 2, -1)[::2, ..., ::2] if values.ndim > 1 else values,
    "big endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "read-only": lambda values: np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape),
    "memory-mapped": memory_mapped,
    "object": lambda values: values.astype(object),
    "__array__": Array,
    "dlpack": Shared,
    "pandas": frame("pandas"),
    "pandas nullable": frame("pandas", "Float64"),
    "pandas mixed": lambda values: mixed_frame(values) if values.ndim == 2 and values.shape[1] == 4 else values,
    "polars": frame("polars"),
    "pyarrow": arrow,
    "torch": lambda values: pytest.importorskip("torch").tensor(np.ascontiguousarray(values)),
}


@engines
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", ARRAYS)
def test_any_array_is_the_same_data(backend, kind, normalize):
    """X, y, the weights and the validation of one kind, to the bits of plain arrays; predictions too."""
    convert, first = ARRAYS[kind], [nn.Normalize] * normalize
    plain = fit(make(backend, "mse", *first), sample_weight=WEIGHT, validation=(X[:9], Y[:9, 0], WEIGHT[:9]))
    held_out = (convert(X[:9]), convert(Y[:9, 0]), convert(WEIGHT[:9]))
    other = fit(
        make(backend, "mse", *first), convert(X), convert(Y[:, 0]), sample_weight=convert(WEIGHT), validation=held_out
    )
    same(plain, other)
    np.testing.assert_array_equal(other.model.predict(convert(X)), plain.model.predict(X))
    assert other.evaluate(convert(X), convert(Y)) == plain.evaluate(X, Y)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_names_of_columns_are_kept(library):
    convert = ARRAYS[library]
    trainer = fit(make(), convert(X))
    assert trainer.model.feature_names == ["c0", "c1", "c2", "c3"]
    swapped = (
        convert(X).select(["c1", "c0", "c2", "c3"]) if library != "pandas" else convert(X)[["c1", "c0", "c2", "c3"]]
    )
    with pytest.raises(ValueError, match="X has column 'c1' at position 0, but this model was fitted with 'c0' there"):
        trainer.model.predict(swapped)
    with pytest.raises(ValueError, match="validation X has column 'c1'"):
        fit(make(), convert(X), validation=(swapped, Y))


@pytest.mark.parametrize("dtype", ["Int64", "Int8", "UInt16", "boolean", "int32[pyarrow]"])
def test_nullable_whole_numbers_and_truths(dtype):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    whole = (X > 2).astype(np.int64)
    made, y = pandas.DataFrame(whole).astype(dtype), pandas.Series(LABELS).astype("Int64")
    one = fit(make(loss="cross_entropy", outputs=3), made, y)
    same(one, fit(make(loss="cross_entropy", outputs=3), whole, LABELS))


def no_array(kind):
    pandas = None if kind.split()[0] in ("torch", "polars") else pytest.importorskip("pandas")
    polars = pytest.importorskip("polars") if kind.startswith("polars") else None
    torch = pytest.importorskip("torch") if kind.startswith("torch") else None
    text = ["a", "b"] * 25
    return {
        "categorical": lambda: pandas.DataFrame(X).assign(city=pandas.Categorical(text)),
        "text": lambda: pandas.DataFrame(X).assign(city=text),
        "dates": lambda: pandas.DataFrame(X).assign(day=pandas.date_range("2024-01-01", periods=50)),
        "only dates": lambda: pandas.DataFrame({"day": pandas.date_range("2024-01-01", periods=50)}),
        "missing": lambda: pandas.DataFrame(X).astype("Float64").mask(X > 3),
        "missing in a named column": lambda: pandas.DataFrame({"a": X[:, 0], "b": [True, pandas.NA] * 25}),
        "NaN": lambda: pandas.DataFrame(X).mask(X > 3),
        "polars text": lambda: polars.DataFrame(X).with_columns(city=polars.Series(text)),
        "polars categorical": lambda: polars.DataFrame(X).with_columns(
            city=polars.Series(text, dtype=polars.Categorical)
        ),
        "polars missing": lambda: polars.DataFrame({"a": [1.0, None] * 25}),
        "torch gradient": lambda: torch.tensor(X, requires_grad=True),
        "torch bfloat16": lambda: torch.tensor(X, dtype=torch.bfloat16),
        "torch sparse": lambda: torch.tensor(X).to_sparse(),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("categorical", ValueError, "X has dtype object, expected numbers: could not convert string to float: 'a'"),
        ("text", ValueError, "X has dtype object, expected numbers: could not convert string to float: 'a'"),
        ("dates", TypeError, "X has dtype object, expected numbers: .*Timestamp"),
        ("only dates", TypeError, r"X has dtype datetime64\[\w+\], expected numbers"),
        ("missing", ValueError, "X contains NaN, first at row"),
        ("missing in a named column", ValueError, r"X contains NaN, first at row 1, column 1 \('b'\)$"),
        ("NaN", ValueError, "X contains NaN, first at row"),
        ("polars text", ValueError, "X has dtype object, expected numbers: could not convert string to float: 'a'"),
        (
            "polars categorical",
            ValueError,
            "X has dtype object, expected numbers: could not convert string to float: 'a'",
        ),
        ("polars missing", ValueError, r"X contains NaN, first at row 1, column 0 \('a'\)$"),
        ("torch gradient", ValueError, r"X is not an array: .*requires grad"),
        ("torch bfloat16", TypeError, "X is not an array: .*BFloat16"),
        ("torch sparse", TypeError, "X is not an array: .*[sS]parse"),
    ],
)
def test_what_is_no_array_of_numbers(kind, error, message):
    """In X, and in validation's X, before anything is touched."""
    made, trainer = no_array(kind), make()
    with pytest.raises(error, match=message):
        fit(trainer, made)
    with pytest.raises(error, match=r"^(Input )?validation X "):
        fit(trainer, validation=(made, Y))
    assert not trainer.model.built and len(trainer.history) == 0


@pytest.mark.parametrize(
    ("dtype", "loss"), [("Float64", "mse"), ("Int64", "cross_entropy"), ("boolean", "cross_entropy"), ("Int8", "mse")]
)
@pytest.mark.parametrize("library", ["numpy", "pyarrow"])
def test_missing_targets_and_weights_are_nan(library, dtype, loss):
    """pandas.NA is the NaN of nullable dtypes, in its own arrays as in pyarrow's."""
    pandas = pytest.importorskip("pandas")
    y = pandas.Series(np.arange(50) % 2).astype(dtype)
    if library == "pyarrow":
        pytest.importorskip("pyarrow")
        y = y.convert_dtypes(dtype_backend="pyarrow")
    missing = y.mask(np.arange(50) == 7)
    assert missing.isna().sum() == 1 and missing.dtype == y.dtype
    outputs = 2 if loss == "cross_entropy" else 1
    with pytest.raises(ValueError, match=r"^Input y contains NaN, first at row 7$"):
        make(loss=loss, outputs=outputs).fit(X, missing, verbose=False)
    with pytest.raises(ValueError, match=r"^Input sample_weight contains NaN, first at row 7$"):
        make(loss=loss, outputs=outputs).fit(X, y, sample_weight=missing, verbose=False)


def test_text_labels():
    pandas = pytest.importorskip("pandas")
    for y in (pandas.Series(["a", "b"] * 25), pandas.Series(["a", "b"] * 25, dtype="category")):
        with pytest.raises(TypeError, match=r"y has text \(str\), expected numbers: encode labels as 0 .. n-1"):
            fit(make(loss="cross_entropy", outputs=2), y=y)


# Sparse matrices -----------------------------------------------------------------------------------------------

SPARSE = np.where(np.random.default_rng(7).random((50, 30)) < 0.1, np.random.default_rng(8).normal(size=(50, 30)), 0.0)
FORMATS = [f"{kind}_{of}" for kind in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia") for of in ("matrix", "array")]


def sparse(kind, values=SPARSE):
    return getattr(pytest.importorskip("scipy.sparse"), kind)(values)


SPARSE_FITS = [(kind, first, np.float32) for kind in FORMATS for first in (None, "standard")]
SPARSE_FITS += [
    ("csr_array", "minmax", np.float32),
    *(("csc_matrix", first, np.float64) for first in (None, "standard")),
]


@engines
@pytest.mark.parametrize(("kind", "first", "dtype"), SPARSE_FITS)
def test_sparse_is_the_same_as_dense(backend, kind, first, dtype):
    layers = [lambda: nn.Normalize(first)] if first else []
    made = [make(backend, "mse", *layers, dtype=dtype, metrics=["mae"]) for _ in range(2)]
    for trainer, x in zip(made, (SPARSE, sparse(kind)), strict=True):
        fit(trainer, x, sample_weight=WEIGHT, validation=0.2)
        fit(trainer, x, validation=(sparse(kind, SPARSE[:9]), Y[:9]), batch_size="full", epochs=1)
        fit(trainer, x, epochs=1, batch_size=7, shuffle=False)
    same(*made)
    np.testing.assert_array_equal(made[0].model.predict(sparse(kind)), made[1].model.predict(SPARSE))
    assert made[0].evaluate(sparse(kind), Y) == made[1].evaluate(SPARSE, Y)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16, np.bool_, np.float32])
@pytest.mark.parametrize("first", [[], [nn.Normalize]])
def test_sparse_of_other_numbers(dtype, first):
    counts = (np.abs(SPARSE) * 3).astype(dtype)
    one, other = make(AUTOMATIC, "mse", *first), make(AUTOMATIC, "mse", *first)
    same(fit(one, counts), fit(other, sparse("csr_array", counts)))


def test_sparse_entries_of_one_place_add_up():
    coo = pytest.importorskip("scipy.sparse").coo_array
    twice = coo((np.ones(60), (np.arange(60) % 50, np.arange(60) % 5)), shape=(50, 30))
    same(fit(make(), twice.toarray()), fit(make(), twice))


@engines
def test_no_more_sparse_rows_are_dense_than_a_batch(backend, monkeypatch):
    """The native backend expands them itself, a row at a time; a look at a new model's outputs takes single ones."""
    x = sparse("csr_matrix")
    made: list[int] = []
    toarray = type(x).toarray

    def spy(self, *arguments, **named):
        made.append(self.shape[0])
        return toarray(self, *arguments, **named)

    monkeypatch.setattr(type(x), "toarray", spy)
    fit(make(backend=backend), x, batch_size=4)
    assert max(made, default=0) <= (1 if backend == "native" else 4)


@engines
def test_sparse_predictions_of_many_rows(backend):
    """More than are made dense at once: the bits of a dense matrix."""
    x = np.where(np.random.default_rng(0).random((3000, 5000)) < 0.001, 1.0, 0.0).astype(np.float32)
    model = Sequential([nn.Dense(3, "tanh"), nn.Dense(2)]).build(5000, seed=0)
    np.testing.assert_array_equal(
        model.predict(sparse("csr_array", x), backend=backend), model.predict(x, backend=backend)
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda: sparse("csr_matrix", np.where(SPARSE > 1, np.nan, SPARSE)), "Input X contains NaN"),
        (lambda: sparse("coo_array", np.where(SPARSE > 1, np.inf, SPARSE)), "Input X contains infinity"),
        (
            lambda: sparse("csc_array", np.where(SPARSE > 1, 1e300, SPARSE)),
            "Input X contains 1e\\+300, a value too large",
        ),
        (lambda: sparse("csr_matrix", SPARSE[:0]), "X has 0 rows"),
        (lambda: sparse("csr_matrix", SPARSE[:, :0]), "X has 0 features"),
        (lambda: sparse("coo_array", SPARSE[0]), r"X has shape \(30,\), expected two dimensions"),
        (lambda: sparse("csr_matrix", SPARSE[:20]), "y has 50 rows, but X has 20"),
        (lambda: sparse("csr_matrix", SPARSE * 1j), "X has complex values"),
    ],
)
def test_sparse_that_is_wrong(x, message):
    trainer = make()
    with pytest.raises(ValueError, match=message):
        fit(trainer, x())
    assert not trainer.model.built


def test_targets_and_weights_are_dense():
    with pytest.raises(TypeError, match=r"y is a sparse matrix, expected a dense array: call y.toarray\(\)"):
        fit(make(), y=sparse("csr_matrix", Y))
    with pytest.raises(TypeError, match="sample_weight is a sparse matrix"):
        fit(make(), sample_weight=sparse("csr_matrix", WEIGHT[:, None]))


@pytest.mark.parametrize("layers", [[], [nn.Normalize]], ids=["plain", "normalize"])
def test_a_wide_sparse_fit_needs_little_memory(layers):
    """3000 rows of 60,000 features are 720 MB in float32; with validation, metrics and a prediction, a quarter of it.

    With Normalize 137 MB on NumPy, and 65 beside the native engine, whose own memory is not counted.
    """
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    rows, columns, entries = 3000, 60_000, 30_000
    places = rng.integers(0, rows, entries), rng.integers(0, columns, entries)
    x = scipy_sparse.csr_array((rng.normal(size=entries), places), shape=(rows, columns))
    y = rng.normal(size=rows)
    model = Sequential([*(kind() for kind in layers), nn.Dense(1)])
    trainer = Trainer(model, "mse", optim.SGD(1e-3), seed=0, metrics=["mae"])
    tracemalloc.start()
    try:
        trainer.fit(x, y, epochs=1, batch_size=32, validation=0.1, verbose=False)
        model.predict(x[:1500])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 180e6
    assert trainer.history["loss"][0] > 0


# Batches -------------------------------------------------------------------------------------------------------


def slices(step=8):
    """The batches that a fit without shuffling takes."""
    for start in range(0, 50, step):
        part = slice(start, start + step)
        yield X[part], Y[part]


class Again:
    """An iterable of batches that begins anew, and counts how often."""

    def __init__(self, make_batches=slices, length=None):
        self.make_batches, self.length, self.begun = make_batches, length, 0

    def __iter__(self):
        self.begun += 1
        return self.make_batches()

    def __len__(self):
        if self.length is None:
            raise TypeError("as a DataLoader of a stream says")
        return self.length


def loader():
    data = pytest.importorskip("torch.utils.data")
    import torch

    return data.DataLoader(data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=8)


def sparse_batches():
    return [(sparse("csr_matrix", x), y) for x, y in slices()]


def frames():
    return [(frame("pandas")(x), y) for x, y in slices()]


@engines
@pytest.mark.parametrize(
    "batches",
    [
        lambda: [*slices()],
        lambda: (*slices(),),
        lambda: [[x, y] for x, y in slices()],
        Again,
        lambda: Again(length=7),
        loader,
        sparse_batches,
        frames,
    ],
    ids=["list", "tuple", "lists", "iterable", "sized", "DataLoader", "sparse", "frames"],
)
def test_batches_are_steps(backend, batches):
    """To the bits of a fit that cuts the arrays into the same ones; the short one last."""
    whole = fit(make(backend), shuffle=False, epochs=3, validation=(X[:9], Y[:9]))
    other = make(backend)
    other.fit(batches(), epochs=3, validation=(X[:9], Y[:9]), verbose=False)
    same(whole, other)
    assert other.model.state.step == 21


@engines
def test_a_generator_for_one_epoch(backend):
    one = make(backend)
    one.fit(slices(), epochs=1, verbose=False)
    same(one, fit(make(backend), shuffle=False, epochs=1))


@engines
def test_batches_with_weights(backend):
    one = make(backend)
    one.fit([(X, Y, WEIGHT)], epochs=2, verbose=False)  # of several the mean weight is not known: see test_weights.py
    same(one, fit(make(backend), shuffle=False, batch_size="full", sample_weight=WEIGHT))


@pytest.mark.parametrize("length", [7, None])
def test_batches_are_gone_through_once_an_epoch(length):
    batches = Again(length=length)
    make().fit(batches, epochs=4, verbose=False)
    assert batches.begun == 4


def test_a_schedule_over_batches_of_known_number():
    schedule = optim.Warmup(1, then=optim.Cosine())
    one = make(schedule=schedule)
    one.fit(Again(length=7), epochs=3, verbose=False)
    same(one, fit(make(schedule=schedule), shuffle=False, epochs=3))


def test_other_batches_in_every_epoch():
    """Also another number of them, whatever len() said."""
    sizes = iter([10, 5, 25])
    trainer = make()
    trainer.fit(Again(lambda: slices(next(sizes)), length=5), epochs=3, verbose=False)
    assert trainer.model.state.step == 5 + 10 + 2
    assert len(trainer.history) == 3


def test_few_batches_are_held_at_once():
    """A stream may be longer than memory."""
    held, most = [], []

    def stream():
        for _ in range(20):
            x = np.ones((4, 3), np.float32)
            held.append(weakref.ref(x))
            most.append(sum(ref() is not None for ref in held))
            yield x, np.ones(4)

    make().fit(Again(stream), epochs=2, verbose=False)
    assert max(most) <= 3 and len(held) == 40
    assert not any(ref() is not None for ref in held)


def wrong(position, batch):
    made = [*slices()]
    made[position] = batch
    return made


@pytest.mark.parametrize(
    ("x", "settings", "error", "message"),
    [
        (lambda: slices(), dict(epochs=2), ValueError, "X is a generator, .* anew for each of 2 epochs"),
        (
            lambda: iter([*slices()]),
            dict(epochs=2),
            ValueError,
            "X is a list_iterator, which can be iterated only once",
        ),
        (lambda: iter(()), dict(epochs=1), ValueError, r"X has no batches, expected at least one \(X, y\)"),
        (lambda: Again(lambda: iter(())), {}, ValueError, "X has no batches"),
        (
            lambda: Again(length=None),
            dict(schedule="cosine"),
            ValueError,
            "schedule is Cosine.* expected an X with a len",
        ),
        (lambda: [*slices()], dict(normalize=True), ValueError, "Normalize cannot learn before the first step"),
        (lambda: [*slices()], dict(sample_weight=WEIGHT), ValueError, "sample_weight is given, but X is batches"),
        (lambda: [*slices()], dict(class_weight="balanced"), ValueError, "class_weight is given, but X is batches"),
        (
            lambda: [*slices()],
            dict(validation=0.2),
            ValueError,
            "validation is 0.2, a fraction of rows, but X is batches",
        ),
        (lambda: [*slices()], dict(validation=(X[:, :2], Y)), ValueError, "validation X has 2 features, but X has 4"),
        (lambda: wrong(0, (X[:5], Y)), {}, ValueError, "batch 0 of y has 50 rows, but X has 5"),
        (lambda: wrong(0, (X[:0], Y[:0])), {}, ValueError, "batch 0 of X has 0 rows"),
        (lambda: Again(lambda: iter([X])), {}, TypeError, r"X yields ndarray, expected batches \(X, y\)"),
        (lambda: Again(lambda: iter([(X,)])), {}, TypeError, "X yields tuple of 1, expected batches"),
        (lambda: {"a": 1}, {}, TypeError, "X has dtype object, expected numbers"),
        (lambda: X, {}, ValueError, "y is None"),
        (list, {}, ValueError, "X has shape"),
    ],
)
def test_batches_that_are_wrong(x, settings, error, message):
    """Before anything is touched."""
    given = dict(settings)
    first = [nn.Normalize] * given.pop("normalize", False)
    trainer = make(AUTOMATIC, "mse", *first, schedule=given.pop("schedule", None))
    with pytest.raises(error, match=message):
        trainer.fit(x(), verbose=False, **given)
    assert not trainer.model.built and len(trainer.history) == 0 and not trainer.model.fitting.locked()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((X[:5, :3], Y[:5]), "batch 2 of X has 3 features, but this model was built with 4"),
        ((X[:0], Y[:0]), "batch 2 of X has 0 rows"),
        ((X[:5], Y[:4]), "batch 2 of y has 4 rows, but X has 5"),
        ((X[:5] * np.nan, Y[:5]), "Input batch 2 of X contains NaN"),
        ((X[:5], Y[:5], np.zeros(5)), "batch 2 of sample_weight is all zero"),
    ],
)
def test_a_later_batch_that_is_wrong(batch, message):
    """It has its number; the model is as the step before left it, and can go on."""
    trainer = make()
    with pytest.raises(ValueError, match=message):
        trainer.fit(wrong(2, batch), epochs=2, verbose=False)
    assert trainer.model.state.step == 2
    fit(trainer)
    assert np.isfinite(trainer.history["loss"]).all()


@engines
def test_an_error_of_the_iterable_is_passed_on(backend):
    error = OSError("the disk")

    def broken():
        yield from [*slices()][:3]
        raise error

    trainer = make(backend)
    with pytest.raises(OSError, match="the disk") as caught:
        trainer.fit(Again(broken), epochs=2, verbose=False)
    assert caught.value is error
    assert trainer.model.state.step == 3 and not trainer.model.fitting.locked()


def test_an_iterable_that_ran_dry():
    """A second epoch without batches is an error, not an epoch."""
    feed = iter([[*slices()], []])
    with pytest.raises(ValueError, match="X has no batches in this epoch, expected an iterable that begins anew"):
        make().fit(Again(lambda: iter(next(feed))), epochs=2, verbose=False)


def test_batches_after_normalize_has_learned():
    trainer, whole = make(AUTOMATIC, "mse", nn.Normalize), make(AUTOMATIC, "mse", nn.Normalize)
    trainer.model.build(4, seed=0)
    trainer.model.layers[0].adapt(X)
    trainer.fit([*slices()], epochs=2, verbose=False)
    same(trainer, fit(whole, shuffle=False))


def test_a_fit_over_batches_is_resumed(tmp_path):
    """Within an epoch: the batches before are passed over."""
    whole, crashed, resumed = make(), make(), make()
    whole.fit(Again(), epochs=3, verbose=False)
    crash = fastnn.Lambda(every=1, on_step=lambda run: 1 / 0 if run.step == 12 else None)
    with pytest.raises(ZeroDivisionError):
        crashed.fit(Again(), epochs=3, verbose=False, callbacks=[crash, fastnn.Checkpoint(tmp_path, every=5)])
    resumed.fit(Again(), epochs=3, verbose=False, callbacks=[fastnn.Checkpoint(tmp_path, every=5)], resume=True)
    same(whole, resumed)


# A fraction for validation -------------------------------------------------------------------------------------


class Held(fastnn.Callback):
    """What a fit held out."""

    def on_fit_begin(self, run):
        self.data, self.rows = run.held_out, run.source.among


def spy(backend, seen):
    right = backends.load(backend)

    def train_steps(plan, state, objective, batches, lr):
        seen.append(batches.order.copy())
        return right.train_steps(plan, state, objective, batches, lr)

    return replace(right, train_steps=train_steps)


@engines
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.02, 0.98, np.float32(0.2), np.float64(0.31)])
def test_held_out_rows_are_never_trained_on(backend, fraction):
    seen, held = [], Held()
    trainer = fit(make(spy(backend, seen), "mse", nn.Normalize), validation=fraction, epochs=3, callbacks=[held])
    trained = np.unique(np.concatenate(seen))
    count = round(50 * float(fraction))
    assert len(held.data) == count and len(trained) == 50 - count
    assert all(len(np.unique(order)) == len(order) for order in seen)
    out = np.setdiff1d(np.arange(50), trained)
    np.testing.assert_array_equal(held.data.x, X[out])
    np.testing.assert_array_equal(held.data.y, Y[out].astype(np.float32))
    np.testing.assert_allclose(trainer.model.layers[0].shift, X[trained].mean(axis=0), rtol=1e-12)
    if len(trained) > 1:
        np.testing.assert_allclose(trainer.model.layers[0].scale, 1 / X[trained].std(axis=0), rtol=1e-12)
    assert trainer.history["val_loss"][-1] == trainer.evaluate(X[out], Y[out])["loss"]


def test_the_seed_draws_the_rows():
    def rows(seed):
        held = Held()
        fit(make(seed=seed), validation=0.3, callbacks=[held])
        return held.rows.tolist()

    assert rows(1) == rows(1) != rows(2)
    assert rows(1) == sorted(rows(1))
    assert rows(0) != list(range(15, 50)) and rows(0) != list(range(35))  # neither the first nor the last ones


def test_a_second_fit_holds_out_the_same_rows():
    held, trainer = [Held(), Held()], make()
    for one in held:
        fit(trainer, validation=0.3, callbacks=[one])
    np.testing.assert_array_equal(held[0].rows, held[1].rows)


def test_held_out_rows_have_their_weights():
    held = Held()
    trainer = fit(make(), validation=0.3, sample_weight=WEIGHT, callbacks=[held])
    out = np.setdiff1d(np.arange(50), held.rows)
    expected = trainer.evaluate(X[out], Y[out], sample_weight=WEIGHT[out])["loss"]
    assert trainer.history["val_loss"][-1] == expected != trainer.evaluate(X[out], Y[out])["loss"]


@pytest.mark.parametrize(
    ("validation", "error", "message"),
    [
        (0.0, ValueError, r"validation is 0.0, expected a finite number in \(0, 1\)"),
        (1.0, ValueError, r"validation is 1.0, expected a finite number in \(0, 1\)"),
        (math.nan, ValueError, "validation is nan"),
        (0.005, ValueError, "validation is 0.005: of 50 rows none is left for validation"),
        (0.999, ValueError, "validation is 0.999: of 50 rows none is left for training"),
        (True, TypeError, "validation is bool, expected"),
        (1, TypeError, "validation is int, expected"),
        ("0.2", TypeError, "validation is str, expected"),
        ((X,), TypeError, r"validation is tuple of \d, expected"),
    ],
)
def test_fractions_that_are_wrong(validation, error, message):
    trainer = make()
    with pytest.raises(error, match=message):
        fit(trainer, validation=validation)
    assert not trainer.model.built


def test_a_fraction_is_of_the_rows_that_have_a_weight():
    weight = np.zeros(50)
    weight[5:15] = 1.0
    held = Held()
    fit(make(), validation=0.3, sample_weight=weight, callbacks=[held])
    assert len(held.data) == 3 and set(held.rows) <= set(range(5, 15))
    trainer = make()
    with pytest.raises(ValueError, match="of 1 rows none is left for"):
        fit(trainer, validation=0.3, sample_weight=(np.arange(50) == 7).astype(float))
    assert not trainer.model.built


# Weights by class ----------------------------------------------------------------------------------------------


def classify(backend=AUTOMATIC, y=LABELS, **settings) -> Trainer:
    return fit(make(backend, "cross_entropy", outputs=3), y=y, **settings)


def binary(backend=AUTOMATIC, y=(LABELS > 0), **settings) -> Trainer:
    return fit(make(backend, "binary_cross_entropy"), y=y, **settings)


@engines
def test_balanced(backend):
    """As scikit-learn's, to the bits of the same weights given by row."""
    class_weight = pytest.importorskip("sklearn.utils.class_weight")

    weights = class_weight.compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert len(np.unique(weights)) == 3
    one = classify(backend, class_weight="balanced")
    same(one, classify(backend, sample_weight=weights[LABELS]))
    same(one, classify(backend, class_weight=dict(enumerate(weights))))
    same(one, classify(backend, class_weight=weights))
    same(one, classify(backend, class_weight=list(weights)))
    assert one.history["loss"] != classify(backend).history["loss"]


@engines
def test_balanced_with_binary_cross_entropy(backend):
    class_weight = pytest.importorskip("sklearn.utils.class_weight")

    y = (LABELS > 0).astype(int)
    weights = class_weight.compute_class_weight("balanced", classes=np.arange(2), y=y)
    one = binary(backend, class_weight="balanced")
    same(one, binary(backend, sample_weight=weights[y]))
    same(one, binary(backend, y=y[:, None].astype(float), class_weight={0: weights[0], 1: weights[1]}))


def test_balanced_counts_weights():
    """Rows that weigh twice are two rows."""
    counts = np.bincount(LABELS, weights=WEIGHT)
    expected = WEIGHT.astype(np.float32) * (counts.sum() / (3 * counts))[LABELS]
    one, other = classify(class_weight="balanced", sample_weight=WEIGHT), classify(sample_weight=expected)
    for name, value in parameters(one.model).items():
        np.testing.assert_allclose(parameters(other.model)[name], value, rtol=1e-3, atol=1e-5)
    assert one.history["loss"] == pytest.approx(other.history["loss"], rel=1e-5)


def test_a_class_without_rows():
    """Counts for nothing, and is no division by zero."""
    y = np.where(LABELS == 1, 0, LABELS)
    counts = np.bincount(y)
    one = classify(y=y, class_weight="balanced")
    same(one, classify(y=y, sample_weight=50 / (2 * counts[y])))


def test_classes_left_out_of_a_dict_weigh_one():
    same(classify(class_weight={2: 3.0}), classify(sample_weight=np.where(LABELS == 2, 3.0, 1.0)))
    same(classify(class_weight={}), classify(sample_weight=np.ones(50)))


def test_both_weights_multiply():
    weight = np.float32(WEIGHT)
    same(
        classify(class_weight=[1.0, 2.0, 0.0], sample_weight=weight),
        classify(sample_weight=weight * np.array([1.0, 2.0, 0.0])[LABELS]),
    )


def test_validation_is_not_weighted_by_class():
    """And the held-out rows do not count in 'balanced'."""
    held = Held()
    one = classify(class_weight="balanced", validation=0.3, callbacks=[held])
    out = np.setdiff1d(np.arange(50), held.rows)
    assert one.history["val_loss"][-1] == one.evaluate(X[out], LABELS[out])["loss"]
    counts = np.bincount(LABELS[held.rows], minlength=3)
    assert (counts != np.bincount(LABELS) * 0.7).any()
    weight = np.ones(50)
    weight[held.rows] = (len(held.rows) / (3 * counts))[LABELS[held.rows]]
    other = make(AUTOMATIC, "cross_entropy", outputs=3)
    fit(other, y=LABELS, sample_weight=weight, validation=0.3)
    for here, there in zip(one.model.state.buffers, other.model.state.buffers, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ("even", ValueError, "class_weight is 'even', expected 'balanced', a dict or one weight a class"),
        (3.0, TypeError, "class_weight is 3.0, expected 'balanced', a dict"),
        ([1.0, 2.0], ValueError, "class_weight has 2 weights, expected 3, one a class"),
        ([1.0, 2.0, -1.0], ValueError, r"class_weight\[2\] is -1.0"),
        ([1.0, 2.0, "3"], TypeError, r"class_weight\[2\] is '3'"),
        ([1.0, 2.0, math.nan], ValueError, r"class_weight\[2\] is nan"),
        ({3: 1.0}, ValueError, r"class_weight has label 3, expected labels 0 .. 2"),
        ({-1: 1.0}, ValueError, "a label of class_weight is -1"),
        ({"a": 1.0}, TypeError, "a label of class_weight is 'a'"),
        ({0: None}, TypeError, r"class_weight\[0\] is None"),
        ([0.0, 0.0, 0.0], ValueError, "class_weight is all zero"),
        (
            [1e300, 1.0, 1.0],
            ValueError,
            "class_weight contains 1e\\+300, a value too large|Input class_weight contains",
        ),
    ],
)
def test_class_weights_that_are_wrong(class_weight, error, message):
    trainer = make(AUTOMATIC, "cross_entropy", outputs=3)
    with pytest.raises(error, match=message):
        fit(trainer, y=LABELS, class_weight=class_weight)
    assert not trainer.model.built


@pytest.mark.parametrize(
    ("loss", "outputs", "y"),
    [("mse", 1, Y), ("cross_entropy", 3, np.eye(3)[LABELS]), ("binary_cross_entropy", 1, np.full(50, 0.5))],
)
def test_class_weights_need_labels(loss, outputs, y):
    with pytest.raises(ValueError, match=r"class_weight needs class labels \(rows,\), but y has values"):
        fit(make(AUTOMATIC, loss, outputs=outputs), y=y, class_weight="balanced")


# Settings of a Trainer -----------------------------------------------------------------------------------------


@engines
def test_another_rate_keeps_the_moments(backend):
    """As if the rate had been scaled within one fit; a new rule begins anew."""
    halve = fastnn.Lambda(on_epoch_begin=lambda run: setattr(run, "lr_scale", 0.5 if run.epoch >= 2 else 1.0))
    one = fit(make(backend, optimizer=optim.Adam(0.0625)), epochs=4, callbacks=[halve])
    other = fit(make(backend, optimizer=optim.Adam(0.0625)), epochs=2)
    moments = [slot.copy() for slot in other.model.state.slots]
    other.optimizer = optim.Adam(0.03125)
    for before, slot in zip(moments, other.model.state.slots, strict=True):
        np.testing.assert_array_equal(before, slot)
        assert slot.any()
    same(one, fit(other, epochs=2))
    other.optimizer = "sgd"
    assert repr(other.optimizer).startswith("SGD(")
    fit(other, epochs=1)
    assert other.model.state.slots == () and other.model.state.step == 7


@engines
def test_settings_hold_from_the_next_fit_on(backend):
    """Each changes what a second fit does, to the bits of a new Trainer that was made with it."""
    for name, value in dict(
        loss="huber", schedule=optim.Harmonic(1.0), seed=7, clip_norm=0.01, clip_value=0.001, metrics=["mae"], threads=1
    ).items():
        one = fit(make(backend))
        other = fit(make(backend))
        setattr(one, name, value)
        made = dict(loss="mse", seed=0) | {name: value}
        again = Trainer(other.model, made.pop("loss"), "adam", backend=backend, **made)
        again.history = other.history  # the place in the run
        same(fit(one), fit(again))
        assert ("mae" in one.history) == (name == "metrics")


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("loss", "mean", ValueError, "loss is 'mean', expected one of: mse"),
        ("optimizer", "adamm", ValueError, "optimizer is 'adamm'"),
        ("schedule", "cos", ValueError, "schedule is 'cos'"),
        ("seed", -1, ValueError, "seed is -1"),
        ("backend", "cuda", ValueError, "backend is 'cuda'"),
        ("threads", 0, ValueError, "threads is 0"),
        ("clip_norm", 0.0, ValueError, "clip_norm is 0.0"),
        ("clip_value", "1", TypeError, "clip_value is '1'"),
        ("metrics", "mae", TypeError, r"metrics is 'mae', expected a list: \['mae'\]"),
        ("metrics", 3, TypeError, "metrics is 3, expected a list"),
        ("metrics", ["mea"], ValueError, "metrics has 'mea', expected one of accuracy, .*, mae, .* or a function"),
        ("metrics", ["accuracy"], ValueError, "metrics has 'accuracy', expected a loss of classes for it, not mse"),
        ("metrics", ["mae", "mae"], ValueError, "metrics has the name 'mae', which is there twice"),
    ],
)
def test_settings_are_checked_when_they_are_set(name, value, error, message):
    trainer = make(metrics=["rmse"], clip_norm=1.0, clip_value=2.0, threads=1)
    before = getattr(trainer, name)
    with pytest.raises(error, match=message):
        setattr(trainer, name, value)
    assert getattr(trainer, name) == before


def test_metrics_of_another_loss_are_refused_before_a_fit():
    trainer = make(metrics=["mae"])
    trainer.loss = "cross_entropy"
    with pytest.raises(ValueError, match="metrics has 'mae', expected a loss of values for it, not cross_entropy"):
        fit(trainer, y=LABELS)
    assert not trainer.model.built
    trainer = make(AUTOMATIC, "mse", outputs=3)
    trainer.loss = "cross_entropy"
    trainer.metrics = (name for name in ["accuracy"])  # an iterator, kept as a list
    assert {"accuracy"} <= fit(trainer, y=LABELS).history.keys()


def test_a_backend_between_fits():
    trainer = fit(make("numpy"))
    assert trainer.backend.name == "numpy"
    trainer.backend = AUTOMATIC
    assert trainer.backend.name == AUTOMATIC
    assert len(fit(trainer).history) == 4


@engines
@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_dtype(backend, dtype):
    model = Sequential([nn.Dense(3), nn.Dense(1)])
    trainer = Trainer(model, "mse", seed=0, backend=backend, dtype=dtype)
    fit(trainer)
    assert model.dtype == np.dtype(dtype)
    assert model.predict(X).dtype == model.state.parameters.dtype == np.dtype(dtype)
    same(trainer, fit(Trainer(Sequential([nn.Dense(3), nn.Dense(1)], dtype=dtype), "mse", seed=0, backend=backend)))


def test_dtype_that_is_wrong():
    with pytest.raises(ValueError, match="dtype is 'int8', expected float32 or float64"):
        make(dtype="int8")
    model = Sequential([nn.Dense(1)]).build(4, seed=0)
    assert Trainer(model, "mse", dtype="float32").model is model
    with pytest.raises(ValueError, match="dtype is float64, but the model was built in float32"):
        Trainer(model, "mse", dtype="float64")


@engines
def test_evaluate(backend):
    """The loss and the metrics of the trainer, weighted; by the loss it has now."""
    trainer = fit(make(backend, metrics=["mae", "r2"]))
    residuals = Y - trainer.model.predict(X, backend=backend).astype(np.float64)
    found = trainer.evaluate(X, Y, sample_weight=WEIGHT)
    assert list(found) == ["loss", "mae", "r2"]
    assert found["loss"] == pytest.approx(np.average(residuals[:, 0] ** 2, weights=WEIGHT), rel=1e-5)
    assert found["mae"] == pytest.approx(np.average(np.abs(residuals[:, 0]), weights=WEIGHT), rel=1e-5)
    trainer.loss = "half_mse"
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(np.mean(residuals**2) / 2, rel=1e-5)


def test_evaluate_before_a_fit():
    """An error that leaves the model without a loss: the first fit still says what rounding costs."""
    trainer = make()
    with pytest.raises(fastnn.NotFittedError):
        trainer.evaluate(X, Y)
    assert trainer.model.loss is None
    with pytest.warns(fastnn.PrecisionWarning):
        fit(trainer, X + 1e7)


def test_repr():
    trainer = fit(make(optimizer=optim.Adam(0.01)), epochs=3)
    layers = "Dense(8, 'tanh'), BatchNorm(), Dropout(0.1), Dense(1)"
    assert repr(trainer) == f"Trainer(Sequential([{layers}], dtype='float32'), mse, Adam(lr=0.01), 3 epochs)"


# Metrics -------------------------------------------------------------------------------------------------------


@engines
@pytest.mark.parametrize("loss", ["mse", "poisson", "huber"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weight", [None, WEIGHT, (WEIGHT > 1.0).astype(float)], ids=["even", "weighted", "partly"])
def test_metrics_as_scikit_learn_has_them(backend, loss, outputs, weight):
    """Under poisson of the rates, exp(z)."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    y = rng.poisson(3.0, (50, outputs)).astype(float)
    trainer = make(backend, loss, outputs=outputs, dtype=np.float64, metrics=["mae", "rmse", "r2"])
    fit(trainer, y=y)
    prediction = trainer.model.predict(X, backend=backend)
    prediction = np.exp(prediction) if loss == "poisson" else prediction
    found = trainer.evaluate(X, y, sample_weight=weight)
    root = sklearn_metrics.root_mean_squared_error(y, prediction, sample_weight=weight)
    assert found["mae"] == pytest.approx(
        sklearn_metrics.mean_absolute_error(y, prediction, sample_weight=weight), rel=1e-12
    )
    assert found["rmse"] == pytest.approx(root, rel=1e-12)
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(y, prediction, sample_weight=weight), rel=1e-10)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_r2_of_constant_targets(constant):
    """1 where they are met, else 0, as scikit-learn: nothing to be explained."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    trainer = Trainer(Sequential([nn.Dense(2, init="zeros")], dtype=np.float64).build(4), "mse", metrics=["r2"])
    y = np.stack([np.full(50, constant), Y[:, 0]], axis=1)
    prediction = trainer.model.predict(X)
    assert not prediction.any()
    expected = sklearn_metrics.r2_score(y, prediction, multioutput="raw_values")
    assert expected[0] == (constant == 0.0)
    assert trainer.evaluate(X, y)["r2"] == pytest.approx(expected.mean(), rel=1e-12)


@engines
def test_metrics_in_the_history(backend):
    """Of the training data without validation, after the epoch; else of the validation."""
    trainer = fit(make(backend, metrics=["mae", "rmse", "r2"]))
    assert [*trainer.history] == ["loss", "lr", "seconds", "mae", "rmse", "r2"]
    found = trainer.evaluate(X, Y)
    assert {name: trainer.history[name][-1] for name in ("mae", "rmse", "r2")} == {
        name: found[name] for name in ("mae", "rmse", "r2")
    }
    other = fit(make(backend, metrics=["mae"]), validation=(X[:9], Y[:9]))
    assert [*other.history] == ["loss", "lr", "seconds", "val_loss", "val_mae"]


# History -------------------------------------------------------------------------------------------------------


def ragged() -> Trainer:
    """Two epochs without validation, one with it, one without again."""
    trainer = fit(make())
    fit(trainer, epochs=1, validation=(X[:9], Y[:9]))
    return fit(trainer, epochs=1)


def test_columns_of_a_history_have_one_length():
    history = ragged().history
    assert len(history) == 4
    assert {len(values) for values in history.epochs.values()} == {4}
    assert [math.isnan(value) for value in history["val_loss"]] == [True, True, False, True]
    assert np.isfinite(history["loss"]).all()
    assert "val_loss=nan" in repr(history)
    assert dict(history) == history.epochs
    with pytest.raises(KeyError, match="'val_acc', expected one of: loss, lr, seconds, val_loss"):
        history["val_acc"]


def test_to_frame(monkeypatch):
    pandas = pytest.importorskip("pandas")
    history = ragged().history
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4] and frame.index.name == "epoch"
    assert [*frame.columns] == ["loss", "lr", "seconds", "val_loss"]
    for name, values in history.items():
        np.testing.assert_array_equal(frame[name], values)
    assert frame["val_loss"].dropna().index.tolist() == [3]
    assert isinstance(History().to_frame(), pandas.DataFrame)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        ImportError, match=r"a DataFrame needs pandas: pip install .*, or in a checkout of fastnn the extra \[table\]"
    ):
        history.to_frame()


def test_plot_with_gaps():
    """What only one epoch has is drawn as a point, a line would not show it."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = ragged().history.plot()
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert [*lines["val_loss"].get_xdata()] == [3] and [*lines["loss"].get_xdata()] == [1, 2, 3, 4]
    assert (lines["loss"].get_marker(), lines["val_loss"].get_marker()) == ("None", "o")
    axes.figure.canvas.draw()
    pyplot.close(axes.figure)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_bad_value_of_a_data_frame_of_targets_is_found_by_its_column(value):
    pandas = pytest.importorskip("pandas")
    X, y = np.eye(6), pandas.DataFrame({"a": np.zeros(6), "price in €": np.zeros(6)})
    y.iloc[4, 1] = value
    with pytest.raises(ValueError, match=r"Input y contains .* at row 4, column 1 \('price in €'\)"):
        Trainer(Sequential([nn.Dense(2)]), "mse").fit(X, y, epochs=1)
    with pytest.raises(ValueError, match=r"at row 4, column 0 \('price in €'\)"):
        Trainer(Sequential([nn.Dense(1)]), "mse").fit(X, y[["price in €"]], epochs=1)
    y.columns = ["twice", "twice"]
    with pytest.raises(ValueError, match=r"at row 4, column 1 \('twice'\)"):
        Trainer(Sequential([nn.Dense(2)]), "mse").fit(X, y, epochs=1)


def test_a_missing_label_of_a_data_frame_is_found_by_its_column():
    pandas = pytest.importorskip("pandas")
    y = pandas.DataFrame({"kind": [0.0, 1.0, np.nan, 1.0]})
    with pytest.raises(ValueError, match=r"NaN, first at row 2, column 0 \('kind'\)"):
        Trainer(Sequential([nn.Dense(2)]), "cross_entropy").fit(np.eye(4), y, epochs=1)
