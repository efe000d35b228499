#!/usr/bin/env bash
# No compiler: the install succeeds all the same, says once what is missing, and the tests pass on the fallback.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
work=$FASTNN_CI_WORK/fallback

copy_tree "$work/tree"
copy_tests "$work/elsewhere"
python3 -m venv "$work/venv"
cd "$work"
if ! "${no_compiler[@]}" venv/bin/pip install -v "./tree[test]" >log 2>&1; then
  tail -n 60 log
  die "the install failed without a compiler"
fi
said=$(grep -c 'WITHOUT its compiled kernels' log)
[ "$said" = 1 ] || die "the install spoke $said times, not once, of the missing kernels"
grep -q 'fastnn-.*-py3-none-any.whl' log || die "the fallback is not a pure-Python wheel"
if find venv -path '*/fastnn/*' \( -name '*.so' -o -name '*.pyd' \) | grep .; then die "the fallback holds compiled modules"; fi
echo "installed without a compiler, as a pure-Python wheel"

if FASTNN_REQUIRE_NATIVE=1 "${no_compiler[@]}" venv/bin/pip wheel -q --no-deps --wheel-dir none ./tree >log 2>&1; then
  die "FASTNN_REQUIRE_NATIVE=1 did not make the failed build an error"
fi
echo "FASTNN_REQUIRE_NATIVE=1 makes it an error"

cd elsewhere
installed_outside "$work/venv/bin/python"
"$work/venv/bin/pip" install -q pytest-xdist
# what compiles C is of no backend, and ran in the stage before
"$work/venv/bin/python" -m pytest -q -m "not slow" -n "$(nproc)" --ignore-glob '*/test_c99*.py'
