#!/bin/bash
# about: null, file and rbd images behind block devices: the same I/O, the same errnos
# limit: 900
. "$(dirname "$0")/../lib.sh"

start_cluster
check "an image is made" near_cluster rbd --id "$CLIENT" -m "$MONITORS" --keyring "$KEYRING" \
	create "$POOL/devices" --size 64M
in_guest --mem 2048 --timeout 800 bash tests/suites/guest/devices
