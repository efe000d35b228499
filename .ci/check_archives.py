"""Check what is in the sdist and in the wheel: all that is needed and nothing else.

python check_archives.py SOURCE_TREE SDIST WHEEL
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

NATIVE = ("fastnn/_native", "fastnn/backends/_loops_cython")  # compiled modules that every binary wheel has
COMPILED = (".so", ".pyd")
SOURCE_ONLY = (".pxd", ".pyx", ".c", ".cpp", ".hpp", ".h", ".txt")  # stay out of the wheel


def differences(what: str, expected: set[str], got: set[str]) -> list[str]:
    return [f"{what} lacks {name}" for name in sorted(expected - got)] + [
        f"{what} should not have {name}" for name in sorted(got - expected)
    ]


def main(tree: Path, sdist: Path, wheel: Path) -> int:
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}

    # sdist: the tree without dot files (CI, editors), with its metadata
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    shown = {name for name in files if not any(part.startswith(".") for part in name.split("/"))}
    problems = differences("the sdist", shown | {"PKG-INFO"}, packed)

    # wheel: the Python files of src/, the compiled modules, and metadata
    with zipfile.ZipFile(wheel) as archive:
        content = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in content if re.match(r"fastnn-[^/]+\.dist-info/", name)}
    compiled = {name for name in content if name.endswith(COMPILED)}
    package = {name[len("src/") :] for name in files if name.startswith("src/") and not name.endswith(SOURCE_ONLY)}
    problems += differences("the wheel", package, content - metadata - compiled)
    modules = {name.partition(".")[0] for name in compiled}
    problems += differences("the wheel", set(NATIVE), modules)

    print(
        f"{sdist.name}: {len(packed)} files; {wheel.name}: {len(content)} files, compiled: {', '.join(sorted(modules))}"
    )
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
