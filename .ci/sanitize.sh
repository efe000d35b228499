#!/usr/bin/env bash
# The C++ under GCC's sanitizers: addresses and undefined behaviour, with a million malformed plans
# (FASTNN_FUZZ_CASES: as many), then races between threads.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
work=$FASTNN_CI_WORK/sanitize
copy_tree "$work/tree"
copy_tests "$work/elsewhere"
python3 -m venv "$work/venv"
python=$work/venv/bin/python

# library NAME: the compiler's own
library() {
  local path
  path=$(c++ -print-file-name="$1")
  [ "$path" != "$1" ] || return 1
  printf '%s\n' "$path"
}

# build NAME FLAGS [PIP OPTION...]: the extension, in the environment, and csrc/parity, in $work/NAME. -O1: at -O3 the
# kernels alone take 10 minutes of compilation.
build() {
  local name=$1 flags=$2
  shift 2
  CXXFLAGS="-g1 $flags" LDFLAGS=$flags FASTNN_REQUIRE_NATIVE=1 "$work/venv/bin/pip" install -q \
    --config-settings "build-dir=$work/$name" --config-settings cmake.define.FASTNN_OPTIMIZATION=-O1 "$@" \
    "$work/tree[test]"
}

# sanitized PRELOADED PYTHON_ARGUMENT...: with libraries that must come before all others, as Python itself has no
# sanitizer. Of libstdc++ they want to know the exceptions. At fixed addresses: some kernels choose ones that GCC 12 to 13
# cannot use.
fixed=(setarch -R)
"${fixed[@]}" true 2>/dev/null || fixed=()
sanitized() {
  local preloaded=$1
  shift
  (cd "$work/elsewhere" &&
    "${fixed[@]}" env "LD_PRELOAD=$preloaded $(library libstdc++.so)" PYTHONMALLOC=malloc "$python" "$@")
}

# tests PRELOADED PYTEST_ARGUMENT...
tests() {
  local preloaded=$1
  shift
  sanitized "$preloaded" -c "import fastnn._native" # without it the tests would skip
  sanitized "$preloaded" -m pytest -q --capture=sys "$@" # what a sanitizer writes is shown
}

if ! asan=$(library libasan.so) || ! tsan=$(library libtsan.so); then
  echo "skipped: the compiler has no sanitizers"
  exit 0
fi

echo "addresses, undefined behaviour"
# Null pointers and the sizes of objects are for the address sanitizer too: checked twice, they double the compilation, as
# do checks that are not calls.
build address "-fsanitize=address,undefined -fno-sanitize=null,object-size -fno-sanitize-recover=all \
--param=asan-instrumentation-with-call-threshold=0" --config-settings cmake.define.FASTNN_PARITY=ON
for program in parity teams; do
  "$work/address/csrc/parity/$program" >"$work/log" 2>&1 || { cat "$work/log"; die "$program under the sanitizers"; }
  tail -n 1 "$work/log"
done
# No leaks: CPython keeps what it interned until the process ends. Not the tests of what fails, which limit the
# address space: the shadow memory is 16 TB.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
tests "$asan" tests/test_native_engine.py tests/test_kernels.py tests/test_sparse_products.py tests/test_predictor.py \
  -m "not slow" -k "(native or sparse_products or predictor) and not failed_allocation and not no_thread_can_be_started and not memory"
sanitized "$asan" tests/fuzz_plans.py --cases "${FASTNN_FUZZ_CASES:-1000000}" --jobs "$(nproc)"

echo "races"
# libgomp is not compiled for ThreadSanitizer, which reports its barriers as missing: threads of std::thread instead.
build thread -fsanitize=thread --no-deps --force-reinstall
c++ -std=c++20 -O1 -g1 -fPIC -shared -fsanitize=thread "$work/tree/.ci/threads_for_tsan.cpp" -o "$work/threads.so"
# glibc frees the thread-local memory of a thread that has ended once the kernel has cleared its number, which is an order
# that ThreadSanitizer does not see.
echo "race:_dl_deallocate_tls" >"$work/suppressions"
export TSAN_OPTIONS="halt_on_error=1 suppressions=$work/suppressions"
tests "$tsan $work/threads.so" tests/test_native_engine.py tests/test_predictor.py \
  -k "number_of_threads or trying_teams or concurrent or same_prediction or threads_at_once"
