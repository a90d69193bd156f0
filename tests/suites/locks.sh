#!/bin/bash
# about: who may use an image: the exclusive lock and watchers, between daemons on a real cluster
# limit: 400
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_program qemu-io qemu-utils
require_program jq jq

URBD_LAB_KERNEL=host start_cluster # exports need no kernel device
rbd() { timeout 60 rbd --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" "$@"; }
declare -A pid_of=() uri_of=()

# ---- daemons and their exports

start_daemon() { # NAME
	"$build/daemon/urbdd" --socket "$TEST_DIR/$1.ctl" --state-dir "$TEST_DIR/$1.state" --queues 1 \
		2>>"$TEST_DIR/$1.log" &
	pid_of[$1]=$!
	on_exit end_process $!
	await_daemon "daemon $1 starts" "$TEST_DIR/$1.log" urbd_at "$1"
}

urbd_at() { # DAEMON ARGUMENT...
	timeout 60 "$build/cli/urbd" --socket "$TEST_DIR/$1.ctl" "${@:2}"
}

export_at() { # DAEMON ARGUMENT...
	urbd_at "$1" export --listen "unix:$TEST_DIR/$1.nbd" --id "$CLIENT" -m "$MONITORS" \
		--keyfile "$KEYFILE" "${@:2}"
}

# Where there is no kernel for it, it still looks who uses the image.
map_at() { # DAEMON ARGUMENT...
	urbd_at "$1" map --id "$CLIENT" -m "$MONITORS" --keyfile "$KEYFILE" "${@:2}"
}

# Sets uri_of[DAEMON], too.
exports() { # NAME DAEMON ARGUMENT...
	check "$1" export_at "${@:2}"
	uri_of[$2]=$output
}

# It is refused, within its time, by somebody who is called by address and number.
refused_for() { # PATTERN NAME DAEMON ARGUMENT...
	local begin=$SECONDS
	check_says "$1" "$2" export_at "${@:3}" --timeout 4
	check_equal "$2: in time" "$((SECONDS - begin <= 7))" 1
}

unexports() { # DAEMON NAME...
	local name
	for name in "${@:2}"; do
		urbd_at "$1" unexport --export-name "$name" || not_ok "$1 unexports $name"
	done
}

writes() { # DAEMON BYTE
	timeout 30 qemu-io -f raw -c "write -P $2 0 64k" "${uri_of[$1]}"
}

reads() { # DAEMON BYTE
	timeout 30 qemu-io -r -f raw -c "read -P $2 0 64k" "${uri_of[$1]}"
}

watchers() { # IMAGE: "client.4123 at 10.0.0.1:0/99", a line each
	rbd status "$1" | sed -nE 's/.*watcher=([^ ]+) (client\.[0-9]+) .*/\2 at \1/p'
}

lock_address() { # IMAGE: of the holder
	rbd lock ls "$1" --format json | grep -oE '"address": *"[^"]*"' | cut -d'"' -f4
}

holder() { # IMAGE: the one watcher that holds the lock
	watchers "$1" | grep -F " at $(lock_address "$1")"
}

ends_well() { # NAME PID FILE: a child, and where its output went
	if wait "$2"; then ok "$1"; else not_ok "$1" "$(<"$3")"; fi
}

# ---- the lock

test_exclusive() {
	exports "--exclusive takes the lock" a locked --exclusive
	local first
	first=$(holder locked)
	check "at once, before anything is written" [ -n "$first" ]
	check "it can be written to" writes a 1
	refused_for "$first holds its exclusive lock" "another is refused, and told who has it" \
		b locked --exclusive
	check_equal "nothing is left of that" "$(watchers locked)" "$first"
	check "exported again, it is the same" export_at a locked --exclusive
	check "also by who does not mind" export_at a locked
	check_says "Cannot map rbd/locked: $first holds its exclusive lock" \
		"a device is refused in the same way" map_at b locked --exclusive --timeout 4
	refused_for "$first, this very urbdd, holds" "a second of its own is refused" \
		a locked --exclusive --export-name second --client shared
	exports "one that would share the lock opens" b locked
	check_says "not permitted" "but may not write" writes b 2
	check_equal "the first one has the lock" "$(holder locked)" "$first"
	check "and writes on" writes a 3
	check "and reads what it wrote" reads a 3
	unexports a rbd/locked
	check "the other may write when the lock is free" writes b 2
	check "and reads that" reads b 2
	unexports b rbd/locked
	check_equal "the lock goes with the export" "$(lock_address locked)" ""
}

test_handover() {
	local waiter
	exports "one holds the lock" a locked --lock exclusive
	check "and writes" writes a 2
	export_at b locked --exclusive >"$TEST_DIR/waiter" 2>&1 &
	waiter=$!
	sleep 1.5
	check "another waits for it" kill -0 $waiter
	check_equal "without a watch of its own, or hardly" "$(($(watchers locked | wc -l) <= 2))" 1
	unexports a rbd/locked
	ends_well "and gets it" $waiter "$TEST_DIR/waiter"
	uri_of[b]=$(<"$TEST_DIR/waiter")
	check "with what was written" reads b 2
	kill -KILL "${pid_of[b]}"
	wait "${pid_of[b]}" 2>/dev/null || true
	exports "a dead holder's lock is taken away" a locked --exclusive
	check "and what was written stays" reads a 2
	unexports a rbd/locked
	start_daemon b
}

test_automatic() {
	exports "auto: one" a locked
	check_equal "takes no lock before it writes" "$(lock_address locked)" ""
	exports "auto: another" b locked --lock auto
	check "the first writes" writes a 4
	check "the second writes, too" writes b 5
	check "and the first again" writes a 6
	local first
	first=$(holder locked)
	check_says "without --exclusive already" "that export is no exclusive one" \
		export_at a locked --exclusive
	unexports b rbd/locked
	refused_for "$first holds its exclusive lock" "a holder that would share is left its lock" \
		b locked --exclusive
	check "it writes on" writes a 7
	exports "a read-only export does not ask" b locked --exclusive --read-only
	check "and reads" reads b 7
	unexports b rbd/locked
	rbd snap create --no-progress locked@s
	exports "nor does a snapshot's" b locked@s --exclusive
	check "which reads" reads b 7
	unexports b rbd/locked@s
	unexports a rbd/locked
}

# ---- watchers

test_watchers() {
	check_says "no exclusive-lock feature: add" "--exclusive wants the feature" \
		export_at a plain --exclusive
	check_equal "nothing is left of that" "$(watchers plain)" ""
	exports "without the feature, one may write" a plain
	local first
	first=$(watchers plain)
	refused_for "$first has it open for writing" "another is refused, and told who does" b plain
	check_equal "nothing is left of that" "$(watchers plain)" "$first"
	refused_for "$first, this very urbdd, has it" "a second of its own is refused" \
		a plain --export-name second --client shared
	check_equal "nothing is left of that either" "$(watchers plain)" "$first"
	check_says "Cannot map rbd/plain: $first has it open" "a device is refused in the same way" \
		map_at b plain --timeout 4
	check_equal "nor is anything left of that" "$(watchers plain)" "$first"
	check "exported again, it is the same" export_at a plain
	exports "a read-only export does not look" b plain --read-only
	unexports b rbd/plain
	exports "nor does a snapshot's" b plain@s
	unexports b rbd/plain@s
	exports "nor --lock none" b plain --lock none
	check "both write" bash -c 'qemu-io -f raw -c "write 0 4k" "$1" && qemu-io -f raw -c "write 8k 4k" "$2"' \
		- "${uri_of[a]}" "${uri_of[b]}"
	unexports a rbd/plain
	refused_for "$(watchers plain) has it open" "one that did not look is seen" a plain
	unexports b rbd/plain
	exports "a read-only one is no watcher" b plain --read-only
	exports "and keeps nobody away" a plain
	unexports b rbd/plain
	unexports a rbd/plain
}

# Who asks for an image that somebody else is mapping waits for that, with nothing in its way.
test_together() {
	local children=() child n
	for n in 1 2 3 4; do
		map_at a plain --frontend ublk --timeout 20 >"$TEST_DIR/map.$n" 2>&1 &
		children+=($!)
	done
	for child in "${children[@]}"; do wait "$child" || true; done
	check_equal "of those that map an image at once, none is in another's way" \
		"$(grep -l "has it open" "$TEST_DIR"/map.*)" ""
	check_equal "nothing is left of that" "$(watchers plain)" ""
}

# Sends a map to b and hangs up when it waits for others; or says no more, and takes the answer.
map_and() { # hang-up|listen
	/usr/bin/python3 - "$1" "$TEST_DIR/b.ctl" <<-END
		import json, os, socket, sys
		peer = socket.socket(socket.AF_UNIX)
		peer.settimeout(60)
		peer.connect(sys.argv[2])
		params = {"image": "plain", "user": os.environ["CLIENT"], "monitors": os.environ["MONITORS"],
		          "key": open(os.environ["KEYFILE"]).read().strip(), "timeout": 60}
		request = {"jsonrpc": "2.0", "id": 1, "method": "map", "params": params}
		peer.sendall(json.dumps(request).encode() + b"\n")
		if sys.argv[1] == "listen":
		    peer.shutdown(socket.SHUT_WR)
		for line in peer.makefile():
		    message = json.loads(line)
		    if "error" in message:
		        sys.exit(message["error"]["message"])
		    if sys.argv[1] == "hang-up" and "waiting for others" in message["params"]["text"]:
		        sys.exit()
		sys.exit("no answer")
	END
}

# Who goes away while a map of his waits for others wants no device any more.
test_vanished() {
	local first
	exports "one writes" a plain
	first=$(watchers plain)
	check "another one waits to map it, and hangs up" map_and hang-up
	check "the daemon waits no longer then" eventually 8 \
		grep -q "the map of rbd/plain is given up: who asked for it has gone away" "$TEST_DIR/b.log"
	check_equal "nothing is left of that" "$(watchers plain)" "$first"
	check_says "$first has it open" "one that says no more gets its answer" map_and listen
	check_equal "only the one was given up" "$(grep -c "is given up" "$TEST_DIR/b.log")" 1
	unexports a rbd/plain
}

test_patience() {
	local waiters begin=$SECONDS got=0
	exports "one writes" a plain
	check_says "has it open for writing" "another waits" export_at b plain
	check_equal "for about ten seconds" "$((SECONDS - begin >= 9 && SECONDS - begin <= 15))" 1
	start_daemon c
	export_at b plain >"$TEST_DIR/b.out" 2>&1 &
	waiters=($!)
	export_at c plain >"$TEST_DIR/c.out" 2>&1 &
	waiters+=($!)
	sleep 2
	unexports a rbd/plain
	for waiter in "${waiters[@]}"; do ! wait "$waiter" || got=$((got + 1)); done
	check_equal "of two that wait for a third, one gets it" "$got" 1
	check "the other is told who did" grep -hq "$(watchers plain) has it open" "$TEST_DIR"/[bc].out
	unexports b rbd/plain 2>/dev/null
	unexports c rbd/plain 2>/dev/null
}

# The cluster falls silent while one waits: its time is kept all the same.
test_silence() {
	local begin waiter
	exports "one writes" a plain
	export_at b plain --timeout 6 >"$TEST_DIR/silent" 2>&1 &
	waiter=$!
	sleep 1
	"$lab/cluster" stop "$CLUSTER" --kill osd.0
	begin=$SECONDS
	wait $waiter && not_ok "a wait ends when the cluster falls silent" || ok "a wait ends when the cluster falls silent"
	check_equal "in time" "$((SECONDS - begin <= 8))" 1
	check "and says so" grep -qE 'does not answer|open for writing' "$TEST_DIR/silent"
	"$lab/cluster" start "$CLUSTER"
	check "nothing is left of it once it speaks" eventually 30 one_watcher plain
	unexports a rbd/plain
}

# ---- an export's client is cut off from the cluster, and another one is to follow

# Whoever asks the cluster anew brings its OSD the map that says so.
cut_off() { # ADDRESS
	check "the client at $1 is blocklisted" timeout 60 ceph --conf "$CEPH_CONF" --name client.admin osd blocklist add "$1"
	watchers plain >/dev/null
}

is_because() { # DAEMON PATTERN: its one export's state and reason
	urbd_at "$1" status --format json | jq -r '.exports[0] | .state + ": " + .reason' | grep -qE "$2"
}

begin_write() { # DAEMON BYTE
	timeout 120 qemu-io -f raw -c "write -P $2 0 64k" "${uri_of[$1]}" >"$TEST_DIR/write" 2>&1 &
	writer=$!
}

# The client of `a` is cut off when `b` has its image, too, and is asked to write: BYTE is what waits then.
shared_and_cut_off() { # NAME BYTE
	local first
	first=$(watchers plain)
	exports "$1" b plain --lock none
	cut_off "${first##* }"
	begin_write a "$2"
}

# Who watches may be dead, or an earlier try of ours that is not closed yet: it gets some time.
test_successor() {
	local writer
	exports "one writes" a plain
	check "to an image without a lock" writes a 1
	shared_and_cut_off "another one shares it" 2
	check "the first one waits for the other, and says so" eventually 60 is_because a '^blocked: .*has it open for writing'
	unexports b rbd/plain
	ends_well "and goes on when that is gone" $writer "$TEST_DIR/write"
	check "what it wrote is there" reads a 2
	shared_and_cut_off "another one shares it again" 3
	check "and stays: then the first one has failed" eventually 120 is_because a '^failed: .*has it open for writing.*must not follow'
	if wait $writer; then not_ok "what it had not written fails"; else ok "what it had not written fails"; fi
	check "what was there stands" reads b 2
	unexports a rbd/plain
	unexports b rbd/plain
}

lock_ids() { # IMAGE: name and locker, as 'rbd lock rm' wants them
	rbd lock ls "$1" --format json | jq -r '.[] | .id, .locker'
}

test_by_hand() {
	local writer ids
	exports "one writes" a locked
	check "to an image with a lock" writes a 1
	mapfile -t ids < <(lock_ids locked)
	cut_off "$(lock_address locked)"
	check "its lock is taken away" rbd lock rm locked "${ids[@]}"
	check "and set by hand" rbd lock add locked hand
	begin_write a 2
	check "it waits, and says why" eventually 60 is_because a '^blocked: .*is locked by hand'
	mapfile -t ids < <(lock_ids locked)
	check "that lock is taken away" rbd lock rm locked "${ids[@]}"
	ends_well "and it goes on" $writer "$TEST_DIR/write"
	check "what it wrote is there" reads a 2
	unexports a rbd/locked
}

one_watcher() { # IMAGE
	[[ $(watchers "$1" | wc -l) = 1 ]]
}

rbd create locked --size 64M
rbd create plain --size 64M --image-feature layering
rbd snap create --no-progress plain@s
start_daemon a
start_daemon b
tests=("$@")
(($#)) || tests=(exclusive handover automatic watchers together vanished patience silence
	successor by_hand)
for name in "${tests[@]}"; do "test_$name"; done
