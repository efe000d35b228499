#!/usr/bin/env bash
# Every kernel against its plain definition, outside Python: the x86 sets, and NEON cross-compiled and run under qemu.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
copy_tree "$FASTNN_CI_WORK/parity"
cd "$FASTNN_CI_WORK/parity"

# check [TARGET]: what has no definition and one line more if all is well, all lines if not
check() {
  sh csrc/parity/run.sh "$@" >log 2>&1 || { cat log; die "the kernels disagree"; }
  grep -e '^not checked' -e '^all kernels' log
}

if [ "$(uname -m)" = x86_64 ]; then
  echo "x86"
  OBJECTS=$FASTNN_CI_WORK/wheel/build check # where that stage ran: else they are compiled here
else
  echo "x86: skipped on $(uname -m)"
fi

if command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null; then
  echo "NEON, under qemu"
  check aarch64
else
  echo "NEON: skipped, needs aarch64-linux-gnu-g++ and qemu-aarch64"
fi
