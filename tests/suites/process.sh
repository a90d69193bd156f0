#!/bin/bash
# about: what urbdd asks of the kernel for itself: reclaim, the OOM killer, file descriptors, a mount namespace; its unit
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

in_namespace() { # PROPAGATION SCENARIO
	unshare --mount --propagation "$1" bash tests/suites/process.sh "$2" || failures=$((failures + 1))
}

namespace_of() { readlink "/proc/$1/ns/mnt"; }
has_mounted() { grep -q " $1 " "/proc/$daemon/mountinfo"; }

mounts_come_and_go() {
	mkdir "$work/before" "$work/after"
	mount -t tmpfs before "$work/before"
	start_daemon
	check_code 1 "it has a mount namespace of its own" [ "$(namespace_of "$daemon")" = "$(namespace_of self)" ]
	check "with what was mounted before" has_mounted "$work/before"
	mount -t tmpfs after "$work/after"
	truncate -s 64M "$work/after/image"
	check "and what is mounted later" "$urbd" export --export-name later "file:$work/after/image"
	check "an image there is let go of" "$urbd" unexport later
	check "both can be unmounted" umount "$work/before" "$work/after"
	check_code 1 "it does not hold the one" has_mounted "$work/before"
	check_code 1 "nor the other" has_mounted "$work/after"
	check "the mount points can be removed" rmdir "$work/before" "$work/after"
	end_process "$daemon"
}

mounts_would_not_follow() {
	start_daemon
	check_equal "where mounts would not follow it stays with them" "$(namespace_of "$daemon")" "$(namespace_of self)"
	end_process "$daemon"
}

# A urbdd that comes back finds its device mounted.
its_devices_can_be_unmounted() {
	local device
	truncate -s 64M "$work/image"
	mkdir "$work/volume"
	start_daemon
	device=$("$urbd" map "file:$work/image")
	mkfs.ext4 -q "$device"
	mount "$device" "$work/volume"
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null || true
	start_daemon
	check "the mount of its own device is in its namespace" has_mounted "$work/volume"
	check_code 1 "which is its own" [ "$(namespace_of "$daemon")" = "$(namespace_of self)" ]
	check "its device can be unmounted" umount "$work/volume"
	check "the mount point can be removed" rmdir "$work/volume"
	check "nobody holds the device any more" "$urbd" unmap "$device"
	end_process "$daemon"
}

# What systemd would say of the unit; it complains on stderr and ends with 0.
the_unit_is_taken() {
	sed "s,^ExecStart=[^ ]*,ExecStart=$(realpath "$build/daemon/urbdd")," "$build/systemd/urbd.service" >"$work/urbd.service"
	check_equal "systemd understands all of the unit" "$(systemd-analyze verify --man=no "$work/urbd.service" 2>&1)" ""
}

in_the_guest() {
	it_protects_itself
	in_namespace shared its_devices_can_be_unmounted
}

if (($#)); then
	"$@"
	exit
fi
if command -v systemd-analyze >/dev/null; then
	the_unit_is_taken
else
	skip "the unit" "systemd is not installed"
fi
without_the_capability
few_descriptors
if unshare --mount true 2>/dev/null; then
	in_namespace shared mounts_come_and_go
	in_namespace private mounts_would_not_follow
else
	skip "a mount namespace" "mounts need root"
fi
in_guest bash tests/suites/process.sh in_the_guest || not_ok "the guest ends well" "exit $?"
