#!/bin/bash
# about: what happens to an image while it is served: it is removed, or a snapshot of it is taken
# limit: 400
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_program qemu-io qemu-utils
require_program jq jq
require_program fio fio

URBD_LAB_KERNEL=host start_cluster # exports need no kernel device
urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

rbd() { timeout 60 rbd --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" "$@"; }

start_daemon() {
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --queues 1 2>>"$TEST_DIR/log" &
	daemon=$!
	on_exit bash -c "kill -KILL $daemon 2>/dev/null || true"
	eventually 20 "$urbd" version >/dev/null 2>&1 || {
		not_ok "the daemon starts" "$(<"$TEST_DIR/log")"
		exit 1
	}
}

stop_daemon() { # NAME
	local code=0
	kill "$daemon"
	wait "$daemon" || code=$?
	check_equal "$1" "$code" 0
}

export_of() { # IMAGE [OPTION...]: prints its URI
	timeout 60 "$urbd" export --monitors "$MONITORS" --id "$CLIENT" --keyring "$KEYRING" \
		--listen "unix:$TEST_DIR/nbd" "$@"
}

io() { # URI COMMAND
	timeout 30 qemu-io -f raw -c "$2" "$1"
}

because_of() { # URI
	"$urbd" status --format json | jq -r --arg uri "$1" '.exports[] | select(.uri == $uri) | .state + ": " + .reason'
}
has_failed() { [[ $(because_of "$1") = "failed: its image was removed"* ]]; }

# ---- removal

# librbd removes no image that somebody watches: it is the header that goes.
remove_header() { # IMAGE
	local id
	id=$(rbd info "$1" --format json | jq -r .id)
	timeout 60 rados --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" --pool "$POOL" rm "rbd_header.$id"
}

# The image's name and directory entry are left by that; a new one of the name must not trip over them.
forget_name() { # IMAGE
	rbd rm --no-progress "$1" >/dev/null 2>&1 || true
}

all_io_is_eio() { # NAME URI
	local op
	for op in "read 0 64k" "write 8M 64k" "write -z 16M 64k" "discard 24M 64k"; do
		check_says "Input/output error" "$1: then ${op%% *} is EIO" io "$2" "$op"
	done
	check_code 1 "$1: and so is flush" io "$2" flush
}

# An image with the lock holds, and one without it must not, what it had in flight.
test_removed() {
	local features name uri other
	other=$("$urbd" export null:64M --listen "unix:$TEST_DIR/nbd")
	for features in layering layering,exclusive-lock layering,exclusive-lock,object-map,fast-diff; do
		name=removed-${features##*,}
		rbd create "$name" --size 64M --image-feature "$features"
		uri=$(export_of "$name")
		check "$name: it is written to" io "$uri" "write -P 7 0 64k"
		remove_header "$name"
		check "$name: status says that it was removed" eventually 30 has_failed "$uri"
		check "$name: in words, too" grep -q "because .*its image was removed" <("$urbd" status)
		all_io_is_eio "$name" "$uri"
		check_says "has failed .*Unexport that first" "$name: it is not handed out again" export_of "$name" --timeout 20
		forget_name "$name"
		check "$name: a new image bears its name" rbd create "$name" --size 64M --image-feature "$features"
		check "$name: it can be unexported" timeout 20 "$urbd" unexport "$name"
		uri=$(export_of "$name")
		check "$name: and the new image exported" io "$uri" "read -P 0 0 64k"
		check "$name: which works" io "$uri" "write -P 8 0 64k"
		check "$name: and goes away again" timeout 20 "$urbd" unexport "$name"
	done
	check "another export has seen nothing of it" io "$other" "write 0 64k"
	"$urbd" unexport --export-name null:64M
	stop_daemon "what is gone holds up no stop"
	start_daemon
}

has_served() { # REQUESTS
	(($("$urbd" stat --json | jq '[.. | objects | .requests // 0] | max // 0') >= $1))
}

# librbd waits for ever for the lock that was in the header: whoever waits for librbd must not.
test_removed_under_load() {
	local uri writer code=0
	rbd create busy --size 64M
	uri=$(export_of busy)
	timeout 60 fio --name=writer --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=16 --time_based \
		--runtime=50 --size=32M >"$TEST_DIR/fio" 2>&1 &
	writer=$!
	check "the writer writes" eventually 20 has_served 100
	remove_header busy
	wait $writer || code=$?
	check_equal "removed under load: the writer gets an error, and does not hang" "$code" 1
	all_io_is_eio "removed under load" "$uri"
	check "removed under load: it can be unexported" timeout 20 "$urbd" unexport busy
	check_equal "removed under load: nothing is listed" "$("$urbd" list --format json)" "[]"
	forget_name busy
	rbd create busy --size 64M
	uri=$(export_of busy)
	check "removed under load: a new image of the name works" io "$uri" "write 0 64k"
	"$urbd" unexport busy
}

start_daemon
tests=("$@")
(($#)) || tests=(removed removed_under_load)
for name in "${tests[@]}"; do "test_$name"; done
