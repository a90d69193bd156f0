#!/bin/bash
# about: urbd stat and the metrics for Prometheus: counts, where the time goes, hostile clients
# limit: 300
. "$(dirname "$0")/../lib.sh"
require_program qemu-io qemu-utils
require_program curl curl
require_program fio fio
require_python prometheus_client.parser python3-prometheus-client

urbd=$build/cli/urbd
export URBD_SOCKET=$TEST_DIR/ctl
metrics=$TEST_DIR/metrics

start_daemon() { # OPTION...
	"$build/daemon/urbdd" --state-dir "$TEST_DIR/state" --queues 2 --listen "unix:$TEST_DIR/nbd" "$@" \
		>"$TEST_DIR/urbdd.log" 2>&1 &
	daemon=$!
	await_daemon "the daemon starts" "$TEST_DIR/urbdd.log" "$urbd"
}

io() { # NAME COMMAND...: qemu-io's commands on the export
	local uri="nbd+unix:///$1?socket=$TEST_DIR/nbd" command arguments=()
	shift
	for command in "$@"; do arguments+=(-c "$command"); done
	timeout 60 qemu-io -f raw "${arguments[@]}" "$uri" >/dev/null 2>&1
}

row() { # EXPORT PYTHON: an expression over the export's row `r` and its ops `o`
	"$urbd" stat --json "$1" | $python3 -c '
import json, sys
r = json.load(sys.stdin)[0]
o = r["ops"]
ms = lambda op, part: o[op][part]["total_ns"] / o[op]["requests"] / 1e6
print(eval(sys.argv[1]))' "$2"
}

listens_at() { # PID: the TCP address that it listens at
	ss -Hltnp | awk -v pid="pid=$1," 'index($0, pid) {print $4; exit}'
}

scrape() { # PATH: what the endpoint answers
	curl -sS --max-time 10 --unix-socket "$metrics" "http://urbd$1"
}

metric() { # LINE'S-BEGIN: its value
	scrape /metrics | grep -F "$1" | awk '{print $NF}'
}

start_daemon --metrics "unix:$metrics"

# ---- counts

"$urbd" export null:1G --export-name plain >/dev/null
check_equal "a fresh export has served nothing" "$(row plain o)" '{}'
check "some I/O" io plain 'write 0 4k' 'write 4k 8k' 'read 0 64k' flush
check_equal "writes are counted" "$(row plain 'o["write"]["requests"], o["write"]["bytes"]')" \
	'(2, 12288)'
check_equal "reads are counted" "$(row plain 'o["read"]["requests"] >= 1, o["read"]["errors"]')" \
	'(True, 0)'
"$urbd" export null:1G --export-name busy >/dev/null
check "fio, on two connections" timeout 60 fio --name=f --ioengine=nbd \
	--uri="nbd+unix:///busy?socket=$TEST_DIR/nbd" --rw=randread --bs=4k --iodepth=16 --size=64M \
	--number_ios=2000 --numjobs=2 --thread --output="$TEST_DIR/fio"
check_equal "every request of fio is in the figures, once" \
	"$(row busy 'o["read"]["requests"], o["read"]["bytes"]')" "(4000, 16384000)"
check_equal "the buckets hold all of them" \
	"$(row busy 'sum(n for _, n in o["read"]["buckets"]) == o["read"]["requests"]')" True
check_equal "the parts make up the latency" "$(row busy 'all(v["latency"]["total_ns"] ==
	sum(v[p]["total_ns"] for p in ("frontend", "queue", "storage")) for v in o.values())')" True
check_equal "nothing is in flight" "$(row busy 'r["in_flight"]')" 0

# ---- where the time goes

"$urbd" export null:1G --export-name slow --fault 'read=delay:20;write=EIO' >/dev/null
io slow 'read 0 4k' 'read 4k 4k' 'read 8k 4k'
check_equal "a delay of the storage is the storage's" \
	"$(row slow '20 <= ms("read", "storage") < 120')" True
check_equal "and nobody else's" \
	"$(row slow 'ms("read", "frontend") < 15 and ms("read", "queue") < 15')" True
check_equal "the median is no less" "$(row slow 'o["read"]["latency"]["p50_ns"] >= 20e6')" True
io slow 'write 0 4k' || true
check_equal "errors are counted, their bytes are not" \
	"$(row slow 'o["write"]["errors"] >= 1, o["write"]["bytes"]')" '(True, 0)'

# ---- an image of a cluster

# The client cannot have waited less for its answers, all of them together, than urbdd took.
agree_with_fio() { # OP: urbdd's figures of the export `ceph`, and fio's
	"$urbd" stat --json ceph >"$TEST_DIR/figures"
	$python3 - "$1" "$TEST_DIR/fio.json" "$TEST_DIR/figures" <<'END'
import json, sys
op, fio, figures = sys.argv[1], open(sys.argv[2]).read(), json.load(open(sys.argv[3]))
fio = json.loads(fio[fio.index("{"):])["jobs"][0][op]
ours = figures[0]["ops"][op]
total = {part: ours[part]["total_ns"] for part in ("latency", "frontend", "queue", "storage")}
print(fio["total_ios"], fio["clat_ns"]["mean"], ours["requests"], total)
assert ours["requests"] == fio["total_ios"] and ours["errors"] == 0
assert ours["bytes"] == fio["io_bytes"]
assert total["latency"] <= fio["total_ios"] * fio["lat_ns"]["mean"] * 1.001
assert total["storage"] > total["latency"] / 2 and total["queue"] > 0 and total["frontend"] > 0
assert ours["latency"]["p50_ns"] <= ours["latency"]["p99_ns"] <= ours["latency"]["p999_ns"]
END
}

cluster_io() { # OP
	timeout 120 fio --name=f --ioengine=nbd --uri="nbd+unix:///ceph?socket=$TEST_DIR/nbd" \
		--rw="rand$1" --bs=4k --iodepth=8 --size=64M --number_ios=1000 --thread \
		--output-format=json --output="$TEST_DIR/fio.json"
}

# On loopback: what is exported needs no guest.
on_exit "$lab/cluster" stop "$TEST_DIR/ceph" --wipe
"$lab/cluster" start "$TEST_DIR/ceph" || exit 1
use_cluster ceph
near_cluster rbd --id "$CLIENT" -m "$MONITORS" --keyfile "$KEYFILE" create "$POOL/ceph" --size 64M
"$urbd" export "$POOL/ceph" -m "$MONITORS" --id "$CLIENT" --keyfile "$KEYFILE" \
	--export-name ceph >/dev/null
for op in write read; do
	check "fio on a Ceph image: $op" cluster_io $op
	check "its ${op}s are in the figures, most of their time in librbd" agree_with_fio $op
done

# ---- for people

check_equal "a header, and a line an export" "$("$urbd" stat | awk '{print $1}' | xargs)" \
	'device plain busy slow ceph'
check_equal "a header and one line for one export" "$("$urbd" stat plain | wc -l)" 2
check_equal "by URI" "$("$urbd" stat "nbd+unix:///plain?socket=$TEST_DIR/nbd" | wc -l)" 2
column() { # TITLE: of the only row of what is read, each time
	awk -v title="$1" '/^device/ {for (i = 1; i <= NF; i++) if ($i == title) n = i; next} NF {print $n}'
}
check_equal "a read took what the storage took" \
	"$("$urbd" stat slow | column r_await | awk '{print ($1 >= 20)}')" 1
check_equal "99 of 100 took no more than p99" \
	"$("$urbd" stat slow | column p99 | awk '{print ($1 >= 20)}')" 1
check_equal "by image" "$("$urbd" stat "$POOL/ceph" | awk '{print $1}' | xargs)" 'device ceph'
check_says 'is not exported, nor a device' "an image that is neither" "$urbd" stat "$POOL/plain"
check_equal "each kind of request has its line" "$("$urbd" stat -x ceph | awk '{print $1, $2}' | xargs -n 2)" \
	$'device op\nceph read\nceph write'
check_equal "where they are as large as fio made them" \
	"$("$urbd" stat -x ceph | column areq-sz | xargs)" "4.0 4.0"
check_equal "and the storage took what it took" \
	"$("$urbd" stat -x slow | awk '$2 == "read" || $2 == "op"' | column storage | awk '{print ($1 >= 20)}')" 1
"$urbd" export null:1G --export-name plain --listen "unix:$TEST_DIR/second" >/dev/null
check_equal "two of one name, at two addresses, are told apart" \
	"$("$urbd" stat plain | awk '{print $1}' | xargs)" \
	"device nbd+unix:///plain?socket=$TEST_DIR/nbd nbd+unix:///plain?socket=$TEST_DIR/second"
"$urbd" unexport "nbd+unix:///plain?socket=$TEST_DIR/second"
check_says 'not exported' "an export that is not there" "$urbd" stat nothing
check_says 'not mapped' "a device that is not there" "$urbd" stat /dev/nothing
check_code 2 "--interval wants a time" "$urbd" stat --interval 0
# Of a column: whether each of two looks shows more than 0.
two_looks() { # EXPORT TITLE
	{ timeout 60 "$urbd" stat --watch "$1" || true; } | head -n 5 | column "$2" | awk '{print ($1 > 0)}' | xargs
}
"$urbd" export null:1G --export-name watched --fault 'read=delay:20' >/dev/null
timeout 120 fio --name=f --ioengine=nbd --uri="nbd+unix:///watched?socket=$TEST_DIR/nbd" --rw=randread --bs=4k \
	--size=64M --time_based --runtime=100 --thread --output="$TEST_DIR/fio" & client=$!
was_read() { [[ $(row watched 'o.get("read", {}).get("requests", 0) > 0') = True ]]; }
check "a client reads all the time" eventually 60 was_read
check_equal "--watch: what is read meanwhile is in the second look" "$(two_looks watched r/s)" '1 1'
check_equal "--watch: and how long it took" "$(two_looks watched r_await)" '1 1'
end_process $client
check_equal "--watch: the second look tells of the time in between alone" "$(two_looks slow r/s)" '1 0'
check_equal "--watch --json: a line each time" \
	"$(timeout 2.5 "$urbd" stat --watch --json slow | head -n 2 | grep -c '^\[.*\]$')" 2

# ---- Prometheus

check_equal "the socket is private" "$(stat -c %a "$metrics")" 600
line='export="slow",listen="unix:'"$TEST_DIR"'/nbd",image="null:1073741824",op="read"'
check_equal "requests" "$(metric "urbd_request_seconds_count{$line}")" 3
check_equal "a delay of 20 ms is beyond 17 ms" \
	"$(metric "urbd_request_part_seconds_bucket{$line,part=\"storage\",le=\"0.016777216\"}")" 0
check_equal "and below 17 s" \
	"$(metric "urbd_request_part_seconds_bucket{$line,part=\"storage\",le=\"17.1798692\"}")" 3
check_equal "the version" "$(metric "urbd_build_info{version=\"$("$urbd" --version | cut -d' ' -f2)\"}")" 1
slow='urbd_export_clients{export="slow",listen="unix:'"$TEST_DIR"'/nbd",image="null:1073741824"}'
check_equal "an export without clients" "$(metric "$slow")" 0
timeout 30 qemu-io -f raw -c 'sleep 25000' "nbd+unix:///slow?socket=$TEST_DIR/nbd" >/dev/null 2>&1 & client=$!
check "and with one" eventually 20 bash -c '[[ $(curl -sS --max-time 10 --unix-socket "$1" http://urbd/metrics |
	grep -F "$2" | cut -d" " -f2) = 1 ]]' - "$metrics" "$slow"
kill $client 2>/dev/null || true
wait $client 2>/dev/null || true
"$urbd" export null:1G --export-name held --fault 'write=delay:15000' >/dev/null
in_flight() { metric 'urbd_requests_in_flight{export="held"'; }
holds() { [[ $(in_flight) = "$1" ]]; }
check_equal "nothing is in flight" "$(in_flight)" 0
io held 'aio_write 0 4k' 'aio_write 8k 4k' 'aio_write 16k 4k' aio_flush & client=$!
check "three held requests are" eventually 14 holds 3
check_equal "in the rows, too" "$(row held 'r["in_flight"]') $("$urbd" stat held | column inflight)" '3 3'
check_child 0 "they are answered" $client
check_equal "and in flight no more" "$(in_flight)" 0
"$urbd" export null:2G --export-name 'a"b\c' >/dev/null
scrape /metrics >"$TEST_DIR/scraped"
check "labels are escaped" grep -qF 'export="a\"b\\c",' "$TEST_DIR/scraped"

# An increase() needs the 0 before the first request.
counters_of() { # EXPORT: what counts there is, and of which kinds
	scrape /metrics | sed -nE "s/^(urbd_request[a-z_]*)\\{export=\"$1\",.*,op=\"([a-z-]+)\".*\\} (.*)/\\1 \\2 \\3/p"
}
"$urbd" export null:3G --export-name fresh >/dev/null
check_equal "counters of what may come stand at 0 from the start" "$(counters_of fresh | xargs -n 3)" \
	"$(for metric in urbd_requests_total urbd_request_errors_total urbd_request_bytes_total; do
		for op in read write flush discard write-zeroes extents; do echo "$metric $op 0"; done
	done)"
"$urbd" export null:3G --read-only --export-name ro >/dev/null
check_equal "and those of what may not are not there" \
	"$(counters_of ro | awk '$1 == "urbd_requests_total" {print $2}' | xargs)" "read flush extents"
check "a read" io fresh 'read 0 4k'
check_equal "histograms come with the first request of their kind" \
	"$(counters_of fresh | awk '$1 ~ /_seconds_count$/ && $2 != "flush" {print $1, $2}' | sort -u | xargs)" \
	"urbd_request_part_seconds_count read urbd_request_seconds_count read"

# What Prometheus's own client library makes of it; and that histograms are what they must be.
check_metrics() {
	$python3 - "$TEST_DIR/scraped" <<'END'
import collections, sys
from prometheus_client.parser import text_string_to_metric_families
series = collections.defaultdict(dict)
kinds = {}
for family in text_string_to_metric_families(open(sys.argv[1]).read()):
    assert family.documentation, family.name
    kinds[family.name] = family.type
    for sample in family.samples:
        key = dict(sample.labels)
        le = key.pop("le", None)
        suffix = sample.name.removeprefix(family.name)
        one = series[family.name, tuple(sorted(key.items()))]
        assert (suffix, le) not in one, sample
        one[suffix, le] = sample.value
assert kinds == {"urbd_requests_in_flight": "gauge", "urbd_request_errors": "counter",
                 "urbd_request_bytes": "counter", "urbd_requests": "counter",
                 "urbd_request_seconds": "histogram",
                 "urbd_request_part_seconds": "histogram", "urbd_build_info": "gauge",
                 "urbd_device_state": "gauge", "urbd_export_clients": "gauge"}, kinds
assert any(('export', 'a"b\\c') in labels for _, labels in series), series.keys()
for (name, labels), one in series.items():
    if kinds[name] != "histogram":
        continue
    buckets = [(float(le), n) for (suffix, le), n in one.items() if suffix == "_bucket"]
    assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), (name, labels)
    assert [n for _, n in buckets] == sorted(n for _, n in buckets), (name, labels)
    if name == "urbd_request_seconds":
        bounds = [le for le, _ in buckets[:-1]]
        assert all(b / a < 2.001 for a, b in zip(bounds, bounds[1:])), bounds
    assert buckets[-1][1] == one["_count", None] and one["_sum", None] >= 0, (name, labels)
END
}
check "Prometheus's parser takes it" check_metrics

# The percentile that Prometheus's histogram_quantile() guesses lies in the right bucket; those of
# urbd stat are an eighth wide. Below the first bound it knows nothing.
check_percentiles() {
	"$urbd" stat --json >"$TEST_DIR/figures"
	scrape /metrics >"$TEST_DIR/scraped"
	$python3 - "$TEST_DIR/scraped" "$TEST_DIR/figures" <<'END'
import json, sys
from prometheus_client.parser import text_string_to_metric_families
def quantile(buckets, share):
    rank, low, below = share * buckets[-1][1], 0, 0
    for bound, count in buckets:
        if count >= rank:
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
buckets = {}
for family in text_string_to_metric_families(open(sys.argv[1]).read()):
    for sample in family.samples:
        if sample.name == "urbd_request_seconds_bucket":
            key = sample.labels["export"], sample.labels["op"]
            buckets.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
compared = 0
for row in json.load(open(sys.argv[2])):
    for op, figures in row["ops"].items():
        p99 = figures["latency"]["p99_ns"] / 1e9
        if p99 > 8e-6:
            guess = quantile(buckets[row["export"], op], .99)
            assert p99 / 2 <= guess <= p99 * 2, (row["export"], op, p99, guess)
            compared += 1
assert compared > 1, compared
END
}
check "Prometheus's p99 is right but for a factor of two" check_percentiles
code() { curl -s -o /dev/null -w '%{http_code}' --max-time 10 --unix-socket "$metrics" "$@"; }
check_equal "only /metrics is there" "$(code http://urbd/)" 404
check_equal "a query does not matter" "$(code 'http://urbd/metrics?x=1')" 200
check_equal "only GET is done" "$(code -X POST http://urbd/metrics)" 405

# ---- hostile clients

hostile() { # PYTHON: statements with `connect`, then keeps the sockets
	$python3 -c '
import socket, sys, time
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(sys.argv[1])
    return s
held = []
'"$1" "$metrics"
}

hostile 'held = [connect() for _ in range(100)]
print("ready", flush=True)
time.sleep(60)' >"$TEST_DIR/held" & client=$!
eventually 10 grep -q ready "$TEST_DIR/held" || not_ok "a hundred silent clients connect"
check "a hundred silent clients do not keep others out" scrape /metrics
kill $client
wait $client 2>/dev/null || true
check "a request without end is refused" hostile 'import contextlib
s = connect()
with contextlib.suppress(ConnectionError):
    for _ in range(1000): s.sendall(b"x" * 1000)
    sys.exit("it was all taken")'
check "a slow client is cut off" hostile 's = connect()
s.sendall(b"GET /metr")
begin = time.time()
assert s.recv(1) == b"" and time.time() - begin < 9'
hostile 's = connect()
s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")' # and leaves
hostile 's = connect()
s.sendall(b"\0" * 100 + b"\r\n\r\n\xff")'
check "after all of them it answers" scrape /metrics
check "the daemon serves" io plain 'read 0 4k'

# ---- the end

code=0
kill -TERM "$daemon"
wait "$daemon" || code=$?
check_equal "the daemon ends cleanly" "$code" 0
check_equal "the socket is gone" "$(ls "$metrics" 2>/dev/null)" ''
start_daemon --metrics 127.0.0.1:0
check "TCP is served, too" curl -sS --max-time 10 "http://$(listens_at "$daemon")/metrics"
kill -TERM "$daemon"
wait "$daemon" || not_ok "it ends"
check_says 'Cannot offer metrics' "an address that is none" "$build/daemon/urbdd" \
	--state-dir "$TEST_DIR/other" --metrics nonsense
