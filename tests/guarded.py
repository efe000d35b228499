"""Calls kernels on arrays between guards, and says how far off an answer is. No cases, no tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

GUARD = 19  # elements on each side; odd, so that the array between is aligned to nothing but its elements


@dataclass
class Out:
    """An output: overwritten, so it starts as NaN (integers: as -1)."""

    shape: tuple[int, ...]
    dtype: Any = None  # None: the plan's


@dataclass
class InOut:
    """Read and written."""

    value: Any


@dataclass
class Own:
    """An input whose dtype is its own, not the plan's."""

    value: Any


@dataclass
class Case:
    """Arguments in the order of the kernel's parameters, and from these after the oracle ran, for each output the
    magnitude M of a first-order rounding bound: |output - exact| <= M eps."""

    arguments: dict[str, Any]
    terms: Callable[[dict[str, Any]], dict[str, Any]]

    def outputs(self) -> list[str]:
        """The names of what the kernel writes; "result": it returns a number."""

        def written(argument: Any) -> bool:
            return isinstance(argument, Out | InOut) or (isinstance(argument, tuple) and any(map(written, argument)))

        return [name for name, argument in self.arguments.items() if written(argument)] or ["result"]

    def inputs(self) -> dict[str, np.ndarray]:
        """The float arrays that the kernel reads and leaves alone."""
        arrays = {name: value.value if isinstance(value, Own) else value for name, value in self.arguments.items()}
        return {name: a for name, a in arrays.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}


class Guarded:
    """Arrays between guards, which must be as they were when the kernel is done."""

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []

    def __call__(self, value: np.ndarray) -> np.ndarray:
        buffer = np.full(value.size + 2 * GUARD, np.nan if value.dtype.kind == "f" else -77, value.dtype)
        view = buffer[GUARD : GUARD + value.size].reshape(value.shape)
        view[...] = value
        self.buffers.append(buffer)
        return view

    def check(self) -> None:
        for buffer in self.buffers:
            clean = np.full(GUARD, np.nan if buffer.dtype.kind == "f" else -77, buffer.dtype)
            np.testing.assert_array_equal(buffer[:GUARD], clean, "written before the buffer")
            np.testing.assert_array_equal(buffer[-GUARD:], clean, "written behind the buffer")

    def argument(self, argument: Any, dtype: Any) -> Any:
        """A guarded copy of what a case gives for an argument, in the plan's dtype."""
        if isinstance(argument, Out):
            kind = np.dtype(argument.dtype or dtype)
            return self(np.full(argument.shape, np.nan if kind.kind == "f" else -1, kind))
        if isinstance(argument, InOut):
            return self(argument.value.astype(dtype))
        if isinstance(argument, Own):
            return self(argument.value)
        if isinstance(argument, tuple) and argument and isinstance(argument[0], InOut):
            return tuple(self.argument(each, dtype) for each in argument)
        if isinstance(argument, np.ndarray):
            return self(argument.astype(dtype) if argument.dtype.kind == "f" else argument)
        return argument


def call(
    kernel: Callable[..., Any], case: Case, dtype: Any, *, alias: tuple[str, str] | None = None, without: str = ""
) -> dict[str, Any]:
    """Runs a kernel on fresh guarded copies of the case's arguments; returns them all, and the result.

    alias: an output that shares the memory of another argument. without: an output that nobody asks for.
    """
    guarded = Guarded()
    made = {name: guarded.argument(argument, dtype) for name, argument in case.arguments.items()}
    if alias is not None:
        made[alias[0]] = made[alias[1]]
    if without:
        made[without] = None
    kept = {
        name: made[name].copy()
        for name, argument in case.arguments.items()
        if isinstance(argument, np.ndarray | Own) and (alias is None or name not in alias)
    }
    result = kernel(*made.values())
    guarded.check()
    for name, before in kept.items():
        np.testing.assert_array_equal(made[name], before, f"input {name} changed")
    return made | {"result": result}


def assert_close(got: Any, want: Any, magnitude: Any, dtype: Any, what: str) -> None:
    """|got - want| <= magnitude eps, element by element; integers and NaN exactly."""
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


def check(kernel: Callable[..., Any], oracle: Callable[..., Any], case: Case, dtype: Any) -> dict[str, Any]:
    """The kernel against the oracle in float64 on the very same numbers, for each output that has a bound."""
    got = call(kernel, case, dtype)
    want = call(oracle, case, np.float64)
    if not any(np.isnan(array).any() for array in case.inputs().values()):
        for output in case.outputs():
            assert not np.isnan(np.sum(want[output])), f"{output} is not written, or made of what is not a number"
    terms = case.terms(want)
    for output in terms:
        pairs = [(got[output], want[output], terms[output])]
        if isinstance(got[output], tuple):
            pairs = list(zip(got[output], want[output], terms[output], strict=True))
        for mine, theirs, magnitude in pairs:
            assert_close(mine, theirs, magnitude, dtype, output)
    return got
