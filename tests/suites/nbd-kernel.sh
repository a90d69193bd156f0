#!/bin/bash
# about: the nbd frontend alone and through the daemon, on kernel 6.12 and on 6.1, without ublk
# limit: 1800
. "$(dirname "$0")/../lib.sh"

# The kernel makes no more hardware queues than there are CPUs; the test of four connections wants four.
code=0
for kernel in 6.12 6.1; do
	in_guest --kernel $kernel --cpus 4 --mem 2048 --timeout 720 bash tests/suites/guest/nbd "$@" || code=$?
	(($#)) || in_guest --kernel $kernel --timeout 240 bash tests/suites/guest/nbd-daemon || code=$?
	(($#)) || in_guest --kernel $kernel --no-modules --timeout 180 bash tests/suites/guest/nbd-absent || code=$?
done
exit $code
