#!/bin/bash
# about: --quiesce: snapshots of a mounted device under load hold clean file systems, on ublk and nbd, and hold up no drain
# limit: 1800
. "$(dirname "$0")/../lib.sh"
require_program ceph-osd ceph-osd

# Whose watch is lost is not asked about a snapshot: a guest would lose the lab's 5 s now and then.
start_cluster ceph --watch-timeout 30
scenarios=("$@")
(($#)) || scenarios=(what_is_frozen_is_thawed a_drain_waits_for_the_hook_of_a_snapshot snapshots_are_clean_on_ublk snapshots_are_clean_on_nbd)
in_guest --timeout 1700 --mem 2048 bash tests/suites/guest/recovery "${scenarios[@]}" ||
	not_ok "the guest ends well" "exit $?"
