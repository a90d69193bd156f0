#!/bin/bash
# about: NBD exports, with the field's clients: commands, TLS, hostile clients
# limit: 600
. "$(dirname "$0")/../lib.sh"
require_program nbdcopy libnbd-bin
require_program qemu-img qemu-utils
require_program certtool gnutls-bin
require_program jq jq
require_python nbd python3-libnbd

server='' socket='' uri=''

# Serves as the options and NAME=SPEC say; sets `server`, `socket` and `uri` (of the first export).
serve() { # NAME OPTION...
	serve_at "unix:$TEST_DIR/$1.sock" "$@"
}

serve_at() { # ADDRESS NAME OPTION...
	local address=$1 name=$2
	shift 2
	socket=''
	[[ $address != unix:* ]] || socket=${address#unix:}
	rm -f "$TEST_DIR/$name.out"
	"$build/tests/tools/nbd-serve" "$address" "$@" >"$TEST_DIR/$name.out" 2>&1 &
	server=$!
	eventually 120 grep -q '^ready' "$TEST_DIR/$name.out" || {
		not_ok "a server starts" "$(<"$TEST_DIR/$name.out")"
		exit 1
	}
	uri=$(sed -n 's/^ready //p' "$TEST_DIR/$name.out")
}

# The server ends cleanly at SIGTERM, with nobody's help.
end_server() { # NAME
	local code=0
	kill -TERM "$server"
	wait "$server" || code=$?
	check_equal "$1: the server ends cleanly" "$code" 0
	[[ ! -e $socket ]] || not_ok "$1: the socket is removed"
}

disk() { # NAME: an empty file of 64 MiB
	rm -f "$TEST_DIR/$1"
	truncate -s 64M "$TEST_DIR/$1"
	echo "file:$TEST_DIR/$1"
}

# What the kernel takes from the server before the client has read any of it, in bytes.
send_buffer() {
	$python3 - "$uri" "$socket" <<'END'
import re, subprocess, sys, nbd
client = nbd.NBD()
client.connect_uri(sys.argv[1])
sockets = subprocess.run(["ss", "-Hxm", "src", sys.argv[2]], check=True, capture_output=True, text=True).stdout
print(max(int(size) for size in re.findall(r",tb(\d+)", sockets)))
END
}

# ---- the field's tools

test_tools() {
	serve tools --queues 2 "disk=$(disk tools.img)"
	check_equal "the socket is private" "$(stat -c %a "$socket")" 600
	check "nbdinfo describes the export" nbdinfo "$uri"
	check "a reply of 1 MiB can be sent at once" test "$(send_buffer)" -ge $((1 << 20))
	check_equal "nbdinfo tells the size" "$(nbdinfo --size "$uri")" 67108864
	check "nbdinfo lists the exports" grep -q '"export-name": "disk"' <(nbdinfo --json --list "${uri/disk/}")
	check "nbdcopy writes" nbdcopy --connections=4 "$TEST_DIR/source" "$uri"
	check "the data arrived" cmp "$TEST_DIR/source" "$TEST_DIR/tools.img"
	check "nbdcopy reads" nbdcopy --connections=4 "$uri" "$TEST_DIR/copy"
	check_equal "what was read is what was written" \
		"$(sha256sum <"$TEST_DIR/copy")" "$(sha256sum <"$TEST_DIR/source")"
	check_equal "qemu-img info tells the size" "$(qemu_size "$uri")" 67108864
	check_equal "qemu-img map tells data from holes" "$(qemu_map "$uri")" "0+20971520 data 20971520+46137344 hole"
	check "qemu-img compare" qemu-img compare -f raw -F raw "$TEST_DIR/source" "$uri"
	check "qemu-img convert reads" qemu-img convert -f raw -O raw "$uri" "$TEST_DIR/converted"
	check "qemu-img convert read it right" cmp "$TEST_DIR/source" "$TEST_DIR/converted"
	check "qemu-img convert writes" \
		qemu-img convert -n -f raw -O raw "$TEST_DIR/source" "$uri"
	check "qemu-io: patterns, zeroes, discard, flush" qemu-io -f raw -c 'write -P 7 1M 3M' \
		-c 'read -P 7 1M 3M' -c 'write -z 2M 1M' -c 'read -P 0 2M 1M' -c 'discard 0 1M' \
		-c 'write -f -P 9 8M 64k' -c flush -c 'read -P 9 8M 64k' "$uri"
	check "fio verifies what it wrote" fio_verify
	end_server tools
}

# An image that stores nothing reads as zeroes, and its map is one hole.
test_null() {
	truncate -s 64M "$TEST_DIR/zeroes"
	head -c 64M /dev/urandom >"$TEST_DIR/noise"
	serve null --queues 2 disk=null:64M
	check "null: nbdinfo" nbdinfo "$uri"
	check "null: nbdinfo --map" grep -q '^ *0 *67108864 *3 ' <(nbdinfo --map "$uri")
	check "null: nbdcopy writes" nbdcopy --connections=4 "$TEST_DIR/noise" "$uri"
	check "null: nbdcopy reads" nbdcopy --connections=4 "$uri" "$TEST_DIR/nothing"
	check_equal "null: what was read is zeroes" \
		"$(sha256sum <"$TEST_DIR/nothing")" "$(sha256sum <"$TEST_DIR/zeroes")"
	check_equal "null: qemu-img info tells the size" "$(qemu_size "$uri")" 67108864
	check_equal "null: qemu-img map tells one hole" "$(qemu_map "$uri")" "0+67108864 hole"
	check "null: qemu-img compare" qemu-img compare -f raw -F raw "$TEST_DIR/zeroes" "$uri"
	check "null: qemu-img convert reads" qemu-img convert -f raw -O raw "$uri" "$TEST_DIR/nothing"
	check "null: qemu-img convert writes" \
		qemu-img convert -n -f raw -O raw "$TEST_DIR/noise" "$uri"
	check "null: qemu-io" qemu-io -f raw -c 'write -P 7 1M 3M' -c 'write -z 2M 1M' \
		-c 'discard 0 1M' -c flush -c 'read -P 0 0 4M' "$uri"
	check "null: fio" fio --name=v --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=4k-256k \
		--size=16M --iodepth=16 --numjobs=4 --thread --output="$TEST_DIR/fio"
	end_server null
}

fio_verify() {
	fio --name=v --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=4k-256k --size=16M \
		--iodepth=16 --numjobs=4 --offset_increment=16M --thread --verify=crc32c \
		--do_verify=1 --verify_fatal=1 --verify_state_save=0 --output="$TEST_DIR/fio"
}

# ---- commands and flags

test_commands() {
	serve commands "disk=$(disk commands.img)"
	check "every command and flag, through libnbd" \
		$python3 tests/tools/nbd-commands.py "$socket"
	end_server commands
	serve nothing disk=null:64M
	check "every command and flag, on an image that stores nothing" \
		$python3 tests/tools/nbd-commands.py "$socket" null
	end_server nothing
	serve readonly --read-only "disk=$(disk readonly.img)"
	check "a read-only export says so" nbdinfo --is read-only "$uri"
	check_says 'denied' "a read-only export refuses writes" \
		qemu-io -f raw -c 'write 0 4k' "$uri"
	end_server "read-only"
	serve errors --fault 'read@1M+1M=EIO;write@1M+1M=ENOSPC' "disk=$(disk errors.img)"
	check_says 'Input/output' "an error of the storage is told (read)" \
		qemu-io -f raw -c 'read 1M 4k' "$uri"
	check_says 'No space' "an error of the storage is told (write)" \
		qemu-io -f raw -c 'write 1M 4k' "$uri"
	check "beside it all is well" qemu-io -f raw -c 'write 4M 4k' -c 'read 4M 4k' "$uri"
	end_server errors
}

# ---- many at once

test_sixteen() {
	serve sixteen --queues 2 "disk=$(disk sixteen.img)"
	check "sixteen connections at once" fio --name=v --ioengine=nbd --uri="$uri" --rw=randwrite \
		--bs=16k --size=4M --iodepth=8 --numjobs=16 --offset_increment=4M --thread \
		--verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0 \
		--output="$TEST_DIR/fio16"
	end_server sixteen
	serve two --connections 2 disk=null:1G other=null:2G
	check_equal "an export is chosen by name" "$(nbdinfo --size "${uri/disk/other}")" 2147483648
	$python3 -c "
import nbd, sys
handles = []
for i in range(3):
    h = nbd.NBD(); h.set_export_name('disk')
    try:
        h.connect_unix('$socket')
    except nbd.Error:
        sys.exit(i != 2)
    handles.append(h)
sys.exit(1)" && ok "more connections than allowed are refused" ||
		not_ok "more connections than allowed are refused"
	end_server two
}

# ---- hostile clients

delays='write@32M+32M=delay:2000;read@32M+32M=delay:2000'

test_hostile() {
	hostile_on file "$(disk hostile.img)"
	hostile_on null null:64M null
}

hostile_on() { # KIND SPEC [ARGUMENT]
	local case
	serve "hostile-$1" --handshake 2 --depth 16 --fault "$delays" "disk=$2"
	for case in slow-reader ten-thousand-requests waits-for-no-answer \
		writes-before-any-answer stops-in-header stops-in-payload \
		stops-in-handshake leaves-in-flight leaves-with-replies-unsent reads-bit-by-bit \
		speaks-nonsense is-cut-off talks-after-good-bye; do
		check "a hostile client, $1: ${case//-/ }" \
			timeout 60 $python3 tests/tools/nbd-hostile.py "$socket" $case "${@:3}"
	done
	end_server "hostile, $1"
}

test_memory() {
	local case
	serve memory --memory 64M "disk=$(disk memory.img)"
	for case in many-slow-readers memory-comes-back those-in-line-are-served; do
		check "memory: ${case//-/ }" \
			timeout 120 $python3 tests/tools/nbd-hostile.py "$socket" $case $server
	done
	end_server memory
}

# Two dozen that do anything, with little memory for them.
serve_mix() { # NAME OPTION...
	serve "$1" --queues 2 --memory 32M --handshake 3 --fault 'write=delay:20;read=delay:5' "${@:2}" \
		"disk=$(disk mix.img)"
}

end_mix() { # NAME [WHAT THE URI NEEDS]
	note "$1: ${output//$'\n'/, }"
	check "$1: a good client is served afterwards" timeout 60 nbdcopy "$uri${2:-}" "$TEST_DIR/mix.copy"
	check "$1: it gets the right data" cmp "$TEST_DIR/mix.copy" "$TEST_DIR/mix.img"
	end_server "$1"
	check_equal "$1: the server had nothing to say" "$(grep -v ^ready "$TEST_DIR/$1.out")" ''
}

test_mix() {
	serve_mix mix
	check "mix: clients that do anything" $python3 tests/tools/nbd-mix.py "$socket" 10
	end_mix mix
}

test_mix_tls() {
	local pki
	make_pki
	serve_mix mix-tls --x509 "$pki"
	check "mix-tls: clients that do anything" \
		$python3 tests/tools/nbd-mix.py --tls "$pki/client" "$socket" 5
	end_mix mix-tls "&tls-certificates=$pki/client"
}

# ---- system calls

may_trace() { strace -o /dev/null true 2>/dev/null; }

# Run a command while the server's calls go to TEST_DIR/calls.
trace_while() { # STRACE'S OPTION... -- COMMAND...
	local options=() tracer status=0
	until [[ $1 = -- ]]; do options+=("$1") && shift; done
	strace -f "${options[@]}" -o "$TEST_DIR/calls" -p $server 2>"$TEST_DIR/strace" & tracer=$!
	eventually 60 grep -qs attached "$TEST_DIR/strace" || { cat "$TEST_DIR/strace" && return 1; }
	"${@:2}" || status=$?
	kill -INT $tracer
	wait $tracer 2>/dev/null || true
	return $status
}

# Of the server, while COUNT batches of SIZE requests are answered.
calls_of() { # COUNT SIZE
	trace_while -c -U calls,name -- \
		$python3 tests/tools/nbd-batch.py "$socket" disk read $(($1 * $2)) "$2" 512
	awk '$2 == "total" { print $1 }' "$TEST_DIR/calls"
}

# What connecting costs, 40 calls or so, is within the allowance.
test_calls() {
	local calls
	may_trace || { skip "system calls are counted" "missing package strace, or it may not trace" && return; }
	serve calls disk=null:64M
	calls=$(calls_of 2000 1)
	note "$calls system calls for 2000 requests, one at a time"
	check "a request alone costs one system call" test "$calls" -le 2100
	calls=$(calls_of 500 32)
	note "$calls system calls for 500 batches of 32 requests"
	check "so do 32 together" test "$calls" -le 900
	end_server calls
}

# How often the server's only queue sends to one client, which over TLS is a system call, in each turn, which
# ends with an io_uring_enter.
test_turns() {
	local pki
	may_trace || { skip "turns are counted" "missing package strace, or it may not trace" && return; }
	make_pki
	serve turns-tls --fault "$delays" --x509 "$pki" "disk=$(disk turns.img)"
	check "a client takes everything, TLS" trace_turns takes-everything "$pki/client"
	note "$output MiB taken over TLS, in $(most_sends) sends a turn at most"
	check "it gets a few sends in a turn" test "$(most_sends)" -ge 1 -a "$(most_sends)" -le 8
	check "a client leaves, TLS" trace_turns leaves-with-replies-unsent "$pki/client"
	check "it was sent something" test "$(most_sends)" -ge 1
	check "it is sent to once after that, if at all" test "$(vain_sends)" -le 1
	end_server turns-tls
}

trace_turns() { # CASE [DIRECTORY]
	trace_while -e trace=sendto,io_uring_enter -- \
		timeout 60 $python3 tests/tools/nbd-hostile.py "$socket" "$@"
}

vain_sends() {
	grep -cE 'sendto.* = -1 E(PIPE|CONNRESET)' "$TEST_DIR/calls" || true
}

most_sends() {
	awk '/io_uring_enter/ { run = 0 } / sendto\(/ && ++run > most { most = run } END { print +most }' "$TEST_DIR/calls"
}

# ---- TLS

make_pki() { # sets `pki`
	pki=$TEST_DIR/pki
	[[ -d $pki ]] || { mkdir "$pki" && run make_certificates "$pki"; }
}

test_tls() {
	local pki clients
	make_pki
	clients="tls-certificates=$pki"
	serve x509 --x509 "$pki" "disk=$(disk x509.img)"
	check "certificates: nbdcopy writes" nbdcopy "$TEST_DIR/source" "$uri&$clients/client"
	check "certificates: nbdcopy reads" nbdcopy "$uri&$clients/client" "$TEST_DIR/copy"
	check "certificates: the data is right" cmp "$TEST_DIR/source" "$TEST_DIR/copy"
	check_code 1 "certificates: a client without one is refused" \
		nbdinfo "$uri&$clients/stranger"
	check_code 1 "certificates: a client without TLS is refused" nbdinfo "${uri/nbds/nbd}"
	check_code 1 "certificates: a client with another authority's is refused" \
		nbdinfo "$uri&$clients/foreign"
	check "certificates: the next one is served" nbdinfo --size "$uri&$clients/client"
	end_server certificates
	mkdir "$pki/other"
	cp "$pki"/server-*.pem "$pki/other"
	cp "$pki/foreign/issuer-cert.pem" "$pki/other/ca-cert.pem"
	serve foreign --x509 "$pki/other" "disk=$(disk x509.img)"
	check "certificates: where that authority is trusted it is served" \
		nbdinfo --size "$uri&$clients/foreign"
	check_code 1 "certificates: and the first one is refused there" nbdinfo "$uri&$clients/client"
	end_server "other certificates"
	make_revoking "$pki" "$pki/revoking" >"$TEST_DIR/revoking.log" 2>&1
	serve revoking --x509 "$pki/revoking" "disk=$(disk x509.img)"
	check_code 1 "certificates: one that ca-crl.pem revokes is refused" nbdinfo "$uri&$clients/client"
	check "certificates: another one of that authority is served" \
		nbdinfo --size "$uri&$clients/revoking/other"
	end_server "revoked certificates"
	serve psk --psk "$pki/keys.psk" "disk=$(disk psk.img)"
	uri=${uri/:\/\/\//://alice@/}
	check "a key: nbdcopy writes" nbdcopy "$TEST_DIR/source" "$uri&tls-psk-file=$pki/keys.psk"
	check "a key: the data is right" cmp "$TEST_DIR/source" "$TEST_DIR/psk.img"
	sed 's/:.*/:0011223344556677/' "$pki/keys.psk" >"$pki/wrong.psk"
	check_code 1 "a wrong key is refused" nbdinfo "$uri&tls-psk-file=$pki/wrong.psk"
	cp "$pki/keys.psk" "$pki/more.psk"
	psktool -u carol -p "$pki/more.psk" >/dev/null
	uri=${uri/alice@/carol@}
	check_code 1 "a user whom the server does not know is refused" nbdinfo "$uri&tls-psk-file=$pki/more.psk"
	cp "$pki/more.psk" "$pki/keys.psk"
	check "once the file has her key she is served" nbdinfo --size "$uri&tls-psk-file=$pki/more.psk"
	end_server "a key"
	tls_over_tcp "$pki"
}

test_hostile_tls() {
	local case pki
	make_pki
	serve hostile-tls --handshake 2 --depth 16 --fault "$delays" --x509 "$pki" "disk=$(disk hostile.img)"
	for case in slow-reader ten-thousand-requests stops-in-header stops-in-payload leaves-in-flight \
		leaves-with-replies-unsent reads-bit-by-bit stalls-before-tls stalls-in-tls-hello \
		stalls-within-tls has-a-foreign-certificate; do
		check "a hostile client, TLS: ${case//-/ }" \
			timeout 60 $python3 tests/tools/nbd-hostile.py "$socket" $case "$pki/client"
	done
	end_server "hostile, TLS"
}

# What a server needs that no longer takes the client's certificate; in other/ is another client's.
make_revoking() { # PKI DIRECTORY
	mkdir -p "$2/other"
	cp "$1"/{server-*,ca-*}.pem "$2"
	echo 'crl_next_update = 7' >"$2/crl.info"
	certtool --generate-crl --load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
		--load-certificate "$1/client-cert.pem" --template "$2/crl.info" --outfile "$2/ca-crl.pem"
	cp "$1"/ca-*.pem "$2/other"
	(cd "$2/other" && make_certificate client)
}

qemu_tls_size() { # HOST PKI: by what the server's `uri` says beside that
	local port=${uri##*:}
	qemu_size --object "tls-creds-x509,id=tls,dir=$2/client,endpoint=client" \
		--image-opts "driver=nbd,host=$1,port=${port%%/*},export=disk,tls-creds=tls"
}

tls_over_tcp() { # PKI
	serve_at 127.0.0.1:0 tls-tcp --x509 "$1" "disk=$(disk tcp.img)"
	check "TLS over TCP: the URI tells it" grep -q '^nbds://127.0.0.1:[0-9]*/disk$' <<<"$uri"
	check_equal "TLS over TCP: qemu-img" "$(qemu_tls_size 127.0.0.1 "$1")" 67108864
	check_code 1 "TLS over TCP: a client without TLS is refused" nbdinfo "${uri/nbds/nbd}"
	uri+="?tls-certificates=$1/client"
	check_equal "TLS over TCP: nbdinfo" "$(nbdinfo --size "$uri")" 67108864
	check "TLS over TCP: nbdsh writes and reads" env URI="$uri" $python3 -m nbd -c '
import os
h.set_uri_allow_local_file(True)
h.connect_uri(os.environ["URI"])
assert h.get_tls_negotiated()
h.pwrite(b"t" * 65536, 4096)
assert h.pread(65536, 4096) == b"t" * 65536'
	end_server "TLS over TCP"
	has_ipv6 || { skip "TLS with IPv6" "this machine has none" && return; }
	serve_at '[::1]:0' tls-tcp6 --x509 "$1" "disk=$(disk tcp.img)"
	check "TLS with IPv6: the URI tells it" grep -q '^nbds://\[::1\]:[0-9]*/disk$' <<<"$uri"
	# libnbd names the address as the server's name, which gnutls refuses; qemu does not.
	check_equal "TLS with IPv6: qemu-img" "$(qemu_tls_size ::1 "$1")" 67108864
	end_server "TLS with IPv6"
}

# ---- TCP, and addresses

test_addresses() {
	local serve=$build/tests/tools/nbd-serve
	check_says 'no address' "a port alone is no address" "$serve" :10809 disk=null:1G
	check_says 'no address' "a name alone is no address" "$serve" nonsense disk=null:1G
	serve live disk=null:1G
	check_says 'in use' "a live socket is not taken away" "$serve" "unix:$socket" disk=null:1G
	kill -KILL "$server"
	wait "$server" 2>/dev/null || true
	serve live disk=null:1G
	ok "a dead server's socket is replaced"
	end_server "unix"
	busy_listener "$TEST_DIR/busy.sock" >"$TEST_DIR/busy" & server=$!
	eventually 60 grep -qs ready "$TEST_DIR/busy" || not_ok "a server takes in no clients"
	check_says 'in use' "nor is one that takes in no clients, or waited for" \
		timeout 60 "$serve" "unix:$TEST_DIR/busy.sock" disk=null:1G
	kill "$server"
	wait "$server" 2>/dev/null || true
	serve_at 127.0.0.1:0 tcp disk=null:1G
	check_equal "TCP" "$(nbdinfo --size "$uri")" 1073741824
	end_server "TCP"
	check_says 'no address' "an IPv6 address stands in brackets" "$serve" ::1:10809 disk=null:1G
	if has_ipv6; then
		serve_at '[::1]:0' tcp6 disk=null:1G
		check_equal "TCP with IPv6" "$(nbdinfo --size "$uri")" 1073741824
		end_server "TCP with IPv6"
	else
		skip "TCP with IPv6" "this machine has none"
	fi
}

busy_listener() { # PATH: as many clients wait there as it lets wait
	exec $python3 -u -c '
import socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(1)
clients = []
try:
    while True:
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].setblocking(False)
        clients[-1].connect(sys.argv[1])
except BlockingIOError:
    print("ready")
time.sleep(120)' "$1"
}

has_ipv6() { ip -6 address show dev lo 2>/dev/null | grep -q 'inet6 ::1'; }

head -c 20M /dev/urandom >"$TEST_DIR/source"
truncate -s 64M "$TEST_DIR/source"
tests=("$@")
(($#)) || tests=(tools null commands sixteen hostile hostile_tls memory mix mix_tls calls turns tls addresses)
for name in "${tests[@]}"; do "test_$name"; done
