#!/bin/bash
# about: settings that trade one thing for another: what they do, on exports
# limit: 300
. "$(dirname "$0")/../lib.sh"
require_program fio fio

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

start_daemon() { # OPTION...
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --listen "unix:$TEST_DIR/nbd" "$@" \
		>"$TEST_DIR/urbdd.log" 2>&1 &
	daemon=$!
	eventually 60 "$urbd" version >/dev/null 2>&1 || {
		not_ok "the daemon starts" "$(<"$TEST_DIR/urbdd.log")"
		exit 1
	}
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
