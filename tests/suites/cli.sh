#!/bin/bash
# about: urbd's command line: usage, help, keys, output, and its way with a daemon or none
# limit: 360
. "$(dirname "$0")/../lib.sh"
require_program python3 python3

urbd=$build/cli/urbd
urbdd=$build/daemon/urbdd
unset URBD_SOCKET

# Of the command: exit code 2, nothing on stdout, and one line on stderr that matches.
usage() { # PATTERN ARGUMENT...
	local pattern=$1 out
	shift
	status=0
	out=$("$urbd" "$@" 2>"$TEST_DIR/stderr") || status=$?
	output=$(<"$TEST_DIR/stderr")
	if ((status == 2)) && [[ -z $out ]] && (($(wc -l <"$TEST_DIR/stderr") == 1)) &&
		[[ $output = "urbd: "*"See 'urbd "*"--help'." ]] && grep -qE -- "$pattern" <<<"$output"; then
		ok "usage: urbd $*"
	else
		not_ok "usage: urbd $*" "exit $status, no '$pattern': $output $out"
	fi
}

# ---- usage

usage 'No command'
usage "no command 'mop'" mop
usage "no command 'mop'" help mop
usage 'no option -x' -x
usage 'no option --bogus' --bogus list
usage '--socket wants a value' --socket
usage '--socket wants a path' --socket '' list
usage "map has no option --bogus\\." map --bogus=x foo
usage 'map has no option -Z' map -Z foo
usage 'map needs IMAGE' map
usage "what to do with 'bar'" map foo bar
usage "what to do with 'bar'" list bar
usage "what to do with 'bar'" unmap /dev/ublkb0 bar
usage "what to do with 'b'" status a b
usage "what to do with 'bar'" version bar
usage 'unmap needs' unmap
usage 'drain needs DEVICE' drain
usage 'names no image' map ''
usage 'names no image' map a/b/c/d
usage 'names no image' map foo@
usage 'names no image' unmap p//foo
usage 'file: names no file' map file:
usage 'null:1X has no size' map null:1X
usage 'null image has no name' unmap null:1G
usage 'null:1 is too small' map null:1
usage '"io_timeout" does not go' map --io-timeout 5 null:1M
usage '"io_timeout" does not go' export --io-timeout 5 file:/x
usage 'not valid UTF-8' map $'f\xff'
usage 'image once' map --image foo bar
usage 'pool is given twice' map --pool a b/foo
usage 'snapshot is given twice' map --snap a foo@b
usage '"pool" does not go' map --pool a file:/x
usage '"device" and "pool"' unmap --pool a /dev/ublkb0
usage '--read-only takes no value' map --read-only=yes foo
usage '--queues wants a number from 1 to 32' map --queues 33 foo
usage '--queue-depth wants a number' map --queue-depth 0 foo
usage '--timeout wants a number' map --timeout 5s foo
usage '--timeout wants a number' unmap --timeout 0 foo
usage '--monitors wants a value' map -m '' foo
usage '"frontend" must be auto, ublk or nbd' map --frontend loop foo
usage '"client" must be' map --client pool:0 foo
usage '"lock" must be auto, exclusive or none' map --lock shared foo
usage '"lock" does not go' map --exclusive file:/x
usage '--lock is given twice: none and exclusive' map --lock none --exclusive foo
usage '--lock is given twice: exclusive and auto' export --exclusive --lock=auto foo
usage '--exclusive takes no value' map --exclusive=yes foo
usage 'not .xml.' list --format xml
usage '--pretty-format goes with --format json' list --pretty-format
usage 'takes the name alone: --id kube' map --id client.kube foo
usage 'client.NAME' map --name kube foo
usage 'NAME=VALUE' map -o rbd_cache foo
usage 'NAME=VALUE' map -o a=b,,c=d foo
usage '"options"' map -o 'a/b=c' foo

# ---- keys stay out of argv, and of what is said about it

for words in '--key TOPSECRET' '--key=TOPSECRET' '-o key=TOPSECRET' '--keyy=TOPSECRET' '-o a=b,key=TOPSECRET'; do
	usage '' map $words foo
	check_code 1 "no key is repeated: $words" grep -q TOPSECRET "$TEST_DIR/stderr"
done
usage '--keyfile' map --key TOPSECRET foo
usage '--keyfile' map -o key=TOPSECRET foo
printf '[client.kube]\n\tkey = TOPSECRET\n' >"$TEST_DIR/keyring"
check_says "keyring, not a key" "a keyring is no key file" "$urbd" map -K "$TEST_DIR/keyring" foo
check_code 1 "its key is not repeated" grep -q TOPSECRET <<<"$output"
check_says "is empty" "an empty key file is told" "$urbd" map --keyfile /dev/null foo
check_says "Cannot open the key file" "an absent key file is told" "$urbd" map -K /nonexistent foo

check_says "set needs DEVICE" "set wants a target" "$urbd" set
check_says "Say what to change" "and settings" "$urbd" set rbd/foo
check_says "is no setting" "which have a form" "$urbd" set rbd/foo rbd_qos_iops_limit
check_says "given twice" "and stand once" "$urbd" set rbd/foo rbd_qos_iops_limit=1 rbd_qos_iops_limit=2
check_says "only rbd_qos_" "others cannot be changed" "$urbd" set /dev/ublkb0 rbd_cache=true

# ---- help

for words in --help -h help; do
	check "urbd $words" "$urbd" $words
	check_equal "urbd $words names the commands" \
		"$(grep -cE '^  (map|unmap|set|export|unexport|list|status|version|help) ' <<<"$output")" 9
done
for command in map unmap set export unexport list showmapped status version help; do
	check "urbd help $command" "$urbd" help $command
	text=$output
	check "urbd $command --help" "$urbd" $command --help
	check_equal "both are the same: $command" "$output" "$text"
	check_code 1 "lines have up to 80 columns: $command" grep -E '.{81}' <<<"$text"
	check "help says nothing on stderr: $command" \
		bash -c '[[ -z $("$1" help "$2" 2>&1 >/dev/null) ]]' - "$urbd" $command
done
check "--help wins over missing arguments" "$urbd" unmap --force --help
check "urbd --version" "$urbd" --version
check_equal "it is one line" "$output" "urbd $(sed -n "s/^  version: '\(.*\)',/\1/p" meson.build)"
check_code 1 "output that cannot be written is a failure" bash -c '"$1" --help >/dev/full' - "$urbd"

documented() { # every long option of the help stands in the man page
	local command option
	for command in map unmap set export unexport list status; do
		for option in $("$urbd" help $command | grep -oE '^ +(-., )?--[a-z-]+' | grep -oE '[a-z-]+$'); do
			option=${option#--}
			grep -qE "Fl (. , )?-$option\b" docs/man/urbd.8 || {
				echo "$command $option is not in docs/man/urbd.8"
				return 1
			}
		done
	done
}
check "the man page has every option" documented

# ---- no daemon

check_says "is urbdd running\? Start it with 'systemctl start urbd'" "no daemon is told" \
	"$urbd" --socket "$TEST_DIR/none" list
check_code 1 "with exit code 1" "$urbd" list --socket "$TEST_DIR/none"
check_says "at $TEST_DIR/env:" "URBD_SOCKET names the socket" \
	env URBD_SOCKET="$TEST_DIR/env" "$urbd" map foo
check_says "at $TEST_DIR/opt:" "--socket overrides it" \
	env URBD_SOCKET="$TEST_DIR/env" "$urbd" map foo --socket "$TEST_DIR/opt"
check_says "too long" "a long socket path is told" "$urbd" --socket "/$(printf 'x%.0s' {1..120})" list
check_says "^urbd [0-9.]+$" "urbd version shows its own without a daemon" \
	"$urbd" --socket "$TEST_DIR/none" version

# ---- what is sent and shown, with a daemon that answers from a file

cat >"$TEST_DIR/canned" <<'EOF'
import json, os, socket, sys
path, seen, *answers = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path + ".new")
    listener.listen()
    os.rename(path + ".new", path)
    for answer in answers:
        with listener.accept()[0] as peer, open(seen, "w") as log:
            request = json.loads(peer.makefile().readline())
            json.dump(request["params"], log, sort_keys=True)
            log.flush()
            peer.sendall(('{"jsonrpc":"2.0","id":%d,%s}\n' % (request["id"], answer)).encode())
os.unlink(path)
EOF

# Runs urbd against such a daemon; sets output and status as run does, and params.
canned() { # ANSWER ARGUMENT...
	answering "$1" "$urbd" --socket "$TEST_DIR/canned.sock" "${@:2}"
}

later_answers=() # to calls after the first one
answering() { # ANSWER COMMAND...
	local answer=$1 pid
	shift
	rm -f "$TEST_DIR/canned.sock" "$TEST_DIR/params"
	python3 "$TEST_DIR/canned" "$TEST_DIR/canned.sock" "$TEST_DIR/params" "$answer" "${later_answers[@]}" &
	pid=$!
	eventually 120 test -S "$TEST_DIR/canned.sock"
	run "$@"
	kill $pid 2>/dev/null || true
	wait $pid 2>/dev/null || true
	params=$(cat "$TEST_DIR/params" 2>/dev/null) || params='(none)'
}

mapped='"result":{"id":3,"device":"/dev/ublkb3","frontend":"ublk","existing":false,"read_only":true}'
refused() { # ERRNO TEXT
	printf '"error":{"code":-32000,"message":"%s","data":{"errno":"%s"}}' "$2" "$1"
}

sends() { # PARAMS ARGUMENT...
	local wanted=$1
	shift
	canned "$mapped" "$@"
	check_equal "urbd $* sends" "$params" "$wanted"
}

sends '{"image": "foo", "type": "rbd"}' map foo
sends '{"image": "foo", "namespace": "n", "pool": "p", "snapshot": "s", "type": "rbd"}' map p/n/foo@s
sends '{"image": "foo", "namespace": "n", "pool": "p", "snapshot": "s", "type": "rbd"}' \
	map -p p --namespace n --image foo --snap s
sends '{"image": "foo", "pool": "p", "type": "rbd"}' map --namespace '' -p p -- p/foo
sends '{"image": "foo", "monitors": "10.0.0.1,10.0.0.2", "type": "rbd", "user": "kube"}' \
	map foo -m 10.0.0.1,10.0.0.2 --id kube
sends '{"image": "foo", "type": "rbd", "user": "kube"}' map -n client.kube foo
sends '{"conf": "/conf", "image": "foo", "keyring": "/keyring", "type": "rbd"}' map foo -c /conf -k /keyring
sends '{"image": "foo", "options": {"a": "1,2", "b_c": "", "d": "x=y"}, "type": "rbd"}' \
	map foo -o 'a=1\,2,b-c=' -o d=x=y
sends '{"client": "pool:2", "fault": "read=EIO", "frontend": "nbd", "image": "foo", "queue_depth": 64, "queues": 2, "read_only": true, "timeout": 5, "type": "rbd"}' \
	map --client pool:2 --fault read=EIO --frontend nbd --queue-depth 64 --queues 2 --read-only --timeout 5 foo
sends "{\"path\": \"$TEST_DIR/disk\", \"type\": \"file\"}" map "file:$TEST_DIR/../${TEST_DIR##*/}/disk"
sends '{"size": 1048576, "type": "null"}' map null:1M
sends '{"device": "/dev/ublkb3", "force": true}' unmap --force /dev/ublkb3
sends '{"image": "foo", "lock": "exclusive", "type": "rbd"}' map foo --exclusive
sends '{"image": "foo", "lock": "exclusive", "type": "rbd"}' map foo --exclusive --lock exclusive
sends '{"image": "foo", "lock": "none", "type": "rbd"}' map foo --lock none
sends '{"image": "foo", "type": "rbd"}' unmap foo
sends '{"image": "foo", "name": "p/foo", "pool": "p", "type": "rbd"}' unexport p/foo
sends '{"image": "foo", "pool": "p", "type": "rbd"}' unexport -p p foo
sends '{"name": "a/b/c/d"}' unexport a/b/c/d
sends '{"name": "nbd://h:1/foo"}' unexport nbd://h:1/foo
sends '{"name": "foo"}' unexport --export-name foo
sends '{"name": "null:1M", "size": 1048576, "type": "null"}' unexport null:1M
sends '{"device": "/dev/null"}' status /dev/null
sends '{"device": "/dev/null"}' stat /dev/null
sends '{"export": "p/foo", "image": "foo", "pool": "p", "type": "rbd"}' stat p/foo
sends '{"export": "nbd://h:1/foo"}' stat nbd://h:1/foo
sends '{"export": "a/b/c/d"}' stat a/b/c/d

printf ' \nAQkey==\n\n' >"$TEST_DIR/key"
sends '{"image": "foo", "key": "AQkey==", "type": "rbd"}' map foo --keyfile "$TEST_DIR/key"
sends '{"image": "foo", "key": "AQkey==", "type": "rbd"}' map foo -K - <"$TEST_DIR/key"

(cd "$TEST_DIR" && touch disk here.conf)
cd "$TEST_DIR"
sends "{\"conf\": \"$TEST_DIR/here.conf\", \"image\": \"foo\", \"type\": \"rbd\"}" map foo -c here.conf
sends "{\"path\": \"$TEST_DIR/disk\", \"type\": \"file\"}" map file:./disk
cd "$top"

canned "$mapped" map foo
check_equal "map prints the device alone" "$status $output" "0 /dev/ublkb3"
canned "${mapped/false/true,\"unmet\":[\"queues\",\"queue_depth\"]}" map --queues 2 foo
check_equal "that it was mapped otherwise is noted" "$status $output" \
	"0 urbd: It is mapped already, as /dev/ublkb3, and stays as it is, without what was asked for by --queues, --queue-depth.
/dev/ublkb3"
canned "$mapped" unmap /dev/ublkb3
check_equal "unmap prints nothing" "$status $output" "0 "
canned '"result":{"devices":[],"orphans":["/dev/ublkb7"]}' unmap --all
check "unmap --all names what it leaves" grep -q '^urbd: /dev/ublkb7 stays: .*unmap --force /dev/ublkb7' <<<"$output"
canned "$(refused EACCES 'The key is wrong.')" map foo
check_equal "a refusal is told with exit code 1" "$status $output" "1 urbd: The key is wrong."
canned "$(refused ENXIO 'rbd/foo is not mapped.')" unmap foo
check_equal "unmap of what is not mapped succeeds" "$status $output" "0 urbd: rbd/foo is not mapped."
canned "$(refused ENOENT 'rbd/foo is not mapped.')" unmap foo
check_equal "another errno does not, whatever the sentence" "$status $output" "1 urbd: rbd/foo is not mapped."
canned "$(refused EBUSY 'It is mounted.')" unmap foo
check_equal "nor does a device in use" "$status" 1
canned 'nonsense' list
check_equal "what is no answer is told" "$status ${output%%;*}" \
	"1 urbd: What answers at the socket does not speak urbdd's protocol"

canned '"result":{"version":"1","pid":2,"queues":1,"frontends":{},"orphans":[],"devices":[{"device":"/dev/ublkb3","type":"rbd","pool":"rbd","image":"foo","state":"quiesced","size":4096,"image_size":8192,"cluster":"abc","user":"kube","lock":"auto","sharing":"pool:4","io_timeout":0,"options":{"rbd_cache":"false","x":"1"}}]}' status
check_equal "status shows how an image was mapped" "$(grep -A 20 '^/dev' <<<"$output")" "\
/dev/ublkb3: rbd/foo
  state        quiesced
  size         4 KiB (4096 bytes)
  image size   8 KiB (8192 bytes)
  cluster      abc
  user         kube
  sharing      pool:4
  lock         auto
  options      rbd_cache=false,x=1"

# ---- stat: the table that stands for an answer

op() { # NAME REQUESTS ERRORS BYTES FRONTEND QUEUE STORAGE BUCKETS: times of all requests together, in us
	printf '"%s":{"requests":%d,"errors":%d,"bytes":%d,"buckets":[%s]' "$1" "$2" "$3" "$4" "$8"
	printf ',"frontend":{"total_ns":%d},"queue":{"total_ns":%d},"storage":{"total_ns":%d},"latency":{"total_ns":%d}}' \
		$(($5 * 1000)) $(($6 * 1000)) $(($7 * 1000)) $((($5 + $6 + $7) * 1000))
}
stat_rows() { # SECONDS OPS [SINCE]
	printf '"result":{"rows":[{"device":"/dev/ublkb0","age_ns":%d000000000,"since_ns":%d,"in_flight":3,"ops":{%s}}' \
		"$1" "${3:-5}" "$2"
	printf ',{"export":"idle","uri":"nbd://h:1/idle","age_ns":%d000000000,"in_flight":0,"ops":{}}]}' "$1"
}
others=$(op write 500 100 1638400 500000 500000 4000000 '[16000000,500]'),$(op flush 100 0 0 0 0 300000 '[4000000,100]')
reads=$(op read 1000 0 16384000 100000 400000 1500000 '[1000000,500],[4000000,490],[8000000,9],[16000000,1]')
first=$(stat_rows 10 "$reads,$others")
reads=$(op read 1200 0 17203200 120000 430000 5450000 \
	'[1000000,510],[4000000,490],[8000000,9],[16000000,1],[32000000,190]')
second=$(stat_rows 12 "$reads,$others")

canned "$first" stat
check_equal "stat tells of all since the device is there" "$output" "\
device          r/s    w/s   o/s  rMB/s  wMB/s areq-sz aqu-sz inflight r_await w_await    p99 errors
/dev/ublkb0   100.0   50.0  10.0    1.6    0.2    12.6   0.73        3   2.000   10.00  16.00    100
idle            0.0    0.0   0.0    0.0    0.0     0.0   0.00        0   0.000   0.000  0.000      0"
canned "$first" stat --extended
check_equal "and by the kind of request" "$output" "\
device       op     req/s   MB/s areq-sz aqu-sz  await    p50    p99  p99.9 frontend  queue storage errors
/dev/ublkb0  read   100.0    1.6    16.0   0.20  2.000  1.000  4.000  8.000    0.100  0.400   1.500      0
/dev/ublkb0  write   50.0    0.2     4.0   0.50  10.00  16.00  16.00  16.00    1.000  1.000   8.000    100
/dev/ublkb0  flush   10.0    0.0     0.0   0.03  3.000  4.000  4.000  4.000    0.000  0.000   3.000      0
idle         -        0.0    0.0     0.0   0.00  0.000  0.000  0.000  0.000    0.000  0.000   0.000      0"
later_answers=("$second")
canned "$first" stat --interval 1
check_equal "the second time, of what came since the first" "$(sed -n 5,7p <<<"$output")" "\
device          r/s    w/s   o/s  rMB/s  wMB/s areq-sz aqu-sz inflight r_await w_await    p99 errors
/dev/ublkb0   100.0    0.0   0.0    0.4    0.0     4.0   2.00        3   20.00   0.000  32.00      0
idle            0.0    0.0   0.0    0.0    0.0     0.0   0.00        0   0.000   0.000  0.000      0"
canned "$first" stat --interval 1 -x
check_equal "by the kind of request, too" "$(sed -n 7,9p <<<"$output")" "\
device       op     req/s   MB/s areq-sz aqu-sz  await    p50    p99  p99.9 frontend  queue storage errors
/dev/ublkb0  read   100.0    0.4     4.0   2.00  20.00  32.00  32.00  32.00    0.100  0.150   19.75      0
/dev/ublkb0  write    0.0    0.0     0.0   0.00  0.000  0.000  0.000  0.000    0.000  0.000   0.000      0"
# Another daemon, for longer than the first had been there.
later_answers=("$(stat_rows 20 "$(op write 200 0 819200 100000 0 100000 '[2000000,200]')" 7)")
canned "$first" stat --interval 1
check_equal "a daemon that is new since the first look has begun anew" "$(sed -n 5,6p <<<"$output")" "\
device          r/s    w/s   o/s  rMB/s  wMB/s areq-sz aqu-sz inflight r_await w_await    p99 errors
/dev/ublkb0     0.0   10.0   0.0    0.0    0.0     4.0   0.01        3   0.000   1.000  2.000      0"
later_answers=()
usage "json has all of it" stat --json --extended

# What the completion makes of the last word; the daemon is that of --socket.
completes() { # ANSWER WORD...
	local answer=$1
	shift
	cat >"$TEST_DIR/complete" <<-'END'
		export PATH=$1:$PATH
		_init_completion() {
			words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
			cur=${words[cword]} prev=${words[cword - 1]}
		}
		complete() { :; }
		. cli/urbd.bash
		COMP_WORDS=(urbd --socket "$2" "${@:3}")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		_urbd
		echo "${COMPREPLY[@]}"
	END
	answering "$answer" bash "$TEST_DIR/complete" "${urbd%/*}" "$TEST_DIR/canned.sock" "$@"
}
served='"result":{"devices":[{"id":0,"type":"null","image":"4096","device":"/dev/ublkb0"}],"exports":[{"name":"two","uri":"nbd://h:1/two","type":"null"}]}'
completes "$served" unmap ''
check_equal "unmap completes devices" "$output" /dev/ublkb0
completes "$served" unexport t
check_equal "unexport completes the names of exports" "$output" two
completes "$served" stat ''
check_equal "stat completes both" "$output" "/dev/ublkb0 two"

devices='"result":{"devices":[
{"id":0,"type":"rbd","pool":"rbd","namespace":"","image":"foo","snapshot":"","device":"/dev/ublkb0","frontend":"ublk","state":"live","read_only":false},
{"id":11,"type":"rbd","pool":"kube","namespace":"team","image":"a-long-name","snapshot":"s1","device":"/dev/nbd0","frontend":"nbd","state":"live","read_only":true},
{"id":2,"type":"file","pool":"","namespace":"","image":"/srv/disk","snapshot":"","device":"/dev/ublkb2","frontend":"ublk","state":"live","read_only":false},
{"id":3,"type":"null","pool":"","namespace":"","image":"4096","snapshot":"","device":"/dev/ublkb3","frontend":"ublk","state":"live","read_only":false}]}'
devices=${devices//$'\n'/}
table="\
id  pool  namespace  image           snap  device
0   rbd              foo             -     /dev/ublkb0
11  kube  team       a-long-name     s1    /dev/nbd0
2                    file:/srv/disk  -     /dev/ublkb2
3                    null:4096       -     /dev/ublkb3"
canned "$devices" list
check_equal "list prints the field's columns" "$output" "$table"
canned "$devices" showmapped
check_equal "showmapped is list" "$output" "$table"
canned "$devices" list --format=json
check_equal "list prints the field's members as json" \
	"$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])[1])' "$output")" \
	"{'id': 11, 'pool': 'kube', 'namespace': 'team', 'image': 'a-long-name', 'snap': 's1', 'device': '/dev/nbd0', 'frontend': 'nbd', 'state': 'live', 'read_only': True}"
check_equal "on one line" "$(wc -l <<<"$output")" 1
canned "$devices" list --format json --pretty-format
check_equal "--pretty-format breaks lines" "$(($(wc -l <<<"$output") > 20))" 1
devices=${devices/live/quiesced}
canned "${devices/\"state\":\"live\"/\"stalled\":true,\"state\":\"live\"}" list --long
check_equal "list --long has more columns" "$output" "\
id  pool  namespace  image           snap  device       frontend  access  state     clients
0   rbd              foo             -     /dev/ublkb0  ublk      rw      quiesced  -
11  kube  team       a-long-name     s1    /dev/nbd0    nbd       ro      stalled   -
2                    file:/srv/disk  -     /dev/ublkb2  ublk      rw      live      -
3                    null:4096       -     /dev/ublkb3  ublk      rw      live      -"
canned '"result":{"devices":[]}' list
check_equal "list prints nothing when nothing is mapped" "$status [$output]" "0 []"
canned '"result":{"devices":[]}' list --format json
check_equal "and an empty array as json" "$output" "[]"

# ---- the real daemon

if [[ ! -x $urbdd ]]; then
	skip "with the real daemon" "it was not built"
	exit 0
fi
export URBD_SOCKET=$TEST_DIR/urbd.sock
for wrong in '--export-connections 0' '--export-handshake 3601' '--export-request 512K' \
	'--export-request 33M' '--export-memory nothing' '--queues 4 --export-memory 100M' \
	'--queues 64 --export-request 16M --export-memory 1023M'; do
	# shellcheck disable=SC2086  # words
	check_code 2 "urbdd refuses $wrong" "$urbdd" --socket "$URBD_SOCKET" $wrong
done
"$urbdd" --socket "$URBD_SOCKET" --state-dir "$TEST_DIR/state" --queues 1 --debug \
	2>"$TEST_DIR/urbdd.log" &
daemon=$!
on_exit kill $daemon
eventually 120 "$urbd" list >/dev/null 2>&1 || not_ok "the daemon starts" "$(<"$TEST_DIR/urbdd.log")"

check_equal "the state directory is made private" "$(stat -c %a "$TEST_DIR/state")" 700
mkdir -m 1777 "$TEST_DIR/liketmp"
check_says "liketmp is open to other users \(mode 1777\)" "a state directory that others may enter is refused" \
	"$urbdd" --socket "$TEST_DIR/second.sock" --state-dir "$TEST_DIR/liketmp"
check_equal "and stays as it was" "$(stat -c %a "$TEST_DIR/liketmp") $(ls "$TEST_DIR/liketmp")" "1777 "

run "$urbd" list
check_equal "nothing is mapped at first" "$status [$output]" "0 []"
check "urbd version asks the daemon" "$urbd" version
check_equal "both versions are told" "$(cut -d' ' -f1 <<<"$output" | xargs)" "urbd urbdd"
check "urbd status" "$urbd" status
check "it tells the daemon's pid" grep -q "pid $daemon" <<<"$output"
check "and that it serves nothing" grep -q '^no devices and no exports$' <("$urbd" status)
check "urbd status --format json is json" \
	bash -o pipefail -c '"$1" status --format json | python3 -m json.tool' - "$urbd"
run "$urbd" unmap /dev/ublkb77
check_equal "unmap of what is not mapped succeeds" "$status $output" \
	"0 urbd: /dev/ublkb77 is not mapped."
check "by its name, too" "$urbd" unmap rbd/foo
check_says "no file $TEST_DIR/absent" "an absent file is told" "$urbd" map "file:$TEST_DIR/absent"
check_says "no_such_option" "an unknown option is told" \
	"$urbd" map foo -m 127.0.0.1:1 -K "$TEST_DIR/key" -o no_such_option=1
check_code 1 "and that ends with 1" "$urbd" status /dev/ublkb77
for command in status drain resume; do
	check_says "rbd/foo is not mapped" "urbd $command of an image that is not mapped" "$urbd" $command foo
	check_equal "fails" "$status" 1
	usage 'names no image' $command 'foo@'
done
check "--debug logs calls" grep -q 'debug: list is done' "$TEST_DIR/urbdd.log"
check "and why they failed" grep -q 'debug: map failed .*no_such_option' "$TEST_DIR/urbdd.log"
check_code 1 "and no key" grep -qF 'AQkey==' "$TEST_DIR/urbdd.log"

# What the daemon says before it answers; a kernel without frontends answers with an error.
progress() { # PATH
	python3 - "$URBD_SOCKET" "$1" <<-'EOF'
		import json, socket, sys
		ask = {"jsonrpc": "2.0", "id": "m", "method": "map",
		       "params": {"type": "file", "path": sys.argv[2], "timeout": 20}}
		with socket.socket(socket.AF_UNIX) as s:
		    s.settimeout(60)
		    s.connect(sys.argv[1])
		    s.sendall((json.dumps(ask) + "\n").encode())
		    for line in s.makefile():
		        message = json.loads(line)
		        if "method" not in message:
		            assert message["id"] == "m", message
		            break
		        assert message["method"] == "progress" and message["params"]["id"] == "m", message
		        print(message["params"]["text"])
	EOF
}
truncate -s 1M "$TEST_DIR/disk"
run progress "$TEST_DIR/disk"
check_equal "map tells how far it has come" "$status $output" $'0 opening the image\nstarting the device'
run "$urbd" unmap "file:$TEST_DIR/disk"

# Another daemon, whose socket everybody can reach: its group alone gets an answer.
group_admitted() {
	local directory pid group=60000
	local -a other=(setpriv --reuid 65534)
	directory=$(mktemp -d /tmp/urbd-cli.XXXXXX)
	on_exit rm -rf "$directory"
	chmod 755 "$directory"
	cp "$urbd" "$directory/urbd"
	"$urbdd" --socket "$directory/sock" --state-dir "$directory/state" --queues 1 --group daemon \
		2>"$TEST_DIR/urbdd-group.log" &
	pid=$!
	on_exit kill $pid
	eventually 120 "$urbd" --socket "$directory/sock" list >/dev/null 2>&1
	chmod 666 "$directory/sock"
	check "a user whose group is --group is let in" \
		"${other[@]}" --regid daemon --clear-groups "$directory/urbd" --socket "$directory/sock" list
	check "so is one that has it besides" \
		"${other[@]}" --regid $group --groups "$group,daemon" "$directory/urbd" --socket "$directory/sock" list
	check_code 1 "one in other groups is not, whatever the socket's mode" \
		"${other[@]}" --regid $group --groups "$group" "$directory/urbd" --socket "$directory/sock" list
	check_code 1 "nor is one in a single other group" \
		"${other[@]}" --regid $group --clear-groups "$directory/urbd" --socket "$directory/sock" list
}
for words in -h --help -V --version; do check "urbdd $words" "$urbdd" $words; done
check_code 2 "an empty --socket is wrong usage" "$urbdd" --socket ''
check "and told" grep -q -- '--socket takes a path' <<<"$output"

# Without root there are exports.
not_root() {
	local directory pid
	directory=$(mktemp -d /tmp/urbd-cli.XXXXXX)
	on_exit rm -rf "$directory"
	chmod 755 "$directory"
	install -d -o 65534 "$directory/own"
	cp "$urbdd" "$directory/urbdd"
	setpriv --reuid 65534 --regid 65534 --clear-groups "$directory/urbdd" --queues 1 \
		--socket "$directory/own/sock" --state-dir "$directory/own/state" 2>"$TEST_DIR/urbdd-user.log" &
	pid=$!
	on_exit kill $pid
	check "a urbdd that is not root's starts" eventually 120 "$urbd" --socket "$directory/own/sock" list
	check "and says what it cannot" grep -q 'not root: .*block devices take root' "$TEST_DIR/urbdd-user.log"
	check "it serves exports" "$urbd" --socket "$directory/own/sock" export null:1M -l "unix:$directory/own/nbd"
}
((EUID != 0)) || not_root

if ((EUID == 0)) && getent group daemon >/dev/null; then
	group_admitted
else
	skip "--group" "it takes root and a group \"daemon\""
fi

# What no client of ours sends.
hostile() {
	python3 - "$URBD_SOCKET" <<-'EOF'
		import socket, sys
		def talk(data, close=True):
		    with socket.socket(socket.AF_UNIX) as s:
		        s.settimeout(10)
		        s.connect(sys.argv[1])
		        try:
		            s.sendall(data)
		        except (BrokenPipeError, ConnectionResetError):
		            pass
		        if close:
		            s.shutdown(socket.SHUT_WR)
		        try:
		            return s.makefile("rb").readline()
		        except ConnectionResetError:
		            return b""
		ask = b'{"jsonrpc":"2.0","id":1,"method":"list"}\n'
		assert b"-32700" in talk(b"\x00\xff\n"), 1
		assert b"-32700" in talk(b"[" * 60000 + b"\n"), 2
		assert b"-32600" in talk(b"[]\n"), 3
		assert b"-32601" in talk(b'{"jsonrpc":"2.0","id":1,"method":"x"}\n'), 4
		assert b"-32602" in talk(b'{"jsonrpc":"2.0","id":1,"method":"list","params":{"x":1}}\n'), 5
		assert b"result" not in talk(b" " * 70000 + ask), 6
		assert talk(b"") == b"", 7
		assert talk(ask[:-1]) == b"", 8
		assert b"result" in talk(ask * 100), 10
		assert b"result" in talk(ask, close=False), 9
	EOF
}
check "hostile input gets the protocol's errors" hostile
check "and the daemon lives on" "$urbd" list
