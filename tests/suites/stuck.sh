#!/bin/bash
# about: a cluster in trouble: OSD and monitor killed and back, full, silent; others never feel it
# limit: 400
. "$(dirname "$0")/../lib.sh"
require_program qemu-io qemu-utils
require_program jq jq

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

export_of() { # IMAGE [OPTION...]: prints its URI
	"$urbd" export --monitors "$MONITORS" --id "$CLIENT" --keyring "$KEYRING" --listen "unix:$TEST_DIR/nbd" "$@"
}

io() { # SECONDS URI COMMAND
	near_cluster timeout "$1" qemu-io -f raw -c "$3" "$2"
}

# In the background; its output goes to TEST_DIR/NAME.out.
begin_io() { # NAME URI COMMAND
	PATIENCE=200 io 180 "$2" "$3" >"$TEST_DIR/$1.out" 2>&1 &
	client=$!
}

end_io() { # NAME: exit code of the client that begin_io started
	local code=0
	wait "$client" || code=$?
	check_equal "$1" "$code" 0
}

admin() { near_cluster ceph --conf "$CEPH_CONF" --name client.admin "$@" >/dev/null 2>&1; }
in_ms() { local begin; begin=$(date +%s%3N); "$@" >/dev/null && echo $(($(date +%s%3N) - begin)); }

start_cluster
for image in patient hasty cached sought; do near_cluster rbd --id "$CLIENT" create "$POOL/$image" --size 64M; done
near="" && [[ -z ${NETNS:-} ]] || near="ip netns exec $NETNS"
# shellcheck disable=SC2086
$near "$build/daemon/urbdd" --state-dir "$TEST_DIR/state" 2>"$TEST_DIR/urbdd.log" & daemon=$!
on_exit bash -c "kill -KILL $daemon 2>/dev/null || true"
check "the daemon starts" eventually 120 "$urbd" version
patient=$(export_of "$POOL/patient" --client shared)
hasty=$(export_of "$POOL/hasty" --io-timeout 4)
cached=$(export_of "$POOL/cached" -o rbd_cache=true)
other=$("$urbd" export null:64M --listen "unix:$TEST_DIR/nbd")
for uri in "$patient" "$hasty" "$cached" "$other"; do check "an export works" io 30 "$uri" "write -P 7 0 64k"; done

# ---- an OSD dies

"$lab/cluster" stop "$CLUSTER" --kill osd.0
begin_io patient "$patient" "write -P 8 0 64k"
near_cluster timeout 180 /usr/bin/python3 - "$cached" >"$TEST_DIR/cached.out" 2>&1 <<-END &
	import nbd, sys
	h = nbd.NBD()
	h.connect_uri(sys.argv[1])
	h.flush() # which has a cache that may write back begin to do so
	h.pwrite(b"8" * 65536, 0)
END
cached_client=$!
check_says 'Input/output error' "after --io-timeout a read is EIO" io 60 "$hasty" "read 0 64k"
check_says 'Input/output error' "and so is a write" io 60 "$hasty" "write 64k 64k"
check "another image goes on meanwhile" io 10 "$other" "read 0 64k"
check "the control socket answers" test "$(in_ms "$urbd" list)" -lt 10000 # not after the timeouts of a cluster
check "without --io-timeout a request waits" kill -0 $client
check "a write is not answered by a cache either" kill -0 $cached_client
"$lab/cluster" start "$CLUSTER"
end_io "and is done when the OSD is back"
client=$cached_client end_io "as is the other"
check "what it wrote is there" io 60 "$patient" "read -P 8 0 64k"
check "the image whose request failed works again" eventually 60 io 20 "$hasty" "read -P 7 0 64k"

# ---- the monitor dies

answers() { wc -l <"$TEST_DIR/answers"; }
are_answers() { (($(answers) >= $1)); }
ask() { # TIMES [ADDRESS]: for the cluster's health, or to fence
	local wanted=$(($(answers) + $1)) i
	for ((i = 0; i < $1; i++)); do echo "${2:-}"; done >&"$questions"
	eventually 60 are_answers "$wanted"
}
last_answer() { tail -n 1 "$TEST_DIR/answers"; }
threads_at() { sed -n "$1s/ .*//p" "$TEST_DIR/answers"; }
mkfifo "$TEST_DIR/questions"
touch "$TEST_DIR/answers"
PATIENCE=300 near_cluster "$build/tests/tools/ask-cluster" "$MONITORS" "$CLIENT" "$KEYRING" \
	<"$TEST_DIR/questions" >"$TEST_DIR/answers" & asker=$!
on_exit end_process $asker
exec {questions}>"$TEST_DIR/questions"
check "a client asks for the cluster's health" ask 1
check "the cluster says it" grep -q 'its cluster says HEALTH' <(last_answer)
"$lab/cluster" stop "$CLUSTER" --kill mon.a
check "without its monitor the image goes on" io 60 "$patient" "write -P 9 0 64k"
check "a client asks why" ask 5
check "that nobody answers is told" grep -q 'the monitors of its cluster do not answer either' <(last_answer)
check_equal "one question waits for an answer, however many there are" "$(threads_at 6)" "$(threads_at 2)"
check "a client asks to fence another" ask 1 192.0.2.99:0/1
check "that it takes too long is told" grep -q 'took more than' <(last_answer)
check "and asks again" ask 4 192.0.2.99:0/1
check "that its first try has not ended is told" grep -q 'an earlier try for this image has not ended' <(last_answer)
check_equal "one of its tries waits" "$(threads_at 11)" "$(threads_at 7)"
"$lab/cluster" start "$CLUSTER"
says_health() { ask 1 && grep -q 'its cluster says HEALTH' <(last_answer); }
check "and is asked again when the monitor is back" eventually 60 says_health
end_process $asker # the cluster's daemons have its pipe
check "and after it is back" io 60 "$patient" "read -P 9 0 64k"

# ---- the cluster is full

ratios() { admin osd set-nearfull-ratio "$1" && admin osd set-backfillfull-ratio "$2" && admin osd set-full-ratio "$3"; }
ratios 0.00001 0.00002 0.00003
full() { near_cluster ceph --conf "$CEPH_CONF" --name client.admin health detail 2>/dev/null | grep -qE 'pool.* is full'; }
if eventually 60 full; then
	begin_io full "$patient" "write -P 10 0 64k"
	sleep 3
	check "full: a write waits" kill -0 $client
	check "full: another image goes on" io 10 "$other" "write 0 64k"
	ratios 0.85 0.9 0.95
	end_io "full no more: it is done"
	check "what it wrote is there" io 60 "$patient" "read -P 10 0 64k"
else
	not_ok "the cluster says that it is full"
fi

# ---- the client is blocklisted while it has nothing to do

address_of() { near_cluster rbd --id "$CLIENT" status "$POOL/$1" --format json | jq -r '.watchers[0].address'; }
near_cluster rbd --id "$CLIENT" create "$POOL/late" --size 64M
check "a client is blocklisted" admin osd blocklist add "$(address_of patient)"
sleep 6 # until its OSD knows
late=$(export_of "$POOL/late" --client shared)
check "an image that would have shared it has another client" io 60 "$late" "write -P 13 0 64k"
check "the image that has it can be taken away" timeout 60 "$urbd" unexport "$POOL/patient"
patient=$(export_of "$POOL/patient")
check "and be had again" io 60 "$patient" "write -P 10 0 64k"
exile=$(near_cluster rbd --id "$CLIENT" lock ls "$POOL/patient" --format json | jq -r '.[0].address')
check "a client is blocklisted" admin osd blocklist add "$exile"
sleep 6 # until librbd, whose watch is refused, has given its lock up
check "its next write goes on with another client" io 60 "$patient" "write -P 12 0 64k"
check "and is stored" io 60 "$patient" "read -P 12 0 64k"

exile=$(near_cluster rbd --id "$CLIENT" lock ls "$POOL/patient" --format json | jq -r '.[0].address')
check "a client is blocklisted" admin osd blocklist add "$exile"
sleep 6
check_says 'goes on with another one. Try again' "settings that would close its image do not change" \
	timeout 60 "$urbd" set "$POOL/patient" rbd_qos_iops_limit=4000
check "but soon" eventually 60 timeout 60 "$urbd" set "$POOL/patient" rbd_qos_iops_limit=4000
check "its data is there" io 60 "$patient" "read -P 12 0 64k"

# ---- one that is kept by an exclusive lock, and has a cache

near_cluster rbd --id "$CLIENT" create "$POOL/kept" --size 64M
kept=$(export_of "$POOL/kept" --exclusive -o rbd_cache=true -o rbd_cache_policy=writeback)
near_cluster timeout 180 /usr/bin/python3 - "$kept" "$TEST_DIR/kept" >"$TEST_DIR/kept.out" 2>&1 <<-END &
	import nbd, os, sys, time
	def flush(h):
	    try:
	        h.flush()
	        return "stored"
	    except nbd.Error as e:
	        return e.errno
	h = nbd.NBD()
	h.connect_uri(sys.argv[1])
	h.pwrite(b"1" * 65536, 0)
	print(flush(h))
	h.pwrite(b"2" * 65536, 0)
	open(sys.argv[2], "w").close()
	while os.path.exists(sys.argv[2]):
	    time.sleep(0.1)
	print(flush(h), flush(h))
	h.pwrite(b"3" * 65536, 65536)
	print(flush(h))
END
client=$!
check "a client has written to a cache" eventually 60 test -e "$TEST_DIR/kept"
exile=$(near_cluster rbd --id "$CLIENT" lock ls "$POOL/kept" --format json | jq -r '.[0].address')
check "the export's client is blocklisted" admin osd blocklist add "$exile"
sleep 6
rm "$TEST_DIR/kept"
end_io "the client ends"
check_equal "what was lost with the cache is told once, then all is stored" "$(xargs <"$TEST_DIR/kept.out")" \
	"stored EIO stored stored"
check "what was flushed before and after is there" io 60 "$kept" "read -P 51 64k 64k"
check_says "exclusive lock" "the lock is kept from others again" export_of "$POOL/kept" --export-name other --exclusive --timeout 5
check "it can be taken away" timeout 60 "$urbd" unexport "$POOL/kept"

# ---- one whose user may not blocklist, among many others that have the image open

meek=$TEST_DIR/meek.keyring
near_cluster ceph --conf "$CEPH_CONF" --name client.admin auth get-or-create client.meek mon 'allow r' \
	osd "profile rbd pool=$POOL" >"$meek"
near_cluster rbd --id "$CLIENT" create "$POOL/crowded" --size 64M --image-feature layering
near_cluster timeout 180 /usr/bin/python3 - "$CEPH_CONF" "$CLIENT" "$POOL" "$TEST_DIR/crowd" <<-END &
	import os, rados, rbd, sys, time
	with rados.Rados(conffile=sys.argv[1], rados_id=sys.argv[2]) as cluster, cluster.open_ioctx(sys.argv[3]) as ioctx:
	    images = [rbd.Image(ioctx, "crowded") for _ in range(70)]
	    open(sys.argv[4], "w").close()
	    while os.path.exists(sys.argv[4]):
	        time.sleep(0.1)
END
crowd=$!
on_exit end_process $crowd
check "seventy others watch an image" eventually 90 test -e "$TEST_DIR/crowd"
others=$(address_of crowded)
crowded=$("$urbd" export --monitors "$MONITORS" --id meek --keyring "$meek" --listen "unix:$TEST_DIR/nbd" --lock none \
	"$POOL/crowded")
exile=$(near_cluster rbd --id "$CLIENT" status "$POOL/crowded" --format json |
	jq -r --arg others "$others" '.watchers[].address | select(. != $others)')
check "a client is blocklisted whose successor must wait for the end of its watch" admin osd blocklist add "$exile"
check "its next write goes on with another client" io 100 "$crowded" "write -P 15 0 64k"
check "and is stored" io 60 "$crowded" "read -P 15 0 64k"
rm "$TEST_DIR/crowd"
check "its export can be taken away" timeout 60 "$urbd" unexport "$POOL/crowded"

# ---- and somebody else takes the image

state_of() { "$urbd" status --format json | jq -r --arg uri "$1" '.exports[] | select(.uri == $uri) | .state + ": " + .reason'; }
exile=$(near_cluster rbd --id "$CLIENT" lock ls "$POOL/patient" --format json | jq -r '.[0].address')
check "a client is blocklisted again" admin osd blocklist add "$exile"
near_cluster timeout 100 rbd --id "$CLIENT" bench "$POOL/patient" --io-type write --io-total 100G >/dev/null 2>&1 & owner=$!
on_exit end_process $owner
taken() { [[ $(near_cluster rbd --id "$CLIENT" lock ls "$POOL/patient" --format json | jq -r '.[0].address') != "$exile" ]]; }
check "somebody else has its lock" eventually 60 taken
check_says 'failed|error' "then what was not written must not follow" io 60 "$patient" "write -P 14 0 64k"
check "status says why" grep -q '^failed: .* has taken .* meanwhile' <(state_of "$patient")
kill $owner 2>/dev/null || true
wait $owner 2>/dev/null || true
check "its export can be taken away" timeout 60 "$urbd" unexport "$POOL/patient"
patient=$(export_of "$POOL/patient")
check "and be had again" io 60 "$patient" "write -P 10 0 64k"

# ---- an export is changed, and taken away, while the cluster is silent

"$lab/cluster" stop "$CLUSTER" --kill osd.0
timeout 180 "$urbd" set --timeout 60 "$POOL/late" rbd_qos_iops_limit=4000 >/dev/null 2>&1 & setter=$!
sleep 3
forced=$(in_ms timeout 60 "$urbd" unexport --force "$POOL/late")
check "what is being changed goes by force, at once ($forced ms)" test "$forced" -lt 10000
check_code 1 "it is gone" grep late <("$urbd" list)
kill $setter 2>/dev/null || true

# ---- and another one is asked for again and again

threads() { find "/proc/$daemon/task" -mindepth 1 -maxdepth 1 | wc -l; }
seek() { check_says "$1" "$2" export_of "$POOL/sought" --timeout 2; } # SENTENCE NAME
seek 'took more than 2 seconds: the cluster does not answer' "an image of a silent cluster cannot be opened"
before=$(threads)
for ((i = 0; i < 4; i++)); do seek 'an earlier try has not ended' "nor when it is tried again"; done
# The connection of the last try may still be ending.
no_more() { (($(threads) <= before)); }
check "its opening costs the threads of one try ($before)" eventually 30 no_more

# ---- the daemon ends while the cluster is silent

begin_io silent "$patient" "write -P 11 0 64k"
sleep 1
kill -TERM $daemon
check "the daemon ends although the cluster is silent" timeout 60 tail --pid=$daemon -f /dev/null
check_child 1 "its code tells that exports have not ended in order" $daemon
