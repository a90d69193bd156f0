#!/bin/bash
# about: the unit tests, the contract of images (null, file, fault) and NBD clients that do anything under ASAN + UBSAN, and TSAN
# limit: 1500
. "$(dirname "$0")/../lib.sh"

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:ignore_noninstrumented_modules=1
export TSAN_OPTIONS+=:suppressions=$top/tests/tsan.supp

# Warnings are errors in the ordinary build only: the sanitizers' code makes gcc see ghosts.
test_with() { # NAME SANITIZERS
	local dir=$top/build/$1 status=0
	[[ -e $dir/build.ninja ]] ||
		meson setup "$dir" "$top" -Db_sanitize="$2" -Db_lundef=false >/dev/null
	if ! run ninja -C "$dir" || ((status)); then
		not_ok "$1 builds" "$output"
		return
	fi
	meson test -C "$dir" --no-rebuild --print-errorlogs --timeout-multiplier 5 || status=$?
	"$top/tests/meson-results" "$dir" "$1: "
	((status == 0)) || failures=$((failures + 1))
}

# The export server, with clients that do anything. 77: something for it is not installed.
exports_with() { # NAME TEST...
	URBD_BUILD=$top/build/$1 "$top/tests/suites/nbd-export.sh" "${@:2}" | sed "s/ - / - $1: /" ||
		(($? == 77)) || failures=$((failures + 1))
}

# urbdd itself, killed and started again with devices mapped.
killed_with() { # NAME ROUNDS
	URBD_BUILD=$top/build/$1 build=$top/build/$1 in_guest --timeout 700 --mem 3072 --env "MAP_ROUNDS=$2" --env ASAN_OPTIONS --env UBSAN_OPTIONS --env TSAN_OPTIONS \
		bash tests/suites/guest/recovery many_maps || not_ok "$1: the guest ends well" "exit $?"
}

test_with asan address,undefined
test_with tsan thread
exports_with asan mix mix_tls hostile_tls
exports_with tsan mix mix_tls
killed_with asan 20
killed_with tsan 8
