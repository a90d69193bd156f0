#!/bin/bash
# about: tests/bench/run measures and reports: not how fast anything is, but that it still can
# limit: 240
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_program fio fio
require_program nbdkit nbdkit
require_program jq jq

found=$TEST_DIR/found

measure() { # ARGUMENT...
	TMPDIR=$TEST_DIR timeout 200 tests/bench/run --build "$build" --output "$found" "$@"
}

targets=(urbd-null nbdkit-null urbd-rbd) # those of a group make a picture
workloads=(read-4k-d1 write-4k-d8)
list() { local IFS=,; echo "$*"; }

check "a short run of some targets ends well" measure --targets "$(list "${targets[@]}")" \
	--workloads "$(list "${workloads[@]}")" --runs 1 --seconds 1 --image-mib 16 \
	--scale many --images 2 --many-images 4
check "and leaves a report" test -s "$found/report.md"
for target in "${targets[@]}"; do
	for workload in "${workloads[@]}"; do
		check "the report has $target, $workload" grep -qF "| $workload | $target |" "$found/report.md"
		check "and so have the samples" jq -e --arg target "$target" --arg workload "$workload" \
			'any(.samples[]; .target == $target and .workload == $workload and .iops > 0)' "$found/exports.json"
	done
done
check "what many images cost is there" jq -e '.scale.many.images == 4' "$found/exports.json"
check "its picture is one" grep -q '^<svg .*' "$found/exports-sockets-null.svg"
check "it has the targets" grep -q nbdkit-null "$found/exports-sockets-null.svg"
check "the report shows it" grep -qF '(exports-sockets-null.svg)' "$found/report.md"
rm "$found/report.md"
check "the report can be written anew" measure --only-report
check "which is there again" test -s "$found/report.md"
check_equal "nothing else is left" "$(ls "$TEST_DIR")" found
