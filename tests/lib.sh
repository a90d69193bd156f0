# shellcheck shell=bash
# lib.sh - what the test suites share. A suite sources it and calls `check`, `ok`, `skip` ...
#
#   . "$(dirname "$0")/../lib.sh"
#   start_cluster
#   check "an image is made" near_cluster rbd --id "$CLIENT" create foo --size 64M
#   in_guest bash tests/suites/guest/foo
#
# Each call prints one line in the runner's terms (see run-tests); the suite's exit code follows
# from them. Anything that must be undone goes to `on_exit`, which runs in reverse order. The
# same file serves scripts that run in the guest, where TEST_DIR and the cluster's settings are
# those of the suite.
set -euo pipefail

top=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
lab=$top/tests/lab
# shellcheck disable=SC2034  # for the suites
build=${URBD_BUILD:-$top/build/test}
failures=0
undo=()
in_tests_guest=${URBD_IN_GUEST:-}

on_exit() { # COMMAND ARGUMENT...
	local quoted
	printf -v quoted '%q ' "$@"
	undo+=("$quoted")
}

# timeout(1) signals twice, its child and the group: the second must not stop the undoing.
end_suite() {
	local code=$? i
	trap - EXIT
	trap '' INT TERM HUP
	set +e
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do eval "${undo[i]}"; done
	((code != 0 || failures == 0)) || code=1
	exit "$code"
}
trap end_suite EXIT
trap 'trap "" INT TERM HUP; exit 130' INT
trap 'trap "" INT TERM HUP; exit 143' TERM HUP

if [[ -z ${TEST_DIR:-} ]]; then # run by hand
	export TEST_DIR
	TEST_DIR=$(mktemp -d /tmp/urbd-tests.XXXXXX)
	on_exit rm -rf "$TEST_DIR"
fi
cd "$top"

# ---- results

ok() { # NAME
	echo "ok - $1"
}

not_ok() { # NAME [WHY]
	echo "not ok - $1"
	[[ -z ${2:-} ]] || sed 's/^/# /' <<<"$2"
	failures=$((failures + 1))
}

skip() { # NAME REASON
	echo "skip - $1: $2"
}

note() { # TEXT: a figure that the run's report shows
	echo "note - $1"
}

skip_all() { # REASON
	echo "$1"
	exit 77
}

require_program() { # PROGRAM PACKAGE
	command -v "$1" >/dev/null || skip_all "missing package $2 ($1)"
}

require_python() { # MODULE PACKAGE: sets `python3`: another one on the PATH may lack the module
	python3=/usr/bin/python3
	$python3 -c "import $1" 2>/dev/null || skip_all "missing package $2"
}

# The command's output appears only when it is of interest. Sets `output` and `status`.
run() {
	status=0
	output=$("$@" 2>&1) || status=$?
}

check() { # NAME COMMAND...: it succeeds
	local name=$1
	shift
	run "$@"
	if ((status == 0)); then
		ok "$name"
	else
		not_ok "$name" "exit $status: $*"$'\n'"$output"
	fi
}

check_code() { # CODE NAME COMMAND...: it exits so
	local wanted=$1 name=$2
	shift 2
	run "$@"
	if ((status == wanted)); then
		ok "$name"
	else
		not_ok "$name" "exit $status, not $wanted: $*"$'\n'"$output"
	fi
}

check_child() { # CODE NAME PID: a process of this shell, which alone can wait for it, ends so
	local code=0
	wait "$3" || code=$?
	check_equal "$2" "$code" "$1"
}

check_says() { # PATTERN NAME COMMAND...: it fails, and its output matches
	local pattern=$1 name=$2
	shift 2
	run "$@"
	if ((status != 0)) && grep -qE -- "$pattern" <<<"$output"; then
		ok "$name"
	else
		not_ok "$name" "exit $status, no '$pattern': $*"$'\n'"$output"
	fi
}

check_equal() { # NAME ACTUAL EXPECTED
	if [[ $2 = "$3" ]]; then
		ok "$1"
	else
		not_ok "$1" "got:      $2"$'\n'"expected: $3"
	fi
}

# Wait until a command succeeds.
eventually() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < end)) || return 1
		sleep 0.1
	done
}

# ---- cluster

# Start a cluster in TEST_DIR/NAME and take over its settings: CEPH_CONF, MONITORS, POOL, CLIENT,
# KEYRING, KEYFILE ... It listens in a network namespace where a guest will be used.
start_cluster() { # [NAME [OPTION...]]
	local name=${1:-ceph} place=()
	shift $(($# ? 1 : 0))
	[[ $("$lab/with-kernel" --which) = host ]] || place=(--netns "urbd-$$")
	"$lab/cluster" start "$TEST_DIR/$name" "${place[@]}" "$@" || return
	on_exit "$lab/cluster" stop "$TEST_DIR/$name" --wipe
	use_cluster "$name"
}

use_cluster() { # NAME: of several, this one's settings from now on
	# shellcheck disable=SC1090
	. "$TEST_DIR/$1/env"
	CLUSTER=$TEST_DIR/$1
	export CLUSTER FSID MONITORS POOL POOLS CLIENT KEYRING KEYFILE NETNS
}

# Run a command where the cluster can be reached, and not for ever: clients of a cluster that
# does not answer wait without end.
near_cluster() {
	local inside=()
	[[ -z ${NETNS:-} || -n $in_tests_guest ]] || inside=(ip netns exec "$NETNS")
	timeout "${PATIENCE:-60}" "${inside[@]}" "$@"
}

# ---- what qemu-img sees, told through jq

qemu_size() { # URI, or more of qemu-img's words
	timeout 60 qemu-img info --output=json "$@" | jq '."virtual-size"'
}

# Its extents, as OFFSET+LENGTH data|hole ...
qemu_map() { # URI
	timeout 60 qemu-img map --output=json "$1" |
		jq -r 'map("\(.start)+\(.length) \(if .data then "data" elif .zero then "hole" else "?" end)") | join(" ")'
}

# ---- TLS

make_authority() { # in the current directory
	printf 'cn=ca\nca\ncert_signing_key\n' >ca.info
	certtool --generate-privkey --key-type=ecdsa --outfile ca-key.pem
	certtool --generate-self-signed --load-privkey ca-key.pem --template ca.info \
		--outfile ca-cert.pem
}

make_certificate() { # server|client: in the current directory, with its authority there
	{
		printf 'cn=localhost\ndns_name=localhost\nip_address=127.0.0.1\nip_address=::1\n'
		printf 'tls_www_%s\nsigning_key\n' "$1"
	} >"$1.info"
	certtool --generate-privkey --key-type=ecdsa --outfile "$1-key.pem"
	certtool --generate-certificate --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem \
		--load-privkey "$1-key.pem" --template "$1.info" --outfile "$1-cert.pem"
}

# A CA, certificates of a server and a client, and the key of alice. In client/ is what a client
# needs, in stranger/ what one without a certificate has, in foreign/ what one has whose certificate
# is another CA's, of the same name.
make_certificates() { # DIRECTORY
	cd "$1"
	make_authority
	make_certificate server
	make_certificate client
	psktool -u alice -p keys.psk
	mkdir client stranger foreign
	cp ca-cert.pem client-*.pem client
	cp ca-cert.pem stranger
	cd foreign
	make_authority
	make_certificate client
	mv ca-cert.pem issuer-cert.pem
	cp ../ca-cert.pem .
	cd "$top"
}

# ---- guest

# Whether Debian's newest kernel can be had; sets `no_kernel` to the reason where its archive cannot
# be reached, or has none. Whatever else is wrong shows when a guest asks for it.
newest_kernel() {
	run "$lab/guest-kernel" backports
	no_kernel=${output#guest-kernel: }
	no_kernel=${no_kernel%%$'\n'*}
	((status != 3))
}

# Run a command under a kernel with ublk, with the cluster in reach. Takes options of `guest`. The
# command may use `on_host` meanwhile.
in_guest() {
	local options=(--rw "$TEST_DIR" --env URBD_IN_GUEST=1 --env "URBD_BUILD=$build") name
	for name in TEST_DIR CLUSTER CEPH_CONF FSID MONITORS POOL POOLS CLIENT KEYRING KEYFILE CI; do
		options+=(--env "$name")
	done
	[[ -z ${NETNS:-} ]] || options+=(--net "$NETNS")
	serve_guest &
	local server=$! code=0
	on_exit end_process "$server"
	"$lab/with-kernel" "${options[@]}" "$@" || code=$?
	end_process "$server"
	return "$code"
}

# Of a daemon that was just started: it answers, or the suite ends here.
await_daemon() { # NAME LOG URBD...: the command that asks it
	eventually 120 "${@:3}" version >/dev/null 2>&1 && return
	not_ok "$1" "$(<"$2")"
	exit 1
}

end_process() { # PID of a child; gone already is as good
	kill "$1" 2>/dev/null || return 0
	wait "$1" 2>/dev/null || true
}

# Carry out what `on_host` asks for, until killed.
serve_guest() {
	local job status
	trap - EXIT INT TERM HUP
	mkdir -p "$TEST_DIR/on-host"
	while sleep 0.05; do
		for job in "$TEST_DIR"/on-host/*.job; do
			[[ -e $job ]] || continue
			status=0
			near_cluster bash "$job" >"$job.out" 2>"$job.err" </dev/null || status=$?
			rm "$job"
			echo "$status" >"$job.tmp" && mv "$job.tmp" "$job.status"
		done
	done
}

# From the guest: run a command on the host, near the cluster, where it takes a tenth of the time.
on_host() { # COMMAND...
	local job=$TEST_DIR/on-host/$BASHPID-$RANDOM.job status
	[[ -n $in_tests_guest ]] || { near_cluster "$@" && return || return; }
	mkdir -p "$TEST_DIR/on-host"
	printf '%q ' "$@" >"$job.new"
	mv "$job.new" "$job"
	until [[ -s $job.status ]]; do sleep 0.05; done
	cat "$job.out"
	cat "$job.err" >&2
	status=$(cat "$job.status")
	rm -f "$job".*
	return "$status"
}
