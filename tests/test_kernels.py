"""Every kernel of every backend against the float64 reference, within a bound derived from the operation.

Outputs start as NaN, every array lies one element off alignment between two guards of NaN, and sizes sit around
the vector widths. Whatever the registries hold is tested: nothing is listed here a second time. That the reference is
right is test_ops.py's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import table_cases
from conftest import backend_parameters
from guarded import Case, InOut, Own, assert_close, call, check
from kernel_cases import CALLS, OPERATIONS, Draw, call_of, kernel, near, operation
from table_cases import ADJUSTMENTS, CASES

from fastnn.backends import reference
from fastnn.contract import Adjustment, Kernels
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES, CrossEntropy
from fastnn.formulas.rules import RULES
from fastnn.ops import OPS

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
EVERY_CALL = pytest.mark.parametrize(("name", "which"), CALLS)

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
MIDDLE = (5, 9, 17)
INTERPRETED = 4000  # multiplications: the largest case for the python backend


def shapes(which):
    return pytest.mark.parametrize("shape", which, ids=lambda s: "x".join(map(str, s)))


def skip_what_is_too_slow(backend: str, shape: tuple[int, int, int]) -> None:
    if backend == "python" and shape[0] * shape[1] * shape[2] > INTERPRETED:
        pytest.skip("interpreted loops are tested on small arrays only")


# Operations -----------------------------------------------------------------------------------------------


def test_every_operation_is_known():
    assert OPERATIONS.keys() == OPS.keys(), "kernel_cases.OPERATIONS has other operations than fastnn.ops"


@EVERY_CALL
def test_every_output_has_a_bound(name, which):
    case = operation(Draw(np.float64), name, which, *MIDDLE)
    bounded = set(case.terms(call(kernel(reference.KERNELS, name, which), case, np.float64)))
    fused = {"a"} if {"z", "a"} <= set(call_of(name, which).outputs) else set()  # see check_operation
    assert bounded == set(case.outputs()) - fused


def check_operation(kernels: Kernels, name: str, which: str, case: Case, dtype: Any) -> dict[str, Any]:
    """Against the oracle; what a fused activation makes of z, against the formula at the z that the kernel found."""
    got = check(kernel(kernels, name, which), kernel(reference.KERNELS, name, which), case, dtype)
    if {"z", "a"} <= set(case.outputs()):
        activation, z = case.arguments["activation"], got["z"].astype(np.float64)
        want = np.asarray(activation.value(z, activation.alpha), np.float64)
        assert_close(got["a"], want, near(activation, z, want), dtype, "a")
    return got


@BACKENDS
@DTYPES
@shapes(SHAPES)
@EVERY_CALL
def test_parity(name, which, shape, dtype, backend, kernels):
    skip_what_is_too_slow(backend, shape)
    if shape[0] == 0 and OPERATIONS[name].needs_rows:
        pytest.skip("needs at least one row")
    check_operation(kernels, name, which, operation(Draw(dtype), name, which, *shape), dtype)


DECLARED = [(name, which) for name, which in CALLS if which in OPS[name].spec.calls]
WITH_FORMULA = [(name, which) for name, which in DECLARED if {"activation", "below"} & set(call_of(name, which).inputs)]


@BACKENDS
@DTYPES
@pytest.mark.parametrize(("name", "which"), WITH_FORMULA)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=str)
def test_every_activation(activation, name, which, dtype, backend, kernels):
    for shape in ((1, 5, 7), (9, 3, 17)):
        check_operation(kernels, name, which, operation(Draw(dtype), name, which, *shape, activation), dtype)


ALIASES = [(name, which) for name, which in CALLS if call_of(name, which).alias]


@BACKENDS
@DTYPES
@pytest.mark.parametrize(("name", "which"), ALIASES)
def test_shared_memory_changes_nothing(name, which, dtype, backend, kernels):
    case, alias = operation(Draw(dtype), name, which, *MIDDLE), call_of(name, which).alias
    apart = call(kernel(kernels, name, which), case, dtype)
    together = call(kernel(kernels, name, which), case, dtype, alias=alias)
    for output in case.outputs():
        if output != alias[1]:  # of z and a there is only a
            np.testing.assert_array_equal(together[output], apart[output], output)


OPTIONAL = [(name, which, output) for name, which in CALLS for output in call_of(name, which).optional]


@BACKENDS
@DTYPES
@pytest.mark.parametrize(("name", "which", "output"), OPTIONAL)
def test_what_nobody_asks_for_changes_nothing(name, which, output, dtype, backend, kernels):
    case = operation(Draw(dtype), name, which, *MIDDLE)
    whole = call(kernel(kernels, name, which), case, dtype)
    rest = call(kernel(kernels, name, which), case, dtype, without=output)
    for other in case.outputs():
        if other != output:
            np.testing.assert_array_equal(rest[other], whole[other], other)


def nan_masks(kernel: Any, case: Case, dtype: Any) -> dict[str, Any] | str:
    """Where the outputs are NaN; the error, where such inputs are refused."""
    try:
        got = call(kernel, case, dtype)
    except ValueError as error:
        return str(error)
    return {output: np.isnan(got[output]) for output in case.outputs()}


@BACKENDS
@DTYPES
@EVERY_CALL
def test_nan_goes_where_it_does_in_the_reference(name, which, dtype, backend, kernels):
    """A NaN in any one input reaches exactly the outputs that depend on it."""
    for poisoned in operation(Draw(dtype), name, which, *MIDDLE).inputs():
        case = operation(Draw(dtype), name, which, *MIDDLE)
        array = case.inputs()[poisoned]
        array.flat[array.size // 2] = np.nan
        got = nan_masks(kernel(kernels, name, which), case, dtype)
        want = nan_masks(kernel(reference.KERNELS, name, which), case, np.float64)
        np.testing.assert_equal(got, want, f"NaN in {poisoned}")


@BACKENDS
@EVERY_CALL
def test_inputs_may_be_read_only(name, which, backend, kernels):
    """Rows and weights may be mapped from a file."""
    case = operation(Draw(np.float32), name, which, *MIDDLE)
    arguments = call(kernel(kernels, name, which), case, np.float32)
    expected = {output: arguments[output].copy() for output in case.outputs()}
    del arguments["result"]
    for each, given in case.arguments.items():
        if isinstance(given, np.ndarray | Own):
            arguments[each].flags.writeable = False
        elif isinstance(given, InOut):
            arguments[each][...] = given.value
    kernel(kernels, name, which)(*arguments.values())
    for output, value in expected.items():
        np.testing.assert_array_equal(arguments[output], value, output)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=str)
def test_far_values(activation, dtype, backend, kernels):
    """Over the whole range in which exp is finite in float32, with NaN, and both zeros."""
    x = np.concatenate([[np.nan, 0.0, -0.0], np.linspace(-80.0, 80.0, 153)]).reshape(1, -1)
    case = operation(Draw(dtype), "activation", "forward", *x.shape, x.shape[1], activation)
    case.arguments["x"] = x.astype(dtype)
    check_operation(kernels, "activation", "forward", case, dtype)


@BACKENDS
@DTYPES
def test_softmax_survives_large_logits(dtype, backend, kernels):
    x = np.array([[-1e4, 1e4, 1e4 - 1], [-1e4, -1e4, -1e4]], dtype)
    a = np.full_like(x, np.nan)
    kernels.ops["softmax"].forward(x, a)
    e = np.exp(-1.0)
    np.testing.assert_allclose(a, [[0, 1 / (1 + e), e / (1 + e)], [1 / 3] * 3], rtol=32 * np.finfo(dtype).eps)


# The other kernels ----------------------------------------------------------------------------------------


def parity(kernels: Kernels, name: str, case: Case, dtype: Any) -> dict[str, Any]:
    return check(getattr(kernels, name), getattr(reference.KERNELS, name), case, dtype)


def test_every_kernel_has_a_case():
    assert {"ops", *CASES} == set(Kernels.__dataclass_fields__)


@BACKENDS
@DTYPES
@shapes(SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_parity_of_the_table(name, shape, dtype, backend, kernels):
    skip_what_is_too_slow(backend, shape)
    parity(kernels, name, CASES[name](Draw(dtype), *shape), dtype)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=str)
def test_every_derivative(activation, dtype, backend, kernels):
    for shape in ((1, 1, 7), (9, 1, 17)):
        case = CASES["activation_backward"](Draw(dtype), *shape, activation)
        parity(kernels, "activation_backward", case, dtype)


@BACKENDS
@DTYPES
@shapes(FEW_SHAPES)
@pytest.mark.parametrize(
    ("loss", "kind"),
    [pytest.param(loss, kind, id=f"{loss}-{kind}") for loss in LOSSES.values() for kind in loss.targets],
)
def test_every_loss(loss, kind, shape, dtype, backend, kernels):
    skip_what_is_too_slow(backend, shape)
    parity(kernels, "loss", table_cases.loss(Draw(dtype), *shape, loss, kind), dtype)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("adjustment", ADJUSTMENTS.values(), ids=ADJUSTMENTS)
@pytest.mark.parametrize("rule", RULES.values(), ids=str)
def test_every_rule(rule, adjustment, dtype, backend, kernels):
    for n in (1, 7, 16, 67):
        parity(kernels, "update", table_cases.update(Draw(dtype), 1, n, 1, rule, adjustment), dtype)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("name", table_cases.ALIASES)
def test_shared_memory_changes_nothing_in_the_table(name, dtype, backend, kernels):
    case = CASES[name](Draw(dtype), *MIDDLE)
    apart = call(getattr(kernels, name), case, dtype)
    together = call(getattr(kernels, name), case, dtype, alias=table_cases.ALIASES[name])
    for output in case.outputs():
        np.testing.assert_array_equal(together[output], apart[output], output)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("name", [name for name in CASES if name != "moments"])  # which no NaN reaches
def test_nan_goes_where_it_does_in_the_reference_s_table(name, dtype, backend, kernels):
    for poisoned in CASES[name](Draw(dtype), *MIDDLE).inputs():
        case = CASES[name](Draw(dtype), *MIDDLE)
        array = case.inputs()[poisoned]
        array.flat[array.size // 2] = np.nan
        got = call(getattr(kernels, name), case, dtype)
        want = call(getattr(reference.KERNELS, name), case, np.float64)
        for output in case.outputs():
            np.testing.assert_array_equal(np.isnan(got[output]), np.isnan(want[output]), f"NaN in {poisoned}: {output}")


@BACKENDS
@DTYPES
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "values"])
def test_label_smoothing(kind, smoothing, dtype, backend, kernels):
    parity(kernels, "loss", table_cases.loss(Draw(dtype), 5, 1, 9, CrossEntropy(smoothing), kind), dtype)


@BACKENDS
@DTYPES
def test_hinge_of_one_class_is_zero(dtype, backend, kernels):
    got = parity(kernels, "loss", table_cases.loss(Draw(dtype), 4, 1, 1, LOSSES["hinge"], "labels"), dtype)
    assert not got["value"].any() and not got["dz"].any()


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
    case = table_cases.loss(Draw(dtype), 5, 1, 9, LOSSES["cross_entropy"], "values")
    case.arguments["y"] = np.random.default_rng(3).uniform(0, 1, (5, 9)).astype(dtype)
    terms = case.terms
    case.terms = lambda r: {name: 9 * magnitude for name, magnitude in terms(r).items()}  # mass is below 9
    parity(kernels, "loss", case, dtype)


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
