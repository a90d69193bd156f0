#!/bin/bash
# about: what a request and an image cost, in counts: instructions, system calls, switches, copies, threads
# limit: 900
. "$(dirname "$0")/../lib.sh"
require_program valgrind valgrind
require_program strace strace
require_program fio fio
require_python rbd python3-rbd

# The table. What tests/bench/costs counted when the bounds were set, and the bounds. The lower one is half of what was
# counted: less than that is a counter that does not count, or a gain that belongs into the table. The upper one is 10 to
# 25 % above it, for switches up to three times; or what an aim says. A change that makes a request cheaper lowers the bounds; one that makes it dearer than this says why in its commit, and raises
# them.
#
# All for 4 KiB: d1 one at a time, b32 in batches of 32, fio32 fio with 32 in flight. Calls and switches are the median
# of three runs. Where requests or answers come one by one while others are on their way (fio32, and with RBD b32), the
# machine's scheduling decides how many a turn finds: from a busy machine, where they pile up, to one that takes each
# by itself. So the lower bound is there one call for all 32, and that it switches at all. The upper one is for fio32 a
# turn for each (and half a turn more for a write, which fio sends in two pieces), for b32 twice of what was counted. A
# batch of writes is five pieces in the socket, which the server may come to see one by one: 0.16 calls then, where the
# aim of fewer than 0.1 is met when it sees them together.
#
# With RBD calls and switches are those of urbdd's queue thread: the others are librbd's. What the daemon copies at its
# start is spread over the few requests under valgrind: with RBD, 74 bytes. The ratio is that of all instructions with
# librbd to the bare loop's, which differ by a few hundredths.
#
#   count                         measured  at least  at most
bounds='
    null-read-d1-calls               1.001     0.5     1.1
    null-read-b32-calls              0.032     0.016   0.04
    null-read-fio32-calls            0.844     0.03    1.03
    null-write-d1-calls              1.001     0.5     1.1
    null-write-b32-calls             0.064     0.032   0.17
    null-write-fio32-calls           0.500     0.03    1.5
    null-read-d1-switches            1.037     0.5     1.5
    null-read-b32-switches           0.032     0.016   0.09
    null-read-fio32-switches         0.761     0.001   1.2
    null-write-d1-switches           1.018     0.5     1.5
    null-write-b32-switches          0.032     0.016   0.1
    null-write-fio32-switches        0.489     0.001   1
    rbd-read-d1-calls                2.990     1.5     3.2
    rbd-read-b32-calls               0.287     0.03    0.6
    rbd-write-d1-calls               2.965     1.5     3.2
    rbd-write-b32-calls              0.510     0.03    1
    rbd-read-d1-switches             2.181     1.1     3
    rbd-read-b32-switches            0.242     0.001   0.45
    rbd-write-d1-switches            2.322     1.1     3
    rbd-write-b32-switches           0.450     0.001   0.85
    null-read-d1-instructions     1587       793    2000
    null-read-b32-instructions     758       379     870
    null-write-d1-instructions    1754       877    2200
    null-write-b32-instructions    865       432    1000
    rbd-read-d1-instructions      2283      1141    2650
    rbd-write-d1-instructions     2347      1173    2800
    null-read-d1-copied              2         1       3
    null-write-d1-copied          4097      2048    4300
    rbd-read-d1-copied              74        37      90
    rbd-write-d1-copied           4164      2048    4300
    floor-read-ratio                 1.055     0.9     1.15
    floor-write-ratio                1.077     0.9     1.2
'
images=256 # on one daemon
few=64     # from here on the client pool is full: nothing grows any more

declare -A counted=()

count_costs() { # OPTION...
	local name value
	while read -r name value; do
		[[ $name = '#' ]] || counted[$name]=$value
	done < <(tests/bench/costs --build "$build" --image "$POOL/cost" "$@" 2>>"$TEST_DIR/costs.err")
}

is_within() { # LEAST VALUE MOST
	awk -v least="$1" -v value="$2" -v most="$3" 'BEGIN {exit !(least <= value && value <= most)}'
}

hold_bounds() {
	local name was least most value
	while read -r name was least most; do
		[[ -n $name ]] || continue
		value=${counted[$name]:-}
		if [[ -z $value ]]; then
			not_ok "$name is counted" "$(tail -n 5 "$TEST_DIR/costs.err")"
		elif is_within "$least" "$value" "$most"; then
			ok "$name: $value, from $least to $most"
		else
			not_ok "$name: $value, from $least to $most" "It was $was when the bounds were set."
		fi
	done <<<"$bounds"
}

# ---- many images on one daemon

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

create_images() {
	near_cluster $python3 - "$CEPH_CONF" "$CLIENT" "$POOL" "$images" <<'END'
import rados, rbd, sys
conf, user, pool, count = sys.argv[1:]
with rados.Rados(conffile=conf, rados_id=user) as cluster, cluster.open_ioctx(pool) as ioctx:
    for number in range(int(count)):
        rbd.RBD().create(ioctx, f"many{number}", 64 << 20)
END
}

export_images() { # FIRST BEYOND
	local number
	for ((number = $1; number < $2; number++)); do
		"$urbd" export "$POOL/many$number" --conf "$CEPH_CONF" --id "$CLIENT" --keyfile "$KEYFILE" \
			--timeout 120 >/dev/null || return
	done
}

held() { # what must not grow with the number of images
	echo "threads $(ls "/proc/$daemon/task" | wc -l) sockets $(find "/proc/$daemon/fd" -lname 'socket:*' | wc -l)"
}

# A connection of the control socket's may still be ending.
settled() {
	local before
	before=$(held)
	sleep 1
	[[ $(held) = "$before" ]]
}

many_images() {
	local then now
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --listen "unix:$TEST_DIR/nbd" \
		>"$TEST_DIR/urbdd.log" 2>&1 &
	daemon=$!
	eventually 60 "$urbd" version >/dev/null 2>&1 || not_ok "the daemon starts" "$(<"$TEST_DIR/urbdd.log")"
	check "$images images are made" create_images
	check "$few images are exported" export_images 0 $few
	eventually 30 settled || true
	then=$(held)
	check "$images images are exported" export_images $few $images
	eventually 30 settled || true
	now=$(held)
	check_equal "$images images hold the threads and sockets of $few" "$now" "$then"
	check_equal "all of them are served" "$(nbdinfo --list "nbd+unix:///?socket=$TEST_DIR/nbd" |
		grep -c '^export=')" $images
	note "$images images on one daemon: $now, $(awk '/^Private/ {sum += $2} END {print int(sum / 1024)}' \
		"/proc/$daemon/smaps_rollup") MiB private"
	kill -TERM "$daemon"
	wait "$daemon" || not_ok "the daemon ends cleanly"
}

on_exit "$lab/cluster" stop "$TEST_DIR/ceph" --wipe
"$lab/cluster" start "$TEST_DIR/ceph" || exit 1 # on loopback: what is exported needs no guest
use_cluster ceph
near_cluster rbd --id "$CLIENT" create "$POOL/cost" --size 16M
count_costs
count_costs --floor
hold_bounds
many_images
