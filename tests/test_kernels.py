"""Every kernel of every backend against the float64 reference, within a bound derived from the operation.

Outputs start as NaN, every array lies one element off alignment between two guards of NaN, and sizes sit around
the vector widths. Whatever the registries hold is tested: nothing is listed here a second time.
"""

from __future__ import annotations

from typing import Any

import kernel_cases
import numpy as np
import pytest
from conftest import backend_parameters
from kernel_cases import ADJUSTMENTS, Case, InOut, Out, Own

from fastnn.backends import reference
from fastnn.contract import Adjustment, Kernels
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
KERNELS = tuple(Kernels.__dataclass_fields__)

# (B, I, O) around the vector widths 4, 8, 16 and the register tiles above them, and no rows at all
SHAPES = [
    (1, 1, 1),
    (1, 8, 7),
    (2, 3, 5),
    (7, 9, 8),
    (8, 7, 9),
    (9, 15, 16),
    (15, 16, 17),
    (16, 17, 15),
    (17, 33, 1),
    (33, 16, 67),
    (67, 67, 33),
    (0, 9, 7),
]
FEW_SHAPES = [(1, 8, 7), (9, 15, 17), (16, 5, 67)]
INTERPRETED = 4000  # multiplications: the largest case for the python backend

# Output -> input it may share memory with, as the contract says
ALIASES = {
    "dense_forward": ("z", "a"),
    "activation_forward": ("a", "z"),
    "activation_backward": ("dz", "da"),
    "softmax_forward": ("a", "z"),
    "softmax_backward": ("dz", "da"),
    "prelu_backward": ("dz", "da"),
    "dropout": ("out", "x"),
    "batch_norm_backward": ("dx", "da"),
    "layer_norm_backward": ("dx", "da"),
}


class Draw:
    """Standard normal arrays in a dtype."""

    def __init__(self, dtype, seed=0):
        self.dtype, self.rng = np.dtype(dtype), np.random.default_rng(seed)

    def __call__(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)


GUARD = 19  # elements on each side; odd, so that the array between is aligned to nothing but its elements


class Guarded:
    """Arrays between guards, which must be as they were when the kernel is done."""

    def __init__(self):
        self.buffers = []

    def __call__(self, value: np.ndarray) -> np.ndarray:
        buffer = np.full(value.size + 2 * GUARD, np.nan if value.dtype.kind == "f" else -77, value.dtype)
        view = buffer[GUARD : GUARD + value.size].reshape(value.shape)
        view[...] = value
        self.buffers.append(buffer)
        return view

    def check(self):
        for buffer in self.buffers:
            clean = np.full(GUARD, np.nan if buffer.dtype.kind == "f" else -77, buffer.dtype)
            np.testing.assert_array_equal(buffer[:GUARD], clean, "written before the buffer")
            np.testing.assert_array_equal(buffer[-GUARD:], clean, "written behind the buffer")


def call(kernels: Kernels, name: str, case: Case, dtype, alias: tuple[str, str] | None = None) -> dict[str, Any]:
    """Runs a kernel on fresh guarded copies of the case's arguments. Returns them all, and the result."""
    guarded, made, inputs = Guarded(), {}, {}

    def make(argument):
        if isinstance(argument, Out):
            kind = np.dtype(argument.dtype or dtype)
            return guarded(np.full(argument.shape, np.nan if kind.kind == "f" else -1, kind))
        if isinstance(argument, InOut):
            return guarded(argument.value.astype(dtype))
        if isinstance(argument, Own):
            return guarded(argument.value)
        if isinstance(argument, tuple) and argument and isinstance(argument[0], InOut):
            return tuple(make(each) for each in argument)
        if isinstance(argument, np.ndarray):
            return guarded(argument.astype(dtype) if argument.dtype.kind == "f" else argument)
        return argument

    for key, argument in case.arguments.items():
        made[key] = make(argument)
    if alias is not None:
        made[alias[0]] = made[alias[1]]
    for key, argument in case.arguments.items():
        if isinstance(argument, np.ndarray | Own) and (alias is None or key not in alias):
            inputs[key] = made[key].copy()
    result = getattr(kernels, name)(*made.values())
    guarded.check()
    for key, before in inputs.items():
        np.testing.assert_array_equal(made[key], before, f"input {key} changed")
    return made | {"result": result}


def outputs_of(case: Case) -> list[str]:
    written = [
        key
        for key, argument in case.arguments.items()
        if isinstance(argument, Out | InOut)
        or (isinstance(argument, tuple) and any(isinstance(a, InOut) for a in argument))
    ]
    return written or ["result"]


def assert_close(got, want, magnitude, dtype, what: str):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, what)
        return
    np.testing.assert_array_equal(
        np.isnan(got), np.isnan(want), f"{what}: NaN where there should be none, or the reverse"
    )
    # both sides round: this backend in its dtype, the oracle in float64
    magnitude = np.nan_to_num(magnitude, nan=0.0)  # where an input is NaN, the mask above has said it all
    bound = magnitude * (np.finfo(dtype).eps + np.finfo(np.float64).eps) + (magnitude > 0) * np.finfo(dtype).tiny
    error = np.where(np.isnan(want), 0.0, np.abs(got.astype(np.float64) - want))
    worst = np.argmax(error - bound) if error.size else 0
    assert np.all(error <= bound), (
        f"{what}: off by {error.flat[worst]:.3g}, allowed {np.broadcast_to(bound, error.shape).flat[worst]:.3g} "
        f"(got {got.flat[worst]!r}, expected {want.flat[worst]!r}, index {np.unravel_index(worst, error.shape)})"
    )


def check(kernels: Kernels, name: str, case: Case, dtype) -> dict[str, Any]:
    """The kernel against the reference in float64 on the very same numbers."""
    got = call(kernels, name, case, dtype)
    want = call(reference.KERNELS, name, case, np.float64)
    terms = case.terms(want)
    for output in outputs_of(case):
        if (name, output) == ("dense_forward", "a"):
            continue  # see check_dense_forward
        pairs = [(got[output], want[output], terms[output])]
        if isinstance(got[output], tuple):
            pairs = list(zip(got[output], want[output], terms[output], strict=True))
        for mine, theirs, magnitude in pairs:
            assert_close(mine, theirs, magnitude, dtype, output)
    return got


def skip_what_is_too_slow(backend: str, shape: tuple[int, int, int]) -> None:
    if backend == "python" and shape[0] * shape[1] * shape[2] > INTERPRETED:
        pytest.skip("interpreted loops are tested on small arrays only")


def shapes(which):
    return pytest.mark.parametrize("shape", which, ids=lambda s: "x".join(map(str, s)))


NEED_ROWS = ("batch_norm_forward", "batch_norm_backward")  # the mean of no rows is not a number


def test_every_kernel_has_a_case():
    missing = [name for name in KERNELS if not hasattr(kernel_cases, name)]
    assert missing == []


@BACKENDS
@DTYPES
@shapes(SHAPES)
@pytest.mark.parametrize("name", [name for name in KERNELS if name != "dense_forward"])
def test_parity(name, shape, dtype, backend, kernels):
    skip_what_is_too_slow(backend, shape)
    if shape[0] == 0 and name in NEED_ROWS:
        pytest.skip("needs at least one row")
    check(kernels, name, getattr(kernel_cases, name)(Draw(dtype), *shape), dtype)


def check_dense_forward(kernels, activation, shape, dtype):
    """z against the oracle; a against the formula at the z that the kernel itself found."""
    case = kernel_cases.dense_forward(Draw(dtype), *shape, activation=activation)
    got = check(kernels, "dense_forward", case, dtype)
    z = got["z"].astype(np.float64)
    want = np.asarray(activation.value(z, activation.alpha), np.float64)
    assert_close(got["a"], want, kernel_cases._near(activation, z, want), dtype, "a")


@BACKENDS
@DTYPES
@shapes(SHAPES)
def test_dense_forward(shape, dtype, backend, kernels):
    skip_what_is_too_slow(backend, shape)
    check_dense_forward(kernels, ACTIVATIONS["tanh"], shape, dtype)


@BACKENDS
@DTYPES
@shapes([(1, 5, 7), (9, 3, 17)])
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=str)
class TestEveryActivation:
    def test_forward(self, activation, shape, dtype, backend, kernels):
        check(kernels, "activation_forward", kernel_cases.activation_forward(Draw(dtype), *shape, activation), dtype)

    def test_backward(self, activation, shape, dtype, backend, kernels):
        check(kernels, "activation_backward", kernel_cases.activation_backward(Draw(dtype), *shape, activation), dtype)

    def test_dense_forward(self, activation, shape, dtype, backend, kernels):
        check_dense_forward(kernels, activation, shape, dtype)

    def test_dense_backward_input(self, activation, shape, dtype, backend, kernels):
        case = kernel_cases.dense_backward_input(Draw(dtype), *shape, activation)
        check(kernels, "dense_backward_input", case, dtype)

    def test_nan_and_far_values(self, activation, shape, dtype, backend, kernels):
        """Over the whole range in which exp is finite in float32, with NaN, and both zeros."""
        z = np.concatenate([[np.nan, 0.0, -0.0], np.linspace(-80.0, 80.0, shape[0] * shape[2])]).reshape(1, -1)
        case = Case(
            dict(activation=activation, z=z.astype(dtype), a=Out(z.shape)),
            lambda r: dict(a=kernel_cases._near(activation, r["z"], r["a"])),
        )
        check(kernels, "activation_forward", case, dtype)


@BACKENDS
@DTYPES
@shapes(FEW_SHAPES)
@pytest.mark.parametrize(
    ("loss", "kind"),
    [pytest.param(loss, kind, id=f"{loss}-{kind}") for loss in LOSSES.values() for kind in loss.targets],
)
def test_every_loss(loss, kind, shape, dtype, backend, kernels):
    skip_what_is_too_slow(backend, shape)
    check(kernels, "loss", kernel_cases.loss(Draw(dtype), *shape, loss, kind), dtype)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("adjustment", ADJUSTMENTS.values(), ids=ADJUSTMENTS)
@pytest.mark.parametrize("rule", RULES.values(), ids=str)
def test_every_rule(rule, adjustment, dtype, backend, kernels):
    for n in (1, 7, 16, 67):
        check(kernels, "update", kernel_cases.update(Draw(dtype), 1, n, 1, rule, adjustment), dtype)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("name", ALIASES)
def test_shared_memory_changes_nothing(name, dtype, backend, kernels):
    shape = (5, 9, 17)
    case = getattr(kernel_cases, name)(Draw(dtype), *shape)
    apart = call(kernels, name, case, dtype)
    together = call(kernels, name, case, dtype, alias=ALIASES[name])
    for output in outputs_of(case):
        if name == "dense_forward" and output == "z":
            continue  # there is only a
        np.testing.assert_array_equal(together[output], apart[output], output)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("name", [name for name in KERNELS if name != "moments"])  # which no NaN reaches
def test_nan_goes_where_it_does_in_the_reference(name, dtype, backend, kernels):
    """A NaN in any one input reaches exactly the outputs that depend on it."""
    shape = (5, 9, 17)

    def inputs(case):
        arrays = {key: value.value if isinstance(value, Own) else value for key, value in case.arguments.items()}
        return {key: a for key, a in arrays.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}

    for poisoned in inputs(getattr(kernel_cases, name)(Draw(dtype), *shape)):
        case = getattr(kernel_cases, name)(Draw(dtype), *shape)
        array = inputs(case)[poisoned]
        array.flat[array.size // 2] = np.nan
        got = call(kernels, name, case, dtype)
        want = call(reference.KERNELS, name, case, np.float64)
        for output in outputs_of(case):
            np.testing.assert_array_equal(
                np.isnan(got[output]), np.isnan(want[output]), f"NaN in {poisoned}: output {output}"
            )


@BACKENDS
def test_dense_forward_takes_read_only_arrays(backend, kernels):
    """Rows and weights may be mapped from a file."""
    draw = Draw(np.float32)
    x, w, b = draw(5, 7), draw(7, 3), draw(3)
    z = np.full((5, 3), np.nan, np.float32)
    for array in (x, w, b):
        array.flags.writeable = False
    kernels.dense_forward(x, w, b, ACTIVATIONS["identity"], z, z)
    assert_close(z, x.astype(float) @ w + b, 11 * (np.abs(x) @ np.abs(w) + np.abs(b)), np.float32, "z")


LAYOUTS = ["rows", "columns", "every other", "reversed", "misaligned", "read-only"]
STORED = ["float32", "float64", "uint8", "int8", "int16", "int32", "int64", "uint32", "float16", "bool", ">f4"]


def laid_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same values in that layout."""
    if layout == "columns":
        return np.asfortranarray(values)
    if layout == "every other":
        return np.repeat(np.repeat(values, 2, axis=0), 2, axis=1)[::2, ::2]
    if layout == "reversed":
        return values[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "misaligned":
        raw = np.zeros(values.nbytes + 1, np.uint8)
        x = raw[1:].view(values.dtype).reshape(values.shape)
        x[...] = values
        return x
    x = values.copy()
    x.flags.writeable = layout != "read-only"
    return x


ROWS = np.array([3, 0, 11, 3, 7, 1, 1, 10, 5], dtype=np.int64)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather_takes_any_dtype_and_layout(layout, stored, dtype, backend, kernels):
    values = np.random.default_rng(1).integers(0, 100, (12, 17)).astype(stored)
    x = laid_out(values, layout)
    for count in (0, 1, len(ROWS)):
        guarded = Guarded()
        out = guarded(np.full((count, 17), np.nan, dtype))
        kernels.gather(x, ROWS[:count], out)
        guarded.check()
        np.testing.assert_array_equal(out, values[ROWS[:count]].astype(dtype))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather_normalized_has_the_same_bits_everywhere(layout, stored, dtype, backend, kernels):
    """Of any dtype and layout: in float64 a subtraction and a product, which nothing can contract or reorder."""
    rng = np.random.default_rng(1)
    for columns in (1, 7, 17, 67):
        values = rng.integers(0, 100, (12, columns)).astype(stored)
        if (
            np.dtype(stored).itemsize > 4
        ):  # a small spread around a large number; float32 keeps every second digit of it
            values = values + np.dtype(stored).type(1e9)
        x, shift, scale = (
            laid_out(values, layout),
            values.mean(axis=0) + rng.normal(size=columns),
            rng.normal(size=columns),
        )
        guarded = Guarded()
        out = guarded(np.full((len(ROWS), columns), np.nan, dtype))
        kernels.gather_normalized(x, ROWS, guarded(shift), guarded(scale), out)
        guarded.check()
        np.testing.assert_array_equal(out, ((values[ROWS].astype(np.float64) - shift) * scale).astype(dtype))


@BACKENDS
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
def test_gather_normalized_of_extremes(stored, backend, kernels):
    """A constant column is 0, what leaves float32 infinite, NaN a NaN; no rows are no rows."""
    x = np.array([[7, 200, 3], [7, 100, 250]], stored)
    shift, scale = np.array([7.0, 0.0, np.nan]), np.array([1.0, 1e38, 1.0])
    out = np.full((2, 3), 5, np.float32)
    with np.errstate(over="ignore"):
        kernels.gather_normalized(x, np.arange(2), shift, scale, out)
        kernels.gather_normalized(x, np.arange(0), shift, scale, out[:0])
    np.testing.assert_array_equal(out, [[0, np.inf, np.nan], [0, np.inf, np.nan]])


@BACKENDS
def test_gather_rounds_as_a_cast_does(backend, kernels):
    x = np.random.default_rng(2).standard_normal((4, 33)) * 1e3
    out = np.full((4, 33), np.nan, np.float32)
    kernels.gather(x, np.arange(4), out)
    np.testing.assert_array_equal(out, x.astype(np.float32))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "values"])
def test_label_smoothing(kind, smoothing, dtype, backend, kernels):
    from fastnn.formulas.losses import CrossEntropy

    check(kernels, "loss", kernel_cases.loss(Draw(dtype), 5, 1, 9, CrossEntropy(smoothing), kind), dtype)


@BACKENDS
@DTYPES
def test_hinge_of_one_class_is_zero(dtype, backend, kernels):
    case = kernel_cases.loss(Draw(dtype), 4, 1, 1, LOSSES["hinge"], "labels")
    got = check(kernels, "loss", case, dtype)
    assert not got["value"].any() and not got["dz"].any()


@BACKENDS
@DTYPES
def test_softmax_survives_large_logits(dtype, backend, kernels):
    z = np.array([[-1e4, 1e4, 1e4 - 1], [-1e4, -1e4, -1e4]], dtype)
    a = np.full_like(z, np.nan)
    kernels.softmax_forward(z, a)
    e = np.exp(-1.0)
    np.testing.assert_allclose(a, [[0, 1 / (1 + e), e / (1 + e)], [1 / 3] * 3], rtol=32 * np.finfo(dtype).eps)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("kind", ["labels", "values"])
def test_cross_entropy_survives_large_logits(kind, dtype, backend, kernels):
    z = np.array([[-1e4, 1e4, 1e4 - 1], [-1e4, -1e4, -1e4]], dtype)
    y = np.array([2, 0]) if kind == "labels" else np.eye(3, dtype=dtype)[[2, 0]]
    value, dz = np.full(2, np.nan, dtype), np.full_like(z, np.nan)
    kernels.loss(LOSSES["cross_entropy"], z, y, np.ones(2, dtype), value, dz)
    e = np.exp(-1.0)
    eps = 32 * np.finfo(dtype).eps
    np.testing.assert_allclose(value, [1 + np.log1p(e), np.log(3)], rtol=eps)
    np.testing.assert_allclose(dz, [[0, 1 / (1 + e), -1 / (1 + e)], [-2 / 3, 1 / 3, 1 / 3]], rtol=eps)


@BACKENDS
@DTYPES
def test_cross_entropy_of_rows_that_do_not_sum_to_one(dtype, backend, kernels):
    """-sum q log softmax(z) and its gradient hold for any q."""
    case = kernel_cases.loss(Draw(dtype), 5, 1, 9, LOSSES["cross_entropy"], "values")
    case.arguments["y"] = np.random.default_rng(3).uniform(0, 1, (5, 9)).astype(dtype)
    terms = case.terms
    case.terms = lambda r: {name: 9 * magnitude for name, magnitude in terms(r).items()}  # mass is below 9
    check(kernels, "loss", case, dtype)


@BACKENDS
@DTYPES
def test_l1_penalty_of_a_nan_weight_reaches_the_slots(dtype, backend, kernels):
    w, g, slot = np.array([np.nan, 2, 0], dtype), np.ones(3, dtype), np.zeros(3, dtype)
    kernels.update(RULES["momentum"], (1.0, 0.5, 1.0), Adjustment(l1=0.25), w, g, (slot,))
    np.testing.assert_array_equal(slot, [np.nan, 1.25, 1.0])
    np.testing.assert_array_equal(w, [np.nan, 0.75, -1.0])


@BACKENDS
def test_squared_norm_accumulates_in_float64(backend, kernels):
    """Squares that overflow float32, and a sum that float32 could not tell from its largest term."""
    g = np.array([1e30, 3.0, -1e30], np.float32)
    assert kernels.squared_norm(g) == pytest.approx(2.0 * float(g[0]) ** 2, rel=1e-15)
    g = np.concatenate([[4096.0], np.full(3000, 1.0)]).astype(np.float32)
    assert kernels.squared_norm(g) == 4096.0**2 + 3000.0


@BACKENDS
@DTYPES
def test_maxout_takes_the_first_of_equals(dtype, backend, kernels):
    z = np.array([[1, 1, 0, 2, 3, 3]], dtype)
    a, winner = np.full((1, 2), np.nan, dtype), np.full((1, 2), -1, np.int32)
    kernels.maxout_forward(z, a, winner)
    assert a.tolist() == [[1, 3]] and winner.tolist() == [[0, 1]]
