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

# What auto must choose, told by the kernel's version, which is nothing that urbd goes by: Debian's 6.1 is
# built without ublk, and all kernels since are built with it.
auto_frontend() {
	case $(uname -r) in
	6.1.*) echo nbd ;;
	*) echo ublk ;;
	esac
}

state_of() { # DEVICE
	"$urbd" status "$1" --format json 2>/dev/null | jq -r '.devices[0].state'
}
is_in_state() { [[ $(state_of "$1") = "$2" ]]; }

# ---- sizes

has_size() { [[ $(<"/sys/block/${1#/dev/}/size") = $(($2 << 11)) ]]; } # DEVICE MIB
keeps_its_size() { "$urbd" status "$1" | grep -q "keeps its old size, and its image has $(($2 << 20)) bytes now"; } # DEVICE MIB
says_nothing_of_size() { ! "$urbd" status "$1" | grep -q "keeps its old size"; } # DEVICE

# nbd can on every kernel, ublk from Linux 6.16 on. Of a device that is served.
can_follow() { [[ $1 = /dev/nbd* ]] || "$urbd" status "$1" | grep -q update-size; } # DEVICE

# A device has the size of its image, as status tells, too; or status tells that it cannot follow.
check_follows() { # NAME DEVICE MIB
	eventually 120 is_in_state "$2" live || not_ok "$1: it is live"
	if can_follow "$2"; then
		check "$1: the device has $3 MiB" eventually 120 has_size "$2" "$3"
		check "$1: status says so, and no more" eventually 60 says_size "$2" "$3"
	else
		check "$1: status says that the device keeps its old size, and not that of its image, $3 MiB" \
			eventually 120 keeps_its_size "$2" "$3"
	fi
}
says_size() { # DEVICE MIB
	[[ $("$urbd" status "$1" --format json | jq '.devices[0].size') = $(($2 << 20)) ]] && says_nothing_of_size "$1"
}
