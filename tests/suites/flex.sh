#!/bin/bash
# about: urbd-flex and urbd-pod on a real cluster: the workflow, its troubles, and nothing left behind
# limit: 1200
. "$(dirname "$0")/../lib.sh"
require_program mkfs.xfs xfsprogs
require_program sfdisk fdisk
require_program jq jq

mkdir "$TEST_DIR/images"
cd "$TEST_DIR/images"
truncate -s 64M parted swapped
echo ',,L' | sfdisk -q parted >/dev/null
mkswap -q swapped
truncate -s 320M xfs
mkfs.xfs -q xfs
cd "$top"

start_cluster
run "$lab/cluster" add-client "$CLUSTER" stranger
for image in one two three blank; do
	near_cluster rbd --id "$CLIENT" create "$POOL/$image" --size 64M
done
for image in parted swapped xfs; do
	near_cluster rbd --id "$CLIENT" import --no-progress "$TEST_DIR/images/$image" "$POOL/$image"
done

in_guest --timeout 840 bash tests/suites/guest/flex || failures=$((failures + 1))

same_image() { # IMAGE: it holds what was imported
	near_cluster rbd --id "$CLIENT" export --no-progress "$POOL/$1" - | cmp - "$TEST_DIR/images/$1"
}

for image in parted swapped xfs; do
	check "an image with foreign data is as it was: $image" same_image $image
done
