#!/bin/bash
# about: the volume plugin killed before each of its system calls: the next call heals
# limit: 480
. "$(dirname "$0")/../lib.sh"
require_program strace strace
require_program losetup mount
require_program jq jq
((EUID == 0)) || skip_all "not root"

# Hundreds of calls need a fast device: loop devices stand in for urbdd's (tests/lab/urbdd-on-loop).
# The suite flex shows the same plugin on the real daemon.
[[ -n ${URBD_OWN_MOUNTS:-} ]] || URBD_OWN_MOUNTS=1 exec unshare -m "$0" # they all end with it
loop=$(losetup -f 2>/dev/null) && [[ -b $loop ]] || skip_all "no loop devices here"

flex=$build/plugin/urbd-flex
home=$TEST_DIR/home
key=AQBAMo1VqE1OMhAAVpERPcyQU5pzU6IOJ22x1w==
options='{"monitors":"10.0.0.1:6789","image":"foo","kubernetes.io/readwrite":"rw",'
options+="\"kubernetes.io/secret/key\":\"$(base64 -w 0 <<<$key)\"}"
target=$TEST_DIR/kubelet/pods/u/volumes/ceph~urbd/data
export URBD_SOCKET=$home/socket URBD_PLUGIN_DIR=$TEST_DIR/volumes URBD_PLUGIN_TIMEOUT=30

# What changes something outside of the process, or waits for somebody.
calls=mkdir,rename,mount,umount2,mount_setattr,move_mount,unlink,rmdir,fsync,connect,sendto,sendmsg
calls+=,recvfrom,flock

release() {
	umount "$target" "$TEST_DIR"/kubelet/plugins/kubernetes.io/*/*/*/mounts/* 2>/dev/null
	jq -r '.[].device' "$home/mapped" 2>/dev/null | xargs -r -n 1 losetup -d
}

mkdir "$home"
echo $key >"$home/key"
on_exit release
"$lab/urbdd-on-loop" "$home" 2>"$TEST_DIR/log" &
on_exit kill $!
eventually 120 test -S "$home/socket"

# Kill whatever is at its Nth such call: the driver's own work, or mkfs.
killed() { # N VERB ARGUMENT...
	strace -f -o /dev/null -e "trace=$calls" -e "inject=$calls:signal=KILL:when=$1" \
		"$flex" "${@:2}" 2>/dev/null
}

succeeded() { # REPLY
	[[ $1 = *'"status":"Success"'* ]]
}

left() {
	grep -F "$TEST_DIR/kubelet" /proc/self/mounts
	find "$URBD_PLUGIN_DIR" -type f
	find "$TEST_DIR/kubelet" -path '*/mounts/*' -o -path '*~*/*'
	jq -r '.[].device' "$home/mapped"
} 2>/dev/null

blank_image() {
	rm -rf "$home/rbd.foo.img" "$TEST_DIR/kubelet" "$URBD_PLUGIN_DIR"
	truncate -s 16M "$home/rbd.foo.img"
}

finish_mount() { # after a killed call, mount does its work, and once
	succeeded "$("$flex" mount "$target" "$options")" || echo "mount after step $1 failed"
	[[ $(grep -cF " $target " /proc/self/mounts) = 1 ]] || echo "step $1: not mounted once"
	[[ $(jq length "$home/mapped") = 1 ]] || echo "step $1: not one device"
}

finish_unmount() { # and unmount leaves nothing
	local rest
	succeeded "$("$flex" unmount "$target")" || echo "unmount after step $1 failed"
	rest=$(left) || true
	[[ -z $rest ]] || echo "left after step $1: $rest"
}

# Prints what went wrong; the number of steps goes to a file.
each_step() { # KILLED-VERB NEXT-VERB
	local n reply
	for ((n = 1; n < 100; n++)); do
		blank_image
		if [[ $1 = mount ]]; then
			reply=$(killed $n mount "$target" "$options") || true
		else
			"$flex" mount "$target" "$options" >/dev/null || echo "mount $n failed"
			reply=$(killed $n unmount "$target") || true
		fi
		[[ $2 != mount ]] || finish_mount $n
		finish_unmount $n
		! succeeded "$reply" || break
	done
	echo $n >"$TEST_DIR/steps"
}

blank_image
check "strace can kill here" test -z "$(killed 1 mount "$target" "$options" | grep Success)"
for killed in mount unmount; do
	for next in mount unmount; do
		check_equal "$killed killed at each step, then $next" "$(each_step $killed $next)" ""
		check "with more than 10 steps and an end" \
			test "$(<"$TEST_DIR/steps")" -gt 10 -a "$(<"$TEST_DIR/steps")" -lt 100
	done
done

# What mkfs says first is the reason; then it may go on about its usage.
mkdir "$TEST_DIR/bin"
cat >"$TEST_DIR/bin/mkfs.xfs" <<'EOF'
#!/bin/sh
echo "Filesystem must be larger than 300MB."
for i in $(seq 100); do echo "Usage: mkfs.xfs /* option $i */ of many"; done
echo "the end"
exit 1
EOF
chmod +x "$TEST_DIR/bin/mkfs.xfs"
blank_image
run env "PATH=$TEST_DIR/bin:$PATH" "$flex" mount "$target" "${options%\}},\"kubernetes.io/fsType\":\"xfs\"}"
check "mkfs that failed is quoted from its begin to its end" \
	grep -q 'exit 1): Filesystem must be larger than 300MB\. .* \.\.\. .*the end"' <<<"$output"

# A kubelet root that is bound onto itself shows each mount of below twice.
blank_image
mkdir -p "$TEST_DIR/kubelet"
mount --bind "$TEST_DIR" "$TEST_DIR"
mount --make-rshared "$TEST_DIR"
mount --bind "$TEST_DIR/kubelet" "$TEST_DIR/kubelet"
succeeded "$("$flex" mount "$target" "$options")" && ok "mount below a bound root" ||
	not_ok "mount below a bound root"
check "the mounts are there twice" test "$(grep -cF " $target " /proc/self/mounts)" -ge 2
check "unmount below a bound root" "$flex" unmount "$target"
umount "$TEST_DIR/kubelet" "$TEST_DIR"
check_equal "nothing is left there" "$(left || true)" ""
