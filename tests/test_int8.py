"""Predictors in int8: the bits of their definition in NumPy, whatever computes them and whatever a row stands among."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from common import VECTORISED, build, features, in_threads, stir

from fastnn import MLPClassifier, Sequential, Trainer, backends, nn, serving
from fastnn.formulas.activations import identity
from fastnn.formulas.losses import LOSSES
from fastnn.serving import int8

native_engine = pytest.importorskip("fastnn.backends.native_engine", exc_type=ImportError)
native = native_engine.native
WAYS = [
    (isa, way)
    for index, isa in enumerate(native.instruction_sets())
    for way in range(len(native.extension.int8_ways(index)))
]
INPUTS = 19
# What rounds as IEEE 754 says, operation by operation: to the same bits everywhere.
EXACT = {
    "relu": lambda: [nn.Dense(33, "relu"), nn.Dense(17, "relu"), nn.Dense(3)],
    "pieces": lambda: [nn.Dense(40, "leaky_relu"), nn.Dense(24, "hard_tanh"), nn.Dense(9, "hard_sigmoid"), nn.Dense(4)],
    "steps": lambda: [nn.Dense(20, "binary_step"), nn.Dense(20, "softsign"), nn.Dense(1)],
    "learned": lambda: [nn.Normalize(), nn.Dense(30, nn.Maxout(3)), nn.Dense(9, "prelu"), nn.Scale(0.7), nn.Dense(3)],
    "dropped": lambda: [nn.Dropout(0.2), nn.Dense(37, "rrelu"), nn.Dropout(0.5), nn.Dense(3)],
    "folded": lambda: [nn.BatchNorm(), nn.Dense(35), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(3)],
    "skips": lambda: [nn.Residual([nn.Dense(19, "relu")]), nn.Residual([nn.Dense(16)], shortcut=[nn.Dense(16)])],
    "positions": lambda: [nn.Dense(24, "relu"), nn.Reshape((2, 12)), nn.Dense(5, "relu"), nn.Flatten(), nn.Dense(3)],
}
OTHERS = {  # exp, or multiply-adds, which instruction sets round otherwise
    "tanh": lambda: [nn.Dense(33, "tanh"), nn.Dense(17, "gelu"), nn.Dense(3)],
    "norms": lambda: [nn.Dense(35, "silu"), nn.LayerNorm(), nn.Dense(7, "elu"), nn.Softmax(), nn.Dense(3)],
    "unfolded": lambda: [nn.Dense(35, "relu"), nn.BatchNorm(), nn.Activation("relu"), nn.BatchNorm(), nn.Dense(3)],
}


def built(layers: list, inputs: int = INPUTS) -> Sequential:
    model = stir(Sequential(layers).build(inputs, seed=3))
    if isinstance(layers[0], nn.Normalize):
        layers[0].adapt(features(50, inputs, seed=8))
    return model


def backend_of(isa: str, way: int):
    engine = native_engine.Engine(isa)
    engine.int8_way = way
    return backends.make("native", engine.kernels, engine.predict, freeze=engine.freeze)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


def product(w: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The definition of one layer, by itself."""
    z = np.empty((len(x), w.shape[1]), dtype=np.float32)
    int8._dense(x, w, b, identity, z, z)
    return z


def layer(w: np.ndarray, b: np.ndarray | None = None) -> Sequential:
    model = Sequential([nn.Dense(w.shape[1])]).build(len(w), seed=0)
    model.layers[0].weight[...] = w
    model.layers[0].bias[...] = 0 if b is None else b
    return model


# The definition -------------------------------------------------------------------------------------------------


def test_worked_out_by_hand():
    w = np.float32([[127.0, 1.0], [-63.5, 0.0], [0.4, -0.25]])  # scales 1 and 1 / 127
    q, scale = int8.quantised(w)
    assert q.tolist() == [[127, 127], [-64, 0], [0, -32]]  # 63.5 is rounded to even
    assert scale.tolist() == [1.0, float(np.float32(1) / np.float32(127))]
    x = np.float32([[254.0, -1.0, 0.0], [0.0, 51.0, 2.5]])
    rows, factor = int8.rows_quantised(x)
    assert rows.tolist() == [[127, 0, 0], [0, 255, 12]]  # -0.5 and 12.5 are rounded to even
    assert factor.ravel().tolist() == [2.0, float(np.float32(51) / np.float32(255))]
    z = layer(w, np.float32([0.5, -1.0])).predictor(dtype="int8")(x)
    assert z[0].tolist() == [127 * 127 * 2.0 + 0.5, pytest.approx(254 - 1, rel=1e-6)]
    assert z[1] == pytest.approx([-64 * 51 + 0.5, -32 * 12 / 127 / 5 - 1], rel=1e-6)


def test_whole_numbers_of_8_bits_are_exact():
    """Pixels: no digit of a row is lost whose largest value is 255."""
    x = np.arange(256, dtype=np.uint8)[None]
    w = np.eye(256, dtype=np.float32) * 127
    assert layer(w).predictor(dtype="int8")(x).tolist() == (127.0 * x).tolist()


def test_halves_are_rounded_to_even():
    x = np.float32([0.5, 1.5, 2.5, 3.5, 126.5, 253.5, 254.5, 255.0])
    w = np.eye(8, dtype=np.float32) * 127
    assert (layer(w).predictor(dtype="int8")(x) / 127).tolist() == [0, 2, 2, 4, 126, 254, 254, 255]
    x = np.float32([-0.5, -1.5, -2.5, 3.5, -125.5, 126.5, 126.5, -127.0])
    assert (layer(w).predictor(dtype="int8")(x) / 127).tolist() == [0, -2, -2, 4, -126, 126, 126, -127]


def test_the_error_of_a_layer_is_bounded():
    """Each weight is off by half a scale, each value by half a factor."""
    w, x = features(200, 60, seed=1).astype(np.float32), features(90, 200).astype(np.float32)
    scale = np.abs(w).max(axis=0) / 127
    factor = np.abs(x).max(axis=1, keepdims=True) / 127
    bound = 0.5 * scale * np.abs(x).sum(axis=1, keepdims=True) + 0.5 * factor * np.abs(w).sum(axis=0)
    bound += 0.25 * 200 * scale * factor
    error = np.abs(layer(w).predictor(dtype="int8")(x) - x.astype(np.float64) @ w)
    assert (error <= bound * (1 + 1e-6)).all() and error.max() > 0


# The same bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("isa", "way"), WAYS)
def test_products_of_every_shape(isa, way):
    backend = backend_of(isa, way)
    sizes = [*range(1, 19), 23, 31, 32, 33, 47, 48, 49, 63, 64, 65, 66, 67]
    for inputs in sizes:
        X = features(101, inputs).astype(np.float32)
        X[::3] = np.abs(X[::3])
        for outputs in sizes:
            w, b = features(inputs, outputs, seed=1).astype(np.float32), features(1, outputs)[0].astype(np.float32)
            p = layer(w, b).predictor(backend=backend, dtype="int8")
            expected = product(w, b, X)
            rows = (1, 2, 3, 7, 8, 9, 13, 49, 101) if inputs in (1, 5, 33, 67) or outputs in (1, 17, 67) else (1, 26)
            for n in rows:  # from the end: no row is where a call before has left the same
                assert same(p(X[-n:]), expected[-n:]), (inputs, outputs, n)


@pytest.mark.parametrize(("isa", "way"), WAYS)
@pytest.mark.parametrize("outputs", [128, 160, 250, 257, 300])
def test_products_of_many_outputs(isa, way, outputs):
    w, X = features(133, outputs, seed=1).astype(np.float32), features(30, 133).astype(np.float32)
    p = layer(w).predictor(backend=backend_of(isa, way), dtype="int8")
    expected = product(w, np.zeros(outputs, np.float32), X)
    for n in (1, 2, 30):
        assert same(p(X[-n:]), expected[-n:])


@pytest.mark.parametrize(("isa", "way"), WAYS)
@pytest.mark.parametrize("inputs", [2, 64, 4097, 65536])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums(isa, way, inputs, sign):
    """255 x 127 twice is beyond 16 bits, where vpmaddubsw saturates; 65,536 times it is just below 32."""
    p = layer(np.full((inputs, 5), sign, dtype=np.float32)).predictor(backend=backend_of(isa, way), dtype="int8")
    for X, q, factor in ((np.full((3, inputs), 3.0), 255, 3 / 255), (np.full((3, inputs), -3.0), -127, 3 / 127)):
        sums = np.float32(sign * q * 127 * inputs)
        expected = (sums * np.float32(np.float32(1) / np.float32(127))) * (np.float32(factor))
        assert (p(X) == expected).all() and (p(X[0]) == expected).all()


@pytest.mark.parametrize(("isa", "way"), WAYS)
def test_rows_of_all_kinds(isa, way):
    tiny = np.float32(1e-45)
    rows = np.zeros((16, 37), dtype=np.float32)
    rows[1], rows[2], rows[3], rows[4] = -0.0, 7.25, -7.25, tiny
    rows[5], rows[6], rows[7] = np.linspace(-1e-38, 1e-38, 37), np.linspace(0, 3.4e38, 37), np.linspace(-3.4e38, 1, 37)
    rows[8, 36], rows[9, 0], rows[10, 36] = 1.0, -1.0, -tiny
    rows[11] = np.where(np.arange(37) % 2, -0.0, 5.0)  # none is below 0
    rows[12], rows[13] = 2.0**-120, np.nextafter(np.float32(2.0**-120), np.float32(0))
    rows[14], rows[15] = np.geomspace(1e-44, 3e38, 37), -np.geomspace(1e-44, 3e38, 37)
    w, b = features(37, 21, seed=1).astype(np.float32), features(1, 21, seed=2)[0].astype(np.float32)
    w[:, 3], w[:, 4], w[:, 5] = 0, tiny, 0.01
    w[7, 5] = 3e38
    p = layer(w, b).predictor(backend=backend_of(isa, way), dtype="int8")
    expected = product(w, b, rows)
    assert same(p(rows), expected) and all(same(p(x), y) for x, y in zip(rows, expected, strict=True))
    assert (expected[[0, 1, 13]] == b).all() and (expected[12, 0] != b[0] or b[0] + rows[12, 0] == b[0])
    assert same(expected[11], product(w, b, np.abs(rows[11:12]))[0])


@pytest.mark.parametrize(("isa", "way"), WAYS)
def test_values_beyond_float32_between_layers_are_nan_behind(isa, way):
    model = build(nn.Dense(3, "relu"), nn.Dense(2), inputs=2, dtype=np.float32)
    model.layers[0].weight[...] = 1e35
    p = model.predictor(backend=backend_of(isa, way), dtype="int8")
    X = np.float32([[1e5, 1e5], [1e-3, 1e-3]])
    found = p(X)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    assert same(found, model.predictor(backend="numpy", dtype="int8")(X)) and same(p(X[0]), found[0])


@pytest.mark.parametrize(("isa", "way"), WAYS)
@pytest.mark.parametrize("name", EXACT)
def test_networks_without_exp_have_the_same_bits_everywhere(isa, way, name):
    model = built(EXACT[name]())
    p, reference = (model.predictor(backend=b, dtype="int8") for b in (backend_of(isa, way), "numpy"))
    X = np.concatenate([features(600, INPUTS), np.abs(features(600, INPUTS, seed=5))]).astype(np.float32)
    expected = reference(X)
    for n in (1, 2, 8, 9, 100, 1200):
        assert same(p(X[-n:]), expected[-n:]), n
    assert all(same(p(x), y) for x, y in zip(X[595:605], expected[595:605], strict=True))


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("name", EXACT)
def test_every_backend_has_these_bits(backend, name):
    model = built(EXACT[name]())
    X = features(20, INPUTS).astype(np.float32)
    expected = model.predictor(backend="numpy", dtype="int8")(X)
    assert same(model.predictor(backend=backend, dtype="int8")(X), expected)


@pytest.mark.parametrize(("isa", "way"), WAYS)
@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_have_the_same_bits_in_any_batch_and_are_close_to_the_definition(isa, way, name):
    model = built(OTHERS[name]())
    p = model.predictor(backend=backend_of(isa, way), dtype="int8")
    X = features(1200, INPUTS).astype(np.float32)
    whole = p(X)
    for n in (1, 2, 8, 9, 100):
        assert same(p(X[-n:]), whole[-n:]), n
    expected = model.predictor(backend="numpy", dtype="int8")(X)
    # A value that another last digit takes over a half is another whole number: at most 1/127 of the row's largest.
    assert np.abs(whole - expected).max() <= 0.05 * np.abs(expected).max()
    assert np.mean(np.isclose(whole, expected, rtol=1e-4, atol=1e-4)) > 0.9


def test_the_ways_of_an_instruction_set_have_the_same_bits_whatever_is_between():
    for isa in native.instruction_sets():
        ways = [backend_of(isa, way) for of, way in WAYS if of == isa]
        for name, layers in OTHERS.items():
            model, X = built(layers()), features(60, INPUTS).astype(np.float32)
            first, *others = (model.predictor(backend=b, dtype="int8")(X) for b in ways)
            assert all(same(first, other) for other in others), name


def test_any_number_of_threads_has_the_same_bits():
    model = built([nn.Dense(130, "relu"), nn.Dense(70, "tanh"), nn.Dense(3)])
    p = model.predictor(backend="native", dtype="int8")
    X = features(3000, INPUTS).astype(np.float32)
    found = []
    try:
        for n in (1, 2, 3):
            native.set_threads(n)
            native.set_least_work(0.0)
            found.append(p(X))
    finally:
        native.set_threads(0)
        native.set_least_work(48000.0)
    assert same(found[0], found[1]) and same(found[0], found[2])


# What is a predictor of it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", VECTORISED)
def test_it_is_called_as_a_predictor_is(backend):
    model = built(EXACT["relu"]())
    q = model.predictor(backend=backend, dtype="int8")
    assert isinstance(q, serving.Int8Predictor) and q.backend == backend and q.dtype == np.int8
    assert repr(q) == f"Predictor(19 -> 3, int8, {backend})"
    X = features(30, INPUTS).astype(np.float32)
    expected = q(X)
    for n in (1, 8, 30):
        out = np.full((n, 3), np.nan, dtype=np.float32)
        assert q(X[:n], out) is out and same(out, expected[:n])
        strided = np.full((n, 6), np.nan, dtype=np.float32)[:, ::2]
        assert q(X[:n], strided) is strided and same(np.ascontiguousarray(strided), expected[:n])
    wide = np.zeros((30, 3 * INPUTS), dtype=np.float32)
    wide[:, ::3] = X
    for Y in (X.astype(np.float64), np.asfortranarray(X), wide[:, ::3], X.tolist()):
        assert same(q(Y), expected) and same(q(Y[4]), expected[4])
    assert same(q(X[::-1]), expected[::-1].copy()) and same(q(X[::7]), expected[::7].copy())
    pixels = np.abs(X * 40).astype(np.uint8)
    assert same(q(pixels), q(pixels.astype(np.float32))) and same(q(pixels[2]), q(pixels)[2])


@pytest.mark.parametrize("backend", VECTORISED)
def test_errors_are_the_models(backend):
    model = built(EXACT["relu"]())
    q, p = (model.predictor(backend=backend, dtype=dtype) for dtype in ("int8", None))
    hole = np.zeros(INPUTS)
    hole[3] = np.nan
    for wrong in (hole, [*hole], hole[None], np.zeros((20, 3)), np.zeros((0, INPUTS)), "text", None, {"a": 1}):
        with pytest.raises((ValueError, TypeError)) as theirs:
            p(wrong)
        with pytest.raises(theirs.type) as ours:
            q(wrong)
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(ValueError, match=r"^out is"):
        q(np.zeros(INPUTS), np.zeros(4, np.float32))


@pytest.mark.parametrize("backend", VECTORISED)
def test_sparse_rows(backend):
    sparse = pytest.importorskip("scipy.sparse")
    many = sparse.random(700, INPUTS, density=0.05, format="csr", random_state=0)
    q = built(EXACT["relu"]()).predictor(backend=backend, dtype="int8")
    assert same(q(many), q(many.toarray())) and same(q(many[:3]), q(many[:3].toarray()))


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_probabilities_and_classes(backend, loss):
    for outputs in (1, 4) if loss == "binary_cross_entropy" else (2, 5):
        model = built([nn.Dense(11, "relu"), nn.Dense(outputs)])
        model.loss = LOSSES[loss]
        q = model.predictor(backend=backend, dtype="int8")
        X = features(40, INPUTS)
        classes, chances = q.predict_class(X), q.predict_proba(X)
        z = q(X)
        assert chances.shape == (40, max(2, outputs)) and classes.shape == ((40, 4) if outputs == 4 else (40,))
        if loss == "cross_entropy":
            assert np.array_equal(classes, z.argmax(axis=1))
        assert np.allclose(q.predict_proba(X[7]), chances[7], rtol=1e-5)
        assert np.array_equal(q.predict_class(X[7]), classes[7])


def test_rows_by_name_and_classes_of_an_estimator():
    pytest.importorskip("sklearn")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(features(200, 3), columns=["b", "a", "c"])
    y = np.where(frame["a"] > frame["b"], "more", "less")
    model = MLPClassifier(hidden_layer_sizes=(16,), max_iter=200, learning_rate_init=0.03, random_state=0).fit(frame, y)
    q = model.predictor(dtype="int8")
    row = frame.iloc[5].to_dict()
    assert q.feature_names == ["b", "a", "c"] and same(q(row), q(frame)[5])
    assert q.predict_class(row) in ("less", "more") and (q.predict_class(frame) == y).mean() > 0.9
    compared = q.compare(frame)
    assert compared.rows == 200 and 0 <= compared.changed <= 10
    assert 0 < compared.error < 0.05 * np.abs(q(frame)).max()


def test_targets_that_were_scaled_are_given_in_their_units():
    X, y = features(90, 4), 1e5 + 50 * features(90, 2, seed=4)
    model = Sequential([nn.Dense(8, "relu"), nn.Dense(2)])
    Trainer(model, "mse", seed=0, scale_targets=True).fit(X, y, epochs=2, verbose=False)
    q = model.predictor(dtype="int8")
    assert q(X).dtype == np.float64 and same(q(X), model.predictor(backend="numpy", dtype="int8")(X))
    assert np.abs(q(X) - model.predict(X)).max() == q.compare(X).error < 5


@pytest.mark.parametrize("backend", VECTORISED)
@pytest.mark.parametrize("name", ["folded", "relu"])
def test_it_pickles_as_arrays(backend, name):
    model = built(EXACT[name]())
    q = model.predictor(backend=backend, dtype="int8")
    X = features(20, INPUTS).astype(np.float32)
    expected, compared = q(X), q.compare(X)
    model.layers[-1].weight[...] = 0  # it has its own
    again = pickle.loads(pickle.dumps(q))
    assert type(again) is type(q) and same(again(X), expected) and again.compare(X) == compared and same(q(X), expected)


def test_threads_and_a_fork_may_call_it():
    q = built(EXACT["relu"]()).predictor(dtype="int8")
    X = features(400, INPUTS).astype(np.float32)
    expected = q(X)
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(start, 400, 4):
            if not (same(q(X[i]), expected[i]) and same(q(X[: i + 1]), expected[: i + 1])):
                wrong.append(i)

    in_threads(work, 4)
    assert not wrong
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(0 if same(q(X), expected) and same(q(X[3]), expected[3]) else 1)
        assert os.waitpid(child, 0)[1] == 0


# What it costs, and what it is not for ----------------------------------------------------------------------------


def test_comparing():
    model = built([nn.Dense(64, "relu"), nn.BatchNorm(), nn.Dense(5)])
    model.loss = LOSSES["cross_entropy"]
    X = features(500, INPUTS)
    for backend in ("numpy", None):
        q = model.predictor(backend=backend, dtype="int8")
        found = q.compare(X)
        assert isinstance(found, serving.Compared)
        assert found.error == np.abs(q(X).astype(np.float64) - model.predict(X, backend=backend)).max() > 0
        assert found.changed == (q.predict_class(X) != model.predict_class(X, backend=backend)).sum()
        assert found.rows == 500
        assert found.bytes == INPUTS * 64 + 64 * 5 + 8 * (64 + 5)
        assert found.bytes_float32 == 4 * (INPUTS * 64 + 64 + 4 * 64 + 64 * 5 + 5)
    with pytest.raises(ValueError, match="X has 0 rows"):
        q.compare(X[:0])
    with pytest.raises(ValueError, match="NaN"):
        q.compare(np.full((2, INPUTS), np.nan))
    assert built(EXACT["relu"]()).predictor(dtype="int8").compare(X).changed is None


@pytest.mark.parametrize("backend", VECTORISED)
def test_a_network_of_float64_becomes_one_of_float32(backend):
    wide = stir(Sequential(EXACT["folded"](), dtype=np.float64).build(INPUTS, seed=3))
    X = features(60, INPUTS)
    q = wide.predictor(backend=backend, dtype="int8")
    assert q(X).dtype == np.float32 and same(q(X), wide.predictor(backend="numpy", dtype="int8")(X))
    assert same(q(X[3]), q(X)[3]) and same(pickle.loads(pickle.dumps(q))(X), q(X))
    assert q.compare(X).error == np.abs(q(X) - wide.predict(X, backend=backend)).max() < 0.2
    with pytest.raises(ValueError, match="too large for float32"):
        q(np.full(INPUTS, 1e300))
    wide.layers[1].weight[0, 0] = 1e300
    with pytest.raises(ValueError, match=r"1\.weight has values that are not finite in float32"):
        wide.predictor(dtype="int8")


def test_what_it_is_not_for():
    for dtype in ("float16", "float32", 8, np.int8):
        with pytest.raises(ValueError, match=r"dtype is .*, expected 'int8', or None"):
            built(EXACT["relu"]()).predictor(dtype=dtype)
    with pytest.raises(ValueError, match="the network has no dense layer"):
        build(nn.LayerNorm(), dtype=np.float32).predictor(dtype="int8")
    with pytest.raises(ValueError, match="a dense layer has 65537 inputs, expected at most 65536"):
        layer(np.ones((65537, 1), dtype=np.float32)).predictor(dtype="int8")
    broken = built(EXACT["relu"]())
    broken.layers[1].weight[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"1\.weight has values that are not finite"):
        broken.predictor(dtype="int8")
