#!/bin/bash
# about: what urbdd makes of its records at start: good and bad ones, and of devices that it cannot look at
# limit: 300
. "$(dirname "$0")/../lib.sh"
require_program jq jq
unshare --mount true 2>/dev/null || skip_all "mounts need root"

urbd=$build/cli/urbd
urbdd=$build/daemon/urbdd
export URBD_SOCKET=$TEST_DIR/ctl
state=$TEST_DIR/state
log=$TEST_DIR/log
boot=$(</proc/sys/kernel/random/boot_id)
dead=4194304 # more than any process has
mkdir -p -m 700 "$state"
mkdir -p "$TEST_DIR/sys/block" "$TEST_DIR/sys/class"
truncate -s 16M "$TEST_DIR/image"

# ---- a kernel that has what the test says: enough for urbdd to find a device, not to serve it

run_daemon() { # OPTION...
	exec unshare --mount bash -c 'mount --bind "$1/block" /sys/block && mount --bind "$1/class" /sys/class && exec "${@:2}"' \
		- "$TEST_DIR/sys" "$urbdd" --state-dir "$state" "$@" 2>"$log"
}

start_daemon() { # OPTION...
	run_daemon "$@" & daemon=$!
	on_exit end_process "$daemon"
	check "the daemon starts" eventually 60 answers
}

answers() { "$urbd" version >/dev/null 2>&1; }

kill_daemon() {
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null || true
}

identity_of() { # FILE
	stat -c 'file:%Hd.%Ld:%i' "$1"
}

nbd_device() { # NUMBER IDENTITY: one whose server is dead
	mkdir -p "$TEST_DIR/sys/block/nbd$1"
	echo $dead >"$TEST_DIR/sys/block/nbd$1/pid"
	echo "$2" >"$TEST_DIR/sys/block/nbd$1/backend"
}

# A good record, changed by a jq FILTER.
record() { # DEVICE FILTER
	jq -n --arg boot "$boot" --arg identity "$(identity_of "$TEST_DIR/image")" --arg path "$TEST_DIR/image" \
		--argjson number "${1//[a-z]/}" '{version: 2, boot: $boot, run: 1, serial: 1, id: 1, identity: $identity,
		names: {type: "file", pool: "", namespace: "", image: $path, snapshot: ""},
		access: {user: "admin", lock: "auto", size: 0, io_timeout: 0}, read_only: false,
		frontend: "nbd", number: $number, queues: 1, queue_depth: 128, client_address: "", pid: 1} | '"$2" >"$state/$1.json"
}

reason_of() { "$urbd" status "/dev/$1" --format json | jq -r '.devices[0].reason'; }
is_said() { [[ $(reason_of "$1") =~ $2 ]]; } # DEVICE PATTERN

# ---- a start that fails when devices wait

nbd_device 7 "$(identity_of "$TEST_DIR/image")"
record nbd7 .
cp "$state/nbd7.json" "$TEST_DIR/before"
fails_to_start() { # NAME OPTION...
	local name=$1 code=0
	shift
	(run_daemon "$@") & daemon=$!
	on_exit end_process "$daemon"
	wait "$daemon" || code=$?
	check_equal "$name: urbdd ends with a failure" "$code" 1
	check_equal "$name: it has not touched the device that waits" "$(grep -c nbd7 "$log" || true)" 0
	check "$name: its record is as it was" cmp "$state/nbd7.json" "$TEST_DIR/before"
}
fails_to_start "a metrics address that cannot be had" --metrics "unix:$TEST_DIR/none/metrics"
fails_to_start "an address to listen at that cannot be had" --listen "unix:$TEST_DIR/none/listen"
fails_to_start "a control socket that cannot be had" --socket "$TEST_DIR/image/ctl"
fails_to_start "a group that there is not" --group no-such-group

# ---- records that hold what none may hold, of devices that wait

bad=() number=100
bad_record() { # JQ-FILTER
	number=$((number + 1))
	bad+=("$number")
	nbd_device $number "$(identity_of "$TEST_DIR/image")"
	record nbd$number "$1"
}
bad_record '.names = {}'
bad_record '.names.image = ""'
bad_record '.names.pool = null'
bad_record '.names.type = "tape"'
bad_record 'del(.access)'
bad_record '.access.user = 7'
bad_record '.access.options = ["rbd_cache"]'
bad_record '.access.options = {rbd_cache: true}'
bad_record '.access.settings = "rbd_qos_iops_limit"'
bad_record '.access.settings = {rbd_qos_iops_limit: 5}'
bad_record '.access.quiesce_hook = 5'
bad_record '.access.client = "pool:0"'
bad_record '.access.lock = "shared"'
bad_record '.access.io_timeout = -1'
bad_record '.identity = 5'
bad_record '.identity = "x" * 5000'
bad_record '.frontend = "tape"'
bad_record '.number = 9'
bad_record '.number = -1'
bad_record '.queues = 0'
bad_record '.queues = 1000000'
bad_record '.queue_depth = 99999999999'
bad_record '.read_only = "no"'
bad_record '.client_address = null'
start_daemon
for number in "${bad[@]}"; do
	check "a bad record is set aside ($(sed -n "s/.*record of .dev.nbd$number \(.*\); it is set aside.*/\1/p" "$log"))" \
		test -e "$state/nbd$number.json.aside" -a ! -e "$state/nbd$number.json"
done
check_equal "their devices are told as orphans" "$("$urbd" status --format json | jq '.orphans | length')" "${#bad[@]}"
check_equal "the device of a good record waits, and nothing else" \
	"$("$urbd" status --format json | jq -c '.devices | map([.device, .state])')" '[["/dev/nbd7","quiesced"]]'
check "its reason is told" eventually 30 is_said nbd7 'nbd driver'
kill_daemon
rm -rf "$state"/*.aside "$TEST_DIR"/sys/block/nbd1*

# ---- devices of which the kernel cannot tell whose they are, and those of others

ublk_device() { mkdir -p "$TEST_DIR/sys/class/ublk-char/ublkc$1"; } # which answers to no command
waits_with_reason() { [[ $("$urbd" status "/dev/$1" --format json | jq -r '.devices[0] | .state + ": " + .reason') =~ ^quiesced:\ $2 ]]; }

ublk_device 987
truncate -s 16M "$TEST_DIR/lost"
record ublkb987 ".frontend = \"ublk\" | .identity = \"$(identity_of "$TEST_DIR/lost")\" | .names.image = \"$TEST_DIR/lost\""
nbd_device 201 "$(identity_of "$TEST_DIR/image")"
rm "$TEST_DIR/sys/block/nbd201/backend"
record nbd201 .
nbd_device 202 file:another
record nbd202 .
record nbd203 .
start_daemon
check_equal "of which the kernel cannot tell, the record is kept" "$(cd "$state" && echo nbd20* ublk*)" \
	"nbd201.json nbd202.json.aside ublkb987.json"
check "which the kernel has no more: that is removed" test ! -e "$state/nbd203.json"
check "that of others is set aside with a reason" grep -q 'nbd202 is not that of the device' "$log"
for device in ublkb987 nbd201; do
	check "$device waits, and why is told" eventually 30 waits_with_reason $device ".+"
done
check_says 'mapped as /dev/ublkb987, which waits .*ublk' "a map of its image says that it waits, and why" \
	"$urbd" map --timeout 2 "file:$TEST_DIR/lost"
rm -r "$TEST_DIR/sys/class/ublk-char/ublkc987"
check "one that turns out to be gone fails" eventually 60 is_said ublkb987 'no device of this urbdd'
check_says 'mapped as /dev/ublkb987, which has failed .*no device of this urbdd.*--force' \
	"a map of its image says that it failed, and why" "$urbd" map "file:$TEST_DIR/lost"
check "and is taken away by force" "$urbd" unmap --force /dev/ublkb987
check "with its record" test ! -e "$state/ublkb987.json"
kill_daemon
rm -rf "$state"/*20* "$TEST_DIR"/sys/block/nbd20*

# ---- clusters that cannot be reached now

rbd_record() { # NUMBER JQ-FILTER
	nbd_device "$1" rbd:fsid:1::2:
	record "nbd$1" '.identity = "rbd:fsid:1::2:" | .names = {type: "rbd", pool: "rbd", namespace: "", image: "foo", snapshot: ""} |
		.access.conf = "" | '"$2"
}
rbd_record 301 '.access.monitors = "no-such-host.invalid"'
rbd_record 302 '.access.monitors = "127.0.0.1:1" | .access.keyring = "/nonexistent"'
rbd_record 303 '.access.monitors = "127.0.0.1:1" | .access.options = {no_such_option: "1"}'
start_daemon
check "monitors whose name is not resolved: the device waits" eventually 60 waits_with_reason nbd301 .*no-such-host
check "a keyring that is not there: the device waits" eventually 60 waits_with_reason nbd302 .*/nonexistent
check "an option that this librbd does not know: the device waits" eventually 60 waits_with_reason nbd303 .*no_such_option
kill_daemon
rm -rf "$state"/*30* "$TEST_DIR"/sys/block/nbd30*

# ---- an image that takes long to close after a try that failed

nbd_device 401 "$(identity_of "$TEST_DIR/image")"
record nbd401 '.access.fault = "close=delay:600000"'
start_daemon
check "what a try had open holds up nobody: the reason is told" eventually 30 waits_with_reason nbd401 '.*nbd driver'
check_says 'nbd driver' "nor is it waited for by an unmap by force" "$urbd" unmap --force --timeout 10 /dev/nbd401
kill_daemon
rm -rf "$state"/*40* "$TEST_DIR"/sys/block/nbd40*
