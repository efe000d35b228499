"""Lines 1 to 18 of what is survived: input. On the numpy backend and on the one that users get."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from common import ENGINES, build, features, parameters, run_python

from fastnn import NotFittedError, Sequential, Trainer, backends, nn, optim

on_engines = pytest.mark.parametrize("backend", ENGINES)
X, Y, LABELS = features(12, 4), features(12, 3, seed=9), np.arange(12) % 3


def trainer(backend: str, loss: str = "cross_entropy", outputs: int = 3) -> Trainer:
    return Trainer(Sequential([nn.Dense(5, "tanh"), nn.Dense(outputs)]), loss, seed=0, backend=backend)


def fitted(backend: str) -> Trainer:
    made = trainer(backend)
    made.fit(X, LABELS, epochs=1, verbose=False)
    return made


def refused(made: Trainer, error, message: str, attempt) -> None:
    """It raises that; the model is as it was, and works."""
    before = parameters(made.model)
    with pytest.raises(error, match=message):
        attempt()
    for name, value in parameters(made.model).items():
        np.testing.assert_array_equal(value, before[name])
    assert np.isfinite(made.model.predict(X, backend=made.backend)).all()


@on_engines
@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN"), (np.inf, "infinity"), (1e39, r"1e\+39, a value too large")]
)
def test_01_bad_values_in_x(backend, value, said):
    made, x = fitted(backend), X.copy()
    x[7, 2] = value
    message = rf"^Input X contains {said}.* at row 7, column 2"
    refused(made, ValueError, message, lambda: made.fit(x, LABELS, verbose=False))
    refused(made, ValueError, message, lambda: made.model.predict(x, backend=backend))


@on_engines
def test_01_missing_values_in_a_nullable_frame(backend):
    pandas = pytest.importorskip("pandas")
    made = fitted(backend)
    frame = pandas.DataFrame(X, columns=list("abcd")).astype("Float64")
    frame.iloc[7, 2] = pandas.NA
    message = r"^Input X contains NaN, first at row 7, column 2 \('c'\)$"
    refused(made, ValueError, message, lambda: made.fit(frame, LABELS, verbose=False))


@on_engines
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_02_bad_values_in_y(backend, value):
    y = Y.copy()
    y[11, 1] = value
    with pytest.raises(ValueError, match=r"^Input y contains (NaN|infinity), first at row 11, column 1$"):
        trainer(backend, "mse").fit(X, y, verbose=False)


@on_engines
@pytest.mark.parametrize("x", [X[0], X[None]], ids=["1-D", "3-D"])
def test_03_dimensions_of_x(backend, x):
    made = fitted(backend)
    shape = r"\(4,\)" if x.ndim == 1 else r"\(12, 4\)"
    refused(made, ValueError, shape, lambda: made.model.predict(x, backend=backend))


@on_engines
def test_04_no_rows_and_no_features(backend):
    made = fitted(backend)
    refused(made, ValueError, r"^X has 0 rows", lambda: made.model.predict(X[:0], backend=backend))
    refused(made, ValueError, r"^X has 0 features", lambda: made.fit(X[:, :0], LABELS, verbose=False))


@on_engines
def test_04_an_engine_called_with_no_rows(backend):
    model = fitted(backend).model
    out = np.empty((0, 3), np.float32)
    backends.load(backend).predict(model.plan, model.state, np.empty((0, 4), np.float32), out)
    assert out.shape == (0, 3)


@on_engines
def test_05_other_numbers_of_rows(backend):
    made = fitted(backend)
    refused(made, ValueError, "^y has 5 rows, but X has 12", lambda: made.fit(X, LABELS[:5], verbose=False))


@on_engines
def test_06_other_features(backend):
    made = fitted(backend)
    message = "^X has 3 features, but this model was built with 4"
    refused(made, ValueError, message, lambda: made.model.predict(X[:, :3], backend=backend))


@on_engines
def test_06_columns_in_another_order(backend):
    pandas = pytest.importorskip("pandas")
    made, frame = trainer(backend), pandas.DataFrame(X, columns=list("abcd"))
    made.fit(frame, LABELS, epochs=1, verbose=False)
    message = "^X has column 'c' at position 1, but this model was fitted with 'b' there"
    refused(made, ValueError, message, lambda: made.model.predict(frame[list("acbd")], backend=backend))


@on_engines
def test_07_unfitted(backend):
    with pytest.raises(NotFittedError):
        Sequential([nn.Dense(2)]).predict(X, backend=backend)


@on_engines
@pytest.mark.parametrize(
    "x",
    [X + 0j, [[{}] * 4] * 12, X.astype("datetime64[s]"), [["a"] * 4] * 12],
    ids=["complex", "dicts", "dates", "text"],
)
def test_08_what_has_no_numbers(backend, x):
    made = fitted(backend)
    refused(made, (TypeError, ValueError), "^X has ", lambda: made.model.predict(x, backend=backend))


@on_engines
@pytest.mark.parametrize("y", [None, ["a", 1] * 6, LABELS + 0.5], ids=["none", "mixed", "continuous"])
def test_09_no_classes(backend, y):
    made = fitted(backend)
    refused(made, (TypeError, ValueError), "^y ", lambda: made.fit(X, y, verbose=False))


@on_engines
def test_10_one_class(backend):
    made = Trainer(Sequential([nn.Dense(2)]), "cross_entropy", optim.SGD(1.0), seed=0, backend=backend)
    made.fit(X, np.ones(12, int), epochs=200, verbose=False)
    np.testing.assert_allclose(made.model.predict_proba(X)[:, 1], 1.0, atol=0.02)


@on_engines
def test_11_weights(backend):
    made = fitted(backend)
    for weight, said in ((np.linspace(-1, 1, 12), "has value -1"), (np.zeros(12), "is all zero")):
        refused(made, ValueError, f"^sample_weight {said}", lambda w=weight: made.fit(X, LABELS, sample_weight=w))


@on_engines
@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("lr", lambda: optim.Adam(np.nan)),
        ("decay", lambda: optim.AdamW(decay=-1.0)),
        ("units", lambda: nn.Dense(0)),
        ("rate", lambda: nn.Dropout(1.0)),
    ],
    ids=["lr", "decay", "units", "rate"],
)
def test_12_hyper_parameters(backend, name, attempt):
    with pytest.raises(ValueError, match=rf"^{name} is "):
        attempt()
    with pytest.raises(ValueError, match=r"^clip_norm is -1"):
        Trainer(Sequential([nn.Dense(1)]), "mse", clip_norm=-1, backend=backend)


@on_engines
@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (1, 100), (12, 100), (12, 5)])
def test_13_few_rows_and_short_batches(backend, rows, batch):
    made = trainer(backend)
    made.fit(X[:rows], LABELS[:rows], epochs=2, batch_size=batch, verbose=False)
    assert made.model.state.step == 2 * -(-rows // min(rows, batch))
    assert np.isfinite(made.model.predict(X, backend=backend)).all()


def misaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    raw[...] = x
    return raw


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "negative stride": lambda x: x[::-1].copy()[::-1],
    "Fortran order": np.asfortranarray,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": read_only,
    "misaligned": misaligned,
}


@on_engines
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.bool_])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_14_layouts_give_the_same_bits(backend, layout, dtype):
    x = (X > 0).astype(dtype) if dtype is np.bool_ else (4 * X).astype(dtype)
    states = []
    for form in (x, LAYOUTS[layout](x)):
        made = trainer(backend)
        made.fit(form, LABELS, epochs=2, batch_size=5, verbose=False)
        states.append([*made.model.state.buffers, made.model.predict(form, backend=backend)])
    for plain, other in zip(*states, strict=True):
        np.testing.assert_array_equal(plain, other)


@on_engines
@pytest.mark.parametrize("units", [2**40, 2**62, 10**30])
def test_15_sizes_that_overflow(backend, units):
    with pytest.raises((MemoryError, ValueError)):
        Trainer(Sequential([nn.Dense(units)]), "mse", backend=backend).fit(X, Y, verbose=False)


UNREADABLE = """
    import ctypes, mmap, sys
    import numpy as np
    from fastnn import Sequential, backends, engine, nn, optim

    libc, page = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE
    kept = []

    def at_the_end(array):
        '''A copy that ends where an unreadable page begins.'''
        pages = -(-max(array.nbytes, 1) // page)
        memory = mmap.mmap(-1, (pages + 1) * page)
        kept.append(memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(ctypes.c_void_p(start + pages * page), page, 0) == 0
        raw = np.frombuffer(memory, np.uint8, array.nbytes, pages * page - array.nbytes)
        copy = raw.view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    backend, dtype = backends.load(sys.argv[1]), np.dtype(sys.argv[2])
    rng = np.random.default_rng(0)
    for size in range(1, 131):
        rows = 1 + size % 7
        layers = [nn.Dense(size, "tanh"), nn.BatchNorm(), nn.Dense(1 + size % 3)]
        model = Sequential(layers, dtype=dtype).build(size, seed=0)
        x = at_the_end(rng.normal(size=(rows, size)).astype(dtype))
        y = at_the_end(rng.normal(size=(rows, 1 + size % 3)).astype(dtype))
        out = at_the_end(np.full(y.shape, np.nan, dtype))
        weight, order = at_the_end(np.ones(rows, dtype)), at_the_end(np.arange(rows))
        backend.predict(model.plan, model.state, x, out)
        assert np.isfinite(out).all()
        batches = engine.Batches(x, y, weight, order, 3)
        objective = engine.Objective(nn.LOSSES["mse"], optim.Adam())
        backend.train_steps(model.plan, model.state, objective, batches, at_the_end(np.full(-(-rows // 3), 1e-3)))
        assert model.state.finite()
    print("untouched")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect by its name in libc")
@on_engines
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_16_arrays_that_end_at_an_unreadable_page(backend, dtype):
    done = run_python(UNREADABLE.replace("sys.argv[1]", repr(backend)).replace("sys.argv[2]", repr(dtype)))
    assert done.stdout.strip() == "untouched", f"{done.returncode} {done.stderr}"


@on_engines
def test_17_nan_goes_on_from_inputs_and_not_from_outputs(backend):
    model = build(nn.Dense(5, "relu"), nn.Dense(3), inputs=4)
    out = np.full((12, 3), np.nan)
    backends.load(backend).predict(model.plan, model.state, X, out)
    assert np.isfinite(out).all()
    model.layers[0].weight[0, 0] = np.nan
    assert np.isnan(model.predict(X, backend=backend)).any()


MXCSR = """
    import ctypes, ctypes.util

    def state():
        environment = (ctypes.c_uint32 * 8)()  # fenv_t of x86-64: MXCSR is its last word
        assert ctypes.CDLL("libm.so.6").fegetenv(environment) == 0
        return environment[7] & ~0x3F  # without the flags of what happened, which every division may set

    import numpy as np
    before = state()
    import fastnn
    from fastnn import Sequential, Trainer, nn
    after = [state()]
    x = np.random.default_rng(0).normal(size=(600, 20))
    trainer = Trainer(Sequential([nn.Dense(300, "tanh"), nn.Dense(3)]), "mse", seed=0, backend=BACKEND)
    trainer.fit(x, x[:, :3], epochs=2, verbose=False)
    after.append(state())
    trainer.model.predict(x, backend=BACKEND)
    after.append(state())
    print(all(each == before for each in after))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's fenv_t")
@on_engines
def test_18_the_floating_point_unit_is_as_it_was(backend):
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("MXCSR is x86-64's")
    done = run_python(MXCSR.replace("BACKEND", repr(backend)))
    assert done.stdout.strip() == "True", done.stderr
