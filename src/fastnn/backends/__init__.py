"""Who computes: the registry of backends, and how one is chosen.

`resolve` is asked once a fit or prediction. The choice is, first that is set: the `backend=` argument,
`use_backend`, the environment variable FASTNN_BACKEND, and automatically: native, else numba, else numpy.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

from fastnn import engine
from fastnn._text import short
from fastnn.contract import Backend, Kernels
from fastnn.errors import BackendUnavailable, FallbackWarning, callers


class _Source(NamedTuple):
    module: str  # has KERNELS, and may have PREDICT, TRAIN_STEPS and PROPERTIES: see `make`
    remedy: str  # how to get it where importing the module fails


Walk = Callable[..., Any]  # over a plan: engine.predict or engine.train_steps without the kernels
_COMPILED = "install a C++ compiler, then this package again: it is compiled during the installation"
BACKENDS: dict[str, _Source] = {
    "numpy": _Source("fastnn.backends.reference", ""),
    "python": _Source("fastnn.backends.python_loops", ""),
    "cython": _Source("fastnn.backends.cython_loops", _COMPILED),
    "numba": _Source("fastnn.backends.numba_engine", "pip install numba, or in a checkout of fastnn the extra [numba]"),
    "native": _Source("fastnn.backends.native_engine", _COMPILED),
}
AUTOMATIC = ("native", "numba", "numpy")
_chosen: ContextVar[str | None] = ContextVar("fastnn_backend", default=None)


def make(
    name: str,
    kernels: Kernels,
    predict: Walk | None = None,
    train_steps: Walk | None = None,
    **properties: Any,
) -> Backend:
    """A backend with these kernels, the Python engine where it brings none of its own, and properties of `Backend`."""
    return Backend(
        name,
        kernels,
        predict or partial(engine.predict, kernels),
        train_steps or partial(engine.train_steps, kernels),
        **properties,
    )


@functools.cache
def load(name: str) -> Backend:
    """The backend of that name. ValueError where there is none, BackendUnavailable where it is not installed."""
    if name not in BACKENDS:
        raise ValueError(f"backend is {short(name)}, expected 'auto' or one of: {', '.join(BACKENDS)}")
    source = BACKENDS[name]
    try:
        module = importlib.import_module(source.module)
    except (ImportError, OSError) as error:  # the second of a library that cannot be mapped: llvmlite's, of 120 MB
        raise BackendUnavailable(f"backend {name!r} is not available ({error}): {source.remedy}") from error
    own = [getattr(module, walk, None) for walk in ("PREDICT", "TRAIN_STEPS")]
    return make(name, module.KERNELS, *own, **getattr(module, "PROPERTIES", {}))


def available() -> list[str]:
    """The names of the backends that can be loaded here."""
    return [name for name in BACKENDS if _loads(name)]


def _loads(name: str) -> bool:
    try:
        load(name)
    except BackendUnavailable:
        return False
    return True


@functools.cache
def _automatic() -> str:
    name = next(name for name in AUTOMATIC if _loads(name))
    if name != AUTOMATIC[0]:
        try:
            load(AUTOMATIC[0])
        except BackendUnavailable as error:  # not compiled, or from another version: it says which
            warnings.warn(f"using {name}, which is slower: {error}", FallbackWarning, stacklevel=callers())
    return name


# Asking os.environ costs 1.2 us, as much as a prediction: it encodes the name and decodes the value each time.
_environment: Any = getattr(os.environ, "_data", os.environ)
_VARIABLE: Any = "FASTNN_BACKEND" if _environment is os.environ else os.environ.encodekey("FASTNN_BACKEND")


@functools.cache
def _from_environment(raw: Any) -> Backend:
    """raw: the variable's value, as it is stored."""
    name = (raw if raw is None or isinstance(raw, str) else os.fsdecode(raw)) or "auto"
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"FASTNN_BACKEND is {short(name)}, expected 'auto' or one of: {', '.join(BACKENDS)}")
    return load(_automatic() if name == "auto" else name)


def resolve(backend: str | Backend | None = None) -> Backend:
    """The backend to use: `backend` itself, or what was chosen for None and "auto" (see the module)."""
    if isinstance(backend, Backend):
        return backend
    if backend is not None and not isinstance(backend, str):
        raise TypeError(f"backend is {short(backend)}, expected 'auto' or one of: {', '.join(BACKENDS)}")
    if backend is None or backend == "auto":
        backend = _chosen.get()
        if backend is None:
            return _from_environment(_environment.get(_VARIABLE))
    return load(_automatic() if backend == "auto" else backend)


@contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Within the block, in this thread, whatever asks for no backend of its own gets this one.

    >>> import fastnn
    >>> with fastnn.use_backend("numpy"):
    ...     fastnn.backends.resolve().name
    'numpy'
    """
    resolve(backend)
    token = _chosen.set(backend)
    try:
        yield
    finally:
        _chosen.reset(token)
