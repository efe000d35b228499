"""Predictors: the bits, errors and classes of the model they were made of, whatever they are called with."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import sys
import warnings
import weakref

import numpy as np
import pytest
from common import VECTORISED, every_layer, features, in_threads, stir, targets

from fastnn import NotFittedError, PrecisionWarning, Sequential, Trainer, backends, nn, serving
from fastnn.formulas.losses import LOSSES
from fastnn.serving.predictor import predictor

native_engine = pytest.importorskip("fastnn.backends.native_engine", exc_type=ImportError)
ISAS = native_engine.native.instruction_sets()
INPUTS = 19
NETS = {
    "dense": lambda: [nn.Dense(33, "relu"), nn.Dense(17, "gelu"), nn.Dense(3)],
    "dense at positions": lambda: [
        nn.Dense(24, "tanh"),
        nn.Reshape((2, 12)),
        nn.Dense(5, "relu"),
        nn.Flatten(),
        nn.Dense(3),
    ],
    "narrow": lambda: [nn.Dense(70, "elu"), nn.Dense(4, "tanh"), nn.Dense(70), nn.Dense(1)],
    "wide": lambda: [nn.Dense(300, "tanh"), nn.Dense(97, bias=False), nn.Dense(129, "mish")],
    "norms": lambda: [nn.BatchNorm(), nn.Dense(35, "tanh"), nn.BatchNorm(), nn.LayerNorm(), nn.Dense(3), nn.Softmax()],
    "random": lambda: [nn.Dropout(0.2), nn.Dense(37, "rrelu"), nn.Dropout(0.5), nn.Activation("selu"), nn.Dense(3)],
    "learned": lambda: [nn.Normalize(), nn.Dense(30, nn.Maxout(2)), nn.Dense(9, "prelu"), nn.Softmax(), nn.Dense(3)],
    "ordered": lambda: [nn.Dense(9, "gelu"), nn.Ordered(), nn.Dense(5), nn.Ordered()],
    "skips": lambda: [
        nn.Residual([nn.Scale(0.7), nn.Dropout(0.1), nn.Dense(19, "gelu")]),
        nn.Residual(
            [nn.LayerNorm(), nn.Residual([nn.Dense(16)], shortcut=[nn.Dense(16, "tanh")])], shortcut=[nn.Dense(16)]
        ),
        nn.Dense(3),
    ],
    "every layer": lambda: every_layer(34, 3),
    "nothing but dropout": lambda: [nn.Dropout(0.5)],
}


def built(name: str, dtype: type = np.float32) -> Sequential:
    model = stir(Sequential(NETS[name](), dtype=dtype).build(INPUTS, seed=3))
    for layer in model.layers:
        if isinstance(layer, nn.Normalize):
            layer.adapt(features(50, INPUTS, seed=8))
    return model


def classifier(loss: str, outputs: int, *layers: nn.Layer, dtype: type = np.float32) -> Sequential:
    model = stir(Sequential([nn.Dense(11, "relu"), nn.Dense(outputs), *layers], dtype=dtype).build(INPUTS, seed=1))
    model.loss = LOSSES[loss]
    return model


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def alone(predict, X: np.ndarray, backend: str) -> list:
    """What a model predicts for each row. BLAS sums a row alone in another order than among others."""
    return (
        list(predict(X, backend=backend)) if backend == "native" else [predict(x[None], backend=backend)[0] for x in X]
    )


# The same bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", VECTORISED)
def test_predictions_are_the_models(name, dtype, backend):
    model = built(name, dtype)
    p = model.predictor(backend=backend)
    assert isinstance(p, serving.Predictor) and p.backend == backend
    X = features(1100, INPUTS).astype(dtype)
    for n in (1, 2, 3, 5, 8, 9, 31, 1100):
        expected = model.predict(X[:n], backend=backend)
        assert same(p(X[:n]), expected), n
    assert all(same(p(x), y) for x, y in zip(X[:9], alone(model.predict, X[:9], backend), strict=True))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_of_dense_has_the_same_bits_alone_and_among_others_on_native(isa, dtype):
    engine = native_engine.for_instruction_set(isa)
    backend = backends.make("native", engine.kernels, engine.predict, freeze=engine.freeze)
    W = 64 // np.dtype(dtype).itemsize
    for inputs in (1, 2, W - 1, W, 3 * W + 1, 200):
        X = features(30, inputs).astype(dtype)
        for outputs in (1, 2, 3, 4, 5, W, 2 * W + 1, 3 * W, 6 * W, 8 * W + 3):
            model = stir(Sequential([nn.Dense(outputs, "tanh")], dtype=dtype).build(inputs, seed=0))
            p = predictor(model.frozen(), backend)
            whole = model.predict(X, backend=backend)
            assert all(same(p(x), y) for x, y in zip(X, whole, strict=True)), (inputs, outputs)
            for n in range(2, 14):  # from the end: no row is where a call before has left the same
                assert same(p(X[-n:]), whole[-n:]), (inputs, outputs, n)


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "model",
    [
        lambda dtype: classifier("cross_entropy", 5, dtype=dtype),
        lambda dtype: classifier("cross_entropy", 5, nn.Softmax(), dtype=dtype),
        lambda dtype: classifier("binary_cross_entropy", 1, dtype=dtype),
        lambda dtype: classifier("binary_cross_entropy", 1, nn.Activation("sigmoid"), dtype=dtype),
        lambda dtype: classifier("binary_cross_entropy", 4, dtype=dtype),
        lambda dtype: classifier("cross_entropy", 300, dtype=dtype),
    ],
)
def test_probabilities_and_classes_are_the_models(model, dtype, backend):
    model = model(dtype)
    p = model.predictor(backend=backend)
    X = features(40, INPUTS).astype(dtype)
    for n in (1, 3, 8, 40):
        assert same(p(X[:n]), model.predict(X[:n], backend=backend))
        assert same(p.predict_proba(X[:n]), model.predict_proba(X[:n], backend=backend))
        assert same(p.predict_class(X[:n]), model.predict_class(X[:n], backend=backend))
    labels = alone(model.predict_class, X, backend)
    for x, chances, label in zip(X, alone(model.predict_proba, X, backend), labels, strict=True):
        assert same(p.predict_proba(x), chances)
        found = p.predict_class(x)
        assert same(found, label) if label.ndim else (found == label and type(found) is int)


def test_the_largest_of_equal_and_missing_values_is_numpys():
    model = Sequential([nn.Dense(4, init=0.0)]).build(1, seed=0)
    model.loss = LOSSES["cross_entropy"]
    for bias in ([1, 3, 3, 0], [np.inf, 0, np.inf, 1], [0, np.nan, 5, np.nan], [-np.inf] * 4, [-0.0, 0.0, 0, 0]):
        model.layers[0].bias[...] = bias
        assert model.predictor().predict_class(np.zeros(1)) == np.argmax(np.float32(bias)), bias


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].link not in ("softmax", "sigmoid")])
def test_other_losses_have_no_probabilities(loss):
    model = classifier(loss, 3 * LOSSES[loss].width)
    p, X = model.predictor(), features(12, INPUTS)
    with pytest.raises(ValueError, match="expected a cross-entropy"):
        p.predict_proba(X)
    assert same(p(X), model.predict(X)) and same(p(X[0]), model.predict(X[:1])[0])
    assert same(p.predict_class(X), model.predict_class(X)) and p.predict_class(X[3]) == model.predict_class(X)[3]


def test_without_a_loss_there_are_no_classes():
    p = built("dense").predictor()
    for call in (p.predict_class, p.predict_proba):
        with pytest.raises(ValueError, match="this network was trained with"):
            call(np.zeros(INPUTS))


def test_targets_that_were_scaled_are_given_in_their_units():
    X, y = features(90, 4), 1e5 + 50 * features(90, 2, seed=4)
    model = Sequential([nn.Dense(8, "tanh"), nn.Dense(2)])
    Trainer(model, "mse", seed=0, scale_targets=True).fit(X, y, epochs=2, verbose=False)
    p = model.predictor()
    expected = model.predict(X)
    assert expected.dtype == np.float64
    for n in (1, 8, 90):
        assert same(p(X[:n]), expected[:n])
    out = np.empty(2)
    assert all(same(p(x), y) for x, y in zip(X, expected, strict=True)) and p(X[5], out) is out
    assert same(out, expected[5])


# What goes in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["dense", "learned"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, ">f4", bool])
def test_rows_of_every_dtype(net, dtype):
    model = built(net)
    model.loss = LOSSES["mse"]
    p = model.predictor()
    X = (features(20, INPUTS, seed=4) * 30).astype(np.int64).clip(0, 1 if dtype is bool else 200).astype(dtype)
    expected = model.predict(X)
    for n in (1, 8, 9, 20):
        assert same(p(X[:n]), expected[:n])
    assert all(same(p(x), y) for x, y in zip(X, expected, strict=True))


def test_rows_in_every_layout():
    model = built("dense")
    p = model.predictor()
    X = features(40, INPUTS).astype(np.float32)
    expected = model.predict(X)
    wide = np.zeros((40, 3 * INPUTS), dtype=np.float32)
    wide[:, ::3] = X
    whole = bytearray(X.nbytes + 1)
    unaligned = np.frombuffer(whole, dtype=np.uint8)[1:].view(np.float32).reshape(X.shape)
    unaligned[...] = X
    locked = X.copy()
    locked.flags.writeable = False
    layouts = [np.asfortranarray(X), wide[:, ::3], X[::-1][::-1], unaligned, locked, X[:, ::-1][:, ::-1]]
    for Y in layouts:
        for n in (1, 2, 8, 9, 40):
            assert same(p(Y[:n]), expected[:n])
        assert all(same(p(x), y) for x, y in zip(Y, expected, strict=True))
    assert same(p(X[::-1]), expected[::-1].copy()) and same(p(X[::7]), expected[::7].copy())
    assert same(p(wide[::-5, ::3]), expected[::-5].copy())


def test_lists_tuples_and_numbers_of_python():
    model = built("dense")
    model.loss = LOSSES["mse"]
    p = model.predictor()
    for row in ([0.1 * i for i in range(INPUTS)], list(range(INPUTS)), [2**60, 2**53 + 1, -1, *[0.5] * (INPUTS - 3)]):
        expected = model.predict(np.array(row)[None])[0]
        for x in (row, tuple(row), np.array(row), [np.float64(v) for v in row], [row][0]):
            assert same(p(x), expected)
        assert same(p([row, row]), np.stack([expected] * 2))
    assert same(p([True] * INPUTS), model.predict(np.ones((1, INPUTS)))[0])
    with pytest.raises(ValueError, match="too large for float32"):
        p([1e300] * INPUTS)


def test_rows_by_the_names_of_their_features():
    pandas = pytest.importorskip("pandas")
    X = features(60, 3)
    frame = pandas.DataFrame(X, columns=["b", "a", "c"])
    model = Sequential([nn.Dense(2)])
    Trainer(model, "mse", seed=0).fit(frame, targets(LOSSES["mse"], 60, 2), epochs=1, verbose=False)
    p = model.predictor()
    expected = model.predict(frame)
    for row, y in zip(frame.to_dict("records"), expected, strict=True):
        assert same(p(row), y) and same(p(dict(reversed(row.items()))), y)
    assert same(p(frame), expected) and same(p(frame.iloc[4]), expected[4])
    assert same(p(frame.iloc[4][["c", "b", "a"]]), expected[4])
    assert p.feature_names == ["b", "a", "c"]
    with pytest.raises(ValueError, match=r"x has no 'a', expected the 3 features 'b', 'a', 'c'"):
        p({"b": 1, "c": 2, "d": 3})
    with pytest.raises(ValueError, match=r"x has 'd', which is no feature"):
        p({"b": 1, "c": 2, "d": 3, "a": 0})
    with pytest.raises(ValueError, match="fitted with 'b' there"):
        p(frame[["a", "b", "c"]])
    with pytest.raises(ValueError, match="NaN"):
        p({"b": 1, "c": float("nan"), "a": 0})
    for wrong in ("3x", b"3"):
        with pytest.raises(ValueError, match=f"x has {wrong!r} as 'c', expected a number"):
            p({"b": 1, "c": wrong, "a": 0})
    with pytest.raises(ValueError, match="x has 4 values by 3 names"):
        p(pandas.Series([1.0, 2.0, 3.0, 4.0], index=["b", "b", "a", "c"]))
    with pytest.raises(ValueError, match="names its features, but"):
        built("dense").predictor()({"a": 1})


def test_rows_with_positions_and_sparse_rows():
    sparse = pytest.importorskip("scipy.sparse")
    images = features(12, 4 * 5 * 3).reshape(12, 4, 5, 3).astype(np.float32)
    model = stir(Sequential([nn.Dense(6, "relu"), nn.LayerNorm()]).build((4, 5, 3), seed=0))
    p = model.predictor()
    expected = model.predict(images)
    assert p(images[0]).shape == (4, 5, 6) and same(p(images), expected)
    assert all(same(p(image), y) for image, y in zip(images, expected, strict=True))
    assert same(p(images[:, ::-1][:, ::-1]), expected) and same(p(np.asfortranarray(images[3])), expected[3])
    with pytest.raises(ValueError, match="shape"):
        p(images[:, :3])
    flat = stir(Sequential([nn.Flatten(), nn.Dense(3)]).build((4, 5, 3), seed=0))
    assert same(flat.predictor()(images), flat.predict(images))
    assert same(flat.predictor()(images.reshape(12, -1)), flat.predict(images))
    many = sparse.random(700, INPUTS, density=0.05, format="csr", random_state=0)
    model = built("dense")
    p = model.predictor()
    for X in (many[:4], many, many.tocsc(), many.astype(np.float32), many[:20].todok(), sparse.dok_matrix(many[:5])):
        assert same(p(X), model.predict(X))
    assert same(p(many.toarray()), model.predict(many.toarray()))  # and dense ones after them


# Errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("n", [1, 20])
def test_errors_are_the_models(backend, n):
    model = built("dense")
    p = model.predictor(backend=backend)
    X = features(n, INPUTS)
    holes = [X.copy() for _ in range(3)]
    holes[0][n - 1, 3], holes[1][n - 1, INPUTS - 1], holes[2][0, 0] = np.nan, np.inf, 1e300
    bad = [*holes, *(hole.astype(np.float32) for hole in holes[:2]), X[:, :-1], X[:, :0], X[:0], X.astype(str)]
    for wrong in [*bad, X.astype(complex), None, "text", X[None], X[None, None], [[]], [], 3.0]:
        with pytest.raises((ValueError, TypeError)) as theirs:
            model.predict(wrong)
        with pytest.raises(theirs.type) as ours:
            p(wrong)
        if np.ndim(wrong) == 2:  # p takes a row, which has one dimension
            assert str(ours.value) == _about_x(str(theirs.value))


def _about_x(message: str) -> str:
    return message.replace("Input X", "Input x").replace("X ", "x ")


def test_rows_alone_are_refused_as_rows_are():
    p = built("dense").predictor()
    row = [0.5] * INPUTS
    for wrong, message in {
        (*row, 1.0): f"x has {INPUTS + 1} features, but this model was built with {INPUTS}",
        (*row[:-1], np.nan): f"Input x contains NaN, first at row 0, column {INPUTS - 1}",
        (*row[:-1], None): "None|NaN",
        (*row[:-1], "a"): "expected numbers",
        (*row[:-1], 1j): "complex",
    }.items():
        for x in (wrong, list(wrong), np.array(wrong)):
            with pytest.raises((ValueError, TypeError), match=message):
                p(x)
    out = np.empty(p(row).shape, np.float32)
    assert p(out=out, x=row) is out and (p(x=row) == out).all()
    for arguments, named in (((), {}), ((1, 2, 3), {}), ((row,), {"to": 3}), ((row,), {"x": row}), ((), {"out": out})):
        with pytest.raises(TypeError):
            p(*arguments, **named)


@pytest.mark.parametrize("backend", VECTORISED)
def test_masked_rows_are_refused_as_they_are_by_the_model(backend):
    p = built("dense").predictor(backend=backend)
    masked = np.ma.masked_array(np.zeros((2, INPUTS)), mask=False)
    masked[0, 3] = np.ma.masked
    for x in (masked, masked[0]):
        with pytest.raises(ValueError, match="masked"):
            p(x)


@pytest.mark.parametrize("method", ["predict_proba", "predict_class"])
def test_x_by_name_in_every_method(method):
    model = Sequential([nn.Dense(3)]).build(3, seed=0)
    model.loss = "cross_entropy"
    ask, x = getattr(model.predictor(), method), features().astype(np.float32)
    np.testing.assert_array_equal(ask(x=x), ask(x))
    for arguments, named in (((), {}), ((x, x), {}), ((), {"X": x}), ((x,), {"x": x})):
        with pytest.raises(TypeError, match="x"):
            ask(*arguments, **named)


def test_weak_references_end_with_it():
    predictor = Sequential([nn.Dense(3)]).build(3, seed=0).predictor()
    ended = []
    reference = weakref.ref(predictor, ended.append)
    assert reference() is predictor and not ended
    del predictor
    assert reference() is None and ended == [reference]


def test_calls_leave_nothing_behind():
    p = built("dense").predictor()
    row, X, out = np.zeros(INPUTS, np.float32), features(9, INPUTS), np.empty(3, np.float32)
    objects = (row, X, out, p, p.frozen, np.dtype(np.float32))
    before = None
    for turn in range(300):
        p(row), p(row, out), p(X), p(X[:3]), p(row.tolist()), p([*row[:-1], 1])
        for wrong in (X[:, 1:], "a", [None] * INPUTS, np.full(INPUTS, np.nan)):
            with pytest.raises((ValueError, TypeError)):
                p(wrong)
        with pytest.raises(ValueError, match="out is"):
            p(row, X)
        if turn == 20:
            gc.collect()
            before = [sys.getrefcount(each) for each in objects]
    gc.collect()
    assert before is not None and all(
        abs(sys.getrefcount(each) - count) < 10 for each, count in zip(objects, before, strict=True)
    )


# What comes out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("n", [1, 8, 40])
def test_into_an_array_of_the_callers(backend, n):
    model = built("dense")
    p = model.predictor(backend=backend)
    X = features(n, INPUTS).astype(np.float32)
    expected = model.predict(X, backend=backend)
    out = np.full((n, 3), np.nan, dtype=np.float32)
    assert p(X, out) is out and same(out, expected)
    out[...] = np.nan
    assert p(X, out=out) is out and same(out, expected)
    strided = np.full((n, 6), np.nan, dtype=np.float32)[:, ::2]
    assert p(X, strided) is strided and same(np.ascontiguousarray(strided), expected)
    locked = out.copy()
    locked.flags.writeable = False
    for wrong in (out[:, :2], out[0], np.empty((n, 3)), np.empty((n + 1, 3), np.float32), locked, [0.0] * 3, 3):
        kept = np.copy(wrong)
        with pytest.raises(ValueError, match=r"^out is"):
            p(X, wrong)
        assert np.array_equal(np.asarray(wrong), kept, equal_nan=True)
    assert same(p(X, None), expected)


def test_into_the_array_that_it_reads():
    model = stir(Sequential([nn.Dense(INPUTS, "tanh"), nn.Dense(INPUTS)]).build(INPUTS, seed=0))
    p = model.predictor()
    for n in (1, 8, 700):
        X = features(n, INPUTS).astype(np.float32)
        expected = model.predict(X)
        assert p(X, X) is X and same(X, expected)
        longer = features(n + 1, INPUTS).astype(np.float32)
        expected = model.predict(longer[1:].copy())
        p(longer[1:], longer[:-1])
        assert same(longer[:-1], expected)


def test_predictions_beyond_all_numbers_are_said():
    model = built("learned")
    model.layers[0].adapt(1e-6 * features(50, INPUTS))
    p = model.predictor()
    X = 1e-6 * features(20, INPUTS)
    X[4, 2] = 3e38
    for n in (5, 20):
        with pytest.warns(RuntimeWarning, match=f"predictions of 1 of {n} rows") as caught:
            expected = model.predict(X[:n])
        assert caught
        with pytest.warns(RuntimeWarning, match=f"predictions of 1 of {n} rows") as caught:
            assert np.array_equal(p(X[:n]), expected, equal_nan=True)
        assert caught[0].filename == __file__
    with pytest.warns(RuntimeWarning, match="predictions of 1 of 1 rows"):
        p(X[4])


def test_what_normalize_would_make_small_is_refused_as_it_is_by_the_model():
    model = built("learned")
    model.layers[0].adapt(1e30 * features(50, INPUTS))
    X = np.zeros((1, INPUTS))
    X[0, 2] = 1e39
    with pytest.raises(ValueError, match="too large for float32"):
        model.predict(X)
    for x in (X, X[0], X[0].tolist()):
        with pytest.raises(ValueError, match="too large for float32"):
            model.predictor()(x)


def test_a_new_network_says_where_it_rounds_too_much():
    model = stir(Sequential([nn.Dense(2)]).build(3, seed=0))
    X = 1e9 + features(40, 3)
    for call in (model.predict, model.predictor()):
        with pytest.warns(PrecisionWarning):
            call(X)
    with pytest.warns(PrecisionWarning):
        model.predictor()(X[:4])


# Its life ------------------------------------------------------------------------------------------------------


def test_fits_after_it_change_nothing():
    model = built("every layer")
    X, y = features(60, INPUTS), targets(LOSSES["mse"], 60, 3)
    p = model.predictor()
    before = p(X)
    Trainer(model, "mse", seed=0).fit(X, y, epochs=2, verbose=False)
    assert same(p(X), before) and not same(model.predict(X), before)
    assert same(model.predictor()(X), model.predict(X))
    del model
    gc.collect()
    assert same(p(X), before)
    for array in p.frozen.arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("name", NETS)
def test_copies_and_pickles(name, backend):
    p = built(name).predictor(backend=backend)
    X = features(20, INPUTS)
    for other in (pickle.loads(pickle.dumps(p)), copy.copy(p), copy.deepcopy(p)):
        assert isinstance(other, serving.Predictor) and other.backend == backend
        assert same(other(X), p(X)) and same(other(X[0]), p(X[0]))


def test_threads_at_once():
    models = [built(name) for name in ("dense", "learned", "skips")]
    X = features(64, INPUTS).astype(np.float32)
    calls = [(model.predictor(), model.predict(X)) for model in models]
    wrong: list[object] = []

    def work(seed: int) -> None:
        order = np.random.default_rng(seed)
        try:
            for _ in range(400):
                p, expected = calls[order.integers(3)]
                begin = int(order.integers(60))
                n = int(order.integers(1, 64 - begin))
                if not same(p(X[begin : begin + n]), expected[begin : begin + n]):
                    wrong.append((seed, begin, n))
                if not same(p(X[begin]), expected[begin]):
                    wrong.append((seed, begin))
        except Exception as error:
            wrong.append(error)

    in_threads(work, 6)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks():
    model = built("dense")
    p, X = model.predictor(), features(5000, INPUTS).astype(np.float32)
    expected = p(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(0 if same(p(X), expected) and same(p(X[0]), expected[0]) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_dense_of_every_number_of_panels(dtype):
    """Panels are 16 to 64 outputs wide and taken four, three, two or one at a time; up to four columns of
    many inputs are dot products. A row has many rows' bits."""
    sizes = [(INPUTS, n) for n in (*range(1, 40), *range(47, 260, 16), *range(48, 260, 16), *range(49, 260, 16))]
    for inputs, outputs in (*sizes, *((inputs, n) for inputs in (40, 67, 131) for n in range(1, 6))):
        X = features(40, inputs)
        model = stir(Sequential([nn.Dense(outputs)], dtype=dtype).build(inputs, seed=outputs))
        p = model.predictor()
        many = p(X)
        for n in (1, 2, 3):
            assert same(p(X[:n]), many[:n]), (outputs, n)
            guarded = np.full(n * outputs + 64, 77, dtype)  # nothing behind the rows is written
            p(X[:n], guarded[: n * outputs].reshape(n, outputs))
            assert same(guarded[: n * outputs].reshape(n, outputs), many[:n]) and (guarded[n * outputs :] == 77).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_of_a_large_network(dtype):
    """They are worth threads: one row of 900-4000-1200 takes 0.2 ms."""
    model = stir(Sequential([nn.Dense(4000, "relu"), nn.Dense(1200)], dtype=dtype).build(900, seed=0))
    model.loss = LOSSES["mse"]
    p, X = model.predictor(), features(8, 900).astype(np.float32).astype(np.float64)
    expected = model.predict(X)
    for n in (1, 2, 8):
        for x in (X[:n], X[:n].astype(dtype), np.asfortranarray(X[:n].astype(dtype))):
            assert same(p(x), expected[:n])
    assert same(p(X[3]), expected[3]) and same(p(X[3].tolist()), expected[3])


@pytest.mark.parametrize("sizes", [(2100, 2100), (1_500_000, 3)])
def test_weights_that_are_packed_in_pieces(sizes):
    """Of 4 million numbers, between which a Ctrl-C is answered."""
    inputs, outputs = sizes
    model = stir(Sequential([nn.Dense(outputs)]).build(inputs, seed=0))
    X = features(3, inputs).astype(np.float32)
    expected = model.predict(X)
    assert same(model.predictor()(X), expected)
    right = X.astype(float) @ model.layers[0].weight + model.layers[0].bias
    np.testing.assert_allclose(expected, right, atol=1e-5 * np.abs(right).max())


def test_what_is_said_of_it():
    model = classifier("cross_entropy", 3)
    p = model.predictor()
    assert repr(p) == "Predictor(19 -> 3, float32, native)"
    assert p.dtype == np.float32 and p.classes is None and p.feature_names is None
    with pytest.raises(AttributeError, match="nothing"):
        p.nothing  # noqa: B018
    with pytest.raises(TypeError):
        type(p)()
    assert json.dumps(p.predict_class(np.zeros(INPUTS)))
    with pytest.raises(NotFittedError):
        Sequential([nn.Dense(2)]).predictor()


# model.predict --------------------------------------------------------------------------------------------------


def test_predict_sees_every_change_of_the_model():
    """It keeps what answers plain arrays: each thing that this was made for is changed here, and back."""
    X, y = features(40, 4), 1e3 + features(40, 2, seed=4)
    model = Sequential([nn.Dense(8, "tanh"), nn.Dense(2)]).build(4, seed=0)
    first = model.predict(X)
    model.layers[0].weight[...] *= 2
    assert not same(model.predict(X), first)
    model.layers[0].weight[...] /= 2
    assert same(model.predict(X), first)
    with backends.use_backend("numpy"):
        assert np.allclose(model.predict(X), first, atol=1e-5)
    assert same(model.predict(X, backend="native"), first)
    Trainer(model, "mse", seed=0, scale_targets=True).fit(X, y, epochs=1, verbose=False)
    fitted = model.predict(X)
    assert fitted.dtype == np.float64 and not np.allclose(fitted, first)
    copied = copy.deepcopy(model)
    model.build(5, seed=0)
    assert model.predict(features(3, 5)).shape == (3, 2) and same(copied.predict(X), fitted)
    with pytest.raises(ValueError, match="4 features"):
        model.predict(X)
    with pytest.raises(ValueError, match="expected"):
        model.predict(np.zeros(5))  # a row alone is a predictor's
    gone = pickle.dumps(model)
    del model
    gc.collect()
    assert pickle.loads(gone).predict(features(3, 5)).shape == (3, 2)


@pytest.mark.parametrize("name", NETS)
def test_predict_of_few_and_of_many_rows(name):
    """Few go to the extension's own checks, many by its walk: of both, a row has the same bits."""
    model = built(name)
    model.loss = LOSSES["mse"]
    X = features(1100, INPUTS).astype(np.float32).astype(np.float64)
    whole = model.predict(X)
    for n in (1, 2, 8, 9, 100, 600):
        for part in (X[:n], X[:n].astype(np.float32), np.asfortranarray(X[:n]), X[:n][::-1][::-1]):
            assert same(model.predict(part), whole[:n])
