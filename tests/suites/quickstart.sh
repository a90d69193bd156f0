#!/bin/bash
# about: the README's demonstration, by ublk and by nbd, and nothing left of it
# limit: 900
. "$(dirname "$0")/../lib.sh"
((EUID == 0)) || skip_all "not root"

demonstrate() { # FRONTEND OPTION...
	local frontend=$1 said
	shift
	check "quickstart${*:+ $*} ends well" env TMPDIR="$TEST_DIR" timeout 400 ./quickstart "$@"
	said=$output
	check "it used a device of $frontend" grep -q -- "-> $frontend device ->" <<<"$said"
	check_equal "the file was read, by the pod and out of the image" \
		"$(grep -c '^Ceph, ext4 and a pod' <<<"$said")" 2
}

check_code 2 "a kernel that is not there is refused" ./quickstart --kernel 2.6
check_code 2 "so is an unknown option" ./quickstart --fast
check "quickstart --help" ./quickstart --help
demonstrate ublk
demonstrate nbd --kernel 6.1
check_equal "no file is left" "$(ls "$TEST_DIR")" ""
check_code 1 "nor a process" pgrep -f "$TEST_DIR/urbd-"
