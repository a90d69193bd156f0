#!/bin/bash
# about: the contract of images, against null, file, fault and rbd on a real cluster
# limit: 600
. "$(dirname "$0")/../lib.sh"

require_program ceph-osd ceph-osd
conformance=$build/tests/conformance/conformance
# fast failures, but enough for a busy machine
patience=(--timeout 20)

with() { # USER: the options of a user with a keyring of the cluster
	user=(--conf "$CEPH_CONF" --id "$1" --keyring "$CLUSTER/ceph.client.$1.keyring" "${patience[@]}")
}

# Each line of the program becomes a result of ours.
conform() { # NAME ARGUMENT...
	local name=$1 line why=''
	shift
	PATIENCE=200 run near_cluster "$conformance" "$@"
	while read -r line; do
		case $line in
		"ok "*) ok "$name: ${line#ok }" && why='' ;;
		"not ok "*) not_ok "$name: ${line#not ok }" "$why" && why='' ;;
		*) why+="$line"$'\n' ;;
		esac
	done <<<"$output"
	((status == 0)) || not_ok "$name ends well" "exit $status: $output"
}

for kind in null file fault; do conform "$kind" "$kind"; done

start_cluster
admin() { near_cluster ceph --id admin "$@"; }
rbd() { near_cluster rbd --id admin "$@"; }
with "$CLIENT"
mine=("${user[@]}")

# ---- the contract, on each kind of image

rbd create --size 96M rbd/whole
rbd create --size 96M --image-feature layering rbd/plain
rbd create --size 96M --object-size 1M --stripe-unit 64K --stripe-count 4 rbd/striped
rbd create --size 96M rbd/parent
rbd bench --io-type write --io-size 64K --io-total 16M rbd/parent >/dev/null
rbd snap create --no-progress rbd/parent@s
rbd snap protect rbd/parent@s
rbd clone rbd/parent@s rbd/clone
for image in whole plain striped clone; do
	conform "rbd $image" rbd "rbd/$image" "${mine[@]}"
done
conform "rbd with a cache" rbd rbd/whole "${mine[@]}" -o rbd_cache=true
conform "rbd with a cache that writes back" rbd rbd/whole "${mine[@]}" -o rbd_cache=true -o rbd_cache_policy=writeback
conform "rbd in faults" rbd-fault rbd/whole "${mine[@]}"

# ---- what an image says of itself

check_info() { # NAME LINE SPEC OPTION...
	local name=$1 line=$2
	shift 2
	run near_cluster "$conformance" open "$@"
	if grep -qxE -- "$line" <<<"$output"; then
		ok "$name"
	else
		not_ok "$name" "no '$line': $output"
	fi
}

check_info "optimal I/O is the object" "optimal_io 4194304" rbd/whole "${mine[@]}"
check_info "or the stripe" "optimal_io 4194304" rbd/striped "${mine[@]}"
check_info "without a cache nothing is volatile" "volatile_cache 0" rbd/whole "${mine[@]}"
check_info "nor with one, which writes through" "volatile_cache 0" rbd/whole "${mine[@]}" -o rbd_cache=true
for policy in writeback writearound; do
	check_info "with one that does not it is: $policy" "volatile_cache 1" \
		rbd/whole "${mine[@]}" -o rbd_cache=true -o rbd_cache_policy=$policy
done
rbd config image set rbd/plain rbd_cache true
rbd config image set rbd/plain rbd_cache_policy writeback
check_info "also when the image asks for it" "volatile_cache 1" rbd/plain "${mine[@]}"
check_info "refused writes end" "may_hang 0" rbd/plain "${mine[@]}"
check_info "unless librbd does not copy what it writes" "may_hang 1" rbd/whole "${mine[@]}" \
	-o rbd_disable_zero_copy_writes=0
rbd config image set rbd/plain rbd_disable_zero_copy_writes 0
check_info "also when the image asks for it" "may_hang 1" rbd/plain "${mine[@]}"
check_info "a snapshot is read-only" "read_only 1" rbd/parent@s "${mine[@]}"
rbd namespace create rbd/ns
rbd create --size 8M rbd/ns/inside
check_info "identity: namespace" "identity rbd:$FSID/[0-9]+/ns/[0-9a-f]+" rbd/ns/inside "${mine[@]}"
check_info "identity: snapshot" "identity rbd:$FSID/[0-9]+//[0-9a-f]+@[0-9]+" rbd/parent@s \
	"${mine[@]}"
check_info "the client's address is known" "address [0-9.]+:0/[0-9]+" rbd/whole "${mine[@]}"

# ---- what cannot be opened, and the words for it

refuses() { # PATTERN NAME SPEC OPTION...
	local pattern=$1 name=$2
	shift 2
	check_says "$pattern" "refused: $name" near_cluster "$conformance" open "$@"
}

for name in readonly nodata; do
	"$lab/cluster" add-client "$CLUSTER" $name
done
admin auth caps client.readonly mon 'profile rbd' osd 'profile rbd-read-only pool=rbd' 2>/dev/null

refuses "ENOENT: There is no pool 'nopool'" "an absent pool" nopool/whole "${mine[@]}"
refuses "ENOENT: There is no image 'none'" "an absent image" rbd/none "${mine[@]}"
refuses "ENOENT: Image whole has no snapshot 'x'" "an absent snapshot" rbd/whole@x "${mine[@]}"
refuses "ENOENT: Pool rbd has no namespace 'x'" "an absent namespace" rbd/x/whole "${mine[@]}"
with nodata
refuses "EPERM: client.nodata may not write to rbd/whole" "a user without caps" rbd/whole "${user[@]}"
refuses "EPERM: client.nodata may not read" "even to read" rbd/whole --read-only "${user[@]}"
with readonly
refuses "EPERM: .* or use it read-only" "writing without caps" rbd/whole "${user[@]}"
check "a reader may read" near_cluster "$conformance" open rbd/whole --read-only "${user[@]}"

WRONG_KEY=AQBmCxVpAAAAABAAC2kqKqMHbFPhZxj3lUvA3Q==
RIGHT_KEY=$(cat "$KEYFILE")
export WRONG_KEY RIGHT_KEY
direct=(--conf "" --monitors "$MONITORS" "${patience[@]}")
check "a key and monitors suffice" near_cluster "$conformance" open rbd/whole "${direct[@]}" \
	--id "$CLIENT" --key-env RIGHT_KEY
refuses "EACCES: The cluster refused client.$CLIENT: check" "a wrong key" rbd/whole "${direct[@]}" \
	--id "$CLIENT" --key-env WRONG_KEY
if grep -qF "$WRONG_KEY" <<<"$output"; then
	not_ok "the key is not told" "$output"
else
	ok "the key is not told"
fi
refuses "EACCES: The cluster refused client.nobody" "an unknown user" rbd/whole "${direct[@]}" \
	--id nobody --key-env RIGHT_KEY
refuses "no key was given" "a missing key" rbd/whole "${direct[@]}" --id "$CLIENT"
refuses "ETIMEDOUT: No monitor of 127.0.0.1:9 let" "absent monitors" rbd/whole --conf "" \
	--monitors 127.0.0.1:9 --timeout 2 --id "$CLIENT" --key-env RIGHT_KEY
refuses "nonsense cannot be used as monitors" "monitors' names unknown" rbd/whole --conf "" \
	--monitors nonsense --timeout 2 --id "$CLIENT" --key-env RIGHT_KEY

# ---- changes while it is open

near_cluster "$conformance" watch rbd/plain "${mine[@]}" >"$TEST_DIR/watch" &
watcher=$!
if eventually 120 grep -q watching "$TEST_DIR/watch"; then
	rbd resize --no-progress --size 128M rbd/plain
fi
wait $watcher || true
check "a new size is noticed" grep -qx "size 134217728" "$TEST_DIR/watch"

# ---- a cluster that does not answer

mkfifo "$TEST_DIR/ask"
near_cluster "$conformance" ask rbd/whole "${mine[@]}" -o rados_osd_op_timeout=3 \
	<"$TEST_DIR/ask" >"$TEST_DIR/asked" &
asker=$!
exec 9>"$TEST_DIR/ask"
echo >&9
check "with a limit of time all is well as long as the cluster answers" \
	eventually 60 grep -qx "read OK write OK" "$TEST_DIR/asked"
"$lab/cluster" stop "$CLUSTER" --kill osd.0
echo >&9
check "what it does not answer by then is EIO" \
	eventually 60 grep -qx "read EIO write EIO" "$TEST_DIR/asked"
"$lab/cluster" start "$CLUSTER"
exec 9>&-
wait $asker || not_ok "the image that got no answers is closed well" "exit $?"

watched() { [[ $(rbd status rbd/whole) = *watcher=* ]]; }
unwatched() { ! watched; }

mkfifo "$TEST_DIR/hold"
"$lab/cluster" stop "$CLUSTER" osd.0
near_cluster "$conformance" late rbd/whole --conf "$CEPH_CONF" --id "$CLIENT" --keyring "$KEYRING" \
	--timeout 2 <"$TEST_DIR/hold" >"$TEST_DIR/late" &
late=$!
exec 8>"$TEST_DIR/hold"
check "an open is given up in time" eventually 120 grep -q "ETIMEDOUT: Opening image whole took" \
	"$TEST_DIR/late"
"$lab/cluster" start "$CLUSTER"
check "the late open closes itself" eventually 120 unwatched
sleep 1 # it may have looked before the watch came
check "and stays closed" unwatched
exec 8>&-
late_status=0
wait $late || late_status=$?
check_equal "while its program lived on" "$late_status" 0
