"""Check object files: no MMX, AVX only in those compiled for it, no symbol there the linker could use for others.

An inline function or template in a file compiled for AVX-512 becomes a weak symbol; the linker keeps one copy of it,
maybe that one, for the whole module, which then dies on an older CPU. So such a file may define no weak symbol at all.

python check_instructions.py BUILD_DIRECTORY
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DISPATCHED = re.compile(r"avx|fma|v3|v4", re.IGNORECASE)  # in the name of the object file or its directory
WIDE = re.compile(r"%[yz]mm\d|^\s*[0-9a-f]+:\s+(?:[0-9a-f]{2} )+\s*v[a-z]", re.MULTILINE)  # registers, VEX mnemonics
MMX = re.compile(r"%mm\d")  # shares the x87 stack: after it, without emms, the caller's long doubles are NaN
NOT_AVX = re.compile(r"\bver[rw]\b|\bvm[a-z]+")  # of the old instruction set, though they begin with v


def command(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def main(build: Path) -> int:
    objects = sorted(path for path in build.rglob("*.o") if "CMakeScratch" not in path.parts)
    problems, dispatched = [], 0
    for path in objects:
        name = path.relative_to(build).as_posix()
        code = command("objdump", "-d", path)
        problems += [f"{name}: {line.strip()}" for line in code.splitlines() if MMX.search(line)][:3]
        if DISPATCHED.search(name):
            dispatched += 1
            if not WIDE.search(code):
                problems.append(f"{name} has a name of a wide instruction set, and no wide instruction")
            weak = [
                line.split()[-1]
                for line in command("nm", "-C", "--defined-only", path).splitlines()
                if re.match(r"\S+ [WVu] ", line)
            ]
            problems += [f"{name} defines a weak symbol: {symbol}" for symbol in weak]
        else:
            lines = [line for line in code.splitlines() if WIDE.search(line) and not NOT_AVX.search(line)]
            problems += [f"{name}: {line.strip()}" for line in lines[:3]]
    if not objects:
        problems.append(f"no object files below {build}")
    print(f"{len(objects)} object files, {dispatched} of them for a wider instruction set")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
