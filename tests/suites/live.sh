#!/bin/bash
# about: what happens to an image while it is served: it is removed, a snapshot is taken, limits are set
# limit: 600
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_program qemu-io qemu-utils
require_program jq jq
require_program fio fio

# Exports need no kernel device. Whose watch is lost is not asked about a snapshot: the lab's 5 s would
# lose it now and then.
URBD_LAB_KERNEL=host start_cluster ceph --watch-timeout 30
urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

rbd() { timeout 100 rbd --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" "$@"; }

start_daemon() {
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --queues 1 2>>"$TEST_DIR/log" &
	daemon=$!
	on_exit bash -c "kill -KILL $daemon 2>/dev/null || true"
	await_daemon "the daemon starts" "$TEST_DIR/log" "$urbd"
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
	"$urbd" unexport "$other"
	stop_daemon "what is gone holds up no stop"
	start_daemon
}

read_of() { # URI
	timeout 30 qemu-io -r -f raw -c "read 0 64k" "$1"
}

# Nothing watches what is opened for reading alone: it is looked for from time to time.
test_removed_under_readers() {
	local uri snapshot
	rbd create read --size 64M
	rbd snap create --no-progress read@one
	uri=$(export_of read --read-only --export-name r)
	snapshot=$(export_of read@one --export-name s)
	check "read-only: it is read" read_of "$uri"
	check "read-only: and its snapshot" read_of "$snapshot"
	remove_header read
	for uri in "$uri" "$snapshot"; do
		check "read-only: status says that it was removed" eventually 40 has_failed "$uri"
		check_says "Input/output error" "read-only: then a read is EIO" read_of "$uri"
	done
	check "read-only: it can be unexported" timeout 20 "$urbd" unexport --export-name r
	check "read-only: and its snapshot" timeout 20 "$urbd" unexport --export-name s
	forget_name read
}

# Who closes does not wait for what was asked.
test_silent_readers() {
	rbd create silent --size 64M
	export_of silent --read-only >/dev/null
	"$lab/cluster" stop "$CLUSTER" --kill osd.0
	sleep 12 # until it was asked about the image
	check "read-only: with a silent cluster it can be unexported" timeout 20 "$urbd" unexport silent
	stop_daemon "read-only: and the daemon ends"
	"$lab/cluster" start "$CLUSTER"
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
	stop_daemon "removed under load: what librbd holds for ever holds up no stop"
	start_daemon
}

# ---- the quiesce hook

# Notes its calls, and whether the snapshot is there by then; goes wrong as TEST_DIR/mode says.
make_hook() {
	cat >"$TEST_DIR/hook" <<-END
		#!/bin/sh
		snaps=\$(timeout 20 rbd --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" snap ls quiet --format json | grep -o '"name":' | wc -l)
		echo "\$1 \$2 \$snaps" >>"$TEST_DIR/calls"
		[ "\$2" = quiesce ] || exit 0
		case \$(cat "$TEST_DIR/mode") in
		fail) exit 1 ;;
		hang) sleep 1234 & sleep 1234 ;;
		write) sleep 2 && timeout 60 qemu-io -f raw -c "write -P 9 0 64k" "\$1" >/dev/null ;;
		esac
	END
	chmod +x "$TEST_DIR/hook"
	mode well
}
mode() { echo "$1" >"$TEST_DIR/mode"; }
calls() { cat "$TEST_DIR/calls" 2>/dev/null && rm "$TEST_DIR/calls"; }
was_called() { # TIMES
	[[ $(wc -l <"$TEST_DIR/calls") = "$1" ]]
} 2>/dev/null
snapshots() { rbd snap ls quiet --format json | jq length; }

test_hook_is_checked() {
	rbd create quiet --size 64M
	echo >"$TEST_DIR/no-program"
	truncate -s 1M "$TEST_DIR/file"
	check_says 'quiesce hook .*/nothing cannot be run: No such file' "a hook that is absent is refused" \
		export_of quiet --quiesce-hook "$TEST_DIR/nothing"
	check_says 'cannot be run: Permission denied' "and one that is not executable" \
		export_of quiet --quiesce-hook "$TEST_DIR/no-program"
	check_says 'is no file' "and a directory" export_of quiet --quiesce-hook "$TEST_DIR"
	install -m 0775 "$TEST_DIR/hook" "$TEST_DIR/loose-hook"
	check_says 'could be changed by others' "and one that is not root's alone" \
		export_of quiet --quiesce-hook "$TEST_DIR/loose-hook"
	check_says 'for RBD images that are written to' "a file has no snapshots" \
		timeout 60 "$urbd" export "file:$TEST_DIR/file" --listen "unix:$TEST_DIR/nbd" --quiesce-hook "$TEST_DIR/hook"
	check_says 'for RBD images that are written to' "what is not written to needs no hook" \
		export_of quiet --read-only --quiesce-hook "$TEST_DIR/hook"
}

test_quiesce() {
	local uri begin client
	uri=$(export_of quiet --quiesce-hook "$TEST_DIR/hook")
	check_equal "status shows the hook" "$("$urbd" status --format json | jq -r '.exports[0].quiesce_hook')" "$TEST_DIR/hook"
	check "it is written to" io "$uri" "write -P 1 0 64k"
	check "a snapshot is taken" rbd snap create --no-progress quiet@one
	check "with the hook" eventually 30 was_called 2
	check_equal "before it, and after it" "$(calls)" "$uri quiesce 0"$'\n'"$uri unquiesce 1"
	check "also by who does not have the lock" rbd snap create --no-progress --skip-quiesce quiet@two
	check_equal "who wants none gets none" "$(calls)" ""

	mode fail
	check_says 'Input/output error|\(5\)' "when the hook fails there is no snapshot" rbd snap create --no-progress quiet@bad
	check_equal "the hook is told that it is over" "$(calls)" "$uri quiesce 2"$'\n'"$uri unquiesce 2"
	check_equal "there is none" "$(snapshots)" 2

	mode hang
	begin=$SECONDS
	rbd snap create --no-progress quiet@bad >"$TEST_DIR/snap" 2>&1 &
	client=$!
	check "a hook hangs" eventually 20 was_called 1
	check "it holds up no I/O" io "$uri" "write -P 2 0 64k"
	check "nor the control socket" timeout 5 "$urbd" list
	wait $client && not_ok "then there is no snapshot either" || ok "then there is no snapshot either"
	check_equal "in time" "$((SECONDS - begin < 90))" 1
	check "it is killed with its children" eventually 20 nothing_sleeps
	check "and undone, once more when it is over" eventually 20 was_called 3
	check_equal "in this order" "$(calls | cut -d' ' -f2 | tr '\n' ' ')" "quiesce unquiesce unquiesce "
	check_equal "there is none" "$(snapshots)" 2

	mode well
	check "the next snapshot is taken" rbd snap create --no-progress quiet@three
	check "with the hook" eventually 30 was_called 2
	calls >/dev/null
	check_says "without that --quiesce hook" "another hook is another export" \
		export_of quiet --quiesce-hook /bin/true
	check "it goes" timeout 60 "$urbd" unexport quiet
	check "a snapshot of what is not exported" rbd snap create --no-progress quiet@four
	check_equal "calls nobody" "$(calls)" ""
}
nothing_sleeps() { ! pgrep -f '^sleep 1234' >/dev/null; }

# The daemon is asked to go while a snapshot waits for the hook: both end.
test_quiesce_and_stop() {
	local uri client
	uri=$(export_of quiet --quiesce-hook "$TEST_DIR/hook")
	io "$uri" "write -P 1 0 64k" >/dev/null
	mode hang
	rbd snap create --no-progress quiet@stopped >"$TEST_DIR/snap" 2>&1 &
	client=$!
	check "a hook is at work" eventually 20 was_called 1
	check "unexport waits for it, and no longer" timeout 80 "$urbd" unexport --timeout 70 quiet
	wait $client || true
	check "what it began is undone" eventually 20 was_called 3
	check_equal "in this order" "$(calls | cut -d' ' -f2 | tr '\n' ' ')" "quiesce unquiesce unquiesce "
	check "the image is let go" eventually 60 unwatched
	stop_daemon "the daemon ends well"
	start_daemon
}
unwatched() { [[ $(rbd status quiet) = *"Watchers: none"* ]]; }

# ---- settings, whose change opens the image anew

limit() { # EXPORT-NAME IOPS
	timeout 60 "$urbd" set --export-name "$1" "rbd_qos_iops_limit=$2"
}

test_settings_changed() {
	local uri other
	mode well
	uri=$(export_of quiet --export-name q --exclusive --quiesce-hook "$TEST_DIR/hook")
	check "it is written to" io "$uri" "write -P 1 0 64k"
	check "settings change" limit q 5000
	check "its data is there" io "$uri" "read -P 1 0 64k"
	check_says "holds its exclusive lock" "the lock is kept for good again" \
		export_of quiet --export-name q2 --exclusive --timeout 5
	check "a snapshot is taken" rbd snap create --no-progress quiet@limited
	check "with the hook" eventually 30 was_called 2
	check_equal "before it, and after it" "$(calls)" "$uri quiesce 0"$'\n'"$uri unquiesce 1"
	check_equal "status shows the hook" "$("$urbd" status --format json | jq -r '.exports[0].quiesce_hook')" "$TEST_DIR/hook"
	"$urbd" unexport --export-name q
	rbd snap rm --no-progress quiet@limited

	rbd create shared --size 64M
	uri=$(export_of shared --export-name s1)
	other=$(export_of shared --export-name s2)
	check "one writer has the lock" io "$uri" "write -P 1 0 64k"
	check "then another" io "$other" "write -P 2 0 64k"
	check "settings of the first change" limit s1 5000
	check "it reads what the other wrote" io "$uri" "read -P 2 0 64k"
	check "and writes" io "$uri" "write -P 3 0 64k"
	check "as the other does" io "$other" "write -P 4 0 64k"
	"$urbd" unexport --export-name s2
	remove_header shared
	check "status says that the image was removed" eventually 30 has_failed "$uri"
	check_says "has failed .*Unexport it" "then settings are of no use" limit s1 100
	all_io_is_eio "removed after a change" "$uri"
	check "it can be unexported" timeout 20 "$urbd" unexport --export-name s1
	forget_name shared
}

# A hook stores what is in memory before the snapshot: held I/O would keep it from that.
test_settings_and_snapshot() {
	local uri client name
	mode write
	uri=$(export_of quiet --export-name q --quiesce-hook "$TEST_DIR/hook")
	check "it is written to" io "$uri" "write -P 1 0 64k"
	rbd snap create --no-progress quiet@settings >"$TEST_DIR/snap" 2>&1 &
	client=$!
	check "a snapshot waits for its hook" eventually 20 was_called 1
	check "settings change meanwhile" limit q 5000
	wait $client && ok "the snapshot is taken" || not_ok "the snapshot is taken" "$(cat "$TEST_DIR/snap")"
	check "with the hook" eventually 30 was_called 2
	check_equal "before it, and after it" "$(calls | cut -d' ' -f2 | tr '\n' ' ')" "quiesce unquiesce "
	check "which has written" rbd export --no-progress quiet@settings "$TEST_DIR/snapshot"
	check_equal "what is in the snapshot" "$(od -An -N4 -tx1 "$TEST_DIR/snapshot")" " 09 09 09 09"
	mode well
	check "the next snapshot is taken" rbd snap create --no-progress quiet@after
	check "with the hook" eventually 30 was_called 2
	calls >/dev/null
	"$urbd" unexport --export-name q
	for name in settings after; do rbd snap rm --no-progress "quiet@$name"; done
}

# The cache's flush at the close of the image is nobody's request: whoever flushes next is told.
test_settings_and_cache() {
	local uri
	rbd create cache --size 64M
	uri=$(export_of cache --export-name cache -o rbd_cache=true -o rbd_cache_policy=writeback \
		--fault "flush=ENOSPC*1")
	/usr/bin/python3 - "$uri" "$TEST_DIR/written" "$TEST_DIR/refused" >"$TEST_DIR/flushes" 2>&1 <<-END &
		import nbd, os, sys, time
		def flush(h):
		    try:
		        h.flush()
		        return "stored"
		    except nbd.Error as e:
		        return e.errno
		handles = [nbd.NBD(), nbd.NBD()]
		for h in handles:
		    h.connect_uri(sys.argv[1])
		handles[0].pwrite(b"1" * 65536, 0)
		open(sys.argv[2], "w").close()
		while not os.path.exists(sys.argv[3]):
		    time.sleep(0.1)
		for h in handles + handles:
		    print(flush(h))
	END
	local client=$!
	check "a client has written to a cache" eventually 60 test -e "$TEST_DIR/written"
	check_says "Nothing is changed: its storage did not take .*No space left" \
		"settings do not change when the cache is not stored, and why" limit cache 100
	touch "$TEST_DIR/refused"
	wait "$client" || not_ok "the clients end"
	check_equal "each client's next flush fails, its later ones do not" \
		"$(xargs <"$TEST_DIR/flushes")" "EIO EIO stored stored"
	check "the log tells" grep -q 'cache.*did not take what is in its cache' "$TEST_DIR/log"
	check "then settings change" limit cache 5000
	check "what was written is there" io "$uri" "read -P 49 0 64k"
	"$urbd" unexport --export-name cache
}

state_is() { # URI STATE
	[[ $(because_of "$1") = "$2"* ]]
}

# A storage that does not let go of the image in time holds up nobody for ever.
test_settings_and_slow_close() {
	local uri begin writer
	rbd create slow --size 64M
	uri=$(export_of slow --export-name slow --fault "close=delay:15000")
	check "it is written to" io "$uri" "write -P 1 0 64k"
	check_says "Nothing is changed, and the I/O .* is held" "a close that takes longer than set may" \
		timeout 60 "$urbd" set --timeout 4 --export-name slow rbd_qos_iops_limit=4000
	check "status shows that its I/O is held, and why" state_is "$uri" "blocked: its storage does not let go"
	check_says "can be unexported with --force" "it is not taken away in order meanwhile" \
		timeout 60 "$urbd" unexport --timeout 2 slow
	check "what is written meanwhile waits, and is done" io "$uri" "write -P 2 0 64k"
	check "then it is live" state_is "$uri" live
	check_code 1 "nothing has changed" grep rbd_qos <("$urbd" status)

	timeout 60 "$urbd" set --timeout 4 --export-name slow rbd_qos_iops_limit=4000 2>/dev/null || true
	check "it is held again" state_is "$uri" blocked
	timeout 60 qemu-io -f raw -c "write -P 3 0 64k" "$uri" >/dev/null 2>&1 & writer=$!
	sleep 2
	begin=$(date +%s)
	check "by force it goes" timeout 60 "$urbd" unexport --force slow
	check "at once" test $(($(date +%s) - begin)) -lt 10
	check "it is not listed" nothing_listed slow
	check_child 1 "what it held has failed" $writer
	uri=$(export_of slow --export-name slow)
	check "it can be exported anew" io "$uri" "write -P 4 0 64k"
	check "and unexported" "$urbd" unexport --export-name slow
}

nothing_listed() { # NAME
	[[ $("$urbd" status --format json | jq --arg name "$1" '[.exports[] | select(.name == $name)] | length') = 0 ]]
}

make_hook
start_daemon
tests=("$@")
(($#)) || tests=(hook_is_checked settings_changed settings_and_snapshot settings_and_cache settings_and_slow_close quiesce
	quiesce_and_stop removed removed_under_load removed_under_readers silent_readers)
for name in "${tests[@]}"; do "test_$name"; done
