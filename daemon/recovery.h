/*
 * Devices that an earlier urbdd left in the kernel, by death or by a planned stop: their I/O waits
 * there. Each is taken back from its record: the dead client is fenced, the very image opened
 * again, the frontend's device served again.
 */
#pragma once

struct devices;

/*
 * At start, before anybody can map: enters a device for each usable record whose device the kernel
 * has, and sets a thread to each. Records that cannot be used are set aside, those of devices that
 * are gone removed. Returns at once; the devices are quiesced until they are live.
 */
void devices_recover(struct devices *devices);
