"""The bits of the native backend against those in golden.json: see golden.py, which also says how to write it."""

from __future__ import annotations

import json
from fractions import Fraction

import golden
import numpy as np
import pytest

native = pytest.importorskip("fastnn.backends.native", exc_type=ImportError)

STORED = json.loads(golden.FILE.read_text(encoding="utf-8")) if golden.FILE.exists() else {"digests": {}}
DIGESTS = STORED["digests"]
HERE = golden.instruction_sets()
WRITE = "to write it: python tests/golden.py --write"
THREADED = ("dense gelu", "batch_norm", "dropout", "layer_norm", "weighted", "wide, everything", "beyond the caches")


@pytest.fixture
def same_compiler():
    """Another compiler, or another version, may fuse other products and sums: to other bits."""
    recorded = STORED.get("compiler")
    if recorded not in (None, golden.compiler()):
        pytest.skip(f"{golden.FILE.name} has the bits of {recorded}, this is {golden.compiler()}")


@pytest.fixture
def every_thread():
    """A network, however small, gets the threads that a test asks for."""
    native.set_least_work(0)
    yield
    native.set_least_work(48000)


def check(name: str, isa: str, dtype: str, **how) -> None:
    """Fails where the case has not the bits it is stored with, or is not stored."""
    if name not in DIGESTS.get(isa, {}).get(dtype, {}):
        pytest.fail(f"{golden.FILE.name} has no {isa}, {dtype}, {name!r}; {WRITE}")
    parts = ", ".join(golden.changed(DIGESTS[isa][dtype][name], golden.run(name, isa, dtype, **how)))
    if parts:
        pytest.fail(f"{name}: other bits in {parts}, on {isa} in {dtype}; if that is meant, {WRITE}")


@pytest.mark.parametrize("name", golden.CASES)
@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("isa", dict.fromkeys([*DIGESTS, *HERE]))
@pytest.mark.usefixtures("same_compiler")
def test_bits(isa, dtype, name):
    if isa not in HERE:
        pytest.skip(f"this CPU or this build has no {isa}")
    check(name, isa, dtype)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", THREADED)
@pytest.mark.parametrize("isa", HERE)
@pytest.mark.usefixtures("same_compiler", "every_thread")
def test_bits_on_any_threads(isa, name, threads):
    check(name, isa, "float32", threads=threads)


@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("isa", DIGESTS)
def test_the_cases_are_stored_and_nothing_else(isa, dtype):
    """With any compiler, on any CPU."""
    odd = set(DIGESTS[isa][dtype]) ^ set(golden.CASES)
    assert not odd, f"only a case, or only in {golden.FILE.name}; {WRITE}"


@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.parametrize("isa", DIGESTS)
def test_no_two_cases_are_the_same(isa, dtype):
    """Otherwise what tells them apart, a parameter or a kind of rows, has not reached the kernels."""
    by_digests: dict[str, list[str]] = {}
    for name, digests in DIGESTS[isa][dtype].items():
        by_digests.setdefault(digests, []).append(name)
    twins = [names for names in by_digests.values() if len(names) > 1]
    assert not twins


def move_one_ulp(model) -> None:
    weight = model.layers[0].weight
    weight[3, 5] = np.nextafter(weight[3, 5], np.inf, dtype=weight.dtype)


@pytest.mark.parametrize("dtype", golden.DTYPES)
@pytest.mark.usefixtures("same_compiler")
def test_one_ulp_of_one_weight_is_noticed(dtype):
    with pytest.raises(pytest.fail.Exception, match=r"dense: other bits in .*parameters"):
        check("dense", HERE[0], dtype, disturb=move_one_ulp)


def test_a_case_that_is_not_stored_is_noticed():
    with pytest.raises(pytest.fail.Exception, match=r"has no .*'a new layer'; to write it: python tests/golden\.py"):
        check("a new layer", HERE[0], "float32")


@pytest.mark.parametrize("name", golden.EXACT)
def test_powers_of_the_hyper_parameters_are_exact(name):
    """So that it is of no account how NumPy computes them."""
    for step in range(1, 14):
        assert Fraction(golden.EXACT[name] ** step) == Fraction(golden.EXACT[name]) ** step
