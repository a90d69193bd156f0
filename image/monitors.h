/*
 * Which of Ceph's two wire protocols a monitor speaks.
 *
 * A bare "ADDRESS:PORT" says it only by the well-known ports (6789: v1, 3300: v2). With any other
 * port librados tries both, and a refused key drowns in the attempt that never succeeds: the user
 * reads "timed out". So the protocol is asked for: either side of both begins with a banner,
 * "ceph v027" or "ceph v2\n" (Ceph's documentation, "msgr" and "msgr2 protocol").
 */
#pragma once

/*
 * Puts "v1:" or "v2:" before the addresses in @monitors (separated by commas) that need it and
 * whose monitor answers within a second. Names, typed addresses and silent ones stay as they are.
 * Returns a new string, or NULL without memory. Blocks up to that second.
 */
char *monitors_with_protocol(const char *monitors);
