#!/bin/bash
# about: nothing is lost when urbdd dies or is upgraded: fio and a file system across kill -9 and stops
# limit: 3300
. "$(dirname "$0")/../lib.sh"

export URBD_SOCKET=$TEST_DIR/ctl
state=$TEST_DIR/state

# Without kernel: records that cannot be followed.
mkdir -m 700 "$state"
boot=$(</proc/sys/kernel/random/boot_id)
record() { # NUMBER BOOT VERSION
	printf '{"version":%s,"boot":"%s","id":1,"identity":"x","frontend":"ublk","number":%s,"queues":1,"queue_depth":1,
		"read_only":false,"client_address":"","access":{"size":0,"io_timeout":0},
		"names":{"type":"file","pool":"","namespace":"","image":"/x","snapshot":""}}' "$3" "$2" "$1" >"$state/ublkb$1.json"
}
record 987650 "$boot" 2
record 987651 another 2
record 987652 "$boot" 99
echo '{}' >"$state/ublkb987653.json"
echo '{"version":2,"boo' >"$state/ublkb987654.json"
echo secret >"$state/ublkb987655.tmp"
"$build/daemon/urbdd" --state-dir "$state" 2>"$TEST_DIR/log" & daemon=$!
on_exit bash -c "kill -KILL $daemon 2>/dev/null || true"
check "the daemon starts" eventually 120 "$build/cli/urbd" version
check_equal "the record of a device that is gone is removed, all others are set aside" \
	"$(cd "$state" && echo *.json*)" \
	"ublkb987651.json.aside ublkb987652.json.aside ublkb987653.json.aside ublkb987654.json.aside"
for what in "987651 is of another boot" "987652 is of another version" "987653 is of another version" "987654 is damaged"; do
	check "it says why: $what" grep -q "ublkb$what" "$TEST_DIR/log"
done
check "what a cut-off write left is removed" test ! -e "$state/ublkb987655.tmp"
check_equal "nothing is followed" "$("$build/cli/urbd" list --format json)" "[]"
"$build/daemon/urbdd" --state-dir "$state" --socket "$TEST_DIR/ctl2" 2>"$TEST_DIR/log2" & second=$!
code=0
wait $second || code=$?
check_equal "a second urbdd of the state directory refuses to start" $code 1
check "and says why" grep -q "Another urbdd uses the state directory" "$TEST_DIR/log2"
kill -TERM $daemon
code=0
wait $daemon || code=$?
check_equal "the daemon ends" $code 0

start_cluster
in_guest --timeout 3200 --mem 2048 --env MAP_ROUNDS --env MAP_SEED bash tests/suites/guest/recovery "$@" ||
	not_ok "the guest ends well" "exit $?"
