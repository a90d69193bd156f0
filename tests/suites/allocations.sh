#!/bin/bash
# about: the way of a request allocates nothing of urbd's own: counted in a running daemon
# limit: 200
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_python nbd python3-libnbd

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl
counter=$TEST_DIR/counter
requests=4000

URBD_LAB_KERNEL=host start_cluster # exports need no kernel device
timeout 60 rbd --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" create "$POOL/image" --size 64M
truncate -s 64M "$TEST_DIR/file"

COUNT_ALLOCATIONS=$counter LD_PRELOAD=$build/tests/tools/count-allocations.so \
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --queues 2 2>"$TEST_DIR/log" &
daemon=$!
on_exit bash -c "kill -KILL $daemon 2>/dev/null || true"
await_daemon "the daemon starts" "$TEST_DIR/log" "$urbd"

export_of() { # IMAGE [OPTION...]
	timeout 60 "$urbd" export --listen "unix:$TEST_DIR/nbd" "$@"
}
count() { od -An -t u8 -N 8 "$counter" | tr -d ' '; }

# The first line counts; the others say where.
check_none() { # NAME URI
	local places
	run timeout 120 $python3 tests/tools/count-requests.py "$2" "$counter" $requests
	if ((status == 0)) && [[ $output = 0 ]]; then
		ok "$1"
		return
	fi
	mapfile -t places < <(tail -n +2 <<<"$output")
	not_ok "$1" "exit $status, allocations: $output"$'\n'"$(addr2line -fpe "$build/daemon/urbdd" "${places[@]}" 2>&1)"
}

before=$(count)
uri=$(export_of null:64M)
check "the counter counts: a call on the control socket allocates" test "$(count)" -gt "$before"
check_none "null: $requests requests allocate nothing" "$uri"
check_none "file: $requests requests allocate nothing" "$(export_of "file:$TEST_DIR/file")"
rbd_uri=$(export_of "$POOL/image" --id "$CLIENT" -m "$MONITORS" --keyfile "$KEYFILE")
check_none "rbd: $requests requests allocate nothing" "$rbd_uri"
