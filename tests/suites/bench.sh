#!/bin/bash
# about: tests/bench/run measures and reports: not how fast anything is, but that it still can
# limit: 600
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd
require_program fio fio
require_program nbdkit nbdkit
require_program qemu-storage-daemon qemu-system-common
require_program jq jq

found=$TEST_DIR/found

measure() { # ARGUMENT...
	TMPDIR=$TEST_DIR timeout 560 tests/bench/run --build "$build" --output "$found" "$@"
}

in_json() { # NAME EXPRESSION: jq's, of what was measured
	check "$1" jq -e "$2" "$found/exports.json"
}

targets=(urbd-null nbdkit-null urbd-rbd librbd-loop) # those of a group make a picture
workloads=(read-4k-d1 write-4k-d8 fsync-4k-d1)
list() { local IFS=,; echo "$*"; }

check "a short run of some targets ends well" measure --targets "$(list "${targets[@]}")" \
	--workloads "$(list "${workloads[@]}")" --runs 1 --seconds 1 --image-mib 16 \
	--scale idle,many,far,first,flat,fairness,figures --images 2 --many-images 4 --peer-images 2 --fresh 2 --settle 0
check "and ends with what came of the aims" grep -qE '^\| .* \| (reached|\*\*missed\*\*) \|$' <<<"$(tail -1 <<<"$output")"
check "and leaves a report" test -s "$found/report.md"
for target in "${targets[@]}"; do
	for workload in "${workloads[@]}"; do
		check "the report has $target, $workload" grep -qF "| $workload | $target |" "$found/report.md"
		check "and so have the samples" jq -e --arg target "$target" --arg workload "$workload" \
			'any(.samples[]; .target == $target and .workload == $workload and .iops > 0)' "$found/exports.json"
	done
done
for target in "${targets[@]}"; do
	in_json "the flushes of $target are timed apart" \
		"any(.samples[]; .target == \"$target\" and .workload == \"fsync-4k-d1\" and .flush.requests > 0 and .flush.p50 > 0)"
	check "and are a row of the report" grep -qF "| fsync-4k-d1: flush | $target |" "$found/report.md"
done
check "ratios to a peer are there" grep -qE '^\| read-4k-d1 \| nbdkit-null \| ×' "$found/report.md"
in_json "what many images cost is there" '.scale.many.images == 4'
in_json "and how quickly they come from far away" '.scale.far.gain > 0'
in_json "and what idle ones hold" '.scale.idle.each_mib and .scale.idle.all.threads > 0'
in_json "and how long a fresh daemon's first image and one more take" \
	'.scale.first.seconds["urbd-rbd"] | length == 2 and all(.[]; length == 2)'
in_json "and what requests cost that go to one image or to several, by the clients they share" \
	'.scale.flat | [., .shared, .spread.pool, .spread.shared] | all(.[]; .ratio > 0)'
in_json "and what a small reader waits beside a large writer" '.scale.fairness.ratio > 0'
in_json "and what reading the figures costs" \
	'.scale.figures | [.["urbd-null"], .["urbd-rbd"]] | all(.[]; .readings > 0 and .cpu.ratio > 0)'
check "its picture is one" grep -q '^<svg .*' "$found/exports-sockets-null.svg"
check "it has the targets" grep -q nbdkit-null "$found/exports-sockets-null.svg"
check "the report shows it" grep -qF '(exports-sockets-null.svg)' "$found/report.md"
rm "$found/report.md"
check "the report can be written anew" measure --only-report
check "which is there again" test -s "$found/report.md"

# Where the aims compare urbd with both peers, not with one: depth 32, and four connections.
peers=(urbd-null nbdkit-null qemu-null)
points=(read-4k-d32 read-4k-d32-jobs4)
check "a short run of deep points with all peers ends well" measure --targets "$(list "${peers[@]}")" \
	--workloads "$(list "${points[@]}")" --runs 1 --seconds 1 --no-scale
for target in "${peers[@]}"; do
	for point in "${points[@]}"; do
		in_json "$target was measured at $point" "any(.samples[]; .target == \"$target\" and .workload == \"$point\" and .iops > 0)"
	done
done
check "the report has ratios to qemu-storage-daemon" grep -qE '^\| read-4k-d32-jobs4 \| qemu-null \| ×' "$found/report.md"
check_equal "nothing else is left" "$(ls "$TEST_DIR")" found
