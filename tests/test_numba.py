"""What only the numba backend promises: its cache on disk saves time and is never in the way.

That its kernels agree with the reference is test_kernels.py's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from common import run_python

numba_jit = pytest.importorskip("fastnn.backends.numba_jit", exc_type=ImportError)

SUM_OF_SQUARES = """
import warnings; warnings.simplefilter("error")
import numpy as np
from fastnn.backends import numba_jit
loop = numba_jit.find("squared_norm", np.dtype(np.float64))
print(loop(np.arange(10.0)), sum(loop.stats.cache_hits.values()))
"""


def run(cache: Path) -> tuple[str, str]:
    """The sum, and how many functions came from the cache, in a process that caches in that directory."""
    done = run_python(SUM_OF_SQUARES, NUMBA_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    total, hits = done.stdout.split()
    return total, hits


def overwrite(path: Path) -> None:
    path.write_bytes(b"damaged")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def make_directory(path: Path) -> None:
    """Neither readable nor writable as a file, for root too."""
    path.unlink()
    path.mkdir()


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("numba")
    assert run(cache) == ("285.0", "0")
    assert run(cache) == ("285.0", "1")
    return cache


@pytest.mark.parametrize("kind", ["nbi", "nbc"], ids=["index", "code"])
@pytest.mark.parametrize("damage", [overwrite, empty, cut, make_directory], ids=lambda damage: damage.__name__)
def test_a_damaged_cache_is_compiled_anew(damage, kind, filled, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(filled, cache)
    files = list(cache.rglob(f"*.{kind}"))
    assert files
    for path in files:
        damage(path)
    assert run(cache) == ("285.0", "0")
    if damage is not make_directory:
        assert run(cache) == ("285.0", "1"), "the cache was not mended"


def test_without_a_directory_to_cache_in(monkeypatch):
    def refuse(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba_jit, "_ForgivingCache", refuse)
    loop = numba_jit.compiled(numba_jit.loops.squared_norm, np.dtype(np.float64))
    assert loop(np.arange(10.0)) == 285.0
