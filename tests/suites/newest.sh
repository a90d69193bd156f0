#!/bin/bash
# about: the newest kernel that Debian has: ublk devices that are resized, mounted, drained or unserved
# limit: 1200
. "$(dirname "$0")/../lib.sh"

newest_kernel || skip_all "$no_kernel"

newest() { # SCRIPT WORD...
	in_guest --kernel backports --mem 2048 --timeout 280 bash "tests/suites/guest/$1" "${@:2}" ||
		not_ok "$1: the guest with Debian's newest kernel ends well" "exit $?"
}

newest ublk data geometry resize force stop_under_load partition_scan_fails
start_cluster
newest rbd - ublk data_arrives growth_is_seen shrinkage_is_seen auto_chooses
newest recovery killed_within_a_recovery drained_and_resumed resized_while_unserved_under_ublk a_removed_image_fails_under_ublk
