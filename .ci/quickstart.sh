#!/usr/bin/env bash
# The README's first command, word for word, in a fresh copy of the sources.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
command=$(readme_command 'fastnn demo')
fresh_package
cd "$PACKAGE"
export FASTNN_REQUIRE_NATIVE=1
printf '$ %s\n' "$command"
bash -euo pipefail -c "$command" </dev/null
