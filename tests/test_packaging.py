"""What an installed fastnn is: its metadata, its files, its compiled modules, and what importing it drags in."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
COMPILED = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".so", ".pyd"))
NATIVE = {"_native", "_loops_cython"}  # all of them or none
EXTRAS = ("matplotlib", "numba", "onnx", "onnxruntime", "pandas", "scipy", "sklearn", "threadpoolctl", "torch", "tqdm")

try:
    DISTRIBUTION = importlib.metadata.distribution("fastnn")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("fastnn is not installed", allow_module_level=True)

needs_compiled = pytest.mark.skipif(not COMPILED, reason="a pure-Python install")
compiled_modules = pytest.mark.parametrize("module", COMPILED, ids=lambda path: path.name.partition(".")[0])


def run(*command: object, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{done.returncode} from {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(code: str, *prefix: object) -> str:
    return run(*prefix, sys.executable, "-c", code, cwd=PACKAGE.parent)


def tool(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"no {name}")


# Metadata and files


def test_there_is_one_version():
    assert fastnn.__version__ == DISTRIBUTION.version


def test_numpy_is_the_only_thing_it_needs():
    needs = [line for line in DISTRIBUTION.requires or () if "extra ==" not in line]
    assert [re.split(r"[^\w.-]", line)[0] for line in needs] == ["numpy"]


def test_it_declares_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_no_sources_of_compiled_modules_are_installed():
    assert not [path for path in PACKAGE.rglob("*") if path.suffix in (".pxd", ".pyx", ".c", ".cpp", ".hpp", ".h")]


def test_the_command_runs():
    (entry,) = [entry for entry in DISTRIBUTION.entry_points if entry.group == "console_scripts"]
    assert (entry.name, entry.value) == ("fastnn", "fastnn.cli:main")
    script = Path(sysconfig.get_path("scripts"), "fastnn.exe" if os.name == "nt" else "fastnn")
    assert "usage: fastnn" in run(script, "--help")


def test_the_readme_never_installs_the_name_from_an_index():
    """The name on the public index is another project's: only a path may be installed."""
    readme = DISTRIBUTION.metadata["Description"] or str(DISTRIBUTION.metadata.get_payload())
    texts = {"README": readme}
    texts |= {path.name: path.read_text("utf-8") for path in Path(__file__).parent.parent.glob("docs/**/*.md")}
    assert ".venv/bin/pip install" in readme
    for name, text in texts.items():
        found = re.findall(r"^.*\b(?:install|add)\b(?:\s+-\S+)*\s+[\"']?fastnn(?![\w./-]).*$", text, re.MULTILINE)
        assert not found, f"{name} installs fastnn from an index: {found}"


# Compiled modules


def test_compiled_modules_are_there_all_or_none():
    found = {path.name.partition(".")[0] for path in COMPILED}
    if os.environ.get("FASTNN_EXPECT_NATIVE") == "1":
        assert found == NATIVE
    assert found in (NATIVE, set())


@needs_compiled
@compiled_modules
def test_only_the_init_function_is_exported(module):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads an ELF file")
    symbols = run(tool("nm"), "-D", "--defined-only", module).split("\n")
    assert [line.split()[-1] for line in symbols if line] == [f"PyInit_{module.name.partition('.')[0]}"]


@needs_compiled
@compiled_modules
def test_no_library_beyond_the_language_runtimes_is_linked(module):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads an ELF file")
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", run(tool("readelf"), "-dW", module))
    allowed = r"(libc|libm|libgcc_s|libstdc\+\+|libpthread|ld-linux.*|libgomp.*|libomp)\.so.*"
    assert [name for name in needed if not re.fullmatch(allowed, name)] == []


@needs_compiled
@compiled_modules
def test_the_stack_is_not_executable(module):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads an ELF file")
    (stack,) = [line for line in run(tool("readelf"), "-lW", module).split("\n") if "GNU_STACK" in line]
    assert "E" not in stack.split()[6]


@needs_compiled
def test_importing_keeps_the_global_lock_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("not a free-threaded Python")
    code = "import sys, fastnn._native, fastnn.backends._loops_cython; print(sys._is_gil_enabled())"
    assert run_python(code).strip() == "False"


# The CPUs of x86-64-v2: no AVX. An instruction that is not there ends the process with SIGILL. Nothing of NumPy's own
# is at stake, which dispatches too.
OLD_CPU = "Nehalem"


@needs_compiled
@pytest.mark.slow
def test_it_runs_on_a_cpu_without_avx():
    if sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("about x86-64")
    code = """
import numpy as np, fastnn
from fastnn import nn
from fastnn.backends import native
x = np.linspace(-1, 1, 40).reshape(20, 2)
for name in ("native", "cython"):
    layers = [nn.Dense(19, activation="tanh"), nn.BatchNorm(), nn.Dropout(0.1), nn.Dense(2)]
    trainer = fastnn.Trainer(fastnn.Sequential(layers), "cross_entropy", seed=0, backend=name)
    trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=2, batch_size=7)
print(*native.instruction_sets())
"""
    old = ("env", "OPENBLAS_NUM_THREADS=1", tool("qemu-x86_64"), "-cpu", OLD_CPU)
    assert run_python(code, *old).strip() == "x86-64-v2"


# What an import drags in


def test_importing_loads_no_optional_package():
    code = "import sys, fastnn; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    assert sorted(set(run_python(code).split()) & set(EXTRAS)) == []


def test_it_works_without_any_optional_package():
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import fastnn
for name in dir(fastnn):
    getattr(fastnn, name)
print("alive")
"""
    assert run_python(code).strip() == "alive"
