"""What only the native backend promises: instruction sets, accuracy of its own math, bits, misuse, exports.

That its kernels agree with the reference is test_kernels.py's, that none is missing test_contract.py's.
FASTNN_TEST_ALL_FLOATS=1 sweeps all 2^32 float32.
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from common import run_python

from fastnn._random import Key
from fastnn.backends import reference
from fastnn.contract import Adjustment, Kernels
from fastnn.formulas.activations import ACTIVATIONS, identity
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES
from fastnn.ops import OPS

_native = pytest.importorskip("fastnn._native", reason="the extension was not compiled")
native = pytest.importorskip("fastnn.backends.native")

ISAS = native.instruction_sets()
DTYPES = (np.float32, np.float64)
relu = ACTIVATIONS["relu"]


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


@pytest.fixture
def threads():
    yield native.set_threads
    native.set_threads(0)


# Kernels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in Kernels.__dataclass_fields__ if name != "ops"])
def test_no_kernel_is_the_references(isa, name):
    assert getattr(native.kernels(isa), name) is not getattr(reference, name)


@pytest.mark.parametrize("name", OPS)
def test_no_operation_is_the_references(isa, name):
    mine, theirs = native.kernels(isa).ops[name], reference.KERNELS.ops[name]
    same = [each for each in mine._fields if getattr(mine, each) is getattr(theirs, each)]
    assert same == (["backward"] if OPS[name].spec.phase == "source" else [])  # which a source has not


# Instruction sets ------------------------------------------------------------------------------------------


def test_default_is_the_best():
    code = "from fastnn.backends import native; print(native.default_instruction_set())"
    assert run_python(code, FASTNN_ISA="").stdout.strip() == ISAS[-1]


def test_environment_chooses(isa):
    code = "from fastnn.backends import native; native.kernels(); print(native.default_instruction_set())"
    assert run_python(code, FASTNN_ISA=isa).stdout.strip() == isa


def test_unknown_instruction_set_is_an_error():
    result = run_python("from fastnn.backends import native; native.kernels()", FASTNN_ISA="mmx")
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError") and "'mmx'" in last and ISAS[0] in last
    with pytest.raises(RuntimeError, match="'mmx'"):
        native.kernels("mmx")


# Math ------------------------------------------------------------------------------------------------------

# Largest errors allowed in units in the last place: (float32, float64); math.hpp states the same.
ULPS = {
    "exp": (2, 2),
    "log": (2, 2),
    "log1p": (3, 3),
    "expm1": (3, 3),
    "tanh": (3, 3),
    "sigmoid": (3, 3),
    "softplus": (3, 3),
    "erf": (3, 5),
}


def exact(name: str, x: np.ndarray) -> np.ndarray:
    """In longdouble, from NumPy's or the standard library's functions."""
    with np.errstate(all="ignore"):
        x = x.astype(np.longdouble)
        if name == "sigmoid":
            return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))
        if name == "softplus":
            return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
        if name == "erf":
            return np.array([math.erf(v) for v in x.tolist()], dtype=np.longdouble)  # to a double's accuracy
        return getattr(np, name)(x)


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        # frexp: want = m 2^e, 1/2 <= m < 1, so one unit is 2^(e - digits), at least the smallest denormal
        exponent = np.maximum(np.frexp(want)[1] - (info.nmant + 1), info.minexp - info.nmant)
        error = np.abs(got.astype(np.longdouble) - want) / np.ldexp(np.longdouble(1), exponent)
    same = (got == rounded) | (np.isnan(got) & np.isnan(want))
    return np.where(same, np.minimum(np.nan_to_num(error, nan=0, posinf=0), 1), np.nan_to_num(error, nan=np.inf))


def evaluate(name: str, x: np.ndarray, isa: str) -> np.ndarray:
    out = np.full_like(x, np.nan)
    _native.math(name, x, out, isa)
    return out


@pytest.mark.parametrize("name", _native.FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_math_is_accurate(isa, name, dtype):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2**63, 40_000, dtype=np.uint64) * 2 + rng.integers(0, 2, 40_000, dtype=np.uint64)
    patterns = (raw >> np.uint64(32)).astype(np.uint32) if dtype is np.float32 else raw
    info = np.finfo(dtype)
    special = [0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, info.smallest_subnormal]
    near = np.concatenate([rng.uniform(-w, w, 20_000) for w in (1e-3, 1, 10, 110, 760)])
    x = np.concatenate([patterns.view(dtype), np.array(special, dtype), near.astype(dtype)])
    assert ulps(evaluate(name, x, isa), exact(name, x)).max() <= ULPS[name][dtype is np.float64]


@pytest.mark.skipif(not os.environ.get("FASTNN_TEST_ALL_FLOATS"), reason="minutes a function: FASTNN_TEST_ALL_FLOATS=1")
@pytest.mark.parametrize("name", _native.FUNCTIONS)
def test_math_over_all_floats(isa, name):
    worst = 0.0
    for start in range(0, 2**32, 2**22):
        x = np.arange(start, start + 2**22, dtype=np.uint32).view(np.float32)
        want = reference_erf(x) if name == "erf" else exact_in_double(name, x)
        got = evaluate(name, x, isa)
        worst = max(worst, float(ulps_of_float32(got, want)))
    print(name, isa, worst)
    assert worst <= ULPS[name][0]


def exact_in_double(name: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            return ACTIVATIONS["sigmoid"].value(x, 0.0)
        if name == "softplus":
            return ACTIVATIONS["softplus"].value(x, 0.0)
        return getattr(np, name)(x)


def reference_erf(x: np.ndarray) -> np.ndarray:
    from fastnn.formulas.special import erf

    with np.errstate(all="ignore"):
        return erf(x.astype(np.float64))


def ulps_of_float32(got: np.ndarray, want: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        unit = np.spacing(np.maximum(np.abs(rounded), np.float32(1e-45))).astype(np.float64)
        error = np.abs(got.astype(np.float64) - want) / unit
    error[(got == rounded) | (np.isnan(got) & np.isnan(rounded))] = 0
    return float(np.nan_to_num(error, nan=np.inf).max())


# Bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 128), (300, 1), (300, 2), (100, 3), (17, 10), (784, 33), (500, 1100)], ids=str)
@pytest.mark.parametrize("activation", ["identity", "tanh", "gelu"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_a_row_has_the_same_bits_in_any_batch(isa, shape, activation, dtype):
    k = native.kernels(isa)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((70, shape[0])).astype(dtype), rng.standard_normal(shape).astype(dtype)
    b = rng.standard_normal(shape[1]).astype(dtype)

    def forward(rows):
        a = np.full((len(rows), shape[1]), np.nan, dtype)
        k.ops["dense"].forward(rows, w, b, ACTIVATIONS[activation], a, a)
        return a

    whole = forward(x)
    for begin, end in [(0, 1), (69, 70), (3, 5), (10, 13), (20, 27), (30, 43), (5, 64)]:
        np.testing.assert_array_equal(forward(x[begin:end]), whole[begin:end])


@pytest.mark.parametrize("shape", [(256, 300, 257), (64, 2048, 33), (2000, 100, 2), (1, 1500, 1000)], ids=str)
def test_the_thread_count_does_not_change_bits(isa, threads, shape):
    k = native.kernels(isa)
    B, I, O = shape
    rng = np.random.default_rng(0)
    x, w, dz = (rng.standard_normal(s).astype(np.float32) for s in ((B, I), (I, O), (B, O)))
    b = np.zeros(O, np.float32)
    y, weight = rng.integers(0, O, B), np.ones(B, np.float32)
    results = []
    for n in (1, 2, 3, 5):
        threads(n)
        a, dx, dw, db = (np.full(s, np.nan, np.float32) for s in ((B, O), (B, I), (I, O), (O,)))
        value, gradient, dropped = (np.full(s, np.nan, np.float32) for s in ((B,), (B, O), (B, I)))
        updated, m, v = w.ravel().copy(), np.zeros(I * O, np.float32), np.zeros(I * O, np.float32)
        k.ops["dense"].forward(x, w, b, relu, a, a)
        k.ops["dense"].backward(x, w, relu, x, dz, dx, dw, db)
        k.loss(LOSSES["cross_entropy"], dz, y, weight, value, gradient)
        k.ops["dropout"].forward(x, 0.3, Key(1, 2, 3), dropped)
        k.update(RULES["adam"], (1e-3, 0.9, 0.1, 0.999, 0.001, 1.0, 1e-8), Adjustment(), updated, dw.ravel(), (m, v))
        norm = np.array(k.squared_norm(dw.ravel()))
        results.append((a, dx, dw, db, value, gradient, dropped, updated, m, v, norm))
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("call", ["fit", "model.predict", "kernel"])
def test_a_daemon_thread_at_work_does_not_abort_the_exit(call):
    """It cannot have the GIL back: before Python 3.14 that is an exception, which must not leave a destructor."""
    code = f"""
import threading, time, numpy as np
from fastnn import Sequential, Trainer, nn
from fastnn.backends import native
X = np.ones((20_000, 256), np.float32)
model = Sequential([nn.Dense(512, "relu"), nn.Dense(1)]).build(256, seed=0)
trainer = Trainer(model, "mse", seed=0, backend="native")
def fit(X):
    trainer.fit(X, X[:, :1], epochs=10**6, batch_size=512, verbose=False)
def kernel(X):
    layer = model.layers[0]
    native.kernels().ops["dense"].forward(X[:512], layer.weight, layer.bias, nn.ACTIVATIONS["relu"], a, a)
a = np.empty((512, 512), np.float32)
model.predict(X, backend="native")  # what takes time once
def work():
    while True:
        {call}(X)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""
    for _ in range(3):  # the thread may also be where Python ends it in silence
        run = run_python(code)
        assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_hang():
    code = """
import os, sys, numpy as np
from fastnn.backends import native
from fastnn.formulas.activations import identity
def product():
    x = np.ones((512, 512), np.float32); a = np.empty_like(x)
    native.kernels().ops["dense"].forward(x, x, x[0], identity, a, a)
    return float(a[3, 4])
native.set_threads(2)
assert product() == 513.0
pid = os.fork()
if pid == 0:
    os._exit(0 if product() == 513.0 else 1)
sys.exit(os.waitpid(pid, 0)[1])
"""
    assert run_python(code).returncode == 0


# Misuse ----------------------------------------------------------------------------------------------------


def test_misuse_raises(isa):
    k = native.kernels(isa)
    x, w, b = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32), np.ones(2, np.float32)
    z = np.empty((4, 2), np.float32)
    with pytest.raises(ValueError, match=r"w has shape \(2, 2\), expected \(3, \*\)"):
        k.ops["dense"].forward(x, w[:2], b, identity, z, z)
    with pytest.raises(ValueError, match="b has shape"):
        k.ops["dense"].forward(x, w, b[:1], identity, z, z)
    with pytest.raises(ValueError, match="z has shape"):
        k.ops["dense"].forward(x, w, b, identity, z[:3], z)
    with pytest.raises(ValueError, match="not C-contiguous"):
        k.ops["dense"].forward(x, np.ones((2, 3), np.float32).T, b, identity, z, z)
    with pytest.raises(TypeError, match="w has dtype float64, expected float32"):
        k.ops["dense"].forward(x, w.astype(np.float64), b, identity, z, z)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        k.ops["dense"].forward(x.astype(np.float16), w, b, identity, z, z)
    with pytest.raises(TypeError, match="x is a list"):
        k.ops["dense"].forward([[1.0]], w, b, identity, z, z)
    with pytest.raises(TypeError, match="dtype"):
        k.ops["dense"].forward(x, w.astype(">f4"), b, identity, z, z)
    frozen = z.copy()
    frozen.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        k.ops["dense"].forward(x, w, b, identity, frozen, frozen)
    value, weight = np.empty(4, np.float32), np.ones(4, np.float32)
    for labels in ([0, 1, 2, 0], [0, -1, 0, 0]):
        with pytest.raises(IndexError, match="label"):
            k.loss(LOSSES["cross_entropy"], z, np.array(labels), weight, value, z.copy())
    with pytest.raises(IndexError):
        k.ops["cast"].forward(x, np.array([4]), np.empty((1, 3), np.float32))
    with pytest.raises(ValueError, match="maxout cannot make 2 values out of 3"):
        k.ops["maxout"].forward(x, z, np.empty((4, 2), np.int32))
    with pytest.raises(ValueError, match="slots"):
        k.update(RULES["adam"], (0.1,) * 7, Adjustment(), b.copy(), b, ())
    with pytest.raises(ValueError, match="coefficients"):
        k.update(RULES["sgd"], (0.1, 0.2), Adjustment(), b.copy(), b, ())
    with pytest.raises(TypeError, match="arguments"):
        _native.op_forward(0, 2, x)
    with pytest.raises(ValueError, match="instruction set"):
        _native.squared_norm(99, b)


def test_nan_propagates(isa):
    k = native.kernels(isa)
    for dtype in DTYPES:
        z = np.array([[np.nan, 1, -1, 2, np.nan, 3, 4, 5, 6, 7, 8]], dtype)
        for activation in ACTIVATIONS.values():
            a = np.empty_like(z)
            k.ops["activation"].forward(z, activation, a)
            with np.errstate(all="ignore"):
                want = activation.value(z, activation.alpha)
            np.testing.assert_array_equal(np.isnan(a), np.isnan(want), err_msg=str(activation))
        a = np.empty_like(z)
        k.ops["softmax"].forward(z, a)
        assert np.isnan(a).all()
