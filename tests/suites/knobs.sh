#!/bin/bash
# about: settings that trade one thing for another: what they do, on exports
# limit: 300
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_program fio fio
require_program nbdcopy libnbd-bin
require_python nbd python3-libnbd

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

start_daemon() { # OPTION...
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --listen "unix:$TEST_DIR/nbd" "$@" \
		>"$TEST_DIR/urbdd.log" 2>&1 &
	daemon=$!
	await_daemon "the daemon starts" "$TEST_DIR/urbdd.log" "$urbd"
}

stop_daemon() {
	kill -TERM "$daemon"
	wait "$daemon" || not_ok "the daemon ends cleanly"
}

# ---- CPUs of the queues

queue_cpus() { # of each queue thread: where it may run
	local task
	for task in /proc/"$daemon"/task/*; do
		grep -q urbd-queue "$task/comm" &&
			awk '/^Cpus_allowed_list/ {print $2}' "$task/status"
	done | xargs
}

cpu=$(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)
cpu=${cpu%%[,-]*}
start_daemon --queues 2
check_equal "queues run where the daemon may" "$(queue_cpus)" \
	"$(awk '/^Cpus_allowed_list/ {print $2, $2}' /proc/$$/status)"
stop_daemon
start_daemon --queues 2 --queue-cpus "$cpu"
check_equal "--queue-cpus: each on one of them" "$(queue_cpus)" "$cpu $cpu"
stop_daemon
if [[ $(nproc) -gt 1 ]]; then
	both=$(taskset -cp $$ | sed 's/.*: //')
	start_daemon --queue-cpus "$both"
	check_equal "without --queues: one a CPU, each on its own" \
		"$(queue_cpus | xargs -n1 | grep -vc '[,-]') $(queue_cpus | xargs -n1 | sort -u | wc -l)" \
		"$(nproc) $(nproc)"
	stop_daemon
else
	skip "without --queues: one a CPU, each on its own" "there is one CPU"
fi
check_says 'Cannot run a queue on CPU 1023' "a CPU that is not there" \
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --queue-cpus 1023
check_code 2 "a list that is none" "$build/daemon/urbdd" --queue-cpus 3-1

# ---- which queue serves whom

sleeps_by_queue() { # how often each went to sleep
	local task
	for task in $(grep -l urbd-queue /proc/"$daemon"/task/*/comm | sort); do
		awk '/^voluntary_ctxt_switches/ {print $2}' "${task%/*}/status"
	done
}

# Two clients that stay, and between them one that is gone again, send 500 reads one after the other.
# Prints the number of the queue that answers each.
queues_of_two_clients() {
	local uri="nbd+unix:///spread?socket=$TEST_DIR/nbd" client before after fifo=$TEST_DIR/fifo
	rm -f "$fifo".*
	mkfifo "$fifo.in" "$fifo.out"
	$python3 -u -c '
import nbd, sys
def connect():
    handle = nbd.NBD()
    handle.connect_uri(sys.argv[1])
    return handle
first, brief = connect(), connect()
brief.shutdown()
second = connect()
for line in sys.stdin:
    for _ in range(500):
        (first if line == "first\n" else second).pread(512, 0)
    print("done")' "$uri" <"$fifo.in" >"$fifo.out" & client=$!
	exec 7>"$fifo.in" 8<"$fifo.out"
	for who in first second; do
		before=$(sleeps_by_queue)
		echo $who >&7
		read -r -t 60 <&8
		after=$(sleeps_by_queue)
		paste <(echo "$before") <(echo "$after") | awk '$2 - $1 > most {most = $2 - $1; queue = NR} END {print queue}'
	done
	exec 7>&- 8<&-
	wait "$client"
}

start_daemon --queues 2
"$urbd" export null:1G --export-name spread >/dev/null
two_queues_serve() { [[ $(queues_of_two_clients | sort -u | wc -l) = 2 ]]; } # the brief one may be yet to leave
check "two clients are served by two queues, whoever came between them" eventually 20 two_queues_serve
stop_daemon

# ---- busy polling

queue_sleeps() { # how often the queue threads went to sleep
	cat /proc/"$daemon"/task/*/status |
		awk '/^Name:/ {queue = $2 ~ /^urbd-queue/}
			/^voluntary_ctxt_switches/ && queue {sum += $2} END {print sum}'
}

sleeps_of_reads() { # of 2000 reads of 4 KiB, one after the other
	local before
	"$urbd" export null:1G --export-name polled >/dev/null
	before=$(queue_sleeps)
	timeout 60 fio --name=f --ioengine=nbd --uri="nbd+unix:///polled?socket=$TEST_DIR/nbd" \
		--rw=randread --bs=4k --size=64M --number_ios=2000 --output=/dev/null || echo failed >&2
	echo $(($(queue_sleeps) - before))
}

start_daemon --queues 1 --busy-poll 0
sleeping=$(sleeps_of_reads)
stop_daemon
start_daemon --queues 1 --busy-poll 10000
polling=$(sleeps_of_reads)
check "--busy-poll: hardly a sleep between requests ($sleeping without it, $polling with it)" \
	test "$sleeping" -gt $((100 + 5 * polling))
queues_sleep() { # now
	! grep -h ^State: $(grep -l '^Name:.urbd-queue' /proc/"$daemon"/task/*/status) | grep -q R
}
check "but a thread without work sleeps" eventually 10 queues_sleep
stop_daemon
check_code 2 "more than it takes" "$build/daemon/urbdd" --busy-poll 10001
check_code 2 "no number" "$build/daemon/urbdd" --busy-poll much

# ---- the size of a request

# Refused is what is larger, whatever the replies look like; the connection goes on.
larger_requests_are_refused() { # URI BYTES
	$python3 -c '
import errno, nbd, sys
uri, most = sys.argv[1], int(sys.argv[2])
def error_of(call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        return error.errnum
data = b"d" * most
for structured, too_much in (True, errno.EOVERFLOW), (False, errno.EINVAL):
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    handle.set_strict_mode(0)
    handle.connect_uri(uri)
    handle.pwrite(data, 0)
    assert error_of(handle.pread, most + 512, 0) == too_much
    assert error_of(handle.pwrite, bytes(most + 512), 0) == errno.EINVAL
    assert handle.pread(most, 0) == data
    handle.shutdown()' "$@"
}

uri="nbd+unix:///limited?socket=$TEST_DIR/nbd"
truncate -s 64M "$TEST_DIR/limited"
start_daemon --export-request 2M
"$urbd" export "file:$TEST_DIR/limited" --export-name limited >/dev/null
check "--export-request: a larger read or write is refused" larger_requests_are_refused "$uri" $((2 << 20))
check "and others are served" nbdcopy "$uri" null:
stop_daemon

# ---- the time of a handshake

# Both clients say nothing, and the one at SOCKET came last: it is cut off while the other may stay.
cut_off_first() { # SOCKET OTHER
	timeout 60 $python3 -c '
import select, socket, sys
socks = []
for path in sys.argv[2], sys.argv[1]:
    socks.append(socket.socket(socket.AF_UNIX))
    socks[-1].connect(path)
    assert len(socks[-1].recv(18, socket.MSG_WAITALL)) == 18
ended, _, _ = select.select(socks, [], [])
assert ended == socks[1:] and socks[1].recv(1) == b""' "$@"
}

start_daemon --export-handshake 1
"$build/tests/tools/nbd-serve" "unix:$TEST_DIR/other" disk=null:1M >"$TEST_DIR/other.out" & other=$!
on_exit end_process "$other"
eventually 60 grep -qs ^ready "$TEST_DIR/other.out" || not_ok "another server starts"
check "--export-handshake: sooner than by default" cut_off_first "$TEST_DIR/nbd" "$TEST_DIR/other"
end_process "$other"
stop_daemon

# ---- memory that was idle

URBD_LAB_KERNEL=host start_cluster # exports need no kernel device
rbd() { timeout 60 rbd --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" "$@"; }

export_image() { # IMAGE ARGUMENT...
	"$urbd" export "$POOL/$1" --export-name "$1" --id "$CLIENT" -m "$MONITORS" \
		--keyfile "$KEYFILE" "${@:2}"
}

burst() { # IMAGE...: see the tool
	timeout 200 $python3 tests/tools/nbd-burst.py "$TEST_DIR/nbd" "$daemon" "$@"
}

images=(one two three four)
for image in "${images[@]}"; do rbd create --size 32M "$image"; done
start_daemon --trim 5
for image in "${images[@]}"; do check "$image is exported" export_image "$image"; done
check "a burst, and the data is there when its memory is not" burst "${images[@]}"
read -r before after left <<<"$output"
check "the burst took memory ($before MiB before it, $after after it)" test "$after" -gt $((before + 32))
check "--trim: what is idle gives it back ($left MiB)" test "$left" -le $((before + 16))
stop_daemon
check_code 2 "no time to trim after" "$build/daemon/urbdd" --trim -1

# ---- threads of a client

answer_threads() { grep -lx io_context_pool /proc/"$daemon"/task/*/comm | wc -l; }

start_daemon
export_image one --client shared >/dev/null
check_equal "one thread takes a client's answers" "$(answer_threads)" 1
export_image two --client isolated -o librados_thread_count=3 >/dev/null
check_equal "or as many as are asked for" "$(answer_threads)" 4
stop_daemon

# ---- limits on I/O

reads() { # IMAGE: how many reads 3 seconds take
	timeout 60 fio --name=f --ioengine=nbd --uri="nbd+unix:///$1?socket=$TEST_DIR/nbd" \
		--rw=randread --bs=4k --iodepth=16 --size=16M --time_based --runtime=3 \
		--output-format=json --output="$TEST_DIR/fio.json" >&2
	$python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["read"]["total_ios"])' \
		<"$TEST_DIR/fio.json"
}

settings() { # EXPORT: what status tells, as NAME=VALUE ...
	"$urbd" status --format json | $python3 -c 'import json, sys
row, = [e for e in json.load(sys.stdin)["exports"] if e["name"] == sys.argv[1]]
print(*("%s=%s" % s for s in sorted(row.get("settings", {}).items())))' "$1"
}

start_daemon
export_image one --client shared >/dev/null
export_image two --client shared >/dev/null
check_equal "nothing is set" "$(settings one)" ""
check "set" "$urbd" set "$POOL/one" rbd_qos_iops_limit=50
check_equal "status shows it" "$(settings one)" rbd_qos_iops_limit=50
check "and the plain one" grep -q 'setting .*rbd_qos_iops_limit=50' <("$urbd" status)
limited=$(reads one)
other=$(reads two)
check "50 IOPS are kept ($limited reads in 3 s)" test "$limited" -gt 0 -a "$limited" -lt 400
check "an export of the same client does not notice ($other)" test "$other" -gt $((5 * limited))
check "set to 0" "$urbd" set "nbd+unix:///one?socket=$TEST_DIR/nbd" rbd_qos_iops_limit=0
free=$(reads one)
check "then there is no limit ($free)" test "$free" -gt $((5 * limited))
check "two settings at once" \
	"$urbd" set --export-name one rbd_qos_write_bps_limit=8M rbd_qos_iops_limit=
check_equal "and one taken away" "$(settings one)" rbd_qos_write_bps_limit=8M
"$urbd" set "$POOL/one" rbd_qos_write_bps_limit=

# Its data stays as it was written while settings change under it.
timeout 120 fio --name=f --ioengine=nbd --uri="nbd+unix:///two?socket=$TEST_DIR/nbd" --rw=randwrite \
	--verify=crc32c --verify_backlog=64 --verify_state_save=0 --bs=4k --iodepth=16 --size=8M --time_based --runtime=6 \
	--output="$TEST_DIR/verify" &
writer=$!
for limit in 2000 0 500 4000 ''; do
	sleep 0.7
	check "set under load: '$limit'" "$urbd" set "$POOL/two" rbd_qos_iops_limit=$limit
done
if wait "$writer"; then
	ok "no request failed, no data is wrong"
else
	not_ok "no request failed, no data is wrong" "$(<"$TEST_DIR/verify")"
fi

refused() { # PATTERN NAME SETTING...
	check_says "$1" "$2" "$urbd" set "$POOL/one" "${@:3}"
}
refused "knows no option 'rbd_qos_iops_limitt'" "an option that librbd lacks" rbd_qos_iops_limitt=5
refused "does not take the value" "a value that is none" rbd_qos_iops_limit=many
refused "less than the limit" "a burst below its limit" rbd_qos_iops_limit=100 rbd_qos_iops_burst=50
rbd config image set one rbd_qos_iops_limit 70
refused "The metadata of the image .* sets rbd_qos_iops_limit" "what the image sets itself" rbd_qos_iops_limit=5
check_equal "a refusal changes nothing" "$(settings one)" ""
rbd config image rm one rbd_qos_iops_limit
"$urbd" export null:1M --export-name null >/dev/null
check_says "Only images in a Ceph cluster" "what is no RBD image" \
	"$urbd" set --export-name null rbd_qos_iops_limit=5
check_says "neither mapped nor exported" "what is not there" "$urbd" set "$POOL/none" rbd_qos_iops_limit=5
check "unexported" "$urbd" unexport "$POOL/one"
check "exported anew" export_image one --client shared
check_equal "the settings were the export's" "$(settings one)" ""
stop_daemon
