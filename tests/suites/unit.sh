#!/bin/bash
# about: the unit tests (cmocka), as meson runs them
# limit: 300
. "$(dirname "$0")/../lib.sh"

status=0
meson test -C "$build" --no-rebuild --print-errorlogs || status=$?
"$top/tests/meson-results" "$build"
exit "$status"
