#!/usr/bin/env bash
# Style and types: ruff, mypy, clang-format, shell and YAML syntax.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

python3 -m venv "$FASTNN_CI_WORK/lint"
bin=$FASTNN_CI_WORK/lint/bin
"$bin/pip" install -q -r .ci/lint-requirements.txt

"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"

cxx=()
while IFS= read -r -d '' file; do cxx+=("$file"); done < <(
  find csrc bench .ci \( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' \) -print0 2>/dev/null | sort -z)
if [ ${#cxx[@]} -gt 0 ]; then
  "$bin/clang-format" --version
  "$bin/clang-format" --dry-run -Werror "${cxx[@]}"
  echo "clang-format: ${#cxx[@]} files are as they should be"
fi

for script in .ci/run .ci/*.sh csrc/parity/*.sh; do bash -n "$script"; done
"$bin/yamllint" --strict .github
"$bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
