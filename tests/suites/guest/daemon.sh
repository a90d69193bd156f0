# shellcheck shell=bash
# daemon.sh - urbdd under test, for scripts that run where the kernel has a frontend. Sourced after lib.sh.

export URBD_SOCKET=/run/urbd-test/urbd.sock
state_dir=/run/urbd-test/state
daemon_log=/run/urbd-test.log
urbd=$build/cli/urbd
urbdd=$build/daemon/urbdd

urbdd_wrapper=() # a command that runs it

start_daemon() { # [OPTION...]
	"${urbdd_wrapper[@]}" "$urbdd" --state-dir "$state_dir" "$@" 2>>"$daemon_log" &
	daemon=$!
	on_exit stop_daemon
	eventually 120 "$urbd" version >/dev/null 2>&1 || {
		cat "$daemon_log" >&2
		return 1
	}
}

stop_daemon() {
	[[ -n ${daemon:-} ]] || return 0
	kill "$daemon" 2>/dev/null
	wait "$daemon" 2>/dev/null
	daemon=
}

# Everything that the daemon holds, as one line: what must be the same after as before.
daemon_holds() {
	echo "descriptors $(ls "/proc/$daemon/fd" | wc -l) threads $(ls "/proc/$daemon/task" | wc -l)"
}

daemon_memory_kib() { awk '/^RssAnon/ { print $2 }' "/proc/$daemon/status"; }

nothing_is_mapped() {
	[[ $("$urbd" list --format json) = "[]" ]] && [[ -z $(ls "$state_dir"/*.json 2>/dev/null) ]] &&
		! compgen -G '/dev/ublkc[0-9]*' >/dev/null && ! compgen -G '/dev/ublkb[0-9]*' >/dev/null &&
		! compgen -G '/sys/block/nbd*/pid' >/dev/null
}
