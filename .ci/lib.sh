# Shared by the stages of .ci/run: where things are, and small helpers. Runs nothing by itself.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1 MPLBACKEND=Agg TQDM_MININTERVAL=30
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

# The stages that build the package do so at one path, so that each kernel is compiled once: what is the same to its last
# byte comes from this run's own cache. 75 s on two quiet cores each.
PACKAGE=${FASTNN_CI_WORK:-/nowhere}/package
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_DIR=${FASTNN_CI_WORK:-/nowhere}/ccache
fi

say() { printf '\n=== %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# copy_tree DIR: what git would commit (with changes not committed yet), and nothing that lies about besides.
copy_tree() {
  mkdir -p "$1"
  if git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1; then
    (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard |
      while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
      tar --null -cf - -T -) | tar -xf - -C "$1"
  else
    cp -R "$ROOT/." "$1"
  fi
}

# In front of a command that shall find no compiler.
no_compiler=(env -u CMAKE_CXX_COMPILER_LAUNCHER "CC=$(command -v false)" "CXX=$(command -v false)")

# fresh_package: the sources at the path of the package, alone.
fresh_package() {
  rm -rf "$PACKAGE"
  copy_tree "$PACKAGE"
}

# copy_tests DIR: the tests and their configuration without the package, so that only an installed one can be imported.
copy_tests() {
  mkdir -p "$1"
  cp -R "$ROOT/tests" "$ROOT/pyproject.toml" "$1"
}

# installed_outside PYTHON: fail unless fastnn is imported from that interpreter's own site-packages.
installed_outside() {
  "$1" - <<'EOF'
import pathlib, sys, fastnn
where = pathlib.Path(fastnn.__file__).resolve()
if pathlib.Path(sys.prefix).resolve() not in where.parents:
    sys.exit(f"error: fastnn is imported from {where}, not from {sys.prefix}")
print(f"testing {where.parent}")
EOF
}

# readme_command WORD: the line of README.md that makes a virtual environment and contains WORD.
readme_command() {
  local line
  line=$(sed -n 's/^[[:space:]$]*\(python3 -m venv .*\)$/\1/p' "$ROOT/README.md" | grep -F -- "$1" | head -n 1)
  [ -n "$line" ] || die "README.md has no 'python3 -m venv ...' line with '$1'"
  printf '%s\n' "$line"
}
