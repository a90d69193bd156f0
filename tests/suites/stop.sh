#!/bin/bash
# about: how a stop of urbdd ends where the storage is slow to let go of images
# limit: 400
. "$(dirname "$0")/../lib.sh"
require_program jq jq

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

start_daemon() { # OPTION...
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --queues 1 --listen "unix:$TEST_DIR/nbd" "$@" 2>"$TEST_DIR/log" &
	daemon=$!
	on_exit end_hard "$daemon"
	await_daemon "the daemon starts" "$TEST_DIR/log" "$urbd"
}

end_hard() { # PID: one that waits for its storage
	kill -KILL "$1" 2>/dev/null || return 0
	wait "$1" 2>/dev/null || true
}

stops_with() { # CODE NAME
	kill -TERM "$daemon"
	check "$2: the daemon ends" timeout 120 tail --pid="$daemon" -f /dev/null
	kill -KILL "$daemon" 2>/dev/null || true # where it does not
	check_child "$1" "$2: with code $1" "$daemon"
}

export_slow() { # NAME SECONDS: that its image takes to be closed
	"$urbd" export null:64M --export-name "$1" --fault "close=delay:${2}000" >/dev/null
}

is_stopping() { # NAME
	[[ $("$urbd" status --format json | jq -r --arg name "$1" '.exports[] | select(.name == $name) | .state') = stopping ]]
}

# Whose storage answers in time has ended in order, with those who wait for it.
test_closed_in_time() {
	local caller
	start_daemon --drain-timeout 300
	export_slow left 16
	export_slow awaited 12
	export_slow live 12
	check_says 'still holds requests' "in time: an unexport does not see the image closed" \
		timeout 60 "$urbd" unexport --timeout 1 left
	timeout 200 "$urbd" unexport --timeout 100 awaited & caller=$!
	check "in time: another one waits" eventually 60 is_stopping awaited
	stops_with 0 "in time"
	check_child 0 "in time: it is told that the image is closed" $caller
}

# The deadline is that of --drain-timeout, also for exports.
test_not_closed_in_time() {
	local caller
	start_daemon --drain-timeout 2
	export_slow slow 600
	stops_with 1 "too late"
	check "too late: the log tells why" grep -q '1 export(s) could not be ended cleanly' "$TEST_DIR/log"

	start_daemon --drain-timeout 2
	export_slow awaited 600
	timeout 200 "$urbd" unexport --timeout 100 awaited 2>/dev/null & caller=$!
	check "too late: a call waits" eventually 60 is_stopping awaited
	stops_with 1 "too late: with a call"
	check_child 1 "too late: which fails" $caller
}

# What was forced is nobody's any more.
test_given_up() {
	start_daemon --drain-timeout 300
	export_slow forced 600
	check "given up: by force an export goes" timeout 60 "$urbd" unexport --force forced
	stops_with 0 "given up"
	check "given up: the log tells what is left" grep -q '1 export(s) that were given up' "$TEST_DIR/log"
}

tests=("$@")
(($#)) || tests=(closed_in_time not_closed_in_time given_up)
for name in "${tests[@]}"; do "test_$name"; done
