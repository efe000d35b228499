#!/usr/bin/env bash
# Random cases: changed files, malformed plans, networks on all backends, interruptions. 100,000 of them, or as many as
# FASTNN_FUZZ_CASES says, from a seed of the day: FASTNN_FUZZ_SEED repeats one.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
work=$FASTNN_CI_WORK/fuzz
python=$FASTNN_CI_WORK/wheel/venv/bin/python # of the stage before
if [ ! -x "$python" ]; then
  copy_tree "$work/tree"
  python3 -m venv "$work/venv"
  python=$work/venv/bin/python
  FASTNN_REQUIRE_NATIVE=1 "$python" -m pip install -q "$work/tree[test]"
fi
copy_tests "$work/elsewhere"
cd "$work/elsewhere"
installed_outside "$python"

cases=${FASTNN_FUZZ_CASES:-100000}
seed=${FASTNN_FUZZ_SEED:-$(date +%Y%m%d)}
# fuzz NAME TENTHS_OF_A_PERCENT: a case takes 3 ms of a file, 1 of a plan, 30 of a network, 40 of an interruption
fuzz() {
  echo "$1"
  "$python" "tests/fuzz_$1.py" --cases $((cases * $2 / 1000)) --seed "$seed" --jobs "$(nproc)"
}
fuzz files 250
fuzz plans 735
fuzz networks 12
fuzz interruptions 3
