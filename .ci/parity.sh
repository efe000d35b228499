#!/usr/bin/env bash
# Every kernel against its plain definition, outside Python: the x86 sets, and NEON cross-compiled and run under qemu.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
copy_tree "$FASTNN_CI_WORK/parity"
cd "$FASTNN_CI_WORK/parity"

# check NAME [TARGET]: what has no definition and one line more if all is well, all lines if not
check() {
  local name=$1
  shift
  sh csrc/parity/run.sh "$@" >"$name.log" 2>&1 || { cat "$name.log"; die "the kernels disagree"; }
  echo "$name"
  grep -e '^not checked' -e '^all kernels' "$name.log"
}

# side by side: each has long parts on one core, its run above all
running=()
if [ "$(uname -m)" = x86_64 ]; then
  export OBJECTS=$FASTNN_CI_WORK/wheel/build # where that stage ran: else they are compiled here
  check x86 &
  running+=($!)
else
  echo "x86: skipped on $(uname -m)"
fi

if command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null; then
  check "NEON, under qemu" aarch64 &
  running+=($!)
else
  echo "NEON: skipped, needs aarch64-linux-gnu-g++ and qemu-aarch64"
fi
for process in "${running[@]}"; do wait "$process"; done
