#!/bin/bash
# about: fuzzing of the NBD session, handshake and transmission; FUZZ_SECONDS (300) long
# limit: 900
. "$(dirname "$0")/../lib.sh"
require_program clang clang
require_program python3 python3

seconds=${FUZZ_SECONDS:-300}

# The fuzzer has a build of its own: clang, its coverage, ASAN and UBSAN in all that is tested.
build_fuzzer() {
	clang -std=gnu11 -D_GNU_SOURCE -g -O1 -I. -fno-sanitize-recover=all \
		-fsanitize=fuzzer,address,undefined -o "$TEST_DIR/fuzzer" \
		tests/fuzz/fuzz-nbd-session.c nbd/{budget,buffers,session,handshake,transmission}.c \
		core/*.c common/*.c -luring -lpthread
}

fuzz() {
	tests/fuzz/make-nbd-corpus "$TEST_DIR/corpus" || return
	"$TEST_DIR/fuzzer" -max_total_time="$seconds" -max_len=16384 -timeout=10 \
		-rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$TEST_DIR/" \
		"$TEST_DIR/corpus" >"$TEST_DIR/log" 2>&1 && return
	tail -n 60 "$TEST_DIR/log"
	for finding in "$TEST_DIR"/{crash,timeout,oom,leak}-*; do
		[[ ! -e $finding ]] || base64 "$finding"
	done
	return 1
}

executions() {
	sed -n 's/^stat::number_of_executed_units: *//p' "$TEST_DIR/log"
}

check "the fuzzer builds" build_fuzzer
check "no finding in $seconds seconds" fuzz
check "enough inputs were tried, 100,000 in five minutes" test "$(executions)" -ge $((100000 * seconds / 300))
note "$(executions) inputs tried in $seconds seconds"
