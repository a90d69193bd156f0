#!/bin/bash
# about: RBD images of two real clusters through block devices: data, features, trouble, leaks
# limit: 1600
. "$(dirname "$0")/../lib.sh"

start_cluster ceph2 --pool second --client other
second=$TEST_DIR/ceph2
start_cluster ceph --pool rbd --pool empty
"$lab/cluster" add-client "$TEST_DIR/ceph" stranger

in_guest --timeout 1500 --mem 2048 bash tests/suites/guest/rbd "$second" ||
	not_ok "the guest ends well" "exit $?"
