#!/bin/bash
# about: the test cluster and the test guest themselves
# limit: 600
. "$(dirname "$0")/../lib.sh"

cluster=$lab/cluster guest=$lab/guest

# ---- clusters side by side, on loopback

a=$TEST_DIR/a b=$TEST_DIR/b
check "a cluster starts" "$cluster" start "$a"
on_exit "$cluster" stop "$a" --wipe
check "another starts beside it" "$cluster" start "$b" --pool data --pool more --client joe
on_exit "$cluster" stop "$b" --wipe

setting() { # DIR NAME
	# shellcheck disable=SC1091
	(. "$1/env" && echo "${!2}")
}

# Through what `-m`, `--id` and `--keyfile` take, and not through the cluster's ceph.conf.
with_key() { # DIR CLIENT COMMAND...
	timeout 60 env -u CEPH_CONF rbd -c /dev/null -m "$(setting "$1" MONITORS)" \
		--id "$2" --keyfile "$1/$2.key" "${@:3}"
}

wrote_same() { # DIR CLIENT IMAGE
	with_key "$1" "$2" export --no-progress "$3" - | cmp - "$TEST_DIR/blob"
}

head -c 3M /dev/urandom >"$TEST_DIR/blob"
check "the unprivileged key writes" with_key "$a" kube import --no-progress "$TEST_DIR/blob" rbd/foo
check "the unprivileged key reads the same" wrote_same "$a" kube rbd/foo
check "so it does on the other cluster" with_key "$b" joe import --no-progress "$TEST_DIR/blob" more/foo
check "the clusters differ" test "$(setting "$a" FSID)" != "$(setting "$b" FSID)"
check_equal "the key file is private" "$(stat -c %a "$a/kube.key")" 600
check_says 'access denied' "the key may not administrate" \
	timeout 30 ceph --conf "$b/ceph.conf" --id joe osd pool create new 8

check "a client without rights is made" "$cluster" add-client "$a" nobody
check_says 'not permitted' "it may not read" with_key "$a" nobody ls rbd
check "a client of one pool is made" "$cluster" add-client "$b" half --pool data
check "it reads its pool" with_key "$b" half ls data
check_says 'not permitted' "it reads no other" with_key "$b" half ls more

# ---- crash, restart, end

alive() { # DIR
	pgrep -f -- "--conf $1/ceph.conf"
}

check "an OSD stops" "$cluster" stop "$a" osd.0
check_equal "only the monitor is left" "$(alive "$a" | wc -l)" 1
check "the OSD starts again" "$cluster" start "$a"
check "the cluster is killed" "$cluster" stop "$a" --kill
check_equal "no daemon lives" "$(alive "$a")" ""
check "it starts again" "$cluster" start "$a"
check "the data has been kept" wrote_same "$a" kube rbd/foo
check "it is stopped and wiped" "$cluster" stop "$a" --wipe
check "its directory is gone" test ! -e "$a"
check_equal "its processes are gone" "$(alive "$a")" ""
check "the other one is unharmed" wrote_same "$b" joe more/foo
check "the other one is wiped, too" "$cluster" stop "$b" --wipe

# ---- clusters in a namespace

net=urbd-lab-$$
in_net() { ip netns exec "$net" timeout 60 "$@"; }

"$cluster" start "$a" --netns "$net" &
"$cluster" start "$b" --netns "$net" &
wait
check "two clusters share a namespace" in_net rbd --conf "$b/ceph.conf" --id kube create foo --size 8M
"$cluster" stop "$a" --wipe
check "the namespace lasts as long as its clusters" in_net rbd --conf "$b/ceph.conf" --id kube info foo

# ---- guest

in_the_guest=$TEST_DIR/in-the-guest
cat >"$in_the_guest" <<-'END'
	echo to stdout
	echo to stderr >&2
	echo "$WORD" >"$TEST_DIR/word"
	echo scratch >/etc/urbd-lab-scratch
	set -e
	[[ -c /dev/ublk-control && -b /dev/nbd15 && -b /dev/loop0 ]]
	modprobe rbd
	timeout 60 rbd -m "$MONITORS" --id kube --keyfile "$TEST_DIR/b/kube.key" -c /dev/null info foo >&2
	exit 7
END
run_in_guest() {
	"$guest" --net "$net" --rw "$TEST_DIR" --env TEST_DIR --env "WORD=two words" \
		--env "MONITORS=$(setting "$b" MONITORS)" -- bash "$in_the_guest" \
		>"$TEST_DIR/out" 2>"$TEST_DIR/err"
}
export TEST_DIR
check_code 7 "the guest boots 6.12 and passes the exit code on" run_in_guest
check_equal "stdout comes alone" "$(cat "$TEST_DIR/out")" "to stdout"
check "stderr comes alone, with the answer of the cluster" \
	grep -q "rbd image 'foo'" "$TEST_DIR/err"
check_equal "writable directories are the host's" "$(cat "$TEST_DIR/word")" "two words"
check "all else is not" test ! -e /etc/urbd-lab-scratch

# shellcheck disable=SC2016  # for the guest's shell
check "6.1 boots, has nbd and no ublk" "$guest" --kernel 6.1 -- \
	bash -c '[[ $(uname -r) = 6.1.* && -b /dev/nbd0 && ! -e /dev/ublk-control ]]'
if newest_kernel; then
	# shellcheck disable=SC2016  # for the guest's shell
	check "Debian's newest boots, has ublk and nbd" "$guest" --kernel backports -- \
		bash -c '[[ $(uname -r) != 6.1* && -c /dev/ublk-control && -b /dev/nbd15 && -b /dev/loop0 ]]'
else
	skip "Debian's newest kernel boots" "$no_kernel"
fi
check_code 2 "a kernel that is not there is refused" "$guest" --kernel 2.6 -- true
check "modules are left to modprobe where asked" "$guest" --no-modules -- \
	bash -c '[[ ! -e /dev/nbd0 ]] && modprobe nbd && [[ -b /dev/nbd0 ]]'
check_code 124 "the time limit holds" "$guest" --timeout 2 -- sleep 1000
check_code 123 "a complaint of the kernel fails the run" "$guest" -- \
	bash -c 'echo "WARNING: CPU: 0 PID: 0 (a test)" >/dev/kmsg'
check_code 125 "a crash is told apart" "$guest" -- bash -c 'echo c >/proc/sysrq-trigger; sleep 9'
check_code 2 "a wrong option is refused" "$guest" --nonsense 1 -- true

check "the last cluster is wiped" "$cluster" stop "$b" --wipe
check "the namespace goes with it" test ! -e "/run/netns/$net"
