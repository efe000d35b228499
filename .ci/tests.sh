#!/usr/bin/env bash
# The README's test command, word for word, in a fresh copy of the sources. pytest's summary is the last thing printed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
command=$(readme_command '-m pytest')
fresh_package
cd "$PACKAGE"
export FASTNN_REQUIRE_NATIVE=1 FASTNN_EXPECT_NATIVE=1
printf '$ %s\n' "$command"
bash -euo pipefail -c "$command" </dev/null
