#!/bin/bash
# about: run-tests itself: what it counts, limits, interrupts and cleans up
# limit: 360
. "$(dirname "$0")/../lib.sh"

# A tree with the real runner and nothing to build or install.
tree=$TEST_DIR/tree
mkdir -p "$tree"/{scripts,tests/suites,tests/lab,build/test}
cp "$top/run-tests" "$tree/"
cp "$lab/cluster" "$tree/tests/lab/"
printf '#!/bin/sh\n' >"$tree/scripts/install-packages"
chmod +x "$tree/scripts/install-packages"
: >"$tree/build/test/build.ninja"

suite() { # NAME [HEADER]; the body comes on stdin
	local file=$tree/tests/suites/$1.sh
	{ printf '#!/bin/bash\n%s\n' "${2:-}" && cat; } >"$file"
	chmod +x "$file"
}

closing_line() { # [VARIABLE=VALUE...] -- NAME...
	local settings=()
	while [[ $1 != -- ]]; do settings+=("$1") && shift; done
	shift
	run env CI=false "${settings[@]}" "$tree/run-tests" "$@"
	echo "$status: $(tail -n 1 <<<"$output")"
}

expect() { # NAME CLOSING-LINE ARGUMENT...
	check_equal "$1" "$(closing_line "${@:3}")" "$2"
}

suite good <<<'echo "ok - a"; echo "ok - b"; echo "skip - c: no reason"'
suite bad <<<'echo "ok - a"; echo "not ok - b"; exit 1'
suite lying <<<'echo "not ok - b"; exit 0'
suite silent <<<'true'
suite dying <<<'echo "ok - a"; kill -9 $$'
suite none <<<'echo "missing package foo"; exit 77'
suite endless '# limit: 1' <<<'echo "ok - a"; sleep 100'
# shellcheck disable=SC2016  # for the suite
suite litter '# limit: 20' <<<'setsid sleep 4711 & mkdir "$TEST_DIR/x"; (sleep 4712 & ); echo "ok - a"'

expect "all is counted" "0: 2 passed, 0 failed, 1 skipped" -- good
expect "a failed test fails the run" "1: 3 passed, 1 failed, 1 skipped" -- good bad
expect "a failed test counts whatever the exit code" "1: 0 passed, 1 failed, 0 skipped" -- lying
expect "a suite that reports nothing is a failure" "1: 0 passed, 1 failed, 0 skipped" -- silent
expect "a suite that dies is a failure" "1: 1 passed, 1 failed, 0 skipped" -- dying
expect "a suite over its limit is a failure" "1: 1 passed, 1 failed, 0 skipped" -- endless
expect "nothing but skips is no success" "1: 0 passed, 0 failed, 1 skipped" -- none
expect "a suite that is not there is a failure" "2: 0 passed, 1 failed, 0 skipped" -- good absent
expect "a wrong option is a failure" "2: 0 passed, 1 failed, 0 skipped" -- --absent
expect "a missing package is a failure in CI" "1: 2 passed, 1 failed, 1 skipped" CI=true -- good none
check_code 2 "an unknown suite is refused" "$tree/run-tests" nonesuch
check_equal "--list names the suites" "$("$tree/run-tests" --list | wc -l)" 8

expect "a suite that leaves things behind" "0: 1 passed, 0 failed, 0 skipped" -- litter
sleeping() { pgrep -f "^sleep $1\$"; }
check_code 1 "its processes are gone" sleeping 4712
check_code 1 "even in a session of their own" sleeping 4711

suite waiting <<<'. '"$top"'/tests/lib.sh; on_exit touch '"$TEST_DIR"'/undone; echo "ok - a"; sleep 4713'
"$tree/run-tests" waiting >/dev/null 2>&1 &
runner=$!
eventually 120 sleeping 4713 >/dev/null || true
kill -TERM "$runner"
code=0
wait "$runner" || code=$?
check_equal "an interrupted run ends" "$code" 143
check "the suite's own clean-up was run" test -e "$TEST_DIR/undone"
check_code 1 "nothing runs on" sleeping 4713
