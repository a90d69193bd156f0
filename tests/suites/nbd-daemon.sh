#!/bin/bash
# about: urbd export: a Ceph image and files for NBD clients, and the daemon's part of nbd devices
# limit: 600
. "$(dirname "$0")/../lib.sh"
require_program nbdcopy libnbd-bin
require_program qemu-io qemu-utils
require_program certtool gnutls-bin
require_program jq jq
require_python nbd python3-libnbd

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl

start_daemon() { # OPTION...
	near_cluster_forever "$build/daemon/urbdd" --state-dir "$TEST_DIR/state" "$@" \
		>"$TEST_DIR/urbdd.log" 2>&1 &
	daemon=$!
	on_exit end_process "$daemon"
	await_daemon "the daemon starts" "$TEST_DIR/urbdd.log" "$urbd"
}

near_cluster_forever() {
	if [[ -n ${NETNS:-} ]]; then exec ip netns exec "$NETNS" "$@"; else exec "$@"; fi
}

stop_daemon() {
	local code=0
	kill -TERM "$daemon"
	wait "$daemon" || code=$?
	check_equal "$1" "$code" 0
}

export_it() { # OPTION...: sets `uri`
	run "$urbd" export "$@"
	((status == 0)) || not_ok "export $*" "$output"
	uri=$output
}

refused_and_logged() { # URI SOCKET WHY: not each of many is logged
	! nbdinfo --size "$1" 2>/dev/null &&
		grep -q "An NBD client was refused at unix:$TEST_DIR/$2: $3" "$TEST_DIR/urbdd.log"
}

same_in_cluster() {
	near_cluster rbd --id "$CLIENT" export "$POOL/foo" - 2>/dev/null | cmp - "$TEST_DIR/source"
}

# ---- files

truncate -s 64M "$TEST_DIR"/{a,b,c,d}
head -c 64M /dev/urandom >"$TEST_DIR/source"
start_cluster || skip_all "no cluster"
access=(--monitors "$MONITORS" --id "$CLIENT" --keyring "$KEYRING")
near_cluster rbd --id "$CLIENT" create "$POOL/foo" --size 64M
near_cluster rbd --id "$CLIENT" create "$POOL/commands" --size 64M
start_daemon --listen "unix:$TEST_DIR/all" --queues 2 --export-memory 64M --export-handshake 8 \
	--export-connections 48

export_it "file:$TEST_DIR/a" --listen "unix:$TEST_DIR/own"
check "an export prints a URI that works" nbdinfo "$uri"
check_equal "to export it again changes nothing" \
	"$("$urbd" export "file:$TEST_DIR/a" --listen "unix:$TEST_DIR/own")" "$uri"
check_equal "only root may connect" "$(stat -c %a "$TEST_DIR/own")" 600
check_says 'other TLS settings' "one address has one setting" \
	"$urbd" export "file:$TEST_DIR/b" --listen "unix:$TEST_DIR/own" --tls-keys /dev/null
check_says 'other TLS settings' "an export without TLS is not handed out as one with it" \
	"$urbd" export "file:$TEST_DIR/a" --listen "unix:$TEST_DIR/own" --tls-keys /dev/null
check_says 'other --max-connections' "nor one with another limit" \
	"$urbd" export "file:$TEST_DIR/a" --listen "unix:$TEST_DIR/own" --max-connections 7
check_says 'another export' "a name is taken once" \
	"$urbd" export "file:$TEST_DIR/b" --listen "unix:$TEST_DIR/own" --export-name "file:$TEST_DIR/a"
check_says 'no address' "TCP needs an address" "$urbd" export null:1G --listen :10809
export_it "file:$TEST_DIR/b" --export-name bee
check "start-up's address serves by name" nbdinfo --size "nbd+unix:///bee?socket=$TEST_DIR/all"
check "list shows exports" grep -q "$TEST_DIR/b.*nbd+unix:///bee" <("$urbd" list)
check "list --long shows who uses them" grep -qE '/own +export +rw +live +0$' <("$urbd" list --long)
check "status shows them, too" grep -A 4 "^nbd+unix:///bee?socket=$TEST_DIR/all: file:$TEST_DIR/b" <("$urbd" status)
check_equal "with what they are" "$(xargs <<<"${output#*$'\n'}")" "state live read-only no TLS no clients 0"
check "list shows them as json" grep -q '"uri":"nbd+unix:///bee' <("$urbd" list --format json)
# Whatever has a meaning in a URI, or is no ASCII.
odd='a b%41?c#d&e=f+g;h:i@j/k"ö'
named_as_exported() { # the URI of `odd`
	near_cluster nbdinfo --json "$uri" | jq -e --arg name "$odd" '.exports[0]."export-name" == $name'
}
export_it null:1M --export-name "$odd" --listen 127.0.0.1:0
check "a name that a URI has to escape, TCP" named_as_exported
check "unexport by that URI" "$urbd" unexport "$uri"
export_it null:1M --export-name "$odd" --listen "unix:$TEST_DIR/${odd//\//-}"
check "a name and a socket that a URI has to escape" named_as_exported
check "unexport by that URI, too" "$urbd" unexport "$uri"
check_code 1 "both are gone" grep "$odd" <("$urbd" list)

export_it null:1G --listen 127.0.0.1:0
check_equal "TCP" "$(near_cluster nbdinfo --size "$uri")" 1073741824

check_says 'this very urbdd has it open' "a file that is exported is nobody else's, here" \
	"$urbd" export "file:$TEST_DIR/b" --export-name again
flock_file() { # as a program does that locks what it opens
	exec $python3 -c '
import fcntl, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(fd, fcntl.LOCK_EX)
print("ready", flush=True)
time.sleep(60)' "$TEST_DIR/d"
}
flock_file >"$TEST_DIR/locked" & client=$!
eventually 60 grep -q ready "$TEST_DIR/locked" || not_ok "a program locks a file"
check_says 'another program has it open' "nor one that a program holds" \
	"$urbd" export "file:$TEST_DIR/d" --export-name held
kill $client
wait $client 2>/dev/null || true
ln -s d "$TEST_DIR/link"
export_it "file:$TEST_DIR/link" --export-name linked
check "a file by a link" "$urbd" unexport "file:$TEST_DIR/link"
check_code 1 "is that file" nbdinfo "nbd+unix:///linked?socket=$TEST_DIR/all"
printf '[client.other]\n\tkey = AQBAMo1VqE1OMhAAVpERPcyQU5pzU6IOJ22x1w==\n' >"$TEST_DIR/keyring"
check_says "keyring .* has no key of client.$CLIENT" "a keyring of somebody else is told" \
	"$urbd" export "$POOL/foo" --monitors "$MONITORS" --id "$CLIENT" --keyring "$TEST_DIR/keyring"
check_code 1 "without its key" grep -q AQBAMo - "$TEST_DIR/urbdd.log" <<<"$output"

# ---- limits and rights

holds_connections() { # NUMBER URI: so many, and no more
	$python3 -c '
import nbd, sys
handles = [nbd.NBD() for _ in range(int(sys.argv[1]) + 1)]
for handle in handles[:-1]:
    handle.connect_uri(sys.argv[2])
try:
    handles[-1].connect_uri(sys.argv[2])
except nbd.Error:
    sys.exit(0)
sys.exit("one more was served")' "$@"
}

export_it "file:$TEST_DIR/c" --export-name few --listen "unix:$TEST_DIR/few" --max-connections 1
qemu-io -f raw -c 'sleep 20000' "$uri" & client=$!
sleep 1
check_code 1 "a connection more than --max-connections is refused" timeout 10 nbdinfo "$uri"
check "and the log tells" eventually 60 refused_and_logged "$uri" few '.*--max-connections'
kill $client 2>/dev/null || true
wait $client 2>/dev/null || true
check "one is served again when another leaves" eventually 120 nbdinfo --size "$uri"
check "unexport it" "$urbd" unexport --export-name few
check "--export-connections is the number of connections elsewhere" \
	holds_connections 48 "nbd+unix:///bee?socket=$TEST_DIR/all"
export_it "file:$TEST_DIR/c" --read-only --export-name fixed --listen "unix:$TEST_DIR/fixed"
check "a read-only export says so" nbdinfo --is read-only "$uri"
check_code 1 "and takes no write" qemu-io -f raw -c 'write 0 4k' "$uri"
check "unexport that" "$urbd" unexport --export-name fixed

# ---- TLS

pki=$TEST_DIR/pki
mkdir "$pki"
run make_certificates "$pki"
export_it "file:$TEST_DIR/c" --export-name certified --listen "unix:$TEST_DIR/certified" \
	--tls-certificates "$pki"
check "certificates: a client with one is served" \
	nbdinfo --size "$uri&tls-certificates=$pki/client"
check_code 1 "certificates: a client without one is refused" \
	nbdinfo --size "$uri&tls-certificates=$pki/stranger"
check_code 1 "certificates: a client without TLS is refused" nbdinfo --size "${uri/nbds/nbd}"
check "the log tells of the one" eventually 60 \
	refused_and_logged "$uri&tls-certificates=$pki/stranger" certified "its TLS handshake failed"
check "and of the other" eventually 60 \
	refused_and_logged "${uri/nbds/nbd}" certified "it did not ask for TLS"
check "and of those in between, together" grep -qE 'So were [0-9]+ others' "$TEST_DIR/urbdd.log"
export_it "file:$TEST_DIR/d" --export-name keyed --listen "unix:$TEST_DIR/keyed" \
	--tls-keys "$pki/keys.psk"
keyed=${uri/:\/\/\//://alice@/}
check "a key: a client with it is served" nbdinfo --size "$keyed&tls-psk-file=$pki/keys.psk"
sed 's/:.*/:0011223344556677/' "$pki/keys.psk" >"$pki/wrong.psk"
check_code 1 "a key: a client with another is refused" \
	nbdinfo --size "$keyed&tls-psk-file=$pki/wrong.psk"
wrong_keys() { # PATTERN WHAT
	check_says "$1" "$2" "$urbd" export "file:$TEST_DIR/b" --listen "unix:$TEST_DIR/wrong" \
		--tls-keys "$TEST_DIR/wrong.keys"
	check_equal "and nothing is served" "$(ls "$TEST_DIR/wrong" 2>/dev/null)" ''
}
head -c 1M /dev/zero >"$TEST_DIR/wrong.keys"
wrong_keys 'line 1 is not NAME:KEY' "what is no file of keys is refused"
: >"$TEST_DIR/wrong.keys"
wrong_keys 'holds no keys' "nor is an empty one"
{ cat "$pki/keys.psk" && echo "bob:SECRET"; } >"$TEST_DIR/wrong.keys"
wrong_keys 'line 2 is not NAME:KEY' "one line that is none is told"
check_code 1 "without what it holds" grep -q SECRET - "$TEST_DIR/urbdd.log" <<<"$output"
check "unexport what asks for certificates" "$urbd" unexport --export-name certified
check "unexport what asks for a key" "$urbd" unexport --export-name keyed

# ---- unexport

qemu-io -f raw -c 'sleep 20000' "nbd+unix:///bee?socket=$TEST_DIR/all" & client=$!
sleep 1
check "unexport by URI" "$urbd" unexport "nbd+unix:///bee?socket=$TEST_DIR/all"
check_code 1 "it is gone" nbdinfo "nbd+unix:///bee?socket=$TEST_DIR/all"
check "unexport again is no failure" "$urbd" unexport --export-name bee
kill $client 2>/dev/null || true
wait $client 2>/dev/null || true
check "the file is free again" "$urbd" unexport "file:$TEST_DIR/a"
check_equal "the socket is gone" "$(ls "$TEST_DIR/own" 2>/dev/null)" ''

still_there() { # NAME
	nbdinfo --size "nbd+unix:///$1?socket=$TEST_DIR/all"
}

export_it "file:$TEST_DIR/a" --export-name two
check "unexport by name" "$urbd" unexport two
check_code 1 "it is gone" still_there two
export_it "file:$TEST_DIR/a" --export-name a/b
check "unexport by URI, as nbdinfo writes it" \
	"$urbd" unexport "$(nbdinfo "$uri" | sed -n 's/^\turi: //p')"
check_code 1 "it is gone, too" still_there a/b
export_it null:2G --export-name nothing
check "unexport a null image, as it was written" "$urbd" unexport null:2048M
check_code 1 "that is gone as well" still_there nothing
export_it "file:$TEST_DIR/a" --export-name "file:$TEST_DIR/b"
export_it "file:$TEST_DIR/b" --export-name b
check_says 'Several exports' "what is one export's name and another's image is neither" \
	"$urbd" unexport "file:$TEST_DIR/b"
check "--export-name is the name alone" "$urbd" unexport --export-name "file:$TEST_DIR/b"
check_equal "so the other is there" "$(still_there b)" 67108864
check "unexport by image" "$urbd" unexport "file:$TEST_DIR/b"
check_code 1 "and gone then" still_there b

# ---- unexport while the storage holds a request

export_it "file:$TEST_DIR/b" --export-name slow --listen "unix:$TEST_DIR/slow" \
	--fault 'write=delay:20000'
qemu-io -f raw -c 'write 0 4k' "$uri" >/dev/null 2>&1 & client=$!
sleep 1
check_says 'still holds requests' "unexport tells that the image is still open" \
	"$urbd" unexport --export-name slow --timeout 1
check_says 'still holds requests' "so does the next one" \
	"$urbd" unexport --export-name slow --timeout 1
check "one that has time sees it end" "$urbd" unexport --export-name slow --timeout 30
wait $client || true

# Chooses a metadata context for one export, and then another export, where it stays.
half_handshake() { # SOCKET NAME OTHER
	exec /usr/bin/python3 -c '
import socket, struct, sys, time
def option(kind, data):
    return struct.pack(">QII", 0x49484156454F5054, kind, len(data)) + data
def string(text):
    return struct.pack(">I", len(text)) + text.encode()
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(struct.pack(">I", 3) + option(8, b"") + option(10, string(sys.argv[2]) +
             struct.pack(">I", 1) + string("base:allocation")) +
             option(7, string(sys.argv[3]) + struct.pack(">H", 0)))
sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 0, 512))
while b"\x66\x8e\x33\xef" not in sock.recv(65536):
    pass
print("ready", flush=True)
time.sleep(60)' "$@"
}

export_it "file:$TEST_DIR/a" --export-name one --listen "unix:$TEST_DIR/two"
export_it "file:$TEST_DIR/b" --export-name other --listen "unix:$TEST_DIR/two"
half_handshake "$TEST_DIR/two" one other >"$TEST_DIR/half" 2>&1 & client=$!
check "a client asks about one export and chooses another" \
	eventually 120 grep -q ready "$TEST_DIR/half"
check "the first one can go meanwhile" \
	timeout 10 "$urbd" unexport --export-name one --force --timeout 5
kill $client
wait $client 2>/dev/null || true
check "and then the other" "$urbd" unexport --export-name other

# ---- unexport while a request waits for another client, which nobody looks for any more

export_it "file:$TEST_DIR/b" --export-name refused --listen "unix:$TEST_DIR/slow" --fault 'write=ESHUTDOWN*1'
qemu-io -f raw -c 'write 0 4k' "$uri" >"$TEST_DIR/refused" 2>&1 & client=$!
sleep 1
check "a write waits for another client" kill -0 $client
check "unexport ends" timeout 20 "$urbd" unexport --export-name refused --timeout 5
wait $client || true
check "the write has failed" grep -q 'Input/output error' "$TEST_DIR/refused"
check_equal "nothing is left of the export" "$(ls "$TEST_DIR/slow" 2>/dev/null)" ''

# ---- the field's tools on a file, and on an image that stores nothing

sum_of() { sha256sum <"$1"; }

# Both ways with nbdcopy, and what qemu-img sees.
field_tools() { # WHAT STORED: the file that has what is read afterwards
	check "nbdcopy to $1" timeout 120 nbdcopy "$TEST_DIR/source" "$uri"
	check "nbdcopy from $1" timeout 120 nbdcopy "$uri" "$TEST_DIR/copy"
	check_equal "what is read from $1 is what it stores" "$(sum_of "$TEST_DIR/copy")" "$(sum_of "$2")"
	check_equal "qemu-img info of $1 tells its size" "$(qemu_size "$uri")" 67108864
	check "qemu-img compare with $1" timeout 120 qemu-img compare -f raw -F raw "$2" "$uri"
	check "qemu-img convert to $1" timeout 120 qemu-img convert -n -f raw -O raw "$TEST_DIR/source" "$uri"
	check "qemu-img convert from $1" timeout 120 qemu-img convert -f raw -O raw "$uri" "$TEST_DIR/copy"
	check_equal "qemu-img read $1 right" "$(sum_of "$TEST_DIR/copy")" "$(sum_of "$2")"
}

export_it "file:$TEST_DIR/c" --export-name tools
field_tools "a file" "$TEST_DIR/source"
check "the file has it" cmp "$TEST_DIR/source" "$TEST_DIR/c"
check_equal "qemu-img map of a file" "$(qemu_map "$uri")" "0+67108864 data"
check "unexport the file" "$urbd" unexport tools
truncate -s 64M "$TEST_DIR/zeroes"
export_it null:64M --export-name tools
field_tools "a null image" "$TEST_DIR/zeroes"
check_equal "qemu-img map of a null image" "$(qemu_map "$uri")" "0+67108864 hole"
check "unexport the null image" "$urbd" unexport tools

# ---- a Ceph image

export_it "$POOL/foo" "${access[@]}" --listen "unix:$TEST_DIR/foo"
check "nbdcopy to a Ceph image" timeout 120 nbdcopy "$TEST_DIR/source" "$uri"
check "nbdcopy from a Ceph image" timeout 120 nbdcopy "$uri" "$TEST_DIR/copy"
check "the same comes back" cmp "$TEST_DIR/source" "$TEST_DIR/copy"
check "the cluster has it" same_in_cluster
check "nbdinfo on a Ceph image" nbdinfo "$uri"
check_equal "qemu-img info of a Ceph image tells its size" "$(qemu_size "$uri")" 67108864
check "qemu-img compare with a Ceph image" timeout 120 \
	qemu-img compare -f raw -F raw "$TEST_DIR/source" "$uri"
check "qemu-img convert from a Ceph image" timeout 120 \
	qemu-img convert -f raw -O raw "$uri" "$TEST_DIR/copy"
check "qemu-img convert read it right" cmp "$TEST_DIR/source" "$TEST_DIR/copy"
head -c 64M /dev/urandom >"$TEST_DIR/source"
check "qemu-img convert to a Ceph image" timeout 120 \
	qemu-img convert -n -f raw -O raw "$TEST_DIR/source" "$uri"
check "the cluster has that too" same_in_cluster
check "fio verifies on a Ceph image" timeout 120 fio --name=v --ioengine=nbd --uri="$uri" \
	--rw=randwrite --bsrange=4k-256k --size=8M --iodepth=16 --numjobs=2 --offset_increment=16M \
	--thread --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 \
	--output="$TEST_DIR/fio"
check "zeroes, discard, flush on a Ceph image" timeout 60 qemu-io -f raw -c 'write -P 7 0 8M' \
	-c 'write -z 1M 1M' -c 'read -P 0 1M 1M' -c 'discard 4M 4M' -c 'read -P 0 4M 4M' -c flush \
	-c 'read -P 7 0 1M' "$uri"
check_equal "qemu-img map of a Ceph image tells its objects from holes" "$(qemu_map "$uri")" \
	"0+4194304 data 4194304+4194304 hole 8388608+58720256 data"
check "sixteen connections to a Ceph image" timeout 120 fio --name=v --ioengine=nbd --uri="$uri" \
	--rw=randwrite --bs=16k --size=1M --iodepth=4 --numjobs=16 --offset_increment=4M --thread \
	--verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 --output="$TEST_DIR/fio"
export_it "$POOL/commands" "${access[@]}" --export-name disk --listen "unix:$TEST_DIR/commands"
check "every command and flag, on a Ceph image" \
	timeout 120 $python3 tests/tools/nbd-commands.py "$TEST_DIR/commands" rbd
check_says 'Cannot export' "an image that is not there" \
	"$urbd" export "$POOL/none" "${access[@]}" --listen "unix:$TEST_DIR/foo"

# A flush on one connection covers the writes that completed on others, which librbd's cache holds.
multi_is_stored() { near_cluster rbd --id "$CLIENT" export "$POOL/multi" - 2>/dev/null | cmp - "$TEST_DIR/multi"; }
# Once all have written, it waits for a word, so that one can see what the cluster does not have yet.
flush_one_of_sixteen() { # URI
	$python3 -u -c '
import nbd, sys
handles = []
for i in range(16):
    handles.append(nbd.NBD())
    handles[i].connect_uri(sys.argv[1])
    assert handles[i].can_multi_conn()
handles[0].flush()  # from here on the cache writes back
with open(sys.argv[2], "wb") as expected:
    for i, handle in enumerate(handles):
        data = bytes([i + 1]) * 65536
        handle.pwrite(data, i * 65536)
        expected.write(data)
print("written")
sys.stdin.readline()
handles[5].flush()
print("flushed")
sys.stdin.readline()' "$1" "$TEST_DIR/multi"
}

near_cluster rbd --id "$CLIENT" create "$POOL/multi" --size 1M
export_it "$POOL/multi" "${access[@]}" --listen "unix:$TEST_DIR/multi.sock" \
	-o rbd_cache=true,rbd_cache_policy=writeback,rbd_cache_max_dirty_age=3600
mkfifo "$TEST_DIR"/sixteen.{in,out}
flush_one_of_sixteen "$uri" <"$TEST_DIR/sixteen.in" >"$TEST_DIR/sixteen.out" 2>"$TEST_DIR/sixteen.log" & client=$!
exec 7>"$TEST_DIR/sixteen.in" 8<"$TEST_DIR/sixteen.out"
they_say() { # WORD
	local word=''
	read -r -t 60 word <&8
	[[ $word = "$1" ]] || { cat "$TEST_DIR/sixteen.log" && return 1; }
}
check "sixteen connections write" they_say written
check_says 'differ: ' "the cluster lacks some of it, which a cache holds" multi_is_stored
check "one of them flushes" eval 'echo flush >&7 && they_say flushed'
check "the cluster has what all of them wrote, and all are there" multi_is_stored
exec 7>&- 8<&-
wait "$client" || not_ok "they leave" "$(<"$TEST_DIR/sixteen.log")"

# ---- hostile clients, of a Ceph image

near_cluster rbd --id "$CLIENT" create "$POOL/hostile" --size 64M
export_it "$POOL/hostile" "${access[@]}" --export-name disk --listen "unix:$TEST_DIR/hostile" \
	--fault 'write@32M+32M=delay:2000'
for case in slow-reader ten-thousand-requests waits-for-no-answer writes-before-any-answer \
	stops-in-header stops-in-payload stops-in-handshake leaves-in-flight speaks-nonsense is-cut-off \
	talks-after-good-bye; do
	check "a hostile client of a Ceph image: ${case//-/ }" \
		timeout 120 $python3 tests/tools/nbd-hostile.py "$TEST_DIR/hostile" $case
done
export_it "file:$TEST_DIR/a" --export-name disk --listen "unix:$TEST_DIR/memory"
check "clients that read nothing cannot take more than --export-memory" timeout 120 \
	$python3 tests/tools/nbd-hostile.py "$TEST_DIR/memory" many-slow-readers "$daemon"

# ---- the end

timeout 60 qemu-io -f raw -c 'sleep 50000' "$uri" & client=$!
sleep 1
stop_daemon "the daemon ends cleanly with a client connected"
check_equal "its sockets are gone" "$(ls "$TEST_DIR/all" "$TEST_DIR/foo" 2>/dev/null)" ''
kill $client 2>/dev/null || true

# ---- TLS at start-up's address

start_with_tls() { # OPTION...: sets `uri`, of one of two exports
	start_daemon --listen 127.0.0.1:0 "$@"
	export_it null:1M --export-name one
	export_it null:2M --export-name two
}

names_at() { # URI
	near_cluster nbdinfo --json --list "$1" | jq -r '[.exports[]."export-name"] | join(" ")'
}

# A client's credentials are written into the URI, before and behind what urbd prints.
served_with_tls() { # WHAT URI
	check_equal "start-up's address with $1: a client is served" "$(near_cluster nbdinfo --size "$2")" 2097152
	check_equal "start-up's address with $1: it sees all exports" "$(names_at "${2/two/}")" "one two"
	check_code 1 "start-up's address with $1: a client without TLS is refused" \
		near_cluster nbdinfo --size "${uri/nbds/nbd}"
	stop_daemon "the daemon with $1 ends cleanly"
}

start_with_tls --tls-certificates "$pki"
check "the URI tells TLS" grep -q '^nbds://127.0.0.1:[0-9]*/two$' <<<"$uri"
check_code 1 "start-up's address with certificates: a client without one is refused" \
	near_cluster nbdinfo --size "$uri?tls-certificates=$pki/stranger"
served_with_tls certificates "$uri?tls-certificates=$pki/client"
start_with_tls --tls-keys "$pki/keys.psk"
check_code 1 "start-up's address with a key: a client with another is refused" \
	near_cluster nbdinfo --size "${uri/:\/\//://alice@}?tls-psk-file=$pki/wrong.psk"
served_with_tls "a key" "${uri/:\/\//://alice@}?tls-psk-file=$pki/keys.psk"
