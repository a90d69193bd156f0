#!/bin/bash
# about: RBD images and a pod's volume as nbd devices, on a kernel without ublk and beside it
# limit: 1500
. "$(dirname "$0")/../lib.sh"

# The kernel makes no more hardware queues than there are CPUs; the scenarios want four.
start_cluster
in_guest --kernel 6.1 --cpus 4 --timeout 900 --mem 2048 bash tests/suites/guest/rbd - nbd data_arrives four_queues \
	read_only_holds growth_is_seen shrinkage_is_seen auto_chooses nbd_client_is_served \
	founding_workflow dead_cluster a_stop_is_clean ||
	not_ok "the guest with 6.1 ends well" "exit $?"
in_guest --kernel 6.12 --cpus 4 --timeout 600 --mem 2048 bash tests/suites/guest/rbd - nbd four_queues growth_is_seen shrinkage_is_seen \
	auto_chooses nbd_client_is_served a_stop_is_clean ||
	not_ok "the guest with 6.12 ends well" "exit $?"
