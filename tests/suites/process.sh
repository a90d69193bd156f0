#!/bin/bash
# about: what urbdd asks of the kernel for itself: reclaim, the OOM killer, file descriptors
# limit: 400
. "$(dirname "$0")/../lib.sh"
require_program setpriv util-linux

urbd=$build/cli/urbd
work=$(mktemp -d /run/urbd-process.XXXXXX)
on_exit rm -rf "$work"
export URBD_SOCKET=$work/ctl
log=$work/log

answers() { "$urbd" version >/dev/null 2>&1; }

start_daemon() { # [COMMAND...]: which runs it
	"$@" "$build/daemon/urbdd" --state-dir "$work/state" --listen "unix:$work/nbd" 2>"$log" &
	daemon=$!
	on_exit end_process "$daemon"
	check "the daemon starts" eventually 60 answers
}

# Threads that lack one of the flags that PR_SET_IO_FLUSHER gives: PF_MEMALLOC_NOIO, PF_LOCAL_THROTTLE.
not_io_flushers() {
	local stat flags
	for stat in /proc/"$daemon"/task/*/stat; do
		flags=$(sed 's/.*) //' "$stat" | cut -d' ' -f7)
		(((flags & 0x180000) == 0x180000)) || sed 's/) .*/)/' "$stat"
	done
}

limit_of() { awk -v column="$1" '/^Max open files/ { print $column }' "/proc/$daemon/limits"; } # 4: soft, 5: hard

it_protects_itself() {
	start_daemon prlimit --nofile=256:4096
	check "an export makes more threads" "$urbd" export null:64M
	check_equal "each thread is an I/O flusher" "$(not_io_flushers)" ""
	check_equal "the OOM killer takes others first" "$(<"/proc/$daemon/oom_score_adj")" -999
	check_equal "it may open as many files as it can be allowed" "$(limit_of 4) $(limit_of 5)" "4096 4096"
	check_equal "it complains of nothing" "$(grep -i cannot "$log" || true)" ""
	end_process "$daemon"
}

without_the_capability() {
	start_daemon setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource choom -n 0 --
	check "without CAP_SYS_RESOURCE it works" "$urbd" export null:64M
	check "and says that it is no I/O flusher" grep -q 'Cannot become an I/O flusher.*CAP_SYS_RESOURCE' "$log"
	check "and that the OOM killer may take it" grep -q 'Cannot protect this process from the OOM killer' "$log"
	end_process "$daemon"
}

few_descriptors() {
	start_daemon prlimit --nofile=70:70
	check_says 'of its 70 file descriptors: raise its limit' "with few file descriptors left a map says what to raise" \
		"$urbd" map null:64M
	check "the daemon goes on" "$urbd" version
	end_process "$daemon"
}

has_the_capability() { # CAP_SYS_RESOURCE
	((0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> 24 & 1))
}

if (($#)); then
	"$@"
	exit
fi
without_the_capability
few_descriptors
if has_the_capability; then
	it_protects_itself
else # as in a container
	in_guest bash tests/suites/process.sh it_protects_itself || not_ok "the guest ends well" "exit $?"
fi
