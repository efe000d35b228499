"""Every backend offers the contract's kernels, with the same parameters in the same order."""

from __future__ import annotations

import inspect

import pytest
from conftest import backend_parameters

from fastnn.backends import reference
from fastnn.contract import Kernels
from fastnn.formulas.activations import ACTIVATIONS
from fastnn.formulas.losses import LOSSES
from fastnn.formulas.rules import RULES

BACKENDS = pytest.mark.parametrize(("backend", "kernels"), backend_parameters())


@BACKENDS
@pytest.mark.parametrize("name", Kernels.__dataclass_fields__)
def test_signature_is_the_contracts(name, backend, kernels):
    mine = inspect.signature(getattr(kernels, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    assert list(mine) == list(theirs)


@pytest.mark.parametrize("name", Kernels.__dataclass_fields__)
def test_the_contract_names_as_many_arguments_as_the_reference_takes(name):
    *arguments, _ = inspect.get_annotations(Kernels, eval_str=True)[name].__args__
    assert len(arguments) == len(inspect.signature(getattr(reference, name)).parameters)


@pytest.mark.parametrize("module", ["python_loops", "cython_loops", "numba_jit"])
def test_loops_are_not_the_reference_in_disguise(module):
    """A table filled from the reference and never overwritten would pass every parity test."""
    kernels = pytest.importorskip(f"fastnn.backends.{module}", exc_type=ImportError).KERNELS
    same = {name for name in Kernels.__dataclass_fields__ if getattr(kernels, name) is getattr(reference, name)}
    vectorised = {"activation_forward", "activation_backward", "update"}  # Cython keeps these: see cython_loops.py
    assert same == {"moments"} | (vectorised if module == "cython_loops" else set())  # once a fit: no loop has it


@pytest.mark.parametrize(
    ("kind", "declared"),
    [("ACTIVATIONS", ACTIVATIONS), ("LOSSES", LOSSES), ("RULES", RULES)],
    ids=["activations", "losses", "rules"],
)
def test_native_knows_what_is_declared(kind, declared):
    extension = pytest.importorskip("fastnn._native", exc_type=ImportError)
    assert sorted(getattr(extension, kind)) == sorted(declared)


@pytest.mark.parametrize("registry", [ACTIVATIONS, LOSSES, RULES], ids=["activations", "losses", "rules"])
def test_registries_are_keyed_by_name(registry):
    assert all(name == entry.name and entry.source for name, entry in registry.items())


@BACKENDS
def test_extend_overwrites_and_keeps(backend, kernels):
    from fastnn.contract import Backend

    def softmax_forward(z, a):
        pass

    base = Backend(backend, kernels, predict=print, train_steps=print)
    made = base.extend("mine", softmax_forward=softmax_forward)
    assert made.name == "mine" and made.kernels.softmax_forward is softmax_forward
    assert made.kernels.dropout is kernels.dropout and base.kernels.softmax_forward is kernels.softmax_forward
