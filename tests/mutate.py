"""Breaks each operation on purpose, in C++ and in Python, one small mutation at a time: some test has to fail.

    python tests/mutate.py [--work DIRECTORY]
        [--only OPERATION ...] [--functions FUNCTION ...] [--most N] [--isa avx2] [--table FILE]

Builds one copy of the package with every mutant of csrc/ops compiled in, chosen by FASTNN_MUTANT when it is loaded, and
writes the mutants of src/fastnn/ops into that copy one by one. --only int8 has the kernels of int8 predictors: what
--isa takes of them. --most: a function's mutants, spread over it (0: all).
Exits with 1 if any survives that is not among EQUIVALENT, which says why no test can tell. Half an hour; not a test.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import mutants
from mutants import CPP, INT8, KERNELS, ROOT, Mutant

# Mutants that change no value: (file, function, what it becomes, a regular expression) -> why
ZERO = "of 0 both sides are 0"
ONE_ROW = "the distance between the rows of one row"
FROM_ROW_0 = "a prediction is asked for from its first row on; so is every call of a kernel alone"
TWICE = "rows are computed by several threads, all of them to the same values, and nothing is read that was written"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("prelu.py", "forward", ">= 0"): ZERO,
    ("prelu.hpp", "forward", r"-> .*>= Real\(0\)"): ZERO,
    ("rrelu.py", "(forward|predict)", ">= 0"): ZERO,
    ("rrelu.hpp", "forward", r"-> .*>= Real\(0\)"): ZERO,
    ("maxout.py", "backward", r"= -0\.0"): ZERO,
    ("activation.hpp", "activate|derive", r"-> .*begin, [12]|-> .*nullptr, 1"): ONE_ROW,
    ("(batch_norm|rrelu).hpp", "predict", r"first = (rows\.begin|0)|- first"): FROM_ROW_0,
    ("(prelu|layer_norm|rms_norm|maxout|scale).hpp", "forward|multiply_rows", r"-> .*= 0; [io] < end"): TWICE,
    ("maxout.hpp", "backward", r"-> .*= 0; o < end"): TWICE,
    ("gather.hpp", "for_rows", r"-> .*= 0; i < end"): TWICE,
    ("gather.hpp", "copy_row", r"-> .*j \+ W < I"): "the last store, which overlaps, has it",
    ("(layer|rms)_norm.hpp", "forward", r"scale\[1\]"): "every lane has it",
    ("sparse.hpp", "sparse_row_times", r"C \* W < p"): "the last vectors are summed one by one, to the same bits",
    ("sparse.hpp", "sparse_row_times", r"j <= C; \+\+j\) acc"): "beyond an array: the address sanitizer's",
    ("sparse.hpp", "sparse_dot", r"ldb - n"): "of 4 lanes, AVX2's doubles, only one output is narrow: n is 0",
    ("sparse.hpp", "sparse_narrow", r"m <= p\.M|m <= W"): "no row is left to be stored",
    ("serve_int8.hpp", "quantise|largest_int", r"-> .*(top\[\w\] >= |x >= y)"): "of two that are equal either is it",
    ("dense.hpp", "serve", r"nullptr, 1"): "the distance between rows of what is not there",
    (
        "serve.hpp",
        "few_rows",
        r"\|\| left == [23]|few_tile<R, 2>\(K, a, K, b, bi",
    ): "of panels beyond the last nothing is stored",
    ("serve.hpp", "serve_product", r"kMicro\[0\]\[1\]"): "what lies beyond the last output is not stored, read or not",
    ("serve.hpp", "serve_product", r"<= kPanel \? N - n"): "kPanel is N - n there",
    ("serve.hpp", "serve_product", r"few_columns<[234]>"): "with four doubles a vector only one column is narrow",
    ("serve.hpp", "few_columns", r"whole <= K"): "0 times what lies behind the columns: the address sanitizer's",
    (
        "gather.hpp",
        r"Entries(\.Entries)?",
        r"-> nothing",
    ): "rows are checked before: this is for what another thread changes meanwhile",
    ("dense.hpp", "prepare", r"first = 0 \*"): TWICE,
    (
        "dense.hpp",
        "panels_of",
        r"kPanel \+ 1\)",
    ): "runs lie further apart, the last beyond its buffer: the address sanitizer's",
    (
        "sources.hpp",
        "gather_as",
        r"j <= F",
    ): "the next row writes it again, the last beyond its buffer: the address sanitizer's",
    ("gather.hpp", r"Entries(\.Entries)?", r"= end = 1;"): "nothing lies between an end and itself",
    (
        "gather.hpp",
        r"Entries(\.Entries)?",
        r"0 >= 0",
    ): "what lies before the entries is no column: the address sanitizer's",
    ("batch_norm.py", "unit_of", ">= _LARGE"): "what is as large may be squared both ways",
    ("ordered.hpp", "targets_of", r"> static_cast|> 1 \?|>= 2 \?"): "the same of whole numbers",
    ("ordered.hpp", "targets_of", r": 2;$"): "of plans that Python refuses: fuzz_plans.py has them",
    ("ordered.hpp", "each_row", r"\* c\.P, 2\.0 \+|\) - 5, 1"): "how long it takes decides on threads alone",
    (
        "sources.(hpp|py)",
        "gather_as|normalized|forward",
        r"<= k?_?W[iI][dD][eE]",
    ): "of a scale of 1e-30 both ways have the bits",
    ("dropout.hpp", "drop", r"-> .*(threshold >= 0xffffffffu|\? 1 : -1)"): "32 bits all 1: once in 2^32 elements",
}

# Each is asked in turn, until one of them fails
TESTS = ("test_ops.py", "test_native_operations.py", "test_sources.py", "test_random.py", "test_kernels.py")
TESTS += ("test_predictor.py",)
TESTS += ("test_sparse_products.py", "test_large_values.py", "test_wide_losses.py")
TESTS_OF_INT8 = ("test_int8.py",)
# Whose cases have the backend in their names, not the instruction set
BY_BACKEND = ("test_large_values.py", "test_wide_losses.py", "test_predictor.py")
SECONDS = 300  # a mutant that loops for ever is noticed, too
VECTOR_BYTES = {"x86-64-v2": 16, "avx2": 32, "avx512": 64, "neon": 16}

# A build with all of them -----------------------------------------------------------------------------------

CHOICE = """
#if FASTNN_VECTOR_BYTES == {bytes}
#include <stdlib.h>
#include <string.h>
{copies}
namespace {{
[[maybe_unused]] void replace(const fastnn::Operation<Real>& other) {{
    for (auto& each : kOperations)
        if (strcmp(each.spec.name, other.spec.name) == 0) each = other;
}}
#if FASTNN_FLOAT
[[maybe_unused]] void replace_ways(const fastnn::Int8Way<Real>* other) {{
    for (auto& each : kInt8Ways) each = *other++;
}}
#endif
const bool kReplaced = [] {{
    const char* chosen = getenv("FASTNN_MUTANT");
    switch (chosen ? atoi(chosen) : -1) {{
{cases}
    }}
    return true;
}}();
}}  // namespace
#endif
"""
COPY = """
#if {condition}
namespace mutant_{number} {{
using namespace ::ops;
#line 1 "mutant_{number}"
{text}
}}  // namespace mutant_{number}
#endif
"""
FUNCTIONS = ("spec", "forward", "predict", "serve", "backward", "gradient", "prepare", "pack", "packed", "gather")
FUNCTIONS += ("sparse", "ns", "fits")


def _inlined(text: str) -> str:
    """A header as it may stand in a namespace."""
    return re.sub(r"^#(pragma once|include .*)$", "", text, flags=re.M)


def _copy(number: int, mutant: Mutant) -> str:
    text = _inlined(mutant.text)
    if mutant.file in INT8:
        parts = [mutant.text if each == mutant.file else each.read_text(encoding="utf-8") for each in INT8]
        text = "".join(map(_inlined, parts))
    if mutant.file in KERNELS:
        own = "|".join({*re.findall(r"^(?:\[\[.*\]\] |FASTNN_INLINE )?\w+ (\w+)\(", text, re.M)})
        text += _inlined(KERNELS[mutant.file].read_text(encoding="utf-8"))
        # calls of what is broken here, not of what is right outside
        text = re.sub(
            rf"(?<!void )(?<!size_t )(?<!V )(?<!auto )(?:::|\b)({own})(?=[(<])", rf"mutant_{number}::\1", text
        )
    return COPY.format(number=number, condition=_condition(mutant), text=text)


def _condition(mutant: Mutant) -> str:
    """Compiled for float64 alone, unless the file computes otherwise in float32: it takes half as long. int8 is of
    float32 alone."""
    if mutant.file in INT8:
        return "FASTNN_FLOAT"
    return "1" if "kFloat" in mutant.text else "!FASTNN_FLOAT"


def _case(number: int, mutant: Mutant) -> str:
    lines = [f"#if {_condition(mutant)}", f"        case {number}:"]
    if mutant.file in INT8:
        return "\n".join(
            [*lines, f"            replace_ways(mutant_{number}::kInt8Ways);", "            break;", "#endif"]
        )
    for operation in mutant.operations:
        struct = f"mutant_{number}::ops::{operation}"
        lines.append(f"            replace({{{', '.join(f'{struct}::{each}' for each in FUNCTIONS)}}});")
    return "\n".join([*lines, "            break;", "#endif"])


def _list_of_operations(numbered: dict[int, Mutant], isa: str) -> str:
    """csrc/ops/all.hpp with the mutants behind it."""
    text = (
        (CPP / "all.hpp")
        .read_text(encoding="utf-8")
        .replace("const fastnn::Operation<Real> kOperations", "fastnn::Operation<Real> kOperations")
    )
    copies = "".join(_copy(number, mutant) for number, mutant in numbered.items())
    cases = "\n".join(_case(number, mutant) for number, mutant in numbered.items())
    return text + CHOICE.format(bytes=VECTOR_BYTES[isa], copies=copies, cases=cases)


def _let_ways_be_replaced(file: Path) -> None:
    constant = "const fastnn::Int8Way<Real> kInt8Ways"
    text = INT8[1].read_text(encoding="utf-8")
    assert constant in text
    file.write_text(text.replace(constant, constant.removeprefix("const ")), encoding="utf-8")


def build(work: Path, numbered: dict[int, Mutant], isa: str) -> Path:
    """Where the package is installed; mutants that do not compile are taken out of `numbered`."""
    tree, site = work / "tree", work / "site"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]  # a new file is not yet committed
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    while True:
        (tree / "csrc/ops/all.hpp").write_text(_list_of_operations(numbered, isa), encoding="utf-8")
        _let_ways_be_replaced(tree / INT8[1].relative_to(ROOT))
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-v",
            "--no-build-isolation",
            "--no-deps",
            "--upgrade",
            str(tree),
        ]
        command += ["--target", str(site), f"-Cbuild-dir={work / 'build'}", "-Ccmake.define.FASTNN_OPTIMIZATION=-O1"]
        required = os.environ | {"FASTNN_REQUIRE_NATIVE": "1"}  # else what fails to compile is left out
        result = subprocess.run(command, env=required, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            break
        broken = {
            int(number)
            for number in re.findall(r"^\s*mutant_(\d+):\d+:\d+: error", result.stdout + result.stderr, re.M)
        }
        if not broken & numbered.keys():
            sys.exit(result.stdout[-5000:] + result.stderr[-5000:])
        for number in broken & numbered.keys():
            print(f"does not compile: {described(numbered.pop(number))}", flush=True)
    for slow in ("numba_jit", "cython_loops", "python_loops"):  # backends that nobody asks here
        (site / "fastnn/backends" / f"{slow}.py").write_text('raise ImportError("left out")\n', encoding="utf-8")
    return site


# Running ----------------------------------------------------------------------------------------------------


def described(mutant: Mutant) -> str:
    return f"{mutant.file.relative_to(ROOT)}:{mutant.line} {mutant.function}: {mutant.what}"


def _failure(site: Path, tests: str, chosen: str, **environment: str) -> str | None:
    """What pytest says, or None if nothing fails. With the tests as they were when the copy was made."""
    file = site.parent / "tree" / "tests" / tests
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", chosen, str(file)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FASTNN_")}
    variables |= {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    try:
        run = subprocess.run(
            command, cwd=site.parent, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s"
    return None if run.returncode in (0, 5) else run.stdout + run.stderr  # 5: no test is called so


def killer(site: Path, mutant: Mutant, backend: str, **environment: str) -> str | None:
    """The first file of tests that has one that fails."""
    for tests in TESTS_OF_INT8 if mutant.file in INT8 else TESTS:
        named = "native" if tests in BY_BACKEND and backend != "numpy" else backend
        chosen = f"({' or '.join(mutant.operations)}) and {named}"
        if _failure(site, tests, chosen, **environment) is not None:
            return tests
    return None


def equivalent(mutant: Mutant) -> str | None:
    for (file, function, what), why in EQUIVALENT.items():
        matches = re.fullmatch(file, mutant.file.name) and re.fullmatch(function, mutant.function)
        if matches and re.search(what, mutant.what):
            return why
    return None


class Result(NamedTuple):
    mutant: Mutant
    killer: str | None


def run_cpp(site: Path, numbered: dict[int, Mutant], isa: str) -> list[Result]:
    results = []
    for number, mutant in numbered.items():
        results.append(Result(mutant, killer(site, mutant, isa, FASTNN_ISA=isa, FASTNN_MUTANT=str(number))))
        _show(results[-1])
    return results


def run_python(site: Path, found: Iterable[Mutant]) -> list[Result]:
    results = []
    for mutant in found:
        place = site / "fastnn" / mutant.file.relative_to(ROOT / "src" / "fastnn")
        right = place.read_text(encoding="utf-8")
        place.write_text(mutant.text, encoding="utf-8")
        try:
            results.append(Result(mutant, killer(site, mutant, "numpy")))
        finally:
            place.write_text(right, encoding="utf-8")
        _show(results[-1])
    return results


def _show(result: Result) -> None:
    if result.killer is None:
        why = equivalent(result.mutant)
        print(f"{'SURVIVES' if why is None else 'equivalent'}: {described(result.mutant)}", flush=True)


# Reporting --------------------------------------------------------------------------------------------------


def table(results: Sequence[Result]) -> str:
    """Operation, function, mutants in Python and in C++, how many were killed and how many change nothing."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        mutant = result.mutant
        key = ", ".join(mutant.operations), mutant.function
        language = "Python" if mutant.file.suffix == ".py" else "C++"
        counts = rows.setdefault(key, Counter())
        counts[language] += 1
        counts["killed"] += result.killer is not None
        counts["equivalent"] += result.killer is None and equivalent(mutant) is not None
        counts["by hand"] += result.killer == TESTS[0]
    names = ("Python", "C++", "killed", "by hand", "equivalent")
    head = ["operation", "function", "mutants, Python", "C++", "killed", "by `test_ops.py`", "equivalent"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * len(names)]
    total: Counter[str] = sum(rows.values(), Counter())
    for (operations, function), counts in [*sorted(rows.items()), (("all", ""), total)]:
        lines.append(f"| {operations} | {function} | " + " | ".join(str(counts[name]) for name in names) + " |")
    return "\n".join(lines)


def spread(found: Iterable[Mutant], most: int, only: Sequence[str], functions: Sequence[str]) -> list[Mutant]:
    """At most so many of each function, from its beginning to its end; only those of these operations and functions."""
    of: dict[tuple[Path, str, tuple[str, ...]], list[Mutant]] = {}
    for mutant in found:
        if (not only or set(only) & set(mutant.operations)) and (not functions or mutant.function in functions):
            of.setdefault((mutant.file, mutant.function, mutant.operations), []).append(mutant)
    return [
        all_[place * len(all_) // count]
        for all_ in of.values()
        for count in [min(len(all_), most or len(all_))]
        for place in range(count)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, help="kept, and built on the next time; default: a temporary directory")
    parser.add_argument("--only", nargs="*", default=[], metavar="OPERATION")
    parser.add_argument("--functions", nargs="*", default=[], metavar="FUNCTION")
    parser.add_argument("--most", type=int, default=12, metavar="N", help="mutants of a function; 0: all")
    parser.add_argument("--isa", default="avx2", choices=VECTOR_BYTES)
    parser.add_argument("--table", type=Path, help="where to put the table")
    parser.add_argument("--language", choices=("python", "cpp"), help="default: both")
    chosen = parser.parse_args()
    work = chosen.work or Path(tempfile.mkdtemp(prefix="mutants"))
    numbered = dict(
        enumerate(
            spread(mutants.cpp(chosen.isa), chosen.most, chosen.only, chosen.functions)
            if chosen.language != "python"
            else []
        )
    )
    in_python = spread(mutants.python(), chosen.most, chosen.only, chosen.functions) if chosen.language != "cpp" else []
    print(f"{len(numbered)} mutants in C++, {len(in_python)} in Python", flush=True)
    site = build(work, numbered, chosen.isa)
    of_int8 = {mutant.file in INT8 for mutant in numbered.values()}
    asked = (*(TESTS if in_python or False in of_int8 else ()), *(TESTS_OF_INT8 if True in of_int8 else ()))
    for tests in asked:
        failure = _failure(site, tests, f"numpy or {chosen.isa}", FASTNN_ISA=chosen.isa)
        if failure is not None:
            sys.exit(f"{failure[-5000:]}\n{tests} fails where nothing is broken")
    results = run_python(site, in_python) + run_cpp(site, numbered, chosen.isa)
    print(table(results))
    if chosen.table:
        chosen.table.write_text(table(results) + "\n", encoding="utf-8")
    return int(any(each.killer is None and equivalent(each.mutant) is None for each in results))


if __name__ == "__main__":
    sys.exit(main())
