#!/usr/bin/env bash
# The NEON kernels against the reference, cross-compiled and run under qemu.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

if [ ! -f csrc/parity/run.sh ]; then
  echo "skipped: no csrc/parity/run.sh"
elif ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
  echo "skipped: needs aarch64-linux-gnu-g++ and qemu-aarch64"
else
  copy_tree "$FASTNN_CI_WORK/parity"
  cd "$FASTNN_CI_WORK/parity"
  bash csrc/parity/run.sh
fi
