#!/bin/bash
# about: the ublk frontend alone: data, geometry, errnos, life, force, what it leaves behind
# limit: 1200
. "$(dirname "$0")/../lib.sh"

in_guest --mem 2048 --timeout 1100 bash tests/suites/guest/ublk "$@"
