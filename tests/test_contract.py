"""Every backend offers the contract's kernels, with the same parameters in the same order."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from conftest import backend_parameters
from guarded import Guarded
from kernel_cases import CALLS, Draw, call_of, kernel, operation

from fastnn.backends import reference
from fastnn.contract import Kernels, OpKernels
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES
from fastnn.ops import OPS

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())
OTHERS = [name for name in Kernels.__dataclass_fields__ if name != "ops"]  # than those of the operations


@BACKENDS
@pytest.mark.parametrize("name", OTHERS)
def test_signature_is_the_contracts(name, backend, kernels):
    mine = inspect.signature(getattr(kernels, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    assert list(mine) == list(theirs)


@pytest.mark.parametrize("name", OTHERS)
def test_the_contract_names_as_many_arguments_as_the_reference_takes(name):
    *arguments, _ = inspect.get_annotations(Kernels, eval_str=True)[name].__args__
    assert len(arguments) == len(inspect.signature(getattr(reference, name)).parameters)


@BACKENDS
def test_every_operation_is_there(backend, kernels):
    assert list(kernels.ops) == list(OPS)
    assert all(isinstance(each, OpKernels) for each in kernels.ops.values())


@pytest.mark.parametrize(("name", "which"), CALLS)
def test_the_reference_takes_what_the_spec_names(name, which):
    assert tuple(inspect.signature(kernel(reference.KERNELS, name, which)).parameters) == call_of(name, which).names


def made(case):
    """Its arguments in float32."""
    guarded = Guarded()
    return {each: guarded.argument(value, np.float32) for each, value in case.arguments.items()}


@BACKENDS
@pytest.mark.parametrize(("name", "which"), CALLS)
def test_a_call_with_another_number_of_arguments_is_an_error(name, which, backend, kernels):
    arguments = made(operation(Draw(np.float32), name, which, 4, 6, 3)).values()
    for wrong in ([*arguments][:-1], [*arguments, None]):
        with pytest.raises((TypeError, ValueError), match="argument"):
            kernel(kernels, name, which)(*wrong)


@pytest.mark.parametrize("name", OPS)
def test_what_is_not_declared_is_never_called(name):
    """It raises instead of doing nothing: an engine that calls it would go on with what it finds in its buffers."""
    for each in OpKernels._fields:
        if (name, each) not in CALLS:
            with pytest.raises(AssertionError, match="no such kernel"):
                kernel(reference.KERNELS, name, each)()


# Loops exist for the operations they were written for, and for no others: what came later falls back on the reference
LOOPED = {
    "cast",
    "normalize",
    "dense",
    "activation",
    "softmax",
    "maxout",
    "prelu",
    "rrelu",
    "dropout",
    "batch_norm",
    "layer_norm",
}


@pytest.mark.parametrize("module", ["python_loops", "cython_loops", "numba_jit"])
def test_loops_are_not_the_reference_in_disguise(module):
    """A table filled from the reference and never overwritten would pass every parity test."""
    kernels = pytest.importorskip(f"fastnn.backends.{module}", exc_type=ImportError).KERNELS
    same = {name for name in OTHERS if getattr(kernels, name) is getattr(reference, name)}
    formulas = module == "cython_loops"  # Cython keeps the vectorised ones: see cython_loops.py
    vectorised = {"activation_backward", "update"} if formulas else set()
    assert same == {"moments"} | vectorised  # the former runs once a fit: no loop has it
    theirs = {
        (name, each) for name, each in CALLS if kernel(kernels, name, each) is kernel(reference.KERNELS, name, each)
    }
    fallen_back = {(name, each) for name, each in CALLS if name not in LOOPED} | {("rrelu", "predict")}
    assert theirs == fallen_back | ({call for call in CALLS if call[0] == "activation"} if formulas else set())


@pytest.mark.parametrize(
    ("kind", "declared"),
    [("ACTIVATIONS", ACTIVATIONS), ("LOSSES", LOSSES), ("RULES", RULES)],
    ids=["activations", "losses", "rules"],
)
def test_native_knows_what_is_declared(kind, declared):
    extension = pytest.importorskip("fastnn._native", exc_type=ImportError)
    assert sorted(getattr(extension, kind)) == sorted(declared)


def test_native_declares_the_same_operations():
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    compiled = native.extension.OPS
    native.check_specs(compiled)
    assert [spec["name"] for spec in compiled] == list(OPS)


@pytest.mark.parametrize("field", ["params", "forward", "phase", "a"])
def test_an_operation_that_native_declares_otherwise_is_an_error(field):
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    first, *others = native.extension.OPS
    named = rf"operation '{first['name']}' is declared with {field} '.*compiled from another version"
    with pytest.raises(ImportError, match=named):
        native.check_specs((first | {field: "other:B"}, *others))


def test_an_operation_that_one_side_lacks_is_an_error():
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    first, *others = native.extension.OPS
    with pytest.raises(ImportError, match=rf"'{first['name']}' is listed in fastnn/ops, but not in csrc/ops"):
        native.check_specs(tuple(others))
    with pytest.raises(ImportError, match="'new' is listed in csrc/ops, but not in fastnn/ops"):
        native.check_specs((first, *others, first | {"name": "new"}))


@pytest.mark.parametrize("registry", [ACTIVATIONS, LOSSES, RULES], ids=["activations", "losses", "rules"])
def test_registries_are_keyed_by_name(registry):
    assert all(name == entry.name and entry.source for name, entry in registry.items())


@pytest.mark.parametrize(("name", "which"), CALLS)
def test_native_names_the_argument_that_is_wrong(name, which):
    """Every array of every call, where its shape or its dtype is another."""
    native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)
    if OPS[name].spec.phase == "source":
        pytest.skip("takes any data: test_sources.py")
    right, run = made(operation(Draw(np.float32), name, which, 4, 6, 3)), kernel(native.KERNELS, name, which)
    run(*right.values())
    for each in (each for each, value in right.items() if isinstance(value, np.ndarray)):
        for wrong, error in ((right[each].astype(np.float16), TypeError), (right[each][None], ValueError)):
            with pytest.raises(error, match=rf"^{each} has "):
                run(*(right | {each: wrong}).values())
